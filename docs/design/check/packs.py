"""chunks-and-packs.md: secrets, trailer, table, padding and chunks of a pack."""

from dataclasses import dataclass

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from encoding import KDF, MIB, Reader, Refused, keyed, need, u32

VERSION = b"\x01"


@dataclass(frozen=True)
class Reference:
    id: bytes
    key: bytes
    length: int


@dataclass(frozen=True)
class Entry:
    id: bytes
    codec: int
    offset: int
    sealed_length: int
    length: int


def subkeys(domain):
    """The id subkey and the key subkey of a domain."""
    return KDF("blockhouse v1 chunk id", domain), KDF("blockhouse v1 chunk key", domain)


def unseal(key, sealed, aad):
    """nonce: 12 │ ciphertext │ tag: 16"""
    need(len(sealed) >= 28, "a sealed object is too short")
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)
    except InvalidTag:
        raise Refused("a sealed object was altered or the key is another") from None


def read_reference(reader):
    found = Reference(reader.hash(), reader.hash(), reader.varint(MIB))
    need(found.length > 0, "a reference is to an empty chunk")
    return found


def open_chunk(sealed, codec, reference, id_subkey=None):
    """S2: the plain chunk that has the id asked for. Without an id subkey: a chunk with a random key of its own."""
    need(codec in (0, 1), "the codec is unknown")
    plain = unseal(reference.key, sealed, VERSION + bytes([codec]) + u32(reference.length))
    if codec == 1:
        need(len(plain) < reference.length, "a compressed chunk is not shorter than the plain one")
        need(plain[:5] == bytes.fromhex("28b52ffd00"), "the frame's descriptor is not 0")
        plain = decompress(plain, reference.length)
    need(len(plain) == reference.length, "the chunk has another length")
    subkey = id_subkey or KDF("blockhouse v1 random chunk id", reference.key)
    need(keyed(subkey, plain) == reference.id, "the chunk has another id")
    return plain


def decompress(frame, length):
    """Exactly one frame, never more than the length."""
    try:
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(f"the chunk does not decompress: {error}") from None


def padme(length):
    exponent = length.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return length + mask & ~mask


def open_pack(pack, index_key):
    """P1, P2, P3: the entries of the table; every byte of the pack is accounted for."""
    need(MIB // 4 <= len(pack) <= 64 * MIB, "the pack's length is impossible")
    sealed_trailer = pack[-52:]
    reader = Reader(unseal(KDF("blockhouse v1 pack trailer", index_key), sealed_trailer, VERSION))
    reader.header(b"BHPT")
    offset, length, count, zero = (reader.number(4) for _ in range(4))
    reader.end()
    used = offset + length
    need(zero == 0 and used + 52 <= len(pack), "the trailer points past the pack")
    need(len(pack) == min(padme(max(MIB // 4, used + 52)), 64 * MIB), "the pack has a length that no writer gives it")
    entries = read_table(unseal(KDF("blockhouse v1 pack table", index_key), pack[offset:used], VERSION), offset)
    need(len(entries) == count, "table and trailer give different numbers of chunks")
    filler = keyed(KDF("blockhouse v1 pack padding", index_key), sealed_trailer[:12], len(pack) - 52 - used)
    need(pack[used:-52] == filler, "the padding was altered")
    return entries


def read_table(table, end):
    reader = Reader(table)
    reader.header(b"BHPK")
    entries = reader.list(lambda: Entry(reader.hash(), reader.u8(), *(reader.number(4) for _ in range(3))), 65536)
    reader.end()
    need(entries, "the pack holds no chunk")
    at = 0
    for entry in entries:
        need(entry.offset == at and 1 <= entry.length <= MIB, "an entry does not begin where the one before ends")
        full = entry.length + 28
        fits = entry.sealed_length == full if entry.codec == 0 else 28 < entry.sealed_length < full
        need(entry.codec in (0, 1) and fits, "an entry's lengths do not fit its codec")
        at += entry.sealed_length
    need(at == end, "the table does not begin where the last chunk ends")
    return entries
