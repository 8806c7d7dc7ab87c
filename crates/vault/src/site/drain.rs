//! Emptying a site while it can still be read: what lies there is copied to the others, and nothing new goes there.
//!
//! # Invariants
//! - **D1** What the site holds stays there: a kill, a return to use and a run that fails harm nothing.

use blockhouse_sites::SiteName;
use blockhouse_types::SiteId;

use super::shortfall::shortfall;
use super::{Plans, Shortfall, SiteChangeError, demand_enough, demand_writer, find, note};
use crate::bag;
use crate::folder::{Config, SiteUse};
use crate::progress::Progress;
use crate::repair::{RepairReport, RepairRequest, repair};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What draining a site comes to.
#[derive(Debug)]
pub struct DrainPlan {
    /// What new stripes survive with and without it.
    pub plans: Plans,
    /// What would be copied.
    pub repair: RepairReport,
}

/// What was done.
#[derive(Debug)]
pub struct DrainReport {
    /// What was copied.
    pub repair: RepairReport,
    /// What is needed there still.
    pub shortfall: Shortfall,
}

/// What draining the site would come to.
pub async fn plan_drain(vault: &mut Vault, site: &SiteName, progress: &Progress) -> Result<DrainPlan, SiteChangeError> {
    let before = vault.plan();
    begin(vault, site)?;
    let request = RepairRequest { dry_run: true, read_data: false };
    let repair = repair(vault, &request, progress).await?;
    Ok(DrainPlan { plans: Plans { before, after: vault.plan() }, repair })
}

/// Drains the site.
pub async fn drain(
    vault: &mut Vault,
    unlocked: &Unlocked,
    site: &SiteName,
    progress: &Progress,
) -> Result<DrainReport, SiteChangeError> {
    demand_writer(vault)?;
    let id = begin(vault, site)?;
    bag::settle(vault, unlocked).await?;
    note(vault, &[id], Some(SiteUse::Draining))?;
    let report = repair(vault, &RepairRequest::default(), progress).await?;
    let others =
        Vault::open_without(vault.folder().clone(), vault.settings().clone(), std::slice::from_ref(site)).await?;
    let shortfall = shortfall(&others, progress).await?;
    Ok(DrainReport { repair: report, shortfall })
}

/// Uses a site again that was being drained.
pub async fn cancel_drain(vault: &Vault, unlocked: &Unlocked, site: &SiteName) -> Result<(), SiteChangeError> {
    demand_writer(vault)?;
    let entry = one(vault, site)?;
    if !entry.is_draining() {
        return Err(SiteChangeError::NotDraining { site: site.clone() });
    }
    bag::settle(vault, unlocked).await?;
    note(vault, &[entry.id], None)
}

/// Looks at the site as one that is drained, in this value alone.
fn begin(vault: &mut Vault, site: &SiteName) -> Result<SiteId, SiteChangeError> {
    let entry = one(vault, site)?;
    let others = |other: &&crate::folder::SiteEntry| other.id != entry.id && !other.is_draining();
    demand_enough(vault.config().code, vault.config().sites.iter().filter(others).count())?;
    vault.set_draining(std::slice::from_ref(site));
    Ok(entry.id)
}

/// The site, if it counts.
fn one(vault: &Vault, site: &SiteName) -> Result<crate::folder::SiteEntry, SiteChangeError> {
    let entries = find(&Config::load(vault.folder())?, std::slice::from_ref(site))?;
    let counting = entries.into_iter().find(crate::folder::SiteEntry::counts);
    counting.ok_or_else(|| under_way(vault, site))
}

/// Why a site that does not count is not drained.
fn under_way(vault: &Vault, site: &SiteName) -> SiteChangeError {
    let entry = vault.apart().iter().find(|entry| entry.spec.name == *site);
    match entry.and_then(|entry| Some((entry.spec.url.to_string(), entry.state?))) {
        Some((url, state)) => SiteChangeError::UnderWay { site: site.clone(), url, state },
        None => SiteChangeError::WasLost { site: site.clone() },
    }
}
