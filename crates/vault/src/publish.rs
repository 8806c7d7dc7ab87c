//! Plain objects, the same at every site: written to all that take writes, counted where all of them are durable.

use std::collections::BTreeSet;

use blockhouse_sites::{NotDurable, ObjectKey, SiteName, Sites};
use bytes::Bytes;

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
    pub why: NotDurable,
}

/// Too few sites hold an object that a snapshot needs.
#[derive(Debug, thiserror::Error)]
#[error("{what} is durable at {held} sites, {needed} are needed{}", failed(failures))]
pub struct TooFewCopies {
    /// What was published.
    pub what: &'static str,
    /// How many sites hold it.
    pub held: usize,
    /// How many must.
    pub needed: usize,
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
            if let Err(why) = outcome.result
                && self.members.remove(&outcome.member)
            {
                self.failures.push(Failure { site: outcome.site, object: key.path(), why });
            }
        }
    }

    /// A site turned out to lack something else.
    pub fn exclude(&mut self, member: usize) {
        self.members.remove(&member);
    }

    /// The sites that lack something, and why.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// How many sites hold everything.
    pub fn held(&self) -> usize {
        self.members.len()
    }

    /// The numbers of the sites that hold everything.
    pub const fn members(&self) -> &BTreeSet<usize> {
        &self.members
    }

    /// Fails if fewer than `needed` sites hold everything.
    pub fn require(&mut self, what: &'static str, needed: usize) -> Result<(), TooFewCopies> {
        match self.held() {
            held if held < needed => {
                Err(TooFewCopies { what, held, needed, failures: std::mem::take(&mut self.failures) })
            }
            _ => Ok(()),
        }
    }
}
