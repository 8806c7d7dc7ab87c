//! A further site: marked, given what every site has, then counted.
//!
//! # Invariants
//! - **A1** The site counts when the key bag in force names it; before that everything that every site has was copied there.
//! - **A2** A folder that holds anything is refused, one that was a site of this vault too: what it holds is out of date.

use blockhouse_pipeline::placement::{PlacementError, Survey, survey};
use blockhouse_sites::{CreateError, DownReason, Marker, Patience, ProbeReport, Site, SiteName, SiteSpec};
use blockhouse_types::SiteId;

use super::{Plans, SiteChangeError, demand_writer};
use crate::bag;
use crate::folder::{Config, SiteEntry, SiteUse};
use crate::ledger::SnapshotRecord;
use crate::lists;
use crate::plain::{self, Act, MendError, PlainReport};
use crate::progress::Progress;
use crate::publish::Publication;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// A site that was added.
#[derive(Debug)]
pub struct AddReport {
    /// Its name.
    pub site: SiteName,
    /// True if it was one of the sites already.
    pub already: bool,
    /// What it promises; none if it was there already.
    pub probe: Option<ProbeReport>,
    /// How many objects it was given.
    pub copied: u64,
    /// What new stripes survive without and with it.
    pub plans: Plans,
    /// What the code over these sites survives, in words.
    pub survey: Result<Survey, PlacementError>,
}

/// Adds a site. Run again after a kill it goes on with the site at the same place.
pub async fn add(
    vault: &Vault,
    unlocked: &Unlocked,
    spec: SiteSpec,
    progress: &Progress,
) -> Result<AddReport, SiteChangeError> {
    demand_writer(vault)?;
    let in_force = bag::settle(vault, unlocked).await?;
    let config = Config::load(vault.folder())?;
    let (entry, begun) = enter(&config, spec)?;
    if entry.counts() {
        let copied = copy_to(&reopened(vault).await?, &entry, progress).await?;
        return report(vault, &entry, None, copied).await;
    }
    let (id, spec) = (entry.id, entry.spec.clone());
    Config::update(vault.folder(), |config| {
        config.sites.retain(|other| other.id != id);
        config.sites.push(entry.clone());
    })?;
    let (device, probe) = match make(vault, &entry, begun).await {
        Ok(made) => made,
        Err(error) => {
            if is_untouched(&error) {
                Config::update(vault.folder(), |config| config.sites.retain(|other| other.id != id))?;
            }
            return Err(error);
        }
    };
    let entry = SiteEntry { id, spec, device, state: Some(SiteUse::Joining) };
    Config::update(vault.folder(), |config| {
        if let Some(noted) = config.sites.iter_mut().find(|other| other.id == id) {
            *noted = entry.clone();
        }
    })?;
    let wide = Vault::open_with_joining(vault.folder().clone(), vault.settings().clone()).await?;
    let copied = copy_to(&wide, &entry, progress).await?;
    let mut next = super::without(&in_force, &Config::load(vault.folder())?, &[]);
    next.sites.push(bag::site_of(&entry));
    // Opened anew: the quorum that this asks for is that of both lists.
    bag::replace(&reopened(vault).await?, &in_force.owner, &next).await?;
    // What was committed meanwhile went to the other sites alone.
    let later = copy_to(&reopened(vault).await?, &entry, progress).await?;
    report(vault, &entry, Some(probe), copied + later).await
}

async fn reopened(vault: &Vault) -> Result<Vault, SiteChangeError> {
    Ok(Vault::open(vault.folder().clone(), vault.settings().clone()).await?)
}

/// The entry of the new site, or of the one that is at that place; true if it was begun before.
fn enter(config: &Config, spec: SiteSpec) -> Result<(SiteEntry, bool), SiteChangeError> {
    let there = config.sites.iter().find(|entry| entry.spec.url == spec.url);
    let mut others = config.sites.iter().filter(|entry| there.is_none_or(|there| there.id != entry.id));
    if let Some(other) = others.find(|entry| entry.spec.name == spec.name) {
        return Err(SiteChangeError::NameTaken { name: spec.name, url: other.spec.url.to_string() });
    }
    match there.map(|entry| (entry, entry.state)) {
        None => {
            let (id, state) = (SiteId::new(rand::random()), Some(SiteUse::Joining));
            Ok((SiteEntry { id, spec, device: None, state }, false))
        }
        Some((entry, Some(SiteUse::Joining))) => Ok((SiteEntry { spec, ..entry.clone() }, true)),
        Some((entry, Some(state @ (SiteUse::Leaving | SiteUse::Lost | SiteUse::Draining)))) => {
            let url = entry.spec.url.to_string();
            Err(SiteChangeError::UnderWay { site: entry.spec.name.clone(), url, state })
        }
        Some((entry, None)) => Ok((entry.clone(), true)),
    }
}

/// Marks the site and asks what it promises.
async fn make(vault: &Vault, entry: &SiteEntry, begun: bool) -> Result<(Option<u64>, ProbeReport), SiteChangeError> {
    let marker = Marker { vault: vault.id(), site: entry.id, name: entry.spec.name.clone() };
    let made = if begun {
        Site::recreate(&entry.spec, &marker, Patience::default()).await
    } else {
        Site::create(&entry.spec, &marker, Patience::default()).await
    };
    let name = || entry.spec.name.clone();
    let site = made.map_err(|source| match source {
        CreateError::Taken { marker, .. } if marker.vault == vault.id() => SiteChangeError::Returned { site: name() },
        CreateError::Down(ref down) if is_other_site(&down.reason) => SiteChangeError::Returned { site: name() },
        source => SiteChangeError::Create { site: name(), source: Box::new(source) },
    })?;
    let report = site.probe().await.map_err(|source| SiteChangeError::Probe { site: name(), source })?;
    if report.keeps_promises() {
        Ok((site.device(), report))
    } else {
        Err(SiteChangeError::Promises { site: name(), report })
    }
}

const fn is_other_site(reason: &DownReason) -> bool {
    matches!(reason, DownReason::OtherSite { .. })
}

/// True if nothing was written there, so that there is nothing to go on with. A site that was probed has a marker: it stays noted, so
/// that the same command goes on once it keeps its promises, and does not take its own marker for that of a site of before.
fn is_untouched(error: &SiteChangeError) -> bool {
    match error {
        SiteChangeError::Create { source, .. } => !matches!(**source, CreateError::Marker(_) | CreateError::Down(_)),
        SiteChangeError::Returned { .. } => true,
        _ => false,
    }
}

/// Gives the site every plain object and every block; how many it took. `vault` has it among its sites.
async fn copy_to(vault: &Vault, entry: &SiteEntry, progress: &Progress) -> Result<u64, SiteChangeError> {
    let snapshots: Vec<SnapshotRecord> =
        vault.ledger().snapshots().await?.into_iter().filter(|record| !record.forgotten).collect();
    let needed = lists::read_union(vault.sites(), &snapshots).await;
    let height = vault.kept_height().await?;
    progress.expect_steps(plain::expected_steps(&snapshots, &needed.nodes, height));
    let mending = plain::Request { data_basis_points: None, act: Act::Mend };
    let report = plain::survey(vault, &snapshots, &needed.nodes, mending, progress).await?;
    let written = report.written;
    demand_taken(entry, report)?;
    let mut published = Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), vault.standing().await?.height).await;
    let is_it = |name: &SiteName| *name == entry.spec.name;
    let is_up = vault.sites().members().iter().any(|it| is_it(it.name()) && it.writable().is_some());
    if !is_up || published.failures().iter().any(|failure| is_it(&failure.site)) {
        return Err(SiteChangeError::NotCopied { site: entry.spec.name.clone(), source: None });
    }
    Ok(written)
}

fn demand_taken(entry: &SiteEntry, report: PlainReport) -> Result<(), SiteChangeError> {
    let is_its = |error: &MendError| match error {
        MendError::Site { site, .. } | MendError::Closed { site, .. } => *site == entry.spec.name,
        MendError::Disputed { .. } => false,
    };
    match report.failed.into_iter().find(is_its) {
        Some(error) => Err(SiteChangeError::NotCopied { site: entry.spec.name.clone(), source: Some(Box::new(error)) }),
        None => Ok(()),
    }
}

async fn report(
    before: &Vault,
    entry: &SiteEntry,
    probe: Option<ProbeReport>,
    copied: u64,
) -> Result<AddReport, SiteChangeError> {
    let vault = reopened(before).await?;
    let without = before.plan_without(&entry.spec.name);
    Ok(AddReport {
        site: entry.spec.name.clone(),
        already: probe.is_none(),
        probe,
        copied,
        plans: Plans { before: without, after: vault.plan() },
        survey: survey(vault.config().code, &vault.domains()),
    })
}
