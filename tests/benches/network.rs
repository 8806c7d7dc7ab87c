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

#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use blockhouse_ledger::contracts::Vault;
use blockhouse_tests::network::{Network, Node};
use blockhouse_tests::{World, anvil};
use serde_json::{Value, json};
use writers::{Signed, Writer, enrol, enrol_at, genesis, opened_by};

/// What is waited for: sessions that are open, and commits, which tell their events only where they succeed.
static EVENTS: LazyLock<[B256; 2]> =
    LazyLock::new(|| [Vault::SessionOpened::SIGNATURE_HASH, Vault::SnapshotCommitted::SIGNATURE_HASH]);

/// The node that is killed.
const DEAD: usize = 3;
/// After so many seconds a network must have become used to a dead node.
const SETTLING: usize = 10;
/// Commits in one request of the burst.
const BATCH: usize = 25;
/// A connection that nobody used for so long is not used again: the node may close it at any moment.
const RESTED: Duration = Duration::from_secs(2);

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
    let ours = load.measure(network.nodes(), &options);
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
        let theirs = Load::begin(&node, writers, options.sessions).measure(&node, &options);
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

/// Writers at work, each by one of the nodes.
struct Load {
    seen: Arc<Seen>,
    desks: Vec<Desk>,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn begin(nodes: &[Node], writers: Vec<Writer>, sessions: usize) -> Self {
        let (seen, mut desks) = desks(nodes.len(), writers);
        let watcher = seen.watch(nodes[0].clone());
        nodes.iter().zip(&mut desks).for_each(|(node, desk)| desk.open(node, sessions));
        Self { seen, desks, watcher: Some(watcher) }
    }

    fn send(&mut self, nodes: &[Node], count: usize, rate: Option<usize>) -> Vec<(Instant, Instant)> {
        send_all(nodes, &mut self.desks, count, rate, &self.seen)
    }

    fn measure(&mut self, nodes: &[Node], options: &Options) -> Figures {
        let mut figures = Figures::default();
        if options.seconds > 0 {
            let (before, count) = (used(nodes), options.seconds * options.rate);
            let sent = self.send(nodes, count, Some(options.rate));
            figures.p50 = tell_waits(&format!("{} commits a second for {} s", options.rate, options.seconds), &sent);
            tell_work(used(nodes).saturating_sub(before), nodes.len(), count);
        }
        if options.burst > 0 {
            figures.rate = self.burst(nodes, options);
        }
        figures
    }

    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn burst(&mut self, nodes: &[Node], options: &Options) -> f64 {
        let (count, sessions) = (options.burst, options.sessions);
        let (before, used_before) = (nodes[0].height(), used(nodes));
        let sent = self.send(nodes, count, None);
        let (blocks, used) = (nodes[0].height() - before, used(nodes).saturating_sub(used_before));
        let (start, end) =
            (sent.iter().map(|sent| sent.0).min().unwrap(), sent.iter().map(|sent| sent.1).max().unwrap());
        println!("\n| {count} commits as fast as sessions are opened for them, {sessions} a writer | |\n|---|---:|");
        let rate = sent.len() as f64 / (end - start).as_secs_f64();
        println!("| commits a second, each with the opening of its session | {rate:.0} |\n| blocks | {blocks} |");
        tell_work(used, nodes.len(), count);
        rate
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        self.watcher.take().unwrap().join().unwrap();
    }
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

/// One for each node, with its share of the writers.
fn desks(count: usize, writers: Vec<Writer>) -> (Arc<Seen>, Vec<Desk>) {
    let (opened, sessions): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    let mut desks: Vec<_> = sessions.into_iter().map(|sessions| Desk { writers: HashMap::new(), sessions }).collect();
    for (number, writer) in writers.into_iter().enumerate() {
        desks[number % count].writers.insert(number, writer);
    }
    (Arc::new(Seen { at: Mutex::default(), opened, stop: AtomicBool::new(false) }), desks)
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
    let mut waits: Vec<_> = sent.iter().map(|(due, done)| done.saturating_duration_since(*due)).collect();
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!("\n| {what} | |\n|---|---:|");
    let ms = |share| at(share).as_millis();
    println!("| final after, p50 | {} ms |\n| p99 | {} ms |\n| the slowest | {} ms |", ms(50), ms(99), ms(100));
    at(50)
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

/// What happens on the ledger, as the first node tells it.
struct Seen {
    /// When it had which transaction in a final block.
    at: Mutex<HashMap<B256, Instant>>,
    /// The sessions that were opened, for who sends by each node.
    opened: Vec<Sender<(usize, B256)>>,
    stop: AtomicBool,
}

impl Seen {
    fn watch(self: &Arc<Self>, node: Node) -> std::thread::JoinHandle<()> {
        let seen = Arc::clone(self);
        let mut line = Line::to(&node);
        std::thread::spawn(move || {
            let mut next = node.height() + 1;
            while !seen.stop.load(Ordering::Relaxed) {
                let height = line.ask("eth_blockNumber", &json!([]));
                let height = u64::from_str_radix(height.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
                let now = Instant::now();
                for height in next..=height {
                    let height = format!("{height:#x}");
                    let filter = json!([{ "fromBlock": height, "toBlock": height, "topics": [*EVENTS] }]);
                    line.ask("eth_getLogs", &filter).as_array().unwrap().iter().for_each(|log| seen.take(log, now));
                }
                next = next.max(height + 1);
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    }

    fn take(&self, log: &Value, now: Instant) {
        let hash = log["transactionHash"].as_str().unwrap().parse().unwrap();
        self.at.lock().unwrap().insert(hash, now);
        if let Some((writer, session)) = opened_by(log) {
            let writer = usize::from(writer - 1);
            // Nobody sends any more at the end.
            let _ = self.opened[writer % self.opened.len()].send((writer, session));
        }
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

/// Who sends by one node: its writers, and their sessions as they are opened.
struct Desk {
    writers: HashMap<usize, Writer>,
    sessions: Receiver<(usize, B256)>,
}

impl Desk {
    /// Opens the sessions that its writers keep open.
    fn open(&mut self, node: &Node, sessions: usize) {
        let mut line = Line::to(node);
        for writer in self.writers.values_mut() {
            send_batch(&mut line, &(0..sessions).map(|_| writer.open()).collect::<Vec<_>>());
        }
    }

    /// Sends so many commits, each when it is due or as soon as there is a session for it, and opens another session with each. Gives when
    /// each was due.
    fn send(&mut self, node: &Node, count: usize, pause: Option<Duration>) -> Vec<(B256, Instant)> {
        let (start, mut sent, mut line) = (Instant::now(), Vec::new(), Line::to(node));
        while sent.len() < count {
            let due = pause.map(|pause| start + pause * u32::try_from(sent.len()).unwrap());
            std::thread::sleep(due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now())));
            let most = if pause.is_some() { 1 } else { BATCH.min(count - sent.len()) };
            let first = self.sessions.recv().unwrap();
            let due = due.unwrap_or_else(Instant::now);
            let mut batch = Vec::new();
            for (writer, session) in std::iter::once(first).chain(self.sessions.try_iter()).take(most) {
                let writer = self.writers.get_mut(&writer).unwrap();
                let commit = writer.commit(session);
                sent.push((commit.hash, due));
                batch.extend([commit, writer.open()]);
            }
            send_batch(&mut line, &batch);
        }
        sent
    }
}

/// Sends commits by all these nodes at once, and gives for each when it was due and when it was final.
fn send_all(
    nodes: &[Node],
    desks: &mut [Desk],
    count: usize,
    rate: Option<usize>,
    seen: &Seen,
) -> Vec<(Instant, Instant)> {
    let pause =
        rate.map(|rate| Duration::from_secs(1) * u32::try_from(nodes.len()).unwrap() / u32::try_from(rate).unwrap());
    let sent = std::thread::scope(|scope| {
        let share = count / nodes.len();
        let pairs = nodes.iter().zip(desks.iter_mut());
        let threads: Vec<_> = pairs.map(|(node, desk)| scope.spawn(move || desk.send(node, share, pause))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let all: Vec<_> = sent.iter().map(|(hash, due)| (*due, seen.wait_for(hash))).collect();
    let receipt = nodes[0].receipt(&json!(sent.last().unwrap().0));
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    all
}

fn send_batch(line: &mut Line, batch: &[Signed]) {
    let request = |(id, signed): (usize, &Signed)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [signed.raw] });
    let answer = line.post(&Value::from(batch.iter().enumerate().map(request).collect::<Vec<_>>()).to_string());
    assert!(!answer.contains("\"error\""), "{answer}");
}

/// A connection to a node, which stays open from request to request as every client's does.
struct Line {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
    used: Instant,
}

impl Line {
    fn to(node: &Node) -> Self {
        Self { port: node.port(), stream: None, used: Instant::now() }
    }

    /// The result of a request, which must succeed.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut answer: Value = serde_json::from_str(&self.post(&request.to_string())).unwrap();
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].take()
    }

    fn post(&mut self, body: &str) -> String {
        let stream = self.stream.take().filter(|_| self.used.elapsed() < RESTED);
        let mut stream =
            stream.unwrap_or_else(|| BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap()));
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length";
        stream.get_mut().write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let (mut length, mut field) = (None, String::new());
        while field != "\r\n" {
            field.clear();
            assert!(stream.read_line(&mut field).unwrap() > 0, "the node ended the connection");
            if let Some((name, value)) = field.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        let mut answer = vec![0; length.expect("an answer has a length")];
        stream.read_exact(&mut answer).unwrap();
        (self.stream, self.used) = (Some(stream), Instant::now());
        String::from_utf8(answer).unwrap()
    }
}
