use blockhouse_crypto::file_proof::entry_tree;
use blockhouse_types::{EntryFacts, EntryKind, Timestamp};

use super::*;
use crate::tree::EntryLeaves;

const VAULT: VaultId = VaultId::new([9; 32]);

fn key(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

fn facts_of(length: u64) -> EntryFacts {
    let mtime = Timestamp { seconds: 1, nanoseconds: 2 };
    EntryFacts {
        kind: EntryKind::File,
        mode: 0o644,
        uid: 1,
        gid: 2,
        mtime,
        length,
        content_hash: [u8::try_from(length).unwrap(); 32],
    }
}

fn paths() -> Vec<Vec<u8>> {
    ["a", "a/b", "a/c", "d"].iter().map(|path| path.as_bytes().to_vec()).collect()
}

fn leaves(key: &Secret, watched: &str) -> crate::tree::EntriesCommitment {
    let mut leaves = EntryLeaves::watching(key, watched.as_bytes().to_vec());
    (0..).zip(paths()).for_each(|(at, path)| leaves.push(&path, &facts_of(at)));
    leaves.finish()
}

fn manifest(key: &Secret, salt: u8) -> Manifest {
    let mut facts = Facts::new();
    facts.set_host("host");
    facts.set_roots(&[b"/a".to_vec()]);
    facts.set_started(-1);
    facts.set_tags(&["k=v".to_owned()]);
    facts.set_bytes(u64::MAX);
    facts.insert("bitcoin height", vec![1, 2, 3]).unwrap();
    let entries = leaves(key, "a");
    Manifest {
        source: SourceId::new([1; 32]),
        domain: DomainKind::Source,
        id_subkey: Secret::new([2; 32]),
        snapshot_salt: [salt; 32],
        parent: Some(SnapshotId::new([3; 32])),
        root: Content::empty(),
        entries: entries.entries,
        entries_root: entries.root,
        facts,
    }
}

fn refused(bytes: &[u8]) -> bool {
    Manifest::from_bytes(bytes).is_err()
}

#[test]
fn a_manifest_opens_with_its_own_key_vault_and_id() {
    let manifest = manifest(&key(1), 1);
    let sealed = manifest.seal(VAULT, &key(1), [5; 12]).unwrap();
    assert_eq!(Manifest::open(VAULT, sealed.id, &key(1), &sealed.bytes).unwrap(), manifest);
    let other_key = Manifest::open(VAULT, sealed.id, &key(2), &sealed.bytes);
    assert!(matches!(other_key, Err(OpenManifestError::Seal { .. })));
    let other_id = Manifest::open(VAULT, SnapshotId::new([0; 32]), &key(1), &sealed.bytes);
    assert!(matches!(other_id, Err(OpenManifestError::Seal { .. })));
    let other_vault = Manifest::open(VaultId::new([8; 32]), sealed.id, &key(1), &sealed.bytes);
    assert!(matches!(other_vault, Err(OpenManifestError::OtherSnapshot { .. })));
    for at in 0..sealed.bytes.len() {
        let mut flipped = sealed.bytes.clone();
        flipped[at] ^= 1;
        assert!(Manifest::open(VAULT, sealed.id, &key(1), &flipped).is_err(), "byte {at}");
    }
}

/// M1: GCM does not commit to its key, the snapshot id does. A manifest that opens, but is another, is refused.
#[test]
fn another_manifest_under_the_id_is_refused() {
    let sealed = manifest(&key(1), 1).seal(VAULT, &key(1), [5; 12]).unwrap();
    let mut lie = manifest(&key(1), 1);
    lie.entries += 1;
    let bytes = seal::seal(&seal_key(&key(1)), [6; 12], sealed.id.as_bytes(), &lie.to_bytes());
    let opened = Manifest::open(VAULT, sealed.id, &key(1), &bytes);
    assert!(matches!(opened, Err(OpenManifestError::OtherSnapshot { .. })));
    let bytes = seal::seal(&seal_key(&key(2)), [6; 12], sealed.id.as_bytes(), &manifest(&key(1), 1).to_bytes());
    let opened = Manifest::open(VAULT, sealed.id, &key(2), &bytes);
    assert!(matches!(opened, Err(OpenManifestError::OtherSnapshot { .. })), "one id has one key");
}

/// M1: the id alone commits to every byte of the manifest, whoever sealed it.
#[test]
fn every_byte_of_the_plain_manifest_is_under_the_id() {
    let manifest = manifest(&key(1), 1);
    let (bytes, id) = (manifest.to_bytes(), manifest.snapshot_id(VAULT, &key(1)));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let same = Manifest::from_bytes(&flipped).is_ok_and(|found| found.snapshot_id(VAULT, &key(1)) == id);
        assert!(!same, "byte {at}");
        assert!(refused(&bytes[..at]), "length {at}");
    }
    assert!(refused(&[&bytes[..], &[0]].concat()));
}

/// M2.
#[test]
fn equal_trees_share_no_leaf_root_or_id() {
    let (one, two) = (manifest(&key(1), 1), manifest(&key(2), 2));
    assert_eq!(one.root, two.root);
    let (a, b) = (one.commitment(VAULT, &key(1)), two.commitment(VAULT, &key(2)));
    assert_ne!(a.plain.entries_root, b.plain.entries_root);
    assert_ne!(a.plain.facts_root, b.plain.facts_root);
    assert_ne!(a.snapshot_id(), b.snapshot_id());
    let (a, b) = (leaves(&key(1), "a/c").watched.unwrap(), leaves(&key(2), "a/c").watched.unwrap());
    assert_ne!(a.salt, b.salt);
    assert!(a.siblings.iter().all(|sibling| !b.siblings.contains(sibling)));
}

/// M3: with everything a proof shows, a guess at a neighbour cannot be confirmed, for its salt is missing.
#[test]
fn a_proof_shows_one_file_and_the_number_of_entries() {
    let manifest = manifest(&key(1), 1);
    let proof = manifest.prove(VAULT, &key(1), leaves(&key(1), "a/c").watched.unwrap()).unwrap();
    assert_eq!(proof.snapshot_id().unwrap(), manifest.snapshot_id(VAULT, &key(1)));
    let tree = entry_tree();
    for salt in [[0; 32], proof.salt] {
        let mut guess = Encoder::new();
        guess.raw(&salt).bytes(b"d").bytes(&facts_of(3).to_bytes());
        assert!(!proof.siblings.contains(&tree.leaf([guess.as_slice()])));
    }
}

#[test]
fn known_facts_have_their_types_and_others_are_kept() {
    let facts = manifest(&key(1), 1).facts;
    assert_eq!(facts.host().as_deref(), Some("host"));
    assert_eq!(facts.roots(), Some(vec![b"/a".to_vec()]));
    assert_eq!((facts.started(), facts.finished()), (Some(-1), None));
    assert_eq!(facts.tags(), Some(vec!["k=v".to_owned()]));
    assert_eq!(facts.bytes(), Some(u64::MAX));
    assert_eq!(facts.get("bitcoin height"), Some(&[1, 2, 3][..]));
    let mut facts = Facts::new();
    assert!(matches!(facts.insert("started", vec![0; 7]), Err(FactError::Value { .. })));
    assert!(matches!(facts.insert("files", vec![0x80, 0]), Err(FactError::Value { .. })));
    assert!(matches!(facts.insert("", vec![]), Err(FactError::Name { .. })));
    let mut encoder = Encoder::new();
    encoder.count(2).bytes(b"b").bytes(b"").bytes(b"a").bytes(b"");
    assert!(Facts::decode(&mut Decoder::new("facts", encoder.as_slice())).is_err());
}

#[test]
fn a_manifest_that_no_reader_would_take_is_not_sealed() {
    let mut long = manifest(&key(1), 1);
    long.facts.set_excludes(&["x".repeat(MANIFEST_MAX)]);
    assert!(matches!(long.seal(VAULT, &key(1), [0; 12]), Err(SealManifestError::TooLong { .. })));
}
