//! Certificates: who vouches for a block. They stand outside the block's hash.
//!
//! - **Owns** their bytes, what is signed and its check.
//! - **Does not** know which key is in force at a block: see [`crate::chain::Authority`]. It signs nothing in home 2:
//!   the engine does, and this module checks what it signed without a runtime or a consensus crate.
//!
//! Format: `docs/design/ledger.md`, section *Certificates*.

mod committee;
mod finality;
mod threshold;

use blockhouse_crypto::LedgerKey;
use blockhouse_crypto::hash::hash;
use blockhouse_crypto::ledger_key::verify;
use blockhouse_types::limits::CERTIFICATE_MAX;
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder};

pub use committee::{COMMITTEE_MAX, Committee, Vote, quorum};
pub use finality::{DESCENDANT_MAX, DESCENDANTS_MAX, Finality, namespace};
pub use threshold::{GROUP_KEY_LEN, GROUP_SIGNATURE_LEN, Threshold};

const SOLO: u8 = 1;
const THRESHOLD: u8 = 2;
const COMMITTEE: u8 = 3;
const GENESIS: u8 = 4;
const EXTERNAL: u8 = 5;
const CHARTERED: u8 = 6;
const SOLO_CONTEXT: &str = "blockhouse v1 solo";
const EXTERNAL_CONTEXT: &str = "blockhouse v1 external chain";
const WHAT: &str = "a certificate";

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
    /// A network whose validators share one BLS key.
    Threshold(Threshold),
    /// A network whose validators sign one by one.
    Committee(Committee),
    /// Nobody: block 0 of a network, which stands by its genesis alone.
    Genesis {
        /// The ledger key that the genesis names.
        key: [u8; 32],
    },
    /// An outside chain: its own nodes say which blocks are of it. It stands in receipts alone and vouches for nothing by itself.
    External,
}

/// What stands in the place of the ledger key where the ledger is on an outside chain: nobody's key.
pub fn external_key() -> [u8; 32] {
    hash(EXTERNAL_CONTEXT, b"")
}

/// Why a certificate does not vouch for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("block {height} is certified by ledger key {found}, not by {expected}", found = hex::encode(found), expected = hex::encode(expected))]
    OtherKey { height: u64, found: [u8; 32], expected: [u8; 32] },
    #[error("the signature over block {height} ({hash}) is not by the ledger key")]
    Signature { height: u64, hash: BlockHash },
    #[error("descendant {index} in the certificate of block {height} does not follow the one before it")]
    Descendant { height: u64, index: usize },
    #[error("block {height} has the certificate of a block 0")]
    NotGenesis { height: u64 },
    #[error("block {height} is of an outside chain: nothing here vouches for it")]
    External { height: u64 },
    #[error("block {height} has {found} valid signers, it needs {needed}")]
    Quorum { height: u64, found: usize, needed: usize },
}

impl Certificate {
    /// Certifies a block with the key of a one-operator ledger.
    pub fn solo(key: &LedgerKey, place: &BlockPlace) -> Self {
        Self::Solo { key: key.public(), signature: key.sign(&place.solo_digest()) }
    }

    /// The 32 bytes that name whoever it claims to be by: what is in force if it is to count.
    pub fn key(&self) -> [u8; 32] {
        match self {
            Self::Solo { key, .. } | Self::Genesis { key } => *key,
            Self::Threshold(threshold) => threshold.key(),
            Self::Committee(committee) => committee.key(),
            Self::External => external_key(),
        }
    }

    /// How a network came to this block; nothing in home 1.
    pub fn finality(&self) -> Option<&Finality> {
        match self {
            Self::Solo { .. } | Self::Genesis { .. } | Self::External => None,
            Self::Threshold(threshold) => Some(&threshold.finality),
            Self::Committee(committee) => Some(&committee.finality),
        }
    }

    /// The same by validators whom that charter names, if one does: the engine signs blocks and knows of no charter.
    #[must_use]
    pub fn under(self, charter: Option<[u8; 32]>) -> Self {
        match self {
            Self::Committee(committee) => Self::Committee(Committee { charter, ..committee }),
            other => other,
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        match self {
            Self::Solo { key, signature } => {
                encoder.u8(SOLO).raw(key).raw(signature);
            }
            Self::Threshold(threshold) => threshold.write(encoder.u8(THRESHOLD)),
            Self::Committee(committee) => match &committee.charter {
                None => committee.write(encoder.u8(COMMITTEE)),
                Some(charter) => committee.write(encoder.u8(CHARTERED).raw(charter)),
            },
            Self::Genesis { key } => {
                encoder.u8(GENESIS).raw(key);
            }
            Self::External => {
                encoder.u8(EXTERNAL);
            }
        }
        encoder.finish()
    }

    /// Reads the bytes, at most [`CERTIFICATE_MAX`] of them. No signature is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        decoder.limit("length", bytes.len() as u64, CERTIFICATE_MAX as u64)?;
        let certificate = match decoder.u8()? {
            SOLO => Self::Solo { key: decoder.array()?, signature: decoder.array()? },
            THRESHOLD => Self::Threshold(Threshold::read(&mut decoder)?),
            COMMITTEE => Self::Committee(Committee::read(None, &mut decoder)?),
            CHARTERED => Self::Committee(Committee::read(Some(decoder.array()?), &mut decoder)?),
            GENESIS => Self::Genesis { key: decoder.array()? },
            EXTERNAL => Self::External,
            tag => return Err(decoder.unknown("kind", tag.into())),
        };
        decoder.finish()?;
        Ok(certificate)
    }

    /// Checks that it is by that ledger key and about that block.
    pub fn verify(&self, expected: &[u8; 32], place: &BlockPlace) -> Result<(), CertificateError> {
        let found = self.key();
        if found != *expected {
            return Err(CertificateError::OtherKey { height: place.height, found, expected: *expected });
        }
        match self {
            Self::Solo { key, signature } => {
                let valid = verify(key, &place.solo_digest(), signature);
                valid.then_some(()).ok_or(CertificateError::Signature { height: place.height, hash: place.hash })
            }
            Self::Threshold(threshold) => threshold.verify(place),
            Self::Committee(committee) => committee.verify(place),
            Self::Genesis { .. } if place.height == 0 => Ok(()),
            Self::Genesis { .. } => Err(CertificateError::NotGenesis { height: place.height }),
            // Whoever could make it count would have a ledger that anyone may rewrite.
            Self::External => Err(CertificateError::External { height: place.height }),
        }
    }
}

/// `H("blockhouse v1 network key"; kind, keys)`: what names a network's key in 32 bytes.
fn network_key(kind: u8, keys: &[u8]) -> [u8; 32] {
    let mut encoder = Encoder::new();
    encoder.u8(kind).raw(keys);
    hash("blockhouse v1 network key", encoder.as_slice())
}
