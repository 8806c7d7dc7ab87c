//! Property tests of the metadata formats: round trips, models, and outside bytes that never panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use blockhouse_crypto::{Secret, hash};
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::content::{Closing, Content, ContentBuilder, Extent};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_pipeline::manifest::{Facts, Manifest};
use blockhouse_pipeline::readers_map::{MappedChunk, MappedStripe, ReadersMap};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::stripe_list::{ListNode, StripeList, read_list};
use blockhouse_pipeline::tree::{Body, Device, Entry, ListingReader, ListingWriter};
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_types::{
    Attribute, ChunkId, Decoder, Encoder, EntriesRoot, EntryFacts, EntryKind, Link, Metadata, SnapshotId, SourceId,
    StripeId, Timestamp, VaultId,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// Id, codec, gap before it, sealed length.
type RawChunk = ([u8; 32], u8, u32, u32);

fn chunk_ref() -> impl Strategy<Value = ChunkRef> {
    (any::<[u8; 32]>(), any::<[u8; 32]>(), 1..=1_048_576_u32).prop_map(|(id, key, plain_len)| ChunkRef {
        id: ChunkId::new(id),
        key: Secret::new(key),
        plain_len,
    })
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        (0..1_u64 << 50).prop_map(|length| Extent::Hole { length }),
        chunk_ref().prop_map(Extent::Chunk),
        (chunk_ref(), any::<(u32, u32)>()).prop_map(|(chunk, (a, b))| {
            let offset = a % chunk.plain_len;
            let length = 1 + b % (chunk.plain_len - offset);
            Extent::Part { chunk, offset, length }
        }),
    ]
}

/// The slow, obvious form of a list: one hole where several meet, whole parts as whole.
fn normal(extents: &[Extent]) -> Vec<Extent> {
    let mut out: Vec<Extent> = Vec::new();
    for extent in extents {
        match (out.last_mut(), extent.clone()) {
            (_, Extent::Hole { length: 0 }) => {}
            (Some(Extent::Hole { length: before }), Extent::Hole { length }) => *before += length,
            (_, Extent::Part { chunk, length, .. }) if length == chunk.plain_len => out.push(Extent::Chunk(chunk)),
            (_, other) => out.push(other),
        }
    }
    out
}

/// Builds content; lists that are too long are cut in chunks of `piece` bytes.
fn build(extents: &[Extent], piece: usize) -> (Content, HashMap<ChunkId, Vec<u8>>) {
    let mut chunks = HashMap::new();
    let mut builder = ContentBuilder::new();
    for extent in extents {
        builder.push(extent.clone()).unwrap();
    }
    let mut lists: HashMap<u8, Vec<u8>> = HashMap::new();
    loop {
        while let Some(spill) = builder.spill() {
            lists.entry(spill.depth).or_default().extend(spill.bytes);
        }
        match builder.close().unwrap() {
            Closing::Done(content) => return (content, chunks),
            Closing::Cut(spill) => {
                let mut list = lists.remove(&spill.depth).unwrap_or_default();
                list.extend(spill.bytes);
                for bytes in list.chunks(piece) {
                    let id = ChunkId::new(hash::content(bytes));
                    chunks.insert(id, bytes.to_vec());
                    let plain_len = u32::try_from(bytes.len()).unwrap();
                    let chunk = ChunkRef { id, key: Secret::new([0; 32]), plain_len };
                    builder.push_list(spill.depth + 1, Extent::Chunk(chunk)).unwrap();
                }
            }
        }
    }
}

fn content() -> impl Strategy<Value = Content> {
    vec(extent(), 0..8).prop_map(|extents| build(&extents, 1 << 16).0)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte }), 1..20)
        .prop_map(|name| if name == b"." || name == b".." { b"dots".to_vec() } else { name })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let names = (vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9));
    let time = (any::<i64>(), 0..1_000_000_000_u32);
    let attributes = btree_map(vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..30), 0..4);
    (0..=0o7777_u32, any::<(u32, u32)>(), names, time, attributes).prop_map(
        |(mode, (uid, gid), (user, group), (seconds, nanoseconds), attributes)| Metadata {
            mode,
            uid,
            gid,
            user,
            group,
            mtime: Timestamp { seconds, nanoseconds },
            link: None,
            attributes: attributes.into_iter().map(|(name, value)| Attribute { name, value }).collect(),
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let device = any::<(u64, u64)>().prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        content().prop_map(Body::Directory),
        (content(), any::<[u8; 32]>()).prop_map(|(content, hash)| Body::File { content, hash }),
        vec(any::<u8>(), 0..30).prop_map(|target| Body::Symlink { target }),
        Just(Body::Fifo),
        Just(Body::Socket),
        device.clone().prop_map(Body::CharDevice),
        device.prop_map(Body::BlockDevice),
        (0..8_u8, "\\PC{0,20}")
            .prop_map(|(was, reason)| Body::Unreadable { was: EntryKind::from_tag(was).unwrap(), reason }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (name(), metadata(), body(), option::of(any::<(u64, u64)>())).prop_map(|(name, mut metadata, body, link)| {
        if body.kind() != EntryKind::Directory {
            metadata.link = link.map(|(device, inode)| Link { device, inode });
        }
        Entry { name, metadata, body }
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let own = btree_map("[a-z]{1,8}:[a-z]{0,8}", vec(any::<u8>(), 0..20), 0..4);
    (own, option::of("\\PC{0,20}"), option::of(any::<i64>()), option::of(vec("\\PC{0,9}", 0..4))).prop_map(
        |(own, host, started, tags)| {
            let mut facts = Facts::new();
            for (name, value) in own {
                facts.insert(&name, value).unwrap();
            }
            if let Some(host) = host {
                facts.set_host(&host);
            }
            if let Some(started) = started {
                facts.set_started(started);
            }
            if let Some(tags) = tags {
                facts.set_tags(&tags);
            }
            facts
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let ids = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), option::of(any::<[u8; 32]>()));
    (ids, 0..4_u8, content(), any::<(u64, [u8; 32])>(), facts()).prop_map(
        |((source, id_subkey, snapshot_salt, parent), domain, root, (entries, entries_root), facts)| Manifest {
            source: SourceId::new(source),
            domain: DomainKind::from_tag(domain).unwrap(),
            id_subkey: Secret::new(id_subkey),
            snapshot_salt,
            parent: parent.map(SnapshotId::new),
            root,
            entries,
            entries_root: EntriesRoot::new(entries_root),
            facts,
        },
    )
}

fn stripe_ids(count: std::ops::Range<usize>) -> impl Strategy<Value = BTreeSet<StripeId>> {
    // Few distinct first bytes make deep trees out of few ids.
    let id = (0..3_u8, any::<[u8; 8]>()).prop_map(|(first, rest)| {
        let mut bytes = [first; 32];
        bytes[1] = rest[0] % 2;
        bytes[24..].copy_from_slice(&rest);
        StripeId::new(bytes)
    });
    btree_set(id, count)
}

fn stored(list: &StripeList) -> HashMap<[u8; 32], Vec<u8>> {
    list.nodes().iter().map(|node| (node.hash.to_bytes(), node.bytes.clone())).collect()
}

proptest! {
    /// N1, N2: however many extents there are, the content decodes, sums up and gives them back.
    #[test]
    fn content_gives_back_its_extents(extents in vec(extent(), 0..300), piece in 150..3000_usize) {
        let (content, chunks) = build(&extents, piece);
        prop_assert_eq!(content.length(), extents.iter().map(Extent::length).sum::<u64>());
        let mut encoder = Encoder::new();
        content.encode(&mut encoder);
        let mut decoder = Decoder::new("content", encoder.as_slice());
        prop_assert_eq!(&Content::decode(&mut decoder).unwrap(), &content);
        prop_assert!(decoder.finish().is_ok());
        let fetch = |chunk: &ChunkRef| Ok::<_, Infallible>(chunks[&chunk.id].clone());
        let found: Vec<_> = content.extents(fetch).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(found, normal(&extents));
    }

    /// E1, E3: a listing in any pieces gives back its entries; leaves' facts are canonical.
    #[test]
    fn listings_give_back_their_entries(entries in vec(entry(), 0..12), piece in 1..200_usize) {
        let by_name: std::collections::BTreeMap<_, _> = entries.into_iter().map(|e| (e.name.clone(), e)).collect();
        let mut writer = ListingWriter::new();
        let bytes: Vec<u8> = by_name.values().flat_map(|entry| writer.push(entry).unwrap()).collect();
        let (mut reader, mut found) = (ListingReader::new(), Vec::new());
        for bytes in bytes.chunks(piece) {
            reader.push(bytes);
            while let Some(entry) = reader.next_entry().unwrap() {
                prop_assert_eq!(EntryFacts::from_bytes(&entry.facts().to_bytes()).unwrap(), entry.facts());
                found.push(entry);
            }
        }
        prop_assert!(reader.finish().is_ok());
        prop_assert_eq!(found, by_name.into_values().collect::<Vec<_>>());
    }

    #[test]
    fn manifests_come_back_sealed_and_plain(manifest in manifest(), key: [u8; 32], nonce: [u8; 12], flip: prop::sample::Index) {
        let (vault, key) = (VaultId::new([1; 32]), Secret::new(key));
        prop_assert_eq!(&Manifest::from_bytes(&manifest.to_bytes()).unwrap(), &manifest);
        let sealed = manifest.seal(vault, &key, nonce).unwrap();
        prop_assert_eq!(&Manifest::open(vault, sealed.id, &key, &sealed.bytes).unwrap(), &manifest);
        let mut flipped = sealed.bytes;
        let at = flip.index(flipped.len());
        flipped[at] ^= 0x10;
        prop_assert!(Manifest::open(vault, sealed.id, &key, &flipped).is_err());
    }

    /// L2, L3 against the set itself: equal sets, equal roots; what is missing beside a known list is enough.
    #[test]
    fn stripe_lists_are_their_sets(old in stripe_ids(0..900), more in stripe_ids(0..40)) {
        let sorted: Vec<_> = old.iter().copied().collect();
        let list = StripeList::build(&sorted).unwrap();
        let mut nodes = stored(&list);
        let found = read_list(list.root(), |hash| Ok::<_, Infallible>(nodes[hash.as_bytes()].clone())).unwrap();
        prop_assert_eq!(&found, &sorted);

        let union: Vec<_> = old.union(&more).copied().collect();
        let next = StripeList::build(&union).unwrap();
        prop_assert_eq!(next.root() == list.root(), union == sorted);
        let needed = next.needed_nodes(|hash| nodes.contains_key(hash.as_bytes()));
        let fresh = next.nodes().iter().filter(|node| !nodes.contains_key(node.hash.as_bytes())).count();
        prop_assert_eq!(needed.len(), fresh);
        for node in needed {
            nodes.insert(node.hash.to_bytes(), node.bytes.clone());
        }
        let found = read_list(next.root(), |hash| Ok::<_, Infallible>(nodes[hash.as_bytes()].clone())).unwrap();
        prop_assert_eq!(found, union);
    }

    #[test]
    fn maps_come_back(stripes in btree_map(any::<[u8; 32]>(), vec((any::<[u8; 32]>(), 0..2_u8, 0..9000_u32, 29..9000_u32), 1..9), 0..6)) {
        let stripe = |(id, chunks): ([u8; 32], Vec<RawChunk>)| {
            let mut end = 0;
            let chunks = chunks.into_iter().map(|(id, codec, gap, sealed_len)| {
                let offset = end + gap;
                end = offset + sealed_len;
                MappedChunk { id: ChunkId::new(id), codec: Codec::from_tag(codec).unwrap(), offset, sealed_len }
            });
            MappedStripe { stripe: StripeId::new(id), chunks: chunks.collect() }
        };
        let map = ReadersMap { stripes: stripes.into_iter().map(stripe).collect() };
        let (snapshot, key) = (SnapshotId::new([1; 32]), Secret::new([2; 32]));
        let object = map.seal(snapshot, 1, &key, [3; 12]).unwrap();
        prop_assert_eq!(ReadersMap::open(snapshot, 1, &key, &object).unwrap(), map);
    }

    /// Whatever comes from outside: an error or a value that is written as it was read, never a panic.
    #[test]
    fn outside_bytes_decode_to_what_they_encode_or_not_at_all(
        magic in prop::sample::select(vec![&b""[..], b"BHMF", b"BHSN", b"BHSL", b"BHRM", b"BHWR", b"BHKB", b"BHHS"]),
        body in vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>()], 0..400),
    ) {
        let header: &[u8] = if magic.is_empty() { b"" } else { &[1, 0, 0, 0] };
        let bytes = [magic, header, &body[..]].concat();
        let same = |again: Option<Vec<u8>>| again.is_none_or(|again| again == bytes);
        prop_assert!(same(Manifest::from_bytes(&bytes).ok().map(|m| m.to_bytes())));
        prop_assert!(same(SnapshotObject::from_bytes(&bytes).ok().map(|o| o.to_bytes())));
        prop_assert!(same(ListNode::from_bytes(&bytes).ok().map(|n| n.to_bytes())));
        prop_assert!(same(ReadersMap::from_bytes(&bytes).ok().map(|m| m.to_bytes())));
        prop_assert!(same(Wraps::from_bytes(&bytes).ok().map(|w| w.to_bytes())));
        prop_assert!(same(SealedBag::from_bytes(&bytes).ok().map(|b| b.to_bytes())));
        prop_assert!(same(HostSecrets::from_bytes(&bytes).ok().map(|s| s.to_bytes().to_vec())));
        prop_assert!(same(Entry::from_record(&bytes).ok().map(|e| e.record().unwrap())));
        prop_assert!(same(EntryFacts::from_bytes(&bytes).ok().map(|f| f.to_bytes())));
        let _ = ReadersMap::open(SnapshotId::new([1; 32]), 1, &Secret::new([2; 32]), &bytes);
        let mut reader = ListingReader::new();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_entry() {}
    }

    /// Real records and manifests with one byte changed: refused, or another value that is written as it was read.
    #[test]
    fn altered_bytes_are_refused_or_mean_something_else(entry in entry(), manifest in manifest(), at: prop::sample::Index, mask in 1..=255_u8) {
        let mut record = entry.record().unwrap();
        let place = at.index(record.len());
        record[place] ^= mask;
        if let Ok(other) = Entry::from_record(&record) {
            prop_assert_ne!(&other, &entry);
            prop_assert_eq!(other.record().unwrap(), record);
        }
        let mut bytes = manifest.to_bytes();
        let place = at.index(bytes.len());
        bytes[place] ^= mask;
        if let Ok(other) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }
}
