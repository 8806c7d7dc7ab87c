//! The ledger's homes: embedded in a process, on a network of nodes, on an outside chain, followed from a host; its durable block store, and JSON-RPC.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod attest;
pub mod calendar;
mod chain;
pub mod embedded;
pub mod external;
pub mod forks;
mod home;
#[cfg(feature = "node")]
pub mod network;
pub mod provider;
pub mod remote;
pub mod rpc;
pub mod store;
pub mod transport;

pub use embedded::{
    BeforeSeal, Embedded, Evidence, Followed, Handover, HomeError, HostClock, Imported, LedgerKeys, Options, Rebuilt,
    Sealed, Sealer, Standing,
};
pub use external::{ChainTerms, External, ExternalError, ExternalOptions};
pub use home::Home;
pub use remote::{NodeIdentity, NodeUrl, Remote, RemoteError};
pub use store::{Store, StoreError};
pub use transport::EmbeddedTransport;
