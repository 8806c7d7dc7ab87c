//! How safe snapshots are now, recorded on the ledger where that is no longer what stands there.
//!
//! - **Owns** what a snapshot survives: the least over its stripes, and no more than its description survives.
//! - **Does not** look at sites: `stripes` and `plain` did.

use blockhouse_sites::ObjectKey;
use blockhouse_types::Durability;

use crate::ledger::{LedgerError, SnapshotRecord};
use crate::lists::{ListReader, ReadList, root_of};
use crate::plain::Whereabouts;
use crate::publish::{capped, copies_survive};
use crate::stripes::{Presence, StripeStore};
use crate::vault::Vault;

/// Records the durability of every snapshot whose recorded one is no longer true. A host without the writer's secrets records
/// nothing.
pub(crate) async fn record(
    vault: &Vault,
    stripes: &StripeStore,
    snapshots: &[SnapshotRecord],
    whereabouts: &Whereabouts,
) -> Result<(), LedgerError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let presence = stripes.presence().await;
    let mut lists = ListReader::new(vault.sites());
    for snapshot in snapshots {
        let now = match lists.read(root_of(snapshot)).await {
            Ok(list) => of_snapshot(snapshot, &list, (stripes, &presence), whereabouts),
            // What cannot be found cannot be restored.
            Err(_) => Durability { d: 0, w: 0, wd: 0 },
        };
        if now != snapshot.durability {
            ledger.record_health(snapshot.id, now).await?;
        }
    }
    Ok(())
}

/// What a snapshot survives: its stripes by what the sites list of them, its description by the sites that hold all of it and
/// every block up to its commit.
fn of_snapshot(
    snapshot: &SnapshotRecord,
    list: &ReadList,
    (stripes, presence): (&StripeStore, &Presence),
    whereabouts: &Whereabouts,
) -> Durability {
    let least = presence.least(list.stripes.iter()).durability.unwrap_or(stripes.plan_durability());
    let (id, version) = (snapshot.id, 0);
    let objects = [ObjectKey::Snapshot(id), ObjectKey::Wraps { snapshot: id, version }];
    // Without its map a reader that has no index key reads nothing, so it is part of the description.
    let objects = objects.into_iter().chain([ObjectKey::Map { snapshot: id, version }]);
    let objects = objects.chain(list.nodes.iter().map(|node| ObjectKey::List(node.hash)));
    let holders = whereabouts.holders(objects, snapshot.block);
    capped(least, copies_survive(&holders, stripes.domains()))
}
