//! Removing a site on which nothing is needed any more.

use blockhouse_sites::SiteName;
use blockhouse_types::SiteId;

use super::shortfall::shortfall;
use super::{Plans, Shortfall, SiteChangeError, demand_enough, demand_writer, find, note, without};
use crate::bag;
use crate::folder::{Config, SiteEntry, SiteUse};
use crate::progress::Progress;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// A site that was removed, or may be.
#[derive(Debug)]
pub struct RemoveReport {
    /// Where it is and what it was called.
    pub entry: SiteEntry,
    /// What new stripes survive with and without it.
    pub plans: Plans,
    /// What is less safe without it: nothing. None for a site that never counted.
    pub shortfall: Option<Shortfall>,
}

/// Whether the site may be removed. `vault` was opened without it.
pub async fn plan_remove(vault: &Vault, site: &SiteName, progress: &Progress) -> Result<RemoveReport, SiteChangeError> {
    let entry = one(vault, site)?;
    let plans = Plans { before: vault.plan_with(std::slice::from_ref(site)), after: vault.plan() };
    if entry.state == Some(SiteUse::Joining) {
        return Ok(RemoveReport { entry, plans, shortfall: None });
    }
    let staying = vault.config().sites.iter().filter(|entry| !entry.is_draining()).count();
    demand_enough(vault.config().code, staying)?;
    let sessions = vault.ledger().open_sessions().await?;
    if sessions > 0 && !vault.settings().accept_risk {
        return Err(SiteChangeError::BackupsOpen { site: site.clone(), sessions });
    }
    let shortfall = shortfall(vault, progress).await?;
    if !shortfall.is_none() {
        return Err(SiteChangeError::Below { site: site.clone(), shortfall });
    }
    Ok(RemoveReport { entry, plans, shortfall: Some(shortfall) })
}

/// Removes the site. `vault` was opened without it.
pub async fn remove(
    vault: &Vault,
    unlocked: &Unlocked,
    site: &SiteName,
    progress: &Progress,
) -> Result<RemoveReport, SiteChangeError> {
    demand_writer(vault)?;
    let in_force = bag::settle(vault, unlocked).await?;
    let report = plan_remove(vault, site, progress).await?;
    let ids: [SiteId; 1] = [report.entry.id];
    if in_force.sites.iter().any(|site| ids.contains(&site.id)) {
        note(vault, &ids, Some(SiteUse::Leaving))?;
        let next = without(&in_force, &Config::load(vault.folder())?, &ids);
        bag::replace(vault, &in_force.owner, &next).await?;
    }
    // One that never counted is in no bag that could take it away.
    Config::update(vault.folder(), |config| config.sites.retain(|entry| !ids.contains(&entry.id)))?;
    Ok(report)
}

fn one(vault: &Vault, site: &SiteName) -> Result<SiteEntry, SiteChangeError> {
    let entry = find(&Config::load(vault.folder())?, std::slice::from_ref(site))?.into_iter().next();
    match entry {
        Some(entry) if entry.state != Some(SiteUse::Lost) => Ok(entry),
        _ => Err(SiteChangeError::WasLost { site: site.clone() }),
    }
}
