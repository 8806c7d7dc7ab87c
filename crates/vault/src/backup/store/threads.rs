//! The threads behind a chunk store: sealers, one packer, one that codes, one that writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use blockhouse_pipeline::chunk::{ChunkRef, SealedChunk, seal_chunk_into};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::Compressor;
use blockhouse_pipeline::pack::{Pack, PackBuilder, PackNonces, Table};
use blockhouse_pipeline::stripe::{Stripe, StripeSigner, build_stripe};
use blockhouse_sites::SiteName;
use blockhouse_types::Code;
use blockhouse_types::limits::{CHUNK_MAX, MIB};
use crossbeam_channel::{Receiver, Sender, bounded};
use rand::Rng;
use tokio::runtime::Handle;

use super::{Known, StoreError, StoreKeys};
use crate::catalog;
use crate::chain::chain;
use crate::stripes::StripeStore;

/// How long packs grow at most. Less than half of what the format allows: three are in memory at a time, see S3 of the store.
const PACK_LIMIT: usize = 24 * MIB;
/// How long a pack is with its parity at most, whatever the code: what 24 MiB become under 4+2 and 6+3.
const CODED_LIMIT: usize = 36 * MIB;
/// Any chunk fits into an empty pack that may grow so long. Only codes with 18 shards and more for each of data may pass [`CODED_LIMIT`] by it.
const PACK_LEAST: usize = 2 * CHUNK_MAX;
/// Chunks between the walk and the sealers, and between the sealers and the packer: at 128 KiB each, 4 MiB a queue.
const QUEUE: usize = 32;

/// A chunk that is nowhere yet.
#[derive(Debug)]
struct Fresh {
    reference: ChunkRef,
    plain: Vec<u8>,
}

/// A pack that became a stripe.
#[derive(Debug)]
struct Coded {
    stripe: Stripe,
    table: Table,
    pack_bytes: u64,
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
    coder: JoinHandle<Result<(), StoreError>>,
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
        // No room: a full pack waits until the one before it is coded, and that until the one before it is written.
        let (pack_out, packs) = bounded::<Pack>(0);
        let (stripe_out, stripes_in) = bounded::<Coded>(0);
        // Memory of packs that were written, for those to come.
        let (spare_pack_out, spare_packs) = bounded::<Vec<u8>>(1);
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
        let packer = spawn("pack", move || pack(&packer_keys, &sealed, (&pack_out, &spare_packs), &spare_sealed_out))?;
        let coder_keys = Arc::clone(keys);
        let coder = spawn("code", move || code(&coder_keys, &packs, &stripe_out))?;
        let (known, runtime) = (Arc::clone(known), Handle::current());
        let writer = spawn("write", move || write(&known, &stripes, &runtime, (&stripes_in, &spare_pack_out)))?;
        Ok(Self { input, spare, sealers, packer, coder, writer })
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
        let (packed, coded) = (join(self.packer), join(self.coder));
        let written = join(self.writer)?;
        coded?;
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

/// How long the packs of a code grow: as long as n runs of them are no longer than [`CODED_LIMIT`].
fn pack_limit(code: Code) -> usize {
    (CODED_LIMIT / code.shards() * code.data()).clamp(PACK_LEAST, PACK_LIMIT)
}

fn pack(
    keys: &StoreKeys,
    sealed: &Receiver<SealedChunk>,
    (out, spare): (&Sender<Pack>, &Receiver<Vec<u8>>),
    used: &Sender<Vec<u8>>,
) -> Result<(), StoreError> {
    let mut random = rand::rng();
    let mut finish = |builder: PackBuilder| -> Result<(), StoreError> {
        let pack = builder.finish(&keys.pack, PackNonces::random(&mut random))?;
        out.send(pack).map_err(|_| StoreError::Stopped)
    };
    let begin = || PackBuilder::in_room(spare.try_recv().unwrap_or_default(), pack_limit(keys.code));
    let mut growing: Option<PackBuilder> = None;
    for chunk in sealed {
        if let Some(full) = growing.take_if(|builder| !builder.would_fit(chunk.bytes.len())) {
            finish(full)?;
        }
        growing.get_or_insert_with(begin).push(&chunk)?;
        let _ = used.try_send(chunk.bytes);
    }
    growing.map_or(Ok(()), finish)
}

fn code(keys: &StoreKeys, packs: &Receiver<Pack>, out: &Sender<Coded>) -> Result<(), StoreError> {
    let coder = Coder::new(keys.code);
    let signer = StripeSigner { vault: keys.vault, session: keys.session, account: &keys.writer };
    for pack in packs {
        let (bytes, table) = pack.into_parts();
        let pack_bytes = bytes.len() as u64;
        let stripe = build_stripe(&coder, signer, bytes)?;
        out.send(Coded { stripe, table, pack_bytes }).map_err(|_| StoreError::Stopped)?;
    }
    Ok(())
}

fn write(
    known: &Known,
    stripes: &StripeStore,
    runtime: &Handle,
    (coded, used): (&Receiver<Coded>, &Sender<Vec<u8>>),
) -> Result<Written, StoreError> {
    let mut done = Written::default();
    for Coded { stripe, table, pack_bytes } in coded {
        let room = stripe.room();
        let written = runtime.block_on(stripes.write(stripe))?;
        let _ = used.try_send(room.take());
        for refusal in written.refused {
            done.refusals.entry(refusal.site.clone()).or_insert_with(|| chain(&refusal.error));
        }
        known.arrived(written.entry, catalog::slots(&table))?;
        done.stripes += 1;
        done.pack_bytes += pack_bytes;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::seal::SEAL_OVERHEAD;

    fn limit(code: &str) -> usize {
        pack_limit(code.parse().unwrap())
    }

    #[test]
    fn packs_are_as_long_as_their_parity_lets_them() {
        for (code, expected) in [("4+2", 24), ("6+3", 24), ("1+0", 24), ("1+1", 18), ("1+2", 12), ("16+4", 24)] {
            assert_eq!(limit(code), expected * MIB, "{code}");
        }
        // 21.6 MiB: whole bytes for each run.
        assert_eq!(limit("3+2"), 22_649_241);
    }

    /// All codes: what is coded is within its limit, or packs are as short as they can be, and any chunk fits into one.
    #[test]
    fn no_code_takes_more_memory_than_it_must() {
        let codes = (1..=255).flat_map(|data| (0..=255 - data).map(move |parity| Code::try_new(data, parity).unwrap()));
        for code in codes {
            let limit = pack_limit(code);
            let length = limit.div_ceil(code.data()) * code.shards();
            let extreme = limit == PACK_LEAST && code.shards() >= 18 * code.data();
            assert!(length <= CODED_LIMIT || extreme, "{code} {length}");
            assert!((PACK_LEAST..=PACK_LIMIT).contains(&limit), "{code} {limit}");
        }
        assert!(PackBuilder::with_limit(limit("1+254")).would_fit(CHUNK_MAX + SEAL_OVERHEAD));
    }
}
