//! Chunks for many readers at once: read in ranges, opened, checked, and kept within a budget of bytes.
//!
//! - **Owns** the index that all opened snapshots share, and the cache of plain chunks.
//! - **Does not** read packs whole: who reads here and there would hold 64 MiB for 4 KiB.
//!
//! # Invariants
//! - **S1** A chunk is given out only after it opened to the id that was asked for, in the domain that was asked for; one that was
//!   kept was checked in the same domain.
//! - **S2** The cache holds no more than its budget, and what is on its way to who asked.
//! - **S3** A chunk that several ask for at the same time is read once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule};
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::{ChunkId, StripeId};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::runtime::Handle;

use super::{ByteCache, ChunkError};
use crate::catalog;
use crate::index::{Index, IndexError, Location, StripeEntry};
use crate::stripes::{Damage, StripeStore};

/// Turns at reading: two chunks that fall on one turn wait for each other, which costs time only.
const TURNS: usize = 64;
/// How many openers are kept for whoever opens next. Each may hold a frame as long as a chunk, 1 MiB: more readers than these at once are
/// rare, and a new opener costs them little.
const OPENERS_KEPT: usize = 8;
/// How many tables of stripes are read at the same time.
const TABLES_IN_FLIGHT: usize = 16;

/// Whose chunks have these ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Domain(usize);

/// The chunks of a vault, for any thread that may block.
#[derive(Debug)]
pub(crate) struct SharedChunks {
    store: Arc<StripeStore>,
    index: RwLock<Arc<Index>>,
    /// The subkeys that ids are computed with, by domain. There are as many as lines of writers and dedup choices: few.
    domains: Mutex<Vec<Secret>>,
    cache: Mutex<ByteCache<(ChunkId, Domain), Bytes>>,
    turns: Vec<Mutex<()>>,
    openers: Openers,
    runtime: Handle,
}

impl SharedChunks {
    /// Chunks of these stripes, of which at most `budget` bytes are kept. Inside a runtime.
    pub(crate) fn new(store: Arc<StripeStore>, index: Index, budget: usize) -> Self {
        Self {
            store,
            index: RwLock::new(Arc::new(index)),
            domains: Mutex::default(),
            cache: Mutex::new(ByteCache::new(budget)),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            openers: Openers::default(),
            runtime: Handle::current(),
        }
    }

    /// The domain with this subkey.
    pub(crate) fn domain(&self, id_subkey: &Secret) -> Domain {
        let mut domains = lock(&self.domains);
        let known = domains.iter().position(|known| known == id_subkey);
        Domain(known.unwrap_or_else(|| {
            domains.push(id_subkey.clone());
            domains.len() - 1
        }))
    }

    /// The index as it is now.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks up in this index from now on.
    pub(crate) fn set_index(&self, index: Index) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
    }

    /// The stripes.
    pub(crate) const fn store(&self) -> &Arc<StripeStore> {
        &self.store
    }

    /// Damage that other shards made up for, each once.
    pub(crate) fn take_damage(&self) -> Vec<Damage> {
        self.store.take_damage()
    }

    /// The plain bytes of a chunk.
    pub(crate) fn read(&self, domain: Domain, reference: &ChunkRef) -> Result<Bytes, ChunkError> {
        let key = (reference.id, domain);
        if let Some(plain) = self.kept(&key, reference) {
            return Ok(plain);
        }
        let turn = usize::from(reference.id.as_bytes().first().copied().unwrap_or_default()) % TURNS;
        let _turn = self.turns.get(turn).map(lock);
        // Somebody else may have had the turn before, for the same chunk.
        if let Some(plain) = self.kept(&key, reference) {
            return Ok(plain);
        }
        let plain = self.fetch(domain, reference)?;
        lock(&self.cache).insert(key, plain.clone(), plain.len());
        Ok(plain)
    }

    fn kept(&self, key: &(ChunkId, Domain), reference: &ChunkRef) -> Option<Bytes> {
        lock(&self.cache).get(key).filter(|plain| plain.len() as u64 == u64::from(reference.plain_len))
    }

    /// From any stripe that is said to have it: whatever is there opens to the chunk asked for or is refused.
    fn fetch(&self, domain: Domain, reference: &ChunkRef) -> Result<Bytes, ChunkError> {
        let (chunk, index) = (reference.id, self.index());
        let mut refused = ChunkError::Unknown { chunk };
        for location in index.locate(&chunk) {
            let Some(entry) = index.stripe(&location.stripe).copied() else { continue };
            match self.fetch_at(domain, reference, &entry, &location) {
                Ok(plain) => return Ok(plain),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn fetch_at(
        &self,
        domain: Domain,
        reference: &ChunkRef,
        entry: &StripeEntry,
        location: &Location,
    ) -> Result<Bytes, ChunkError> {
        let (chunk, slot) = (reference.id, location.slot);
        let codec = Codec::from_tag(slot.codec).ok_or(ChunkError::Codec { chunk, codec: slot.codec })?;
        let sealed = self.runtime.block_on(self.store.read_slot(entry, &slot));
        let sealed = sealed.map_err(|source| ChunkError::Stripe { chunk, source })?;
        let Some(subkey) = lock(&self.domains).get(domain.0).cloned() else {
            return Err(ChunkError::Unknown { chunk });
        };
        let mut opener = self.openers.take();
        let plain = opener.open(reference, IdRule::Domain(&subkey), (codec, &sealed));
        self.openers.give_back(opener);
        Ok(Bytes::from(plain?))
    }
}

/// Openers that nobody uses at the moment, at most [`OPENERS_KEPT`].
#[derive(Debug, Default)]
struct Openers(Mutex<Vec<ChunkOpener>>);

impl Openers {
    fn take(&self) -> ChunkOpener {
        lock(&self.0).pop().unwrap_or_default()
    }

    fn give_back(&self, opener: ChunkOpener) {
        let mut kept = lock(&self.0);
        if kept.len() < OPENERS_KEPT {
            kept.push(opener);
        }
    }
}

/// Adds the tables of those stripes that the index does not know. One that cannot be read is as if it were not there: a chunk that is
/// in no other shows so when it is asked for.
pub(crate) async fn learn(
    index: &mut Index,
    store: &StripeStore,
    keys: &PackKeys,
    stripes: &[StripeId],
) -> Result<(), IndexError> {
    let unknown: Vec<StripeId> = stripes.iter().copied().filter(|stripe| index.stripe(stripe).is_none()).collect();
    let table = async |stripe: StripeId| {
        let entry = store.read_head(&stripe).await.ok()?.entry;
        Some((entry, store.read_table(&entry, keys).await.ok()?))
    };
    let mut tables = std::pin::pin!(stream::iter(unknown).map(table).buffered(TABLES_IN_FLIGHT));
    while let Some(table) = tables.next().await {
        if let Some((entry, table)) = table {
            index.add(entry, catalog::slots(&table))?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No step under a lock leaves what it guards half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_readers_leaves_few_openers() {
        let openers = Openers::default();
        let crowd: Vec<ChunkOpener> = (0..3 * OPENERS_KEPT).map(|_| openers.take()).collect();
        assert!(lock(&openers.0).is_empty());
        for opener in crowd {
            openers.give_back(opener);
        }
        assert_eq!(lock(&openers.0).len(), OPENERS_KEPT);
        drop(openers.take());
        assert_eq!(lock(&openers.0).len(), OPENERS_KEPT - 1);
    }
}
