//! Stripe lists at the sites: read back, node by node, each from whichever site has a good copy.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use blockhouse_pipeline::stripe_list::{ListNode, ReadListError, walk_list};
use blockhouse_sites::{FetchError, ObjectKey, Sites};
use blockhouse_types::{ListHash, StripeId};
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::ledger::SnapshotRecord;

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

/// Reads the lists of these snapshots, each root once.
pub(crate) async fn read_union(sites: &Arc<Sites>, snapshots: &[SnapshotRecord]) -> Union {
    let (mut union, mut roots, mut nodes) = (Union::default(), BTreeSet::new(), BTreeSet::new());
    let mut reader = ListReader::new(sites);
    for snapshot in snapshots {
        let root = root_of(snapshot);
        if !roots.insert(root) {
            continue;
        }
        match reader.read(root).await {
            Ok(list) => {
                union.stripes.extend(list.stripes);
                union.nodes.extend(list.nodes.into_iter().filter(|node| nodes.insert(node.hash)));
            }
            Err(error) => union.unread.push(error),
        }
    }
    union
}

/// The root of a snapshot's list.
pub(crate) fn root_of(snapshot: &SnapshotRecord) -> ListHash {
    ListHash::new(snapshot.commit.listRoot.0)
}
