//! The state of the ledger as the execution sees it: accounts, slots, code.
//!
//! - **Owns** the view that a store implements, the changes a block makes, and a twin of a store in memory.
//! - **Does not** compute roots: see [`crate::trie`].
//!
//! # Invariants
//! - **S1** No record is empty in the sense of EIP-161, no kept slot is zero: equal states have equal entries.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};

/// An account as it stands in the state trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountRecord {
    /// How many transactions it sent, or contracts it created.
    pub nonce: u64,
    /// Always zero on this ledger, yet part of the trie.
    pub balance: U256,
    /// keccak256 of its code.
    pub code_hash: B256,
    /// The root of its storage trie.
    pub storage_root: B256,
}

/// Read access to the state at one block.
pub trait StateView {
    /// Why a read failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The account, or nothing if it is empty.
    fn account(&self, account: &Address) -> Result<Option<AccountRecord>, Self::Error>;
    /// The value of a slot; zero if it was never set.
    fn slot(&self, account: &Address, key: &U256) -> Result<U256, Self::Error>;
    /// The code of that hash.
    fn code(&self, hash: &B256) -> Result<Bytes, Self::Error>;
    /// The hash of the block at that height of this chain.
    fn block_hash(&self, height: u64) -> Result<Option<B256>, Self::Error>;
    /// All accounts, each once.
    fn accounts(&self) -> Result<Vec<(Address, AccountRecord)>, Self::Error>;
    /// All slots of an account that are not zero, each once.
    fn slots(&self, account: &Address) -> Result<Vec<(U256, U256)>, Self::Error>;
}

/// What a block changes. Holds only what differs from before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// The new record of each changed account; none if it is gone.
    pub accounts: BTreeMap<Address, Option<AccountRecord>>,
    /// The new value of each changed slot; zero if it is removed.
    pub slots: BTreeMap<(Address, U256), U256>,
    /// New code by its hash.
    pub codes: BTreeMap<B256, Bytes>,
}

/// What [`MemoryState`] does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no code has the hash {hash}")]
pub struct MissingCode {
    hash: B256,
}

/// A whole state in memory: for replay, `recover` and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    accounts: BTreeMap<Address, AccountRecord>,
    slots: BTreeMap<(Address, U256), U256>,
    codes: BTreeMap<B256, Bytes>,
    hashes: BTreeMap<u64, B256>,
}

impl MemoryState {
    /// The empty state, before any block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the changes of a block.
    pub fn apply(&mut self, changes: &StateChanges) {
        for (account, record) in &changes.accounts {
            match record {
                Some(record) => self.accounts.insert(*account, *record),
                None => self.accounts.remove(account),
            };
        }
        for (place, value) in &changes.slots {
            if value.is_zero() {
                self.slots.remove(place);
            } else {
                self.slots.insert(*place, *value);
            }
        }
        self.codes.extend(changes.codes.iter().map(|(hash, code)| (*hash, code.clone())));
    }

    /// Takes the hash of a block, for `BLOCKHASH` in later ones.
    pub fn set_block_hash(&mut self, height: u64, hash: B256) {
        self.hashes.insert(height, hash);
    }
}

impl StateView for MemoryState {
    type Error = MissingCode;

    fn account(&self, account: &Address) -> Result<Option<AccountRecord>, MissingCode> {
        Ok(self.accounts.get(account).copied())
    }

    fn slot(&self, account: &Address, key: &U256) -> Result<U256, MissingCode> {
        Ok(self.slots.get(&(*account, *key)).copied().unwrap_or_default())
    }

    fn code(&self, hash: &B256) -> Result<Bytes, MissingCode> {
        self.codes.get(hash).cloned().ok_or(MissingCode { hash: *hash })
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, MissingCode> {
        Ok(self.hashes.get(&height).copied())
    }

    fn accounts(&self) -> Result<Vec<(Address, AccountRecord)>, MissingCode> {
        Ok(self.accounts.iter().map(|(account, record)| (*account, *record)).collect())
    }

    fn slots(&self, account: &Address) -> Result<Vec<(U256, U256)>, MissingCode> {
        let range = self.slots.range((*account, U256::ZERO)..=(*account, U256::MAX));
        Ok(range.map(|((_, key), value)| (*key, *value)).collect())
    }
}
