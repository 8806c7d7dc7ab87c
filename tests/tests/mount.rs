//! A vault mounted through the kernel, by the real binary.
//!
//! `BLOCKHOUSE_SEED` says which bytes are read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{World, binary, exit};
use blockhouse_tests::{damage, need};
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const EROFS: i32 = 30;
const EIO: i32 = 5;

/// True if something can be mounted here.
fn can_mount() -> bool {
    let opens = File::options().read(true).write(true).open("/dev/fuse").is_ok();
    need::right(opens && tree::is_root(), "mounting needs root and /dev/fuse")
}

/// A running mount.
struct Mounted {
    child: Child,
    point: PathBuf,
    lines: BufReader<ChildStdout>,
}

impl Mounted {
    /// Mounts the vault and waits until it is there.
    fn start(world: &World, words: &str) -> Self {
        let point = world.path("mounted");
        fs::create_dir_all(&point).unwrap();
        let mut command = Command::new(binary());
        command.args(["mount", "--json"]).args(words.split_whitespace()).arg(&point);
        command.env("BLOCKHOUSE_VAULT", world.vault()).env("BLOCKHOUSE_IDENTITY", world.identity());
        command.env("HOME", world.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let mut mounted = Self { child, point, lines };
        if !line.contains("\"mounted\"") {
            let _ = mounted.child.kill();
            panic!("not mounted: {line}{}", mounted.talk());
        }
        mounted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn talk(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Ends it as Ctrl-C does: it must unmount. What it wrote as data and as talk.
    fn end(mut self) -> (Vec<Value>, String) {
        self.signal(Signal::INT);
        let mut data = String::new();
        self.lines.read_to_string(&mut data).unwrap();
        let said = self.talk();
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code(), Some(exit::DONE), "{said}");
        assert!(fs::read_dir(&self.point).unwrap().next().is_none(), "it is unmounted");
        assert!(!said.contains("panicked"), "{said}");
        (data.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said)
    }
}

impl Drop for Mounted {
    /// A test that fails leaves no mount behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.point).stderr(Stdio::null()).status();
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn seed() -> u64 {
    std::env::var("BLOCKHOUSE_SEED").map_or(1, |text| text.parse().unwrap())
}

#[track_caller]
fn expect_same(one: &Path, other: &Path) {
    let done = Command::new("diff").arg("-r").arg(one).arg(other).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// Contents, names, links, holes, modes, owners, times, attributes and devices: all as in the source, through programs of the system.
#[test]
fn what_is_mounted_is_what_was_backed_up() {
    if !can_mount() {
        return;
    }
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::everything(&source);
    let snapshot = world.back_up(&source).snapshot();
    let mounted = Mounted::start(&world, "");
    let latest = fs::canonicalize(mounted.path("snapshots/latest")).unwrap();
    assert!(latest.to_str().unwrap().ends_with(&snapshot[..12]), "{}", latest.display());
    tree::assert_equal(&source, &latest);
    assert_eq!(fs::canonicalize(mounted.path("ids").join(&snapshot)).unwrap(), latest);
    let (data, said) = mounted.end();
    assert_eq!(data.last().unwrap()["type"], "summary");
    assert_eq!(said, "");
}

#[test]
fn nothing_is_written_and_new_snapshots_appear() {
    if !can_mount() {
        return;
    }
    let world = World::with_sites(2);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let first = world.back_up(&source).snapshot();
    let mounted = Mounted::start(&world, "");
    assert_eq!(names(&mounted.point), ["hosts", "ids", "snapshots", "tags"].map(str::to_owned).into());
    assert_eq!(names(&mounted.path("ids")), [first[..12].to_owned()].into());
    let latest = mounted.path("snapshots/latest");
    expect_same(&source, &latest);
    for refused in [
        fs::write(latest.join("new"), b"").unwrap_err(),
        fs::remove_file(latest.join("prose.txt")).unwrap_err(),
        fs::create_dir(mounted.path("new")).unwrap_err(),
        File::options().append(true).open(latest.join("prose.txt")).unwrap_err(),
    ] {
        assert_eq!(refused.raw_os_error(), Some(EROFS));
    }
    tree::write(&source.join("news"), b"news");
    let more =
        world.call("backup --json --tag kind=a/b --host web --source docs").arg(&source).run().expect(exit::DONE);
    let until = Instant::now() + Duration::from_mins(1);
    while names(&mounted.path("ids")).len() < 2 {
        assert!(Instant::now() < until, "the new snapshot does not appear");
        std::thread::sleep(Duration::from_millis(200));
    }
    let second = fs::canonicalize(mounted.path("ids").join(&more.snapshot()[..12])).unwrap();
    for way in ["snapshots/latest", "tags/kind=a%2Fb/latest", "hosts/web/docs/latest"] {
        assert_eq!(fs::canonicalize(mounted.path(way)).unwrap(), second, "{way}");
    }
    expect_same(&source, &second);
    mounted.end();
    let mounted = Mounted::start(&world, "--tag kind=a/b --owner-root");
    assert_eq!(names(&mounted.path("ids")), [more.snapshot()[..12].to_owned()].into());
    mounted.end();
}

/// A file whose list of extents is long, read here and there by several threads, and without reading the rest.
#[test]
fn any_bytes_are_those_of_the_source() {
    if !can_mount() {
        return;
    }
    println!("replay with BLOCKHOUSE_SEED={}", seed());
    let world = World::with_sites(2);
    let source = world.path("source");
    let big = tree::noise(64 * MIB, seed());
    tree::write(&source.join("big"), &big);
    world.back_up(&source);
    let mounted = Mounted::start(&world, "--cache 8M");
    let path = fs::canonicalize(mounted.path("snapshots/latest/big")).unwrap();
    let before = read_by(&mounted.child);
    let mut four = vec![0; 4096];
    File::open(&path).unwrap().read_exact_at(&mut four, 40 * MIB as u64 + 77).unwrap();
    assert_eq!(four, big[40 * MIB + 77..][..4096]);
    let cost = read_by(&mounted.child) - before;
    assert!(cost < 8 * MIB as u64, "4 KiB cost the reading of {cost} bytes");
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (path, big) = (&path, &big);
            scope.spawn(move || {
                let (mut random, file) = (tree::random(seed() * 100 + thread), File::open(path).unwrap());
                for _ in 0..60 {
                    let (at, length) = (random.random_range(0..big.len()), random.random_range(1..300_000));
                    let wanted = &big[at..big.len().min(at + length)];
                    let mut found = vec![0; wanted.len()];
                    file.read_exact_at(&mut found, at as u64).unwrap();
                    assert!(found == wanted, "{length} bytes at {at}");
                }
            });
        }
    });
    assert!(fs::read(&path).unwrap() == big);
    mounted.end();
}

/// How many bytes a process has read.
fn read_by(child: &Child) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// One stripe too few shards: an I/O error where its chunks are, everything else as it was, and what is lost is named once.
#[test]
fn damage_beyond_repair_is_an_error_of_its_own_place() {
    if !can_mount() {
        return;
    }
    let world = World::with_sites(6);
    let source = world.path("source");
    // Long enough that the shard which is left has whole chunks, wherever this vault cuts.
    let old = tree::noise(8 * MIB, 1);
    tree::write(&source.join("old"), &old);
    world.back_up(&source);
    let sites: Vec<PathBuf> = (1..=6).map(|number| world.site(number)).collect();
    let shards: Vec<PathBuf> = sites.iter().flat_map(|site| damage::objects(site, "shards")).collect();
    tree::write(&source.join("folder/new"), &tree::noise(2 * MIB, 2));
    let second = world.back_up(&source).snapshot();
    // Three of the four that any stripe needs are left; the fourth data shard still gives its own bytes.
    for shard in shards {
        let name = shard.file_name().unwrap().to_string_lossy().into_owned();
        let index: u32 = name.rsplit_once('-').unwrap().1.parse().unwrap();
        if index < 3 {
            fs::remove_file(shard).unwrap();
        }
    }
    let mounted = Mounted::start(&world, "");
    assert_eq!(names(&mounted.path("ids")).len(), 2, "a damaged snapshot is shown");
    let snapshot = fs::canonicalize(mounted.path("ids").join(&second[..12])).unwrap();
    assert_eq!(names(&snapshot), ["folder", "old"].map(str::to_owned).into());
    expect_same(&source.join("folder"), &snapshot.join("folder"));
    let (mut good, mut bad) = (0, 0);
    let file = File::open(snapshot.join("old")).unwrap();
    for at in (0..old.len() - 4096).step_by(64 << 10) {
        let mut found = vec![0; 4096];
        match file.read_exact_at(&mut found, at as u64) {
            Ok(()) => {
                assert!(found == old[at..at + 4096], "wrong bytes at {at}");
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EIO), "{error}");
                bad += 1;
            }
        }
    }
    assert!(good > 5 && bad > 20, "{good} good, {bad} bad");
    drop(file);
    let (data, said) = mounted.end();
    let named: Vec<&Value> = data.iter().filter(|line| line["type"] == "unreadable" && line["path"] == "old").collect();
    assert_eq!(named.len(), 1, "{data:?}");
    assert!(said.contains(&second[..12]) && said.contains(": old: "), "{said}");
}

#[test]
fn mount_points_that_will_not_do_are_refused_with_what_to_do() {
    let world = World::with_sites(2);
    let mount = |name: &str| world.unlocked("mount").arg(world.path(name)).run();
    mount("nowhere").refuses(exit::USAGE, "make the folder");
    mount("identity").refuses(exit::USAGE, "no folder");
    mount("sites").refuses(exit::USAGE, "not empty");
    fs::create_dir(world.path("empty")).unwrap();
    if !can_mount() {
        return;
    }
    world.call("mount").arg(world.path("empty")).run().refuses(exit::NOT_ALLOWED, "--identity");
    let mut mounted = Mounted::start(&world, "");
    mounted.child.kill().unwrap();
    mounted.child.wait().unwrap();
    assert!(fs::read_dir(&mounted.point).is_err(), "the kernel keeps a mount whose process is gone");
    mount("mounted").refuses(exit::FAILED, "umount");
}

/// Ctrl-C while a file is open: the mount is out of sight at once, and goes when the file is closed.
#[test]
fn what_is_in_use_goes_when_it_is_closed() {
    if !can_mount() {
        return;
    }
    let world = World::with_sites(2);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let mut mounted = Mounted::start(&world, "");
    let mut file = File::open(mounted.path("snapshots/latest/prose.txt")).unwrap();
    mounted.signal(Signal::INT);
    let mut said = String::new();
    let mut talk = BufReader::new(mounted.child.stderr.take().unwrap());
    talk.read_line(&mut said).unwrap();
    assert!(said.contains("in use"), "{said}");
    assert!(fs::read_dir(&mounted.point).unwrap().next().is_none());
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    assert!(text == fs::read(source.join("prose.txt")).unwrap());
    drop(file);
    assert_eq!(mounted.child.wait().unwrap().code(), Some(exit::DONE));
}
