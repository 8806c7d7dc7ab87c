//! What a run met, and whether it kept to the rules.
//!
//! - **Owns** the judgement of forks, and the counts by which a scenario shows that it met what it is for.
//!
//! # Invariants
//! - **W1** A rule that was broken fails the run, also where the runtime catches panics: it does where disks fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockhouse_types::BlockHash;

use crate::liar::Lie;
use crate::storm::Disk;

/// How the judgement of a fork begins.
pub(crate) const FORK: &str = "two blocks are final";

/// What may happen in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A node was away when it was looked.
    Away,
    /// A node came back.
    Return,
    /// A block that a node had recorded was gone when it came back.
    TakenBack,
    /// An engine ended, for its disk failed in that way.
    Stopped(Disk),
    /// A node was sent what no honest node sends.
    Told(Lie),
    /// No node recorded a block for some seconds.
    Standstill,
    /// A node was some blocks behind another.
    LeftBehind,
    /// Two blocks were final at one height.
    Fork,
}

/// How often each of them did.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<Event, u64>);

impl Counts {
    pub(crate) fn once(event: Event) -> Self {
        Self(BTreeMap::from([(event, 1)]))
    }

    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, more: &Self) {
        for (event, count) in &more.0 {
            *self.0.entry(*event).or_default() += count;
        }
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sees all nodes of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Which hash each height has, over all nodes.
    hashes: BTreeMap<u64, BlockHash>,
    counts: Counts,
    broken: Vec<String>,
    /// The storm is over, and all that it broke off has begun again.
    is_calm: bool,
}

impl Witness {
    /// A block is final at a node: no other one may be at that height.
    pub(crate) fn hear(&self, height: u64, hash: BlockHash) {
        let known = *self.seen().hashes.entry(height).or_insert(hash);
        self.demand(known == hash, || format!("{FORK} at height {height}: {known} and {hash}"));
    }

    pub(crate) fn count(&self, event: Event, times: u64) {
        // What never happened has no entry.
        if times > 0 {
            *self.seen().counts.0.entry(event).or_default() += times;
        }
    }

    pub(crate) fn calm(&self) {
        self.seen().is_calm = true;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.seen().is_calm
    }

    /// Ends the run unless that holds. See W1.
    pub(crate) fn demand(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            let what = otherwise();
            self.seen().broken.push(what.clone());
            panic!("{what}");
        }
    }

    /// What was met, if no rule was broken.
    pub(crate) fn verdict(&self) -> Result<Counts, String> {
        let seen = self.seen();
        match seen.broken.first() {
            Some(what) => Err(format!("{what} ({} rules were broken)", seen.broken.len())),
            None => Ok(seen.counts.clone()),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
