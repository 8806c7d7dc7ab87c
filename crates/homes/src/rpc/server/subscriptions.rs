//! Subscriptions over WebSockets: new heads, logs, transactions that arrive.
//!
//! # Invariants
//! - **U1** A subscriber gets each head and each log once, in order: it has a place on the chain, and the announcement of
//!   a head only wakes it up. Who is slow gets them later.
//! - **U2** Who takes nothing for [`Limits::write_time`](super::Limits::write_time) loses the subscription.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rpc_types_eth::Filter;
use jsonrpsee::server::{
    IdProvider, PendingSubscriptionSink, RegisterMethodError, SubscriptionMessage, SubscriptionSink,
};
use jsonrpsee::types::SubscriptionId;
use jsonrpsee::{Extensions, RpcModule};
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;

use super::answerer::Answerer;
use super::errors::error_of;
use super::filters::fresh_id;
use crate::rpc::{Backend, Fault, Params, Terms, blocks, json, logs};
use crate::store::Store;

/// How many heads are read at a time.
const HEADS_AT_ONCE: u64 = 64;

/// Gives subscriptions ids in the form that clients expect.
#[derive(Debug)]
pub(super) struct Ids;

impl IdProvider for Ids {
    fn next_id(&self) -> SubscriptionId<'static> {
        fresh_id().into()
    }
}

/// What somebody subscribes to.
enum Topic {
    Heads,
    Logs(Arc<Filter>),
    Arrivals,
}

impl Topic {
    fn read(params: Option<&str>) -> Result<Self, Fault> {
        let mut params = Params::read(params)?;
        let name: String = params.next()?;
        let topic = match name.as_str() {
            "newHeads" => Self::Heads,
            "logs" => Self::Logs(Arc::new(params.optional()?.unwrap_or_default())),
            "newPendingTransactions" => {
                if params.optional()?.unwrap_or(false) {
                    return Err(Fault::parameters("whole transactions are not sent, only their hashes"));
                }
                Self::Arrivals
            }
            other => return Err(Fault::parameters(format!("there is no subscription to {other}"))),
        };
        params.finish()?;
        Ok(topic)
    }
}

/// Registers `eth_subscribe` and `eth_unsubscribe`.
pub(super) fn register_subscriptions<B: Backend>(
    module: &mut RpcModule<Answerer<B>>,
) -> Result<(), RegisterMethodError> {
    module.register_subscription("eth_subscribe", "eth_subscription", "eth_unsubscribe", subscribe)?;
    Ok(())
}

async fn subscribe<B: Backend>(
    params: jsonrpsee::types::Params<'static>,
    pending: PendingSubscriptionSink,
    answerer: Arc<Answerer<B>>,
    _: Extensions,
) {
    let topic = match Topic::read(params.as_str()) {
        Ok(topic) => topic,
        Err(fault) => return pending.reject(error_of("eth_subscribe", fault)).await,
    };
    match topic {
        Topic::Heads => follow(&answerer, pending, heads_since).await,
        Topic::Logs(filter) => {
            follow(&answerer, pending, move |store, terms, next| logs_since(store, terms, &filter, next)).await;
        }
        Topic::Arrivals => arrivals(&answerer, pending).await,
    }
}

/// The messages from a height on, and the height to go on from.
type Found = Result<(Vec<Box<RawValue>>, u64), Fault>;

fn heads_since(store: &Store, _: &Terms, next: u64) -> Found {
    let last = store.height().min(next.saturating_add(HEADS_AT_ONCE - 1));
    let heads = (next..=last).map(|height| blocks::head(store, height)).collect::<Result<_, _>>()?;
    Ok((heads, next.max(last.saturating_add(1))))
}

fn logs_since(store: &Store, terms: &Terms, filter: &Filter, next: u64) -> Found {
    let last = store.height().min(next.saturating_add(terms.range_max.saturating_sub(1)));
    if next > last {
        return Ok((Vec::new(), next));
    }
    let (logs, next) = logs::collect(store, terms, filter, (next, last))?;
    Ok((logs.iter().map(json).collect::<Result<_, _>>()?, next))
}

/// Sends what `find` gives for each new head, until the subscriber goes or takes nothing.
async fn follow<B, F>(answerer: &Answerer<B>, pending: PendingSubscriptionSink, find: F)
where
    B: Backend,
    F: Fn(&Store, &Terms, u64) -> Found + Clone + Send + 'static,
{
    let mut heads = answerer.backend.heads();
    let mut next = heads.borrow_and_update().saturating_add(1);
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let head = *heads.borrow_and_update();
        while next <= head {
            let find = find.clone();
            let found = answerer.read(move |store, terms| find(store, terms, next)).await;
            let (messages, to) = match found {
                Ok(found) => found,
                // The operator is told; what was not read is read when the next head is announced.
                Err(fault) => {
                    drop(error_of("eth_subscribe", fault));
                    break;
                }
            };
            next = to;
            for message in messages {
                if !send(answerer, &sink, message).await {
                    return;
                }
            }
        }
        // Whichever comes first; the other one is only a wish to know.
        tokio::select! {
            changed = heads.changed() => if changed.is_err() { return },
            () = sink.closed() => return,
        }
    }
}

async fn arrivals<B: Backend>(answerer: &Answerer<B>, pending: PendingSubscriptionSink) {
    let mut arrivals = answerer.backend.arrivals();
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let arrived: Result<B256, RecvError> = tokio::select! {
            arrived = arrivals.recv() => arrived,
            () = sink.closed() => return,
        };
        let message = match arrived.map(|hash| json(&hash)) {
            Ok(Ok(message)) => message,
            Err(RecvError::Lagged(_)) => continue,
            Ok(Err(_)) | Err(RecvError::Closed) => return,
        };
        if !send(answerer, &sink, message).await {
            return;
        }
    }
}

/// False if the subscriber is gone, or so slow that it is let go.
async fn send<B: Backend>(answerer: &Answerer<B>, sink: &SubscriptionSink, message: Box<RawValue>) -> bool {
    sink.send_timeout(SubscriptionMessage::from(message), answerer.limits.write_time).await.is_ok()
}
