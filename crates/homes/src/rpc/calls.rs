//! Calls that change nothing: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

use alloy_eips::eip2930::AccessListResult;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;
use blockhouse_ledger::call::{self as run, Call, CallOutcome, Estimate};

use super::fault::{of_call, of_outcome};
use super::state::state_after;
use super::{Answer, Fault, Params, Terms, data, json, quantity};
use crate::store::{StateAt, Store};

pub(super) fn call(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let request: TransactionRequest = params.next()?;
    let id: Option<BlockId> = params.optional()?;
    params.finish()?;
    // `pending` is the block that would be sealed now: rights and leases that depend on the time are those of now.
    let pending = matches!(id, Some(BlockId::Number(BlockNumberOrTag::Pending)));
    let at = state_after(store, id)?;
    let call = call_of(request, pending.then_some(terms.next_time))?;
    let result = run::call(store.genesis(), at.header(), &at, &call).map_err(|error| of_call(&at, error))?;
    match result.outcome {
        CallOutcome::Returned(output) => data(output),
        failed => Err(of_outcome(failed)),
    }
}

/// The gas is that of the block that would be sealed now, whatever name the head is given: there it will run. Of a block below the head it is the
/// gas in that block, as of a call.
pub(super) fn estimate_gas(store: &Store, terms: &Terms, params: Params) -> Answer {
    let (request, at) = request_at(store, params)?;
    let call = call_of(request, at.is_head().then_some(terms.next_time))?;
    let estimate = run::estimate_gas(store.genesis(), at.header(), &at, &call);
    match estimate.map_err(|error| of_call(&at, error))? {
        Estimate::Gas(gas) => quantity(gas),
        Estimate::Fails(outcome) => Err(of_outcome(outcome)),
    }
}

/// The block is as for an estimate. A call that fails has a list too, and says why.
pub(super) fn access_list(store: &Store, terms: &Terms, params: Params) -> Answer {
    let (request, at) = request_at(store, params)?;
    let call = call_of(request, at.is_head().then_some(terms.next_time))?;
    let accessed = run::access_list(store.genesis(), at.header(), &at, &call).map_err(|error| of_call(&at, error))?;
    let error = match accessed.result.outcome {
        CallOutcome::Returned(_) => None,
        CallOutcome::Reverted(_) => Some("execution reverted".to_owned()),
        CallOutcome::Halted(reason) => Some(reason),
    };
    let gas_used = U256::from(accessed.result.gas_used);
    json(&AccessListResult { access_list: accessed.list, gas_used, error })
}

/// What is to be run, and on which state.
fn request_at(store: &Store, mut params: Params) -> Result<(TransactionRequest, StateAt<'_>), Fault> {
    let request = params.next()?;
    let id = params.optional()?;
    params.finish()?;
    Ok((request, state_after(store, id)?))
}

fn call_of(request: TransactionRequest, time: Option<u64>) -> Result<Call, Fault> {
    let prices = [request.gas_price, request.max_fee_per_gas, request.max_priority_fee_per_gas];
    if prices.into_iter().flatten().any(|price| price != 0) {
        return Err(Fault::rejected("the gas price of this ledger is zero"));
    }
    if request.value.is_some_and(|value| !value.is_zero()) {
        return Err(Fault::rejected("this ledger has no currency: the value must be zero"));
    }
    let input = match (request.input.input, request.input.data) {
        (Some(input), Some(data)) if input != data => {
            return Err(Fault::parameters("`input` and `data` are both given and differ"));
        }
        (input, data) => input.or(data).unwrap_or_default(),
    };
    let to = request.to.unwrap_or(TxKind::Create);
    Ok(Call { from: request.from.unwrap_or_default(), to, input, gas: request.gas, time })
}
