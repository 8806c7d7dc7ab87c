//! Chunks by their references: found by the index, read from the stripes, opened and checked.
//!
//! What will be asked for soon can be sent for ([`ChunkReader::send_for`]): over a slow line each answer costs its time.
//!
//! Memory: [`READER_BYTES`], which are [`HELD_BYTES`] of sealed bytes, what is on its way, and [`OPENED_BYTES`] of plain ones; beside them
//! up to [`SENT_MAX`] chunks of lists that were sent for. A chunk that is asked for alone is read alone; chunks that follow one another in a
//! pack are read in runs, and the next ones are on their way while one is opened.

mod runs;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule, OpenChunkError};
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::{ChunkId, StripeId};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use self::runs::Runs;
use super::ByteCache;
use crate::catalog;
use crate::index::{Index, IndexError, Location, StripeEntry};
use crate::stripes::{Damage, ReadStripeError, StripeStore};

/// Sealed bytes kept in memory: chunks of one file may alternate between the stripe of an old backup and that of a new one.
const HELD_BYTES: usize = 4 << 20;
/// Opened chunks kept: small files of a folder share them, and so do the versions of a file that are read side by side.
const OPENED_BYTES: usize = 4 << 20;
/// What a reader takes in all while it reads packs from end to end.
pub(crate) const READER_BYTES: usize = HELD_BYTES + runs::AHEAD_BYTES + OPENED_BYTES;
/// How many chunks may be sent for: those of lists, which are of the usual length.
const SENT_MAX: usize = 16;

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// No stripe of the snapshot has it.
    #[error("chunk {chunk} is in none of the stripes of the snapshot that can be read")]
    Unknown { chunk: ChunkId },
    /// Its stripe cannot be read.
    #[error("chunk {chunk} could not be read")]
    Stripe {
        chunk: ChunkId,
        #[source]
        source: ReadStripeError,
    },
    /// It did not open.
    #[error(transparent)]
    Open(#[from] OpenChunkError),
    /// It is written in a way that this version does not know.
    #[error("chunk {chunk} has the unknown codec {codec}")]
    Codec { chunk: ChunkId, codec: u8 },
}

/// A chunk that was opened, by which reference and out of which stripe.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    reference: ChunkRef,
    pub(crate) stripe: StripeId,
    pub(crate) plain: Bytes,
}

/// A chunk that is on its way; it is given up when it is dropped.
#[derive(Debug)]
struct Sent {
    stripe: StripeId,
    task: JoinHandle<Result<Bytes, ReadStripeError>>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the chunks of one snapshot, or of several of one domain. Blocks: for threads that may.
#[derive(Debug)]
pub struct ChunkReader {
    store: Arc<StripeStore>,
    index: Index,
    allowed: HashSet<StripeId>,
    id_subkey: Secret,
    opener: ChunkOpener,
    runs: Runs,
    opened: ByteCache<ChunkId, Opened>,
    sent: HashMap<ChunkId, Sent>,
    runtime: Handle,
    /// What opens tables again, once, if the index turns out to have holes.
    keys: Option<PackKeys>,
}

impl ChunkReader {
    /// Makes sure that the index knows the stripes, as far as an index key opens their tables. The subkey is the one that the chunks are named with.
    pub(crate) async fn prepare(
        store: Arc<StripeStore>,
        mut index: Index,
        index_key: Option<&Secret>,
        stripes: &[StripeId],
        id_subkey: &Secret,
    ) -> Result<Self, IndexError> {
        let keys = index_key.map(PackKeys::new);
        for stripe in stripes {
            if let Some(keys) = &keys
                && index.stripe(stripe).is_none()
                && let Ok(head) = store.read_head(stripe).await
            {
                catalog::admit(&mut index, &store, &head.entry, keys).await?;
            }
        }
        Ok(Self {
            keys,
            runs: Runs::new(Arc::clone(&store)),
            store,
            index,
            allowed: stripes.iter().copied().collect(),
            id_subkey: id_subkey.clone(),
            opener: ChunkOpener::new(),
            opened: ByteCache::new(OPENED_BYTES),
            sent: HashMap::new(),
            runtime: Handle::current(),
        })
    }

    /// The same without a look at the hashes of shards, unless a chunk does not open: for whoever has just looked at all of them.
    #[must_use]
    pub(crate) fn unchecked(mut self) -> Self {
        self.runs.is_unchecked = true;
        self
    }

    /// The plain bytes of a chunk.
    pub fn read(&mut self, reference: &ChunkRef) -> Result<Bytes, ChunkError> {
        Ok(self.read_somewhere(reference)?.plain)
    }

    /// The same, with the stripe that they come from.
    pub(crate) fn read_somewhere(&mut self, reference: &ChunkRef) -> Result<Opened, ChunkError> {
        // A reference that differs, if only in its key, has to show for itself that it opens the chunk.
        if let Some(opened) = self.opened.get(&reference.id).filter(|opened| opened.reference == *reference) {
            return Ok(opened);
        }
        let locations = self.locations(&reference.id);
        let opened = self.open_at(reference, locations)?;
        self.opened.insert(reference.id, opened.clone(), opened.plain.len());
        Ok(opened)
    }

    /// Reads a chunk from stripes of the caller's choice, also if it is known from another.
    pub(crate) fn read_from(
        &mut self,
        reference: &ChunkRef,
        is_allowed: impl Fn(&StripeId) -> bool,
    ) -> Result<Opened, ChunkError> {
        let mut found = self.known(&reference.id);
        found.retain(|location| is_allowed(&location.stripe));
        if found.is_empty()
            && let Some(keys) = self.keys.take()
        {
            self.index_again(&keys);
            found = self.known(&reference.id);
            found.retain(|location| is_allowed(&location.stripe));
        }
        self.open_at(reference, found)
    }

    fn open_at(&mut self, reference: &ChunkRef, locations: Vec<Location>) -> Result<Opened, ChunkError> {
        let mut refused = ChunkError::Unknown { chunk: reference.id };
        for location in locations {
            match self.read_at(reference, &location) {
                Ok(plain) => {
                    let (reference, plain) = (reference.clone(), Bytes::from(plain));
                    return Ok(Opened { reference, stripe: location.stripe, plain });
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Begins to read a chunk that will be asked for soon, unless too many are on their way.
    pub(crate) fn send_for(&mut self, chunk: &ChunkId) {
        if self.sent.len() >= SENT_MAX || self.sent.contains_key(chunk) || self.opened.get(chunk).is_some() {
            return;
        }
        let Some(location) = self.locate(chunk) else { return };
        let Some(entry) = self.index.stripe(&location.stripe).copied() else { return };
        let (store, slot) = (Arc::clone(&self.store), location.slot);
        let task = self.runtime.spawn(async move { store.read_slot(&entry, &slot).await.map(Bytes::from) });
        self.sent.insert(*chunk, Sent { stripe: location.stripe, task });
    }

    /// Every place of a chunk in the snapshot's stripes. If the index knows none, the tables are read again, once.
    fn locations(&mut self, chunk: &ChunkId) -> Vec<Location> {
        let mut found = self.known(chunk);
        if found.is_empty()
            && let Some(keys) = self.keys.take()
        {
            self.index_again(&keys);
            found = self.known(chunk);
        }
        found
    }

    fn known(&self, chunk: &ChunkId) -> Vec<Location> {
        let mut found = self.index.locate(chunk);
        found.retain(|location| self.allowed.contains(&location.stripe));
        found
    }

    /// Reads the tables of all stripes again: a block of the index was damaged, and what it named is at the sites all the same.
    fn index_again(&mut self, keys: &PackKeys) {
        for stripe in self.allowed.clone() {
            let admitted = self.runtime.block_on(async {
                let head = self.store.read_head(&stripe).await.ok()?;
                catalog::admit(&mut self.index, &self.store, &head.entry, keys).await.ok()
            });
            // A stripe that cannot be read now shows so when a chunk of it is asked for.
            let _ = admitted;
        }
    }

    /// Where a chunk lies, if the index knows one of the snapshot's stripes for it.
    pub fn locate(&self, chunk: &ChunkId) -> Option<Location> {
        self.known(chunk).into_iter().next()
    }

    /// The same, with the stripe, for whoever reads by himself; the tables are read again if need be.
    pub(crate) fn find(&mut self, chunk: &ChunkId) -> Option<(StripeEntry, Location)> {
        let location = self.locations(chunk).into_iter().next()?;
        Some((*self.index.stripe(&location.stripe)?, location))
    }

    /// What chunks of the snapshot are named with.
    pub(crate) const fn id_subkey(&self) -> &Secret {
        &self.id_subkey
    }

    /// The stripes, for whoever reads by himself.
    pub(crate) const fn store(&self) -> &Arc<StripeStore> {
        &self.store
    }

    /// Where reads run.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The damage that reading met.
    pub fn take_damage(&self) -> Vec<Damage> {
        self.store.take_damage()
    }

    fn read_at(&mut self, reference: &ChunkRef, location: &Location) -> Result<Vec<u8>, ChunkError> {
        let (chunk, slot) = (reference.id, location.slot);
        let codec = Codec::from_tag(slot.codec).ok_or(ChunkError::Codec { chunk, codec: slot.codec })?;
        let entry: StripeEntry =
            *self.index.stripe(&location.stripe).expect("a location names a stripe of its segment");
        let sent = self.sent.remove(&chunk).filter(|sent| sent.stripe == location.stripe);
        let came = sent.map(|mut sent| self.runtime.block_on(&mut sent.task));
        let range = slot.offset as usize..slot.offset as usize + slot.sealed_len as usize;
        let sealed = if let Some(Ok(Ok(sealed))) = came {
            Ok(sealed)
        } else {
            // What failed on the way is asked for once more.
            self.runs.read(&self.runtime, &entry, range.clone())
        };
        let sealed = sealed.map_err(|source| ChunkError::Stripe { chunk, source })?;
        let rule = IdRule::Domain(&self.id_subkey);
        match self.opener.open(reference, rule, (codec, &sealed)) {
            // Nobody compared the bytes with their hashes yet: that tells which shard is wrong, and gives them out of others.
            Err(_) if self.runs.is_unchecked => {
                let sealed = self.runtime.block_on(self.store.read_bytes(&entry, range));
                let sealed = sealed.map_err(|source| ChunkError::Stripe { chunk, source })?;
                Ok(self.opener.open(reference, rule, (codec, &sealed))?)
            }
            opened => Ok(opened?),
        }
    }
}
