//! What clients do to a network of four: they hand transactions in anywhere, flood it, send what cannot be, and hold connections open.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how it is replayed"
)]

#[path = "support/bad_requests.rs"]
mod bad_requests;
#[path = "support/faults.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod faults;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::Command;

use alloy_primitives::Address;
use bad_requests::{Drips, bad_transactions, post, post_pieces};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::network::NodeConfig;
use blockhouse_tests::need::{self, ethereum_tools};
use blockhouse_tests::network::apart::Apart;
use blockhouse_tests::network::proxy::Cut;
use blockhouse_tests::network::{Node, free_ports, number, wait_until};
use blockhouse_tests::tree;
use faults::Turn;
use faults::writers::{Signed, Writer, genesis, send};
use rand::RngExt;
use serde_json::{Value, json};

/// All nodes.
const ALL: [usize; 4] = [0, 1, 2, 3];
/// The node that bad clients go to.
const SUFFERS: usize = 3;
/// How many transactions one account has in its flood.
const FLOOD: usize = 2000;
/// How many of them are handed in with one request: what a server takes.
const AT_ONCE: usize = 100;
/// How many bytes each carries. By the gas that they ask for a block holds some 160 of them.
const LENGTH: usize = 1024;

/// Whether a node has a transaction waiting.
fn waits(node: &Node, signed: &Signed) -> bool {
    let found = node.ask("eth_getTransactionByHash", &json!([signed.hash]));
    found.is_object() && found["blockNumber"].is_null()
}

fn edit(apart: &Apart, at: usize, change: impl FnOnce(&mut NodeConfig)) {
    let path = apart.node(at).dir.join("node.toml");
    let mut config = NodeConfig::load(&path).unwrap();
    change(&mut config);
    std::fs::write(path, config.text()).unwrap();
}

/// Nodes tell each other what was handed in, and of two transactions with one nonce the later counts, wherever each came in. Neither can stand in a
/// block as long as the one before them is missing.
#[test]
fn what_waits_at_one_node_waits_at_all_and_what_replaces_it_too() {
    let mut turn = Turn::begin();
    turn.start_all();
    let node = |at: usize| turn.apart.node(at);
    let mut writer = turn.writers[0].clone();
    let missing = writer.open();
    let (older, newer) = (writer.clone().carrying(b"older"), writer.carrying(b"newer"));
    send(node(0), &older);
    wait_until(|| ALL.iter().all(|at| waits(node(*at), &older)), "all nodes hear of a transaction");
    send(node(1), &newer);
    wait_until(|| ALL.iter().all(|at| waits(node(*at), &newer)), "all nodes hear of the one that replaces it");
    for at in ALL {
        assert!(!waits(node(at), &older), "node {at} keeps what was replaced");
        let refused = node(at).try_ask("eth_sendRawTransaction", &json!([older.raw])).unwrap();
        assert!(refused["error"]["message"].as_str().unwrap().contains("already replaced"), "{refused}");
        assert_eq!(node(at).ask("txpool_status", &json!([])), json!({ "pending": "0x0", "queued": "0x1" }));
    }
    send(node(2), &missing);
    for at in ALL {
        assert_eq!(node(at).receipt(&json!(missing.hash))["status"], "0x1");
        node(at).receipt(&json!(newer.hash));
        assert!(node(at).ask("eth_getTransactionReceipt", &json!([older.hash])).is_null());
    }
    turn.expect_all_well(&[]);
}

/// Hands all in, in their order.
fn hand_in(node: &Node, flood: &[Signed]) {
    for batch in flood.chunks(AT_ONCE) {
        let calls = batch.iter().enumerate().map(|(id, signed)| {
            json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [signed.raw] })
        });
        let answers = post(node, &calls.collect::<Value>().to_string()).json();
        let answers = answers.as_array().unwrap_or_else(|| panic!("{answers}"));
        assert_eq!(answers.len(), batch.len());
        for (answer, signed) in answers.iter().zip(batch) {
            assert_eq!(answer["result"], json!(signed.hash), "{answer}");
        }
    }
}

/// Nothing becomes final while the network is in halves, so when they join again all that they propose was made by nodes that hold both the whole flood
/// and the one transaction of another account; but for one block that a leader may have proposed before that, and nobody could agree on.
#[test]
fn a_flood_by_one_account_delays_another_by_a_block_and_nothing_of_it_is_read_on_the_wire() {
    let mut turn = Turn::begin();
    for at in ALL {
        edit(&turn.apart, at, |config| config.rpc.calls_per_second = NonZeroU32::new(10_000).unwrap());
    }
    turn.start_all();
    let [mut flooding, mut other] = [0, 1].map(|at: usize| turn.writers[at].clone());
    // The sessions that they open make the network agree on something first: it is not about to record a heartbeat.
    make_final_at_all(&turn.apart, &[flooding.open(), other.open()]);
    turn.apart.proxies.cut_off(&[0, 1], Cut::Silent);

    let word: [u8; 32] = tree::random(turn.seed).random();
    turn.apart.proxies.listen_for(&word);
    let flood = flooded(&mut flooding, &word);
    let node = |at: usize| turn.apart.node(at);
    for at in [0, 2] {
        hand_in(node(at), &flood);
    }
    wait_until(|| ALL.iter().all(|at| waits(node(*at), flood.last().unwrap())), "all nodes hold the flood");
    let one = other.carrying(&word);
    for at in [1, 3] {
        send(node(at), &one);
    }
    wait_until(|| ALL.iter().all(|at| waits(node(*at), &one)), "all nodes hold the one");
    let before = ALL.iter().map(|at| node(*at).height()).max().unwrap();
    turn.apart.proxies.heal();

    let height = |signed: &Signed| number(&node(3).receipt(&json!(signed.hash))["blockNumber"]);
    let (of_one, of_last) = (height(&one), height(flood.last().unwrap()));
    assert!(of_one <= before + 2, "above block {before} it had to wait for block {of_one}");
    assert!(of_last > of_one, "the flood went before it, up to block {of_last}: it waited for block {of_one}");
    let heard = turn.apart.proxies.heard();
    assert!(heard.bytes > (FLOOD * LENGTH) as u64, "the flood went from node to node: {heard:?}");
    assert_eq!(heard.found, 0, "what nodes say to each other is read on the wire: {heard:?}");
    turn.expect_all_well(&[]);
}

fn make_final_at_all(apart: &Apart, all: &[Signed]) {
    let hashes: Vec<Value> = all.iter().map(|signed| send(apart.node(0), signed)).collect();
    for at in ALL {
        for hash in &hashes {
            assert_eq!(apart.node(at).receipt(hash)["status"], "0x1");
        }
    }
}

/// The transactions of a flood, each full of that word.
fn flooded(writer: &mut Writer, word: &[u8]) -> Vec<Signed> {
    let bytes = word.repeat(LENGTH / word.len());
    (0..FLOOD).map(|_| writer.carrying(&bytes)).collect()
}

/// The node that bad clients go to answers each of them, and others too; the network goes on with it.
#[test]
fn a_node_that_suffers_bad_clients_goes_on_and_so_do_the_others() {
    let mut turn = Turn::begin();
    turn.start_all();
    let mut own = turn.writers.pop().unwrap();
    let load = turn.load(&ALL[..SUFFERS]);
    let node = turn.apart.node(SUFFERS).clone();
    let mut drips = Drips::open(&node, 25);
    let mut go_on = |what: &str| {
        drips.drip();
        assert!(node.height() > 0, "the node answers after {what}");
        load.wait_for(1, "the others go on");
    };

    let refused = |raw: &str| {
        let answer = node.try_ask("eth_sendRawTransaction", &json!([raw])).unwrap();
        assert_eq!(answer["error"]["code"], -32_003, "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    let stranger = AccountSecret::try_new(&Secret::new([77; 32])).unwrap();
    for (raw, words) in bad_transactions(genesis(&node).chain_id, own.secret(), &stranger) {
        let why = refused(&raw);
        assert!(why.contains(words), "{words}: {why}");
    }
    let taken = own.open();
    node.receipt(&send(&node, &taken));
    assert!(refused(&taken.raw).contains("nonce too low"), "a replay");
    go_on("transactions that cannot be");

    assert_eq!(post(&node, &" ".repeat(100 << 20)).status, 413);
    assert_eq!(post_pieces(&node, &"[ ".repeat(1 << 19), 100).status, 500, "its length was not told beforehand");
    go_on("100 MiB");

    for (body, code) in bad_bodies(genesis(&node).vault_address()) {
        assert_eq!(post(&node, &body).code(), code, "{body:.100}");
    }
    go_on("nonsense, nesting and long batches");

    wait_until(
        || {
            drips.drip();
            drips.are_let_go()
        },
        "who never ends a head is let go",
    );
    // What it takes becomes final.
    node.receipt(&send(&node, &own.nothing()));
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

/// Requests of JSON-RPC that no server answers, and the codes of the errors that they get.
fn bad_bodies(vault: Address) -> Vec<(String, i64)> {
    let call = |method: &str, params: &Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let batch = |length, call: &Value| Value::Array(vec![call.clone(); length]).to_string();
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let (chain, slots) = (call("eth_chainId", &json!([])), vec!["0x0"; 1024]);
    vec![
        ("{\"jsonrpc\": \"2.0\", \"method\"".to_owned(), -32_700),
        ("[]".to_owned(), -32_600),
        (call("eth_nothing", &json!([])).to_string(), -32_601),
        (format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_call\",\"params\":[{deep}]}}"), -32_602),
        (batch(AT_ONCE + 1, &chain), -32_010),
        // Each has a proof for each slot.
        (batch(AT_ONCE, &call("eth_getProof", &json!([vault, slots, "latest"]))), -32_011),
    ]
}

/// What watches a node reads its metrics with a library that others wrote.
#[test]
fn metrics_are_what_prometheus_reads() {
    let python = ethereum_tools().join("python/bin/python");
    if !need::set_up("ethereum-tools", python.exists()) {
        return;
    }
    let mut turn = Turn::begin();
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)));
    edit(&turn.apart, 0, |config| config.metrics = Some(address));
    turn.start_all();
    make_final_at_all(&turn.apart, &[turn.writers[0].clone().open()]);
    let node = turn.apart.node(0);
    let status = || node.ask("blockhouse_nodeStatus", &json!([]));
    wait_until(|| status()["peers"] == 3, "it is connected to all others");
    let before = status();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/metrics_client.py");
    let called =
        Command::new(python).args(["-B", script]).env("METRICS_URL", format!("http://{address}/metrics")).output();
    let called = called.unwrap();
    assert!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
    let told: Value = serde_json::from_slice(&called.stdout).unwrap();
    let told = |name: &str| told[format!("blockhouse_{name}")].as_u64().unwrap_or_else(|| panic!("no {name}: {told}"));
    for (field, metric) in
        [("height", "height"), ("finalView", "final_view"), ("view", "view"), ("storeBytes", "store_bytes")]
    {
        let least = before[field].as_u64().unwrap();
        assert!(least > 0 && told(metric) >= least, "{metric}: {} and {before}", told(metric));
    }
    assert_eq!(["peers", "validators", "quorum", "votes", "failed"].map(told), [3, 4, 3, 1, 0]);
    assert_eq!(["pool_pending", "pool_queued", "pool_bytes"].map(told), [0; 3]);
    // A heartbeat may be on its way.
    assert!(told("finality_lag_blocks") <= 1);
    turn.expect_all_well(&[]);
}
