//! The methods that only read, each answered from one opened store.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{B256, U64};
use serde_json::Value;

use super::fault::Fault;
use super::params::Params;
use super::{Answer, json, logs, quantity, state, views};
use crate::store::{Store, StoreError};

/// How many blocks one `eth_feeHistory` covers, as in go-ethereum.
const FEE_HISTORY_MAX: u64 = 1024;

/// What an answer depends on beside the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The time a block would get if it were sealed now.
    pub(super) next_time: u64,
    /// The most logs of one answer.
    pub(super) logs_max: usize,
}

/// Answers one request.
pub(super) fn answer(store: &Store, terms: Terms, method: &str, params: Params) -> Answer {
    match method {
        "eth_chainId" => nothing(params).and_then(|()| quantity(store.genesis().chain_id)),
        "net_version" => nothing(params).and_then(|()| json(&store.genesis().chain_id.to_string())),
        "eth_blockNumber" => nothing(params).and_then(|()| quantity(store.height())),
        "eth_gasPrice" | "eth_maxPriorityFeePerGas" => nothing(params).and_then(|()| quantity(0)),
        "eth_syncing" => nothing(params).and_then(|()| json(&false)),
        "eth_accounts" => nothing(params).and_then(|()| json::<[Value]>(&[])),
        "web3_clientVersion" => nothing(params).and_then(|()| json(concat!("blockhouse/", env!("CARGO_PKG_VERSION")))),
        "eth_feeHistory" => fee_history(store, params),
        "eth_getBlockByNumber" => block_by_number(store, params),
        "eth_getBlockByHash" => block_by_hash(store, params),
        "eth_getBlockReceipts" => block_receipts(store, params),
        "eth_getBlockTransactionCountByNumber" => transaction_count(store, params),
        "eth_getTransactionByHash" => transaction(store, params),
        "eth_getTransactionReceipt" => receipt(store, params),
        "eth_getLogs" => logs::answer(store, terms.logs_max, params),
        _ => state::answer(store, terms.next_time, method, params),
    }
}

fn nothing(params: Params) -> Result<(), Fault> {
    params.finish()
}

/// The height a tag or number stands for; `None` if there is no such block yet.
///
/// There are no pending and no unsafe blocks: every sealed block is final.
pub(super) fn height_of(store: &Store, tag: BlockNumberOrTag) -> Option<u64> {
    match tag {
        BlockNumberOrTag::Earliest => Some(0),
        BlockNumberOrTag::Number(height) => (height <= store.height()).then_some(height),
        _ => Some(store.height()),
    }
}

/// The height a block id stands for.
pub(super) fn height_of_id(store: &Store, id: BlockId) -> Result<Option<u64>, StoreError> {
    match id {
        BlockId::Number(tag) => Ok(height_of(store, tag)),
        BlockId::Hash(hash) => store.find_block(&hash.block_hash),
    }
}

fn block_by_number(store: &Store, mut params: Params) -> Answer {
    let tag: BlockNumberOrTag = params.next()?;
    let full: bool = params.optional()?.unwrap_or(false);
    params.finish()?;
    block_at(store, height_of(store, tag), full)
}

fn block_by_hash(store: &Store, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    let full: bool = params.optional()?.unwrap_or(false);
    params.finish()?;
    block_at(store, store.find_block(&hash)?, full)
}

fn block_at(store: &Store, height: Option<u64>, full: bool) -> Answer {
    let Some(height) = height else { return json(&Value::Null) };
    let stored = store.block(height)?;
    json(&views::block(&stored.block, stored.hash, full)?)
}

fn transaction_count(store: &Store, mut params: Params) -> Answer {
    let tag: BlockNumberOrTag = params.next()?;
    params.finish()?;
    match height_of(store, tag) {
        None => json(&Value::Null),
        Some(height) => quantity(store.block(height)?.block.body.transactions.len() as u64),
    }
}

fn block_receipts(store: &Store, mut params: Params) -> Answer {
    let id: BlockId = params.next()?;
    params.finish()?;
    let Some(height) = height_of_id(store, id)? else { return json(&Value::Null) };
    let stored = store.block(height)?;
    json(&views::receipts(&stored.block, stored.hash, store.receipts(height)?)?)
}

fn transaction(store: &Store, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    params.finish()?;
    let Some(place) = store.find_transaction(&hash)? else { return json(&Value::Null) };
    let stored = store.block(place.height)?;
    json(&views::transaction(&stored.block, stored.hash, place.index)?)
}

fn receipt(store: &Store, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    params.finish()?;
    let Some(place) = store.find_transaction(&hash)? else { return json(&Value::Null) };
    let stored = store.block(place.height)?;
    let receipts = views::receipts(&stored.block, stored.hash, store.receipts(place.height)?)?;
    json(&receipts.get(place.index))
}

/// Prices are zero at all times; only the range and the gas used are asked of the blocks.
fn fee_history(store: &Store, mut params: Params) -> Answer {
    let count: U64 = params.next()?;
    let newest: BlockNumberOrTag = params.next()?;
    let percentiles: Option<Vec<f64>> = params.optional()?;
    params.finish()?;
    let newest = height_of(store, newest).ok_or_else(|| Fault::not_found("there is no such block"))?;
    let count = count.to::<u64>().min(FEE_HISTORY_MAX).min(newest + 1);
    let mut ratios = Vec::new();
    for height in newest + 1 - count..=newest {
        let header = store.block(height)?.block.header;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
        ratios.push(header.gas_used as f64 / header.gas_limit as f64);
    }
    let blocks = ratios.len();
    json(&alloy_rpc_types_eth::FeeHistory {
        base_fee_per_gas: vec![0; blocks + 1],
        gas_used_ratio: ratios,
        oldest_block: newest + 1 - count,
        reward: percentiles.map(|percentiles| vec![vec![0; percentiles.len()]; blocks]),
        ..Default::default()
    })
}
