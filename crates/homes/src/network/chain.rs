//! The ledger as a node has it: what is final, in its store, and what was executed above that.
//!
//! - **Owns** the execution of blocks that may become final, each once, and the one place where they do.
//! - **Does not** agree with anybody: which block becomes final is the engine's word.
//!
//! # Invariants
//! - **C1** The store holds final blocks only. What is executed above them is in memory, and lost with the process without harm.
//! - **C2** A block is final here at most once: one at or below the head is compared, not taken again.
//! - **C3** Every final block is under the key of this network: a handover to another key is no valid block here.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use blockhouse_consensus::tuning::BLOCK_MAX;
use blockhouse_ledger::TransactionFault;
use blockhouse_ledger::block::{Block, block_hash};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::contracts::Access::handoverCall;
use blockhouse_ledger::execute::{BuildError, Executed, Gathered, ImportError, Room, gather, import};
use blockhouse_ledger::time::BlockTime;
use blockhouse_types::BlockHash;

use super::layers::Layers;
use crate::embedded::{HomeError, LedgerKeys};
use crate::store::{Past, Store, StoreError};

/// How many executed blocks that are not final are kept. An honest network has two or three; what is dropped is executed again.
const EXECUTED_MAX: usize = 32;

/// A chain of one network.
#[derive(Debug)]
pub struct Chain {
    /// The ledger key of this network.
    key: [u8; 32],
    /// What hands the ledger over to it, if others kept it before.
    opening: Option<TxEnvelope>,
    /// What is written to: one block after the other.
    writer: Mutex<Store>,
    /// The last final block, for whoever reads.
    last: RwLock<Final>,
    executed: Mutex<Memory>,
    recall: Arc<Recall>,
}

#[derive(Debug, Clone)]
struct Final {
    store: Store,
    /// The key in force after it.
    in_force: [u8; 32],
}

/// What was executed, by hash, and in which order.
#[derive(Debug, Default)]
struct Memory {
    blocks: BTreeMap<BlockHash, (u64, Arc<Executed>)>,
    count: u64,
}

/// Why a block cannot follow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("the block is not valid here")]
    Invalid(#[source] ImportError<StoreError>),
    #[error("no block can be made above block {parent}")]
    Build {
        parent: u64,
        #[source]
        source: BuildError<StoreError>,
    },
    #[error("block {height} does not follow what is known here")]
    Unknown { height: u64 },
    #[error("block {height} ({hash}) would not stand under the key of this network")]
    Key { height: u64, hash: BlockHash },
    #[error("block {height} is final as {ours} here, and came as {theirs}")]
    Fork { height: u64, ours: B256, theirs: BlockHash },
    #[error("the store of the ledger failed")]
    Store(#[from] StoreError),
    #[error("the keys of the ledger could not be read")]
    Keys(#[source] HomeError),
}

impl ChainError {
    /// True if it says something of the block: on every node, and for ever. All else is this node's own trouble.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Key { .. })
    }
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
        let last = RwLock::new(Final { store: store.clone(), in_force });
        let (executed, recall) = (Mutex::default(), Arc::default());
        Ok(Self { key, opening: None, writer: Mutex::new(store), last, executed, recall })
    }

    /// The same of a network that takes the ledger over by this handover: nothing is made above the base before it.
    #[must_use]
    pub fn opened_by(self, handover: Option<TxEnvelope>) -> Self {
        Self { opening: handover, ..self }
    }

    /// The handover, while it is what comes above the last of `pending`. By C3 nothing but it comes first.
    pub fn opening(&self, pending: &[Arc<Block>]) -> Option<TxEnvelope> {
        let last = self.last();
        let is_under_way = pending.iter().any(|block| block.header.number > last.store.height());
        self.opening.clone().filter(|_| last.in_force != self.key && !is_under_way)
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
        let (strange, candidates): (Vec<_>, Vec<_>) =
            candidates.iter().cloned().partition(|tx| self.hands_over_elsewhere(store.genesis().access_address(), tx));
        let nodes = self.nodes(store, &above);
        let made = gather(store.genesis(), parent, &nodes, &candidates, Room { time, length: BLOCK_MAX });
        let Gathered { executed, refused } = made.map_err(|error| of_build(store, parent.number, error))?;
        self.check_key(&last, &above, &executed)?;
        let handover = |tx: TxEnvelope| (*tx.tx_hash(), TransactionFault::Handover);
        let named = refused.into_iter().filter_map(|(place, fault)| Some((*candidates.get(place)?.tx_hash(), fault)));
        let refused = named.chain(strange.into_iter().map(handover)).collect();
        Ok(Proposal { executed: self.remember(executed), refused })
    }

    /// Executes a block above the last of `pending`; an error that [is a verdict](ChainError::is_verdict) says that it is invalid.
    pub fn execute(&self, pending: &[Arc<Block>], block: &Block) -> Result<Arc<Executed>, ChainError> {
        let last = self.last();
        let above = self.layers(&last, pending)?;
        self.execute_above(&last, &above, block)
    }

    /// Makes a block final: durable when this returns. Nothing if it was final before (C2).
    pub fn finalize(&self, block: &Block, certificate: &Certificate) -> Result<Option<Arc<Executed>>, ChainError> {
        let (height, theirs) = (block.header.number, block_hash(&block.header));
        let mut writer = lock(&self.writer);
        let last = self.last();
        if let Some(ours) = last.store.hash_at(height)? {
            let is_same = ours.0 == theirs.to_bytes();
            return if is_same { Ok(None) } else { Err(ChainError::Fork { height, ours, theirs }) };
        }
        let executed = self.execute_above(&last, &[], block)?;
        writer.append(&executed, certificate)?;
        let in_force = executed.handover.unwrap_or(last.in_force);
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Final { store: writer.clone(), in_force };
        drop(writer);
        lock(&self.executed).forget_until(height);
        Ok(Some(executed))
    }

    /// Takes blocks below those that are here, which the caller has checked: durable when this returns.
    pub(super) fn put_past(&self, past: &[Past]) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        writer.put_past(past)?;
        self.last.write().unwrap_or_else(PoisonError::into_inner).store = writer.clone();
        Ok(())
    }

    /// The executed blocks of `pending` above the last final one.
    fn layers(&self, last: &Final, pending: &[Arc<Block>]) -> Result<Vec<Arc<Executed>>, ChainError> {
        let mut above = Vec::new();
        for block in pending.iter().filter(|block| block.header.number > last.store.height()) {
            let executed = self.execute_above(last, &above, block)?;
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
        self.check_key(last, above, &executed)?;
        Ok(self.remember(executed))
    }

    /// C3.
    fn check_key(&self, last: &Final, above: &[Arc<Executed>], executed: &Executed) -> Result<(), ChainError> {
        let before = above.iter().rev().find_map(|executed| executed.handover).unwrap_or(last.in_force);
        if executed.handover.unwrap_or(before) == self.key {
            return Ok(());
        }
        Err(ChainError::Key { height: executed.block.header.number, hash: executed.hash })
    }

    fn hands_over_elsewhere(&self, access: Address, tx: &TxEnvelope) -> bool {
        tx.to() == Some(access)
            && tx.input().starts_with(&handoverCall::SELECTOR)
            && handoverCall::abi_decode(tx.input()).map_or(true, |call| call.nextKey.0 != self.key)
    }

    fn remember(&self, executed: Executed) -> Arc<Executed> {
        lock(&self.executed).insert(executed)
    }
}

impl Memory {
    fn get(&self, hash: &BlockHash) -> Option<Arc<Executed>> {
        self.blocks.get(hash).map(|(_, executed)| Arc::clone(executed))
    }

    fn insert(&mut self, executed: Executed) -> Arc<Executed> {
        let executed = Arc::new(executed);
        self.count += 1;
        self.blocks.insert(executed.hash, (self.count, Arc::clone(&executed)));
        if self.blocks.len() > EXECUTED_MAX
            && let Some(oldest) = self.blocks.iter().min_by_key(|(_, (count, _))| *count).map(|(hash, _)| *hash)
        {
            self.blocks.remove(&oldest);
        }
        executed
    }

    fn forget_until(&mut self, height: u64) {
        self.blocks.retain(|_, (_, executed)| executed.block.header.number > height);
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
