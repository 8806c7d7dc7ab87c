//! Faults as the server tells them: what fails in the home itself is told to its operator, not to clients.

use jsonrpsee::types::ErrorObjectOwned;

use crate::chain::chain;
use crate::rpc::{Fault, Refused};

/// The error that a client gets.
pub(super) fn error_of(method: &str, fault: Fault) -> ErrorObjectOwned {
    match fault {
        Fault::Protocol(error) => {
            let code = i32::try_from(error.code).unwrap_or(jsonrpsee::types::error::INTERNAL_ERROR_CODE);
            ErrorObjectOwned::owned(code, error.message, error.data)
        }
        // It names files of this host.
        Fault::Home(error) => {
            tracing::error!(method, error = chain(&error), "the ledger's home failed");
            error_of(method, Fault::internal("the ledger's home failed; its operator can read why in its log"))
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Transaction { why } => Self::rejected(why),
            Refused::Full { why } => Self::limited(why),
            Refused::Home(error) => Self::Home(error),
        }
    }
}
