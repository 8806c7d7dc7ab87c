//! Many events, many snapshots: what the ledger says is read in pages and written in few blocks.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blockhouse_homes::EmbeddedTransport;
use blockhouse_homes::provider::reader_over;
use blockhouse_vault::ledger::{Ledger, LedgerError};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::repair::{RepairRequest, RepairVaultError, repair};
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::World;

/// How often a clock was asked.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// A clock that runs three seconds whenever it is asked, so that no sealing waits for it.
fn hasty() -> Settings {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let clock = Arc::new(move || now + 3 * ASKED.fetch_add(1, Ordering::SeqCst));
    Settings { clock, ..Settings::default() }
}

fn paged(vault: &Vault, logs_max: usize) -> Ledger {
    let transport = EmbeddedTransport::new(vault.home().own_copy().unwrap().clone()).with_logs_max(logs_max);
    Ledger::new(reader_over(transport), &vault.config().ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_longer_than_any_answer_is_read_in_pages() {
    let world = World::with_backup().await;
    for _ in 0..3 {
        world.try_back_up("vault").await.unwrap();
    }
    let vault = world.open().await;
    let history = vault.ledger().history().await.unwrap();
    let mut by_block: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in &history.entries {
        *by_block.entry(entry.block).or_default() += 1;
    }
    let most = by_block.into_values().max().unwrap();
    assert!(history.entries.len() > most);

    let narrow = paged(&vault, most);
    assert_eq!(format!("{:?}", narrow.history().await.unwrap()), format!("{history:?}"));
    let snapshots = vault.ledger().snapshots().await.unwrap();
    assert_eq!(snapshots.len(), 4);
    assert_eq!(format!("{:?}", paged(&vault, 1).snapshots().await.unwrap()), format!("{snapshots:?}"));
    let changes = vault.ledger().recovery_changes().await.unwrap();
    assert!(!changes.is_empty());
    assert_eq!(narrow.recovery_changes().await.unwrap(), changes);

    // A single block that is too long for any answer is told as what it is.
    let refused = paged(&vault, most - 1).history().await.unwrap_err();
    assert!(matches!(refused, LedgerError::LimitExceeded { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_sixty_snapshots_takes_one_block() {
    let world = World::with_backup().await;
    for _ in 1..60 {
        world.try_back_up_with("vault", hasty()).await.unwrap();
    }
    fs::rename(world.path("sites/s1"), world.path("gone")).unwrap();
    let vault = Vault::open(world.folder("vault"), hasty()).await.unwrap();
    let (before, height) = (vault.ledger().snapshots().await.unwrap(), vault.ledger().height().await.unwrap());
    assert_eq!(before.len(), 60);

    let interrupted = Progress::new();
    interrupted.interrupt();
    let refused = repair(&vault, &RepairRequest::default(), &interrupted).await.unwrap_err();
    assert!(matches!(refused, RepairVaultError::Interrupted));
    assert_eq!(vault.ledger().height().await.unwrap(), height);

    repair(&vault, &RepairRequest::default(), &Progress::new()).await.unwrap();
    let after = vault.ledger().snapshots().await.unwrap();
    assert!(before.iter().zip(&after).all(|(before, after)| after.durability.w < before.durability.w));
    assert_eq!(vault.ledger().height().await.unwrap(), height + 1);

    // What did not change is not recorded again.
    repair(&vault, &RepairRequest::default(), &Progress::new()).await.unwrap();
    assert_eq!(vault.ledger().height().await.unwrap(), height + 1);
}
