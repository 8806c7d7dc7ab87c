"""stripes.md: one shard file checked alone, a pack rebuilt from any k of them, whose stripe it is."""

from dataclasses import dataclass

from encoding import H, MIB, Reader, Refused, merkle_root, need, u64
from ethereum import recover_account

LEAF = 16384


@dataclass(frozen=True)
class Shard:
    vault: bytes
    stripe: bytes
    session: bytes
    writer: bytes
    signature: bytes
    k: int
    m: int
    index: int
    pack_length: int
    roots: tuple
    payload: bytes


def read_shard(file):
    """T1: everything that one shard says of itself holds, or it is refused. No key, no other file."""
    reader = Reader(file)
    reader.header(b"BHSH")
    vault, stripe, session, writer, signature = (reader.take(size) for size in (32, 32, 32, 20, 65))
    k, m, index, zero = reader.take(4)
    pack_length, length = reader.number(8), reader.number(8)
    need(k >= 1 and k + m <= 255 and index < k + m and zero == 0, "the code or the index is impossible")
    need(MIB // 4 <= pack_length <= 64 * MIB, "the pack's length is impossible")
    need(length == -(-pack_length // k), "the payload's length does not follow from the pack's")
    roots = tuple(reader.hash() for _ in range(k + m))
    need(H("blockhouse v1 shard header", reader.data[: reader.at]) == reader.hash(), "the header hash differs")
    need(
        H("blockhouse v1 stripe", vault, bytes([k, m]), u64(pack_length), u64(length), *roots) == stripe,
        "the stripe id differs",
    )
    leaves = [reader.hash() for _ in range(-(-length // LEAF))]
    need(merkle_root(leaves, "shard") == roots[index], "the leaf hashes do not give the root")
    payload = reader.take(length)
    reader.end()
    need(leaf_hashes(payload) == leaves, "the payload does not give the leaf hashes")
    return Shard(vault, stripe, session, writer, signature, k, m, index, pack_length, roots, payload)


def check_claim(shard):
    """T4: the signature is of the account that the header names."""
    digest = H("blockhouse v1 stripe writer", shard.vault, shard.session, shard.stripe)
    need(recover_account(digest, shard.signature) == shard.writer, "the writer's signature is not by the writer")


def leaf_hashes(payload):
    return [H("blockhouse v1 shard leaf", payload[at : at + LEAF]) for at in range(0, len(payload), LEAF)]


def shard_name(shard):
    stripe = shard.stripe.hex()
    return f"shards/{stripe[:2]}/{stripe}-{shard.index:02x}"


def rebuild(shards):
    """T2: the pack from any k good shards of one stripe; every run of the stripe is compared with its root."""
    need(shards, "there is no shard")
    first = shards[0]
    need(all(shard.stripe == first.stripe for shard in shards), "the shards are of different stripes")
    held = {shard.index: shard.payload for shard in shards}
    need(len(held) >= first.k, f"{len(held)} shards are here, {first.k} are needed")
    chosen = sorted(held)[: first.k]
    code = code_matrix(first.k, first.k + first.m)
    back = invert([code[index] for index in chosen])
    data = [combine(row, [held[index] for index in chosen]) for row in back]
    for index, row in enumerate(code):
        run = data[index] if index < first.k else combine(row, data)
        need(merkle_root(leaf_hashes(run), "shard") == first.roots[index], f"run {index} was coded wrong by its writer")
    pack = b"".join(data)
    need(not any(pack[first.pack_length :]), "the padding of the last run is not zero")
    return pack[: first.pack_length]


# The field with 256 elements and polynomial 0x11d, in which 2 generates all but zero.
EXP = [1]
while len(EXP) < 510:
    EXP.append(EXP[-1] << 1 if EXP[-1] < 128 else EXP[-1] << 1 ^ 0x11D)
LOG = {value: power for power, value in enumerate(EXP[:255])}


def times(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def power(base, exponent):
    if exponent == 0:
        return 1
    return EXP[LOG[base] * exponent % 255] if base else 0


def code_matrix(k, n):
    vandermonde = [[power(row, column) for column in range(k)] for row in range(n)]
    return multiply(vandermonde, invert(vandermonde[:k]))


def multiply(left, right):
    out = [[0] * len(right[0]) for _ in left]
    for row, line in zip(out, left):
        for factor, other in zip(line, right):
            for column, value in enumerate(other):
                row[column] ^= times(factor, value)
    return out


def invert(matrix):
    """Gauss and Jordan on the matrix with the identity beside it."""
    size = len(matrix)
    rows = [list(line) + [int(at == column) for column in range(size)] for at, line in enumerate(matrix)]
    for column in range(size):
        pivot = next((at for at in range(column, size) if rows[at][column]), None)
        if pivot is None:
            raise Refused("the matrix has no inverse")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = EXP[-LOG[rows[column][column]] % 255]
        rows[column] = [times(scale, value) for value in rows[column]]
        for at in range(size):
            factor = rows[at][column]
            if at != column and factor:
                rows[at] = [value ^ times(factor, other) for value, other in zip(rows[at], rows[column])]
    return [line[size:] for line in rows]


def combine(row, runs):
    """The sum of the runs, each times its factor: a table of products per factor, then XOR of whole runs."""
    total = 0
    for factor, run in zip(row, runs):
        total ^= int.from_bytes(run.translate(bytes(times(factor, value) for value in range(256))), "little")
    return total.to_bytes(len(runs[0]), "little")
