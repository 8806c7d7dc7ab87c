use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::twin::{ForgetfulDisk, Luck};

/// The laws of [`Disk`], run by every implementation.
fn laws(open: fn(&Path) -> Arc<dyn Disk>) {
    no_call_leaves_the_folder(open);
    nothing_is_replaced(open);
    names_and_room_are_told(open);
}

fn no_call_leaves_the_folder(open: fn(&Path) -> Arc<dyn Disk>) {
    let scratch = tempfile::tempdir().unwrap();
    let (inside, outside) = (scratch.path().join("inside"), scratch.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"outside").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), inside.join("file")).unwrap();
    let disk = open(&inside);

    assert!(disk.create_new("link/new").is_err());
    assert!(disk.make_folder("link/new").is_err());
    assert!(disk.sync_folder("link").is_err());
    assert!(disk.open("file").is_err(), "a link at the name is not followed");
    for path in ["../outside/new", "link/../new", "..", ".", "", "a/.."] {
        assert!(disk.create_new(path).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

    // Another folder takes the path: the calls still reach the one that was opened.
    fs::rename(&inside, scratch.path().join("moved")).unwrap();
    fs::create_dir(&inside).unwrap();
    disk.create_new("new").unwrap();
    assert!(scratch.path().join("moved/new").exists() && !inside.join("new").exists());
}

fn nothing_is_replaced(open: fn(&Path) -> Arc<dyn Disk>) {
    let scratch = tempfile::tempdir().unwrap();
    let disk = open(scratch.path());
    for name in ["a", "b"] {
        let file = disk.create_new(name).unwrap();
        disk.write_all(&file, &[name.as_bytes()]).unwrap();
        disk.sync_file(&file).unwrap();
    }
    disk.make_folder("folder").unwrap();
    let taken = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
    taken(disk.create_new("a").map(|_| ()));
    taken(disk.rename_noreplace("a", "b"));
    taken(disk.rename_noreplace("a", "folder"));
    taken(disk.link("a", "b"));
    taken(disk.make_folder("a"));
    assert_eq!(fs::read(scratch.path().join("a")).unwrap(), b"a");
    assert_eq!(fs::read(scratch.path().join("b")).unwrap(), b"b");

    disk.link("a", "folder/c").unwrap();
    disk.rename_noreplace("a", "d").unwrap();
    disk.unlink("b").unwrap();
    assert_eq!(fs::read(scratch.path().join("folder/c")).unwrap(), b"a");
    assert_eq!(fs::read(scratch.path().join("d")).unwrap(), b"a");
    assert!(!disk.exists("a").unwrap() && !disk.exists("b").unwrap() && disk.exists("folder/c").unwrap());
    assert_eq!(disk.unlink("b").unwrap_err().kind(), ErrorKind::NotFound);
}

fn names_and_room_are_told(open: fn(&Path) -> Arc<dyn Disk>) {
    let scratch = tempfile::tempdir().unwrap();
    let disk = open(scratch.path());
    disk.make_folder("x").unwrap();
    disk.create_new("x/y").unwrap();
    disk.sync_folder("x").unwrap();
    disk.sync_folder("").unwrap();
    let names: Vec<String> = disk.list_folder("x").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["y"]);
    assert_eq!(disk.device("").unwrap(), disk.device("x/y").unwrap());
    let space = disk.space().unwrap();
    assert!(0 < space.free && space.free <= space.total);
}

#[test]
fn the_real_disk_keeps_the_laws() {
    laws(|path| Arc::new(RealDisk::open(path).unwrap()));
}

#[test]
fn the_forgetful_disk_keeps_the_laws() {
    laws(|path| Arc::new(ForgetfulDisk::open(path).unwrap()));
}

/// The twin can tell a right order of calls from a wrong one: each missing sync loses something.
#[test]
fn the_forgetful_disk_forgets_what_was_not_synced() {
    let survives = |sync_file: bool, sync_folder: bool, sync_root: bool| {
        let (folder, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = ForgetfulDisk::open(folder.path()).unwrap();
        disk.make_folder("f").unwrap();
        let file = disk.create_new("f/x").unwrap();
        disk.write_all(&file, &[b"by", b"tes"]).unwrap();
        if sync_file {
            disk.sync_file(&file).unwrap();
        }
        if sync_folder {
            disk.sync_folder("f").unwrap();
        }
        if sync_root {
            disk.sync_folder("").unwrap();
        }
        disk.survivors(Luck::None, after.path()).unwrap();
        fs::read(after.path().join("f/x")).ok()
    };
    assert_eq!(survives(true, true, true), Some(b"bytes".to_vec()));
    assert_eq!(survives(false, true, true), Some(Vec::new()));
    assert_eq!(survives(true, false, true), None);
    assert_eq!(survives(true, true, false), None);
}
