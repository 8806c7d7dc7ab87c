mod failing;
mod limited;

use std::fs;
use std::path::Path;

use blockhouse_types::{ListHash, ShardIndex, StripeId};
use futures::future::join_all;

use super::faults::{FaultLayer, Faults};
use super::*;
use crate::error::Remedy;
use crate::limits::SiteLimits;
use crate::twin::ForgetfulDisk;

const DAY: Duration = Duration::from_hours(24);

/// Deadlines that a test can wait for, long enough for a busy machine.
fn impatient() -> Patience {
    Patience { base: Duration::from_secs(1), back_off: Duration::from_millis(1), ..Patience::default() }
}

pub(crate) fn marker(number: u8) -> Marker {
    let name = SiteName::parse(&format!("site-{number}")).unwrap();
    Marker { vault: VaultId::new([9; 32]), site: SiteId::new([number; 32]), name }
}

pub(crate) fn spec(path: &Path) -> SiteSpec {
    SiteSpec {
        url: SiteUrl::File(path.to_owned()),
        name: SiteName::from_path(path).unwrap(),
        labels: Labels::default(),
        limits: SiteLimits::default(),
    }
}

pub(crate) async fn new_site(path: &Path, number: u8) -> Site {
    Site::create(&spec(path), &marker(number), Patience::default()).await.unwrap()
}

/// A site whose disk and operator do as they are told.
pub(crate) async fn faulty_site(path: &Path, number: u8) -> (Site, Arc<ForgetfulDisk>, Arc<Faults>) {
    new_site(path, number).await;
    let (disk, faults) = (Arc::new(ForgetfulDisk::open(path).unwrap()), Arc::new(Faults::default()));
    let backend = Backend::with_disk(path, disk.clone()).unwrap();
    let backend = backend.map_operator(|operator| operator.layer(FaultLayer(faults.clone())));
    let expected = Expected::from(&marker(number));
    let site = Site::open_on(backend, &spec(path), expected, impatient()).await.unwrap();
    (site, disk, faults)
}

fn list_key(number: u64) -> ObjectKey {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    ObjectKey::List(ListHash::new(hash))
}

fn shard(number: u8) -> ObjectKey {
    ObjectKey::Shard { stripe: StripeId::new([number; 32]), index: ShardIndex(number) }
}

async fn reason(path: &Path) -> Arc<DownReason> {
    Site::open(&spec(path), Expected::from(&marker(1)), Patience::default()).await.unwrap_err().reason
}

fn pipe(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[tokio::test]
async fn objects_are_written_read_listed_and_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    new_site(&path, 1).await;
    let site = Site::open(&spec(&path), Expected::from(&marker(1)), Patience::default()).await.unwrap();
    let bytes = Bytes::from((0..=249_u8).cycle().take(3_000_000).collect::<Vec<_>>());
    assert_eq!(site.put(&shard(3), bytes.clone()).await.unwrap(), Put::Written);
    assert_eq!(site.put(&shard(3), bytes.clone()).await.unwrap(), Put::AlreadyThere);
    assert_eq!(site.put(&shard(4), Bytes::new()).await.unwrap(), Put::Written);
    assert_eq!(site.get(&shard(3)).await.unwrap(), bytes);
    assert_eq!(site.get(&shard(4)).await.unwrap(), Bytes::new());
    assert_eq!(site.get_range(&shard(3), 5..2_500_000).await.unwrap(), bytes.slice(5..2_500_000));
    assert_eq!(site.stat(&shard(3)).await.unwrap(), Some(3_000_000));
    assert_eq!(site.stat(&shard(5)).await.unwrap(), None);
    let mut listed = site.list_all(Prefix::Shards).await.unwrap();
    listed.sort();
    assert_eq!(listed, [Listed { key: shard(3), length: 3_000_000 }, Listed { key: shard(4), length: 0 }]);
    assert_eq!(site.list_all(Prefix::ShardsOf(4)).await.unwrap(), [Listed { key: shard(4), length: 0 }]);
    assert_eq!(site.list_all(Prefix::Lists).await.unwrap(), []);
    assert!(site.delete(&shard(3)).await.unwrap());
    assert!(!site.delete(&shard(3)).await.unwrap());
    assert!(site.get(&shard(3)).await.unwrap_err().is_not_found());

    let error = site.put(&shard(4), bytes.slice(..10)).await.unwrap_err();
    assert!(error.is_exists() && site.state().can_write(), "{error:?}");
}

#[tokio::test]
async fn each_reason_to_be_down_is_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    assert!(matches!(*reason(&path("absent")).await, DownReason::Absent { .. }));
    assert!(!path("absent").exists(), "looking for a site makes nothing");
    fs::write(path("file"), b"").unwrap();
    assert!(matches!(*reason(&path("file")).await, DownReason::NotAFolder { .. }));
    fs::create_dir(path("empty")).unwrap();
    assert!(matches!(*reason(&path("empty")).await, DownReason::NoMarker { .. }));
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    assert!(matches!(*reason(&path("dangling")).await, DownReason::Absent { .. }));

    new_site(&path("two"), 2).await;
    let other = reason(&path("two")).await;
    assert!(matches!(&*other, DownReason::OtherSite { name, .. } if name.as_str() == "site-2"));
    let foreign = Marker { vault: VaultId::new([8; 32]), ..marker(1) };
    Site::create(&spec(&path("foreign")), &foreign, Patience::default()).await.unwrap();
    assert!(matches!(*reason(&path("foreign")).await, DownReason::OtherVault { .. }));
    let found = Site::open(&spec(&path("foreign")), Expected::Any, Patience::default()).await.unwrap();
    assert_eq!((found.vault(), found.id()), (foreign.vault, foreign.site));

    for (name, bytes) in [("cut", &marker(1).encode()[..40]), ("zero", &b""[..]), ("other", &b"hello, world"[..])] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("site"), bytes).unwrap();
        assert!(matches!(*reason(&path(name)).await, DownReason::BadMarker(_)), "{name}");
    }
    fs::create_dir(path("huge")).unwrap();
    fs::File::create(path("huge").join("site")).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(*reason(&path("huge")).await, DownReason::Failed { .. }));
    fs::create_dir(path("pipe")).unwrap();
    pipe(&path("pipe").join("site"));
    assert!(matches!(*reason(&path("pipe")).await, DownReason::Failed { .. }));
    assert_eq!(reason(&path("absent")).await.remedy(), Remedy::BringBack);
    assert_eq!(reason(&path("two")).await.remedy(), Remedy::RecreateOrCorrect);
}

#[tokio::test]
async fn a_site_is_made_only_where_nothing_is() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let create = async |name: &str| Site::create(&spec(&path(name)), &marker(1), Patience::default()).await;

    create("new").await.unwrap();
    assert!(matches!(create("new").await, Err(CreateError::Taken { marker: found, .. }) if *found == marker(1)));
    fs::create_dir_all(path("fresh/lost+found")).unwrap();
    create("fresh").await.unwrap();
    fs::create_dir_all(path("killed/.tmp")).unwrap();
    fs::write(path("killed/.tmp").join("0".repeat(32)), b"half").unwrap();
    create("killed").await.unwrap();
    fs::create_dir(path("real")).unwrap();
    std::os::unix::fs::symlink(path("real"), path("link")).unwrap();
    let site = create("link").await.unwrap();
    site.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
    assert!(path("real").join(list_key(1).path()).exists());

    for mine in ["mine/notes.txt", "mine2/.tmp/notes.txt"] {
        fs::create_dir_all(path(mine).parent().unwrap()).unwrap();
        fs::write(path(mine), b"").unwrap();
        let folder = mine.split('/').next().unwrap();
        assert!(matches!(create(folder).await, Err(CreateError::NotEmpty { .. })), "{mine}");
        assert!(!path(folder).join("site").exists());
    }
    fs::write(path("file"), b"").unwrap();
    assert!(matches!(create("file").await, Err(CreateError::NotAFolder { .. })));
    assert!(matches!(create("no/parent").await, Err(CreateError::NoParent { .. })));
    assert!(matches!(create("file/below").await, Err(CreateError::NoParent { .. })));
}

#[tokio::test]
async fn a_lost_site_is_made_again_and_a_foreign_one_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let recreate = async |number| Site::recreate(&spec(&path), &marker(number), Patience::default()).await;
    recreate(1).await.unwrap();
    fs::remove_dir_all(&path).unwrap();
    recreate(1).await.unwrap().put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(recreate(1).await.unwrap().get(&list_key(1)).await.unwrap(), "x", "one that is there is only opened");
    assert!(matches!(recreate(2).await, Err(CreateError::Down(_))));
    fs::remove_file(path.join("site")).unwrap();
    assert!(matches!(recreate(1).await, Err(CreateError::NotEmpty { .. })), "objects without a marker are not ours");
}

/// An unmounted disk leaves an empty folder: that is no site without objects, and nothing is written there.
#[tokio::test]
async fn a_site_that_loses_its_marker_is_down_not_empty() {
    for call in 0..6 {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a");
        let site = new_site(&path, 1).await;
        site.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
        fs::rename(&path, scratch.path().join("gone")).unwrap();
        fs::create_dir(&path).unwrap();
        if call > 2 {
            fs::remove_file(scratch.path().join("gone/site")).unwrap();
        }
        let error = match call {
            0 => site.get(&list_key(1)).await.unwrap_err(),
            1 => site.stat(&list_key(1)).await.unwrap_err(),
            2 => site.list_all(Prefix::Lists).await.unwrap_err(),
            3 => site.put(&list_key(2), Bytes::from_static(b"y")).await.unwrap_err(),
            4 => site.delete(&list_key(1)).await.unwrap_err(),
            _ => site.sweep(SystemTime::now(), DAY).await.unwrap_err(),
        };
        assert!(matches!(&error.cause, Cause::Down(why) if matches!(**why, DownReason::NoMarker { .. })), "{error:?}");
        assert!(!site.state().can_read());
        assert!(scratch.path().join("gone").join(list_key(1).path()).exists());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_is_no_object_is_refused_before_it_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    let at = |key: ObjectKey| path.join(key.path());
    fs::create_dir(path.join("lists")).unwrap();
    pipe(&at(list_key(1)));
    fs::create_dir(at(list_key(2))).unwrap();
    fs::File::create(at(list_key(3))).unwrap().set_len(1 << 40).unwrap();
    for number in [1, 2] {
        let error = site.get(&list_key(number)).await.unwrap_err();
        assert!(matches!(error.cause, Cause::NotAFile), "{error:?}");
    }
    assert!(matches!(site.get(&list_key(3)).await.unwrap_err().cause, Cause::TooLong { .. }));
    assert!(matches!(site.get_range(&list_key(3), 0..1 << 40).await.unwrap_err().cause, Cause::TooLong { .. }));
    let long = Bytes::from(vec![0; 70 * 1024]);
    assert!(matches!(site.put(&list_key(4), long).await.unwrap_err().cause, Cause::TooLong { .. }));
    site.put(&list_key(5), Bytes::from_static(b"0123456789")).await.unwrap();
    assert!(matches!(site.get_range(&list_key(5), 5..11).await.unwrap_err().cause, Cause::Short { end: 11 }));
    assert!(matches!(site.get_range(&list_key(5), 20..30).await.unwrap_err().cause, Cause::Short { end: 30 }));
    assert!(site.state().can_write(), "none of this is the site's fault");
}

#[tokio::test]
async fn a_file_where_a_folder_should_be_spoils_only_what_is_below() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    fs::write(path.join("shards"), b"").unwrap();
    assert_eq!(site.stat(&shard(1)).await.unwrap(), None);
    assert_eq!(site.list_all(Prefix::Shards).await.unwrap(), []);
    assert!(matches!(site.put(&shard(1), Bytes::new()).await.unwrap_err().cause, Cause::Disk { .. }));
    assert!(site.state().can_write());
    site.put(&list_key(1), Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn a_listing_comes_in_pages_and_leaves_strangers_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    fs::create_dir(path.join("lists")).unwrap();
    for number in 0..2500 {
        fs::write(path.join(list_key(number).path()), vec![0; usize::try_from(number % 7).unwrap()]).unwrap();
    }
    let hex = list_key(1).path();
    for stranger in ["lists/notes.txt".to_owned(), format!("{hex}x"), hex.replace("lists/", "lists/A")] {
        fs::write(path.join(stranger), b"").unwrap();
    }
    fs::create_dir(path.join("lists/folder")).unwrap();
    fs::write(path.join("lists/folder/notes.txt"), b"").unwrap();
    pipe(&path.join(list_key(5000).path()));

    let mut listing = site.list(Prefix::Lists);
    let mut pages = Vec::new();
    while let Some(page) = listing.next_page().await.unwrap() {
        pages.push(page);
    }
    assert!(pages.len() == 3 && pages.iter().all(|page| page.len() <= 1000), "{:?}", pages.iter().map(Vec::len));
    assert_eq!(listing.strangers(), 5);
    let mut all = pages.concat();
    all.sort();
    let expected: Vec<_> = (0..2500).map(|number| Listed { key: list_key(number), length: number % 7 }).collect();
    assert_eq!(all, expected);
    assert!(listing.next_page().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_all_come_through() {
    let scratch = tempfile::tempdir().unwrap();
    let site = new_site(&scratch.path().join("a"), 1).await;
    let calls = (0..200_u64).map(async |call| {
        let key = list_key(call % 50);
        let bytes = Bytes::from((call % 50).to_be_bytes().repeat(100));
        site.put(&key, bytes.clone()).await.unwrap();
        assert_eq!(site.get(&key).await.unwrap(), bytes);
    });
    join_all(calls).await;
    assert_eq!(site.list_all(Prefix::Lists).await.unwrap().len(), 50);
    assert!(site.state().can_write());
}

#[tokio::test]
async fn a_sweep_takes_leftovers_of_yesterday() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    fs::write(path.join(".tmp").join("0".repeat(32)), b"half").unwrap();
    assert_eq!(site.sweep(SystemTime::now(), DAY).await.unwrap(), Swept { removed: 0, kept: 1 });
    assert_eq!(site.sweep(SystemTime::now() + 2 * DAY, DAY).await.unwrap(), Swept { removed: 1, kept: 0 });
}

#[tokio::test]
async fn a_probe_reports_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let site = new_site(&path, 1).await;
    let report = site.probe().await.unwrap();
    assert!(report.keeps_promises(), "{report:?}");
    assert!(Some(0) < report.free_bytes && report.free_bytes <= report.total_bytes);
    assert_eq!(report.caveats(), Vec::<&str>::new());
    assert_eq!(fs::read_dir(path.join(".tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "the marker and .tmp");
}
