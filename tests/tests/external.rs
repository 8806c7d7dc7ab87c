//! A vault on an outside chain: the real binary against a real anvil, with reorgs, a killed node, stuck transactions and poor accounts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use blockhouse_tests::World;
use blockhouse_tests::anvil::Anvil;
use blockhouse_tests::provider::Provider;
use blockhouse_tests::world::exit;
use serde_json::{Value, json};

/// What an account is given: ten ether.
const RICH: &str = "0x8ac7230489e80000";

/// Makes a vault: the first try names the accounts that have to pay, the second goes on.
fn founded(world: &World, anvil: &Anvil) {
    founded_through(world, anvil, &anvil.url());
}

/// The same, where the chain is asked there.
fn founded_through(world: &World, anvil: &Anvil, url: &str) {
    let init = || world.init(3).args("--json --ledger").arg(url);
    let poor = init().run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let accounts: Vec<&str> = told.match_indices("0x").map(|(at, _)| &told[at..at + 42]).collect();
    assert_eq!(accounts.len(), 2, "owner and writer are named: {told}");
    for account in accounts {
        anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
    }
    init().run().expect(exit::DONE);
}

/// Changes what the vault says about the chain.
fn configure(world: &World, old: &str, new: &str) {
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(&config, text.replace(old, new)).unwrap();
}

/// What was sent and is not final yet: of each transaction, in how many forms.
fn waiting(world: &World) -> Vec<usize> {
    let text = fs::read_to_string(world.vault().join("outbox")).unwrap_or_default();
    let outbox: Value = serde_json::from_str(&text).unwrap_or_default();
    let waiting = outbox["waiting"].as_array().cloned().unwrap_or_default();
    waiting.iter().map(|waiting| waiting["forms"].as_array().unwrap().len()).collect()
}

fn committed(world: &World) -> usize {
    let history = world.call("history --json").run().expect(exit::DONE);
    history.lines().iter().filter(|line| line["event"] == "SnapshotCommitted").count()
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
    configure(&world, "[ledger.chain]\n", "[ledger.chain]\ndepth = 12\n");
    let source = folder(&world, "source", "one");
    // What init saw final lies deeper than any reorg.
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 10);
    let backup = world.call("backup --json").arg(&source).spawn();
    for _ in 0..4 {
        // Something of ours is on its way: empty blocks in the place of the last six.
        anvil.wait_until(|_| !waiting(&world).is_empty());
        let before = anvil.height();
        anvil.wait_until(|anvil| anvil.height() > before + 2);
        anvil.ask("anvil_reorg", json!([6, []])).unwrap();
    }
    backup.finish().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 1);
    assert_eq!(committed(&world), 1, "each snapshot is committed once");
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
    anvil.wait_until(|_| !waiting(&world).is_empty());
    let anvil = anvil.restart_after(Duration::from_millis(500));
    backup.finish().expect(exit::DONE);
    let mut second = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| !waiting(&world).is_empty());
    second.kill();
    second.finish();
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    let snapshots = world.snapshots();
    world.expect_restores(snapshots.last().unwrap(), &source);
}

/// A transaction that waits is replaced by one that offers more; and again, when the base fee rises above that.
#[test]
fn a_stuck_transaction_is_replaced() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    configure(&world, "replace_secs = 90", "replace_secs = 1");
    let source = folder(&world, "source", "one");
    // No blocks: what is sent waits.
    anvil.ask("evm_setIntervalMining", json!([0])).unwrap();
    let backup = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| waiting(&world).iter().any(|forms| *forms >= 2));
    let hundred_gwei = "0x174876e800";
    anvil.ask("anvil_setNextBlockBaseFeePerGas", json!([hundred_gwei])).unwrap();
    anvil.ask("anvil_mine", json!(["0x1"])).unwrap();
    anvil.wait_until(|_| waiting(&world).iter().any(|forms| *forms >= 3));
    anvil.ask("evm_setIntervalMining", json!([1])).unwrap();
    backup.finish().expect(exit::DONE);
    assert_eq!((world.snapshots().len(), committed(&world)), (1, 1));
}

/// A chain from before EIP-1559: one price for gas, blocks without a base fee, receipts that are proved all the same.
#[test]
fn a_chain_with_one_price_for_gas_will_do() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &["--hardfork", "berlin"]) else { return };
    let first = anvil.ask("eth_getBlockByNumber", json!(["0x1", false])).unwrap();
    assert!(first["baseFeePerGas"].is_null(), "{first}");
    founded(&world, &anvil);
    configure(&world, "replace_secs = 90", "replace_secs = 1");
    let source = folder(&world, "source", "one");
    anvil.ask("evm_setIntervalMining", json!([0])).unwrap();
    let backup = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| waiting(&world).iter().any(|forms| *forms >= 2));
    anvil.ask("evm_setIntervalMining", json!([1])).unwrap();
    backup.finish().expect(exit::DONE);
    let receipt = world.path("receipt.json");
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    world.call("check-receipt").arg(&receipt).arg("--rpc").arg(anvil.url()).run().expect(exit::DONE);
}

/// Where the chain has no factory the owner makes one; `recover` needs none.
#[test]
fn a_chain_without_the_usual_factory_will_do() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &["--disable-default-create2-deployer"]) else { return };
    let factory = "0x4e59b44847b379578588920ca78fbf26c0b4956c";
    let code = || anvil.ask("eth_getCode", json!([factory, "latest"])).unwrap();
    assert_eq!(code(), "0x");
    founded(&world, &anvil);
    let source = folder(&world, "source", "one");
    world.back_up(&source);
    assert_eq!(code(), "0x", "it made one of its own");
    let (snapshots, fingerprint) = (world.snapshots(), world.fingerprint());
    fs::rename(world.vault(), world.path("lost")).unwrap();
    let recover = world.call("recover --json --yes --ledger").arg(anvil.url()).arg("--site").arg(world.site(1));
    recover.arg("--fingerprint").arg(&fingerprint).arg("--identity").arg(world.identity()).run().expect(exit::DONE);
    world.expect_restores(&snapshots[0], &source);
}

/// A provider says in all its ways that it was asked too often: everything takes a little longer, and nothing is lost or sent twice.
#[test]
fn a_provider_that_is_asked_too_often_is_asked_again() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    let provider = Provider::limited(anvil.port());
    founded_through(&world, &anvil, &provider.url());
    let source = folder(&world, "source", "one");
    world.back_up(&source);
    let snapshots = world.snapshots();
    world.expect_restores(&snapshots[0], &source);
    assert_eq!((snapshots.len(), committed(&world)), (1, 1));
    assert!(provider.refused() > 9, "{} of {} were refused", provider.refused(), provider.asked());
}

/// The node is killed in the middle of a restore, before it answers one of its questions, and comes back.
#[test]
fn a_restore_goes_on_after_its_node_was_killed() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    let provider = Provider::start(anvil.port());
    founded_through(&world, &anvil, &provider.url());
    let source = folder(&world, "source", "one");
    world.back_up(&source);
    let snapshot = world.snapshots().remove(0);
    let before = provider.asked();
    world.expect_restores(&snapshot, &source);
    let middle = (provider.asked() - before) / 2;
    assert!(middle > 1, "a restore asks the chain");
    provider.hold("", middle);
    let anvil = std::thread::scope(|scope| {
        let restore = scope.spawn(|| world.expect_restores(&snapshot, &source));
        provider.wait_until_held();
        let anvil = anvil.restart_after(Duration::from_millis(500));
        provider.release();
        restore.join().unwrap();
        anvil
    });
    assert!(anvil.height() > 0);
}

/// In one backup the node is killed between two transactions, and what it put into blocks afterwards is dropped by a reorg.
#[test]
fn a_backup_stands_a_killed_node_and_a_reorg() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    let provider = Provider::start(anvil.port());
    founded_through(&world, &anvil, &provider.url());
    configure(&world, "[ledger.chain]\n", "[ledger.chain]\ndepth = 8\n");
    let source = folder(&world, "source", "one");
    // What init saw final lies deeper than any reorg.
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 8);
    provider.hold("eth_sendRawTransaction", 0);
    let backup = world.call("backup --json").arg(&source).spawn();
    provider.wait_until_held();
    let anvil = anvil.restart_after(Duration::from_millis(200));
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 4);
    provider.release();
    anvil.wait_until(|_| !waiting(&world).is_empty());
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 1);
    anvil.ask("anvil_reorg", json!([4, []])).unwrap();
    backup.finish().expect(exit::DONE);
    assert_eq!((world.snapshots().len(), committed(&world)), (1, 1));
    world.expect_restores(&world.snapshots()[0], &source);
}

/// Killed when a transaction is durable here and no node has it: its nonce would be a hole before all that comes later. The next backup
/// sends it first.
#[test]
fn what_no_node_got_leaves_no_hole() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    let provider = Provider::start(anvil.port());
    founded_through(&world, &anvil, &provider.url());
    let source = folder(&world, "source", "one");
    provider.hold("eth_sendRawTransaction", 0);
    let mut killed = world.call("backup --json").arg(&source).spawn();
    provider.wait_until_held();
    assert_eq!(waiting(&world), [1]);
    killed.kill();
    killed.finish();
    // The provider has it and gives it to nobody.
    let pending = anvil.ask("txpool_status", json!([])).unwrap();
    assert_eq!(pending["pending"], "0x0");
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    provider.release();
    let snapshots = world.snapshots();
    world.expect_restores(snapshots.last().unwrap(), &source);
    assert_eq!(committed(&world), snapshots.len());
}
