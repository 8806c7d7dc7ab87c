"""What Ethereum gives, against vectors of the main network; blocks and receipts made here by the pages, and altered."""

import json
import unittest
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import ledger
import receipts
from encoding import H, Refused, plain_hash, prefixed, u32, u64, varint
from ethereum import EMPTY_TRIE, keccak256, list_root, nibbles, proven, rlp, rlp_decode, trie_root
from manifests import entry_leaf, manifest_key_hash, plain_root, snapshot_id
from test_decode import flipped, golden, unhex

LEDGER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x51" * 32)
PUBLIC = LEDGER_KEY.public_key().public_bytes_raw()
VECTORS = Path(__file__).resolve().parent / "vectors"
LEDGER = Path(__file__).resolve().parents[3] / "crates/ledger/tests/fixtures/v1"
CHAIN, VAULT_ID, SOURCE, ADDRESS = (1 << 40) + 7, b"\xa1" * 32, b"\xc3" * 32, b"\x77" * 20


def bloom(logs):
    """The yellow paper's filter over the addresses and topics of logs: three bits of 2048 for each."""
    bits = 0
    for address, topics, _ in logs:
        for each in [address, *topics]:
            digest = keccak256(each)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits.to_bytes(256, "big")


def header(parent, height, **other):
    roots = [other.get("transactions", EMPTY_TRIE), other.get("receipts", EMPTY_TRIE)]
    fields = [parent, ledger.NO_OMMERS, bytes(20), b"\x99" * 32, *roots, bloom(other.get("logs", [])), 0, height]
    fields += [1 << 40, 21000, 1_700_000_000 + height, other.get("extra", b""), bytes(32), bytes(8), 0, EMPTY_TRIE]
    return rlp(fields)


def certificate(height, block_hash, key=LEDGER_KEY):
    signed = H("blockhouse v1 solo", u64(CHAIN), u64(height), block_hash)
    return b"\1" + key.public_key().public_bytes_raw() + key.sign(signed)


def commit_log(snapshot, source=SOURCE, address=ADDRESS):
    """The topics and data of SnapshotCommitted, encoded as Solidity does: an offset, 14 words, the list of tags."""
    words = [b"\xb2" * 32, source, snapshot, b"\4" * 32, b"\5" * 32, u256(262144), b"\6" * 32, u256(14 * 32), bytes(32)]
    words += [u256(6), u256(2), u256(0), u256(0), bytes(32), u256(1), b"\7" * 32]
    topics = [receipts.SNAPSHOT_COMMITTED, source, snapshot, bytes(12) + b"\xd4" * 20]
    return [address, topics, u256(32) + b"".join(words)]


def u256(value):
    return value.to_bytes(32, "big")


def transaction_receipt(logs, status=1):
    return b"\2" + rlp([status, 290_000, bloom(logs), logs])


def walk_proof(root, key, nodes):
    """The nodes from the root to a key that are not inside their parent."""
    path, link, proof = nibbles(key), root, []
    while True:
        if isinstance(link, bytes):
            proof.append(nodes[link])
            link = rlp_decode(nodes[link])
        if len(link) == 17:
            if not path:
                return proof
            link, path = link[path[0]], path[1:]
            continue
        first = nibbles(link[0])
        path = path[len(first) - (1 if first[0] % 2 else 2) :]
        if first[0] >= 2:
            return proof
        link = link[1]


FILE = b"the one file that is shown\n"


def file_proof():
    """A tree of three entries whose middle leaf is the file."""
    facts = (
        b"\1"
        + varint(0o644)
        + varint(1000)
        + varint(100)
        + u64(1_700_000_000)
        + u32(5)
        + varint(len(FILE))
        + plain_hash(FILE)
    )
    salt, others = b"\x44" * 32, [b"\x61" * 32, b"\x62" * 32]
    leaf = entry_leaf(salt, b"%2Fdata/shown", facts)
    node = "blockhouse v1 entry node"
    root = H(node, H(node, others[0], leaf), others[1])
    proof = {
        "path": b"%2Fdata/shown",
        "facts": facts,
        "salt": salt,
        "leaf": 1,
        "siblings": others,
        "entries": 3,
        "entries_root": root,
    }
    proof |= {
        "tree_root": b"\x63" * 32,
        "fact_count": 4,
        "facts_root": b"\x64" * 32,
        "source": SOURCE,
        "snapshot_salt": b"\x65" * 32,
    }
    proof |= {"manifest_key_hash": manifest_key_hash(b"\x66" * 32), "vault_id": VAULT_ID}
    plain = plain_root(proof["tree_root"], 3, root, 4, proof["facts_root"])
    return proof, snapshot_id(VAULT_ID, SOURCE, proof["snapshot_salt"], plain, proof["manifest_key_hash"])


def make(**other):
    """A receipt and its fingerprint: the second of twenty transactions commits; two blocks later one is certified."""
    proof, snapshot = file_proof()
    logs = other.get("logs") or [
        commit_log(snapshot),
        [ADDRESS, [keccak256(b"SessionEnded(bytes32)"), b"\xb2" * 32], b""],
    ]
    all_receipts = [
        transaction_receipt([]) if at != 1 else transaction_receipt(logs, other.get("status", 1)) for at in range(20)
    ]
    nodes = {}
    root = trie_root({rlp(at): value for at, value in enumerate(all_receipts)}, nodes)
    chain = [header(b"\x88" * 32, 41, receipts=root, logs=logs)]
    chain.append(header(keccak256(chain[-1]), 42))
    chain.append(header(other.get("parent", keccak256(chain[-1])), 43))
    genesis = b"\x98" * 32
    receipt = {
        "type": "blockhouse-receipt",
        "version": 1,
        "chain_id": CHAIN,
        "genesis": genesis,
        "vault": ADDRESS,
        "ledger_key": PUBLIC,
    }
    receipt |= {
        "header": chain[0],
        "descendants": chain[1:],
        "certificate": certificate(43, keccak256(chain[2]), other.get("key", LEDGER_KEY)),
    }
    receipt |= {
        "transaction_index": 1,
        "transaction_receipt": all_receipts[1],
        "proof": walk_proof(root, rlp(1), nodes),
    }
    receipt |= {"log_index": other.get("log_index", 0), "snapshot": snapshot, "file": proof}
    return written(receipt), ledger.fingerprint(CHAIN, genesis, ADDRESS, PUBLIC)


def written(receipt):
    return json.dumps(hexed(receipt), separators=(",", ":")).encode() + b"\n"


def hexed(value):
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {name: hexed(each) for name, each in value.items()}
    return [hexed(each) for each in value] if isinstance(value, list) else value


class Ethereum(unittest.TestCase):
    def test_keccak_of_known_messages(self):
        self.assertEqual(keccak256(b"").hex(), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
        self.assertEqual(keccak256(b"abc").hex(), "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45")
        self.assertEqual(len({keccak256(bytes(length)) for length in range(130, 275)}), 145)

    def test_the_hash_of_the_main_networks_first_block(self):
        fields = [
            bytes(32),
            ledger.NO_OMMERS,
            bytes(20),
            unhex("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
        ]
        fields += [EMPTY_TRIE, EMPTY_TRIE, bytes(256), 0x400000000, 0, 5000, 0, 0]
        fields += [
            unhex("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"),
            bytes(32),
            u64(0x42)[::-1],
        ]
        self.assertEqual(
            keccak256(rlp(fields)).hex(), "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
        )

    def test_the_receipts_root_of_the_main_networks_block_46147(self):
        only = rlp([unhex("96a8e009d2b88b1483e6941e6812e32263b05683fac202abc622a3e31aed1957"), 21000, bytes(256), []])
        self.assertEqual(list_root([only]).hex(), "fe2bf2a941abf41d72637e5b91750332a30283efd40c424dc522b77e6f0ed8c4")

    def test_a_trie_of_the_yellow_papers_tests(self):
        values = {b"doe": b"reindeer", b"dog": b"puppy", b"dogglesworth": b"cat"}
        self.assertEqual(trie_root(values).hex(), "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3")
        self.assertEqual(trie_root({}), keccak256(rlp(b"")))

    def test_every_value_is_proven_and_no_other(self):
        short = {rlp(at): bytes([at + 1]) for at in range(40)}  # nodes that lie inside their parents
        long = {rlp(at): bytes([at % 256]) * 40 for at in range(300)}
        for values in (short, long, {b"\x80": b"alone"}):
            nodes = {}
            root = trie_root(values, nodes)
            for key, value in values.items():
                proof = walk_proof(root, key, nodes)
                self.assertEqual(proven(root, key, proof), value)
                for bad in (proof[:-1], proof + proof[-1:], [flipped(proof[0], 3)] + proof[1:]):
                    with self.assertRaises(Refused):
                        proven(root, key, bad)
                with self.assertRaises(Refused):
                    proven(root, key + b"\0", proof)

    def test_only_canonical_rlp_is_read(self):
        self.assertEqual(rlp_decode(unhex("c58083646f67")), [b"", b"dog"])
        for bad in (
            "",
            "8100",
            "817f",
            "b800",
            "b83700",
            "c2",
            "c28100",
            "c100ff",
            "81",
            "b90000",
            "f800",
            "bfffffffffffffffff",
        ):
            with self.assertRaises(Refused, msg=bad):
                rlp_decode(unhex(bad))


class Blocks(unittest.TestCase):
    def block(self, height=5, genesis=None, extra=b"", transactions=(b"\2\xc1\x80", [b"\1", b"\2"])):
        encoded = [each if isinstance(each, bytes) else rlp(each) for each in transactions]
        own = header(b"\x11" * 32, height, transactions=list_root(encoded), extra=extra)
        body = rlp([rlp_decode(own), list(transactions), [], []])
        tail = b"" if genesis is None else prefixed(genesis)
        return b"BHBL\1\0\0\0" + u64(CHAIN) + prefixed(body) + prefixed(
            certificate(height, keccak256(own))
        ) + tail, keccak256(own)

    def test_a_block_object_gives_its_hash_and_its_certificate_holds(self):
        data, expected = self.block()
        block = ledger.read_block(data)
        self.assertEqual((block.header.hash, block.header.height, len(block.transactions)), (expected, 5, 2))
        ledger.check_certificate(block.certificate, PUBLIC, CHAIN, block.header)
        for key, chain in ((b"\5" * 32, CHAIN), (PUBLIC, CHAIN + 1)):
            with self.assertRaises(Refused):
                ledger.check_certificate(block.certificate, key, chain, block.header)

    def test_no_byte_of_a_block_object_can_be_altered(self):
        data, _ = self.block()
        for at in range(len(data)):
            if at == 6:
                continue  # the flags that a reader may ignore
            with self.assertRaises(Refused, msg=f"byte {at}"):
                block = ledger.read_block(flipped(data, at, at % 8))
                ledger.check_certificate(block.certificate, PUBLIC, block.chain_id, block.header)

    def test_a_handover_names_the_next_key_in_a_block_of_its_own(self):
        call = ledger.HANDOVER + b"\x55" * 32 + b"\x11" * 32
        typed = b"\2" + rlp([CHAIN, 3, 0, 0, 100_000, ADDRESS, 0, call, [], 0, 1, 1])
        words = ledger.HANDOVER_WITH + b"\x55" * 32 + b"\x11" * 32 + (96).to_bytes(32, "big") + bytes(32)
        several = b"\2" + rlp([CHAIN, 3, 0, 0, 100_000, ADDRESS, 0, words, [], 0, 1, 1])
        legacy = [b"\3", b"", b"\1", ADDRESS, b"", call, b"\1", b"\1", b"\1"]
        for transactions, expected in (
            ((typed,), b"\x55" * 32),
            ((several,), b"\x55" * 32),
            ((legacy,), b"\x55" * 32),
            ((typed, typed), None),
            ((), None),
        ):
            block = ledger.read_block(self.block(transactions=transactions)[0])
            self.assertEqual(ledger.handed_to(block, ADDRESS), expected)
            self.assertIsNone(ledger.handed_to(block, b"\x78" * 20))

    def test_block_0_names_the_genesis_object(self):
        tail = u64(1_700_000_000) + u64(1 << 40) + b"\1" + u64(0) + b"\1" + bytes(32)
        genesis = b"BHGN\1\0\0\0" + VAULT_ID + u64(CHAIN) + b"\x31" * 20 + b"\1" + b"\x32" * 20 + PUBLIC + tail
        block = ledger.read_block(self.block(0, genesis, H("blockhouse v1 genesis", genesis), ())[0])
        read = ledger.read_genesis(block.genesis)
        self.assertEqual(
            (read.vault, read.chain_id, read.ledger_key, read.recovery), (VAULT_ID, CHAIN, PUBLIC, [b"\x32" * 20])
        )
        with self.assertRaisesRegex(Refused, "genesis object"):
            ledger.read_block(self.block(0, flipped(genesis, 70), H("blockhouse v1 genesis", genesis), ())[0])
        with self.assertRaisesRegex(Refused, "extra data"):
            ledger.read_block(self.block(5, extra=b"x")[0])


class Receipts(unittest.TestCase):
    def test_the_vector_beside_this_file_is_what_the_page_gives(self):
        """Other implementations check the same files: `vectors/receipt.json`, its fingerprint, the file it shows."""
        receipt, wanted = make()
        self.assertEqual((VECTORS / "receipt.json").read_bytes(), receipt)
        self.assertEqual((VECTORS / "fingerprint.txt").read_text(), wanted.hex() + "\n")
        self.assertEqual((VECTORS / "file.txt").read_bytes(), FILE)

    def test_a_receipt_made_by_the_page_is_good(self):
        receipt, wanted = make()
        found, _ = receipts.check_receipt(receipt, wanted, FILE)
        self.assertEqual(found, wanted)
        self.assertEqual(receipts.check_receipt(receipt)[0], wanted)
        said = receipts.committed(receipts.check_receipt(receipt)[1])
        self.assertEqual([said["source"], said["object_hash"], said["list_root"]], [SOURCE, b"\4" * 32, b"\5" * 32])

    def test_no_byte_of_a_receipt_can_be_altered(self):
        receipt, wanted = make()
        for at in range(len(receipt)):
            with self.assertRaises(receipts.Step, msg=f"byte {at}"):
                receipts.check_receipt(flipped(receipt, at), wanted)

    def test_each_step_refuses_what_it_is_there_for(self):
        _, snapshot = file_proof()
        stranger = Ed25519PrivateKey.from_private_bytes(b"\x52" * 32)
        other = (
            commit_log(snapshot, address=b"\x78" * 20),
            commit_log(b"\1" * 32),
            commit_log(snapshot, source=b"\2" * 32),
        )
        cases = [
            (3, {"key": stranger}),
            (4, {"parent": bytes(32)}),
            (5, {"status": 0}),
            (6, {"log_index": 1}),
            (6, {"log_index": 2}),
        ]
        cases += [(6, {"logs": [other[0]]}), (6, {"logs": [other[1]]}), (7, {"logs": [other[2]]})]
        for count, change in cases:
            self.refused(count, *make(**change))
        receipt, wanted = make()
        self.refused(2, receipt, flipped(wanted, 0))
        self.refused(7, receipt, wanted, FILE + b"x")
        self.refused(7, receipt, wanted, flipped(FILE, 0))

    def test_only_the_canonical_encoding_is_read(self):
        receipt, wanted = make()
        plain = json.loads(receipt)
        swapped = dict(reversed(plain.items()))
        upper = receipt.replace(PUBLIC.hex().encode(), PUBLIC.hex().upper().encode())
        doubled = receipt.replace(b'{"type"', b'{"type":"blockhouse-receipt","type"', 1)
        self.assertNotEqual(upper, receipt)
        bad = [
            upper,
            receipt[:-1],
            receipt + b"\n",
            b" " + receipt,
            json.dumps(plain).encode() + b"\n",
            written(swapped),
            doubled,
            b"{}\n",
            b"[]\n",
        ]
        bad += [
            written({**plain, "more": 1}),
            written({**plain, "version": 1.0}),
            written({**plain, "log_index": True}),
            b"\xff",
            b"[" * 100_000,
        ]
        bad += [
            receipt.replace(b'"version":1', b'"version":2'),
            written({**plain, "file": None}),
            written({**plain, "snapshot": "0x00"}),
        ]
        for other in bad:
            self.refused(1, other, wanted)

    def test_the_golden_file_proof_has_the_fields_of_a_receipt(self):
        proof = json.loads(golden("file-proof.json"))["file"]
        ordered = {name: proof[name] for name, _ in receipts.FILE_FIELDS}
        self.assertEqual(len(proof), len(ordered))
        receipts.typed(ordered, receipts.FILE_FIELDS)

    def refused(self, count, receipt, wanted, file=None):
        with self.assertRaises(receipts.Step) as caught:
            receipts.check_receipt(receipt, wanted, file)
        self.assertEqual(caught.exception.step, count, str(caught.exception))


class Golden(unittest.TestCase):
    """What the program wrote, beside the crate that writes it."""

    def test_the_receipt_is_good_and_of_its_vault_alone(self):
        receipt, wanted = (LEDGER / "receipt.json").read_bytes(), bytes.fromhex((LEDGER / "fingerprint.txt").read_text())
        said = receipts.committed(receipts.check_receipt(receipt, wanted)[1])
        self.assertEqual([said["source"], said["object_hash"]], [b"\x52" * 32, b"\x11" * 32])
        with self.assertRaises(receipts.Step):
            receipts.check_receipt(receipt, flipped(wanted, 0))

    def test_every_block_is_certified_and_follows_the_one_before(self):
        blocks = [ledger.read_block((LEDGER / f"block-{height}.bin").read_bytes()) for height in range(5)]
        key, chain = ledger.read_genesis(blocks[0].genesis).ledger_key, blocks[0].chain_id
        for height, block in enumerate(blocks):
            self.assertEqual(block.header.height, height)
            ledger.check_certificate(block.certificate, key, chain, block.header)
            if height:
                self.assertEqual(block.header.parent, blocks[height - 1].header.hash)


if __name__ == "__main__":
    unittest.main()
