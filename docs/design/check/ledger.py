"""ledger.md: genesis, block objects, certificates, the fingerprint, closing blocks."""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from encoding import H, MIB, Reader, Refused, ascending, need, prefixed, u32, u64, varint
from ethereum import EMPTY_TRIE, keccak256, list_root, number, rlp, rlp_decode

HANDOVER = keccak256(b"handover(bytes32,bytes32)")[:4]
HANDOVER_WITH = keccak256(b"handoverWith(bytes32,bytes32,bytes[])")[:4]
NO_OMMERS = keccak256(rlp([]))
SIZES = [32, 32, 20, 32, 32, 32, 256, None, None, None, None, None, None, 32, 8, None, 32]


PLACES = ("epoch", "view", "parent")


@dataclass(frozen=True)
class Header:
    fields: list
    hash: bytes
    parent: bytes
    transactions_root: bytes
    receipts_root: bytes
    height: int
    extra: bytes

    @property
    def succession(self):
        """The key of the validators that follow, if this is a closing block."""
        return self.fields[13] if any(self.fields[13]) else None


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
    need(not any(b"".join([found[2], found[7], found[14], found[15]])), "a field that is always zero is not")
    if genesis is None:
        millis = int.from_bytes(header.extra, "big")
        need(header.extra == b"" or len(header.extra) == 2 and 1 <= millis <= 999, "the extra data are no milliseconds")
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
    governance: "Governance" = None


@dataclass(frozen=True)
class Governance:
    epoch_length: int
    threshold: int
    governors: list
    validators: list  # of (key, address, operator)


def read_genesis(data):
    reader = Reader(data)
    version = reader.header(b"BHGN", versions=(1, 2, 3))
    fields = [reader.hash(), reader.number(8), reader.take(20), reader.list(lambda: reader.take(20), 256), reader.hash()]
    need(1 << 32 <= fields[1] < 1 << 53, "the chain id is out of its range")
    reader.number(8), reader.number(8)
    reader.list(lambda: (reader.number(8), reader.u8()))
    reader.hash()
    governance = read_governance(reader, fields[4], version) if version > 1 else None
    reader.end()
    return Genesis(*fields, governance)


def read_governance(reader, ledger_key, version):
    """What version 2 adds: who keeps the ledger, and who may change that. Version 3: they share one key, whose arithmetic is not checked here."""
    length, threshold = reader.number(8), reader.u8()
    governors = reader.list(lambda: reader.take(20), 16)
    validators = reader.list(lambda: (reader.hash(), reader.text(259), reader.take(20)), 64)
    keys = [key for key, _, _ in validators]
    need(16 <= length <= 1 << 32, "the length of an epoch is out of range")
    need(0 < threshold <= len(governors), "changes need nobody's word, or more than there are")
    need(len(set(governors)) == len(governors) and bytes(20) not in governors, "a governor is nobody, or named twice")
    need(len(keys) >= 4 and ascending(keys), "the validators are too few, or do not ascend")
    need(all(address and any(key) and any(who) for key, address, who in validators), "a validator is nobody")
    if version == 2:
        need(network_key(3, keys) == ledger_key, "the validators are not those that the ledger key names")
    else:
        need(reader.bytes(16 * 1024), "validators that share one key have no polynomial")
    return Governance(length, threshold, governors, validators)


def call_of(transaction):
    """Whom a transaction calls, with what; nobody if it creates a contract."""
    typed = transaction[:1] == b"\2"
    fields = rlp_decode(transaction[typed:])
    return (fields[5], fields[7]) if typed else (fields[3], fields[5])


def handed_to(block, access):
    """The key that a block hands the ledger over to, if it does: its one transaction calls one of `Access`'s two forms, or the one before its charter."""
    is_alone = len(block.transactions) == 1
    if not is_alone and (len(block.transactions) != 2 or call_of(block.transactions[1])[0] != b""):
        return None
    to, data = call_of(block.transactions[0])
    is_call = (data[:4] == HANDOVER and len(data) == 68) or (data[:4] == HANDOVER_WITH and len(data) >= 132)
    return data[4:36] if to == access and is_call else None


def network_key(kind, keys):
    """The 32 bytes that name the key or keys of a network."""
    return H("blockhouse v1 network key", bytes([kind]), *keys)


def charter_key(length, threshold, governors, validators):
    """The hash of a charter, and the ledger key of its validators (key, address, operator) under it."""
    out = u64(length) + bytes([threshold]) + varint(len(governors)) + b"".join(governors) + varint(len(validators))
    out += b"".join(key + prefixed(address.encode()) + operator for key, address, operator in validators)
    charter = H("blockhouse v1 charter", out)
    return charter, network_key(6, [charter] + [key for key, _, _ in validators])


@dataclass(frozen=True)
class Committee:
    charter: bytes  # the hash of the charter that names the validators; nothing of most
    keys: list
    place: dict  # epoch, view, parent
    signers: list  # places among the keys, ascending
    signatures: list
    descendants: list

    def key(self):
        return network_key(6, [self.charter] + self.keys) if self.charter else network_key(3, self.keys)

    def signed(self):
        return [self.keys[place] for place in self.signers]


def read_committee(certificate):
    """The certificate of validators that sign one by one; nothing if it is of another kind."""
    reader = Reader(certificate)
    kind = reader.u8()
    if kind not in (3, 6):
        return None
    charter = reader.hash() if kind == 6 else None
    keys = reader.list(reader.hash, 128)
    need(keys and ascending(keys), "its validators do not ascend")
    place = {name: reader.varint() for name in PLACES}
    bits = int.from_bytes(reader.take((len(keys) + 7) // 8), "little")
    need(bits >> len(keys) == 0, "a signer is none of its validators")
    signers = [at for at in range(len(keys)) if bits >> at & 1]
    signatures = [reader.take(64) for _ in signers]
    descendants = reader.list(lambda: read_header(reader.bytes(1024)), 64)
    reader.end()
    return Committee(charter, keys, place, signers, signatures, descendants)


def check_committee(found, chain_id, header):
    """Each signature is over the engine's vote for the block, or for the last of the descendants that lead from it."""
    for after in found.descendants:
        need(after.parent == header.hash and after.height == header.height + 1, "a descendant does not follow")
        header = after
    count = len(found.keys)
    need(len(found.signers) >= count - (count - 1) // 3, "the signers are no quorum")
    name = b"blockhouse v1 network" + chain_id.to_bytes(8, "big") + b"_FINALIZE"
    vote = prefixed(name) + b"".join(varint(found.place[each]) for each in PLACES) + header.hash
    for key, signature in zip(found.signed(), found.signatures):
        verify(key, signature, vote)


def verify(key, signature, signed):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Refused("a signature of the certificate is not valid") from None


def check_certificate(certificate, ledger_key, chain_id, header):
    committee = read_committee(certificate)
    if committee:
        need(committee.key() == ledger_key, "the certificate is by another ledger key")
        return check_committee(committee, chain_id, header)
    reader = Reader(certificate)
    kind = reader.u8()
    need(kind != 2, "the certificate is of one shared key: its BLS12-381 signature is not checked here")
    need(kind == 1, "the certificate is of no known kind")
    key, signature = reader.hash(), reader.take(64)
    reader.end()
    need(key == ledger_key, "the certificate is by another ledger key")
    verify(key, signature, H("blockhouse v1 solo", u64(chain_id), u64(header.height), header.hash))


def follow(chain_id, links, key):
    """Each (key, height of the last block before its time) from a key along links: (header, certificate) each."""
    after = 0
    yield key, after
    for header, certificate in links:
        need(header.height > after, "a link stands below the one before it")
        committee = read_committee(certificate)
        need(committee and not committee.descendants, "a closing block was not signed itself, one by one")
        check_certificate(certificate, key, chain_id, header)
        need(header.succession, "a link is no closing block")
        key, after = header.succession, header.height
        yield key, after


def fingerprint(chain_id, genesis_hash, vault, ledger_key):
    return H("blockhouse v1 fingerprint", u32(1), u64(chain_id), genesis_hash, vault, ledger_key)
