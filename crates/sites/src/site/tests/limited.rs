//! Sites that are full, read-only, divided or another user's.

use std::io::Write;
use std::path::PathBuf;

use super::*;

/// A small file system of its own, unmounted at the end. None if this user may not mount.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let done = mount(&["-t", "tmpfs", "-o", options, "tmpfs"], path);
        if !done {
            // Past the test harness, which swallows the words of tests that pass.
            let _ = io::stderr().write_all(b"\nNOT RUN: a test that needs to mount a tmpfs\n");
        }
        done.then(|| Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let run = std::process::Command::new("mount").args(arguments).arg(path).output();
    run.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn a_full_site_keeps_what_it_has_and_takes_no_more() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let Some(_mount) = Mount::new(&path, "size=1m") else { return };
    let site = new_site(&path, 1).await;
    let bytes = Bytes::from(vec![7; 300 * 1024]);
    let mut error = None;
    let mut written = Vec::new();
    for number in 0..10 {
        match site.put(&shard(number), bytes.clone()).await {
            Ok(_) => written.push(number),
            Err(full) => {
                error = Some(full);
                break;
            }
        }
    }
    let error = error.expect("ten objects of 300 KiB do not fit a mebibyte");
    assert!(error.is_full() && !error.is_passing(), "{error:?}");
    assert_eq!(fs::read_dir(path.join(".tmp")).unwrap().count(), 0, "no leftover takes the room");
    assert!(matches!(site.state(), SiteState::Closed(why) if why.remedy() == Remedy::FreeSpace));
    assert!(site.put(&list_key(1), Bytes::new()).await.unwrap_err().is_full());
    assert_eq!(written, [0, 1, 2]);
    for number in written {
        assert_eq!(site.get(&shard(number)).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_read_only_site_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let Some(_mount) = Mount::new(&path, "size=1m") else { return };
    new_site(&path, 1).await.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
    assert!(mount(&["-o", "remount,ro"], &path));
    let site = Site::open(&spec(&path), Expected::from(&marker(1)), Patience::default()).await.unwrap();
    assert_eq!(site.get(&list_key(1)).await.unwrap(), "x");
    let error = site.put(&list_key(2), Bytes::from_static(b"y")).await.unwrap_err();
    assert!(error.is_permission(), "{error:?}");
    assert!(matches!(site.state(), SiteState::Closed(why) if why.remedy() == Remedy::Permit));
    assert!(site.probe().await.unwrap_err().is_permission());
}

#[tokio::test]
async fn a_probe_sees_another_file_system_inside() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    let Some(_mount) = Mount::new(&path.join("shards"), "size=1m") else { return };
    let report = site.probe().await.unwrap();
    assert!(report.create_only && !report.durable_rename && !report.keeps_promises());
    assert!(site.put(&shard(1), Bytes::new()).await.is_err(), "a rename cannot cross to it");
}

/// Another user's folder, seen by threads that are nobody.
#[test]
fn a_site_without_permission_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let runtime = |nobody: bool| {
        let is_root = rustix::process::geteuid().is_root();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                if nobody && is_root {
                    rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
                }
            })
            .build()
            .unwrap()
    };
    runtime(false).block_on(new_site(&path, 1));
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(scratch.path(), 0o755);
    mode(&path, 0);
    let nobody = runtime(true);
    let why = nobody.block_on(reason(&path));
    assert_eq!(why.remedy(), Remedy::Permit, "{why:?}");

    mode(&path, 0o555);
    mode(&path.join(".tmp"), 0o555);
    mode(&path.join("site"), 0o444);
    nobody.block_on(async {
        let site = Site::open(&spec(&path), Expected::from(&marker(1)), Patience::default()).await.unwrap();
        let error = site.put(&list_key(1), Bytes::new()).await.unwrap_err();
        assert!(error.is_permission() && !site.state().can_write(), "{error:?}");
        assert_eq!(site.stat(&list_key(1)).await.unwrap(), None);
    });
    mode(&path, 0o755);
}
