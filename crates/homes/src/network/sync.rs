//! How a node that is far behind comes near: before it takes part, and for what it lacks then, beside.
//!
//! - **Owns** which way is taken, and from whom: by the state of a late block, by runs of blocks, or by the engine alone.
//! - **Does not** believe a peer: a state is checked against the root in a block that this network certified, blocks are executed and their
//!   certificates checked. A peer that gives other things is named and left.
//!
//! # Invariants
//! - **N1** A store takes the place of another only whole: its state was checked to the end, and it is durable. Killed before, the node
//!   begins anew.
//! - **N2** Only a store that holds nothing but block 0 is replaced.
//! - **N3** What no peer gives is no failure: the engine fetches blocks too, more slowly. Below the base of a network that took the ledger over
//!   no engine does: there peers are asked again.
//!
//! Format: `docs/design/node.md`, section *Far behind*.

mod blocks;
mod history;
mod keys;
mod shelf;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blockhouse_consensus::Network;

use super::config::SyncConfig;
use super::network_file::NetworkFile;
use crate::embedded::HomeError;
use crate::remote::{NodeError, NodeProblem, NodeUrl, Remote};
use crate::store::{Store, StoreError};

pub(super) use history::{Trouble, fill};
pub(super) use shelf::Shelf;

/// How long a peer may take to say how high it is: nodes that start at once wait for one another.
const HEIGHT_TIME: Duration = Duration::from_secs(3);
/// The same where the node may begin by a state: it may so never again, and then it executes all blocks.
const FIRST_HEIGHT_TIME: Duration = Duration::from_secs(15);
/// The least time between two lines of a [`Sheet`].
const SHEET_PAUSE: Duration = Duration::from_millis(500);
/// From so many blocks on they are taken in runs before the engine starts; fewer it has in a second.
const RUNS_FROM: u64 = 64;

/// What a node does to come near, for whoever runs it.
#[derive(Debug)]
pub enum SyncNews<'a> {
    /// It knows the keys of the network up to that block, after so many changes of the validators.
    Keys { changes: u64, height: u64 },
    /// It fetches the state of that block from that node.
    State { height: u64, node: &'a NodeUrl },
    /// It has so many 65536ths of the state.
    Share { share: u16 },
    /// It has the state of that block; blocks up to `below` are fetched beside.
    HasState { height: u64, below: u64 },
    /// It executes blocks, of which it has so many.
    Blocks { height: u64, of: u64 },
    /// A peer was left.
    Left { node: &'a NodeUrl, error: &'a NodeError },
}

impl fmt::Display for SyncNews<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { changes, height } => {
                write!(f, "changes of the validators: {changes}, the last with block {height}")
            }
            Self::State { height, node } => write!(f, "fetching the state of block {height} from {node}"),
            Self::Share { share } => write!(f, "fetched {} % of the state", u32::from(*share) * 100 / 65_536),
            Self::HasState { height, below: 0 } => write!(f, "has the state of block {height}, and all blocks"),
            Self::HasState { height, below } => {
                write!(f, "has the state of block {height}; blocks up to {below} are fetched while it runs")
            }
            Self::Blocks { height, of } => write!(f, "has executed {height} of {of} blocks"),
            Self::Left { node, error } => write!(f, "left the node {node}: {}", crate::chain::chain(error)),
        }
    }
}

/// What the node does, as a file beside its ledger: who asks for its status reads it while the node does not answer yet.
#[derive(Debug)]
pub(super) struct Sheet {
    path: PathBuf,
    written: Option<Instant>,
}

impl Sheet {
    /// Nothing is said yet; what a killed run said is gone.
    pub(super) fn begin(path: PathBuf) -> Self {
        let _ = std::fs::remove_file(&path);
        Self { path, written: None }
    }

    /// Says it, unless it has just said something. Nothing stands on it, so nothing is done where it cannot be written.
    pub(super) fn note(&mut self, news: &SyncNews<'_>) {
        if self.written.is_none_or(|written| written.elapsed() >= SHEET_PAUSE) {
            let _ = std::fs::write(&self.path, news.to_string());
            self.written = Some(Instant::now());
        }
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why a node did not come near: this node's own trouble.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    #[error("the store of the ledger failed")]
    Store(#[from] StoreError),
    #[error("the ledger of the node cannot go on")]
    Home(#[from] HomeError),
}

/// Why a peer is left, or this node fails.
#[derive(Debug)]
enum Ended {
    Peer(NodeError),
    Own(SyncError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Own(error.into())
    }
}

impl From<HomeError> for Ended {
    fn from(error: HomeError) -> Self {
        if error.is_of_elsewhere() { Self::Peer(NodeError::Blocks(Box::new(error))) } else { Self::Own(error.into()) }
    }
}

impl Ended {
    /// What a peer gave is not of this ledger.
    fn strange(method: &'static str, why: impl fmt::Display) -> Self {
        Self::Peer(NodeError::form(method, why))
    }
}

/// What a node that comes near knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sync<'a> {
    pub(super) file: &'a NetworkFile,
    pub(super) config: &'a SyncConfig,
    pub(super) peers: &'a Remote,
}

impl Sync<'_> {
    /// Brings a store that is sound near to the highest of the peers. The store that it gives has the same path; beside it, what was wrong with
    /// the peers that gave no blocks.
    pub(super) async fn come_near(
        self,
        mut store: Store,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<(Store, Vec<NodeProblem>), SyncError> {
        let base = self.network().base().height;
        let may_begin_by_state = store.height() == 0 && self.config.state_from > 0;
        let time = if may_begin_by_state { FIRST_HEIGHT_TIME } else { HEIGHT_TIME };
        let highest = self.highest(time).await.unwrap_or(0).max(base);
        let behind = highest.saturating_sub(store.height());
        if may_begin_by_state && behind >= self.config.state_from {
            store = self.by_state(store, tell).await?;
        }
        let mut problems = Vec::new();
        if store.height() < base || highest.saturating_sub(store.height()) >= RUNS_FROM {
            problems = self.by_blocks(&mut store, highest, tell).await?;
        }
        Ok((store, problems))
    }

    /// The height of the highest peer, as it says itself; none if no peer says one in that time.
    async fn highest(self, time: Duration) -> Option<u64> {
        let asked = self.peers.nodes().iter().map(|node| tokio::time::timeout(time, self.peers.height(node)));
        futures::future::join_all(asked).await.into_iter().filter_map(|height| height.ok()?.ok()).max()
    }

    const fn network(&self) -> &Network {
        &self.file.network
    }
}
