//! Ethereum's Merkle Patricia tries: roots, proofs under them, and their check.
//!
//! - **Owns** the way from entries to a root and from a root to an entry: of lists from all their items, of states from the nodes on the
//!   way ([`sparse`]).
//! - **Does not** hold nodes, nor know what entries mean.
//!
//! # Invariants
//! - **T1** [`shown`] and [`check_inclusion`] take any bytes: they never panic, and give, or are true of, nothing but an entry under the root.

mod sparse;

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{RlpNode, TrieNode};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{HashBuilder, Nibbles};

pub(crate) use sparse::Held;
pub use sparse::{NodeChanges, Nodes, TrieError, Visited, clear, find, prove, update, visit, visit_from};

/// The nodes of a hashed reference are at least this long; shorter ones stand inside their parent.
const HASHED_NODE_MIN: usize = 32;

/// The entries of a trie over a list: transactions or transaction receipts, each in its EIP-2718 bytes.
pub(crate) fn list_entries(items: &[Vec<u8>]) -> Entries {
    Entries(items.iter().enumerate().map(|(index, item)| (list_key(index as u64), item.clone())).collect())
}

/// Where an item stands in the trie of a list.
pub(crate) fn list_key(index: u64) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode(index))
}

/// The entries of one trie, by ascending key.
pub(crate) struct Entries(BTreeMap<Nibbles, Vec<u8>>);

impl Entries {
    /// The root over them.
    #[cfg(test)]
    pub(crate) fn root(&self) -> B256 {
        if self.0.is_empty() {
            return alloy_trie::EMPTY_ROOT_HASH;
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
pub fn check_inclusion(root: B256, key: &Nibbles, value: &[u8], proof: &[Bytes]) -> Result<(), InclusionError> {
    if shown(root, key, proof)? == value { Ok(()) } else { Err(InclusionError::Value) }
}

/// The value that stands at `key` under `root`, by the nodes on the way and nothing else.
///
/// The walk is ours because the one of `alloy-trie` keeps the path in a fixed array and panics on crafted nodes
/// whose keys together exceed it.
pub fn shown(root: B256, key: &Nibbles, proof: &[Bytes]) -> Result<Vec<u8>, InclusionError> {
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
                return if nodes.next().is_none() { Ok(leaf.value) } else { Err(InclusionError::Long) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::proofs::ordered_trie_root_encoded;

    use super::*;

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
