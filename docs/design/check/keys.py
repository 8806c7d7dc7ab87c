"""keys.md: what an identity opens, wraps and the key bag; and the part of the age format that they need."""

import base64
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from encoding import H, Reader, Refused, ascending, need, prefixed, varint

LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def checksum(values):
    total = 1
    for value in values:
        top, total = total >> 25, (total & 0x1FFFFFF) << 5 ^ value
        for place, step in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            total ^= step if top >> place & 1 else 0
    return total


def spread(prefix):
    return [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]


def bech32(prefix, key):
    """32 bytes as 52 groups of 5 bits, and 6 more of checksum."""
    bits = int.from_bytes(key, "big") << 4
    groups = [bits >> 5 * (51 - at) & 31 for at in range(52)]
    total = checksum(spread(prefix) + groups + [0] * 6) ^ 1
    return prefix + "1" + "".join(LETTERS[each] for each in groups + [total >> 5 * (5 - at) & 31 for at in range(6)])


def bech32_key(prefix, text):
    groups = [LETTERS.find(each) for each in text[len(prefix) + 1 :]]
    need(text.startswith(prefix + "1") and len(groups) == 58 and min(groups) >= 0, "a key is not written as age does")
    bits = int("".join(f"{each:05b}" for each in groups[:52]), 2)
    key = (bits >> 4).to_bytes(32, "big")
    need(bech32(prefix, key) == text, "the checksum of a key differs")
    return key


@dataclass(frozen=True)
class Identity:
    vault: bytes
    secret: bytes

    def recipient(self):
        return bech32("age", X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw())


def read_identity(text):
    lines = [line.rstrip("\r") for line in text.split("\n") if line.rstrip("\r")]
    starts = [
        "# blockhouse identity, version 1",
        "# vault: ",
        "# owner account: 0x",
        "# owner secret: 0x",
        "AGE-SECRET-KEY-1",
    ]
    need(len(lines) == 5 and all(map(str.startswith, lines, starts)), "this is no plain identity file")
    return Identity(bytes.fromhex(lines[1][9:]), bech32_key("age-secret-key-", lines[4].lower()))


def derive(key, salt, info):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def opened(key, nonce, sealed):
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return None


def age_open(data, secret):
    """age-encryption.org/v1 with X25519: stanzas, a MAC over them, the payload in pieces of 64 KiB."""
    end = data.find(b"\n--- ")
    need(data.startswith(b"age-encryption.org/v1\n") and end > 0, "this is no age file")
    mac, payload = data[end + 5 : end + 48], data[end + 49 :]
    file_key = next(
        (key for key in map(lambda each: unwrap(each, secret), data[:end].split(b"\n-> ")[1:]) if key), None
    )
    need(file_key, "the age file is for others")
    expected = hmac.digest(derive(file_key, b"", b"header"), data[: end + 4], "sha256")
    need(base64.b64encode(expected)[:43] == mac, "the header of the age file was altered")
    key, plain, pieces = derive(file_key, payload[:16], b"payload"), b"", range(16, len(payload), 65552)
    for count, at in enumerate(pieces):
        nonce = count.to_bytes(11, "big") + bytes([at == pieces[-1]])
        piece = opened(key, nonce, payload[at : at + 65552])
        need(piece is not None, "the age file was altered")
        plain += piece
    return plain


def unwrap(stanza, secret):
    head, _, body = stanza.partition(b"\n")
    words = head.split(b" ")
    if words[0] != b"X25519" or len(words) != 2:
        return None
    own = X25519PrivateKey.from_private_bytes(secret)
    try:
        share, body = base64.b64decode(words[1] + b"="), base64.b64decode(body.replace(b"\n", b"") + b"=")
        shared = own.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise Refused("a stanza of the age file is broken") from None
    key = derive(shared, share + own.public_key().public_bytes_raw(), b"age-encryption.org/v1/X25519")
    return opened(key, bytes(12), body)


def recipient_id(kind, public):
    return H("blockhouse v1 recipient", bytes([kind]), prefixed(public.encode()))


def set_hash(ids):
    return H("blockhouse v1 recipient set", varint(len(ids)) + b"".join(ids))


def manifest_key(data, snapshot, identity):
    """The manifest key out of the wraps of a snapshot, and the hash of the set they are for."""
    reader = Reader(data)
    reader.header(b"BHWR")
    need(reader.hash() == snapshot, "the wraps are of another snapshot")
    reader.number(4)
    stated = reader.hash()
    wraps = reader.list(lambda: (reader.u8(), reader.hash(), reader.bytes(1024)), 256)
    reader.end()
    ids = [each for _, each, _ in wraps]
    need(ids and ascending(ids) and set_hash(ids) == stated, "the recipients do not give the set hash")
    own = [sealed for kind, each, sealed in wraps if (kind, each) == (1, recipient_id(1, identity.recipient()))]
    need(own, "the identity is none of the recipients")
    key = age_open(own[0], identity.secret)
    need(len(key) == 32, "a manifest key has another length")
    return key, stated


@dataclass(frozen=True)
class Bag:
    hash: bytes
    version: int
    vault_secret: bytes
    recipients: list
    sites: list
    code: tuple
    chain_id: int
    genesis: bytes
    vault_address: bytes
    access_address: bytes


def open_bag(data, identity):
    reader = Reader(data)
    reader.header(b"BHKB")
    need(reader.hash() == identity.vault, "the key bag is of another vault")
    version, sealed = reader.number(4), reader.bytes()
    reader.end()
    plain = Reader(age_open(sealed, identity.secret))
    secret, _ = plain.hash(), plain.hash()
    recipients = plain.list(lambda: (plain.u8(), plain.text(), plain.u8(), plain.text(256)))
    sites = plain.list(lambda: (plain.hash(), *(plain.text(4096) for _ in range(4))))
    rest = (plain.u8(), plain.u8()), plain.number(8), plain.hash(), plain.take(20), plain.take(20)
    plain.end()
    ids = [recipient_id(kind, public) for kind, public, _, _ in recipients]
    need(ascending(ids), "the recipients of the key bag are not ascending")
    return Bag(H("blockhouse v1 key bag", data), version, secret, recipients, sites, *rest)


def check_host_secrets(data):
    """The host's secrets, by the check that stands at their end."""
    reader = Reader(data)
    reader.header(b"BHHS")
    reader.take(32 + 8 + 6 * 32)
    need(
        H("blockhouse v1 host secrets", reader.data[: reader.at]) == reader.hash(),
        "the check of the host's secrets differs",
    )
    reader.end()
