//! The ledger as a network of real processes: they agree, stand kills, go on after a restart, and say what is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::Path;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::TxKind;
use blockhouse_crypto::EnrolKey;
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::system::automation_address;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::World;
use blockhouse_tests::network::{Network, Node, number, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::exit;
use serde_json::{Value, json};

/// The account that the ledger belongs to until somebody takes it over.
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
        assert_eq!((genesis.chain_id, genesis.hash()), (key.chain_id, key.genesis), "the key names its ledger");
        Self { key, genesis, nonce: 0 }
    }

    fn raw(&mut self, to: TxKind, input: Vec<u8>, gas: u64) -> String {
        let request = Request { chain_id: self.genesis.chain_id, nonce: self.nonce, to, input: input.into(), gas };
        self.nonce += 1;
        format!("0x{}", hex::encode(request.sign(&self.key.owner).encoded_2718()))
    }

    /// Hands the contracts' deployments in.
    fn deploy(&mut self, node: &Node) -> Vec<Value> {
        let inputs = self.genesis.deployments(0);
        inputs
            .into_iter()
            .map(|input| {
                node.ask("eth_sendRawTransaction", &json!([self.raw(TxKind::Create, input.to_vec(), DEPLOYMENT_GAS)]))
            })
            .collect()
    }

    /// Something small to record.
    fn record(&mut self, node: &Node) -> Value {
        let to = TxKind::Call(self.genesis.access_address());
        node.ask("eth_sendRawTransaction", &json!([self.raw(to, Vec::new(), 100_000)]))
    }
}

/// Every node has the same block at every height that both have.
fn expect_agreement(nodes: &[&Node]) {
    let height = nodes.iter().map(|node| node.height()).min().unwrap();
    for at in 0..=height {
        let first = nodes[0].hash_at(at);
        assert!(nodes.iter().all(|node| node.hash_at(at) == first), "two nodes differ at height {at}");
    }
}

fn agree_stand_a_kill_and_go_on(words: &str) {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, words);
    let nodes: Vec<&Node> = network.nodes().iter().collect();
    let mut owner = Owner::of(&dir, nodes[0]);

    // Handed in at one node, final at all: the contracts stand, and the ledger makes Automation itself.
    for hash in owner.deploy(nodes[0]) {
        for node in &nodes {
            let receipt = node.receipt(&hash);
            assert_eq!(receipt["status"], "0x1", "{receipt}");
        }
    }
    let hash = owner.record(nodes[1]);
    nodes[1].receipt(&hash);
    wait_until(|| nodes[2].receipt(&hash)["blockNumber"].is_string(), "node 3 has it too");
    let code = nodes[2].ask("eth_getCode", &json!([automation_address(), "latest"]));
    assert!(code.as_str().unwrap().len() > 2, "the ledger did not make Automation");
    expect_agreement(&nodes);

    // One of four is killed: the others go on, and it catches up when it is back.
    nodes[3].kill();
    for _ in 0..3 {
        let hash = owner.record(nodes[0]);
        nodes[0].receipt(&hash);
    }
    let again = nodes[3].run_again();
    let height = nodes[0].height();
    wait_until(|| nodes[3].height() >= height, "the killed node catches up");
    expect_agreement(&nodes);
    let hash = owner.record(nodes[3]);
    nodes[0].receipt(&hash);
    drop(again);

    // The whole network ends and starts again on the same folder.
    let before = nodes[0].height();
    let mut network = network.restart(words);
    wait_until(|| network.nodes().iter().all(|node| node.height() >= before), "the nodes are where they were");
    let hash = owner.record(network.node(2));
    network.node(1).receipt(&hash);
    expect_agreement(&network.nodes().iter().collect::<Vec<_>>());
    network.kill_parent();
}

#[test]
fn four_nodes_agree_stand_a_kill_and_go_on() {
    agree_stand_a_kill_and_go_on("");
}

#[test]
fn four_nodes_that_sign_one_by_one_do_so_too() {
    agree_stand_a_kill_and_go_on("--signing committee");
}

#[test]
fn what_a_network_does_not_take_is_refused_with_the_reason() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 1, "");
    let node = network.node(0);
    let mut owner = Owner::of(&dir, node);
    let refused = |raw: &str| {
        let answer = node.try_ask("eth_sendRawTransaction", &json!([raw])).unwrap();
        answer["error"]["message"].as_str().unwrap_or_else(|| panic!("it was taken: {answer}")).to_owned()
    };
    let stranger = blockhouse_crypto::AccountSecret::try_new(&blockhouse_crypto::Secret::new([7; 32])).unwrap();
    let request =
        |chain_id, nonce| Request { chain_id, nonce, to: TxKind::Create, input: vec![0].into(), gas: 100_000 };
    let sign = |request: Request, by: &blockhouse_crypto::AccountSecret| {
        format!("0x{}", hex::encode(request.sign(by).encoded_2718()))
    };
    let chain = owner.genesis.chain_id;
    assert!(refused(&sign(request(chain, 0), &stranger)).contains("not enrolled"));
    assert!(refused(&sign(request(chain + 1, 0), &owner.key.owner)).contains("chain id"));
    assert!(refused(&sign(request(chain, 900), &owner.key.owner)).contains("nonce too high"));
    let first = owner.raw(TxKind::Create, vec![0], 100_000);
    let hash = node.ask("eth_sendRawTransaction", &json!([first]));
    node.receipt(&hash);
    assert!(refused(&first).contains("nonce too low"), "a replay");
    assert_eq!(number(&node.ask("eth_getTransactionCount", &json!([address(&owner), "latest"]))), 1);
}

fn address(owner: &Owner) -> String {
    format!("0x{}", hex::encode(owner.key.owner.account().to_bytes()))
}

#[test]
fn a_node_that_cannot_run_says_why() {
    let world = World::empty();
    let dir = world.path("ledger");
    let mut network = Network::start(&dir, 1, "");
    let folder = network.node(0).dir.clone();
    let run = || world.outside("node run --dir").arg(&folder).run();
    run().refuses(exit::BUSY, "another process");
    network.end();

    let config = folder.join("node.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("speed = 3\n{good}")).unwrap();
    run().refuses(exit::FAILED, "unknown field `speed`");
    fs::write(&config, &good).unwrap();

    let taken = std::net::TcpListener::bind(("127.0.0.1", network.node(0).port())).unwrap();
    run().refuses(exit::FAILED, "could not listen");
    drop(taken);

    let key = folder.join("node.key");
    let secret = fs::read(&key).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    run().refuses(exit::FAILED, "may be read by others");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&key, &secret[..20]).unwrap();
    run().refuses(exit::FAILED, "node.key");
    fs::write(&key, &secret).unwrap();

    let file = folder.join("network");
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    fs::write(&file, &flipped).unwrap();
    run().refuses(exit::FAILED, "begins otherwise");
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    run().refuses(exit::FAILED, "network");
    fs::remove_file(&file).unwrap();
    run().refuses(exit::FAILED, "no folder of a node");
}

/// The main job on a network: taken over, backed up to while a node is dead, proved offline, restored.
#[test]
fn a_vault_lives_on_a_network_that_loses_a_node() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 4, "");
    let source = world.path("source");
    tree::plain(&source, 1, 7);
    let urls: Vec<String> = network.nodes().iter().map(Node::url).collect();
    let mut init = world.init(3).args("--json").arg("--enrol-key").arg(dir.join("enrol.key"));
    for url in &urls {
        init = init.arg("--ledger").arg(url);
    }
    init.run().expect(exit::DONE);
    let first = world.back_up(&source).snapshot();

    network.node(0).kill();
    fs::write(source.join("news"), "while a node is dead").unwrap();
    let second = world.back_up(&source).snapshot();
    assert_ne!(first, second);
    world.expect_restores(&second, &source);

    // The receipt needs neither the network nor the vault.
    let (receipt, fingerprint) = (world.path("receipt"), world.fingerprint());
    world.call("receipt").arg(&second).arg("-o").arg(&receipt).run().expect(exit::DONE);
    assert!(fs::metadata(&receipt).unwrap().len() <= 8 * 1024, "a receipt has at most 8 KiB");
    let check =
        |fingerprint: &str| world.outside("check-receipt").arg(&receipt).arg("--fingerprint").arg(fingerprint).run();
    check(&fingerprint).expect(exit::DONE);
    check(&"00".repeat(32)).expect(exit::CHECK);

    // Without a quorum nothing is recorded, and everything is read.
    network.node(1).kill();
    world.expect_restores(&second, &source);
    fs::write(source.join("more"), "without a quorum").unwrap();
    let stuck = world.call("backup --json").arg(&source).run();
    assert_eq!(stuck.code(), exit::UNREACHABLE, "{}", stuck.stderr);
    let again: Vec<_> = network.nodes().iter().take(2).map(Node::run_again).collect();
    wait_until(|| world.call("backup --json").arg(&source).run().code() == exit::DONE, "the network goes on");
    drop(again);
}
