//! Stripe lists: which stripes a snapshot needs, without keys, as shared prefix trees.
//!
//! - **Owns** the nodes' bytes and hashes, building a list and reading it back with every check.
//! - **Does not** know which stripes hold which chunks (L1 is checked where both are at hand).
//!
//! # Invariants
//! - **L2** Equal sets give equal roots; a reader takes only the one tree of a set.
//! - **L3** A node's hash commits to the whole subtree: a node that is stored with all below it can be shared.
//!
//! Format: `docs/design/manifests.md`, section *Stripe list*.

mod node;
mod read;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use blockhouse_types::limits::LIST_LEAF_MAX;
use blockhouse_types::{ListHash, StripeId};

pub use node::{Child, DEPTH_MAX, ListNode, nibble};
pub use read::{ReadListError, WholeSubtrees, read_list, walk_unseen};

/// Why ids are no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stripe {id} does not come after {previous} in the order of ids")]
pub struct NotAscending {
    /// The id that is out of order.
    pub id: StripeId,
    /// The id before it.
    pub previous: StripeId,
}

/// A node as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNode {
    /// Its hash, which is its name.
    pub hash: ListHash,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The nodes of one list, children before their parents, the root last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeList {
    nodes: Vec<StoredNode>,
}

impl StripeList {
    /// The list of a set, given in ascending order.
    pub fn build(ids: &[StripeId]) -> Result<Self, NotAscending> {
        if let Some([previous, id]) = ids.array_windows().find(|[a, b]| a >= b).copied() {
            return Err(NotAscending { id, previous });
        }
        let mut nodes = Vec::new();
        add_subtree(&mut nodes, ids, 0);
        Ok(Self { nodes })
    }

    /// The root, as it stands in the snapshot object and on the ledger.
    pub fn root(&self) -> ListHash {
        self.nodes.last().expect("even the empty set has a leaf").hash
    }

    /// All nodes, children before their parents: stored in this order, a node that is there has all below it.
    pub fn nodes(&self) -> &[StoredNode] {
        &self.nodes
    }

    /// The nodes that a site needs, children before their parents. Where `is_stored` is true for a node, those below
    /// are not asked for: it must be true only of nodes that were stored with all below them.
    pub fn needed_nodes(&self, mut is_stored: impl FnMut(ListHash) -> bool) -> Vec<&StoredNode> {
        let by_hash: HashMap<_, _> = self.nodes.iter().map(|node| (node.hash, node)).collect();
        let mut needed = Vec::new();
        let mut open = vec![self.root()];
        while let Some(hash) = open.pop() {
            let Some(node) = by_hash.get(&hash).filter(|_| !is_stored(hash)) else { continue };
            needed.push(*node);
            if let Ok(ListNode::Inner { children, .. }) = ListNode::from_bytes(&node.bytes) {
                open.extend(children.iter().map(|child| child.hash));
            }
        }
        needed.reverse();
        needed
    }
}

/// Adds the nodes of the ids that share the first `depth` nibbles; gives the hash of the top one.
fn add_subtree(nodes: &mut Vec<StoredNode>, ids: &[StripeId], depth: u8) -> ListHash {
    let node = if ids.len() <= LIST_LEAF_MAX {
        ListNode::Leaf { depth, ids: ids.to_vec() }
    } else {
        let runs = ids.chunk_by(|a, b| nibble(a, depth) == nibble(b, depth));
        let children = runs.filter_map(|run| {
            let nibble = nibble(run.first()?, depth);
            // Distinct ids differ in one of their 64 nibbles, so no more than one is left at the last.
            Some(Child { nibble, count: run.len() as u64, hash: add_subtree(nodes, run, depth + 1) })
        });
        ListNode::Inner { depth, children: children.collect() }
    };
    let bytes = node.to_bytes();
    let hash = ListNode::hash(&bytes);
    nodes.push(StoredNode { hash, bytes });
    hash
}
