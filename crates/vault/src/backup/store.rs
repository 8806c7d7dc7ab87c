//! Where a backup puts its chunks: known ones are named, new ones sealed, packed, coded and made durable.
//!
//! ```text
//! walk ─► name ─┬─ known: its stripe counts
//!               └─ new ─► sealers (one per core) ─► packer ─► stripes: code, write, index
//! ```
//!
//! - **Owns** the threads behind the walk and the bounds between them.
//! - **Does not** decide what is read, nor what a commit says.
//!
//! # Invariants
//! - **S1** A chunk counts as known only by a stripe that this session may reuse, or by this session's own work.
//! - **S2** A stripe is indexed after its shards are durable.
//! - **S3** Memory: one pack grows, one is coded, one is written, each with the room of its parity, 36 MiB as a rule
//!   (`threads::CODED_LIMIT`); for remote sites a copy of the shards being written; the bounded queues; and what a write that hangs
//!   still holds.

mod known;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockhouse_crypto::AccountSecret;
use blockhouse_pipeline::chunk::{ChunkLengthError, ChunkRef, SealChunkError};
use blockhouse_pipeline::compress::LevelError;
use blockhouse_pipeline::domain::DomainKey;
use blockhouse_pipeline::pack::{BuildPackError, PackKeys};
use blockhouse_pipeline::shard::ShapeError;
use blockhouse_sites::SiteName;
use blockhouse_types::{ChunkId, Code, SessionId, StripeId, VaultId};

use super::stream::Chunks;
use crate::index::IndexError;
use crate::stripes::{StripeStore, WriteStripeError};

pub(super) use known::Known;
use threads::Threads;

/// Why chunks could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A chunk has no length that chunks have.
    #[error("a chunk could not be named")]
    Name(#[from] ChunkLengthError),
    /// The level is none.
    #[error("the compression level is none")]
    Level(#[from] LevelError),
    /// A chunk could not be sealed.
    #[error("a chunk could not be sealed")]
    Seal(#[from] SealChunkError),
    /// A pack could not be built.
    #[error("a pack could not be built")]
    Pack(#[from] BuildPackError),
    /// A stripe could not be coded.
    #[error("a stripe could not be coded")]
    Code(#[from] ShapeError),
    /// A stripe could not be made durable.
    #[error("a stripe could not be made durable")]
    Write(#[from] WriteStripeError),
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// A thread of this program could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
    /// A thread ended early; its own error says why.
    #[error("the backup was stopped")]
    Stopped,
}

/// Under what a session stores its chunks.
#[derive(Debug)]
pub(super) struct StoreKeys {
    /// The vault.
    pub(super) vault: VaultId,
    /// The session.
    pub(super) session: SessionId,
    /// Who signs the stripes.
    pub(super) writer: AccountSecret,
    /// What names and seals chunks.
    pub(super) domain: DomainKey,
    /// What seals tables.
    pub(super) pack: PackKeys,
    /// The erasure code.
    pub(super) code: Code,
    /// The base level of compression.
    pub(super) level: i32,
}

/// What a session stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Sites that did not take a shard, with the first reason.
    pub(super) refusals: BTreeMap<SiteName, String>,
    /// Every stripe that holds a chunk that was named.
    pub(super) stripes: BTreeSet<StripeId>,
    /// Those that this session wrote itself.
    pub(super) own: BTreeSet<StripeId>,
    /// The stripes that were written.
    pub(super) written: u64,
    /// The bytes of their packs, before coding.
    pub(super) pack_bytes: u64,
    /// The plain bytes of new chunks.
    pub(super) new_bytes: u64,
}

/// Takes plain chunks, gives references.
#[derive(Debug)]
pub(super) struct ChunkStore {
    keys: Arc<StoreKeys>,
    known: Arc<Known>,
    threads: Threads,
    new_bytes: u64,
}

impl ChunkStore {
    /// Starts the threads of a session.
    pub(super) fn start(keys: StoreKeys, known: Known, stripes: Arc<StripeStore>) -> Result<Self, StoreError> {
        let (keys, known) = (Arc::new(keys), Arc::new(known));
        let threads = Threads::start(&keys, &known, stripes)?;
        Ok(Self { keys, known, threads, new_bytes: 0 })
    }

    fn put_named(&mut self, reference: &ChunkRef, plain: &[u8]) -> Result<(), StoreError> {
        if self.known.admit(&reference.id) {
            self.new_bytes += plain.len() as u64;
            self.threads.send(reference.clone(), plain)?;
        }
        Ok(())
    }

    /// Counts chunks of an earlier backup as needed by this one; false if one of them is not there to be reused.
    pub(super) fn reuse<'a>(&self, chunks: impl IntoIterator<Item = &'a ChunkId>) -> bool {
        self.known.reuse(chunks)
    }

    /// Waits until everything is durable.
    pub(super) fn finish(self) -> Result<Stored, StoreError> {
        let written = self.threads.finish()?;
        Ok(Stored {
            stripes: self.known.referenced(),
            own: self.known.own(),
            refusals: written.refusals,
            written: written.stripes,
            pack_bytes: written.pack_bytes,
            new_bytes: self.new_bytes,
        })
    }
}

impl Chunks for ChunkStore {
    fn put(&mut self, plain: &[u8]) -> Result<ChunkRef, StoreError> {
        let reference = ChunkRef::of(&self.keys.domain, plain)?;
        self.put_named(&reference, plain)?;
        Ok(reference)
    }

    fn put_expected(&mut self, expected: &ChunkRef, plain: &[u8]) -> Result<bool, StoreError> {
        let is_it = expected.is_of(&self.keys.domain, plain);
        if is_it {
            self.put_named(expected, plain)?;
        }
        Ok(is_it)
    }
}
