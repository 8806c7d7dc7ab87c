//! What of a source is backed up, and from where: excludes, lists, streams, and what is recorded when nothing changed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use blockhouse_tests::tree;
use blockhouse_tests::world::{Output, World, exit};

type Paths = BTreeSet<String>;

/// The paths of a snapshot as a restore writes them, without the only root itself.
fn paths_in(world: &World, snapshot: &str) -> Paths {
    let listed = world.unlocked("ls --json").arg(snapshot).run().expect(exit::DONE);
    let paths = listed.lines().into_iter().map(|line| line["path"].as_str().unwrap().to_owned());
    paths.filter(|path| path != ".").collect()
}

/// What tar takes of a folder with these options.
fn paths_of_tar(root: &Path, options: &[&str]) -> Paths {
    let archive = root.with_extension("tar");
    let tar = |words: &[&str]| {
        let done = Command::new("tar").args(words).arg("-f").arg(&archive).args(["-C"]).arg(root).arg(".").output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    tar(&[&["-c"], options].concat());
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let names = text.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn some_tree(root: &Path) {
    for name in ["a.txt", "b.tmp", "keep.tmp", "C.JPG", "deep/d.tmp", "deep/e.txt", "cache/f", "cache/sub/g"] {
        tree::write(&root.join(name), name.as_bytes());
    }
    tree::write(&root.join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n");
    tree::write(&root.join("skip/.nobackup"), b"");
    tree::write(&root.join("skip/h"), b"");
    tree::write(&root.join("large"), &[7; 5000]);
    tree::write(&root.join("self/.blockhouseignore"), b"*.o\n!keep.o\n/built/\n");
    for name in ["self/x.o", "self/keep.o", "self/built/y", "self/src/built/z", "self/src/w.o"] {
        tree::write(&root.join(name), b"");
    }
}

fn count(output: &Output, reason: &str) -> u64 {
    output.summary()["excluded_by"][reason].as_u64().unwrap()
}

/// Each way to leave something out, against what tar takes; the counts say why; and a dry run names each of them.
#[test]
fn what_is_left_out_is_told_by_reason() {
    let world = World::with_sites(1);
    let source = world.path("source");
    some_tree(&source);
    let plain = world.call("backup --json --no-ignore-files").arg(&source).run().expect(exit::DONE);
    assert_eq!(paths_in(&world, &plain.snapshot()), paths_of_tar(&source, &[]));
    assert_eq!(plain.number("excluded"), 0);

    let options = "--exclude-caches --exclude-if-present .nobackup --no-ignore-files";
    let tagged = world.call("backup --json").args(options).arg(&source).run().expect(exit::DONE);
    let expected = paths_of_tar(&source, &["--exclude-caches", "--exclude-tag=.nobackup"]);
    assert_eq!(paths_in(&world, &tagged.snapshot()), expected);
    assert_eq!((count(&tagged, "cache_tag"), count(&tagged, "if_present")), (2, 1));

    fs::write(world.path("excludes"), "# what programs leave\n\n*.tmp\n!keep.tmp\n").unwrap();
    let call = |words: &str| {
        let call = world.call(words).args("--iexclude *.jpg --exclude-larger-than 4K --exclude deep/e.txt");
        call.arg("--exclude-file").arg(world.path("excludes")).arg(&source)
    };
    let patterns = call("backup --json").run().expect(exit::DONE);
    let found = paths_in(&world, &patterns.snapshot());
    let gone = ["b.tmp", "C.JPG", "deep/d.tmp", "deep/e.txt", "large", "self/x.o", "self/built", "self/src/w.o"];
    assert!(gone.iter().all(|name| !found.contains(*name)), "{found:?}");
    let kept = ["keep.tmp", "a.txt", "self/keep.o", "self/src/built/z", "self/.blockhouseignore"];
    assert!(kept.iter().all(|name| found.contains(*name)), "{found:?}");
    assert_eq!(
        (count(&patterns, "pattern"), count(&patterns, "too_large"), count(&patterns, "ignore_file")),
        (4, 1, 3)
    );
    assert_eq!(patterns.number("excluded"), 8);

    let dry = call("backup -n -v --json").run().expect(exit::DONE);
    let lines = dry.lines();
    let told: Paths =
        lines.iter().filter(|line| line["type"] == "left_out").map(|line| line["path"].to_string()).collect();
    assert_eq!(told.len(), 8, "{told:?}");
    let text = call("backup").run().expect(exit::DONE);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("left out: 4 by pattern, 3 by ignore file, 1 by too large"), "{text}");
}

/// What cannot be meant is refused with its name, and nothing is recorded.
#[test]
fn options_that_cannot_be_meant_are_refused() {
    let world = World::with_sites(1);
    let source = world.path("source");
    some_tree(&source);
    let call = |words: &str| world.call("backup").arg(&source).args(words).run();
    call("--exclude-file nowhere").refuses(exit::USAGE, "exclude file `nowhere`");
    call("--exclude a[").refuses(exit::USAGE, "`a[`");
    call("--exclude-if-present a/b").refuses(exit::USAGE, "`a/b`");
    call("source").refuses(exit::USAGE, "given twice");
    call("source/deep").refuses(exit::USAGE, "backed up as well");
    call("--exclude-larger-than many").expect(exit::USAGE);
    call("--stdin-filename x").refuses(exit::USAGE, "no stream");
    call("-").refuses(exit::USAGE, "paths and a stream");
    world.call("backup").run().refuses(exit::USAGE, "nothing to back up");
    world.call("backup gone").run().refuses(exit::FAILED, "could not find `gone`");
    fs::write(world.path("bad"), "*.o\n{a\n").unwrap();
    call("--exclude-file bad").refuses(exit::USAGE, "line 2");
    assert!(world.snapshots().is_empty());
}

/// A list names paths; what is missing of them is told, recorded, and makes the exit code 3.
#[test]
fn lists_name_what_is_backed_up() {
    let world = World::with_sites(1);
    let source = world.path("source");
    some_tree(&source);
    let base = source.canonicalize().unwrap();
    let at = |name: &str| base.join(name).display().to_string();
    fs::write(world.path("list"), format!("# mine\n{}\n{}\n{}\n", at("*.txt"), at("deep"), at("deep/e.txt"))).unwrap();
    let listed = world.call("backup --json --files-from list").run().expect(exit::DONE);
    let expected = Paths::from(["a.txt", "deep", "deep/d.tmp", "deep/e.txt"].map(str::to_owned));
    assert_eq!(paths_in(&world, &listed.snapshot()), expected);

    fs::write(world.path("verbatim"), format!("{}\n{}\n", at("a.txt"), at("*.txt"))).unwrap();
    let partly =
        world.call("backup --json --source lists --files-from-verbatim verbatim").run().expect(exit::UNREADABLE);
    assert!(partly.says("*.txt") && partly.says("no such file"), "{}", partly.stderr);
    assert_eq!((partly.number("files"), partly.number("unreadable")), (1, 1));
    let expected = Paths::from(["a.txt", "*.txt"].map(str::to_owned));
    assert_eq!(paths_in(&world, &partly.snapshot()), expected, "what is missing is in the snapshot by name");

    fs::write(world.path("raw"), format!("{}\0{}\0", at("a.txt"), at("large"))).unwrap();
    let input = fs::File::open(world.path("raw")).unwrap();
    let raw = world.call("backup --json --source lists --files-from-raw -").reading(input).run().expect(exit::DONE);
    assert_eq!((raw.number("files"), raw.text("source")), (2, partly.text("source")));

    fs::write(world.path("list"), "# nothing\n").unwrap();
    world.call("backup --files-from list").run().refuses(exit::USAGE, "names no path");
    world.call("backup --files-from none").run().refuses(exit::FAILED, "`none`");
    fs::write(world.path("list"), "/gone/1\n/gone/2\n").unwrap();
    world.call("backup --files-from list").run().refuses(exit::FAILED, "none of the 2 paths");
    fs::write(world.path("raw"), "/a\0/b").unwrap();
    world.call("backup --files-from-raw raw").run().refuses(exit::USAGE, "does not end in NUL");
}

/// What a command writes, or stands on the standard input, is one file, known again by its name.
#[test]
fn a_stream_is_one_file() {
    let world = World::with_sites(3);
    let bytes = tree::noise(3 * tree::MIB + 17, 1);
    fs::write(world.path("input"), &bytes).unwrap();
    let call = |words: &str| world.call("backup --json --stdin-filename db.sql").args(words);
    let first = call("--command -- cat input").run().expect(exit::DONE);
    let input = fs::File::open(world.path("input")).unwrap();
    let second = call("--stdin").reading(input).run().expect(exit::DONE);
    let input = fs::File::open(world.path("input")).unwrap();
    let third = call("-").reading(input).run().expect(exit::DONE);
    assert_eq!(first.text("source"), second.text("source"), "the same name on the same host");
    // The listing has another time.
    assert!(second.number("new_bytes") < 5_000 && third.number("new_bytes") < 5_000, "and the same chunks");
    let to = world.restore(&third.snapshot(), "to");
    let files = tree::files(&to);
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].ends_with("db.sql") && fs::read(&files[0]).unwrap() == bytes);
    world.call("verify --read-data").run().expect(exit::DONE);
    let receipt = world.path("receipt");
    world.unlocked("receipt latest:db.sql db.sql -o").arg(&receipt).run().expect(exit::DONE);
    let listed = world.unlocked("ls latest --json").run().expect(exit::DONE);
    assert!(
        listed.lines().iter().any(|line| line["path"] == "db.sql" && line["mode"] == "0600"),
        "{:?}",
        listed.lines()
    );
    let dry = call("-n --command -- touch made").run().expect(exit::DONE);
    assert_eq!(dry.summary()["stream"], "db.sql");
    assert!(!world.path("made").exists(), "a dry run does not begin it");
}

/// A dump that did not come to a good end is no backup, however much of it came.
#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let world = World::with_sites(1);
    let call =
        |words: &str, script: &str| world.call("backup").args(words).args("--command -- sh -c").arg(script).run();
    let late = call("", "head -c 3000000 /dev/urandom; echo the disk is full >&2; exit 3");
    assert!(late.says("the disk is full"), "{}", late.stderr);
    late.refuses(exit::FAILED, "exit code 3");
    call("", "head -c 3000000 /dev/urandom; kill -9 $$").refuses(exit::FAILED, "signal 9");
    call("", "true").refuses(exit::FAILED, "--allow-empty");
    call("--command-timeout 1s", "echo begun; sleep 1000").refuses(exit::FAILED, "--command-timeout");
    world.call("backup --command -- /no/such/program").run().refuses(exit::FAILED, "/no/such/program");
    call("--stdin-filename a/b", "echo x").refuses(exit::USAGE, "`a/b`");
    assert!(world.snapshots().is_empty());
    call("--allow-empty", "true").expect(exit::DONE);
    let secrets = world.call("backup --json --command -- sh -c").arg("env").env("BLOCKHOUSE_PASSPHRASE", "hush");
    let secrets = secrets.run().expect(exit::DONE);
    let to = world.restore(&secrets.snapshot(), "to");
    let seen = fs::read_to_string(&tree::files(&to)[0]).unwrap();
    assert!(!seen.contains("hush") && seen.contains("BLOCKHOUSE_VAULT="), "{seen}");
}

/// 1 GiB of a stream takes no more memory than any backup, and no file in between. A hook asks the system how much it was.
#[test]
fn a_long_stream_takes_bounded_memory() {
    let world = World::with_sites(1);
    let note = world.path("memory");
    let hook = format!("\n[hooks]\nafter = \"grep VmHWM /proc/$PPID/status > {}\"\n", note.display());
    let config = world.vault().join("config.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &hook).unwrap();
    let script = "head -c 134217728 /dev/urandom; head -c 939524096 /dev/zero";
    let done = world.call("backup --json --command -- sh -c").arg(script).run().expect(exit::DONE);
    assert_eq!(done.number("bytes"), 1 << 30);
    let memory = fs::read_to_string(note).unwrap();
    let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 256 * 1024, "{memory}");
}

/// With `--skip-if-unchanged` an unchanged source makes no snapshot; what changed, or was never there, does.
#[test]
fn nothing_is_recorded_if_nothing_changed() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::settle();
    let call = |words: &str| world.call("backup --json --skip-if-unchanged").args(words).arg(&source);
    let first = call("").run().expect(exit::DONE);
    let second = call("").run().expect(exit::DONE);
    assert_eq!(
        (first.summary()["skipped"].as_bool(), second.summary()["skipped"].as_bool()),
        (Some(false), Some(true))
    );
    assert_eq!(second.snapshot(), first.snapshot());
    let forced = call("--force").run().expect(exit::DONE);
    assert_eq!(
        (forced.number("unchanged"), forced.summary()["skipped"].as_bool()),
        (0, Some(true)),
        "read again, and equal"
    );
    assert_eq!(world.snapshots().len(), 1);
    tree::write(&source.join("new"), b"x");
    let third = call("").run().expect(exit::DONE);
    assert_eq!(third.summary()["skipped"], false);
    // Lost at the sites: what is written again needs a snapshot that names it.
    for number in 1..=3 {
        fs::remove_dir_all(world.site(number).join("shards")).unwrap();
    }
    let mended = call("--force").run().expect(exit::DONE);
    assert_eq!(mended.summary()["skipped"], false);
    world.expect_restores(&mended.snapshot(), &source);
    world.call("backup --json").arg(&source).run().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 4, "without the flag every run is a snapshot");
}
