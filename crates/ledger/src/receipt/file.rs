//! The proof that one file is in a snapshot, showing no neighbour.
//!
//! - **Owns** the way from a file's facts to the snapshot id.
//! - **Does not** know manifests: it sees one leaf and hashes.
//!
//! Format: `docs/design/receipts.md`, and `docs/design/manifests.md` for what is hashed.

use alloy_primitives::{B256, Bytes};
use blockhouse_crypto::hash::hash_parts;
use blockhouse_crypto::merkle::Tree;
use blockhouse_types::{DecodeError, Decoder, Encoder, EntryKind, SnapshotId, SourceId, Timestamp, VaultId};
use serde::{Deserialize, Serialize};

/// The path of a file in a receipt is no longer than this.
const PATH_MAX: usize = 1024 * 1024;
const LEAF_CONTEXT: &str = "blockhouse v1 entry leaf";
const NODE_CONTEXT: &str = "blockhouse v1 entry node";
const PLAIN_ROOT_CONTEXT: &str = "blockhouse v1 plain root";
const SNAPSHOT_CONTEXT: &str = "blockhouse v1 snapshot";
const MODE_MAX: u64 = 0o7777;

/// What a receipt of a file holds beside the receipt of its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileProof {
    // The order of the fields is the order of the keys.
    /// Names from the root, joined by `/`.
    pub path: Bytes,
    /// The facts of the entry, encoded.
    pub facts: Bytes,
    /// The salt of its leaf.
    pub salt: B256,
    /// Which leaf.
    pub leaf: u64,
    /// The siblings from the leaf upwards.
    pub siblings: Vec<B256>,
    /// How many leaves there are.
    pub entries: u64,
    /// The root over them.
    pub entries_root: B256,
    /// The hash of the tree's root.
    pub tree_root: B256,
    /// How many facts the snapshot has.
    pub fact_count: u64,
    /// The root over them.
    pub facts_root: B256,
    /// The snapshot's source.
    pub source: B256,
    /// The snapshot's salt.
    pub snapshot_salt: B256,
    /// The hash of the manifest key.
    pub manifest_key_hash: B256,
    /// The vault.
    pub vault_id: B256,
}

/// What is proved of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFacts {
    /// The vault it was backed up to.
    pub vault_id: VaultId,
    /// Names from the root, joined by `/`.
    pub path: Vec<u8>,
    /// What the entry is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Timestamp,
    /// The file's length, else 0.
    pub length: u64,
    /// Plain BLAKE3 of the file's bytes, or of a symlink's target, else zeros.
    pub content_hash: [u8; 32],
}

/// Why a file is not proved, or another file is at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("its facts cannot be read")]
    Facts(#[from] DecodeError),
    #[error("its path has {length} bytes, the limit is {PATH_MAX}")]
    Path { length: usize },
    #[error("its leaf and siblings do not give the root over the entries")]
    Entries,
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

impl FileProof {
    /// Step 7: the leaf leads to the entries' root, and that to the snapshot id.
    pub(super) fn check(&self, snapshot: SnapshotId, source_id: SourceId) -> Result<FileFacts, FileError> {
        if self.path.len() > PATH_MAX {
            return Err(FileError::Path { length: self.path.len() });
        }
        let facts = self.read_facts()?;
        self.check_leaf()?;
        let found = self.snapshot_id();
        if found != snapshot {
            return Err(FileError::Snapshot { found, snapshot });
        }
        let named = SourceId::new(self.source.0);
        if named != source_id {
            return Err(FileError::Source { found: named, source_id });
        }
        Ok(facts)
    }

    fn read_facts(&self) -> Result<FileFacts, DecodeError> {
        let mut decoder = Decoder::new("the facts of an entry", &self.facts);
        let tag = decoder.u8()?;
        let kind = EntryKind::from_tag(tag).ok_or_else(|| decoder.unknown("kind", tag.into()))?;
        let facts = FileFacts {
            vault_id: VaultId::new(self.vault_id.0),
            path: self.path.to_vec(),
            kind,
            mode: number(&mut decoder, "mode", MODE_MAX)?,
            uid: number(&mut decoder, "uid", u32::MAX.into())?,
            gid: number(&mut decoder, "gid", u32::MAX.into())?,
            mtime: Timestamp { seconds: decoder.i64()?, nanoseconds: decoder.u32()? },
            length: decoder.varint()?,
            content_hash: decoder.array()?,
        };
        decoder.limit("nanoseconds", facts.mtime.nanoseconds.into(), 999_999_999)?;
        decoder.finish()?;
        Ok(facts)
    }

    fn check_leaf(&self) -> Result<(), FileError> {
        let tree = Tree::new(LEAF_CONTEXT, NODE_CONTEXT);
        let mut fields = Encoder::new();
        fields.raw(self.salt.as_slice()).bytes(&self.path).bytes(&self.facts);
        let leaf = tree.leaf([fields.as_slice()]);
        let siblings: Vec<[u8; 32]> = self.siblings.iter().map(|sibling| sibling.0).collect();
        match tree.root_of_path(leaf, self.leaf, self.entries, &siblings) {
            Some(root) if root == self.entries_root.0 => Ok(()),
            _ => Err(FileError::Entries),
        }
    }

    fn snapshot_id(&self) -> SnapshotId {
        let plain_root = hash_parts(
            PLAIN_ROOT_CONTEXT,
            [
                self.tree_root.as_slice(),
                &self.entries.to_le_bytes(),
                self.entries_root.as_slice(),
                &self.fact_count.to_le_bytes(),
                self.facts_root.as_slice(),
            ],
        );
        SnapshotId::new(hash_parts(
            SNAPSHOT_CONTEXT,
            [
                self.vault_id.as_slice(),
                self.source.as_slice(),
                self.snapshot_salt.as_slice(),
                &plain_root,
                self.manifest_key_hash.as_slice(),
            ],
        ))
    }
}

impl FileFacts {
    /// Compares a file at hand, by its length and the plain BLAKE3 of its bytes, with the one in the snapshot.
    pub fn check_file(&self, length: u64, content_hash: &[u8; 32]) -> Result<(), FileError> {
        if self.kind != EntryKind::File {
            return Err(FileError::NotAFile { kind: self.kind });
        }
        if self.length != length {
            return Err(FileError::Length { found: length, expected: self.length });
        }
        if self.content_hash != *content_hash {
            return Err(FileError::Content);
        }
        Ok(())
    }
}

fn number(decoder: &mut Decoder<'_>, field: &'static str, limit: u64) -> Result<u32, DecodeError> {
    let value = decoder.varint()?;
    decoder.limit(field, value, limit)?;
    u32::try_from(value).map_err(|_| decoder.not_canonical("a number does not fit 32 bits"))
}
