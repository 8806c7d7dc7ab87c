//! Why the ledger refused or could not be asked.

use alloy_primitives::B256;
use alloy_provider::PendingTransactionError;
use alloy_sol_types::SolInterface;
use alloy_transport::{RpcError, TransportError, TransportErrorKind};
use blockhouse_homes::HomeError;
use blockhouse_homes::rpc::{LIMIT_EXCEEDED, NONCE_TAKEN};
use blockhouse_ledger::contracts::Access::AccessErrors;
use blockhouse_ledger::contracts::Automation::AutomationErrors;
use blockhouse_ledger::contracts::Freeze::FreezeErrors;
use blockhouse_ledger::contracts::Retention::RetentionErrors;
use blockhouse_ledger::contracts::Tags::TagsErrors;
use blockhouse_ledger::contracts::Timeline::TimelineErrors;
use blockhouse_ledger::contracts::Vault::VaultErrors;
use blockhouse_ledger::events::UnknownEvent;

/// Why a call or transaction did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A contract refused.
    #[error("the contract refused: {reason}")]
    Refused { reason: String },
    /// Another transaction of the same account was faster, and nothing was sent.
    #[error("the home sends nothing with that nonce: {reason}")]
    NonceTaken { reason: String },
    /// The answer would be longer than the home gives at once.
    #[error("the ledger's home refused so long an answer: {reason}")]
    LimitExceeded { reason: String },
    /// A transaction was sealed and failed.
    #[error("transaction {transaction} of {call} failed on the ledger")]
    Failed { call: &'static str, transaction: B256 },
    /// The owner registered no such module.
    #[error("the vault has no module `{name}` yet")]
    NoModule { name: &'static str },
    /// An answer is not what the contract gives.
    #[error("the answer to {call} cannot be read")]
    Answer {
        call: &'static str,
        #[source]
        source: Box<alloy_sol_types::Error>,
    },
    /// A log of the vault's contracts is none of their events.
    #[error("block {block} holds a log that is no event of this vault")]
    Log {
        block: u64,
        #[source]
        source: Box<UnknownEvent>,
    },
    /// The logs of an outside chain do not hold what its contract counts.
    #[error(
        "the contract counts {counted} snapshots, and the chain's node shows the commits of {seen}: it leaves some out"
    )]
    LeftOut { counted: u64, seen: u64 },
    /// A transaction succeeded without its event.
    #[error("the transaction succeeded without its event {event}")]
    MissingEvent { event: &'static str },
    /// The home of the ledger failed.
    #[error("the ledger's home failed")]
    Home(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The ledger could not be asked.
    #[error("the ledger could not be asked")]
    Transport(#[source] Box<TransportError>),
    /// A transaction was sent and its receipt did not come.
    #[error("the transaction's receipt did not come")]
    Pending(#[source] Box<PendingTransactionError>),
}

impl LedgerError {
    pub(super) fn pending(error: PendingTransactionError) -> Self {
        match error {
            PendingTransactionError::TransportError(error) => error.into(),
            other => Self::Pending(Box::new(other)),
        }
    }

    /// True if another transaction of the same account was faster, and this one is nowhere. A home that signs says so with a code of its
    /// own; of its chain's nodes no refusal of a transaction comes here, whatever they call it. A ledger that is kept here says so in
    /// the words of its own engine.
    pub(crate) fn is_nonce_taken(&self) -> bool {
        match self {
            Self::NonceTaken { .. } => true,
            Self::Refused { reason } => reason.contains("nonce"),
            _ => false,
        }
    }

    /// The error of the embedded home behind this one.
    pub fn home(&self) -> Option<&HomeError> {
        match self {
            Self::Home(source) => source.downcast_ref(),
            _ => None,
        }
    }
}

impl From<TransportError> for LedgerError {
    fn from(error: TransportError) -> Self {
        match error {
            RpcError::ErrorResp(payload) if payload.code == LIMIT_EXCEEDED => {
                Self::LimitExceeded { reason: payload.message.into_owned() }
            }
            RpcError::ErrorResp(payload) if payload.code == NONCE_TAKEN => {
                Self::NonceTaken { reason: payload.message.into_owned() }
            }
            RpcError::ErrorResp(payload) => {
                let reason = payload.as_revert_data().map(|data| describe(&data));
                Self::Refused { reason: reason.unwrap_or_else(|| payload.message.into_owned()) }
            }
            RpcError::Transport(TransportErrorKind::Custom(source)) => Self::Home(source),
            other => Self::Transport(Box::new(other)),
        }
    }
}

/// The custom error in revert data, by its name and fields.
fn describe(data: &[u8]) -> String {
    fn as_text<E: SolInterface + std::fmt::Debug>(data: &[u8]) -> Option<String> {
        E::abi_decode(data).ok().map(|error| format!("{error:?}"))
    }
    None.or_else(|| as_text::<VaultErrors>(data))
        .or_else(|| as_text::<AccessErrors>(data))
        .or_else(|| as_text::<FreezeErrors>(data))
        .or_else(|| as_text::<TagsErrors>(data))
        .or_else(|| as_text::<TimelineErrors>(data))
        .or_else(|| as_text::<RetentionErrors>(data))
        .or_else(|| as_text::<AutomationErrors>(data))
        .unwrap_or_else(|| format!("0x{}", hex::encode(data)))
}
