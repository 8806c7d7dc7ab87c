//! The threads behind a chunk store: sealers, one packer, one that codes and writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use blockhouse_pipeline::chunk::{ChunkRef, SealedChunk, seal_chunk_into};
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
#[derive(Debug)]
struct Fresh {
    reference: ChunkRef,
    plain: Vec<u8>,
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
    spare: Receiver<Vec<u8>>,
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
        // Buffers on their way back: a chunk in flight needs no new memory once the queues have been full.
        let (spare_out, spare) = bounded::<Vec<u8>>(QUEUE);
        let (spare_sealed_out, spare_sealed) = bounded::<Vec<u8>>(QUEUE);
        // No room: a full pack waits until the one before it is written.
        let (pack_out, packs) = bounded::<Pack>(0);
        let count = thread::available_parallelism().map_or(1, usize::from);
        let mut sealers = Vec::with_capacity(count);
        for _ in 0..count {
            let worker = Sealer {
                compressor: Compressor::try_new(keys.level)?,
                fresh: fresh.clone(),
                out: seal_out.clone(),
                used: spare_out.clone(),
                spare: spare_sealed.clone(),
            };
            sealers.push(spawn("seal", move || worker.run())?);
        }
        let packer_keys = Arc::clone(keys);
        let packer = spawn("pack", move || pack(&packer_keys, &sealed, &pack_out, &spare_sealed_out))?;
        let (keys, known, runtime) = (Arc::clone(keys), Arc::clone(known), Handle::current());
        let writer = spawn("write", move || write(&keys, &known, &stripes, &runtime, &packs))?;
        Ok(Self { input, spare, sealers, packer, writer })
    }

    pub(super) fn send(&self, reference: ChunkRef, bytes: &[u8]) -> Result<(), StoreError> {
        let mut plain = self.spare.try_recv().unwrap_or_default();
        plain.clear();
        plain.extend_from_slice(bytes);
        let fresh = Fresh { reference, plain };
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

/// Compresses and seals what comes.
struct Sealer {
    compressor: Compressor,
    fresh: Receiver<Fresh>,
    out: Sender<SealedChunk>,
    /// Where buffers of plain chunks go back to, and where those of sealed ones come from.
    used: Sender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

impl Sealer {
    fn run(mut self) -> Result<(), StoreError> {
        let mut random = rand::rng();
        for Fresh { reference, plain } in &self.fresh {
            let mut nonce = [0; 12];
            random.fill_bytes(&mut nonce);
            let buffer = self.spare.try_recv().unwrap_or_default();
            let sealed = seal_chunk_into(buffer, &mut self.compressor, &reference, nonce, &plain)?;
            // If there is no room for it, it is freed.
            let _ = self.used.try_send(plain);
            self.out.send(sealed).map_err(|_| StoreError::Stopped)?;
        }
        Ok(())
    }
}

fn pack(
    keys: &StoreKeys,
    sealed: &Receiver<SealedChunk>,
    out: &Sender<Pack>,
    used: &Sender<Vec<u8>>,
) -> Result<(), StoreError> {
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
        let _ = used.try_send(chunk.bytes);
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
