//! What the engine asks of the ledger that it orders.

use std::future::Future;
use std::sync::Arc;

use blockhouse_ledger::{Block, Certificate};
use blockhouse_types::BlockHash;
use futures::future::BoxFuture;

/// The last block that the application recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its height on the ledger.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// Why the application records nothing more; the engine ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of this node records no more blocks: {reason}")]
pub struct Stop {
    /// What failed, on which object.
    pub reason: String,
}

/// The ledger that is ordered.
///
/// # Laws
/// 1. **Deterministic**: `verify` gives the same answer on every node, for ever; `false` is final. What may become true
///    (a time slightly in the future, a sender not yet known) is waited for, never refused.
/// 2. **Durable after `sync`**: when it resolves with `Ok`, all blocks recorded before survive a kill, and the engine may forget them.
///    What a kill takes of the others is given again: until a sync each is on the engine's own disk. `finalize` is called in height order,
///    at least once; a block at or below the standing is not given again by the engine, but may be after a crash.
/// 3. **Cancellable**: `propose` and `verify` may be dropped at any await and asked again, for the same or for another
///    parent. `finalize` is dropped only when the engine ends.
/// 4. **Monotone**: `standing` never falls while the engine runs. `block` and `certificate` know every height above the
///    base up to the standing that the application keeps, and the base's block always.
/// 5. **Patient**: `propose` resolves when there is something to record or a heartbeat is due. What takes longer than
///    [`crate::tuning::LEADER_TIMEOUT`] costs the leader its turn and nothing else.
///
/// The futures run on the engine's threads: long computations belong elsewhere. `pending` holds the ancestors of the
/// block in question above the standing, oldest first, as seen when it was gathered: some may be recorded meanwhile.
pub trait Application: Send + Sync + 'static {
    /// Makes a block above the last of `pending`, or above the standing if there is none. `None` gives up the turn.
    fn propose(&self, pending: Vec<Arc<Block>>) -> impl Future<Output = Option<Block>> + Send;

    /// True if the block is valid above the last of `pending`, or above the standing if there is none.
    fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> impl Future<Output = bool> + Send;

    /// Records the block above the standing.
    fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> impl Future<Output = Result<(), Stop>> + Send;

    /// Makes all recorded blocks durable.
    fn sync(&self) -> impl Future<Output = Result<(), Stop>> + Send;

    /// The last recorded block; the base if there is none above it.
    fn standing(&self) -> Standing;

    /// A recorded block.
    fn block(&self, height: u64) -> Option<Arc<Block>>;

    /// The certificate of a recorded block above the base.
    fn certificate(&self, height: u64) -> Option<Certificate>;

    /// The height of the block with which this epoch ends, once that is settled. Above it `propose` makes no block and `verify` takes none,
    /// whether it was named here or not: what is named only tells the engine to propose that block again until it is final.
    fn last_block(&self) -> Option<u64> {
        None
    }
}

/// [`Application`] without its type, so that the engine is compiled once and not for each of them.
pub(crate) trait Erased: Send + Sync + 'static {
    fn propose(&self, pending: Vec<Arc<Block>>) -> BoxFuture<'_, Option<Block>>;
    fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> BoxFuture<'_, bool>;
    fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> BoxFuture<'_, Result<(), Stop>>;
    fn sync(&self) -> BoxFuture<'_, Result<(), Stop>>;
    fn standing(&self) -> Standing;
    fn block(&self, height: u64) -> Option<Arc<Block>>;
    fn certificate(&self, height: u64) -> Option<Certificate>;
    fn last_block(&self) -> Option<u64>;
}

impl<A: Application> Erased for A {
    fn propose(&self, pending: Vec<Arc<Block>>) -> BoxFuture<'_, Option<Block>> {
        Box::pin(Application::propose(self, pending))
    }

    fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> BoxFuture<'_, bool> {
        Box::pin(Application::verify(self, pending, block))
    }

    fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> BoxFuture<'_, Result<(), Stop>> {
        Box::pin(Application::finalize(self, block, certificate))
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Stop>> {
        Box::pin(Application::sync(self))
    }

    fn standing(&self) -> Standing {
        Application::standing(self)
    }

    fn block(&self, height: u64) -> Option<Arc<Block>> {
        Application::block(self, height)
    }

    fn certificate(&self, height: u64) -> Option<Certificate> {
        Application::certificate(self, height)
    }

    fn last_block(&self) -> Option<u64> {
        Application::last_block(self)
    }
}
