//! Ethereum's Merkle Patricia tries: roots of states and lists, proofs under them, and their check.
//!
//! - **Owns** the way from entries to a root and from a root to an entry.
//! - **Does not** hold nodes: a trie is built from its entries when a root or a proof is asked for.
//!
//! # Invariants
//! - **T1** [`check_inclusion`] takes any bytes: it never panics and is true only of an entry under the root.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{RlpNode, TrieNode};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles, TrieAccount};

use crate::state::{AccountRecord, StateChanges, StateView};

/// The nodes of a hashed reference are at least this long; shorter ones stand inside their parent.
const HASHED_NODE_MIN: usize = 32;

/// A state that is not what it says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError<E: std::error::Error + 'static> {
    #[error("could not read the state")]
    View(#[from] E),
    #[error("the slots of account {account} do not give its storage root")]
    Slots { account: Address },
    #[error("the code of account {account} does not hash to its code hash")]
    Code { account: Address },
}

/// The root of the whole state, with every slot and all code read and compared with the records.
pub fn state_root<S: StateView>(state: &S) -> Result<B256, StateError<S::Error>> {
    let accounts = state.accounts()?;
    for (account, record) in &accounts {
        if storage_root(state.slots(account)?) != record.storage_root {
            return Err(StateError::Slots { account: *account });
        }
        if record.code_hash != KECCAK_EMPTY && keccak256(state.code(&record.code_hash)?) != record.code_hash {
            return Err(StateError::Code { account: *account });
        }
    }
    Ok(accounts_root(accounts))
}

/// Sets the storage roots of changed accounts and returns the root of the state after the changes.
pub(crate) fn root_after<S: StateView>(state: &S, changes: &mut StateChanges) -> Result<B256, S::Error> {
    for (account, record) in &mut changes.accounts {
        let Some(record) = record else { continue };
        let written = || changes.slots.range((*account, U256::ZERO)..=(*account, U256::MAX));
        if written().next().is_some() {
            let mut slots: BTreeMap<U256, U256> = state.slots(account)?.into_iter().collect();
            slots.extend(written().map(|((_, key), value)| (*key, *value)));
            record.storage_root = storage_root(slots);
        }
    }
    let mut accounts: BTreeMap<Address, AccountRecord> = state.accounts()?.into_iter().collect();
    for (account, record) in &changes.accounts {
        match record {
            Some(record) => accounts.insert(*account, *record),
            None => accounts.remove(account),
        };
    }
    Ok(accounts_root(accounts))
}

/// The root of one account's storage trie. Slots that are zero are no entries.
pub fn storage_root(slots: impl IntoIterator<Item = (U256, U256)>) -> B256 {
    storage_entries(slots).root()
}

fn accounts_root(accounts: impl IntoIterator<Item = (Address, AccountRecord)>) -> B256 {
    account_entries(accounts).root()
}

/// The entries of a storage trie.
pub(crate) fn storage_entries(slots: impl IntoIterator<Item = (U256, U256)>) -> Entries {
    let set = slots.into_iter().filter(|(_, value)| !value.is_zero());
    Entries(set.map(|(key, value)| (storage_key(&key), alloy_rlp::encode(value))).collect())
}

/// The entries of the accounts' trie.
pub(crate) fn account_entries(accounts: impl IntoIterator<Item = (Address, AccountRecord)>) -> Entries {
    Entries(accounts.into_iter().map(|(account, record)| (account_key(&account), encode_account(&record))).collect())
}

/// The entries of a trie over a list: transactions or transaction receipts, each in its EIP-2718 bytes.
pub(crate) fn list_entries(items: &[Vec<u8>]) -> Entries {
    Entries(items.iter().enumerate().map(|(index, item)| (list_key(index as u64), item.clone())).collect())
}

/// Where a slot stands in its storage trie.
pub(crate) fn storage_key(key: &U256) -> Nibbles {
    Nibbles::unpack(keccak256(key.to_be_bytes::<32>()))
}

/// Where an account stands in the accounts' trie.
pub(crate) fn account_key(account: &Address) -> Nibbles {
    Nibbles::unpack(keccak256(account))
}

/// Where an item stands in the trie of a list.
pub(crate) fn list_key(index: u64) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode(index))
}

/// The value of an account in the accounts' trie.
pub(crate) fn encode_account(record: &AccountRecord) -> Vec<u8> {
    alloy_rlp::encode(TrieAccount::new(record.nonce, record.balance, record.storage_root, record.code_hash))
}

/// The entries of one trie, by ascending key.
pub(crate) struct Entries(BTreeMap<Nibbles, Vec<u8>>);

impl Entries {
    /// The root over them.
    pub(crate) fn root(&self) -> B256 {
        if self.0.is_empty() {
            return EMPTY_ROOT_HASH;
        }
        let mut builder = HashBuilder::default();
        for (key, value) in &self.0 {
            builder.add_leaf(*key, value);
        }
        builder.root()
    }

    /// The nodes from the root to that key, or to where it would be: what `eth_getProof` returns.
    pub(crate) fn proof(&self, key: Nibbles) -> Vec<Bytes> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key]));
        for (key, value) in &self.0 {
            builder.add_leaf(*key, value);
        }
        builder.root();
        let nodes = builder.take_proof_nodes().into_nodes_sorted();
        let on_the_way =
            nodes.into_iter().enumerate().filter(|(at, (_, node))| *at == 0 || node.len() >= HASHED_NODE_MIN);
        on_the_way.map(|(_, (_, node))| node).collect()
    }
}

/// Why nodes do not show an entry under a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InclusionError {
    #[error("the proof ends before the entry")]
    Short,
    #[error("the proof goes on behind the entry")]
    Long,
    #[error("node {at} of the proof does not have the hash that its parent names")]
    Hash { at: usize },
    #[error("node {at} of the proof is no trie node")]
    Node {
        at: usize,
        #[source]
        source: alloy_rlp::Error,
    },
    #[error("the proof leads to no entry of that key")]
    Absent,
    #[error("the proof leads to another value")]
    Value,
}

/// Checks that `value` stands at `key` under `root`, by the nodes on the way and nothing else.
///
/// The walk is ours because the one of `alloy-trie` keeps the path in a fixed array and panics on crafted nodes
/// whose keys together exceed it.
pub fn check_inclusion(root: B256, key: &Nibbles, value: &[u8], proof: &[Bytes]) -> Result<(), InclusionError> {
    let key = key.to_vec();
    let mut rest = key.as_slice();
    let mut next = RlpNode::word_rlp(&root);
    let mut nodes = proof.iter().enumerate();
    let mut at = 0;
    loop {
        let decoded = if let Some(hash) = next.as_hash() {
            let (index, node) = nodes.next().ok_or(InclusionError::Short)?;
            at = index;
            if keccak256(node) != hash {
                return Err(InclusionError::Hash { at });
            }
            TrieNode::decode(&mut node.as_ref())
        } else {
            TrieNode::decode(&mut next.as_ref())
        };
        match decoded.map_err(|source| InclusionError::Node { at, source })? {
            TrieNode::EmptyRoot => return Err(InclusionError::Absent),
            TrieNode::Branch(branch) => {
                let (nibble, below) = rest.split_first().ok_or(InclusionError::Absent)?;
                let branch = branch.as_ref();
                let child = branch.children().find(|(index, _)| index == nibble).and_then(|(_, child)| child);
                next = child.cloned().ok_or(InclusionError::Absent)?;
                rest = below;
            }
            TrieNode::Extension(extension) => {
                rest = rest.strip_prefix(extension.key.to_vec().as_slice()).ok_or(InclusionError::Absent)?;
                next = extension.child;
            }
            TrieNode::Leaf(leaf) => {
                if leaf.key.to_vec() != rest {
                    return Err(InclusionError::Absent);
                }
                if leaf.value != value {
                    return Err(InclusionError::Value);
                }
                return if nodes.next().is_none() { Ok(()) } else { Err(InclusionError::Long) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::constants::EMPTY_ROOT_HASH as KNOWN_EMPTY_ROOT;
    use alloy_consensus::proofs::ordered_trie_root_encoded;
    use alloy_primitives::{address, b256};

    use super::*;

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
        let known = b256!("730a444e08ab4b8dee147c9b232fc52d34a223d600031c1e9d25bfc985cbd797");
        assert_eq!(accounts_root(accounts), known);
        assert_eq!(accounts_root([]), KNOWN_EMPTY_ROOT);
    }

    /// Keys of a list have several lengths: 0x80, one byte, then 0x81 and a byte, then 0x82 and two.
    #[test]
    fn every_item_of_a_list_is_proved_at_its_index_only() {
        for count in [1, 2, 17, 127, 128, 129, 300] {
            let items: Vec<Vec<u8>> = (0..count).map(|index: u32| index.to_be_bytes().repeat(10)).collect();
            let entries = list_entries(&items);
            let root = entries.root();
            assert_eq!(root, ordered_trie_root_encoded(&items), "{count} items");
            for (index, item) in (0..).zip(&items) {
                let proof = entries.proof(list_key(index));
                assert_eq!(check_inclusion(root, &list_key(index), item, &proof), Ok(()), "{index} of {count}");
                assert!(check_inclusion(root, &list_key(index + 1), item, &proof).is_err());
                assert_eq!(check_inclusion(root, &list_key(index), b"x", &proof), Err(InclusionError::Value));
                let longer = [proof.clone(), vec![Bytes::new()]].concat();
                assert_eq!(check_inclusion(root, &list_key(index), item, &longer), Err(InclusionError::Long));
            }
        }
    }
}
