//! Four nodes on this machine: how many commits of snapshots a second, how soon each is final, what a node takes.
//!
//! Real contract calls of enrolled writers, handed in over JSON-RPC at all nodes; a commit counts when the first node has it in a final
//! block. All processes and this one share the cores.
//!
//! `cargo bench --profile ci --workspace --bench network -- [--signing committee] [--seconds N] [--rate N] [--burst N] [--idle SECONDS]
//! [--dead SECONDS]`; with 0 seconds, or a burst of 0, that part is left out.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

#[path = "../tests/support/writers.rs"]
mod writers;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use blockhouse_tests::World;
use blockhouse_tests::network::{Network, Node, number};
use serde_json::{Value, json};
use writers::{Signed, Writer, enrol, send};

const WRITERS: usize = 20;
/// After so many seconds a network must have become used to a dead node.
const SETTLING: usize = 10;
/// Transactions in one request of the burst.
const BATCH: usize = 20;

struct Options {
    signing: String,
    seconds: usize,
    rate: usize,
    burst: usize,
    idle: u64,
    dead: usize,
}

fn main() {
    let options = options();
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, &format!("--signing {}", options.signing));
    let mut writers = enrol(&dir, network.node(0), u8::try_from(WRITERS).unwrap());
    let seen = Arc::new(Seen::default());
    println!("\n{} nodes, signing {}, {} writers", network.nodes().len(), options.signing, WRITERS);
    if options.idle > 0 {
        idle(&network, Duration::from_secs(options.idle));
    }
    let watcher = seen.watch(network.node(0).clone());
    if options.seconds > 0 {
        let steady = commits(&mut writers, options.seconds * options.rate);
        println!("\n| at {} commits a second for {} s | |\n|---|---:|", options.rate, options.seconds);
        tell_waits(at_rate(network.nodes(), &steady, options.rate, &seen));
    }
    if options.burst > 0 {
        burst(&network, &commits(&mut writers, options.burst), &seen);
    }
    tell_memory(network.nodes());
    if options.dead > 0 {
        let at = |seconds: usize| seconds * options.rate;
        network.node(3).kill();
        let others = &network.nodes()[..3];
        at_rate(others, &commits(&mut writers, at(SETTLING)), options.rate, &seen);
        let waits = at_rate(others, &commits(&mut writers, at(options.dead)), options.rate, &seen);
        println!(
            "\n| one of four is dead for {SETTLING} s and more; {} commits a second for {} s | |\n|---|---:|",
            options.rate, options.dead
        );
        tell_waits(waits);
    }
    seen.stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
}

fn options() -> Options {
    let mut options =
        Options { signing: "threshold".to_owned(), seconds: 20, rate: 100, burst: 8000, idle: 0, dead: 0 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--signing" => options.signing = value(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--rate" => options.rate = value().parse().unwrap(),
            "--burst" => options.burst = value().parse().unwrap(),
            "--idle" => options.idle = value().parse().unwrap(),
            "--dead" => options.dead = value().parse().unwrap(),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}

fn tell_waits(mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100].as_millis();
    println!("| final after, p50 | {} ms |\n| p99 | {} ms |\n| the slowest | {} ms |", at(50), at(99), at(100));
}

fn burst(network: &Network, commits: &[Signed], seen: &Seen) {
    let before = network.node(0).height();
    let (took, gas) = all_at_once(network, commits, seen);
    let blocks = network.node(0).height() - before;
    println!("\n| {} commits as fast as they are taken | |\n|---|---:|", commits.len());
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let rate = commits.len() as f64 / took.as_secs_f64();
    println!("| commits a second | {rate:.0} |\n| blocks | {blocks} |\n| gas of one | {gas} |");
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
        let share = 100.0 * (after - before).as_secs_f64() / passed.as_secs_f64();
        println!("| of a processor, node {} | {share:.2} % |", index + 1);
    }
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

/// Commits of snapshots, by all writers in turn.
fn commits(writers: &mut [Writer], count: usize) -> Vec<Signed> {
    (0..count).map(|at| writers[at % WRITERS].commit()).collect()
}

/// When the first node had which transaction in a final block.
#[derive(Default)]
struct Seen {
    at: Mutex<HashMap<B256, Instant>>,
    stop: AtomicBool,
}

impl Seen {
    fn watch(self: &Arc<Self>, node: Node) -> std::thread::JoinHandle<()> {
        let seen = Arc::clone(self);
        std::thread::spawn(move || {
            let mut next = node.height() + 1;
            while !seen.stop.load(Ordering::Relaxed) {
                let height = node.height();
                let now = Instant::now();
                for height in next..=height {
                    let block = node.ask("eth_getBlockByNumber", &json!([format!("{height:#x}"), false]));
                    let hashes = block["transactions"].as_array().unwrap().iter();
                    let hashes = hashes.map(|hash| hash.as_str().unwrap().parse::<B256>().unwrap());
                    seen.at.lock().unwrap().extend(hashes.map(|hash| (hash, now)));
                }
                next = next.max(height + 1);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }

    fn wait_for(&self, hash: &B256) -> Instant {
        let end = Instant::now() + Duration::from_mins(5);
        loop {
            if let Some(at) = self.at.lock().unwrap().get(hash) {
                return *at;
            }
            assert!(Instant::now() < end, "a commit did not become final");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends so many a second, each to the next node, and gives how long each took to be final.
fn at_rate(nodes: &[Node], commits: &[Signed], rate: usize, seen: &Seen) -> Vec<Duration> {
    let start = Instant::now();
    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap();
    let mut sent = Vec::new();
    for (index, commit) in commits.iter().enumerate() {
        let due = start + pause * u32::try_from(index).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A writer's transactions go to one node, so that none overtakes another.
        send(&nodes[index % WRITERS % nodes.len()], commit);
        sent.push((commit.hash, due));
    }
    sent.into_iter().map(|(hash, due)| seen.wait_for(&hash).saturating_duration_since(due)).collect()
}

/// Sends all at once, by one thread a node, and gives how long it took until the last one was final.
fn all_at_once(network: &Network, commits: &[Signed], seen: &Seen) -> (Duration, u64) {
    let start = Instant::now();
    let nodes = network.nodes();
    std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            let own = commits.iter().enumerate().filter(|(index, _)| index % WRITERS % nodes.len() == number);
            let own: Vec<&Signed> = own.map(|(_, commit)| commit).collect();
            scope.spawn(move || own.chunks(BATCH).for_each(|batch| send_batch(node, batch)));
        }
    });
    let last = commits.iter().map(|commit| seen.wait_for(&commit.hash)).max().unwrap();
    let receipt = network.node(0).receipt(&json!(commits.last().unwrap().hash));
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    (last - start, number(&receipt["gasUsed"]))
}

fn send_batch(node: &Node, batch: &[&Signed]) {
    let request = |(id, signed): (usize, &&Signed)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [signed.raw] });
    let body = Value::from(batch.iter().enumerate().map(request).collect::<Vec<_>>()).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(!answer.contains("\"error\""), "{answer}");
}
