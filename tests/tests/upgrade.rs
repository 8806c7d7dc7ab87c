//! Two releases in one network: it is founded and used by an earlier one, and upgraded node by node while transactions are sent. No commit is
//! lost, and all nodes have one history.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::TxKind;
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::NodeFolder;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::network::{Node, RunningNode, free_ports, number, wait_until};
use blockhouse_tests::world::{World, exit};
use blockhouse_tests::{need, tree};
use serde_json::{Value, json};

const NAMES: [&str; 4] = ["ann", "ben", "cat", "dan"];

/// Calls the earlier release, which must succeed.
fn call(program: &Path, world: &World, words: &str, paths: &[&Path]) {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).args(paths).current_dir(world.path("")).env("HOME", world.path(""));
    let said = command.output().unwrap();
    assert!(said.status.success(), "{words}: {}", String::from_utf8_lossy(&said.stderr));
}

/// A network of four, founded by that release.
fn found(program: &Path, world: &World) -> Vec<Node> {
    let ports = free_ports(8);
    let node = |index: usize| Node::apart(world.path(NAMES[index]), ports + 4 + u16::try_from(index).unwrap());
    let nodes: Vec<Node> = (0..4).map(node).collect();
    for (index, node) in nodes.iter().enumerate() {
        let (name, port, rpc) = (NAMES[index], ports + u16::try_from(index).unwrap(), node.port());
        let words = format!("node init --name {name} --listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc} --dir");
        call(program, world, &words, &[&node.dir]);
    }
    let founded = world.path("founded");
    let enrolments: Vec<PathBuf> = nodes.iter().map(|node| node.dir.join("enrolment")).collect();
    let mut words = vec![founded.as_path(), Path::new("--found")];
    words.extend(enrolments.iter().map(PathBuf::as_path));
    call(program, world, "node init --dir", &words);
    let peers: Vec<String> = nodes.iter().map(|node| format!("--rpc-peer {}", node.url())).collect();
    for node in &nodes {
        let words = format!("node join {} --dir", peers.join(" "));
        call(program, world, &words, &[&node.dir, Path::new("--network"), &founded.join("network")]);
    }
    nodes
}

/// Transactions of one account, one after another, to whichever node takes them.
struct Load<'a> {
    nodes: &'a [Node],
    account: AccountSecret,
    genesis: Genesis,
    /// The hash of each that was acknowledged, with its block.
    recorded: Mutex<Vec<(Value, Value)>>,
    ended: AtomicBool,
}

impl<'a> Load<'a> {
    fn new(nodes: &'a [Node], account: AccountSecret) -> Self {
        let genesis = nodes[0].ask("blockhouse_genesis", &json!([]));
        let genesis = hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap();
        let genesis = Genesis::decode(&genesis).unwrap();
        Self { nodes, account, genesis, recorded: Mutex::default(), ended: AtomicBool::new(false) }
    }

    fn run(&self) {
        let account = format!("0x{}", hex::encode(self.account.account().to_bytes()));
        let mut nonce = number(&self.nodes[0].ask("eth_getTransactionCount", &json!([account, "latest"])));
        while !self.ended.load(Ordering::Relaxed) {
            let recorded = self.record(nonce);
            self.recorded.lock().unwrap().push(recorded);
            nonce += 1;
        }
    }

    /// Sends one until it is in a final block; its hash and that block.
    fn record(&self, nonce: u64) -> (Value, Value) {
        let (chain_id, to) = (self.genesis.chain_id, TxKind::Call(self.genesis.vault_address()));
        let request = Request { chain_id, nonce, to, input: Vec::new().into(), gas: 100_000 };
        let signed = request.sign(&self.account);
        let (hash, raw) = (json!(signed.tx_hash()), format!("0x{}", hex::encode(signed.encoded_2718())));
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            // One node takes it; that it is known already is no error here, nor that the node is away.
            let turn = usize::try_from(nonce).unwrap() % self.nodes.len();
            let _ = self.nodes.iter().cycle().skip(turn).take(self.nodes.len()).find(|node| {
                let answer = node.try_ask("eth_sendRawTransaction", &json!([raw]));
                answer.is_ok_and(|answer| answer["result"] == hash)
            });
            let again = Instant::now() + Duration::from_secs(2);
            while Instant::now() < again {
                for node in self.nodes {
                    let answer = node.try_ask("eth_getTransactionReceipt", &json!([hash])).unwrap_or_default();
                    if answer["result"].is_object() {
                        return (hash, answer["result"]["blockHash"].clone());
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(Instant::now() < end, "transaction {nonce} was never recorded");
        }
    }

    fn count(&self) -> usize {
        self.recorded.lock().unwrap().len()
    }

    /// Waits until so many more are recorded: the network goes on.
    fn goes_on(&self) {
        let before = self.count();
        wait_until(|| self.count() >= before + 3, "transactions are recorded");
    }
}

/// Ends the load, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn status(node: &Node) -> Value {
    node.try_ask("blockhouse_nodeStatus", &json!([])).map(|answer| answer["result"].clone()).unwrap_or_default()
}

/// Stops each node, lets the others go on without it, and starts it by the present release. It is in the network again before the next one.
fn upgrade(world: &World, load: &Load<'_>, running: &mut [Option<RunningNode>]) {
    let nodes = load.nodes;
    for (index, node) in nodes.iter().enumerate() {
        let old = running[index].take().unwrap();
        // Half of them are not asked whether they are ready.
        if index % 2 == 0 {
            old.stop();
        } else {
            drop(old);
        }
        load.goes_on();
        running[index] = Some(node.run_again());
        let others =
            || nodes.iter().filter(|other| other.port() != node.port()).map(|other| status(other)["height"].as_u64());
        let highest = others().flatten().max().unwrap();
        wait_until(
            || {
                let told = status(node);
                told["role"] == "validator" && told["peers"] == 3 && told["height"].as_u64() >= Some(highest)
            },
            "an upgraded node is in the network again",
        );
        load.goes_on();
        // It sees who is not upgraded yet, and says so.
        let left = nodes.len() - 1 - index;
        let is_old = |other: &&Value| other["rules"] == 0;
        let seen = || status(node)["releases"].as_array().cloned().unwrap_or_default();
        wait_until(|| seen().len() == 3 && seen().iter().filter(is_old).count() == left, "releases are told");
        let shown = world.outside("node status --json --dir").arg(&node.dir).run().expect(exit::DONE);
        let warnings = shown.lines().pop().unwrap()["warnings"].clone();
        let about =
            warnings.as_array().unwrap().iter().filter(|line| line.as_str().unwrap().contains("upgrade")).count();
        assert_eq!(about, left, "{warnings}");
    }
}

#[test]
fn a_network_is_upgraded_node_by_node_under_load() {
    let Some(earlier) = need::earlier_release() else { return };
    let world = World::empty();
    let nodes = found(&earlier, &world);
    let mut running: Vec<Option<RunningNode>> = nodes.iter().map(|node| Some(node.run_by(&earlier))).collect();
    wait_until(|| nodes.iter().all(|node| status(node)["peers"] == 3), "all nodes meet");

    // A vault on it, and an account that may send: that of a node.
    let mut init = world.init(3).args("--json --enrol-key").arg(world.path("founded/enrol.key"));
    for node in &nodes {
        init = init.arg("--ledger").arg(node.url());
    }
    init.run().expect(exit::DONE);
    world.unlocked("node enrol --json --yes").arg(nodes[3].url()).run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 7);
    world.back_up(&source);

    let account = NodeFolder::new(nodes[3].dir.clone()).read_keys().unwrap().account();
    let load = Load::new(&nodes, account);
    std::thread::scope(|scope| {
        scope.spawn(|| load.run());
        let _ends = Ends(&load.ended);
        load.goes_on();
        upgrade(&world, &load, &mut running);
    });
    world.back_up(&source);

    let last = nodes.iter().map(Node::height).max().unwrap();
    wait_until(|| nodes.iter().all(|node| node.height() >= last), "all have all");
    for (hash, block) in load.recorded.into_inner().unwrap() {
        for node in &nodes {
            assert_eq!(node.receipt(&hash)["blockHash"], block, "a commit is where it was acknowledged");
        }
    }
    for height in 0..=last {
        let hashes: Vec<Value> = nodes.iter().map(|node| node.hash_at(height)).collect();
        assert!(hashes.array_windows().all(|[a, b]| a == b), "block {height}: {hashes:?}");
    }
    for snapshot in world.snapshots() {
        world.expect_restores(&snapshot, &source);
    }
}
