//! What a trie that changed has to be written down as.
//!
//! - **Owns** the way from nodes in memory to their bytes, hashes and paths.
//! - **Does not** change a trie.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode};
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
        let node = self.seal(node, Nibbles::new()).ok()?;
        let bytes = encode(&node);
        let root = keccak256(&bytes);
        // The root has a hash however short it is.
        self.write(Nibbles::new(), root, Held { bytes, node });
        Some(root)
    }

    /// How a parent names a node that it has at that path; writes it down if that is by its hash.
    fn name(&mut self, node: Node, path: Nibbles) -> RlpNode {
        let node = match self.seal(node, path) {
            Ok(node) => node,
            Err(name) => return name,
        };
        let bytes = encode(&node);
        let name = RlpNode::from_rlp(&bytes);
        if let Some(hash) = name.as_hash() {
            self.write(path, hash, Held { bytes, node });
        }
        name
    }

    /// The next block begins with these nodes.
    fn write(&mut self, path: Nibbles, hash: B256, held: Held) {
        self.changes.insert(path, Some(held.bytes.clone()));
        if let Some(recall) = self.recall {
            recall.keep_node(hash, &Arc::new(held));
        }
    }

    /// A node as it is written down, all below it sealed; its name, if it was not read.
    fn seal(&mut self, node: Node, path: Nibbles) -> Result<TrieNode, RlpNode> {
        Ok(match node {
            Node::Named(name) => return Err(name),
            Node::Leaf { key, value } => TrieNode::Leaf(LeafNode::new(key, value)),
            Node::Extension { key, child } => {
                let child = self.name(*child, path.join(&key));
                TrieNode::Extension(ExtensionNode::new(key, child))
            }
            Node::Branch(children) => {
                let mut mask = TrieMask::default();
                let mut stack = Vec::with_capacity(children.iter().flatten().count());
                for (nibble, child) in (0_u8..).zip(*children) {
                    let Some(child) = child else { continue };
                    mask.set_bit(nibble);
                    stack.push(self.name(child, path.join(&Nibbles::from_nibbles([nibble]))));
                }
                TrieNode::Branch(BranchNode::new(stack, mask))
            }
        })
    }
}

/// The RLP of a node, in memory of its length: much of it is kept.
fn encode(node: &TrieNode) -> Bytes {
    let mut bytes = Vec::with_capacity(node.length());
    node.encode(&mut bytes);
    bytes.into()
}
