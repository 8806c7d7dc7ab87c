//! A vault on an outside chain: the real binary against a real anvil, with reorgs, a killed node, stuck transactions and poor accounts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use blockhouse_tests::anvil::Anvil;
use blockhouse_tests::world::{Call, World, exit};
use serde_json::json;

/// What an account is given: ten ether.
const RICH: &str = "0x8ac7230489e80000";

fn init(world: &World, anvil: &Anvil) -> Call {
    world.init(3).args("--json --ledger").arg(anvil.url())
}

/// Makes a vault: the first try names the accounts that have to pay, the second goes on.
fn founded(world: &World, anvil: &Anvil) {
    let poor = init(world, anvil).run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let accounts: Vec<&str> = told.match_indices("0x").map(|(at, _)| &told[at..at + 42]).collect();
    assert_eq!(accounts.len(), 2, "owner and writer are named: {told}");
    for account in accounts {
        anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
    }
    init(world, anvil).run().expect(exit::DONE);
}

fn folder(world: &World, name: &str, text: &str) -> PathBuf {
    let folder = world.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("letter.txt"), text).unwrap();
    folder
}

/// From nothing to a restored file, a receipt that a node vouches for, and a recovery from the sites and the chain.
#[test]
fn a_vault_lives_on_an_outside_chain() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let source = folder(&world, "source", "one");
    world.back_up(&source);
    let snapshots = world.snapshots();
    assert_eq!(snapshots.len(), 1);
    world.expect_restores(&snapshots[0], &source);
    world.call("verify --json").run().expect(exit::DONE);

    let receipt = world.path("receipt.json");
    world.unlocked("receipt latest letter.txt -o").arg(&receipt).run().expect(exit::DONE);
    let check = || world.call("check-receipt").arg(&receipt);
    let told = check().run().expect(exit::USAGE);
    assert!(told.stderr.contains("nobody was asked"), "{}", told.stderr);
    let good = check().arg("--rpc").arg(anvil.url()).arg("--file").arg(source.join("letter.txt")).run();
    assert!(good.expect(exit::DONE).stderr.contains("and final"));
    check().arg("--block").arg("0".repeat(64)).run().expect(exit::CHECK);

    let fingerprint = world.fingerprint();
    let sheet = fs::read_to_string(world.vault().join("recovery-sheet.txt")).unwrap();
    for part in ["Vault        0x", "Access       0x", "chain id     31337", "--ledger URL_OF_A_NODE --since"] {
        assert!(sheet.contains(part), "{part}:\n{sheet}");
    }
    fs::rename(world.vault(), world.path("lost")).unwrap();
    let recover = || {
        let call = world.call("recover --json --yes --ledger").arg(anvil.url()).arg("--site").arg(world.site(1));
        call.arg("--fingerprint").arg(&fingerprint).arg("--identity").arg(world.identity())
    };
    recover().run().expect(exit::DONE);
    assert_eq!(world.snapshots(), snapshots);
    world.expect_restores(&snapshots[0], &source);
    // The new writer's account has nothing yet, and its error says which it is.
    let poor = world.call("backup --json").arg(&source).run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let account = &told[told.find("0x").unwrap()..][..42];
    anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    assert_eq!(world.snapshots().len(), 2);
}

/// Blocks with our transactions are dropped before they are final, again and again: each snapshot is committed once.
#[test]
fn reorgs_before_finality_lose_and_double_nothing() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    // Finality is twelve blocks away from here on, so that a reorg hits what is not final.
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[ledger.chain]\n", "[ledger.chain]\ndepth = 12\n")).unwrap();
    let source = folder(&world, "source", "one");
    // What init saw final lies deeper than any reorg.
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 10);
    let backup = world.call("backup --json").arg(&source).spawn();
    let waiting = || fs::read_to_string(world.vault().join("outbox")).unwrap_or_default();
    for _ in 0..4 {
        // Something of ours is on its way: empty blocks in the place of the last six.
        anvil.wait_until(|_| waiting().contains("\"raw\""));
        let before = anvil.height();
        anvil.wait_until(|anvil| anvil.height() > before + 2);
        anvil.ask("anvil_reorg", json!([6, []])).unwrap();
    }
    backup.finish().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 1);
    let history = world.call("history --json").run().expect(exit::DONE);
    let commits = history.lines().iter().filter(|line| line.to_string().contains("SnapshotCommitted")).count();
    assert_eq!(commits, 1, "each snapshot is committed once");
    let snapshot = world.snapshots().remove(0);
    world.expect_restores(&snapshot, &source);
}

/// The node dies in the middle of a backup and of a restore, and comes back: both go on. A backup that is killed itself leaves what it
/// sent in the outbox, and the next one finishes that first.
#[test]
fn a_killed_node_and_a_killed_backup_are_got_over() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let source = folder(&world, "source", "one");
    let backup = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| fs::read_to_string(world.vault().join("outbox")).is_ok_and(|text| text.contains("\"raw\"")));
    let anvil = anvil.restart_after(Duration::from_millis(500));
    backup.finish().expect(exit::DONE);
    let mut second = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| fs::read_to_string(world.vault().join("outbox")).is_ok_and(|text| text.contains("\"raw\"")));
    second.kill();
    second.finish();
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    let snapshots = world.snapshots();
    world.expect_restores(snapshots.last().unwrap(), &source);
}

/// A base fee that rises above what was offered: the transaction is replaced by one that offers more.
#[test]
fn a_stuck_transaction_is_replaced() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("replace_secs = 90", "replace_secs = 1")).unwrap();
    let source = folder(&world, "source", "one");
    // No blocks: what is sent waits.
    anvil.ask("evm_setIntervalMining", json!([0])).unwrap();
    let backup = world.call("backup --json").arg(&source).spawn();
    let outbox = || fs::read_to_string(world.vault().join("outbox")).unwrap_or_default();
    anvil.wait_until(|_| outbox().matches("\"raw\"").count() >= 2);
    anvil.ask("evm_setIntervalMining", json!([1])).unwrap();
    backup.finish().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 1);
    assert!(anvil.height() > 0);
}
