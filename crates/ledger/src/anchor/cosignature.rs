//! A witness's word: that it followed the ledger to a block, which it knew as final at a time.
//!
//! Format: `docs/design/anchors.md`, section *Witnesses*.

use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder};
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::Verifier;
use commonware_cryptography::ed25519::{PublicKey, Signature};

use super::checkpoint;
use crate::certificate::BlockPlace;

/// The length of a cosignature.
pub const COSIGNATURE_LEN: usize = 32 + 8 + 64;
/// What tells a cosignature from every vote, greeting and enrolment of the same key.
const CONTEXT: &[u8] = b"blockhouse v1 cosignature";
const WHAT: &str = "a cosignature";

/// A witness's signature over a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's public key among nodes.
    pub key: [u8; 32],
    /// When it signed, in seconds, by its own clock.
    pub time: u64,
    /// Its Ed25519 signature.
    pub signature: [u8; 64],
}

/// Why a cosignature is none of that block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by the witness {}", hex::encode(key))]
pub struct CosignatureError {
    /// The witness that it names.
    pub key: [u8; 32],
}

impl Cosignature {
    /// The name under which a witness signs.
    pub const fn context() -> &'static [u8] {
        CONTEXT
    }

    /// The bytes that it signs.
    pub fn statement(genesis: BlockHash, place: &BlockPlace, time: u64) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&checkpoint(genesis, place)).u64(time);
        encoder.finish()
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&self.key).u64(self.time).raw(&self.signature);
        encoder.finish()
    }

    /// Reads the bytes. The signature is not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        let cosignature = Self { key: decoder.array()?, time: decoder.u64()?, signature: decoder.array()? };
        decoder.finish()?;
        Ok(cosignature)
    }

    /// Checks that the witness that it names signed that block.
    pub fn check(&self, genesis: BlockHash, place: &BlockPlace) -> Result<(), CosignatureError> {
        let refused = CosignatureError { key: self.key };
        let key = PublicKey::decode(Copying(&self.key)).map_err(|_| refused)?;
        let signature = Signature::decode(Copying(&self.signature)).map_err(|_| refused)?;
        let statement = Self::statement(genesis, place, self.time);
        key.verify(CONTEXT, &statement, &signature).then_some(()).ok_or(refused)
    }
}
