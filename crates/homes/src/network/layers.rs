//! The state after blocks that are executed and not final: the store's, with what those blocks change above it.
//!
//! - **Owns** where a node of a trie is looked up.
//! - **Does not** judge what it finds: it is read through a [`State`](blockhouse_ledger::State), node by node under its root.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::state::{StateNodes, StateTrie};

use crate::store::{Store, StoreError};

/// A store at its head, and executed blocks that follow it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) store: &'a Store,
    /// The oldest first.
    pub(super) above: &'a [Arc<Executed>],
    /// What this process read before.
    pub(super) recall: &'a Recall,
}

impl StateNodes for Layers<'_> {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        let place = (*trie, *path);
        match self.above.iter().rev().find_map(|executed| executed.changes.nodes.get(&place)) {
            Some(node) => Ok(node.clone()),
            None => self.store.node(trie, path),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        match self.above.iter().rev().find_map(|executed| executed.changes.codes.get(hash)) {
            Some(code) => Ok(Some(code.clone())),
            None => self.store.code(hash),
        }
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        let executed = self.above.iter().find(|executed| executed.block.header.number == height);
        match executed {
            Some(executed) => Ok(Some(B256::new(executed.hash.to_bytes()))),
            None => self.store.hash_at(height),
        }
    }

    fn recall(&self) -> Option<&Recall> {
        Some(self.recall)
    }
}
