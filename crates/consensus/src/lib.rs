//! The BFT engine behind one door: orders and certifies the ledger's blocks, and knows nothing of what they do.
//!
//! - **Owns** the network between validators, their votes, the journals of a node, certificates of home 2, back-fill.
//! - **Does not** execute, build or judge a block: that is the [`Application`]'s part. No other crate names the
//!   engine's own crates but `ledger`, which checks what was signed.
//!
//! # Invariants
//! - **N1** Two validators that are honest never record different blocks at one height, whatever at most f of 3f + 1
//!   others do, and whenever any of them is killed.
//! - **N2** Blocks reach the application in height order, without a gap, each with a certificate that
//!   [`blockhouse_ledger::Certificate::verify`] accepts; a block that it acknowledged is durable there.
//! - **N3** A validator votes only with the journal of its earlier votes, or if its keys never voted in this epoch, of
//!   which it needs evidence.
//!
//! Protocol: `docs/design/consensus.md`.

pub mod application;
pub mod bind;
mod block;
pub mod ceremony;
pub mod convene;
pub mod deal;
mod deliver;
mod door;
pub mod engine;
mod epoch;
mod folder;
pub mod gossip;
pub mod keys;
pub mod letters;
pub mod network;
mod peers;
pub mod status;
pub mod tuning;
pub mod wiring;

pub use application::{Application, Standing, Stop};
pub use bind::Scheme;
pub use block::{Digest, WireBlock};
pub use convene::{ConveneError, Convening, Keeper, convene};
pub use deal::{Dealt, deal};
pub use engine::{Config, Engine, EngineError, Handle, Hold, StartError};
pub use gossip::{Gossip, Heard, Inbox};
pub use keys::{Keys, KeysError, is_enrolment_of};
pub use letters::Post;
pub use network::{Base, Kind, Network, NetworkError};
pub use peers::{is_address, is_node_key};
pub use status::{Role, Status};
