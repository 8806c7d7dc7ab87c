//! Snapshots copied from one vault to another.
//!
//! `BLOCKHOUSE_KILLS` says how many instants a copy is killed at (5 unless told); `BLOCKHOUSE_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{World, exit};
use blockhouse_tests::{Output, damage};
use rand::RngExt;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn copy(from: &World, to: &World, words: &str) -> Output {
    from.unlocked(&format!("copy --json {words} --to-vault")).arg(to.vault()).run()
}

/// What was copied: original and copy.
fn copied(output: &Output) -> Vec<(String, String)> {
    let id = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = output.lines().into_iter().filter(|line| line["type"] == "copied");
    lines.map(|line| (id(&line, "snapshot"), id(&line, "copy"))).collect()
}

/// The copy restores to what the original does, and lists the same.
#[track_caller]
fn expect_equal(from: &World, to: &World, (original, copy): &(String, String)) {
    let restored = from.restore(original, &format!("restored-{original}"));
    to.expect_restores(copy, &restored);
    tree::remove(&restored);
    let listed = |world: &World, id: &str| world.unlocked("ls --json").arg(id).run().expect(exit::DONE).stdout;
    assert!(listed(from, original) == listed(to, copy), "{original} and {copy} list otherwise");
}

#[test]
fn copies_are_what_the_originals_are() {
    let (from, to) = (World::with_sites(6), World::with_sites(3));
    let source = from.path("source");
    tree::everything(&source);
    let back_up = |words: &str| from.call("backup --json").args(words).arg(&source).run().expect(exit::DONE).snapshot();
    let mut originals = vec![back_up("--tag kind=first --host web")];
    tree::write(&source.join("contents/new"), &tree::noise(MIB, 77));
    originals.push(back_up("--host web"));
    fs::remove_dir_all(source.join("deep")).unwrap();
    originals.push(back_up("--host web"));

    let planned = copy(&from, &to, "-n").expect(exit::DONE);
    assert_eq!((planned.number("copied"), to.snapshots().len()), (3, 0));
    let done = copy(&from, &to, "").expect(exit::DONE);
    let pairs = copied(&done);
    assert_eq!(pairs.iter().map(|(original, _)| original.clone()).collect::<Vec<_>>(), originals);
    for pair in &pairs {
        expect_equal(&from, &to, pair);
    }
    let counts: Vec<(u64, u64)> = done
        .lines()
        .iter()
        .filter(|line| line["type"] == "copied")
        .map(|line| (line["files"].as_u64().unwrap(), line["unchanged"].as_u64().unwrap()))
        .collect();
    assert!(counts[1].1 + 5 > counts[1].0 && counts[2].1 + 5 > counts[2].0, "unchanged files were read: {counts:?}");

    let again = copy(&from, &to, "").expect(exit::DONE);
    assert_eq!((again.number("copied"), again.number("passed_over"), to.snapshots().len()), (0, 3, 3));
    // Known by the ledger, not by the host's files.
    let listed = to.call("snapshots --json --tag kind=first").run().expect(exit::DONE).lines();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["host"]), (&pairs[0].1.clone().into(), &"web".into()));

    // The other vault's own backups of the same folder are of another source.
    let own = to.call("backup --json --host web").arg(&source).run().expect(exit::DONE);
    let sources: Vec<_> = to.call("snapshots --json").run().lines().iter().map(|line| line["source"].clone()).collect();
    assert!(sources[..3].iter().all(|source| *source == sources[0]) && sources[3] != sources[0], "{sources:?}");
    to.expect_restores(&own.snapshot(), &source);
    assert_eq!(to.call("verify --json").run().expect(exit::DONE).summary()["ok"], true);
}

#[test]
fn what_is_named_or_selected_is_copied_and_nothing_else() {
    let (from, to) = (World::with_sites(2), World::with_sites(2));
    let (one, other) = (from.path("one"), from.path("other"));
    tree::plain(&one, 1, 1);
    tree::write(&other.join("file"), b"other");
    let first = from.back_up(&one).snapshot();
    from.call("backup --json --tag kind=b").arg(&other).run().expect(exit::DONE);
    let tagged = from.call("backup --json --tag kind=a").arg(&one).run().expect(exit::DONE).snapshot();
    let ids = |output: &Output| copied(output).into_iter().map(|(original, _)| original).collect::<Vec<_>>();
    assert_eq!(ids(&copy(&from, &to, "--tag kind=a").expect(exit::DONE)), [tagged]);
    assert_eq!(ids(&copy(&from, &to, &first[..9]).expect(exit::DONE)), [first]);
    assert_eq!(copied(&copy(&from, &to, "").expect(exit::DONE)).len(), 1);

    from.unlocked("copy --to-vault").arg(from.vault()).run().refuses(exit::USAGE, "another vault");
    from.call("copy --to-vault").arg(to.vault()).run().refuses(exit::NOT_ALLOWED, "--identity");
    from.unlocked("copy --to-vault").arg(from.path("nothing")).run().refuses(exit::NO_VAULT, "no vault");
    let reader = from.path("reader");
    fs::create_dir(&reader).unwrap();
    fs::copy(to.vault().join("config.toml"), reader.join("config.toml")).unwrap();
    from.unlocked("copy --to-vault").arg(&reader).run().refuses(exit::NOT_ALLOWED, "no writer");
}

/// Nothing half: the file that is lost is named, and the other vault has no snapshot of it. What comes after it is copied all the same:
/// one such snapshot once held up every later one, at every run.
#[test]
fn a_snapshot_that_cannot_be_read_is_left_out_and_holds_up_no_other() {
    let (from, to) = (World::with_sites(6), World::with_sites(2));
    let source = from.path("source");
    tree::write(&source.join("folder/old"), &tree::noise(3 * MIB, 1));
    let bad = from.back_up(&source).snapshot();
    for shard in (1..=3).flat_map(|number| damage::objects(&from.site(number), "shards")) {
        fs::remove_file(shard).unwrap();
    }
    let other = from.path("other");
    tree::write(&other.join("new"), &tree::noise(MIB, 2));
    let good = from.back_up(&other).snapshot();
    for _ in 0..2 {
        let done = copy(&from, &to, "").expect(exit::CHECK);
        assert!(done.says("could not be read"), "{}", done.stderr);
        let left_out: Vec<_> = done.lines().into_iter().filter(|line| line["type"] == "not_copied").collect();
        assert_eq!((left_out.len(), left_out[0]["snapshot"].as_str()), (1, Some(bad.as_str())));
        assert_eq!((done.number("unreadable"), done.summary()["ok"].as_bool()), (1, Some(false)));
    }
    let copies = to.snapshots();
    assert_eq!(copies.len(), 1, "the good one, once");
    expect_equal(&from, &to, &(good, copies[0].clone()));
}

/// A kill at any instant leaves no half copy, and what was stored is used by the next run.
#[test]
fn a_copy_that_was_killed_is_made_by_the_next_run() {
    let (kills, seed) = (number_from("BLOCKHOUSE_KILLS", 5), number_from("BLOCKHOUSE_SEED", 1));
    println!("replay with BLOCKHOUSE_KILLS={kills} BLOCKHOUSE_SEED={seed}");
    let mut random = tree::random(seed);
    let (from, to) = (World::with_sites(2), World::with_sites(3));
    let source = from.path("source");
    tree::plain(&source, 1, seed);
    from.back_up(&source);
    let started = Instant::now();
    let mut pairs = copied(&copy(&from, &to, "").expect(exit::DONE));
    let mut unharmed: Duration = started.elapsed();
    for number in 0..kills {
        change(&source, seed * 1000 + number);
        let original = from.back_up(&source).snapshot();
        let before = to.snapshots().len();
        let mut running = from.unlocked("copy --json --to-vault").arg(to.vault()).spawn();
        std::thread::sleep(unharmed.mul_f64(random.random_range(0.1..1.1)));
        running.kill();
        let killed = running.finish();
        let listed = to.snapshots().len();
        assert!(listed <= before + 1 && (copied(&killed).is_empty() || listed == before + 1), "kill {number}");
        let started = Instant::now();
        let next = copy(&from, &to, "").expect(exit::DONE);
        unharmed = unharmed.max(started.elapsed());
        assert_eq!(to.snapshots().len(), before + 1, "kill {number}: no more than one copy");
        assert_eq!(next.summary()["copied"], u64::from(listed == before), "kill {number}");
        let copy = to.snapshots().pop().unwrap();
        pairs.push((original, copy));
        assert_eq!(to.call("verify --json").run().expect(exit::DONE).summary()["ok"], true, "kill {number}");
    }
    for pair in pairs {
        expect_equal(&from, &to, &pair);
    }
}

fn change(source: &Path, seed: u64) {
    let news: PathBuf = source.join("news");
    tree::write(&news, &tree::noise(4 * MIB, seed));
    tree::write(&source.join(format!("small/{seed}")), &tree::prose(900, seed));
}
