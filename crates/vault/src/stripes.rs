//! Stripes at sites: written, found, read, checked and repaired.
//!
//! - **Owns** which site is asked for which shard, what is done when one fails, and the account of where shards are.
//! - **Does not** code or place by rules of its own (`pipeline` does), talk to storage (`sites` does), or decide
//!   whether a degraded stripe is good enough: the workflows do, from the [`Durability`] given here.
//!
//! # Invariants
//! - **V1** What a read returns was checked against the stripe id, but for a range that had to be computed and whose
//!   own leaf hashes are lost: there the chunk's id decides. A read gives the right bytes or an error.
//! - **V2** A durability never counts a shard that was not seen or written in this run, nor one index twice.
//! - **V3** Nothing is removed but by [`StripeStore::repair`], which reads an object again right before and has its
//!   successor in memory.
//! - **V4** At most [`PACKS_IN_FLIGHT`] calls that hold a pack run at a time; the others wait.
//! - **V5** New shards carry the claim of an account that is a writer, or none are made.
//! - **V6** A site that is drained gets no shard, and what it holds is placed as if it were not there; it is read as before.
//!
//! Rules: `docs/design/stripes.md`, `docs/design/sites.md`.

mod check;
mod damage;
mod fetch;
mod head;
mod known;
mod layout;
pub(crate) mod listing;
mod overtaken;
mod presence;
mod read;
mod repair;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::placement::{PlacementError, SiteDomain, survey};
use blockhouse_pipeline::shard::{ShardHeader, ShardName, StripeWriter, WriterError};
use blockhouse_sites::{Member, ObjectKey, Site, SiteName, Sites};
use blockhouse_types::{Account, Code, Durability, ShardIndex, SiteId, StripeId, VaultId};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use check::{Depth, ShardFinding, ShardState, StripeFindings};
pub use damage::{Damage, Fault, Remedy};
pub use head::{Head, ReadHeadError};
pub use presence::{Least, Presence, Sought};
pub use read::{Columns, ReadStripeError, ReadTableError};
pub use repair::{PlanRepairError, RepairError, RepairPlan, Repaired};
pub use write::{Refusal, WriteStripeError, Written};

use crate::index::StripeEntry;
use damage::DamageLog;
use known::Known;
use layout::Places;
use overtaken::Overtaken;

/// Calls at a time that hold shards of a whole pack. Two keep sites and processor busy by turns; each more costs the
/// memory of up to 2·n/k packs and gains nothing.
pub const PACKS_IN_FLIGHT: usize = 2;

/// A shard at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Which shard of its stripe.
    pub index: ShardIndex,
    /// The site's number among the members.
    pub member: usize,
}

/// What has to be known of a vault to handle its stripes.
#[derive(Debug, Clone)]
pub struct StripeTerms {
    /// The vault.
    pub vault: VaultId,
    /// Its code: new stripes have it, and stripes of which nothing else is known are judged by it.
    pub code: Code,
    /// Every account that is or was a writer, by the ledger.
    pub writers: BTreeSet<Account>,
    /// The device that each site was on when last seen: a site that is down still counts to its wider domain.
    pub devices: BTreeMap<SiteId, u64>,
    /// Sites that are being drained: they are read, and what lies there is wanted elsewhere too.
    pub draining: BTreeSet<SiteId>,
}

/// The stripes of a vault at its sites.
#[derive(Debug)]
pub struct StripeStore {
    sites: Arc<Sites>,
    vault: VaultId,
    code: Code,
    writers: BTreeSet<Account>,
    places: Arc<Places>,
    /// The numbers of the members that get no new shards.
    draining: BTreeSet<usize>,
    /// The domains of the others.
    staying: Vec<SiteDomain>,
    planned: Durability,
    coders: RwLock<BTreeMap<[u8; 2], Arc<Coder>>>,
    known: Known,
    damage: DamageLog,
    overtaken: Overtaken,
    guide: RwLock<Option<Arc<Presence>>>,
    packs: Semaphore,
}

/// Why the claim in a shard's header counts for nothing (T4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimFault {
    #[error("the writer's signature does not hold")]
    Signature(#[from] WriterError),
    #[error("stripe {stripe} is signed by {account}, which never was a writer")]
    NotAWriter { stripe: StripeId, account: Account },
}

impl StripeStore {
    /// The stripes at these sites.
    pub fn new(sites: Arc<Sites>, terms: StripeTerms) -> Self {
        let StripeTerms { vault, code, writers, devices, draining } = terms;
        let places = Arc::new(Places::of(&sites, &devices));
        let draining: BTreeSet<usize> = draining.into_iter().filter_map(|site| places.member_of(site)).collect();
        let staying: Vec<SiteDomain> = (0..)
            .zip(places.domains())
            .filter(|(member, _)| !draining.contains(member))
            .map(|(_, it)| it.clone())
            .collect();
        let planned = planned_durability(code, &staying);
        Self {
            sites,
            vault,
            code,
            writers,
            places,
            draining,
            staying,
            planned,
            coders: RwLock::default(),
            known: Known::default(),
            damage: DamageLog::default(),
            overtaken: Overtaken::default(),
            guide: RwLock::default(),
            packs: Semaphore::new(PACKS_IN_FLIGHT),
        }
    }

    /// The sites.
    pub fn sites(&self) -> &Arc<Sites> {
        &self.sites
    }

    /// The code of new stripes.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What every new stripe would survive if all sites of the configuration were up.
    pub fn plan_durability(&self) -> Durability {
        self.planned
    }

    /// Where the sites are, in the order of the members.
    pub fn domains(&self) -> &[SiteDomain] {
        self.places.domains()
    }

    /// Makes the shards of a listed stripe durable: a run that was killed may have left them named and not yet synced. True if
    /// enough of them are then.
    pub async fn settle(&self, presence: &Presence, entry: &StripeEntry) -> bool {
        let settle = async |holder: Holder| {
            let site = self.sites.members().get(holder.member).and_then(Member::writable)?;
            let key = ObjectKey::Shard { stripe: entry.id, index: holder.index };
            site.settle(&key).await.ok().filter(|there| *there).map(|_| holder.index)
        };
        let settled = futures::future::join_all(presence.holders(entry).into_iter().map(settle)).await;
        let distinct: BTreeSet<ShardIndex> = settled.into_iter().flatten().collect();
        distinct.len() >= entry.code.data()
    }

    /// Lets reads ask first where these shards were seen. Without it they begin where the plan would put them.
    pub fn guide(&self, presence: Arc<Presence>) {
        *self.guide.write().unwrap_or_else(PoisonError::into_inner) = Some(presence);
    }

    /// The damage that reads met since this was asked last, each fault once.
    pub fn take_damage(&self) -> Vec<Damage> {
        self.damage.take()
    }

    fn guided(&self) -> Option<Arc<Presence>> {
        self.guide.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The coder of a code; it is made once.
    fn coder(&self, code: Code) -> Arc<Coder> {
        let key = code.to_bytes();
        if let Some(coder) = self.coders.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return coder.clone();
        }
        let mut coders = self.coders.write().unwrap_or_else(PoisonError::into_inner);
        coders.entry(key).or_insert_with(|| Arc::new(Coder::new(code))).clone()
    }

    /// Waits until there is memory for one more pack.
    async fn room_for_pack(&self) -> SemaphorePermit<'_> {
        self.packs.acquire().await.expect("the semaphore is never closed")
    }

    /// T4: whose stripe it is, if the claim holds and that account was a writer.
    fn writer_of(&self, header: &ShardHeader) -> Result<StripeWriter, ClaimFault> {
        let writer = header.writer.verify(&self.vault, header.stripe)?;
        let (stripe, account) = (header.stripe, writer.account());
        if !self.writers.contains(&account) {
            return Err(ClaimFault::NotAWriter { stripe, account });
        }
        Ok(writer)
    }

    fn readable(&self, member: usize) -> Option<&Site> {
        self.sites.members().get(member)?.readable()
    }

    /// True if new shards may go there.
    fn takes_shards(&self, member: usize) -> bool {
        self.is_writable(member) && !self.draining.contains(&member)
    }

    fn is_writable(&self, member: usize) -> bool {
        self.sites.members().get(member).is_some_and(|member| member.writable().is_some())
    }

    fn site_name(&self, member: usize) -> SiteName {
        let member = self.sites.members().get(member).expect("numbers of members come from the members");
        member.name().clone()
    }

    /// The sites that cannot be read.
    fn silent(&self) -> Vec<SiteName> {
        let members = self.sites.members().iter();
        members.filter(|member| member.readable().is_none()).map(|member| member.name().clone()).collect()
    }
}

/// What every stripe over these sites survives: the least over all stripes, which begin their round at different sites.
pub(crate) fn planned_durability(code: Code, sites: &[SiteDomain]) -> Durability {
    match survey(code, sites) {
        Ok(survey) => survey.durability,
        Err(PlacementError::TooFewSites { durability, .. }) => durability,
        Err(_) => Durability { d: 0, w: 0, wd: 0 },
    }
}

const fn key_of(name: ShardName) -> ObjectKey {
    ObjectKey::Shard { stripe: name.stripe, index: name.index }
}

/// Heavy work on bytes, on a thread that may take its time. [`StripeStore::room_for_pack`] bounds how many there are.
pub(crate) async fn heavy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the program ends, and nobody waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
