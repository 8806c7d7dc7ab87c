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

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_primitives::B256;
use blockhouse_consensus::tuning::BLOCK_MAX;
use blockhouse_consensus::{Network, NetworkError};
use blockhouse_ledger::block::{Block, BlockObject, block_hash};
use blockhouse_ledger::call::CallError;
use blockhouse_ledger::certificate::{BlockPlace, Certificate, CertificateError};
use blockhouse_ledger::charter::{CHARTER_ADDRESS, making};
use blockhouse_ledger::execute::{BuildError, Executed, Gathered, ImportError, Room, build, gather, import};
use blockhouse_ledger::handover::{Handover, is_call};
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::validators::{government, last_block, succession};
use blockhouse_ledger::{Genesis, Governance, Government, TransactionFault};
use blockhouse_types::BlockHash;

use super::layers::Layers;
use super::network_file::NetworkFile;
use crate::embedded::{HomeError, LedgerKeys};
use crate::store::{Past, Store, StoreError};

/// How many executed blocks that are not final are kept. An honest network has two or three; what is dropped is executed again.
const EXECUTED_MAX: usize = 32;

/// How a store takes a block: durable at once, or with its next sync.
type Append = fn(&mut Store, &Executed, &Certificate) -> Result<(), StoreError>;

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

/// The time of one set of validators.
#[derive(Debug, Clone, Copy)]
struct Term {
    /// Their key.
    key: [u8; 32],
    /// The block that they begin above.
    base: u64,
    /// The block with which their time ended, once that is final here.
    closed: Option<u64>,
}

/// The block by which this network takes the ledger over.
#[derive(Debug)]
struct Opening {
    height: u64,
    handover: TxEnvelope,
    /// Who may change its validators, and how, if anybody may.
    charter: Option<Governance>,
}

#[derive(Debug, Clone)]
struct Final {
    store: Store,
    /// The key in force after it: it certifies the next block.
    in_force: [u8; 32],
    /// The contract that names the validators, if one does.
    government: Option<Government>,
    /// The last block of the tenure, once it is settled.
    last_block: Option<u64>,
}

/// What was executed, by hash, and in which order.
#[derive(Debug, Default)]
struct Memory {
    blocks: BTreeMap<BlockHash, (u64, Arc<Executed>)>,
    count: u64,
    /// The height of a closing block among them.
    closing: Option<u64>,
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
    #[error("block {height} would follow the last block of these validators: others keep the ledger from there on")]
    Over { height: u64 },
    #[error("block {height} is not certified")]
    Certificate {
        height: u64,
        #[source]
        source: CertificateError,
    },
    #[error("block {height} is final as {ours} here, and came as {theirs}")]
    Fork { height: u64, ours: B256, theirs: BlockHash },
    #[error("the validators from epoch {epoch} on make no network")]
    Validators {
        epoch: u64,
        #[source]
        source: NetworkError,
    },
    #[error("this node takes no part any more: {why}")]
    Stopped { why: String },
    #[error("the store of the ledger failed")]
    Store(#[from] StoreError),
    #[error("the keys of the ledger could not be read")]
    Keys(#[source] HomeError),
}

impl ChainError {
    /// Of a question to the contracts, as of the head of that store.
    pub(super) fn of_call(store: &Store, error: CallError<StoreError>) -> Self {
        Self::Keys(HomeError::of_handovers(store, error))
    }

    /// True if it says something of the block: on every node, and for ever. All else is this node's own trouble.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Key { .. } | Self::Over { .. } | Self::Certificate { .. })
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
        let (government, last_block) = (government_of(&store)?, last_block_of(&store)?);
        let last = RwLock::new(Final { store: store.clone(), in_force, government, last_block });
        let term = RwLock::new(Term { key, base: 0, closed: None });
        let (executed, recall) = (Mutex::default(), Arc::default());
        Ok(Self { term, opening: None, writer: Mutex::new(store), last, executed, recall })
    }

    /// The same of the network of that file: if it takes the ledger over, nothing is made above the base before the handover.
    #[must_use]
    pub fn opened_by(self, file: &NetworkFile) -> Self {
        let opening = file.handover.clone().map(|handover| Opening {
            height: file.network.base().height.saturating_add(1),
            handover,
            charter: file.governance(),
        });
        Self { opening, ..self }
    }

    /// True while the block by which this network takes the ledger over is not final.
    fn is_to_open(&self, store: &Store) -> bool {
        self.opening.as_ref().is_some_and(|opening| store.height() < opening.height)
    }

    /// The transactions of that block, while it is what comes above the last of `pending`. By C3 nothing but it comes first.
    pub fn opening(&self, pending: &[Arc<Block>]) -> Result<Option<Vec<TxEnvelope>>, ChainError> {
        let store = self.head();
        let is_under_way = pending.iter().any(|block| block.header.number > store.height());
        let Some(opening) = self.opening.as_ref().filter(|_| self.is_to_open(&store) && !is_under_way) else {
            return Ok(None);
        };
        let mut transactions = vec![opening.handover.clone()];
        if let Some(charter) = &opening.charter {
            let account = store.state().account(&CHARTER_ADDRESS).map_err(|error| store.of_state(error))?;
            transactions.push(making(store.genesis(), charter, account.map_or(0, |account| account.nonce)));
        }
        Ok(Some(transactions))
    }

    /// From now on this node takes part in that network: one that begins above the last final block, or began before it.
    pub fn begin(&self, network: &Network) {
        let term = Term { key: network.key(), base: network.base().height, closed: None };
        *self.term.write().unwrap_or_else(PoisonError::into_inner) = term;
    }

    /// Whether the tenure in which this node takes part is over: its closing block is final here.
    pub fn is_over(&self) -> bool {
        self.term().closed.is_some()
    }

    /// The last block of the tenure, once it is settled: by the last final block, or by one that may become final.
    pub fn last_block(&self) -> Option<u64> {
        let last = self.last();
        // With the handover what was settled before it ends (ledger T3): until it is final here, that is what the state says.
        if self.is_to_open(&last.store) {
            return None;
        }
        let pending = || lock(&self.executed).closing.filter(|closing| *closing > last.store.height());
        // After it is final the engine still helps others to that.
        self.term().closed.or(last.last_block).or_else(pending)
    }

    fn term(&self) -> Term {
        *self.term.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Makes a block final that came with its certificate from whoever has it. Nothing if it was final before.
    pub fn take(&self, object: &BlockObject) -> Result<Option<Arc<Executed>>, ChainError> {
        let last = self.last();
        let (chain_id, height) = (last.store.genesis().chain_id, object.block.header.number);
        let is_to_open = self.is_to_open(&last.store);
        // Until the handover is final others may have what those before recorded beside it: that is by another key.
        if is_to_open && object.certificate.key() != self.term().key {
            return Err(ChainError::Unknown { height });
        }
        if object.chain_id != chain_id || height != last.store.height() + 1 {
            return Err(ChainError::Unknown { height });
        }
        let place = BlockPlace { chain_id, height, hash: object.hash() };
        let key = if is_to_open { self.term().key } else { last.in_force };
        let certified = object.certificate.verify(&key, &place);
        certified.map_err(|source| ChainError::Certificate { height, source })?;
        self.record(&object.block, &object.certificate, Store::append)
    }

    /// Makes a block final that the engine brought: durable after [`Self::sync`] (C1). Nothing if it was final before (C2).
    pub fn finalize(&self, block: &Block, certificate: &Certificate) -> Result<Option<Arc<Executed>>, ChainError> {
        self.record(block, certificate, Store::append_unsynced)
    }

    /// Makes all final blocks durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        if !writer.is_synced() {
            writer.sync()?;
            self.last.write().unwrap_or_else(PoisonError::into_inner).store = writer.clone();
        }
        Ok(())
    }

    fn record(
        &self,
        block: &Block,
        certificate: &Certificate,
        append: Append,
    ) -> Result<Option<Arc<Executed>>, ChainError> {
        let (height, theirs) = (block.header.number, block_hash(&block.header));
        let mut writer = lock(&self.writer);
        let last = self.last();
        if let Some(ours) = last.store.hash_at(height)? {
            let is_same = ours.0 == theirs.to_bytes();
            return if is_same { Ok(None) } else { Err(ChainError::Fork { height, ours, theirs }) };
        }
        let executed = self.execute_above(&last, &[], block)?;
        if certificate.key() != executed.handover.unwrap_or(last.in_force) {
            return Err(ChainError::Key { height, hash: theirs });
        }
        let next_key = succession(&executed.block.header).or(executed.handover);
        let append = if next_key.is_some() { Store::append } else { append };
        append(&mut writer, &executed, certificate)?;
        let in_force = next_key.unwrap_or(last.in_force);
        let store = writer.clone();
        // A handover ends what the contract had settled. The first blocks of a governed ledger make that of its genesis.
        let is_another = executed.handover.is_some() || last.government.is_none();
        let government = if is_another { government_of(&store)? } else { last.government };
        let is_settled_anew = is_another || government.is_some_and(|government| government.settles(height));
        let last_block = if is_settled_anew { last_block_of(&store)? } else { last.last_block };
        // Who begins a tenure sees both or neither.
        let mut term = self.term.write().unwrap_or_else(PoisonError::into_inner);
        if succession(&executed.block.header).is_some() {
            term.closed = term.closed.or(Some(height));
        }
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Final { store, in_force, government, last_block };
        drop(term);
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

    /// C3.
    fn check_key(&self, last: &Final, above: &[Arc<Executed>], executed: &Executed) -> Result<(), ChainError> {
        let before = above.iter().rev().find_map(|executed| executed.handover).unwrap_or(last.in_force);
        let transactions = &executed.block.body.transactions;
        let opening = self.opening.as_ref().filter(|opening| transactions.first() == Some(&opening.handover));
        // Its key commits to the charter: what stands behind the handover is that one. It must not be left out.
        let is_whole = opening.is_none_or(|opening| transactions.len() == 1 + usize::from(opening.charter.is_some()));
        let ends_governance = self.is_governed() && executed.handover.is_some() && opening.is_none();
        if executed.handover.unwrap_or(before) == self.term().key && !ends_governance && is_whole {
            return Ok(());
        }
        Err(ChainError::Key { height: executed.block.header.number, hash: executed.hash })
    }

    /// C4.
    fn check_open(&self, parent: &Header) -> Result<(), ChainError> {
        let is_closed = succession(parent).is_some() && parent.number != self.term().base;
        if is_closed { Err(ChainError::Over { height: parent.number.saturating_add(1) }) } else { Ok(()) }
    }

    /// Whether that is what hands the ledger over to this network.
    fn is_opening(&self, tx: &TxEnvelope) -> bool {
        self.opening.as_ref().is_some_and(|opening| opening.handover == *tx)
    }

    /// Whether governors have a say over who follows: a handover would end that.
    pub(super) fn is_governed(&self) -> bool {
        self.head().genesis().governance.is_some()
            || self.opening.as_ref().is_some_and(|opening| opening.charter.is_some())
    }

    fn hands_over_elsewhere(&self, genesis: &Genesis, tx: &TxEnvelope) -> bool {
        tx.to() == Some(genesis.access_address())
            && is_call(tx.input())
            && !self.is_opening(tx)
            && (self.is_governed()
                || Handover::read(tx.input()).is_none_or(|handover| handover.next_key != self.term().key))
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
        if succession(&executed.block.header).is_some() {
            self.closing = Some(executed.block.header.number);
        }
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

fn government_of(store: &Store) -> Result<Option<Government>, ChainError> {
    government(store.genesis(), store.head().header(), store).map_err(|error| ChainError::of_call(store, error))
}

fn last_block_of(store: &Store) -> Result<Option<u64>, ChainError> {
    last_block(store.genesis(), store.head().header(), store).map_err(|error| ChainError::of_call(store, error))
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
