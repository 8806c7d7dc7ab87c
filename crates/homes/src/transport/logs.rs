//! `eth_getLogs`.

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use serde_json::Value;

use super::fault::Fault;
use super::params::Params;
use super::{Answer, json, reads};
use crate::store::Store;

pub(super) fn answer(store: &Store, logs_max: usize, mut params: Params) -> Answer {
    let mut filter: Filter = params.next()?;
    params.finish()?;
    let Some((first, last)) = range(store, &filter)? else { return json::<[Value]>(&[]) };
    // The range is applied here, where tags have a meaning; the filter decides on addresses and topics alone.
    filter.block_option = FilterBlockOption::Range { from_block: None, to_block: None };
    let mut logs = Vec::new();
    for height in first..=last {
        append(store, &filter, height, &mut logs)?;
        if logs.len() > logs_max {
            return Err(Fault::limited(format!(
                "more than {logs_max} logs up to block {height}: ask for fewer blocks"
            )));
        }
    }
    json(&logs)
}

/// The heights that the filter names, as far as there are blocks.
fn range(store: &Store, filter: &Filter) -> Result<Option<(u64, u64)>, Fault> {
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let height = store.find_block(&hash)?.ok_or_else(|| Fault::not_found("there is no such block"))?;
            Ok(Some((height, height)))
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let first = reads::height_of(store, from_block.unwrap_or(BlockNumberOrTag::Latest));
            let last = match to_block.unwrap_or(BlockNumberOrTag::Latest) {
                BlockNumberOrTag::Number(height) => Some(height.min(store.height())),
                tag => reads::height_of(store, tag),
            };
            Ok(first.zip(last).filter(|(first, last)| first <= last))
        }
    }
}

fn append(store: &Store, filter: &Filter, height: u64, logs: &mut Vec<Log>) -> Result<(), Fault> {
    // Most blocks are passed over by their headers alone.
    if !filter.matches_bloom(store.header(height)?.logs_bloom) {
        return Ok(());
    }
    let stored = store.block(height)?;
    let receipts = store.receipts_of(&stored)?;
    let place = BlockNumHash::new(height, stored.hash);
    let hashes = stored.block.body.transactions.iter().map(|transaction| *transaction.tx_hash());
    filter.append_matching_block_logs(logs, place, stored.block.header.timestamp, hashes.zip(receipts.iter()), false);
    Ok(())
}
