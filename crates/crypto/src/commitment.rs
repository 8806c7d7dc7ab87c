//! What a snapshot id commits to: from the roots of tree and facts to the id.
//!
//! Format: `docs/design/manifests.md`, section *Manifest*.

use blockhouse_types::{Encoder, EntriesRoot, SnapshotId, SourceId, VaultId};

use crate::Secret;
use crate::hash;

/// The hash of a manifest key that a snapshot id commits to. Tells nothing of the key.
pub fn manifest_key_hash(manifest_key: &Secret) -> [u8; 32] {
    hash::hash("blockhouse v1 manifest key", manifest_key.expose())
}

/// What stands under the plain root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainRoot {
    /// The hash of the tree's root content and of what its chunks are read with.
    pub tree_root: [u8; 32],
    /// How many entries the tree has.
    pub entries: u64,
    /// The root over their leaves.
    pub entries_root: EntriesRoot,
    /// How many facts there are.
    pub fact_count: u64,
    /// The root over their leaves.
    pub facts_root: [u8; 32],
}

impl PlainRoot {
    /// The plain root.
    pub fn hash(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.raw(&self.tree_root).u64(self.entries).raw(self.entries_root.as_bytes());
        encoder.u64(self.fact_count).raw(&self.facts_root);
        hash::hash("blockhouse v1 plain root", encoder.as_slice())
    }
}

/// Everything a snapshot id commits to. Shows no name, no content and no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// The vault.
    pub vault: VaultId,
    /// What was backed up.
    pub source: SourceId,
    /// 32 random bytes of the manifest.
    pub snapshot_salt: [u8; 32],
    /// The tree and the facts.
    pub plain: PlainRoot,
    /// The hash of the manifest key.
    pub manifest_key_hash: [u8; 32],
}

impl Commitment {
    /// The snapshot id.
    pub fn snapshot_id(&self) -> SnapshotId {
        let mut encoder = Encoder::new();
        encoder.raw(self.vault.as_bytes()).raw(self.source.as_bytes()).raw(&self.snapshot_salt);
        encoder.raw(&self.plain.hash()).raw(&self.manifest_key_hash);
        SnapshotId::new(hash::hash("blockhouse v1 snapshot", encoder.as_slice()))
    }
}
