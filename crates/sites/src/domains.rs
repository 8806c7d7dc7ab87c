//! Wider domains: what several sites lose together.
//!
//! - **Owns** the grouping of sites by device, provider and region.
//! - **Does not** place shards and does not compute w or wd: `pipeline` does, from these groups.
//!
//! # Invariants
//! - **D1** In each kind of domain every site is in exactly one group.
//! - **D2** A site of which a domain is not known is a group of its own there.
//!
//! Rules: `docs/design/stripes.md`, Placement.

use std::collections::HashMap;
use std::hash::Hash;

/// Where a site is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SiteDomain {
    /// The device of its folder (`st_dev`); none for a site that is down or is no folder.
    pub device: Option<u64>,
    /// Who runs it.
    pub provider: Option<String>,
    /// Where on earth it is.
    pub region: Option<String>,
}

/// A kind of domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainKind {
    /// Folders of one disk.
    Device,
    /// Sites of one provider.
    Provider,
    /// Sites in one region.
    Region,
}

impl DomainKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Device, Self::Provider, Self::Region];
}

/// Sites by number, grouped in each kind of domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    device: Vec<Vec<usize>>,
    provider: Vec<Vec<usize>>,
    region: Vec<Vec<usize>>,
}

impl Domains {
    /// Groups sites; their numbers are their places in the slice.
    pub fn of(sites: &[SiteDomain]) -> Self {
        Self {
            device: group(sites.iter().map(|site| site.device)),
            provider: group(sites.iter().map(|site| site.provider.as_deref())),
            region: group(sites.iter().map(|site| site.region.as_deref())),
        }
    }

    /// The groups of one kind, in the order of their first sites.
    pub fn groups(&self, kind: DomainKind) -> &[Vec<usize>] {
        match kind {
            DomainKind::Device => &self.device,
            DomainKind::Provider => &self.provider,
            DomainKind::Region => &self.region,
        }
    }
}

fn group<D: Eq + Hash>(domains: impl Iterator<Item = Option<D>>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut number_of: HashMap<D, usize> = HashMap::new();
    for (site, domain) in domains.enumerate() {
        let known = domain.map(|domain| *number_of.entry(domain).or_insert(groups.len()));
        match known.and_then(|number| groups.get_mut(number)) {
            Some(group) => group.push(site),
            None => groups.push(vec![site]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(device: Option<u64>, provider: Option<&str>, region: Option<&str>) -> SiteDomain {
        SiteDomain { device, provider: provider.map(str::to_owned), region: region.map(str::to_owned) }
    }

    #[test]
    fn folders_of_one_disk_are_one_group() {
        let domains = Domains::of(&vec![site(Some(7), None, None); 6]);
        assert_eq!(domains.groups(DomainKind::Device), [vec![0, 1, 2, 3, 4, 5]]);
        assert_eq!(domains.groups(DomainKind::Region).len(), 6);
    }

    #[test]
    fn sites_without_a_label_stand_alone() {
        let sites = [
            site(None, Some("a"), Some("north")),
            site(None, None, Some("south")),
            site(Some(1), Some("a"), Some("south")),
            site(Some(1), None, Some("north")),
        ];
        let domains = Domains::of(&sites);
        assert_eq!(domains.groups(DomainKind::Device), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(domains.groups(DomainKind::Provider), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(domains.groups(DomainKind::Region), [vec![0, 3], vec![1, 2]]);
        for kind in DomainKind::ALL {
            assert_eq!(domains.groups(kind).concat().len(), sites.len());
        }
    }
}
