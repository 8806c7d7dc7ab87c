//! The sites of a vault and their changes: listed, added, drained, removed, declared lost.
//!
//! - **Owns** the order of each change, what a kill leaves of it, and when one is refused.
//! - **Does not** move shards by rules of its own (`repair` does) or put key bags in force (`bag` does).
//!
//! # Invariants
//! - **S1** A site counts only while the key bag in force names it. It is added to the bag when it holds every plain object.
//! - **S2** A site that leaves is not contacted from the first step of its leaving on, and nothing that is needed lies there alone
//!   when it is taken from the bag, unless it was declared lost.
//! - **S3** Every step is noted in `config.toml` before it is begun: the same command, run again, goes on where a kill came.
//!
//! Page: `docs/design/sites.md`, section *Changing the sites*.

mod add;
mod drain;
mod list;
mod lost;
mod remove;
mod shortfall;

use blockhouse_homes::HomeError;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::{CreateError, ProbeReport, SiteError, SiteName};
use blockhouse_types::{Code, Durability, SiteId};

use crate::bag::{self, BagChangeError};
use crate::folder::{Config, ConfigError, SiteEntry, SiteUse, UpdateError};
use crate::ledger::LedgerError;
use crate::plain::{MendError, PlainError};
use crate::repair::RepairVaultError;
use crate::vault::{OpenError, Vault};

pub use add::{AddReport, add};
pub use drain::{DrainPlan, DrainReport, cancel_drain, drain, plan_drain};
pub use list::{SiteRow, list};
pub use lost::{LostPlan, LostReport, lost, plan_lost};
pub use remove::{RemoveReport, cancel_remove, plan_remove, remove};
pub use shortfall::Shortfall;

/// Why the sites were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteChangeError {
    /// There is no such site.
    #[error("the vault has no site `{wanted}`, its sites are {}", known.iter().map(SiteName::as_str).collect::<Vec<_>>().join(", "))]
    NoSuchSite { wanted: SiteName, known: Vec<SiteName> },
    /// This folder only reads the vault.
    #[error("this host holds no writer's secrets of the vault: it cannot change its sites")]
    NoWriter,
    /// Two sites in one place.
    #[error("site `{site}` is at {url}, and is {}", state.as_str())]
    UnderWay { site: SiteName, url: String, state: SiteUse },
    /// Another site has the name.
    #[error("there is a site `{name}` already, at {url}")]
    NameTaken { name: SiteName, url: String },
    /// It could not be made.
    #[error("could not make site `{site}`")]
    Create {
        site: SiteName,
        #[source]
        source: Box<CreateError>,
    },
    /// It was a site of this vault once.
    #[error(
        "the folder of `{site}` was a site of this vault, which was declared lost or removed: what it holds is out of date"
    )]
    Returned { site: SiteName },
    /// It does not answer the probe.
    #[error("could not probe site `{site}`")]
    Probe {
        site: SiteName,
        #[source]
        source: SiteError,
    },
    /// It does not keep what backups rely on.
    #[error("site `{site}` does not keep what it must: {report:?}")]
    Promises { site: SiteName, report: ProbeReport },
    /// It did not take what every site has.
    #[error("site `{site}` did not take everything that every site has")]
    NotCopied {
        site: SiteName,
        #[source]
        source: Option<Box<MendError>>,
    },
    /// The code needs more sites.
    #[error("a {code} code needs at least {needed} sites, {left} would be left")]
    TooFewSites { code: Code, needed: usize, left: usize },
    /// No site would be left.
    #[error("no other site of the vault would be left")]
    NoneLeft,
    /// Something would be less safe than planned.
    #[error("without site `{site}` {}", below(shortfall))]
    Below { site: SiteName, shortfall: Shortfall },
    /// The others would survive less.
    #[error(
        "without site `{site}` new stripes would survive the loss of {}, not of {} as now",
        count(plans.after.w),
        count(plans.before.w)
    )]
    LessSafe { site: SiteName, plans: Plans },
    /// It was declared lost.
    #[error("site `{site}` was declared lost, and what it held is not all made again elsewhere")]
    WasLost { site: SiteName },
    /// It is not being drained.
    #[error("site `{site}` is not being drained")]
    NotDraining { site: SiteName },
    /// It is not being removed.
    #[error("site `{site}` is not being removed")]
    NotLeaving { site: SiteName },
    /// Backups are running.
    #[error("{sessions} backups are open and may be writing to site `{site}`")]
    BackupsOpen { site: SiteName, sessions: u64 },
    /// The key bag.
    #[error(transparent)]
    Bag(#[from] BagChangeError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// The configuration cannot be changed.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// The vault could not be opened with its other sites.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger could not be read")]
    Home(#[from] HomeError),
    /// The shards.
    #[error(transparent)]
    Repair(#[from] RepairVaultError),
    /// The user stopped it.
    #[error("it was interrupted")]
    Interrupted,
}

fn below(shortfall: &Shortfall) -> String {
    let Shortfall { stripes, snapshots, plan, .. } = shortfall;
    format!("{stripes} stripes and the descriptions of {snapshots} snapshots would survive less than planned ({plan})")
}

fn count(sites: u16) -> String {
    match sites {
        0 => "no site".to_owned(),
        1 => "any 1 site".to_owned(),
        sites => format!("any {sites} sites"),
    }
}

impl From<PlainError> for SiteChangeError {
    fn from(error: PlainError) -> Self {
        match error {
            PlainError::Ledger(error) => Self::Ledger(error),
            PlainError::Home(error) => Self::Home(error),
            PlainError::Interrupted => Self::Interrupted,
        }
    }
}

/// The sites of these names, of a configuration with all of them.
pub fn find(config: &Config, names: &[SiteName]) -> Result<Vec<SiteEntry>, SiteChangeError> {
    let known = || config.sites.iter().map(|entry| entry.spec.name.clone()).collect();
    let by_name = |wanted: &SiteName| {
        let found = config.sites.iter().find(|entry| entry.spec.name == *wanted);
        found.cloned().ok_or_else(|| SiteChangeError::NoSuchSite { wanted: wanted.clone(), known: known() })
    };
    names.iter().map(by_name).collect()
}

/// How long the plan is if the code fits: fails if too few sites would be left for it.
fn demand_enough(code: Code, left: usize) -> Result<(), SiteChangeError> {
    let needed = blockhouse_pipeline::placement::sites_needed(code);
    if left < needed { Err(SiteChangeError::TooFewSites { code, needed, left }) } else { Ok(()) }
}

fn demand_writer(vault: &Vault) -> Result<(), SiteChangeError> {
    if vault.secrets().is_some() { Ok(()) } else { Err(SiteChangeError::NoWriter) }
}

/// Notes on this host what is under way with these sites.
fn note(vault: &Vault, ids: &[SiteId], state: Option<SiteUse>) -> Result<(), SiteChangeError> {
    Config::update(vault.folder(), |config| {
        for entry in config.sites.iter_mut().filter(|entry| ids.contains(&entry.id)) {
            entry.state = state;
        }
    })?;
    Ok(())
}

/// The bag with these sites taken out, and the others as this host knows them by now.
fn without(bag: &KeyBag, config: &Config, gone: &[SiteId]) -> KeyBag {
    let as_known = |site: &blockhouse_pipeline::key_bag::BagSite| {
        config.sites.iter().find(|entry| entry.id == site.id).map_or_else(|| site.clone(), bag::site_of)
    };
    let sites = bag.sites.iter().filter(|site| !gone.contains(&site.id)).map(as_known).collect();
    KeyBag { sites, ..bag.clone() }
}

/// What the vault promises before and after a change of its sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plans {
    /// What new stripes survive as it is.
    pub before: Durability,
    /// What they survive after the change.
    pub after: Durability,
}
