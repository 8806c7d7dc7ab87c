//! Why the embedded ledger refused or failed.

use alloy_primitives::{B256, hex};
use blockhouse_ledger::call::CallError;
use blockhouse_ledger::chain::AuthorityError;
use blockhouse_ledger::execute::{BuildError, ImportError};
use blockhouse_ledger::time::ClockError;

use crate::external::ExternalError;
use crate::remote::RemoteError;
use crate::store::{Store, StoreError};

/// Why a request to the embedded ledger failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The store could not be opened, read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another host was made the ledger's home by a handover; this one seals no more.
    #[error(
        "the ledger was handed over to the key {} at another host: the key {} of this host seals no more",
        hex::encode(in_force),
        hex::encode(own)
    )]
    HandedOver { in_force: [u8; 32], own: [u8; 32] },
    /// A network is to take the ledger over from this host, which seals no more.
    #[error("the ledger is left to the key {} of a network: this host seals no more", hex::encode(heir))]
    Left { heir: [u8; 32] },
    /// There is no ledger key here at all.
    #[error("this home holds no ledger key: it reads the ledger and cannot seal")]
    NoKey,
    /// The nodes of the network that keeps the ledger.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The outside chain that the ledger is on.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// What was asked for needs the ledger's blocks.
    #[error("the ledger of this vault is on an outside chain: there are no blocks of it here")]
    NoBlocks,
    /// The check that the caller wants before each sealing said no.
    #[error("no block may be sealed on top of block {height} now")]
    Guard {
        height: u64,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's clock is off.
    #[error("no block can be sealed with the clock of this host")]
    Clock(#[from] ClockError),
    /// The bytes of a transaction are none.
    #[error("transaction {index} cannot be read")]
    Transaction {
        index: usize,
        #[source]
        source: alloy_eips::eip2718::Eip2718Error,
    },
    /// The ledger's rules refuse the transactions.
    #[error("the transactions make no block")]
    Build(#[source] BuildError<StoreError>),
    /// A block from elsewhere breaks the ledger's rules.
    #[error("block {height} from elsewhere is not valid")]
    Import {
        height: u64,
        #[source]
        source: Box<ImportError<StoreError>>,
    },
    /// A block from elsewhere is not certified by the key in force.
    #[error("block {height} from elsewhere is not certified")]
    Authority {
        height: u64,
        #[source]
        source: AuthorityError,
    },
    /// A block from elsewhere is of another ledger.
    #[error("block {height} from elsewhere is of the ledger {found}, this is {expected}")]
    OtherLedger { height: u64, found: u64, expected: u64 },
    /// A certified block contradicts the chain of this home: one of the two hides something.
    #[error(
        "the ledger is forked: block {height} is {ours} here and {theirs} elsewhere{}",
        evidence.as_ref().map(|file| format!("; the evidence is {}", file.display())).unwrap_or_default()
    )]
    Fork { height: u64, ours: B256, theirs: B256, evidence: Option<std::path::PathBuf> },
    /// Blocks between the head and those that were offered are missing.
    #[error("block {found} was offered, block {next} is the next one")]
    Gap { next: u64, found: u64 },
    /// A rebuilding needs block 0 with its genesis first.
    #[error("the blocks to rebuild the ledger from do not begin with its block 0")]
    NoGenesis,
    /// The blocks at hand do not hold what the home already had.
    #[error("no transaction {hash} is on the ledger")]
    NoTransaction { hash: B256 },
    /// The contract that lists the handovers could not be asked.
    #[error("could not read the handovers from the ledger's state")]
    Handovers(#[source] Box<CallError<StoreError>>),
    /// The answer of that contract makes no sense.
    #[error("the ledger's state lists its handovers in a form that cannot be read")]
    HandoverForm,
    /// The task was stopped with its runtime.
    #[error("the request was stopped before it ended")]
    Stopped(#[source] tokio::task::JoinError),
    /// The file system failed at something beside the store itself.
    #[error("could not {action} {}", path.display())]
    Io {
        action: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl HomeError {
    /// Why a block could not be built on this store.
    pub(super) fn of_build(store: &Store, error: BuildError<StoreError>) -> Self {
        error.into_state().map_or_else(Self::Build, |error| store.of_state(error).into())
    }

    /// Why a block from elsewhere could not be taken into this store.
    pub(super) fn of_import(store: &Store, height: u64, error: ImportError<StoreError>) -> Self {
        let refused = |source| Self::Import { height, source: Box::new(source) };
        error.into_state().map_or_else(refused, |error| store.of_state(error).into())
    }

    /// Why the handovers could not be read from this store.
    pub(crate) fn of_handovers(store: &Store, error: CallError<StoreError>) -> Self {
        let failed = |source| Self::Handovers(Box::new(source));
        error.into_state().map_or_else(failed, |error| store.of_state(error).into())
    }

    /// True if the blocks are to blame that were offered, and not this home.
    pub const fn is_of_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Import { .. }
                | Self::Authority { .. }
                | Self::OtherLedger { .. }
                | Self::Fork { .. }
                | Self::Gap { .. }
                | Self::NoGenesis
        )
    }

    /// True if rebuilding from the blocks at the sites is the way out.
    pub const fn is_healed_by_replay(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_healed_by_replay())
    }
}
