//! The methods on a state: that of the head, or of a block not far below it.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use blockhouse_ledger::proof::prove_account;
use blockhouse_ledger::state::AccountRecord;

use super::blocks::height_of_id;
use super::{Answer, Fault, Params, Terms, data, json, quantity};
use crate::store::{StateAt, Store};

/// The most slots that one `eth_getProof` proves, as in go-ethereum.
const PROOF_SLOTS_MAX: usize = 1024;

/// Takes the block parameter, which is the last one, and gives the state after that block.
fn last_parameter(store: &Store, mut params: Params) -> Result<StateAt<'_>, Fault> {
    let id = params.optional()?;
    params.finish()?;
    state_after(store, id)
}

/// The state after a block, the head if none is named.
pub(super) fn state_after(store: &Store, id: Option<BlockId>) -> Result<StateAt<'_>, Fault> {
    let id = id.unwrap_or(BlockId::Number(BlockNumberOrTag::Latest));
    let height = height_of_id(store, id)?.ok_or_else(|| Fault::not_found("there is no such block"))?;
    store.state_at(height)?.ok_or_else(|| Fault::no_state(height, store))
}

pub(super) fn balance(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let at = last_parameter(store, params)?;
    json(&record(&at, &account)?.map_or(U256::ZERO, |record| record.balance))
}

pub(super) fn nonce(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    quantity(nonce_of(&last_parameter(store, params)?, &account)?)
}

/// The nonce of the next transaction of an account, by that state.
pub(super) fn nonce_of(at: &StateAt<'_>, account: &Address) -> Result<u64, Fault> {
    Ok(record(at, account)?.map_or(0, |record| record.nonce))
}

pub(super) fn code(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let at = last_parameter(store, params)?;
    match record(&at, &account)? {
        Some(record) if record.code_hash != KECCAK256_EMPTY => {
            data(at.state().code(&record.code_hash).map_err(|error| at.failed(error))?)
        }
        _ => data([]),
    }
}

pub(super) fn slot(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let key: U256 = params.next()?;
    let at = last_parameter(store, params)?;
    json(&B256::from(at.state().slot(&account, &key).map_err(|error| at.failed(error))?))
}

pub(super) fn proof(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let keys: Vec<U256> = params.next()?;
    if keys.len() > PROOF_SLOTS_MAX {
        return Err(Fault::parameters(format!("at most {PROOF_SLOTS_MAX} slots are proved at once")));
    }
    let at = last_parameter(store, params)?;
    let proof = prove_account(&at.state(), account, &keys).map_err(|error| at.failed(error))?;
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

fn record(at: &StateAt<'_>, account: &Address) -> Result<Option<AccountRecord>, Fault> {
    Ok(at.state().account(account).map_err(|error| at.failed(error))?)
}
