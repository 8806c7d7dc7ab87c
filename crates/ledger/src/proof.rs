//! Proofs under the roots of a header: accounts and slots under the state root, transaction receipts under theirs.
//!
//! - **Owns** what `eth_getProof` answers, and its check.
//! - **Does not** vouch for the header.

use alloy_consensus::ReceiptEnvelope;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles};

use crate::state::{AccountRecord, State, StateError, StateNodes, encode_record, slot_key};
use crate::trie::{InclusionError, check_inclusion, list_entries, list_key, shown};

/// An account with the nodes from the state root to it, and some of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountProof {
    /// Whose.
    pub account: Address,
    /// The record; that of an empty account if there is none.
    pub record: AccountRecord,
    /// The nodes from the state root.
    pub nodes: Vec<Bytes>,
    /// The slots asked for, in that order.
    pub slots: Vec<SlotProof>,
}

/// A slot with the nodes from the account's storage root to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotProof {
    /// Which slot.
    pub key: U256,
    /// Its value; zero if it was never set.
    pub value: U256,
    /// The nodes from the storage root.
    pub nodes: Vec<Bytes>,
}

/// Proves an account and some of its slots under the root of a state.
pub fn prove_account<N: StateNodes>(
    state: &State<'_, N>,
    account: Address,
    keys: &[U256],
) -> Result<AccountProof, StateError<N::Error>> {
    let empty = AccountRecord { nonce: 0, balance: U256::ZERO, code_hash: KECCAK_EMPTY, storage_root: EMPTY_ROOT_HASH };
    let record = state.account(&account)?.unwrap_or(empty);
    let nodes = state.prove_account(&account)?;
    let slots = keys.iter().map(|key| {
        Ok(SlotProof { key: *key, value: state.slot(&account, key)?, nodes: state.prove_slot(&account, key)? })
    });
    Ok(AccountProof { account, record, nodes, slots: slots.collect::<Result<_, _>>()? })
}

impl AccountProof {
    /// Checks that the account, which must exist, and its slots that are not zero stand under a state root.
    ///
    /// A slot of value zero is absent from the trie; its absence is not checked here.
    pub fn check(&self, state_root: B256) -> Result<(), InclusionError> {
        let key = Nibbles::unpack(keccak256(self.account));
        check_inclusion(state_root, &key, &encode_record(&self.record), &self.nodes)?;
        for slot in self.slots.iter().filter(|slot| !slot.value.is_zero()) {
            let value = alloy_rlp::encode(slot.value);
            check_inclusion(self.record.storage_root, &Nibbles::unpack(slot_key(&slot.key)), &value, &slot.nodes)?;
        }
        Ok(())
    }
}

/// Proves the transaction receipt at `index` under the receipts root of its block.
pub fn prove_receipt(receipts: &[ReceiptEnvelope], index: u64) -> Vec<Bytes> {
    let items: Vec<_> = receipts.iter().map(Encodable2718::encoded_2718).collect();
    list_entries(&items).proof(list_key(index))
}

/// The EIP-2718 bytes of the transaction receipt that a proof shows at `index` under a receipts root.
pub fn shown_receipt(receipts_root: B256, index: u64, proof: &[Bytes]) -> Result<Vec<u8>, InclusionError> {
    shown(receipts_root, &list_key(index), proof)
}

/// Checks that these EIP-2718 bytes are the transaction receipt at `index` under a receipts root.
pub fn check_receipt(receipts_root: B256, index: u64, bytes: &[u8], proof: &[Bytes]) -> Result<(), InclusionError> {
    check_inclusion(receipts_root, &list_key(index), bytes, proof)
}
