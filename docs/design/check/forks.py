"""forks.md: evidence that a ledger has forked, checked with nothing but the fingerprint."""

from dataclasses import dataclass

from encoding import Reader, need
from ledger import PLACES, check_certificate, fingerprint, follow, read_committee, read_header


@dataclass(frozen=True)
class Fork:
    fingerprint: bytes
    chain_id: int
    height: int
    blocks: list  # the two hashes, ascending
    signers: list  # the keys that signed both
    one_view: bool


def read_pair(reader):
    """A header with its certificate."""
    return read_header(reader.bytes(1024)), reader.bytes(64 * 1024)


def read_fork(data):
    """Chain id, hash of block 0, account of `Vault`, the oldest key, links and both sides; nothing is checked yet."""
    reader = Reader(data)
    reader.header(b"BHFK", bare=True)
    root = reader.number(8), reader.hash(), reader.take(20), reader.hash()
    links = reader.list(lambda: read_pair(reader), 64)
    sides = [read_pair(reader), read_pair(reader)]
    reader.end()
    (first, _), (second, _) = sides
    need(first.hash <= second.hash, "the blocks are not in the order of their hashes")
    return root, links, sides


def check_fork(data, wanted=None):
    """The fork that is proved. Without a fingerprint that of the last key is only shown."""
    (chain_id, genesis, vault, oldest), links, sides = read_fork(data)
    keys = list(follow(chain_id, links, oldest))
    key, after = keys[-1]
    had = [fingerprint(chain_id, genesis, vault, each) for each, _ in keys]
    need(wanted is None or wanted in had, f"the evidence is of the fingerprint {had[-1].hex()}")
    (first, one), (second, other) = sides
    need(first.height == second.height, "the blocks are of two heights")
    need(first.hash != second.hash, "it is one block, twice")
    need(first.height > after, "the blocks stand below the time of that key, or are block 0")
    for header, certificate in sides:
        check_certificate(certificate, key, chain_id, header)
    signers, one_view = [key], False
    ours, theirs = read_committee(one), read_committee(other)
    if ours:
        signers = [each for each in ours.signed() if each in theirs.signed()]
        one_view = all(ours.place[name] == theirs.place[name] for name in PLACES[:2])
    return Fork(wanted or had[-1], chain_id, first.height, [first.hash, second.hash], signers, one_view)
