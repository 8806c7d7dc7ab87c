//! What anchoring and witnessing have in common: the module that they write to, and what their operator is told.

use std::sync::{Mutex, PoisonError};

use blockhouse_types::BlockHash;

use super::speaker::SpeakError;
use crate::embedded::HomeError;
use crate::rpc::AttestingStatus;
use crate::store::StoreError;

/// The name of the module.
pub(super) const MODULE: &str = "anchors";

/// Why nothing was attested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AttestingError {
    #[error("could not anchor on the chain outside")]
    Outside(#[from] HomeError),
    #[error(transparent)]
    Speak(#[from] SpeakError),
    #[error("the ledger of the node could not be read")]
    Store(#[from] StoreError),
    #[error(
        "block {height} was anchored as {anchored} and is another one here: this ledger is not the one that was anchored"
    )]
    Rewritten { height: u64, anchored: BlockHash },
}

/// What the operator is told.
#[derive(Debug, Default)]
pub(super) struct Attesting {
    status: Mutex<AttestingStatus>,
}

impl Attesting {
    /// How it stands.
    pub(super) fn status(&self) -> AttestingStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how it stands now.
    pub(super) fn note(&self, change: impl FnOnce(&mut AttestingStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
