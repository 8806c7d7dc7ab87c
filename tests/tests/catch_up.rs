//! Nodes that come late: by the state of a late block while others go on, with peers that lie or fall silent, killed at any instant; and by
//! blocks alone. In the end each has everything that the others have.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/late.rs"]
mod late;
#[path = "support/writers.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod writers;

use std::sync::{Mutex, PoisonError};

use blockhouse_homes::store::{Access, Store};
use blockhouse_tests::World;
use blockhouse_tests::network::{Node, wait_until};
use blockhouse_tests::world::exit;
use late::{Between, Late, Malice, Run};
use serde_json::{Value, json};
use writers::{Writer, enrol, opened, send};

/// EIP-4444.
const NO_HISTORY: i64 = 4444;
/// More than a store must have below its head, so that something is left to fetch.
const BLOCKS: u64 = 300;

/// One at a time: nodes are processes, and this machine may have two cores.
static TURN: Mutex<()> = Mutex::new(());

/// Commits snapshots until there are so many blocks.
fn write_until(node: &Node, writer: &mut Writer, height: u64) {
    while node.height() < height {
        let opening = send(node, &writer.open());
        let (_, session) = opened(&node.receipt(&opening)).unwrap();
        let commit = send(node, &writer.commit(session));
        let receipt = node.receipt(&commit);
        assert_eq!(receipt["status"], "0x1", "{receipt}");
    }
}

/// What a node says of all blocks and events up to that height.
fn all_of(node: &Node, height: u64) -> Vec<Value> {
    let blocks = (0..=height).flat_map(|height| {
        let at = format!("{height:#x}");
        let block = node.ask("eth_getBlockByNumber", &json!([at, true]));
        [block, node.ask("eth_getBlockReceipts", &json!([at]))]
    });
    let logs = node.ask("eth_getLogs", &json!([{ "fromBlock": "0x0", "toBlock": format!("{height:#x}") }]));
    blocks.chain([logs]).collect()
}

fn events(node: &Node, height: u64) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut question = json!({ "order": "oldest", "limit": "0x64" });
        if !cursor.is_null() {
            question["cursor"] = cursor;
        }
        let page = node.ask("blockhouse_getEvents", &json!([question]));
        all.extend(page["events"].as_array().unwrap().iter().cloned());
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    all.retain(|event| blockhouse_tests::network::number(&event["blockNumber"]) <= height);
    all
}

fn history(node: &Node) -> Value {
    node.ask("blockhouse_nodeStatus", &json!([]))["history"].clone()
}

fn failure(node: &Node) -> Value {
    node.ask("blockhouse_nodeStatus", &json!([]))["failure"].clone()
}

#[track_caller]
fn expect_no_history(node: &Node, method: &str, params: &Value) {
    let answer = node.try_ask(method, params).unwrap();
    assert_eq!(answer["error"]["code"], json!(NO_HISTORY), "{method}: {answer}");
}

/// Both have the same, and the late one goes on with the other.
fn expect_same(node: &Node, late: &Node, writer: &mut Writer) {
    wait_until(|| history(late)["bottom"] == json!(0), "the history is filled");
    let height = node.height();
    wait_until(|| late.height() >= height, "the late node follows");
    assert_eq!(all_of(late, height), all_of(node, height));
    assert_eq!(events(late, height), events(node, height));
    write_until(node, writer, height + 2);
    wait_until(|| late.height() >= height + 2, "the late node goes on");
    assert_eq!(late.hash_at(height + 2), node.hash_at(height + 2), "the state root is in the hash");
    assert_eq!(failure(late), Value::Null);
}

#[test]
fn a_node_begins_by_state_beside_a_liar_is_killed_and_has_everything_in_the_end() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::empty();
    let net = Late::found(&world.path("net"), 1, 2);
    let first = net.node(0);
    let mut running = Run::start(&first, "");
    running.answers(&first);
    let mut writer = enrol(net.dir(), &first, 1).remove(0);
    write_until(&first, &mut writer, BLOCKS);

    // Killed wherever a peer falls silent; what it leaves is never believed.
    let late = net.follower(0);
    for (method, nth) in
        [("blockhouse_getKeptState", 0), ("blockhouse_getPastBlocks", 0), ("blockhouse_getStatePart", 0)]
    {
        let silent = Between::new(&first, method, nth, Malice::Silent);
        Late::tell(&late, &[silent.url()], 100);
        let run = Run::start(&late, "");
        wait_until(|| silent.met() > nth, "it is asked");
        if method == "blockhouse_getStatePart" {
            let status = world.outside("node status --dir").arg(&late.dir).run().expect(exit::UNREACHABLE);
            assert!(status.says("it is catching up: fetching the state of block"), "{}", status.stderr);
        }
        drop(run);
        let store = Store::open(&late.dir.join("ledger.redb"), Access::Read, blockhouse_homes::store::WAIT, None);
        assert_eq!(store.unwrap().height(), 0, "after {method} no half state is there");
    }

    // A liar is named and left; the history stops coming half-way.
    let liar = Between::new(&first, "blockhouse_getStatePart", 0, Malice::Lies);
    let silent = Between::new(&first, "blockhouse_getPastBlocks", 1, Malice::Silent);
    Late::tell(&late, &[liar.url(), silent.url()], 100);
    let mut run = Run::start(&late, "");
    run.answers(&late);
    let talk = run.talk();
    assert!(talk.contains(&format!("left the node {}", liar.url())), "{talk}");
    assert!(talk.contains("has the state of block") && !talk.contains("has executed"), "{talk}");
    // Of the liar it gets the blocks below: those are true.
    drop(run);
    Late::tell(&late, &[Between::new(&first, "blockhouse_getPastBlocks", 0, Malice::Silent).url()], 100);
    let path = late.dir.join("ledger.redb");
    let bottom = Store::open(&path, Access::Read, blockhouse_homes::store::WAIT, None).unwrap().bottom();
    let mut run = Run::start(&late, "");
    run.answers(&late);
    assert!(bottom > 0, "it has the history already");
    expect_no_history(&late, "eth_getBlockByNumber", &json!(["0x5", false]));
    expect_no_history(&late, "eth_getLogs", &json!([{ "fromBlock": "0x0" }]));
    expect_no_history(&late, "blockhouse_getEvents", &json!([{}]));
    expect_no_history(&late, "blockhouse_getBlockObjects", &json!(["0x5", "0x1"]));
    let status = world.outside("node status --json --dir").arg(&late.dir).run().expect(exit::DONE);
    assert_eq!(status.lines()[0]["history_from"], json!(bottom), "{}", status.stderr);
    assert!(late.ask("eth_getBlockByNumber", &json!(["0x0", false]))["hash"].is_string());
    drop(run);
    Late::tell(&late, &[first.url()], 100);
    let mut run = Run::start(&late, "");
    run.answers(&late);
    expect_same(&first, &late, &mut writer);

    // The other one executes all of it, and has the same.
    let other = net.follower(1);
    Late::tell(&other, &[late.url(), first.url()], 100);
    let mut by_blocks = Run::start(&other, "--by-blocks");
    by_blocks.answers(&other);
    let talk = by_blocks.talk();
    assert!(!talk.contains("the state of block") && talk.contains("has executed"), "{talk}");
    expect_same(&first, &other, &mut writer);
}

#[test]
fn a_validator_that_comes_late_by_state_votes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::empty();
    let net = Late::found(&world.path("net"), 4, 0);
    let nodes: Vec<_> = (0..4).map(|at| net.node(at)).collect();
    let mut running: Vec<_> = nodes[..3].iter().map(|node| Run::start(node, "")).collect();
    running.iter_mut().zip(&nodes).for_each(|(run, node)| run.answers(node));
    let mut writer = enrol(net.dir(), &nodes[0], 1).remove(0);
    write_until(&nodes[0], &mut writer, 12);
    Late::tell(&nodes[3], &[nodes[1].url(), nodes[0].url()], 5);
    let mut late = Run::start(&nodes[3], "");
    late.answers(&nodes[3]);
    assert!(late.talk().contains("has the state of block"), "{}", late.talk());
    let status = nodes[3].ask("blockhouse_nodeStatus", &json!([]));
    assert_eq!(status["role"], "validator", "its key never voted: {status}");
    // Without it there is no quorum now.
    drop(running.remove(0));
    let height = nodes[1].height();
    write_until(&nodes[1], &mut writer, height + 3);
    wait_until(|| nodes[3].height() >= height + 3, "it follows");
    assert_eq!(nodes[3].hash_at(height + 3), nodes[1].hash_at(height + 3));
    assert_eq!(nodes[3].hash_at(2), nodes[1].hash_at(2));
    assert_eq!(failure(&nodes[3]), Value::Null);
}
