"""What Ethereum gives: keccak256, RLP, Merkle Patricia tries, accounts from signatures. From its yellow paper."""

from functools import lru_cache

from encoding import need

MASK = (1 << 64) - 1
EMPTY_TRIE = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")


def round_constants():
    register, out = 1, []
    for _ in range(24):
        value = 0
        for place in range(7):
            value |= (register & 1) << (1 << place) - 1
            register = register << 1 ^ (0x171 if register & 128 else 0)
        out.append(value)
    return out


def moves():
    """Where the steps rho and pi take each lane from, and by how much they turn it."""
    x, y, out = 1, 0, [(0, 0)] * 25
    for step in range(24):
        target = (y, (2 * x + 3 * y) % 5)
        out[target[0] + 5 * target[1]] = (x + 5 * y, (step + 1) * (step + 2) // 2 % 64)
        x, y = target
    return out


ROUNDS, MOVES = round_constants(), moves()
CHI = [(at, at - at % 5 + (at + 1) % 5, at - at % 5 + (at + 2) % 5) for at in range(25)]


def rotate(lane, count):
    return (lane << count | lane >> 64 - count) & MASK


def permute(a):
    """Keccak-f[1600] on 25 lanes, lane x + 5y."""
    for constant in ROUNDS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ rotate(c[(x + 1) % 5], 1) for x in range(5)]
        a = [lane ^ d[at % 5] for at, lane in enumerate(a)]
        b = [rotate(a[source], count) for source, count in MOVES]
        a = [b[at] ^ ~b[one] & b[two] for at, one, two in CHI]
        a[0] ^= constant
    return a


@lru_cache(maxsize=1024)
def keccak256(data):
    rate, lanes = 136, [0] * 25
    padded = bytearray(data + bytes(rate - len(data) % rate))
    padded[len(data)] ^= 1
    padded[-1] ^= 128
    for start in range(0, len(padded), rate):
        for at in range(rate // 8):
            lanes[at] ^= int.from_bytes(padded[start + 8 * at : start + 8 * at + 8], "little")
        lanes = permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def rlp(item):
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 128 else rlp_length(len(item), 128) + item
    body = b"".join(map(rlp, item))
    return rlp_length(len(body), 192) + body


def rlp_length(length, base):
    if length < 56:
        return bytes([base + length])
    size = (length.bit_length() + 7) // 8
    return bytes([base + 55 + size]) + length.to_bytes(size, "big")


def rlp_decode(data):
    """Bytes and lists; any other encoding of the same item is refused, and so are bytes after the end."""
    item, end = rlp_item(data, 0, 0)
    need(end == len(data) and rlp(item) == data, "RLP is not canonical")
    return item


def rlp_item(data, at, depth):
    need(at < len(data) and depth < 16, "RLP ends too early or is too deep")
    first = data[at]
    if first < 128:
        return data[at : at + 1], at + 1
    base, at = (192 if first >= 192 else 128), at + 1
    length = first - base
    if length > 55:
        size, at = length - 55, at + length - 55
        length = int.from_bytes(data[at - size : at], "big")
    end = at + length
    need(end <= len(data), "RLP ends too early")
    if base == 128:
        return data[at:end], end
    items = []
    while at < end:
        item, at = rlp_item(data, at, depth + 1)
        items.append(item)
    need(at == end, "an item of RLP passes the end of its list")
    return items, end


def number(item):
    need(isinstance(item, bytes) and len(item) <= 32 and item[:1] != b"\0", "RLP holds no number where one is needed")
    return int.from_bytes(item, "big")


def nibbles(key):
    return [half for byte in key for half in (byte >> 4, byte & 15)]


def packed(path, leaf):
    """The hex prefix encoding of a path."""
    flags = [2 * leaf + 1] if len(path) % 2 else [2 * leaf, 0]
    full = flags + path
    return bytes(high << 4 | low for high, low in zip(full[::2], full[1::2]))


def trie_root(values, nodes=None):
    """The root over a dict of key to value; `nodes`, if given, receives every hashed node."""
    if not values:
        return EMPTY_TRIE
    nodes = {} if nodes is None else nodes
    encoded = rlp(trie_node(sorted((nibbles(key), value) for key, value in values.items()), nodes))
    nodes[keccak256(encoded)] = encoded
    return keccak256(encoded)


def trie_node(items, nodes):
    first, last = items[0][0], items[-1][0]
    if len(items) == 1:
        return [packed(first, True), items[0][1]]
    shared = next((at for at, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    if shared:
        return [packed(first[:shared], False), trie_link([(path[shared:], value) for path, value in items], nodes)]
    branch = [b""] * 17
    for nibble in range(16):
        below = [(path[1:], value) for path, value in items if path[:1] == [nibble]]
        if below:
            branch[nibble] = trie_link(below, nodes)
    branch[16] = items[0][1] if not first else b""
    return branch


def trie_link(items, nodes):
    node = trie_node(items, nodes)
    encoded = rlp(node)
    if len(encoded) < 32:
        return node
    nodes[keccak256(encoded)] = encoded
    return keccak256(encoded)


def list_root(values):
    """The root over a list: transactions, receipts."""
    return trie_root({rlp(index): value for index, value in enumerate(values)})


def proven(root, key, proof):
    """The value that a proof shows at a key: nodes from the root down, those under 32 bytes inside their parent."""
    path, link, proof = nibbles(key), root, list(proof)
    while True:
        if isinstance(link, bytes):
            need(len(link) == 32 and proof, "the proof ends too early")
            need(keccak256(proof[0]) == link, "a node of the proof has another hash")
            link = rlp_decode(proof.pop(0))
        node = link
        need(isinstance(node, list) and len(node) in (2, 17), "a node of the proof is neither branch nor path")
        if len(node) == 17 and path:
            link, path = node[path[0]], path[1:]
            continue
        if len(node) == 2:
            need(isinstance(node[0], bytes) and node[0], "a path of the proof is empty")
            prefix = nibbles(node[0])
            leaf, prefix = prefix[0] >= 2, prefix[1 if prefix[0] % 2 else 2 :]
            need(
                node[0] == packed(prefix, leaf) and path[: len(prefix)] == prefix, "a path of the proof leads elsewhere"
            )
            path = path[len(prefix) :]
            if not leaf:
                link = node[1]
                continue
        need(not path and not proof, "the proof does not end at the key")
        need(isinstance(node[-1], bytes) and node[-1], "the proof shows no value")
        return node[-1]


# secp256k1: y² = x³ + 7
P = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def scale(factor, point):
    total = None
    while factor:
        total = add(total, point) if factor & 1 else total
        point, factor = add(point, point), factor >> 1
    return total


def recover_account(digest, signature):
    """The account whose signature r: 32 │ s: 32 │ v: 0 or 1, with low s, this is."""
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    need(0 < r < ORDER and 0 < s <= ORDER // 2 and v < 2, "the signature is not canonical")
    square = (pow(r, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    need(y * y % P == square, "the signature is of no point")
    y = y if y % 2 == v else P - y
    inverse = pow(r, -1, ORDER)
    point = add(scale(s * inverse % ORDER, (r, y)), scale(-int.from_bytes(digest, "big") * inverse % ORDER, GENERATOR))
    need(point is not None, "the signature is of no key")
    return keccak256(point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big"))[12:]
