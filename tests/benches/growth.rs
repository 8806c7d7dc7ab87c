//! A node as its ledger grows: how soon a commit is final, and how long the node takes to start, at each of some numbers of snapshots.
//!
//! A network of one validator, since it grows fastest and waits for nobody: what others would take comes on top and is the same at every size. All
//! commits are real calls over JSON-RPC. A start is from the call of `blockhouse node run` until the node answers; it is measured after the node
//! was asked to end, and after it was killed while commits came in.
//!
//! `cargo bench --profile release --workspace --bench growth -- [--sizes 10000,100000,1000000] [--seconds N] [--rate N] [--dir DIR]`. A million takes
//! half an hour and 20 GiB.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what goes wrong ends the measurement"
)]

#[path = "support/load.rs"]
mod load;
#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockhouse_tests::World;
use blockhouse_tests::network::{Network, Node, RunningNode};
use load::{Load, at, waits};
use writers::enrol;

const WRITERS: u8 = 40;
const SESSIONS: usize = 5;
/// Commits between two words of how far it is.
const STEP: usize = 10_000;
const STARTS: usize = 9;
/// Commits before each of them.
const FEW: usize = 50;

struct Options {
    sizes: Vec<usize>,
    seconds: usize,
    rate: usize,
    /// Where the ledger is; it is removed in the end unless it is named.
    dir: Option<PathBuf>,
}

fn main() {
    let options = options();
    let world = World::empty();
    let dir = options.dir.clone().unwrap_or_else(|| world.path("ledger"));
    let mut network = Network::start(&dir, 1, "--signing committee");
    let (writers, node) = (enrol(&dir, network.node(0), WRITERS), network.node(0).clone());
    network.end();
    ask_without_end(&node);
    let mut grown = Grown {
        running: Some(node.run_again()),
        load: Load::begin(std::slice::from_ref(&node), writers, SESSIONS),
        node,
        commits: 0,
    };
    println!("\n| snapshots | final after, p50 | p99 | start, p50 | after a kill, p50 | folder |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for size in options.sizes {
        grown.grow(size);
        let waits = waits(&grown.send(options.seconds * options.rate, Some(options.rate)));
        let (p50, p99) = (millis(at(&waits, 50)), millis(at(&waits, 99)));
        let [stopped, killed] = [false, true].map(|kill| millis(grown.start(kill)));
        println!("| {size} | {p50} | {p99} | {stopped} | {killed} | {} MiB |", bytes(&dir) >> 20);
    }
    grown.load.rest();
}

/// A node, and those who write to its ledger.
struct Grown {
    node: Node,
    running: Option<RunningNode>,
    load: Load,
    commits: usize,
}

impl Grown {
    fn send(&mut self, count: usize, rate: Option<usize>) -> Vec<(Instant, Instant)> {
        self.commits += count;
        self.load.send(std::slice::from_ref(&self.node), count, rate)
    }

    fn grow(&mut self, size: usize) {
        let begun = Instant::now();
        while self.commits < size {
            self.send(STEP.min(size - self.commits), None);
            eprintln!("{} snapshots after {} s", self.commits, begun.elapsed().as_secs());
        }
    }

    /// How long a start takes after the node was asked to end, or was killed with blocks that it had not made durable yet.
    fn start(&mut self, kill: bool) -> Duration {
        let mut times: Vec<_> = (0..STARTS).map(|_| self.start_once(kill)).collect();
        times.sort_unstable();
        at(&times, 50)
    }

    fn start_once(&mut self, kill: bool) -> Duration {
        self.send(FEW, None);
        self.load.rest();
        let running = self.running.take().unwrap();
        if kill {
            drop(running);
        } else {
            running.stop();
        }
        let begun = Instant::now();
        self.running = Some(self.node.run_again());
        let time = begun.elapsed();
        self.load.go_on(std::slice::from_ref(&self.node));
        time
    }
}

/// Who grows the ledger is one client: its bound would be what is measured.
fn ask_without_end(node: &Node) {
    let config = node.dir.join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let freed = text.replace("[rpc]\n", "[rpc]\ncalls_per_second = 1000000\n");
    assert_ne!(freed, text);
    std::fs::write(&config, freed).unwrap();
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

/// What the files of a folder hold.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            found if found.is_dir() => bytes(&entry.path()),
            found => found.blocks() * 512,
        })
        .sum()
}

fn options() -> Options {
    let mut options = Options { sizes: vec![10_000, 100_000, 1_000_000], seconds: 20, rate: 100, dir: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--sizes" => options.sizes = value().split(',').map(|size| size.parse().unwrap()).collect(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--rate" => options.rate = value().parse().unwrap(),
            "--dir" => options.dir = Some(value().into()),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}
