use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use blockhouse_types::ListHash;

use super::*;
use crate::site::tests::{faulty_site, marker, new_site, spec};

const KEY: ObjectKey = ObjectKey::List(ListHash::new([1; 32]));

fn enrolled(path: &Path, number: u8) -> Enrolled {
    Enrolled { spec: spec(path), expected: Expected::from(&marker(number)) }
}

async fn three(root: &Path) -> Sites {
    let mut all = Vec::new();
    for number in 0..3 {
        let path = root.join(format!("site-{number}"));
        new_site(&path, number).await;
        all.push(enrolled(&path, number));
    }
    Sites::open_all(&all, Patience::default()).await
}

fn is_good(bytes: &[u8]) -> bool {
    bytes == b"good"
}

#[tokio::test]
async fn sites_are_opened_together_whatever_their_state() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    new_site(&path("one"), 1).await;
    new_site(&path("three"), 3).await;
    let all = [enrolled(&path("one"), 1), enrolled(&path("two"), 2), enrolled(&path("three"), 4)];
    let sites = Sites::open_all(&all, Patience::default()).await;
    assert_eq!(sites.up().map(|(number, _)| number).collect::<Vec<_>>(), [0]);
    let down: Vec<_> = sites.down().map(|(member, reason)| (member.name().to_string(), reason)).collect();
    assert!(matches!((down[0].0.as_str(), &*down[0].1), ("two", DownReason::Absent { .. })));
    assert!(matches!((down[1].0.as_str(), &*down[1].1), ("three", DownReason::OtherSite { .. })));
    assert!(sites.by_id(marker(1).site).is_some() && sites.by_id(marker(2).site).is_none());
    assert_eq!(sites.members()[1].id(), Some(marker(2).site));
    let domains = sites.domains();
    assert!(domains[0].device.is_some() && domains[1].device.is_none());
}

/// A site that was away for a moment, and turns out to be needed.
#[tokio::test]
async fn those_that_were_spared_are_asked_again_once() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for number in [1, 2] {
        new_site(&path(&format!("site-{number}")), number).await;
    }
    let all = [enrolled(&path("site-1"), 1), enrolled(&path("site-2"), 2)];
    fs::rename(path("site-2"), path("away")).unwrap();
    let (sparing, needing) = (
        Sites::open_sparing(&all, Patience::default(), Spare::new(1)).await,
        Sites::open_all(&all, Patience::default()).await,
    );
    assert!(!sparing.ask_spared_again().await, "it is still away");
    let later = Sites::open_sparing(&all, Patience::default(), Spare::new(1)).await;
    fs::rename(path("away"), path("site-2")).unwrap();
    assert!(!sparing.ask_spared_again().await && sparing.by_id(marker(2).site).is_none(), "it was asked again");
    assert!(later.ask_spared_again().await && later.by_id(marker(2).site).is_some());
    assert!(!needing.ask_spared_again().await, "it had its whole budget");
    assert_eq!((later.down().count(), needing.down().count()), (0, 1));
}

#[tokio::test]
async fn a_write_everywhere_has_an_outcome_for_each_site() {
    let scratch = tempfile::tempdir().unwrap();
    let sites = three(scratch.path()).await;
    fs::remove_dir_all(scratch.path().join("site-1")).unwrap();
    sites.up().nth(2).unwrap().1.put(&KEY, Bytes::from_static(b"good")).await.unwrap();
    let outcomes = sites.put_everywhere(&KEY, &Bytes::from_static(b"good")).await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.member).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(*outcomes[0].result.as_ref().unwrap(), Put::Written);
    assert!(matches!(&outcomes[1].result, Err(NotDurable::Failed(error)) if error.is_down()));
    assert_eq!(*outcomes[2].result.as_ref().unwrap(), Put::AlreadyThere);
    assert_eq!(sites.down().count(), 1);
}

#[tokio::test]
async fn a_read_goes_on_until_a_copy_is_good() {
    let scratch = tempfile::tempdir().unwrap();
    let sites = three(scratch.path()).await;
    assert!(sites.get_any(&KEY, is_good).await.unwrap_err().is_not_found());
    let put = async |number: usize, bytes: &'static [u8]| {
        sites.members()[number].writable().unwrap().put(&KEY, Bytes::from_static(bytes)).await.unwrap();
    };
    put(1, b"evil").await;
    let error = sites.get_any(&KEY, is_good).await.unwrap_err();
    assert!(!error.is_not_found(), "a bad copy is not an absent one: {error:?}");
    put(2, b"good").await;
    let fetched = sites.get_any(&KEY, is_good).await.unwrap();
    assert_eq!((fetched.member, fetched.bytes.as_ref()), (2, b"good".as_slice()));
    let bad: Vec<_> = fetched.refused.iter().filter(|refusal| refusal.error.is_none()).collect();
    assert_eq!(bad.iter().map(|refusal| refusal.member).collect::<Vec<_>>(), [1]);
    assert!(matches!(Sites::of(Vec::new()).get_any(&KEY, is_good).await, Err(FetchError::NoSite { .. })));
}

/// The first site hangs; the answer of the second comes long before the first one's deadline.
#[tokio::test]
async fn a_slow_site_does_not_hold_up_a_read() {
    let scratch = tempfile::tempdir().unwrap();
    let (slow, _, faults) = faulty_site(&scratch.path().join("slow"), 1).await;
    let fast = new_site(&scratch.path().join("fast"), 2).await;
    fast.put(&KEY, Bytes::from_static(b"good")).await.unwrap();
    faults.hanging.store(true, Ordering::SeqCst);
    let sites = Sites::of(vec![slow, fast]);
    let begun = Instant::now();
    assert_eq!(sites.get_any(&KEY, is_good).await.unwrap().member, 1);
    assert!(begun.elapsed() >= HEDGE_DELAY);
    assert!(sites.members()[0].state().can_read(), "a read that was given up says nothing about the site");
}

/// Hanging sites hang side by side: all of them together cost one deadline, and the others are done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_sites_cost_a_write_one_deadline() {
    let scratch = tempfile::tempdir().unwrap();
    let mut all = vec![new_site(&scratch.path().join("fast"), 0).await];
    let mut disks = Vec::new();
    for number in 1..6 {
        let (site, disk, _) = faulty_site(&scratch.path().join(format!("slow-{number}")), number).await;
        disk.stall();
        all.push(site);
        disks.push(disk);
    }
    let sites = Sites::of(all);
    let begun = Instant::now();
    let outcomes = sites.put_everywhere(&KEY, &Bytes::from_static(b"good")).await;
    assert!(begun.elapsed().as_secs() < 4, "five deadlines one after the other are ten seconds");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.result.is_ok()).count(), 1);
    assert_eq!(sites.down().count(), 5);
    for disk in disks {
        disk.release();
    }
}
