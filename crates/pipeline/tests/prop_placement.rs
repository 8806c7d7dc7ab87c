//! Durability against every set of losses, and plans against every even placement.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use std::collections::BTreeSet;

use blockhouse_pipeline::placement::{PlacementError, SiteDomain, durability_of, plan, plan_degraded, sites_needed};
use blockhouse_types::{Code, Durability, SiteId, StripeId};
use proptest::prelude::*;

fn code() -> impl Strategy<Value = Code> {
    (1..6_u16, 0..5_u16).prop_map(|(data, parity)| Code::try_new(data, parity).unwrap())
}

fn sites(most: u8) -> impl Strategy<Value = Vec<SiteDomain>> {
    let name = || prop::option::of((0..3_u8).prop_map(|number| number.to_string()));
    let domains = prop::collection::vec((0..4_u64, name(), name()), 1..=usize::from(most));
    domains.prop_map(|domains| {
        let site =
            |(id, (device, provider, region))| SiteDomain { site: SiteId::new([id; 32]), device, provider, region };
        (0..).zip(domains).map(site).collect()
    })
}

/// The definition, word by word: the greatest t such that any t groups can vanish and k shards remain.
fn losses(code: Code, holders: &[SiteDomain], group: impl Fn(&SiteDomain) -> String) -> u16 {
    let groups: Vec<String> = holders.iter().map(&group).collect::<BTreeSet<_>>().into_iter().collect();
    let remain = |lost: u32| {
        let is_lost = |holder: &&SiteDomain| lost >> groups.binary_search(&group(holder)).unwrap() & 1 == 1;
        holders.len() - holders.iter().filter(is_lost).count()
    };
    let survives = |t: u32| {
        (0..1_u32 << groups.len()).filter(|lost| lost.count_ones() == t).all(|lost| remain(lost) >= code.data())
    };
    (1..=u32::try_from(groups.len()).unwrap()).take_while(|t| survives(*t)).count().try_into().unwrap()
}

fn by_definition(code: Code, holders: &[SiteDomain]) -> Durability {
    let stated = |name: &Option<String>, site: &SiteDomain| match name {
        Some(name) => format!("name {name}"),
        None => format!("alone {}", site.site),
    };
    let wider = [
        losses(code, holders, |holder| holder.device.to_string()),
        losses(code, holders, |holder| stated(&holder.provider, holder)),
        losses(code, holders, |holder| stated(&holder.region, holder)),
    ];
    Durability {
        d: holders.len().try_into().unwrap(),
        w: losses(code, holders, |holder| holder.site.to_string()),
        wd: wider.into_iter().min().unwrap(),
    }
}

fn holders(sites: &[SiteDomain], placed: &[SiteId]) -> Vec<SiteDomain> {
    placed.iter().map(|id| sites.iter().find(|site| site.site == *id).unwrap().clone()).collect()
}

/// The best w and wd over all placements in which no site has two more shards than another.
fn best_even(code: Code, sites: &[SiteDomain]) -> (u16, u16) {
    let (base, extra) = (code.shards() / sites.len(), code.shards() % sites.len());
    let even = (0..1_u32 << sites.len()).filter(|set| set.count_ones() as usize == extra).map(|set| {
        let load = |at: usize| base + usize::from(set >> at & 1 == 1);
        let placed: Vec<SiteDomain> =
            sites.iter().enumerate().flat_map(|(at, site)| vec![site.clone(); load(at)]).collect();
        let durability = by_definition(code, &placed);
        (durability.w, durability.wd)
    });
    even.fold((0, 0), |best, (w, wd)| (best.0.max(w), best.1.max(wd)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn durability_is_its_definition(code in code(), sites in sites(6), places in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let holders: Vec<SiteDomain> = places.iter().map(|place| place.get(&sites).clone()).collect();
        prop_assert_eq!(durability_of(code, &holders), by_definition(code, &holders));
    }

    #[test]
    fn plans_keep_the_rules(code in code(), sites in sites(7), stripe in any::<[u8; 32]>()) {
        let stripe = StripeId::new(stripe);
        let placement = plan_degraded(code, &sites, &stripe).unwrap();
        prop_assert_eq!(placement.sites.len(), code.shards());
        prop_assert_eq!(placement.durability, by_definition(code, &holders(&sites, &placement.sites)));
        let loads: Vec<usize> =
            sites.iter().map(|site| placement.sites.iter().filter(|placed| **placed == site.site).count()).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        let mut reversed = sites.clone();
        reversed.reverse();
        prop_assert_eq!(&plan_degraded(code, &reversed, &stripe).unwrap(), &placement);
        match plan(code, &sites, &stripe) {
            Ok(planned) => {
                prop_assert!(*loads.iter().max().unwrap() <= code.parity().max(1));
                prop_assert_eq!(planned, placement);
            }
            Err(PlacementError::TooFewSites { needed, durability, .. }) => {
                prop_assert!(sites.len() < needed && needed == sites_needed(code));
                prop_assert_eq!(durability, placement.durability);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    /// With one kind of wider domain the plan is the best there is, in w and in wd.
    #[test]
    fn plans_over_devices_are_best(code in code(), sites in sites(6), stripe in any::<[u8; 32]>()) {
        let strip = |site: SiteDomain| SiteDomain { provider: None, region: None, ..site };
        let sites: Vec<SiteDomain> = sites.into_iter().map(strip).collect();
        let durability = plan_degraded(code, &sites, &StripeId::new(stripe)).unwrap().durability;
        prop_assert_eq!((durability.w, durability.wd), best_even(code, &sites));
    }
}
