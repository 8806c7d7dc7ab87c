//! The old wraps and key bags: removed where the new ones are, counted where they are not.

use std::collections::BTreeMap;

use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_sites::{ObjectKey, Prefix, Site, SiteName, Versions};
use blockhouse_types::{BagHash, SnapshotId};

use super::{RotateError, RotateReport};
use crate::chain::chain;
use crate::vault::Vault;

/// What is left of the old at one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Old wraps that are there; none if the site could not be asked.
    pub wraps: Option<u64>,
    /// Old key bags that are there.
    pub bags: Option<u64>,
    /// Why they are.
    pub why: String,
}

/// What a site lists.
struct Held {
    wraps: Vec<(SnapshotId, u32)>,
    bags: Vec<(u32, BagHash)>,
}

/// R2: removes what is older than `current` and than the bag in force.
pub(super) async fn remove(
    vault: &Vault,
    current: &BTreeMap<SnapshotId, u32>,
    report: &mut RotateReport,
) -> Result<(), RotateError> {
    let named = vault.ledger().bag().await?;
    spread(vault, named).await;
    let mut held = Vec::new();
    for member in vault.sites().members() {
        let name = member.name().clone();
        match member.readable() {
            Some(site) => match list(site).await {
                Ok(listed) => held.push((site, listed)),
                Err(error) => note(report, name, (None, None), chain(&error)),
            },
            None => note(report, name, (None, None), "it is down".to_owned()),
        }
    }
    // They keep what they had, and are not asked.
    for (entry, state) in vault.apart().iter().filter_map(|entry| Some((entry, entry.state?))) {
        note(report, entry.spec.name.clone(), (None, None), format!("it is {} and is not asked", state.as_str()));
    }
    let needed = vault.quorum().max(vault.sites().members().len() / 2 + 1);
    let is_held = |wanted: &dyn Fn(&Held) -> bool| held.iter().filter(|(_, held)| wanted(held)).count() >= needed;
    let is_bag_safe = is_held(&|held| held.bags.contains(&named));
    let safe: BTreeMap<SnapshotId, u32> = current
        .iter()
        .filter(|(id, version)| is_held(&|held| held.wraps.contains(&(**id, **version))))
        .map(|(id, version)| (*id, *version))
        .collect();
    let found = Found { named, current, safe: &safe, is_bag_safe };
    for (site, held) in &held {
        remove_at(site, held, found, report).await;
    }
    Ok(())
}

/// What is in force, and what of it is at enough sites.
#[derive(Clone, Copy)]
struct Found<'a> {
    named: (u32, BagHash),
    current: &'a BTreeMap<SnapshotId, u32>,
    safe: &'a BTreeMap<SnapshotId, u32>,
    is_bag_safe: bool,
}

/// Removes what is old at one site, and notes what stays.
async fn remove_at(site: &Site, held: &Held, found: Found<'_>, report: &mut RotateReport) {
    let Found { named, current, safe, is_bag_safe } = found;
    let has_bag = held.bags.contains(&named);
    let old_wraps = held.wraps.iter().filter(|(id, version)| current.get(id).is_some_and(|now| version < now));
    let old_bags = held.bags.iter().filter(|bag| bag.0 <= named.0 && **bag != named);
    let (mut removed, mut left) = ((0, 0), (0, 0));
    let mut why = "the new ones are not at enough sites yet".to_owned();
    for (id, version) in old_wraps {
        let may = safe.get(id).is_some_and(|now| held.wraps.contains(&(*id, *now)));
        let key = ObjectKey::Wraps { snapshot: *id, version: *version };
        *(if may && delete(site, &key, &mut why).await { &mut removed.0 } else { &mut left.0 }) += 1;
    }
    for (version, hash) in old_bags {
        let key = ObjectKey::Bag { version: *version, hash: *hash };
        let may = is_bag_safe && has_bag;
        *(if may && delete(site, &key, &mut why).await { &mut removed.1 } else { &mut left.1 }) += 1;
    }
    // Asked of the bag in force: what an earlier run removed there is not listed, and may still be read.
    if let Some(why) = versions_kept(site, named, has_bag).await {
        return note(report, site.name().clone(), (None, None), why);
    }
    report.wraps_removed += removed.0;
    report.bags_removed += removed.1;
    if left != (0, 0) {
        note(report, site.name().clone(), (Some(left.0), Some(left.1)), why);
    }
}

/// Why what was removed at a site is not gone, or may not be; none if it is. Before a second bag nothing old was ever there.
async fn versions_kept(site: &Site, (version, hash): (u32, BagHash), has_bag: bool) -> Option<String> {
    if !has_bag || version < 2 {
        return None;
    }
    match site.versions(&ObjectKey::Bag { version, hash }).await {
        Ok(Versions::None) => None,
        Ok(Versions::Kept) => Some("what was removed there is kept as an older version".to_owned()),
        Ok(Versions::Suspended) => {
            Some("it keeps no versions any more, and may keep older versions from before".to_owned())
        }
        Err(error) => Some(chain(&error)),
    }
}

/// Gives the bag in force to sites that were down when it was written; one that lacks it keeps its old ones.
async fn spread(vault: &Vault, (version, hash): (u32, BagHash)) {
    let key = ObjectKey::Bag { version, hash };
    if let Ok(fetched) = vault.sites().get_any(&key, |bytes| SealedBag::hash(bytes) == hash).await {
        vault.sites().put_everywhere(&key, &fetched.bytes).await;
    }
}

async fn list(site: &Site) -> Result<Held, blockhouse_sites::SiteError> {
    let wraps = site.list_all(Prefix::Wraps).await?.into_iter().filter_map(|listed| match listed.key {
        ObjectKey::Wraps { snapshot, version } => Some((snapshot, version)),
        _ => None,
    });
    let wraps = wraps.collect();
    let bags = site.list_all(Prefix::Bags).await?.into_iter().filter_map(|listed| match listed.key {
        ObjectKey::Bag { version, hash } => Some((version, hash)),
        _ => None,
    });
    Ok(Held { wraps, bags: bags.collect() })
}

async fn delete(site: &Site, key: &ObjectKey, why: &mut String) -> bool {
    match site.delete(key).await {
        Ok(_was_there) => true,
        Err(error) => {
            *why = chain(&error);
            false
        }
    }
}

fn note(report: &mut RotateReport, site: SiteName, (wraps, bags): (Option<u64>, Option<u64>), why: String) {
    report.left.insert(site, Left { wraps, bags, why });
}
