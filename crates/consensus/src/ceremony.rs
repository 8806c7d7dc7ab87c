//! Key generation without a dealer: validators make one key together, and nobody ever has the whole of it.
//!
//! A pure state machine around the engine's Feldman key generation: no file, no socket, no clock; randomness and ticks come in as
//! arguments, messages go out as values. The same machine hands a key on to another set of validators (resharing).
//!
//! - **Owns** attempts, messages, what is signed at the end, and who is to blame.
//! - **Does not** carry messages ([`mod@crate::convene`] does) or write files: who drives it makes durable what it says, when it says so.
//!
//! # Invariants
//! - **K1** A key counts only if every participant signed the same outcome: the same logs of the same dealers, none with a reveal, and
//!   the polynomial that follows. Who signs has its share where a kill does not take it.
//! - **K2** A participant deals at most one polynomial under one attempt.
//! - **K3** Of participants that follow the protocol, killed whenever, no two take two keys out of one ceremony.
//!
//! Protocol: `docs/design/consensus.md`, section *Key ceremony*.

mod attempt;
mod failure;
mod machine;
mod message;
mod plan;
mod presence;
mod record;

use commonware_cryptography::bls12381::primitives::variant::MinPk;

pub use commonware_cryptography::bls12381::primitives::group::Share;
pub use failure::Failure;
pub use machine::{Ceremony, Outgoing};
pub use message::{Body, Here, MESSAGE_MAX, Message, Signed};
pub use plan::{Plan, PlanError};
pub use presence::Progress;
pub(crate) use record::fits;
pub use record::{Agreed, Attestation, Outcome, Record};

/// The public polynomial of a group's key.
pub type Sharing = commonware_cryptography::bls12381::primitives::sharing::Sharing<MinPk>;
