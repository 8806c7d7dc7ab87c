//! Anchors: the real binary, a real anvil as the chain outside, and an operator who holds every key of his ledger and wants another past.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/forger.rs"]
mod forger;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use blockhouse_tests::anvil::Anvil;
use blockhouse_tests::calendar::Calendar;
use blockhouse_tests::guide::repository;
use blockhouse_tests::network::{Network, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, World, exit};
use serde_json::json;

/// What an account is given: ten ether.
const RICH: &str = "0x8ac7230489e80000";

/// A vault with one snapshot, whose account can pay on that chain.
fn vault(world: &World, anvil: &Anvil) {
    world.init(3).run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let poor = anchor(world, anvil).run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let account = &told[told.find("0x").unwrap()..][..42];
    anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
}

fn anchor(world: &World, anvil: &Anvil) -> Call {
    world.unlocked("anchor evm --json --rpc").arg(anvil.url())
}

/// How many anchors are in blocks outside.
fn anchored(anvil: &Anvil) -> usize {
    let topic = "0x".to_owned() + &hex::encode(alloy_primitives::keccak256("Anchored(bytes32,address,uint64,bytes32)"));
    let logs = anvil.ask("eth_getLogs", json!([{ "fromBlock": "0x0", "topics": [topic] }])).unwrap();
    logs.as_array().unwrap().len()
}

fn receipt(world: &World, name: &str) -> (PathBuf, PathBuf) {
    let (receipt, file) = (world.path(&format!("{name}.json")), world.path(&format!("{name}-anchor.json")));
    world.call("receipt latest --json -o").arg(&receipt).arg("--anchored").arg(&file).run().expect(exit::DONE);
    (receipt, file)
}

/// He has all keys, certifies what he likes, and his receipt is good by itself. The chain outside remembers which block was there.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_own_operator_cannot_forge_what_is_older_than_an_anchor() {
    let without_identity = World::with_sites(3);
    let Some(anvil) = Anvil::start(&without_identity.path(""), &[]) else { return };
    let none = without_identity.call("anchor evm --json --rpc").arg(anvil.url()).run();
    none.refuses(exit::NOT_ALLOWED, "the first anchor of a ledger needs the identity");
    let world = World::empty();
    vault(&world, &anvil);
    let missing = world.call("receipt latest -o r.json --anchored a.json").run();
    missing.refuses(exit::FAILED, "no anchor covers block");
    let made = anchor(&world, &anvil).run().expect(exit::DONE);
    assert_eq!(made.summary()["made"], 1);
    let outside = made.lines()[0].clone();
    assert_eq!(anchor(&world, &anvil).run().expect(exit::DONE).summary()["made"], 0, "nothing is new");

    let (honest, file) = receipt(&world, "honest");
    let fingerprint = world.fingerprint();
    let check =
        |receipt: &PathBuf| world.outside("check-receipt --json").arg(receipt).arg("--fingerprint").arg(&fingerprint);
    let with = |receipt: &PathBuf, file: &PathBuf| check(receipt).arg("--anchor").arg(file);
    with(&honest, &file).run().refuses(exit::USAGE, "nobody was asked");
    let good = with(&honest, &file).arg("--rpc").arg(anvil.url()).run().expect(exit::DONE);
    let shown = good.summary()["anchored"][0].clone();
    assert_eq!((&shown["outside_block"], &shown["final"]), (&outside["outside_block"], &json!(true)));
    assert_eq!(shown["time"], outside["time"]);
    let hash = outside["outside_hash"].as_str().unwrap();
    with(&honest, &file).arg("--block").arg(hash).run().expect(exit::DONE);
    with(&honest, &file).arg("--block").arg("0".repeat(64)).run().expect(exit::CHECK);

    let forged = forger::another_past(&world).await;
    check(&forged).run().expect(exit::DONE);
    let refused = with(&forged, &file).arg("--rpc").arg(anvil.url()).run();
    refused.refuses(exit::CHECK, "does not have that block among its ancestors");
    // Neither the next header nor, where that is bent, what was anchored follows his block.
    for (bent, why) in [(false, "does not follow the one before it"), (true, "the log anchors block")] {
        let own = forger::anchor_of(&file, &forged, bent);
        with(&forged, &own).arg("--rpc").arg(anvil.url()).run().refuses(exit::CHECK, why);
    }
    // A chain of his own is another chain.
    let Some(other) = Anvil::start(&world.path("sites"), &["--chain-id", "1"]) else { return };
    with(&honest, &file).arg("--rpc").arg(other.url()).run().refuses(exit::CHECK, "the node is of another one");
}

/// Killed when its transaction is in a block outside and nothing is recorded yet, and what the host kept of it is lost too: the next run
/// finds the anchor on the chain, records it, and does not anchor again.
#[test]
fn a_kill_between_anchoring_and_recording_loses_nothing() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    vault(&world, &anvil);
    anchor(&world, &anvil).run().expect(exit::DONE);
    fs::write(world.path("source").join("more.txt"), "more").unwrap();
    world.back_up(&world.path("source"));
    // No blocks but those that are asked for: what is in one is not final.
    anvil.ask("evm_setIntervalMining", json!([0])).unwrap();
    let mut killed = anchor(&world, &anvil).spawn();
    let waits = |anvil: &Anvil| anvil.ask("txpool_status", json!([])).unwrap()["pending"] != "0x0";
    anvil.wait_until(waits);
    anvil.ask("anvil_mine", json!(["0x1"])).unwrap();
    assert_eq!(anchored(&anvil), 2, "it is in a block");
    killed.kill();
    killed.finish();
    let listed = || world.call("anchor list --json").run().expect(exit::DONE).summary()["anchors"].clone();
    assert_eq!(listed(), 1);
    fs::remove_dir_all(world.vault().join("anchors")).unwrap();
    anvil.ask("evm_setIntervalMining", json!([1])).unwrap();
    // Once more blocks are above it.
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 3);
    let again = anchor(&world, &anvil).run().expect(exit::DONE);
    assert_eq!(again.summary()["made"], 1);
    assert_eq!((anchored(&anvil), listed()), (2, json!(2)));
    let (receipt, file) = receipt(&world, "newest");
    let check = world.call("check-receipt --json").arg(receipt).arg("--anchor").arg(file).arg("--rpc").arg(anvil.url());
    check.run().expect(exit::DONE);
}

/// The key of an account that every anvil makes rich.
const PAYER: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A node of a network anchors the ledger when it is due, as its operator told it, and a host's receipt is checked through that.
#[test]
fn a_node_anchors_its_ledger_by_itself() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    let network = Network::start(&world.path("ledger"), 4, "");
    let enrol_key = world.path("ledger").join("enrol.key");
    let init = world.init(3).args("--json --ledger").arg(network.node(0).url()).arg("--enrol-key").arg(enrol_key);
    init.run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    world.unlocked("node enrol --json").arg(network.node(0).url()).run().expect(exit::DONE);
    let dir = network.node(0).dir.clone();
    fs::write(dir.join("payer"), PAYER).unwrap();
    fs::set_permissions(dir.join("payer"), fs::Permissions::from_mode(0o600)).unwrap();
    let config = fs::read_to_string(dir.join("node.toml")).unwrap();
    let anchor = format!(
        "[anchor]\nurls = [\"{}\"]\nkey_file = \"payer\"\ninterval_secs = 1\n[witness]\ninterval_secs = 1\n",
        anvil.url()
    );
    fs::write(dir.join("node.toml"), format!("{config}\n{anchor}")).unwrap();
    let network = network.restart("");
    let status = || network.node(0).ask("blockhouse_nodeStatus", &json!([]))["anchoring"].clone();
    wait_until(|| status()["height"].as_u64().is_some_and(|height| height > 0), "a node anchors");
    assert_eq!(anchored(&anvil), 1);
    let (receipt, file) = receipt(&world, "honest");
    let check = world.call("check-receipt --json").arg(receipt).arg("--anchor").arg(file).arg("--rpc").arg(anvil.url());
    check.run().expect(exit::DONE);
    // It is a witness too, and known by its key.
    let key = network.node(0).ask("blockhouse_nodeStatus", &json!([]))["key"].as_str().unwrap()[2..].to_owned();
    let (receipt, file) = (world.path("witnessed.json"), world.path("witnessed-anchor.json"));
    wait_until(
        || {
            let made = world.call("receipt latest --json -o").arg(&receipt).arg("--anchored").arg(&file).run();
            made.code() == exit::DONE && fs::read_to_string(&file).unwrap().contains("\"witness\"")
        },
        "a node cosigns",
    );
    let check = |witness: &str| {
        world.call("check-receipt --json").arg(&receipt).arg("--anchor").arg(&file).args("--witness").arg(witness).run()
    };
    assert_eq!(check(&key).expect(exit::DONE).summary()["anchored"][0]["witness"], key.as_str());
    check(&"07".repeat(32)).refuses(exit::CHECK, "no cosignature of the witness");
    let shown = world.outside("node status --json --ledger").arg(network.node(0).url()).run().expect(exit::DONE);
    assert!(shown.number("anchored_height") > 0);
}

/// A calendar promises and keeps it; what stays to be shown is that a block of Bitcoin has that root, and no other header will do. (One that
/// has it cannot be made in a test: it would be a block of Bitcoin. The way to a real root is tested where proofs are read.)
#[test]
fn a_calendars_promise_is_recorded_and_completed() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let calendar = Calendar::start();
    let gone = { Calendar::start().url() };
    let ots = |words: &str| world.unlocked(words).arg("--calendar").arg(calendar.url());
    world
        .unlocked("anchor ots --json --calendar")
        .arg(&gone)
        .run()
        .refuses(exit::FAILED, "no calendar took the digest");
    let promised = ots("anchor ots --json").arg("--calendar").arg(&gone).run().expect(exit::DONE);
    assert_eq!((&promised.summary()["calendars"], &promised.summary()["failing"]), (&json!(1), &json!(1)));
    let height = promised.number("anchored_height");
    assert!(ots("anchor ots --json").run().expect(exit::DONE).summary()["anchored_height"].is_null(), "nothing is new");
    let upgrade = || ots("anchor upgrade --json").run().expect(exit::DONE).summary();
    assert_eq!((&upgrade()["made"], &upgrade()["pending"]), (&json!(0), &json!(1)));
    world.call("receipt latest -o r.json --anchored a.json").run().refuses(exit::FAILED, "no anchor covers block");
    calendar.keep();
    let kept = ots("anchor upgrade --json").run().expect(exit::DONE);
    assert_eq!((&kept.lines()[0]["height"], &kept.lines()[0]["outside_block"]), (&json!(height), &json!(358_391)));
    assert_eq!((&upgrade()["made"], &upgrade()["pending"]), (&json!(0), &json!(0)));
    assert_eq!(world.call("anchor list --json").run().expect(exit::DONE).summary()["anchors"], 2);

    let (receipt, file) = receipt(&world, "stamped");
    let check = || world.call("check-receipt --json").arg(&receipt).arg("--anchor").arg(&file);
    check().run().refuses(exit::USAGE, "no anchor on an outside chain");
    let block = fs::read(repository().join("fixtures/bitcoin/bitcoinj/block169482.dat")).unwrap();
    let header = hex::encode(&block[..80]);
    check().arg("--bitcoin-header").arg(&header).run().refuses(exit::CHECK, "leads to no Bitcoin block");
    let header_file = world.path("header");
    fs::write(&header_file, &block[1..81]).unwrap();
    check().arg("--bitcoin-header").arg(&header_file).run().refuses(exit::CHECK, "the header of the Bitcoin block");
}
