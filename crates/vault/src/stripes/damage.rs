//! What reads found to be wrong, so that it can be said which site lied.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockhouse_pipeline::shard::{ShardFault, ShardName};
use blockhouse_sites::{SiteError, SiteName};

/// Damages that are kept. A site that lost everything would fill memory with what one line says as well.
const DAMAGES_MAX: usize = 10_000;

/// Something wrong with one shard at one site.
#[derive(Debug, Clone, thiserror::Error)]
#[error("shard {shard} at site `{site}` is not good")]
pub struct Damage {
    /// The shard that was asked for.
    pub shard: ShardName,
    /// The site that was asked.
    pub site: SiteName,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a shard at a site.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The site should have it and does not, nor does another.
    #[error("it is missing")]
    Missing,
    /// There are bytes, and they are not it.
    #[error("its bytes are not right")]
    Bytes(#[source] ShardFault),
    /// The site cannot give the bytes.
    #[error("it cannot be read")]
    Unreadable(#[source] Arc<SiteError>),
}

/// What may help; decided where the facts are known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Bring one of these sites back.
    BringBack(Vec<SiteName>),
    /// Make room at these sites, or let them be written to again.
    LetWrite(Vec<SiteName>),
    /// These sites gave wrong bytes: look at them, then `repair`.
    Distrust(Vec<SiteName>),
    /// Nothing is known that would.
    None,
}

impl Remedy {
    /// Sites that are silent may hold what is missing; bytes that were wrong will stay so.
    pub(super) fn for_lack(silent: &[SiteName], faulty: &[SiteName]) -> Self {
        match (silent, faulty) {
            ([], []) => Self::None,
            ([], faulty) => Self::Distrust(faulty.to_vec()),
            (silent, _) => Self::BringBack(silent.to_vec()),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |sites: &[SiteName]| sites.iter().map(|site| format!("`{site}`")).collect::<Vec<_>>().join(", ");
        match self {
            Self::BringBack(sites) => write!(f, "bring back one of the sites {}", list(sites)),
            Self::LetWrite(sites) => write!(f, "make room at the sites {} or let them be written to", list(sites)),
            Self::Distrust(sites) => write!(f, "look at the sites {}, then repair", list(sites)),
            Self::None => f.write_str("nothing is known that would help"),
        }
    }
}

/// The damages of a run; also what keeps a bad shard from being read again for every chunk of it.
#[derive(Debug, Default)]
pub(super) struct DamageLog {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    new: Vec<Damage>,
    seen: BTreeSet<(ShardName, SiteName)>,
    /// Shards of which no byte can be used there.
    useless: BTreeSet<(ShardName, SiteName)>,
}

impl DamageLog {
    /// Notes a damage, once for each shard and site.
    pub(super) fn note(&self, shard: ShardName, site: SiteName, fault: Fault) {
        let mut log = self.lock();
        if log.seen.len() < DAMAGES_MAX && log.seen.insert((shard, site.clone())) {
            log.new.push(Damage { shard, site, fault });
        }
    }

    /// Notes a damage after which the shard need not be asked for again there.
    pub(super) fn note_useless(&self, shard: ShardName, site: SiteName, fault: Fault) {
        let mut log = self.lock();
        if log.useless.len() < DAMAGES_MAX {
            log.useless.insert((shard, site.clone()));
        }
        drop(log);
        self.note(shard, site, fault);
    }

    pub(super) fn is_useless(&self, shard: ShardName, site: &SiteName) -> bool {
        let log = self.lock();
        !log.useless.is_empty() && log.useless.contains(&(shard, site.clone()))
    }

    /// The sites that were found to hold bad shards of this stripe.
    pub(super) fn faulty(&self, stripe: &blockhouse_types::StripeId) -> Vec<SiteName> {
        let log = self.lock();
        let of_stripe = log.seen.iter().filter(|(shard, _)| shard.stripe == *stripe);
        of_stripe.map(|(_, site)| site.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A repair made it good: what was noted is history, later damage is news.
    pub(super) fn forget(&self, shard: ShardName) {
        let mut log = self.lock();
        log.seen.retain(|(other, _)| *other != shard);
        log.useless.retain(|(other, _)| *other != shard);
    }

    pub(super) fn take(&self) -> Vec<Damage> {
        std::mem::take(&mut self.lock().new)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
