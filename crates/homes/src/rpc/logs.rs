//! `eth_getLogs`, and the search for logs that filters and subscriptions share.

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use serde_json::Value;

use super::blocks::height_of;
use super::{Answer, Fault, Params, Terms, json};
use crate::store::{EventKey, EventPlace, Order, Sought, Store, Wanted};

/// With more keys than these, looking at the headers of blocks costs less than looking up all keys for each hit.
const KEYS_MAX: usize = 16;
/// How many look-ups are made before the time is looked at.
const LOOK_UPS: u64 = 4096;

pub(super) fn answer(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let filter: Filter = params.next()?;
    params.finish()?;
    of_filter(store, terms, &filter)
}

/// All logs that a filter names.
pub(super) fn of_filter(store: &Store, terms: &Terms, filter: &Filter) -> Answer {
    let Some((first, last)) = range(store, filter)? else { return json::<[Value]>(&[]) };
    // The index of events says nothing of what is not here yet; block 0 has no logs.
    store.expect_here(first.max(1))?;
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
    let (mut logs, wanted) = (Vec::new(), wanted(store, &filter));
    let mut next = first;
    loop {
        let height = next_candidate(store, terms, wanted.as_ref(), next)?;
        if height > last {
            return Ok((logs, last.saturating_add(1)));
        }
        terms.check_time()?;
        let before = logs.len();
        append(store, &filter, height, &mut logs)?;
        if logs.len() > terms.logs_max && height > first {
            logs.truncate(before);
            return Ok((logs, height));
        }
        next = height.saturating_add(1);
    }
}

/// What the index of events is asked for, where it may be believed that it leaves nothing out: a node's answer is a word of the node
/// anyway, but what a host's own workflows read is found by the headers, which are checked. See `docs/design/ledger.md`.
fn wanted(store: &Store, filter: &Filter) -> Option<Wanted> {
    let emitters = filter.address.iter().map(|address| EventKey::Emitter(*address)).collect::<Vec<_>>();
    let topics = filter.topics.iter().enumerate().map(|(number, topics)| {
        let key = if number == 0 { EventKey::Signature } else { EventKey::Argument };
        topics.iter().map(|topic| key(*topic)).collect::<Vec<_>>()
    });
    let wanted = Wanted::new(std::iter::once(emitters).chain(topics).filter(|keys| !keys.is_empty()));
    (store.believes_misses() && (1..=KEYS_MAX).contains(&wanted.len())).then_some(wanted)
}

/// The first height from `from` on where there may be a log that is wanted: of what is not in the index, each.
fn next_candidate(store: &Store, terms: &Terms, wanted: Option<&Wanted>, from: u64) -> Result<u64, Fault> {
    let Some(wanted) = wanted.filter(|_| from < store.indexed_events()) else { return Ok(from) };
    let mut place = EventPlace::first_of(from);
    loop {
        terms.check_time()?;
        match store.seek_event(wanted, (place, Order::Oldest), &mut { LOOK_UPS })? {
            Sought::At(found) => return Ok(found.height()),
            Sought::Nowhere => return Ok(store.indexed_events()),
            Sought::Spent(next) => place = next,
        }
    }
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
