//! Which site holds which shard of one stripe, and where more should go.
//!
//! - **Owns** the continuation of a plan: shards that lie already are taken into account.
//! - **Does not** know whether a site answers: it is asked through a predicate.
//!
//! # Invariants
//! - **Y1** From nothing, it places as `pipeline`'s plan does: evenly, and above max(m, 1) at a site only where there are
//!   too few sites.
//! - **Y2** A shard that lies twice counts once, where it helps most: its other copies only add to what is claimed.

use std::collections::BTreeMap;

use blockhouse_pipeline::placement::{SiteDomain, durability_of};
use blockhouse_sites::Sites;
use blockhouse_types::{Code, Durability, ShardIndex, SiteId, StripeId};

use super::Holder;

/// The domains of all members, by their numbers.
#[derive(Debug)]
pub(super) struct Places {
    domains: Vec<SiteDomain>,
    /// For each member its group by device, provider and region: the number of the group's first member.
    groups: Vec<[usize; 3]>,
    /// For each member its place in the order of site ids, which plans go by.
    turns: Vec<usize>,
}

impl Places {
    pub(super) fn of(sites: &Sites, devices: &BTreeMap<SiteId, u64>) -> Self {
        let domain = |(number, member): (usize, &blockhouse_sites::Member)| {
            let site = member.id().unwrap_or_else(|| stand_in(number));
            let blockhouse_sites::SiteDomain { device, provider, region } = member.domain();
            // A device that was never seen is one of its own; devices are numbered from below.
            let device = device.or_else(|| devices.get(&site).copied()).unwrap_or(u64::MAX - number as u64);
            SiteDomain { site, device, provider, region }
        };
        Self::new(sites.members().iter().enumerate().map(domain).collect())
    }

    pub(super) fn new(domains: Vec<SiteDomain>) -> Self {
        let first = |same: &dyn Fn(&SiteDomain) -> bool| domains.iter().position(same);
        let group = |(number, domain): (usize, &SiteDomain)| {
            let device = first(&|other| other.device == domain.device);
            let provider = first(&|other| domain.provider.is_some() && other.provider == domain.provider);
            let region = first(&|other| domain.region.is_some() && other.region == domain.region);
            [device, provider, region].map(|first| first.unwrap_or(number))
        };
        let groups = domains.iter().enumerate().map(group).collect();
        let turn = |domain: &SiteDomain| domains.iter().filter(|other| other.site < domain.site).count();
        let turns = domains.iter().map(turn).collect();
        Self { domains, groups, turns }
    }

    pub(super) fn domains(&self) -> &[SiteDomain] {
        &self.domains
    }

    pub(super) fn member_of(&self, site: SiteId) -> Option<usize> {
        self.domains.iter().position(|domain| domain.site == site)
    }

    fn len(&self) -> usize {
        self.domains.len()
    }
}

/// An id for a site whose own is not known; it is never written anywhere.
fn stand_in(number: usize) -> SiteId {
    let mut bytes = [0xff; SiteId::LEN];
    bytes.iter_mut().zip((number as u64).to_be_bytes()).for_each(|(byte, value)| *byte = value);
    SiteId::new(bytes)
}

/// How many shards count to each site and each of its groups.
struct Loads<'a> {
    places: &'a Places,
    at_site: Vec<usize>,
    in_group: [Vec<usize>; 3],
}

impl<'a> Loads<'a> {
    fn none(places: &'a Places) -> Self {
        let zeros = vec![0; places.len()];
        Self { places, at_site: zeros.clone(), in_group: [zeros.clone(), zeros.clone(), zeros] }
    }

    fn groups(&self, member: usize) -> [usize; 3] {
        self.places.groups.get(member).copied().unwrap_or_default()
    }

    fn change(&mut self, member: usize, change: impl Fn(&mut usize)) {
        self.at_site.get_mut(member).into_iter().for_each(&change);
        for (loads, group) in self.in_group.iter_mut().zip(self.places.groups.get(member).into_iter().flatten()) {
            loads.get_mut(*group).into_iter().for_each(&change);
        }
    }

    fn add(&mut self, member: usize) {
        self.change(member, |load| *load += 1);
    }

    fn remove(&mut self, member: usize) {
        self.change(member, |load| *load -= 1);
    }

    fn of(&self, member: usize) -> usize {
        self.at_site.get(member).copied().unwrap_or_default()
    }

    /// What is to be kept low, the most important first.
    fn cost(&self, member: usize) -> (usize, usize, usize) {
        let groups = self.groups(member);
        let loads = || self.in_group.iter().zip(groups).filter_map(|(loads, group)| loads.get(group).copied());
        (self.of(member), loads().max().unwrap_or_default(), loads().sum())
    }
}

/// The shards of one stripe that lie at sites.
#[derive(Debug, Clone)]
pub(super) struct Layout<'a> {
    stripe: StripeId,
    code: Code,
    places: &'a Places,
    by_index: Vec<Vec<usize>>,
}

impl<'a> Layout<'a> {
    pub(super) fn none(stripe: StripeId, code: Code, places: &'a Places) -> Self {
        Self { stripe, code, places, by_index: vec![Vec::new(); code.shards()] }
    }

    pub(super) fn of(
        stripe: StripeId,
        code: Code,
        places: &'a Places,
        holders: impl IntoIterator<Item = Holder>,
    ) -> Self {
        let mut layout = Self::none(stripe, code, places);
        for holder in holders {
            layout.add(holder);
        }
        layout
    }

    /// Adds a shard; an index that the code does not have is none.
    pub(super) fn add(&mut self, holder: Holder) {
        if let Some(members) = self.by_index.get_mut(usize::from(holder.index.0))
            && !members.contains(&holder.member)
        {
            members.push(holder.member);
        }
    }

    pub(super) fn holds(&self, holder: Holder) -> bool {
        self.by_index.get(usize::from(holder.index.0)).is_some_and(|members| members.contains(&holder.member))
    }

    pub(super) fn holders(&self) -> Vec<Holder> {
        let of = |(index, members): (ShardIndex, &'_ Vec<usize>)| {
            members.iter().map(move |member| Holder { index, member: *member }).collect::<Vec<_>>()
        };
        self.code.indices().zip(&self.by_index).flat_map(of).collect()
    }

    pub(super) fn missing(&self) -> Vec<ShardIndex> {
        let empty = |(index, members): (ShardIndex, &Vec<usize>)| members.is_empty().then_some(index);
        self.code.indices().zip(&self.by_index).filter_map(empty).collect()
    }

    /// How many different shards there are.
    pub(super) fn distinct(&self) -> usize {
        self.by_index.iter().filter(|members| !members.is_empty()).count()
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability_as(&self.assign().0)
    }

    fn durability_as(&self, assigned: &[Option<usize>]) -> Durability {
        let domains = assigned.iter().flatten().filter_map(|member| self.places.domains.get(*member));
        durability_of(self.code, &domains.cloned().collect::<Vec<_>>())
    }

    /// Y2: counts every shard at one of its sites, as evenly as its copies allow.
    fn assign(&self) -> (Vec<Option<usize>>, Loads<'a>) {
        let mut loads = Loads::none(self.places);
        let only = |members: &Vec<usize>| members.first().copied().filter(|_| members.len() == 1);
        let mut assigned: Vec<Option<usize>> = self.by_index.iter().map(only).collect();
        assigned.iter().flatten().for_each(|member| loads.add(*member));
        for (chosen, members) in assigned.iter_mut().zip(&self.by_index).filter(|(_, members)| members.len() > 1) {
            *chosen = members.iter().copied().min_by_key(|member| loads.cost(*member));
            if let Some(member) = *chosen {
                loads.add(member);
            }
        }
        (assigned, loads)
    }

    /// Sites for shards that lie nowhere, one each; none for a shard that no site may have.
    pub(super) fn place(&self, wanted: &[ShardIndex], may: impl Fn(Holder) -> bool) -> Vec<Holder> {
        let (_, mut loads) = self.assign();
        let turn = self.turns(wanted, &may);
        let mut placed = Vec::with_capacity(wanted.len());
        for index in wanted.iter().copied() {
            let open = |member: &usize| may(Holder { index, member: *member });
            let best = (0..self.places.len()).filter(open).min_by_key(|member| (loads.cost(*member), turn(*member)));
            if let Some(member) = best {
                loads.add(member);
                placed.push(Holder { index, member });
            }
        }
        placed
    }

    /// Further copies that even out what doubled up while sites were down; none if that makes nothing safer.
    pub(super) fn spread(&self, may: impl Fn(Holder) -> bool) -> Vec<Holder> {
        let (mut assigned, mut loads) = self.assign();
        let indices: Vec<ShardIndex> = self.code.indices().collect();
        let turn = self.turns(&indices, &may);
        let before = self.durability_as(&assigned);
        let crowded = loads.at_site.iter().any(|load| *load > self.most());
        let mut copies = Vec::new();
        loop {
            let open = |member: &usize| indices.iter().any(|index| may(Holder { index: *index, member: *member }));
            let to = (0..self.places.len()).filter(open).min_by_key(|member| (loads.cost(*member), turn(*member)));
            let Some(to) = to else { break };
            let movable = indices.iter().copied().zip(&assigned).filter_map(|(index, member)| {
                let from = (*member)?;
                let helps = loads.of(from) >= loads.of(to) + 2;
                (helps && may(Holder { index, member: to })).then_some((loads.cost(from), index, from))
            });
            let Some((_, index, from)) = movable.max() else { break };
            loads.remove(from);
            loads.add(to);
            assigned.iter_mut().skip(usize::from(index.0)).take(1).for_each(|member| *member = Some(to));
            copies.push(Holder { index, member: to });
        }
        let after = self.durability_as(&assigned);
        let safer = after.w > before.w || (after.w == before.w && after.wd > before.wd);
        copies.retain(|copy| (safer || crowded) && !self.holds(*copy));
        copies
    }

    /// The most shards that one site should hold.
    fn most(&self) -> usize {
        self.code.parity().max(1)
    }

    /// The round of the sites that may be used, beginning where the stripe's id says.
    fn turns(&self, wanted: &[ShardIndex], may: impl Fn(Holder) -> bool) -> impl Fn(usize) -> usize {
        let usable = |member: &usize| wanted.iter().any(|index| may(Holder { index: *index, member: *member }));
        let mut round: Vec<usize> = (0..self.places.len()).filter(usable).collect();
        round.sort_by_key(|member| self.places.turns.get(*member));
        let first = self.stripe.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let start = first.checked_rem(round.len() as u64).and_then(|start| usize::try_from(start).ok()).unwrap_or(0);
        round.rotate_left(start);
        move |member| round.iter().position(|other| *other == member).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_pipeline::placement::plan_degraded;

    fn domain(id: u8, device: u64, region: Option<&str>) -> SiteDomain {
        let region = region.map(str::to_owned);
        SiteDomain { site: SiteId::new([id; 32]), device, provider: None, region }
    }

    fn code(data: u16, parity: u16) -> Code {
        Code::try_new(data, parity).unwrap()
    }

    fn stripe(first: u8) -> StripeId {
        let mut bytes = [7; 32];
        bytes[0] = first;
        StripeId::new(bytes)
    }

    /// Y1: the continuation of nothing is the plan.
    #[test]
    fn from_nothing_it_places_as_the_plan_does() {
        let regions = [None, Some("north"), Some("south")];
        for sites in 1..=12_u8 {
            for kind in 0..3_usize {
                let domains: Vec<_> = (0..sites)
                    .map(|n| {
                        domain(
                            n.wrapping_mul(37) ^ 0x15,
                            u64::from(n) / (kind as u64 + 1),
                            regions[usize::from(n) * kind % 3],
                        )
                    })
                    .collect();
                let places = Places::new(domains.clone());
                for (code, first) in [code(4, 2), code(6, 3), code(1, 0), code(1, 1), code(2, 0), code(8, 4)]
                    .into_iter()
                    .flat_map(|code| (0..13).map(move |first| (code, first)))
                {
                    let stripe = stripe(first);
                    let all: Vec<_> = code.indices().collect();
                    let layout = Layout::none(stripe, code, &places).place(&all, |_| true);
                    let plan = plan_degraded(code, &domains, &stripe).unwrap();
                    let expected: Vec<_> = plan.sites.iter().map(|site| places.member_of(*site).unwrap()).collect();
                    let found: Vec<_> = layout.iter().map(|holder| holder.member).collect();
                    assert_eq!(found, expected, "{code} over {sites}");
                }
            }
        }
    }

    #[test]
    fn doubled_shards_spread_out_when_sites_return_and_then_stay() {
        let places = Places::new((0..6).map(|n| domain(n, n.into(), None)).collect());
        let all: Vec<_> = code(4, 2).indices().collect();
        for first in 0..7 {
            let mut layout = Layout::none(stripe(first), code(4, 2), &places);
            let half = layout.place(&all, |holder| holder.member < 3);
            for holder in half {
                layout.add(holder);
            }
            assert_eq!(layout.durability(), Durability { d: 6, w: 1, wd: 1 });
            assert_eq!(layout.spread(|holder| holder.member < 3), []);
            let copies = layout.spread(|_| true);
            assert_eq!(copies.len(), 3);
            for holder in copies {
                layout.add(holder);
            }
            assert_eq!(layout.durability(), Durability { d: 6, w: 2, wd: 2 });
            assert_eq!(layout.spread(|_| true), []);
        }
    }

    #[test]
    fn a_second_copy_of_a_shard_counts_once() {
        let places = Places::new((0..6).map(|n| domain(n, n.into(), None)).collect());
        let at = |index, member| Holder { index: ShardIndex(index), member };
        let same = (0..6).map(|member| at(0, member)).chain([at(1, 1), at(2, 2)]);
        let layout = Layout::of(stripe(0), code(4, 2), &places, same);
        assert_eq!(layout.durability(), Durability { d: 3, w: 0, wd: 0 });
        assert_eq!(layout.missing(), [3, 4, 5].map(ShardIndex));
    }

    /// V2, L3: the claim holds for every set of that many sites, by trying all of them.
    #[test]
    fn durability_never_claims_more_than_trying_all_losses_shows() {
        let places = Places::new((0..6).map(|n| domain(n, n.into(), None)).collect());
        let code = code(3, 3);
        for seed in 0..4000_u64 {
            let mut bits = blockhouse_crypto::hash::hash("test layout", &seed.to_le_bytes()).into_iter();
            let holders = code.indices().flat_map(|index| {
                let mask = bits.next().unwrap() & bits.next().unwrap();
                (0..6).filter(move |member| mask >> member & 1 == 1).map(move |member| Holder { index, member })
            });
            let layout = Layout::of(stripe(0), code, &places, holders.collect::<Vec<_>>());
            let claimed = layout.durability();
            assert_eq!(usize::from(claimed.d), layout.distinct());
            for lost in 0..64_u32 {
                let kept = layout.by_index.iter().filter(|at| at.iter().any(|member| lost >> member & 1 == 0)).count();
                assert!(
                    lost.count_ones() > u32::from(claimed.w) || kept >= code.data() || claimed.w == 0,
                    "{seed} {lost:b}"
                );
            }
        }
    }
}
