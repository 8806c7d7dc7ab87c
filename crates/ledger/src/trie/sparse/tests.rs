use std::convert::Infallible;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::super::Entries;
use alloy_rlp::Encodable;
use alloy_trie::TrieMask;
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef};

use super::*;

/// The nodes of a trie in memory, and its root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    root: B256,
    nodes: BTreeMap<Nibbles, Bytes>,
}

impl Nodes for BTreeMap<Nibbles, Bytes> {
    type Error = Infallible;

    fn node(&self, path: &Nibbles) -> Result<Option<Bytes>, Infallible> {
        Ok(self.get(path).cloned())
    }
}

impl Kept {
    fn empty() -> Self {
        Self { root: EMPTY_ROOT_HASH, nodes: BTreeMap::new() }
    }

    fn update(&mut self, entries: impl IntoIterator<Item = (B256, Option<Vec<u8>>)>) {
        let (root, changes) = update(&self.nodes, self.root, entries).unwrap();
        self.root = root;
        for (path, node) in changes {
            match node {
                Some(node) => self.nodes.insert(path, node),
                None => self.nodes.remove(&path),
            };
        }
    }
}

/// Keys that have long beginnings in common, and differ at every depth.
fn key() -> impl Strategy<Value = B256> {
    (0..4_u8, 0..64_usize, any::<u8>()).prop_map(|(kind, place, other)| {
        let mut key = [kind / 2; 32];
        key[place / 2] ^= if place % 2 == 0 { other << 4 } else { other & 0xf };
        B256::new(key)
    })
}

/// Short values make nodes that stand inside their parents.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(1..=9_u8, 1), vec(any::<u8>(), 1..80)]
}

fn entries_of(entries: &BTreeMap<B256, Vec<u8>>) -> Entries {
    Entries(entries.iter().map(|(key, value)| (Nibbles::unpack(key), value.clone())).collect())
}

proptest! {
    /// Whatever came and went: root, nodes and proofs are those of the entries that are left.
    #[test]
    fn a_trie_is_that_of_its_entries(
        steps in vec(btree_map(key(), prop::option::weighted(0.6, value()), 0..12), 1..8),
        strangers in vec(key(), 0..4),
    ) {
        let (mut kept, mut entries) = (Kept::empty(), BTreeMap::new());
        for step in steps {
            kept.update(step.clone());
            for (key, value) in step {
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
            let mut anew = Kept::empty();
            anew.update(entries.iter().map(|(key, value)| (*key, Some(value.clone()))));
            prop_assert_eq!(&kept, &anew);
            let whole = entries_of(&entries);
            prop_assert_eq!(kept.root, whole.root());
            for key in entries.keys().chain(&strangers) {
                let found = find(&kept.nodes, kept.root, key).unwrap();
                prop_assert_eq!(found.as_ref(), entries.get(key));
                prop_assert_eq!(prove(&kept.nodes, kept.root, key).unwrap(), whole.proof(Nibbles::unpack(key)));
            }
        }
    }

    /// N1: what a store does not hold, or holds otherwise, is never read as something else.
    #[test]
    fn altered_nodes_are_told(
        entries in btree_map(key(), value(), 1..30),
        (which, how) in any::<(prop::sample::Index, prop::sample::Index)>(),
        gone in any::<bool>(),
    ) {
        let mut kept = Kept::empty();
        kept.update(entries.iter().map(|(key, value)| (*key, Some(value.clone()))));
        let path = *kept.nodes.keys().nth(which.index(kept.nodes.len())).unwrap();
        let mut node = kept.nodes.remove(&path).unwrap().to_vec();
        if !gone {
            let at = how.index(node.len());
            node[at] ^= 1;
            kept.nodes.insert(path, node.into());
        }
        let mut failed = 0;
        for (key, value) in &entries {
            match find(&kept.nodes, kept.root, key) {
                Ok(found) => prop_assert_eq!(found.as_ref(), Some(value)),
                Err(TrieError::Missing { path: at }) => { failed += 1; prop_assert!(gone && at == path) }
                Err(TrieError::Hash { path: at }) => { failed += 1; prop_assert!(!gone && at == path) }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        prop_assert!(failed > 0, "every node leads to an entry");
    }
}

/// A node with the right hash in the wrong place: only a store of another trie has it.
#[test]
fn nodes_that_no_trie_of_hashes_has_are_refused() {
    let short = LeafNodeRef::new(&Nibbles::from_nibbles([1; 5]), b"value").rlp(&mut Vec::new());
    let mut bytes = Vec::new();
    ExtensionNodeRef::new(&Nibbles::from_nibbles([1; 64]), &short).encode(&mut bytes);
    let mut lone = Vec::new();
    BranchNodeRef::new(&[RlpNode::word_rlp(&B256::ZERO)], TrieMask::new(1)).encode(&mut lone);
    let mut leaf = Vec::new();
    LeafNodeRef::new(&Nibbles::from_nibbles([1; 63]), b"value").encode(&mut leaf);
    for bytes in [bytes, lone, leaf] {
        let (root, bytes) = (keccak256(&bytes), Bytes::from(bytes));
        let nodes = BTreeMap::from([(Nibbles::new(), bytes)]);
        for error in [
            find(&nodes, root, &B256::ZERO).unwrap_err(),
            update(&nodes, root, [(B256::ZERO, None)]).unwrap_err(),
            update(&nodes, root, [(B256::ZERO, Some(vec![1]))]).unwrap_err(),
        ] {
            assert!(matches!(error, TrieError::Place { path } if path.is_empty()), "{error}");
        }
    }
    let garbage = Bytes::from_static(b"no node");
    let error =
        find(&BTreeMap::from([(Nibbles::new(), garbage.clone())]), keccak256(garbage), &B256::ZERO).unwrap_err();
    assert!(matches!(error, TrieError::Node { .. }), "{error}");
}
