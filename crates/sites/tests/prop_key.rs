//! K1: an object has one path, and a path names at most one object.

use blockhouse_sites::{ObjectKey, Prefix};
use blockhouse_types::{BagHash, BlockHash, ListHash, ShardIndex, SnapshotId, StripeId};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = ObjectKey> {
    let version = prop_oneof![any::<u32>(), 0..20_u32];
    let number = prop_oneof![any::<u64>(), 0..5000_u64];
    (0..9_u8, any::<[u8; 32]>(), version, number, any::<u8>()).prop_map(|(kind, bytes, version, number, index)| {
        let snapshot = SnapshotId::new(bytes);
        match kind {
            0 => ObjectKey::Marker,
            1 => ObjectKey::Shard { stripe: StripeId::new(bytes), index: ShardIndex(index) },
            2 => ObjectKey::List(ListHash::new(bytes)),
            3 => ObjectKey::Snapshot(snapshot),
            4 => ObjectKey::Map { snapshot, version },
            5 => ObjectKey::Wraps { snapshot, version },
            6 => ObjectKey::Bag { version, hash: BagHash::new(bytes) },
            7 => ObjectKey::Block { height: number, hash: BlockHash::new(bytes) },
            _ => ObjectKey::Handover { number: number.max(1), hash: BlockHash::new(bytes) },
        }
    })
}

/// Other spellings of what a path says, as a careless reader would take them.
fn respell(path: &str, how: usize, at: usize) -> String {
    let at = at % (path.len() + 1);
    let (before, after) = path.split_at(at);
    match how {
        0 => path.to_uppercase(),
        1 => format!("{before}0{after}"),
        2 => format!("{before}/{after}"),
        3 => format!("{before}./{after}"),
        4 => format!("{before}+{after}"),
        5 => format!("{before}0x{after}"),
        6 => before.to_owned(),
        7 => format!("{path}/x"),
        8 => format!("{before} {after}"),
        _ => format!("{before}\0{after}"),
    }
}

proptest! {
    #[test]
    fn a_path_gives_back_its_key(key in key()) {
        let path = key.path();
        prop_assert_eq!(ObjectKey::parse(&path), Ok(key));
        prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() < 256));
    }

    #[test]
    fn another_spelling_is_no_key_of_the_same_object(key in key(), how in 0..10_usize, at: usize) {
        let path = key.path();
        let other = respell(&path, how, at);
        // A changed digit may name another object; it must then be that object's one path.
        if let Ok(found) = ObjectKey::parse(&other) {
            prop_assert_eq!(found.path(), other);
        } else {
            prop_assert_ne!(other, path);
        }
    }

    #[test]
    fn any_text_is_refused_or_is_the_path_of_its_key(text in "(site|[a-z]{1,9}/)?[0-9a-f/.-]{0,140}") {
        if let Ok(key) = ObjectKey::parse(&text) {
            prop_assert_eq!(key.path(), text);
        }
    }
}

#[test]
fn paths_are_those_of_the_page() {
    let hex = "ab".repeat(32);
    let bytes = [0xab; 32];
    let (snapshot, hash) = (SnapshotId::new(bytes), BlockHash::new(bytes));
    for (key, path) in [
        (ObjectKey::Marker, "site".to_owned()),
        (ObjectKey::Shard { stripe: StripeId::new(bytes), index: ShardIndex(10) }, format!("shards/ab/{hex}-0a")),
        (ObjectKey::List(ListHash::new(bytes)), format!("lists/{hex}")),
        (ObjectKey::Snapshot(snapshot), format!("snapshots/{hex}")),
        (ObjectKey::Map { snapshot, version: 1 }, format!("maps/{hex}/00000001")),
        (ObjectKey::Wraps { snapshot, version: 0x1f }, format!("wraps/{hex}/0000001f")),
        (ObjectKey::Bag { version: 2, hash: BagHash::new(bytes) }, format!("bags/00000002-{hex}")),
        (ObjectKey::Block { height: 1023, hash }, format!("blocks/0/1023-{hex}")),
        (ObjectKey::Block { height: 1024, hash }, format!("blocks/1/1024-{hex}")),
        (ObjectKey::Handover { number: 1, hash }, format!("handovers/1-{hex}")),
    ] {
        assert_eq!(key.path(), path);
        assert_eq!(ObjectKey::parse(&path), Ok(key));
    }
    assert!(ObjectKey::parse(&format!("handovers/0-{hex}")).is_err());
    assert!(ObjectKey::parse(&format!("blocks/0/1024-{hex}")).is_err());
    assert!(ObjectKey::parse(&format!("shards/aa/{hex}-0a")).is_err());
}

#[test]
fn a_prefix_holds_its_objects() {
    let bytes = [7; 32];
    let shard = ObjectKey::Shard { stripe: StripeId::new(bytes), index: ShardIndex(0) }.path();
    assert!(shard.starts_with(&Prefix::Shards.path()) && shard.starts_with(&Prefix::ShardsOf(7).path()));
    let block = ObjectKey::Block { height: 5000, hash: BlockHash::new(bytes) }.path();
    assert!(
        block.starts_with(&Prefix::BlocksNear(4097).path()) && !block.starts_with(&Prefix::BlocksNear(4095).path())
    );
    let wraps = ObjectKey::Wraps { snapshot: SnapshotId::new(bytes), version: 1 }.path();
    assert!(wraps.starts_with(&Prefix::WrapsOf(SnapshotId::new(bytes)).path()));
}
