//! Reads and opens what a plan wants, ahead of whoever writes it.
//!
//! - **Owns** how many bytes are on their way at a time, and the buffers that they come in.
//! - **Does not** write files, nor decide what to do about what cannot be read: that is told as missing.
//!
//! # Invariants
//! - **E1** Units arrive in the order of the plan, and those on their way never hold more than the budget, but that one unit may always be
//!   under way whatever it takes (of a wide code each column is a leaf of every data shard, and a chunk lies in many), and that a column
//!   which several units hold is counted with the first and stays until the last of them is opened.
//! - **E2** What is handed out was opened and compared with the chunk's id.
//!
//! A unit is sealed while it comes and plain when it was opened: the budget counts the longer of both. Both are there only while it is
//! opened, which [`OPENING`] at a time are. Not counted are [`KITS_KEPT`] buffers that wait for units to come, and what a range of a lost
//! shard is computed from: the same range of k others.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule};
use blockhouse_pipeline::compress::Codec;
use blockhouse_types::StripeId;
use blockhouse_types::limits::MIB;
use bytes::Bytes;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle};

use crate::index::StripeEntry;
use crate::stripes::{Columns, StripeStore, heavy};

/// Units that may wait to be taken: their bytes are bounded by the budget, their number by this.
const QUEUE: usize = 64;
/// Permits are counted in these, since a semaphore counts in 32 bits.
const PERMIT: usize = 1024;
/// Units that are opened at a time: one writes what they hold, so more are no use to it.
const OPENING: usize = 2;
/// What the two sides of these take together beyond what the budget counts.
const OPENING_BYTES: usize = OPENING * MIB;
/// Buffers that are kept for units to come.
const KITS_KEPT: usize = 2 * OPENING;
/// Of such a length at most: a unit has half as much, as a rule, and one that was longer must not be held to the end.
const KIT_MAX: usize = 4 * MIB;

/// A chunk of a unit.
#[derive(Debug, Clone)]
pub(super) struct UnitChunk {
    pub(super) chunk: ChunkRef,
    pub(super) codec: u8,
    /// Where its sealed bytes lie in the pack.
    pub(super) range: Range<usize>,
}

/// What is opened at once: neighbours in one pack, or in columns of one.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) entry: StripeEntry,
    pub(super) source: Source,
    pub(super) chunks: Vec<UnitChunk>,
    /// The plain bytes of its chunks.
    pub(super) plain_len: usize,
}

/// Where the sealed bytes of a unit come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A range of the pack, from the first chunk to the last.
    Range(Range<usize>),
    /// Columns of the pack that follow one another: every chunk begins in the first.
    Columns(Vec<Arc<Column>>),
}

/// Columns of a pack, read once for all units that hold this.
#[derive(Debug)]
pub(super) struct Column {
    range: Range<usize>,
    read: OnceCell<Option<Columns>>,
}

impl Column {
    /// Nothing is read yet of this range of all data shards.
    pub(super) fn new(range: Range<usize>) -> Self {
        Self { range, read: OnceCell::new() }
    }

    /// Which range.
    #[cfg(test)]
    pub(super) const fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// Reads it, unless that was done or is being done.
    async fn read(&self, shared: &Shared, entry: &StripeEntry) {
        let read = self.read.get_or_init(|| async {
            let bytes = self.range.len() * entry.code.data();
            shared.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
            shared.store.read_columns(entry, self.range.clone()).await.ok()
        });
        read.await;
    }
}

/// Of which stripe, and where in its payloads.
type ColumnsEnd = (StripeId, usize);

impl Unit {
    /// What it takes at most of the budget: the longer of what comes and what is opened. `before` is where the columns of the unit before
    /// end, if it has some: one that both hold is counted there.
    fn cost(&self, before: Option<ColumnsEnd>) -> usize {
        let sealed = match &self.source {
            Source::Range(range) => range.len(),
            Source::Columns(columns) => {
                let is_counted = |column: &Arc<Column>| {
                    before.is_some_and(|(stripe, end)| stripe == self.entry.id && column.range.start < end)
                };
                let counted = usize::from(columns.first().is_some_and(is_counted));
                let lengths = columns.iter().skip(counted).map(|column| column.range.len());
                // Where a lost run is computed, its bytes come beside those that it is computed from.
                lengths.sum::<usize>() * self.entry.code.shards()
            }
        };
        sealed.max(self.plain_len)
    }

    /// Where its columns end.
    fn columns_end(&self) -> Option<ColumnsEnd> {
        match &self.source {
            Source::Range(_) => None,
            Source::Columns(columns) => columns.last().map(|last| (self.entry.id, last.range.end)),
        }
    }
}

/// The sealed bytes of a unit.
enum Sealed {
    Range { start: usize, bytes: Bytes },
    Columns(Vec<Arc<Column>>),
}

impl Sealed {
    /// The bytes of a chunk, as far as they lie in one column.
    fn first_of(&self, range: &Range<usize>) -> Option<Bytes> {
        match self {
            Self::Range { start, bytes } => {
                let within = range.start.checked_sub(*start)?..range.end.checked_sub(*start)?;
                (within.end <= bytes.len()).then(|| bytes.slice(within))
            }
            Self::Columns(columns) => columns.iter().find_map(|column| column.read.get()?.as_ref()?.first_of(range)),
        }
    }

    /// The bytes of a chunk; without a copy where they lie in one column.
    fn get(&self, range: &Range<usize>) -> Option<Bytes> {
        let first = self.first_of(range)?;
        if first.len() == range.len() {
            return Some(first);
        }
        let mut all = Vec::with_capacity(range.len());
        all.extend_from_slice(&first);
        while all.len() < range.len() {
            let next = self.first_of(&(range.start + all.len()..range.end)).filter(|next| !next.is_empty())?;
            all.extend_from_slice(&next);
        }
        Some(all.into())
    }
}

/// A unit that arrived.
#[derive(Debug)]
pub(super) struct Opened {
    kit: Option<Kit>,
    /// Where each chunk lies in the buffer; none that did not open.
    places: Vec<Option<Range<usize>>>,
    chunks: Vec<UnitChunk>,
    shared: Arc<Shared>,
    _room: OwnedSemaphorePermit,
}

impl Opened {
    /// The plain bytes of a chunk of the unit; none if it could not be read or opened here.
    pub(super) fn chunk(&self, number: usize) -> Option<&[u8]> {
        let place = self.places.get(number)?.clone()?;
        self.kit.as_ref()?.plain.get(place)
    }
}

impl Opened {
    /// The reference of a chunk of the unit.
    pub(super) fn reference(&self, number: usize) -> Option<&ChunkRef> {
        self.chunks.get(number).map(|chunk| &chunk.chunk)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(kit) = self.kit.take() {
            let mut kits = self.shared.kits.lock().unwrap_or_else(PoisonError::into_inner);
            if kits.len() < KITS_KEPT && kit.plain.capacity() <= KIT_MAX {
                kits.push(kit);
            }
        }
    }
}

/// What one unit is opened with; used again for others.
#[derive(Debug, Default)]
struct Kit {
    opener: ChunkOpener,
    plain: Vec<u8>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<StripeStore>,
    id_subkey: Secret,
    room: Arc<Semaphore>,
    opening: Semaphore,
    kits: Mutex<Vec<Kit>>,
    fetched: AtomicU64,
    budget: usize,
}

/// Reads units.
#[derive(Debug)]
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    runtime: Handle,
}

impl Fetcher {
    /// A fetcher that holds about so many bytes.
    pub(super) fn new(store: Arc<StripeStore>, id_subkey: Secret, runtime: Handle, budget: usize) -> Self {
        let permits = (budget.saturating_sub(OPENING_BYTES) / PERMIT).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            store,
            id_subkey,
            room: Arc::new(Semaphore::new(permits)),
            opening: Semaphore::new(OPENING),
            kits: Mutex::default(),
            fetched: AtomicU64::new(0),
            budget: permits,
        };
        Self { shared: Arc::new(shared), runtime }
    }

    /// Sealed bytes asked for so far.
    pub(super) fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }

    /// Begins to read these units, in this order.
    pub(super) fn begin(&self, units: Vec<Unit>) -> Arriving {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let dispatcher = self.runtime.spawn(dispatch(Arc::clone(&self.shared), units, sender));
        Arriving { receiver, dispatcher: Owned(dispatcher), runtime: self.runtime.clone() }
    }
}

/// Units on their way. Dropped, it gives up those that did not arrive.
#[derive(Debug)]
pub(super) struct Arriving {
    receiver: mpsc::Receiver<Owned<Opened>>,
    dispatcher: Owned<()>,
    runtime: Handle,
}

impl Arriving {
    /// Waits for the next unit; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Opened>, JoinError> {
        let Some(mut task) = self.receiver.blocking_recv() else { return Ok(None) };
        self.runtime.block_on(&mut task.0).map(Some)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.dispatcher.0.abort();
        self.receiver.close();
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn dispatch(shared: Arc<Shared>, units: Vec<Unit>, sender: mpsc::Sender<Owned<Opened>>) {
    let mut before = None;
    for unit in units {
        let cost = unit.cost(before).div_ceil(PERMIT).clamp(1, shared.budget);
        before = unit.columns_end();
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&shared.room).acquire_many_owned(cost).await else { return };
        let task = tokio::spawn(fetch(Arc::clone(&shared), unit, room));
        if sender.send(Owned(task)).await.is_err() {
            return;
        }
    }
}

async fn fetch(shared: Arc<Shared>, unit: Unit, room: OwnedSemaphorePermit) -> Opened {
    let Unit { entry, source, chunks, plain_len } = unit;
    let sealed = match source {
        Source::Range(range) => {
            shared.fetched.fetch_add(range.len() as u64, Ordering::Relaxed);
            let (start, read) = (range.start, shared.store.read_bytes(&entry, range).await);
            read.ok().map(|bytes| Sealed::Range { start, bytes })
        }
        Source::Columns(columns) => {
            join_all(columns.iter().map(|column| column.read(&shared, &entry))).await;
            Some(Sealed::Columns(columns))
        }
    };
    let turn = shared.opening.acquire().await.expect("the semaphore is never closed");
    let opening = Arc::clone(&shared);
    let opened = heavy(move || open(opening, (chunks, plain_len), sealed, room)).await;
    drop(turn);
    opened
}

/// Opens every chunk of a unit, one behind the other in one buffer.
fn open(
    shared: Arc<Shared>,
    (chunks, plain_len): (Vec<UnitChunk>, usize),
    sealed: Option<Sealed>,
    room: OwnedSemaphorePermit,
) -> Opened {
    let mut kit = shared.kits.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    if kit.plain.len() < plain_len {
        kit.plain.resize(plain_len, 0);
    }
    let (Kit { opener, plain }, rule) = (&mut kit, IdRule::Domain(&shared.id_subkey));
    let mut at = 0;
    let mut place = |chunk: &UnitChunk| {
        let place = at..at + chunk.chunk.plain_len as usize;
        at = place.end;
        let sealed = sealed.as_ref()?.get(&chunk.range)?;
        let codec = Codec::from_tag(chunk.codec)?;
        opener.open_into(&chunk.chunk, rule, (codec, &sealed), plain.get_mut(place.clone())?).ok()?;
        Some(place)
    };
    let places = chunks.iter().map(&mut place).collect();
    drop(sealed);
    Opened { kit: Some(kit), places, chunks, shared, _room: room }
}

#[cfg(test)]
mod tests {
    use blockhouse_types::limits::SHARD_LEAF;
    use blockhouse_types::{Account, Code};

    use super::*;

    /// Of a wide code a column is short, and a chunk lies in many: only the first of them was counted.
    #[test]
    fn all_columns_of_a_unit_are_counted_and_none_twice() {
        let code = Code::try_new(50, 10).unwrap();
        let entry = StripeEntry { id: StripeId::new([1; 32]), code, pack_len: 64 << 20, writer: Account::new([0; 20]) };
        let columns: Vec<_> =
            (0..40).map(|number| Arc::new(Column::new(number * SHARD_LEAF..(number + 1) * SHARD_LEAF))).collect();
        let unit = |range: Range<usize>| {
            let source = Source::Columns(columns[range].to_vec());
            Unit { entry, source, chunks: Vec::new(), plain_len: MIB }
        };
        let of = |columns: usize| columns * SHARD_LEAF * code.shards();
        assert_eq!(unit(0..33).cost(None), of(33));
        assert_eq!(unit(32..36).cost(unit(0..33).columns_end()), of(3), "the first is counted before");
        assert_eq!(unit(33..36).cost(unit(0..33).columns_end()), of(3));
        assert_eq!(unit(32..33).cost(unit(0..33).columns_end()), MIB, "what is opened takes room in any case");
        let other = Unit { entry: StripeEntry { id: StripeId::new([2; 32]), ..entry }, ..unit(0..2) };
        assert_eq!(other.cost(unit(0..33).columns_end()), of(2));
    }
}
