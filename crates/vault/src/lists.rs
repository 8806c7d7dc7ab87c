//! Stripe lists at the sites: read back, node by node, each from whichever site has a good copy.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use blockhouse_pipeline::stripe_list::{ListNode, ReadListError, WholeSubtrees, walk_list, walk_unseen};
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
    /// A task ended early.
    #[error("the reading of a stripe list was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// A node of a list, as it lies at the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its hash, which is its name.
    pub hash: ListHash,
    /// How long it is.
    pub length: u64,
}

/// A list that was read.
#[derive(Debug, Default)]
pub struct ReadList {
    /// The stripes in it, ascending.
    pub stripes: Vec<StripeId>,
    /// Its nodes, children before their parents.
    pub nodes: Vec<Node>,
}

/// Reads the lists of many snapshots. What a list shares with the one before it is not fetched again; the memory is that of
/// two lists.
#[derive(Debug)]
pub struct ListReader {
    sites: Arc<Sites>,
    before: HashMap<ListHash, Bytes>,
}

impl ListReader {
    /// Nothing read yet.
    pub fn new(sites: &Arc<Sites>) -> Self {
        Self { sites: Arc::clone(sites), before: HashMap::new() }
    }

    /// The list of that root.
    pub async fn read(&mut self, root: ListHash) -> Result<ReadList, ListError> {
        let (sites, runtime) = (Arc::clone(&self.sites), Handle::current());
        let before = std::mem::take(&mut self.before);
        let walk = move || {
            let (mut now, mut list) = (HashMap::new(), ReadList::default());
            let fetch = |hash: ListHash| {
                let bytes = match before.get(&hash) {
                    Some(bytes) => bytes.clone(),
                    None => fetch_node(&sites, &runtime, hash)?,
                };
                now.insert(hash, bytes.clone());
                Ok(bytes.to_vec())
            };
            let mut hashes = Vec::new();
            let walked = walk_list(root, fetch, |hash| hashes.push(hash), |id| list.stripes.push(id));
            // A walk meets parents before their children.
            let node = |hash: ListHash| Node { hash, length: now.get(&hash).map_or(0, |bytes| bytes.len() as u64) };
            list.nodes = hashes.into_iter().rev().map(node).collect();
            (walked.map(|()| list), now)
        };
        let (walked, now) = tokio::task::spawn_blocking(walk).await.map_err(ListError::Stopped)?;
        self.before = now;
        walked.map_err(|source| ListError::Read { root, source: Box::new(source) })
    }
}

fn fetch_node(sites: &Sites, runtime: &Handle, hash: ListHash) -> Result<Bytes, FetchError> {
    let key = ObjectKey::List(hash);
    Ok(runtime.block_on(sites.get_any(&key, |bytes| ListNode::hash(bytes) == hash))?.bytes)
}

/// The stripes in the list of that root, ascending.
pub async fn read(sites: &Arc<Sites>, root: ListHash) -> Result<Vec<StripeId>, ListError> {
    Ok(ListReader::new(sites).read(root).await?.stripes)
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
    let mut steps = visit(sites, snapshots.iter().map(root_of).collect());
    while let Some(step) = steps.recv().await {
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
