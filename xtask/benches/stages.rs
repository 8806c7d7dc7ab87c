//! What each stage of the pipeline costs on one core, their sum, and the whole pipeline beside it.
//!
//! ```text
//! cargo bench --profile ci --package xtask --bench stages -- [--out FILE] INPUT…
//! ```
//!
//! - **Owns** the order of the stages and what each is fed: exactly what the stage before it gave.
//! - **Does not** make data, nor measure files other than its input and shards beside it: `./x bench` passes files of its corpora.
//!
//! CPU seconds of the process are what is measured, not wall seconds; nothing here starts a thread. Every stage runs
//! some times and the fastest run counts: what else the machine does only ever adds. The whole leaves out reading, the hash of content and writing. If it costs clearly more
//! than the sum of the others, the stages get in each other's way (memory, caches); less, and a stage is measured wrong.
#![expect(clippy::print_stdout, reason = "a program that reports to its terminal")]

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blockhouse_crypto::hash::ContentHasher;
use blockhouse_crypto::seal::{self, NONCE_LEN};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::chunk::{ChunkRef, SealedChunk, seal_chunk};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::{Compressor, DEFAULT_LEVEL};
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_pipeline::domain::{DomainKey, DomainKind};
use blockhouse_pipeline::pack::{PackBuilder, PackKeys, PackNonces};
use blockhouse_pipeline::shard::UncheckedShard;
use blockhouse_pipeline::stripe::{ShardFile, Stripe, StripeSigner, build_stripe};
use blockhouse_types::{Code, SessionId, VaultId};
use nix::time::{ClockId, clock_gettime};

/// How often each stage runs.
const RUNS: usize = 3;
/// What packs grow to; smaller than in use, so that small inputs make several.
const PACK_BYTES: usize = 16 << 20;
/// Nonces stand for random ones here: what is sealed is thrown away.
const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];
const VAULT: VaultId = VaultId::new([1; 32]);

fn main() -> Result<()> {
    let mut out = None;
    let mut inputs = Vec::new();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            // What `cargo bench` itself adds.
            Some("--bench") => {}
            Some("--out") => out = Some(PathBuf::from(words.next().context("`--out` needs a value")?)),
            Some(flag) if flag.starts_with('-') => bail!("`{flag}` is not expected here"),
            _ => inputs.push(PathBuf::from(word)),
        }
    }
    ensure!(!inputs.is_empty(), "no input was given");
    for input in inputs {
        let plain = std::fs::read(&input).with_context(|| format!("could not read {}", input.display()))?;
        let measured = Measured { input: plain.len(), stages: Bench::new()?.run(&plain, &input)? };
        let name = input.file_name().unwrap_or_default().display().to_string();
        measured.print(&name);
        if let Some(out) = &out {
            measured.write(&name, out)?;
        }
    }
    Ok(())
}

/// What the stages share.
struct Bench {
    cutter: Cutter,
    domain: DomainKey,
    pack_keys: PackKeys,
    coder: Coder,
    account: AccountSecret,
}

impl Bench {
    fn new() -> Result<Self> {
        let secret = Secret::new([7; 32]);
        Ok(Self {
            cutter: Cutter::new(7),
            domain: DomainKey::new(DomainKind::Writer, &secret),
            pack_keys: PackKeys::new(&secret),
            coder: Coder::new("4+2".parse::<Code>()?),
            account: AccountSecret::try_new(&secret)?,
        })
    }

    /// Runs stage after stage, each on what the one before gave; the whole pipeline at last.
    fn run(&self, plain: &[u8], input: &Path) -> Result<Vec<Stage>> {
        let chunks: Vec<_> = self.cutter.chunks(Grain::Usual, plain).collect();
        let mut stages = vec![stage("read", plain.len(), || read(input))?];
        stages.push(stage("hash: content", plain.len(), || Ok(content_hash(plain)))?);
        stages.push(stage("cut", plain.len(), || Ok(self.cutter.chunks(Grain::Usual, plain).count()))?);
        let identify = || chunks.iter().map(|chunk| Ok(ChunkRef::of(&self.domain, chunk)?)).collect::<Result<Vec<_>>>();
        stages.push(stage("hash: id and key", plain.len(), identify)?);
        let references = identify()?;

        stages.push(stage("compress", plain.len(), || compress(&chunks, <[u8]>::len))?);
        let bodies = compress(&chunks, <[u8]>::to_vec)?;
        let body_bytes = bodies.iter().map(Vec::len).sum();
        let seal_all = || {
            let pairs = references.iter().zip(&bodies);
            Ok(pairs.map(|(reference, body)| seal::seal(&reference.key, NONCE, &[0; 6], body).len()).sum::<usize>())
        };
        stages.push(stage("seal", body_bytes, seal_all)?);

        let sealed = seal_chunks(&references, &chunks)?;
        stages.push(stage("pack", body_bytes, || self.pack(&sealed))?);
        let packs = self.pack(&sealed)?;
        let padded: Vec<_> = packs.iter().map(|pack| padded(pack, self.coder.code())).collect();
        let pack_bytes = padded.iter().map(Vec::len).sum();
        let code_all = || padded.iter().map(|pack| parity(&self.coder, pack)).collect::<Result<Vec<_>>>();
        stages.push(stage("code 4+2", pack_bytes, code_all)?);

        let stripes = self.stripes(packs)?;
        let shards: Vec<_> = stripes.iter().flat_map(|stripe| &stripe.shards).map(whole).collect();
        let shard_bytes = stripes.iter().flat_map(|stripe| &stripe.shards).map(ShardFile::len).sum();
        let verify_all = || {
            for (name, shard) in &shards {
                UncheckedShard::new(shard.clone()).verify(&VAULT, *name)?;
            }
            Ok(())
        };
        stages.push(stage("shard trees", shard_bytes, verify_all)?);
        let folder = input.with_extension("shards");
        stages.push(stage("write and sync", shard_bytes, || write(&folder, &stripes))?);
        stages.push(stage(WHOLE, plain.len(), || self.whole(plain))?);
        Ok(stages)
    }

    fn pack(&self, sealed: &[SealedChunk]) -> Result<Vec<Vec<u8>>> {
        let mut packs = Vec::new();
        let mut builder = PackBuilder::with_limit(PACK_BYTES);
        for chunk in sealed {
            if !builder.would_fit(chunk.bytes.len()) {
                packs.push(self.close(builder)?);
                builder = PackBuilder::with_limit(PACK_BYTES);
            }
            builder.push(chunk)?;
        }
        packs.push(self.close(builder)?);
        Ok(packs)
    }

    fn close(&self, builder: PackBuilder) -> Result<Vec<u8>> {
        let nonces = PackNonces { table: [1; NONCE_LEN], trailer: [2; NONCE_LEN] };
        Ok(builder.finish(&self.pack_keys, nonces)?.into_parts().0)
    }

    fn stripes(&self, packs: Vec<Vec<u8>>) -> Result<Vec<Stripe>> {
        let signer = StripeSigner { vault: VAULT, session: SessionId::new([2; 32]), account: &self.account };
        packs.into_iter().map(|pack| Ok(build_stripe(&self.coder, signer, pack)?)).collect()
    }

    /// From bytes to shards, as a backup does it but for reading and writing.
    fn whole(&self, plain: &[u8]) -> Result<usize> {
        let mut compressor = Compressor::try_new(DEFAULT_LEVEL)?;
        let mut builder = PackBuilder::with_limit(PACK_BYTES);
        let mut shards = 0;
        for chunk in self.cutter.chunks(Grain::Usual, plain) {
            let sealed = seal_chunk(&mut compressor, &ChunkRef::of(&self.domain, chunk)?, NONCE, chunk)?;
            if !builder.would_fit(sealed.bytes.len()) {
                let full = std::mem::replace(&mut builder, PackBuilder::with_limit(PACK_BYTES));
                shards += self.stripes(vec![self.close(full)?])?.len();
            }
            builder.push(&sealed)?;
        }
        Ok(shards + self.stripes(vec![self.close(builder)?])?.len())
    }
}

/// As the walk reads: a mebibyte at a time.
fn read(input: &Path) -> Result<usize> {
    let (mut file, mut buffer, mut total) = (File::open(input)?, vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            length => total += length,
        }
    }
}

fn content_hash(plain: &[u8]) -> [u8; 32] {
    let mut hasher = ContentHasher::new();
    plain.chunks(1 << 20).for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// Every shard as a file of its own, synced; the folder is made anew each time.
fn write(folder: &Path, stripes: &[Stripe]) -> Result<()> {
    std::fs::create_dir(folder)?;
    for shard in stripes.iter().flat_map(|stripe| &stripe.shards) {
        let mut file = File::create_new(folder.join(shard.name.to_string().replace('/', "-")))?;
        file.write_all(&shard.prefix)?;
        file.write_all(&shard.payload)?;
        file.sync_all()?;
    }
    Ok(std::fs::remove_dir_all(folder)?)
}

fn compress<T>(chunks: &[&[u8]], take: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
    let (mut compressor, mut body) = (Compressor::try_new(DEFAULT_LEVEL)?, Vec::new());
    let mut compress = |chunk: &&[u8]| {
        body.clear();
        compressor.compress_into(chunk, &mut body)?;
        Ok(take(&body))
    };
    chunks.iter().map(&mut compress).collect()
}

fn seal_chunks(references: &[ChunkRef], chunks: &[&[u8]]) -> Result<Vec<SealedChunk>> {
    let mut compressor = Compressor::try_new(DEFAULT_LEVEL)?;
    let pairs = references.iter().zip(chunks);
    pairs.map(|(reference, chunk)| Ok(seal_chunk(&mut compressor, reference, NONCE, chunk)?)).collect()
}

fn padded(pack: &[u8], code: Code) -> Vec<u8> {
    let mut padded = pack.to_vec();
    padded.resize(pack.len().next_multiple_of(code.data()), 0);
    padded
}

fn parity(coder: &Coder, padded: &[u8]) -> Result<Vec<u8>> {
    let mut parity = vec![0; padded.len() / coder.code().data() * coder.code().parity()];
    coder.parity_into(padded, &mut parity)?;
    Ok(parity)
}

fn whole(shard: &ShardFile) -> (blockhouse_pipeline::shard::ShardName, Vec<u8>) {
    (shard.name, shard.to_vec())
}

/// From bytes in memory to shards in memory.
const WHOLE: &str = "whole pipeline";

/// One stage's fastest run.
struct Stage {
    name: &'static str,
    /// Bytes that went into this stage.
    bytes: usize,
    cpu: Duration,
}

fn stage<T>(name: &'static str, bytes: usize, work: impl Fn() -> Result<T>) -> Result<Stage> {
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        let before = cpu()?;
        let made = black_box(work()?);
        fastest = fastest.min(cpu()?.saturating_sub(before));
        drop(made);
    }
    Ok(Stage { name, bytes, cpu: fastest })
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("could not read the clock of the process")?.into())
}

struct Measured {
    /// Bytes of the input.
    input: usize,
    stages: Vec<Stage>,
}

impl Measured {
    fn sum(&self) -> Stage {
        let cpu = self.stages.iter().filter(|stage| stage.name != WHOLE).map(|stage| stage.cpu).sum();
        Stage { name: "sum of the stages", bytes: self.input, cpu }
    }

    fn print(&self, input: &str) {
        println!("\n{input}, {:.1} MiB: on one core", mib(self.input));
        println!("  {:18} {:>8} {:>22}", "stage", "GB/s", "CPU ms per MiB of input");
        let (whole, stages): (Vec<_>, Vec<_>) = self.stages.iter().partition(|stage| stage.name == WHOLE);
        for stage in stages.into_iter().chain([&self.sum()]).chain(whole) {
            println!("  {:18} {:8.2} {:22.2}", stage.name, stage.gigabytes_per_second(), self.cost(stage));
        }
    }

    /// CPU milliseconds per MiB of the input, whatever the stage itself sees: these add up.
    fn cost(&self, stage: &Stage) -> f64 {
        stage.cpu.as_secs_f64() * 1e3 / mib(self.input)
    }

    fn write(&self, input: &str, out: &Path) -> Result<()> {
        let mut file = File::options().append(true).create(true).open(out)?;
        for stage in self.stages.iter().chain([&self.sum()]) {
            let line = serde_json::json!({
                "type": "stage",
                "input": input,
                "stage": stage.name,
                "bytes": stage.bytes,
                "cpu_seconds": stage.cpu.as_secs_f64(),
                "gigabytes_per_second": stage.gigabytes_per_second(),
                "cpu_ms_per_mib_of_input": self.cost(stage),
            });
            writeln!(file, "{line}").with_context(|| format!("could not write {}", out.display()))?;
        }
        Ok(())
    }
}

impl Stage {
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
    fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.cpu.as_secs_f64() / 1e9
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
