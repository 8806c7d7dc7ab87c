//! Ethereum's JSON-RPC over a ledger: what each method does with an opened store, and the server that offers it.
//!
//! - **Owns** the methods, their parameters, answers and errors, as any Ethereum client knows them; the server.
//! - **Does not** open stores, seal or hold a pool: a [`Backend`] does, and the in-process transport has its own home.
//!
//! # Invariants
//! - **P1** A result was checked against the head as the store checks it; a state is that of the block that was named, under the root in its
//!   header, or refused.
//! - **P2** A method of the table reads one store at one head: its answer never mixes two blocks.
//! - **P3** Each answer has a bound, named in [`Terms`] or beside its method.
//!
//! Methods, limits and codes: `docs/reference/json-rpc.md`.

#[cfg(feature = "node")]
pub mod backend;
mod blocks;
mod calls;
mod events;
mod facts;
mod fault;
mod fees;
mod ledger;
mod logs;
#[cfg(feature = "node")]
pub mod node_status;
mod params;
#[cfg(feature = "node")]
pub mod server;
mod state;
#[cfg(feature = "node")]
mod trace;
mod views;

use std::time::Instant;

use alloy_primitives::hex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

#[cfg(feature = "node")]
use crate::embedded::HomeError;
use crate::store::Store;

#[cfg(feature = "node")]
pub use backend::{Backend, EmbeddedBackend, PoolStatus, Pooled, Refused, Syncing};
pub use events::{Cursor, CursorError};
pub(crate) use fault::{Fault, of_sealing};
pub use fault::{LIMIT_EXCEEDED, NONCE_TAKEN};
#[cfg(feature = "node")]
pub use node_status::{
    AttestingStatus, ForkStatus, HistoryStatus, MadeOutcome, NodeRole, NodeStatus, OtherRelease, ResharingStatus,
    ScrubStatus,
};
pub(crate) use params::Params;
#[cfg(feature = "node")]
pub use server::{Limits, Server, ServerError, ServerOptions};

/// The one method that writes.
pub(crate) const SEND: &str = "eth_sendRawTransaction";

/// What a method gives: its result as JSON.
pub(crate) type Answer = Result<Box<RawValue>, Fault>;

/// What an answer depends on beside the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// The time a block would get if it were sealed now.
    pub(crate) next_time: u64,
    /// The most logs of one answer.
    pub(crate) logs_max: usize,
    /// The most blocks that are searched for logs at once.
    pub(crate) range_max: u64,
    /// When nobody waits for the answer any more.
    pub(crate) deadline: Option<Instant>,
}

impl Terms {
    /// Fails when nobody waits any more; asked at each step of long work.
    fn check_time(&self) -> Result<(), Fault> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Fault::timed_out()),
            _ => Ok(()),
        }
    }
}

/// A method over an opened store.
pub(crate) type Method = fn(&Store, &Terms, Params) -> Answer;

/// All methods that need nothing but a store.
pub(crate) const METHODS: &[(&str, Method)] = &[
    ("blockhouse_certificate", ledger::certificate),
    ("blockhouse_genesis", ledger::genesis),
    ("blockhouse_getBlockObjects", ledger::block_objects),
    ("blockhouse_getCheckpoint", events::checkpoint),
    ("blockhouse_getEvents", events::answer),
    #[cfg(feature = "node")]
    ("blockhouse_getLinks", ledger::links),
    #[cfg(feature = "node")]
    ("blockhouse_getPastBlocks", ledger::past_blocks),
    ("blockhouse_getReceiptProof", ledger::receipt_proof),
    ("blockhouse_standing", ledger::standing),
    ("eth_accounts", facts::accounts),
    ("eth_blobBaseFee", fees::zero),
    ("eth_blockNumber", blocks::number),
    ("eth_call", calls::call),
    ("eth_chainId", facts::chain_id),
    ("eth_createAccessList", calls::access_list),
    ("eth_estimateGas", calls::estimate_gas),
    ("eth_feeHistory", fees::history),
    ("eth_gasPrice", fees::zero),
    ("eth_getBalance", state::balance),
    ("eth_getBlockByHash", blocks::by_hash),
    ("eth_getBlockByNumber", blocks::by_number),
    ("eth_getBlockReceipts", blocks::receipts),
    ("eth_getBlockTransactionCountByHash", blocks::transaction_count_by_hash),
    ("eth_getBlockTransactionCountByNumber", blocks::transaction_count_by_number),
    ("eth_getCode", state::code),
    ("eth_getLogs", logs::answer),
    ("eth_getProof", state::proof),
    ("eth_getStorageAt", state::slot),
    ("eth_getTransactionByBlockHashAndIndex", blocks::transaction_by_hash_and_index),
    ("eth_getTransactionByBlockNumberAndIndex", blocks::transaction_by_number_and_index),
    ("eth_getTransactionByHash", blocks::transaction),
    ("eth_getTransactionCount", state::nonce),
    ("eth_getTransactionReceipt", blocks::receipt),
    ("eth_getUncleByBlockHashAndIndex", blocks::uncle_by_hash),
    ("eth_getUncleByBlockNumberAndIndex", blocks::uncle_by_number),
    ("eth_getUncleCountByBlockHash", blocks::uncle_count_by_hash),
    ("eth_getUncleCountByBlockNumber", blocks::uncle_count_by_number),
    ("eth_maxPriorityFeePerGas", fees::zero),
    ("eth_syncing", facts::not_syncing),
    ("net_version", facts::network),
    ("web3_clientVersion", facts::client_version),
    ("web3_sha3", facts::sha3),
];

/// Answers one request from one opened store.
pub(crate) fn answer(store: &Store, terms: &Terms, method: &str, params: Params) -> Answer {
    match METHODS.iter().find(|(name, _)| *name == method) {
        Some((_, answer)) => answer(store, terms, params),
        None => Err(Fault::unknown_method(method)),
    }
}

/// The names of the methods that need nothing but a store.
#[cfg(feature = "node")]
pub fn method_names() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// Answers one request from an opened store, where there is no server: its result as text, or the code of its error.
/// What fails in the store itself is told as the store tells it.
#[cfg(feature = "node")]
pub fn answer_text(store: &Store, method: &str, params: &str) -> Result<Result<String, i64>, HomeError> {
    let next_time = store.head().header().timestamp.saturating_add(1);
    let Limits { logs, log_range, .. } = Limits::USUAL;
    let terms = Terms { next_time, logs_max: logs, range_max: log_range, deadline: None };
    match Params::read(Some(params)).and_then(|params| answer(store, &terms, method, params)) {
        Ok(result) => Ok(Ok(result.get().to_owned())),
        Err(Fault::Protocol(error)) => Ok(Err(error.code)),
        Err(Fault::Home(error)) => Err(error),
    }
}

/// A result as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    to_raw_value(value).map_err(|error| Fault::internal(error.to_string()))
}

/// A number as Ethereum writes it: hexadecimal without leading zeros.
pub(crate) fn quantity(value: u64) -> Answer {
    json(&format!("0x{value:x}"))
}

/// Bytes as Ethereum writes them.
fn data(value: impl AsRef<[u8]>) -> Answer {
    json(&hex::encode_prefixed(value))
}
