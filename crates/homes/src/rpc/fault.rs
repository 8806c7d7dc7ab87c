//! The errors of JSON-RPC: what a client of any Ethereum node expects to read.

use std::borrow::Cow;

use alloy_json_rpc::ErrorPayload;
use alloy_primitives::Bytes;
use blockhouse_ledger::call::{CallError, CallOutcome};

use crate::chain::chain;
use crate::embedded::HomeError;
use crate::remote::RemoteError;
use crate::store::{StateAt, Store, StoreError};

/// Why a request got no result.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The ledger answers with an error of the protocol.
    Protocol(ErrorPayload),
    /// The home itself failed: the caller gets the error as it is, not as text.
    Home(HomeError),
}

/// EIP-1474: a requested thing is not there.
const RESOURCE_NOT_FOUND: i64 = -32_001;
/// As go-ethereum says that a request took too long (EIP-1474: the resource is not available).
const TIMED_OUT: i64 = -32_002;
/// EIP-1474: the transaction cannot be taken.
const TRANSACTION_REJECTED: i64 = -32_003;
/// EIP-1474: the answer would be longer than any answer may be.
pub const LIMIT_EXCEEDED: i64 = -32_005;
/// EIP-4444: history that this node does not have.
const NO_HISTORY: i64 = 4444;
/// Of a home that signs: the nonce that the caller counted with is taken, and nothing was sent. Nodes of other makers do not use it.
pub const NONCE_TAKEN: i64 = -32_098;
/// As go-ethereum says that a call ended in a revert.
const REVERTED: i64 = 3;
/// As go-ethereum says of everything else that the EVM refuses.
const SERVER_ERROR: i64 = -32_000;

impl Fault {
    /// There is no such method.
    pub(crate) fn unknown_method(method: &str) -> Self {
        Self::coded(-32_601, format!("the method {method} does not exist"))
    }

    /// The parameters are not those of the method.
    pub(crate) fn parameters(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(-32_602, why)
    }

    /// Something that was asked for is not kept.
    pub(crate) fn not_found(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(RESOURCE_NOT_FOUND, why)
    }

    /// A state that once was and is not kept, in the words that tools know from nodes which are no archives.
    pub(crate) fn no_state(height: u64, store: &Store) -> Self {
        let kept = match (store.states_from(), store.height()) {
            (from, head) if from == head => format!("that of block {head}"),
            (from, head) => format!("those of blocks {from} to {head}"),
        };
        Self::coded(SERVER_ERROR, format!("missing trie node: the state of block {height} is not kept, only {kept}"))
    }

    /// Something of a block above the head: who is behind cannot judge it yet.
    #[cfg(feature = "node")]
    pub(crate) fn ahead(height: u64, head: u64) -> Self {
        let why = format!("block {height} is above block {head}, the last one here: ask again later");
        Self::coded(SERVER_ERROR, why)
    }

    /// A block that this node has not fetched yet, in the words of EIP-4444.
    pub(crate) fn no_history(height: u64, bottom: u64) -> Self {
        let why = format!(
            "pruned history unavailable: block {height} is not here yet, this node has blocks from {bottom} on and fetches those below"
        );
        Self::coded(NO_HISTORY, why)
    }

    /// The transaction is refused, and nothing was sealed.
    pub(crate) fn rejected(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(TRANSACTION_REJECTED, why)
    }

    /// The nonce that the caller counted with is taken, and nothing was sent.
    pub(crate) fn nonce_taken(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(NONCE_TAKEN, why)
    }

    /// The answer would be too long; a narrower question gets one.
    pub(crate) fn limited(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(LIMIT_EXCEEDED, why)
    }

    /// A filter that never was or that nobody asked for in time, as go-ethereum says it.
    #[cfg(feature = "node")]
    pub(crate) fn no_filter() -> Self {
        Self::coded(SERVER_ERROR, "filter not found")
    }

    /// The request took longer than a request may.
    pub(crate) fn timed_out() -> Self {
        Self::coded(TIMED_OUT, "request timed out")
    }

    /// The call ran and failed without a revert.
    pub(crate) fn halted(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(SERVER_ERROR, why)
    }

    /// The answer could not be written down.
    pub(crate) fn internal(why: impl Into<Cow<'static, str>>) -> Self {
        Self::coded(-32_603, why)
    }

    /// The call was reverted with `output`, which holds the contract's own error.
    pub(crate) fn reverted(output: &Bytes) -> Self {
        let data = serde_json::value::to_raw_value(output).ok();
        Self::Protocol(ErrorPayload { code: REVERTED, message: "execution reverted".into(), data })
    }

    fn coded(code: i64, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Protocol(ErrorPayload { code, message: message.into(), data: None })
    }
}

impl From<HomeError> for Fault {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Store(error) => error.into(),
            error => Self::Home(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotHere { height, bottom } => Self::no_history(height, bottom),
            error => Self::Home(error.into()),
        }
    }
}

/// A refused sealing: what is wrong with the transaction is the client's, the rest is the home's.
pub(crate) fn of_sealing(error: HomeError) -> Fault {
    match error {
        HomeError::Transaction { .. } | HomeError::Build(_) | HomeError::Remote(RemoteError::Refused { .. }) => {
            Fault::rejected(chain(&error))
        }
        other => Fault::Home(other),
    }
}

/// A call that could not be run at all.
pub(crate) fn of_call(at: &StateAt<'_>, error: CallError<StoreError>) -> Fault {
    match error.into_state() {
        Ok(state) => at.failed(state).into(),
        Err(CallError::Invalid(invalid)) => Fault::halted(chain(&CallError::<StoreError>::Invalid(invalid))),
        Err(other) => Fault::internal(chain(&other)),
    }
}

/// A call that ran and failed.
pub(crate) fn of_outcome(outcome: CallOutcome) -> Fault {
    match outcome {
        CallOutcome::Reverted(output) => Fault::reverted(&output),
        CallOutcome::Halted(reason) => Fault::halted(reason),
        CallOutcome::Returned(_) => Fault::internal("the call succeeded"),
    }
}
