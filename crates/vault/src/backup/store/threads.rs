//! The threads behind a chunk store: sealers, one packer, one that codes and writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use blockhouse_pipeline::chunk::{ChunkRef, SealedChunk, seal_chunk};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::Compressor;
use blockhouse_pipeline::pack::{Pack, PackBuilder, PackNonces};
use blockhouse_pipeline::stripe::{StripeSigner, build_stripe};
use blockhouse_sites::SiteName;
use blockhouse_types::limits::MIB;
use crossbeam_channel::{Receiver, Sender, bounded};
use rand::Rng;
use tokio::runtime::Handle;

use super::{Known, StoreError, StoreKeys};
use crate::catalog;
use crate::chain::chain;
use crate::stripes::StripeStore;

/// How long packs grow. Half of what the format allows: memory holds one that grows and one that is written, with its parity.
const PACK_LIMIT: usize = 32 * MIB;
/// Chunks between the walk and the sealers, and between the sealers and the packer: at 128 KiB each, 4 MiB a queue.
const QUEUE: usize = 32;

/// A chunk that is nowhere yet.
pub(super) struct Fresh {
    pub(super) reference: ChunkRef,
    pub(super) plain: Vec<u8>,
}

/// What the threads wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) refusals: BTreeMap<SiteName, String>,
    pub(super) stripes: u64,
    pub(super) pack_bytes: u64,
}

/// The running threads.
#[derive(Debug)]
pub(super) struct Threads {
    input: Sender<Fresh>,
    sealers: Vec<JoinHandle<Result<(), StoreError>>>,
    packer: JoinHandle<Result<(), StoreError>>,
    writer: JoinHandle<Result<Written, StoreError>>,
}

impl Threads {
    pub(super) fn start(
        keys: &Arc<StoreKeys>,
        known: &Arc<Known>,
        stripes: Arc<StripeStore>,
    ) -> Result<Self, StoreError> {
        let (input, fresh) = bounded::<Fresh>(QUEUE);
        let (seal_out, sealed) = bounded::<SealedChunk>(QUEUE);
        // No room: a full pack waits until the one before it is written.
        let (pack_out, packs) = bounded::<Pack>(0);
        let count = thread::available_parallelism().map_or(1, usize::from);
        let mut sealers = Vec::with_capacity(count);
        for _ in 0..count {
            let (fresh, out) = (fresh.clone(), seal_out.clone());
            let compressor = Compressor::try_new(keys.level)?;
            sealers.push(spawn("seal", move || seal(compressor, &fresh, &out))?);
        }
        let packer_keys = Arc::clone(keys);
        let packer = spawn("pack", move || pack(&packer_keys, &sealed, &pack_out))?;
        let (keys, known, runtime) = (Arc::clone(keys), Arc::clone(known), Handle::current());
        let writer = spawn("write", move || write(&keys, &known, &stripes, &runtime, &packs))?;
        Ok(Self { input, sealers, packer, writer })
    }

    pub(super) fn send(&self, fresh: Fresh) -> Result<(), StoreError> {
        // A closed channel means that a thread behind it failed: `finish` tells why.
        self.input.send(fresh).map_err(|_| StoreError::Stopped)
    }

    /// Ends the input and waits. The error of the last stage is the cause of those before it.
    pub(super) fn finish(self) -> Result<Written, StoreError> {
        drop(self.input);
        let sealed: Vec<_> = self.sealers.into_iter().map(join).collect();
        let packed = join(self.packer);
        let written = join(self.writer)?;
        packed?;
        sealed.into_iter().collect::<Result<(), _>>()?;
        Ok(written)
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<JoinHandle<Result<T, StoreError>>, StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StoreError::Thread)
}

fn join<T>(thread: JoinHandle<Result<T, StoreError>>) -> Result<T, StoreError> {
    thread.join().unwrap_or(Err(StoreError::Stopped))
}

fn seal(mut compressor: Compressor, fresh: &Receiver<Fresh>, out: &Sender<SealedChunk>) -> Result<(), StoreError> {
    let mut random = rand::rng();
    for Fresh { reference, plain } in fresh {
        let mut nonce = [0; 12];
        random.fill_bytes(&mut nonce);
        let sealed = seal_chunk(&mut compressor, &reference, nonce, &plain)?;
        out.send(sealed).map_err(|_| StoreError::Stopped)?;
    }
    Ok(())
}

fn pack(keys: &StoreKeys, sealed: &Receiver<SealedChunk>, out: &Sender<Pack>) -> Result<(), StoreError> {
    let mut random = rand::rng();
    let mut finish = |builder: PackBuilder| -> Result<(), StoreError> {
        let pack = builder.finish(&keys.pack, PackNonces::random(&mut random))?;
        out.send(pack).map_err(|_| StoreError::Stopped)
    };
    let mut builder = PackBuilder::with_limit(PACK_LIMIT);
    for chunk in sealed {
        if !builder.would_fit(chunk.bytes.len()) {
            finish(std::mem::replace(&mut builder, PackBuilder::with_limit(PACK_LIMIT)))?;
        }
        builder.push(&chunk)?;
    }
    if builder.chunks() > 0 {
        finish(builder)?;
    }
    Ok(())
}

fn write(
    keys: &StoreKeys,
    known: &Known,
    stripes: &StripeStore,
    runtime: &Handle,
    packs: &Receiver<Pack>,
) -> Result<Written, StoreError> {
    let coder = Coder::new(keys.code);
    let signer = StripeSigner { vault: keys.vault, session: keys.session, account: &keys.writer };
    let mut done = Written::default();
    for pack in packs {
        let (bytes, table) = pack.into_parts();
        let pack_bytes = bytes.len() as u64;
        let stripe = build_stripe(&coder, signer, bytes)?;
        let written = runtime.block_on(stripes.write(stripe))?;
        for refusal in written.refused {
            done.refusals.entry(refusal.site.clone()).or_insert_with(|| chain(&refusal.error));
        }
        known.arrived(written.entry, catalog::slots(&table))?;
        done.stripes += 1;
        done.pack_bytes += pack_bytes;
    }
    Ok(done)
}
