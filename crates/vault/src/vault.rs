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

use alloy_signer_local::PrivateKeySigner;
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::{Embedded, HomeError, Standing};
use blockhouse_pipeline::placement::{SiteDomain, plan_degraded, survey};
use blockhouse_sites::Sites;
use blockhouse_types::{Durability, SourceId, StripeId, VaultId};

use crate::folder::{Config, SourceEntry, VaultFolder};
use crate::ledger::{Ledger, LedgerError};
use crate::stripes::{StripeStore, StripeTerms};
use crate::summary::Keeper;

pub(crate) use open::enrolled;
pub use open::{OpenError, OpenWarning, Settings, local_standing};

/// A vault that is open on this host.
#[derive(Debug)]
pub struct Vault {
    folder: VaultFolder,
    config: Config,
    sites: Arc<Sites>,
    home: Embedded,
    secrets: Option<HostSecrets>,
    settings: Settings,
    warnings: Vec<OpenWarning>,
    kept: Keeper,
}

pub use blockhouse_pipeline::host_secrets::HostSecrets;

impl Vault {
    /// Its folder.
    pub const fn folder(&self) -> &VaultFolder {
        &self.folder
    }

    /// What this host knows of it.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its id.
    pub const fn id(&self) -> VaultId {
        self.config.vault
    }

    /// Its sites.
    pub const fn sites(&self) -> &Arc<Sites> {
        &self.sites
    }

    /// Where its ledger is.
    pub const fn home(&self) -> &Embedded {
        &self.home
    }

    /// Seals with another home from now on.
    pub(crate) fn set_home(&mut self, home: Embedded) {
        self.home = home;
    }

    /// This host is the vault's writer from now on.
    pub(crate) fn set_secrets(&mut self, secrets: HostSecrets) {
        self.secrets = Some(secrets);
    }

    /// What the sources are called on this host.
    pub(crate) fn set_sources(&mut self, sources: BTreeMap<SourceId, SourceEntry>) {
        self.config.sources = sources;
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
        let reader = blockhouse_homes::provider::reader(self.home.clone());
        Ledger::new(reader, &self.config.ledger).with_kept(self.kept.clone())
    }

    /// The ledger, written to with an account.
    pub fn ledger_as(&self, account: &AccountSecret) -> Ledger {
        let signer = PrivateKeySigner::from_slice(account.secret().expose())
            .expect("an account's secret was checked when it was made");
        Ledger::new(blockhouse_homes::provider::sender(self.home.clone(), signer), &self.config.ledger)
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

    /// Keeps what the ledger says now, so that commands that only read it need not read all of it. It is a cache: what fails here
    /// costs the next command time.
    pub async fn keep_summary(&self) {
        let ledger = Ledger::new(blockhouse_homes::provider::reader(self.home.clone()), &self.config.ledger);
        self.kept.renew(&self.home, &ledger).await;
    }

    /// The stripes at the sites.
    pub async fn stripes(&self) -> Result<Arc<StripeStore>, LedgerError> {
        let writers = self.ledger().writers().await?;
        let terms = StripeTerms {
            vault: self.id(),
            code: self.config.code,
            writers: writers.into_iter().map(|writer| writer.account).collect(),
            devices: self.config.sites.iter().filter_map(|site| Some((site.id, site.device?))).collect(),
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

    /// What the vault survives while every site is up.
    pub fn plan(&self) -> Durability {
        let domains = self.domains();
        let none = Durability { d: 0, w: 0, wd: 0 };
        survey(self.config.code, &domains).map_or_else(
            |_| {
                let any = StripeId::new([0; StripeId::LEN]);
                plan_degraded(self.config.code, &domains, &any).map_or(none, |placement| placement.durability)
            },
            |survey| survey.durability,
        )
    }
}
