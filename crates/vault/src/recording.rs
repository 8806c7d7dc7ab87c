//! What became of an outcome that belongs on the ledger.
//!
//! - **Owns** the rule that a report outlives the failure to record it: what was found is told, whatever the ledger takes.
//! - **Does not** write to the ledger: `verify` and `health` do.

use blockhouse_homes::HomeError;

use crate::ledger::LedgerError;

/// Whether an outcome stands on the ledger.
#[derive(Debug, Default)]
pub enum Recording {
    /// It was not to be recorded: nothing was done.
    #[default]
    NotAsked,
    /// This folder has no writer's secrets: it may not write to the ledger.
    NoWriter,
    /// It stands there.
    Done,
    /// The ledger did not take it.
    Failed(NotRecorded),
}

/// Why an outcome does not stand on the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotRecorded {
    /// The ledger refused, or could not be sealed safely.
    #[error("what was found could not be recorded on the ledger")]
    Ledger(#[from] LedgerError),
    /// It was recorded, and its block could not be copied to the sites.
    #[error("what was found was recorded, and the ledger's blocks could not be read to copy them to the sites")]
    Home(#[from] HomeError),
}

impl From<Result<(), NotRecorded>> for Recording {
    fn from(result: Result<(), NotRecorded>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::Failed(error),
        }
    }
}
