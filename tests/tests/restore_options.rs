//! Restoring into what is there: rehearsed, deleting, mapped, in part; stopped and gone on with; over files in use; with data missing.
//!
//! `BLOCKHOUSE_KILLS` says how many instants of a restore are tried (8 unless told); `BLOCKHOUSE_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::exit;
use blockhouse_tests::{Output, World, damage, need};
use rand::RngExt;
use serde_json::Value;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn changes(output: &Output) -> Vec<(String, String, u64)> {
    let lines = output.lines().into_iter().filter(|line| line["type"] == "change");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> =
        lines.map(|line| (text(&line["change"]), text(&line["path"]), line["bytes"].as_u64().unwrap())).collect();
    all.sort();
    all
}

/// A target in which everything is wrong that can be: edited, missing, too much, of another kind, right with other times.
fn spoil(to: &Path) {
    tree::write(&to.join("small/3.txt"), b"edited");
    fs::remove_file(to.join("small/4.txt")).unwrap();
    tree::write(&to.join("small/mine"), b"not in the snapshot");
    tree::write(&to.join("extra/deep/er/file"), b"12345");
    symlink("/etc", to.join("extra/link")).unwrap();
    fs::remove_file(to.join("small/5.txt")).unwrap();
    fs::create_dir(to.join("small/5.txt")).unwrap();
    tree::write(&to.join("small/5.txt/inside"), b"in the way");
    fs::remove_file(to.join("small/6.txt")).unwrap();
    symlink("3.txt", to.join("small/6.txt")).unwrap();
    tree::set_time(&to.join("small/7.txt"), 1_000_000_000, 0);
    tree::write(&to.join("kept by a pattern.bak"), b"kept");
    tree::write(&to.join("extra/deep/kept.bak"), b"kept in what goes");
}

/// What a rehearsal tells is what is done then, and it does nothing itself.
#[test]
fn a_rehearsal_tells_what_is_done_and_what_is_deleted() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 2, 1);
    let snapshot = world.back_up(&source).snapshot();
    let to = world.restore(&snapshot, "to");
    spoil(&to);
    let before = tree::read(&to);
    let call = |words: &str| {
        let call = world.unlocked("restore latest --json --overwrite always --delete --exclude *.bak --to").arg(&to);
        call.args(words).run().expect(exit::DONE)
    };
    let rehearsed = call("--dry-run");
    assert!(tree::differences(&before, &tree::read(&to)).is_empty(), "a rehearsal changes nothing");
    let told = changes(&rehearsed);
    let of = |kind: &str| -> Vec<&str> {
        told.iter().filter(|(change, ..)| change == kind).map(|(_, path, _)| path.as_str()).collect()
    };
    assert_eq!(of("new"), ["small/4.txt", "small/5.txt"]);
    assert_eq!(of("changed"), ["small/3.txt"]);
    assert_eq!(of("replaced"), ["small/6.txt"]);
    assert_eq!(of("deleted"), ["extra", "small/5.txt", "small/mine"]);
    let done = call("--verbose");
    assert_eq!(changes(&done), told);
    for field in ["new", "new_bytes", "changed", "changed_bytes", "deleted", "deleted_bytes", "kept", "spared"] {
        assert_eq!(done.summary()[field], rehearsed.summary()[field], "{field}");
    }
    assert_eq!((rehearsed.number("fetched_bytes"), &rehearsed.summary()["dry_run"]), (0, &Value::Bool(true)));
    assert_eq!(fs::read(to.join("kept by a pattern.bak")).unwrap(), b"kept");
    assert_eq!(fs::read(to.join("extra/deep/kept.bak")).unwrap(), b"kept in what goes");
    assert!(!to.join("extra/deep/er").exists() && !to.join("extra/link").exists());
    let again = call("");
    assert_eq!((again.number("deleted"), again.number("changed"), again.number("spared")), (0, 0, 2));
    fs::remove_file(to.join("kept by a pattern.bak")).unwrap();
    fs::remove_dir_all(to.join("extra")).unwrap();
    call("");
    tree::assert_equal(&source, &to);
    // A target that is not there is not made.
    let new = world.unlocked("restore latest --json -n --to").arg(world.path("new")).run().expect(exit::DONE);
    assert!(!world.path("new").exists());
    assert_eq!(new.number("new_bytes"), tree::size(&source));
}

/// Only what is asked for is written, and only folders that are asked for whole lose what the snapshot has not.
#[test]
fn patterns_say_what_is_restored_and_where_is_deleted() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("Deep/er/Note.TXT"), b"a note");
    let snapshot = world.back_up(&source).snapshot();
    let restore = |words: &str, to: &str| {
        let call = world.unlocked("restore").arg(&snapshot).args("--json --to").arg(world.path(to)).args(words);
        call.run().expect(exit::DONE)
    };
    let names = |to: &str| -> Vec<String> {
        let to = world.path(to);
        tree::files(&to).iter().map(|file| file.strip_prefix(&to).unwrap().display().to_string()).collect()
    };
    restore("--include small --exclude 1*.txt", "a");
    assert!(names("a").iter().all(|name| name.starts_with("small/") && !name.starts_with("small/1")));
    assert_eq!(names("a").len(), 9);
    restore("--iinclude note.txt", "b");
    assert_eq!(names("b"), ["Deep/er/Note.TXT"]);
    tree::write(&world.path("patterns"), b"# names\n\n/prose.txt\n  Deep/**  \n");
    restore(&format!("--include-file {}", world.path("patterns").display()), "c");
    assert_eq!(names("c"), ["Deep/er/Note.TXT", "prose.txt"]);
    restore("--iexclude *.txt", "d");
    assert_eq!(names("d"), ["noise.bin"]);
    for name in ["mine", "small/mine", "Deep/mine"] {
        tree::write(&world.path("a").join(name), b"mine");
    }
    restore("--include small --delete", "a");
    assert!(
        world.path("a/mine").exists() && world.path("a/Deep/mine").exists() && !world.path("a/small/mine").exists()
    );
    tree::assert_equal(&source.join("small"), &world.path("a/small"));
}

/// Deleting is refused where it would take the vault, a site, the key, or a home; the rest is told what to say.
#[test]
fn nothing_is_deleted_around_what_must_stay() {
    let world = World::with_sites(2);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let call = |to: &Path| world.unlocked("restore latest --delete --yes --to").arg(to);
    call(&world.path("")).run().refuses(exit::NOT_ALLOWED, "the vault");
    call(&world.path("sites")).run().refuses(exit::NOT_ALLOWED, "the site");
    call(&world.site(1).join("shards")).run().refuses(exit::NOT_ALLOWED, "the site");
    let keys = world.path("keys");
    fs::create_dir(&keys).unwrap();
    fs::copy(world.identity(), keys.join("owner")).unwrap();
    call(&keys).env("BLOCKHOUSE_IDENTITY", keys.join("owner")).run().refuses(exit::NOT_ALLOWED, "key");
    assert!(keys.join("owner").exists() && world.vault().join("config.toml").exists());
    let home = world.path("home");
    tree::write(&home.join("work/mine"), b"mine");
    let at_home = |words: &str| {
        let call = world.unlocked("restore latest --delete --to").arg(&home).args(words);
        call.env("HOME", home.join("work")).run()
    };
    at_home("").refuses(exit::NOT_ALLOWED, "--yes");
    assert!(home.join("work/mine").exists());
    let here = world.unlocked("restore latest --delete --to .").within(&home);
    here.run().refuses(exit::NOT_ALLOWED, "current folder");
    world.unlocked("restore latest --delete --overwrite never --to").arg(&home).run().refuses(exit::USAGE, "--delete");
    at_home("--yes").expect(exit::DONE);
    tree::assert_equal(&source, &home);
}

/// Owners become others, or nobody's but one's own; set-id bits never go with another owner.
#[test]
fn owners_are_mapped() {
    if !need::right(tree::is_root(), "files of other owners need root") {
        return;
    }
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("theirs"), b"theirs");
    tree::write(&source.join("lends"), b"lends rights");
    for name in ["theirs", "lends"] {
        std::os::unix::fs::chown(source.join(name), Some(1234), Some(4321)).unwrap();
    }
    fs::set_permissions(source.join("lends"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    rustix::fs::setxattr(source.join("theirs"), "user.note", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    world.back_up(&source);
    let restore =
        |words: &str, to: &str| world.unlocked("restore latest --json --to").arg(world.path(to)).args(words).run();
    let owner = |path: &str| {
        let metadata = fs::metadata(world.path(path)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    let mapped =
        restore("--map-user 1234:5 --map-user 1234:6 --map-group 4321:root", "mapped").expect(exit::UNREADABLE);
    assert_eq!(mapped.number("flaws"), 1, "the set-id bit, and that alone, is told");
    assert_eq!(owner("mapped/theirs"), (5, 0, 0o644));
    assert_eq!(owner("mapped/lends"), (5, 0, 0o755));
    restore("--no-owner", "mine").expect(exit::UNREADABLE);
    assert_eq!(owner("mine/theirs"), (0, 0, 0o644));
    restore("--no-xattrs", "bare").expect(exit::DONE);
    assert_eq!(owner("bare/lends"), (1234, 4321, 0o4755));
    let mut value = [0; 8];
    assert!(rustix::fs::getxattr(world.path("bare/theirs"), "user.note", &mut value[..]).is_err());
    restore("--map-user nobody-at-all", "wrong").refuses(exit::USAGE, "OLD:NEW");
    restore("--map-user 1:nobody-at-all", "wrong").refuses(exit::USAGE, "nobody-at-all");
}

/// Holes are where they were, and the right parts of a file that is there are not fetched.
#[test]
fn holes_are_exact_and_right_parts_are_not_fetched() {
    let world = World::with_sites(6);
    let source = world.path("source");
    let file = |path: &Path| fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    tree::write(&source.join("big"), &tree::noise(24 * MIB, 1));
    let sparse = file(&source.join("sparse"));
    sparse.set_len(40 * MIB as u64).unwrap();
    for at in [0, 5, 6, 31] {
        sparse.write_all_at(&tree::noise(MIB, 10 + at), at * MIB as u64).unwrap();
    }
    drop(sparse);
    world.back_up(&source);
    let to = world.restore("latest", "to");
    let blocks = |folder: &Path| fs::metadata(folder.join("sparse")).unwrap().blocks();
    assert_eq!(blocks(&to), blocks(&source));
    // A byte in the middle of each, and one of them longer by some.
    for name in ["big", "sparse"] {
        file(&to.join(name)).write_all_at(b"x", 12 * MIB as u64).unwrap();
    }
    file(&to.join("big")).write_all_at(&[7; 5000], 24 * MIB as u64).unwrap();
    let again = world.unlocked("restore latest --json --overwrite if-changed --to").arg(&to).run().expect(exit::DONE);
    tree::assert_equal(&source, &to);
    assert_eq!(blocks(&to), blocks(&source));
    // Chunks that lie across a hole are fetched again: a piece of one says nothing of the rest.
    assert!(again.number("reused_bytes") > 22 * MIB as u64, "{}", again.summary());
    assert!(again.number("fetched_bytes") < 7 * MIB as u64, "{}", again.summary());
    let kept = world.unlocked("restore latest --json --overwrite always --to").arg(&to).run().expect(exit::DONE);
    assert_eq!((kept.number("files"), kept.number("fetched_bytes"), kept.number("kept")), (0, 0, 2));
}

/// A file with holes is one that is written page by page, as disk images are: it is cut finely, so that a page costs less to store. Where
/// all bytes are alike a chunk ends only where it is as long as it may be, and what is stored anew can be told beforehand.
#[test]
fn a_file_with_holes_is_cut_finely_and_restored_exactly() {
    let world = World::with_sites(1);
    // Two runs of bytes, between them a hole or nothing; a page in each MiB differs.
    let alike = vec![7_u8; 8 * MIB];
    let write = |path: &Path, hole: u64, seed: u64| {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(16 * MIB as u64 + hole).unwrap();
        for run in 0..2 {
            let begin = run * (8 * MIB as u64 + hole);
            file.write_all_at(&alike, begin).unwrap();
            for page in (0..8).filter(|_| seed > 0) {
                let noise = tree::noise(64, seed + 8 * run + page);
                file.write_all_at(&noise, begin + page * MIB as u64 + 100_000).unwrap();
            }
        }
    };
    let stored_anew = |name: &str, hole: u64, seed: u64| {
        let source = world.path(name);
        fs::create_dir(&source).unwrap();
        write(&source.join("image"), hole, 0);
        world.back_up(&source);
        write(&source.join("image"), hole, seed);
        let changed = world.back_up(&source);
        let to = world.restore(&changed.snapshot(), &format!("{name} restored"));
        tree::assert_equal(&source, &to);
        let blocks = |folder: &Path| fs::metadata(folder.join("image")).unwrap().blocks();
        // A file in many parts takes a block or two of the file system's own; a hole that was filled would take two thousand.
        assert!(blocks(&to).abs_diff(blocks(&source)) < 100, "{name}: {} and {}", blocks(&to), blocks(&source));
        changed.number("new_bytes")
    };
    let (fine, usual) = (stored_anew("with a hole", MIB as u64, 100), stored_anew("without", 0, 200));
    // Sixteen chunks, usual ones of 512 KiB and fine ones of a quarter of that, which is 2 MiB; beside them the listing, and a chunk or two
    // that ended behind a page by chance.
    assert!(fine < 3 * MIB as u64, "{fine}");
    assert!(usual > 7 * MIB as u64, "{usual}");
}

/// Chunks of two files that lie in two stripes by turns: what is fetched is what is stored, once; with two sites gone as well.
#[test]
fn each_stripe_is_read_once() {
    let world = World::with_sites(6);
    let source = world.path("source");
    let noise = tree::noise(24 * MIB, 1);
    tree::write(&source.join("first"), &noise);
    world.back_up(&source);
    // Every second piece of the next files is new.
    let fresh = tree::noise(24 * MIB, 2);
    let mixed: Vec<u8> = noise
        .chunks(2 * MIB)
        .zip(fresh.chunks(2 * MIB))
        .flat_map(|(old, new)| [&old[..MIB], &new[..MIB]].concat())
        .collect();
    for name in ["copy", "mixed 1", "mixed 2"] {
        tree::write(&source.join(name), &mixed);
    }
    let stored = world.back_up(&source).number("bytes");
    assert!(stored > 90 * MIB as u64);
    for gone in [&[][..], &[1, 4][..]] {
        for site in gone {
            world.take_away(*site);
        }
        let to = world.path(&format!("to-{}", gone.len()));
        let done = world.unlocked("restore latest --json --to").arg(&to).run().expect(exit::DONE);
        tree::assert_equal(&source, &to);
        // 24 MiB and 12 MiB are different; beside them come listings, gaps, and where sites are gone what lies in the same columns.
        let fetched = done.number("fetched_bytes");
        assert!(fetched < 50 * MIB as u64, "{gone:?}: {fetched}");
        for site in gone {
            world.bring_back(*site);
        }
    }
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut all = tree::files(folder);
    all.retain(|file| file.file_name().unwrap().to_string_lossy().starts_with(".blockhouse-restore-"));
    all
}

/// kill -9 at seeded instants, then the same command: everything is right, nothing is left over, and less is fetched than by a restore
/// from nothing as soon as something was written.
#[test]
fn a_restore_that_was_killed_goes_on_with_the_same_command() {
    let (kills, seed) = (number_from("BLOCKHOUSE_KILLS", 8), number_from("BLOCKHOUSE_SEED", 1));
    println!("replay with BLOCKHOUSE_KILLS={kills} BLOCKHOUSE_SEED={seed}");
    let mut random = tree::random(seed);
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("big/one"), &tree::noise(40 * MIB, 7));
    tree::write(&source.join("big/two"), &tree::noise(20 * MIB, 8));
    fs::hard_link(source.join("big/two"), source.join("small/linked")).unwrap();
    let snapshot = world.back_up(&source).snapshot();
    let call = |to: &Path| world.unlocked("restore --json").arg(&snapshot).arg("--to").arg(to);
    let started = Instant::now();
    let all = call(&world.path("unharmed")).run().expect(exit::DONE).number("fetched_bytes");
    let unharmed = started.elapsed();
    for number in 0..kills {
        let to = world.path(&format!("to-{number}"));
        let mut rounds = 0;
        let done = loop {
            let mut running = call(&to).spawn();
            if rounds < 2 {
                std::thread::sleep(unharmed.mul_f64(random.random_range(0.1..1.0)));
                running.kill();
            }
            let mut ended = running.finish();
            rounds += 1;
            if ended.code() == exit::USAGE {
                // The kill came between the last two steps: all is there, but perhaps the time of the target itself.
                ended = call(&to).args("--overwrite if-changed").run().expect(exit::DONE);
            }
            if ended.code() == exit::DONE && ended.try_summary().is_some() {
                break ended;
            }
            assert!(rounds < 4, "the last round is not killed: {}", ended.stderr);
            // What has its name is whole, whenever the kill came.
            for file in tree::files(&to) {
                let is_named = !file.file_name().unwrap().to_string_lossy().starts_with(".blockhouse-restore-");
                let name = file.strip_prefix(&to).unwrap();
                assert!(!is_named || fs::read(&file).unwrap() == fs::read(source.join(name)).unwrap(), "{name:?}");
            }
        };
        let fetched = done.number("fetched_bytes");
        println!(
            "kill {number}: {rounds} rounds, the last fetched {fetched} of {all}, reused {}",
            done.number("reused_bytes")
        );
        assert!(fetched + done.number("reused_bytes") <= all + MIB as u64, "kill {number}");
        tree::assert_equal(&source, &to);
        assert_eq!(leftovers(&to), Vec::<PathBuf>::new(), "kill {number}");
        fs::remove_dir_all(&to).unwrap();
    }
}

/// What was changed by hand between a kill and the next run stays, and is told; what a loss of power tore is written again.
#[test]
fn going_on_leaves_what_was_changed_since() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let snapshot = world.back_up(&source).snapshot();
    let to = world.restore(&snapshot, "to");
    // As a kill right before the end leaves it.
    tree::write(&to.join(".blockhouse-restore-unfinished"), format!("{snapshot}\n").as_bytes());
    tree::write(&to.join(".blockhouse-restore-00112233445566ff"), b"of another restore");
    tree::write(&to.join("small/3.txt"), b"edited by hand");
    let times = fs::metadata(source.join("small/4.txt")).unwrap();
    tree::write(&to.join("small/4.txt"), b"");
    tree::set_time(&to.join("small/4.txt"), times.mtime(), times.mtime_nsec());
    let call = world.unlocked("restore --json").arg(&snapshot).arg("--to").arg(&to);
    let done = call.run().expect(exit::UNREADABLE);
    assert_eq!((done.number("files"), done.number("flaws")), (1, 1), "{}", done.summary());
    assert_eq!(fs::read(to.join("small/3.txt")).unwrap(), b"edited by hand");
    assert_eq!(fs::read(to.join("small/4.txt")).unwrap(), fs::read(source.join("small/4.txt")).unwrap());
    assert_eq!(leftovers(&to), Vec::<PathBuf>::new());
    // Of another snapshot it is no beginning.
    world.back_up(&source);
    tree::write(&to.join(".blockhouse-restore-unfinished"), format!("{snapshot}\n").as_bytes());
    world.unlocked("restore latest --to").arg(&to).run().refuses(exit::USAGE, "not empty");
}

struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let mut command = Command::new("mount");
        let done =
            command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stderr(std::process::Stdio::null()).status();
        let is_mounted = need::right(done.is_ok_and(|status| status.success()), "this user may not mount");
        is_mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A full disk says how much is missing; with more room the same command goes on.
#[test]
fn a_full_disk_says_what_is_missing_and_the_restore_goes_on() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("z/one"), &tree::noise(12 * MIB, 7));
    tree::write(&source.join("z/two"), &tree::noise(12 * MIB, 8));
    world.back_up(&source);
    let small = world.path("small disk");
    fs::create_dir(&small).unwrap();
    let Some(_mount) = Mount::tmpfs(&small, "size=20m") else { return };
    let call = || world.unlocked("restore latest --json --to").arg(small.join("to"));
    let full = call().run();
    assert!(full.says("more bytes are to be written") && full.says("same command"), "{}", full.stderr);
    full.refuses(exit::FAILED, "the disk of the target is full");
    call().run().refuses(exit::FAILED, "the disk of the target is full");
    let grown = Command::new("mount").args(["-o", "remount,size=60m"]).arg(&small).status();
    assert!(grown.unwrap().success());
    let done = call().run().expect(exit::DONE);
    tree::assert_equal(&source, &small.join("to"));
    assert!(done.number("fetched_bytes") < 16 * MIB as u64, "{}", done.summary());
    assert_eq!(leftovers(&small), Vec::<PathBuf>::new());
}

/// `backup -x` takes a mount point as an empty folder: a restore in place with `--delete` emptied what was mounted there.
#[test]
fn what_is_mounted_in_the_target_is_not_deleted() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    fs::create_dir(source.join("nas")).unwrap();
    let Some(_nas) = Mount::tmpfs(&source.join("nas"), "size=1m") else { return };
    tree::write(&source.join("nas/photo"), b"the only one");
    tree::write(&source.join("nas/deep/er"), b"the only other one");
    world.call("backup -x").arg(&source).run().expect(exit::DONE);
    tree::write(&source.join("extra"), b"mine");
    let call = |words: &str| world.unlocked("restore latest --json --delete --to").arg(&source).args(words).run();
    let told = call("--dry-run").expect(exit::DONE);
    let done = call("").expect(exit::DONE);
    for output in [told, done] {
        assert_eq!((output.number("deleted"), output.number("spared")), (1, 2), "{}", output.summary());
    }
    assert!(!source.join("extra").exists());
    // A folder that is to go and holds another file system is told, and loses nothing.
    tree::write(&source.join("extra/a file"), b"mine");
    fs::create_dir(source.join("extra/mounted")).unwrap();
    let Some(_mounted) = Mount::tmpfs(&source.join("extra/mounted"), "size=1m") else { return };
    tree::write(&source.join("extra/mounted/photo"), b"one more");
    assert!(call("").expect(exit::UNREADABLE).says("another file system"));
    for name in ["nas/photo", "nas/deep/er", "extra/a file", "extra/mounted/photo"] {
        assert!(source.join(name).exists(), "{name}");
    }
}

/// What the backup left out on purpose is not in the snapshot, and went with `--delete` without a word.
#[test]
fn what_the_backup_left_out_is_not_deleted() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join(".blockhouseignore"), b"node_modules/\n");
    tree::write(&source.join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n");
    let left_out = ["node_modules/deep/file", "small/a.tmp", "cache/thumbnail"];
    for name in left_out {
        tree::write(&source.join(name), b"left out");
    }
    world.call("backup --exclude-caches --exclude *.tmp").arg(&source).run().expect(exit::DONE);
    tree::write(&source.join("mine/deep/b.tmp"), b"left out as well");
    tree::write(&source.join("mine/file"), b"not in the snapshot");
    let call = || world.unlocked("restore latest --json --delete --to").arg(&source).run().expect(exit::DONE);
    let done = call();
    assert_eq!((done.number("deleted"), done.number("spared")), (1, 4), "{}", done.summary());
    assert!(!source.join("mine/file").exists() && source.join("mine/deep/b.tmp").exists());
    for name in left_out {
        assert_eq!(fs::read(source.join(name)).unwrap(), b"left out", "{name}");
    }
    let again = call();
    assert_eq!((again.number("deleted"), again.number("spared")), (0, 4), "{}", again.summary());
}

/// A running database is not written over, unless it is said.
#[test]
fn a_target_in_use_is_refused() {
    let world = World::with_sites(1);
    let source = world.path("source");
    for name in ["LOCK", "CURRENT", "000001.ldb"] {
        tree::write(&source.join("data").join(name), name.as_bytes());
    }
    world.back_up(&source);
    let to = world.restore("latest", "to");
    // What a backup leaves out may be written over all the same.
    tree::write(&to.join(".blockhouseignore"), b"data/\n");
    let lock = fs::File::open(to.join("data/LOCK")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let call = |words: &str| world.unlocked("restore latest --overwrite if-changed --to").arg(&to).args(words).run();
    let refused = call("");
    assert!(refused.says("LOCK") && refused.says("--allow-live"), "{}", refused.stderr);
    refused.refuses(exit::FAILED, "in use");
    call("--include /elsewhere/file --include /data/CURRENT").expect(exit::DONE);
    call("--allow-live").expect(exit::DONE);
    drop(lock);
    call("").expect(exit::DONE);
}

/// What cannot be read costs itself alone; once it can be, the same command brings it.
#[test]
fn what_cannot_be_read_costs_no_other_file_and_comes_later() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let before: Vec<PathBuf> = damage::objects(&world.site(1), "shards");
    tree::write(&source.join("later.bin"), &tree::noise(6 * MIB, 9));
    let snapshot = world.back_up(&source).snapshot();
    let shard = damage::objects(&world.site(1), "shards").into_iter().find(|path| !before.contains(path)).unwrap();
    let good = fs::read(&shard).unwrap();
    let mut bad = good.clone();
    bad[3 * MIB] ^= 1;
    fs::write(&shard, &bad).unwrap();
    let to = world.path("to");
    let call = || world.unlocked("restore --json").arg(&snapshot).arg("--to").arg(&to).run();
    let done = call().expect(exit::CHECK);
    let flaws: Vec<_> = done.lines().into_iter().filter(|line| line["type"] == "flaw").collect();
    assert_eq!((flaws.len(), flaws[0]["path"].as_str()), (1, Some("later.bin")));
    assert!(!to.join("later.bin").exists() && !done.summary()["ok"].as_bool().unwrap());
    // A folder in its way does not go for something that cannot be read.
    tree::write(&to.join("later.bin/inside"), b"mine");
    let in_place = world.unlocked("restore --overwrite always --delete").arg(&snapshot).arg("--to").arg(&to);
    in_place.run().expect(exit::CHECK);
    assert_eq!(fs::read(to.join("later.bin/inside")).unwrap(), b"mine");
    fs::remove_dir_all(to.join("later.bin")).unwrap();
    assert_eq!(fs::read(to.join("noise.bin")).unwrap(), fs::read(source.join("noise.bin")).unwrap());
    fs::write(&shard, &good).unwrap();
    let done = call().expect(exit::DONE);
    assert_eq!(done.number("files"), 1, "{}", done.summary());
    tree::assert_equal(&source, &to);
}

/// Two restores into one folder at once: the second is told to wait.
#[test]
fn one_restore_at_a_time_writes_to_a_folder() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let to = world.path("to");
    fs::create_dir(&to).unwrap();
    let held = fs::File::open(&to).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let call = || world.unlocked("restore latest --to").arg(&to).run();
    call().refuses(11, "another restore");
    drop(held);
    call().expect(exit::DONE);
    tree::assert_equal(&source, &to);
}

/// A snapshot of everything that a file system holds, and of one folder of it: as `restore SNAP` and as `SNAP:PATH`.
#[test]
fn a_folder_of_a_snapshot_becomes_the_target() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::everything(&source);
    let snapshot = world.call("backup --json").arg(&source).run().snapshot();
    for (number, folder) in ["contents", "names", "links", "specials/private", "empty folder"].iter().enumerate() {
        let places = [
            format!("{snapshot}:{folder}"),
            format!("latest::./{folder}/"),
            format!("latest:{}/{folder}", source.canonicalize().unwrap().display()),
        ];
        for (spelling, place) in places.iter().enumerate() {
            let to = world.path(&format!("to-{number}-{spelling}"));
            let done = world.unlocked("restore --json").arg(place).arg("--to").arg(&to).run().expect(exit::DONE);
            tree::assert_equal(&source.join(folder), &to);
            let told = place.strip_prefix("latest::").or(place.strip_prefix("latest:"));
            let told = told.or(place.split_once(':').map(|(_, path)| path)).unwrap();
            assert_eq!(done.text("path"), told);
        }
    }
    // The root of the snapshot is all of it.
    let all = world.restore("latest::.", "all");
    tree::assert_equal(&source, &all);
}

/// A file goes into the target under its own name, with its own metadata; the target is no part of the snapshot then.
#[test]
fn a_file_of_a_snapshot_goes_into_the_target() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/b/letter"), b"a letter");
    tree::write(&source.join("a/b/other"), b"another");
    symlink("letter", source.join("a/b/link")).unwrap();
    tree::set_time(&source.join("a/b/letter"), 1_000_000_000, 7);
    tree::set_time(&source.join("a/b/link"), 1_000_000_000, 8);
    world.back_up(&source);
    let restore = |path: &str, to: &str, words: &str| {
        let call = world.unlocked("restore --json").arg(format!("latest::{path}")).arg("--to").arg(world.path(to));
        call.args(words).run()
    };
    for name in ["letter", "link"] {
        let path = format!("a/b/{name}");
        let done = restore(&path, name, "").expect(exit::DONE);
        assert_eq!((done.number("new"), done.number("flaws")), (1, 0));
        let (mut found, mut wanted) = (tree::read(&world.path(name)), tree::read(&source.join("a/b")));
        found.remove(&b""[..]);
        wanted.retain(|entry, _| entry == name.as_bytes());
        assert_eq!(found, wanted);
        restore(&path, name, "").refuses(exit::USAGE, "not empty");
        assert_eq!(restore(&path, name, "--overwrite if-changed").expect(exit::DONE).number("kept"), 1);
    }
    // What else is in the target is no business of a file's.
    tree::write(&world.path("letter/mine"), b"mine");
    assert_eq!(restore("a/b/letter", "letter", "--delete").expect(exit::DONE).number("deleted"), 0);
    assert!(world.path("letter/mine").exists());
}

/// What is not in the snapshot is named, nothing is made, and the way on is told.
#[test]
fn a_path_that_is_not_in_the_snapshot_is_named() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    symlink("small", source.join("link")).unwrap();
    let snapshot = world.back_up(&source).snapshot();
    let digits = &snapshot[..12];
    let absolute = format!("{}/gone", source.canonicalize().unwrap().display());
    for path in ["smal", "small/no such", "small/1.txt/below", "link/1.txt", "../source", absolute.as_str()] {
        let place = format!("{digits}:{path}");
        let refused = world.unlocked("restore").arg(&place).arg("--to").arg(world.path("to")).run();
        assert!(refused.says("`blockhouse ls SNAP`"), "{}", refused.stderr);
        refused.refuses(exit::FAILED, &format!("the snapshot has no entry `{path}`"));
        for command in ["ls", "dump"] {
            world.unlocked(command).arg(&place).run().refuses(exit::FAILED, &format!("no entry `{path}`"));
        }
    }
    assert!(!world.path("to").exists());
    world.unlocked("restore latest:small --to to").run().refuses(exit::FAILED, "latest::small");
    world.unlocked("restore").arg(format!("{digits}:")).args("--to to").run().refuses(exit::USAGE, "SNAP:PATH");
    // A vault of which the name of a source is also a path: the source is meant.
    let named = world.call("backup --json --source small").arg(source.join("small")).run().expect(exit::DONE);
    let to = world.restore("latest:small", "named");
    tree::assert_equal(&source.join("small"), &to);
    let deeper = world.unlocked("ls --json latest:small:1.txt").run().expect(exit::DONE);
    assert_eq!((deeper.lines().len(), deeper.text("path")), (1, "1.txt".to_owned()));
    world.unlocked("ls").arg(format!("{}:small", named.snapshot())).run().refuses(exit::FAILED, "no entry `small`");
}

/// The first name of a file lies outside of what is restored: its other names have its content all the same, and are one file.
#[test]
fn hard_links_across_the_border_are_whole() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/first"), &tree::noise(3 * MIB, 1));
    tree::write(&source.join("a/small"), b"small");
    fs::create_dir_all(source.join("b/deep")).unwrap();
    for name in ["b/one", "b/deep/two", "c"] {
        fs::hard_link(source.join("a/first"), source.join(name)).unwrap();
    }
    fs::hard_link(source.join("a/small"), source.join("d")).unwrap();
    world.back_up(&source);
    let to = world.restore("latest::b", "to");
    tree::assert_equal(&source.join("b"), &to);
    let of = |path: PathBuf| fs::metadata(path).unwrap();
    assert_eq!((of(to.join("one")).ino(), of(to.join("one")).nlink()), (of(to.join("deep/two")).ino(), 2));
    let alone = world.restore("latest::d", "alone").join("d");
    assert_eq!((of(alone.clone()).nlink(), fs::read(alone).unwrap()), (1, b"small".to_vec()));
    // In place: the names outside stay as they are.
    fs::write(source.join("b/one"), b"edited").unwrap();
    let call = world.unlocked("restore latest::b --json --overwrite if-changed --to").arg(source.join("b"));
    call.run().expect(exit::DONE);
    assert_eq!(fs::read(source.join("b/deep/two")).unwrap(), tree::noise(3 * MIB, 1));
    assert_eq!(of(source.join("b/one")).ino(), of(source.join("b/deep/two")).ino());
    assert_eq!((fs::read(source.join("a/first")).unwrap(), of(source.join("c")).nlink()), (b"edited".to_vec(), 2));
}

/// Of several sources each path leads into its own: by the name that `restore` gives its root, and as it was backed up.
#[test]
fn a_path_in_a_snapshot_of_several_folders() {
    let world = World::with_sites(1);
    let (one, other) = (world.path("one"), world.path("other"));
    tree::plain(&one, 1, 1);
    tree::write(&other.join("small/mine"), b"mine");
    world.call("backup --json").arg(&one).arg(&other).run().expect(exit::DONE);
    tree::assert_equal(&one.join("small"), &world.restore("latest::one/small", "a"));
    tree::assert_equal(&other, &world.restore("latest::other", "b"));
    let absolute = format!("latest:{}/small", other.canonicalize().unwrap().display());
    tree::assert_equal(&other.join("small"), &world.restore(&absolute, "c"));
    world.unlocked("restore latest::small --to d").run().refuses(exit::FAILED, "no entry `small`");
}

/// Deleting is below the target, against what stands at the path; what patterns, the backup and an ignore file above leave out stays.
#[test]
fn deleting_is_relative_to_the_path() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("docs/deep/letter"), b"a letter");
    tree::write(&source.join(".blockhouseignore"), b"/docs/*.log\n/*.txt\n");
    let left_out = ["docs/left.log", "docs/left.tmp", "docs/deep/left.tmp"];
    for name in left_out {
        tree::write(&source.join(name), b"left out");
    }
    let backup = world.call("backup --json --exclude docs/**/*.tmp --exclude docs/*.tmp").arg(&source).run();
    let snapshot = backup.expect(exit::DONE).snapshot();
    for name in ["docs/mine", "docs/mine.txt", "docs/deep/mine", "docs/kept.bak", "small/mine"] {
        tree::write(&source.join(name), b"not in the snapshot");
    }
    let call = |words: &str| {
        let call = world.unlocked("restore --json --delete --exclude /docs/*.bak").arg(format!("{snapshot}:docs"));
        call.arg("--to").arg(source.join("docs")).args(words).run().expect(exit::DONE)
    };
    let rehearsed = call("--dry-run");
    let deleted: Vec<String> =
        changes(&rehearsed).into_iter().map(|(kind, path, _)| format!("{kind} {path}")).collect();
    assert_eq!(deleted, ["deleted deep/mine", "deleted mine", "deleted mine.txt"]);
    let done = call("");
    for output in [rehearsed, done] {
        assert_eq!((output.number("deleted"), output.number("spared")), (3, 4), "{}", output.summary());
    }
    for name in left_out.iter().chain(&["docs/kept.bak", "small/mine", "small/1.txt", "docs/deep/letter"]) {
        assert!(source.join(name).exists(), "{name}");
    }
    for name in ["docs/mine", "docs/mine.txt", "docs/deep/mine"] {
        assert!(!source.join(name).exists(), "{name}");
    }
}

/// Patterns count from the snapshot, and what they say of a folder above the path holds in it.
#[test]
fn patterns_count_from_the_snapshot_also_below_a_path() {
    let world = World::with_sites(1);
    let source = world.path("source");
    for name in ["a/b/c/one.txt", "a/b/two.txt", "a/b/b/three.txt", "a/four.txt"] {
        tree::write(&source.join(name), name.as_bytes());
    }
    world.back_up(&source);
    let names = |place: &str, words: &str, to: &str| -> Vec<String> {
        let to = world.path(to);
        world.unlocked("restore --json").arg(place).args(words).arg("--to").arg(&to).run().expect(exit::DONE);
        tree::files(&to).iter().map(|file| file.strip_prefix(&to).unwrap().display().to_string()).collect()
    };
    assert_eq!(names("latest::a/b", "--include /a/b/c", "1"), ["c/one.txt"]);
    assert_eq!(names("latest::a/b", "--exclude /a/b/b --exclude one.txt", "2"), ["two.txt"]);
    assert_eq!(names("latest::a/b", "--include a/b", "3"), ["b/three.txt", "c/one.txt", "two.txt"]);
    assert_eq!(names("latest::a/b/two.txt", "--include *.txt", "4"), ["two.txt"]);
    for words in ["--include /c", "--exclude /a", "--exclude b"] {
        let nothing = world.unlocked("restore latest::a/b --to").arg(world.path("none")).args(words).run();
        nothing.refuses(exit::FAILED, "nothing in the snapshot matches");
    }
    assert!(!world.path("none").exists());
}

/// The mark of a restore that was stopped is for its own path: another one does not mix with what is there.
#[test]
fn an_unfinished_restore_of_a_path_goes_on_for_that_path_only() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source.join("a"), 1, 1);
    tree::plain(&source.join("b"), 1, 2);
    let snapshot = world.back_up(&source).snapshot();
    let call = |path: &str| world.unlocked("restore --json").arg(format!("{snapshot}:{path}")).arg("--to");
    let to = world.path("to");
    call("a").arg(&to).run().expect(exit::DONE);
    // As a kill in the middle leaves it.
    tree::write(&to.join(".blockhouse-restore-unfinished"), format!("{snapshot}\npath a\n").as_bytes());
    fs::remove_file(to.join("small/3.txt")).unwrap();
    call("b").arg(&to).run().refuses(exit::USAGE, "not empty");
    world.unlocked("restore").arg(&snapshot).arg("--to").arg(&to).run().refuses(exit::USAGE, "not empty");
    let done = call("a").arg(&to).run().expect(exit::DONE);
    assert_eq!((done.number("files"), leftovers(&to)), (1, Vec::new()));
    tree::assert_equal(&source.join("a"), &to);
}

/// Names are stripped as tar does it; what would be lost under one name is told before anything is written.
#[test]
fn components_are_stripped() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/x/one"), b"1");
    tree::write(&source.join("a/y"), b"2");
    tree::write(&source.join("b/z/two"), b"3");
    tree::write(&source.join("top"), b"4");
    fs::hard_link(source.join("a/y"), source.join("b/z/linked")).unwrap();
    world.back_up(&source);
    let restore = |place: &str, words: &str, to: &str| {
        let call = world.unlocked("restore --json").arg(place).args(words).arg("--to").arg(world.path(to));
        call.run()
    };
    let one = restore("latest", "--strip-components 1", "one").expect(exit::DONE);
    assert_eq!((one.number("files"), one.number("stripped")), (4, 1));
    tree::assert_equal(&source.join("a/x"), &world.path("one/x"));
    assert_eq!(fs::read(world.path("one/y")).unwrap(), b"2");
    assert_eq!(
        fs::metadata(world.path("one/y")).unwrap().ino(),
        fs::metadata(world.path("one/z/linked")).unwrap().ino()
    );
    let two = restore("latest", "--strip-components 2", "two").expect(exit::DONE);
    assert_eq!((two.number("files"), two.number("stripped")), (3, 2));
    let below = restore("latest::a", "--strip-components 1", "below").expect(exit::DONE);
    assert_eq!((below.number("files"), below.number("stripped")), (1, 1));
    assert_eq!(fs::read(world.path("below/one")).unwrap(), b"1");
    restore("latest", "--strip-components 18446744073709551615", "none")
        .refuses(exit::FAILED, "nothing in the snapshot matches");
    assert!(!world.path("none").exists());
    // What is in the target and no folder of the snapshot's stays, whatever is deleted further down.
    for name in ["one/mine", "one/x/mine"] {
        tree::write(&world.path(name), b"mine");
    }
    assert_eq!(restore("latest", "--strip-components 1 --delete", "one").expect(exit::DONE).number("deleted"), 1);
    assert!(world.path("one/mine").exists() && !world.path("one/x/mine").exists());
    tree::write(&source.join("b/y/inside"), b"5");
    world.back_up(&source);
    let collided = restore("latest", "--strip-components 1", "collided");
    assert!(collided.says("`a/y`") && collided.says("`b/y`") && collided.says("--exclude"), "{}", collided.stderr);
    collided.refuses(exit::USAGE, "would both be `y`");
    assert!(!world.path("collided").exists());
    restore("latest", "--strip-components 1 --exclude /b/y", "apart").expect(exit::DONE);
    assert_eq!(fs::read(world.path("apart/y")).unwrap(), b"2");
    // What no pattern asks for is not restored, and collides with nothing.
    for (number, pattern) in ["/a", "/a/y", "/a/*"].iter().enumerate() {
        let to = format!("asked-{number}");
        restore("latest", &format!("--strip-components 1 --include {pattern}"), &to).expect(exit::DONE);
        assert_eq!(fs::read(world.path(&to).join("y")).unwrap(), b"2", "{pattern}");
        assert!(!world.path(&to).join("z").exists(), "{pattern}");
    }
    let asked = restore("latest", "--strip-components 1 --include /a/y --include /b/y/inside", "collided");
    asked.refuses(exit::USAGE, "would both be `y`");
    assert!(!world.path("collided").exists());
}

/// Of several folders that go to the target none has it for itself: an ignore file that stands there rules each of them, and what is left
/// out of one is left out by its own path.
#[test]
fn deleting_below_several_stripped_folders_spares_what_each_leaves_out() {
    let world = World::with_sites(1);
    let source = world.path("source");
    for name in ["a/one/kept", "b/two/kept", "c/three/kept"] {
        tree::write(&source.join(name), name.as_bytes());
    }
    world.back_up(&source);
    let to = world.path("to");
    let restore = |words: &str| {
        let call = world.unlocked("restore latest --json --strip-components 1 --delete --to").arg(&to);
        call.args(words).run().expect(exit::DONE)
    };
    let fill = || {
        for folder in ["one", "two", "three"] {
            for name in ["x", "x.bak", "x.log"] {
                tree::write(&to.join(folder).join(name), b"mine");
            }
        }
    };
    restore("");
    fill();
    let rehearsed = restore("--exclude /b/two/*.bak --dry-run");
    let deleted: Vec<String> =
        changes(&rehearsed).into_iter().map(|(kind, path, _)| format!("{kind} {path}")).collect();
    let gone = ["one/x", "one/x.bak", "one/x.log", "three/x", "three/x.bak", "three/x.log", "two/x", "two/x.log"];
    assert_eq!(deleted, gone.map(|path| format!("deleted {path}")));
    let done = restore("--exclude /b/two/*.bak");
    assert_eq!((done.number("deleted"), done.number("spared")), (8, 1), "{}", done.summary());
    assert!(to.join("two/x.bak").exists() && !to.join("one/x.bak").exists());
    fill();
    tree::write(&to.join(".blockhouseignore"), b"x\n*.log\n");
    let ruled = restore("");
    assert_eq!((ruled.number("deleted"), ruled.number("spared")), (3, 6), "{}", ruled.summary());
    for folder in ["one", "two", "three"] {
        let is_there = |name: &str| to.join(folder).join(name).exists();
        assert!(is_there("x") && is_there("x.log") && is_there("kept") && !is_there("x.bak"), "{folder}");
    }
}

/// The ignore file of the first folder is written before the second is looked at: what rules is the one that stood there before.
#[test]
fn what_one_stripped_folder_brings_does_not_rule_the_next() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/.blockhouseignore"), b"*.bak\n");
    tree::write(&source.join("a/name 1"), b"a file of two names");
    fs::hard_link(source.join("a/name 1"), source.join("a/name 2")).unwrap();
    tree::write(&source.join("b/two/kept"), b"kept");
    world.back_up(&source);
    let to = world.path("to");
    tree::write(&to.join(".blockhouseignore"), b"*.log\n");
    // A further name of a file that is being written is in the way: what is planned is written before that is decided.
    tree::write(&to.join("name 2"), b"something else");
    for name in ["x", "x.bak", "x.log"] {
        tree::write(&to.join("two").join(name), b"mine");
    }
    let restore = |words: &str| {
        let call = world.unlocked("restore latest --json --strip-components 1 --delete --to").arg(&to);
        call.args(words).run().expect(exit::DONE)
    };
    let rehearsed = restore("--dry-run");
    let deleted: Vec<String> =
        changes(&rehearsed).into_iter().filter(|(kind, ..)| kind == "deleted").map(|(_, path, _)| path).collect();
    assert_eq!(deleted, ["two/x", "two/x.bak"]);
    let done = restore("");
    assert_eq!((done.number("deleted"), done.number("spared")), (2, 1), "{}", done.summary());
    assert!(to.join("two/x.log").exists() && !to.join("two/x.bak").exists());
    assert_eq!(fs::read(to.join(".blockhouseignore")).unwrap(), b"*.bak\n");
    assert_eq!(fs::metadata(to.join("name 2")).unwrap().nlink(), 2);
}

/// A leftover stayed as long as the snapshot had its file, also if that was not asked for; and what is left out with its whole folder was
/// among the bytes that a full disk was said to lack.
#[test]
fn leftovers_of_what_is_left_out_go() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/large"), &tree::noise(12 * MIB, 9));
    tree::write(&source.join("a/small"), b"small");
    tree::write(&source.join("b/other"), b"other");
    world.back_up(&source);
    let small = world.path("small disk");
    fs::create_dir(&small).unwrap();
    let Some(_mount) = Mount::tmpfs(&small, "size=8m") else { return };
    let to = small.join("to");
    let call = |words: &str| {
        let call = world.unlocked("restore latest --json --strip-components 1 --to").arg(&to);
        call.args(words).run()
    };
    let full = call("--exclude /b");
    assert!(!full.says("more bytes are to be written"), "{}", full.stderr);
    full.refuses(exit::FAILED, "the disk of the target is full");
    let is_large = |path: &Path| fs::metadata(path).unwrap().len() >= MIB as u64;
    assert_eq!(leftovers(&small).into_iter().filter(|path| is_large(path)).count(), 1);
    call("--exclude large").expect(exit::DONE);
    assert_eq!(leftovers(&small), Vec::<PathBuf>::new());
    assert!(!to.join("large").exists() && to.join("small").exists() && to.join("other").exists());
}

/// The leftovers in the target belong to several folders: they were taken for nobody's, and large files began anew.
#[test]
fn several_stripped_folders_that_were_stopped_go_on() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a/one"), &tree::noise(12 * MIB, 7));
    tree::write(&source.join("b/two"), &tree::noise(12 * MIB, 8));
    tree::write(&source.join("c/small"), b"small");
    world.back_up(&source);
    let small = world.path("small disk");
    fs::create_dir(&small).unwrap();
    let Some(_mount) = Mount::tmpfs(&small, "size=20m") else { return };
    let to = small.join("to");
    let call = || world.unlocked("restore latest --json --strip-components 1 --to").arg(&to).run();
    call().refuses(exit::FAILED, "the disk of the target is full");
    let grown = Command::new("mount").args(["-o", "remount,size=60m"]).arg(&small).status();
    assert!(grown.unwrap().success());
    tree::write(&to.join(".blockhouse-restore-00112233445566ff"), b"of another restore");
    let done = call().expect(exit::DONE);
    assert!(done.number("reused_bytes") > 0, "{}", done.summary());
    for (name, from) in [("one", "a/one"), ("two", "b/two"), ("small", "c/small")] {
        assert!(fs::read(to.join(name)).unwrap() == fs::read(source.join(from)).unwrap(), "{name}");
    }
    assert_eq!(leftovers(&small), Vec::<PathBuf>::new());
}

/// A restore of one large file that was stopped goes on where it was.
#[test]
fn a_single_file_that_was_stopped_goes_on() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::write(&source.join("large.img"), &tree::noise(24 << 20, 5));
    world.back_up(&source);
    let to = world.path("to");
    let from = format!("latest:{}", source.join("large.img").display());
    let restore = |words: &str| world.unlocked("restore --json").args(words).arg(&from).arg("--to").arg(&to);
    let mut stopped = restore("--limit-download 4MiB").spawn();
    while !to.is_dir() || leftovers(&to).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // A third of it has come then, at that rate.
    std::thread::sleep(Duration::from_millis(2_500));
    stopped.kill();
    drop(stopped.finish());
    let goes_on = restore("").run().expect(exit::DONE);
    assert!(goes_on.number("reused_bytes") > 0, "{}", goes_on.summary());
    assert!(fs::read(to.join("large.img")).unwrap() == fs::read(source.join("large.img")).unwrap());
    assert_eq!(leftovers(&to), Vec::<PathBuf>::new());
}
