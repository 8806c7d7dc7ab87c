//! Back up, restore, compare: everything a file system can hold, again without changes, and again with some.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::MetadataExt;

use blockhouse_tests::World;
use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::exit;

/// The main job, and that a tree that did not change costs next to nothing.
#[test]
fn a_tree_with_everything_comes_back_bit_for_bit() {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::everything(&source);
    let before = tree::read(&source);
    tree::settle();

    let first = world.back_up(&source);
    let told = first.lines().into_iter().rfind(|line| line["type"] == "progress").unwrap();
    assert_eq!(told["bytes"], first.number("bytes"), "holes and small files count too");
    assert_eq!(first.number("w"), 2, "4+2 over six sites survives two");
    assert_eq!(first.number("wd"), 0, "all sites are on one device");
    assert_eq!(first.number("d"), 6);
    assert_eq!(first.number("unreadable"), 0);
    let is_file = |path: &&std::path::PathBuf| fs::symlink_metadata(path).unwrap().is_file();
    assert_eq!(first.number("files"), tree::files(&source).iter().filter(is_file).count() as u64);
    assert!(first.number("new_bytes") > 7 * MIB as u64);
    assert!(first.number("stored_bytes") < first.number("bytes"), "prose shrinks and holes cost nothing");
    assert!(tree::differences(&before, &tree::read(&source)).is_empty(), "a backup leaves its source as it found it");
    world.expect_restores(&first.snapshot(), &source);

    let held = tree::size(&world.path("sites"));
    let second = world.back_up(&source);
    assert_ne!(second.snapshot(), first.snapshot());
    assert_eq!(second.number("new_bytes"), 0);
    assert_eq!(second.number("stripes"), 0);
    assert_eq!(second.number("stored_bytes"), 0);
    // The file of 2100 counts as changing for a long time yet, and the small files of its folder share its chunks.
    let again = second.number("files") - second.number("unchanged");
    assert!((1..=9).contains(&again), "unchanged files are not read again, {again} were");
    let grown = tree::size(&world.path("sites")) - held;
    assert!(grown < 200_000, "a snapshot without news cost {grown} bytes at six sites");
    world.expect_restores("latest", &source);

    change(&source);
    tree::settle();
    let third = world.back_up(&source);
    let fresh = third.number("new_bytes");
    assert!((100_000..2 * MIB as u64).contains(&fresh), "{fresh} new bytes for a change of some 120 kB");
    world.expect_restores(&third.snapshot(), &source);
    // The small files of a folder with a change are read again; those of other folders and the big ones are not.
    assert!((1..third.number("files")).contains(&third.number("unchanged")), "{}", third.summary());
    assert_eq!(world.snapshots(), [first.snapshot(), second.snapshot(), third.snapshot()]);
}

/// New, changed, grown, moved and removed files.
fn change(source: &std::path::Path) {
    tree::write(&source.join("contents/new"), &tree::noise(100_000, 77));
    tree::write(&source.join("contents/small/050"), b"changed");
    let mut noise = fs::read(source.join("contents/noise")).unwrap();
    noise[MIB] ^= 1;
    noise.extend_from_slice(&tree::noise(20_000, 78));
    tree::write(&source.join("contents/noise"), &noise);
    fs::rename(source.join("contents/prose"), source.join("names/prose moved")).unwrap();
    fs::remove_file(source.join("contents/small/051")).unwrap();
    fs::remove_dir_all(source.join("deep")).unwrap();
}

/// One folder comes back as its contents, several each under its own name, and a glob brings what it names.
#[test]
fn several_sources_paths_and_globs() {
    let world = World::with_sites(3);
    let (left, right) = (world.path("data/left"), world.path("data/right"));
    tree::plain(&left, 1, 1);
    tree::plain(&right, 1, 2);
    let both = world.call("backup --json").arg(&left).arg(&right).run().expect(exit::DONE);
    let restored = world.restore(&both.snapshot(), "both");
    tree::assert_equal(&left, &restored.join("left"));
    tree::assert_equal(&right, &restored.join("right"));

    let to = world.path("some");
    let call = world.unlocked("restore latest --json --include left/small/1*.txt --include prose.txt --to").arg(&to);
    let done = call.run().expect(exit::DONE);
    let told = done.lines().into_iter().rfind(|line| line["type"] == "progress").unwrap();
    assert_eq!(told["bytes"], done.summary()["bytes"]);
    assert_eq!(told["total_bytes"], done.summary()["bytes"], "what is left out is taken off the total");
    assert_eq!(told["seconds_left"], 0);
    let found: Vec<_> = tree::files(&to).iter().map(|file| file.strip_prefix(&to).unwrap().to_owned()).collect();
    assert_eq!(found.len(), 1 + 10 + 2, "{found:?}");
    assert_eq!(fs::read(to.join("left/small/17.txt")).unwrap(), fs::read(left.join("small/17.txt")).unwrap());
    let nothing = world.unlocked("restore latest --include nothing/like/this --to").arg(world.path("none"));
    nothing.run().refuses(exit::FAILED, "matches");
}

/// What is in the target stays, goes or is mended, as asked for.
#[test]
fn a_restore_onto_an_existing_folder_does_as_it_is_told() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let snapshot = world.back_up(&source).snapshot();
    let to = world.restore(&snapshot, "to");
    let again =
        |overwrite: &str| world.unlocked("restore latest --json --overwrite").arg(overwrite).arg("--to").arg(&to).run();
    tree::write(&to.join("small/3.txt"), b"edited");
    tree::write(&to.join("mine"), b"not in the snapshot");
    again("never").expect(exit::DONE);
    assert_eq!(fs::read(to.join("small/3.txt")).unwrap(), b"edited");
    again("if-changed").expect(exit::DONE);
    assert_eq!(fs::read(to.join("small/3.txt")).unwrap(), fs::read(source.join("small/3.txt")).unwrap());
    tree::write(&to.join("small/4.txt"), b"edited");
    again("always").expect(exit::DONE);
    assert_eq!(fs::read(to.join("mine")).unwrap(), b"not in the snapshot");
    fs::remove_file(to.join("mine")).unwrap();
    again("if-changed").expect(exit::DONE);
    tree::assert_equal(&source, &to);
}

/// Names of one file in the snapshot are names of one file in the target, whatever stood there and stays; and none of them is
/// linked to a file with other content.
#[test]
fn names_of_one_file_come_back_as_one_whatever_stands_in_the_target() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::write(&source.join("a"), b"the content");
    tree::write(&source.join("apart"), b"the content");
    fs::create_dir(source.join("sub")).unwrap();
    for name in ["b", "sub/c"] {
        fs::hard_link(source.join("a"), source.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("a", source.join("link 1")).unwrap();
    fs::hard_link(source.join("link 1"), source.join("link 2")).unwrap();
    world.back_up(&source);
    for overwrite in ["never", "if-changed", "always"] {
        for (number, before) in targets().into_iter().enumerate() {
            let to = world.path(&format!("{overwrite}-{number}"));
            fs::create_dir_all(to.join("sub")).unwrap();
            before(&to);
            let edited: Vec<&str> = NAMES
                .into_iter()
                .filter(|name| fs::read(to.join(name)).is_ok_and(|bytes| bytes == b"edited"))
                .collect();
            let call = world.unlocked("restore latest --overwrite").arg(overwrite).arg("--to").arg(&to);
            call.run().expect(exit::DONE);
            let stays = |name: &&str| overwrite == "never" && edited.contains(name);
            for name in NAMES.into_iter().chain(["apart"]) {
                let expected: &[u8] = if stays(&name) { b"edited" } else { b"the content" };
                assert_eq!(fs::read(to.join(name)).unwrap(), expected, "{overwrite} {number} {name}");
            }
            let inode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().ino();
            let mut inodes: Vec<u64> = NAMES.iter().filter(|name| !stays(name)).map(|name| inode(name)).collect();
            inodes.dedup();
            assert_eq!(inodes.len(), 1, "{overwrite} {number}: one file");
            assert_eq!(inode("link 1"), inode("link 2"), "{overwrite} {number}");
            if overwrite != "never" {
                assert!(!inodes.contains(&inode("apart")), "{overwrite} {number}: a file apart stays apart");
                tree::assert_equal(&source, &to);
            }
        }
    }
}

const NAMES: [&str; 3] = ["a", "b", "sub/c"];

/// What may stand in a target. Two names that are there and two files cannot both stay and become one, so `never` is not asked to.
fn targets() -> Vec<fn(&std::path::Path)> {
    fn write(path: std::path::PathBuf, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
    }
    vec![
        |_| (),
        |to| write(to.join("a"), b"the content"),
        |to| write(to.join("b"), b"the content"),
        |to| write(to.join("sub/c"), b"the content"),
        |to| write(to.join("a"), b"edited"),
        |to| write(to.join("b"), b"edited"),
        |to| {
            write(to.join("a"), b"edited");
            write(to.join("b"), b"the content");
        },
        |to| {
            write(to.join("b"), b"the content");
            fs::hard_link(to.join("b"), to.join("sub/c")).unwrap();
        },
        // A file apart that is one with the others in the target.
        |to| {
            write(to.join("a"), b"the content");
            fs::hard_link(to.join("a"), to.join("apart")).unwrap();
        },
        |to| std::os::unix::fs::symlink("a", to.join("link 2")).unwrap(),
    ]
}

/// A device that may not be made is told, for each of its names, and the rest is restored.
#[test]
fn a_device_that_cannot_be_made_costs_only_itself() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let device = source.join("device");
    let null = rustix::fs::makedev(1, 3);
    let bits = rustix::fs::Mode::from_raw_mode(0o600);
    let made = rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, bits, null);
    if !blockhouse_tests::need::right(made.is_ok(), "this user may not make devices") {
        return;
    }
    fs::hard_link(&device, source.join("other name")).unwrap();
    world.back_up(&source);
    let to = world.path("to");
    let give_up = [std::ffi::OsStr::new("--bounding-set=-mknod")];
    let call = world.unlocked("restore latest --json --to").arg(&to).under("setpriv", &give_up);
    let done = call.run().expect(exit::UNREADABLE);
    let flaws: Vec<_> = done.lines().into_iter().filter(|line| line["type"] == "flaw").collect();
    let paths: Vec<_> = flaws.iter().map(|flaw| flaw["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["device", "other name"]);
    assert_eq!(fs::read(to.join("noise.bin")).unwrap(), fs::read(source.join("noise.bin")).unwrap());
    assert_eq!(fs::read(to.join("prose.txt")).unwrap(), fs::read(source.join("prose.txt")).unwrap());
}

/// With a passphrase: the right one opens, a wrong one ends with its own code, none is asked for without a terminal.
#[test]
fn a_passphrase_opens_and_a_wrong_one_says_so() {
    let world = World::empty();
    let call = world.call("init --identity-out").arg(world.identity()).arg("--paper-key-out").arg(world.paper_key());
    call.arg("--site").arg(world.site(1)).env("BLOCKHOUSE_PASSPHRASE", "correct horse").run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let snapshot = world.back_up(&source).snapshot();
    let restore = |to: &str| world.unlocked("restore latest --to").arg(world.path(to));
    restore("wrong").env("BLOCKHOUSE_PASSPHRASE", "correct hors").run().refuses(exit::PASSPHRASE, "passphrase");
    assert!(!world.path("wrong").exists(), "nothing is made before the identity is open");
    tree::write(&world.path("passphrase"), b"correct horse\n");
    let file = world.path("passphrase");
    restore("right").arg("--passphrase-file").arg(&file).run().expect(exit::DONE);
    tree::assert_equal(&source, &world.path("right"));
    let none = restore("none").run();
    assert!([exit::PASSPHRASE, exit::USAGE, exit::NOT_ALLOWED].contains(&none.code()), "{}", none.stderr);
    assert!(none.says("passphrase"), "{}", none.stderr);
    let _ = snapshot;
}
