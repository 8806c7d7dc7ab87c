"""sites.md: a vault read from the folders of its sites with nothing but the identity."""

from encoding import KDF, Refused, need, plain_hash
from keys import manifest_key, open_bag
from ledger import check_certificate, fingerprint, handed_to, read_block, read_genesis
from manifests import FILE, check_tree, extents_of, join, open_manifest, read_snapshot, stripe_ids, walk
from packs import open_chunk, open_pack
from shards import check_claim, read_shard, rebuild


class Sites:
    """Plain objects come from the first site that has them; shards from all."""

    def __init__(self, folders):
        self.folders = folders

    def names(self, folder):
        """The files of a folder by name, over all sites."""
        return {
            path.name: path for site in self.folders for path in sorted((site / folder).glob("*")) if path.is_file()
        }

    def newest(self, folder):
        found = self.names(folder)
        need(found, f"no site has anything in {folder}")
        return found[max(found)].read_bytes()

    def pack(self, stripe):
        """The pack of a stripe, and how many of its shards are not good."""
        good, bad = {}, 0
        for site in self.folders:
            for path in sorted((site / "shards" / stripe.hex()[:2]).glob(f"{stripe.hex()}-*")):
                try:
                    shard = read_shard(path.read_bytes())
                    check_claim(shard)
                    need(shard.stripe == stripe, "the shard is of another stripe")
                    good[shard.index] = shard
                except Refused:
                    bad += 1
        return rebuild(list(good.values())), bad


def chunks_of(packs, index_key, id_subkey):
    """A function that gives the plain chunk of a reference out of these packs."""
    held = {entry.id: (pack, entry) for pack in packs for entry in open_pack(pack, index_key)}

    def fetch(reference):
        need(reference.id in held, f"no pack has the chunk {reference.id.hex()}")
        pack, entry = held[reference.id]
        return open_chunk(pack[entry.offset : entry.offset + entry.sealed_length], entry.codec, reference, id_subkey)

    return fetch


def read_tree(manifest, fetch, key):
    """Every entry; the tree's commitments and the bytes of every file are checked."""
    records = walk(manifest.root, fetch)
    check_tree(manifest, records, key)
    for record in records:
        if record.kind == FILE:
            content = join(extents_of(record.content, fetch), fetch)
            need(plain_hash(content) == record.content_hash, f"the bytes of {record.path!r} have another hash")
    return records


def read_snapshots(sites, identity):
    """(snapshot, manifest, records, shards that are not good) of each snapshot object."""
    bag = open_bag(sites.newest("bags"), identity)
    index_key = KDF("blockhouse v1 index key", bag.vault_secret)
    for name, path in sorted(sites.names("snapshots").items()):
        snapshot = read_snapshot(path.read_bytes())
        need(
            snapshot.id.hex() == name and snapshot.vault == identity.vault,
            "a snapshot object has another name or vault",
        )
        key, _ = manifest_key(sites.newest(f"wraps/{name}"), snapshot.id, identity)
        manifest = open_manifest(snapshot, key)
        lists = sites.names("lists")
        found = [
            sites.pack(stripe) for stripe in stripe_ids(snapshot.list_root, lambda node: lists[node.hex()].read_bytes())
        ]
        fetch = chunks_of([pack for pack, _ in found], index_key, manifest.id_subkey)
        yield snapshot, manifest, read_tree(manifest, fetch, key), sum(bad for _, bad in found)


def read_chain(sites, identity):
    """The blocks of the sites from 0 on, linked and certified by the ledger key in force at each."""
    bag, blocks = open_bag(sites.newest("bags"), identity), {}
    for folder in sorted({path.name for site in sites.folders for path in (site / "blocks").glob("*")}):
        for name, path in sites.names(f"blocks/{folder}").items():
            block = read_block(path.read_bytes())
            need(name == f"{block.header.height}-{block.header.hash.hex()}", "a block object has another name")
            need(
                int(folder) == block.header.height // 1024 and block.chain_id == bag.chain_id,
                "a block is of another folder or chain",
            )
            need(block.header.height not in blocks, "two blocks are at one height")
            blocks[block.header.height] = block
    need(blocks and sorted(blocks) == list(range(len(blocks))), "a block is missing")
    need(blocks[0].header.hash == bag.genesis, "block 0 is not the one in the key bag")
    ledger_key = read_genesis(blocks[0].genesis).ledger_key
    for height, block in sorted(blocks.items()):
        ledger_key = handed_to(block, bag.access_address) or ledger_key
        need(height == 0 or block.header.parent == blocks[height - 1].header.hash, "a block names another parent")
        check_certificate(block.certificate, ledger_key, bag.chain_id, block.header)
    found = fingerprint(bag.chain_id, bag.genesis, bag.vault_address, ledger_key)
    return [blocks[height] for height in sorted(blocks)], found
