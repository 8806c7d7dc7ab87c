//! `debug_traceTransaction` with the `callTracer`.
//!
//! The state that a transaction began from is kept if its block is one of the last. For an older one the chain is run again in memory from
//! block 0 up to it, and each block that is run must be the one that is stored.

use alloy_primitives::{Address, B256, Bytes, Log, U64, U256};
use blockhouse_ledger::execute::import;
use blockhouse_ledger::state::MemoryState;
use blockhouse_ledger::trace::{CallKind, Frame, TraceError, trace};
use serde::{Deserialize, Serialize};

use super::{Answer, Fault, Params, Terms, json};
use crate::chain::chain;
use crate::store::{Place, Store, StoredBlock};

/// The most blocks that are run again for one trace: a bound on the memory of the state and on the work. The time that a
/// call may take, some 10 ms a block, often ends it before.
const REPLAY_MAX: u64 = 10_000;

/// What is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    tracer: String,
    #[serde(default)]
    tracer_config: Config,
    /// Taken for the sake of clients that always send it; the server's own limit holds.
    #[serde(default, rename = "timeout")]
    _timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Config {
    only_top_call: bool,
    with_log: bool,
}

/// Traces a transaction.
pub(super) fn transaction(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    let options: Option<Options> = params.optional()?;
    params.finish()?;
    let Some(Options { tracer_config, .. }) = options.filter(|options| options.tracer == "callTracer") else {
        return Err(Fault::parameters("the only tracer is `callTracer`, and it must be named"));
    };
    let place = store.find_transaction(&hash)?.ok_or_else(|| Fault::not_found("transaction not found"))?;
    json(&view(frame(store, terms, place)?, &tracer_config))
}

/// Runs the block of a transaction again up to it.
fn frame(store: &Store, terms: &Terms, Place { height, index }: Place) -> Result<Frame, Fault> {
    let before = height.checked_sub(1).ok_or_else(|| Fault::internal("block 0 holds no transaction"))?;
    let block = store.block(height)?.block;
    if let Some(at) = store.state_at(before)? {
        let traced = trace(store.genesis(), at.header(), &at, &block, index);
        return traced.map_err(|error| match error.into_state() {
            Ok(state) => at.failed(state).into(),
            Err(other) => of_trace(store, &other),
        });
    }
    let (parent, state) = replayed(store, terms, before)?;
    let traced = trace(store.genesis(), &parent.block.header, &state, &block, index);
    traced.map_err(|error| of_trace(store, &error))
}

/// The block at that height, and the state after it, by running all blocks up to there.
fn replayed(store: &Store, terms: &Terms, last: u64) -> Result<(StoredBlock, MemoryState), Fault> {
    if last > REPLAY_MAX {
        return Err(Fault::no_state(last, store));
    }
    let (mut parent, mut state) = (store.block(0)?, MemoryState::new());
    state.set_block_hash(0, parent.hash);
    for height in 1..=last {
        terms.check_time()?;
        let next = store.block(height)?;
        let executed = import(store.genesis(), &parent.block.header, &state, &next.block)
            .map_err(|error| store.damaged(format!("block {height} does not run as it did: {}", chain(&error))))?;
        state.apply(&executed.changes);
        state.set_block_hash(height, next.hash);
        parent = next;
    }
    Ok((parent, state))
}

fn of_trace<E: std::error::Error + Send + Sync + 'static>(store: &Store, error: &TraceError<E>) -> Fault {
    match error {
        TraceError::TooMany { .. } => Fault::limited(chain(error)),
        other => store.damaged(chain(other)).into(),
    }
}

/// A call as go-ethereum writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    from: Address,
    gas: U64,
    gas_used: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Address>,
    input: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revert_reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<View>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<LogView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<U256>,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// A log inside a call; `position` is how many calls were made before it.
#[derive(Serialize)]
struct LogView {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    position: U64,
}

fn view(frame: Frame, config: &Config) -> View {
    let calls = if config.only_top_call { Vec::new() } else { frame.calls };
    let logs = if config.with_log { frame.logs } else { Vec::new() };
    View {
        from: frame.from,
        gas: U64::from(frame.gas),
        gas_used: U64::from(frame.gas_used),
        to: frame.to,
        input: frame.input,
        output: (!frame.output.is_empty()).then_some(frame.output),
        error: frame.error,
        revert_reason: frame.revert_reason,
        calls: calls.into_iter().map(|call| view(call, config)).collect(),
        logs: logs.into_iter().map(|(position, log)| log_view(position, log)).collect(),
        value: (frame.kind != CallKind::StaticCall).then_some(frame.value),
        kind: frame.kind.name(),
    }
}

fn log_view(position: usize, log: Log) -> LogView {
    let (topics, data) = log.data.split();
    LogView { address: log.address, topics, data, position: U64::from(position) }
}
