//! The one Merkle tree of the formats.
//!
//! # Invariants
//! - **M1** A path verifies only at its own index and number of leaves.
//!
//! Format: `docs/design/encoding.md`, section *Merkle trees*.

use crate::hash::Context;

/// A kind of tree: its two contexts.
#[derive(Clone, Debug)]
pub struct Tree {
    leaf: Context,
    node: Context,
}

impl Tree {
    /// A tree with these contexts.
    pub fn new(leaf: &'static str, node: &'static str) -> Self {
        Self { leaf: Context::new(leaf), node: Context::new(node) }
    }

    /// The hash of one leaf's fields.
    pub fn leaf<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        self.leaf.hash_parts(parts)
    }

    /// The root over leaf hashes.
    pub fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        let mut level = leaves.to_vec();
        while level.len() > 1 {
            level = self.level_above(&level);
        }
        level.first().copied().unwrap_or_else(|| self.node.hash(&[]))
    }

    /// The siblings from leaf `index` upwards; `None` if there is no such leaf.
    pub fn path(&self, leaves: &[[u8; 32]], mut index: usize) -> Option<Vec<[u8; 32]>> {
        leaves.get(index)?;
        let mut siblings = Vec::new();
        let mut level = leaves.to_vec();
        while level.len() > 1 {
            siblings.extend(level.get(index ^ 1));
            level = self.level_above(&level);
            index /= 2;
        }
        Some(siblings)
    }

    /// The root that a leaf and its siblings give; `None` if the path has not the length it must have.
    pub fn root_of_path(
        &self,
        leaf: [u8; 32],
        mut index: u64,
        mut count: u64,
        siblings: &[[u8; 32]],
    ) -> Option<[u8; 32]> {
        if index >= count {
            return None;
        }
        let mut siblings = siblings.iter();
        let mut hash = leaf;
        while count > 1 {
            if index ^ 1 < count {
                let sibling = siblings.next()?;
                hash = if index.is_multiple_of(2) { self.join(&hash, sibling) } else { self.join(sibling, &hash) };
            }
            index /= 2;
            count = count.div_ceil(2);
        }
        siblings.next().is_none().then_some(hash)
    }

    fn level_above(&self, level: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let join = |pair: &[[u8; 32]]| match pair {
            [left, right] => self.join(left, right),
            odd => odd.first().copied().unwrap_or_default(),
        };
        level.chunks(2).map(join).collect()
    }

    /// The node over two neighbours.
    pub fn join(&self, left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
        self.node.hash_parts([&left[..], right])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new("blockhouse v1 test leaf", "blockhouse v1 test node")
    }

    #[test]
    fn every_path_verifies_at_its_place_only() {
        let tree = tree();
        for count in 1..20_u8 {
            let leaves: Vec<_> = (0..count).map(|i| tree.leaf([&[i][..]])).collect();
            let root = tree.root(&leaves);
            for index in 0..leaves.len() {
                let path = tree.path(&leaves, index).unwrap();
                for claimed in 0..leaves.len() as u64 {
                    let found = tree.root_of_path(leaves[index], claimed, leaves.len() as u64, &path);
                    assert_eq!(found == Some(root), claimed == index as u64, "{count} {index} {claimed}");
                }
                let mut longer = path.clone();
                longer.push([0; 32]);
                assert_eq!(tree.root_of_path(leaves[index], index as u64, leaves.len() as u64, &longer), None);
            }
        }
    }

    #[test]
    fn no_leaves_have_a_root_of_their_own() {
        assert_eq!(tree().root(&[]), Context::new("blockhouse v1 test node").hash(&[]));
        assert_eq!(tree().path(&[], 0), None);
    }
}
