//! Tries of which only the nodes on the way are read: an entry is found, proved, set or removed in steps that grow with the depth of the
//! trie, not with its size.
//!
//! - **Owns** how entries come and go in a Merkle Patricia trie, and which nodes that writes and removes.
//! - **Does not** keep nodes: they come from a [`Nodes`], and what changes goes back to whoever keeps it.
//!
//! Every key is a hash, so all have the same length, and no key ends in a branch.
//!
//! # Invariants
//! - **N1** A node is used only if it has the hash that its parent, or the root, names, and stands where a node of its kind can.
//! - **N2** With its [`NodeChanges`] a keeper that held the nodes of the old root, each at its path, holds those of the new root, and no other.
//! - **N3** A root depends on the entries alone, not on the way to them.

mod seal;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{BranchNode, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};

use self::seal::Sealing;
use crate::recall::Recall;

/// The nibbles of a key.
const KEY_LEN: usize = 64;

/// The nodes of one trie, each at its path from the root. Nodes that stand inside their parent are not there by themselves.
pub trait Nodes {
    /// Why a read failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The RLP of the node at that path.
    fn node(&self, path: &Nibbles) -> Result<Option<Bytes>, Self::Error>;

    /// Where nodes are looked up by their hashes first, and kept.
    fn recall(&self) -> Option<&Recall> {
        None
    }
}

/// What becomes of the nodes at these paths: their new RLP, or nothing if they are gone.
pub type NodeChanges = BTreeMap<Nibbles, Option<Bytes>>;

/// A trie that is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrieError<E: std::error::Error + 'static> {
    #[error("could not read the trie node at {path:?}")]
    View {
        path: Nibbles,
        #[source]
        source: E,
    },
    #[error("the trie node at {path:?} is missing")]
    Missing { path: Nibbles },
    #[error("the trie node at {path:?} has another hash than its parent names")]
    Hash { path: Nibbles },
    #[error("the bytes at {path:?} are no trie node")]
    Node {
        path: Nibbles,
        #[source]
        source: alloy_rlp::Error,
    },
    #[error("no node of its kind can stand at {path:?}")]
    Place { path: Nibbles },
}

/// The value at a key; none if there is no entry.
pub fn find<N: Nodes>(nodes: &N, root: B256, key: &B256) -> Result<Option<Vec<u8>>, TrieError<N::Error>> {
    walk(nodes, root, key, |_| {})
}

/// The nodes from the root to a key, or to where it would be, each that has a hash: what `eth_getProof` returns.
pub fn prove<N: Nodes>(nodes: &N, root: B256, key: &B256) -> Result<Vec<Bytes>, TrieError<N::Error>> {
    let mut passed = Vec::new();
    walk(nodes, root, key, |node| passed.push(node.clone()))?;
    Ok(passed)
}

/// The root after entries were set, or removed where the value is none, and the nodes that changes.
pub fn update<N: Nodes>(
    nodes: &N,
    root: B256,
    entries: impl IntoIterator<Item = (B256, Option<Vec<u8>>)>,
) -> Result<(B256, NodeChanges), TrieError<N::Error>> {
    let mut growth = Growth { nodes, loaded: BTreeSet::new() };
    let mut node = (root != EMPTY_ROOT_HASH).then(|| Node::Named(RlpNode::word_rlp(&root)));
    for (key, value) in entries {
        let key = Nibbles::unpack(key);
        node = match (node, value) {
            (node, Some(value)) => Some(growth.set(node, key, Nibbles::new(), value)?),
            (Some(node), None) => growth.remove(node, key, Nibbles::new())?,
            (None, None) => None,
        };
    }
    let gone = growth.loaded.into_iter().map(|path| (path, None)).collect();
    let mut sealing = Sealing { changes: gone, recall: nodes.recall() };
    let root = match node {
        Some(node) => sealing.root(node).unwrap_or(root),
        None => EMPTY_ROOT_HASH,
    };
    Ok((root, sealing.changes))
}

/// The changes that take all nodes of a trie away.
pub fn clear<N: Nodes>(nodes: &N, root: B256) -> Result<NodeChanges, TrieError<N::Error>> {
    let mut changes = NodeChanges::new();
    visit(nodes, root, |visited| {
        if let Visited::Node(path) = visited {
            changes.insert(*path, None);
        }
        Ok(())
    })?;
    Ok(changes)
}

/// What stands in a trie.
#[derive(Debug)]
pub enum Visited<'a> {
    /// A node by itself, at this path.
    Node(&'a Nibbles),
    /// An entry.
    Entry(B256, &'a [u8]),
}

/// Goes through a whole trie, each node checked (N1), until it was all seen or `see` fails.
pub fn visit<N: Nodes, E: From<TrieError<N::Error>>>(
    nodes: &N,
    root: B256,
    mut see: impl FnMut(Visited<'_>) -> Result<(), E>,
) -> Result<(), E> {
    visit_from(nodes, root, &B256::ZERO, |visited| see(visited).map(ControlFlow::Continue))
}

/// The same from a key on, in the order of keys, until `see` breaks off. The nodes on the way to that key are seen again.
pub fn visit_from<N: Nodes, E: From<TrieError<N::Error>>>(
    nodes: &N,
    root: B256,
    from: &B256,
    mut see: impl FnMut(Visited<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let from = Nibbles::unpack(from);
    let is_before = |path: &Nibbles| *path < from.slice(..path.len());
    let mut left = Vec::new();
    if root != EMPTY_ROOT_HASH {
        left.push((Nibbles::new(), Node::Named(RlpNode::word_rlp(&root))));
    }
    while let Some((path, node)) = left.pop() {
        let mut flow = ControlFlow::Continue(());
        match node {
            Node::Named(_) if is_before(&path) => {}
            Node::Named(name) => {
                let (node, is_own) = load(nodes, &name, &path)?;
                if is_own {
                    flow = see(Visited::Node(&path))?;
                }
                left.push((path, node));
            }
            Node::Leaf { key, value } => {
                let key = path.join(&key);
                if !is_before(&key) {
                    flow = see(Visited::Entry(B256::from_slice(&key.pack()), &value))?;
                }
            }
            Node::Extension { key, child } => left.push((path.join(&key), *child)),
            Node::Branch(children) => {
                let below = (0..16_u8).zip(*children).rev();
                left.extend(
                    below.filter_map(|(nibble, child)| Some((path.join(&Nibbles::from_nibbles([nibble])), child?))),
                );
            }
        }
        if flow.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// A node, as far as it was read.
#[derive(Debug)]
enum Node {
    /// As its parent has it: its hash, or all of it where that is shorter.
    Named(RlpNode),
    Leaf {
        key: Nibbles,
        value: Vec<u8>,
    },
    Extension {
        key: Nibbles,
        child: Box<Node>,
    },
    Branch(Box<Children>),
}

type Children = [Option<Node>; 16];

impl Node {
    /// What was read of a node that can stand there; nothing of an empty trie.
    fn of(node: &TrieNode) -> Option<Self> {
        match node {
            TrieNode::EmptyRoot => None,
            TrieNode::Leaf(leaf) => Some(Self::Leaf { key: leaf.key, value: leaf.value.clone() }),
            TrieNode::Extension(extension) => {
                let child = Box::new(Self::Named(extension.child.clone()));
                Some(Self::Extension { key: extension.key, child })
            }
            TrieNode::Branch(branch) => {
                let mut children = Children::default();
                for (index, child) in branch.as_ref().children() {
                    if let Some(place) = children.get_mut(usize::from(index)) {
                        *place = child.cloned().map(Self::Named);
                    }
                }
                Some(Self::Branch(Box::new(children)))
            }
        }
    }
}

/// A node as it was read.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Bytes,
    node: TrieNode,
}

impl Held {
    fn decode(bytes: Bytes) -> alloy_rlp::Result<Self> {
        Ok(Self { node: TrieNode::decode(&mut bytes.as_ref())?, bytes })
    }
}

/// A node that its parent names by its hash, and so stands by itself, or that stands inside its parent.
enum Read {
    Own(Arc<Held>),
    Inside(TrieNode),
}

impl Read {
    fn node(&self) -> &TrieNode {
        match self {
            Self::Own(held) => &held.node,
            Self::Inside(node) => node,
        }
    }
}

/// Reads the node of that name at that path (N1).
fn read<N: Nodes>(nodes: &N, name: &RlpNode, path: &Nibbles) -> Result<Read, TrieError<N::Error>> {
    let undecodable = |source| TrieError::Node { path: *path, source };
    let read = match name.as_hash() {
        None => Read::Inside(TrieNode::decode(&mut name.as_slice()).map_err(undecodable)?),
        Some(hash) => Read::Own(match nodes.recall().and_then(|recall| recall.node(&hash)) {
            Some(held) => held,
            None => read_own(nodes, hash, path)?,
        }),
    };
    if stands(read.node(), path) { Ok(read) } else { Err(TrieError::Place { path: *path }) }
}

/// Reads the node with that hash at that path, and keeps it.
fn read_own<N: Nodes>(nodes: &N, hash: B256, path: &Nibbles) -> Result<Arc<Held>, TrieError<N::Error>> {
    let bytes = nodes.node(path).map_err(|source| TrieError::View { path: *path, source })?;
    let bytes = bytes.ok_or(TrieError::Missing { path: *path })?;
    if keccak256(&bytes) != hash {
        return Err(TrieError::Hash { path: *path });
    }
    let held = Arc::new(Held::decode(bytes).map_err(|source| TrieError::Node { path: *path, source })?);
    if let Some(recall) = nodes.recall() {
        recall.keep_node(hash, &held);
    }
    Ok(held)
}

/// Whether a node can stand at that path: then no path below it is longer than a key, and each entry has a whole one.
fn stands(node: &TrieNode, path: &Nibbles) -> bool {
    let left = KEY_LEN.saturating_sub(path.len());
    match node {
        TrieNode::EmptyRoot => false,
        TrieNode::Leaf(leaf) => leaf.key.len() == left,
        TrieNode::Extension(extension) => !extension.key.is_empty() && extension.key.len() < left,
        TrieNode::Branch(branch) => left > 0 && branch.state_mask.count_ones() > 1,
    }
}

/// Reads the node of that name at that path, to go on from there; says too whether it stands there by itself.
fn load<N: Nodes>(nodes: &N, name: &RlpNode, path: &Nibbles) -> Result<(Node, bool), TrieError<N::Error>> {
    let read = read(nodes, name, path)?;
    let node = Node::of(read.node()).ok_or(TrieError::Place { path: *path })?;
    Ok((node, matches!(read, Read::Own(_))))
}

/// Goes from the root towards a key, past every node that has a hash.
fn walk<N: Nodes>(
    nodes: &N,
    root: B256,
    key: &B256,
    mut pass: impl FnMut(&Bytes),
) -> Result<Option<Vec<u8>>, TrieError<N::Error>> {
    if root == EMPTY_ROOT_HASH {
        return Ok(None);
    }
    let key = Nibbles::unpack(key);
    let (mut name, mut path) = (RlpNode::word_rlp(&root), Nibbles::new());
    loop {
        let read = read(nodes, &name, &path)?;
        if let Read::Own(held) = &read {
            pass(&held.bytes);
        }
        let child = match read.node() {
            TrieNode::Leaf(leaf) => return Ok((leaf.key == key.slice(path.len()..)).then(|| leaf.value.clone())),
            TrieNode::Extension(extension) if key.slice(path.len()..).starts_with(&extension.key) => {
                path.extend(&extension.key);
                Some(extension.child.clone())
            }
            TrieNode::Branch(branch) => {
                let nibble = nibble_at(&key, path.len());
                path.push(nibble);
                child_of(branch, nibble).cloned()
            }
            TrieNode::Extension(_) | TrieNode::EmptyRoot => None,
        };
        match child {
            Some(child) => name = child,
            None => return Ok(None),
        }
    }
}

/// The child of a branch at a nibble: of the children that are there it has as many before it as bits stand below its own.
fn child_of(branch: &BranchNode, nibble: u8) -> Option<&RlpNode> {
    let bit = 1_u16.checked_shl(u32::from(nibble))?;
    let mask = branch.state_mask.get();
    let before = (mask & (bit - 1)).count_ones();
    if mask & bit == 0 { None } else { branch.stack.get(usize::try_from(before).ok()?) }
}

/// A nibble of a key that has one there.
fn nibble_at(key: &Nibbles, place: usize) -> u8 {
    key.get(place).expect("by N1 a path that has a branch or a fork is shorter than a key")
}

/// A trie while entries come and go.
struct Growth<'a, N> {
    nodes: &'a N,
    /// Where nodes were read that stand by themselves: unless one is sealed there again, nothing is.
    loaded: BTreeSet<Nibbles>,
}

impl<N: Nodes> Growth<'_, N> {
    fn load(&mut self, name: &RlpNode, path: &Nibbles) -> Result<Node, TrieError<N::Error>> {
        let (node, is_own) = load(self.nodes, name, path)?;
        if is_own {
            self.loaded.insert(*path);
        }
        Ok(node)
    }

    /// Sets what stands at `key` below `path`.
    fn set(
        &mut self,
        node: Option<Node>,
        key: Nibbles,
        path: Nibbles,
        value: Vec<u8>,
    ) -> Result<Node, TrieError<N::Error>> {
        match node {
            None => Ok(Node::Leaf { key, value }),
            Some(Node::Named(name)) => {
                let node = self.load(&name, &path)?;
                self.set(Some(node), key, path, value)
            }
            Some(Node::Leaf { key: own, .. }) if own == key => Ok(Node::Leaf { key, value }),
            Some(Node::Leaf { key: own, value: other }) => {
                let common = own.common_prefix_length(&key);
                let old = Node::Leaf { key: own.slice(common + 1..), value: other };
                Ok(fork(common, (&own, old), (&key, value)))
            }
            Some(Node::Extension { key: own, child }) => {
                let common = own.common_prefix_length(&key);
                if common == own.len() {
                    let child = self.set(Some(*child), key.slice(common..), path.join(&own), value)?;
                    return Ok(Node::Extension { key: own, child: Box::new(child) });
                }
                let rest = own.slice(common + 1..);
                let old = if rest.is_empty() { *child } else { Node::Extension { key: rest, child } };
                Ok(fork(common, (&own, old), (&key, value)))
            }
            Some(Node::Branch(mut children)) => {
                let nibble = nibble_at(&key, 0);
                let place = child_at(&mut children, nibble);
                let below = Nibbles::from_nibbles([nibble]);
                *place = Some(self.set(place.take(), key.slice(1..), path.join(&below), value)?);
                Ok(Node::Branch(children))
            }
        }
    }

    /// Removes what stands at `key` below `path`, and gives what is left.
    fn remove(&mut self, node: Node, key: Nibbles, path: Nibbles) -> Result<Option<Node>, TrieError<N::Error>> {
        match node {
            Node::Named(name) => {
                let node = self.load(&name, &path)?;
                self.remove(node, key, path)
            }
            Node::Leaf { key: own, value } => Ok((own != key).then_some(Node::Leaf { key: own, value })),
            Node::Extension { key: own, child } => {
                if !key.starts_with(&own) {
                    return Ok(Some(Node::Extension { key: own, child }));
                }
                let left = self.remove(*child, key.slice(own.len()..), path.join(&own))?;
                Ok(left.map(|child| lengthened(&own, child)))
            }
            Node::Branch(mut children) => {
                let nibble = nibble_at(&key, 0);
                let place = child_at(&mut children, nibble);
                if let Some(child) = place.take() {
                    let below = Nibbles::from_nibbles([nibble]);
                    *place = self.remove(child, key.slice(1..), path.join(&below))?;
                }
                self.without_lone_branch(children, &path).map(Some)
            }
        }
    }

    /// A branch; where one child is left, that child in its place.
    fn without_lone_branch(
        &mut self,
        mut children: Box<Children>,
        path: &Nibbles,
    ) -> Result<Node, TrieError<N::Error>> {
        let mut here = (0_u8..).zip(children.iter()).filter(|(_, child)| child.is_some()).map(|(nibble, _)| nibble);
        let (Some(nibble), None) = (here.next(), here.next()) else { return Ok(Node::Branch(children)) };
        let step = Nibbles::from_nibbles([nibble]);
        match child_at(&mut children, nibble).take() {
            Some(Node::Named(name)) => Ok(lengthened(&step, self.load(&name, &path.join(&step))?)),
            Some(child) => Ok(lengthened(&step, child)),
            None => Ok(Node::Branch(children)),
        }
    }
}

fn child_at(children: &mut Children, nibble: u8) -> &mut Option<Node> {
    children.get_mut(usize::from(nibble)).expect("a nibble is less than 16")
}

/// A branch after so many nibbles that two keys have in common: one of a node that was there, and one that is new.
fn fork(common: usize, (own, old): (&Nibbles, Node), (key, value): (&Nibbles, Vec<u8>)) -> Node {
    let mut children = Children::default();
    *child_at(&mut children, nibble_at(own, common)) = Some(old);
    *child_at(&mut children, nibble_at(key, common)) = Some(Node::Leaf { key: key.slice(common + 1..), value });
    let branch = Node::Branch(Box::new(children));
    if common == 0 { branch } else { Node::Extension { key: key.slice(..common), child: Box::new(branch) } }
}

/// A node that begins so much earlier.
fn lengthened(by: &Nibbles, node: Node) -> Node {
    match node {
        Node::Leaf { key, value } => Node::Leaf { key: by.join(&key), value },
        Node::Extension { key, child } => Node::Extension { key: by.join(&key), child },
        branch => Node::Extension { key: *by, child: Box::new(branch) },
    }
}

#[cfg(test)]
mod tests;
