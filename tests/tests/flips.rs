//! Bytes that are not what they were: in shards, in the plain objects beside them, in names, lengths and whole files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_tests::damage::{flip, objects};
use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};
use rand::RngExt;

/// A vault over six sites with two snapshots, several stripes and their source.
fn world() -> (World, PathBuf, String) {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 2, 10);
    world.back_up(&source);
    tree::write(&source.join("more.bin"), &tree::noise(700_000, 4));
    tree::write(&source.join("small/more"), b"more");
    let snapshot = world.back_up(&source).snapshot();
    (world, source, snapshot)
}

/// The count of a site in `missing` or `damaged` of a summary.
fn count(summary: &serde_json::Value, of: &str, site: &str) -> u64 {
    summary[of][site].as_u64().unwrap_or(0)
}

/// `verify` names the site that lies, `restore` reads round it, `repair` mends it, and then all is well.
#[test]
fn a_site_with_rotten_shards_is_named_read_round_and_mended() {
    let (world, source, snapshot) = world();
    let mut random = tree::random(1);
    let shards = objects(&world.site(3), "shards");
    assert!(shards.len() >= 2);
    for shard in &shards {
        flip(shard, &mut random);
    }
    let verified = world.call("verify --read-data --json").run().expect(exit::CHECK);
    let summary = verified.summary();
    assert_eq!(summary["ok"], false);
    assert_eq!(count(&summary, "damaged", "site-3"), shards.len() as u64, "{summary}");
    for honest in [1, 2, 4, 5, 6] {
        assert_eq!(count(&summary, "damaged", &format!("site-{honest}")), 0, "{summary}");
    }
    let named = |line: &serde_json::Value| line["type"] == "shard" && line["site"] == "site-3";
    assert_eq!(verified.lines().iter().filter(|line| named(line)).count(), shards.len(), "each is named");
    world.expect_restores(&snapshot, &source);
    // Also with the most sites gone that the code bears beside it: two lost, one of them the liar's neighbour.
    world.take_away(5);
    world.expect_restores(&snapshot, &source);
    world.bring_back(5);

    mend(&world);
    for pair in [(1, 2), (4, 6)] {
        world.take_away(pair.0);
        world.take_away(pair.1);
        world.expect_restores(&snapshot, &source);
        world.bring_back(pair.0);
        world.bring_back(pair.1);
    }
}

/// `repair` until `verify` is clean.
fn mend(world: &World) {
    let repaired = world.call("repair --read-data --json").run().expect(exit::DONE);
    assert_eq!(repaired.summary()["ok"], true);
    let verified = world.call("verify --read-data --json").run().expect(exit::DONE);
    assert_eq!(verified.summary()["ok"], true);
}

/// What is done to the shards of one site.
type Change<'a> = &'a dyn Fn(&[PathBuf]);

/// Truncated, swapped, empty, of another vault, of an older state: none is taken for the shard.
#[test]
fn shards_that_are_something_else_are_not_believed() {
    let (world, source, snapshot) = world();
    let other = World::with_sites(6);
    let others_source = other.path("source");
    tree::plain(&others_source, 2, 10);
    other.back_up(&others_source);
    let foreign = fs::read(&objects(&other.site(1), "shards")[0]).unwrap();
    let kinds: [(&str, Change<'_>); 5] = [
        ("truncated", &|shards| shards.iter().for_each(|shard| cut(shard, 1000))),
        ("zero length", &|shards| shards.iter().for_each(|shard| cut(shard, 0))),
        ("swapped", &swap),
        ("foreign", &|shards| shards.iter().for_each(|shard| fs::write(shard, &foreign).unwrap())),
        ("longer", &|shards| shards.iter().for_each(|shard| longer(shard))),
    ];
    for (kind, change) in kinds {
        let shards = objects(&world.site(2), "shards");
        change(&shards);
        let verified = world.call("verify --read-data --json").run();
        assert_eq!(verified.code(), exit::CHECK, "{kind}: {}", verified.stderr);
        let summary = verified.summary();
        let found = count(&summary, "damaged", "site-2") + count(&summary, "missing", "site-2");
        assert_eq!(found, shards.len() as u64, "{kind}: {summary}");
        world.expect_restores(&snapshot, &source);
        mend(&world);
    }
}

fn cut(shard: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(shard).unwrap().set_len(length).unwrap();
}

fn longer(shard: &Path) {
    let mut bytes = fs::read(shard).unwrap();
    bytes.push(0);
    fs::write(shard, bytes).unwrap();
}

fn swap(shards: &[PathBuf]) {
    let first = fs::read(&shards[0]).unwrap();
    for at in 1..shards.len() {
        fs::copy(&shards[at], &shards[at - 1]).unwrap();
    }
    fs::write(shards.last().unwrap(), first).unwrap();
}

/// Every kind of plain object at one site, all of its objects altered: the other sites' are taken.
#[test]
fn altered_plain_objects_at_one_site_do_no_harm() {
    let (world, source, snapshot) = world();
    let mut random = tree::random(2);
    for folder in ["blocks", "snapshots", "lists", "wraps", "bags"] {
        let altered = objects(&world.site(1), folder);
        assert!(!altered.is_empty(), "{folder}");
        for object in &altered {
            flip(object, &mut random);
        }
        world.expect_restores(&snapshot, &source);
        world.call("snapshots --json").run().expect(exit::DONE);
    }
    // A host whose ledger is gone takes the blocks of a site that has good ones.
    fs::remove_file(world.vault().join("ledger.redb")).unwrap();
    world.expect_restores(&snapshot, &source);
    tree::write(&source.join("after"), b"and a backup goes on");
    let next = world.call("backup --json").arg(&source).run();
    assert!([exit::DONE, exit::DEGRADED].contains(&next.code()), "{}", next.stderr);
    world.expect_restores(&next.snapshot(), &source);
}

/// Plain objects altered at one site and missing at another: `verify` says where and how many, `repair` puts them right.
#[test]
fn altered_and_missing_plain_objects_are_told_by_site_and_mended() {
    let (world, source, snapshot) = world();
    let mut random = tree::random(3);
    let of_kind = |folder: &str, number: usize, change: &mut dyn FnMut(&PathBuf)| {
        let found = objects(&world.site(number), folder);
        assert!(!found.is_empty(), "{folder}");
        found.iter().for_each(change);
        found.len() as u64
    };
    let folders = ["blocks", "snapshots", "lists", "wraps", "bags"];
    let altered: u64 = folders.map(|folder| of_kind(folder, 2, &mut |object| flip(object, &mut random))).iter().sum();
    let removed: u64 = ["snapshots", "lists", "wraps", "bags"]
        .map(|folder| of_kind(folder, 5, &mut |object| fs::remove_file(object).unwrap()))
        .iter()
        .sum();
    let verified = world.call("verify --read-data --json").run().expect(exit::CHECK);
    let summary = verified.summary();
    assert_eq!((&summary["ok"], &summary["readable"]), (&false.into(), &true.into()), "{summary}");
    assert_eq!(summary["plain"]["damaged"], serde_json::json!({ "site-2": altered }), "{summary}");
    assert_eq!(summary["plain"]["missing"], serde_json::json!({ "site-5": removed }), "{summary}");
    assert_eq!((&summary["missing"], &summary["damaged"]), (&serde_json::json!({}), &serde_json::json!({})));
    let named = verified.lines().iter().filter(|line| line["type"] == "plain").count() as u64;
    assert_eq!(named, altered + removed, "each is named");

    let repaired = world.call("repair --read-data --json").run().expect(exit::DONE).summary();
    assert_eq!((&repaired["copied"], &repaired["plain"]["removed"]), (&(altered + removed).into(), &altered.into()));
    mend(&world);
    // Sites 2 and 5 are worth what they hold: each alone with three others describes and gives everything.
    for pair in [(1, 3), (4, 6)] {
        world.take_away(pair.0);
        world.take_away(pair.1);
        world.expect_restores(&snapshot, &source);
        world.bring_back(pair.0);
        world.bring_back(pair.1);
    }
}

/// The marker of a site: altered, the site is down; a site of another vault is not read.
#[test]
fn a_site_with_an_altered_or_foreign_marker_is_down() {
    let (world, source, snapshot) = world();
    let other = World::with_sites(1);
    for marker in [fs::read(other.site(1).join("site")).unwrap(), b"BHST".to_vec(), Vec::new()] {
        let good = fs::read(world.site(4).join("site")).unwrap();
        fs::write(world.site(4).join("site"), marker).unwrap();
        let status = world.call("status").run();
        assert!(
            status.says("site-4") || String::from_utf8_lossy(&status.stdout).contains("site-4"),
            "{}",
            status.stderr
        );
        world.expect_restores(&snapshot, &source);
        let held = tree::files(&world.site(4));
        tree::write(&source.join("small/more"), &tree::noise(5000, rand::rng().random()));
        let degraded = world.call("backup --json").arg(&source).run();
        assert!([exit::DONE, exit::DEGRADED].contains(&degraded.code()), "{}", degraded.stderr);
        assert_eq!(tree::files(&world.site(4)), held, "a site without its marker is never written");
        fs::write(world.site(4).join("site"), good).unwrap();
        // The snapshot of this round is another one.
        let newest = world.back_up(&source).snapshot();
        world.expect_restores(&newest, &source);
        fs::remove_file(source.join("small/more")).unwrap();
        tree::write(&source.join("small/more"), b"more");
        tree::set_time(&source.join("small/more"), 1_000_000_000, 0);
        return_to(&world, &snapshot, &source);
    }
}

/// Makes the source what the snapshot holds.
fn return_to(world: &World, snapshot: &str, source: &Path) {
    tree::remove(source);
    world.unlocked("restore").arg(snapshot).arg("--to").arg(source).run().expect(exit::DONE);
}
