//! The methods that ask the home for more than its store: sending, the pool, peers, the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_consensus::transaction::Recovered;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_rpc_types_eth::Transaction;
use jsonrpsee::RpcModule;
use jsonrpsee::server::RegisterMethodError;
use serde::Serialize;
use serde_json::json as object;

use super::answerer::{Answerer, register};
use super::clients::Client;
use super::forks;
use crate::rpc::{Answer, Backend, Fault, Params, Pooled, SEND, Syncing, blocks, json, state};

type Shared<B> = Arc<Answerer<B>>;

/// Registers them.
pub(super) fn register_pool<B: Backend>(
    module: &mut RpcModule<Answerer<B>>,
    debug: bool,
) -> Result<(), RegisterMethodError> {
    register(module, SEND, send)?;
    register(module, "eth_getTransactionCount", nonce)?;
    register(module, "eth_getTransactionByHash", transaction)?;
    register(module, "eth_syncing", syncing)?;
    register(module, "net_listening", listening)?;
    register(module, "net_peerCount", peers)?;
    register(module, "txpool_status", status)?;
    register(module, "blockhouse_nodeStatus", node)?;
    register(module, "blockhouse_getResharingOutcome", made_outcome)?;
    register(module, "blockhouse_submitFork", forks::submit)?;
    if debug {
        register(module, "txpool_content", content)?;
    }
    Ok(())
}

async fn send<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let raw: Bytes = params.next()?;
    params.finish()?;
    json(&answerer.backend.submit(raw).await?)
}

/// `pending` counts what waits in the pool too.
async fn nonce<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let account: Address = params.next()?;
    let id: Option<BlockId> = params.optional()?;
    params.finish()?;
    let nonce = answerer.read(move |store, _| state::nonce_of(&state::state_after(store, id)?, &account)).await?;
    // What was sealed since the pool was asked is in neither, so the pool is asked last.
    let pending = matches!(id, Some(BlockId::Number(BlockNumberOrTag::Pending)));
    let pooled = pending.then(|| answerer.backend.next_nonce(&account)).flatten();
    json(&U64::from(pooled.unwrap_or(0).max(nonce)))
}

async fn transaction<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    let mut asked = params.clone();
    let hash: B256 = asked.next()?;
    // It may leave the pool for a block at any moment: whoever asks the pool first finds it in one of the two.
    let pooled = answerer.backend.find_pooled(&hash);
    let sealed = answerer.read(move |store, terms| blocks::transaction(store, terms, params)).await?;
    match pooled {
        Some(pooled) if sealed.get() == "null" => json(&view(pooled)),
        _ => Ok(sealed),
    }
}

async fn syncing<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    match answerer.backend.syncing() {
        None => json(&false),
        Some(Syncing { starting, current, highest }) => json(&object!({
            "startingBlock": U64::from(starting),
            "currentBlock": U64::from(current),
            "highestBlock": U64::from(highest),
        })),
    }
}

async fn listening<B: Backend>(_: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    json(&true)
}

async fn peers<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    json(&U64::from(answerer.backend.peers()))
}

async fn status<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    let status = answerer.backend.pool_status();
    json(&object!({ "pending": U64::from(status.pending), "queued": U64::from(status.queued) }))
}

async fn node<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    json(&answerer.backend.node())
}

async fn made_outcome<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    json(&answerer.backend.made_outcome())
}

/// The pool by accounts and nonces.
#[derive(Default, Serialize)]
struct Content {
    pending: BTreeMap<Address, BTreeMap<u64, Transaction>>,
    queued: BTreeMap<Address, BTreeMap<u64, Transaction>>,
}

async fn content<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    let mut content = Content::default();
    for pooled in answerer.backend.pooled() {
        let Pooled { sender, ready, .. } = pooled;
        let part = if ready { &mut content.pending } else { &mut content.queued };
        part.entry(sender).or_default().insert(pooled.transaction.nonce(), view(pooled));
    }
    json(&content).map_err(|_| Fault::internal("the pool could not be written down"))
}

/// A transaction that is in no block yet.
fn view(pooled: Pooled) -> Transaction {
    Transaction {
        inner: Recovered::new_unchecked(pooled.transaction, pooled.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}
