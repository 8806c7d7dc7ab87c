//! `eth_getLogs`, and the search for logs that filters and subscriptions share.

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use serde_json::Value;

use super::blocks::height_of;
use super::{Answer, Fault, Params, Terms, json};
use crate::store::Store;

pub(super) fn answer(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let filter: Filter = params.next()?;
    params.finish()?;
    of_filter(store, terms, &filter)
}

/// All logs that a filter names.
pub(super) fn of_filter(store: &Store, terms: &Terms, filter: &Filter) -> Answer {
    let Some((first, last)) = range(store, filter)? else { return json::<[Value]>(&[]) };
    let range_max = terms.range_max;
    if last - first >= range_max {
        return Err(Fault::limited(format!("more than {range_max} blocks: ask for fewer")));
    }
    let (logs, next) = collect(store, terms, filter, (first, last))?;
    let logs_max = terms.logs_max;
    if next <= last || logs.len() > logs_max {
        return Err(Fault::limited(format!("more than {logs_max} logs up to block {next}: ask for fewer blocks")));
    }
    json(&logs)
}

/// The logs of these heights, by the addresses and topics of the filter alone, and the height to go on from: whole
/// blocks as long as there are not too many logs, and one block in any case.
pub(super) fn collect(
    store: &Store,
    terms: &Terms,
    filter: &Filter,
    (first, last): (u64, u64),
) -> Result<(Vec<Log>, u64), Fault> {
    // The range is applied here, where tags have a meaning.
    let filter = Filter { block_option: FilterBlockOption::default(), ..filter.clone() };
    let mut logs = Vec::new();
    for height in first..=last {
        terms.check_time()?;
        let before = logs.len();
        append(store, &filter, height, &mut logs)?;
        if logs.len() > terms.logs_max && height > first {
            logs.truncate(before);
            return Ok((logs, height));
        }
    }
    Ok((logs, last.saturating_add(1)))
}

/// The heights that the filter names, as far as there are blocks.
fn range(store: &Store, filter: &Filter) -> Result<Option<(u64, u64)>, Fault> {
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let height = store.find_block(&hash)?.ok_or_else(|| Fault::not_found("there is no such block"))?;
            Ok(Some((height, height)))
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let first = height_of(store, from_block.unwrap_or(BlockNumberOrTag::Latest));
            let last = last_of(store, to_block);
            Ok(first.zip(last).filter(|(first, last)| first <= last))
        }
    }
}

/// The last height that a filter takes of what there is now.
pub(super) fn last_of(store: &Store, to_block: Option<BlockNumberOrTag>) -> Option<u64> {
    match to_block.unwrap_or(BlockNumberOrTag::Latest) {
        BlockNumberOrTag::Number(height) => Some(height.min(store.height())),
        tag => height_of(store, tag),
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
