//! What a server of JSON-RPC stands on: a home of the ledger, seen from its door.
//!
//! - **Owns** the seam between the server and the homes.
//! - **Does not** know how a home seals, agrees or finds peers.

mod embedded;

use std::future::Future;

use alloy_consensus::TxEnvelope;
use alloy_primitives::{Address, B256, Bytes};
use blockhouse_ledger::fork::{ForkEvidence, ProvedFork};
use tokio::sync::{broadcast, watch};

use super::node_status::{MadeOutcome, NodeStatus};
use crate::embedded::HomeError;
use crate::store::Store;

pub use embedded::EmbeddedBackend;

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The ledger's rules refuse it, in these words: wrong bytes, chain, nonce, price, sender.
    #[error("{why}")]
    Transaction { why: String },
    /// There is no room for it now; the same transaction may be taken later.
    #[error("{why}")]
    Full { why: String },
    /// The home itself failed.
    #[error("the ledger's home failed")]
    Home(#[source] HomeError),
}

/// How far a node is that does not have the head of its network yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syncing {
    /// Where it began.
    pub starting: u64,
    /// Where it is.
    pub current: u64,
    /// Where its peers are.
    pub highest: u64,
}

/// A transaction that waits for a block.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// Who sent it.
    pub sender: Address,
    /// The transaction.
    pub transaction: TxEnvelope,
    /// True if it can stand in the next block; false if one with a lower nonce is missing.
    pub ready: bool,
}

/// How many transactions wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Those that can stand in the next block.
    pub pending: u64,
    /// Those that wait for others.
    pub queued: u64,
}

/// A home of the ledger as the server needs it. Clones are handles to one home.
///
/// # Laws
/// 1. Final: what [`Self::read`] shows is final; a later read never shows a lower head or another block at a height.
/// 2. Announced: when [`Self::heads`] gives a height, a read that begins after it sees that height. Each new head is
///    announced soon; of several in a row the last one is enough.
/// 3. Taken once: after [`Self::submit`] gave a hash, the transaction is in a block or the pool until its nonce is
///    used; refused is what is neither. Only the hash of the very bytes is given.
/// 4. Bounded: [`Self::pooled`] is as long as the pool may be; nothing here waits without end but the two channels.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Whether transactions that are handed in together are taken side by side, each as it begins: a pool puts them in order.
    const POOLS: bool = false;

    /// Reads from one opened store, where it may block.
    fn read<T, F>(&self, read: F) -> impl Future<Output = Result<T, HomeError>> + Send
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static;

    /// Takes a signed transaction in its EIP-2718 bytes.
    fn submit(&self, raw: Bytes) -> impl Future<Output = Result<B256, Refused>> + Send;

    /// The clock of this home, in seconds since 1970.
    fn now(&self) -> u64;

    /// The height of the last final block.
    fn heads(&self) -> watch::Receiver<u64>;

    /// The hash of each transaction that is taken.
    fn arrivals(&self) -> broadcast::Receiver<B256>;

    /// The nonce after those of an account's transactions that can stand in the next block; none if the pool has none.
    fn next_nonce(&self, account: &Address) -> Option<u64>;

    /// A transaction that waits.
    fn find_pooled(&self, hash: &B256) -> Option<Pooled>;

    /// All transactions that wait.
    fn pooled(&self) -> Vec<Pooled>;

    /// How many wait.
    fn pool_status(&self) -> PoolStatus;

    /// How many other nodes this one is connected to.
    fn peers(&self) -> u64;

    /// What the node says about itself; nothing of a home that is no node.
    fn node(&self) -> Option<NodeStatus>;

    /// The outcome of a resharing that is still to be posted, if this home knows one.
    fn made_outcome(&self) -> Option<MadeOutcome> {
        None
    }

    /// Keeps evidence of a fork, which was checked against the store, and acts on it; says whether the fork was not known. Nothing if this home keeps
    /// none.
    fn keep_fork(
        &self,
        _evidence: ForkEvidence,
        _proved: ProvedFork,
    ) -> impl Future<Output = Result<Option<bool>, HomeError>> + Send {
        std::future::ready(Ok(None))
    }

    /// How far it is behind, if it is.
    fn syncing(&self) -> Option<Syncing>;

    /// The store at a final block, kept as it is for a while for those who fetch its state: that of the block with this hash, or of a late
    /// one. Nothing if it is not kept, or this home gives none.
    fn kept_state(&self, _hash: Option<B256>) -> Option<Store> {
        None
    }
}
