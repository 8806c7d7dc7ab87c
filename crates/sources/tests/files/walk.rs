//! Order, completeness and bounds of walks.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use blockhouse_sources::files::{Entry, Event, FilesSource, Options, Reason};
use blockhouse_types::EntryKind;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::{
    copy::Copy,
    scratch::{Scratch, as_nobody, source, source_with},
};

#[test]
fn entries_come_depth_first_in_byte_order() {
    let scratch = Scratch::new();
    for name in ["b/z", "b-c", "a", "B"] {
        fs::create_dir_all(scratch.path().join(name)).unwrap();
    }
    for name in [&b"b/new\nline"[..], b"b/\xff\xfe", b"b.txt", b"b/z/end", "ä".as_bytes()] {
        fs::write(scratch.path().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let copy = Copy::of(&source(scratch.path()));
    let expected: [&[u8]; 11] =
        [b"", b"B", b"a", b"b", b"b/new\nline", b"b/z", b"b/z/end", b"b/\xff\xfe", b"b-c", b"b.txt", "ä".as_bytes()];
    assert_eq!(copy.paths(), expected);
    assert_eq!(copy.left.last().unwrap().path, b"");
}

#[test]
fn every_listed_entry_is_the_subject_of_one_event() {
    let scratch = Scratch::new();
    for name in ["a/b", "c/d/e"] {
        fs::create_dir_all(scratch.path().join(name)).unwrap();
        fs::write(scratch.path().join(name).join("file"), name).unwrap();
    }
    let source = source(scratch.path());
    let mut frames: Vec<(Vec<Entry>, usize)> = Vec::new();
    for event in source.capture().unwrap().walk() {
        let index = match &event {
            Event::Enter { entry, .. } => entry.as_ref().map(|(index, _)| *index),
            Event::Entry { index, .. } | Event::Unreadable { index, .. } => Some(*index),
            Event::Leave => {
                let (entries, seen) = frames.pop().unwrap();
                assert_eq!(entries.len(), seen);
                continue;
            }
        };
        if let (Some(index), Some((_, next))) = (index, frames.last_mut()) {
            assert_eq!(index, *next);
            *next += 1;
        }
        if let Event::Enter { listing, .. } = event {
            frames.push((listing.entries.clone(), 0));
        }
    }
    assert!(frames.is_empty());
}

#[test]
fn several_roots_and_single_files_are_entries_of_one_listing() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("single"), "alone").unwrap();
    fs::write(scratch.folder("folder").join("inner"), "in folder").unwrap();
    let roots = ["single", "folder"].map(|name| scratch.path().join(name));
    let source = FilesSource::try_new(&roots, &Options::default()).unwrap();
    let copy = Copy::of(&source);
    let contents: Vec<_> = copy.entries.iter().map(|copied| (copied.found.root, copied.content())).collect();
    assert_eq!(contents, [(0, vec![]), (0, b"in folder".to_vec()), (1, b"alone".to_vec())]);
    assert!(copy.entries[2].found.name.ends_with(b"%2Fsingle"));
}

#[test]
fn excluded_entries_are_counted_and_not_entered() {
    let scratch = Scratch::new();
    fs::write(scratch.folder("cache/deep").join("x.tmp"), "").unwrap();
    fs::write(scratch.folder("kept").join("x.tmp"), "").unwrap();
    fs::write(scratch.path().join("kept/cache"), "a file of that name").unwrap();
    let copy = Copy::of(&source_with(scratch.path(), &["cache/", "*.tmp"]));
    assert_eq!(copy.paths(), [&b""[..], b"kept", b"kept/cache"]);
    assert_eq!(copy.left_out.len(), 2);
}

#[test]
fn links_pipes_and_sockets_are_found_and_never_opened() {
    let scratch = Scratch::new();
    symlink("../outside/\u{e4}", scratch.path().join("link")).unwrap();
    symlink(".", scratch.path().join("loop")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path().join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
        .unwrap();
    let _listener = UnixListener::bind(scratch.path().join("socket")).unwrap();
    let copy = Copy::of(&source(scratch.path()));
    assert_eq!(copy.entry(b"link").found.target, "../outside/\u{e4}".as_bytes());
    let kinds: Vec<_> = copy.entries.iter().map(|copied| copied.found.kind).collect();
    let expected = [EntryKind::Directory, EntryKind::Symlink, EntryKind::Symlink, EntryKind::Fifo, EntryKind::Socket];
    assert_eq!(kinds, expected);
}

#[test]
fn what_may_not_be_read_is_told_with_its_reason() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("closed")).unwrap();
    fs::write(scratch.path().join("closed/inner"), "").unwrap();
    fs::write(scratch.path().join("secret"), "").unwrap();
    fs::write(scratch.folder("names-only").join("inner"), "").unwrap();
    for (name, mode) in [("closed", 0o000), ("secret", 0o000), ("names-only", 0o444)] {
        fs::set_permissions(scratch.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let source = source(scratch.path());
    let found = as_nobody(|| {
        let capture = source.capture().unwrap();
        let mut found = Vec::new();
        for event in capture.walk() {
            let unreadable = match event {
                Event::Unreadable { unreadable, .. } => unreadable,
                Event::Entry { folder, found, .. } => capture.open(&folder, &found).unwrap_err(),
                _ => continue,
            };
            found.push((unreadable.path.clone(), unreadable.kind, unreadable.metadata.mode, unreadable.reason.clone()));
        }
        found
    });
    let expected = [
        (b"closed".to_vec(), EntryKind::Directory, 0, Reason::Denied),
        // Names alone would be half a listing.
        (b"names-only".to_vec(), EntryKind::Directory, 0o444, Reason::Denied),
        (b"secret".to_vec(), EntryKind::File, 0, Reason::Denied),
    ];
    assert_eq!(found, expected);
    for name in ["closed", "names-only"] {
        fs::set_permissions(scratch.path().join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_folder_that_vanishes_or_is_swapped_is_told() {
    let scratch = Scratch::new();
    for name in ["first", "gone", "swapped", "linked"] {
        scratch.folder(name);
    }
    let outside = Scratch::new();
    fs::write(outside.path().join("secret"), "").unwrap();
    let source = source(scratch.path());
    let capture = source.capture().unwrap();
    let mut told = Vec::new();
    for event in capture.walk() {
        match event {
            Event::Enter { entry: Some((_, found)), .. } if found.path == b"first" => {
                fs::remove_dir(scratch.path().join("gone")).unwrap();
                fs::rename(scratch.path().join("swapped"), outside.path().join("kept")).unwrap();
                fs::create_dir(scratch.path().join("swapped")).unwrap();
                fs::remove_dir(scratch.path().join("linked")).unwrap();
                symlink(outside.path(), scratch.path().join("linked")).unwrap();
            }
            Event::Unreadable { unreadable, .. } => told.push((unreadable.path.clone(), unreadable.reason.clone())),
            Event::Entry { found, .. } => panic!("the walk was led outside, to {:?}", found.path.escape_ascii()),
            _ => {}
        }
    }
    let expected = [(&b"gone"[..], Reason::Vanished), (b"linked", Reason::Replaced), (b"swapped", Reason::Replaced)];
    assert_eq!(told, expected.map(|(path, reason)| (path.to_vec(), reason)));
}

#[test]
fn three_thousand_levels_are_walked_and_restored() {
    const LEVELS: usize = 3000;
    let scratch = Scratch::new();
    let mut current = rustix::fs::open(scratch.folder("from"), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..LEVELS {
        mkdirat(&current, "d", Mode::RWXU).unwrap();
        // Stands after the sub-folder, so its folder is needed again on the way back.
        openat(&current, "file", OFlags::CREATE | OFlags::RDWR, Mode::RUSR).unwrap();
        current = openat(&current, "d", OFlags::PATH, Mode::empty()).unwrap();
    }
    let copy = Copy::of(&source(&scratch.path().join("from")));
    assert_eq!((copy.entries.len(), copy.unreadable.len()), (2 * LEVELS + 1, 0));
    assert_eq!(copy.restore(&scratch.path().join("to")), []);
    assert_eq!(Copy::of(&source(&scratch.path().join("to"))).facts(), copy.facts());
}

#[test]
fn a_folder_of_twenty_thousand_files_is_one_sorted_listing() {
    let scratch = Scratch::new();
    for number in 0..20_000 {
        fs::File::create(scratch.path().join(format!("{number}"))).unwrap();
    }
    let source = source(scratch.path());
    let mut walk = source.capture().unwrap().walk();
    walk.next().unwrap();
    let Some(Event::Enter { listing, .. }) = walk.next() else { panic!("the root is entered first") };
    assert_eq!(listing.entries.len(), 20_000);
    assert!(listing.entries.is_sorted_by(|one, other| one.name() < other.name()));
    assert_eq!(walk.count(), 20_000 + 2);
}
