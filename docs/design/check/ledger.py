"""ledger.md: genesis, block objects, certificates, the fingerprint."""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from encoding import H, MIB, Reader, Refused, need, u32, u64
from ethereum import EMPTY_TRIE, keccak256, list_root, number, rlp, rlp_decode

HANDOVER = keccak256(b"handover(bytes32,bytes32)")[:4]
NO_OMMERS = keccak256(rlp([]))
SIZES = [32, 32, 20, 32, 32, 32, 256, None, None, None, None, None, None, 32, 8, None, 32]


@dataclass(frozen=True)
class Header:
    fields: list
    hash: bytes
    parent: bytes
    transactions_root: bytes
    receipts_root: bytes
    height: int
    extra: bytes


def read_header(data):
    """A header of Shanghai: 17 fields."""
    fields = rlp_decode(data)
    need(isinstance(fields, list) and len(fields) == len(SIZES), "a header of Shanghai has 17 fields")
    for value, size in zip(fields, SIZES):
        need(
            isinstance(value, bytes) and (size is None or len(value) == size), "a field of the header has another size"
        )
    heights = [number(fields[place]) for place in (7, 8, 9, 10, 11, 15)]
    need(max(heights[1:5]) < 1 << 64, "a number of the header is over 64 bits")
    return Header(fields, keccak256(data), fields[0], fields[4], fields[5], heights[1], fields[12])


@dataclass(frozen=True)
class Block:
    chain_id: int
    header: Header
    transactions: list
    certificate: bytes
    genesis: bytes


def read_block(data):
    """A block object of a site, and all that its bytes alone can tell. Execution is not repeated here."""
    reader = Reader(data)
    reader.header(b"BHBL")
    chain_id, block, certificate = reader.number(8), reader.bytes(4 * MIB), reader.bytes(64 * 1024)
    items = rlp_decode(block)
    need(isinstance(items, list) and len(items) == 4, "a block of Shanghai has 4 parts")
    header = read_header(rlp(items[0]))
    genesis = reader.bytes(64 * 1024) if header.height == 0 else None
    reader.end()
    need(isinstance(items[1], list) and items[2:] == [[], []], "a block has ommers or withdrawals")
    # A transaction with a type stands in the block as a byte string, a legacy one as a list.
    transactions = [each if isinstance(each, bytes) else rlp(each) for each in items[1]]
    need(list_root(transactions) == header.transactions_root, "the transactions give another root")
    found = header.fields
    need(found[1] == NO_OMMERS and found[16] == EMPTY_TRIE, "the header names ommers or withdrawals")
    need(not any(b"".join([found[2], found[7], found[13], found[14], found[15]])), "a field that is always zero is not")
    if genesis is None:
        need(header.extra == b"", "extra data stand in a block above 0")
    else:
        need(
            header.extra == H("blockhouse v1 genesis", genesis), "the genesis object is not the one that block 0 names"
        )
    return Block(chain_id, header, transactions, certificate, genesis)


@dataclass(frozen=True)
class Genesis:
    vault: bytes
    chain_id: int
    owner: bytes
    recovery: list
    ledger_key: bytes


def read_genesis(data):
    reader = Reader(data)
    reader.header(b"BHGN")
    genesis = Genesis(
        reader.hash(), reader.number(8), reader.take(20), reader.list(lambda: reader.take(20), 256), reader.hash()
    )
    need(1 << 32 <= genesis.chain_id < 1 << 53, "the chain id is out of its range")
    reader.number(8), reader.number(8)
    reader.list(lambda: (reader.number(8), reader.u8()))
    reader.hash()
    reader.end()
    return genesis


def handed_to(block, access):
    """The key that a block hands the ledger over to, if it does: its one transaction calls `Access.handover`."""
    if len(block.transactions) != 1:
        return None
    typed = block.transactions[0][:1] == b"\2"
    fields = rlp_decode(block.transactions[0][typed:])
    to, data = (fields[5], fields[7]) if typed else (fields[3], fields[5])
    return data[4:36] if to == access and data[:4] == HANDOVER and len(data) == 68 else None


def check_certificate(certificate, ledger_key, chain_id, header):
    reader = Reader(certificate)
    need(reader.u8() == 1, "the certificate is of no known kind")
    key, signature = reader.hash(), reader.take(64)
    reader.end()
    need(key == ledger_key, "the certificate is by another ledger key")
    signed = H("blockhouse v1 solo", u64(chain_id), u64(header.height), header.hash)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Refused("the certificate's signature is not valid") from None


def fingerprint(chain_id, genesis_hash, vault, ledger_key):
    return H("blockhouse v1 fingerprint", u32(1), u64(chain_id), genesis_hash, vault, ledger_key)
