//! The snapshot object: the public shell of a manifest, the same at every site.
//!
//! - **Owns** its bytes and the hash that stands on the ledger.
//! - **Does not** open the manifest inside.
//!
//! Format: `docs/design/manifests.md`, section *Snapshot object*.

use blockhouse_crypto::hash;
use blockhouse_crypto::seal::SEAL_OVERHEAD;
use blockhouse_types::limits::MANIFEST_MAX;
use blockhouse_types::{
    Account, DecodeError, Decoder, Encoder, ListHash, ObjectHash, SessionId, SnapshotId, SourceId, VaultId,
};

const MAGIC: [u8; 4] = *b"BHSN";

/// What a site holds of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotObject {
    /// The vault.
    pub vault: VaultId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What was backed up.
    pub source: SourceId,
    /// The writer's session.
    pub session: SessionId,
    /// Who wrote it.
    pub writer: Account,
    /// The stripes that it needs.
    pub list_root: ListHash,
    /// The manifest, sealed.
    pub sealed_manifest: Vec<u8>,
}

impl SnapshotObject {
    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.vault.as_bytes()).raw(self.snapshot.as_bytes()).raw(self.source.as_bytes());
        encoder.raw(self.session.as_bytes()).raw(self.writer.as_bytes()).raw(self.list_root.as_bytes());
        encoder.bytes(&self.sealed_manifest);
        encoder.finish()
    }

    /// Reads an object, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header("a snapshot object", MAGIC, bytes)?;
        let object = Self {
            vault: VaultId::new(decoder.array()?),
            snapshot: SnapshotId::new(decoder.array()?),
            source: SourceId::new(decoder.array()?),
            session: SessionId::new(decoder.array()?),
            writer: Account::new(decoder.array()?),
            list_root: ListHash::new(decoder.array()?),
            sealed_manifest: decoder.bytes("sealed manifest", MANIFEST_MAX)?.to_vec(),
        };
        if object.sealed_manifest.len() <= SEAL_OVERHEAD {
            return Err(decoder.not_canonical("its manifest is too short to be sealed"));
        }
        decoder.finish()?;
        Ok(object)
    }

    /// The hash of an object's bytes, as it stands on the ledger.
    pub fn hash(bytes: &[u8]) -> ObjectHash {
        ObjectHash::new(hash::hash("blockhouse v1 snapshot object", bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> SnapshotObject {
        SnapshotObject {
            vault: VaultId::new([1; 32]),
            snapshot: SnapshotId::new([2; 32]),
            source: SourceId::new([3; 32]),
            session: SessionId::new([4; 32]),
            writer: Account::new([5; 20]),
            list_root: ListHash::new([6; 32]),
            sealed_manifest: vec![7; 100],
        }
    }

    #[test]
    fn every_byte_is_under_the_hash_and_every_other_length_refused() {
        let bytes = object().to_bytes();
        assert_eq!(SnapshotObject::from_bytes(&bytes), Ok(object()));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_ne!(SnapshotObject::hash(&flipped), SnapshotObject::hash(&bytes));
            assert!(SnapshotObject::from_bytes(&bytes[..at]).is_err(), "length {at}");
        }
        assert!(SnapshotObject::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_manifest_has_a_least_and_a_greatest_length() {
        for (length, taken) in [(0, false), (SEAL_OVERHEAD, false), (MANIFEST_MAX, true), (MANIFEST_MAX + 1, false)] {
            let object = SnapshotObject { sealed_manifest: vec![0; length], ..object() };
            assert_eq!(SnapshotObject::from_bytes(&object.to_bytes()).is_ok(), taken, "{length}");
        }
    }
}
