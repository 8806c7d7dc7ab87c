//! Which chunks are there already, and which stripes this backup needs.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blockhouse_types::{ChunkId, StripeId};

use crate::index::{Index, IndexError, Slot, StripeEntry};

/// What a session knows of chunks.
#[derive(Debug)]
pub(in crate::backup) struct Known {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    index: Index,
    /// Stripes that this session may reuse: its own writer's, or verified by a reader, and readable at the sites.
    reusable: HashSet<StripeId>,
    /// Chunks on their way: sealed, packed or being written. Bounded by the queues and the packs in memory.
    on_their_way: HashSet<ChunkId>,
    referenced: BTreeSet<StripeId>,
    /// What this session wrote itself.
    own: BTreeSet<StripeId>,
}

impl Known {
    /// What the index says, as far as the stripes may be reused.
    pub(in crate::backup) fn new(index: Index, reusable: HashSet<StripeId>) -> Self {
        let (referenced, own) = (BTreeSet::new(), BTreeSet::new());
        let state = State { index, reusable, on_their_way: HashSet::new(), referenced, own };
        Self { state: Mutex::new(state) }
    }

    /// True if the chunk is new and now on its way; else its stripe counts as needed.
    pub(super) fn admit(&self, chunk: &ChunkId) -> bool {
        let mut state = self.lock();
        if state.on_their_way.contains(chunk) {
            return false;
        }
        match state.find(chunk) {
            Some(stripe) => {
                state.referenced.insert(stripe);
                false
            }
            None => state.on_their_way.insert(*chunk),
        }
    }

    /// Counts the stripes of all these chunks as needed, if every one of them is there.
    pub(super) fn reuse<'a>(&self, chunks: impl IntoIterator<Item = &'a ChunkId>) -> bool {
        let mut state = self.lock();
        let found: Option<BTreeSet<StripeId>> = chunks.into_iter().map(|chunk| state.find(chunk)).collect();
        let is_there = found.is_some();
        state.referenced.extend(found.into_iter().flatten());
        is_there
    }

    /// A stripe of this session is durable.
    pub(super) fn arrived(&self, stripe: StripeEntry, chunks: Vec<(ChunkId, Slot)>) -> Result<(), IndexError> {
        let mut state = self.lock();
        let ids: Vec<ChunkId> = chunks.iter().map(|(id, _)| *id).collect();
        state.index.add(stripe, chunks)?;
        state.reusable.insert(stripe.id);
        state.referenced.insert(stripe.id);
        state.own.insert(stripe.id);
        for id in &ids {
            state.on_their_way.remove(id);
        }
        Ok(())
    }

    pub(super) fn referenced(&self) -> BTreeSet<StripeId> {
        self.lock().referenced.clone()
    }

    /// The stripes that this session wrote.
    pub(super) fn own(&self) -> BTreeSet<StripeId> {
        self.lock().own.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic happens while it is held; if one did, every later step would fail on its own checks.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, chunk: &ChunkId) -> Option<StripeId> {
        let places = self.index.locate(chunk);
        places.into_iter().map(|place| place.stripe).find(|stripe| self.reusable.contains(stripe))
    }
}
