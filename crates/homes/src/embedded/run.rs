//! Many blocks at once: what a node takes that is far behind.
//!
//! - **Owns** the order of that work: each is executed once its certificate was checked, and its signatures were, on another core; and a run is one
//!   durable transaction.
//! - **Does not** judge otherwise than one by one: whatever ends a run is judged by [`import_into`].

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::mpsc::channel;

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::execute::{Executed, import};
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::rules::sender;
use blockhouse_ledger::state::{StateChanges, StateNodes, StateTrie};
use blockhouse_ledger::succession;

use super::error::HomeError;
use super::heal::{expect_certified, import_into};
use super::keys::LedgerKeys;
use crate::store::{Store, StoreError};

/// Takes blocks that follow the head, in order: each is executed, compared, and certified by the key in force. What came before an error
/// stays. All that it took is durable when this returns. What earlier runs found right is in `recall`.
pub(crate) fn import_run(store: &mut Store, objects: &[BlockObject], recall: &Recall) -> Result<(), HomeError> {
    let mut rest = objects;
    loop {
        let taken = take_run(store, rest, recall)?;
        let (Some(next), Some(after)) = (rest.get(taken), rest.get(taken + 1..)) else { return Ok(()) };
        // It is wrong, a handover, or above a closing block: one by one says which.
        import_into(store, [next.clone()], Store::append)?;
        rest = after;
    }
}

/// Takes as many of the first blocks as are valid under one key, and gives their number.
fn take_run(store: &mut Store, objects: &[BlockObject], recall: &Recall) -> Result<usize, HomeError> {
    let key = LedgerKeys::of(store)?.in_force();
    let genesis = store.genesis().clone();
    let executed = std::thread::scope(|scope| {
        let (vouch, certified) = channel();
        let checking = scope.spawn(move || {
            let is_certified =
                |object: &&BlockObject| object.chain_id == genesis.chain_id && expect_certified(object, &key).is_ok();
            let recover = |object: &&BlockObject| {
                // Who signed is then known where it is executed; what is wrong is found there too.
                for tx in &object.block.body.transactions {
                    let _ = sender(&genesis, tx, Some(recall));
                }
            };
            // Who executes may have ended before.
            let _ = objects.iter().take_while(is_certified).inspect(recover).try_for_each(|object| vouch.send(object));
        });
        let executed = execute_run(store, certified, recall);
        // A panic there vouches for nothing more.
        let _ = checking.join();
        executed
    });
    let certificates = objects.iter().map(|object| object.certificate.clone());
    let taken: Vec<_> = executed.into_iter().zip(certificates).collect();
    store.append_all(&taken)?;
    Ok(taken.len())
}

/// Executes certified blocks one upon the other, up to the first that is not valid or hands the ledger over, and none above a closing block: there the
/// key with which the run began vouches for nothing.
fn execute_run<'a>(
    store: &Store,
    objects: impl IntoIterator<Item = &'a BlockObject>,
    recall: &Recall,
) -> Vec<Arc<Executed>> {
    let mut nodes = Above { store, changes: StateChanges::default(), hashes: Vec::new(), recall };
    let (mut parent, mut done): (Header, Vec<Arc<Executed>>) = (store.head().header().clone(), Vec::new());
    for object in objects {
        let Ok(executed) = import(store.genesis(), &parent, &nodes, &object.block) else { break };
        if executed.handover.is_some() {
            break;
        }
        parent.clone_from(&executed.block.header);
        nodes.put(&executed);
        done.push(Arc::new(executed));
        if succession(&parent).is_some() {
            break;
        }
    }
    done
}

/// A store, and what blocks above its head change.
struct Above<'a> {
    store: &'a Store,
    changes: StateChanges,
    /// Of the blocks above the head, the lowest first.
    hashes: Vec<B256>,
    recall: &'a Recall,
}

impl Above<'_> {
    fn put(&mut self, executed: &Executed) {
        let changes = &executed.changes;
        self.changes.nodes.extend(changes.nodes.iter().map(|(place, node)| (*place, node.clone())));
        self.changes.codes.extend(changes.codes.iter().map(|(hash, code)| (*hash, code.clone())));
        self.hashes.push(B256::new(executed.hash.to_bytes()));
    }
}

impl StateNodes for Above<'_> {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        match self.changes.nodes.get(&(*trie, *path)) {
            Some(node) => Ok(node.clone()),
            None => self.store.node(trie, path),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        match self.changes.codes.get(hash) {
            Some(code) => Ok(Some(code.clone())),
            None => self.store.code(hash),
        }
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        let above = height.checked_sub(self.store.height() + 1).and_then(|index| usize::try_from(index).ok());
        match above.and_then(|index| self.hashes.get(index)) {
            Some(hash) => Ok(Some(*hash)),
            None => self.store.hash_at(height),
        }
    }

    fn recall(&self) -> Option<&Recall> {
        Some(self.recall)
    }
}
