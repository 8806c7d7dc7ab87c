"""Every format of version 1 read from its golden fixture, and every fixture altered."""

import itertools
import json
import unittest
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import ethereum
import keys
import manifests
import packs
import shards
from encoding import H, KDF, Reader, Refused, keyed, merkle_climb, merkle_root, plain_hash, prefixed, varint

FIXTURES = Path(__file__).resolve().parents[3] / "crates/pipeline/tests/fixtures/v1"
METADATA = FIXTURES / "metadata"


def unhex(value):
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return [unhex(each) for each in value] if isinstance(value, list) else value


def golden(name):
    return (METADATA / name).read_bytes()


def flipped(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


class Encoding(unittest.TestCase):
    def test_only_the_shortest_varint_is_read(self):
        for value in (0, 127, 128, 300, 2**64 - 1):
            self.assertEqual(Reader(varint(value)).varint(), value)
        for bad in (b"", b"\x80", b"\x80\x00", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"):
            with self.assertRaises(Refused):
                Reader(bad).varint()

    def test_every_leaf_climbs_to_the_root_and_no_other_path_does(self):
        for count in range(1, 18):
            level = [bytes([at]) * 32 for at in range(count)]
            root, paths = merkle_root(level, "shard"), [[] for _ in level]
            places = [[at] for at in range(count)]  # which leaves each node covers
            while len(level) > 1:
                for at in range(0, len(level) - 1, 2):
                    for mine, other in ((at, at + 1), (at + 1, at)):
                        for leaf in places[mine]:
                            paths[leaf].append(level[other])
                node = [
                    H("blockhouse v1 shard node", *level[at : at + 2]) if at + 1 < len(level) else level[at]
                    for at in range(0, len(level), 2)
                ]
                places, level = [sum(places[at : at + 2], []) for at in range(0, len(level), 2)], node
            for at, path in enumerate(paths):
                self.assertEqual(merkle_climb(bytes([at]) * 32, at, count, path, "shard"), root)
                for bad in (path + [bytes(32)], path[1:]):
                    if bad != path:
                        with self.assertRaises(Refused):
                            merkle_climb(bytes([at]) * 32, at, count, bad, "shard")


class Shards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.paths = sorted((FIXTURES / "shards").glob("*/*"))
        cls.files = [path.read_bytes() for path in cls.paths]
        cls.read = [shards.read_shard(file) for file in cls.files]
        cls.keys = {
            name: unhex(value)
            for name, value in json.loads((FIXTURES / "keys.json").read_text()).items()
            if name not in ("chunks", "code")
        }
        cls.pack = (FIXTURES / "pack.bin").read_bytes()

    def test_each_shard_is_good_alone_and_names_its_writer(self):
        self.assertEqual(len(self.read), 6)
        for path, shard in zip(self.paths, self.read):
            shards.check_claim(shard)
            self.assertEqual(shards.shard_name(shard), str(path.relative_to(FIXTURES)))
            self.assertEqual((shard.writer, shard.session), (self.keys["writer_account"], self.keys["session_id"]))

    def test_every_four_of_six_give_back_the_pack(self):
        for chosen in itertools.combinations(self.read, 4):
            self.assertEqual(shards.rebuild(chosen), self.pack)
        with self.assertRaisesRegex(Refused, "3 shards are here, 4 are needed"):
            shards.rebuild(self.read[:3])

    def test_a_flip_anywhere_is_seen(self):
        file = self.files[4]
        head = len(file) - len(self.read[4].payload)
        for at in [*range(head), *range(head, len(file), 13)]:
            with self.assertRaises(Refused, msg=f"byte {at}"):
                shards.read_shard(flipped(file, at, at % 8))
        for other in (b"", file[:-1], file + b"\0", file[:head]):
            with self.assertRaises(Refused):
                shards.read_shard(other)

    def test_a_copied_signature_is_good_for_no_other_session_or_writer(self):
        for at in (72, 104):  # session, writer
            forged = bytearray(flipped(self.files[0], at))
            end = 209 + 32 * 6
            forged[end : end + 32] = H("blockhouse v1 shard header", bytes(forged[:end]))
            with self.assertRaisesRegex(Refused, "not by the writer"):
                shards.check_claim(shards.read_shard(bytes(forged)))

    def test_a_stripe_that_was_coded_wrong_shows_nobody_a_pack(self):
        wrong = flipped(self.read[5].payload, 9)
        roots = self.read[0].roots[:5] + (merkle_root(shards.leaf_hashes(wrong), "shard"),)
        stripe = [shards.Shard(**{**vars(shard), "roots": roots}) for shard in self.read[:5]]
        stripe.append(shards.Shard(**{**vars(self.read[5]), "roots": roots, "payload": wrong}))
        for chosen in itertools.combinations(stripe, 4):
            with self.assertRaisesRegex(Refused, "coded wrong"):
                shards.rebuild(chosen)


class Packs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        keys = json.loads((FIXTURES / "keys.json").read_text())
        cls.chunks = keys.pop("chunks")
        cls.keys = {name: unhex(value) for name, value in keys.items() if name != "code"}
        cls.pack = (FIXTURES / "pack.bin").read_bytes()
        cls.entries = packs.open_pack(cls.pack, cls.keys["index_key"])

    def test_secrets_derive_from_the_vault_secret(self):
        secret, keys = self.keys["vault_secret"], self.keys
        seed = int.from_bytes(KDF("blockhouse v1 cut seed", secret)[:8], "little")
        writer = KDF("blockhouse v1 writer domain", secret, keys["first_account"])
        self.assertEqual(str(seed), json.loads((FIXTURES / "keys.json").read_text())["cut_seed"])
        self.assertEqual(KDF("blockhouse v1 index key", secret), keys["index_key"])
        self.assertEqual(writer, keys["writer_domain"])
        self.assertEqual(KDF("blockhouse v1 vault domain", secret), keys["vault_domain"])
        self.assertEqual(KDF("blockhouse v1 chain domain", secret), keys["chain_domain"])
        self.assertEqual(packs.subkeys(writer), (keys["id_subkey"], keys["key_subkey"]))
        source = KDF("blockhouse v1 source domain", writer, keys["source_id"])
        self.assertEqual(packs.subkeys(source), (keys["source_id_subkey"], keys["source_key_subkey"]))

    def test_every_chunk_opens_to_its_content(self):
        self.assertEqual(len(self.entries), len(self.chunks))
        self.assertEqual({entry.codec for entry in self.entries}, {0, 1})
        for entry, chunk in zip(self.entries, self.chunks):
            own = chunk["rule"] == "random key"
            found = (entry.id.hex(), entry.codec, entry.offset, entry.sealed_length, entry.length)
            self.assertEqual(found, tuple(chunk[name] for name in ("id", "codec", "offset", "sealed_len", "plain_len")))
            plain = self.opened(entry, chunk, None if own else self.keys["id_subkey"])
            self.assertEqual(plain_hash(plain).hex(), chunk["plain_blake3"])
            if not own:
                self.assertEqual(keyed(self.keys["key_subkey"], plain).hex(), chunk["key"])
            with self.assertRaisesRegex(Refused, "another id"):
                self.opened(entry, chunk, self.keys["id_subkey"] if own else None)

    def opened(self, entry, chunk, id_subkey, flip=None):
        sealed = self.pack[entry.offset : entry.offset + entry.sealed_length]
        sealed = sealed if flip is None else flipped(sealed, flip)
        return packs.open_chunk(
            sealed, entry.codec, packs.Reference(entry.id, unhex(chunk["key"]), entry.length), id_subkey
        )

    def test_an_altered_chunk_is_refused(self):
        for entry, chunk in zip(self.entries, self.chunks):
            for at in {0, 11, 12, entry.sealed_length // 2, entry.sealed_length - 1}:
                with self.assertRaisesRegex(Refused, "altered"):
                    self.opened(entry, chunk, self.keys["id_subkey"], at)

    def test_an_altered_table_trailer_or_padding_is_refused(self):
        table = self.entries[-1].offset + self.entries[-1].sealed_length
        for at in [
            *range(table, table + 400),
            *range(table + 400, len(self.pack) - 52, 997),
            *range(len(self.pack) - 53, len(self.pack)),
        ]:
            with self.assertRaises(Refused, msg=f"byte {at}"):
                packs.open_pack(flipped(self.pack, at, at % 8), self.keys["index_key"])
        for other in (b"", self.pack[:-1], self.pack + b"\0"):
            with self.assertRaises(Refused):
                packs.open_pack(other, self.keys["index_key"])

    def test_padme_against_its_definition(self):
        for length in [*range(2, 3000), 262144, 262145, 300000, 67108863]:
            exponent = next(place for place in range(64) if length >> place == 1)
            last = exponent - (next(place for place in range(64) if exponent >> place == 1) + 1) if exponent else 0
            expected = next(size for size in itertools.count(length) if size % (1 << max(last, 0)) == 0)
            self.assertEqual(packs.padme(length), expected, length)


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.facts = unhex_all(json.loads(golden("metadata.json")))
        cls.key = cls.facts["manifest_key"]
        cls.snapshot = manifests.read_snapshot(golden("snapshot.bin"))
        cls.manifest = manifests.open_manifest(cls.snapshot, cls.key)

    def test_the_snapshot_opens_and_its_id_is_recomputed(self):
        self.assertEqual(self.snapshot.id, self.facts["snapshot"])
        self.assertEqual(self.snapshot.object_hash, self.facts["object_hash"])
        self.assertEqual(self.snapshot.vault, self.facts["vault_id"])
        self.assertEqual(self.snapshot.sealed, golden("manifest.sealed"))
        self.assertEqual(self.manifest, manifests.read_manifest(golden("manifest.bin")))
        self.assertEqual(dict(self.manifest.facts)["host"], prefixed(b"backup-1"))

    def test_any_flip_of_the_snapshot_object_changes_its_hash_or_is_refused(self):
        data = golden("snapshot.bin")
        for at in range(len(data)):
            try:
                self.assertNotEqual(
                    manifests.read_snapshot(flipped(data, at, at % 8)).object_hash, self.facts["object_hash"]
                )
            except Refused:
                pass
        for at in range(len(self.snapshot.sealed)):
            altered = manifests.Snapshot(**{**vars(self.snapshot), "sealed": flipped(self.snapshot.sealed, at)})
            with self.assertRaisesRegex(Refused, "altered"):
                manifests.open_manifest(altered, self.key)

    def test_the_id_binds_vault_source_key_and_every_byte_of_the_manifest(self):
        for name in ("vault", "source"):
            with self.assertRaises(Refused):
                manifests.open_manifest(manifests.Snapshot(**{**vars(self.snapshot), name: bytes(32)}), self.key)
        for at in range(len(golden("manifest.bin"))):
            sealed = self.seal(flipped(golden("manifest.bin"), at, at % 8))
            with self.assertRaises(Refused, msg=f"byte {at}"):
                manifests.open_manifest(manifests.Snapshot(**{**vars(self.snapshot), "sealed": sealed}), self.key)

    def seal(self, plain):
        key = KDF("blockhouse v1 manifest seal", self.key)
        return bytes(12) + AESGCM(key).encrypt(bytes(12), plain, self.snapshot.id)

    def records(self):
        """The tree of the fixture. Its root's listing has one entry, rebuilt to the bytes that the manifest names."""
        extent = b"\1" + b"\3" * 32 + b"\xfc" * 32 + varint(900)
        head = prefixed(b"%2Fdata") + bytes.fromhex("00a403e8076403616e6e0000f153650000000015cd5b070000")
        listing = prefixed(head + varint(900) + b"\0" + prefixed(extent))
        reference = manifests.parse_extents(self.manifest.root.extents)[0][0]
        self.assertEqual(keyed(KDF("blockhouse v1 random chunk id", reference.key), listing), reference.id)
        records = manifests.read_listing(listing) + manifests.read_listing(golden("listing.bin"))
        for record in records:
            record.path = record.name if record is records[0] else records[0].name + b"/" + record.name
        return records

    def test_the_leaves_of_the_tree_give_the_entries_root(self):
        records = self.records()
        manifests.check_tree(self.manifest, records, self.key)
        records[3].facts = flipped(records[3].facts, 8)
        with self.assertRaisesRegex(Refused, "another entries root"):
            manifests.check_tree(self.manifest, records, self.key)
        with self.assertRaisesRegex(Refused, "another number"):
            manifests.check_tree(self.manifest, records[:-1], self.key)

    def test_one_entry_of_every_kind_is_read(self):
        records = manifests.read_listing(golden("listing.bin"))
        self.assertEqual({record.kind for record in records}, set(range(8)))
        for record in records:
            hash_is_zero = record.kind not in (manifests.FILE, manifests.SYMLINK)
            self.assertEqual(record.facts.endswith(bytes(32)), hash_is_zero)

    def test_a_long_list_of_extents_is_read_through_its_chunks(self):
        lists = {plain_hash(data): data for data in (golden(f"extents-{at}.bin") for at in range(8))}
        content = next(record for record in self.records() if record.name == b"c").content
        self.assertEqual(content.depth, 1)
        extents = manifests.extents_of(content, lambda reference: lists[reference.id])
        self.assertEqual(sum(length for _, _, length in extents), content.length)
        self.assertEqual(len(extents), 200)

    def test_a_tree_of_folders_holes_and_parts_is_walked_in_order(self):
        store = {}

        def chunk(data, offset=None, length=None):
            reference = packs.Reference(plain_hash(data), bytes(32), len(data))
            store[reference.id] = data
            encoded = reference.id + reference.key + varint(len(data))
            return b"\1" + encoded if offset is None else b"\2" + encoded + varint(offset) + varint(length)

        def content(length, extents):
            return varint(length) + b"\0" + prefixed(extents)

        def entry(name, kind, rest):
            return prefixed(prefixed(name) + bytes([kind]) + varint(0o755) + bytes(4) + bytes(12) + b"\0\0" + rest)

        sparse = b"ab" + bytes(1000) + b"cd"
        file = entry(
            b"f", 1, content(1004, chunk(b"xaby", 1, 2) + b"\0" + varint(1000) + chunk(b"cd")) + plain_hash(sparse)
        )
        inner = file + entry(b"l", 2, prefixed(b"../f"))
        middle = entry(b"d", 0, content(len(inner), chunk(inner))) + entry(b"e", 0, content(0, b""))
        top = entry(b"%2Fa", 0, content(len(middle), chunk(middle)))
        root = manifests.Content(len(top), 0, chunk(top))
        fetch = lambda reference: store[reference.id]
        records = manifests.walk(root, fetch)
        self.assertEqual([each.path for each in records], [b"%2Fa", b"%2Fa/d", b"%2Fa/d/f", b"%2Fa/d/l", b"%2Fa/e"])
        self.assertEqual(manifests.join(manifests.extents_of(records[2].content, fetch), fetch), sparse)
        for bad in (b"\0\1\0\1", b"\0\0", b"\3", chunk(b"ab", 0, 2), chunk(b"ab", 1, 2), b"\1" + bytes(64) + b"\0"):
            with self.assertRaises(Refused):
                manifests.parse_extents(bad)
        for bad in (inner + inner, entry(b"..", 2, b"\1x"), entry(b"a/b", 2, b"\1x"), entry(b"a", 9, b""), inner[:-1]):
            with self.assertRaises(Refused):
                manifests.read_listing(bad)

    def test_the_stripe_lists_read_back_and_no_node_can_be_altered(self):
        fetch = lambda node: golden(f"lists/{node.hex()}")
        for root, size in zip(self.facts["list_roots"][:2], self.facts["list_sizes"]):
            stripes = manifests.stripe_ids(root, fetch)
            self.assertEqual((len(stripes), stripes), (size, sorted(stripes)))
            self.assertEqual(canonical_list(stripes), root)
        root = self.facts["list_roots"][1]
        with self.assertRaisesRegex(Refused, "another hash"):
            manifests.stripe_ids(root, lambda node: flipped(fetch(node), len(fetch(node)) - 1))

    def test_a_stripe_list_that_is_not_canonical_is_refused(self):
        nodes = {}

        def node(body):
            data = b"BHSL\1\0\0\0" + body
            nodes[ethereum.keccak256(data)] = data
            return ethereum.keccak256(data)

        one = node(b"\1\0\1" + bytes(32))
        bad = [
            node(b"\0\1" + b"\1\0" + b"\1" + one),
            node(b"\1\0\0"),
            node(b"\0\0\2" + bytes(64)),
            node(b"\0\0\2" + b"\1" * 32 + bytes(32)),
        ]
        for root in [*bad, one]:
            with self.assertRaises(Refused):
                manifests.stripe_ids(root, nodes.__getitem__)
        self.assertEqual(manifests.stripe_ids(node(b"\0\0\0"), nodes.__getitem__), [])

    def test_the_readers_map_opens_at_its_version_alone(self):
        snapshot, stripes = manifests.read_map(golden("map.bin"), 1, self.key)
        self.assertEqual((snapshot, len(stripes)), (self.snapshot.id, 1))
        with self.assertRaisesRegex(Refused, "altered"):
            manifests.read_map(golden("map.bin"), 0, self.key)

    def test_a_proof_shows_one_file_and_nothing_that_was_altered(self):
        golden_proof = json.loads(golden("file-proof.json"))
        snapshot, proof = unhex(golden_proof["snapshot"]), unhex_all(golden_proof["file"])
        length, content_hash = manifests.check_file_proof(proof, snapshot)
        shown = self.records()[proof["leaf"]]
        self.assertEqual((length, content_hash), (shown.content.length, shown.content_hash))
        self.assertEqual((proof["path"], proof["facts"]), (shown.path, shown.facts))
        self.assertEqual(proof["salt"], manifests.entry_salt(self.key, proof["leaf"]))
        for name, value in proof.items():
            for other in altered(value):
                with self.assertRaises(Refused, msg=name):
                    manifests.check_file_proof({**proof, name: other}, snapshot)


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.facts = json.loads(golden("metadata.json"))
        cls.identity = keys.read_identity(golden("identity.txt").decode())

    def test_the_identity_and_a_reader_open_the_wraps(self):
        self.assertEqual(self.identity.vault, unhex(self.facts["vault_id"]))
        self.assertEqual(self.identity.recipient(), self.facts["identity_recipient"])
        reader = keys.Identity(b"", keys.bech32_key("age-secret-key-", self.facts["reader_secret"].lower()))
        for each in (self.identity, reader):
            found = keys.manifest_key(golden("wraps.bin"), unhex(self.facts["snapshot"]), each)
            self.assertEqual(found, (unhex(self.facts["manifest_key"]), unhex(self.facts["set_hash"])))
        recipients = [each.recipient() for each in (self.identity, reader)] + [self.facts["paper_recipient"]]
        self.assertEqual(sorted(keys.recipient_id(1, each) for each in recipients), unhex(self.facts["recipient_ids"]))
        with self.assertRaisesRegex(Refused, "none of the recipients"):
            keys.manifest_key(golden("wraps.bin"), unhex(self.facts["snapshot"]), keys.Identity(b"", b"\1" * 32))

    def test_an_altered_wrap_never_gives_another_key(self):
        data, snapshot, key = golden("wraps.bin"), unhex(self.facts["snapshot"]), unhex(self.facts["manifest_key"])
        for at in range(0, len(data), 5):
            try:
                self.assertEqual(keys.manifest_key(flipped(data, at, at % 8), snapshot, self.identity)[0], key)
            except Refused:
                pass

    def test_the_key_bag_opens_to_the_vault_secret(self):
        bag = keys.open_bag(golden("bag.bin"), self.identity)
        self.assertEqual(bag.vault_secret, b"\xe5" * 32)
        self.assertEqual((bag.version, bag.code, len(bag.sites)), (3, (4, 2), 6))
        self.assertEqual(
            [recipient for _, recipient, role, _ in bag.recipients if role == 0], [self.identity.recipient()]
        )
        with self.assertRaises(Refused):
            keys.open_bag(flipped(golden("bag.bin"), len(golden("bag.bin")) - 1), self.identity)

    def test_one_flipped_bit_of_the_hosts_secrets_is_seen(self):
        data = golden("host-secrets.bin")
        keys.check_host_secrets(data)
        for at in range(len(data)):
            with self.assertRaises(Refused, msg=f"byte {at}"):
                keys.check_host_secrets(flipped(data, at, at % 8))


def altered(value):
    if isinstance(value, int):
        return [value - 1, value + 1]
    if isinstance(value, bytes):
        return [flipped(value, at) for at in range(len(value))]
    return [value[:at] + [other] + value[at + 1 :] for at, each in enumerate(value) for other in altered(each)] + [
        value[1:],
        value + value[:1],
    ]


def canonical_list(stripes, depth=0):
    """The root of a set of stripes, as a writer makes it."""
    if len(stripes) <= 256:
        body = bytes([depth, 0]) + varint(len(stripes)) + b"".join(stripes)
    else:
        groups = [[each for each in stripes if each.hex()[depth] == f"{nibble:x}"] for nibble in range(16)]
        bitmap = sum(1 << nibble for nibble, group in enumerate(groups) if group)
        children = b"".join(varint(len(group)) + canonical_list(group, depth + 1) for group in groups if group)
        body = bytes([depth, 1]) + bitmap.to_bytes(2, "little") + children
    return ethereum.keccak256(b"BHSL\1\0\0\0" + body)


def unhex_all(found):
    return {
        name: unhex(value) if "secret" not in name and "recipient" not in name.split("_")[-1] else value
        for name, value in found.items()
    }


if __name__ == "__main__":
    unittest.main()
