//! The old host backs up while `recover` runs: of every snapshot that the handover cuts off somebody hears, and it can be got back.
//!
//! What was seen: a backup ended with exit code 0 between the reading of the chains and the handover. The recovered vault lacked the
//! snapshot, nobody was told, and neither `--expect` nor `--fingerprint` got it back.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_sites::ObjectKey;
use blockhouse_vault::backup::BackupError;
use blockhouse_vault::recover::{ChainState, RecoverError, recover};
use blockhouse_vault::vault::Vault;

use crate::support::World;

/// The last moment: after all that `recover` asks, right before its handover is sealed. It is told, and the receipt brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_the_handover_cuts_off_is_named_and_can_be_got_back() {
    let world = Arc::new(World::with_backup().await);
    let old = Arc::clone(&world);
    let settings = world.between("new", || true, async move { old.try_back_up("vault").await.unwrap() });
    let report = recover(world.request("new", &world.specs()), &world.unlocked(), settings).await.unwrap();
    let acknowledged = world.snapshots("vault").await;
    assert_eq!((acknowledged.len(), report.snapshots), (2, 1), "the old host acknowledged one more");
    assert_eq!(report.left_out.iter().map(|left| left.snapshot).collect::<Vec<_>>(), acknowledged[1..]);
    world.try_back_up("new").await.unwrap();

    // The same is told by every later recovery, for the site still shows it.
    let again = world.recover(world.request("again", &world.specs())).await.unwrap();
    assert_eq!(again.left_out, report.left_out);

    let mut request = world.request("whole", &world.specs());
    request.expect = Some(world.receipt("vault").await);
    let refused = world.recover(request.clone()).await.unwrap_err();
    let RecoverError::Outdone { handovers: 0, others: 2, chains } = refused else { panic!("{refused:?}") };
    assert!(chains.iter().any(|chain| matches!(chain.state, ChainState::Fork { .. })), "{chains:?}");
    request.prefer_expected = true;
    let whole = world.recover(request).await.unwrap();
    assert_eq!(world.snapshots("whole").await, acknowledged);
    assert_eq!(whole.left_out.len(), 1, "what the other host recorded is named in turn: {:?}", whole.left_out);
    world.try_back_up("whole").await.unwrap();
    for outdone in ["vault", "new", "again"] {
        let refused = world.try_back_up(outdone).await.unwrap_err();
        assert!(refused.contains("HandedOver"), "{outdone}: {refused}");
    }
}

/// Between the reading of the chains and the handover: they are read again, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_grew_since_it_was_read_is_read_again() {
    let world = Arc::new(World::with_backup().await);
    // Held, this lock keeps `recover` from making its ledger; it has read the chains by then.
    fs::create_dir(world.path("new")).unwrap();
    let held = fs::File::open(world.path("new")).unwrap();
    held.lock().unwrap();
    let recovering = Arc::clone(&world);
    let recovered =
        tokio::spawn(async move { recovering.recover(recovering.request("new", &recovering.specs())).await });
    while !world.path("new/.making").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.try_back_up("vault").await.unwrap();
    drop(held);
    let report = recovered.await.unwrap().unwrap();
    assert_eq!((report.snapshots, report.left_out.len()), (2, 0));
    assert_eq!(world.snapshots("new").await, world.snapshots("vault").await);
    assert!(world.try_back_up("vault").await.unwrap_err().contains("HandedOver"));
    world.try_back_up("new").await.unwrap();
}

/// The whole of `recover` runs after the old host has asked for handovers and before its block is at a site: the snapshot is not
/// acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_host_acknowledges_nothing_on_a_ledger_that_was_taken_over() {
    let world = Arc::new(World::with_backup().await);
    let (at_site, new) = (world.path("sites/s1/snapshots"), Arc::clone(&world));
    let recovering = async move {
        let report = new.recover(new.request("new", &new.specs())).await.unwrap();
        assert_eq!((report.snapshots, report.left_out.len()), (1, 0), "nobody could know of it yet");
    };
    // The description is at the sites: the next block is that of the commit.
    let settings = world.between("vault", move || fs::read_dir(&at_site).unwrap().count() == 2, recovering);
    let vault = Vault::open(world.folder("vault"), settings).await.unwrap();
    fs::write(world.path("data/file"), "new").unwrap();
    let refused = world.back_up_open(&vault, Vec::new()).await.unwrap_err();
    let BackupError::TakenOver { snapshot, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(
        world.snapshots("vault").await[1],
        snapshot,
        "it is on the old host's ledger, from which a receipt can be made"
    );
    world.try_back_up("new").await.unwrap();
}

/// A handover stops the old host from the moment its block is at a site, though its marker is not there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_handover_without_its_marker_stops_the_old_host() {
    let world = World::with_backup().await;
    let vault = world.open().await;
    let before = vault.standing().await.unwrap();
    world.recover(world.request("new", &world.specs())).await.unwrap();
    // As between the copying of the handover's block and the writing of the marker.
    let handover = world
        .open_at("new")
        .await
        .home()
        .own_copy()
        .unwrap()
        .block_objects(before.height + 1, 1)
        .await
        .unwrap()
        .remove(0);
    let marker = ObjectKey::Handover { number: 1, hash: handover.hash() };
    for spec in world.specs() {
        fs::remove_file(spec.url.folder().unwrap().join(marker.path())).unwrap();
    }
    world.take_blocks(|height| height > before.height + 1);
    let refused = world.back_up_open(&vault, Vec::new()).await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("HandedOver { site"), "{refused}");
}

/// Noting the tags fails: the snapshot stands, so its id and receipt are told, and the failure beside them.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_the_snapshot_stands_is_a_warning() {
    let world = World::with_backup().await;
    let vault = world.open().await;
    // In the way of every change of the configuration.
    fs::create_dir(world.path(&format!("vault/.config.toml.{}.new", std::process::id()))).unwrap();
    let report = world.back_up_open(&vault, vec!["kind=daily".to_owned()]).await.unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert_eq!(world.snapshots("vault").await[1], report.snapshot);
}
