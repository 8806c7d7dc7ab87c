//! Hash, seal, sign and commit: safe wrappers over audited primitives, no policy.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod account;
pub mod commitment;
pub mod enrol_key;
pub mod file_proof;
pub mod hash;
pub mod identity;
pub mod ledger_key;
pub mod merkle;
pub mod paper;
pub mod recipient;
pub mod seal;
mod secret;

pub use account::{AccountSecret, SignatureError};
pub use commitment::{Commitment, PlainRoot, manifest_key_hash};
pub use enrol_key::EnrolKey;
pub use file_proof::{FileProof, FileProofError};
pub use hash::{Context, keccak256};
pub use identity::Identity;
pub use ledger_key::LedgerKey;
pub use paper::PaperKey;
pub use recipient::{AgeIdentity, Recipient, RecipientKind, RecipientSet, Role};
pub use seal::{OpenError, SEAL_OVERHEAD};
pub use secret::Secret;
