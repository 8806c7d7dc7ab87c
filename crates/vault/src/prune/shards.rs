//! The shards at all sites, by stripe: what is listed, and the removal of what is doomed.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_sites::{Listed, Member, ObjectKey, SITE_CONCURRENCY, Site, SiteError, SiteName, Sites};
use blockhouse_types::StripeId;
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use super::PruneError;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::stripes::listing;

/// What was removed at a site, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Shards.
    pub shards: u64,
    /// Other objects.
    pub objects: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// Every file under the name of a shard at the sites that are up.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// By stripe: the member's number and the file's length.
    pub(super) by_stripe: BTreeMap<StripeId, Vec<(u16, u64)>>,
    /// True if every site of the vault was listed to the end.
    pub(super) are_all_listed: bool,
}

impl Shards {
    pub(super) async fn list(sites: &Sites, progress: &Progress) -> Result<Self, PruneError> {
        let are_all_up = sites.members().iter().all(|member| member.readable().is_some());
        let (mut shards, wanted) = (Self { are_all_listed: are_all_up, ..Self::default() }, listing::all());
        let mut folders = listing::folders(up(sites), &wanted).await;
        while let Some(folder) = folders.next().await {
            if progress.is_interrupted() {
                return Err(PruneError::Interrupted);
            }
            for (member, listed) in folder {
                let Ok(listed) = listed else {
                    shards.are_all_listed = false;
                    continue;
                };
                for Listed { key, length } in listed {
                    let ObjectKey::Shard { stripe, .. } = key else { continue };
                    let member = u16::try_from(member).unwrap_or(u16::MAX);
                    shards.by_stripe.entry(stripe).or_default().push((member, length));
                }
            }
        }
        Ok(shards)
    }

    /// The bytes of these stripes, by site.
    pub(super) fn weigh<'a>(
        &self,
        sites: &Sites,
        stripes: impl Iterator<Item = &'a StripeId>,
    ) -> BTreeMap<SiteName, Freed> {
        let mut weights: BTreeMap<SiteName, Freed> = BTreeMap::new();
        for (member, length) in stripes.filter_map(|stripe| self.by_stripe.get(stripe)).flatten() {
            let Some(site) = sites.members().get(usize::from(*member)) else { continue };
            let freed = weights.entry(site.name().clone()).or_default();
            freed.shards += 1;
            freed.bytes += length;
        }
        weights
    }

    /// The bytes of these stripes at all sites.
    pub(super) fn bytes<'a>(&self, stripes: impl Iterator<Item = &'a StripeId>) -> u64 {
        let lengths = stripes.filter_map(|stripe| self.by_stripe.get(stripe)).flatten().map(|(_, length)| length);
        lengths.sum()
    }
}

/// The sites that can be read, with their numbers.
fn up(sites: &Sites) -> Vec<(usize, Site)> {
    sites.up().map(|(number, site)| (number, site.clone())).collect()
}

/// What removing came to.
#[derive(Debug, Default)]
pub(super) struct Removal {
    pub(super) freed: BTreeMap<SiteName, Freed>,
    /// Sites that may still hold something of it, with the first reason.
    pub(super) failed: BTreeMap<SiteName, String>,
}

impl Removal {
    pub(super) fn note(&mut self, site: &SiteName, key: &ObjectKey, length: u64, removed: Result<bool, String>) {
        match removed {
            Ok(true) => {
                let freed = self.freed.entry(site.clone()).or_default();
                let is_shard = matches!(key, ObjectKey::Shard { .. });
                freed.shards += u64::from(is_shard);
                freed.objects += u64::from(!is_shard);
                freed.bytes += length;
            }
            Ok(false) => {}
            Err(why) => {
                self.failed.entry(site.clone()).or_insert(why);
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (site, more) in other.freed {
            let freed = self.freed.entry(site).or_default();
            freed.shards += more.shards;
            freed.objects += more.objects;
            freed.bytes += more.bytes;
        }
        for (site, why) in other.failed {
            self.failed.entry(site).or_insert(why);
        }
    }
}

/// Removes every shard of these stripes wherever one is listed, whatever its size. What a kill leaves is listed again next time.
/// A freeze is obeyed before each folder.
pub(super) async fn remove(
    sites: &Sites,
    doomed: &BTreeSet<StripeId>,
    ledger: &Ledger,
    progress: &Progress,
) -> Result<Removal, PruneError> {
    let mut removal = Removal::default();
    if doomed.is_empty() {
        return Ok(removal);
    }
    let wanted: BTreeSet<u8> = doomed.iter().filter_map(|stripe| stripe.as_bytes().first().copied()).collect();
    // One more for the sites that do not say which folders they have.
    progress.expect_steps(wanted.len() as u64 + 1);
    for member in sites.members().iter().filter(|member| member.readable().is_none()) {
        removal.failed.insert(member.name().clone(), "it is down".to_owned());
    }
    let mut folders = listing::folders(up(sites), &wanted).await;
    while let Some(folder) = folders.next().await {
        if progress.is_interrupted() {
            return Err(PruneError::Interrupted);
        }
        super::refuse_frozen(ledger).await?;
        let of_sites = folder.into_iter().filter_map(|(number, listed)| {
            let member = sites.members().get(number)?;
            Some(remove_at(member, listed, doomed))
        });
        join_all(of_sites).await.into_iter().for_each(|done| removal.add(done));
        progress.add_step();
    }
    Ok(removal)
}

async fn remove_at(member: &Member, listed: Result<Vec<Listed>, SiteError>, doomed: &BTreeSet<StripeId>) -> Removal {
    let mut removal = Removal::default();
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => {
            removal.failed.insert(member.name().clone(), crate::chain::chain(&error));
            return removal;
        }
    };
    let is_doomed = |listed: &Listed| matches!(listed.key, ObjectKey::Shard { stripe, .. } if doomed.contains(&stripe));
    let objects = listed.into_iter().filter(is_doomed).collect();
    removal.add(remove_objects(member, objects).await);
    removal
}

/// Removes these objects at one site.
pub(super) async fn remove_objects(member: &Member, objects: Vec<Listed>) -> Removal {
    let mut removal = Removal::default();
    let delete = async |Listed { key, length }: Listed| {
        let removed = match member.writable() {
            Some(site) => delete(site, &key).await,
            None => Err("it takes no writes".to_owned()),
        };
        (key, length, removed)
    };
    let mut deletions = stream::iter(objects).map(delete).buffer_unordered(SITE_CONCURRENCY);
    while let Some((key, length, removed)) = deletions.next().await {
        removal.note(member.name(), &key, length, removed);
    }
    removal
}

async fn delete(site: &Site, key: &ObjectKey) -> Result<bool, String> {
    site.delete(key).await.map_err(|error| crate::chain::chain(&error))
}
