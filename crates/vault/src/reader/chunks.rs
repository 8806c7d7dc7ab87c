//! Chunks by their references: found by the index, read from the stripes, opened and checked.
//!
//! Memory: [`HELD_BYTES`] of sealed bytes and [`OPENED_BYTES`] of plain ones. A chunk that is asked for alone is read alone; chunks that
//! follow one another in a pack are read in runs, and the next run is on its way while one is opened.

mod runs;

use std::collections::HashSet;
use std::sync::Arc;

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule, OpenChunkError};
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::{ChunkId, StripeId};
use bytes::Bytes;
use tokio::runtime::Handle;

use self::runs::Runs;
use super::ByteCache;
use crate::catalog;
use crate::index::{Index, IndexError, Location, StripeEntry};
use crate::stripes::{Damage, ReadStripeError, StripeStore};

/// Sealed bytes kept in memory: chunks of one file may alternate between the stripe of an old backup and that of a new one.
pub(crate) const HELD_BYTES: usize = 4 << 20;
/// Opened chunks kept: small files of a folder share them, and so do the versions of a file that are read side by side.
const OPENED_BYTES: usize = 4 << 20;

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

/// Reads the chunks of one snapshot, or of several of one domain. Blocks: for threads that may.
#[derive(Debug)]
pub struct ChunkReader {
    store: Arc<StripeStore>,
    index: Index,
    allowed: HashSet<StripeId>,
    id_subkey: Secret,
    opener: ChunkOpener,
    runs: Runs,
    opened: ByteCache<ChunkId, Bytes>,
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
            runtime: Handle::current(),
        })
    }

    /// The plain bytes of a chunk.
    pub fn read(&mut self, reference: &ChunkRef) -> Result<Bytes, ChunkError> {
        let chunk = reference.id;
        // Whatever key and length the reference says: the bytes of an id are those bytes.
        if let Some(plain) =
            self.opened.get(&chunk).filter(|plain| plain.len() as u64 == u64::from(reference.plain_len))
        {
            return Ok(plain);
        }
        let mut refused = ChunkError::Unknown { chunk };
        for location in self.locations(&chunk) {
            match self.read_at(reference, &location) {
                Ok(plain) => {
                    let plain = Bytes::from(plain);
                    self.opened.insert(chunk, plain.clone(), plain.len());
                    return Ok(plain);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
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

    /// True if one of these stripes has the chunk.
    pub(crate) fn is_in(&mut self, chunk: &ChunkId, stripes: &HashSet<StripeId>) -> bool {
        self.locations(chunk).iter().any(|location| stripes.contains(&location.stripe))
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
        let range = slot.offset as usize..slot.offset as usize + slot.sealed_len as usize;
        let sealed = self.runs.read(&self.runtime, &entry, range);
        let sealed = sealed.map_err(|source| ChunkError::Stripe { chunk, source })?;
        let rule = IdRule::Domain(&self.id_subkey);
        // A length that no sealed chunk of it has is not believed before there is room for it.
        let mut plain = vec![0; reference.plain_len as usize];
        self.opener.open_into(reference, rule, (codec, &sealed), &mut plain)?;
        Ok(plain)
    }
}
