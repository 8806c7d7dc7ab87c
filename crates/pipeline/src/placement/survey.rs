//! What a code over these sites survives, said in words before anything is written.

use std::collections::BTreeMap;
use std::fmt;

use blockhouse_types::{Code, Durability, SiteId, StripeId};

use super::{PlacementError, SiteDomain, distinct, losses_survived, plan, sites_needed};
use crate::placement::Group;

/// What a plan survives, and what its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The code.
    pub code: Code,
    /// How many sites there are.
    pub sites: usize,
    /// What every stripe of the plan survives.
    pub durability: Durability,
    /// What is worth saying, the gravest first.
    pub remarks: Vec<Remark>,
}

/// Something the owner should know about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// The code has no parity.
    NoParity,
    /// Losing one of the wider domains loses data, though sites alone could be lost.
    OneWiderDomain {
        /// How many sites can be lost.
        sites: u16,
    },
    /// Several sites lie on one device.
    SharedDevice {
        /// Those sites.
        sites: Vec<SiteId>,
    },
    /// Fewer sites would survive as many losses: the others only add to what can fail.
    MoreIsNotSafer {
        /// How many sites there are.
        sites: usize,
        /// How many would do as well.
        enough: usize,
        /// How many losses both survive.
        losses: u16,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParity => f.write_str("no parity: the loss of any one site loses data"),
            Self::OneWiderDomain { sites } => write!(
                f,
                "any {sites} {} may vanish, but not any one device, provider or region",
                if *sites == 1 { "site" } else { "sites" }
            ),
            Self::SharedDevice { sites } => {
                write!(f, "{} sites lie on one device and fail together with it", sites.len())
            }
            Self::MoreIsNotSafer { sites, enough, losses } => write!(
                f,
                "more sites are not safer here: {enough} sites survive {losses} lost just as {sites} do, with fewer that can fail"
            ),
        }
    }
}

impl Survey {
    /// The survey as lines to print.
    pub fn lines(&self) -> Vec<String> {
        let survives = match self.durability {
            Durability { w: 0, .. } => "no site may vanish".to_owned(),
            Durability { w, wd: 0, .. } => format!("any {w} may vanish"),
            Durability { w, wd, .. } => format!("any {w} may vanish, or any {wd} devices, providers or regions"),
        };
        let plan = format!(
            "{} over {} sites: {survives} (w = {}, wd = {})",
            self.code, self.sites, self.durability.w, self.durability.wd
        );
        std::iter::once(plan).chain(self.remarks.iter().map(ToString::to_string)).collect()
    }
}

/// Looks at a code over sites, or says how many sites are missing.
pub fn survey(code: Code, sites: &[SiteDomain]) -> Result<Survey, PlacementError> {
    let sites = distinct(sites);
    let owned: Vec<SiteDomain> = sites.iter().map(|site| (*site).clone()).collect();
    let durability = least_over_rotations(code, &owned)?;
    let mut remarks = Vec::new();
    if code.parity() == 0 {
        remarks.push(Remark::NoParity);
    } else if durability.wd == 0 && durability.w > 0 {
        remarks.push(Remark::OneWiderDomain { sites: durability.w });
    }
    let mut devices: BTreeMap<u64, Vec<SiteId>> = BTreeMap::new();
    for site in &sites {
        devices.entry(site.device).or_default().push(site.site);
    }
    remarks.extend(devices.into_values().filter(|on| on.len() > 1).map(|sites| Remark::SharedDevice { sites }));
    remarks.extend(more_is_not_safer(code, sites.len()));
    Ok(Survey { code, sites: sites.len(), durability, remarks })
}

/// Stripes begin their round at different sites, and where domains are of different sizes it may matter.
fn least_over_rotations(code: Code, sites: &[SiteDomain]) -> Result<Durability, PlacementError> {
    let mut least: Option<Durability> = None;
    for start in 0..sites.len() as u64 {
        let mut stripe = [0; 32];
        stripe.iter_mut().zip(start.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        let durability = plan(code, sites, &StripeId::new(stripe))?.durability;
        least = Some(least.map_or(durability, |least| least.least(durability)));
    }
    least.ok_or(PlacementError::NoSites)
}

/// A smaller number of sites that survives as many losses; only where some site has two shards.
fn more_is_not_safer(code: Code, sites: usize) -> Option<Remark> {
    if sites >= code.shards() {
        return None;
    }
    let losses = losses_over(code, sites);
    let enough = (sites_needed(code)..sites).find(|fewer| losses_over(code, *fewer) >= losses)?;
    Some(Remark::MoreIsNotSafer { sites, enough, losses: super::saturated(losses) })
}

/// w of a code spread evenly over a number of sites.
fn losses_over(code: Code, sites: usize) -> usize {
    let load = |site: usize| (code.shards() + sites - 1 - site) / sites;
    losses_survived((0..sites).map(|site| (Group::Device(site as u64), load(site))).collect(), code.parity())
}
