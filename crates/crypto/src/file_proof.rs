//! The proof that one file stands in a snapshot, as a receipt shows it.
//!
//! - **Owns** the leaf of an entry, the parts of the proof and the way from them to the snapshot id.
//! - **Does not** know receipts: that the snapshot id is on the ledger is theirs to show.
//!
//! # Invariants
//! - **M3** A proof of one file shows nothing of any other but the number of entries.
//! - **F1** Parts that were altered give another snapshot id, or none.
//!
//! Format: `docs/design/receipts.md`, part `file`; `docs/design/manifests.md`, section *Leaves*.

use blockhouse_types::{DecodeError, Encoder, EntriesRoot, EntryFacts, SnapshotId};

use crate::commitment::Commitment;
use crate::merkle::Tree;

/// The kind of tree that commits to entries.
pub fn entry_tree() -> Tree {
    Tree::new("blockhouse v1 entry leaf", "blockhouse v1 entry node")
}

/// The hash of one of its leaves.
pub fn leaf_hash(tree: &Tree, salt: &[u8; 32], path: &[u8], facts: &[u8]) -> [u8; 32] {
    let mut encoder = Encoder::new();
    encoder.raw(salt).bytes(path).bytes(facts);
    tree.leaf([encoder.as_slice()])
}

/// Why a proof could not be made or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileProofError {
    #[error("the facts of the file are not in canonical form")]
    Facts(#[source] DecodeError),
    #[error("the leaf {leaf} of {entries} entries cannot have {siblings} siblings")]
    Shape { leaf: u64, entries: u64, siblings: usize },
    #[error("the path, facts and siblings of the file do not give the entries root")]
    Root,
}

/// Everything that leads from one file to the snapshot id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProof {
    /// Names from the root, joined by `/`.
    pub path: Vec<u8>,
    /// The encoded facts of the entry; [`FileProof::entry_facts`] reads them.
    pub facts: Vec<u8>,
    /// The leaf's salt.
    pub salt: [u8; 32],
    /// Which leaf it is.
    pub leaf: u64,
    /// The siblings from the leaf upwards.
    pub siblings: Vec<[u8; 32]>,
    /// What the snapshot id commits to.
    pub commitment: Commitment,
}

impl FileProof {
    /// What the proof says of the file.
    pub fn entry_facts(&self) -> Result<EntryFacts, FileProofError> {
        EntryFacts::from_bytes(&self.facts).map_err(FileProofError::Facts)
    }

    /// The snapshot that the file is in. Whoever made up the proof chose it: compare it with one from the ledger.
    pub fn snapshot_id(&self) -> Result<SnapshotId, FileProofError> {
        self.entry_facts()?;
        let tree = entry_tree();
        let entries = self.commitment.plain.entries;
        let leaf = leaf_hash(&tree, &self.salt, &self.path, &self.facts);
        let shape = FileProofError::Shape { leaf: self.leaf, entries, siblings: self.siblings.len() };
        let root = tree.root_of_path(leaf, self.leaf, entries, &self.siblings).ok_or(shape)?;
        if EntriesRoot::new(root) != self.commitment.plain.entries_root {
            return Err(FileProofError::Root);
        }
        Ok(self.commitment.snapshot_id())
    }
}
