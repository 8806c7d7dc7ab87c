#!/usr/bin/env python3
"""Reads Blockhouse's formats, written from the pages of docs/design alone.

Exit code 0: everything asked for holds. 2: nothing to compare with. 4: something was refused, and why is said.
"""

import argparse
import json
import sys
from pathlib import Path

from ceremony import read_founding
from encoding import Refused, need, plain_hash
from ethereum import list_root
from forks import check_fork
from keys import read_identity
from ledger import check_certificate, read_block, read_genesis
from manifests import open_manifest, read_snapshot, stripe_ids
from packs import open_pack
from receipts import check_receipt, committed
from shards import check_claim, read_shard, rebuild, shard_name
from sites import Sites, chunks_of, read_chain, read_snapshots, read_tree


def show(**facts):
    print(json.dumps({name: value.hex() if isinstance(value, bytes) else value for name, value in facts.items()}))


def shard(given):
    for file in given.files:
        found = read_shard(file.read_bytes())
        check_claim(found)
        show(
            name=shard_name(found),
            k=found.k,
            m=found.m,
            pack=found.pack_length,
            writer=found.writer,
            session=found.session,
        )


def rebuild_pack(given):
    pack = rebuild([read_shard(file.read_bytes()) for file in given.files])
    given.output.write_bytes(pack)
    show(pack=plain_hash(pack), length=len(pack))


def pack(given):
    for entry in open_pack(given.pack.read_bytes(), given.index_key):
        show(
            id=entry.id, codec=entry.codec, offset=entry.offset, sealed_length=entry.sealed_length, length=entry.length
        )


def manifest(given):
    snapshot = read_snapshot(given.snapshot.read_bytes())
    found = open_manifest(snapshot, given.manifest_key)
    show(
        snapshot=snapshot.id,
        object_hash=snapshot.object_hash,
        source=found.source,
        entries=found.entries,
        list_root=snapshot.list_root,
    )
    if given.packs:
        fetch = chunks_of([file.read_bytes() for file in given.packs], given.index_key, found.id_subkey)
        show_tree(read_tree(found, fetch, given.manifest_key))


def show_tree(records):
    for record in records:
        length = record.content.length if record.content else 0
        show(
            path=record.path.decode(errors="backslashreplace"),
            kind=record.kind,
            length=length,
            content_hash=record.content_hash,
        )


def vault(given):
    identity, sites = read_identity(given.identity.read_text()), Sites(given.files)
    chain, found = read_chain(sites, identity)
    show(blocks=len(chain), head=chain[-1].header.hash, fingerprint=found)
    for snapshot, found, records, bad in read_snapshots(sites, identity):
        facts = {"source": snapshot.source, "session": snapshot.session, "list_root": snapshot.list_root}
        show(snapshot=snapshot.id, object_hash=snapshot.object_hash, entries=found.entries, bad_shards=bad, **facts)
        show_tree(records)


def stripes(given):
    for stripe in stripe_ids(given.root, lambda node: (given.folder / node.hex()).read_bytes()):
        show(stripe=stripe)


def block(given):
    found = read_block(given.block.read_bytes())
    header = found.header
    key = read_genesis(found.genesis).ledger_key if found.genesis else given.ledger_key
    if key:
        check_certificate(found.certificate, key, found.chain_id, header)
    show(
        height=header.height,
        hash=header.hash,
        chain_id=found.chain_id,
        transactions=len(found.transactions),
        certified=bool(key),
    )
    if given.receipts:
        receipts = [bytes.fromhex(line.removeprefix("0x")) for line in given.receipts.read_text().split()]
        need(list_root(receipts) == header.receipts_root, "the transaction receipts give another root")


def receipt(given):
    found, read = check_receipt(given.receipt.read_bytes(), given.fingerprint, given.file and given.file.read_bytes())
    show(
        fingerprint=found,
        known=bool(given.fingerprint),
        file=bool(given.file),
        snapshot=read["snapshot"],
        **committed(read),
    )
    if not given.fingerprint:
        print(
            "anyone can make such a file: compare the fingerprint with one that you got in another way", file=sys.stderr
        )
        return 2
    return 0


def fork(given):
    found = check_fork(given.evidence.read_bytes(), given.fingerprint)
    show(forked=found.height, fingerprint=found.fingerprint, known=bool(given.fingerprint), one_view=found.one_view)
    show(blocks=" ".join(each.hex() for each in found.blocks), signers=" ".join(each.hex() for each in found.signers))


def founding(given):
    found = read_founding(given.founding.read_bytes())
    show(number=found.number, chain_id=found.chain_id, owner=found.owner, time=found.time)
    for each in found.enrolments:
        show(key=each.key, name=each.name, address=each.address)


def arguments():
    root = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = root.add_subparsers(required=True, metavar="command")
    secret = lambda text: bytes.fromhex(text.removeprefix("0x"))

    def command(name, run, text, *positional):
        parser = commands.add_parser(name, help=text)
        parser.set_defaults(run=run)
        for each in positional:
            parser.add_argument(each, type=Path, **({"nargs": "+"} if each == "files" else {}))
        return parser

    command("shard", shard, "check shard files, each alone", "files")
    command("rebuild", rebuild_pack, "make a pack of any k of its shards", "files").add_argument(
        "-o", "--output", type=Path, required=True
    )
    command("pack", pack, "open trailer and table, check the padding", "pack").add_argument(
        "--index-key", type=secret, required=True
    )
    parser = command("manifest", manifest, "open a snapshot; with packs, its whole tree and every file", "snapshot")
    parser.add_argument("--manifest-key", type=secret, required=True)
    parser.add_argument("--index-key", type=secret)
    parser.add_argument("packs", type=Path, nargs="*")
    parser = command("vault", vault, "read all snapshots from the folders of the sites and check every file", "files")
    parser.add_argument("--identity", type=Path, required=True, help="an identity file without a passphrase")
    parser = command("fork", fork, "check evidence that a ledger has forked", "evidence")
    parser.add_argument("--fingerprint", type=secret)
    command("founding", founding, "check a founding file and print its number", "founding")
    parser = command("stripes", stripes, "read a stripe list", "folder")
    parser.add_argument("root", type=secret)
    parser = command("block", block, "check a block object and print its hash", "block")
    parser.add_argument("--ledger-key", type=secret)
    parser.add_argument("--receipts", type=Path, help="its transaction receipts, one in hex a line")
    parser = command("receipt", receipt, "check a receipt", "receipt")
    parser.add_argument("--fingerprint", type=secret)
    parser.add_argument("--file", type=Path)
    return root.parse_args()


def main():
    given = arguments()
    try:
        return given.run(given) or 0
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
