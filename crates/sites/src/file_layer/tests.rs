use std::fs;
use std::path::Path;

use super::*;
use crate::disk::RealDisk;
use crate::twin::{ForgetfulDisk, Luck};

const DAY: Duration = Duration::from_hours(24);

fn real(path: &Path) -> FileLayer {
    FileLayer::new(Arc::new(RealDisk::open(path).unwrap()))
}

fn forgetful(path: &Path) -> (Arc<ForgetfulDisk>, FileLayer) {
    let disk = Arc::new(ForgetfulDisk::open(path).unwrap());
    (disk.clone(), FileLayer::new(disk))
}

fn temporaries(path: &Path) -> usize {
    fs::read_dir(path.join(TEMPORARY_FOLDER)).map_or(0, Iterator::count)
}

#[test]
fn the_calls_come_in_the_order_of_the_page() {
    use DiskCall::{CreateNew, MakeFolder, Rename, SyncFile, SyncFolder, Write};
    let scratch = tempfile::tempdir().unwrap();
    let (disk, layer) = forgetful(scratch.path());
    assert_eq!(layer.put("shards/ab/x", b"bytes").unwrap(), Put::Written);
    let first = [CreateNew, MakeFolder, CreateNew, Write, SyncFile];
    let then = [MakeFolder, SyncFolder, MakeFolder, SyncFolder, Rename, SyncFolder];
    let first = [first.as_slice(), &then].concat();
    assert_eq!(disk.calls(), first, "the first create finds that .tmp is missing");
    assert_eq!(layer.put("shards/ab/y", b"bytes").unwrap(), Put::Written);
    assert_eq!(disk.calls()[first.len()..], [CreateNew, Write, SyncFile, Rename, SyncFolder]);
    assert_eq!(fs::read(scratch.path().join("shards/ab/x")).unwrap(), b"bytes");
    assert_eq!(temporaries(scratch.path()), 0);
}

#[test]
fn an_existing_object_is_settled_or_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = real(scratch.path());
    let long = vec![7; 3 * COMPARE_STEP + 1];
    let mut other = long.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(layer.put("lists/a", &long).unwrap(), Put::Written);
    assert_eq!(layer.put("lists/a", &long).unwrap(), Put::AlreadyThere);
    for bad in [other.as_slice(), &long[1..], b""] {
        assert!(matches!(layer.put("lists/a", bad), Err(WriteError::Exists)));
    }
    assert_eq!(fs::read(scratch.path().join("lists/a")).unwrap(), long);
    assert_eq!(layer.put("lists/empty", b"").unwrap(), Put::Written);
    assert_eq!(layer.put("lists/empty", b"").unwrap(), Put::AlreadyThere);
}

/// Objects that another tool copied to the site: nobody synced them, nor the folders on the way.
#[test]
fn an_object_that_was_copied_by_hand_is_made_durable() {
    let (scratch, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (disk, layer) = forgetful(scratch.path());
    disk.make_folder("shards").unwrap();
    disk.make_folder("shards/ab").unwrap();
    let file = disk.create_new("shards/ab/x").unwrap();
    disk.write_all(&file, &[b"bytes"]).unwrap();
    assert_eq!(layer.put("shards/ab/x", b"bytes").unwrap(), Put::AlreadyThere);
    disk.survivors(Luck::None, after.path()).unwrap();
    assert_eq!(fs::read(after.path().join("shards/ab/x")).unwrap(), b"bytes");
}

#[test]
fn what_is_no_file_keeps_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = real(scratch.path());
    let target = scratch.path().join("target");
    fs::write(&target, b"bytes").unwrap();
    fs::create_dir_all(scratch.path().join("lists/folder")).unwrap();
    std::os::unix::fs::symlink(&target, scratch.path().join("lists/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scratch.path().join("lists/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for name in ["lists/folder", "lists/link", "lists/pipe"] {
        assert!(matches!(layer.put(name, b"bytes"), Err(WriteError::Exists)), "{name}");
    }
    assert_eq!(temporaries(scratch.path()), 0);
}

#[test]
fn a_file_where_a_folder_should_be_is_an_error_and_stays() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("shards"), b"mine").unwrap();
    let layer = real(scratch.path());
    let error = layer.put("shards/ab/x", b"bytes").unwrap_err();
    assert!(matches!(&error, WriteError::Disk { source, .. } if is(source, Errno::NOTDIR)), "{error:?}");
    assert_eq!(fs::read(scratch.path().join("shards")).unwrap(), b"mine");
}

#[test]
fn every_failing_call_leaves_no_name_and_no_temporary_file() {
    let steps = [DiskCall::CreateNew, DiskCall::Write, DiskCall::SyncFile, DiskCall::MakeFolder, DiskCall::Rename];
    for call in steps {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join(TEMPORARY_FOLDER)).unwrap();
        let (disk, layer) = forgetful(scratch.path());
        disk.fail(call, Errno::NOSPC.raw_os_error(), 1);
        let error = layer.put("lists/a", b"bytes").unwrap_err();
        assert!(matches!(&error, WriteError::Disk { call: at, .. } if *at == call), "{call}: {error:?}");
        assert!(!scratch.path().join("lists/a").exists(), "{call}");
        assert_eq!(temporaries(scratch.path()), 0, "{call}");
        assert_eq!(layer.put("lists/a", b"bytes").unwrap(), Put::Written, "{call}: the next attempt");
    }
}

#[test]
fn without_noreplace_a_second_name_is_given() {
    let scratch = tempfile::tempdir().unwrap();
    let (disk, layer) = forgetful(scratch.path());
    disk.fail(DiskCall::Rename, Errno::INVAL.raw_os_error(), usize::MAX);
    assert_eq!(layer.put("lists/a", b"bytes").unwrap(), Put::Written);
    assert_eq!(temporaries(scratch.path()), 0);
    assert!(layer.refuses_to_replace("lists/a").unwrap());
    let calls = disk.calls();
    let link = calls.iter().position(|call| *call == DiskCall::Link).unwrap();
    assert!(calls[..link].contains(&DiskCall::SyncFile) && calls[link..].contains(&DiskCall::SyncFolder));

    disk.fail(DiskCall::Link, Errno::PERM.raw_os_error(), 1);
    let error = layer.put("lists/b", b"bytes").unwrap_err();
    assert!(matches!(error, WriteError::Disk { call: DiskCall::Link, .. }));
    assert_eq!(temporaries(scratch.path()), 0);
}

/// A folder that vanished under our hands is made again, by the next attempt.
#[test]
fn folders_that_were_removed_are_made_again() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = real(scratch.path());
    layer.put("shards/ab/x", b"bytes").unwrap();
    fs::remove_dir_all(scratch.path().join("shards")).unwrap();
    assert!(layer.put("shards/ab/x", b"bytes").is_err());
    assert_eq!(layer.put("shards/ab/x", b"bytes").unwrap(), Put::Written);
}

#[test]
fn delete_is_durable_and_tells_what_was_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (disk, layer) = forgetful(scratch.path());
    layer.put("lists/a", b"bytes").unwrap();
    assert!(layer.delete("lists/a").unwrap());
    assert_eq!(disk.calls()[disk.calls().len() - 2..], [DiskCall::Unlink, DiskCall::SyncFolder]);
    assert!(!layer.delete("lists/a").unwrap());
    assert!(!layer.delete("absent/a").unwrap());
}

#[test]
fn a_sweep_takes_old_temporary_files_only() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = real(scratch.path());
    let now = SystemTime::now();
    assert_eq!(layer.sweep(now, DAY).unwrap(), Swept::default());
    fs::create_dir(scratch.path().join(TEMPORARY_FOLDER)).unwrap();
    for (name, at) in [("0", now - 2 * DAY), ("1", now), ("2", now + 2 * DAY)] {
        let path = scratch.path().join(TEMPORARY_FOLDER).join(name.repeat(32));
        File::create(path).unwrap().set_modified(at).unwrap();
    }
    let stranger = scratch.path().join(TEMPORARY_FOLDER).join("notes.txt");
    File::create(&stranger).unwrap().set_modified(now - 2 * DAY).unwrap();
    assert_eq!(layer.sweep(now, DAY).unwrap(), Swept { removed: 1, kept: 2 });
    assert!(stranger.exists());
    assert_eq!(layer.sweep(now + 10 * DAY, DAY).unwrap(), Swept { removed: 2, kept: 0 });
}

/// Many writers of one name and of many: each object is whole, and one writer of each name was first.
#[test]
fn writers_at_the_same_time_agree() {
    let scratch = tempfile::tempdir().unwrap();
    let layers = [real(scratch.path()), real(scratch.path())];
    let written: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let layer = &layers[writer % 2];
                scope.spawn(move || {
                    (0..20)
                        .filter(|object| {
                            let bytes = vec![*object; 10_000];
                            layer.put(&format!("lists/{object}"), &bytes).unwrap() == Put::Written
                        })
                        .count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(written, 20);
    assert_eq!(temporaries(scratch.path()), 0);
    for object in 0..20 {
        assert_eq!(fs::read(scratch.path().join(format!("lists/{object}"))).unwrap(), vec![object; 10_000]);
    }
}
