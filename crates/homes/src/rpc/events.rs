//! `blockhouse_getEvents`: what the ledger says about an account or an object, page by page.
//!
//! - **Owns** the question, the page, and how much work one call may be.
//! - **Does not** decide where events may be: the store's index of them does.
//!
//! # Invariants
//! - **G1** A log is given only if it was read from a block that the head commits to, and is what was asked for.
//! - **G2** Pages that follow each other's cursors give each event once, in order, whatever blocks arrive in between.
//! - **G3** A call does a bounded work. Then its page is short, or empty, and its cursor tells where to go on.

mod checkpoint;
mod cursor;
mod search;
mod words;

use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_rpc_types_eth::Log;
use serde::{Deserialize, Serialize};

use self::search::Search;
use self::words::{Places, Words};
use super::{Answer, Fault, Params, Terms, json};
use crate::store::{EventKey, Order, Store};

pub(super) use checkpoint::answer as checkpoint;
pub use cursor::{Cursor, CursorError};

/// The most events of a page, and how many it has if nothing is said.
const PAGE_MAX: u64 = 1000;
const PAGE_USUAL: u64 = 100;
/// How many bytes of topics and data are enough for one page. The first event is given whatever its size.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// What is asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// An account that is an indexed argument.
    account: Option<Address>,
    /// An id that is an indexed argument.
    object: Option<B256>,
    /// The hash of the event's signature.
    topic: Option<B256>,
    /// The contract.
    emitter: Option<Address>,
    order: Option<Order>,
    limit: Option<U64>,
    cursor: Option<Bytes>,
}

impl Question {
    /// Each must be a key of the event.
    fn keys(&self) -> Vec<EventKey> {
        let emitter = self.emitter.map(EventKey::Emitter);
        let topic = self.topic.map(EventKey::Signature);
        let object = self.object.map(EventKey::Argument);
        let account = self.account.map(|account| EventKey::Argument(account.into_word()));
        [emitter, topic, object, account].into_iter().flatten().collect()
    }

    fn limit(&self) -> Result<usize, Fault> {
        match self.limit.map_or(PAGE_USUAL, |limit| limit.to()) {
            limit @ 1..=PAGE_MAX => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            _ => Err(Fault::parameters(format!("`limit` is a number from 1 to {PAGE_MAX}"))),
        }
    }
}

/// An event, as it is answered.
#[derive(Serialize)]
struct EventView {
    #[serde(flatten)]
    log: Log,
    /// What it says, if it is of a contract that is known.
    event: Option<Words>,
}

/// A page, as it is answered.
#[derive(Serialize)]
struct PageView {
    events: Vec<EventView>,
    /// Where the next page begins; none if there is no more.
    next: Option<Bytes>,
    /// Where what comes later will begin, once there is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<Bytes>,
}

pub(super) fn answer(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let question: Question = params.optional()?.unwrap_or_default();
    params.finish()?;
    // What is not here yet may be among what is asked for.
    store.expect_here(1)?;
    let (limit, keys) = (question.limit()?, question.keys());
    let order = question.order.unwrap_or(Order::Newest);
    let cursor = Cursor::of(store.genesis(), &keys, order);
    let start = question.cursor.map(|bytes| cursor.place_in(&bytes)).transpose();
    let start = start.map_err(|error| Fault::parameters(format!("`cursor`: {error}")))?;
    let mut search = Search::new(store, terms, keys, (start, order));
    let logs = page(&mut search, limit)?;
    let (next, resume) = match (search.place(), order) {
        (Some(place), _) => (Some(place), None),
        (None, Order::Newest) => (None, None),
        (None, Order::Oldest) => (None, Some(search.end())),
    };
    let mut places = Places::of(store);
    let events = logs.into_iter().map(|log| Ok(EventView { event: places.tell(&log.inner)?, log }));
    let events = events.collect::<Result<_, Fault>>()?;
    let bytes = |place| Bytes::from(cursor.at(place).encode());
    json(&PageView { events, next: next.map(bytes), resume: resume.map(bytes) })
}

fn page(search: &mut Search<'_>, limit: usize) -> Result<Vec<Log>, Fault> {
    let (mut logs, mut bytes) = (Vec::new(), 0);
    while logs.len() < limit && bytes < PAGE_BYTES {
        let Some(log) = search.next()? else { break };
        bytes += log.inner.data.data.len() + 32 * log.topics().len();
        logs.push(log);
    }
    Ok(logs)
}
