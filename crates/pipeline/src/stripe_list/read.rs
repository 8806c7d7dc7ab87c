//! Reads a stripe list back, node by node, and takes only the one tree of its set.

use blockhouse_types::limits::LIST_NODE_MAX;
use blockhouse_types::{DecodeError, ListHash, StripeId};

use super::node::{ListNode, nibble};

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

    fn holds(&self, id: &StripeId) -> bool {
        (0..).zip(&self.prefix).all(|(depth, expected)| nibble(id, depth) == *expected)
    }
}

/// Visits the ids of a list in ascending order, and each node's hash before its ids. `fetch` gives a node's bytes.
///
/// What was visited before an error is true of the nodes seen so far; only a walk that ends well has seen the set.
pub fn walk_list<E: std::error::Error + 'static>(
    root: ListHash,
    mut fetch: impl FnMut(ListHash) -> Result<Vec<u8>, E>,
    mut visit_node: impl FnMut(ListHash),
    mut visit: impl FnMut(StripeId),
) -> Result<(), ReadListError<E>> {
    // At most 15 nodes wait per level of at most 64.
    let mut open = vec![Place { hash: root, count: None, prefix: Vec::new() }];
    while let Some(place) = open.pop() {
        let bytes = fetch(place.hash).map_err(|source| ReadListError::Fetch { hash: place.hash, source })?;
        let node = place.node(&bytes)?;
        visit_node(place.hash);
        match node {
            ListNode::Leaf { ids, .. } => {
                if let Some(id) = ids.iter().find(|id| !place.holds(id)) {
                    return Err(ReadListError::Prefix { hash: place.hash, id: *id });
                }
                ids.into_iter().for_each(&mut visit);
            }
            ListNode::Inner { children, .. } => open.extend(children.iter().rev().map(|child| {
                let prefix = [&place.prefix[..], &[child.nibble]].concat();
                Place { hash: child.hash, count: Some(child.count), prefix }
            })),
        }
    }
    Ok(())
}

/// The ids of a list, ascending. `fetch` gives a node's bytes.
pub fn read_list<E: std::error::Error + 'static>(
    root: ListHash,
    fetch: impl FnMut(ListHash) -> Result<Vec<u8>, E>,
) -> Result<Vec<StripeId>, ReadListError<E>> {
    let mut ids = Vec::new();
    walk_list(root, fetch, drop, |id| ids.push(id))?;
    Ok(ids)
}
