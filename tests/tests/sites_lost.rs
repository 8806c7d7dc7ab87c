//! Sites that are gone: every pair of six, half of them, and what repair makes of empty folders.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};
use serde_json::Value;

fn source_in(world: &World) -> PathBuf {
    let source = world.path("source");
    tree::plain(&source, 2, 10);
    source
}

/// Promise 1: while any two of six sites are gone, everything restores.
#[test]
fn every_pair_of_six_sites_may_vanish() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    let old = world.back_up(&source).snapshot();
    let kept = world.path("kept");
    tree::plain(&kept, 2, 10);
    let kept = copy_of_first(&world, &old, &kept);
    tree::write(&source.join("noise.bin"), &tree::noise(tree::MIB, 99));
    let new = world.back_up(&source).snapshot();
    let mut pairs = 0;
    for first in 1..=6 {
        for second in first + 1..=6 {
            world.take_away(first);
            world.take_away(second);
            world.expect_restores(&new, &source);
            if (first + second) % 3 == 0 {
                world.expect_restores(&old, &kept);
            }
            world.bring_back(first);
            world.bring_back(second);
            pairs += 1;
        }
    }
    assert_eq!(pairs, 15);
    let verified = world.call("verify --read-data --json").run().expect(exit::DONE);
    assert_eq!(verified.summary()["ok"], true);
}

/// The first state of the source, as the first snapshot gave it back with all sites up.
fn copy_of_first(world: &World, snapshot: &str, expected: &Path) -> PathBuf {
    let restored = world.restore(snapshot, "first-state");
    for file in tree::files(expected) {
        let name = file.strip_prefix(expected).unwrap();
        assert_eq!(fs::read(&file).unwrap(), fs::read(restored.join(name)).unwrap());
    }
    restored
}

/// With three of six gone nothing can be read, and that is said; nothing is returned that is not whole.
#[test]
fn three_of_six_gone_is_said_and_nothing_is_made_up() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    world.back_up(&source);
    for number in [1, 3, 5] {
        world.take_away(number);
    }
    let to = world.path("to");
    let refused = world.unlocked("restore latest --json --to").arg(&to).run();
    assert!([exit::FAILED, exit::UNREADABLE, exit::CHECK].contains(&refused.code()), "{}", refused.stderr);
    assert!(refused.says("site-"), "the sites that would help are named: {}", refused.stderr);
    // What is there is whole, beside the note that more is to come.
    for file in tree::files(&to).into_iter().filter(|file| !file.ends_with(".blockhouse-restore-unfinished")) {
        let name = file.strip_prefix(&to).unwrap();
        assert_eq!(fs::read(&file).unwrap(), fs::read(source.join(name)).unwrap(), "{}", name.display());
    }
    for number in [1, 3, 5] {
        world.bring_back(number);
    }
    world.expect_restores("latest", &source);
}

/// A site comes back from a backup of its own: all that it has is genuine, and old. Nothing of now is missed for it, nothing old is
/// believed, and `repair` brings it to the state of the others.
#[test]
fn a_site_restored_from_its_own_old_backup_is_brought_up_to_date() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    let first = world.back_up(&source).snapshot();
    let before = copy_of_first(&world, &first, &source);
    let old = world.path("backup-of-site-3");
    let copied = std::process::Command::new("cp").arg("-a").arg(world.site(3)).arg(&old).status().unwrap();
    assert!(copied.success());
    tree::write(&source.join("noise.bin"), &tree::noise(3 * tree::MIB, 99));
    let second = world.back_up(&source).snapshot();
    let fingerprint = world.fingerprint();
    world.destroy(3);
    fs::rename(&old, world.site(3)).unwrap();
    assert_eq!(world.snapshots(), [first.clone(), second.clone()], "the old ledger of the site does not count");
    assert_eq!(world.fingerprint(), fingerprint);
    world.expect_restores(&second, &source);
    let verified = world.call("verify --json").run().expect(exit::CHECK).summary();
    assert!(
        verified["missing"]["site-3"].as_u64().unwrap() > 0 && verified["damaged"] == serde_json::json!({}),
        "{verified}"
    );
    world.call("repair --json").run().expect(exit::DONE);
    world.call("verify --read-data --json").run().expect(exit::DONE);
    for number in [1, 2] {
        world.take_away(number);
    }
    world.expect_restores(&second, &source);
    world.expect_restores(&first, &before);
}

/// A backup goes on with the sites that are left, says what it survives, and `repair` brings it back to the plan.
#[test]
fn half_of_the_sites_lost_then_backed_up_then_repaired() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    let lost = world.back_up(&source).snapshot();
    for number in [2, 4, 6] {
        world.destroy(number);
    }
    let without = world.call("backup --json").arg(&source).run();
    if without.code() != exit::DEGRADED {
        assert_ne!(without.code(), exit::DONE, "three of six sites are gone");
        assert!(without.says("--accept-risk"), "the way on is named: {}", without.stderr);
    }
    let degraded = world.call("backup --json --accept-risk").arg(&source).run().expect(exit::DEGRADED);
    assert_eq!(degraded.number("w"), 1);
    let snapshot = degraded.snapshot();
    world.expect_restores(&snapshot, &source);

    for number in [2, 4, 6] {
        fs::create_dir(world.site(number)).unwrap();
    }
    let repaired = world.call("repair --json").run();
    // The first snapshot lost more than its code bears: that is told, and does not stop the rest.
    let fits = repaired.code() == exit::DONE || (repaired.code() == exit::CHECK && repaired.summary()["ok"] == false);
    assert!(fits, "{}: {}", repaired.code(), repaired.stderr);
    expect_whole_again(&world, &snapshot, &source);
    let _ = lost;
}

/// The same without a snapshot from before: then nothing is lost at all.
#[test]
fn a_first_backup_over_half_of_the_sites_is_repaired_to_the_plan() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    for number in [1, 2, 3] {
        world.destroy(number);
    }
    let degraded = world.call("backup --json --accept-risk").arg(&source).run().expect(exit::DEGRADED);
    assert_eq!(degraded.number("w"), 1);
    let status = world.call("status --json").run();
    assert_eq!(durability(&status.lines()), (6, 1), "{}", status.stderr);
    for number in [1, 2, 3] {
        fs::create_dir(world.site(number)).unwrap();
    }
    let repaired = world.call("repair --json").run().expect(exit::DONE);
    assert_eq!(repaired.summary()["ok"], true);
    expect_whole_again(&world, &degraded.snapshot(), &source);
    assert_eq!(durability(&world.call("status --json").run().lines()), (6, 2));
    world.call("repair --json").run().expect(exit::DONE);
    assert_eq!(world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
}

/// w = 2 is not only said: any two sites may go.
fn expect_whole_again(world: &World, snapshot: &str, source: &Path) {
    for pair in [(1, 3), (3, 5), (2, 4), (1, 6)] {
        world.take_away(pair.0);
        world.take_away(pair.1);
        world.expect_restores(snapshot, source);
        world.bring_back(pair.0);
        world.bring_back(pair.1);
    }
}

/// d and w of the only source in what `status --json` says.
fn durability(lines: &[Value]) -> (u64, u64) {
    let source = lines.iter().find_map(|line| line["sources"].get(0).or_else(|| line.get("w").map(|_| line)));
    let source = source.unwrap_or_else(|| panic!("no source in {lines:?}"));
    (source["d"].as_u64().unwrap(), source["w"].as_u64().unwrap())
}

/// A site that was away while others were written to lacks what describes the snapshot: that is told, and repaired.
#[test]
fn a_site_that_was_away_is_told_apart_until_repair() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    world.take_away(4);
    let degraded = world.call("backup --json").arg(&source).run().expect(exit::DEGRADED);
    world.bring_back(4);
    let verified = world.call("verify --json").run().expect(exit::CHECK).summary();
    assert_eq!((&verified["ok"], &verified["readable"]), (&false.into(), &true.into()), "{verified}");
    assert!(verified["plain"]["missing"]["site-4"].as_u64().unwrap() >= 3, "list, snapshot object, wraps: {verified}");
    assert_eq!(verified["plain"]["missing"].as_object().unwrap().len(), 1, "{verified}");
    assert_eq!(world.call("repair --json").run().expect(exit::DONE).summary()["ok"], true);
    assert_eq!(world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
    assert_eq!(durability(&world.call("status --json").run().lines()), (6, 2));
    expect_whole_again(&world, &degraded.snapshot(), &source);
}

/// A site whose folder is there and is not the vault's is never written: an unmounted disk must not look like a loss.
#[test]
fn a_folder_without_marker_is_not_written() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    world.back_up(&source);
    world.destroy(3);
    tree::write(&world.site(3).join("holiday.jpg"), b"somebody's");
    tree::write(&source.join("more"), &tree::noise(300_000, 3));
    let degraded = world.call("backup --json").arg(&source).run();
    assert!([exit::DONE, exit::DEGRADED].contains(&degraded.code()), "{}", degraded.stderr);
    let _ = world.call("repair --json").run();
    let found: Vec<_> = tree::files(&world.site(3));
    assert_eq!(found, [world.site(3).join("holiday.jpg")]);
    world.expect_restores("latest", &source);
}

/// With four of six sites away the ledger cannot be sealed. What was found is told all the same: first what is lost, then what
/// is at risk, then what to do; and that it was not recorded.
#[test]
fn what_verify_found_is_told_though_it_cannot_be_recorded() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    let snapshot = world.back_up(&source).snapshot();
    for away in 3..=6 {
        world.take_away(away);
    }
    let verified = world.call("verify --json").run().expect(exit::CHECK);
    assert!(verified.says("could not be recorded"), "{}", verified.stderr);
    let summary = verified.summary();
    assert_eq!(
        (&summary["ok"], &summary["readable"], &summary["recorded"]),
        (&false.into(), &false.into(), &false.into())
    );
    assert!(summary["not_recorded"].as_str().unwrap().contains("sites"), "{summary}");
    assert_eq!(summary["missing"].as_object().unwrap().len(), 4, "{summary}");
    assert_eq!(summary["durability"]["w"], 0, "{summary}");

    let told = world.call("verify").run().expect(exit::CHECK);
    let text = String::from_utf8(told.stdout).unwrap();
    let short = &snapshot[..12];
    let wanted = [
        "LOST as things stand: 1 of 1 snapshot",
        &format!("snapshot {short} cannot be restored whole: stripes with too few good shards"),
        "AT RISK: no site may vanish; any 2 sites when everything is in place",
        "site `site-3`: shards missing",
        "names and sizes were looked at",
        "DATA IS MISSING: bring back `site-3`, `site-4`, `site-5`, `site-6`, then `blockhouse repair --read-data`",
    ];
    let places: Vec<_> =
        wanted.iter().map(|words| text.find(*words).unwrap_or_else(|| panic!("{words}:\n{text}"))).collect();
    assert!(places.is_sorted(), "{text}");

    let repaired = world.call("repair --json").run().expect(exit::CHECK);
    assert_eq!(repaired.summary()["recorded"], false, "{}", repaired.stderr);
    assert!(repaired.number("lost") > 0 && repaired.says("could not be recorded"), "{}", repaired.stderr);
    for away in 3..=6 {
        world.bring_back(away);
    }
    let verified = world.call("verify --json").run().expect(exit::DONE).summary();
    assert_eq!((&verified["recorded"], &verified["not_recorded"]), (&true.into(), &Value::Null), "{verified}");
}

/// Nothing is wrong and the outcome cannot be recorded: the exit code is that of the failure, after the report.
#[test]
fn a_clean_verification_that_is_not_recorded_ends_with_the_code_of_the_failure() {
    let world = World::with_sites(6);
    let source = source_in(&world);
    world.back_up(&source);
    let host = world.path("old host");
    fs::rename(world.vault(), &host).unwrap();
    let recover = world.call("recover --json --no-passphrase --site").arg(world.site(1));
    recover.arg("--identity").arg(world.identity()).run().expect(exit::DONE);
    let verified = world.call("verify --json --vault").arg(&host).run().expect(exit::NOT_ALLOWED);
    assert_eq!((&verified.summary()["ok"], &verified.summary()["recorded"]), (&true.into(), &false.into()));
    assert!(verified.says("could not be recorded") && verified.says("refused"), "{}", verified.stderr);
}
