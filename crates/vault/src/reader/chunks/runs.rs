//! Runs of sealed bytes: what is read of packs, and what is read ahead.
//!
//! - **Owns** how much is read at once and what is kept.
//! - **Does not** open anything.
//!
//! # Invariants
//! - **U1** At most [`HELD_BYTES`] are kept, and [`AHEAD`] runs of at most [`RUN_MAX`] are on their way beside them. While a data shard of
//!   the stripe is out of reach it is one run, for what it is computed from comes beside it.
//! - **U2** The runs on their way follow one another in one pack.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use blockhouse_types::StripeId;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::HELD_BYTES;
use crate::index::StripeEntry;
use crate::stripes::{ReadStripeError, StripeStore};

/// The shortest run: a few chunks.
const RUN_MIN: usize = 256 << 10;
/// The longest: more gains nothing and holds memory.
const RUN_MAX: usize = 1 << 20;
/// How many runs are on their way while a pack is read from end to end: over a line of 20 ms one alone is less than the line brings.
const AHEAD: usize = 3;
/// What these take.
pub(super) const AHEAD_BYTES: usize = AHEAD * RUN_MAX;
/// How many chunks are read alone from a stripe before runs begin: a listing needs few of many stripes.
const ALONE: u32 = 4;

/// Bytes of a pack.
#[derive(Debug)]
struct Run {
    stripe: StripeId,
    range: Range<usize>,
    bytes: Bytes,
}

impl Run {
    fn get(&self, stripe: StripeId, range: &Range<usize>) -> Option<Bytes> {
        let is_here = self.stripe == stripe && self.range.start <= range.start && range.end <= self.range.end;
        is_here.then(|| self.bytes.slice(range.start - self.range.start..range.end - self.range.start))
    }
}

/// A run on its way; it is given up when it is dropped.
#[derive(Debug)]
struct Ahead {
    stripe: StripeId,
    range: Range<usize>,
    task: JoinHandle<Result<Bytes, ReadStripeError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
pub(super) struct Runs {
    store: Arc<StripeStore>,
    held: VecDeque<Run>,
    ahead: VecDeque<Ahead>,
    asked: HashMap<StripeId, u32>,
    /// Where the last run of a stripe ended, and how long it was.
    last: Option<(StripeId, usize, usize)>,
    /// The hashes of leaves are not looked at: whoever opens a chunk sees whether it is right.
    pub(super) is_unchecked: bool,
}

/// Bytes of a pack. If they are wrong although nobody said so, the chunk does not open.
async fn read(
    store: &StripeStore,
    entry: &StripeEntry,
    range: Range<usize>,
    is_unchecked: bool,
) -> Result<Bytes, ReadStripeError> {
    if is_unchecked && let Some(bytes) = store.read_unchecked(entry, range.clone()).await {
        return Ok(bytes);
    }
    store.read_bytes(entry, range).await
}

impl Runs {
    pub(super) fn new(store: Arc<StripeStore>) -> Self {
        let (held, ahead, asked) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        Self { store, held, ahead, asked, last: None, is_unchecked: false }
    }

    /// The sealed bytes of a slot.
    pub(super) fn read(
        &mut self,
        runtime: &Handle,
        entry: &StripeEntry,
        range: Range<usize>,
    ) -> Result<Bytes, ReadStripeError> {
        if let Some(bytes) = self.held_bytes(entry.id, &range) {
            return Ok(bytes);
        }
        if self.arrive(runtime, entry, &range)
            && let Some(bytes) = self.held_bytes(entry.id, &range)
        {
            return Ok(bytes);
        }
        let asked = self.asked.entry(entry.id).or_default();
        *asked += 1;
        if *asked <= ALONE {
            return runtime.block_on(read(&self.store, entry, range, self.is_unchecked));
        }
        let run = self.next_run(entry, &range);
        match runtime.block_on(read(&self.store, entry, run.clone(), self.is_unchecked)) {
            Ok(bytes) => {
                self.keep(Run { stripe: entry.id, range: run.clone(), bytes });
                self.begin_ahead(runtime, entry, run.end);
                Ok(self.held_bytes(entry.id, &range).unwrap_or_default())
            }
            // What is wrong beside the slot is no reason to lose it.
            Err(_) if run != range => runtime.block_on(self.store.read_bytes(entry, range)),
            Err(error) => Err(error),
        }
    }

    /// Out of one run, or of one and the next: a run ends where it ends, also in the middle of a chunk.
    fn held_bytes(&self, stripe: StripeId, range: &Range<usize>) -> Option<Bytes> {
        let first = self.held.iter().find(|run| run.stripe == stripe && run.range.contains(&range.start))?;
        if range.end <= first.range.end {
            return first.get(stripe, range);
        }
        let (start, middle, end) = (range.start, first.range.end, range.end);
        let second = self.held.iter().find_map(|run| run.get(stripe, &(middle..end)))?;
        Some(Bytes::from([first.get(stripe, &(start..middle))?, second].concat()))
    }

    /// Waits for the runs that are read ahead up to the one that has the end of what is needed; false if none has.
    fn arrive(&mut self, runtime: &Handle, entry: &StripeEntry, range: &Range<usize>) -> bool {
        let begins_before = |ahead: &&Ahead| ahead.stripe == entry.id && ahead.range.start < range.end;
        if !self.ahead.iter().take_while(begins_before).any(|ahead| range.end <= ahead.range.end) {
            return false;
        }
        while let Some(mut ahead) = self.ahead.pop_front() {
            let Ok(Ok(bytes)) = runtime.block_on(&mut ahead.task) else { return false };
            let run = ahead.range.clone();
            self.last = Some((entry.id, run.end, run.len()));
            self.keep(Run { stripe: entry.id, range: run.clone(), bytes });
            if range.end <= run.end {
                self.begin_ahead(runtime, entry, run.end);
                break;
            }
        }
        true
    }

    /// Longer as long as reading goes on where the last run ended.
    fn next_run(&mut self, entry: &StripeEntry, range: &Range<usize>) -> Range<usize> {
        let goes_on = self.last.filter(|(stripe, end, _)| *stripe == entry.id && range.start.abs_diff(*end) < RUN_MAX);
        let length = goes_on.map_or(RUN_MIN, |(_, _, length)| (length * 2).clamp(RUN_MIN, RUN_MAX));
        let pack = usize::try_from(entry.pack_len).unwrap_or(usize::MAX);
        let end = range.start.saturating_add(length).min(pack).max(range.end);
        self.last = Some((entry.id, end, end - range.start));
        range.start..end
    }

    /// Begins to read what follows, once a stripe is read in long runs.
    fn begin_ahead(&mut self, runtime: &Handle, entry: &StripeEntry, from: usize) {
        let pack = usize::try_from(entry.pack_len).unwrap_or(usize::MAX);
        if self.last.is_none_or(|(_, _, length)| length < RUN_MAX) {
            return;
        }
        let goes_on = self.ahead.front().is_some_and(|next| next.stripe == entry.id && next.range.start == from);
        if !goes_on {
            self.ahead.clear();
        }
        let most = if self.store.lacks_data_shards(entry) { 1 } else { AHEAD };
        while self.ahead.len() < most {
            let start = self.ahead.back().map_or(from, |last| last.range.end);
            if start >= pack {
                break;
            }
            let range = start..start.saturating_add(RUN_MAX).min(pack);
            let (store, entry, wanted) = (Arc::clone(&self.store), *entry, range.clone());
            let is_unchecked = self.is_unchecked;
            let task = runtime.spawn(async move { read(&store, &entry, wanted, is_unchecked).await });
            self.ahead.push_back(Ahead { stripe: entry.id, range, task });
        }
    }

    fn keep(&mut self, run: Run) {
        let mut room = HELD_BYTES.saturating_sub(run.range.len());
        // The newest stay, as many as fit.
        self.held.retain(|held| {
            let fits = held.range.len() <= room;
            room -= if fits { held.range.len() } else { 0 };
            fits
        });
        self.held.push_front(run);
    }
}
