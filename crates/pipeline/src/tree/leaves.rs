//! The Merkle tree of salted leaves, one per entry.
//!
//! The tree is built as leaves come: memory grows with the logarithm of their number.

use blockhouse_crypto::Secret;
use blockhouse_crypto::file_proof::{entry_tree, leaf_hash};
use blockhouse_crypto::hash::{derive, keyed};
use blockhouse_crypto::merkle::Tree;
use blockhouse_types::{EntriesRoot, EntryFacts};

/// A leaf with its place in the tree: what a proof of it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedLeaf {
    /// Names from the root, joined by `/`.
    pub path: Vec<u8>,
    /// What it commits to.
    pub facts: EntryFacts,
    /// Its salt.
    pub salt: [u8; 32],
    /// Which leaf it is.
    pub index: u64,
    /// The siblings from the leaf upwards.
    pub siblings: Vec<[u8; 32]>,
}

/// What a manifest says of all entries, and the leaf that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesCommitment {
    /// How many there are.
    pub entries: u64,
    /// The root over their leaves.
    pub root: EntriesRoot,
    /// The leaf of the path that was watched, if it came.
    pub watched: Option<WatchedLeaf>,
}

/// A finished subtree of 2^level leaves.
#[derive(Debug)]
struct Peak {
    level: u32,
    hash: [u8; 32],
    watched: bool,
}

/// Takes entries in depth-first order: a folder's own entry, then its children, in the order of listings.
#[derive(Debug)]
pub struct EntryLeaves {
    tree: Tree,
    salt_key: Secret,
    count: u64,
    /// Subtrees of falling levels, left to right.
    peaks: Vec<Peak>,
    wanted: Option<Vec<u8>>,
    watched: Option<WatchedLeaf>,
}

impl EntryLeaves {
    /// No entries yet, salted under this manifest key.
    pub fn new(manifest_key: &Secret) -> Self {
        Self {
            tree: entry_tree(),
            salt_key: derive("blockhouse v1 entry salt", manifest_key, []),
            count: 0,
            peaks: Vec::new(),
            wanted: None,
            watched: None,
        }
    }

    /// The same, and the place of the leaf of `path` is kept, to prove it.
    pub fn watching(manifest_key: &Secret, path: Vec<u8>) -> Self {
        Self { wanted: Some(path), ..Self::new(manifest_key) }
    }

    /// How many entries came.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The next entry. Its path: names from the root, joined by `/`.
    pub fn push(&mut self, path: &[u8], facts: &EntryFacts) {
        let salt = keyed(&self.salt_key, &self.count.to_le_bytes());
        let hash = leaf_hash(&self.tree, &salt, path, &facts.to_bytes());
        let watched = self.watched.is_none() && self.wanted.as_deref() == Some(path);
        if watched {
            let (path, facts, index) = (path.to_vec(), *facts, self.count);
            self.watched = Some(WatchedLeaf { path, facts, salt, index, siblings: Vec::new() });
        }
        self.peaks.push(Peak { level: 0, hash, watched });
        self.count += 1;
        while let [.., left, right] = self.peaks.as_slice() {
            if left.level != right.level {
                break;
            }
            self.join_last_two();
        }
    }

    /// The commitment to all entries.
    pub fn finish(mut self) -> EntriesCommitment {
        // An odd last node moves up unchanged until it meets the neighbour on its left.
        while self.peaks.len() > 1 {
            self.join_last_two();
        }
        let root = self.peaks.first().map_or_else(|| self.tree.root(&[]), |peak| peak.hash);
        EntriesCommitment { entries: self.count, root: EntriesRoot::new(root), watched: self.watched }
    }

    fn join_last_two(&mut self) {
        let (Some(right), Some(left)) = (self.peaks.pop(), self.peaks.pop()) else { return };
        if let Some(leaf) = &mut self.watched {
            if left.watched {
                leaf.siblings.push(right.hash);
            } else if right.watched {
                leaf.siblings.push(left.hash);
            }
        }
        let hash = self.tree.join(&left.hash, &right.hash);
        self.peaks.push(Peak { level: left.level + 1, hash, watched: left.watched || right.watched });
    }
}
