//! Which site gets which shard, and what losses a placement survives.
//!
//! - **Owns** the rules of placement and the meaning of d, w and wd.
//! - **Does not** know whether a site answers: it is given the sites that may be used.
//!
//! # Invariants
//! - **L1** A [`plan`] puts at most max(m, 1) shards at one site, and no site has two more than another.
//! - **L2** The same sites and stripe give the same plan, in whatever order the sites come.
//! - **L3** [`durability_of`] is the definition on the page: it never claims a loss survivable that is not.
//!
//! Format: `docs/design/stripes.md`, section *Placement*.

mod survey;

use std::collections::BTreeMap;

use blockhouse_types::{Code, Durability, SiteId, StripeId};

pub use survey::{Remark, Survey, survey};

/// A site and the wider domains that it fails with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteDomain {
    /// The site.
    pub site: SiteId,
    /// The device, bucket or account that it lies on; equal numbers are one.
    pub device: u64,
    /// Who runs it, if stated.
    pub provider: Option<String>,
    /// Where it is, if stated.
    pub region: Option<String>,
}

/// A group of sites that can vanish together, by the three ways to look at them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Device(u64),
    Provider(&'a str),
    Region(&'a str),
    /// A site that states no provider or no region is a group of its own there.
    AloneByProvider(SiteId),
    AloneByRegion(SiteId),
}

impl SiteDomain {
    fn groups(&self) -> [Group<'_>; 3] {
        [
            Group::Device(self.device),
            self.provider.as_deref().map_or(Group::AloneByProvider(self.site), Group::Provider),
            self.region.as_deref().map_or(Group::AloneByRegion(self.site), Group::Region),
        ]
    }
}

/// Where the shards of a stripe go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The site of each shard, by index.
    pub sites: Vec<SiteId>,
    /// What it survives once all its shards are durable.
    pub durability: Durability,
}

/// Why a code does not fit the sites.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    #[error("there is no site to put shards at")]
    NoSites,
    #[error(
        "a {code} code needs at least {needed} sites, there are {sites}: {}",
        survivable(*durability)
    )]
    TooFewSites {
        code: Code,
        sites: usize,
        needed: usize,
        /// What the best placement over these sites would survive.
        durability: Durability,
    },
}

fn survivable(durability: Durability) -> String {
    match durability.w {
        0 => "no loss of a site would be survivable".to_owned(),
        w => format!("the loss of {w} would be survivable, and not by the code's own rule"),
    }
}

/// How many sites a code needs, so that none has more shards than the code can lose.
pub const fn sites_needed(code: Code) -> usize {
    let most = if code.parity() > 1 { code.parity() } else { 1 };
    code.shards().div_ceil(most)
}

/// Places a stripe by all rules, or says how many sites are missing.
pub fn plan(code: Code, sites: &[SiteDomain], stripe: &StripeId) -> Result<Placement, PlacementError> {
    let placement = plan_degraded(code, sites, stripe)?;
    let (found, needed) = (distinct(sites).len(), sites_needed(code));
    if found < needed {
        let durability = placement.durability;
        return Err(PlacementError::TooFewSites { code, sites: found, needed, durability });
    }
    Ok(placement)
}

/// Places a stripe as well as these sites allow, also where they are too few for the code.
///
/// For the sites that answer while others are down: the durability says what is left.
pub fn plan_degraded(code: Code, sites: &[SiteDomain], stripe: &StripeId) -> Result<Placement, PlacementError> {
    let sites = distinct(sites);
    let start = rotation(stripe, sites.len()).ok_or(PlacementError::NoSites)?;
    let mut at_site = vec![0_u16; sites.len()];
    let mut in_group: BTreeMap<Group<'_>, u16> = BTreeMap::new();
    let mut holders: Vec<&SiteDomain> = Vec::with_capacity(code.shards());
    for _ in code.indices() {
        let cost = |(place, site): (usize, &SiteDomain)| {
            let loads = site.groups().map(|group| in_group.get(&group).copied().unwrap_or(0));
            let turn = (place + sites.len() - start) % sites.len();
            (at_site.get(place).copied(), loads.iter().max().copied(), loads.iter().sum::<u16>(), turn)
        };
        let best = sites.iter().copied().enumerate().min_by_key(|(place, site)| cost((*place, site)));
        let (place, site) = best.ok_or(PlacementError::NoSites)?;
        if let Some(count) = at_site.get_mut(place) {
            *count += 1;
        }
        for group in site.groups() {
            *in_group.entry(group).or_default() += 1;
        }
        holders.push(site);
    }
    let durability = durability(code, &holders);
    Ok(Placement { sites: holders.into_iter().map(|holder| holder.site).collect(), durability })
}

/// What a stripe survives whose durable shards lie at `holders`, one entry for each shard.
pub fn durability_of(code: Code, holders: &[SiteDomain]) -> Durability {
    durability(code, &holders.iter().collect::<Vec<_>>())
}

fn durability(code: Code, holders: &[&SiteDomain]) -> Durability {
    let spare = holders.len().checked_sub(code.data());
    let losses = |loads: BTreeMap<Group<'_>, usize>| spare.map_or(0, |spare| losses_survived(loads, spare));
    let by = |kind: usize| {
        let mut loads = BTreeMap::new();
        for group in holders.iter().filter_map(|holder| holder.groups().into_iter().nth(kind)) {
            *loads.entry(group).or_default() += 1;
        }
        losses(loads)
    };
    let mut by_site = BTreeMap::new();
    for holder in holders {
        *by_site.entry(Group::AloneByRegion(holder.site)).or_default() += 1;
    }
    let wd = (0..3).map(by).min().unwrap_or(0);
    Durability { d: saturated(holders.len()), w: saturated(losses(by_site)), wd: saturated(wd) }
}

/// How many groups can vanish, the fullest first, before more than `spare` shards are gone.
fn losses_survived(loads: BTreeMap<Group<'_>, usize>, spare: usize) -> usize {
    let mut loads: Vec<usize> = loads.into_values().collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let gone = loads.into_iter().scan(0, |sum, load| {
        *sum += load;
        Some(*sum)
    });
    gone.take_while(|gone| *gone <= spare).count()
}

fn saturated(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Each site once, in the order of ids.
fn distinct(sites: &[SiteDomain]) -> Vec<&SiteDomain> {
    let by_id: BTreeMap<SiteId, &SiteDomain> = sites.iter().map(|site| (site.site, site)).collect();
    by_id.into_values().collect()
}

/// Where the round of the sites begins for a stripe; `None` without sites.
fn rotation(stripe: &StripeId, sites: usize) -> Option<usize> {
    let first = u64::from_le_bytes(*stripe.as_bytes().first_chunk()?);
    usize::try_from(first.checked_rem(sites as u64)?).ok()
}

#[cfg(test)]
mod tests;
