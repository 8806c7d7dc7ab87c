//! A site that is gone for good: declared lost without asking it, and what it held made again at the others.
//!
//! # Invariants
//! - **L1** The lost site is never contacted, whether it is gone, hangs, or is there again with what it had.
//! - **L2** It leaves the key bag before its shards are made again: from then on nothing counts on it, and backups go on.

use blockhouse_pipeline::placement::sites_needed;
use blockhouse_sites::SiteName;
use blockhouse_types::SiteId;

use super::{Plans, SiteChangeError, demand_writer, find, note, without};
use crate::bag;
use crate::folder::{Config, SiteEntry, SiteUse};
use crate::progress::Progress;
use crate::recording::Recording;
use crate::repair::{RepairReport, RepairRequest, repair};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What declaring sites lost comes to.
#[derive(Debug)]
pub struct LostPlan {
    /// What new stripes survive with and without them.
    pub plans: Plans,
    /// How many sites are left.
    pub left: usize,
    /// How many the code needs.
    pub needed: usize,
    /// What would be made again.
    pub repair: RepairReport,
}

/// What was done.
#[derive(Debug)]
pub struct LostReport {
    /// What was made again.
    pub repair: RepairReport,
    /// True if all that can be made again was, so that the site is not noted any more.
    pub is_done: bool,
}

/// What declaring these sites lost would come to. `vault` was opened without them.
pub async fn plan_lost(vault: &Vault, sites: &[SiteName], progress: &Progress) -> Result<LostPlan, SiteChangeError> {
    let config = Config::load(vault.folder())?;
    find(&config, sites)?;
    if vault.config().sites.is_empty() {
        return Err(SiteChangeError::NoneLeft);
    }
    let request = RepairRequest { dry_run: true, read_data: false };
    let repair = repair(vault, &request, progress).await?;
    let (left, needed) = (vault.config().sites.len(), sites_needed(vault.config().code));
    Ok(LostPlan { plans: Plans { before: vault.plan_with(sites), after: vault.plan() }, left, needed, repair })
}

/// Declares these sites lost and makes again what they held. `vault` was opened without them.
pub async fn lost(
    vault: &Vault,
    unlocked: &Unlocked,
    sites: &[SiteName],
    progress: &Progress,
) -> Result<LostReport, SiteChangeError> {
    demand_writer(vault)?;
    if vault.config().sites.is_empty() {
        return Err(SiteChangeError::NoneLeft);
    }
    let ids: Vec<SiteId> = find(&Config::load(vault.folder())?, sites)?.iter().map(|entry| entry.id).collect();
    note(vault, &ids, Some(SiteUse::Lost))?;
    let in_force = bag::settle(vault, unlocked).await?;
    if in_force.sites.iter().any(|site| ids.contains(&site.id)) {
        let next = without(&in_force, &Config::load(vault.folder())?, &ids);
        bag::replace(vault, &in_force.owner, &next).await?;
    }
    let report = repair(vault, &RepairRequest::default(), progress).await?;
    // What is lost beyond repair stays lost; only what failed may succeed another time.
    let is_done = report.failed.is_empty()
        && report.plain.failed.is_empty()
        && report.incomplete == 0
        && !matches!(report.recording, Recording::Failed(_));
    if is_done {
        let is_over = |entry: &SiteEntry| entry.state == Some(SiteUse::Lost) && ids.contains(&entry.id);
        Config::update(vault.folder(), |config| config.sites.retain(|entry| !is_over(entry)))?;
    }
    Ok(LostReport { repair: report, is_done })
}
