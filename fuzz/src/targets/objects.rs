//! Targets for manifests, trees, lists and keys: objects at a site, and what is sealed inside them.

use std::convert::Infallible;

use blockhouse_crypto::recipient::{decrypt, encrypt_to_many};
use blockhouse_crypto::{AgeIdentity, Role, Secret};
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_pipeline::manifest::{Facts, Manifest};
use blockhouse_pipeline::readers_map::ReadersMap;
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::stripe_list::{ListNode, read_list};
use blockhouse_pipeline::tree::{Entry, ListingReader};
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_types::{Decoder, Encoder, EntryFacts, SnapshotId, VaultId};

use super::crypto::age_identity;
use crate::seeds::{golden, golden_folder, golden_json, hex32};
use crate::{Target, Verdict};

fn metadata(name: &str) -> [u8; 32] {
    hex32(&golden_json("pipeline", "metadata/metadata.json")[name])
}

fn manifest_key() -> Secret {
    Secret::new([0x31; 32])
}

const VAULT: VaultId = VaultId::new([0xa1; 32]);

fn snapshot_id() -> SnapshotId {
    SnapshotObject::from_bytes(&golden("pipeline", "metadata/snapshot.bin")).unwrap().snapshot
}

fn golden_manifest() -> Manifest {
    Manifest::from_bytes(&golden("pipeline", "metadata/manifest.bin")).unwrap()
}

/// A plain manifest, as a writer may have sealed it.
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    decoders: &["pipeline/manifest.rs::from_bytes"],
    run: |bytes| {
        let result = Manifest::from_bytes(bytes);
        if let Ok(manifest) = &result {
            manifest.commitment(VAULT, &manifest_key());
        }
        Verdict::canonical_object(bytes, result, Manifest::to_bytes)
    },
    seeds: || vec![golden("pipeline", "metadata/manifest.bin")],
};

/// A sealed manifest: what opens is the one that was committed to.
pub(super) const SEALED_MANIFEST: Target = Target {
    name: "sealed-manifest",
    decoders: &["pipeline/manifest.rs::open"],
    run: |bytes| {
        let opened = Manifest::open(VAULT, SnapshotId::new(metadata("snapshot")), &manifest_key(), bytes);
        if let Ok(manifest) = &opened {
            assert!(*manifest == golden_manifest(), "another manifest was opened");
        }
        Verdict::of(opened)
    },
    seeds: || vec![golden("pipeline", "metadata/manifest.sealed")],
};

/// Facts of a snapshot.
pub(super) const FACTS: Target = Target {
    name: "facts",
    decoders: &["pipeline/manifest/facts.rs::decode"],
    run: |bytes| {
        let mut decoder = Decoder::new("facts", bytes);
        let result = Facts::decode(&mut decoder).and_then(|facts| decoder.finish().map(|()| facts));
        if let Ok(facts) = &result {
            facts.root(&manifest_key());
        }
        Verdict::canonical(bytes, result, encode_facts)
    },
    seeds: || vec![encode_facts(&golden_manifest().facts)],
};

fn encode_facts(facts: &Facts) -> Vec<u8> {
    let mut encoder = Encoder::new();
    facts.encode(&mut encoder);
    encoder.finish()
}

/// How many extents a target looks at: a list may name thousands of chunks that are all the same here.
const EXTENTS_SEEN: usize = 4096;

/// Content, and the lists of extents that its chunks hold: the rest of the input stands for each of them.
pub(super) const CONTENT: Target = Target {
    name: "content",
    decoders: &["pipeline/content.rs::decode"],
    run: |bytes| {
        let mut decoder = Decoder::new("content", bytes);
        let result = Content::decode(&mut decoder);
        let rest = decoder.left();
        if let Ok(content) = &result {
            let extents = content.extents(|chunk: &ChunkRef| {
                let mut plain = rest.to_vec();
                plain.resize((chunk.plain_len as usize).min(1 << 20), 0);
                Ok::<_, Infallible>(plain)
            });
            for extent in extents.take(EXTENTS_SEEN) {
                Verdict::of(extent);
            }
        }
        let used = &bytes[..bytes.len() - rest.len()];
        Verdict::canonical(used, result, |content| {
            let mut encoder = Encoder::new();
            content.encode(&mut encoder);
            encoder.finish()
        })
    },
    seeds: || {
        let lists = golden_folder_of_extents();
        let mut seeds = Vec::new();
        for content in contents() {
            let mut encoder = Encoder::new();
            content.encode(&mut encoder);
            seeds.extend(lists.iter().map(|list| [encoder.as_slice(), list].concat()));
        }
        seeds
    },
};

fn golden_folder_of_extents() -> Vec<Vec<u8>> {
    ["extents-0", "extents-7"].iter().map(|name| golden("pipeline", &format!("metadata/{name}.bin"))).collect()
}

/// The content of the golden tree and of its files.
fn contents() -> Vec<Content> {
    let files = entries().into_iter().filter_map(|entry| match entry.body {
        blockhouse_pipeline::tree::Body::File { content, .. } => Some(content),
        _ => None,
    });
    files.chain([golden_manifest().root]).collect()
}

fn entries() -> Vec<Entry> {
    let mut reader = ListingReader::new();
    reader.push(&golden("pipeline", "metadata/listing.bin"));
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// One entry of a folder.
pub(super) const ENTRY: Target = Target {
    name: "entry",
    decoders: &["pipeline/tree/entry.rs::from_record"],
    run: |bytes| {
        let result = Entry::from_record(bytes);
        if let Ok(entry) = &result {
            entry.facts();
        }
        Verdict::canonical(bytes, result, |entry| entry.record().expect("an entry that was read can be written"))
    },
    seeds: || entries().iter().map(|entry| entry.record().unwrap()).collect(),
};

/// What a receipt shows of an entry.
pub(super) const ENTRY_FACTS: Target = Target {
    name: "entry-facts",
    decoders: &[
        "types/entry/facts.rs::from_bytes",
        "types/entry/facts.rs::decode_mode_and_owner",
        "types/entry.rs::decode",
    ],
    run: |bytes| Verdict::canonical(bytes, EntryFacts::from_bytes(bytes), EntryFacts::to_bytes),
    seeds: || entries().iter().map(|entry| entry.facts().to_bytes()).collect(),
};

/// A folder's listing that comes in pieces: how it is cut changes nothing.
pub(super) const LISTING: Target = Target {
    name: "listing",
    decoders: &["pipeline/tree/listing.rs::next_entry"],
    run: |bytes| {
        let read = |piece: usize| {
            let (mut reader, mut names) = (ListingReader::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while let Some(entry) = reader.next_entry()? {
                    names.push(entry.name);
                }
            }
            reader.finish().map(|()| names)
        };
        let (whole, pieces) = (read(1 << 20), read(7));
        assert!(
            whole.is_ok() == pieces.is_ok() && whole.as_ref().ok() == pieces.as_ref().ok(),
            "cuts change a listing"
        );
        Verdict::of(whole)
    },
    seeds: || vec![golden("pipeline", "metadata/listing.bin"), Vec::new()],
};

/// What a site holds of a snapshot.
pub(super) const SNAPSHOT: Target = Target {
    name: "snapshot",
    decoders: &["pipeline/snapshot.rs::from_bytes"],
    run: |bytes| Verdict::canonical_object(bytes, SnapshotObject::from_bytes(bytes), SnapshotObject::to_bytes),
    seeds: || vec![golden("pipeline", "metadata/snapshot.bin")],
};

/// Wrapped manifest keys, opened with the key of a recipient.
pub(super) const WRAPS: Target = Target {
    name: "wraps",
    decoders: &["pipeline/wraps.rs::from_bytes", "pipeline/wraps.rs::open"],
    run: |bytes| {
        let result = Wraps::from_bytes(bytes);
        if let Ok(wraps) = &result {
            let reader = golden_json("pipeline", "metadata/metadata.json");
            let reader = AgeIdentity::parse(reader["reader_secret"].as_str().unwrap()).unwrap();
            Verdict::of(wraps.open(&reader));
        }
        Verdict::canonical_object(bytes, result, Wraps::to_bytes)
    },
    seeds: || vec![golden("pipeline", "metadata/wraps.bin")],
};

/// A plain reader's map.
pub(super) const READERS_MAP: Target = Target {
    name: "readers-map",
    decoders: &["pipeline/readers_map.rs::from_bytes"],
    run: |bytes| Verdict::canonical(bytes, ReadersMap::from_bytes(bytes), ReadersMap::to_bytes),
    seeds: || vec![golden_map().to_bytes(), ReadersMap::default().to_bytes()],
};

fn golden_map() -> ReadersMap {
    ReadersMap::open(snapshot_id(), 1, &manifest_key(), &golden("pipeline", "metadata/map.bin")).unwrap()
}

/// A sealed reader's map: what opens is what was sealed.
pub(super) const SEALED_MAP: Target = Target {
    name: "sealed-map",
    decoders: &["pipeline/readers_map.rs::open"],
    run: |bytes| {
        let opened = ReadersMap::open(snapshot_id(), 1, &manifest_key(), bytes);
        if let Ok(map) = &opened {
            assert!(*map == golden_map(), "another map was opened");
        }
        Verdict::of(opened)
    },
    seeds: || vec![golden("pipeline", "metadata/map.bin")],
};

/// A node of a stripe list, alone and as the root of a list whose nodes are all these bytes.
pub(super) const LIST_NODE: Target = Target {
    name: "list-node",
    decoders: &["pipeline/stripe_list/node.rs::from_bytes", "pipeline/stripe_list/read.rs::read_list"],
    run: |bytes| {
        let fetched = read_list(ListNode::hash(bytes), |_| Ok::<_, Infallible>(bytes.to_vec()));
        if let Ok(ids) = &fetched {
            assert!(ids.is_sorted_by(|a, b| a < b), "a list is not in ascending order");
        }
        Verdict::of(fetched);
        Verdict::canonical_object(bytes, ListNode::from_bytes(bytes), ListNode::to_bytes)
    },
    seeds: || golden_folder("pipeline", "metadata/lists"),
};

/// A sealed key bag, opened.
pub(super) const SEALED_BAG: Target = Target {
    name: "sealed-bag",
    decoders: &["pipeline/key_bag.rs::from_bytes"],
    run: |bytes| {
        let result = SealedBag::from_bytes(bytes);
        if let Ok(bag) = &result {
            Verdict::of(bag.open(&AgeIdentity::from_secret(&Secret::new([0x42; 32]))));
        }
        Verdict::canonical_object(bytes, result, SealedBag::to_bytes)
    },
    seeds: || vec![golden("pipeline", "metadata/bag.bin")],
};

/// Any plain bag, sealed to an identity.
pub(super) const KEY_BAG: Target = Target {
    name: "key-bag",
    decoders: &["pipeline/key_bag.rs::open"],
    run: |bytes| {
        let recipient = age_identity().recipient(Role::Owner, "owner").unwrap();
        let mut encoder = Encoder::with_header(*b"BHKB");
        let sealed = encrypt_to_many([&recipient], bytes).unwrap();
        encoder.raw(VAULT.as_bytes()).u32(1).bytes(&sealed);
        match SealedBag::from_bytes(&encoder.finish()) {
            Ok(bag) => Verdict::of(bag.open(&age_identity())),
            Err(error) => Verdict::of(Err::<(), _>(error)),
        }
    },
    seeds: || {
        let bag = golden("pipeline", "metadata/bag.bin");
        let mut decoder = Decoder::with_header("a key bag", *b"BHKB", &bag).unwrap();
        let (_, _) = (decoder.raw(32).unwrap(), decoder.u32().unwrap());
        let sealed = decoder.bytes("sealed bag", 1 << 20).unwrap();
        vec![decrypt(&AgeIdentity::from_secret(&Secret::new([0x42; 32])), sealed).unwrap().to_vec()]
    },
};

/// The secrets on the backup host: a file that a crash or a disk may damage.
pub(super) const HOST_SECRETS: Target = Target {
    name: "host-secrets",
    decoders: &["pipeline/host_secrets.rs::from_bytes"],
    run: |bytes| Verdict::canonical(bytes, HostSecrets::from_bytes(bytes), |secrets| secrets.to_bytes().to_vec()),
    seeds: || vec![golden("pipeline", "metadata/host-secrets.bin")],
};
