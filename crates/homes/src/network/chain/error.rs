//! Why a block cannot follow.

use alloy_primitives::B256;
use blockhouse_consensus::NetworkError;
use blockhouse_ledger::call::CallError;
use blockhouse_ledger::certificate::CertificateError;
use blockhouse_ledger::execute::{BuildError, ImportError};
use blockhouse_types::BlockHash;

use crate::embedded::HomeError;
use crate::store::{Store, StoreError};

/// Why a block cannot follow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("the block is not valid here")]
    Invalid(#[source] ImportError<StoreError>),
    #[error("no block can be made above block {parent}")]
    Build {
        parent: u64,
        #[source]
        source: BuildError<StoreError>,
    },
    #[error("block {height} does not follow what is known here")]
    Unknown { height: u64 },
    #[error("block {height} ({hash}) would not stand under the key of this network")]
    Key { height: u64, hash: BlockHash },
    #[error("block {height} would follow the last block of these validators: others keep the ledger from there on")]
    Over { height: u64 },
    #[error("block {height} is not certified")]
    Certificate {
        height: u64,
        #[source]
        source: CertificateError,
    },
    #[error("block {height} is final as {ours} here, and came as {theirs}")]
    Fork { height: u64, ours: B256, theirs: BlockHash },
    #[error("the validators from epoch {epoch} on make no network")]
    Validators {
        epoch: u64,
        #[source]
        source: NetworkError,
    },
    #[error("this node takes no part any more: {why}")]
    Stopped { why: String },
    #[error("the store of the ledger failed")]
    Store(#[from] StoreError),
    #[error("the keys of the ledger could not be read")]
    Keys(#[source] HomeError),
}

impl ChainError {
    /// Of a question to the contracts, as of the head of that store.
    pub(in crate::network) fn of_call(store: &Store, error: CallError<StoreError>) -> Self {
        Self::Keys(HomeError::of_handovers(store, error))
    }

    /// True if it says something of the block: on every node, and for ever. All else is this node's own trouble.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Key { .. } | Self::Over { .. } | Self::Certificate { .. })
    }
}
