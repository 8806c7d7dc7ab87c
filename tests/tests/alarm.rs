//! *Backup overdue*: the owner asks for the alarm, the ledger raises it by itself, a backup ends it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;

use blockhouse_tests::network::{Network, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};
use serde_json::Value;

/// What the ledger told of overdue backups, in order.
fn told(world: &World) -> Vec<String> {
    let history = world.call("history --json").run().expect(exit::DONE);
    let events = history.lines().into_iter().map(|line| line["event"].as_str().unwrap().to_owned());
    events.filter(|name| name == "BackupOverdue" || name == "BackupResumed").collect()
}

fn alarms(world: &World) -> Vec<Value> {
    world.call("alarm show --json").run().expect(exit::DONE).lines()
}

/// A verification is recorded, so a block is made.
fn make_a_block(world: &World) {
    world.call("verify --json").run().expect(exit::DONE);
}

fn an_alarm_comes_and_goes(world: &World, source: &Path) {
    let on_source = |words: &str| world.unlocked(words).arg("--source").arg(source);
    world.back_up(source);
    assert!(alarms(world).is_empty(), "nothing is watched unasked");
    on_source("alarm unset --json").run().refuses(exit::USAGE, "no alarm");
    world.call("alarm set --max-age 2s --source").arg(source).run().refuses(exit::NOT_ALLOWED, "identity");
    on_source("alarm set --max-age 0").run().refuses(exit::USAGE, "between 1 and");
    on_source("alarm set --json --max-age 2s").run().expect(exit::DONE);

    // Time passes; whatever makes a block then, the ledger tells it behind that.
    wait_until(
        || {
            make_a_block(world);
            !told(world).is_empty()
        },
        "the ledger tells that the source is overdue",
    );
    assert_eq!(told(world)[0], "BackupOverdue");
    let shown = alarms(world);
    assert_eq!((&shown[0]["overdue"], &shown[0]["max_age"]), (&true.into(), &2.into()), "{shown:?}");
    let status = world.call("status --json").run().expect(exit::CHECK);
    let row = &status.lines()[0]["sources"][0];
    assert_eq!((&row["overdue"], &row["max_age"]), (&true.into(), &2.into()), "{row}");

    // A backup came. The ledger has to look within the two seconds in which it is fresh: on a busy machine another one has to come.
    wait_until(
        || {
            world.back_up(source);
            told(world).iter().any(|name| name == "BackupResumed")
        },
        "the ledger tells that the source has resumed",
    );
    let alternate = told(world)
        .chunks(2)
        .all(|pair| pair[0] == "BackupOverdue" && pair.get(1).is_none_or(|name| name == "BackupResumed"));
    assert!(alternate, "{:?}", told(world));

    // A longer one is met, and it can be ended.
    on_source("alarm set --json --max-age 7d").run().expect(exit::DONE);
    world.call("status --json").run().expect(exit::DONE);
    assert_eq!(alarms(world)[0]["raised"], false);
    on_source("alarm unset --json").run().expect(exit::DONE);
    assert!(alarms(world).is_empty());
    let before = told(world).len();
    make_a_block(world);
    assert_eq!(told(world).len(), before);
}

#[test]
fn a_network_tells_that_a_backup_is_overdue_and_that_it_resumed() {
    let world = World::empty();
    let dir = world.path("ledger");
    let network = Network::start(&dir, 1, "");
    let init = world.init(1).args("--json --ledger").arg(network.node(0).url());
    init.arg("--enrol-key").arg(dir.join("enrol.key")).run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    an_alarm_comes_and_goes(&world, &source);
}

/// A ledger that one host seals ticks in each of its blocks from the first alarm on, and its blocks are read again by whoever has the sites.
#[test]
fn a_ledger_of_one_host_tells_it_in_its_own_blocks() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    an_alarm_comes_and_goes(&world, &source);
    let receipt = world.path("receipt");
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    let fingerprint = world.fingerprint();
    world.outside("check-receipt").arg(&receipt).arg("--fingerprint").arg(&fingerprint).run().expect(exit::DONE);
    // The store is lost: it is made anew from the blocks, ticks included.
    std::fs::remove_file(world.vault().join("ledger.redb")).unwrap();
    world.call("verify --json").run().expect(exit::DONE);
    assert_eq!(told(&world)[0], "BackupOverdue");
    // Another host takes the vault over; its handover stands alone, and it ticks on.
    let snapshots = world.snapshots().len();
    let recover = world.outside("recover --json --yes --no-passphrase --site").arg(world.site(1)).arg("--vault");
    let recover = recover.arg(world.path("other")).arg("--identity").arg(world.identity());
    recover.run().expect(exit::DONE);
    let there = world.outside("backup --json").env("BLOCKHOUSE_VAULT", world.path("other")).arg(&source).run();
    there.expect(exit::DONE);
    let listed = world.outside("snapshots --json").env("BLOCKHOUSE_VAULT", world.path("other")).run();
    assert_eq!(listed.expect(exit::DONE).lines().len(), snapshots + 1);
}
