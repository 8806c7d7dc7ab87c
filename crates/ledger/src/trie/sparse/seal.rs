//! What a trie that changed has to be written down as.
//!
//! - **Owns** the way from nodes in memory to their bytes, hashes and paths.
//! - **Does not** change a trie.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy_trie::{Nibbles, TrieMask};

use super::{Held, Node, NodeChanges};
use crate::recall::Recall;

/// The writing down of the nodes that were read or are new.
pub(super) struct Sealing<'a> {
    pub(super) changes: NodeChanges,
    pub(super) recall: Option<&'a Recall>,
}

impl Sealing<'_> {
    /// Seals all from the root on, and gives its hash; none if nothing was read.
    pub(super) fn root(&mut self, node: Node) -> Option<B256> {
        if matches!(node, Node::Named(_)) {
            return None;
        }
        let bytes = self.encode(node, Nibbles::new());
        let root = keccak256(&bytes);
        // The root has a hash however short it is.
        self.write(Nibbles::new(), root, bytes);
        Some(root)
    }

    /// How a parent names a node that it has at that path; writes it down if that is by its hash.
    fn name(&mut self, node: Node, path: Nibbles) -> RlpNode {
        if let Node::Named(name) = node {
            return name;
        }
        let bytes = self.encode(node, path);
        let name = RlpNode::from_rlp(&bytes);
        if let Some(hash) = name.as_hash() {
            self.write(path, hash, bytes);
        }
        name
    }

    /// The next block begins with these nodes.
    fn write(&mut self, path: Nibbles, hash: B256, bytes: Bytes) {
        if let Some(recall) = self.recall
            && let Ok(held) = Held::decode(bytes.clone())
        {
            recall.keep_node(hash, &Arc::new(held));
        }
        self.changes.insert(path, Some(bytes));
    }

    /// The RLP of a node, all below it sealed.
    fn encode(&mut self, node: Node, path: Nibbles) -> Bytes {
        let mut bytes = Vec::new();
        match node {
            Node::Named(name) => bytes.extend_from_slice(&name),
            Node::Leaf { key, value } => LeafNodeRef::new(&key, &value).encode(&mut bytes),
            Node::Extension { key, child } => {
                let child = self.name(*child, path.join(&key));
                ExtensionNodeRef::new(&key, &child).encode(&mut bytes);
            }
            Node::Branch(children) => {
                let (mut stack, mut mask) = (Vec::new(), TrieMask::default());
                for (nibble, child) in (0_u8..).zip(*children) {
                    let Some(child) = child else { continue };
                    mask.set_bit(nibble);
                    stack.push(self.name(child, path.join(&Nibbles::from_nibbles([nibble]))));
                }
                BranchNodeRef::new(&stack, mask).encode(&mut bytes);
            }
        }
        bytes.into()
    }
}
