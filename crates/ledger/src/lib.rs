//! The ledger's EVM state machine: blocks in, receipts and roots out; certificates, receipts' proofs and contract bindings.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod anchor;
pub mod block;
pub mod call;
pub mod certificate;
pub mod chain;
pub mod charter;
#[expect(clippy::too_many_arguments, reason = "generated from the ABI: an event has the fields it has")]
pub mod contracts;
pub mod events;
mod evm;
pub mod execute;
pub mod fingerprint;
pub mod fork;
pub mod genesis;
pub mod governance;
pub mod government;
pub mod handover;
pub mod proof;
pub mod recall;
pub mod receipt;
pub mod replay;
pub mod resharing;
pub mod rules;
pub mod state;
pub mod system;
#[cfg(test)]
mod tests;
pub mod time;
pub mod trace;
pub mod transaction;
pub mod trie;
pub mod validators;
mod writes;

pub use block::{Block, BlockError, BlockObject, block_hash, decode_block, decode_header, encode_block};
pub use call::{Accessed, Call, CallError, CallOutcome, CallResult, Estimate, access_list, call, estimate_gas};
pub use certificate::{BlockPlace, Certificate, CertificateError};
pub use chain::{Authority, AuthorityError, compare};
pub use events::{Contract, Event, Told, tell};
pub use evm::ViewError;
pub use execute::{BuildError, Executed, Gathered, ImportError, Room, build, gather, import};
pub use fingerprint::TrustRoot;
pub use fork::{ForkError, ForkEvidence, ForkSide, ProvedFork, SignedBy};
pub use genesis::{Fork, Genesis};
pub use governance::{Founder, Governance};
pub use government::Government;
pub use recall::Recall;
pub use receipt::{CheckError, Checked, ParseError, Receipt, ReceiptParts, Vouched};
pub use replay::{Replay, ReplayError};
pub use rules::{TransactionFault, is_enrolled};
pub use state::{
    AccountRecord, MemoryState, State, StateChanges, StateError, StateNodes, StatePlace, StateTrie, check_from,
    check_whole,
};
pub use time::{BlockTime, Clock, ClockError, choose_time};
pub use transaction::Request;
pub use validators::{Member, Tenure, succession};
