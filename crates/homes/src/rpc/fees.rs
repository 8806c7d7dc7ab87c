//! Fees: there are none, and these methods say so in the forms that clients ask for.

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::U64;
use alloy_rpc_types_eth::FeeHistory;

use super::blocks::height_of;
use super::{Answer, Fault, Params, Terms, json, quantity};
use crate::store::Store;

/// How many blocks one `eth_feeHistory` covers, as in go-ethereum.
const HISTORY_MAX: u64 = 1024;
/// How many percentiles it takes, as in go-ethereum.
const PERCENTILES_MAX: usize = 100;

/// The price of gas, of priority and of blobs.
pub(super) fn zero(_: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    quantity(0)
}

/// Prices are zero at all times; only the range and the gas used are asked of the blocks.
pub(super) fn history(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let count: U64 = params.next()?;
    let newest: BlockNumberOrTag = params.next()?;
    let percentiles: Option<Vec<f64>> = params.optional()?;
    params.finish()?;
    let percentiles = percentiles.as_deref().map(checked).transpose()?;
    let newest = height_of(store, newest).ok_or_else(|| Fault::not_found("there is no such block"))?;
    let count = count.to::<u64>().min(HISTORY_MAX).min(newest + 1);
    let mut ratios = Vec::new();
    for height in newest + 1 - count..=newest {
        let header = store.header(height)?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
        ratios.push(header.gas_used as f64 / header.gas_limit as f64);
    }
    let blocks = ratios.len();
    json(&FeeHistory {
        base_fee_per_gas: vec![0; blocks + 1],
        gas_used_ratio: ratios,
        oldest_block: newest + 1 - count,
        reward: percentiles.map(|percentiles| vec![vec![0; percentiles]; blocks]),
        ..Default::default()
    })
}

/// How many percentiles there are, each a percentage and none below the one before it.
fn checked(percentiles: &[f64]) -> Result<usize, Fault> {
    let rising = percentiles.is_sorted() && percentiles.iter().all(|percent| (0.0..=100.0).contains(percent));
    if percentiles.len() > PERCENTILES_MAX || !rising {
        return Err(Fault::parameters(format!("percentiles are at most {PERCENTILES_MAX}, rising, from 0 to 100")));
    }
    Ok(percentiles.len())
}
