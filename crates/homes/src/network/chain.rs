//! The ledger as a node has it: what is final, in its store, and what was executed above that.
//!
//! - **Owns** the execution of blocks that may become final, each once, and the one place where they do.
//! - **Does not** agree with anybody: which block becomes final is the engine's word.
//!
//! # Invariants
//! - **C1** The store holds final blocks only. What is executed above them is in memory, and lost with the process without harm. The last of those that
//!   the engine brought may not be durable yet: a kill takes them back, and the engine, which has them on its own disk, gives them again. What ends a
//!   tenure or came another way is durable at once.
//! - **C2** A block is final here at most once: one at or below the head is compared, not taken again.
//! - **C3** Every final block is certified by the key in force, and what is voted for is under the key of this network: a handover to another key is
//!   no valid block here, and where other validators can follow none is at all but that by which this network took the ledger over.
//! - **C4** Above the block with which a tenure ends nothing is made and nothing is valid, until the next tenure begins there.

mod error;
mod finality;
mod memory;
mod opening;
mod term;
#[cfg(test)]
pub(super) mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::B256;
use blockhouse_consensus::tuning::BLOCK_MAX;
use blockhouse_ledger::TransactionFault;
use blockhouse_ledger::block::{Block, block_hash};
use blockhouse_ledger::execute::{BuildError, Executed, Gathered, Room, build, gather, import};
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::time::BlockTime;
use blockhouse_types::BlockHash;

use super::layers::Layers;
use crate::embedded::LedgerKeys;
use crate::store::{Store, StoreError};

pub use error::ChainError;

use finality::{Final, government_of, last_block_of};
use memory::Memory;
use opening::Opening;
use term::Term;

/// A chain of one network.
#[derive(Debug)]
pub struct Chain {
    /// The tenure in which this node takes part.
    term: RwLock<Term>,
    /// What hands the ledger over to this network, if others kept it before.
    opening: Option<Opening>,
    /// What is written to: one block after the other.
    writer: Mutex<Store>,
    /// The last final block, for whoever reads.
    last: RwLock<Final>,
    executed: Mutex<Memory>,
    recall: Arc<Recall>,
}

/// What a leader made.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The block.
    pub executed: Arc<Executed>,
    /// The candidates that can never stand in a block above its parent.
    pub refused: Vec<(B256, TransactionFault)>,
}

impl Chain {
    /// Takes over a store, which is open to be written.
    pub fn open(store: Store, key: [u8; 32]) -> Result<Self, ChainError> {
        let store = store.believing_misses();
        let in_force = LedgerKeys::of(&store).map_err(ChainError::Keys)?.in_force();
        let (government, last_block) = (government_of(&store)?, last_block_of(&store)?);
        let last = RwLock::new(Final { store: store.clone(), in_force, government, last_block });
        let term = RwLock::new(Term { key, base: 0, closed: None });
        let (executed, recall) = (Mutex::default(), Arc::default());
        Ok(Self { term, opening: None, writer: Mutex::new(store), last, executed, recall })
    }

    /// The store at the last final block. It stays there while the chain goes on.
    pub fn head(&self) -> Store {
        self.last().store
    }

    fn last(&self) -> Final {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state after these blocks above that store, to be executed on.
    pub(super) fn nodes<'a>(&'a self, store: &'a Store, above: &'a [Arc<Executed>]) -> Layers<'a> {
        Layers { store, above, recall: &self.recall }
    }

    /// What this process found right before.
    pub const fn recall(&self) -> &Arc<Recall> {
        &self.recall
    }

    /// The parent of the next block: the last of `pending`, or the last final one.
    pub fn parent(&self, pending: &[Arc<Block>]) -> Header {
        match pending.last() {
            Some(block) => block.header.clone(),
            None => self.head().head().header().clone(),
        }
    }

    /// A block that was executed and is not final, if it is still remembered.
    pub fn executed(&self, hash: &BlockHash) -> Option<Arc<Executed>> {
        lock(&self.executed).get(hash)
    }

    /// Makes a block of these candidates above the last of `pending`.
    pub fn propose(
        &self,
        pending: &[Arc<Block>],
        candidates: &[TxEnvelope],
        time: BlockTime,
    ) -> Result<Proposal, ChainError> {
        let last = self.last();
        let (store, above) = (&last.store, self.layers(&last, pending)?);
        let parent = above.last().map_or_else(|| store.head().header(), |executed| &executed.block.header);
        self.check_open(parent)?;
        let (strange, candidates): (Vec<_>, Vec<_>) =
            candidates.iter().cloned().partition(|tx| self.hands_over_elsewhere(store.genesis(), tx));
        let nodes = self.nodes(store, &above);
        let made = gather(store.genesis(), parent, &nodes, &candidates, Room { time, length: BLOCK_MAX });
        let Gathered { executed, refused } = made.map_err(|error| of_build(store, parent.number, error))?;
        self.check_key(&last, &above, &executed)?;
        let handover = |tx: TxEnvelope| (*tx.tx_hash(), TransactionFault::Handover);
        let named = refused.into_iter().filter_map(|(place, fault)| Some((*candidates.get(place)?.tx_hash(), fault)));
        let refused = named.chain(strange.into_iter().map(handover)).collect();
        Ok(Proposal { executed: self.remember(executed), refused })
    }

    /// Makes the block by which this network takes the ledger over.
    pub fn open_with(&self, transactions: Vec<TxEnvelope>, time: BlockTime) -> Result<Arc<Executed>, ChainError> {
        let last = self.last();
        let (store, parent) = (&last.store, last.store.head().header());
        let executed = build(store.genesis(), parent, &self.nodes(store, &[]), transactions, time);
        let executed = executed.map_err(|error| of_build(store, parent.number, error))?;
        self.check_key(&last, &[], &executed)?;
        Ok(self.remember(executed))
    }

    /// Executes a block above the last of `pending`; an error that [is a verdict](ChainError::is_verdict) says that it is invalid.
    pub fn execute(&self, pending: &[Arc<Block>], block: &Block) -> Result<Arc<Executed>, ChainError> {
        let last = self.last();
        let above = self.layers(&last, pending)?;
        let executed = self.execute_above(&last, &above, block)?;
        self.check_open(above.last().map_or_else(|| last.store.head().header(), |parent| &parent.block.header))?;
        self.check_key(&last, &above, &executed)?;
        Ok(executed)
    }

    /// The executed blocks of `pending` above the last final one.
    fn layers(&self, last: &Final, pending: &[Arc<Block>]) -> Result<Vec<Arc<Executed>>, ChainError> {
        let mut above = Vec::new();
        for block in pending.iter().filter(|block| block.header.number > last.store.height()) {
            let executed = self.execute_above(last, &above, block)?;
            self.check_open(
                above.last().map_or_else(|| last.store.head().header(), |it: &Arc<Executed>| &it.block.header),
            )?;
            self.check_key(last, &above, &executed)?;
            above.push(executed);
        }
        Ok(above)
    }

    fn execute_above(&self, last: &Final, above: &[Arc<Executed>], block: &Block) -> Result<Arc<Executed>, ChainError> {
        let store = &last.store;
        let hash = block_hash(&block.header);
        let known = lock(&self.executed).get(&hash);
        let parent = above.last().map_or_else(|| store.head().header(), |executed| &executed.block.header);
        if let Some(known) = known.filter(|known| known.block.header.parent_hash == parent.hash_slow()) {
            return Ok(known);
        }
        let height = block.header.number;
        if parent.number.checked_add(1) != Some(height) {
            return Err(ChainError::Unknown { height });
        }
        let nodes = self.nodes(store, above);
        let executed = import(store.genesis(), parent, &nodes, block).map_err(|error| match error.into_state() {
            Ok(state) => ChainError::Store(store.of_state(state)),
            Err(error) => ChainError::Invalid(error),
        })?;
        Ok(self.remember(executed))
    }

    fn remember(&self, executed: Executed) -> Arc<Executed> {
        lock(&self.executed).insert(executed)
    }
}

fn of_build(store: &Store, parent: u64, error: BuildError<StoreError>) -> ChainError {
    match error.into_state() {
        Ok(state) => ChainError::Store(store.of_state(state)),
        Err(source) => ChainError::Build { parent, source },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
