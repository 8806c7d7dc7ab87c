//! Chunks by their references: found by the index, read from the stripes, opened and checked.
//!
//! Memory: a few packs. A stripe that is asked often is read whole once; one that is asked now and then is read in ranges.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkRef, IdRule, OpenChunkError, open_chunk};
use blockhouse_pipeline::compress::{Codec, Decompressor};
use blockhouse_pipeline::manifest::Manifest;
use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::{ChunkId, StripeId};
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::catalog;
use crate::index::{Index, IndexError, Location, StripeEntry};
use crate::stripes::{Damage, ReadStripeError, StripeStore};

/// Packs kept in memory: chunks of one file may alternate between the stripe of an old backup and that of a new one.
const PACKS: usize = 2;
/// How many chunks are read from a stripe before all of it is: a range costs a leaf of each shard it touches, a pack all.
const RANGE_READS: u32 = 8;

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

/// Reads the chunks of one snapshot. Blocks: for threads that may.
#[derive(Debug)]
pub struct ChunkReader {
    store: Arc<StripeStore>,
    index: Index,
    allowed: HashSet<StripeId>,
    id_subkey: Secret,
    decompressor: Decompressor,
    packs: VecDeque<(StripeId, Bytes)>,
    asked: BTreeMap<StripeId, u32>,
    runtime: Handle,
    /// What opens tables again, once, if the index turns out to have holes.
    keys: Option<PackKeys>,
}

impl ChunkReader {
    /// Makes sure that the index knows the stripes of a snapshot, as far as an index key opens their tables.
    pub(crate) async fn prepare(
        store: Arc<StripeStore>,
        mut index: Index,
        index_key: Option<&Secret>,
        stripes: &[StripeId],
        manifest: &Manifest,
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
            store,
            index,
            allowed: stripes.iter().copied().collect(),
            id_subkey: manifest.id_subkey.clone(),
            decompressor: Decompressor::new(),
            packs: VecDeque::new(),
            asked: BTreeMap::new(),
            runtime: Handle::current(),
        })
    }

    /// The plain bytes of a chunk.
    pub fn read(&mut self, reference: &ChunkRef) -> Result<Vec<u8>, ChunkError> {
        if self.locate(&reference.id).is_none()
            && let Some(keys) = self.keys.take()
        {
            self.index_again(&keys);
        }
        let chunk = reference.id;
        let mut refused = ChunkError::Unknown { chunk };
        for location in self.index.locate(&chunk) {
            if !self.allowed.contains(&location.stripe) {
                continue;
            }
            match self.read_at(reference, &location) {
                Ok(plain) => return Ok(plain),
                Err(error) => refused = error,
            }
        }
        Err(refused)
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
        self.index.locate(chunk).into_iter().find(|location| self.allowed.contains(&location.stripe))
    }

    /// The damage that reading met.
    pub fn take_damage(&self) -> Vec<Damage> {
        self.store.take_damage()
    }

    fn read_at(&mut self, reference: &ChunkRef, location: &Location) -> Result<Vec<u8>, ChunkError> {
        let (chunk, slot) = (reference.id, location.slot);
        let codec = Codec::from_tag(slot.codec).ok_or(ChunkError::Codec { chunk, codec: slot.codec })?;
        let sealed = self.sealed(location).map_err(|source| ChunkError::Stripe { chunk, source })?;
        let rule = IdRule::Domain(&self.id_subkey);
        Ok(open_chunk(&mut self.decompressor, reference, rule, codec, &sealed)?)
    }

    fn sealed(&mut self, location: &Location) -> Result<Bytes, ReadStripeError> {
        let (stripe, slot) = (location.stripe, location.slot);
        let range = slot.offset as usize..slot.offset as usize + slot.sealed_len as usize;
        if let Some((_, pack)) = self.packs.iter().find(|(id, _)| *id == stripe) {
            return Ok(pack.get(range.clone()).map(|_| pack.slice(range)).unwrap_or_default());
        }
        let entry: StripeEntry = *self.index.stripe(&stripe).expect("a location names a stripe of its segment");
        let asked = self.asked.entry(stripe).or_default();
        *asked += 1;
        if *asked <= RANGE_READS {
            return self.runtime.block_on(self.store.read_slot(&entry, &slot)).map(Bytes::from);
        }
        // Before, and not after: while a pack is read, its shards are in memory beside it.
        if self.packs.len() == PACKS {
            self.packs.pop_front();
        }
        let pack = self.runtime.block_on(self.store.read_pack(&entry))?;
        self.packs.push_back((stripe, pack.clone()));
        Ok(pack.get(range.clone()).map(|_| pack.slice(range)).unwrap_or_default())
    }
}
