"""consensus.md, *Key ceremony*, and node.md, *Founding file*, *Enrolment*: how validators make a key together.

What the engine itself encodes, polynomials, commitments, shares, logs and their signatures, is taken as bytes."""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from encoding import H, Reader, Refused, ascending, need, prefixed

KINDS = {1: "here", 2: "deal", 3: "ack", 4: "log", 5: "complaint"}
ENROLMENT = b"blockhouse v1 enrolment"


@dataclass(frozen=True)
class Enrolment:
    key: bytes
    name: str
    address: str
    operator: bytes


def label(reader):
    text = reader.text(64)
    need(text and all(33 <= ord(each) <= 126 and each != "," for each in text), "a label is none")
    return text


def read_enrolment(data):
    need(len(data) <= 1024, "the enrolment is too long")
    reader = Reader(data)
    reader.header(b"BHNE", bare=True)
    key, name, address = reader.hash(), label(reader), reader.text(259)
    for _ in ("site", "provider", "region"):
        reader.option(lambda: label(reader))
    operator, signature = reader.option(lambda: reader.take(20)), reader.take(64)
    reader.end()
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, prefixed(ENROLMENT) + data[:-64])
    except (InvalidSignature, ValueError):
        raise Refused(f"the enrolment of {name} was altered") from None
    return Enrolment(key, name, address, operator)


@dataclass(frozen=True)
class Founding:
    number: bytes
    chain_id: int
    owner: bytes
    time: int
    enrolments: list


def read_founding(data):
    reader = Reader(data)
    reader.header(b"BHFO", bare=True)
    chain_id, owner, time = reader.number(8), reader.take(20), reader.number(8)
    reader.hash()
    enrolments = [read_enrolment(each) for each in reader.list(lambda: reader.bytes(1024), 128)]
    reader.end()
    need(enrolments and ascending([each.key for each in enrolments]), "the enrolments do not ascend")
    for apart in ([each.name for each in enrolments], [each.address for each in enrolments]):
        need(len(set(apart)) == len(apart), "two enrolments share a name or an address")
    need(1 << 32 <= chain_id < 1 << 53 and any(owner), "no ledger begins so")
    return Founding(H("blockhouse v1 founding", data), chain_id, owner, time, enrolments)


def read_message(data):
    """(ceremony, kind, what it says)."""
    need(len(data) <= 32 * 1024, "the message is too long")
    reader = Reader(data)
    reader.header(b"BHCM", bare=True)
    ceremony, kind = reader.hash(), KINDS.get(reader.u8())
    need(kind, "the message is of no known kind")
    said = here(reader) if kind == "here" else {"attempt": reader.hash()}
    if kind == "deal":
        said |= {"commitment": reader.bytes(32 * 1024), "share": reader.hash()}
    elif kind == "ack":
        said |= {"signature": reader.take(64)}
    elif kind == "log":
        said |= {"log": reader.bytes(32 * 1024)}
    elif kind == "complaint":
        said |= {"dealer": reader.hash()}
    reader.end()
    return ceremony, kind, said


def here(reader):
    incarnation, attempt = reader.varint(), reader.option(reader.hash)
    signed = reader.option(lambda: read_signed(reader))
    finished = reader.u8()
    need(finished < 2, "a flag is neither set nor not")
    return {"incarnation": incarnation, "attempt": attempt, "signed": signed, "finished": bool(finished)}


def read_signed(reader):
    attempt, logs = reader.hash(), reader.list(reader.hash, 128)
    signatures = reader.list(lambda: (reader.number(4), reader.take(64)), 256)
    need(ascending([place for place, _ in signatures]), "the signatures do not ascend")
    return {"attempt": attempt, "logs": logs, "signatures": signatures}


def read_record(data):
    """(how often the node began, what it agreed to last)."""
    reader = Reader(data)
    reader.header(b"BHNC")
    incarnation = reader.varint()
    agreed = reader.option(
        lambda: {
            "ceremony": reader.hash(),
            "attempt": reader.hash(),
            "logs": reader.list(reader.hash, 128),
            "polynomial": reader.bytes(32 * 1024),
        }
    )
    reader.end()
    return incarnation, agreed
