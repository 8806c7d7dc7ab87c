//! The plain objects of forgotten snapshots, and the lists of finished markings: last of all.
//!
//! A node of a list is shared by every list that has it, also by one that a backup publishes at this moment and that is on no ledger yet.
//! So backups of this host publish and commit under a lock, and nodes are removed under the same lock, held alone. Other hosts of a
//! network's vault take no lock of this one: while there are any, nodes stay.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_pipeline::stripe_list::ListNode;
use blockhouse_sites::{Listed, ObjectKey, Prefix, Sites};
use blockhouse_types::{ListHash, SnapshotId, StripeId};
use futures::future::join_all;

use super::shards::{Removal, remove_objects};
use super::{Look, PruneError, PruneReport, marked, take, unforgotten};
use crate::folder::Held;
use crate::ledger::{Ledger, SnapshotRecord, WriterRecord};
use crate::lists::root_of;
use crate::vault::Vault;

/// What sites list of one folder: object to the members that hold it, with its length.
type Shelf = BTreeMap<ObjectKey, Vec<(usize, u64)>>;

/// Says how much of what is kept forgotten snapshots used too.
pub(super) async fn plan(vault: &Vault, look: &Look, report: &mut PruneReport) -> Result<(), PruneError> {
    let forgotten: Vec<SnapshotRecord> =
        vault.ledger().snapshots().await?.into_iter().filter(|record| record.forgotten).collect();
    let shelf = list(vault.sites(), Prefix::Lists, &mut Removal::default()).await;
    let roots = forgotten.iter().map(root_of).filter(|root| shelf.contains_key(&ObjectKey::List(*root)));
    let mut walk = Walk::default();
    walk.below(vault.sites(), roots.collect()).await;
    report.partly_needed_bytes = look.shards.bytes(walk.stripes.intersection(&look.needed));
    Ok(())
}

/// Removes what only forgotten snapshots and finished markings have.
pub(super) async fn remove(vault: &Vault, ledger: &Ledger, report: &mut PruneReport) -> Result<(), PruneError> {
    let alone = Held::alone(vault.folder().publish_lock()).await?;
    vault.confirm_alone().await?;
    super::refuse_frozen(ledger).await?;
    let records = ledger.snapshots().await?;
    let finished = marked::finished(vault);
    let (done, unfinished): (Vec<_>, Vec<_>) =
        ledger.markings().await?.into_iter().partition(|marking| marking.epoch <= finished);
    // Whoever goes on with an unfinished marking reads the lists of those that were forgotten after it.
    let limit = unfinished.iter().map(|marking| marking.block).max().unwrap_or(u64::MAX);
    let is_over = |record: &&SnapshotRecord| record.forgotten_in.is_some_and(|block| block < limit);
    let over: Vec<SnapshotRecord> = records.iter().filter(is_over).cloned().collect();
    let roots: BTreeSet<ListHash> = over.iter().map(root_of).chain(done.iter().map(|marking| marking.root)).collect();
    let mut kept: Vec<ListHash> = records.iter().filter(|record| !is_over(record)).map(root_of).collect();
    let needed = unforgotten(records);
    kept.extend(unfinished.iter().map(|marking| marking.root));
    let mut removal = Removal::default();
    if !writes_elsewhere(vault, ledger).await? {
        remove_lists(vault, (&needed, kept, roots), &mut removal).await?;
    }
    let gone: BTreeSet<SnapshotId> = over.iter().map(|record| record.id).collect();
    for prefix in [Prefix::Snapshots, Prefix::Wraps, Prefix::Maps] {
        let mut shelf = list(vault.sites(), prefix, &mut removal).await;
        shelf.retain(|key, _| matches!(key, ObjectKey::Snapshot(id) | ObjectKey::Wraps { snapshot: id, .. } | ObjectKey::Map { snapshot: id, .. } if gone.contains(id)));
        remove_all(vault.sites(), shelf, &mut removal).await;
    }
    drop(alone);
    take(report, removal);
    Ok(())
}

/// True if another host may be publishing at this moment.
async fn writes_elsewhere(vault: &Vault, ledger: &Ledger) -> Result<bool, PruneError> {
    let own = vault.secrets().map(|secrets| secrets.writer.account());
    let is_other = |writer: &WriterRecord| writer.active && Some(writer.account) != own;
    Ok(!vault.config().is_sealed_here() && ledger.writers().await?.iter().any(is_other))
}

/// Removes the nodes that only these roots have, children before parents: a kill leaves a way to what is left.
async fn remove_lists(
    vault: &Vault,
    (needed, kept, roots): (&[SnapshotRecord], Vec<ListHash>, BTreeSet<ListHash>),
    removal: &mut Removal,
) -> Result<(), PruneError> {
    let sites = vault.sites();
    let shelf = list(sites, Prefix::Lists, removal).await;
    let roots: Vec<ListHash> = roots.into_iter().filter(|root| shelf.contains_key(&ObjectKey::List(*root))).collect();
    if roots.is_empty() {
        return Ok(());
    }
    // A list that is needed and cannot be read ends the removal: its nodes are not known.
    super::read_needed(vault, needed).await?;
    let mut keep = Walk::default();
    keep.below(sites, kept).await;
    if keep.is_unsure {
        return Ok(());
    }
    let mut doomed = Walk { seen: keep.seen, ..Walk::default() };
    doomed.below(sites, roots).await;
    for hash in doomed.nodes {
        let key = ObjectKey::List(hash);
        let Some(holders) = shelf.get(&key) else { continue };
        remove_all(sites, Shelf::from([(key, holders.clone())]), removal).await;
    }
    Ok(())
}

/// Lists a folder at every site that is up.
async fn list(sites: &Sites, prefix: Prefix, removal: &mut Removal) -> Shelf {
    let mut shelf = Shelf::new();
    let listed = sites.up().map(async |(member, site)| (member, site.name().clone(), site.list_all(prefix).await));
    for (member, name, listed) in join_all(listed).await {
        match listed {
            Ok(listed) => {
                for Listed { key, length } in listed {
                    shelf.entry(key).or_default().push((member, length));
                }
            }
            Err(error) => {
                removal.failed.entry(name).or_insert_with(|| crate::chain::chain(&error));
            }
        }
    }
    shelf
}

async fn remove_all(sites: &Sites, shelf: Shelf, removal: &mut Removal) {
    let mut by_member: BTreeMap<usize, Vec<Listed>> = BTreeMap::new();
    for (key, holders) in shelf {
        for (member, length) in holders {
            by_member.entry(member).or_default().push(Listed { key, length });
        }
    }
    let tasks = by_member.into_iter().filter_map(|(member, objects)| Some((sites.members().get(member)?, objects)));
    let done = join_all(tasks.map(|(member, objects)| remove_objects(member, objects))).await;
    for done in done {
        removal.add(done);
    }
}

/// A walk over lists of which parts may be gone.
#[derive(Debug, Default)]
struct Walk {
    /// Nodes that were met, or are not to be.
    seen: BTreeSet<ListHash>,
    /// Nodes, children before parents.
    nodes: Vec<ListHash>,
    stripes: BTreeSet<StripeId>,
    /// A node was there and could not be read, or none can say whether it is: what is below it is not known.
    is_unsure: bool,
}

impl Walk {
    async fn below(&mut self, sites: &Sites, roots: Vec<ListHash>) {
        // Each node is met twice: before those below it, and after them.
        let mut open: Vec<(ListHash, bool)> = roots.into_iter().map(|root| (root, false)).collect();
        while let Some((hash, is_done)) = open.pop() {
            if is_done {
                self.nodes.push(hash);
                continue;
            }
            if !self.seen.insert(hash) {
                continue;
            }
            open.push((hash, true));
            match self.node(sites, hash).await {
                Some(ListNode::Inner { children, .. }) => {
                    open.extend(children.iter().map(|child| (child.hash, false)));
                }
                Some(ListNode::Leaf { ids, .. }) => self.stripes.extend(ids),
                None => {}
            }
        }
    }

    async fn node(&mut self, sites: &Sites, hash: ListHash) -> Option<ListNode> {
        let fetched = sites.get_any(&ObjectKey::List(hash), |bytes| ListNode::hash(bytes) == hash).await;
        let node = fetched.ok().and_then(|fetched| ListNode::from_bytes(&fetched.bytes).ok());
        self.is_unsure |= node.is_none();
        node
    }
}
