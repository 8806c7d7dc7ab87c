//! The proof that one file is in a snapshot, showing no neighbour.
//!
//! - **Owns** how a proof stands in a receipt, and what it must lead to.
//! - **Does not** hash: [`FileProof`] does.
//!
//! Format: `docs/design/receipts.md`, and `docs/design/manifests.md` for what is hashed.

use alloy_primitives::{B256, Bytes};
use blockhouse_crypto::{Commitment, FileProof, FileProofError, PlainRoot};
use blockhouse_types::{EntriesRoot, EntryFacts, EntryKind, SnapshotId, SourceId, VaultId};
use serde::{Deserialize, Serialize};

/// The path of a file in a receipt is no longer than this.
const PATH_MAX: usize = 1024 * 1024;

/// What a receipt of a file holds beside the receipt of its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenProof {
    // The order of the fields is the order of the keys.
    /// Names from the root, joined by `/`.
    path: Bytes,
    /// The facts of the entry, encoded.
    facts: Bytes,
    /// The salt of its leaf.
    salt: B256,
    /// Which leaf.
    leaf: u64,
    /// The siblings from the leaf upwards.
    siblings: Vec<B256>,
    /// How many leaves there are.
    entries: u64,
    /// The root over them.
    entries_root: B256,
    /// The hash of the tree's root.
    tree_root: B256,
    /// How many facts the snapshot has.
    fact_count: u64,
    /// The root over them.
    facts_root: B256,
    /// The snapshot's source.
    source: B256,
    /// The snapshot's salt.
    snapshot_salt: B256,
    /// The hash of the manifest key.
    manifest_key_hash: B256,
    /// The vault.
    vault_id: B256,
}

/// What is proved of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFacts {
    /// The vault it was backed up to.
    pub vault_id: VaultId,
    /// Names from the root, joined by `/`.
    pub path: Vec<u8>,
    /// What it is, and its content.
    pub entry: EntryFacts,
}

/// Why a file is not proved, or another file is at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("its path has {length} bytes, the limit is {PATH_MAX}")]
    Path { length: usize },
    #[error(transparent)]
    Proof(#[from] FileProofError),
    #[error("what it names gives snapshot {found}, not {snapshot}")]
    Snapshot { found: SnapshotId, snapshot: SnapshotId },
    #[error("it names source {found}, the commit names {source_id}")]
    Source { found: SourceId, source_id: SourceId },
    #[error("the entry is no regular file but a {kind:?}")]
    NotAFile { kind: EntryKind },
    #[error("the file has {found} bytes, the one in the snapshot has {expected}")]
    Length { found: u64, expected: u64 },
    #[error("the file has other content than the one in the snapshot")]
    Content,
}

impl From<FileProof> for WrittenProof {
    fn from(proof: FileProof) -> Self {
        let FileProof { path, facts, salt, leaf, siblings, commitment } = proof;
        let Commitment { vault, source, snapshot_salt, plain, manifest_key_hash } = commitment;
        Self {
            path: path.into(),
            facts: facts.into(),
            salt: salt.into(),
            leaf,
            siblings: siblings.into_iter().map(B256::new).collect(),
            entries: plain.entries,
            entries_root: B256::new(plain.entries_root.to_bytes()),
            tree_root: plain.tree_root.into(),
            fact_count: plain.fact_count,
            facts_root: plain.facts_root.into(),
            source: B256::new(source.to_bytes()),
            snapshot_salt: snapshot_salt.into(),
            manifest_key_hash: manifest_key_hash.into(),
            vault_id: B256::new(vault.to_bytes()),
        }
    }
}

impl WrittenProof {
    /// Step 7: the leaf leads to the entries' root, and that to the snapshot id.
    pub(super) fn check(&self, snapshot: SnapshotId, source_id: SourceId) -> Result<FileFacts, FileError> {
        if self.path.len() > PATH_MAX {
            return Err(FileError::Path { length: self.path.len() });
        }
        let proof = self.read();
        let found = proof.snapshot_id()?;
        if found != snapshot {
            return Err(FileError::Snapshot { found, snapshot });
        }
        let Commitment { vault, source, .. } = proof.commitment;
        if source != source_id {
            return Err(FileError::Source { found: source, source_id });
        }
        Ok(FileFacts { vault_id: vault, entry: proof.entry_facts()?, path: proof.path })
    }

    fn read(&self) -> FileProof {
        let plain = PlainRoot {
            tree_root: self.tree_root.0,
            entries: self.entries,
            entries_root: EntriesRoot::new(self.entries_root.0),
            fact_count: self.fact_count,
            facts_root: self.facts_root.0,
        };
        let commitment = Commitment {
            vault: VaultId::new(self.vault_id.0),
            source: SourceId::new(self.source.0),
            snapshot_salt: self.snapshot_salt.0,
            plain,
            manifest_key_hash: self.manifest_key_hash.0,
        };
        FileProof {
            path: self.path.to_vec(),
            facts: self.facts.to_vec(),
            salt: self.salt.0,
            leaf: self.leaf,
            siblings: self.siblings.iter().map(|sibling| sibling.0).collect(),
            commitment,
        }
    }
}

impl FileFacts {
    /// Compares a file at hand, by its length and the plain BLAKE3 of its bytes, with the one in the snapshot.
    pub fn check_file(&self, length: u64, content_hash: &[u8; 32]) -> Result<(), FileError> {
        let EntryFacts { kind, length: expected, content_hash: hash, .. } = &self.entry;
        if *kind != EntryKind::File {
            return Err(FileError::NotAFile { kind: *kind });
        }
        if *expected != length {
            return Err(FileError::Length { found: length, expected: *expected });
        }
        if hash != content_hash {
            return Err(FileError::Content);
        }
        Ok(())
    }
}
