"""Evidence of forks, governed ledgers and key ceremonies: golden files read, and evidence made here by the pages, and altered."""

import unittest
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import ceremony
import forks
import ledger
import receipts
from encoding import Refused, prefixed, u64, varint
from test_decode import flipped
from test_receipts import CHAIN, LEDGER, certificate, header

CRATES = Path(__file__).resolve().parents[3] / "crates"
CEREMONY = CRATES / "consensus/tests/fixtures/v1"
FOUNDING = CRATES / "homes/tests/fixtures/v1/founding.bin"
VALIDATORS = sorted(
    (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in range(1, 5)),
    key=lambda key: key.public_key().public_bytes_raw(),
)
KEYS = [key.public_key().public_bytes_raw() for key in VALIDATORS]
KEY = ledger.network_key(3, KEYS)


def fingerprint_of(name):
    return bytes.fromhex((LEDGER / name).read_text().strip())


def committee(block, view, signers, descendants=()):
    """A certificate by these of the four validators, over the block or the last of its descendants."""
    last = ledger.read_header(descendants[-1] if descendants else block)
    place = varint(0) + varint(view) + varint(view - 1)
    vote = prefixed(b"blockhouse v1 network" + CHAIN.to_bytes(8, "big") + b"_FINALIZE") + place + last.hash
    bitmap = bytes([sum(1 << each for each in signers)])
    out = b"\3" + varint(4) + b"".join(KEYS) + place + bitmap
    out += b"".join(VALIDATORS[each].sign(vote) for each in signers)
    return out + varint(len(descendants)) + b"".join(map(prefixed, descendants))


def evidence(sides, key=KEY):
    sides = sorted(sides, key=lambda side: ledger.read_header(side[0]).hash)
    out = b"BHFK\1\0\0\0" + u64(CHAIN) + b"\1" * 32 + b"\2" * 20 + key + varint(0)
    return out + b"".join(prefixed(block) + prefixed(by) for block, by in sides)


def block(parent, height=9):
    return header(bytes([parent]) * 32, height)


class Forks(unittest.TestCase):
    def test_the_golden_evidence_names_who_signed_both(self):
        for name, signers in (("solo", 1), ("committee", 2)):
            data, wanted = (LEDGER / f"fork-{name}.bin").read_bytes(), fingerprint_of(f"fork-{name}.txt")
            found = forks.check_fork(data, wanted)
            self.assertEqual((found.height, len(found.signers), found.one_view), (40, signers, False))
            for at in range(0, len(data), 37):
                with self.assertRaises(Refused, msg=f"{name}, byte {at}"):
                    forks.check_fork(flipped(data, at, at % 8), wanted)
        # The signature of a shared key is not checked here; the bytes are read.
        data = (LEDGER / "fork-threshold.bin").read_bytes()
        _, links, sides = forks.read_fork(data)
        self.assertEqual((links, [side.height for side, _ in sides]), ([], [40, 40]))
        with self.assertRaisesRegex(Refused, "BLS12-381"):
            forks.check_fork(data)

    def test_evidence_made_by_the_page_holds(self):
        one, other = block(1), block(2)
        made = evidence([(one, committee(one, 7, [0, 1, 2])), (other, committee(other, 7, [1, 2, 3]))])
        found = forks.check_fork(made)
        self.assertEqual((found.height, found.signers, found.one_view), (9, KEYS[1:3], True))
        child = header(ledger.read_header(other).hash, 10)
        later = evidence([(one, committee(one, 7, [0, 1, 2])), (other, committee(other, 8, [0, 2, 3], [child]))])
        self.assertEqual(forks.check_fork(later).signers, [KEYS[0], KEYS[2]])

    def test_what_is_no_fork_proves_none(self):
        one, other = block(1), block(2)
        good = (one, committee(one, 7, [0, 1, 2]))
        refused = {
            "twice": [good, (one, committee(one, 8, [1, 2, 3]))],
            "two heights": [good, (block(2, 10), committee(block(2, 10), 8, [1, 2, 3]))],
            "no quorum": [good, (other, committee(other, 8, [1, 2]))],
            "not valid": [good, (other, committee(one, 8, [1, 2, 3]))],
            "another ledger key": [good, (other, certificate(9, ledger.read_header(other).hash))],
        }
        for why, sides in refused.items():
            with self.assertRaisesRegex(Refused, why):
                forks.check_fork(evidence(sides))
        sides = [good, (other, committee(other, 8, [1, 2, 3]))]
        with self.assertRaisesRegex(Refused, "fingerprint"):
            forks.check_fork(evidence(sides), b"\7" * 32)
        with self.assertRaisesRegex(Refused, "flag"):
            forks.check_fork(flipped(evidence(sides), 6))


class Governed(unittest.TestCase):
    def test_the_golden_genesis_of_version_2_names_its_validators(self):
        data = (LEDGER / "genesis-2.bin").read_bytes()
        found = ledger.read_genesis(data).governance
        self.assertEqual((found.epoch_length, found.threshold), (16, 3))
        self.assertEqual((len(found.governors), len(found.validators)), (4, 4))
        plain = data[:4] + b"\1" + data[5:]
        with self.assertRaisesRegex(Refused, "bytes follow the end"):
            ledger.read_genesis(plain)

    def test_the_golden_receipt_with_links_is_good_by_every_key_on_its_way(self):
        first = fingerprint_of("fingerprint-2.txt")
        for version in (2, 3):
            data = (LEDGER / f"receipt-{version}.json").read_bytes()
            found, receipt = receipts.check_receipt(data, first)
            self.assertEqual((found, len(receipt["links"])), (first, 2))
            self.assertEqual(receipts.committed(receipt)["source"], b"\6" * 32)
            last, _ = receipts.check_receipt(data)
            self.assertNotEqual(last, first)
            self.assertEqual(receipts.check_receipt(data, last)[0], last)
            with self.assertRaises(receipts.Step) as raised:
                receipts.check_receipt(data, b"\7" * 32)
            self.assertEqual(raised.exception.step, 2)
            for other in {1, 2, 3, 4} - {version}:
                named = data.replace(b'"version":%d' % version, b'"version":%d' % other)
                with self.assertRaises(Refused):
                    receipts.check_receipt(named, first)

    def test_the_golden_receipt_without_links_has_its_transaction_receipt_in_the_proof_alone(self):
        data, wanted = (LEDGER / "receipt-committee.json").read_bytes(), fingerprint_of("fingerprint-2.txt")
        found, receipt = receipts.check_receipt(data, wanted)
        self.assertEqual((found, "links" in receipt), (wanted, False))
        self.assertNotIn(b"transaction_receipt", data)
        self.assertEqual(receipts.committed(receipt)["source"], b"\6" * 32)
        for other in (1, 2, 4):
            with self.assertRaises(Refused):
                receipts.check_receipt(data.replace(b'"version":3', b'"version":%d' % other), wanted)


class Charters(unittest.TestCase):
    def test_the_key_of_a_charter_is_that_of_the_ledger(self):
        validators = [(bytes([n]) * 32, f"10.0.0.{n}:9650", bytes([n]) * 20) for n in range(1, 5)]
        charter, key = ledger.charter_key(64, 3, [bytes([n]) * 20 for n in range(1, 5)], validators)
        self.assertEqual(charter.hex(), "12f0e3990591ebd3947b1826fa084e8dba4029061531df48030a59671970718c")
        self.assertEqual(key.hex(), "8bb005a1ecf8914d5facc1fa0f824da0858b4fc79274b055e0f538e4eb530007")

    def test_the_golden_receipt_leads_from_the_charter_on(self):
        data, first = (LEDGER / "receipt-charter.json").read_bytes(), fingerprint_of("fingerprint-charter.txt")
        found, receipt = receipts.check_receipt(data, first)
        self.assertEqual((found, len(receipt["links"])), (first, 1))
        link = receipt["links"][0]
        signed = ledger.read_committee(link["certificate"])
        self.assertEqual(signed.key(), receipt["ledger_key"])
        # The same signatures without their charter, or under another one, are by another key.
        header = ledger.read_header(link["header"])
        for other in (b"\3" + link["certificate"][33:], b"\6" + bytes(32) + link["certificate"][33:]):
            with self.assertRaisesRegex(Refused, "another ledger key"):
                ledger.check_certificate(other, receipt["ledger_key"], receipt["chain_id"], header)


class Ceremonies(unittest.TestCase):
    def test_the_golden_messages_are_read(self):
        for kind in ceremony.KINDS.values():
            data = (CEREMONY / f"ceremony-{kind}.bin").read_bytes()
            self.assertEqual(ceremony.read_message(data)[1], kind)
            for bad in (data[:-1], data + b"\0", flipped(data, 6)):
                with self.assertRaises(Refused):
                    ceremony.read_message(bad)

    def test_the_golden_record_is_read(self):
        incarnation, agreed = ceremony.read_record((CEREMONY / "ceremony-record.bin").read_bytes())
        self.assertEqual((incarnation, agreed["logs"]), (5, [b"\3" * 32, b"\4" * 32]))

    def test_the_golden_founding_is_read_and_no_byte_of_it_can_be_another(self):
        data = FOUNDING.read_bytes()
        found = ceremony.read_founding(data)
        self.assertEqual((found.time, len(found.enrolments)), (1_700_000_000, 4))
        for at in range(len(data)):
            try:
                self.assertNotEqual(ceremony.read_founding(flipped(data, at)).number, found.number)
            except Refused:
                pass


if __name__ == "__main__":
    unittest.main()
