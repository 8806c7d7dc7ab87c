//! Stripe lists at the sites: read back, node by node, each from whichever site has a good copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockhouse_pipeline::stripe_list::{ListNode, ReadListError, WholeSubtrees, walk_unseen};
use blockhouse_sites::{FetchError, ObjectKey, Sites};
use blockhouse_types::{ListHash, StripeId};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};

use crate::ledger::SnapshotRecord;

/// How many nodes are read ahead of who asked for them: a bound on memory.
const STEPS_AHEAD: usize = 64;

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// A node is missing or is not one.
    #[error("stripe list {root} could not be read")]
    Read {
        root: ListHash,
        #[source]
        source: Box<ReadListError<FetchError>>,
    },
    /// The visit ended before the list did.
    #[error("the reading of stripe list {root} was stopped")]
    Stopped { root: ListHash },
}

/// A node of a list, as it lies at the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its hash, which is its name.
    pub hash: ListHash,
    /// How long it is.
    pub length: u64,
}

fn fetch_node(sites: &Sites, runtime: &Handle, hash: ListHash) -> Result<Bytes, FetchError> {
    let key = ObjectKey::List(hash);
    Ok(runtime.block_on(sites.get_any(&key, |bytes| ListNode::hash(bytes) == hash))?.bytes)
}

/// The stripes in the list of that root, ascending.
pub async fn read(sites: &Arc<Sites>, root: ListHash) -> Result<Vec<StripeId>, ListError> {
    let (mut steps, mut stripes) = (visit(sites, vec![root]), Vec::new());
    while let Some(step) = steps.recv().await {
        match step {
            Step::Leaf(_, ids) => stripes.extend(ids),
            Step::Inner(..) => {}
            Step::Read(_) => return Ok(stripes),
            Step::Unread(_, error) => return Err(error),
        }
    }
    Err(ListError::Stopped { root })
}

/// What the lists of several snapshots name together.
#[derive(Debug, Default)]
pub(crate) struct Union {
    /// Every stripe in any of them.
    pub(crate) stripes: BTreeSet<StripeId>,
    /// Every node of any of them once, none before those below it.
    pub(crate) nodes: Vec<Node>,
    /// The lists that no site gives.
    pub(crate) unread: Vec<ListError>,
}

/// Reads the lists of these snapshots. What lists share is read and kept once.
pub(crate) async fn read_union(sites: &Arc<Sites>, snapshots: &[SnapshotRecord]) -> Union {
    let mut union = Union::default();
    let mut awaited: BTreeSet<ListHash> = snapshots.iter().map(root_of).collect();
    let mut steps = visit(sites, snapshots.iter().map(root_of).collect());
    while let Some(step) = steps.recv().await {
        if let Step::Read(root) | Step::Unread(root, _) = &step {
            awaited.remove(root);
        }
        match step {
            Step::Leaf(node, stripes) => {
                union.stripes.extend(stripes);
                union.nodes.push(node);
            }
            Step::Inner(node, _) => union.nodes.push(node),
            Step::Read(_) => {}
            Step::Unread(_, error) => union.unread.push(error),
        }
    }
    // Of a list that did not come to its end nothing may be concluded.
    union.unread.extend(awaited.into_iter().map(|root| ListError::Stopped { root }));
    union
}

/// What happens while lists are visited.
#[derive(Debug)]
pub(crate) enum Step {
    /// A leaf and its stripes.
    Leaf(Node, Vec<StripeId>),
    /// An inner node and the nodes below it, all of which came before.
    Inner(Node, Vec<ListHash>),
    /// All nodes of this list have come.
    Read(ListHash),
    /// This list cannot be read whole.
    Unread(ListHash, ListError),
}

/// Visits the lists of these roots in order, each root and each node once, no node before those below it. It stops when the
/// receiver is dropped.
pub(crate) fn visit(sites: &Arc<Sites>, roots: Vec<ListHash>) -> Receiver<Step> {
    let (sender, receiver) = channel(STEPS_AHEAD);
    let (sites, runtime) = (Arc::clone(sites), Handle::current());
    tokio::task::spawn_blocking(move || {
        let (mut whole, mut begun) = (WholeSubtrees::default(), BTreeSet::new());
        for root in roots.into_iter().filter(|root| begun.insert(*root)) {
            let fetch = |hash| fetch_node(&sites, &runtime, hash).map(|bytes| bytes.to_vec());
            let walked = walk_unseen(root, &mut whole, fetch, |hash, length, node| {
                let at = Node { hash, length: length as u64 };
                // Nobody is left to be told: seen below.
                let _ = sender.blocking_send(match node {
                    ListNode::Leaf { ids, .. } => Step::Leaf(at, ids.clone()),
                    ListNode::Inner { children, .. } => {
                        Step::Inner(at, children.iter().map(|child| child.hash).collect())
                    }
                });
            });
            let end = match walked {
                Ok(()) => Step::Read(root),
                Err(source) => Step::Unread(root, ListError::Read { root, source: Box::new(source) }),
            };
            if sender.blocking_send(end).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The root of a snapshot's list.
pub(crate) fn root_of(snapshot: &SnapshotRecord) -> ListHash {
    ListHash::new(snapshot.commit.listRoot.0)
}
