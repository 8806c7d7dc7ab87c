"""manifests.md: content, tree, leaves, manifest, snapshot id, stripe list, reader's map, file proof."""

from dataclasses import dataclass, field

from encoding import (
    H,
    KDF,
    MIB,
    Reader,
    ascending,
    keyed,
    merkle_climb,
    merkle_root,
    need,
    plain_hash,
    prefixed,
    u32,
    u64,
    varint,
)
from ethereum import keccak256
from packs import read_reference, unseal

LIST_LIMIT = 4096
DIRECTORY, FILE, SYMLINK, CHARACTER, BLOCK, UNREADABLE = 0, 1, 2, 4, 5, 7


@dataclass(frozen=True)
class Content:
    length: int
    depth: int
    extents: bytes


def read_content(reader):
    content = Content(reader.varint(), reader.u8(), reader.bytes(LIST_LIMIT))
    need(content.depth <= 4, "the content is deeper than 4")
    need(content.length or not (content.depth or content.extents), "empty content has extents")
    return content


def parse_extents(data):
    """A list of (reference or None for a hole, offset, length)."""
    reader, extents = Reader(data), []
    while reader.left():
        kind = reader.u8()
        need(kind < 3, "an extent is of no known kind")
        reference = read_reference(reader) if kind else None
        offset = reader.varint() if kind == 2 else 0
        length = reference.length if kind == 1 else reader.varint()
        need(length > 0, "an extent is empty")
        if kind == 0:
            need(not extents or extents[-1][0], "neighbouring holes are not merged")
        if kind == 2:
            need(offset + length <= reference.length, "a part passes the end of its chunk")
            need(length < reference.length, "a part that is whole is not written as whole")
        extents.append((reference, offset, length))
    return extents


def extents_of(content, fetch):
    """The extents that are the content's own bytes. `fetch` gives the plain chunk of a reference."""
    encoded = content.extents
    for _ in range(content.depth):
        extents = parse_extents(encoded)
        need(all(reference for reference, _, _ in extents), "a stored list of extents has a hole")
        encoded = join(extents, fetch)
        need(len(encoded) > LIST_LIMIT, "a stored list of extents is short")
    extents = parse_extents(encoded)
    need(sum(length for _, _, length in extents) == content.length, "the extents do not sum to the length")
    return extents


def join(extents, fetch):
    return b"".join(fetch(found)[at : at + length] if found else bytes(length) for found, at, length in extents)


@dataclass
class Record:
    name: bytes
    kind: int
    facts: bytes = b""
    content: Content = None
    content_hash: bytes = bytes(32)
    path: bytes = b""
    more: dict = field(default_factory=dict)


def read_record(data):
    reader = Reader(data)
    name = reader.bytes(4095)
    need(name not in (b"", b".", b"..") and not set(name) & set(b"\0/"), "a name is impossible")
    record, start = Record(name, reader.u8()), reader.at - 1
    need(record.kind <= UNREADABLE, "an entry is of no known kind")
    reader.varint(0o7777), reader.varint((1 << 32) - 1), reader.varint((1 << 32) - 1)
    facts = reader.data[start : reader.at]
    record.more["user"], record.more["group"] = reader.bytes(4095), reader.bytes(4095)
    facts += reader.take(12)
    need(int.from_bytes(facts[-4:], "little") < 10**9, "nanoseconds are past a second")
    record.more["link"] = reader.option(lambda: (reader.varint(), reader.varint()))
    need(record.kind != DIRECTORY or record.more["link"] is None, "a directory is linked")
    attributes = reader.list(lambda: (reader.bytes(MIB), reader.bytes(MIB)))
    need(ascending([name for name, _ in attributes]), "the attributes are not ascending")
    record.more["attributes"] = attributes
    read_by_kind(record, reader)
    reader.end()
    length = record.content.length if record.kind == FILE else 0
    shown = plain_hash(record.more["target"]) if record.kind == SYMLINK else record.content_hash
    record.facts = facts + varint(length) + shown
    return record


def read_by_kind(record, reader):
    if record.kind in (DIRECTORY, FILE):
        record.content = read_content(reader)
    if record.kind == FILE:
        record.content_hash = reader.hash()
    if record.kind == SYMLINK:
        record.more["target"] = reader.bytes(MIB)
    if record.kind in (CHARACTER, BLOCK):
        record.more["device"] = reader.varint(), reader.varint()
    if record.kind == UNREADABLE:
        record.more["was"], record.more["reason"] = reader.u8(), reader.text(MIB)
        need(record.more["was"] <= UNREADABLE, "what could not be read is of no known kind")


def read_listing(data):
    reader, records = Reader(data), []
    while reader.left():
        records.append(read_record(reader.bytes(MIB)))
    need(ascending([record.name for record in records]), "the names of a listing are not ascending")
    return records


def walk(root, fetch):
    """Every entry, with its path, in depth-first order."""
    found, waiting = [], [(b"", root)]
    while waiting:
        above, item = waiting.pop()
        if isinstance(item, Record):
            item.path = above + item.name
            found.append(item)
            above, item = item.path + b"/", item.content if item.kind == DIRECTORY else None
        if item is not None:
            records = read_listing(join(extents_of(item, fetch), fetch))
            waiting += [(above, record) for record in reversed(records)]
    return found


def entry_salt(manifest_key, index):
    return keyed(KDF("blockhouse v1 entry salt", manifest_key), u64(index))


def entry_leaf(salt, path, facts):
    return H("blockhouse v1 entry leaf", salt, prefixed(path), prefixed(facts))


def entry_leaves(records, manifest_key):
    return [entry_leaf(entry_salt(manifest_key, at), record.path, record.facts) for at, record in enumerate(records)]


@dataclass(frozen=True)
class Manifest:
    source: bytes
    domain_kind: int
    id_subkey: bytes
    salt: bytes
    parent: bytes
    root: Content
    encoded_root: bytes
    entries: int
    entries_root: bytes
    facts: list


def read_manifest(data):
    reader = Reader(data)
    reader.header(b"BHMF")
    need(data[6] == 0, "a manifest takes no flags")
    head = reader.hash(), reader.u8(), reader.hash(), reader.hash(), reader.option(reader.hash)
    need(head[1] <= 3, "the domain is of no known kind")
    start = reader.at
    root = read_content(reader)
    encoded_root = reader.data[start : reader.at]
    manifest = Manifest(
        *head,
        root,
        encoded_root,
        reader.varint(),
        reader.hash(),
        reader.list(lambda: (reader.text(255), reader.bytes())),
    )
    reader.end()
    names = [name.encode() for name, _ in manifest.facts]
    need(all(names) and ascending(names), "the facts are not ascending")
    for name, value in manifest.facts:
        check_fact(name, Reader(value))
    return manifest


def check_fact(name, value):
    kinds = {"host": value.text, "tool": value.text, "roots": lambda: value.list(value.bytes)}
    kinds |= dict.fromkeys(("started", "finished"), lambda: value.number(8, signed=True))
    kinds |= dict.fromkeys(("tags", "excludes"), lambda: value.list(value.text))
    kinds |= dict.fromkeys(("files", "bytes", "unreadable"), value.varint)
    if name in kinds:
        kinds[name]()
        value.end()


def facts_root(manifest, manifest_key):
    key = KDF("blockhouse v1 fact salt", manifest_key)
    fact = lambda at, name, value: H(
        "blockhouse v1 fact leaf", keyed(key, u64(at)), prefixed(name.encode()), prefixed(value)
    )
    return merkle_root([fact(at, *pair) for at, pair in enumerate(manifest.facts)], "fact")


def tree_root(manifest):
    parent = b"\0" if manifest.parent is None else b"\1" + manifest.parent
    return H(
        "blockhouse v1 tree root", bytes([manifest.domain_kind]), manifest.id_subkey, parent, manifest.encoded_root
    )


def plain_root(tree, entries, entries_root, facts, root_of_facts):
    return H("blockhouse v1 plain root", tree, u64(entries), entries_root, u64(facts), root_of_facts)


def manifest_key_hash(manifest_key):
    return H("blockhouse v1 manifest key", manifest_key)


def snapshot_id(vault, source, salt, root, key_hash):
    return H("blockhouse v1 snapshot", vault, source, salt, root, key_hash)


@dataclass(frozen=True)
class Snapshot:
    vault: bytes
    id: bytes
    source: bytes
    session: bytes
    writer: bytes
    list_root: bytes
    sealed: bytes
    object_hash: bytes


def read_snapshot(data):
    reader = Reader(data)
    reader.header(b"BHSN")
    head = [reader.take(size) for size in (32, 32, 32, 32, 20, 32)]
    snapshot = Snapshot(*head, reader.bytes(MIB), H("blockhouse v1 snapshot object", data))
    reader.end()
    return snapshot


def open_manifest(snapshot, manifest_key):
    """M1: the manifest, after the snapshot id was recomputed from it and the key."""
    manifest = read_manifest(unseal(KDF("blockhouse v1 manifest seal", manifest_key), snapshot.sealed, snapshot.id))
    need(manifest.source == snapshot.source, "manifest and snapshot object name different sources")
    facts = len(manifest.facts), facts_root(manifest, manifest_key)
    root = plain_root(tree_root(manifest), manifest.entries, manifest.entries_root, *facts)
    found = snapshot_id(snapshot.vault, manifest.source, manifest.salt, root, manifest_key_hash(manifest_key))
    need(found == snapshot.id, "the manifest has another snapshot id")
    return manifest


def check_tree(manifest, records, manifest_key):
    need(len(records) == manifest.entries, "the tree has another number of entries")
    need(
        merkle_root(entry_leaves(records, manifest_key), "entry") == manifest.entries_root,
        "the tree has another entries root",
    )


def stripe_ids(root, fetch, depth=0, prefix="", count=None):
    """The stripes of a list. `fetch` gives the node of a hash; every rule of the canonical form is checked."""
    need(depth <= 64, "the list is too deep")
    data = fetch(root)
    need(keccak256(data) == root, "a node of the list has another hash")
    reader = Reader(data)
    reader.header(b"BHSL")
    need(reader.u8() == depth, "a node of the list is at another depth")
    inner = reader.u8()
    need(inner < 2, "a node of the list is of no known kind")
    if inner:
        bitmap, found = reader.number(2), []
        for nibble in (place for place in range(16) if bitmap >> place & 1):
            held, node = reader.varint(), reader.hash()
            found += stripe_ids(node, fetch, depth + 1, prefix + f"{nibble:x}", held)
        need(len(found) > 256, "an inner node holds what fits a leaf")
    else:
        found = reader.list(reader.hash, 256)
        need(found or depth == 0, "a leaf is empty")
        need(
            ascending(found) and all(each.hex().startswith(prefix) for each in found),
            "the stripes of a leaf are out of place",
        )
    reader.end()
    need(count in (None, len(found)), "a node holds another number of stripes than its parent says")
    return found


def read_map(data, version, manifest_key):
    """The reader's map: its snapshot and, by stripe, (id, codec, offset, sealed length) of each chunk."""
    reader = Reader(data)
    reader.header(b"BHRM")
    snapshot = reader.hash()
    inside = Reader(
        unseal(KDF("blockhouse v1 reader's map", manifest_key), reader.take(reader.left()), snapshot + u32(version))
    )
    chunk = lambda: (inside.hash(), inside.u8(), inside.varint(64 * MIB), inside.varint(64 * MIB))
    stripes = inside.list(lambda: (inside.hash(), inside.list(chunk)))
    inside.end()
    need(ascending([stripe for stripe, _ in stripes]), "the stripes of a map are not ascending")
    for _, chunks in stripes:
        ends = [0] + [offset + length for _, _, offset, length in chunks]
        need(chunks and ends[-1] <= 64 * MIB, "a stripe of a map is empty or too long")
        need(all(end <= offset for end, (_, _, offset, _) in zip(ends, chunks)), "chunks of a map overlap")
    return snapshot, dict(stripes)


def check_file_proof(proof, snapshot):
    """Recomputes the snapshot id from one file's leaf; gives (length, content hash) of the file."""
    leaf = entry_leaf(proof["salt"], proof["path"], proof["facts"])
    need(
        merkle_climb(leaf, proof["leaf"], proof["entries"], proof["siblings"], "entry") == proof["entries_root"],
        "the leaf leads to another entries root",
    )
    root = plain_root(
        proof["tree_root"], proof["entries"], proof["entries_root"], proof["fact_count"], proof["facts_root"]
    )
    found = snapshot_id(proof["vault_id"], proof["source"], proof["snapshot_salt"], root, proof["manifest_key_hash"])
    need(found == snapshot, "the proof leads to another snapshot id")
    return read_facts(proof["facts"])


def read_facts(facts):
    """The length and the content hash in the facts of an entry."""
    reader = Reader(facts)
    reader.u8(), reader.varint(), reader.varint(), reader.varint(), reader.take(12)
    found = reader.varint(), reader.hash()
    reader.end()
    return found
