//! What the transactions of a block write, and the root after it.
//!
//! - **Owns** the way from the EVM's cache to the changes of a store.
//! - **Does not** run anything.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use revm::database::{AccountState, Cache};

use crate::state::{AccountRecord, State, StateChanges, StateError, StateNodes, StateTrie, encode_record, slot_key};
use crate::trie::{NodeChanges, clear, update};

/// What changed against the parent's state.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// The new record of each changed account, its storage root still the old one; none if it is gone.
    accounts: BTreeMap<Address, Option<AccountRecord>>,
    /// The new value of each written slot.
    slots: BTreeMap<(Address, U256), U256>,
    /// Accounts that lost all slots they had.
    emptied: BTreeSet<Address>,
    changes: StateChanges,
}

impl Writes {
    /// What executed transactions left in their cache.
    pub(crate) fn of<N: StateNodes>(state: &State<'_, N>, cache: Cache) -> Result<Self, StateError<N::Error>> {
        let mut writes = Self::default();
        for (address, account) in cache.accounts {
            let before = state.account(&address)?;
            let exists = account.account_state != AccountState::NotExisting && !account.info.is_empty();
            let had_slots = before.is_some_and(|record| record.storage_root != EMPTY_ROOT_HASH);
            // An account that was destroyed and then touched again is empty, and its cache says nothing of its slots.
            let is_emptied = had_slots && (!exists || account.account_state == AccountState::StorageCleared);
            let mut is_written = is_emptied;
            if exists {
                for (key, value) in account.storage {
                    if is_emptied || state.slot(&address, &key)? != value {
                        writes.slots.insert((address, key), value);
                        is_written = true;
                    }
                }
            }
            if is_emptied {
                writes.emptied.insert(address);
            }
            let after = exists.then(|| AccountRecord {
                nonce: account.info.nonce,
                balance: account.info.balance,
                code_hash: account.info.code_hash,
                storage_root: before.map_or(EMPTY_ROOT_HASH, |record| record.storage_root),
            });
            if after != before || is_written {
                writes.accounts.insert(address, after);
            }
            let hash = account.info.code_hash;
            if exists && hash != KECCAK_EMPTY && before.is_none_or(|record| record.code_hash != hash) {
                let code = cache.contracts.get(&hash).map(|code| (hash, code.original_bytes()));
                writes.changes.codes.extend(code);
            }
        }
        Ok(writes)
    }

    /// The root of the state after them, and what a store has to change to hold it.
    pub(crate) fn apply<N: StateNodes>(
        mut self,
        state: &State<'_, N>,
    ) -> Result<(B256, StateChanges), StateError<N::Error>> {
        for (account, record) in std::mem::take(&mut self.accounts) {
            let storage_root = self.storage_root(state, account)?;
            let record = record.map(|record| AccountRecord { storage_root, ..record });
            self.accounts.insert(account, record);
        }
        let trie = state.trie(StateTrie::Accounts);
        let records = self.accounts.iter();
        let entries = records.map(|(account, record)| (keccak256(account), record.as_ref().map(encode_record)));
        let (root, nodes) = update(&trie, state.root(), entries).map_err(|source| trie.damaged(source))?;
        self.take(trie.trie, nodes);
        Ok((root, self.changes))
    }

    /// The root of an account's slots after what was written to them.
    fn storage_root<N: StateNodes>(
        &mut self,
        state: &State<'_, N>,
        account: Address,
    ) -> Result<B256, StateError<N::Error>> {
        let trie = state.trie(StateTrie::Slots(keccak256(account)));
        let mut root = state.account(&account)?.map_or(EMPTY_ROOT_HASH, |before| before.storage_root);
        if self.emptied.contains(&account) {
            let gone = clear(&trie, root).map_err(|source| trie.damaged(source))?;
            self.take(trie.trie, gone);
            root = EMPTY_ROOT_HASH;
        }
        let written = self.slots.range((account, U256::ZERO)..=(account, U256::MAX));
        let value = |value: &U256| (!value.is_zero()).then(|| alloy_rlp::encode(value));
        let entries = written.map(|((_, key), written)| (slot_key(key), value(written)));
        let (root, nodes) = update(&trie, root, entries).map_err(|source| trie.damaged(source))?;
        self.take(trie.trie, nodes);
        Ok(root)
    }

    fn take(&mut self, trie: StateTrie, nodes: NodeChanges) {
        // Both are in order already: all of them are taken at once, not each to its place.
        let mut nodes = nodes.into_iter().map(|(path, node)| ((trie, path), node)).collect();
        self.changes.nodes.append(&mut nodes);
    }
}
