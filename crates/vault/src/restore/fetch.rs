//! Reads and opens what a plan wants, ahead of whoever writes it.
//!
//! - **Owns** how many bytes are on their way at a time, and the buffers that they come in.
//! - **Does not** write files, nor decide what to do about what cannot be read: that is told as missing.
//!
//! # Invariants
//! - **E1** Units arrive in the order of the plan, and those on their way never hold more than the budget, but that one unit may
//!   always be under way.
//! - **E2** What is handed out was opened and compared with the chunk's id.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule};
use blockhouse_pipeline::compress::Codec;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle};

use crate::index::StripeEntry;
use crate::stripes::{StripeStore, heavy};

/// Units that may wait to be taken: their bytes are bounded by the budget, their number by this.
const QUEUE: usize = 64;
/// Permits are counted in these, since a semaphore counts in 32 bits.
const PERMIT: usize = 1024;

/// A chunk of a unit.
#[derive(Debug, Clone)]
pub(super) struct UnitChunk {
    pub(super) chunk: ChunkRef,
    pub(super) codec: u8,
    /// Where its sealed bytes lie in the pack.
    pub(super) range: Range<usize>,
}

/// What is read at once: neighbours in one pack.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) entry: StripeEntry,
    /// From the first chunk to the last.
    pub(super) range: Range<usize>,
    pub(super) chunks: Vec<UnitChunk>,
    /// The plain bytes of its chunks.
    pub(super) plain_len: usize,
    /// Set where the whole pack is read, once for all its units.
    pub(super) pack: Option<Arc<WholePack>>,
}

/// A pack that is read whole because parts of it would cost more.
#[derive(Debug, Default)]
pub(super) struct WholePack(OnceCell<Option<Bytes>>);

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
            self.shared.kits.lock().unwrap_or_else(PoisonError::into_inner).push(kit);
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
    /// One pack at a time is held whole.
    packs: Arc<Semaphore>,
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
        let permits = (budget / PERMIT).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            store,
            id_subkey,
            room: Arc::new(Semaphore::new(permits)),
            packs: Arc::new(Semaphore::new(1)),
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
    let mut whole: Option<(Arc<WholePack>, Arc<OwnedSemaphorePermit>)> = None;
    for unit in units {
        let cost = (unit.range.len() + unit.plain_len).div_ceil(PERMIT).clamp(1, shared.budget);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&shared.room).acquire_many_owned(cost).await else { return };
        let held = match &unit.pack {
            None => None,
            Some(pack) => {
                if whole.as_ref().is_none_or(|(current, _)| !Arc::ptr_eq(current, pack)) {
                    // Let go of the last one first, or this would wait for itself.
                    drop(whole.take());
                    let Ok(permit) = Arc::clone(&shared.packs).acquire_owned().await else { return };
                    whole = Some((Arc::clone(pack), Arc::new(permit)));
                }
                whole.as_ref().map(|(_, permit)| Arc::clone(permit))
            }
        };
        let task = tokio::spawn(fetch(Arc::clone(&shared), unit, room, held));
        if sender.send(Owned(task)).await.is_err() {
            return;
        }
    }
}

async fn fetch(
    shared: Arc<Shared>,
    unit: Unit,
    room: OwnedSemaphorePermit,
    held: Option<Arc<OwnedSemaphorePermit>>,
) -> Opened {
    let sealed = match &unit.pack {
        None => {
            shared.fetched.fetch_add(unit.range.len() as u64, Ordering::Relaxed);
            shared.store.read_bytes(&unit.entry, unit.range.clone()).await.ok()
        }
        Some(pack) => {
            let whole = pack.0.get_or_init(|| async {
                shared.fetched.fetch_add(unit.entry.pack_len, Ordering::Relaxed);
                shared.store.read_pack(&unit.entry).await.ok()
            });
            whole.await.as_ref().filter(|pack| pack.len() >= unit.range.end).map(|pack| pack.slice(unit.range.clone()))
        }
    };
    heavy(move || {
        let opened = open(shared, unit, sealed.as_deref(), room);
        drop((sealed, held));
        opened
    })
    .await
}

/// Opens every chunk of a unit, one behind the other in one buffer.
fn open(shared: Arc<Shared>, unit: Unit, sealed: Option<&[u8]>, room: OwnedSemaphorePermit) -> Opened {
    let mut kit = shared.kits.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    let length = unit.plain_len;
    if kit.plain.len() < length {
        kit.plain.resize(length, 0);
    }
    let (Kit { opener, plain }, rule) = (&mut kit, IdRule::Domain(&shared.id_subkey));
    let mut at = 0;
    let mut place = |chunk: &UnitChunk| {
        let place = at..at + chunk.chunk.plain_len as usize;
        at = place.end;
        let within = chunk.range.start - unit.range.start..chunk.range.end - unit.range.start;
        let sealed = sealed?.get(within)?;
        let codec = Codec::from_tag(chunk.codec)?;
        opener.open_into(&chunk.chunk, rule, (codec, sealed), plain.get_mut(place.clone())?).ok()?;
        Some(place)
    };
    let places = unit.chunks.iter().map(&mut place).collect();
    Opened { kit: Some(kit), places, chunks: unit.chunks, shared, _room: room }
}
