//! States that are kept as they are for a while, for nodes that fetch them.
//!
//! The database keeps the pages of a view as long as it is open, so what blocks change meanwhile takes room in the file, which is used again
//! later. So there are few, and not for long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::B256;

use crate::store::Store;

/// How many states are kept at once: one that is being fetched, and a late one for who begins.
const KEPT_MAX: usize = 2;
/// How old a state may be that is given to who begins to fetch.
const FRESH: Duration = Duration::from_secs(30);
/// How long one is kept that nobody asks for: who begins takes some hundred blocks before its first part, maybe over a slow line.
const IDLE: Duration = Duration::from_mins(10);
/// How long one is kept at most: some gigabytes over a slow line.
const LONGEST: Duration = Duration::from_hours(1);

/// The kept states of a node.
#[derive(Debug, Default)]
pub(in crate::network) struct Shelf {
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    store: Store,
    since: Instant,
    used: Instant,
}

impl Shelf {
    /// A late state, kept from now on: that of `head`, unless there is one that is not much older, or no room for another.
    pub(in crate::network) fn late(&self, head: &Store, now: Instant) -> Store {
        let mut kept = self.clear(now);
        let is_full = kept.len() >= KEPT_MAX;
        if let Some(last) = kept.last_mut().filter(|last| is_full || now.duration_since(last.since) < FRESH) {
            last.used = now;
            return last.store.clone();
        }
        kept.push(Kept { store: head.clone(), since: now, used: now });
        head.clone()
    }

    /// The state after that block, if it is kept.
    pub(in crate::network) fn of(&self, block: &B256, now: Instant) -> Option<Store> {
        let mut kept = self.clear(now);
        let found = kept.iter_mut().find(|kept| kept.store.head().hash() == *block)?;
        found.used = now;
        Some(found.store.clone())
    }

    /// Gives back what is kept no longer.
    pub(in crate::network) fn tidy(&self, now: Instant) {
        drop(self.clear(now));
    }

    fn clear(&self, now: Instant) -> MutexGuard<'_, Vec<Kept>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| now.duration_since(kept.used) < IDLE && now.duration_since(kept.since) < LONGEST);
        kept
    }
}
