//! Bad input: each gives one clear error with its exit code, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockhouse_tests::need;
use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{Call, World, exit};

fn with_backup(sites: usize) -> (World, PathBuf, String) {
    let world = World::with_sites(sites);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let snapshot = world.back_up(&source).snapshot();
    (world, source, snapshot)
}

#[test]
fn what_is_no_vault_is_said_to_be_none() {
    let world = World::empty();
    fs::create_dir(world.vault()).unwrap();
    for words in ["snapshots", "status", "verify", "repair", "history"] {
        world.call(words).run().refuses(exit::NO_VAULT, "no vault");
    }
    world.call("backup").arg(world.path("sites")).run().refuses(exit::NO_VAULT, "no vault");
    tree::write(&world.vault().join("config.toml"), b"[[[");
    world.call("snapshots").run().refuses(exit::FAILED, "config.toml");
}

#[test]
fn wrong_usage_says_what_is_wrong() {
    let (world, _, snapshot) = with_backup(3);
    for words in ["frobnicate", "backup --frobnicate", "restore", "snapshots too many", "verify --read-data=101"] {
        let refused = world.call(words).run();
        assert_eq!(refused.code(), exit::USAGE, "{words}: {}", refused.stderr);
    }
    world.unlocked("restore not-a-snapshot --to").arg(world.path("to")).run().expect(exit::USAGE);
    let unknown = world.unlocked("restore 0123456789abcdef --to").arg(world.path("to")).run();
    unknown.refuses(exit::FAILED, "no snapshot");
    world.call("backup").arg(world.path("nothing here")).run().refuses(exit::FAILED, "nothing here");
    let missing =
        world.call("restore latest --identity").arg(world.path("no identity")).arg("--to").arg(world.path("to"));
    missing.run().refuses(exit::FAILED, "no identity");
    tree::write(&world.path("garbage"), b"not an identity");
    let garbage = world.call("restore latest --identity").arg(world.path("garbage")).arg("--to").arg(world.path("to"));
    garbage.run().refuses(exit::FAILED, "garbage");
    assert!(!world.path("to").exists());
    let _ = snapshot;
}

/// An identity of another vault opens nothing here, and is named as what it is.
#[test]
fn the_identity_of_another_vault_is_refused() {
    let (world, _, _) = with_backup(3);
    let other = World::with_sites(1);
    let call = world.call("restore latest --to").arg(world.path("to")).arg("--identity").arg(other.identity());
    let refused = call.run();
    assert!([exit::FAILED, exit::NOT_ALLOWED].contains(&refused.code()));
    assert!(refused.says("vault"), "{}", refused.stderr);
}

#[test]
fn init_refuses_what_cannot_hold() {
    let world = World::empty();
    let init = |sites: usize, code: &str| world.init(sites).arg("--code").arg(code).run();
    init(2, "0+2").refuses(exit::USAGE, "0+2");
    init(2, "many").refuses(exit::USAGE, "many");
    let few = init(2, "4+2");
    assert_eq!(few.code(), exit::USAGE, "4+2 over two sites would lose all with one of them: {}", few.stderr);
    let none = world.init(0).run();
    assert_eq!(none.code(), exit::USAGE, "{}", none.stderr);
    let same = world.init(1).arg("--site").arg(world.site(1)).run();
    assert_eq!(same.code(), exit::USAGE, "{}", same.stderr);
    let no_files = world.call("init --no-passphrase --site").arg(world.site(1)).run();
    assert_eq!(no_files.code(), exit::USAGE, "identity and paper key have to go somewhere: {}", no_files.stderr);
    let remote = world.call("init --no-passphrase --site s3://bucket --identity-out i --paper-key-out p").run();
    assert_eq!(remote.code(), exit::USAGE, "{}", remote.stderr);
    assert!(!world.vault().join("config.toml").exists());
    assert!(
        !world.identity().exists() && !world.paper_key().exists(),
        "the keys of a vault that was not made stay nowhere"
    );

    let loud = init(2, "2+0").expect(exit::DONE);
    assert!(loud.says("warning") || loud.says("no site may"), "2+0 is loudly warned of: {}", loud.stderr);
    init(2, "1+1").refuses(exit::FAILED, "already");
}

/// Six folders on one disk survive two sites and no disk: said in so many words.
#[test]
fn init_says_what_is_survivable() {
    let world = World::empty();
    let said = world.init(6).run().expect(exit::DONE);
    let all = said.stderr.clone() + &String::from_utf8_lossy(&said.stdout);
    assert!(all.contains("device") || all.contains("disk"), "{all}");
    assert!(all.contains(&world.fingerprint()), "the fingerprint is printed: {all}");
    let sheet = fs::read_to_string(world.vault().join("recovery-sheet.txt")).unwrap();
    assert!(sheet.contains(&world.fingerprint()) && sheet.contains("recover --site"), "{sheet}");
}

#[test]
fn a_site_that_is_somebodys_is_not_taken() {
    let world = World::empty();
    tree::write(&world.site(1).join("holiday.jpg"), b"somebody's");
    let refused = world.init(1).run();
    assert_eq!(refused.code(), exit::FAILED, "{}", refused.stderr);
    assert_eq!(tree::files(&world.site(1)).len(), 1);
    let (vault, _, _) = with_backup(1);
    let thief = World::empty();
    let call = thief.call("init --no-passphrase --identity-out").arg(thief.identity()).arg("--paper-key-out");
    let refused = call.arg(thief.paper_key()).arg("--site").arg(vault.site(1)).run();
    assert_eq!(refused.code(), exit::FAILED, "{}", refused.stderr);
    vault.call("verify --read-data").run().expect(exit::DONE);
}

#[test]
fn selectors_that_fit_several_are_refused() {
    let (world, source, _) = with_backup(1);
    let other = world.path("other");
    tree::plain(&other, 1, 2);
    world.back_up(&other);
    let to = world.path("to");
    let restore = |selector: &str| world.unlocked("restore").arg(selector).arg("--to").arg(&to).run();
    let several = restore("latest");
    assert!([exit::FAILED, exit::USAGE].contains(&several.code()));
    assert!(several.says(&format!("latest:{}", other.display())), "candidates are listed: {}", several.stderr);
    // With 17 snapshots two begin with the same digit.
    while world.snapshots().len() < 17 {
        world.back_up(&source);
    }
    let ids = world.snapshots();
    let digit = "0123456789abcdef".chars().find(|digit| ids.iter().filter(|id| id.starts_with(*digit)).count() > 1);
    let ambiguous = restore(&digit.unwrap().to_string());
    assert!([exit::FAILED, exit::USAGE].contains(&ambiguous.code()));
    assert!(ambiguous.says("snapshots"), "{}", ambiguous.stderr);
    assert!(!to.exists());
    restore(&format!("latest:{}", source.display())).expect(exit::DONE);
    tree::assert_equal(&source, &to);
    restore(&ids[3][..16]).refuses(exit::USAGE, "not empty");
}

/// A file that cannot be read is in the snapshot by its name and the reason; the rest is whole.
#[test]
fn unreadable_files_are_listed_and_the_rest_is_kept() {
    let (world, source, _) = with_backup(3);
    let names = ["unreadable\nname", "unreadable folder"].map(|name| source.join(name));
    tree::write(&names[0], b"secret");
    fs::create_dir(&names[1]).unwrap();
    for name in &names {
        fs::set_permissions(name, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let call = world.call("backup --json").arg(&source);
    // Root may read every file unless it gives that up.
    let give_up = [OsStr::new("--bounding-set=-dac_override,-dac_read_search")];
    let call = if tree::is_root() { call.under("setpriv", &give_up) } else { call };
    let done = call.run().expect(exit::UNREADABLE);
    assert_eq!(done.number("unreadable"), 2);
    let listed = done.lines().iter().filter(|line| line["type"] == "unreadable").count();
    assert_eq!(listed, 2, "each is listed with its reason");
    assert!(done.says("unreadable folder"), "{}", done.stderr);
    let to = world.path("to");
    let restored = world.unlocked("restore latest --json --to").arg(&to).run().expect(exit::UNREADABLE);
    assert_eq!(restored.summary()["ok"], false);
    for name in &names {
        fs::set_permissions(name, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!to.join(name.file_name().unwrap()).is_file());
    }
    assert_eq!(fs::read(to.join("noise.bin")).unwrap(), fs::read(source.join("noise.bin")).unwrap());
    world.back_up(&source);
}

/// Files that change while they are read: whatever the snapshot says is what some moment held, and the command says so.
#[test]
fn a_source_that_changes_while_it_is_read() {
    let (world, source, _) = with_backup(3);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let name = source.join(format!("busy/{}", number % 7));
                tree::write(&name, &tree::noise(200_000, number));
                let _ = fs::remove_file(source.join(format!("busy/{}", (number + 3) % 7)));
                number += 1;
            }
        });
        for _ in 0..4 {
            let done = world.call("backup --json").arg(&source).run();
            assert!([exit::DONE, exit::UNREADABLE].contains(&done.code()), "{}", done.stderr);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
    let restored = world.unlocked("restore latest --to").arg(world.path("to")).run();
    assert!([exit::DONE, exit::UNREADABLE].contains(&restored.code()), "{}", restored.stderr);
    assert_eq!(fs::read(world.path("to/noise.bin")).unwrap(), fs::read(source.join("noise.bin")).unwrap());
}

/// A database with its lock held is refused, by name, until the user says otherwise.
#[test]
fn a_live_database_is_refused() {
    let (world, source, _) = with_backup(1);
    let folder = source.join("chaindata");
    tree::write(&folder.join("CURRENT"), b"MANIFEST-000001\n");
    tree::write(&folder.join("MANIFEST-000001"), b"x");
    tree::write(&folder.join("LOCK"), b"");
    let lock = File::options().write(true).open(folder.join("LOCK")).unwrap();
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = world.call("backup --json").arg(&source).run();
    assert_ne!(refused.code(), exit::DONE, "the lock is held by this test");
    assert!(refused.says("LOCK") && refused.says("--allow-live"), "{}", refused.stderr);
    world.call("backup --json --allow-live").arg(&source).run().expect(exit::DONE);
    drop(lock);
    world.back_up(&source);
}

/// A site that may not be written: the backup goes on without it and says so.
#[test]
fn a_read_only_site_is_left_out() {
    let (world, source, _) = with_backup(6);
    let site = world.site(2);
    // Also root may not write below a folder that is mounted read-only.
    let Some(_mount) = Mount::new(&["--bind", "-o", "ro"], &site, &site) else { return };
    tree::write(&source.join("more"), &tree::noise(300_000, 3));
    let done = world.call("backup --json").arg(&source).run();
    assert!([exit::DONE, exit::DEGRADED].contains(&done.code()), "{}", done.stderr);
    assert!(done.says("site-2"), "the site is named: {}", done.stderr);
    world.expect_restores(&done.snapshot(), &source);
}

/// A full site: the backup goes on with the others; nothing half written is under a name.
#[test]
fn a_full_site_is_left_out() {
    let Some((world, source, _mount)) = with_a_small_site(6, 5) else { return };
    let done = world.call("backup --json").arg(&source).run();
    assert_eq!(done.code(), exit::DEGRADED, "{}", done.stderr);
    assert!(done.says("site-5"), "the site is named: {}", done.stderr);
    assert!(done.number("w") >= 1);
    world.expect_restores(&done.snapshot(), &source);
    world.take_away(1);
    world.expect_restores(&done.snapshot(), &source);
}

/// Of three sites one is full: the snapshot is not recorded, and the reason is told with the site.
#[test]
fn a_backup_that_a_full_site_puts_at_risk_names_it() {
    let Some((world, source, _mount)) = with_a_small_site(3, 3) else { return };
    let refused = world.call("backup").arg(&source).run();
    assert_eq!(refused.code(), exit::FAILED, "{}", refused.stderr);
    assert!(refused.says("site-3") && refused.says("No space left"), "{}", refused.stderr);
    let taken = world.call("backup --accept-risk").arg(&source).run();
    assert_eq!(taken.code(), exit::DEGRADED, "{}", taken.stderr);
}

/// A vault over so many sites, of which one has no room for its part of the source; none if this user may not mount.
fn with_a_small_site(sites: usize, small: usize) -> Option<(World, PathBuf, Mount)> {
    let world = World::empty();
    fs::create_dir(world.site(small)).unwrap();
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=3m"], Path::new("tmpfs"), &world.site(small))?;
    world.init(sites).run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 24, 1);
    Some((world, source, mount))
}

/// A mount that ends with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(words: &[&str], what: &Path, at: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        let done = command.args(words).arg(what).arg(at).stderr(std::process::Stdio::null()).status();
        let is_mounted = need::right(done.is_ok_and(|status| status.success()), "this user may not mount");
        is_mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A target that cannot be made, and a restore that runs out of space.
#[test]
fn a_target_that_cannot_be_written() {
    let (world, _, _) = with_backup(1);
    tree::write(&world.path("file"), b"no folder");
    let refused = world.unlocked("restore latest --to").arg(world.path("file")).run();
    assert!([exit::FAILED, exit::USAGE].contains(&refused.code()), "{}", refused.stderr);
    assert_eq!(fs::read(world.path("file")).unwrap(), b"no folder");
    let small = world.path("small");
    fs::create_dir(&small).unwrap();
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "size=512k"], Path::new("tmpfs"), &small) else { return };
    let full = world.unlocked("restore latest --to").arg(small.join("to")).run();
    assert!([exit::FAILED, exit::UNREADABLE].contains(&full.code()), "{}: {}", full.code(), full.stderr);
}

/// A clock that went back, and one ten years ahead, are not sealed with unless the operator says so.
#[test]
fn a_strange_clock_stops_sealing() {
    let Some(library) = faketime() else { return };
    let (world, source, _) = with_backup(1);
    let at = |call: Call, offset: &str| {
        call.env("LD_PRELOAD", &library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1").run()
    };
    for offset in ["-1d", "+3650d"] {
        let refused = at(world.call("backup --json").arg(&source), offset);
        assert_ne!(refused.code(), exit::DONE, "{offset}: {}", refused.stderr);
        assert!(refused.says("--accept-clock"), "{offset}: {}", refused.stderr);
        world.back_up(&source);
    }
    at(world.call("backup --json --accept-clock").arg(&source), "+3650d").expect(exit::DONE);
}

fn faketime() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found = places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|path| path.is_file());
    need::program("libfaketime", "libfaketime", found.is_some()).then_some(found).flatten()
}

/// Much more than this disk would hold as zeros.
const HUGE: u64 = 8 << 30;

/// A hole costs time, for its zeros are hashed, and neither memory nor space.
#[test]
fn a_huge_sparse_file_costs_little() {
    let world = World::with_sites(1);
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    File::create(source.join("huge")).unwrap().set_len(HUGE).unwrap();
    let done = world.back_up(&source);
    assert_eq!(done.number("bytes"), HUGE);
    assert!(done.number("stored_bytes") < MIB as u64);
    let to = world.path("to");
    let told = world.unlocked("restore latest --json --to").arg(&to).run().expect(exit::DONE).lines();
    let told: Vec<_> = told.into_iter().filter(|line| line["type"] == "progress").collect();
    assert!(told.iter().all(|line| line["total_bytes"] == HUGE), "{told:?}");
    assert_eq!(told.last().unwrap()["bytes"], HUGE, "holes count as they are hashed");
    let restored = fs::metadata(to.join("huge")).unwrap();
    assert_eq!(restored.len(), HUGE);
    assert!(std::os::unix::fs::MetadataExt::blocks(&restored) < 1000, "a hole comes back as a hole");
}
