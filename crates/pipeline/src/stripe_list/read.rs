//! Reads a stripe list back, node by node, and takes only the one tree of its set.

use std::collections::HashMap;

use blockhouse_types::limits::LIST_NODE_MAX;
use blockhouse_types::{DecodeError, ListHash, StripeId};

use super::node::{Child, ListNode, nibble};

/// Why a stripe list could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadListError<E: std::error::Error + 'static> {
    #[error("could not fetch node {hash} of a stripe list")]
    Fetch {
        hash: ListHash,
        #[source]
        source: E,
    },
    #[error("node {hash} of a stripe list has {length} bytes, the limit is {LIST_NODE_MAX}")]
    TooLong { hash: ListHash, length: usize },
    #[error("the bytes given for node {hash} of a stripe list have hash {found}")]
    OtherNode { hash: ListHash, found: ListHash },
    #[error("could not decode node {hash} of a stripe list")]
    Decode {
        hash: ListHash,
        #[source]
        source: DecodeError,
    },
    #[error("node {hash} of a stripe list stands at depth {expected} and says {found}")]
    Depth { hash: ListHash, found: u8, expected: u8 },
    #[error("node {hash} of a stripe list has {found} ids where {expected} were announced")]
    Count { hash: ListHash, found: u64, expected: u64 },
    #[error("stripe {id} stands under a prefix that is not its own, in node {hash}")]
    Prefix { hash: ListHash, id: StripeId },
}

/// Where in the tree a node must stand.
#[derive(Debug, Clone)]
struct Place {
    hash: ListHash,
    /// What its parent says; nothing for the root.
    count: Option<u64>,
    prefix: Vec<u8>,
}

impl Place {
    /// Checks the bytes given for this place.
    fn node<E: std::error::Error + 'static>(&self, bytes: &[u8]) -> Result<ListNode, ReadListError<E>> {
        let hash = self.hash;
        if bytes.len() > LIST_NODE_MAX {
            return Err(ReadListError::TooLong { hash, length: bytes.len() });
        }
        let found = ListNode::hash(bytes);
        if found != hash {
            return Err(ReadListError::OtherNode { hash, found });
        }
        let node = ListNode::from_bytes(bytes).map_err(|source| ReadListError::Decode { hash, source })?;
        let expected = u8::try_from(self.prefix.len()).unwrap_or(u8::MAX);
        if node.depth() != expected {
            return Err(ReadListError::Depth { hash, found: node.depth(), expected });
        }
        match self.count {
            Some(expected) if node.count() != expected => {
                Err(ReadListError::Count { hash, found: node.count(), expected })
            }
            _ => Ok(node),
        }
    }

    fn below(&self, child: &Child) -> Self {
        let prefix = [&self.prefix[..], &[child.nibble]].concat();
        Self { hash: child.hash, count: Some(child.count), prefix }
    }

    fn holds(&self, id: &StripeId) -> bool {
        (0..).zip(&self.prefix).all(|(depth, expected)| nibble(id, depth) == *expected)
    }
}

/// Subtrees that were read whole, and where they may stand. L3: what was checked below a hash is true wherever it is met.
#[derive(Debug, Default)]
pub struct WholeSubtrees {
    by_hash: HashMap<ListHash, Subtree>,
}

#[derive(Debug)]
struct Subtree {
    depth: usize,
    count: u64,
    /// One of its ids: all of them share its first `depth` nibbles.
    any: Option<StripeId>,
}

impl Subtree {
    /// Checks that it may stand at a place, as its node was checked when it was read.
    fn check_at<E: std::error::Error + 'static>(&self, place: &Place) -> Result<(), ReadListError<E>> {
        let hash = place.hash;
        if self.depth != place.prefix.len() {
            let byte = |depth: usize| u8::try_from(depth).unwrap_or(u8::MAX);
            return Err(ReadListError::Depth { hash, found: byte(self.depth), expected: byte(place.prefix.len()) });
        }
        if let Some(expected) = place.count.filter(|expected| *expected != self.count) {
            return Err(ReadListError::Count { hash, found: self.count, expected });
        }
        match self.any {
            Some(id) if !place.holds(&id) => Err(ReadListError::Prefix { hash, id }),
            _ => Ok(()),
        }
    }
}

/// Visits each node of a list that is not in a subtree that was read whole before, children before their parents and in the order
/// of their ids, with its length in bytes. `fetch` gives a node's bytes.
///
/// What was visited before an error is true of the nodes seen so far; only a walk that ends well has seen the set.
pub fn walk_unseen<E: std::error::Error + 'static>(
    root: ListHash,
    whole: &mut WholeSubtrees,
    mut fetch: impl FnMut(ListHash) -> Result<Vec<u8>, E>,
    mut visit: impl FnMut(ListHash, usize, &ListNode),
) -> Result<(), ReadListError<E>> {
    walk_below(&Place { hash: root, count: None, prefix: Vec::new() }, whole, &mut fetch, &mut visit).map(drop)
}

/// Walks one subtree, at most 64 levels of them; gives one of its ids.
fn walk_below<E: std::error::Error + 'static>(
    place: &Place,
    whole: &mut WholeSubtrees,
    fetch: &mut impl FnMut(ListHash) -> Result<Vec<u8>, E>,
    visit: &mut impl FnMut(ListHash, usize, &ListNode),
) -> Result<Option<StripeId>, ReadListError<E>> {
    let hash = place.hash;
    if let Some(subtree) = whole.by_hash.get(&hash) {
        return subtree.check_at(place).map(|()| subtree.any);
    }
    let bytes = fetch(hash).map_err(|source| ReadListError::Fetch { hash, source })?;
    let node = place.node(&bytes)?;
    let mut any = None;
    match &node {
        ListNode::Leaf { ids, .. } => {
            if let Some(id) = ids.iter().find(|id| !place.holds(id)) {
                return Err(ReadListError::Prefix { hash, id: *id });
            }
            any = ids.first().copied();
        }
        ListNode::Inner { children, .. } => {
            for child in children {
                any = walk_below(&place.below(child), whole, fetch, visit)?;
            }
        }
    }
    visit(hash, bytes.len(), &node);
    whole.by_hash.insert(hash, Subtree { depth: place.prefix.len(), count: node.count(), any });
    Ok(any)
}

/// The ids of a list, ascending. `fetch` gives a node's bytes.
pub fn read_list<E: std::error::Error + 'static>(
    root: ListHash,
    fetch: impl FnMut(ListHash) -> Result<Vec<u8>, E>,
) -> Result<Vec<StripeId>, ReadListError<E>> {
    let mut found = Vec::new();
    walk_unseen(root, &mut WholeSubtrees::default(), fetch, |_, _, node| {
        if let ListNode::Leaf { ids, .. } = node {
            found.extend(ids);
        }
    })?;
    Ok(found)
}
