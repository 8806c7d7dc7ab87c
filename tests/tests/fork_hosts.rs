//! A host that follows a forked ledger keeps the evidence and hands it to the nodes it talks to: they check it, tell it on the ledger and give no vote.
//! What proves nothing they refuse, whoever hands it in. Other nodes found the ledger anew, and the old fork is in nobody's way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/anew.rs"]
mod anew;
#[path = "support/two_faces.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod two_faces;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anew::{Anew, COUNT};
use blockhouse_ledger::BlockObject;
use blockhouse_ledger::fork::ForkSide;
use blockhouse_tests::network::{Network, Node, wait_until};
use blockhouse_tests::world::{World, exit};
use serde_json::{Value, json};
use two_faces::{Face, Liar, STRANGER, evidence, named, vault_on_network};

fn status(node: &Node) -> Value {
    node.try_ask("blockhouse_nodeStatus", &json!([])).map_or(Value::Null, |answer| answer["result"].clone())
}

/// A side of a fork, of the block that a node has there.
fn side(node: &Node, height: u64) -> Vec<u8> {
    let objects = node.ask("blockhouse_getBlockObjects", &json!([format!("{height:#x}"), "0x1"]));
    let object = hex::decode(objects[0].as_str().unwrap().trim_start_matches("0x")).unwrap();
    ForkSide::from(&BlockObject::decode(&object).unwrap()).encode()
}

/// What proves no fork of this ledger is refused, and nothing of it is kept.
fn refuses_what_proves_nothing(node: &Node, height: u64) {
    let (one, other) = (side(node, height), side(node, height - 1));
    let long = vec![0; 80 * 1024];
    let mut forged = one.clone();
    // In the header's state root: another block, which nobody certified.
    forged[100] ^= 1;
    for (a, b) in [(&one, &one), (&one, &other), (&one, &long), (&one, &forged), (&one, &Vec::new())] {
        let sides = json!([format!("0x{}", hex::encode(a)), format!("0x{}", hex::encode(b))]);
        let answer = node.try_ask("blockhouse_submitFork", &sides).unwrap();
        assert_eq!(answer["error"]["code"], -32_602, "{answer}");
    }
    let short = node.try_ask("blockhouse_submitFork", &json!([format!("0x{}", hex::encode(&one))])).unwrap();
    assert_eq!(short["error"]["code"], -32_602, "{short}");
    assert!(evidence(&node.dir).is_empty());
    assert_eq!(status(node)["role"], "validator");
}

/// Names these nodes in the vault's configuration.
fn ask(world: &World, urls: &[String]) {
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (before, rest) = text.split_once("urls = [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    fs::write(config, format!("{before}urls = [\"{}\"]{after}", urls.join("\", \""))).unwrap();
}

/// The owner enrols as operators whom the ledger names, whatever a node says of that. What was seen: she enrolled whom the first node named.
fn enrols_whom_the_ledger_names(world: &World, network: &Network, liar: &Liar) {
    ask(world, &[liar.url()]);
    let enrol = world.unlocked("node enrol --operators --json --yes").arg(network.node(2).url());
    let enrolled = enrol.run().expect(exit::DONE).lines();
    let told = |line: &Value| line["account"].as_str().unwrap().trim_start_matches("0x").to_lowercase();
    let told: BTreeSet<String> = enrolled.iter().map(told).collect();
    let own = |node: &Node| status(node)["account"].as_str().unwrap().trim_start_matches("0x").to_owned();
    assert_eq!(told, network.nodes().iter().map(own).collect(), "each operator speaks by his node's account");
    assert!(!told.contains(&hex::encode(STRANGER)) && enrolled.iter().all(|line| line["enrolled_now"] == false));
}

/// The way out: other nodes take the ledger over. They read of the old fork on it, and begin all the same. What was seen: each fell silent before the
/// handover to them was final, for good.
fn goes_on_under_other_keys(world: &World) {
    let ours = Anew::make(world);
    let made = ours.refound().run().expect(exit::DONE);
    let (after, base) = (made.text("fingerprint"), made.number("height"));
    let mut running = Vec::new();
    for number in 0..COUNT {
        running.push(ours.run(number, &after));
        // Two of four cannot begin: these know of it before the handover.
        if number < 2 {
            let known = || status(&ours.node(number))["forks"]["known"] == 1;
            wait_until(known, "it reads of the fork on the ledger, or is told of it");
            assert_eq!(ours.node(number).height(), base);
        }
    }
    wait_until(|| (0..COUNT).all(|number| ours.node(number).height() > base), "the new network goes on");
    world.back_up(&world.path("source"));
    assert_eq!(world.fingerprint(), after);
    for number in 0..COUNT {
        let status = status(&ours.node(number));
        assert_eq!((&status["role"], &status["forks"]["silent"]), (&json!("validator"), &Value::Null));
    }
}

#[test]
fn a_host_hands_the_nodes_what_it_met() {
    let world = World::empty();
    let network = vault_on_network(&world);
    let dirs: Vec<PathBuf> = network.nodes().iter().map(|node| node.dir.clone()).collect();
    let height = network.node(1).height() - 1;
    refuses_what_proves_nothing(network.node(2), height);

    // No node asks the liar: the host alone meets the second block. Of its two nodes the liar does not take the evidence.
    enrols_whom_the_ledger_names(&world, &network, &Liar::start(network.node(1).clone(), &dirs, u64::MAX));
    let liar = Liar::start(network.node(1).clone(), &dirs, height);
    let forgers = liar.show(Face::Fork);
    ask(&world, &[liar.url(), network.node(2).url()]);
    let _ = world.call("snapshots").run();
    let kept = evidence(&world.vault());
    assert_eq!(kept.len(), 1);
    assert!(!kept[0].with_extension("told").exists(), "a node that does not answer may not have heard of it");

    // The node that was handed it keeps it, and tells it; the others read it there.
    for node in network.nodes() {
        wait_until(|| status(node)["role"] == "silent", "a validator that knows of a fork gives no vote");
        assert_eq!(evidence(&node.dir).len(), 1);
        assert_eq!(evidence(&node.dir)[0].file_name(), kept[0].file_name(), "one fork has one file");
        assert_eq!(status(node)["forks"]["untold"], 0, "it is on the ledger");
    }
    let fingerprint = world.fingerprint();
    let check = world.outside("check-fork --json").arg(&evidence(&dirs[2])[0]);
    let proved = check.args(&format!("--fingerprint {fingerprint}")).run().expect(exit::CHECK).summary();
    named(&proved, &forgers);

    // All of its nodes answer now: it is handed on once more, and then no more.
    ask(&world, &[network.node(2).url(), network.node(3).url()]);
    let _ = world.call("snapshots").run();
    assert!(kept[0].with_extension("told").exists());

    goes_on_under_other_keys(&world);
}
