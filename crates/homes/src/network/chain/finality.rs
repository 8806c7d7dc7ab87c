//! The one place where blocks become final: the store takes them, and the chain stands on them from then on (C1, C2).

use std::sync::{Arc, PoisonError};

use blockhouse_ledger::Government;
use blockhouse_ledger::block::{Block, BlockObject, block_hash};
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::validators::{government, last_block, succession};

use super::{Chain, ChainError, lock};
use crate::store::{Past, Store, StoreError};

/// How a store takes a block: durable at once, or with its next sync.
type Append = fn(&mut Store, &Executed, &Certificate) -> Result<(), StoreError>;

/// The last final block, and what counts above it.
#[derive(Debug, Clone)]
pub(super) struct Final {
    pub(super) store: Store,
    /// The key in force after it: it certifies the next block.
    pub(super) in_force: [u8; 32],
    /// The contract that names the validators, if one does.
    pub(super) government: Option<Government>,
    /// The last block of the tenure, once it is settled.
    pub(super) last_block: Option<u64>,
}

impl Chain {
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

    pub(super) fn record(
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
    pub(in crate::network) fn put_past(&self, past: &[Past]) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        writer.put_past(past)?;
        self.last.write().unwrap_or_else(PoisonError::into_inner).store = writer.clone();
        Ok(())
    }
}

pub(super) fn government_of(store: &Store) -> Result<Option<Government>, ChainError> {
    government(store.genesis(), store.head().header(), store).map_err(|error| ChainError::of_call(store, error))
}

pub(super) fn last_block_of(store: &Store) -> Result<Option<u64>, ChainError> {
    last_block(store.genesis(), store.head().header(), store).map_err(|error| ChainError::of_call(store, error))
}
