//! Removing a site on which nothing is needed any more.
//!
//! # Invariants
//! - **D1** Whoever backs up when the others are listed is counted before, or does without the site: it is noted as leaving first.
//! - **D2** A removal that ends without success leaves the site as it was; one that was killed is gone on with, or taken back.
//! - **D3** Neither what there is nor what is planned gets less safe; only `lost` goes below that.

use blockhouse_pipeline::key_bag::KeyBag;
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
    if plans.after.w < plans.before.w {
        return Err(SiteChangeError::LessSafe { site: site.clone(), plans });
    }
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
///
/// It is noted as leaving before backups are counted and the other sites are listed: a backup that begins later does without it, and
/// one that began before is counted. What fails before the ledger names a bag without the site takes the note back.
pub async fn remove(
    vault: &Vault,
    unlocked: &Unlocked,
    site: &SiteName,
    progress: &Progress,
) -> Result<RemoveReport, SiteChangeError> {
    demand_writer(vault)?;
    let in_force = bag::settle(vault, unlocked).await?;
    let entry = one(vault, site)?;
    let report = if names(&in_force, entry.id) {
        let named = vault.ledger().bag().await?;
        note(vault, &[entry.id], Some(SiteUse::Leaving))?;
        match leave(vault, &in_force, &entry, progress).await {
            Ok(report) => report,
            Err(error) => {
                if vault.ledger().bag().await.is_ok_and(|now| now == named) {
                    note(vault, &[entry.id], before_leaving(&entry))?;
                }
                return Err(error);
            }
        }
    } else {
        // One that never counted is in no bag that could take it away.
        plan_remove(vault, site, progress).await?
    };
    Config::update(vault.folder(), |config| config.sites.retain(|other| other.id != entry.id))?;
    Ok(report)
}

/// Uses a site again whose removal was begun and not finished.
pub async fn cancel_remove(vault: &Vault, unlocked: &Unlocked, site: &SiteName) -> Result<(), SiteChangeError> {
    demand_writer(vault)?;
    // Where the bag in force does not name the site any more, this takes its entry away.
    bag::settle(vault, unlocked).await?;
    let entry = one(vault, site)?;
    if entry.state != Some(SiteUse::Leaving) {
        return Err(SiteChangeError::NotLeaving { site: site.clone() });
    }
    note(vault, &[entry.id], None)
}

/// Takes the site from the key bag, if nothing is less safe without it.
async fn leave(
    vault: &Vault,
    in_force: &KeyBag,
    entry: &SiteEntry,
    progress: &Progress,
) -> Result<RemoveReport, SiteChangeError> {
    let report = plan_remove(vault, &entry.spec.name, progress).await?;
    let next = without(in_force, &Config::load(vault.folder())?, &[entry.id]);
    bag::replace(vault, &in_force.owner, &next).await?;
    Ok(report)
}

fn names(bag: &KeyBag, id: SiteId) -> bool {
    bag.sites.iter().any(|site| site.id == id)
}

/// What the site was before. Of one that a killed run left leaving it is not known: drained, it counts and gets nothing new.
fn before_leaving(entry: &SiteEntry) -> Option<SiteUse> {
    match entry.state {
        Some(SiteUse::Leaving) => Some(SiteUse::Draining),
        state => state,
    }
}

fn one(vault: &Vault, site: &SiteName) -> Result<SiteEntry, SiteChangeError> {
    let entry = find(&Config::load(vault.folder())?, std::slice::from_ref(site))?.into_iter().next();
    match entry {
        Some(entry) if entry.state != Some(SiteUse::Lost) => Ok(entry),
        _ => Err(SiteChangeError::WasLost { site: site.clone() }),
    }
}
