//! One suite of promises for every kind of site, against real servers.
//!
//! Credentials come from the environment, which a test may not change: the suite is run in a process of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use blockhouse_sites::{
    Cause, CreateError, Expected, Marker, ObjectKey, Patience, Prefix, Put, Site, SiteName, SiteSpec, Swept,
};
use blockhouse_tests::servers::{ACCESS_KEY, Apache, Line, Proxy, S3Server, SECRET_KEY, Sshd};
use blockhouse_types::{ListHash, ShardIndex, SiteId, StripeId, VaultId};

const INSIDE: &str = "BLOCKHOUSE_CONFORMANCE";

/// Runs the named test again with credentials; true in that second run.
fn with_credentials(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    again.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    again.env("BLOCKHOUSE_WEBDAV_PASSWORD", "a password of tests");
    for name in ["AWS_PROFILE", "AWS_REGION", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        again.env_remove(name);
    }
    assert!(again.status().unwrap().success(), "{test} failed with credentials");
    false
}

#[test]
fn a_folder_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path().join("site").to_str().unwrap(), &folder.path().join("site"));
}

#[test]
fn a_bucket_keeps_the_promises() {
    if !with_credentials("a_bucket_keeps_the_promises") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Server::start(folder.path(), &["one"]);
    check(&s3.url("one", "a/site"), &s3.bucket("one").join("a/site"));
    check(&(s3.url("one", "looked") + "&conditional=false"), &s3.bucket("one").join("looked"));
}

#[test]
fn an_sftp_server_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    let Some(sshd) = Sshd::start(&folder.path().join("sshd")) else { return };
    let site = folder.path().join("the site");
    check(&sshd.url(&site).replace("the site", "the%20site"), &site);
}

#[test]
fn a_webdav_server_keeps_the_promises() {
    if !with_credentials("a_webdav_server_keeps_the_promises") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(apache) = Apache::start(&folder.path().join("apache")) else { return };
    check(&apache.url("site"), &apache.site("site"));
}

#[test]
fn a_bucket_that_falls_silent_is_down_long_before_the_deadline_of_an_object() {
    if !with_credentials("a_bucket_that_falls_silent_is_down_long_before_the_deadline_of_an_object") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Server::start(folder.path(), &["one"]);
    let proxy = Proxy::start(s3.port(), Line::default(), 1);
    check_silence(&proxy.s3_url("one", "site"), &proxy);
}

#[test]
fn an_sftp_server_that_falls_silent_is_down_long_before_the_deadline_of_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let Some(sshd) = Sshd::start(&folder.path().join("sshd")) else { return };
    let proxy = Proxy::start(sshd.port(), Line::default(), 1);
    check_silence(&sshd.url_through(proxy.port(), &folder.path().join("remote")), &proxy);
}

/// The deadline of an object of 8 MiB at a service is the base and 256 s: what ends a read, and a write, is that nothing comes.
fn check_silence(url: &str, proxy: &Proxy) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let spec = SiteSpec::parse(url, Path::new("/")).unwrap();
        let marker =
            Marker { vault: VaultId::new([9; 32]), site: SiteId::new([1; 32]), name: SiteName::parse("site").unwrap() };
        let base = Duration::from_secs(10);
        let patience = Patience { base, ..Patience::default() };
        let site = Site::create(&spec, &marker, patience).await.unwrap();
        let length = 8_usize << 20;
        site.put(&shard(1, 1), vec![7_u8; length]).await.unwrap();
        proxy.set(Line { silent: true, ..Line::default() });
        let error = site.get_range(&shard(1, 1), 0..length as u64).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Deadline { allowed } if allowed == base), "{error:?}");
        assert!(!site.state().can_read(), "it is not asked again in this run");
    });
}

fn list(number: u8) -> ObjectKey {
    ObjectKey::List(ListHash::new([number; 32]))
}

fn shard(first: u8, index: u8) -> ObjectKey {
    ObjectKey::Shard { stripe: StripeId::new([first; 32]), index: ShardIndex(index) }
}

/// The suite; `files` is where the server keeps what it has.
fn check(url: &str, files: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let spec = SiteSpec::parse(url, Path::new("/")).unwrap();
        let name = SiteName::parse("site").unwrap();
        let marker = Marker { vault: VaultId::new([9; 32]), site: SiteId::new([1; 32]), name: name.clone() };
        let site =
            Site::create(&spec, &marker, Patience::default()).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        objects_come_whole_and_stay(&site).await;
        listings_are_complete(&site).await;
        leftovers_are_swept(&site, files).await;
        let report = site.probe().await.unwrap();
        assert!(report.keeps_promises(), "{url}: {report:?}");
        assert_eq!(site.sweep(SystemTime::now() + Duration::from_secs(1), Duration::ZERO).await.unwrap().removed, 0);
        its_marker_decides(&site, &spec, &marker, files).await;
    });
}

async fn objects_come_whole_and_stay(site: &Site) {
    let long: bytes::Bytes = (0..3_000_001_u32).map(|byte| (byte % 251) as u8).collect::<Vec<_>>().into();
    let key = shard(7, 1);
    assert_eq!(site.stat(&key).await.unwrap(), None);
    assert!(site.get(&key).await.unwrap_err().is_not_found());
    assert!(site.get_range(&key, 0..5).await.unwrap_err().is_not_found());
    assert!(!site.settle(&key).await.unwrap());
    assert!(!site.delete(&key).await.unwrap());
    assert_eq!(site.put(&key, long.clone()).await.unwrap(), Put::Written);
    assert_eq!(site.put(&key, long.clone()).await.unwrap(), Put::AlreadyThere);
    assert!(site.put(&key, bytes::Bytes::from_static(b"other")).await.unwrap_err().is_exists());
    let mut changed = long.to_vec();
    changed[1_500_000] ^= 1;
    let refused = site.put(&key, changed).await.unwrap_err();
    assert!(refused.is_exists(), "{refused:?}");
    assert!(site.settle(&key).await.unwrap());
    assert_eq!(site.get(&key).await.unwrap(), long);
    assert_eq!(site.stat(&key).await.unwrap(), Some(long.len() as u64));
    for range in [0..1, 1_000_000..2_000_000, 3_000_000..3_000_001] {
        let expected = long.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        assert_eq!(site.get_range(&key, range).await.unwrap(), expected);
    }
    assert!(site.get_range(&key, 3_000_000..3_000_002).await.is_err(), "past the end");
    assert!(site.delete(&key).await.unwrap());
    assert!(!site.delete(&key).await.unwrap());
    assert_eq!(site.stat(&key).await.unwrap(), None);
    assert!(site.state().can_write(), "none of this is the site's fault: {:?}", site.state());
}

async fn listings_are_complete(site: &Site) {
    assert_eq!(site.list_all(Prefix::Shards).await.unwrap(), []);
    let keys: Vec<ObjectKey> = (0..40).map(|number| shard(number, number)).collect();
    let puts = keys.iter().map(async |key| site.put(key, bytes::Bytes::from_static(b"a shard")).await.unwrap());
    futures::future::join_all(puts).await;
    site.put(&list(1), bytes::Bytes::from_static(b"a list")).await.unwrap();
    let mut listed: Vec<ObjectKey> =
        site.list_all(Prefix::Shards).await.unwrap().into_iter().map(|listed| listed.key).collect();
    listed.sort();
    assert_eq!(listed, keys);
    let one = site.list_all(Prefix::ShardsOf(3)).await.unwrap();
    assert_eq!(one.iter().map(|listed| (listed.key, listed.length)).collect::<Vec<_>>(), [(shard(3, 3), 7)]);
    assert_eq!(site.list_all(Prefix::Lists).await.unwrap().len(), 1);
    assert_eq!(site.list_all(Prefix::Maps).await.unwrap(), []);
}

async fn leftovers_are_swept(site: &Site, files: &Path) {
    std::fs::create_dir_all(files.join(".tmp")).unwrap();
    std::fs::write(files.join(".tmp").join("0".repeat(32)), b"half").unwrap();
    let day = Duration::from_hours(24);
    assert_eq!(site.sweep(SystemTime::now(), day).await.unwrap(), Swept { removed: 0, kept: 1 });
    assert_eq!(site.sweep(SystemTime::now() + 2 * day, day).await.unwrap(), Swept { removed: 1, kept: 0 });
}

async fn its_marker_decides(site: &Site, spec: &SiteSpec, marker: &Marker, files: &Path) {
    let open = async |expected| Site::open(spec, expected, Patience::default()).await;
    let found = open(Expected::Any).await.unwrap();
    assert_eq!((found.vault(), found.id()), (marker.vault, marker.site));
    let other = Expected::This { vault: VaultId::new([8; 32]), site: marker.site };
    assert!(open(other).await.is_err());
    let again = Site::create(spec, marker, Patience::default()).await;
    assert!(matches!(again, Err(CreateError::Taken { .. })), "{again:?}");
    // The folder is not there any more, as if it were unmounted: nothing is written, and no folder is made.
    let away = files.with_extension("away");
    std::fs::rename(files, &away).unwrap();
    assert!(open(Expected::from(marker)).await.is_err());
    // A bucket has no folders, and a folder of this host is held open.
    if !site.lists_deep() && spec.url.folder().is_none() {
        std::fs::create_dir(files).unwrap();
        let lost = site.put(&shard(200, 1), bytes::Bytes::from_static(b"x")).await.unwrap_err();
        assert!(lost.is_down(), "{lost:?}");
        assert_eq!(std::fs::read_dir(files).unwrap().count(), 0, "nothing was made");
        std::fs::remove_dir(files).unwrap();
    }
    std::fs::rename(&away, files).unwrap();
    assert!(open(Expected::from(marker)).await.is_ok());
}
