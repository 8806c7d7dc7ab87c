//! The embedded home: sealing, importing, healing, handovers, and several processes at once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, TxKind};
use blockhouse_homes::store::Access;
use blockhouse_homes::{Embedded, HomeError, Options, Sealer, Store, StoreError};
use blockhouse_ledger::receipt::Receipt;
use blockhouse_ledger::time::{AHEAD_MAX_SECONDS, BlockTime, Clock};
use blockhouse_ledger::{BlockObject, BlockPlace, Certificate, ForkEvidence, build};
use blockhouse_types::SnapshotId;
use support::{START, World, account, genesis, hand_over, ledger_key, options};

async fn objects(world: &World) -> Vec<BlockObject> {
    world.home.block_objects(0, usize::MAX).await.unwrap()
}

fn rename_away(path: &Path) {
    std::fs::rename(path, path.with_extension("gone")).unwrap();
}

#[tokio::test]
async fn a_copy_taken_after_any_block_opens_at_that_block() {
    let world = World::with_writer().await;
    let mut copies = Vec::new();
    for nonce in 0..6 {
        let sealed = world.session(nonce).await;
        let copy = world.folder.path().join(format!("copy-{nonce}"));
        std::fs::copy(world.path(), &copy).unwrap();
        copies.push((copy, sealed));
    }
    for (copy, sealed) in copies {
        let home = Embedded::new(options(&copy, &world.clock));
        assert_eq!(home.standing().await.unwrap().hash, sealed.hash);
        let objects = home.block_objects(sealed.height, 1).await.unwrap();
        assert_eq!(objects, vec![sealed.object]);
    }
}

/// A copy by a tool that knows nothing of locks holds a block of the chain, or is known to be damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_while_blocks_are_sealed_is_never_wrong() {
    let world = World::with_writer().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (path, folder, ended) = (world.path(), world.folder.path().to_owned(), Arc::clone(&stop));
    let copier = std::thread::spawn(move || {
        let mut count = 0;
        while !ended.load(Ordering::SeqCst) && count < 200 {
            std::fs::copy(&path, folder.join(format!("copy-{count}"))).unwrap();
            count += 1;
        }
        count
    });
    for nonce in 0..40 {
        world.session(nonce).await;
    }
    stop.store(true, Ordering::SeqCst);
    let count = copier.join().unwrap();
    let chain: Vec<_> = objects(&world).await.iter().map(|object| B256::new(object.hash().to_bytes())).collect();
    let mut opened = 0;
    for number in 0..count {
        let copy = world.folder.path().join(format!("copy-{number}"));
        match Store::open(&copy, Access::Read, Duration::ZERO, None) {
            Ok(store) => {
                opened += 1;
                assert_eq!(chain[usize::try_from(store.height()).unwrap()], store.head().hash());
            }
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}"),
        }
    }
    assert!(opened > 0, "of {count} copies some were taken between two blocks");
}

#[tokio::test]
async fn a_crash_between_build_and_append_leaves_the_old_head() {
    let world = World::with_writer().await;
    let before = world.home.standing().await.unwrap();
    let store = Store::open(&world.path(), Access::Write, Duration::ZERO, None).unwrap();
    let time = BlockTime::of_seconds(store.head().header().timestamp + 1);
    let built = build(store.genesis(), store.head().header(), &store, Vec::new(), time).unwrap();
    assert_eq!(built.block.header.number, before.height + 1);
    drop(store);
    assert_eq!(world.another().standing().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_store_is_waited_for_and_then_busy() {
    let world = World::with_writer().await;
    let held = Store::open(&world.path(), Access::Write, Duration::ZERO, None).unwrap();
    let hasty = Embedded::new(Options { wait: Duration::from_millis(100), ..options(&world.path(), &world.clock) });
    let refused = hasty.standing().await.unwrap_err();
    assert!(matches!(refused, HomeError::Store(StoreError::Busy { .. })), "{refused:?}");
    let patient = tokio::spawn({
        let home = world.another();
        async move { home.standing().await }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(patient.await.unwrap().unwrap().height, 2);
}

#[tokio::test]
async fn readers_share_the_store() {
    let world = World::with_writer().await;
    let first = Store::open(&world.path(), Access::Read, Duration::ZERO, None).unwrap();
    let second = Store::open(&world.path(), Access::Read, Duration::ZERO, None).unwrap();
    assert_eq!(first.block(2).unwrap().hash, second.block(2).unwrap().hash);
    let refused = Store::open(&world.path(), Access::Write, Duration::ZERO, None).unwrap_err();
    assert!(matches!(refused, StoreError::Busy { .. }), "{refused:?}");
}

/// Two handles as two processes: each sees what the other sealed, and no block is lost.
#[tokio::test(flavor = "multi_thread")]
async fn two_sealers_take_turns() {
    let world = World::with_writer().await;
    let (one, two) = (world.home.clone(), world.another());
    let clocks = [Arc::clone(&world.clock), Arc::clone(&world.clock)];
    let [first_clock, second_clock] = clocks;
    let owner = |nonce| {
        let to = TxKind::Call(genesis().access_address());
        support::sign(&account(1), nonce, to, support::enrol(&account(100 + u8::try_from(nonce).unwrap())), 1_000_000)
    };
    let first = tokio::spawn(async move {
        for nonce in 0..15 {
            first_clock.fetch_add(2, Ordering::SeqCst);
            one.seal(vec![support::open_session(nonce)]).await.unwrap();
        }
    });
    let second = tokio::spawn(async move {
        for nonce in 4..19 {
            second_clock.fetch_add(2, Ordering::SeqCst);
            two.seal(vec![owner(nonce)]).await.unwrap();
        }
    });
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(world.home.standing().await.unwrap().height, 2 + 30);
    let fresh = Embedded::new(options(&world.folder.path().join("other.redb"), &world.clock));
    assert_eq!(fresh.rebuild_from(objects(&world).await).await.unwrap().imported.height, 32);
}

#[tokio::test]
async fn the_clock_of_the_host_is_judged() {
    let world = World::with_writer().await;
    let height = world.home.standing().await.unwrap().height;
    for strange in [START - 86_400, START + AHEAD_MAX_SECONDS * 2] {
        world.clock.store(strange, Ordering::SeqCst);
        let refused = world.home.seal(vec![support::open_session(0)]).await.unwrap_err();
        assert!(matches!(refused, HomeError::Clock(_)), "{refused:?}");
    }
    assert_eq!(world.home.standing().await.unwrap().height, height);
    let accepting = Options { clock_rule: Clock::Accepted, ..options(&world.path(), &world.clock) };
    assert_eq!(Embedded::new(accepting).seal(vec![support::open_session(0)]).await.unwrap().height, height + 1);
}

/// More blocks than seconds: after ten the home waits for the clock instead of refusing.
#[tokio::test(flavor = "multi_thread")]
async fn sealing_faster_than_the_clock_is_paced() {
    let world = World::with_writer().await;
    let clock = Arc::clone(&world.clock);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let ticking = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            clock.fetch_add(1, Ordering::SeqCst);
        }
    });
    let height = world.home.standing().await.unwrap().height;
    for nonce in 0..30 {
        world.home.seal(vec![support::open_session(nonce)]).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    ticking.join().unwrap();
    assert_eq!(world.home.standing().await.unwrap().height, height + 30);
}

#[tokio::test]
async fn the_guard_is_asked_with_the_store_closed_and_can_refuse() {
    let world = World::with_writer().await;
    let path = world.path();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let guarded = Embedded::new(Options {
        before_seal: Some(Arc::new(move |standing| {
            // Opening to write succeeds only if nobody holds it.
            drop(Store::open(&path, Access::Write, Duration::ZERO, None).unwrap());
            let asked = count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                assert_eq!(standing.height, 2 + asked);
                if asked == 0 { Ok(()) } else { Err("an unknown handover".into()) }
            })
        })),
        ..options(&world.path(), &world.clock)
    });
    guarded.seal(vec![support::open_session(0)]).await.unwrap();
    let refused = guarded.seal(vec![support::open_session(1)]).await.unwrap_err();
    assert!(matches!(refused, HomeError::Guard { height: 3, .. }), "{refused:?}");
    assert_eq!(world.home.standing().await.unwrap().height, 3);
}

#[tokio::test]
async fn after_a_handover_the_old_host_seals_no_more() {
    let world = World::with_writer().await;
    let sealed = world.session(0).await;
    let before = world.home.standing().await.unwrap();
    let new_host =
        Embedded::new(Options { sealer: Sealer::Key(ledger_key(50)), ..options(&world.path(), &world.clock) });
    let early = new_host.seal(vec![support::open_session(1)]).await.unwrap_err();
    assert!(matches!(early, HomeError::HandedOver { .. }), "the new key is not in force yet: {early:?}");

    world.tick(5);
    let handover = new_host.seal(vec![hand_over(0, ledger_key(50).public(), before.hash)]).await.unwrap();
    let after = new_host.standing().await.unwrap();
    assert_ne!(after.fingerprint, before.fingerprint);
    assert_eq!(after.keys.handovers()[0].height, handover.height);
    assert_eq!((after.keys.at(3), after.keys.at(4)), (ledger_key(9).public(), ledger_key(50).public()));

    world.tick(5);
    let refused = world.home.seal(vec![support::open_session(1)]).await.unwrap_err();
    let expected = (ledger_key(50).public(), ledger_key(9).public());
    assert!(matches!(refused, HomeError::HandedOver { in_force, own } if (in_force, own) == expected), "{refused:?}");
    new_host.seal(vec![support::open_session(1)]).await.unwrap();

    // Evidence from before the handover: afresh by the new key, or by the headers up to the handover.
    let fresh = new_host.evidence(sealed.transactions[0]).await.unwrap();
    assert!(fresh.descendants.is_empty());
    let old = world.home.evidence(sealed.transactions[0]).await.unwrap();
    assert_eq!(old.descendants.len(), 1);
    assert_eq!(old.root.ledger_key, ledger_key(50).public());
    let no_commit = Receipt::from_parts(&old.receipt_parts(SnapshotId::new([22; 32]), None));
    assert!(no_commit.is_err(), "the block holds a session, no snapshot");

    let copied = Embedded::new(options(&world.folder.path().join("other.redb"), &world.clock));
    let rebuilt = copied.rebuild_from(objects(&world).await).await.unwrap();
    assert_eq!(rebuilt.imported.height, 5);
    assert_eq!(copied.standing().await.unwrap().fingerprint, after.fingerprint);
}

#[tokio::test]
async fn import_extends_compares_and_refuses() {
    let world = World::with_writer().await;
    let other_folder = tempfile::tempdir().unwrap();
    let path = other_folder.path().join("ledger.redb");
    let other = Embedded::new(options(&path, &world.clock));
    let first = other.rebuild_from(objects(&world).await).await.unwrap();
    assert_eq!((first.imported.added, first.kept), (3, None));

    for nonce in 0..3 {
        world.session(nonce).await;
    }
    let all = objects(&world).await;
    let gap = other.import(vec![all[4].clone()]).await.unwrap_err();
    assert!(matches!(gap, HomeError::Gap { next: 3, found: 4 }), "{gap:?}");

    let mut foreign = all[3].clone();
    foreign.certificate = Certificate::solo(&ledger_key(66), &place(&foreign));
    let refused = other.import(vec![foreign]).await.unwrap_err();
    assert!(matches!(refused, HomeError::Authority { height: 3, .. }), "{refused:?}");

    let mut forged = all[3].clone();
    forged.block.header.gas_used += 1;
    forged.certificate = Certificate::solo(&ledger_key(9), &place(&forged));
    let refused = other.import(vec![forged]).await.unwrap_err();
    assert!(matches!(refused, HomeError::Import { height: 3, .. }), "{refused:?}");
    assert_eq!(other.standing().await.unwrap().height, 2);

    let done = other.import(all.clone()).await.unwrap();
    assert_eq!((done.added, done.height), (3, 5));
    assert_eq!(other.import(all).await.unwrap().added, 0);
    assert_eq!(other.standing().await.unwrap(), world.home.standing().await.unwrap());
}

/// A copy of the vault folder that sealed on its own is a fork, not an extension.
#[tokio::test]
async fn a_certified_other_block_is_a_fork() {
    let world = World::with_writer().await;
    let copy = world.folder.path().join("copy.redb");
    std::fs::copy(world.path(), &copy).unwrap();
    let twin = Embedded::new(options(&copy, &world.clock));
    world.session(0).await;
    world.tick(5);
    twin.seal(vec![support::open_session(0)]).await.unwrap();
    twin.seal(vec![support::open_session(1)]).await.unwrap();
    let theirs = twin.block_objects(0, usize::MAX).await.unwrap();
    let fork = world.home.import(theirs.clone()).await.unwrap_err();
    let HomeError::Fork { height: 3, evidence: Some(file), .. } = &fork else { panic!("{fork:?}") };
    let evidence = ForkEvidence::decode(&std::fs::read(file).unwrap()).unwrap();
    let proved = evidence.check(Some(world.home.standing().await.unwrap().fingerprint)).unwrap();
    assert_eq!((proved.height, proved.signers()), (3, vec![ledger_key(9).public()]));
    let again = world.home.import(theirs.clone()).await.unwrap_err();
    assert_eq!(again.to_string(), fork.to_string(), "one fork has one file");
    let fork = world.home.import(theirs[4..].to_vec()).await.unwrap_err();
    assert!(matches!(fork, HomeError::Fork { height: 3, .. }), "{fork:?}");

    let mut uncertified = theirs[3].clone();
    uncertified.certificate = Certificate::solo(&ledger_key(66), &place(&uncertified));
    let refused = world.home.import(vec![uncertified]).await.unwrap_err();
    assert!(matches!(refused, HomeError::Authority { height: 3, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_missing_or_damaged_store_is_made_anew() {
    let world = World::with_writer().await;
    world.session(0).await;
    let (all, standing) = (objects(&world).await, world.home.standing().await.unwrap());

    rename_away(&world.path());
    assert!(world.home.standing().await.unwrap_err().is_healed_by_replay());
    assert_eq!(world.home.rebuild_from(all.clone()).await.unwrap().kept, None);
    assert_eq!(world.home.standing().await.unwrap(), standing);

    for round in 1..=2 {
        let bad = vec![round; 5000];
        std::fs::write(world.path(), &bad).unwrap();
        assert!(world.home.standing().await.unwrap_err().is_healed_by_replay());
        let kept = world.home.rebuild_from(all.clone()).await.unwrap().kept.unwrap();
        assert!(kept.to_str().unwrap().ends_with(&format!("ledger.redb.damaged-{round}")));
        assert_eq!(std::fs::read(kept).unwrap(), bad);
        assert_eq!(world.another().standing().await.unwrap(), standing);
    }
    world.tick(5);
    assert_eq!(world.home.seal(vec![support::open_session(1)]).await.unwrap().height, 4);
    let names = std::fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().contains("rebuilt")), "nothing half-made is left");
}

#[tokio::test]
async fn a_rebuilding_that_fails_leaves_the_damaged_store_alone() {
    let world = World::with_writer().await;
    let mut all = objects(&world).await;
    std::fs::write(world.path(), b"no store").unwrap();
    let refused = world.home.rebuild_from(all[1..].to_vec()).await.unwrap_err();
    assert!(matches!(refused, HomeError::NoGenesis), "{refused:?}");
    all[2].block.header.timestamp += 1;
    assert!(world.home.rebuild_from(all).await.is_err());
    assert_eq!(std::fs::read(world.path()).unwrap(), b"no store");
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_is_created_once() {
    let world = World::new();
    let again = Embedded::create(&world.path(), &genesis(), &ledger_key(9)).unwrap_err();
    assert!(matches!(again, HomeError::Store(StoreError::Exists { .. })), "{again:?}");
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 1);
    let nowhere = world.folder.path().join("no/such/ledger.redb");
    assert!(Embedded::create(&nowhere, &genesis(), &ledger_key(9)).is_err());
}

#[tokio::test]
async fn a_home_without_a_key_only_reads() {
    let world = World::with_writer().await;
    let reader = Embedded::new(Options { sealer: Sealer::Nobody, ..options(&world.path(), &world.clock) });
    assert_eq!(reader.standing().await.unwrap().height, 2);
    let refused = reader.seal(vec![support::open_session(0)]).await.unwrap_err();
    assert!(matches!(refused, HomeError::NoKey), "{refused:?}");
    let garbage = world.home.seal(vec![vec![1, 2, 3].into()]).await.unwrap_err();
    assert!(matches!(garbage, HomeError::Transaction { index: 0, .. }), "{garbage:?}");
    assert_ne!(Address::ZERO, genesis().vault_address());
}

fn place(object: &BlockObject) -> BlockPlace {
    BlockPlace { chain_id: object.chain_id, height: object.block.header.number, hash: object.hash() }
}
