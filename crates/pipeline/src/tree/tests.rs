use blockhouse_crypto::Secret;
use blockhouse_crypto::file_proof::{entry_tree, leaf_hash};
use blockhouse_types::limits::NAME_MAX;
use blockhouse_types::{Attribute, DecodeError, EntryFacts, EntryKind, Link, Metadata, Timestamp};

use super::*;
use crate::content::Content;

fn entry(name: &[u8], body: Body) -> Entry {
    let metadata = Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX,
        user: b"ann".to_vec(),
        group: Vec::new(),
        mtime: Timestamp { seconds: -5, nanoseconds: 999_999_999 },
        link: None,
        attributes: vec![
            Attribute { name: b"security.x".to_vec(), value: vec![0, 255] },
            Attribute { name: b"user.y".to_vec(), value: Vec::new() },
        ],
    };
    Entry { name: name.to_vec(), metadata, body }
}

fn every_kind() -> Vec<Entry> {
    let device = Device { major: 8, minor: u64::MAX };
    let mut file = entry(b"b \xff\n", Body::File { content: Content::empty(), hash: [7; 32] });
    file.metadata.link = Some(Link { device: 1, inode: 2 });
    vec![
        entry(b"a", Body::Directory(Content::empty())),
        file,
        entry(b"c", Body::Symlink { target: b"../x".to_vec() }),
        entry(b"d", Body::Fifo),
        entry(b"e", Body::CharDevice(device)),
        entry(b"f", Body::BlockDevice(device)),
        entry(b"g", Body::Socket),
        entry(b"h", Body::Unreadable { was: EntryKind::File, reason: "permission denied".into() }),
    ]
}

#[test]
fn every_kind_comes_back_from_its_record() {
    for entry in every_kind() {
        let record = entry.record().unwrap();
        assert_eq!(Entry::from_record(&record), Ok(entry.clone()));
        for at in 0..record.len() {
            assert!(Entry::from_record(&record[..at]).is_err(), "{:?} cut at {at}", entry.body.kind());
            let mut flipped = record.clone();
            flipped[at] ^= 1;
            assert_ne!(Entry::from_record(&flipped), Ok(entry.clone()), "{:?} byte {at}", entry.body.kind());
        }
        assert!(Entry::from_record(&[&record[..], &[0]].concat()).is_err());
        let facts = entry.facts();
        assert_eq!(EntryFacts::from_bytes(&facts.to_bytes()), Ok(facts));
    }
}

/// E2.
#[test]
fn a_name_cannot_leave_its_folder() {
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; NAME_MAX + 1]] {
        assert!(matches!(entry(name, Body::Fifo).record(), Err(EntryError::Name { .. })));
    }
    assert!(entry(&[b'x'; NAME_MAX], Body::Fifo).record().is_ok());
    let record = entry(b"ab", Body::Fifo).record().unwrap();
    for name in [b"..", b"a/", b"a\0"] {
        let bad = [&record[..1], &name[..], &record[3..]].concat();
        assert!(matches!(Entry::from_record(&bad), Err(DecodeError::NotCanonical { .. })));
    }
}

#[test]
fn an_entry_that_no_reader_would_take_is_not_written() {
    let with = |change: fn(&mut Entry)| {
        let mut entry = entry(b"x", Body::Directory(Content::empty()));
        change(&mut entry);
        entry.record()
    };
    assert!(matches!(with(|e| e.metadata.mode = 0o10000), Err(EntryError::Mode { .. })));
    assert!(matches!(with(|e| e.metadata.mtime.nanoseconds = 1_000_000_000), Err(EntryError::Time { .. })));
    assert!(matches!(
        with(|e| e.metadata.link = Some(Link { device: 1, inode: 1 })),
        Err(EntryError::LinkedFolder { .. })
    ));
    assert!(matches!(with(|e| e.metadata.attributes.reverse()), Err(EntryError::Attributes { .. })));
    assert!(matches!(with(|e| e.metadata.attributes[0].value = vec![0; 1 << 20]), Err(EntryError::TooLong { .. })));
}

#[test]
fn a_listing_reads_the_same_however_it_comes() {
    let mut writer = ListingWriter::new();
    let bytes: Vec<u8> = every_kind().iter().flat_map(|entry| writer.push(entry).unwrap()).collect();
    for piece in [1, 2, 7, 100, bytes.len()] {
        let mut reader = ListingReader::new();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            while let Some(entry) = reader.next_entry().unwrap() {
                found.push(entry);
            }
        }
        reader.finish().unwrap();
        assert_eq!(found, every_kind());
    }
    let mut cut = ListingReader::new();
    cut.push(&bytes[..bytes.len() - 1]);
    while cut.next_entry().unwrap().is_some() {}
    assert!(cut.finish().is_err());
}

/// E1.
#[test]
fn names_out_of_order_are_neither_written_nor_read() {
    let mut writer = ListingWriter::new();
    writer.push(&entry(b"b", Body::Fifo)).unwrap();
    for name in [&b"b"[..], b"a"] {
        assert!(matches!(writer.push(&entry(name, Body::Fifo)), Err(EntryError::Order { .. })));
    }
    let mut reader = ListingReader::new();
    for name in [&b"b"[..], b"a"] {
        reader.push(&ListingWriter::new().push(&entry(name, Body::Fifo)).unwrap());
    }
    assert!(reader.next_entry().unwrap().is_some());
    assert!(matches!(reader.next_entry(), Err(DecodeError::NotCanonical { .. })));
    let mut long = ListingReader::new();
    long.push(&[0xff, 0xff, 0xff, 0x7f]);
    assert!(long.next_entry().is_err());
}

/// The slow, obvious model: all leaves in memory, the tree of the crypto crate.
#[test]
fn leaves_agree_with_a_tree_in_memory() {
    let key = Secret::new([1; 32]);
    let salt_key = Secret::new(blockhouse_crypto::hash::hash("blockhouse v1 entry salt", key.expose()));
    let tree = entry_tree();
    for count in 0..40_u64 {
        let paths: Vec<_> = (0..count).map(|i| format!("root/{i}").into_bytes()).collect();
        let facts = every_kind()[1].facts();
        let salts: Vec<_> = (0..count).map(|i| blockhouse_crypto::hash::keyed(&salt_key, &i.to_le_bytes())).collect();
        let hashes: Vec<_> =
            paths.iter().zip(&salts).map(|(path, salt)| leaf_hash(&tree, salt, path, &facts.to_bytes())).collect();
        for wanted in 0..count.max(1) {
            let mut leaves = EntryLeaves::watching(&key, format!("root/{wanted}").into_bytes());
            for path in &paths {
                leaves.push(path, &facts);
            }
            let found = leaves.finish();
            assert_eq!((found.entries, *found.root.as_bytes()), (count, tree.root(&hashes)));
            let siblings = found.watched.map(|leaf| (leaf.index, leaf.siblings, leaf.salt));
            let at = usize::try_from(wanted).unwrap();
            assert_eq!(siblings, tree.path(&hashes, at).map(|path| (wanted, path, salts[at])));
        }
    }
}

#[test]
fn facts_say_one_thing_in_one_way() {
    let facts = every_kind()[0].facts();
    let wrong = EntryFacts { length: 1, ..facts };
    assert!(EntryFacts::from_bytes(&wrong.to_bytes()).is_err());
    let wrong = EntryFacts { content_hash: [1; 32], ..facts };
    assert!(EntryFacts::from_bytes(&wrong.to_bytes()).is_err());
    assert!(EntryFacts::from_bytes(&[&facts.to_bytes()[..], &[0]].concat()).is_err());
}
