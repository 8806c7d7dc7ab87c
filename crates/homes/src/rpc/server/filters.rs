//! Filters that clients poll: new blocks, new logs, new transactions.
//!
//! - **Owns** where each filter stands.
//! - **Does not** keep what a filter finds: the chain is final, so a place on it is enough.
//!
//! # Invariants
//! - **F1** Each block and log is given once to a filter: its place moves only by the answer that gives what lies between.
//! - **F2** There are never more filters than the limits say, and none is older than its time since it was last asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::B256;
use alloy_rpc_types_eth::{Filter, FilterBlockOption};
use jsonrpsee::RpcModule;
use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::Limits;
use super::answerer::{Answerer, register};
use super::clients::Client;
use crate::rpc::{Answer, Backend, Fault, Params, json, logs};
use crate::store::Store;

/// The most hashes of one answer; the next one goes on from there.
const HASHES_MAX: usize = 10_000;

type Shared<B> = Arc<Answerer<B>>;

/// Registers their methods.
pub(super) fn register_filters<B: Backend>(module: &mut RpcModule<Answerer<B>>) -> Result<(), RegisterMethodError> {
    register(module, "eth_newFilter", new_logs)?;
    register(module, "eth_newBlockFilter", new_blocks)?;
    register(module, "eth_newPendingTransactionFilter", new_arrivals)?;
    register(module, "eth_getFilterChanges", changes)?;
    register(module, "eth_getFilterLogs", all_logs)?;
    register(module, "eth_uninstallFilter", uninstall)
}

/// A name for a filter or a subscription that nobody guesses.
pub(super) fn fresh_id() -> String {
    format!("0x{:032x}", rand::random::<u128>())
}

/// All filters of a server.
#[derive(Debug)]
pub(super) struct Filters {
    limits: Limits,
    known: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    asked: Instant,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Blocks { next: u64 },
    Logs { filter: Arc<Filter>, next: u64 },
    Arrivals(Receiver<B256>),
}

/// What a filter wants to know of the store.
enum Question {
    Blocks { next: u64 },
    Logs { filter: Arc<Filter>, next: u64 },
    Answered(Vec<B256>),
}

impl Filters {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::new(HashMap::new()) }
    }

    fn add(&self, client: Client, kind: Kind) -> Answer {
        let mut known = self.fresh();
        if known.len() >= self.limits.filters {
            return Err(Fault::limited("there are too many filters: ask again later"));
        }
        if known.values().filter(|entry| entry.client == client).count() >= self.limits.filters_per_client {
            return Err(Fault::limited("too many filters of one client: uninstall some"));
        }
        let id = fresh_id();
        let answer = json(&id);
        known.insert(id, Entry { client, asked: Instant::now(), kind });
        answer
    }

    fn question(&self, id: &str) -> Result<Question, Fault> {
        let mut known = self.fresh();
        let entry = known.get_mut(id).ok_or_else(Fault::no_filter)?;
        entry.asked = Instant::now();
        Ok(match &mut entry.kind {
            Kind::Blocks { next } => Question::Blocks { next: *next },
            Kind::Logs { filter, next } => Question::Logs { filter: Arc::clone(filter), next: *next },
            Kind::Arrivals(arrivals) => Question::Answered(drain(arrivals)),
        })
    }

    /// Moves a filter on; false if another answer did it first.
    fn advance(&self, id: &str, from: u64, to: u64) -> bool {
        match self.fresh().get_mut(id).map(|entry| &mut entry.kind) {
            Some(Kind::Blocks { next } | Kind::Logs { next, .. }) if *next == from => {
                *next = to;
                true
            }
            _ => false,
        }
    }

    /// The filters that somebody still asks for.
    fn fresh(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, time) = (Instant::now(), self.limits.filter_time);
        known.retain(|_, entry| now.saturating_duration_since(entry.asked) < time);
        known
    }
}

/// The hashes that came since; who is too slow misses the oldest.
fn drain(arrivals: &mut Receiver<B256>) -> Vec<B256> {
    let mut hashes = Vec::new();
    while hashes.len() < HASHES_MAX {
        match arrivals.try_recv() {
            Ok(hash) => hashes.push(hash),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    hashes
}

async fn new_logs<B: Backend>(answerer: Shared<B>, mut params: Params, client: Client) -> Answer {
    let filter: Filter = params.next()?;
    params.finish()?;
    let head = answerer.read(|store, _| Ok(store.height())).await?;
    let next = match filter.block_option {
        FilterBlockOption::Range { from_block: Some(BlockNumberOrTag::Number(from)), .. } => from.max(head + 1),
        _ => head + 1,
    };
    answerer.filters.add(client, Kind::Logs { filter: Arc::new(filter), next })
}

async fn new_blocks<B: Backend>(answerer: Shared<B>, params: Params, client: Client) -> Answer {
    params.finish()?;
    let next = answerer.read(|store, _| Ok(store.height())).await? + 1;
    answerer.filters.add(client, Kind::Blocks { next })
}

async fn new_arrivals<B: Backend>(answerer: Shared<B>, params: Params, client: Client) -> Answer {
    params.finish()?;
    answerer.filters.add(client, Kind::Arrivals(answerer.backend.arrivals()))
}

async fn changes<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let id: String = params.next()?;
    params.finish()?;
    let (from, (answer, to)) = match answerer.filters.question(&id)? {
        Question::Answered(hashes) => return json(&hashes),
        Question::Blocks { next } => (next, answerer.read(move |store, _| blocks_since(store, next)).await?),
        Question::Logs { filter, next } => {
            let found = answerer.read(move |store, terms| {
                let Some(last) = last_of(store, &filter).filter(|last| next <= *last) else {
                    return Ok((json::<[Value]>(&[])?, next));
                };
                let last = last.min(next.saturating_add(terms.range_max.saturating_sub(1)));
                let (logs, to) = logs::collect(store, terms, &filter, (next, last))?;
                Ok((json(&logs)?, to))
            });
            (next, found.await?)
        }
    };
    if answerer.filters.advance(&id, from, to) { Ok(answer) } else { json::<[Value]>(&[]) }
}

fn blocks_since(store: &Store, next: u64) -> Result<(Box<serde_json::value::RawValue>, u64), Fault> {
    let hashes = (next..=store.height()).take(HASHES_MAX).map(|height| store.hash_at(height));
    let hashes: Vec<B256> = hashes.map_while(Result::transpose).collect::<Result<_, _>>()?;
    let to = next.saturating_add(hashes.len() as u64);
    Ok((json(&hashes)?, to))
}

/// The last height that a filter of new logs takes.
fn last_of(store: &Store, filter: &Filter) -> Option<u64> {
    match filter.block_option {
        FilterBlockOption::Range { to_block, .. } => logs::last_of(store, to_block),
        // One block, which is there already: nothing new comes of it.
        FilterBlockOption::AtBlockHash(_) => None,
    }
}

async fn all_logs<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let id: String = params.next()?;
    params.finish()?;
    let filter = {
        let known = answerer.filters.fresh();
        match known.get(&id).map(|entry| &entry.kind) {
            Some(Kind::Logs { filter, .. }) => Arc::clone(filter),
            _ => return Err(Fault::no_filter()),
        }
    };
    answerer.read(move |store, terms| logs::of_filter(store, terms, &filter)).await
}

async fn uninstall<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let id: String = params.next()?;
    params.finish()?;
    let known = answerer.filters.fresh().remove(&id).is_some();
    json(&known)
}
