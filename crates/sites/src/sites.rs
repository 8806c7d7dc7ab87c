//! The sites of a vault, opened together and asked at the same time.
//!
//! - **Owns** working on all sites at once, and reading from whichever answers well first.
//! - **Does not** place shards (`pipeline`) and does not decide how many copies are enough (`vault`).
//!
//! # Invariants
//! - **S4** A slow or failing site costs a call at most its own deadline; the others are not held up by it.
//! - **S5** Members keep the order in which they were given, whether up or down: a number names a site for the whole run.

use std::sync::Arc;
use std::time::Duration;

use blockhouse_types::SiteId;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::OnceCell;

use crate::domains::SiteDomain;
use crate::error::{DownReason, SiteDown, SiteError};
use crate::file_layer::Put;
use crate::key::ObjectKey;
use crate::marker::Expected;
use crate::name::SiteName;
use crate::patience::{Patience, Spare};
use crate::site::{Site, SiteState};
use crate::url::SiteSpec;

/// How long the first site may take before a second one is asked too. A disk that is awake answers in a tenth of it,
/// so the second read is rare; one that spins up takes many times as long.
const HEDGE_DELAY: Duration = Duration::from_millis(250);

/// A site as the vault knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Where it is and what it is called.
    pub spec: SiteSpec,
    /// The marker it must hold.
    pub expected: Expected,
}

/// One of the sites, up or not.
#[derive(Debug)]
pub struct Member {
    enrolled: Enrolled,
    site: Result<Site, SiteDown>,
    /// What came of asking again one that was spared.
    again: OnceCell<Result<Site, SiteDown>>,
}

impl Member {
    fn new(enrolled: Enrolled, site: Result<Site, SiteDown>) -> Self {
        Self { enrolled, site, again: OnceCell::new() }
    }

    fn opened(&self) -> &Result<Site, SiteDown> {
        self.again.get().unwrap_or(&self.site)
    }

    /// Its name.
    pub fn name(&self) -> &SiteName {
        &self.enrolled.spec.name
    }

    /// As it was given.
    pub fn spec(&self) -> &SiteSpec {
        &self.enrolled.spec
    }

    /// Its id, where it is known.
    pub fn id(&self) -> Option<SiteId> {
        match (self.opened(), self.enrolled.expected) {
            (Ok(site), _) => Some(site.id()),
            (Err(_), Expected::This { site, .. }) => Some(site),
            (Err(_), Expected::Any) => None,
        }
    }

    /// The site, if it can be read.
    pub fn readable(&self) -> Option<&Site> {
        self.opened().as_ref().ok().filter(|site| site.state().can_read())
    }

    /// The site, if it can be written to.
    pub fn writable(&self) -> Option<&Site> {
        self.opened().as_ref().ok().filter(|site| site.state().can_write())
    }

    /// Whether it answers.
    pub fn state(&self) -> SiteState {
        match self.opened() {
            Ok(site) => site.state(),
            Err(down) => SiteState::Down(down.reason.clone()),
        }
    }

    /// What it shares with other sites; the device of a site that could not be opened is not known.
    pub fn domain(&self) -> SiteDomain {
        let labels = &self.enrolled.spec.labels;
        let device = self.opened().as_ref().ok().and_then(Site::device);
        SiteDomain { device, provider: labels.provider.clone(), region: labels.region.clone() }
    }
}

/// How a write ended at one site.
#[derive(Debug)]
pub struct Outcome {
    /// The member's number.
    pub member: usize,
    /// Its name.
    pub site: SiteName,
    /// Durable there, or why not.
    pub result: Result<Put, NotDurable>,
}

/// Why an object is not durable at a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDurable {
    #[error("the site was not asked")]
    NotAsked(#[source] Arc<DownReason>),
    #[error("the write failed")]
    Failed(#[source] SiteError),
}

/// An object that was read, and by which site.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes, which passed the check.
    pub bytes: Bytes,
    /// The number of the member they came from.
    pub member: usize,
    /// The sites that were asked before and gave no good answer.
    pub refused: Vec<Refusal>,
}

/// A site that did not give the object.
#[derive(Debug)]
pub struct Refusal {
    /// The member's number.
    pub member: usize,
    /// Its name.
    pub site: SiteName,
    /// Why it could not, or none if it gave bytes that failed the check.
    pub error: Option<SiteError>,
}

/// Why no site gave an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    #[error("no site is up to read {object} from")]
    NoSite { object: String },
    #[error("none of {} sites has a good copy of {object}", refused.len())]
    NoGoodCopy { object: String, refused: Vec<Refusal> },
}

impl FetchError {
    /// True if every site was asked in vain because the object is not there.
    pub fn is_not_found(&self) -> bool {
        let is_absent = |refusal: &Refusal| refusal.error.as_ref().is_some_and(SiteError::is_not_found);
        matches!(self, Self::NoGoodCopy { refused, .. } if refused.iter().all(is_absent))
    }
}

/// The sites of a vault.
#[derive(Debug)]
pub struct Sites {
    members: Vec<Member>,
    /// What each is given that is asked again, in a run that spares some.
    again: Option<Patience>,
}

impl Sites {
    /// Opens all sites at the same time. Those that cannot be opened are members too, and down.
    pub async fn open_all(enrolled: &[Enrolled], patience: Patience) -> Self {
        Self::open_sparing(enrolled, patience, Spare::default()).await
    }

    /// The same for whoever reads alone, and can do without some: one of those at which nobody answers is not waited for.
    pub async fn open_sparing(enrolled: &[Enrolled], patience: Patience, spare: Spare) -> Self {
        let again = spare.is_left().then_some(patience);
        let members = join_all(enrolled.iter().map(async |enrolled| {
            let site = Site::open_sparing(&enrolled.spec, enrolled.expected, patience, spare.clone()).await;
            Member::new(enrolled.clone(), site)
        }));
        Self { members: members.await, again }
    }

    /// Opens those once more that a run did without, or that went down in it, each with its whole budget: it turns out that they are needed.
    /// True if one is up again by this. On the heap: it is rare, and every read would hold all of it.
    pub fn ask_spared_again(&self) -> BoxFuture<'_, bool> {
        match self.again {
            Some(patience) => self.open_again(patience).boxed(),
            None => std::future::ready(false).boxed(),
        }
    }

    async fn open_again(&self, patience: Patience) -> bool {
        let down = self.members.iter().filter(|member| member.readable().is_none());
        join_all(down.map(|member| {
            let Enrolled { spec, expected } = &member.enrolled;
            member.again.get_or_init(move || Site::open(spec, *expected, patience))
        }))
        .await;
        self.members.iter().any(|member| member.again.get().is_some() && member.readable().is_some())
    }

    /// Sites that are open already.
    pub fn of(sites: Vec<Site>) -> Self {
        let member = |site: Site| {
            let expected = Expected::This { vault: site.vault(), site: site.id() };
            Member::new(Enrolled { spec: site.spec().clone(), expected }, Ok(site))
        };
        Self { members: sites.into_iter().map(member).collect(), again: None }
    }

    /// All sites, up and down, in their order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The site with this id, if it can be read.
    pub fn by_id(&self, id: SiteId) -> Option<&Site> {
        self.members.iter().find(|member| member.id() == Some(id)).and_then(Member::readable)
    }

    /// The sites that can be read, with their numbers.
    pub fn up(&self) -> impl Iterator<Item = (usize, &Site)> {
        self.members.iter().enumerate().filter_map(|(number, member)| Some((number, member.readable()?)))
    }

    /// The sites that are down, with the reasons.
    pub fn down(&self) -> impl Iterator<Item = (&Member, Arc<DownReason>)> {
        self.members.iter().filter_map(|member| match member.state() {
            SiteState::Down(reason) => Some((member, reason)),
            SiteState::Up | SiteState::Closed(_) => None,
        })
    }

    /// What the sites share, in their order.
    pub fn domains(&self) -> Vec<SiteDomain> {
        self.members.iter().map(Member::domain).collect()
    }

    /// Writes an object to all sites at the same time; one outcome for each member, in their order.
    pub async fn put_everywhere(&self, key: &ObjectKey, bytes: &Bytes) -> Vec<Outcome> {
        join_all(self.members.iter().enumerate().map(async |(number, member)| Outcome {
            member: number,
            site: member.name().clone(),
            result: put_to(member, key, bytes).await,
        }))
        .await
    }

    /// Reads an object from the first site whose bytes pass the check.
    ///
    /// The next site is asked when the last one was asked [`HEDGE_DELAY`] ago without an answer, or at once when it had
    /// no good one. Reads that are under way when a good answer comes are given up; they change nothing.
    pub async fn get_any(&self, key: &ObjectKey, check: impl Fn(&[u8]) -> bool) -> Result<Fetched, FetchError> {
        let mut waiting = self.up();
        let mut asked = FuturesUnordered::new();
        let mut refused = Vec::new();
        loop {
            let next = waiting.next();
            let has_next = next.is_some();
            if let Some((number, site)) = next {
                asked.push(async move { (number, site, site.get(key).await) });
            }
            // Without another site to ask there is nothing to hurry for.
            let answer = if has_next {
                tokio::time::timeout(HEDGE_DELAY, asked.next()).await.ok()
            } else {
                Some(asked.next().await)
            };
            match answer {
                None => {}
                Some(None) => return Err(not_fetched(key, refused)),
                Some(Some((member, _, Ok(bytes)))) if check(&bytes) => return Ok(Fetched { bytes, member, refused }),
                Some(Some((member, site, bad))) => {
                    refused.push(Refusal { member, site: site.name().clone(), error: bad.err() });
                }
            }
        }
    }
}

async fn put_to(member: &Member, key: &ObjectKey, bytes: &Bytes) -> Result<Put, NotDurable> {
    match member.opened() {
        Ok(site) => site.put(key, bytes.clone()).await.map_err(NotDurable::Failed),
        Err(down) => Err(NotDurable::NotAsked(down.reason.clone())),
    }
}

fn not_fetched(key: &ObjectKey, refused: Vec<Refusal>) -> FetchError {
    let object = key.path();
    if refused.is_empty() {
        return FetchError::NoSite { object };
    }
    FetchError::NoGoodCopy { object, refused }
}

#[cfg(test)]
mod tests;
