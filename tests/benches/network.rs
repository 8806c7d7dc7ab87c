//! Four nodes on this machine: how many commits of snapshots a second, how soon each is final, what a node takes.
//!
//! Real contract calls of enrolled writers, handed in over JSON-RPC at all nodes; a commit counts when the first node has it in a final
//! block. All processes and this one share the cores.
//!
//! `cargo bench --profile ci --workspace --bench network -- [--signing committee] [--seconds N] [--rate N] [--burst N]`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::{AccountSecret, EnrolKey, Secret};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::World;
use blockhouse_tests::network::{Network, Node, number};
use serde_json::{Value, json};

const WRITERS: usize = 20;
/// Gas of a commit: twice what it uses.
const GAS: u64 = 700_000;
/// Transactions in one request of the burst.
const BATCH: usize = 20;

struct Options {
    signing: String,
    seconds: usize,
    rate: usize,
    burst: usize,
}

fn main() {
    let options = options();
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, &format!("--signing {}", options.signing));
    let mut ledger = Ledger::claim(&dir, network.node(0));
    let seen = Arc::new(Seen::default());
    let watcher = seen.watch(network.node(0).clone());

    let steady = ledger.commits(options.seconds * options.rate);
    let mut waits = at_rate(&network, &steady, options.rate, &seen);
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100].as_millis();
    println!("\n{} nodes, signing {}, {} writers", network.nodes().len(), options.signing, WRITERS);
    println!("\n| at {} commits a second for {} s | |\n|---|---:|", options.rate, options.seconds);
    println!("| final after, p50 | {} ms |\n| p99 | {} ms |", at(50), at(99));

    let burst = ledger.commits(options.burst);
    let before = network.node(0).height();
    let (took, gas) = all_at_once(&network, &burst, &seen);
    let blocks = network.node(0).height() - before;
    println!("\n| {} commits as fast as they are taken | |\n|---|---:|", options.burst);
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let rate = options.burst as f64 / took.as_secs_f64();
    println!("| commits a second | {rate:.0} |\n| blocks | {blocks} |\n| gas of one | {gas} |");
    for (index, node) in network.nodes().iter().enumerate() {
        println!("| memory of node {} at most | {} MiB |", index + 1, memory(node) / 1024);
    }
    seen.stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
}

fn options() -> Options {
    let mut options = Options { signing: "threshold".to_owned(), seconds: 20, rate: 100, burst: 8000 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--signing" => options.signing = value(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--rate" => options.rate = value().parse().unwrap(),
            "--burst" => options.burst = value().parse().unwrap(),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}

/// The peak of a node's memory in KiB.
fn memory(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A transaction that is ready to be sent, and its hash.
#[derive(Clone)]
struct Signed {
    raw: String,
    hash: B256,
}

struct Writer {
    secret: AccountSecret,
    session: B256,
    nonce: u64,
}

struct Ledger {
    genesis: Genesis,
    writers: Vec<Writer>,
    count: u64,
}

impl Ledger {
    /// Makes the contracts, enrols the writers and opens a session for each.
    fn claim(dir: &std::path::Path, node: &Node) -> Self {
        let key = EnrolKey::parse(&fs::read(dir.join("enrol.key")).unwrap()).unwrap();
        let genesis = node.ask("blockhouse_genesis", &json!([]));
        let genesis =
            Genesis::decode(&hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap()).unwrap();
        let mut nonce = 0;
        let mut owner = |to, input: Vec<u8>, gas| {
            let request = Request { chain_id: genesis.chain_id, nonce, to, input: input.into(), gas };
            nonce += 1;
            send(node, &sign(request, &key.owner))
        };
        for input in genesis.deployments(0) {
            owner(TxKind::Create, input.to_vec(), DEPLOYMENT_GAS);
        }
        let writers: Vec<AccountSecret> = (0..WRITERS)
            .map(|at| AccountSecret::try_new(&Secret::new([u8::try_from(at + 1).unwrap(); 32])).unwrap())
            .collect();
        let mut last = Value::Null;
        for writer in &writers {
            let who = Address::new(writer.account().to_bytes());
            let call =
                Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
            last = owner(TxKind::Call(genesis.access_address()), call.abi_encode(), GAS);
        }
        node.receipt(&last);
        let open = Vault::openSessionCall { leaseSeconds: 86_400 }.abi_encode();
        let opened: Vec<Value> = writers
            .iter()
            .map(|writer| {
                let to = TxKind::Call(genesis.vault_address());
                let request =
                    Request { chain_id: genesis.chain_id, nonce: 0, to, input: open.clone().into(), gas: GAS };
                send(node, &sign(request, writer))
            })
            .collect();
        let writers = writers.into_iter().zip(opened).map(|(secret, hash)| {
            let receipt = node.receipt(&hash);
            let log = &receipt["logs"][0];
            let topics = log["topics"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().parse().unwrap());
            let data = hex::decode(log["data"].as_str().unwrap().trim_start_matches("0x")).unwrap();
            let event = Vault::SessionOpened::decode_raw_log(topics.collect::<Vec<B256>>(), &data).unwrap();
            Writer { secret, session: event.session, nonce: 1 }
        });
        let writers = writers.collect();
        Self { genesis, writers, count: 0 }
    }

    /// Commits of snapshots, by all writers in turn.
    fn commits(&mut self, count: usize) -> Vec<Signed> {
        (0..count)
            .map(|at| {
                self.count += 1;
                let snapshot = B256::from(alloy_primitives::U256::from(self.count));
                let writer = &mut self.writers[at % WRITERS];
                let c = Vault::Commit {
                    session: writer.session,
                    source: B256::repeat_byte(u8::try_from(at % WRITERS + 1).unwrap()),
                    snapshot,
                    objectHash: snapshot,
                    listRoot: snapshot,
                    storedBytes: 1 << 20,
                    recipients: B256::new(self.genesis.recipients.to_bytes()),
                    tags: Vec::new(),
                    parent: B256::ZERO,
                    d: 6,
                    w: 2,
                    wd: 2,
                    headHeight: 0,
                    headHash: B256::ZERO,
                };
                let to = TxKind::Call(self.genesis.vault_address());
                let (chain_id, input) = (self.genesis.chain_id, Vault::commitCall { c }.abi_encode().into());
                let request = Request { chain_id, nonce: writer.nonce, to, input, gas: GAS };
                writer.nonce += 1;
                sign(request, &writer.secret)
            })
            .collect()
    }
}

fn sign(request: Request, by: &AccountSecret) -> Signed {
    let tx = request.sign(by);
    Signed { raw: format!("0x{}", hex::encode(tx.encoded_2718())), hash: *tx.tx_hash() }
}

fn send(node: &Node, signed: &Signed) -> Value {
    node.ask("eth_sendRawTransaction", &json!([signed.raw]))
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
fn at_rate(network: &Network, commits: &[Signed], rate: usize, seen: &Seen) -> Vec<Duration> {
    let start = Instant::now();
    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap();
    let mut sent = Vec::new();
    for (index, commit) in commits.iter().enumerate() {
        let due = start + pause * u32::try_from(index).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A writer's transactions go to one node, so that none overtakes another.
        send(network.node(index % WRITERS % network.nodes().len()), commit);
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
