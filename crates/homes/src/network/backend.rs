//! A node as clients ask it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use alloy_primitives::{Address, B256, Bytes};
use blockhouse_consensus::{Handle, Role};
use blockhouse_ledger::Fork;
use blockhouse_ledger::fork::{ForkEvidence, ProvedFork};
use blockhouse_ledger::time::BlockTime;
use tokio::sync::{broadcast, watch};

use super::attesting::Attesting;
use super::chain::Chain;
use super::clock::{Clock as _, SystemClock};
use super::forks::Eye;
use super::orderer::Orderer;
use super::pool::{Examined, Refusal};
use super::releases::Releases;
use super::resharing::HandingOn;
use super::scrub::Progress;
use super::sync::{Shelf, Trouble};
use super::tenure::Seat;
use super::waiting::{SubmitError, Waiting};
use crate::embedded::HomeError;
use crate::rpc::{
    Backend, HistoryStatus, MadeOutcome, NodeRole, NodeStatus, PoolStatus, Pooled, Refused, ScrubStatus, Syncing,
};
use crate::store::Store;

/// A node as clients ask it; clones are handles to one node.
#[derive(Debug, Clone)]
pub struct NodeBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    chain: Arc<Chain>,
    waiting: Arc<Waiting>,
    orderer: Arc<Orderer>,
    seat: Seat,
    /// The height at the start.
    starting: u64,
    itself: Itself,
}

/// What a node knows of itself, beside its ledger.
#[derive(Debug)]
pub(super) struct Itself {
    /// Its public key.
    pub(super) key: [u8; 32],
    /// Its account.
    pub(super) account: Address,
    /// The watch over its store.
    pub(super) progress: Arc<Progress>,
    /// How often that was healed before.
    pub(super) healed: u64,
    /// How many alarms are not on the ledger yet.
    pub(super) untold: Arc<AtomicU64>,
    /// The states that it keeps for others.
    pub(super) shelf: Arc<Shelf>,
    /// Why blocks that it lacks do not come.
    pub(super) trouble: Trouble,
    /// What it knows of forks.
    pub(super) eye: Arc<Eye>,
    /// How anchoring stands, if it does that.
    pub(super) anchoring: Option<Arc<Attesting>>,
    /// Which releases the others run.
    pub(super) releases: Releases,
    /// How cosigning stands, if it does that.
    pub(super) witness: Option<Arc<Attesting>>,
    /// How the network's one key is handed on, while it is.
    pub(super) resharing: HandingOn,
}

impl NodeBackend {
    pub(super) fn new(
        (chain, waiting, orderer): (Arc<Chain>, Arc<Waiting>, Arc<Orderer>),
        seat: Seat,
        itself: Itself,
    ) -> Self {
        let starting = chain.head().height();
        let parts = Shared { chain, waiting, orderer, seat, starting, itself };
        Self { shared: Arc::new(parts) }
    }

    /// The engine that runs, or ran last.
    pub fn engine(&self) -> Arc<Handle> {
        self.shared.seat.engine()
    }

    /// Why this node takes no part any more, once it does not.
    pub fn failure(&self) -> Option<String> {
        self.shared.orderer.failure().borrow().clone()
    }

    /// Whether that is because a final block could not be recorded.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.shared.orderer.is_unrecorded()
    }

    /// Fails as by an alarm.
    #[cfg(test)]
    pub(super) fn fail(&self, why: &str) {
        self.shared.orderer.fail(why.to_owned());
    }

    /// Waits until this node takes no part any more.
    pub(super) async fn failed(&self) {
        // The other end is held here.
        let _ = self.shared.orderer.failure().wait_for(Option::is_some).await;
    }

    fn scrub(&self) -> ScrubStatus {
        let itself = &self.shared.itself;
        let [examined, blocks, passes, ended_millis] = itself.progress.read();
        let untold = itself.untold.load(Ordering::Relaxed);
        ScrubStatus { examined, blocks, passes, ended_millis, healed: itself.healed, untold }
    }

    /// The store at the last final block.
    pub fn head(&self) -> Store {
        self.shared.chain.head()
    }
}

impl Backend for NodeBackend {
    const POOLS: bool = true;

    async fn read<T, F>(&self, read: F) -> Result<T, HomeError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        let store = self.shared.chain.head();
        tokio::task::spawn_blocking(move || read(&store)).await.map_err(HomeError::Stopped)
    }

    async fn submit(&self, raw: Bytes) -> Result<B256, Refused> {
        self.shared.waiting.submit(&raw).await.map_err(refused)
    }

    fn now(&self) -> u64 {
        SystemClock.now() / 1000
    }

    fn heads(&self) -> watch::Receiver<u64> {
        self.shared.orderer.heights()
    }

    fn arrivals(&self) -> broadcast::Receiver<B256> {
        self.shared.waiting.arrivals()
    }

    fn next_nonce(&self, account: &Address) -> Option<u64> {
        self.shared.waiting.pool().pending_nonce(account)
    }

    fn find_pooled(&self, hash: &B256) -> Option<Pooled> {
        let pool = self.shared.waiting.pool();
        let examined = pool.get(hash)?;
        let ready = pool.pending_nonce(&examined.sender()).is_some_and(|next| examined.nonce() < next);
        Some(pooled(examined, ready))
    }

    fn pooled(&self) -> Vec<Pooled> {
        let pool = self.shared.waiting.pool();
        let contents = pool.accounts().map(|account| pool.content(account));
        let all = contents.flat_map(|content| {
            let ready = content.pending.into_iter().map(|examined| pooled(&examined, true));
            ready.chain(content.queued.into_iter().map(|examined| pooled(&examined, false))).collect::<Vec<_>>()
        });
        all.collect()
    }

    fn pool_status(&self) -> PoolStatus {
        let status = self.shared.waiting.pool().status();
        PoolStatus { pending: status.pending as u64, queued: status.queued as u64 }
    }

    fn peers(&self) -> u64 {
        self.engine().status().peers as u64
    }

    fn node(&self) -> Option<NodeStatus> {
        let shared = &self.shared;
        let (engine, pool) = (shared.seat.engine().status(), shared.waiting.pool().status());
        let network = shared.seat.network();
        let store = shared.chain.head();
        let header = store.head().header();
        Some(NodeStatus {
            chain_id: store.genesis().chain_id,
            key: B256::new(shared.itself.key),
            account: shared.itself.account,
            role: match engine.role {
                Role::Validator => NodeRole::Validator,
                Role::Follower => NodeRole::Follower,
                Role::Silent => NodeRole::Silent,
            },
            validators: network.validators().len() as u64,
            quorum: network.quorum() as u64,
            height: header.number,
            hash: store.head().hash(),
            // What is in the store was executed, so it has a time.
            time_millis: BlockTime::of(header).map_or(0, BlockTime::millis),
            lag: engine.tip.saturating_sub(header.number),
            view: engine.view,
            final_view: engine.final_view,
            peers: engine.peers as u64,
            conflicts: engine.conflicts,
            pending: pool.pending as u64,
            queued: pool.queued as u64,
            pool_bytes: pool.weight as u64,
            // A file that is not there is told of elsewhere.
            store_bytes: std::fs::metadata(store.path()).map_or(0, |file| file.len()),
            scrub: self.scrub(),
            history: HistoryStatus {
                bottom: store.bottom(),
                trouble: shared.itself.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            },
            forks: shared.itself.eye.status(&store),
            anchoring: shared.itself.anchoring.as_ref().map(|anchoring| anchoring.status()),
            witness: shared.itself.witness.as_ref().map(|witness| witness.status()),
            resharing: shared.itself.resharing.lock().unwrap_or_else(PoisonError::into_inner).status.clone(),
            failure: self.failure(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rules: Fork::NEWEST.tag().into(),
            rules_named: store.genesis().newest_fork().tag().into(),
            releases: shared.itself.releases.read(),
        })
    }

    fn made_outcome(&self) -> Option<MadeOutcome> {
        self.shared.itself.resharing.lock().unwrap_or_else(PoisonError::into_inner).outcome.clone()
    }

    async fn keep_fork(&self, evidence: ForkEvidence, proved: ProvedFork) -> Result<Option<bool>, HomeError> {
        let eye = Arc::clone(&self.shared.itself.eye);
        // With the file it is durable, and whoever tells forks is woken.
        let kept = tokio::task::spawn_blocking(move || eye.keep(&evidence, &proved));
        kept.await.map_err(HomeError::Stopped)?.map(|(_, is_new)| Some(is_new))
    }

    fn kept_state(&self, block: Option<B256>) -> Option<Store> {
        let (states, now) = (&self.shared.itself.shelf, Instant::now());
        match block {
            Some(block) => states.of(&block, now),
            None => Some(states.late(&self.shared.chain.head(), now)),
        }
    }

    fn syncing(&self) -> Option<Syncing> {
        let status = self.engine().status();
        let (starting, current, highest) = (self.shared.starting, self.shared.chain.head().height(), status.tip);
        (current < highest).then_some(Syncing { starting, current, highest })
    }
}

fn pooled(examined: &Examined, ready: bool) -> Pooled {
    Pooled { sender: examined.sender(), transaction: examined.tx().clone(), ready }
}

fn refused(error: SubmitError) -> Refused {
    match error {
        SubmitError::Refused(refusal @ (Refusal::Full { .. } | Refusal::AccountFull { .. })) => {
            Refused::Full { why: refusal.to_string() }
        }
        SubmitError::Refused(refusal) => Refused::Transaction { why: refusal.to_string() },
        SubmitError::Standing { source, .. } => Refused::Home(source.into()),
        SubmitError::Journal(error) => Refused::Full { why: crate::chain::chain(&error) },
    }
}
