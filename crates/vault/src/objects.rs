//! Whether a plain object is what its name says, as far as its bytes can tell without a key.

use blockhouse_ledger::BlockObject;
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::stripe_list::ListNode;
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_sites::ObjectKey;
use blockhouse_types::encoding::HEADER_LEN;

/// True if the bytes decode to the object that the key names. Shards and markers are judged elsewhere.
pub fn is_genuine(key: &ObjectKey, bytes: &[u8]) -> bool {
    match key {
        ObjectKey::List(hash) => ListNode::hash(bytes) == *hash,
        ObjectKey::Snapshot(id) => SnapshotObject::from_bytes(bytes).is_ok_and(|object| object.snapshot == *id),
        ObjectKey::Wraps { snapshot, version } => {
            Wraps::from_bytes(bytes).is_ok_and(|wraps| wraps.snapshot() == *snapshot && wraps.version() == *version)
        }
        // A reader's map says whose it is in clear; the rest only a reader can judge.
        ObjectKey::Map { snapshot, .. } => bytes.get(HEADER_LEN..HEADER_LEN + 32) == Some(snapshot.as_bytes()),
        ObjectKey::Bag { version, hash } => {
            SealedBag::from_bytes(bytes).is_ok_and(|bag| bag.version() == *version && SealedBag::hash(bytes) == *hash)
        }
        ObjectKey::Block { hash, .. } | ObjectKey::Handover { hash, .. } => {
            BlockObject::decode(bytes).is_ok_and(|object| object.hash() == *hash)
        }
        ObjectKey::Marker | ObjectKey::Shard { .. } => false,
    }
}
