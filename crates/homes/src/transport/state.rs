//! The methods on the state, which is kept for the head only.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, TxKind, U256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof, TransactionRequest};
use blockhouse_ledger::call::{self as ledger, Call, CallOutcome, Estimate};
use blockhouse_ledger::proof::prove_account;

use super::fault::{self, Fault};
use super::params::Params;
use super::reads::height_of_id;
use super::{Answer, data, json, quantity};
use crate::store::Store;

/// Answers one request; `next_time` is the time a block would get if it were sealed now.
pub(super) fn answer(store: &Store, next_time: u64, method: &str, params: Params) -> Answer {
    match method {
        "eth_getBalance" => balance(store, params),
        "eth_getTransactionCount" => nonce(store, params),
        "eth_getCode" => code(store, params),
        "eth_getStorageAt" => slot(store, params),
        "eth_getProof" => proof(store, params),
        "eth_call" => call(store, next_time, params),
        "eth_estimateGas" => estimate_gas(store, next_time, params),
        _ => Err(Fault::unknown_method(method)),
    }
}

/// Takes the block parameter and refuses every block but the head: older states are not kept.
fn at_head(store: &Store, params: &mut Params) -> Result<(), Fault> {
    let id = params.optional()?;
    head_or_refuse(store, id)
}

fn head_or_refuse(store: &Store, id: Option<BlockId>) -> Result<(), Fault> {
    let id = id.unwrap_or(BlockId::Number(BlockNumberOrTag::Latest));
    let height = height_of_id(store, id)?.ok_or_else(|| Fault::not_found("there is no such block"))?;
    if height == store.height() {
        return Ok(());
    }
    Err(Fault::not_found(format!("the state of block {height} is not kept, only that of block {}", store.height())))
}

fn balance(store: &Store, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    json(
        &store
            .state()
            .account(&account)
            .map_err(|error| store.of_state(error))?
            .map_or(U256::ZERO, |record| record.balance),
    )
}

fn nonce(store: &Store, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    quantity(store.state().account(&account).map_err(|error| store.of_state(error))?.map_or(0, |record| record.nonce))
}

fn code(store: &Store, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    match store.state().account(&account).map_err(|error| store.of_state(error))? {
        Some(record) if record.code_hash != alloy_primitives::KECCAK256_EMPTY => {
            data(store.state().code(&record.code_hash).map_err(|error| store.of_state(error))?)
        }
        _ => data([]),
    }
}

fn slot(store: &Store, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let key: U256 = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    json(&B256::from(store.state().slot(&account, &key).map_err(|error| store.of_state(error))?))
}

fn call(store: &Store, next_time: u64, mut params: Params) -> Answer {
    let request: TransactionRequest = params.next()?;
    let id: Option<BlockId> = params.optional()?;
    params.finish()?;
    // `pending` is the block that would be sealed now: rights and leases that depend on the time are those of now.
    let pending = matches!(id, Some(BlockId::Number(BlockNumberOrTag::Pending)));
    head_or_refuse(store, id)?;
    let call = call_of(request, pending.then_some(next_time))?;
    let result = ledger::call(store.genesis(), store.head().header(), store, &call)
        .map_err(|error| fault::of_call(store, error))?;
    match result.outcome {
        CallOutcome::Returned(output) => data(output),
        failed => Err(fault::of_outcome(failed)),
    }
}

/// The gas is that of the block that would be sealed now, whatever block is named: there it will run.
fn estimate_gas(store: &Store, next_time: u64, mut params: Params) -> Answer {
    let request: TransactionRequest = params.next()?;
    head_or_refuse(store, params.optional()?)?;
    params.finish()?;
    let call = call_of(request, Some(next_time))?;
    let estimate = ledger::estimate_gas(store.genesis(), store.head().header(), store, &call);
    match estimate.map_err(|error| fault::of_call(store, error))? {
        Estimate::Gas(gas) => quantity(gas),
        Estimate::Fails(outcome) => Err(fault::of_outcome(outcome)),
    }
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

fn proof(store: &Store, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let keys: Vec<U256> = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    let proof = prove_account(&store.state(), account, &keys).map_err(|error| store.of_state(error))?;
    let slots = proof.slots.into_iter().map(|slot| EIP1186StorageProof {
        key: B256::from(slot.key).into(),
        value: slot.value,
        proof: slot.nodes,
    });
    json(&EIP1186AccountProofResponse {
        address: proof.account,
        balance: proof.record.balance,
        code_hash: proof.record.code_hash,
        nonce: proof.record.nonce,
        storage_hash: proof.record.storage_root,
        account_proof: proof.nodes,
        storage_proof: slots.collect(),
    })
}
