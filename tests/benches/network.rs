//! Four nodes on this machine: how many commits of snapshots a second, how soon each is final, what a node takes.
//!
//! Real contract calls of enrolled writers, handed in over JSON-RPC at all nodes; a commit counts when the first node tells its event, which is of
//! a final block. A commit ends its session, so each is two transactions: to open a session, and the commit once its id is final. In the burst up to
//! 25 commits are one batch of JSON-RPC. All processes and this one share the cores.
//!
//! `cargo bench --profile ci --workspace --bench network -- [--signing committee] [--writers N] [--sessions N] [--seconds N] [--rate N] [--burst N] [--idle SECONDS]
//! [--dead SECONDS] [--anvil]`; with 0 seconds, or a burst of 0, that part is left out. With `--anvil` the same calls are made of one anvil
//! alone after that, which agrees with nobody and syncs nothing, and the ratio is told; it is found where `BLOCKHOUSE_ETHEREUM_TOOLS` says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest of it")]
mod load;
#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use blockhouse_tests::network::{Network, Node};
use blockhouse_tests::{World, anvil};
use load::{Load, at, waits};
use serde_json::json;
use writers::{enrol, enrol_at, genesis};

/// The node that is killed.
const DEAD: usize = 3;
/// After so many seconds a network must have become used to a dead node.
const SETTLING: usize = 10;

struct Options {
    signing: String,
    writers: u8,
    /// How many sessions each writer keeps open; of all writers together the ledger takes 256.
    sessions: usize,
    seconds: usize,
    rate: usize,
    burst: usize,
    idle: u64,
    dead: usize,
    anvil: bool,
}

fn main() {
    let options = options();
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, &format!("--signing {}", options.signing));
    println!("\n{} nodes, signing {}, {} writers", network.nodes().len(), options.signing, options.writers);
    if options.idle > 0 {
        idle(&network, Duration::from_secs(options.idle));
    }
    let writers = enrol(&dir, network.node(0), options.writers);
    let mut load = Load::begin(network.nodes(), writers, options.sessions);
    let ours = measure(&mut load, network.nodes(), &options);
    tell_memory(network.nodes());
    if options.dead > 0 {
        // The writers of the dead node stop with it: their transactions at hand are final.
        network.node(DEAD).kill();
        let others = &network.nodes()[..DEAD];
        load.send(others, SETTLING * options.rate, Some(options.rate));
        let sent = load.send(others, options.dead * options.rate, Some(options.rate));
        let what = format!(
            "one of four dead for {SETTLING} s and more, {} commits a second for {} s",
            options.rate, options.dead
        );
        tell_waits(&what, &sent);
    }
    drop(load);
    if options.anvil {
        let genesis = genesis(network.node(0));
        drop(network);
        let anvil = Anvil::start(genesis.chain_id);
        let node = [anvil.node.clone()];
        println!("\none anvil, {} writers", options.writers);
        let writers = enrol_at(&dir, &genesis, &node[0], options.writers);
        let theirs = measure(&mut Load::begin(&node, writers, options.sessions), &node, &options);
        println!("\n| beside anvil | |\n|---|---:|");
        println!("| commits a second | {:.2} of its |", ours.rate / theirs.rate);
        println!("| p50 of a commit | {:.2} times its |", ours.p50.as_secs_f64() / theirs.p50.as_secs_f64());
    }
}

/// What was measured of one chain.
#[derive(Default)]
struct Figures {
    p50: Duration,
    rate: f64,
}

fn measure(load: &mut Load, nodes: &[Node], options: &Options) -> Figures {
    let mut figures = Figures::default();
    if options.seconds > 0 {
        let (before, count) = (used(nodes), options.seconds * options.rate);
        let sent = load.send(nodes, count, Some(options.rate));
        figures.p50 = tell_waits(&format!("{} commits a second for {} s", options.rate, options.seconds), &sent);
        tell_work(used(nodes).saturating_sub(before), nodes.len(), count);
    }
    if options.burst > 0 {
        figures.rate = burst(load, nodes, options);
    }
    figures
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn burst(load: &mut Load, nodes: &[Node], options: &Options) -> f64 {
    let (count, sessions) = (options.burst, options.sessions);
    let (before, used_before) = (nodes[0].height(), used(nodes));
    let sent = load.send(nodes, count, None);
    let (blocks, used) = (nodes[0].height() - before, used(nodes).saturating_sub(used_before));
    let (start, end) = (sent.iter().map(|sent| sent.0).min().unwrap(), sent.iter().map(|sent| sent.1).max().unwrap());
    println!("\n| {count} commits as fast as sessions are opened for them, {sessions} a writer | |\n|---|---:|");
    let rate = sent.len() as f64 / (end - start).as_secs_f64();
    println!("| commits a second, each with the opening of its session | {rate:.0} |\n| blocks | {blocks} |");
    tell_work(used, nodes.len(), count);
    rate
}

/// Foundry's node, which makes ten blocks a second.
struct Anvil {
    process: Child,
    node: Node,
}

impl Anvil {
    fn start(chain_id: u64) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(anvil::program());
        command.args(["--quiet", "--port", &port.to_string(), "--chain-id", &chain_id.to_string()]);
        // Without fees, as our ledger; a base fee rises where blocks are more than half full.
        command.args(["--gas-price", "0", "--block-base-fee-per-gas", "0", "--disable-min-priority-fee"]);
        command.args(["--gas-limit", "100000000000"]);
        // It works its whole state through for each block: one for each transaction would be slower by far.
        command.args(["--block-time", "0.1"]);
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        let node = Node::foreign(process.id(), port);
        while node.try_ask("eth_chainId", &json!([])).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, node }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn options() -> Options {
    let mut options = Options {
        signing: "threshold".to_owned(),
        writers: 40,
        sessions: 5,
        seconds: 20,
        rate: 100,
        burst: 4000,
        idle: 0,
        dead: 0,
        anvil: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--signing" => options.signing = value(),
            "--writers" => options.writers = value().parse().unwrap(),
            "--sessions" => options.sessions = value().parse().unwrap(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--rate" => options.rate = value().parse().unwrap(),
            "--burst" => options.burst = value().parse().unwrap(),
            "--idle" => options.idle = value().parse().unwrap(),
            "--dead" => options.dead = value().parse().unwrap(),
            "--anvil" => options.anvil = true,
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}

/// Tells how long what was sent took, and gives the median.
fn tell_waits(what: &str, sent: &[(Instant, Instant)]) -> Duration {
    let waits = waits(sent);
    println!("\n| {what} | |\n|---|---:|");
    let ms = |share| at(&waits, share).as_millis();
    println!("| final after, p50 | {} ms |\n| p99 | {} ms |\n| the slowest | {} ms |", ms(50), ms(99), ms(100));
    at(&waits, 50)
}

/// What a network costs to which nobody gives anything to do. Nobody asks it anything meanwhile either.
fn idle(network: &Network, time: Duration) {
    let used = || network.nodes().iter().map(processor_time).collect::<Vec<_>>();
    let (height, before) = (network.node(0).height(), used());
    let start = Instant::now();
    std::thread::sleep(time);
    let (passed, after) = (start.elapsed(), used());
    let blocks = network.node(0).height() - height;
    println!("\n| idle for {} s | |\n|---|---:|\n| blocks | {blocks} |", time.as_secs());
    for (index, (before, after)) in before.into_iter().zip(after).enumerate() {
        let share = 100.0 * after.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
        println!("| of a processor, node {} | {share:.2} % |", index + 1);
    }
}

/// The time of a processor that all these used so far.
fn used(nodes: &[Node]) -> Duration {
    nodes.iter().map(processor_time).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn tell_work(used: Duration, nodes: usize, commits: usize) {
    println!("| of a processor, a commit and node | {:.2} ms |", used.as_secs_f64() * 1e3 / (commits * nodes) as f64);
}

/// The time of a processor that a node used so far.
fn processor_time(node: &Node) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid)).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // Of the fields after the name, the user's and the system's ticks; Linux shows 100 a second everywhere.
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| Duration::from_millis(ticks.parse::<u64>().unwrap() * 10))
        .sum()
}

fn tell_memory(nodes: &[Node]) {
    println!("\n| memory | now | at most |\n|---|---:|---:|");
    for (index, node) in nodes.iter().enumerate() {
        let kib = |name| memory(node, name) / 1024;
        println!("| node {} | {} MiB | {} MiB |", index + 1, kib("VmRSS"), kib("VmHWM"));
    }
}

/// A node's memory in KiB, by the kernel's name of it.
fn memory(node: &Node, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
