//! Writing back: everything, and nothing outside.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use blockhouse_sources::files::{
    Aspect, DeviceNumber, IGNORE_FILE, Ownership, Placing, RestoreError, RestorePath, RestoreTarget, Spared,
    SparedBelow, Special, TEMPORARY_PREFIX,
};
use blockhouse_types::{Attribute, EntryKind, Metadata, Timestamp};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat};

use crate::{
    copy::Copy,
    scratch::{Scratch, as_nobody, is_root, run, skip, source},
};

fn path(path: &str) -> RestorePath {
    RestorePath::parse(path.as_bytes()).unwrap()
}

fn open(target: &Path) -> RestoreTarget {
    RestoreTarget::open(target, Ownership::ByNumber).unwrap()
}

fn mine(mode: u32) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata { mode, uid, gid, mtime: Timestamp { seconds: 1, nanoseconds: 2 }, ..Metadata::default() }
}

fn write(target: &mut RestoreTarget, to: &str, content: &str, placing: Placing) -> Result<(), RestoreError> {
    let writer = target.begin_file(&path(to), content.len() as u64, placing)?;
    writer.write_at(0, content.as_bytes())?;
    assert_eq!(writer.finish(&mine(0o644))?, []);
    Ok(())
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn round_trip(scratch: &Scratch) -> (Copy, Copy) {
    let before = Copy::of(&source(&scratch.path().join("from")));
    assert_eq!(before.restore(&scratch.path().join("to")), []);
    let after = Copy::of(&source(&scratch.path().join("to")));
    assert_eq!(after.facts(), before.facts());
    (before, after)
}

#[test]
fn modes_times_links_and_names_come_back() {
    let scratch = Scratch::new();
    let from = scratch.folder("from");
    fs::write(scratch.folder("from/read-only").join("new\nline"), "content").unwrap();
    fs::hard_link(from.join("read-only/new\nline"), from.join("same")).unwrap();
    symlink("/does/not/exist", from.join("dangling")).unwrap();
    fs::hard_link(from.join("dangling"), from.join("dangling too")).unwrap();
    mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::write(from.join("lends rights"), "").unwrap();
    for (name, mode) in
        [("lends rights", 0o6751), ("pipe", 0o620), ("read-only/new\nline", 0o400), ("read-only", 0o1555)]
    {
        fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, seconds) in [("dangling", -2_000_000_000), ("pipe", -1), ("same", 4_000_000_000), ("read-only", 0)] {
        set_times(&from.join(name), seconds, 123_456_789);
    }
    let (before, _) = round_trip(&scratch);
    assert_eq!(before.entry(b"pipe").found.metadata.mtime, Timestamp { seconds: -1, nanoseconds: 123_456_789 });
    assert_eq!(before.entry(b"lends rights").found.metadata.mode, 0o6751);
    assert_eq!(before.entry(b"same").found.metadata.link, before.entry(b"read-only/new\nline").found.metadata.link);
    assert_eq!(fs::metadata(scratch.path().join("to/same")).unwrap().nlink(), 2);
}

#[test]
fn attributes_and_lists_of_rights_come_back() {
    let scratch = Scratch::new();
    let from = scratch.folder("from");
    fs::write(from.join("file"), "").unwrap();
    let set = |name: &str, key: &str, value: &[u8]| lsetxattr(from.join(name), key, value, XattrFlags::empty());
    if set("file", "user.empty", b"").is_err() {
        return skip("this file system has no user attributes");
    }
    set("file", "user.large", &[7; 2000]).unwrap();
    let folder = scratch.folder("from/folder");
    let file = from.join("file");
    let has_acl = run("setfacl", "acl", &["-m", "u:12345:rwx,m::r", file.to_str().unwrap()])
        && run("setfacl", "acl", &["-d", "-m", "g:54321:rx", folder.to_str().unwrap()]);
    fs::write(from.join("folder/inherits"), "").unwrap();
    let plain = from.join("folder/plain");
    fs::write(&plain, "").unwrap();
    if has_acl {
        assert!(run("setfacl", "acl", &["-b", plain.to_str().unwrap()]));
    } else {
        skip("the file system has no lists of rights, or setfacl is waived");
    }
    let (before, after) = round_trip(&scratch);
    let names = |copy: &Copy, path: &[u8]| -> Vec<_> {
        let attributes = &copy.entry(path).found.metadata.attributes;
        attributes.iter().map(|attribute| String::from_utf8(attribute.name.clone()).unwrap()).collect()
    };
    assert!(names(&before, b"file").ends_with(&["user.empty".to_owned(), "user.large".to_owned()]));
    assert_eq!(names(&before, b"file").contains(&"system.posix_acl_access".to_owned()), has_acl);
    assert_eq!(names(&after, b"folder").contains(&"system.posix_acl_default".to_owned()), has_acl);
}

#[test]
fn rights_that_the_target_hands_down_are_taken_off() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    if !run("setfacl", "acl", &["-d", "-m", "u:12345:rwx", to.to_str().unwrap()]) {
        return skip("the file system has no lists of rights, or setfacl is waived");
    }
    fs::write(scratch.folder("from").join("file"), "").unwrap();
    round_trip(&scratch);
}

#[test]
fn holes_come_back_as_holes() {
    const BLOCK: u64 = 1 << 20;
    let scratch = Scratch::new();
    let file = fs::File::create(scratch.folder("from").join("sparse")).unwrap();
    file.set_len(50 * BLOCK).unwrap();
    for at in [3, 20] {
        file.write_all_at(&vec![7; 1 << 20], at * BLOCK).unwrap();
    }
    file.sync_all().unwrap();
    fs::File::create(scratch.path().join("from/all hole")).unwrap().set_len(5 * BLOCK).unwrap();
    let (before, after) = round_trip(&scratch);
    for name in [&b"sparse"[..], b"all hole"] {
        assert_eq!(after.entry(name).data, before.entry(name).data);
    }
    let taken = fs::metadata(scratch.path().join("to/sparse")).unwrap().blocks() * 512;
    assert!(taken < 4 * BLOCK, "two blocks of data take {taken} bytes");
}

#[test]
fn owners_and_devices_come_back_for_root() {
    if !is_root() {
        return skip("owners and devices need root");
    }
    let scratch = Scratch::new();
    let from = scratch.folder("from");
    let number = rustix::fs::makedev(1, 3);
    if mknodat(CWD, from.join("null"), FileType::CharacterDevice, Mode::RUSR, number).is_err() {
        return skip("this container does not let root make devices");
    }
    mknodat(CWD, from.join("disk"), FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(259, 70_000)).unwrap();
    fs::write(from.join("file"), "").unwrap();
    symlink("x", from.join("link")).unwrap();
    for (name, owner) in [("null", 1), ("file", 12_345), ("link", 54_321)] {
        std::os::unix::fs::lchown(from.join(name), Some(owner), Some(owner + 1)).unwrap();
    }
    // A change of owner takes these bits away, so they must be set after it.
    fs::set_permissions(from.join("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    let (before, _) = round_trip(&scratch);
    assert_eq!(before.entry(b"disk").found.device, Some(DeviceNumber { major: 259, minor: 70_000 }));
    assert_eq!(before.entry(b"link").found.metadata.uid, 54_321);
}

#[test]
fn what_a_user_may_not_set_is_told_and_lends_no_rights() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    fs::set_permissions(&to, fs::Permissions::from_mode(0o777)).unwrap();
    let wanted = Metadata {
        uid: 0,
        gid: 0,
        attributes: vec![Attribute { name: b"security.capability".to_vec(), value: vec![1; 20] }],
        ..mine(0o4755)
    };
    let missing = as_nobody(|| {
        let mut target = open(&to);
        target.begin_file(&path("lends rights"), 0, Placing::New).unwrap().finish(&wanted).unwrap()
    });
    let what: Vec<_> = missing.into_iter().map(|missing| missing.what).collect();
    let attribute = Aspect::Attribute { name: b"security.capability".to_vec() };
    assert_eq!(what, [Aspect::Owner { uid: 0, gid: 0 }, attribute, Aspect::SetId]);
    let mode = fs::metadata(to.join("lends rights")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_link_in_the_target_is_never_followed() {
    let scratch = Scratch::new();
    let (to, outside) = (scratch.folder("to"), scratch.folder("outside"));
    fs::write(outside.join("file"), "untouched").unwrap();
    let before = fs::metadata(&outside).unwrap();
    symlink(&outside, to.join("folder")).unwrap();
    symlink(outside.join("file"), to.join("file")).unwrap();
    let mut target = open(&to);

    assert!(write(&mut target, "folder/evil", "evil", Placing::Replace).is_err());
    let special = target.create_special(&path("folder/evil"), Special::Fifo, &mine(0o600), Placing::Replace);
    assert!(special.is_err());
    assert!(target.create_dir(&path("folder/evil"), Placing::Replace).is_err());
    assert!(matches!(target.create_dir(&path("folder"), Placing::New), Err(RestoreError::InTheWay { .. })));
    assert!(target.read_existing(&path("file")).is_err());
    for (name, kind) in [("folder", EntryKind::Directory), ("file", EntryKind::File)] {
        assert!(target.set_metadata(&path(name), kind, &mine(0o777)).is_err());
    }
    assert!(target.hard_link(&path("folder/file"), &path("stolen"), Placing::New).is_err());

    // Replaced, the links themselves give way.
    write(&mut target, "file", "new", Placing::Replace).unwrap();
    target.create_dir(&path("folder"), Placing::Replace).unwrap();
    write(&mut target, "folder/file", "new", Placing::New).unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let after = fs::metadata(&outside).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
}

#[test]
fn a_tree_that_makes_a_link_and_writes_through_it_fails() {
    let scratch = Scratch::new();
    let outside = scratch.folder("outside");
    let mut target = open(&scratch.path().join("to"));
    let link = Special::Symlink(outside.as_os_str().as_encoded_bytes());
    target.create_dir(&path("a"), Placing::New).unwrap();
    target.create_special(&path("a/b"), link, &mine(0o777), Placing::New).unwrap();
    assert!(write(&mut target, "a/b/c", "evil", Placing::Replace).is_err());
    assert!(matches!(target.create_dir(&path("a/b"), Placing::New), Err(RestoreError::InTheWay { .. })));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn nothing_is_replaced_that_may_not_be() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    fs::write(to.join("file"), "old").unwrap();
    fs::write(scratch.folder("to/full").join("precious"), "").unwrap();
    scratch.folder("to/empty");
    let mut target = open(&to);
    assert!(matches!(write(&mut target, "file", "new", Placing::New), Err(RestoreError::InTheWay { .. })));
    assert!(matches!(write(&mut target, "full", "new", Placing::Replace), Err(RestoreError::NotEmpty { .. })));
    assert!(matches!(target.begin_file(&RestorePath::target(), 0, Placing::Replace), Err(RestoreError::IsTarget)));
    assert!(matches!(target.create_dir(&path("file"), Placing::New), Err(RestoreError::InTheWay { .. })));
    assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "old");
    write(&mut target, "file", "new", Placing::Replace).unwrap();
    write(&mut target, "empty", "new", Placing::Replace).unwrap();
    target.hard_link(&path("file"), &path("empty"), Placing::Replace).unwrap();
    target.hard_link(&path("file"), &path("empty"), Placing::Replace).unwrap();
    assert!(to.join("full/precious").exists());
    assert_eq!(fs::metadata(to.join("file")).unwrap().nlink(), 2);
    let left = fs::read_dir(&to)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_target_that_is_a_file_is_named_as_one() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(RestoreTarget::open(&file, Ownership::ByName), Err(RestoreError::NoFolder { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn an_unfinished_file_has_no_name_and_leaves_nothing() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    let mut target = open(&to);
    let writer = target.begin_file(&path("file"), 10, Placing::New).unwrap();
    writer.write_at(0, b"half").unwrap();
    assert!(matches!(writer.write_at(8, b"beyond"), Err(RestoreError::OutOfRange { .. })));
    let entry = fs::read_dir(&to).unwrap().next().unwrap().unwrap();
    assert!(entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX));
    assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
    drop(writer);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn existing_entries_are_described_without_following() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    fs::write(to.join("file"), "12345").unwrap();
    symlink("file", to.join("link")).unwrap();
    let mut target = open(&to);
    let existing = target.existing(&path("file")).unwrap().unwrap();
    assert_eq!((existing.kind, existing.size), (EntryKind::File, 5));
    assert_eq!(target.existing(&path("link")).unwrap().unwrap().kind, EntryKind::Symlink);
    assert_eq!(target.read_link(&path("link")).unwrap(), b"file");
    assert!(target.read_link(&path("file")).is_err());
    fs::hard_link(to.join("file"), to.join("same")).unwrap();
    let (file, same) =
        (target.existing(&path("file")).unwrap().unwrap(), target.existing(&path("same")).unwrap().unwrap());
    assert_eq!((file.inode, file.has_other_names), (same.inode, true));
    assert_ne!(file.inode, target.existing(&path("link")).unwrap().unwrap().inode);
    assert_eq!(target.existing(&path("missing")).unwrap(), None);
    assert_eq!(target.existing(&RestorePath::target()).unwrap().unwrap().kind, EntryKind::Directory);
}

fn rules() -> SparedBelow {
    SparedBelow::root(&RestorePath::target(), b"/from")
}

/// What was to go went with all that was in it: what `--exclude` names, and what a backup leaves out, went too.
#[test]
fn what_is_spared_stays_with_the_folders_that_hold_it() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    let file = |name: &str, content: &str| {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for name in ["gone/a", "gone/deep/b", "gone/deep/c.bak", "gone/deep/er/d", "plain/x", "x.tmp", "x.bak"] {
        file(name, "12345");
    }
    for folder in ["ruled", "quiet"] {
        file(&format!("{folder}/{IGNORE_FILE}"), "*.o\n");
        file(&format!("{folder}/a.c"), "");
    }
    file("ruled/a.o", "");
    file("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    file("cache/x", "");
    let mut target = open(&to);
    let spared = Spared::try_new(vec!["*.tmp".to_owned()], |path| path.as_bytes().ends_with(b".bak"));
    target.spare(spared.unwrap());
    let (names, below) = target.may_go(&RestorePath::target(), &rules()).unwrap();
    let stay: Vec<_> = names.iter().filter(|found| found.is_spared).map(|found| found.name.as_slice()).collect();
    assert_eq!(stay, [&b"x.bak"[..], b"x.tmp"]);
    let mut went = Vec::new();
    for found in names.iter().filter(|found| !found.is_spared) {
        let path = RestorePath::parse(&found.name).unwrap();
        let looked = target.remove(&path, &below, true).unwrap();
        assert_eq!(target.remove(&path, &below, false).unwrap(), looked, "what was looked at is what is done");
        went.push((path.to_string(), looked.entries, looked.bytes, looked.spared));
    }
    let expected: [(&str, u64, u64, u64); 5] =
        [("cache", 0, 0, 2), ("gone", 4, 15, 1), ("plain", 2, 5, 0), ("quiet", 3, 4, 0), ("ruled", 1, 0, 2)];
    assert_eq!(went, expected.map(|(name, entries, bytes, spared)| (name.to_owned(), entries, bytes, spared)));
    for name in ["cache/CACHEDIR.TAG", "cache/x", "gone/deep/c.bak", "ruled/a.o", "ruled/.blockhouseignore", "x.tmp"] {
        assert!(to.join(name).exists(), "{name}");
    }
    for name in ["gone/a", "gone/deep/b", "gone/deep/er", "plain", "quiet", "ruled/a.c"] {
        assert!(!to.join(name).exists(), "{name}");
    }
}

/// A folder in the way went before the file that was to replace it was fetched: if that failed, both were gone.
#[test]
fn a_folder_gives_way_when_something_else_gets_its_name() {
    let scratch = Scratch::new();
    let to = scratch.folder("to");
    for name in ["file", "link", "stays"] {
        fs::write(scratch.folder(&format!("to/{name}/deep")).join("inside"), "").unwrap();
    }
    let mut target = open(&to);
    for name in ["file", "link", "stays"] {
        target.let_give_way(&path(name), &rules());
    }
    let writer = target.begin_file(&path("file"), 3, Placing::Replace).unwrap();
    writer.write_at(0, b"new").unwrap();
    assert!(to.join("file/deep/inside").exists());
    target.clear_way(&path("file")).unwrap();
    writer.finish(&mine(0o644)).unwrap();
    assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "new");
    target.create_special(&path("link"), Special::Symlink(b"x"), &mine(0o777), Placing::Replace).unwrap();
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("x"));
    drop(target.begin_file(&path("stays"), 3, Placing::Replace).unwrap());
    assert!(to.join("stays/deep/inside").exists());
}
