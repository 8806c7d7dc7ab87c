//! Home 2: the ledger as several nodes keep it.
//!
//! - **Owns** what a node does: it executes, votes, records, keeps what waits, and answers clients.
//! - **Does not** agree with other nodes: `consensus` does. It does not say what a valid block is: `ledger` does.
//!
//! Format: `docs/design/node.md`.

mod backend;
mod chain;
mod clock;
mod config;
mod folder;
mod founding;
mod layers;
mod metrics;
mod node;
mod orderer;
pub mod pool;
mod waiting;

pub use blockhouse_consensus::{EngineError, Keys, KeysError, StartError};

pub use backend::NodeBackend;
pub use chain::{Chain, ChainError, Proposal};
pub use clock::{Clock, SystemClock};
pub use config::{ConfigError, NodeConfig, RpcConfig};
pub use folder::{FolderError, NetworkFile, NodeFolder, write_secret};
pub use founding::{Founded, Founding, GAS_LIMIT, Signing};
pub use node::{Node, NodeError};
pub use orderer::{AHEAD_MAX, HEARTBEAT, Orderer};
pub use waiting::{SubmitError, Waiting, decode_message};
