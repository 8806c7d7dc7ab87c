//! Home 2: the ledger as several nodes keep it.
//!
//! - **Owns** what a node does: it executes, votes, records, keeps what waits, and answers clients.
//! - **Does not** agree with other nodes: `consensus` does. It does not say what a valid block is: `ledger` does.
//!
//! Format: `docs/design/node.md`.

mod alarms;
mod backend;
mod chain;
mod clock;
mod config;
mod folder;
mod founding;
mod heal;
mod keep;
mod layers;
mod metrics;
mod node;
mod orderer;
pub mod pool;
mod scrub;
mod waiting;

pub use blockhouse_consensus::{EngineError, Keys, KeysError, StartError};

pub use alarms::{Alarm, decode_alarms, encode_alarms};
pub use backend::NodeBackend;
pub use chain::{Chain, ChainError, Proposal};
pub use clock::{Clock, SystemClock};
pub use config::{ConfigError, NodeConfig, RpcConfig};
pub use folder::{FolderError, NetworkFile, NodeFolder, write_secret};
pub use founding::{Founded, Founding, GAS_LIMIT, Signing};
pub use heal::{HealError, Healed, Healer, Remedy};
pub use keep::{Told, keep};
pub use node::NodeError;
pub use orderer::{AHEAD_MAX, HEARTBEAT, Orderer};
pub use scrub::Pass;
pub use waiting::{SubmitError, Waiting, decode_message};
