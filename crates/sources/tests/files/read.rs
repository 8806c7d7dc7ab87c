//! Files that change, vanish or turn into something else while they are read.

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use blockhouse_sources::files::{Event, FileReader, FilesSource, Folder, Found, ReadError, Reason};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::scratch::{Scratch, source};

/// The only file of a folder, as the walk finds it.
fn only_file(source: &FilesSource) -> (Folder, Arc<Found>) {
    let found = source.capture().unwrap().walk().find_map(|event| match event {
        Event::Entry { folder, found, .. } => Some((folder, found)),
        _ => None,
    });
    found.unwrap()
}

fn open(root: &Path) -> FileReader {
    let source = source(root);
    let (folder, found) = only_file(&source);
    source.capture().unwrap().open(&folder, &found).unwrap()
}

#[test]
fn a_file_that_grows_is_read_at_its_length_and_told() {
    let scratch = Scratch::new();
    let path = scratch.path().join("log");
    fs::write(&path, "first").unwrap();
    let reader = open(scratch.path());
    fs::File::options().append(true).open(&path).unwrap().write_all(b" second").unwrap();
    let mut bytes = [0; 5];
    reader.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"first");
    assert_eq!(reader.extent_at(5).unwrap(), None);
    let changed = reader.finish().unwrap().unwrap();
    assert_eq!((changed.before.size, changed.after.size), (5, 12));
}

#[test]
fn a_file_that_shrinks_is_never_filled_with_zeros() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let reader = open(scratch.path());
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let mut bytes = [0; 100];
    let error = reader.read_at(0, &mut bytes).unwrap_err();
    assert_eq!(error, ReadError::Shrunk { path: b"file".to_vec(), offset: 10, size: 100_000 });
    assert_eq!(error.reason(), Reason::Shrunk);
    assert!(matches!(reader.extent_at(50_000), Err(ReadError::Shrunk { .. })));
    assert_eq!(reader.finish().unwrap().unwrap().after.size, 10);
}

#[test]
fn an_overwritten_file_is_told_though_its_length_stays() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    fs::write(&path, "before").unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(&path).unwrap().set_modified(past).unwrap();
    let reader = open(scratch.path());
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"after!", 0).unwrap();
    assert!(reader.finish().unwrap().is_some());
}

#[test]
fn a_change_before_opening_gives_the_newer_entry() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    fs::write(&path, "short").unwrap();
    let source = source(scratch.path());
    let (folder, found) = only_file(&source);
    fs::File::options().append(true).open(&path).unwrap().write_all(b" and longer").unwrap();
    let reader = source.capture().unwrap().open(&folder, &found).unwrap();
    assert_eq!((found.size, reader.found().size), (5, 16));
    assert_eq!(reader.finish().unwrap(), None);
}

#[test]
fn what_took_the_name_of_a_file_is_not_read() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    fs::write(&path, "content").unwrap();
    let source = source(scratch.path());
    let capture = source.capture().unwrap();
    let (folder, found) = only_file(&source);
    let reason = || capture.open(&folder, &found).unwrap_err().reason.clone();
    fs::rename(&path, scratch.path().join("aside")).unwrap();
    assert_eq!(reason(), Reason::Vanished);
    // Opening a pipe to read waits for a writer, unless one asks not to.
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(reason(), Reason::Replaced);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert_eq!(reason(), Reason::Replaced);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "content").unwrap();
    assert_eq!(reason(), Reason::Replaced);
}

#[test]
fn holes_are_told_from_data() {
    const BLOCK: u64 = 1 << 20;
    let scratch = Scratch::new();
    let file = fs::File::create(scratch.path().join("sparse")).unwrap();
    file.set_len(6 * BLOCK).unwrap();
    for at in [1, 4] {
        file.write_all_at(&vec![7; 1 << 20], at * BLOCK).unwrap();
    }
    file.sync_all().unwrap();
    let reader = open(scratch.path());
    let mut extents = Vec::new();
    let mut offset = 0;
    while let Some(extent) = reader.extent_at(offset).unwrap() {
        extents.push((extent.offset / BLOCK, extent.length / BLOCK, extent.is_hole));
        offset += extent.length;
    }
    assert_eq!(extents, [(0, 1, true), (1, 1, false), (2, 2, true), (4, 1, false), (5, 1, true)]);
}

#[test]
fn reading_leaves_the_access_time() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    fs::write(&path, "content").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(long_ago);
    fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let reader = open(scratch.path());
    reader.read_at(0, &mut [0; 7]).unwrap();
    reader.finish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().atime(), 0);
}
