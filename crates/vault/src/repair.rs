//! Repair: what the sites lost of the stripes is made again from what is left, without any key.
//!
//! - **Owns** which stripes are repaired and what is recorded of it.
//! - **Does not** rebuild shards: [`StripeStore::repair`] does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use blockhouse_sites::{Marker, ObjectKey, Patience, Prefix, Site, SiteName};
use blockhouse_types::{Durability, ListHash, StripeId};

use crate::blocks;
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::lists::{self, ListError};
use crate::publish::Publication;
use crate::stripes::{Depth, PlanRepairError, RepairError, ShardState, StripeStore};
use crate::vault::Vault;

/// What to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairRequest {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Read every byte of every shard, not only names and sizes.
    pub read_data: bool,
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// How many stripes were looked at.
    pub stripes: u64,
    /// Missing shards found, by the site that should have them.
    pub missing: BTreeMap<SiteName, u64>,
    /// Damaged files found, by site.
    pub damaged: BTreeMap<SiteName, u64>,
    /// Shards written.
    pub written: u64,
    /// Bad files removed.
    pub removed: u64,
    /// Stripe lists that no site gives: what they name could not be looked at.
    pub lists: Vec<ListError>,
    /// Stripes that cannot be repaired with the sites that are up.
    pub lost: Vec<(StripeId, PlanRepairError)>,
    /// Stripes whose repair failed.
    pub failed: Vec<(StripeId, RepairError)>,
    /// Plain objects copied to sites that lacked them.
    pub copied: u64,
    /// What the worst stripe survives now.
    pub durability: Option<Durability>,
    /// What it would survive with every site up.
    pub plan: Option<Durability>,
}

impl RepairReport {
    /// True if nothing is left to mend.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.failed.is_empty() && self.lists.is_empty()
    }
}

/// Why nothing could be repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairVaultError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger could not be read")]
    Home(#[from] blockhouse_homes::HomeError),
}

/// The folders of plain objects that are the same at every site; blocks are copied by height.
const PLAIN: [Prefix; 6] =
    [Prefix::Lists, Prefix::Snapshots, Prefix::Maps, Prefix::Wraps, Prefix::Bags, Prefix::Handovers];

/// Repairs stripes as far as the sites that are up allow; failures are for the next listing to show.
pub(crate) async fn mend(stripes: &StripeStore, needed: &[StripeId]) {
    let presence = stripes.presence().await;
    for stripe in needed {
        let findings = stripes.check(&presence, *stripe, Depth::Names).await;
        if let Ok(plan) = stripes.plan_repair(&findings)
            && !plan.is_empty()
        {
            // What cannot be mended now is degraded, and the commit says so.
            let _ = stripes.repair(&plan).await;
        }
    }
}

/// Makes the sites that are there again with nothing on them: a folder that exists and is empty.
///
/// A site whose folder is gone is made again only if it is named: the folder may be a mount that is missing.
pub async fn recreate_sites(
    vault: &Vault,
    named: &[SiteName],
) -> Vec<(SiteName, Result<(), blockhouse_sites::CreateError>)> {
    let mut made = Vec::new();
    for (entry, member) in vault.config().sites.iter().zip(vault.sites().members()) {
        let is_named = named.contains(&entry.spec.name);
        // On another device than before it is a mount point whose disk is missing, not a site that came back empty.
        let path = entry.spec.url.path();
        let is_on_its_device = std::fs::metadata(path).is_ok_and(|found| Some(found.dev()) == entry.device);
        let is_empty = is_on_its_device && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if member.readable().is_some() || !(is_named || is_empty) {
            continue;
        }
        let marker = Marker { vault: vault.id(), site: entry.id, name: entry.spec.name.clone() };
        let site = Site::recreate(&entry.spec, &marker, Patience::default()).await;
        made.push((entry.spec.name.clone(), site.map(drop)));
    }
    made
}

/// Repairs every stripe that a snapshot needs, and copies plain objects to the sites that lack them.
pub async fn repair(vault: &Vault, request: &RepairRequest) -> Result<RepairReport, RepairVaultError> {
    let stripes = vault.stripes().await?;
    let snapshots: Vec<SnapshotRecord> =
        vault.ledger().snapshots().await?.into_iter().filter(|record| !record.forgotten).collect();
    let mut report = RepairReport { plan: Some(stripes.plan_durability()), ..RepairReport::default() };
    let presence = stripes.presence().await;
    let (needed, unread) = needed_stripes(vault, &snapshots).await;
    report.lists = unread.into_iter().map(|(_, error)| error).collect();
    let depth = if request.read_data { Depth::Data } else { Depth::Names };
    for stripe in &needed {
        let findings = stripes.check(&presence, *stripe, depth).await;
        report.stripes += 1;
        for shard in findings.shards.iter().filter(|shard| shard.state.is_in_the_way()) {
            *report.damaged.entry(shard.site.clone()).or_default() += 1;
        }
        let is_missing = |state: &ShardState| matches!(state, ShardState::Missing | ShardState::SiteDown);
        for shard in findings.shards.iter().filter(|shard| is_missing(&shard.state)) {
            *report.missing.entry(shard.site.clone()).or_default() += 1;
        }
        match stripes.plan_repair(&findings) {
            Err(error) => report.lost.push((*stripe, error)),
            Ok(plan) if plan.is_empty() => report.note(findings.durability),
            Ok(plan) if request.dry_run => {
                report.written += (plan.write.len() + plan.copy.len()) as u64;
                report.removed += plan.remove.len() as u64;
                report.note(plan.after);
            }
            Ok(plan) => match stripes.repair(&plan).await {
                Ok(done) => {
                    report.written += done.written.len() as u64;
                    report.removed += done.removed.len() as u64;
                    report.note(done.durability);
                }
                Err(error) => report.failed.push((*stripe, error)),
            },
        }
    }
    if !request.dry_run {
        report.copied = copy_plain(vault).await;
        record_health(vault, &stripes, &snapshots).await?;
        blocks::copy_all(vault).await?;
    }
    Ok(report)
}

impl RepairReport {
    fn note(&mut self, now: Durability) {
        self.durability = Some(self.durability.map_or(now, |least| least.least(now)));
    }
}

/// The stripes in the lists of these snapshots, and the lists that could not be read.
pub(crate) async fn needed_stripes(
    vault: &Vault,
    snapshots: &[SnapshotRecord],
) -> (BTreeSet<StripeId>, Vec<(ListHash, ListError)>) {
    let (mut needed, mut unread, mut seen) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for snapshot in snapshots {
        let root = ListHash::new(snapshot.commit.listRoot.0);
        if !seen.insert(root) {
            continue;
        }
        match lists::read(vault.sites(), root).await {
            Ok(ids) => needed.extend(ids),
            Err(error) => unread.push((root, error)),
        }
    }
    (needed, unread)
}

/// Copies lists, snapshot objects, maps, wraps, key bags and handovers to the sites that lack them; how many objects were copied.
async fn copy_plain(vault: &Vault) -> u64 {
    let mut copied = 0;
    for prefix in PLAIN {
        copied += copy_prefix(vault, prefix).await;
    }
    copied
}

async fn copy_prefix(vault: &Vault, prefix: Prefix) -> u64 {
    let mut held: BTreeMap<ObjectKey, BTreeSet<usize>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    for (member, site) in vault.sites().up() {
        if let Ok(objects) = site.list_all(prefix).await {
            listed.insert(member);
            for object in objects {
                held.entry(object.key).or_default().insert(member);
            }
        }
    }
    let mut copied = 0;
    for (key, holders) in held {
        let lacking = listed.difference(&holders).count();
        if lacking == 0 {
            continue;
        }
        // An object that is not what its name says is not spread.
        if let Ok(fetched) = vault.sites().get_any(&key, |bytes| crate::objects::is_genuine(&key, bytes)).await {
            let mut publication = Publication::begin(vault.sites());
            publication.put(vault.sites(), &key, fetched.bytes).await;
            copied += lacking as u64;
        }
    }
    copied
}

/// Records the durability of every snapshot whose recorded one is no longer true.
async fn record_health(
    vault: &Vault,
    stripes: &StripeStore,
    snapshots: &[SnapshotRecord],
) -> Result<(), RepairVaultError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let presence = stripes.presence().await;
    for snapshot in snapshots {
        let root = ListHash::new(snapshot.commit.listRoot.0);
        let Ok(ids) = lists::read(vault.sites(), root).await else { continue };
        let now = presence.least(ids.iter()).durability.unwrap_or(stripes.plan_durability());
        if now != snapshot.durability {
            ledger.record_health(snapshot.id, now).await?;
        }
    }
    Ok(())
}
