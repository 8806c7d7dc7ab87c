//! The state after a block, of the head or of one not far below it, as answers read it.
//!
//! - **Owns** how the undo records of the blocks above are laid over the head's nodes, and the one reading of them that is remembered.
//! - **Does not** believe any of it: every node is compared with the hash that the one above it names, from the state root in the header of
//!   that block on. So an altered record ends with an error, never with another answer.
//!
//! Records: [`super::undo`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_consensus::Header;
use alloy_primitives::map::HashMap;
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::state::{State, StateError, StateNodes, StateTrie};

use super::undo::BYTES_MAX;
use super::{Store, StoreError};
use crate::chain::chain;

/// A state that is kept, with the block that it is after.
#[derive(Debug, Clone)]
pub struct StateAt<'a> {
    store: &'a Store,
    header: Header,
    /// What blocks above changed; none of the head.
    undone: Option<Arc<Undone>>,
}

/// From the last block down: the height of one that changed a node, and what that was before.
type Changes = Vec<(u64, Option<Bytes>)>;

/// What the last blocks changed, as it was before each of them.
struct Undone {
    /// The lowest height whose state this leads to; it leads to those of all above it.
    from: u64,
    /// The last of these blocks. At each head from `from` up to it this is right: a node that a later block changed is here as it was in all
    /// those between.
    to: u64,
    nodes: HashMap<(StateTrie, Nibbles), Changes>,
}

impl Undone {
    /// What a node was at that height, if a block above changed it: as it was before the lowest of those.
    fn node_at(&self, height: u64, place: &(StateTrie, Nibbles)) -> Option<&Option<Bytes>> {
        let changes = self.nodes.get(place)?;
        let above = changes.partition_point(|(changed, _)| *changed > height);
        changes.get(above.checked_sub(1)?).map(|(_, before)| before)
    }
}

/// What was read of the records, until the next block: it serves all heights down to the lowest that was asked for, so that who asks at one
/// block after the other has each record read once. Clones of a store share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LastRead(Arc<Mutex<Option<Arc<Undone>>>>);

impl LastRead {
    /// Gives back what it takes. Who reads records right now is not waited for: no block waits for an answer, and what is left counts at no
    /// later head and goes with the next block.
    pub(super) fn forget(&self) {
        if let Ok(mut last) = self.0.try_lock() {
            *last = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Undone>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The lowest height whose state is kept; those of all blocks from there up to the head are.
    pub fn states_from(&self) -> u64 {
        self.rows.states_from(self.height())
    }

    /// The state after the head.
    pub(crate) fn head_state(&self) -> StateAt<'_> {
        StateAt { store: self, header: self.head.header().clone(), undone: None }
    }

    /// The state after the block of that height; none if it is not kept.
    pub fn state_at(&self, height: u64) -> Result<Option<StateAt<'_>>, StoreError> {
        if height == self.height() {
            return Ok(Some(self.head_state()));
        }
        if !(self.states_from()..self.height()).contains(&height) {
            return Ok(None);
        }
        let (header, undone) = (self.header(height)?, Some(self.undone(height)?));
        Ok(Some(StateAt { store: self, header, undone }))
    }

    /// Reads the records of all blocks above that height, or finds that done. Others who want them wait for it.
    fn undone(&self, height: u64) -> Result<Arc<Undone>, StoreError> {
        let mut last = self.last_read.lock();
        if let Some(undone) = last.as_ref().filter(|undone| undone.from <= height && undone.to >= self.height()) {
            return Ok(Arc::clone(undone));
        }
        let (mut nodes, mut room) = (HashMap::<_, Changes>::default(), BYTES_MAX);
        for above in (height + 1..=self.height()).rev() {
            for (place, before) in self.read(|rows| rows.undo(above, &mut room))?.nodes {
                nodes.entry(place).or_default().push((above, before));
            }
        }
        let undone = Arc::new(Undone { from: height, to: self.height(), nodes });
        *last = Some(Arc::clone(&undone));
        Ok(undone)
    }
}

impl StateAt<'_> {
    /// The header of the block that it is after.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Whether that is the head.
    pub const fn is_head(&self) -> bool {
        self.undone.is_none()
    }

    /// It, to be read.
    pub const fn state(&self) -> State<'_, Self> {
        State::at(self.header.state_root, self)
    }

    /// Why it could not be read. Below the head that says nothing of the ledger: the records may be what was altered.
    pub(crate) fn failed(&self, error: StateError<StoreError>) -> StoreError {
        match error {
            StateError::View(error) => error,
            other if self.is_head() => self.store.of_state(other),
            other => self.store.damaged(format!(
                "the state of block {} cannot be read with the undo records above it: {}",
                self.header.number,
                chain(&other)
            )),
        }
    }
}

impl StateNodes for StateAt<'_> {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        let undone = self.undone.as_ref();
        match undone.and_then(|undone| undone.node_at(self.header.number, &(*trie, *path))) {
            Some(before) => Ok(before.clone()),
            None => self.store.node(trie, path),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        // Code that was once there stays.
        self.store.code(hash)
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        self.store.hash_at(height)
    }
}

impl fmt::Debug for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undone").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}
