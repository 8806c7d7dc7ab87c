//! Operators with a quorum of keys fork their ledger: they certify a second block of a height, and have a node serve it. Whoever meets it keeps the
//! evidence, which anybody can check; the nodes tell it on the ledger and then give no vote. What is no fork moves nobody.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/two_faces.rs"]
mod two_faces;

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_tests::network::{Node, wait_until};
use blockhouse_tests::world::{World, exit};
use serde_json::{Value, json};
use two_faces::{Face, Liar, evidence, named, vault_on_network};

/// The nodes at these URLs are asked by that node too, the first ones first.
fn believe(node: &Node, liars: &[&Liar]) {
    let path = node.dir.join("node.toml");
    let config = fs::read_to_string(&path).unwrap();
    let urls: Vec<String> = liars.iter().map(|liar| format!("\"{}\"", liar.url())).collect();
    let named = format!("rpc_peers = [{}, ", urls.join(", "));
    fs::write(path, config.replacen("rpc_peers = [", &named, 1)).unwrap();
}

fn forks_of(node: &Node) -> Value {
    node.try_ask("blockhouse_nodeStatus", &json!([])).map_or(Value::Null, |answer| answer["result"]["forks"].clone())
}

fn is_silent(node: &Node) -> bool {
    let status = node.try_ask("blockhouse_nodeStatus", &json!([])).unwrap_or_default();
    status["result"]["role"] == "silent" && status["result"]["forks"]["silent"].is_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one history, told in its order")]
fn a_fork_is_proved_told_and_voted_on_by_nobody() {
    let world = World::empty();
    let network = vault_on_network(&world);
    let fingerprint = world.fingerprint();
    let dirs: Vec<PathBuf> = network.nodes().iter().map(|node| node.dir.clone()).collect();
    let height = network.node(1).height() - 1;
    let liars = [Face::Garbage, Face::TooFew, Face::Foreign].map(|face| {
        let liar = Liar::start(network.node(1).clone(), &dirs, height);
        liar.show(face);
        liar
    });
    believe(network.node(0), &liars.each_ref());
    let network = network.restart("");

    // What is no fork moves nobody: each liar was judged before it is asked once more.
    for liar in &liars {
        wait_until(|| liar.rounds() >= 3, "a node compares its chain with what others serve");
    }
    assert_eq!(
        forks_of(network.node(0)),
        json!({
            "known": 0, "unsettled": 0, "untold": 0, "silent": null, "signs": 0, "firstSigns": [],
        })
    );
    assert!(evidence(&network.node(0).dir).is_empty());
    assert!(!is_silent(network.node(0)));

    // A quorum signs a second block. The node that meets it keeps the proof, and says it on the ledger.
    let forgers = liars[0].show(Face::Fork);
    wait_until(|| evidence(&network.node(0).dir).len() == 1, "the evidence is kept");
    let file = evidence(&network.node(0).dir).remove(0);
    let check =
        |file: &Path| world.outside("check-fork --json").arg(file).args(&format!("--fingerprint {fingerprint}"));
    let proved = check(&file).run().expect(exit::CHECK).summary();
    let signers = named(&proved, &forgers);
    assert_eq!(proved["block"].as_u64(), Some(height));
    assert_eq!((&proved["signed_by"], &proved["voters"]), (&json!("validators"), &json!(4)));
    let own = network.node(1).hash_at(height);
    let hashes: Vec<&str> = proved["block_hashes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(hashes.len() == 2 && hashes.contains(&own.as_str().unwrap().trim_start_matches("0x")));
    let words = world.outside("check-fork").arg(&file).args(&format!("--fingerprint {fingerprint}")).run();
    assert!(String::from_utf8_lossy(&words.expect(exit::CHECK).stdout).contains("FORKED: the ledger"));

    // The other nodes read it there and check it themselves. Then nobody votes.
    for node in network.nodes() {
        wait_until(|| is_silent(node), "a validator that knows of a fork gives no vote");
        assert_eq!(forks_of(node)["untold"], 0, "it is on the ledger");
        assert_eq!(evidence(&node.dir).len(), 1);
        assert_eq!(evidence(&node.dir)[0].file_name(), file.file_name(), "one fork has one file");
    }
    let status = world.outside("node status --json --dir").arg(&dirs[0]).run().expect(exit::CHECK);
    let status = status.lines().pop().unwrap();
    assert!(status["silenced"].as_str().unwrap().contains("is forked at block"), "{status}");
    assert_eq!((&status["ok"], &status["forks"], &status["forks_untold"]), (&json!(false), &json!(1), &json!(0)));
    let told = world.call("history --json").run().expect(exit::DONE).lines();
    let told: Vec<&Value> = told.iter().filter(|line| line["event"] == "ForkReported").collect();
    assert_eq!(told.len(), 1, "one fork is told once: {told:?}");
    assert_eq!(told[0]["fields"]["signers"], signers.join(","));

    // A host that asks the liar keeps the same evidence, and can check it by what it knows itself.
    let config = world.vault().join("config.toml");
    let honest = fs::read_to_string(&config).unwrap();
    let urls = network.nodes().iter().fold(honest.clone(), |text, node| text.replace(&node.url(), &liars[0].url()));
    fs::write(&config, urls).unwrap();
    // Whether it is said is the command's matter; what is kept is the test.
    let _ = world.call("snapshots").run();
    let kept = evidence(&world.vault());
    assert_eq!(kept.len(), 1);
    world.call("check-fork").arg(&kept[0]).run().expect(exit::CHECK);
    fs::write(&config, honest).unwrap();

    // What proves nothing is told apart from what does.
    let other = world.outside("check-fork").arg(&file).args(&format!("--fingerprint {}", "22".repeat(32))).run();
    other.refuses(exit::FAILED, "of the vault with fingerprint");
    world.outside("check-fork").arg(&file).run().refuses(exit::USAGE, "was not said");
    let mut altered = fs::read(&file).unwrap();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    fs::write(world.path("altered"), &altered).unwrap();
    assert_ne!(check(&world.path("altered")).run().code(), exit::CHECK);

    // Once the operators have settled it, the nodes vote again, and nothing is told anew.
    for dir in &dirs {
        fs::write(evidence(dir)[0].with_extension("settled"), b"").unwrap();
    }
    // So has the host's owner: else it would hand on what it met.
    fs::write(kept[0].with_extension("settled"), b"").unwrap();
    let before = network.node(0).height();
    let network = network.restart("");
    world.back_up(&world.path("source"));
    assert!(network.node(1).height() > before);
    let told = world.call("history --json").run().expect(exit::DONE).lines();
    assert_eq!(told.iter().filter(|line| line["event"] == "ForkReported").count(), 1);
    world.outside("node status --json --dir").arg(&dirs[2]).run().expect(exit::DONE);
}
