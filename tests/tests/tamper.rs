//! One node's store is altered on the disk: it says which block, takes no part, heals from the others, and votes again; they go on meanwhile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::TxKind;
use alloy_sol_types::SolEvent as _;
use blockhouse_crypto::EnrolKey;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::World;
use blockhouse_tests::network::{Network, Node, number, wait_until};
use blockhouse_tests::world::{binary, exit};
use serde_json::{Value, json};

/// The account that the ledger belongs to.
struct Owner {
    key: EnrolKey,
    genesis: Genesis,
    nonce: u64,
}

impl Owner {
    fn of(dir: &Path, node: &Node) -> Self {
        let key = EnrolKey::parse(&fs::read(dir.join("enrol.key")).unwrap()).unwrap();
        let genesis = node.ask("blockhouse_genesis", &json!([]));
        let genesis =
            Genesis::decode(&hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap()).unwrap();
        Self { key, genesis, nonce: 0 }
    }

    /// Something that can be found again in the file of a store; gives the height of its block.
    fn record(&mut self, node: &Node, words: &[u8]) -> u64 {
        let to = TxKind::Call(self.genesis.access_address());
        let input = words.to_vec().into();
        let request = Request { chain_id: self.genesis.chain_id, nonce: self.nonce, to, input, gas: 100_000 };
        self.nonce += 1;
        let raw = format!("0x{}", hex::encode(request.sign(&self.key.owner).encoded_2718()));
        let hash = node.ask("eth_sendRawTransaction", &json!([raw]));
        number(&node.receipt(&hash)["blockNumber"])
    }
}

/// Flips a bit in each copy of these words that the file holds.
fn flip(file: &Path, words: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<_> = (0..=bytes.len() - words.len()).filter(|at| bytes[*at..].starts_with(words)).collect();
    assert!(!places.is_empty(), "the words are in {}", file.display());
    for at in &places {
        bytes[*at] ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

/// Kills a node once these words are in its file: its store waits for the disk once for several blocks.
fn kill_with(node: &Node, words: &[u8]) {
    let has_words = || fs::read(node.dir.join("ledger.redb")).unwrap().windows(words.len()).any(|there| there == words);
    wait_until(has_words, "the words are on the disk");
    node.kill();
}

/// A node that runs apart, and what it says.
struct Apart {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Apart {
    fn start(node: &Node) -> Self {
        let mut command = Command::new(binary());
        command.args(["node", "run", "--with-parent", "--dir"]).arg(&node.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = lines(child.stderr.take().unwrap());
        Self { child, said }
    }

    /// What it says up to a line with these words.
    #[track_caller]
    fn says(&self, words: &str) -> String {
        let mut all = String::new();
        loop {
            let line = self.said.recv_timeout(std::time::Duration::from_mins(2));
            let line = line.unwrap_or_else(|_| panic!("the node did not say `{words}`, but: {all}"));
            all = all + &line + "\n";
            if line.contains(words) {
                return all;
            }
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (tell, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    said
}

fn status(node: &Node) -> Value {
    node.ask("blockhouse_nodeStatus", &json!([]))
}

#[test]
fn an_altered_store_is_named_healed_and_its_node_votes_again() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, "");
    let nodes: Vec<&Node> = network.nodes().iter().collect();
    let mut owner = Owner::of(&dir, nodes[0]);
    let words = b"these words stand in one block, and somebody alters them";
    owner.record(nodes[0], b"before");
    let height = owner.record(nodes[1], words);
    let later = owner.record(nodes[0], b"after");
    wait_until(|| nodes[2].height() >= later, "node 3 has it all");

    kill_with(nodes[2], words);
    let store = nodes[2].dir.join("ledger.redb");
    flip(&store, words);
    let altered = fs::read(&store).unwrap();

    // Without a peer it says where the damage is and what to do, and changes nothing.
    let config = nodes[2].dir.join("node.toml");
    let named = fs::read_to_string(&config).unwrap();
    let alone: String = named.split_inclusive('\n').filter(|line| !line.starts_with("rpc_peers")).collect();
    assert_ne!(alone, named, "`node local` names the others");
    fs::write(&config, alone).unwrap();
    let refused = world.outside("node run --dir").arg(&nodes[2].dir).run();
    refused.refuses(exit::UNREACHABLE, &format!("block {height} of the store was altered"));
    world.outside("node run --dir").arg(&nodes[2].dir).run().refuses(exit::UNREACHABLE, "rpc_peers");
    assert!(fs::read(&store).unwrap() == altered, "it is not touched");
    fs::write(&config, &named).unwrap();

    // The others went on; it heals from them and comes back.
    let meanwhile = owner.record(nodes[3], b"meanwhile");
    let again = Apart::start(nodes[2]);
    again.says(&format!("block {height} of the store was altered"));
    let healed = again.says("healed: ");
    let kept = store.with_file_name("ledger.redb.damaged-1");
    assert!(healed.contains(&kept.display().to_string()), "{healed}");
    assert!(fs::read(&kept).unwrap() == altered, "the evidence is kept");
    wait_until(|| nodes[2].try_ask("eth_blockNumber", &json!([])).is_ok(), "the healed node answers");
    wait_until(|| nodes[2].height() >= meanwhile, "the healed node catches up");
    for at in 0..=meanwhile {
        assert_eq!(nodes[2].hash_at(at), nodes[0].hash_at(at), "block {at}");
    }
    let told = status(nodes[2]);
    assert_eq!(
        (&told["scrub"]["healed"], &told["failure"], &told["role"]),
        (&json!(1), &Value::Null, &json!("validator"))
    );

    // Its vote counts: without it the others would be two.
    nodes[0].kill();
    owner.record(nodes[3], b"with the vote of the healed node");
    wait_until(|| status(nodes[2])["scrub"]["passes"] != json!(0), "its watch finds all sound");

    // All start at once, and the first one has nobody to heal from until the others answer.
    flip(&nodes[0].dir.join("ledger.redb"), words);
    drop(again);
    let network = network.restart("");
    let told = status(network.node(0));
    assert_eq!((&told["scrub"]["healed"], &told["failure"]), (&json!(1), &Value::Null));
    let height = owner.record(network.node(0), b"all vote");
    wait_until(|| network.nodes().iter().all(|node| node.height() >= height), "all have it");
}

/// The owner lets the nodes speak; what one of them then finds altered in its store stands on the ledger, and so on every node.
#[test]
fn what_was_altered_is_told_on_every_node() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, "");
    let nodes: Vec<&Node> = network.nodes().iter().collect();
    let mut init = world.init(3).args("--json").arg("--enrol-key").arg(dir.join("enrol.key"));
    for node in &nodes {
        init = init.arg("--ledger").arg(node.url());
    }
    init.run().expect(exit::DONE);
    let enrolled = world.unlocked("node enrol --json --yes").run().expect(exit::DONE);
    assert_eq!(enrolled.lines().iter().filter(|line| line["enrolled_now"] == json!(true)).count(), nodes.len());
    let again = world.unlocked("node enrol --json --yes").arg(nodes[1].url()).run().expect(exit::DONE);
    assert_eq!(again.lines()[0]["enrolled_now"], json!(false), "{}", again.lines()[0]);

    // The first transaction of the last block with some: what signs it is found in the file.
    let last = nodes[2].height();
    let block = |at: u64| nodes[2].ask("eth_getBlockByNumber", &json!([format!("{at:#x}"), true]));
    let height = (1..=last).rev().find(|at| block(*at)["transactions"].as_array().unwrap().len() > 1).unwrap();
    let signature = block(height)["transactions"][0]["r"].as_str().unwrap().trim_start_matches("0x").to_owned();
    let signature = hex::decode(&signature[signature.len() % 2..]).unwrap();
    let key = status(nodes[2])["key"].clone();
    kill_with(nodes[2], &signature);
    flip(&nodes[2].dir.join("ledger.redb"), &signature);
    let apart = Apart::start(nodes[2]);
    apart.says(&format!("block {height} of the store was altered"));
    apart.says("healed: ");

    let topic = blockhouse_ledger::contracts::Alarms::TamperReported::SIGNATURE_HASH;
    let filter = json!([{ "fromBlock": "0x0", "toBlock": "latest", "topics": [topic] }]);
    for node in &nodes {
        wait_until(|| node.try_ask("eth_blockNumber", &json!([])).is_ok(), "the node answers");
        wait_until(|| node.ask("eth_getLogs", &filter).as_array().unwrap().len() == 1, "the alarm is on every node");
        let log = node.ask("eth_getLogs", &filter)[0].clone();
        assert_eq!((&log["topics"][1], number(&log["topics"][2])), (&key, height), "{log}");
    }
    wait_until(|| status(nodes[2])["scrub"]["untold"] == json!(0), "nothing is left to be told");
    let history = world.call("history --json").run().expect(exit::DONE);
    let told: Vec<Value> = history.lines().into_iter().filter(|line| line["event"] == "TamperReported").collect();
    assert_eq!(told.len(), 1);
    let fields = &told[0]["fields"];
    assert_eq!((&fields["what"], &fields["height"]), (&json!("block"), &json!(height.to_string())), "{fields}");
    assert_eq!(json!(format!("0x{}", fields["block"].as_str().unwrap())), nodes[0].hash_at(height));

    // The owner takes the right back as he does a host's.
    let hosts = world.call("host list --json").run().expect(exit::DONE);
    let is_node = |line: &&Value| line["host"].as_str().is_some_and(|name| name.starts_with("node-"));
    assert_eq!(hosts.lines().iter().filter(is_node).count(), nodes.len());
}

/// What the watch of a running node finds: `crates/homes/tests/tamper.rs`.
#[test]
fn a_lost_store_comes_from_the_others() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, "--signing committee");
    let nodes: Vec<&Node> = network.nodes().iter().collect();
    let mut owner = Owner::of(&dir, nodes[0]);
    let height = owner.record(nodes[0], b"something");
    wait_until(|| nodes[1].height() >= height, "node 2 has it");
    nodes[1].kill();
    fs::remove_file(nodes[1].dir.join("ledger.redb")).unwrap();
    let again = Apart::start(nodes[1]);
    again.says("healed: ");
    wait_until(|| nodes[1].try_ask("eth_blockNumber", &json!([])).is_ok(), "it answers");
    wait_until(|| nodes[1].height() >= height, "it has the ledger");
    assert_eq!(status(nodes[1])["role"], json!("validator"));

    // Of another ledger: refused, whatever its peers could give.
    drop(again);
    let other = world.path("other");
    let strange = Network::start(&other, 1, "");
    let foreign = strange.node(0).dir.join("ledger.redb");
    strange.node(0).kill();
    fs::copy(&foreign, nodes[1].dir.join("ledger.redb")).unwrap();
    let refused = world.outside("node run --dir").arg(&nodes[1].dir).run();
    refused.refuses(exit::FAILED, "begins otherwise");
}
