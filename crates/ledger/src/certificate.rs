//! Certificates: who vouches for a block. They stand outside the block's hash.
//!
//! - **Owns** their bytes, the digest that is signed and its check.
//! - **Does not** know which key is in force at a block: see [`crate::chain::Authority`].
//!
//! Format: `docs/design/ledger.md`, section *Certificates*.

use blockhouse_crypto::LedgerKey;
use blockhouse_crypto::hash::hash;
use blockhouse_crypto::ledger_key::verify;
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder};

const SOLO: u8 = 1;
const SOLO_CONTEXT: &str = "blockhouse v1 solo";

/// Which block a certificate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The block's height.
    pub height: u64,
    /// The block's hash.
    pub hash: BlockHash,
}

impl BlockPlace {
    /// What a solo certificate signs.
    fn solo_digest(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.u64(self.chain_id).u64(self.height).raw(self.hash.as_bytes());
        hash(SOLO_CONTEXT, encoder.as_slice())
    }
}

/// Who vouches for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certificate {
    /// The one operator of an embedded ledger.
    Solo {
        /// The ledger key that signed.
        key: [u8; 32],
        /// Its Ed25519 signature.
        signature: [u8; 64],
    },
}

/// Why a certificate does not vouch for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("block {height} is certified by ledger key {found}, not by {expected}", found = hex::encode(found), expected = hex::encode(expected))]
    OtherKey { height: u64, found: [u8; 32], expected: [u8; 32] },
    #[error("the signature over block {height} ({hash}) is not by the ledger key")]
    Signature { height: u64, hash: BlockHash },
}

impl Certificate {
    /// Certifies a block with the key of a one-operator ledger.
    pub fn solo(key: &LedgerKey, place: &BlockPlace) -> Self {
        Self::Solo { key: key.public(), signature: key.sign(&place.solo_digest()) }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        match self {
            Self::Solo { key, signature } => encoder.u8(SOLO).raw(key).raw(signature),
        };
        encoder.finish()
    }

    /// Reads the bytes. The signature is not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("a certificate", bytes);
        let certificate = match decoder.u8()? {
            SOLO => Self::Solo { key: decoder.array()?, signature: decoder.array()? },
            tag => return Err(decoder.unknown("kind", tag.into())),
        };
        decoder.finish()?;
        Ok(certificate)
    }

    /// Checks that it is by that ledger key and about that block.
    pub fn verify(&self, expected: &[u8; 32], place: &BlockPlace) -> Result<(), CertificateError> {
        let Self::Solo { key, signature } = self;
        if key != expected {
            return Err(CertificateError::OtherKey { height: place.height, found: *key, expected: *expected });
        }
        if !verify(key, &place.solo_digest(), signature) {
            return Err(CertificateError::Signature { height: place.height, hash: place.hash });
        }
        Ok(())
    }
}
