//! The index of a large vault: made as backups make it, then opened and asked.
//!
//! ```text
//! cargo bench --profile ci --package xtask --bench index -- [--out FILE] [--chunks N] FOLDER
//! ```
//!
//! - **Owns** the sizes: ten million chunks in stripes as a backup of 128 KiB pieces fills them.
//! - **Does not** know the layout of the index: it adds, joins and asks as `blockhouse-vault` does.
//!
//! Two processes, so that the memory of making an index does not hide that of using it: this program calls itself.
#![expect(clippy::print_stdout, reason = "a program that reports to its terminal")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blockhouse_crypto::hash;
use blockhouse_types::{Account, ChunkId, Code, StripeId};
use blockhouse_vault::index::{Index, Slot, StripeEntry};
use nix::time::{ClockId, clock_gettime};

const CHUNKS: u64 = 10_000_000;
/// What a pack of 32 MiB holds of chunks of 100 KiB, sealed.
const OF_A_STRIPE: u64 = 320;
const ASKED: u64 = 200_000;

fn main() -> Result<()> {
    let (mut out, mut chunks, mut ask, mut folder) = (None, CHUNKS, false, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            // What `cargo bench` itself adds.
            Some("--bench") => {}
            Some("--ask") => ask = true,
            Some("--out") => out = Some(PathBuf::from(words.next().context("`--out` needs a value")?)),
            Some("--chunks") => {
                let number = words.next().context("`--chunks` needs a value")?;
                chunks = number.to_str().context("`--chunks` needs a number")?.parse()?;
            }
            Some(flag) if flag.starts_with('-') => bail!("`{flag}` is not expected here"),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    let folder = folder.context("no folder was given")?;
    if ask {
        return report(&asked(&folder, chunks)?, out.as_deref());
    }
    ensure!(!folder.exists(), "{} is there already", folder.display());
    report(&made(&folder, chunks)?, out.as_deref())?;
    let mut again = Command::new(std::env::current_exe()?);
    again.arg("--ask").arg("--chunks").arg(chunks.to_string()).arg(&folder);
    if let Some(out) = &out {
        again.arg("--out").arg(out);
    }
    ensure!(again.status()?.success(), "the index could not be asked");
    Ok(())
}

/// Adds stripe after stripe, as one long first backup does; the next one joins what is left when it begins.
fn made(folder: &Path, chunks: u64) -> Result<serde_json::Value> {
    let (started, cpu) = (Instant::now(), cpu()?);
    let mut index = Index::open(folder)?;
    for stripe in 0..chunks.div_ceil(OF_A_STRIPE) {
        let first = stripe * OF_A_STRIPE;
        let slots = (first..chunks.min(first + OF_A_STRIPE)).map(|number| (chunk(number), slot(number - first)));
        index.add(entry(stripe)?, slots.collect())?;
    }
    index.compact()?;
    let bytes = bytes_below(folder)?;
    Ok(serde_json::json!({
        "type": "index", "what": "made", "chunks": chunks,
        "bytes_on_disk": bytes, "bytes_a_chunk": ratio(bytes, chunks),
        "cpu_seconds": self::cpu()?.saturating_sub(cpu).as_secs_f64(), "wall_seconds": started.elapsed().as_secs_f64(),
        "peak_mib": peak_mib()?,
    }))
}

/// Opens the index and looks up chunks that are there and chunks that are not.
fn asked(folder: &Path, chunks: u64) -> Result<serde_json::Value> {
    let started = cpu()?;
    let index = Index::open(folder)?;
    let opened = cpu()?.saturating_sub(started);
    let known = a_look_up(&index, |number| chunk(number * 7919 % chunks), true)?;
    let unknown = a_look_up(&index, |number| chunk(chunks + number), false)?;
    Ok(serde_json::json!({
        "type": "index", "what": "asked", "chunks": chunks, "open_cpu_ms": opened.as_secs_f64() * 1e3,
        "known_cpu_us": known, "unknown_cpu_us": unknown, "peak_mib": peak_mib()?,
    }))
}

/// CPU microseconds of one look-up.
fn a_look_up(index: &Index, id: impl Fn(u64) -> ChunkId, expected: bool) -> Result<f64> {
    let ids: Vec<ChunkId> = (0..ASKED).map(id).collect();
    let started = cpu()?;
    let found = ids.iter().filter(|id| !index.locate(id).is_empty()).count();
    let took = cpu()?.saturating_sub(started);
    ensure!(found == if expected { ids.len() } else { 0 }, "{found} of {} chunks were found", ids.len());
    Ok(ratio(u64::try_from(took.as_nanos())?, ASKED) / 1e3)
}

fn report(result: &serde_json::Value, out: Option<&Path>) -> Result<()> {
    println!("{result}");
    let Some(out) = out else { return Ok(()) };
    let mut file = File::options().append(true).create(true).open(out)?;
    writeln!(file, "{result}").with_context(|| format!("could not write {}", out.display()))
}

fn chunk(number: u64) -> ChunkId {
    ChunkId::new(hash::content(&number.to_le_bytes()))
}

fn slot(number: u64) -> Slot {
    let offset = u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(100 << 10);
    Slot { codec: 1, offset, sealed_len: 100 << 10, plain_len: 128 << 10 }
}

fn entry(number: u64) -> Result<StripeEntry> {
    let id = StripeId::new(hash::hash("blockhouse bench stripe", &number.to_le_bytes()));
    Ok(StripeEntry { id, code: "4+2".parse::<Code>()?, pack_len: 32 << 20, writer: Account::new([1; 20]) })
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        total += entry?.metadata()?.len();
    }
    Ok(total)
}

/// The most memory that this process had.
fn peak_mib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("could not ask for the memory of this process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells no peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("could not read the clock of the process")?.into())
}

#[expect(clippy::cast_precision_loss, reason = "numbers far below 2^53")]
fn ratio(of: u64, by: u64) -> f64 {
    of as f64 / by as f64
}
