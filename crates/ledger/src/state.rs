//! The state of the ledger as the execution sees it: accounts, slots, code.
//!
//! - **Owns** what a store keeps of a state, what a block changes in it, and the reading of it under its root.
//! - **Does not** know how tries are built: see [`crate::trie`].
//!
//! A store keeps trie nodes, code by its hash, and nothing else: every value stands in a leaf.
//!
//! # Invariants
//! - **S1** No record is empty in the sense of EIP-161, no kept slot is zero: equal states have equal nodes.
//! - **S2** What a [`State`] gives was checked, node by node, against its root: a damaged store stops execution, it never bends it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};

use crate::recall::Recall;
use crate::trie::{Nodes, TrieError, Visited, find, prove, visit, visit_from};

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

/// One of the tries that a state is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateTrie {
    /// Of all accounts.
    Accounts,
    /// Of the slots of the account whose address has this hash.
    Slots(B256),
}

/// What a store keeps of a state. Nothing of it is believed: it is read through a [`State`].
pub trait StateNodes {
    /// Why a read failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The RLP of the node of that trie at that path.
    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, Self::Error>;
    /// The code of that hash.
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, Self::Error>;
    /// The hash of the block at that height of this chain.
    fn block_hash(&self, height: u64) -> Result<Option<B256>, Self::Error>;

    /// What was read before and found right, where that need not be read again. None for what reads a store to see whether it is sound.
    fn recall(&self) -> Option<&Recall> {
        None
    }
}

/// What a block changes in what a store keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// The new RLP of nodes; none of those that are gone.
    pub nodes: BTreeMap<(StateTrie, Nibbles), Option<Bytes>>,
    /// New code by its hash.
    pub codes: BTreeMap<B256, Bytes>,
}

/// A state that could not be read, or is not what its root says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError<E: std::error::Error + 'static> {
    #[error("could not read the state")]
    View(#[source] E),
    #[error("the trie of accounts is damaged")]
    Accounts(#[source] TrieError<E>),
    #[error("the slots of the account with the hash {account} are damaged")]
    Slots {
        account: B256,
        #[source]
        source: TrieError<E>,
    },
    #[error("the record of the account with the hash {account} cannot be read")]
    Record {
        account: B256,
        #[source]
        source: alloy_rlp::Error,
    },
    #[error("a slot of account {account} cannot be read")]
    Value {
        account: Address,
        #[source]
        source: alloy_rlp::Error,
    },
    #[error("there is no code with the hash {hash}")]
    NoCode { hash: B256 },
    #[error("other code is kept under the hash {hash}")]
    Code { hash: B256 },
}

/// One trie of a state.
pub(crate) struct TrieOf<'a, N> {
    pub(crate) nodes: &'a N,
    pub(crate) trie: StateTrie,
}

impl<N: StateNodes> Nodes for TrieOf<'_, N> {
    type Error = N::Error;

    fn node(&self, path: &Nibbles) -> Result<Option<Bytes>, N::Error> {
        self.nodes.node(&self.trie, path)
    }

    fn recall(&self) -> Option<&Recall> {
        self.nodes.recall()
    }
}

impl<N: StateNodes> TrieOf<'_, N> {
    /// This trie is damaged, or the store could not be read.
    pub(crate) fn damaged(&self, source: TrieError<N::Error>) -> StateError<N::Error> {
        match (source, self.trie) {
            (TrieError::View { source, .. }, _) => StateError::View(source),
            (source, StateTrie::Accounts) => StateError::Accounts(source),
            (source, StateTrie::Slots(account)) => StateError::Slots { account, source },
        }
    }
}

/// What was read of an account.
#[derive(Debug)]
struct Known {
    /// keccak256 of its address.
    hash: B256,
    record: Option<AccountRecord>,
    slots: BTreeMap<U256, U256>,
}

/// The state of one root (S2).
#[derive(Debug)]
pub struct State<'a, N> {
    root: B256,
    nodes: &'a N,
    /// What was read of accounts: the record of a contract leads to each of its slots, and who runs a block and who writes down what it
    /// changed ask for the same ones.
    known: RefCell<BTreeMap<Address, Known>>,
}

impl<'a, N: StateNodes> State<'a, N> {
    /// The state of that root, as far as these nodes hold it.
    pub const fn at(root: B256, nodes: &'a N) -> Self {
        Self { root, nodes, known: RefCell::new(BTreeMap::new()) }
    }

    /// Its root.
    pub const fn root(&self) -> B256 {
        self.root
    }

    /// What it is read from.
    pub const fn nodes(&self) -> &'a N {
        self.nodes
    }

    /// The account, or nothing if it is empty.
    pub fn account(&self, account: &Address) -> Result<Option<AccountRecord>, StateError<N::Error>> {
        if let Some(known) = self.known.borrow().get(account) {
            return Ok(known.record);
        }
        let (trie, hash) = (self.trie(StateTrie::Accounts), keccak256(account));
        let value = find(&trie, self.root, &hash).map_err(|source| trie.damaged(source))?;
        let record = value.map(|value| decode_record(hash, &value)).transpose()?;
        self.known.borrow_mut().insert(*account, Known { hash, record, slots: BTreeMap::new() });
        Ok(record)
    }

    /// The value of a slot; zero if it was never set.
    pub fn slot(&self, account: &Address, key: &U256) -> Result<U256, StateError<N::Error>> {
        let Some(record) = self.account(account)? else { return Ok(U256::ZERO) };
        let mut known = self.known.borrow_mut();
        let Some(known) = known.get_mut(account) else { return Ok(U256::ZERO) };
        if let Some(value) = known.slots.get(key) {
            return Ok(*value);
        }
        let trie = self.trie(StateTrie::Slots(known.hash));
        let value = find(&trie, record.storage_root, &slot_key(key)).map_err(|source| trie.damaged(source))?;
        let value = value.map_or(Ok(U256::ZERO), alloy_rlp::decode_exact);
        let value = value.map_err(|source| StateError::Value { account: *account, source })?;
        known.slots.insert(*key, value);
        Ok(value)
    }

    /// The code of that hash.
    pub fn code(&self, hash: &B256) -> Result<Bytes, StateError<N::Error>> {
        if *hash == KECCAK_EMPTY {
            return Ok(Bytes::new());
        }
        let code = self.nodes.code(hash).map_err(StateError::View)?.ok_or(StateError::NoCode { hash: *hash })?;
        if keccak256(&code) == *hash { Ok(code) } else { Err(StateError::Code { hash: *hash }) }
    }

    /// The hash of the block at that height, as the store has it: no root covers it.
    pub fn block_hash(&self, height: u64) -> Result<Option<B256>, StateError<N::Error>> {
        self.nodes.block_hash(height).map_err(StateError::View)
    }

    /// The nodes from the root to an account, or to where it would be.
    pub(crate) fn prove_account(&self, account: &Address) -> Result<Vec<Bytes>, StateError<N::Error>> {
        let trie = self.trie(StateTrie::Accounts);
        prove(&trie, self.root, &keccak256(account)).map_err(|source| trie.damaged(source))
    }

    /// The nodes from the storage root of an account to a slot, or to where it would be.
    pub(crate) fn prove_slot(&self, account: &Address, key: &U256) -> Result<Vec<Bytes>, StateError<N::Error>> {
        let root = self.account(account)?.map_or(EMPTY_ROOT_HASH, |record| record.storage_root);
        let trie = self.trie(StateTrie::Slots(keccak256(account)));
        prove(&trie, root, &slot_key(key)).map_err(|source| trie.damaged(source))
    }

    pub(crate) const fn trie(&self, trie: StateTrie) -> TrieOf<'a, N> {
        TrieOf { nodes: self.nodes, trie }
    }
}

/// Where a slot stands in its storage trie.
pub(crate) fn slot_key(key: &U256) -> B256 {
    keccak256(key.to_be_bytes::<32>())
}

/// The value of an account in the accounts' trie.
pub(crate) fn encode_record(record: &AccountRecord) -> Vec<u8> {
    alloy_rlp::encode(TrieAccount::new(record.nonce, record.balance, record.storage_root, record.code_hash))
}

fn decode_record<E: std::error::Error + 'static>(account: B256, value: &[u8]) -> Result<AccountRecord, StateError<E>> {
    let decoded = alloy_rlp::decode_exact(value).map_err(|source| StateError::Record { account, source });
    let TrieAccount { nonce, balance, storage_root, code_hash, .. } = decoded?;
    Ok(AccountRecord { nonce, balance, code_hash, storage_root })
}

/// Reads a whole state: every node of every trie, and all code. Gives how many nodes that are: a store with more holds some of another state.
pub fn check_whole<N: StateNodes>(root: B256, nodes: &N) -> Result<usize, StateError<N::Error>> {
    let (state, mut count, mut records) = (State::at(root, nodes), 0, Vec::new());
    let accounts = state.trie(StateTrie::Accounts);
    let seen = visit(&accounts, root, |visited| {
        match visited {
            Visited::Node(_) => count += 1,
            Visited::Entry(account, value) => records.push((account, value.to_vec())),
        }
        Ok(())
    });
    seen.map_err(|source| accounts.damaged(source))?;
    for (account, value) in records {
        let record = decode_record(account, &value)?;
        state.code(&record.code_hash)?;
        let slots = state.trie(StateTrie::Slots(account));
        let seen = visit(&slots, record.storage_root, |visited| {
            count += usize::from(matches!(visited, Visited::Node(_)));
            Ok(())
        });
        seen.map_err(|source| slots.damaged(source))?;
    }
    Ok(count)
}

/// Where a reading of a state stands: what comes before it was read. Both are hashes, in whose order a state is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatePlace {
    /// The hash of the address.
    pub account: B256,
    /// The hash of the slot of that account; zero if the account itself is not read yet.
    pub slot: B256,
}

impl StatePlace {
    /// Which part of all keys lies before it, in 65536ths: keys are hashes, so it is the part that was read.
    pub fn share(&self) -> u16 {
        let [first, second, ..] = self.account.0;
        u16::from_be_bytes([first, second])
    }
}

/// Reads on from `place`, at most about `limit` accounts and slots (at least one) with the nodes that lead to them, and their code. Gives where
/// to go on; nothing at the end.
///
/// The state may be another one each time, as blocks come: what they change was checked when they were executed, all else is read.
pub fn check_from<N: StateNodes>(
    root: B256,
    nodes: &N,
    place: StatePlace,
    limit: usize,
) -> Result<Option<StatePlace>, StateError<N::Error>> {
    let (state, mut place, mut left) = (State::at(root, nodes), place, limit.max(1));
    while let Some((account, value)) = first_from(&state.trie(StateTrie::Accounts), root, &place.account)? {
        let record = decode_record(account, &value)?;
        let slot = if account == place.account { place.slot } else { B256::ZERO };
        if slot.is_zero() {
            state.code(&record.code_hash)?;
        }
        if let Some(slot) = check_slots(&state.trie(StateTrie::Slots(account)), &record, slot, &mut left)? {
            return Ok(Some(StatePlace { account, slot }));
        }
        let Some(next) = U256::from_be_bytes(account.0).checked_add(U256::from(1)) else { break };
        place = StatePlace { account: B256::from(next), slot: B256::ZERO };
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

type Entry = (B256, Vec<u8>);

/// The first entry of a trie at or after that key.
fn first_from<N: StateNodes>(
    trie: &TrieOf<'_, N>,
    root: B256,
    from: &B256,
) -> Result<Option<Entry>, StateError<N::Error>> {
    let mut first = None;
    let seen = visit_from(trie, root, from, |visited| match visited {
        Visited::Node(_) => Ok(ControlFlow::Continue(())),
        Visited::Entry(key, value) => {
            first = Some((key, value.to_vec()));
            Ok(ControlFlow::Break(()))
        }
    });
    seen.map_err(|source| trie.damaged(source))?;
    Ok(first)
}

/// Reads the slots of an account from a key on; gives the next key if there are more than `left`.
fn check_slots<N: StateNodes>(
    trie: &TrieOf<'_, N>,
    record: &AccountRecord,
    from: B256,
    left: &mut usize,
) -> Result<Option<B256>, StateError<N::Error>> {
    let mut next = None;
    let seen = visit_from(trie, record.storage_root, &from, |visited| match visited {
        Visited::Node(_) => Ok(ControlFlow::Continue(())),
        Visited::Entry(key, _) if *left == 0 => {
            next = Some(key);
            Ok(ControlFlow::Break(()))
        }
        Visited::Entry(..) => {
            *left -= 1;
            Ok(ControlFlow::Continue(()))
        }
    });
    seen.map_err(|source| trie.damaged(source))?;
    Ok(next)
}

/// A whole state in memory: for replay, `recover` and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    nodes: BTreeMap<(StateTrie, Nibbles), Bytes>,
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
        for (place, node) in &changes.nodes {
            match node {
                Some(node) => self.nodes.insert(*place, node.clone()),
                None => self.nodes.remove(place),
            };
        }
        self.codes.extend(changes.codes.iter().map(|(hash, code)| (*hash, code.clone())));
    }

    /// Takes the hash of a block, for `BLOCKHASH` in later ones.
    pub fn set_block_hash(&mut self, height: u64, hash: B256) {
        self.hashes.insert(height, hash);
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

impl StateNodes for MemoryState {
    type Error = std::convert::Infallible;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.nodes.get(&(*trie, *path)).cloned())
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.codes.get(hash).cloned())
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, Self::Error> {
        Ok(self.hashes.get(&height).copied())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};

    use super::*;
    use crate::trie::update;

    /// `test1` of `hex_encoded_securetrie_test.json` in Ethereum's test suite.
    #[test]
    fn accounts_root_agrees_with_ethereums_tests() {
        let record = |nonce, balance: u64| AccountRecord {
            nonce,
            balance: U256::from(balance),
            code_hash: KECCAK_EMPTY,
            storage_root: EMPTY_ROOT_HASH,
        };
        let code_hash = b256!("04bccc5d94f4d1f99aab44369a910179931772f2a5c001c3229f57831c102769");
        let storage_root = b256!("ba4b47865c55a341a4a78759bb913cd15c3ee8eaf30a62fa8d1c8863113d84e8");
        let accounts = [
            (address!("a94f5374fce5edbc8e2a8697c15331677e6ebf0b"), record(1, 0x05f4_46a7)),
            (address!("095e7baea6a6c7c4c2dfeb977efac326af552d87"), AccountRecord { code_hash, ..record(1, 1) }),
            (address!("d2571607e241ecf590ed94b12d87c94babe36db6"), AccountRecord { storage_root, ..record(1, 0) }),
            (address!("62c01474f089b07dae603491675dc5b5748f7049"), record(0, 0)),
            (address!("2adc25665018aa1fe0e6bc666dac8fc2697ff9ba"), record(0, 0x01_9a59)),
        ];
        let state = MemoryState::new();
        let trie = State::at(EMPTY_ROOT_HASH, &state).trie(StateTrie::Accounts);
        let entries = accounts.map(|(account, record)| (keccak256(account), Some(encode_record(&record))));
        let (root, _) = update(&trie, EMPTY_ROOT_HASH, entries).unwrap();
        assert_eq!(root, b256!("730a444e08ab4b8dee147c9b232fc52d34a223d600031c1e9d25bfc985cbd797"));
    }
}
