//! Nodes that come late: by the state of a late block while others go on, with peers that lie or fall silent, killed at any instant, also where
//! the validators have changed since; and by blocks alone. In the end each has everything that the others have.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/late.rs"]
mod late;
#[path = "support/writers.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod writers;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blockhouse_homes::network::NodeConfig;
use blockhouse_homes::store::{Access, Store};
use blockhouse_tests::World;
use blockhouse_tests::network::{Node, number, wait_until};
use blockhouse_tests::world::exit;
use late::{Between, Late, Malice, Run};
use serde_json::{Value, json};
use writers::{Writer, enrol, enrol_others, opened, send};

/// EIP-4444.
const NO_HISTORY: i64 = 4444;
/// More than a store must have below its head, so that something is left to fetch.
const BLOCKS: u64 = 300;

/// Blocks in an epoch: the fewest that there may be.
const LENGTH: u64 = 16;
/// Between two looks at the height.
const LOOK: Duration = Duration::from_millis(2);

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

/// Makes blocks with a small transaction each until there are so many.
fn climb(node: &Node, writer: &mut Writer, height: u64) {
    let mut sent_at = None;
    loop {
        match node.height() {
            now if now >= height => return,
            now if sent_at != Some(now) => {
                send(node, &writer.nothing());
                sent_at = Some(now);
            }
            _ => std::thread::sleep(LOOK),
        }
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
    all.retain(|event| number(&event["blockNumber"]) <= height);
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

    // A liar is named and left. Both give the blocks with which a state begins, and then the history comes of neither.
    let silent = Between::new(&first, "blockhouse_getPastBlocks", 2, Malice::Silent);
    let liar = Between::new(&silent.node(), "blockhouse_getStatePart", 0, Malice::Lies);
    Late::tell(&late, &[liar.url(), silent.url()], 100);
    let mut run = Run::start(&late, "");
    run.answers(&late);
    let talk = run.talk();
    assert!(talk.contains(&format!("left the node {}", liar.url())), "{talk}");
    assert!(talk.contains("has the state of block") && !talk.contains("has executed"), "{talk}");
    wait_until(|| silent.met() > 2, "the history is asked for");
    drop(run);
    Late::tell(&late, &[Between::new(&first, "blockhouse_getPastBlocks", 0, Malice::Silent).url()], 100);
    let path = late.dir.join("ledger.redb");
    let bottom = Store::open(&path, Access::Read, blockhouse_homes::store::WAIT, None).unwrap().bottom();
    assert!(bottom > 0, "it has the history already");
    let mut run = Run::start(&late, "");
    run.answers(&late);
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
    // Its only peer is slow to say how high it is, and has all kinds of trouble with the state.
    let troubled = Between::new(&nodes[1], "blockhouse_getStatePart", 0, Malice::Troubled);
    let slow = Between::new(&troubled.node(), "eth_blockNumber", 0, Malice::Slow);
    Late::tell(&nodes[3], &[slow.url()], 5);
    let mut late = Run::start(&nodes[3], "");
    late.answers(&nodes[3]);
    let talk = late.talk();
    assert_eq!(talk.matches(&format!("left the node {}", slow.url())).count(), 1, "{talk}");
    assert!(talk.contains("(code -32001)") && talk.contains("has the state of block"), "{talk}");
    assert!(troubled.met() > 4, "{} parts were asked for", troubled.met());
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

/// A network of four in which a fifth node, which never ran, gets the vote of the fourth; all of that is below what a late state has of blocks.
struct Changed {
    world: World,
    net: Late,
    running: Vec<Run>,
    writer: Writer,
    /// The block with which the first validators ended.
    closing: u64,
}

impl Changed {
    fn new() -> Self {
        let world = World::empty();
        let net = Late::found_governed(&world.path("net"), 4, 2, LENGTH);
        let nodes: Vec<_> = (0..4).map(|at| net.node(at)).collect();
        let mut running: Vec<_> = nodes.iter().map(|node| Run::start(node, "")).collect();
        running.iter_mut().zip(&nodes).for_each(|(run, node)| run.answers(node));
        let writer = enrol(net.dir(), &nodes[0], 1).remove(0);
        enrol_others(net.dir(), &nodes[0], &[0, 1, 2].map(|at| Late::keys(&nodes[at]).account()));
        let mut changed = Self { world, net, running, writer, closing: 0 };
        // The ledger makes the contract that names the validators with the blocks that follow.
        climb(&nodes[0], &mut changed.writer, nodes[0].height() + 2);
        changed.replace();
        changed
    }

    /// Three governors give the vote of the fourth node to the fifth, which is in force some epochs later.
    fn replace(&mut self) {
        let (dan, eve) = (self.net.node(3), self.net.follower(0));
        let by = self.net.enrolment(&eve, "eve");
        let govern = |words: &str, at: usize| {
            let call = self.world.outside("node validators").args(words).arg("--dir").arg(self.net.node(at).dir);
            call.arg("--ledger").arg(self.net.node(0).url()).args("--json")
        };
        let propose = govern("propose", 0).arg("--replace").arg(NodeConfig::name_of(&Late::keys(&dan)));
        let proposal = propose.arg("--by").arg(by).run().expect(exit::DONE).text("proposal");
        for at in [1, 2] {
            govern(&format!("approve {proposal}"), at).run().expect(exit::DONE);
        }
        govern(&format!("enact {proposal}"), 0).run().expect(exit::DONE);
        let first = self.net.node(0);
        let successions = || first.ask("blockhouse_standing", &json!([]))["successions"].clone();
        while successions() == json!([]) {
            climb(&first, &mut self.writer, first.height() + LENGTH);
        }
        self.closing = number(&successions()[0]["height"]) - 1;
    }
}

#[test]
fn a_node_begins_by_state_above_a_change_of_the_validators_and_votes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ours = Changed::new();
    let (ann, ben, eve) = (ours.net.node(0), ours.net.node(1), ours.net.follower(0));
    climb(&ann, &mut ours.writer, ours.closing + BLOCKS);
    // The fourth is needed no more.
    drop(ours.running.pop());
    let folder = |name: &str| ann.dir.join("engine").join(name);
    let epoch = format!("epoch-{}", (ours.closing + 1) / LENGTH);
    wait_until(|| folder(&epoch).join("journal").is_dir() && !folder("epoch-0/journal").exists(), "it is over");
    assert!(folder("epoch-0/node").exists(), "that it was there is remembered");

    // Killed where a peer falls silent; what it leaves is never believed.
    for method in ["blockhouse_getLinks", "blockhouse_getStatePart"] {
        let silent = Between::new(&ann, method, 0, Malice::Silent);
        Late::tell(&eve, &[silent.url()], 100);
        let run = Run::start(&eve, "");
        wait_until(|| silent.met() > 0, "it is asked");
        drop(run);
        let store = Store::open(&eve.dir.join("ledger.redb"), Access::Read, blockhouse_homes::store::WAIT, None);
        assert_eq!(store.unwrap().height(), 0, "after {method} no half state is there");
    }

    // The history stops coming half-way.
    let silent = Between::new(&ben, "blockhouse_getPastBlocks", 1, Malice::Silent);
    Late::tell(&eve, &[silent.url()], 100);
    let mut run = Run::start(&eve, "");
    run.answers(&eve);
    let talk = run.talk();
    let followed = format!("changes of the validators: 1, the last with block {}", ours.closing);
    assert!(talk.contains(&followed) && talk.contains("has the state of block"), "{talk}");
    assert!(!talk.contains("has executed"), "{talk}");
    assert!(history(&eve)["bottom"].as_u64().unwrap() > ours.closing, "{}", history(&eve));

    // Its key never voted, and now it does: without it there is no quorum any more.
    let status = eve.ask("blockhouse_nodeStatus", &json!([]));
    assert_eq!((&status["role"], &status["validators"]), (&json!("validator"), &json!(4)), "{status}");
    drop(ours.running.remove(2));
    let height = ann.height();
    write_until(&ann, &mut ours.writer, height + 3);

    // A receipt has its links from a node without that history, and another node is led by it; who shows a false way is named.
    let last = ann.ask("eth_getBlockByNumber", &json!(["latest", false]))["transactions"][0].clone();
    let proof = ann.ask("blockhouse_getReceiptProof", &json!([last]));
    wait_until(|| eve.height() >= ann.height(), "it follows");
    assert_eq!(proof["links"].as_array().unwrap().len(), 1, "{proof}");
    // Who signed what may differ from node to node.
    let of_eve = eve.ask("blockhouse_getReceiptProof", &json!([last]));
    assert_eq!(of_eve["links"][0]["header"], proof["links"][0]["header"]);
    assert_eq!((&of_eve["header"], &of_eve["proof"]), (&proof["header"], &proof["proof"]));
    expect_no_history(&eve, "blockhouse_getBlockObjects", &json!([format!("{:#x}", ours.closing), "0x1"]));
    let other = ours.net.follower(1);
    let liar = Between::new(&ann, "blockhouse_getLinks", 0, Malice::Lies);
    Late::tell(&other, &[liar.url(), eve.url()], 100);
    let mut of_eve = Run::start(&other, "");
    of_eve.answers(&other);
    let talk = of_eve.talk();
    assert!(talk.contains(&format!("left the node {}", liar.url())) && talk.contains(&followed), "{talk}");
    assert!(talk.contains("has the state of block"), "{talk}");

    // Killed and told of a node that has all, it gets the rest, below the change too; so does the other.
    drop(run);
    drop(of_eve);
    for node in [&eve, &other] {
        Late::tell(node, &[ann.url()], 100);
    }
    let mut run = [Run::start(&eve, ""), Run::start(&other, "")];
    run[0].answers(&eve);
    run[1].answers(&other);
    expect_same(&ann, &other, &mut ours.writer);
    expect_same(&ann, &eve, &mut ours.writer);
    assert_eq!(eve.ask("blockhouse_nodeStatus", &json!([]))["role"], "validator");
}
