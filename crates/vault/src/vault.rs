//! An open vault: its folder, its sites, its ledger.
//!
//! - **Owns** the opening: which sites are there, healing of the host's ledger from them, following what they know more.
//! - **Does not** run workflows: the other modules do, on this.
//!
//! # Invariants
//! - **V1** Opening changes nothing but the host's own ledger file, and that only by blocks that the key in force vouches for.

mod open;

use std::collections::BTreeMap;
use std::sync::Arc;

use blockhouse_crypto::AccountSecret;
use blockhouse_homes::{Home, HomeError, Remote, Standing};
use blockhouse_pipeline::placement::SiteDomain;
use blockhouse_sites::{SiteName, Sites};
use blockhouse_types::{Durability, SourceId, VaultId};

use crate::folder::{Config, SiteEntry, SiteUse, SourceEntry, VaultFolder};
use crate::ledger::{Ledger, LedgerError};
use crate::stripes::{StripeStore, StripeTerms, planned_durability};
use crate::summary::Keeper;

pub use open::{OpenError, OpenWarning, Settings, local_fingerprint};
pub(crate) use open::{enrolled, external_of};

/// A vault that is open on this host.
#[derive(Debug)]
pub struct Vault {
    folder: VaultFolder,
    config: Config,
    sites: Arc<Sites>,
    home: Home,
    secrets: Option<HostSecrets>,
    settings: Settings,
    warnings: Vec<OpenWarning>,
    /// Sites of `config.toml` that are not among the sites of this value: they do not count yet, or not any more.
    apart: Vec<SiteEntry>,
    kept: Keeper,
    /// The nodes of the network that keeps the ledger, if one does.
    nodes: Option<Remote>,
}

pub use blockhouse_pipeline::host_secrets::HostSecrets;

impl Vault {
    /// Its folder.
    pub const fn folder(&self) -> &VaultFolder {
        &self.folder
    }

    /// What this host knows of it; its sites are those that are open here.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its id.
    pub const fn id(&self) -> VaultId {
        self.config.vault
    }

    /// The sites that `config.toml` names and that were not opened: they do not count yet, or not any more.
    pub fn apart(&self) -> &[SiteEntry] {
        &self.apart
    }

    /// Its sites.
    pub const fn sites(&self) -> &Arc<Sites> {
        &self.sites
    }

    /// Where its ledger is.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// The nodes of the network that keeps its ledger, if one does.
    pub const fn nodes(&self) -> Option<&Remote> {
        self.nodes.as_ref()
    }

    /// What is strange, to be told.
    pub(crate) fn warn_all(&mut self, warnings: Vec<OpenWarning>) {
        self.warnings.extend(warnings);
    }

    /// The sites know of the handover to the network.
    pub(crate) fn forget_growth(&mut self) {
        self.config.ledger.growth = None;
    }

    /// Seals with another home from now on.
    pub(crate) fn set_home(&mut self, home: impl Into<Home>) {
        self.home = home.into();
    }

    /// This host is the vault's writer from now on.
    pub(crate) fn set_secrets(&mut self, secrets: HostSecrets) {
        self.secrets = Some(secrets);
    }

    /// What the sources are called on this host.
    pub(crate) fn set_sources(&mut self, sources: BTreeMap<SourceId, SourceEntry>) {
        self.config.sources = sources;
    }

    /// These sites get no new shards from now on, in this value: `config.toml` is the caller's.
    pub(crate) fn set_draining(&mut self, sites: &[SiteName]) {
        for entry in self.config.sites.iter_mut().filter(|entry| sites.contains(&entry.spec.name)) {
            entry.state = Some(SiteUse::Draining);
        }
    }

    /// How it was opened.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was strange at opening.
    pub fn warnings(&self) -> &[OpenWarning] {
        &self.warnings
    }

    /// The ledger, to be read.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.home.reader(), &self.config.ledger).with_kept(self.kept.clone())
    }

    /// The ledger, written to with an account.
    pub fn ledger_as(&self, account: &AccountSecret) -> Ledger {
        Ledger::new(self.home.sender(account), &self.config.ledger)
    }

    /// The host's secrets, if this host is a backup host.
    pub fn secrets(&self) -> Option<&HostSecrets> {
        self.secrets.as_ref()
    }

    /// Where the ledger stands.
    pub async fn standing(&self) -> Result<Standing, HomeError> {
        match self.kept.current().await {
            Some(summary) => Ok(summary.standing.clone()),
            None => self.home.standing().await,
        }
    }

    /// The height up to which the sites hold the ledger's blocks; 0 where an outside chain keeps them.
    pub(crate) async fn kept_height(&self) -> Result<u64, HomeError> {
        match self.home {
            Home::Own(_) => Ok(self.standing().await?.height),
            Home::External(_) => Ok(0),
        }
    }

    /// Keeps what the ledger says now, so that commands that only read it need not read all of it. It is a cache: what fails here
    /// costs the next command time.
    pub async fn keep_summary(&self) {
        // An outside chain is asked each time: there is no file here by which to tell whether it said more since.
        let Ok(home) = self.home.own_copy() else { return };
        self.kept.renew(home, &Ledger::new(self.home.reader(), &self.config.ledger)).await;
    }

    /// The stripes at the sites.
    pub async fn stripes(&self) -> Result<Arc<StripeStore>, LedgerError> {
        let writers = self.ledger().writers().await?;
        let terms = StripeTerms {
            vault: self.id(),
            code: self.config.code,
            writers: writers.into_iter().map(|writer| writer.account).collect(),
            devices: self.config.sites.iter().filter_map(|site| Some((site.id, site.device?))).collect(),
            draining: self.config.sites.iter().filter(|site| site.is_draining()).map(|site| site.id).collect(),
        };
        Ok(Arc::new(StripeStore::new(Arc::clone(&self.sites), terms)))
    }

    /// The domains of all sites, in their order; a site that is down is on the device it was on.
    pub fn domains(&self) -> Vec<SiteDomain> {
        let entries = self.config.sites.iter().zip(self.sites.domains());
        entries
            .map(|(entry, seen)| SiteDomain {
                site: entry.id,
                device: seen.device.or(entry.device).unwrap_or_default(),
                provider: seen.provider,
                region: seen.region,
            })
            .collect()
    }

    /// What new stripes survive while every site is up: over the sites that are not being drained.
    pub fn plan(&self) -> Durability {
        let entries = self.config.sites.iter().zip(self.domains());
        let staying: Vec<SiteDomain> = entries.filter(|(entry, _)| !entry.is_draining()).map(|(_, it)| it).collect();
        planned_durability(self.config.code, &staying)
    }

    /// What new stripes would survive with some of the sites apart among the others.
    pub(crate) fn plan_with(&self, apart: &[SiteName]) -> Durability {
        let entries = self.config.sites.iter().zip(self.domains()).filter(|(entry, _)| !entry.is_draining());
        let joins = self.apart.iter().filter(|entry| apart.contains(&entry.spec.name)).map(domain_of);
        let domains: Vec<SiteDomain> = entries.map(|(_, domain)| domain).chain(joins).collect();
        planned_durability(self.config.code, &domains)
    }

    /// What new stripes would survive without a site.
    pub(crate) fn plan_without(&self, site: &SiteName) -> Durability {
        let entries = self.config.sites.iter().zip(self.domains());
        let stays = |entry: &SiteEntry| !entry.is_draining() && entry.spec.name != *site;
        let domains: Vec<SiteDomain> = entries.filter(|(entry, _)| stays(entry)).map(|(_, domain)| domain).collect();
        planned_durability(self.config.code, &domains)
    }

    /// How many sites must hold a handover before its key counts as the ledger's: so many that whoever asks a [`quorum`](Self::quorum) of
    /// them meets one.
    pub(crate) fn handover_copies(&self) -> usize {
        self.config.sites.len().saturating_sub(usize::from(self.plan().w)).max(1)
    }

    /// How many sites must answer before this host seals, and hold what it must find again: W+1, for the greatest W of the site
    /// lists that another host may recover by. While sites are added or removed there are two; after it the sites apart are gone.
    pub(crate) fn quorum(&self) -> usize {
        let w_with = |joins: &dyn Fn(&SiteEntry) -> bool| {
            let apart = self.apart.iter().filter(|entry| joins(entry)).map(domain_of);
            let domains: Vec<SiteDomain> = self.domains().into_iter().chain(apart).collect();
            planned_durability(self.config.code, &domains).w
        };
        let is_joining = |entry: &SiteEntry| entry.state == Some(SiteUse::Joining);
        let w = w_with(&|_| false).max(w_with(&is_joining)).max(w_with(&|entry| !is_joining(entry)));
        // Of copies alone, as many may be lost as to leave fewer than that: then all that are left must answer.
        (usize::from(w) + 1).min(self.config.sites.len().max(1))
    }
}

/// The domain of a site that is not open, by what is known of it.
fn domain_of(entry: &SiteEntry) -> SiteDomain {
    let labels = entry.spec.labels.clone();
    let device = entry.device.unwrap_or_default();
    SiteDomain { site: entry.id, device, provider: labels.provider, region: labels.region }
}
