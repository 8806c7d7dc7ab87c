//! What a ledger costs as it grows: real commits of snapshots, executed and made durable as a node does it, 16 blocks at a time, without the
//! agreement of others, which does not know how many there are. At each size: how long a block of one commit takes, of a hundred, and a start.
//!
//! `cargo bench --profile ci --workspace --bench size -- [--snapshots N]`: sizes are powers of ten from 10,000 up to N.
//!
//! A million takes some half an hour on a quiet machine. `--grow FOLDER --snapshots N` only makes a ledger of that size, or goes on with one of less;
//! `--measure FOLDER` measures it as it is there, for less than a minute.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what goes wrong ends the measurement"
)]

#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use blockhouse_consensus::tuning::SYNC_BLOCKS;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::network::{Chain, GAS_LIMIT, Pass};
use blockhouse_homes::store::Access;
use blockhouse_homes::{Embedded, Store};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::{BlockPlace, BlockTime, Certificate, Executed, Fork, Genesis};
use blockhouse_types::{RecipientSetHash, VaultId};
use serde_json::{Value, json};
use writers::{Signed, Writer, founding};

const WRITERS: u8 = 40;
/// Sessions that each writer keeps open.
const SESSIONS: usize = 5;
/// How many commits a block has while the ledger grows.
const FULL: usize = 100;
/// The same of one that is only to become large.
const GROWING: usize = 200;
/// Blocks of one commit that are measured: many times what a start examines.
const ROUNDS: usize = 256;
const STARTS: usize = 9;

fn main() {
    let options = options();
    match (&options.grow, &options.measure) {
        (Some(folder), _) => Ledger::of(folder).grow(options.snapshots),
        (None, Some(folder)) => {
            head();
            Ledger::of(folder).measure();
        }
        (None, None) => {
            let folder = tempfile::tempdir().unwrap();
            let mut ledger = Ledger::of(folder.path());
            head();
            let sizes = std::iter::successors(Some(10_000), |size| Some(size * 10));
            for size in sizes.take_while(|size| *size <= options.snapshots) {
                ledger.grow(size);
                ledger.measure();
            }
        }
    }
}

fn head() {
    println!("\nBlocks: by the clock (p50, p99); on the processor, bytes written and nodes of tries changed (mean).\n");
    println!("| snapshots | blocks of | p50 | p99 | processor | written | nodes | start | after a kill | file |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    at(values, 50)
}

/// What so many of a hundred are not above.
fn at<T: Ord + Copy>(values: impl Iterator<Item = T>, share: usize) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[(values.len() - 1) * share / 100]
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// What a block cost.
#[derive(Clone, Copy)]
struct Cost {
    clock: Duration,
    processor: Duration,
    written: u64,
    nodes: usize,
}

impl Cost {
    /// The columns of some blocks.
    fn columns(all: &[Self]) -> String {
        let costs = || all.iter().copied();
        let count = u32::try_from(all.len()).unwrap();
        let clock = |share| millis(at(costs().map(|cost| cost.clock), share));
        let processor = millis(costs().map(|cost| cost.processor).sum::<Duration>() / count);
        let written = (costs().map(|cost| cost.written).sum::<u64>() / u64::from(count)) >> 10;
        let nodes = costs().map(|cost| cost.nodes).sum::<usize>() / all.len();
        format!("{} | {} | {processor} | {written} KiB | {nodes}", clock(50), clock(99))
    }
}

/// How long this thread was on a processor, and how much it wrote; a busy machine changes neither much.
fn used() -> (Duration, u64) {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let processor = schedule.split_whitespace().next().unwrap().parse().unwrap();
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap();
    (Duration::from_nanos(processor), written)
}

struct Ledger {
    folder: PathBuf,
    key: LedgerKey,
    genesis: Genesis,
    chain: Option<Chain>,
    writers: Vec<Writer>,
    /// Sessions that are open, each with the place of its writer.
    sessions: VecDeque<(usize, B256)>,
    commits: usize,
    millis: u64,
}

impl Ledger {
    /// The one in that folder, or a new one.
    fn of(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let owner = AccountSecret::try_new(&Secret::new([200; 32])).unwrap();
        let key = LedgerKey::from_seed(&Secret::new([9; 32]));
        let genesis = Genesis {
            vault_id: VaultId::new([1; 32]),
            chain_id: (1 << 32) + 7,
            owner: owner.account(),
            recovery: Vec::new(),
            ledger_key: key.public(),
            time: 1_700_000_000,
            gas_limit: GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new([5; 32]),
            governance: None,
        };
        let (folder, millis) = (folder.to_owned(), genesis.time * 1000);
        let mut ledger = Self {
            writers: (1..=WRITERS).map(|number| Writer::new(number, &genesis)).collect(),
            folder,
            key,
            genesis,
            chain: None,
            sessions: VecDeque::new(),
            commits: 0,
            millis,
        };
        if ledger.path().exists() {
            ledger.go_on();
        } else {
            ledger.begin(&owner);
        }
        ledger
    }

    fn path(&self) -> PathBuf {
        self.folder.join("ledger.redb")
    }

    fn begin(&mut self, owner: &AccountSecret) {
        Embedded::create(&self.path(), &self.genesis, &self.key).unwrap();
        self.start_again();
        for call in founding(&self.genesis, owner, WRITERS) {
            self.record(&[call]);
        }
        for _ in 0..SESSIONS {
            let opening: Vec<_> = self.writers.iter_mut().map(Writer::open).collect();
            self.record(&opening);
        }
    }

    /// What is not on the ledger of whoever writes to it stands beside it.
    fn go_on(&mut self) {
        let notes: Value = serde_json::from_slice(&std::fs::read(self.folder.join("size.json")).unwrap()).unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        self.commits = usize::try_from(number(&notes["commits"])).unwrap();
        self.millis = number(&notes["millis"]);
        for (writer, counts) in self.writers.iter_mut().zip(notes["writers"].as_array().unwrap()) {
            writer.go_on(number(&counts[0]), number(&counts[1]));
        }
        let sessions = notes["sessions"].as_array().unwrap().iter();
        self.sessions = sessions
            .map(|pair| (usize::try_from(number(&pair[0])).unwrap(), pair[1].as_str().unwrap().parse().unwrap()))
            .collect();
        self.start_again();
    }

    fn note(&self) {
        let writers: Vec<_> = self.writers.iter().map(Writer::counts).collect();
        let notes =
            json!({ "commits": self.commits, "millis": self.millis, "writers": writers, "sessions": self.sessions });
        std::fs::write(self.folder.join("size.json"), notes.to_string()).unwrap();
    }

    /// Until there are so many snapshots.
    fn grow(&mut self, size: usize) {
        let begun = Instant::now();
        while self.commits < size {
            self.block(GROWING);
            if self.commits / 10_000 != (self.commits - GROWING) / 10_000 {
                let disk = self.path().metadata().unwrap().len() >> 20;
                eprintln!("{} snapshots, {disk} MiB, {:.0} s", self.commits, begun.elapsed().as_secs_f64());
            }
        }
        self.note();
    }

    /// The rows of its size.
    fn measure(&mut self) {
        let size = self.commits;
        // First, so that the last blocks are alike whatever the size is.
        let single: Vec<_> = (0..ROUNDS).map(|_| self.block(1)).collect();
        let clean = median((0..STARTS).map(|_| self.start_again()));
        let killed = median((0..STARTS).map(|_| self.start_killed()));
        let full: Vec<_> = (0..ROUNDS / 20).map(|_| self.block(FULL)).collect();
        let file = self.path().metadata().unwrap().len() >> 20;
        let (clean, killed) = (millis(clean), millis(killed));
        println!("| {size} | 1 commit | {} | {clean} | {killed} | {file} MiB |", Cost::columns(&single));
        println!("| | {FULL} commits | {} | | | |", Cost::columns(&full));
        self.note();
    }

    /// Opens the store anew, as a node does that starts, up to where it could execute a block.
    fn start_again(&mut self) -> Duration {
        self.chain = None;
        let started = Instant::now();
        let read = Store::open(&self.path(), Access::Read, Duration::ZERO, None).unwrap();
        let mut recent = Pass::recent(&read).unwrap();
        while recent.step(&read).unwrap() {}
        drop(read);
        let mut store = Store::open(&self.path(), Access::Watched, Duration::ZERO, None).unwrap();
        store.index_events().unwrap();
        self.chain = Some(Chain::open(store, self.key.public()).unwrap());
        started.elapsed()
    }

    /// The same after a kill: redb's mark of a file that is open is set by hand, which is all that a closing takes back.
    fn start_killed(&mut self) -> Duration {
        self.block(1);
        self.chain = None;
        let file = OpenOptions::new().read(true).write(true).open(self.path()).unwrap();
        let mut flags = [0];
        file.read_exact_at(&mut flags, 9).unwrap();
        file.write_all_at(&[flags[0] | 2], 9).unwrap();
        drop(file);
        self.start_again()
    }

    /// A block of so many commits, each with the opening of the session after it; gives what it cost to make and record. Every sixteenth makes those
    /// before it durable too.
    fn block(&mut self, commits: usize) -> Cost {
        let mut calls = Vec::new();
        for _ in 0..commits {
            let (writer, session) = self.sessions.pop_front().unwrap();
            let writer = &mut self.writers[writer];
            calls.extend([writer.commit(session), writer.open()]);
        }
        self.commits += commits;
        self.record(&calls)
    }

    fn record(&mut self, calls: &[Signed]) -> Cost {
        let decode = |call: &Signed| {
            TxEnvelope::decode_2718_exact(&hex::decode(call.raw.trim_start_matches("0x")).unwrap()).unwrap()
        };
        let candidates: Vec<_> = calls.iter().map(decode).collect();
        self.millis += 100;
        let (chain, before, started) = (self.chain.as_ref().unwrap(), used(), Instant::now());
        let made = chain.propose(&[], &candidates, BlockTime::of_millis(self.millis)).unwrap();
        let executed = made.executed;
        let (chain_id, height) = (self.genesis.chain_id, executed.block.header.number);
        let certificate = Certificate::solo(&self.key, &BlockPlace { chain_id, height, hash: executed.hash });
        chain.finalize(&executed.block, &certificate).unwrap();
        if height.is_multiple_of(SYNC_BLOCKS as u64) {
            chain.sync().unwrap();
        }
        let (clock, after, nodes) = (started.elapsed(), used(), executed.changes.nodes.len());
        self.take(&executed, calls.len());
        Cost { clock, processor: after.0.saturating_sub(before.0), written: after.1 - before.1, nodes }
    }

    fn take(&mut self, executed: &Executed, calls: usize) {
        assert!(executed.receipts.len() >= calls, "a call was left out");
        for receipt in executed.receipts.iter().take(calls) {
            assert!(receipt.status(), "a call reverted");
            for event in receipt.logs().iter().filter_map(|log| Vault::SessionOpened::decode_log(log).ok()) {
                self.sessions.push_back((usize::from(writers::number(&event.writer).unwrap() - 1), event.session));
            }
        }
    }
}

#[derive(Default)]
struct Options {
    snapshots: usize,
    grow: Option<PathBuf>,
    measure: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options { snapshots: 100_000, ..Options::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--snapshots" => options.snapshots = value().parse().unwrap(),
            "--grow" => options.grow = Some(value().into()),
            "--measure" => options.measure = Some(value().into()),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}
