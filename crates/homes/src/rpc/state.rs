//! The methods on the state, which is kept for the head only.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use blockhouse_ledger::proof::prove_account;
use blockhouse_ledger::state::AccountRecord;

use super::blocks::height_of_id;
use super::{Answer, Fault, Params, Terms, data, json, quantity};
use crate::store::Store;

/// The most slots that one `eth_getProof` proves, as in go-ethereum.
const PROOF_SLOTS_MAX: usize = 1024;

/// Takes the block parameter and refuses every block but the head: older states are not kept.
fn at_head(store: &Store, params: &mut Params) -> Result<(), Fault> {
    head_or_refuse(store, params.optional()?)
}

/// Refuses every block but the head.
pub(super) fn head_or_refuse(store: &Store, id: Option<BlockId>) -> Result<(), Fault> {
    let id = id.unwrap_or(BlockId::Number(BlockNumberOrTag::Latest));
    let height = height_of_id(store, id)?.ok_or_else(|| Fault::not_found("there is no such block"))?;
    if height == store.height() { Ok(()) } else { Err(Fault::no_state(height, store.height())) }
}

pub(super) fn balance(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    json(&record(store, &account)?.map_or(U256::ZERO, |record| record.balance))
}

pub(super) fn nonce(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    quantity(nonce_of(store, &account)?)
}

/// The nonce of the next transaction of an account, by the state of the head.
pub(super) fn nonce_of(store: &Store, account: &Address) -> Result<u64, Fault> {
    Ok(record(store, account)?.map_or(0, |record| record.nonce))
}

pub(super) fn code(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    match record(store, &account)? {
        Some(record) if record.code_hash != KECCAK256_EMPTY => {
            data(store.state().code(&record.code_hash).map_err(|error| store.of_state(error))?)
        }
        _ => data([]),
    }
}

pub(super) fn slot(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let key: U256 = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    json(&B256::from(store.state().slot(&account, &key).map_err(|error| store.of_state(error))?))
}

pub(super) fn proof(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let account: Address = params.next()?;
    let keys: Vec<U256> = params.next()?;
    at_head(store, &mut params)?;
    params.finish()?;
    if keys.len() > PROOF_SLOTS_MAX {
        return Err(Fault::parameters(format!("at most {PROOF_SLOTS_MAX} slots are proved at once")));
    }
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

fn record(store: &Store, account: &Address) -> Result<Option<AccountRecord>, Fault> {
    Ok(store.state().account(account).map_err(|error| store.of_state(error))?)
}
