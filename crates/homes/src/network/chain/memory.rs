//! What was executed and is not final: each block once, and only the newest of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::validators::succession;
use blockhouse_types::BlockHash;

/// How many executed blocks that are not final are kept. An honest network has two or three; what is dropped is executed again.
pub(super) const EXECUTED_MAX: usize = 32;

/// What was executed, by hash, and in which order.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) blocks: BTreeMap<BlockHash, (u64, Arc<Executed>)>,
    count: u64,
    /// The height of a closing block among them.
    pub(super) closing: Option<u64>,
}

impl Memory {
    pub(super) fn get(&self, hash: &BlockHash) -> Option<Arc<Executed>> {
        self.blocks.get(hash).map(|(_, executed)| Arc::clone(executed))
    }

    pub(super) fn insert(&mut self, executed: Executed) -> Arc<Executed> {
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

    pub(super) fn forget_until(&mut self, height: u64) {
        self.blocks.retain(|_, (_, executed)| executed.block.header.number > height);
    }
}
