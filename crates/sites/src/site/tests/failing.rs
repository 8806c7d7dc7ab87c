//! Sites whose storage hangs or fails: what it costs, what is tried again, and what is said.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::disk::DiskCall;

/// More writers than a site takes at once hang with it; all are told within one deadline, and no thread is added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_hangs_costs_one_deadline() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, _) = faulty_site(&scratch.path().join("a"), 1).await;
    disk.stall();
    let begun = Instant::now();
    let key = |number: usize| list_key(number as u64);
    let puts = (0..3 * SITE_CONCURRENCY).map(|number| {
        let site = site.clone();
        async move { site.put(&key(number), Bytes::from_static(b"x")).await.unwrap_err() }
    });
    let errors = join_all(puts).await;
    let took = begun.elapsed();
    let hung = errors.iter().filter(|error| matches!(error.cause, Cause::Deadline { .. })).count();
    assert!((1..=SITE_CONCURRENCY).contains(&hung), "{hung}");
    assert!(errors.iter().all(SiteError::is_down));
    assert!(took < 3 * impatient().deadline(1), "{took:?}");
    assert!(matches!(site.state(), SiteState::Down(why) if matches!(*why, DownReason::Deadline { .. })));
    assert!(site.get(&list_key(1)).await.unwrap_err().is_down(), "it is not asked again");
    disk.release();
}

/// Others had what was asked, so the reads were given up while they hung. Whoever asks after that must not wait for ever behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_were_given_up_keep_no_turn() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, _) = faulty_site(&scratch.path().join("a"), 1).await;
    site.put(&list_key(1), Bytes::from_static(b"bytes")).await.unwrap();
    disk.stall();
    for _ in 0..2 * SITE_CONCURRENCY {
        let given_up = tokio::time::timeout(Duration::from_millis(20), site.get_range(&list_key(1), 0..5)).await;
        assert!(given_up.is_err(), "it hangs");
    }
    let key = list_key(2);
    let put = site.put(&key, Bytes::from_static(b"x"));
    let told = tokio::time::timeout(10 * impatient().deadline(1), put).await;
    disk.release();
    let error = told.expect("whoever waits is told in time").unwrap_err();
    assert!(matches!(error.cause, Cause::Deadline { .. }), "{error:?}");
}

#[tokio::test]
async fn a_read_that_hangs_ends_with_its_deadline() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, _, faults) = faulty_site(&scratch.path().join("a"), 1).await;
    faults.hanging.store(true, Ordering::SeqCst);
    let error = site.get(&list_key(1)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Deadline { .. }) && error.is_down());
}

#[tokio::test]
async fn passing_errors_are_tried_again_three_times() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, faults) = faulty_site(&scratch.path().join("a"), 1).await;
    disk.fail(DiskCall::SyncFile, Errno::AGAIN.raw_os_error(), 3);
    site.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
    faults.failing.store(3, Ordering::SeqCst);
    assert_eq!(site.get(&list_key(1)).await.unwrap(), "x");

    let before = faults.calls.load(Ordering::SeqCst);
    faults.failing.store(100, Ordering::SeqCst);
    let error = site.get(&list_key(1)).await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    assert_eq!(faults.calls.load(Ordering::SeqCst) - before, 4, "once, and three times again");
    assert!(!site.state().can_read());
}

#[tokio::test]
async fn a_failed_sync_ends_writing_and_not_reading() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, _) = faulty_site(&scratch.path().join("a"), 1).await;
    site.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap();
    disk.fail(DiskCall::SyncFolder, Errno::IO.raw_os_error(), 1);
    assert!(site.put(&list_key(2), Bytes::from_static(b"y")).await.is_err());
    assert!(matches!(site.put(&list_key(3), Bytes::new()).await.unwrap_err().cause, Cause::Closed(_)));
    assert!(!site.state().can_write());
    assert_eq!(site.get(&list_key(1)).await.unwrap(), "x");
}

#[tokio::test]
async fn storage_that_went_away_takes_the_site_down() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, _) = faulty_site(&scratch.path().join("a"), 1).await;
    disk.fail(DiskCall::CreateNew, Errno::STALE.raw_os_error(), 1);
    site.put(&list_key(1), Bytes::new()).await.unwrap_err();
    assert!(matches!(site.state(), SiteState::Down(why) if why.remedy() == Remedy::BringBack));
}

/// The chain of causes names the site, the object and the failure, each once.
#[tokio::test]
async fn errors_name_site_object_and_cause() {
    let scratch = tempfile::tempdir().unwrap();
    let (site, disk, _) = faulty_site(&scratch.path().join("a"), 1).await;
    disk.fail(DiskCall::Write, Errno::NOSPC.raw_os_error(), 1);
    let error = site.put(&list_key(1), Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("site `a` could not write {}", list_key(1)));
    assert_eq!(error.cause.to_string(), "could not write its bytes");
    let source = std::error::Error::source(&error.cause).unwrap();
    assert!(source.to_string().starts_with("No space left"), "{source}");
}
