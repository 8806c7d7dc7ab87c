//! Plain objects, the same at every site: written to all that take writes, counted where all of them are durable.

use std::collections::BTreeSet;

use blockhouse_homes::Home;
use blockhouse_pipeline::placement::{SiteDomain, durability_of};
use blockhouse_sites::{NotDurable, ObjectKey, SiteName, Sites};
use blockhouse_types::{Code, Durability};
use bytes::Bytes;

use crate::blocks::{self, BlocksError};

/// The sites at which everything published so far is durable.
#[derive(Debug)]
pub struct Publication {
    members: BTreeSet<usize>,
    failures: Vec<Failure>,
}

/// A site that lacks something.
#[derive(Debug)]
pub struct Failure {
    /// The site.
    pub site: SiteName,
    /// What could not be written.
    pub object: String,
    /// Why.
    pub why: NotPublished,
}

/// Why a site lacks something that was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotPublished {
    /// An object.
    #[error(transparent)]
    Object(#[from] NotDurable),
    /// The ledger's blocks.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
}

/// Too few sites hold an object that a snapshot needs.
#[derive(Debug, thiserror::Error)]
#[error("{what} is durable at {held} {places}, {needed} are needed{}", failed(failures))]
pub struct TooFewCopies {
    /// What was published.
    pub what: &'static str,
    /// How many places hold it.
    pub held: usize,
    /// How many must.
    pub needed: usize,
    /// What is counted: sites, or wider domains.
    pub places: &'static str,
    /// What went wrong where.
    pub failures: Vec<Failure>,
}

fn failed(failures: &[Failure]) -> String {
    let mut names: Vec<&str> = failures.iter().map(|failure| failure.site.as_str()).collect();
    names.dedup();
    if names.is_empty() { String::new() } else { format!("; not at {}", names.join(", ")) }
}

impl Publication {
    /// Nothing published: every site that takes writes is in.
    pub fn begin(sites: &Sites) -> Self {
        let writable = sites.members().iter().enumerate().filter(|(_, member)| member.writable().is_some());
        Self { members: writable.map(|(number, _)| number).collect(), failures: Vec::new() }
    }

    /// Writes one object everywhere. A site that fails is out.
    pub async fn put(&mut self, sites: &Sites, key: &ObjectKey, bytes: Bytes) {
        for outcome in sites.put_everywhere(key, &bytes).await {
            if let Err(why) = outcome.result {
                self.drop_out(outcome.member, Failure { site: outcome.site, object: key.path(), why: why.into() });
            }
        }
    }

    /// Copies the ledger's blocks up to `height` everywhere. A site that fails is out. Of an outside chain there are none to copy: it
    /// keeps itself.
    pub async fn copy_blocks(&mut self, sites: &Sites, home: &Home, height: u64) {
        let Ok(home) = home.own_copy() else { return };
        for copied in blocks::copy_everywhere(sites, home, height).await {
            if let Err(why) = copied.result {
                let object = format!("the ledger's blocks up to {height}");
                self.drop_out(copied.member, Failure { site: copied.site, object, why: why.into() });
            }
        }
        // Who went down meanwhile was not asked.
        self.members.retain(|number| sites.members().get(*number).is_some_and(|member| member.writable().is_some()));
    }

    /// The first failure of a site is the one to tell.
    fn drop_out(&mut self, member: usize, failure: Failure) {
        if self.members.remove(&member) {
            self.failures.push(failure);
        }
    }

    /// The sites that lack something, and why.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// How many sites hold everything.
    pub fn held(&self) -> usize {
        self.members.len()
    }

    /// How many sites, and wider domains, may vanish with a copy of everything left.
    pub fn survives(&self, domains: &[SiteDomain]) -> Durability {
        copies_survive(&self.members, domains)
    }

    /// Fails if fewer than `needed` sites hold everything.
    pub fn require(&mut self, what: &'static str, needed: usize) -> Result<(), TooFewCopies> {
        self.require_of(what, (self.held(), needed), "sites")
    }

    /// Fails if what was promised of the whole snapshot is more than its copies survive: they must be at w+1 sites, in wd+1
    /// wider domains.
    pub fn require_for(
        &mut self,
        what: &'static str,
        promised: Durability,
        domains: &[SiteDomain],
    ) -> Result<(), TooFewCopies> {
        self.require(what, usize::from(promised.w) + 1)?;
        let held = usize::from(self.survives(domains).wd) + 1;
        self.require_of(what, (held, usize::from(promised.wd) + 1), "wider domains")
    }

    fn require_of(
        &mut self,
        what: &'static str,
        (held, needed): (usize, usize),
        places: &'static str,
    ) -> Result<(), TooFewCopies> {
        if held >= needed {
            return Ok(());
        }
        Err(TooFewCopies { what, held, needed, places, failures: std::mem::take(&mut self.failures) })
    }
}

/// What an object survives that is whole at each of these members: a stripe with k = 1, one shard at each.
pub(crate) fn copies_survive(members: &BTreeSet<usize>, domains: &[SiteDomain]) -> Durability {
    let one = Code::try_new(1, 0).expect("one piece of data and no parity is a code");
    let holders: Vec<SiteDomain> = members.iter().filter_map(|member| domains.get(*member).cloned()).collect();
    durability_of(one, &holders)
}

/// What a snapshot survives whose stripes survive one thing and whose description another.
pub(crate) const fn capped(stripes: Durability, description: Durability) -> Durability {
    const fn least(a: u16, b: u16) -> u16 {
        if a < b { a } else { b }
    }
    Durability { d: stripes.d, w: least(stripes.w, description.w), wd: least(stripes.wd, description.wd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::SiteId;

    fn domain(number: u8, device: u64, region: Option<&str>) -> SiteDomain {
        let region = region.map(str::to_owned);
        SiteDomain { site: SiteId::new([number; 32]), device, provider: None, region }
    }

    /// Whole copies: all but one site may go, and all but one device, provider or region, whichever are fewer.
    #[test]
    fn copies_survive_all_losses_but_the_last_site_and_the_last_wider_domain() {
        let domains: Vec<SiteDomain> =
            (0..6).map(|n| domain(n, n.into(), Some(["north", "south"][n as usize % 2]))).collect();
        let survive = |members: &[usize]| {
            let Durability { w, wd, .. } = copies_survive(&members.iter().copied().collect(), &domains);
            (w, wd)
        };
        assert_eq!(survive(&[]), (0, 0));
        assert_eq!(survive(&[3]), (0, 0));
        assert_eq!(survive(&[0, 2]), (1, 0), "both are in the north");
        assert_eq!(survive(&[0, 1, 2, 3, 4, 5]), (5, 1));
        let disk: Vec<SiteDomain> = (0..6).map(|n| domain(n, 7, None)).collect();
        assert_eq!(copies_survive(&(0..6).collect(), &disk), Durability { d: 6, w: 5, wd: 0 });
    }

    #[test]
    fn a_snapshot_survives_no_more_than_its_description() {
        let stripes = Durability { d: 6, w: 2, wd: 1 };
        assert_eq!(capped(stripes, Durability { d: 2, w: 1, wd: 0 }), Durability { d: 6, w: 1, wd: 0 });
        assert_eq!(capped(stripes, Durability { d: 6, w: 5, wd: 5 }), stripes);
    }

    /// What was promised before the commit must be true after it, in wider domains too.
    #[test]
    fn a_promise_needs_its_copies_in_sites_and_in_wider_domains() {
        let domains = [domain(0, 1, None), domain(1, 1, None), domain(2, 2, None)];
        let mut published = Publication { members: [0, 1].into(), failures: Vec::new() };
        let promise = |w, wd| Durability { d: 3, w, wd };
        published.require_for("it", promise(1, 0), &domains).unwrap();
        let refused = published.require_for("it", promise(1, 1), &domains).unwrap_err();
        assert_eq!(refused.to_string(), "it is durable at 1 wider domains, 2 are needed");
        let refused = published.require_for("it", promise(2, 0), &domains).unwrap_err();
        assert_eq!(refused.to_string(), "it is durable at 2 sites, 3 are needed");
        published.members.insert(2);
        published.require_for("it", promise(2, 1), &domains).unwrap();
        published.members.clear();
        assert!(published.require_for("it", promise(0, 0), &domains).is_err());
    }
}
