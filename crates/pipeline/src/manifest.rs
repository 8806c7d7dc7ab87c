//! The manifest: what a snapshot is made of, and what its id commits to.
//!
//! - **Owns** the manifest's bytes, its facts, its seal, and what of it the snapshot id commits to.
//! - **Does not** make trees or wrap manifest keys.
//!
//! # Invariants
//! - **M1** One snapshot id has one manifest key, one manifest, one tree: [`Manifest::open`] recomputes the id from
//!   what it opened and the key it was given.
//! - **M2** Two snapshots of equal trees share no salt, leaf or id: all of them hang on the manifest key or the
//!   snapshot salt.
//! - **M3** A proof of one file shows nothing of any other but the number of entries.
//!
//! Format: `docs/design/manifests.md`, section *Manifest*.

mod facts;
#[cfg(test)]
mod tests;

use blockhouse_crypto::hash::{derive, hash};
use blockhouse_crypto::seal::{self, NONCE_LEN};
use blockhouse_crypto::{Commitment, FileProof, FileProofError, OpenError, PlainRoot, Secret, manifest_key_hash};
use blockhouse_types::limits::MANIFEST_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder, EntriesRoot, SnapshotId, SourceId, VaultId};

pub use facts::{FactError, Facts};

use crate::content::Content;
use crate::domain::DomainKind;
use crate::tree::WatchedLeaf;

const MAGIC: [u8; 4] = *b"BHMF";

/// Why a manifest could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealManifestError {
    #[error(
        "the manifest of snapshot {id} takes {length} bytes, the limit is {MANIFEST_MAX}: give fewer tags, excludes or roots"
    )]
    TooLong { id: SnapshotId, length: usize },
}

/// Why sealed bytes are not the manifest asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenManifestError {
    #[error("could not decrypt the manifest of snapshot {id}")]
    Seal {
        id: SnapshotId,
        #[source]
        source: OpenError,
    },
    #[error("could not decode the manifest of snapshot {id}")]
    Decode {
        id: SnapshotId,
        #[source]
        source: DecodeError,
    },
    #[error("the manifest and key given for snapshot {id} belong to snapshot {found}")]
    OtherSnapshot { id: SnapshotId, found: SnapshotId },
}

/// A manifest as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedManifest {
    /// The snapshot that it commits to.
    pub id: SnapshotId,
    /// Nonce, ciphertext, tag.
    pub bytes: Vec<u8>,
}

/// What a snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What was backed up.
    pub source: SourceId,
    /// Whose chunks share ids with those of this snapshot.
    pub domain: DomainKind,
    /// What the ids of its chunks are computed with.
    pub id_subkey: Secret,
    /// 32 random bytes, new for each snapshot.
    pub snapshot_salt: [u8; 32],
    /// The snapshot of the same source before it.
    pub parent: Option<SnapshotId>,
    /// The listing of roots.
    pub root: Content,
    /// How many entries the tree has.
    pub entries: u64,
    /// The root over their leaves.
    pub entries_root: EntriesRoot,
    /// What else is known of the snapshot.
    pub facts: Facts,
}

impl Manifest {
    /// The snapshot id, and everything on the way to it.
    pub fn commitment(&self, vault: VaultId, manifest_key: &Secret) -> Commitment {
        Commitment {
            vault,
            source: self.source,
            snapshot_salt: self.snapshot_salt,
            plain: PlainRoot {
                tree_root: self.tree_root(),
                entries: self.entries,
                entries_root: self.entries_root,
                fact_count: self.facts.len() as u64,
                facts_root: self.facts.root(manifest_key),
            },
            manifest_key_hash: manifest_key_hash(manifest_key),
        }
    }

    /// The hash of the root and of everything else in the manifest that nothing else of the id covers.
    fn tree_root(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.u8(self.domain.tag()).raw(self.id_subkey.expose());
        encode_parent(&mut encoder, self.parent);
        self.root.encode(&mut encoder);
        hash("blockhouse v1 tree root", encoder.as_slice())
    }

    /// The snapshot id.
    pub fn snapshot_id(&self, vault: VaultId, manifest_key: &Secret) -> SnapshotId {
        self.commitment(vault, manifest_key).snapshot_id()
    }

    /// The proof of a leaf that was watched while the tree was read again.
    pub fn prove(&self, vault: VaultId, manifest_key: &Secret, leaf: WatchedLeaf) -> Result<FileProof, FileProofError> {
        let WatchedLeaf { path, facts, salt, index, siblings } = leaf;
        let commitment = self.commitment(vault, manifest_key);
        let proof = FileProof { path, facts: facts.to_bytes(), salt, leaf: index, siblings, commitment };
        proof.snapshot_id().map(|_| proof)
    }

    /// Seals the manifest. The nonce must be fresh and random.
    pub fn seal(
        &self,
        vault: VaultId,
        manifest_key: &Secret,
        nonce: [u8; NONCE_LEN],
    ) -> Result<SealedManifest, SealManifestError> {
        let id = self.snapshot_id(vault, manifest_key);
        let bytes = seal::seal(&seal_key(manifest_key), nonce, id.as_bytes(), &self.to_bytes());
        match bytes.len() {
            length if length > MANIFEST_MAX => Err(SealManifestError::TooLong { id, length }),
            _ => Ok(SealedManifest { id, bytes }),
        }
    }

    /// Opens the manifest of snapshot `id` and checks that it and the key are the ones that the id commits to (M1).
    pub fn open(
        vault: VaultId,
        id: SnapshotId,
        manifest_key: &Secret,
        sealed: &[u8],
    ) -> Result<Self, OpenManifestError> {
        let plain = seal::open(&seal_key(manifest_key), id.as_bytes(), sealed)
            .map_err(|source| OpenManifestError::Seal { id, source })?;
        let manifest = Self::from_bytes(&plain).map_err(|source| OpenManifestError::Decode { id, source })?;
        match manifest.snapshot_id(vault, manifest_key) {
            found if found == id => Ok(manifest),
            found => Err(OpenManifestError::OtherSnapshot { id, found }),
        }
    }

    /// The plain bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.source.as_bytes()).u8(self.domain.tag()).raw(self.id_subkey.expose());
        encoder.raw(&self.snapshot_salt);
        encode_parent(&mut encoder, self.parent);
        self.root.encode(&mut encoder);
        encoder.varint(self.entries).raw(self.entries_root.as_bytes());
        self.facts.encode(&mut encoder);
        encoder.finish()
    }

    /// Reads the plain bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_bare_header("a manifest", MAGIC, bytes)?;
        let source = SourceId::new(decoder.array()?);
        let domain = DomainKind::decode(&mut decoder)?;
        let id_subkey = Secret::new(decoder.array()?);
        let snapshot_salt = decoder.array()?;
        let parent = decoder.option(|decoder| decoder.array().map(SnapshotId::new))?;
        let root = Content::decode(&mut decoder)?;
        let entries = decoder.varint()?;
        let entries_root = EntriesRoot::new(decoder.array()?);
        let facts = Facts::decode(&mut decoder)?;
        decoder.finish()?;
        Ok(Self { source, domain, id_subkey, snapshot_salt, parent, root, entries, entries_root, facts })
    }
}

fn encode_parent(encoder: &mut Encoder, parent: Option<SnapshotId>) {
    encoder.option(parent, |encoder, parent| {
        encoder.raw(parent.as_bytes());
    });
}

fn seal_key(manifest_key: &Secret) -> Secret {
    derive("blockhouse v1 manifest seal", manifest_key, [])
}
