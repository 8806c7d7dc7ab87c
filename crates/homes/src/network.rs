//! Home 2: the ledger as several nodes keep it.
//!
//! - **Owns** what a node does: it executes, votes, records, keeps what waits, and answers clients.
//! - **Does not** agree with other nodes: `consensus` does. It does not say what a valid block is: `ledger` does.
//!
//! Format: `docs/design/node.md`.

mod alarms;
mod anchoring;
mod attesting;
mod backend;
mod ceremony;
mod chain;
mod clock;
mod config;
mod enrolment;
mod folder;
mod follow;
mod forks;
mod founding;
mod founding_file;
mod gathering;
mod governing;
mod handing;
mod heal;
mod joining;
mod keep;
mod layers;
mod metrics;
mod network_file;
mod node;
mod operator;
mod orderer;
mod outdone;
mod past;
mod place;
pub mod pool;
mod proposal;
mod recorded;
mod releases;
mod resharing;
mod scrub;
mod shares;
mod signs;
mod speaker;
mod succession;
mod survival;
mod sync;
mod tenure;
mod waiting;
mod witness;

pub use blockhouse_consensus::{Base, EngineError, Keys, KeysError, StartError};

pub use alarms::{Alarm, decode_alarms, encode_alarms};
pub use backend::NodeBackend;
pub use ceremony::{Ceremony, CeremonyError};
pub use chain::{Chain, ChainError, Proposal};
pub use clock::{Clock, SystemClock};
pub use config::{AnchorConfig, ConfigError, NodeConfig, RpcConfig, SyncConfig, WitnessConfig};
pub use enrolment::{Address, AddressError, ENROLMENT_MAX, Enrolment, EnrolmentError};
pub use folder::{FolderError, NodeFolder, write_founding, write_network, write_secret};
pub use founding::{Founded, Founding, GAS_LIMIT, Governed, Signing};
pub use founding_file::{FoundingError, FoundingFile};
pub use gathering::{GatherError, Gathered, Gathering};
pub use governing::{Governing, GoverningError, NodeSet, Open, Posting, ProposalId, Sets, Step};
pub use handing::{HandedOn, Handing};
pub use heal::{HealError, Healed, Healer, Remedy};
pub use joining::{JoinError, Joining};
pub use keep::{Told, Wishes, keep, keep_with};
pub use network_file::{Made, NetworkFile, NetworkFileError};
pub use node::NodeError;
pub use orderer::{AHEAD_MAX, HEARTBEAT, Orderer};
pub use place::{Domain, Label, LabelError, Place, PlaceError};
pub use proposal::{ProposalError, RecoveryProposal, Word};
pub use scrub::Pass;
pub use signs::{ForkSign, SIGNS_MAX, SIGNS_OF_ONE, SignOf, Signs};
pub use speaker::SpeakError;
pub use succession::Succession;
pub use survival::{Group, Survival, Survived};
pub use sync::{SyncError, SyncNews};
pub use tenure::network_above;
pub use waiting::{SubmitError, Waiting, decode_message};
