//! What commands say, and when they say nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, Output, World, exit};

/// The paths that a dry run tells, by what became of them.
fn changes(output: &Output) -> BTreeMap<String, Vec<String>> {
    let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in output.lines().iter().filter(|line| line["type"] == "change") {
        let name = Path::new(line["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
        changes.entry(line["change"].as_str().unwrap().to_owned()).or_default().push(name);
    }
    changes
}

/// A dry run tells what is new, changed and gone, and leaves host and sites byte for byte as they were.
#[test]
fn a_dry_run_tells_what_changed_and_writes_nothing() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::settle();
    let look = |more: &str| world.call("backup --dry-run --json").arg(&source).args(more).run().expect(exit::DONE);
    let everything = || (tree::read(&world.vault()), tree::read(&world.path("sites")));

    let before = everything();
    let first = look("").summary();
    assert_eq!(
        (&first["known"], first["new_files"].as_u64(), first["files"].as_u64()),
        (&false.into(), Some(22), Some(22))
    );
    assert_eq!(everything(), before, "not even the source is entered");

    world.back_up(&source);
    let before = everything();
    let second = look("");
    assert_eq!((second.number("new_files"), second.number("changed_files"), second.number("gone_files")), (0, 0, 0));
    assert_eq!(second.number("unchanged_files"), 22);

    tree::write(&source.join("small/new"), b"12345");
    tree::write(&source.join("small/7.txt"), b"123");
    tree::write(&source.join("other/new"), b"1");
    fs::remove_file(source.join("small/8.txt")).unwrap();
    fs::remove_file(source.join("noise.bin")).unwrap();
    let third = look("");
    let found = changes(&third);
    assert_eq!(found["new"], ["new", "new"]);
    assert_eq!(found["changed"], ["7.txt"]);
    assert_eq!(found["gone"], ["noise.bin", "8.txt"]);
    assert_eq!((third.number("new_bytes"), third.number("changed_bytes")), (6, 3));
    fs::remove_dir_all(source.join("small")).unwrap();
    assert_eq!(look("").number("gone_files"), 21, "the files of a folder that is gone are told too");
    assert_eq!(changes(&look("--exclude prose.txt"))["gone"].last().unwrap(), "9.txt");
    assert_eq!(
        look("--exclude prose.txt").number("gone_files"),
        22,
        "what is left out now is gone from the next snapshot"
    );
    assert_eq!(everything(), before);

    let text = world.call("backup -n").arg(&source).run().expect(exit::DONE);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("new") && text.contains("other/new") && text.contains("21 ("), "{text}");
}

/// `--quiet` is for cron: nothing is said of what went well, and everything of what did not.
#[test]
fn quiet_commands_say_nothing_if_all_is_well() {
    let world = World::empty();
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let silent = |call: Call| {
        let said = call.args("--quiet").run().expect(exit::DONE);
        assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{}: {said:?}", said.line);
    };
    let made = world.init(3).args("--quiet").run().expect(exit::DONE);
    assert!(made.stdout.is_empty() && made.says("one device"), "what looks safer than it is, is said: {made:?}");
    silent(world.call("backup").arg(&source));
    silent(world.call("backup").arg(&source));
    silent(world.unlocked("restore latest --to").arg(world.path("to")));
    silent(world.call("verify --read-data"));
    silent(world.call("repair"));
    silent(world.call("receipt latest -o").arg(world.path("receipt")));
    silent(world.call("check-receipt").arg(world.path("receipt")));
    silent(world.unlocked("key passwd --new-no-passphrase"));
    let listed = world.call("snapshots --quiet").run().expect(exit::DONE);
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 3, "what was asked for is told");
    let json = world.call("backup --quiet --json").arg(&source).run().expect(exit::DONE);
    assert!(json.stderr.is_empty() && json.try_summary().is_some());

    world.destroy(2);
    let degraded = world.call("verify --quiet").run().expect(exit::CHECK);
    let text = String::from_utf8(degraded.stdout.clone()).unwrap();
    assert!(text.contains("shards missing") && degraded.says("site-2"), "what is wrong is said: {degraded:?}");
    let restored = world.unlocked("restore latest --quiet --to").arg(world.path("again")).run().expect(exit::DONE);
    assert!(restored.says("site `site-2` is down"), "a warning is said: {restored:?}");
}

/// Every line of every command with `--json` is an object with a type.
#[test]
fn each_line_of_json_is_an_object_that_says_what_it_is() {
    let world = World::empty();
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let pair = blockhouse_crypto::AgeIdentity::random(&mut rand::rng());
    let public = pair.recipient(blockhouse_crypto::Role::Reader, "").unwrap().public().to_owned();
    let receipt = world.path("receipt");
    let calls: [(&str, Call); 20] = [
        ("summary", world.init(3)),
        ("summary", world.call("backup").arg(&source)),
        ("summary", world.call("backup --dry-run").arg(&source)),
        ("snapshot", world.call("snapshots")),
        ("entry", world.unlocked("ls latest")),
        ("summary", world.unlocked("restore latest --to").arg(world.path("to"))),
        ("summary", world.call("verify")),
        ("summary", world.call("verify --read-data")),
        ("summary", world.call("repair")),
        ("summary", world.call("repair --dry-run")),
        ("event", world.call("history")),
        ("status", world.call("status")),
        ("summary", world.call("key list")),
        ("summary", world.unlocked("key add --label auditor").arg(&public)),
        ("summary", world.unlocked("key list")),
        ("summary", world.unlocked("key remove auditor")),
        ("summary", world.unlocked("key passwd --new-no-passphrase")),
        ("summary", world.call("receipt latest -o").arg(&receipt)),
        ("summary", world.call("check-receipt").arg(&receipt)),
        ("summary", world.unlocked("recover --vault other --site sites/site-1")),
    ];
    for (last, call) in calls {
        let done = call.args("--json").run().expect(exit::DONE);
        assert!(done.stdout.ends_with(b"\n"), "{}: {}", done.line, String::from_utf8_lossy(&done.stdout));
        let lines = done.lines();
        assert!(lines.iter().all(|line| line["type"].is_string()), "{}: {lines:?}", done.line);
        assert_eq!(lines.last().unwrap()["type"], last, "{}", done.line);
    }
    let written = world.call("receipt latest --json --vault other").run().expect(exit::DONE);
    let written: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    assert_eq!(written["type"], "blockhouse-receipt");
}

/// Errors name what was asked for, and hints say what to run.
#[test]
fn what_is_not_there_is_named_and_the_way_on_is_told() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.unlocked("ls latest").run().refuses(exit::FAILED, "there is no snapshot");
    world.back_up(&source);
    world.unlocked("ls latest no/such/entry").run().refuses(exit::FAILED, "no entry `no/such/entry`");
    world.unlocked("receipt latest no/such/entry").run().refuses(exit::FAILED, "no entry `no/such/entry`");
    world.unlocked("ls latest:papers").run().refuses(exit::FAILED, "source `papers`");
    world.unlocked("ls 00ff00ff00ff").run().refuses(exit::FAILED, "`00ff00ff00ff`");
    let nothing = world.unlocked("restore latest --include nothing --to").arg(world.path("to")).run();
    assert!(nothing.says("`blockhouse ls SNAP`"), "{}", nothing.stderr);
    nothing.refuses(exit::FAILED, "nothing in the snapshot matches");
    assert!(!world.path("to").exists(), "a restore of nothing leaves nothing");
    tree::write(&world.path("file"), b"mine");
    world.unlocked("restore latest --to").arg(world.path("file")).run().refuses(exit::USAGE, "no folder");
    world.unlocked("key remove owner").run().refuses(exit::NOT_ALLOWED, "only readers");
    world.unlocked("key remove nobody").run().refuses(exit::FAILED, "`nobody`");
    world.unlocked("key passwd").run().refuses(exit::USAGE, "new passphrase");
    let empty = world.call("snapshots --source nobody").run().expect(exit::DONE);
    assert!(empty.stdout.is_empty() && empty.says("no snapshot"), "{}", empty.stderr);
}

/// What stands at a path is listed, dumped and compared as if it were all that there is.
#[test]
fn a_path_after_a_snapshot_is_where_it_begins() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("small/deep/letter"), b"a letter");
    let before = world.back_up(&source).snapshot();
    let paths = |words: &str, place: &str| -> Vec<String> {
        let listed = world.unlocked("ls --json").arg(place).args(words).run().expect(exit::DONE);
        listed.lines().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("", "latest::small/deep"), [".", "letter"]);
    assert_eq!(paths("deep", "latest::small"), ["deep", "deep/letter"]);
    assert_eq!(paths("", "latest::small/deep/letter"), ["letter"]);
    assert_eq!(paths("small/deep", "latest"), ["small/deep", "small/deep/letter"]);
    let dumped =
        |place: &str, words: &str| world.unlocked("dump").arg(place).args(words).run().expect(exit::DONE).stdout;
    let letter = dumped("latest", "small/deep/letter");
    assert_eq!(letter, b"a letter");
    assert_eq!(dumped("latest::small/deep/letter", ""), letter);
    assert_eq!(dumped("latest::small", "deep/letter"), letter);
    assert_eq!(dumped("latest::small", ""), dumped("latest", "small"));

    tree::write(&source.join("small/deep/letter"), b"another letter");
    tree::write(&source.join("elsewhere"), b"new");
    let after = world.back_up(&source).snapshot();
    let compare = |one: String, other: String| world.unlocked("diff --json").arg(one).arg(other).run();
    let told = |output: &Output| -> Vec<String> {
        let lines = output.lines().into_iter().filter(|line| line["type"] == "difference");
        lines.map(|line| format!("{} {}", line["modifier"].as_str().unwrap(), line["path"].as_str().unwrap())).collect()
    };
    let root = source.canonicalize().unwrap();
    let found = compare(format!("{before}:small"), format!("{after}:small")).expect(exit::DONE);
    assert_eq!(told(&found), [format!("M {}/small/deep/letter", root.display())]);
    let equal = compare(format!("{before}:small/1.txt"), format!("{after}:small/1.txt")).expect(exit::DONE);
    assert_eq!(equal.summary()["equal"], true);
    compare(format!("{before}:small"), format!("{after}:gone")).refuses(exit::FAILED, "no entry `gone`");
    compare(format!("{before}:small"), after).refuses(exit::USAGE, "a path is compared with a path");
    world.unlocked("diff latest::small --live").run().refuses(exit::USAGE, "--live");
}

/// The identity lies elsewhere and a link leads to it: the file that the link leads to is changed, and the link stays one. Before,
/// the link became a file, and what it had led to still opened with the old passphrase.
#[test]
fn a_new_passphrase_is_for_the_file_that_a_link_leads_to() {
    let world = World::with_sites(1);
    fs::write(world.path("new"), "a new passphrase\n").unwrap();
    fs::create_dir(world.path("links")).unwrap();
    let link = world.path("links/identity");
    std::os::unix::fs::symlink(world.identity(), &link).unwrap();
    let passwd = world.call("key passwd --new-passphrase-file").arg(world.path("new")).arg("--identity").arg(&link);
    passwd.run().expect(exit::DONE);
    assert_eq!(fs::read_link(&link).unwrap(), world.identity());
    assert_eq!(fs::read_dir(world.path("links")).unwrap().count(), 1);
    world.unlocked("key list").run().expect(exit::PASSPHRASE);
    world.unlocked("key list --passphrase-file").arg(world.path("new")).run().expect(exit::DONE);
}

/// The host lags behind the ledger: the refused backup says what to run, and that mends it.
#[test]
fn a_host_that_lags_behind_its_keys_is_told_how_to_catch_up() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let pair = blockhouse_crypto::AgeIdentity::random(&mut rand::rng());
    let public = pair.recipient(blockhouse_crypto::Role::Reader, "").unwrap().public().to_owned();
    let before = fs::read(world.vault().join("config.toml")).unwrap();
    world.unlocked("key add --label auditor").arg(&public).run().expect(exit::DONE);
    fs::write(world.vault().join("config.toml"), before).unwrap();
    let refused = world.call("backup").arg(&source).run();
    assert!(refused.says("blockhouse key list --identity"), "{}", refused.stderr);
    refused.refuses(exit::NOT_ALLOWED, "not approved");
    assert!(world.call("key list").run().expect(exit::CHECK).says("lags behind"));
    assert!(world.unlocked("key list").run().expect(exit::DONE).says("was brought to the key bag"));
    world.call("key list").run().expect(exit::DONE);
    world.back_up(&source);
}
