//! What this process found right before: blocks above one another read the same nodes and code again and again, and every transaction comes
//! by twice, to wait and in its block.
//!
//! - **Owns** which of it is kept, and for how long.
//! - **Does not** check anything, nor read it: whoever puts something in has checked it against the hash that it stands under.
//!
//! # Invariants
//! - **K1** What stands under a hash here follows from that hash alone: it is right whatever the store holds by now, under every root.
//! - **K2** It is bounded, whatever comes.

use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::map::B256Map;
use alloy_primitives::{Address, B256};
use revm::state::Bytecode;

use crate::trie::Held;

/// How many trie nodes are kept at least: of a common kilobyte with what was read of it, at most 8 MiB in both generations.
const NODES: usize = 4096;
/// How much code: of the longest that a chain allows, at most 4 MiB in both generations, with what its analysis takes.
const CODES: usize = 64;
/// How many senders: more than wait, or stand in blocks that are not final.
const SENDERS: usize = 16_384;
/// How many answers of `Access`: more than there are writers, at several states of it.
const ANSWERS: usize = 4096;

/// What was checked, by its hash.
#[derive(Debug)]
pub struct Recall {
    nodes: Mutex<Recent<Arc<Held>>>,
    codes: Mutex<Recent<Bytecode>>,
    senders: Mutex<Recent<Address>>,
    enrolled: Mutex<Recent<bool>>,
}

impl Default for Recall {
    fn default() -> Self {
        Self {
            nodes: Recent::of(NODES),
            codes: Recent::of(CODES),
            senders: Recent::of(SENDERS),
            enrolled: Recent::of(ANSWERS),
        }
    }
}

impl Recall {
    /// The trie node with that hash.
    pub(crate) fn node(&self, hash: &B256) -> Option<Arc<Held>> {
        get(&self.nodes, hash)
    }

    pub(crate) fn keep_node(&self, hash: B256, node: &Arc<Held>) {
        keep(&self.nodes, hash, Arc::clone(node));
    }

    /// The code with that hash, analysed.
    pub(crate) fn code(&self, hash: &B256) -> Option<Bytecode> {
        get(&self.codes, hash)
    }

    pub(crate) fn keep_code(&self, hash: B256, code: &Bytecode) {
        keep(&self.codes, hash, code.clone());
    }

    /// Who signed the transaction with that hash, which covers its signature.
    pub(crate) fn sender(&self, hash: &B256) -> Option<Address> {
        get(&self.senders, hash)
    }

    pub(crate) fn keep_sender(&self, hash: B256, sender: Address) {
        keep(&self.senders, hash, sender);
    }

    /// What `Access` said of an account, under the hash of all that decides it.
    pub(crate) fn enrolled(&self, hash: &B256) -> Option<bool> {
        get(&self.enrolled, hash)
    }

    pub(crate) fn keep_enrolled(&self, hash: B256, enrolled: bool) {
        keep(&self.enrolled, hash, enrolled);
    }
}

fn get<V: Clone>(recent: &Mutex<Recent<V>>, hash: &B256) -> Option<V> {
    recent.lock().unwrap_or_else(PoisonError::into_inner).get(hash)
}

fn keep<V: Clone>(recent: &Mutex<Recent<V>>, hash: B256, value: V) {
    recent.lock().unwrap_or_else(PoisonError::into_inner).keep(hash, value);
}

/// The last that were used: when the young generation is full it becomes the old one, and what nobody asked for since is gone.
#[derive(Debug)]
struct Recent<V> {
    young: B256Map<V>,
    old: B256Map<V>,
    most: usize,
}

impl<V: Clone> Recent<V> {
    fn of(most: usize) -> Mutex<Self> {
        Mutex::new(Self { young: B256Map::default(), old: B256Map::default(), most })
    }

    fn get(&mut self, hash: &B256) -> Option<V> {
        if let Some(value) = self.young.get(hash) {
            return Some(value.clone());
        }
        let value = self.old.remove(hash)?;
        self.keep(*hash, value.clone());
        Some(value)
    }

    fn keep(&mut self, hash: B256, value: V) {
        if self.young.len() >= self.most {
            // The room of both stays: a map that grows again and again moves all that it has each time.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_all_is_bounded() {
        let hash = |index: usize| B256::left_padding_from(&index.to_be_bytes());
        let mut recent = Recent::<usize>::of(8).into_inner().unwrap();
        for index in 0..1000 {
            recent.keep(hash(index), index);
            assert_eq!(recent.get(&hash(0)), Some(0), "asked for after each of {index} others");
            assert!(recent.young.len() <= 8 && recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&hash(999)), Some(999));
        assert_eq!(recent.get(&hash(500)), None);
    }
}
