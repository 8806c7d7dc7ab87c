"""encoding.md: canonical bytes, the hash H, Merkle trees. Everything here refuses what is not canonical."""

from blake3 import blake3

MIB = 1 << 20


class Refused(Exception):
    """The bytes are not what the pages ask for; the text says why."""


def need(condition, why):
    if not condition:
        raise Refused(why)


def H(context, *parts):
    """H(context; parts), and KDF, which is the same function."""
    return blake3(b"".join(parts), derive_key_context=context).digest()


KDF = H


def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)


def plain_hash(data):
    return blake3(data).digest()


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def prefixed(data):
    """The type `bytes`."""
    return varint(len(data)) + data


class Reader:
    """Takes fields from the front of an object; `end` must be called when it is read."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        need(0 <= count <= self.left(), "the object ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size, signed=False):
        return int.from_bytes(self.take(size), "little", signed=signed)

    def u8(self):
        return self.number(1)

    def varint(self, limit=(1 << 64) - 1):
        value = 0
        for place in range(10):
            byte = self.u8()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                need(byte or not place, "a varint is not in its shortest form")
                need(value <= limit, "a number is over its limit")
                return value
        raise Refused("a varint is longer than 10 bytes")

    def bytes(self, limit=64 * MIB):
        return self.take(self.varint(limit))

    def text(self, limit=64 * MIB):
        try:
            return self.bytes(limit).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("a text is not UTF-8") from None

    def hash(self):
        return self.take(32)

    def option(self, read):
        tag = self.u8()
        need(tag < 2, "an option begins with neither 0 nor 1")
        return read() if tag else None

    def list(self, read, limit=MIB):
        count = self.varint(limit)
        need(count <= self.left(), "a list has more items than bytes")
        return [read() for _ in range(count)]

    def header(self, magic, versions=(1,), bare=False):
        """The version. A bare header has no flag at all, also none that a reader may ignore."""
        need(self.take(4) == magic, f"the header is not {magic.decode()}")
        version = self.u8()
        need(version in versions, "the version is not known")
        need(self.u8() == 0, "a newer Blockhouse wrote this object")
        ignored = self.u8()
        need(not bare or ignored == 0, "a flag stands where none is taken")
        need(self.u8() == 0, "the last byte of the header is not zero")
        return version

    def end(self):
        need(self.left() == 0, "bytes follow the end")


def ascending(keys):
    return all(low < high for low, high in zip(keys, keys[1:]))


def merkle_root(leaves, tree):
    node = f"blockhouse v1 {tree} node"
    level = list(leaves)
    if not level:
        return H(node)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [H(node, left, right) for left, right in zip(level[::2], level[1::2])] + odd
    return level[0]


def merkle_climb(leaf, index, count, siblings, tree):
    """The root that a path leads to; the path must have exactly the siblings that index and count ask for."""
    need(index < count, "the leaf's index is past the number of leaves")
    node, siblings = leaf, list(siblings)
    while count > 1:
        if index ^ 1 < count:
            need(siblings, "the path has too few siblings")
            other = siblings.pop(0)
            pair = (other, node) if index % 2 else (node, other)
            node = H(f"blockhouse v1 {tree} node", *pair)
        index, count = index // 2, (count + 1) // 2
    need(not siblings, "the path has too many siblings")
    return node
