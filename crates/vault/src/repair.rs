//! Repair: what the sites lost is made again from what is left, without any key.
//!
//! - **Owns** which stripes are repaired, in which order stripes and plain objects are, and what is recorded of it.
//! - **Does not** rebuild shards ([`StripeStore::repair`] does) or judge plain objects (`plain` does).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use blockhouse_sites::{Marker, Patience, Site, SiteName};
use blockhouse_types::{Durability, StripeId};

use crate::blocks;
use crate::health::{self, Found, Health};
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::lists::{self, ListError};
use crate::plain::{self, Act, PlainError, PlainReport};
use crate::progress::Progress;
use crate::prune;
use crate::recording::{NotRecorded, Recording};
use crate::stripes::{Depth, PlanRepairError, Presence, RepairError, ShardState, StripeFindings, StripeStore};
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
    /// Bytes of shards that were read to make others: what a provider bills as egress.
    pub read_bytes: u64,
    /// Bytes of shards that were written.
    pub written_bytes: u64,
    /// Stripes that were repaired and lack shards still: no site took them.
    pub incomplete: u64,
    /// Stripe lists that no site gives: what they name could not be looked at.
    pub lists: Vec<ListError>,
    /// Stripes that cannot be repaired with the sites that are up.
    pub lost: Vec<(StripeId, PlanRepairError)>,
    /// Stripes whose repair failed.
    pub failed: Vec<(StripeId, RepairError)>,
    /// The plain objects: what was wrong with them and what was done.
    pub plain: PlainReport,
    /// What the weakest snapshot survives now: its stripes, and its description.
    pub durability: Option<Durability>,
    /// What it would survive with every site up.
    pub plan: Option<Durability>,
    /// Whether that stands on the ledger.
    pub recording: Recording,
}

impl RepairReport {
    /// True if nothing is left to mend.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.failed.is_empty() && self.lists.is_empty() && self.plain.is_whole()
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
    /// The user stopped it. What was mended stays mended.
    #[error("the repair was interrupted")]
    Interrupted,
}

impl From<PlainError> for RepairVaultError {
    fn from(error: PlainError) -> Self {
        match error {
            PlainError::Ledger(error) => Self::Ledger(error),
            PlainError::Home(error) => Self::Home(error),
            PlainError::Interrupted => Self::Interrupted,
        }
    }
}

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
        let is_on_its_device =
            |path: &Path| std::fs::metadata(path).is_ok_and(|found| Some(found.dev()) == entry.device);
        let is_empty = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        // A remote site whose marker is gone is made again only if it is named.
        let is_empty = entry.spec.url.folder().is_some_and(|path| is_on_its_device(path) && is_empty(path));
        if member.readable().is_some() || !(is_named || is_empty) {
            continue;
        }
        let marker = Marker { vault: vault.id(), site: entry.id, name: entry.spec.name.clone() };
        let site = Site::recreate(&entry.spec, &marker, Patience::default()).await;
        made.push((entry.spec.name.clone(), site.map(drop)));
    }
    made
}

/// Repairs every stripe that a snapshot needs, then every plain object that the ledger needs, and brings the lists of removals that are
/// not finished to every site.
pub async fn repair(
    vault: &Vault,
    request: &RepairRequest,
    progress: &Progress,
) -> Result<RepairReport, RepairVaultError> {
    let stripes = vault.stripes().await?;
    let snapshots: Vec<SnapshotRecord> =
        vault.ledger().snapshots().await?.into_iter().filter(|record| !record.forgotten).collect();
    let mut report = RepairReport { plan: Some(stripes.plan_durability()), ..RepairReport::default() };
    let presence = stripes.presence().await;
    let needed = lists::read_union(vault.sites(), &snapshots).await;
    let height = vault.kept_height().await?;
    progress.expect_steps(needed.stripes.len() as u64 + plain::expected_steps(&snapshots, &needed.nodes, height));
    for stripe in &needed.stripes {
        if progress.is_interrupted() {
            return Err(RepairVaultError::Interrupted);
        }
        report.stripe(&stripes, &presence, *stripe, request).await;
        progress.add_step();
    }
    report.lists = needed.unread;
    let act = if request.dry_run { Act::Plan } else { Act::Mend };
    let looking = plain::Request { data_basis_points: request.read_data.then_some(10_000), act };
    report.plain = plain::survey(vault, &snapshots, &needed.nodes, looking, progress).await?;
    if !request.dry_run {
        prune::spread_lists(vault).await?;
    }
    // What was mended is listed anew; a dry run mended nothing.
    let presence = if request.dry_run { presence } else { stripes.presence().await };
    let lost = BTreeSet::new();
    let found = Found { stripes: &stripes, presence: &presence, whereabouts: &report.plain.whereabouts, lost: &lost };
    let assessed = health::assess(vault, &snapshots, found).await;
    if !assessed.is_empty() {
        let least = report.durability.unwrap_or(stripes.plan_durability());
        report.durability = Some(health::cap(least, &assessed));
    }
    if !request.dry_run {
        report.recording = record(vault, &assessed, progress).await;
        vault.keep_summary().await;
        if progress.is_interrupted() {
            return Err(RepairVaultError::Interrupted);
        }
    }
    Ok(report)
}

/// Records what was changed, and copies the blocks of that to the sites. A folder without the writer's secrets mends, for that
/// needs no key, and has nothing to say to the ledger.
async fn record(vault: &Vault, assessed: &[Health], progress: &Progress) -> Recording {
    if vault.secrets().is_none() {
        return Recording::NoWriter;
    }
    let recorded = async || -> Result<(), NotRecorded> {
        health::record(vault, assessed, progress).await?;
        Ok(blocks::copy_all(vault).await?)
    };
    recorded().await.into()
}

impl RepairReport {
    /// Looks at a stripe and repairs it.
    async fn stripe(&mut self, stripes: &StripeStore, presence: &Presence, stripe: StripeId, request: &RepairRequest) {
        let depth = if request.read_data { Depth::Data } else { Depth::Names };
        let findings = stripes.check(presence, stripe, depth).await;
        let length = presence.file_len(stripe).unwrap_or_default();
        self.count(&findings);
        match stripes.plan_repair(&findings) {
            Err(error) => {
                self.note(findings.durability);
                self.lost.push((stripe, error));
            }
            Ok(plan) if plan.is_empty() => self.note(findings.durability),
            Ok(plan) if request.dry_run => {
                self.written += plan.writes() as u64;
                self.read_bytes += plan.reads() as u64 * length;
                self.written_bytes += plan.writes() as u64 * length;
                self.removed += plan.remove.len() as u64;
                self.note(plan.after);
            }
            Ok(plan) => match stripes.repair(&plan).await {
                Ok(done) => {
                    self.written += done.written.len() as u64;
                    self.read_bytes += done.read as u64 * length;
                    self.written_bytes += done.written.len() as u64 * length;
                    self.removed += done.removed.len() as u64;
                    self.incomplete += u64::from(usize::from(done.durability.d) < plan.code.shards());
                    self.note(done.durability);
                }
                Err(error) => {
                    self.note(findings.durability);
                    self.failed.push((stripe, error));
                }
            },
        }
    }

    /// Counts what was found, before anything is done about it.
    fn count(&mut self, findings: &StripeFindings) {
        self.stripes += 1;
        for shard in &findings.shards {
            let counts = match &shard.state {
                ShardState::Missing | ShardState::SiteDown => &mut self.missing,
                state if state.is_in_the_way() => &mut self.damaged,
                _ => continue,
            };
            *counts.entry(shard.site.clone()).or_default() += 1;
        }
    }

    fn note(&mut self, now: Durability) {
        self.durability = Some(self.durability.map_or(now, |least| least.least(now)));
    }
}
