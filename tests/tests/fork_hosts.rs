//! A host that follows a forked ledger keeps the evidence and hands it to the nodes it talks to: they check it, tell it on the ledger and give no vote.
//! What proves nothing they refuse, whoever hands it in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/two_faces.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod two_faces;

use std::fs;
use std::path::PathBuf;

use blockhouse_ledger::BlockObject;
use blockhouse_ledger::fork::ForkSide;
use blockhouse_tests::network::{Node, wait_until};
use blockhouse_tests::world::{World, exit};
use serde_json::{Value, json};
use two_faces::{Face, Liar, evidence, named, vault_on_network};

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

#[test]
fn a_host_hands_the_nodes_what_it_met() {
    let world = World::empty();
    let network = vault_on_network(&world);
    let dirs: Vec<PathBuf> = network.nodes().iter().map(|node| node.dir.clone()).collect();
    let height = network.node(1).height() - 1;
    refuses_what_proves_nothing(network.node(2), height);

    // No node asks the liar: the host alone meets the second block. Of its two nodes the liar does not take the evidence.
    let liar = Liar::start(network.node(1).clone(), &dirs, height);
    let forgers = liar.show(Face::Fork);
    let config = world.vault().join("config.toml");
    let honest = fs::read_to_string(&config).unwrap();
    let ask = |urls: &[String]| {
        let text = honest.replacen(&network.node(0).url(), &urls.join("\", \""), 1);
        fs::write(&config, text).unwrap();
    };
    ask(&[liar.url(), network.node(2).url()]);
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
    ask(&[network.node(2).url(), network.node(3).url()]);
    let _ = world.call("snapshots").run();
    assert!(kept[0].with_extension("told").exists());
}
