"""receipts.md: a receipt checked with nothing but the fingerprint; the log from contracts.md."""

import json
import re

from encoding import MIB, Refused, need, plain_hash
from ethereum import keccak256, proven, rlp, rlp_decode
from ledger import check_certificate, fingerprint, follow, read_header
from manifests import check_file_proof

COMMIT = "bytes32,bytes32,bytes32,bytes32,bytes32,uint64,bytes32,bytes32[],bytes32,uint16,uint16,uint16,uint64,bytes32"
SNAPSHOT_COMMITTED = keccak256(f"SnapshotCommitted(bytes32,bytes32,address,({COMMIT}))".encode())

# Every key in its order, with what stands behind it; a number is the length of a hex string in bytes.
TEXT, HEX, HEXES, INTEGER = "text", "hex", "hexes", "integer"
FIELDS = [
    ("type", TEXT), ("version", INTEGER), ("chain_id", INTEGER), ("genesis", 32), ("vault", 20), ("ledger_key", 32),
    ("links", [[("header", HEX), ("certificate", HEX)]]), ("header", HEX), ("descendants", HEXES), ("certificate", HEX), ("transaction_index", INTEGER),
    ("transaction_receipt", HEX), ("proof", HEXES), ("log_index", INTEGER), ("snapshot", 32),
]  # fmt: skip
FILE_FIELDS = [
    ("path", HEX), ("facts", HEX), ("salt", 32), ("leaf", INTEGER), ("siblings", HEXES), ("entries", INTEGER),
    ("entries_root", 32), ("tree_root", 32), ("fact_count", INTEGER), ("facts_root", 32), ("source", 32),
    ("snapshot_salt", 32), ("manifest_key_hash", 32), ("vault_id", 32),
]  # fmt: skip


class Step(Refused):
    """A step of the check that failed, by its number in receipts.md."""

    def __init__(self, step, why):
        super().__init__(f"step {step}: {why}")
        self.step = step


def check_receipt(data, wanted=None, file=None):
    """Runs steps 1 to 7; gives (the fingerprint found, the receipt). Without a fingerprint step 2 only shows it."""
    receipt = step(1, parse, data)
    chain = [step(1, read_header, each) for each in [receipt["header"]] + receipt["descendants"]]
    key, after, found = step(3, check_links, receipt, wanted)
    if wanted is not None and found != wanted:
        raise Step(2, f"the receipt is of the fingerprint {found.hex()}")
    if after and chain[-1].height <= after:
        raise Step(3, "the last block stands below the last link")
    step(3, check_certificate, receipt["certificate"], key, receipt["chain_id"], chain[-1])
    step(4, check_chain, chain)
    logs = step(5, check_proof, receipt, chain[0])
    source = step(6, check_log, receipt, logs)
    if "file" in receipt or file is not None:
        step(7, check_file, receipt, source, file)
    return found, receipt


def check_links(receipt, wanted):
    """The last key along the links, the block before its time, and the fingerprint that is meant: one that the vault had on the way."""
    links = [(read_header(link["header"]), link["certificate"]) for link in receipt.get("links", [])]
    chain_id, genesis, vault = receipt["chain_id"], receipt["genesis"], receipt["vault"]
    keys = list(follow(chain_id, links, receipt["ledger_key"]))
    had = [fingerprint(chain_id, genesis, vault, key) for key, _ in keys]
    return *keys[-1], wanted if wanted in had else had[-1]


def step(count, check, *arguments):
    try:
        return check(*arguments)
    except Refused as error:
        raise Step(count, str(error)) from None


def parse(data):
    """Parses, and refuses every encoding but the one that writing it again gives."""
    need(len(data) <= 16 * MIB, "the receipt is too long")
    try:
        raw = json.loads(data.decode("utf-8"))
        again = json.dumps(raw, separators=(",", ":"), ensure_ascii=False).encode("utf-8") + b"\n"
    except (ValueError, RecursionError):
        raise Refused("the receipt is not JSON") from None
    need(again == data, "the receipt is not in canonical form")
    version = raw.get("version") if isinstance(raw, dict) else None
    need(version in (1, 2, 3) and type(version) is int, "this is no receipt of a known version")
    left_out = {1: ["links"], 2: [], 3: ["transaction_receipt"] + ["links"] * ("links" not in raw)}[version]
    fields = [field for field in FIELDS if field[0] not in left_out]
    fields += [("file", FILE_FIELDS)] if isinstance(raw, dict) and "file" in raw else []
    receipt = typed(raw, fields)
    need(receipt["type"] == "blockhouse-receipt", "this is no receipt")
    need("links" not in receipt or 1 <= len(receipt["links"]) <= 64, "links are 1 to 64")
    return receipt


def typed(value, kind):
    if isinstance(kind, list) and isinstance(kind[0], list):
        need(isinstance(value, list), "a list is none")
        return [typed(each, kind[0]) for each in value]
    if isinstance(kind, list):
        need(
            isinstance(value, dict) and list(value) == [name for name, _ in kind],
            "keys are missing, unknown or out of order",
        )
        return {name: typed(value[name], inner) for name, inner in kind}
    if kind == INTEGER:
        need(type(value) is int and 0 <= value < 1 << 64, "a number is none")
        return value
    if kind == HEXES:
        need(isinstance(value, list), "a list is none")
        return [typed(each, HEX) for each in value]
    need(isinstance(value, str), "a text is none")
    if kind == TEXT:
        return value
    need(re.fullmatch("0x(?:[0-9a-f]{2})*", value), "a text is not hex in lower case")
    found = bytes.fromhex(value[2:])
    need(kind == HEX or len(found) == kind, "a hash, key or account has another length")
    return found


def check_chain(chain):
    for before, after in zip(chain, chain[1:]):
        need(after.parent == before.hash, "a descendant names another parent")
        need(after.height == before.height + 1, "a descendant is at another height")


def check_proof(receipt, header):
    shown = proven(header.receipts_root, rlp(receipt["transaction_index"]), receipt["proof"])
    # Of version 3 the end of the proof is the one place where it stands.
    need(shown == receipt.setdefault("transaction_receipt", shown), "the proof shows another transaction receipt")
    return read_logs(receipt)


def read_logs(receipt):
    """The logs of a transaction that succeeded. EIP-2718: a first byte under 0x80 is the type, RLP begins above it."""
    encoded = receipt["transaction_receipt"]
    fields = rlp_decode(encoded[1:] if encoded[:1] in (b"\1", b"\2") else encoded)
    need(
        isinstance(fields, list) and len(fields) == 4 and isinstance(fields[3], list),
        "a transaction receipt has 4 parts",
    )
    need(fields[0] == b"\1", "the transaction failed")
    return fields[3]


def committed(receipt):
    """What the log says of a receipt that was checked; the event's data are an offset and then the struct."""
    data = read_logs(receipt)[receipt["log_index"]][2]
    word = lambda at: data[32 * at + 32 : 32 * at + 64]
    return {"session": word(0), "source": word(1), "object_hash": word(3), "list_root": word(4), "recipients": word(6)}


def check_log(receipt, logs):
    need(receipt["log_index"] < len(logs), "the transaction has no such log")
    log = logs[receipt["log_index"]]
    need(isinstance(log, list) and len(log) == 3 and isinstance(log[1], list), "a log has 3 parts")
    address, topics, data = log
    need(address == receipt["vault"], "the log is by another contract")
    need(len(topics) == 4 and topics[0] == SNAPSHOT_COMMITTED, "the log is no SnapshotCommitted")
    need(topics[2] == receipt["snapshot"], "the log is of another snapshot")
    # The event's data: one offset, then the struct, whose second and third words repeat the topics.
    need(data[64:128] == topics[1] + topics[2], "the log's topics and data name different objects")
    return topics[1]


def check_file(receipt, source, file):
    need("file" in receipt, "the receipt is of a snapshot, not of a file")
    proof = receipt["file"]
    need(all(len(each) == 32 for each in proof["siblings"]), "a sibling is no hash")
    length, content_hash = check_file_proof(proof, receipt["snapshot"])
    need(proof["source"] == source, "the file is of another source than the log's")
    if file is not None:
        need(
            len(file) == length and plain_hash(file) == content_hash, "the file is another than the one in the snapshot"
        )
