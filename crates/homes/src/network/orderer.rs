//! The ledger as the engine orders it: what a node proposes, what it votes for, what it records.
//!
//! - **Owns** when a block is made, and which one is voted for.
//! - **Does not** execute: the [`Chain`] does; nor choose what waits: the [`Waiting`] pool does.
//!
//! # Invariants
//! - **O1** A block is refused only for what every node would refuse it for, at any time: its bytes against the ledger's rules. For a time
//!   ahead of this node's clock it waits, and where the own store fails it says nothing.
//! - **O2** Without a transaction that waits, a block is made only when the last one is a heartbeat old. The first block of a network that
//!   took the ledger over is the handover to it.
//! - **O3** A block is recorded before the pool and the readers hear of it: durably, or so that the engine, which has it on its disk, gives it again after a
//!   kill (chain C1).
//! - **O4** A node that failed proposes nothing, votes for nothing and records nothing.
//! - **O5** A block is made for what waits once the last one is [`PACE`] old, and at once where it is older.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blockhouse_consensus::{Application, Standing, Stop};
use blockhouse_ledger::block::{Block, BlockObject, block_hash};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::time::BlockTime;
use blockhouse_types::BlockHash;
use tokio::sync::watch;

use super::chain::{Chain, ChainError};
use super::clock::Clock;
use super::forks::Eye;
use super::waiting::Waiting;
use crate::chain::chain;

/// How old the last block is when one is made of nothing: an idle ledger stays small, and a node that is cut off is seen to be within
/// minutes.
pub const HEARTBEAT: Duration = Duration::from_mins(1);
/// How old the last block is at least when another is made for what waits. A block costs its nodes some seventeen waits for their disks, a dozen
/// messages and the upper nodes of every trie, whatever it holds: what comes within this time shares that.
const PACE: Duration = Duration::from_millis(100);
/// How far a block's time may be ahead of this node's clock before it is waited for: hosts that keep time by NTP differ by less.
pub const AHEAD_MAX: Duration = Duration::from_millis(500);

/// What the engine orders.
pub struct Orderer {
    chain: Arc<Chain>,
    waiting: Arc<Waiting>,
    clock: Arc<dyn Clock>,
    /// The height of the last final block.
    heights: watch::Sender<u64>,
    /// Why this node takes no part any more, once it does not.
    failure: watch::Sender<Option<String>>,
    /// A final block could not be recorded.
    unrecorded: AtomicBool,
    /// Who looks at a final block that is beside the own one.
    eye: Option<Arc<Eye>>,
}

impl Orderer {
    /// Over that chain, with what waits there.
    pub fn new(chain: Arc<Chain>, waiting: Arc<Waiting>, clock: Arc<dyn Clock>) -> Self {
        let heights = watch::Sender::new(chain.head().height());
        let (failure, unrecorded) = (watch::Sender::new(None), AtomicBool::new(false));
        Self { chain, waiting, clock, heights, failure, unrecorded, eye: None }
    }

    /// The same, where forks are kept evidence of.
    #[must_use]
    pub(super) fn watched_by(self, eye: Arc<Eye>) -> Self {
        Self { eye: Some(eye), ..self }
    }

    /// The height of the last final block, as it rises.
    pub fn heights(&self) -> watch::Receiver<u64> {
        self.heights.subscribe()
    }

    /// Why this node takes no part any more, once it does not.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Whether it takes no part because a final block could not be recorded.
    pub fn is_unrecorded(&self) -> bool {
        self.unrecorded.load(Ordering::Relaxed)
    }

    /// This node takes no part from now on: what it would say stands on a store that is not sound.
    pub fn fail(&self, why: String) {
        self.failure.send_if_modified(|failure| failure.is_none().then(|| *failure = Some(why)).is_some());
    }

    /// Waits until there is something to record above `parent` and the block there is old enough, or a heartbeat is due.
    async fn something_to_record(&self, pending: &[Arc<Block>]) {
        loop {
            let woken = self.waiting.woken();
            // A store that fails says so when the block is made.
            if !matches!(self.chain.opening(pending), Ok(None)) {
                return;
            }
            let parent = BlockTime::of(&self.chain.parent(pending)).map_or(0, BlockTime::millis);
            let left = |pause| {
                let due = parent.saturating_add(millis(pause));
                Duration::from_millis(due.saturating_sub(self.clock.now()).min(millis(pause)))
            };
            if self.waiting.has_any(pending) {
                let left = left(PACE);
                if !left.is_zero() {
                    self.clock.sleep(left).await;
                }
                return;
            }
            let left = left(HEARTBEAT);
            if left.is_zero() {
                return;
            }
            futures::future::select(Box::pin(woken), self.clock.sleep(left)).await;
        }
    }

    fn make(&self, pending: &[Arc<Block>]) -> Result<Block, ChainError> {
        let parent = self.chain.parent(pending);
        // What the parent says is a time of the ledger: it was executed.
        let least = BlockTime::of(&parent).map_or(0, BlockTime::millis).saturating_add(1);
        let time = BlockTime::of_millis(self.clock.now().max(least));
        if let Some(opening) = self.chain.opening(pending)? {
            return Ok(self.chain.open_with(opening, time)?.block.clone());
        }
        let candidates = self.waiting.candidates(pending, parent.gas_limit);
        let proposal = self.chain.propose(pending, &candidates, time)?;
        self.waiting.reject(proposal.refused);
        Ok(proposal.executed.block.clone())
    }

    /// Waits for a time that is too far ahead of this node's clock (O1).
    async fn wait_for(&self, time: BlockTime) {
        loop {
            let ahead = time.millis().saturating_sub(self.clock.now().saturating_add(millis(AHEAD_MAX)));
            if ahead == 0 {
                return;
            }
            self.clock.sleep(Duration::from_millis(ahead)).await;
        }
    }

    /// Never returns: a node that cannot judge a block does not vote on it.
    async fn keep_silent(&self, error: &ChainError) -> ! {
        self.fail(chain(error));
        loop {
            self.clock.sleep(HEARTBEAT).await;
        }
    }
}

impl Application for Orderer {
    async fn propose(&self, pending: Vec<Arc<Block>>) -> Option<Block> {
        if self.failure.borrow().is_none() {
            self.something_to_record(&pending).await;
        }
        // It may have failed while it waited.
        if self.failure.borrow().is_some() {
            return None;
        }
        match heavy(|| self.make(&pending)) {
            Ok(block) => Some(block),
            Err(error) => {
                if !error.is_verdict() && !matches!(error, ChainError::Build { .. } | ChainError::Unknown { .. }) {
                    self.fail(chain(&error));
                }
                None
            }
        }
    }

    async fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> bool {
        // A block without a time is refused by the rules themselves.
        if let Ok(time) = BlockTime::of(&block.header) {
            self.wait_for(time).await;
        }
        loop {
            if self.failure.borrow().is_some() {
                self.clock.sleep(HEARTBEAT).await;
                continue;
            }
            return match heavy(|| self.chain.execute(&pending, &block)) {
                Ok(_) if self.failure.borrow().is_some() => continue,
                Ok(_) => true,
                Err(error) if error.is_verdict() => false,
                // It was asked for before another block became final at its height, or is that block.
                Err(ChainError::Unknown { .. }) => self.is_final(&block).unwrap_or(false) || self.never().await,
                Err(error) => self.keep_silent(&error).await,
            };
        }
    }

    async fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> Result<(), Stop> {
        if let Some(reason) = self.failure.borrow().clone() {
            return Err(Stop { reason });
        }
        match heavy(|| self.chain.finalize(&block, &certificate)) {
            Ok(executed) => {
                self.on_final(executed);
                Ok(())
            }
            Err(error) => {
                if matches!(error, ChainError::Fork { .. }) {
                    heavy(|| self.see(&block, certificate));
                }
                Err(self.stopped_by(&error))
            }
        }
    }

    async fn sync(&self) -> Result<(), Stop> {
        heavy(|| self.chain.sync()).map_err(|error| self.stopped_by(&ChainError::Store(error)))
    }

    fn standing(&self) -> Standing {
        let store = self.chain.head();
        Standing { height: store.height(), hash: BlockHash::new(store.head().hash().0) }
    }

    fn block(&self, height: u64) -> Option<Arc<Block>> {
        self.chain.head().block(height).ok().map(|stored| Arc::new(stored.block))
    }

    fn certificate(&self, height: u64) -> Option<Certificate> {
        self.chain.head().certificate(height).ok()
    }

    fn last_block(&self) -> Option<u64> {
        self.chain.last_block()
    }
}

impl Orderer {
    /// Takes a certified block that came another way than by the engine; true if it was new here.
    pub fn take(&self, object: &BlockObject) -> Result<bool, ChainError> {
        if let Some(why) = self.failure.borrow().clone() {
            return Err(ChainError::Stopped { why });
        }
        let taken = heavy(|| self.chain.take(object));
        if let Err(error @ (ChainError::Store(_) | ChainError::Keys(_))) = &taken {
            self.fail(chain(error));
        }
        let executed = taken?;
        let is_new = executed.is_some();
        self.on_final(executed);
        Ok(is_new)
    }

    /// A final block could not be recorded.
    fn stopped_by(&self, error: &ChainError) -> Stop {
        let reason = chain(error);
        self.unrecorded.store(true, Ordering::Relaxed);
        self.fail(reason.clone());
        Stop { reason }
    }

    /// The engine brought a block beside one that is final here: evidence of it is kept before anything else is done.
    fn see(&self, block: &Block, certificate: Certificate) {
        let (Some(eye), store) = (&self.eye, self.chain.head()) else { return };
        let chain_id = store.genesis().chain_id;
        let _ = eye.see(&store, &BlockObject { chain_id, block: block.clone(), certificate, genesis: None });
    }

    /// O3. Two ways may bring one block: the first of them counts.
    fn on_final(&self, executed: Option<Arc<Executed>>) {
        let Some(executed) = executed else { return };
        self.waiting.on_final(&executed);
        self.heights.send_if_modified(|height| {
            let rises = executed.block.header.number > *height;
            *height = executed.block.header.number.max(*height);
            rises
        });
    }

    fn is_final(&self, block: &Block) -> Option<bool> {
        let ours = self.chain.head().hash_at(block.header.number).ok()??;
        Some(ours.0 == block_hash(&block.header).to_bytes())
    }

    async fn never(&self) -> bool {
        loop {
            self.clock.sleep(HEARTBEAT).await;
        }
    }
}

impl std::fmt::Debug for Orderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orderer").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Work that takes milliseconds, on a thread of the engine: its other tasks go to another thread meanwhile.
fn heavy<T>(work: impl FnOnce() -> T) -> T {
    // Outside of tokio, as in a simulation, this only runs it.
    tokio::task::block_in_place(work)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
