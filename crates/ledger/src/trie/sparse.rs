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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

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
    let mut changes: NodeChanges = growth.loaded.into_iter().map(|path| (path, None)).collect();
    let root = match node {
        Some(node) => seal_root(node, &mut changes).unwrap_or(root),
        None => EMPTY_ROOT_HASH,
    };
    Ok((root, changes))
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
                let (node, bytes) = load(nodes, &name, &path)?;
                if bytes.is_some() {
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

/// Reads the node of that name at that path; gives its bytes too if it stands there by itself (N1).
fn load<N: Nodes>(nodes: &N, name: &RlpNode, path: &Nibbles) -> Result<(Node, Option<Bytes>), TrieError<N::Error>> {
    let Some(hash) = name.as_hash() else { return Ok((decode(name, path)?, None)) };
    let recall = nodes.recall();
    if let Some(bytes) = recall.and_then(|recall| recall.node(&hash)) {
        return Ok((decode(&bytes, path)?, Some(bytes)));
    }
    let read = nodes.node(path).map_err(|source| TrieError::View { path: *path, source })?;
    let bytes = read.ok_or(TrieError::Missing { path: *path })?;
    if keccak256(&bytes) != hash {
        return Err(TrieError::Hash { path: *path });
    }
    if let Some(recall) = recall {
        recall.keep_node(hash, &bytes);
    }
    Ok((decode(&bytes, path)?, Some(bytes)))
}

/// The node of these bytes, if it can stand at that path: then no path below it is longer than a key, and each entry has a whole one.
fn decode<E: std::error::Error + 'static>(mut bytes: &[u8], path: &Nibbles) -> Result<Node, TrieError<E>> {
    let node = TrieNode::decode(&mut bytes).map_err(|source| TrieError::Node { path: *path, source })?;
    let left = KEY_LEN.saturating_sub(path.len());
    let (node, stands) = match node {
        TrieNode::EmptyRoot => return Err(TrieError::Place { path: *path }),
        TrieNode::Leaf(leaf) => {
            let stands = leaf.key.len() == left;
            (Node::Leaf { key: leaf.key, value: leaf.value }, stands)
        }
        TrieNode::Extension(extension) => {
            let stands = !extension.key.is_empty() && extension.key.len() < left;
            (Node::Extension { key: extension.key, child: Box::new(Node::Named(extension.child)) }, stands)
        }
        TrieNode::Branch(branch) => {
            let mut children = Children::default();
            let branch = branch.as_ref();
            for (index, child) in branch.children() {
                if let Some(place) = children.get_mut(usize::from(index)) {
                    *place = child.cloned().map(Node::Named);
                }
            }
            let stands = left > 0 && children.iter().flatten().nth(1).is_some();
            (Node::Branch(Box::new(children)), stands)
        }
    };
    if stands { Ok(node) } else { Err(TrieError::Place { path: *path }) }
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
        let (node, bytes) = load(nodes, &name, &path)?;
        if let Some(bytes) = &bytes {
            pass(bytes);
        }
        let rest = key.slice(path.len()..);
        let child = match node {
            Node::Leaf { key, value } => return Ok((key == rest).then_some(value)),
            Node::Extension { key, .. } if !rest.starts_with(&key) => return Ok(None),
            Node::Extension { key, child } => {
                path.extend(&key);
                Some(*child)
            }
            Node::Branch(mut children) => {
                let nibble = nibble_at(&rest, 0);
                path.push(nibble);
                children.get_mut(usize::from(nibble)).and_then(Option::take)
            }
            Node::Named(_) => None,
        };
        match child {
            Some(Node::Named(child)) => name = child,
            _ => return Ok(None),
        }
    }
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
        let (node, bytes) = load(self.nodes, name, path)?;
        if bytes.is_some() {
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

/// Writes down all nodes that were read, and gives the hash of the root; none if nothing was read.
fn seal_root(node: Node, changes: &mut NodeChanges) -> Option<B256> {
    if matches!(node, Node::Named(_)) {
        return None;
    }
    let bytes = encode(node, Nibbles::new(), changes);
    let root = keccak256(&bytes);
    // The root has a hash however short it is.
    changes.insert(Nibbles::new(), Some(bytes));
    Some(root)
}

/// How a parent names a node that it has at that path; writes it down if that is by its hash.
fn seal(node: Node, path: Nibbles, changes: &mut NodeChanges) -> RlpNode {
    if let Node::Named(name) = node {
        return name;
    }
    let bytes = encode(node, path, changes);
    let name = RlpNode::from_rlp(&bytes);
    if name.is_hash() {
        changes.insert(path, Some(bytes));
    }
    name
}

/// The RLP of a node, all below it sealed.
fn encode(node: Node, path: Nibbles, changes: &mut NodeChanges) -> Bytes {
    let mut bytes = Vec::new();
    match node {
        Node::Named(name) => bytes.extend_from_slice(&name),
        Node::Leaf { key, value } => LeafNodeRef::new(&key, &value).encode(&mut bytes),
        Node::Extension { key, child } => {
            let child = seal(*child, path.join(&key), changes);
            ExtensionNodeRef::new(&key, &child).encode(&mut bytes);
        }
        Node::Branch(children) => {
            let (mut stack, mut mask) = (Vec::new(), TrieMask::default());
            for (nibble, child) in (0_u8..).zip(*children) {
                let Some(child) = child else { continue };
                mask.set_bit(nibble);
                stack.push(seal(child, path.join(&Nibbles::from_nibbles([nibble])), changes));
            }
            BranchNodeRef::new(&stack, mask).encode(&mut bytes);
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests;
