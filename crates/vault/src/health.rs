//! How safe snapshots are now, recorded on the ledger where that is no longer what stands there.
//!
//! - **Owns** what a snapshot survives: the least over its stripes, and no more than its description survives.
//! - **Does not** look at sites: `stripes` and `plain` did.

use std::collections::{BTreeSet, HashMap};

use blockhouse_sites::ObjectKey;
use blockhouse_types::{Durability, ListHash, SnapshotId, StripeId};

use crate::ledger::{LedgerError, SnapshotRecord};
use crate::lists::{self, Node, Step, root_of};
use crate::plain::Whereabouts;
use crate::progress::Progress;
use crate::publish::{capped, copies_survive};
use crate::stripes::{Presence, StripeStore};
use crate::vault::Vault;

/// What cannot be found cannot be restored.
const LOST: Durability = Durability { d: 0, w: 0, wd: 0 };

/// How safe a snapshot is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Health {
    /// The snapshot.
    pub(crate) snapshot: SnapshotId,
    /// What the ledger says of it.
    recorded: Durability,
    /// What it survives now, its stripes by what the sites list of them.
    pub(crate) now: Durability,
    /// What its description survives; none if its stripe list could not be read.
    description: Option<Durability>,
    /// How many of its stripes are among the lost.
    pub(crate) lost_stripes: usize,
}

impl Health {
    /// True if fewer sites than that may vanish with its description.
    pub(crate) fn is_description_below(&self, w: u16) -> bool {
        self.description.is_none_or(|description| description.w < w)
    }

    /// True if no site gives the list of its stripes.
    pub(crate) const fn is_list_lost(&self) -> bool {
        self.description.is_none()
    }
}

/// Where the sites have what snapshots need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) stripes: &'a StripeStore,
    /// The shards.
    pub(crate) presence: &'a Presence,
    /// The plain objects.
    pub(crate) whereabouts: &'a Whereabouts,
    /// Stripes that are known to be lost.
    pub(crate) lost: &'a BTreeSet<StripeId>,
}

/// How safe each of these snapshots is. What their lists share is looked at once.
pub(crate) async fn assess(vault: &Vault, snapshots: &[SnapshotRecord], found: Found<'_>) -> Vec<Health> {
    let mut subtrees: HashMap<ListHash, Subtree> = HashMap::new();
    let mut lists: HashMap<ListHash, Option<Subtree>> = HashMap::new();
    let mut steps = lists::visit(vault.sites(), snapshots.iter().map(root_of).collect());
    while let Some(step) = steps.recv().await {
        match step {
            Step::Leaf(node, stripes) => {
                subtrees.insert(node.hash, Subtree::of_leaf(node, &stripes, found));
            }
            Step::Inner(node, below) => {
                let below = below.iter().filter_map(|hash| subtrees.get(hash));
                let subtree = below.fold(Subtree::of_node(node, found), Subtree::joined);
                subtrees.insert(node.hash, subtree);
            }
            Step::Read(root) => {
                lists.insert(root, subtrees.get(&root).cloned());
            }
            Step::Unread(root, _) => {
                lists.insert(root, None);
            }
        }
    }
    let assessed = snapshots.iter().map(|snapshot| match lists.get(&root_of(snapshot)) {
        Some(Some(list)) => of_snapshot(snapshot, list, found),
        Some(None) => of_unread(snapshot, LOST),
        // The reading was stopped: nothing is known that should be recorded.
        None => of_unread(snapshot, snapshot.durability),
    });
    assessed.collect()
}

fn of_unread(snapshot: &SnapshotRecord, now: Durability) -> Health {
    Health { snapshot: snapshot.id, recorded: snapshot.durability, now, description: None, lost_stripes: 0 }
}

/// What is true of all below a node of a list, it included.
#[derive(Debug, Clone)]
struct Subtree {
    /// The least that its stripes survive; nothing if there are none.
    least: Option<Durability>,
    lost_stripes: usize,
    /// The members that hold all of its nodes.
    holders: BTreeSet<usize>,
}

impl Subtree {
    fn of_node(node: Node, found: Found<'_>) -> Self {
        let holders = found.whereabouts.holders([ObjectKey::List(node.hash)], 0);
        Self { least: None, lost_stripes: 0, holders }
    }

    fn of_leaf(node: Node, stripes: &[StripeId], found: Found<'_>) -> Self {
        Self {
            least: found.presence.least(stripes.iter()).durability,
            lost_stripes: stripes.iter().filter(|stripe| found.lost.contains(stripe)).count(),
            ..Self::of_node(node, found)
        }
    }

    fn joined(mut self, child: &Self) -> Self {
        self.least = match (self.least, child.least) {
            (Some(one), Some(other)) => Some(one.least(other)),
            (one, other) => one.or(other),
        };
        self.lost_stripes += child.lost_stripes;
        self.holders.retain(|member| child.holders.contains(member));
        self
    }
}

/// Records the durability of every snapshot whose recorded one is no longer true, many in one block. It stops between blocks when
/// it is interrupted; what was recorded is true.
pub(crate) async fn record(vault: &Vault, assessed: &[Health], progress: &Progress) -> Result<(), LedgerError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let changed = assessed.iter().filter(|health| health.now != health.recorded);
    let changed: Vec<(SnapshotId, Durability)> = changed.map(|health| (health.snapshot, health.now)).collect();
    let mut rest = changed.as_slice();
    while !rest.is_empty() && !progress.is_interrupted() {
        let done = ledger.record_health_of(&secrets.writer, rest).await?;
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(())
}

/// What snapshots survive together whose stripes survive `stripes`: no more than the weakest description.
pub(crate) fn cap(stripes: Durability, assessed: &[Health]) -> Durability {
    let cap = |least: Durability, health: &Health| health.description.map_or(LOST, |it| capped(least, it));
    assessed.iter().fold(stripes, cap)
}

/// What a snapshot survives: its stripes by what the sites list of them, its description by the sites that hold all of it and
/// every block up to its commit.
fn of_snapshot(snapshot: &SnapshotRecord, list: &Subtree, found: Found<'_>) -> Health {
    let least = list.least.unwrap_or(found.stripes.plan_durability());
    let (id, version) = (snapshot.id, 0);
    let objects = [ObjectKey::Snapshot(id), found.whereabouts.wraps_of(id)];
    // Without its map a reader that has no index key reads nothing, so it is part of the description.
    let objects = objects.into_iter().chain([ObjectKey::Map { snapshot: id, version }]);
    let mut holders = found.whereabouts.holders(objects, snapshot.block);
    holders.retain(|member| list.holders.contains(member));
    let description = copies_survive(&holders, found.stripes.domains());
    Health {
        snapshot: id,
        recorded: snapshot.durability,
        now: capped(least, description),
        description: Some(description),
        lost_stripes: list.lost_stripes,
    }
}
