//! The methods on blocks, their transactions and receipts.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{B256, U64};
use serde_json::Value;

use super::{Answer, Fault, Params, Terms, json, quantity, views};
use crate::store::{Store, StoreError};

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

pub(super) fn number(store: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    quantity(store.height())
}

pub(super) fn by_number(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_tag(store, &mut params)?;
    block_at(store, height, params)
}

pub(super) fn by_hash(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_name(store, &mut params)?;
    block_at(store, height, params)
}

pub(super) fn transaction_count_by_number(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_tag(store, &mut params)?;
    transaction_count(store, height, params)
}

pub(super) fn transaction_count_by_hash(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_name(store, &mut params)?;
    transaction_count(store, height, params)
}

pub(super) fn uncle_count_by_number(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_tag(store, &mut params)?;
    uncle_count(height, params)
}

pub(super) fn uncle_count_by_hash(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_name(store, &mut params)?;
    uncle_count(height, params)
}

pub(super) fn uncle_by_number(store: &Store, _: &Terms, mut params: Params) -> Answer {
    by_tag(store, &mut params)?;
    no_uncle(params)
}

pub(super) fn uncle_by_hash(store: &Store, _: &Terms, mut params: Params) -> Answer {
    by_name(store, &mut params)?;
    no_uncle(params)
}

pub(super) fn receipts(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let id: BlockId = params.next()?;
    params.finish()?;
    let Some(height) = height_of_id(store, id)? else { return null() };
    let stored = store.block(height)?;
    json(&views::receipts(&stored.block, stored.hash, store.receipts_of(&stored)?)?)
}

pub(super) fn transaction_by_number_and_index(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_tag(store, &mut params)?;
    transaction_at(store, height, params)
}

pub(super) fn transaction_by_hash_and_index(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height = by_name(store, &mut params)?;
    transaction_at(store, height, params)
}

pub(super) fn transaction(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    params.finish()?;
    let Some(place) = store.find_transaction(&hash)? else { return null() };
    let stored = store.block(place.height)?;
    json(&views::transaction(&stored.block, stored.hash, place.index)?)
}

pub(super) fn receipt(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    params.finish()?;
    let Some(place) = store.find_transaction(&hash)? else { return null() };
    let stored = store.block(place.height)?;
    let receipts = views::receipts(&stored.block, stored.hash, store.receipts_of(&stored)?)?;
    json(&receipts.get(place.index))
}

/// The header as subscribers of new heads get it.
#[cfg(feature = "node")]
pub(super) fn head(store: &Store, height: u64) -> Answer {
    let header = store.header(height)?;
    let hash = header.hash_slow();
    json(&alloy_rpc_types_eth::Header { hash, inner: header, total_difficulty: None, size: None })
}

fn by_tag(store: &Store, params: &mut Params) -> Result<Option<u64>, Fault> {
    Ok(height_of(store, params.next()?))
}

fn by_name(store: &Store, params: &mut Params) -> Result<Option<u64>, Fault> {
    let hash: B256 = params.next()?;
    Ok(store.find_block(&hash)?)
}

fn block_at(store: &Store, height: Option<u64>, mut params: Params) -> Answer {
    let full: bool = params.optional()?.unwrap_or(false);
    params.finish()?;
    let Some(height) = height else { return null() };
    let stored = store.block(height)?;
    json(&views::block(&stored.block, stored.hash, full)?)
}

fn transaction_count(store: &Store, height: Option<u64>, params: Params) -> Answer {
    params.finish()?;
    match height {
        None => null(),
        Some(height) => quantity(store.block(height)?.block.body.transactions.len() as u64),
    }
}

fn transaction_at(store: &Store, height: Option<u64>, mut params: Params) -> Answer {
    let index: U64 = params.next()?;
    params.finish()?;
    let Some(height) = height else { return null() };
    let stored = store.block(height)?;
    match usize::try_from(index.to::<u64>()) {
        Ok(index) if index < stored.block.body.transactions.len() => {
            json(&views::transaction(&stored.block, stored.hash, index)?)
        }
        _ => null(),
    }
}

fn uncle_count(height: Option<u64>, params: Params) -> Answer {
    params.finish()?;
    height.map_or_else(null, |_| quantity(0))
}

fn no_uncle(mut params: Params) -> Answer {
    let _: U64 = params.next()?;
    params.finish()?;
    null()
}

fn null() -> Answer {
    json(&Value::Null)
}
