//! Opening a vault: configuration, sites, secrets, and a ledger that is whole and knows what the sites know.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::LedgerKey;
use blockhouse_homes::remote::NodeProblem;
use blockhouse_homes::{
    Embedded, External, ExternalError, ExternalOptions, HomeError, HostClock, Options, Remote, RemoteError, Sealer,
    Standing,
};
use blockhouse_ledger::{Clock, TrustRoot};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_sites::{Enrolled, Expected, Patience, Site, SiteName, Sites, Spare};
use blockhouse_types::{Code, DecodeError, Fingerprint};
use futures::future::{join, join_all};

use super::Vault;
use crate::blocks::{self, BlocksError, Chain, Guard, GuardError, Purpose};
use crate::folder::{Config, ConfigError, HomeKind, SiteEntry, SiteUse, VaultFolder};
use crate::growth::SettleError;
use crate::ledger::{Ledger, address};
use crate::summary::Keeper;

/// How old the last block of a network may be: an idle one makes one a minute.
const STILL_SECONDS: u64 = 180;

/// How a vault is opened.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is the word of the operator or of a command, and none rules another out"
)]
pub struct Settings {
    /// The host's clock.
    pub clock: HostClock,
    /// The operator says that a strange clock is right.
    pub accept_clock: bool,
    /// The operator takes the risk of going on with too few sites.
    pub accept_risk: bool,
    /// Nothing will be written: what the host has kept of its ledger may answer for it, where it is of this very file and head. Who
    /// writes has all of the ledger checked first, and healed.
    pub reads_only: bool,
    /// Nothing will be written to the sites, and nothing said of them: one at which nobody answers is not waited for while the others
    /// have all there is.
    pub spares_sites: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { clock: Arc::new(now), accept_clock: false, accept_risk: false, reads_only: false, spares_sites: false }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { clock: _, accept_clock, accept_risk, reads_only, spares_sites } = self;
        f.debug_struct("Settings")
            .field("accept_clock", accept_clock)
            .field("accept_risk", accept_risk)
            .field("reads_only", reads_only)
            .field("spares_sites", spares_sites)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970 by the clock of this host.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Why a vault could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's secrets cannot be read.
    #[error("could not read {}", path.display())]
    ReadSecrets {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The host's secrets are damaged.
    #[error("{} is not what this vault wrote", path.display())]
    Secrets {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    /// The ledger cannot be opened.
    #[error("could not open the ledger of the vault")]
    Ledger(#[from] HomeError),
    /// The nodes of the ledger cannot be asked at all.
    #[error("the ledger's nodes in config.toml cannot be used")]
    Nodes(#[from] RemoteError),
    /// The outside chain cannot be asked at all.
    #[error("what config.toml says about the ledger's chain cannot be used")]
    Chain(#[from] ExternalError),
    /// The ledger is damaged here and no site gave blocks to make it anew from.
    #[error("the ledger on this host is missing or damaged, and none of the sites gave blocks to make it anew from")]
    NotHealed(#[source] HomeError),
    /// The ledger is damaged here, and the sites do not agree which one it is.
    #[error(
        "the ledger on this host is missing or damaged, and the sites serve two of equal standing from block {height} on"
    )]
    Forked { height: u64 },
}

/// Something strange that opening found and that did not stop it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenWarning {
    /// A site serves blocks that cannot be taken.
    #[error("site {site} serves blocks of the ledger that cannot be taken")]
    Blocks {
        site: SiteName,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The ledger was made anew.
    #[error("the ledger on this host could not be used and was made anew from site {site}: {}{}", why, kept.as_ref().map(|path| format!(", the old file is kept at {}", path.display())).unwrap_or_default())]
    Rebuilt { site: SiteName, why: String, kept: Option<PathBuf> },
    /// A node of the ledger cannot be used.
    #[error("a node of the ledger cannot be used: {0}")]
    Node(NodeProblem),
    /// No node of the ledger can: what is shown may be old.
    #[error("this is the ledger as of block {height}, {} old: newer blocks could not be had", age(*seconds))]
    NoNode {
        height: u64,
        /// How old the last block is by the clock of this host.
        seconds: u64,
        #[source]
        source: HomeError,
    },
    /// Its nodes answer, and record nothing.
    #[error("this is the ledger as of block {height}, {} old: its nodes answer and record nothing; too many of them may be gone", age(*seconds))]
    Still { height: u64, seconds: u64 },
    /// The ledger was made anew from its nodes.
    #[error("the ledger on this host could not be used and was made anew from its nodes: {}{}", why, kept.as_ref().map(|path| format!(", the old file is kept at {}", path.display())).unwrap_or_default())]
    Refetched { why: String, kept: Option<PathBuf> },
    /// A network was to take the ledger over, and has not.
    #[error(
        "no block of the network that is to take the ledger over above block {height} could be had yet: nothing is recorded before it begins"
    )]
    NotBegun { height: u64 },
    /// The sites do not know of the handover.
    #[error("the sites do not hold the handover to the network yet; the next command that writes tries again")]
    Unsettled {
        #[source]
        source: Box<SettleError>,
    },
    /// A copy of the old host went on.
    #[error(
        "site {site} holds block {height}, which a copy of this host's folder sealed beside the network's handover: what that copy recorded is not on the ledger"
    )]
    SealedBeside { site: SiteName, height: u64 },
    /// The ledger was behind.
    #[error("the ledger on this host was {blocks} blocks behind site {site} and was brought up to it")]
    Followed { site: SiteName, blocks: u64 },
}

impl Vault {
    /// Opens the vault in `folder`.
    pub async fn open(folder: VaultFolder, settings: Settings) -> Result<Self, OpenError> {
        Self::open_apart(folder, settings, |entry| !entry.counts()).await
    }

    /// Opens the vault as if these sites were gone: they are not contacted, so one that hangs costs nothing.
    pub async fn open_without(folder: VaultFolder, settings: Settings, sites: &[SiteName]) -> Result<Self, OpenError> {
        Self::open_apart(folder, settings, |entry| !entry.counts() || sites.contains(&entry.spec.name)).await
    }

    /// Opens the vault with the sites that are being added among its own. For copying to them: they do not count yet.
    pub(crate) async fn open_with_joining(folder: VaultFolder, settings: Settings) -> Result<Self, OpenError> {
        let joins = |entry: &SiteEntry| entry.state == Some(SiteUse::Joining);
        Self::open_apart(folder, settings, |entry| !entry.counts() && !joins(entry)).await
    }

    async fn open_apart(
        folder: VaultFolder,
        settings: Settings,
        is_apart: impl Fn(&SiteEntry) -> bool,
    ) -> Result<Self, OpenError> {
        let mut config = Config::load(&folder)?;
        let (apart, sites) = std::mem::take(&mut config.sites).into_iter().partition(is_apart);
        config.sites = sites;
        let secrets = load_secrets(&folder)?;
        let nodes = nodes_of(&config)?;
        let (enrolled, kept) = (enrolled(&config), Keeper::new(&folder, &config));
        let staying = config.sites.iter().filter(|entry| !entry.is_draining()).count();
        let spare = Spare::new(if settings.spares_sites { spare_sites(config.code, staying) } else { 0 });
        // What was kept of the ledger is read while the sites are opened. Whether it may be used is asked after that.
        let (sites, ()) = join(Sites::open_sparing(&enrolled, Patience::default(), spare), kept.read_ahead()).await;
        let key = secrets.as_ref().map(|secrets| Arc::new(LedgerKey::from_seed(&secrets.ledger_seed)));
        let own = key.as_ref().map(|key| key.public());
        let mut vault = Self::assemble(folder, config, Arc::new(sites), settings);
        vault.kept = kept;
        vault.apart = apart;
        vault.secrets = secrets;
        vault.nodes = nodes;
        if let Some(chain) = external_of(&vault.folder, &vault.config)? {
            // The chain is asked when there is something to ask: no copy of it is here that could lag behind.
            vault.home = chain.into();
            return Ok(vault);
        }
        vault.home = vault.embedded(key, Purpose::Block).into();
        // What was kept of this very file was made after all of it was checked. A bit that rotted since shows only by reading it.
        if !vault.settings.reads_only || vault.kept.current().await.is_none() {
            vault.heal(own).await?;
        }
        let stale = vault.follow_nodes().await;
        vault.follow().await;
        match stale {
            Some(source) => vault.tell_age(source).await,
            None => vault.tell_still().await,
        }
        if !vault.settings.reads_only {
            vault.settle_growth().await;
        }
        if vault.kept.current().await.is_none() {
            vault.keep_summary().await;
        }
        Ok(vault)
    }

    /// A vault of parts that the caller made.
    pub(crate) fn assemble(folder: VaultFolder, config: Config, sites: Arc<Sites>, settings: Settings) -> Self {
        let home = Embedded::new(Options::reader(folder.ledger(), Arc::clone(&settings.clock)));
        let kept = Keeper::new(&folder, &config);
        Self {
            folder,
            config,
            sites,
            home: home.into(),
            secrets: None,
            settings,
            warnings: Vec::new(),
            apart: Vec::new(),
            kept,
            nodes: None,
        }
    }

    /// Uses these nodes from now on.
    pub(crate) fn set_nodes(&mut self, nodes: Remote) {
        self.nodes = Some(nodes);
    }

    /// Asks the sites whether this host may seal.
    pub(crate) fn guard(&self, purpose: Purpose) -> Guard {
        let home = Embedded::new(Options::reader(self.folder.ledger(), Arc::clone(&self.settings.clock)));
        let ledger = Ledger::new(blockhouse_homes::provider::reader(home.clone()), &self.config.ledger);
        // With the operator's word for it fewer sites may answer than meet those of every handover; one always must.
        let needed = if self.settings.accept_risk { 1 } else { self.quorum() };
        let (sites, access) = (Arc::clone(&self.sites), address(self.config.ledger.access));
        Guard { sites, needed, home, ledger, access, purpose }
    }

    /// Asks the sites, now that they hold what was just sealed, whether another host has taken the ledger over. Of a ledger that
    /// others seal they decide: whoever took it over could not have been overlooked by them.
    pub(crate) async fn confirm_alone(&self) -> Result<(), GuardError> {
        if !self.config.is_sealed_here() {
            return Ok(());
        }
        let height = self.standing().await.map_err(GuardError::Own)?.height;
        self.guard(Purpose::Block).check(height).await
    }

    /// The host's ledger: the network's nodes seal, or `key` does after asking the sites.
    pub(crate) fn embedded(&self, key: Option<Arc<LedgerKey>>, purpose: Purpose) -> Embedded {
        let sealer = match (&self.nodes, key) {
            (Some(nodes), _) => Sealer::Network(nodes.clone()),
            (None, Some(key)) => Sealer::Key(key),
            (None, None) => Sealer::Nobody,
        };
        Embedded::new(Options {
            sealer,
            clock_rule: if self.settings.accept_clock { Clock::Accepted } else { Clock::Checked },
            before_seal: Some(self.guard(purpose).before_seal()),
            ..Options::reader(self.folder.ledger(), Arc::clone(&self.settings.clock))
        })
    }

    /// Makes a missing or damaged ledger anew from the best chain that the sites serve.
    async fn heal(&mut self, own: Option<[u8; 32]>) -> Result<(), OpenError> {
        let home = self.home.own_copy()?.clone();
        let damage = match home.check().await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_healed_by_replay() => error,
            Err(error) => return Err(error.into()),
        };
        if self.nodes.is_some() {
            match home.rebuild_from_network(self.config.ledger.genesis).await {
                Ok((rebuilt, followed)) => {
                    self.warnings.extend(followed.problems.into_iter().map(OpenWarning::Node));
                    self.warnings.push(OpenWarning::Refetched { why: damage.to_string(), kept: rebuilt.kept });
                    return Ok(());
                }
                // The sites have the blocks too.
                Err(HomeError::Remote(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut served = Vec::new();
        for (_, site) in self.sites.up() {
            match blocks::chains_of(site, &self.config).await {
                Ok(chains) => served.extend(chains.into_iter().map(|chain| (site.name().clone(), chain))),
                Err(error) => {
                    self.warnings.push(OpenWarning::Blocks { site: site.name().clone(), source: error.into() });
                }
            }
        }
        let Some((site, chain)) = best(&served, own)? else { return Err(OpenError::NotHealed(damage)) };
        let rebuilt = home.rebuild_from(chain.into_objects()).await?;
        self.warnings.push(OpenWarning::Rebuilt { site, why: damage.to_string(), kept: rebuilt.kept });
        Ok(())
    }

    /// Takes what the network's nodes hold above the host's head. Where none can be used the error is for the end of the opening: the
    /// sites may know more.
    async fn follow_nodes(&mut self) -> Option<HomeError> {
        let followed = match self.home.own_copy() {
            Ok(home) => home.follow().await,
            Err(error) => Err(error),
        };
        match followed {
            Ok(followed) => {
                self.warnings.extend(followed.problems.into_iter().map(OpenWarning::Node));
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Tells how old the ledger is that is shown.
    async fn tell_age(&mut self, source: HomeError) {
        let Ok(Standing { height, time, .. }) = self.standing().await else { return };
        let seconds = (self.settings.clock)().saturating_sub(time);
        self.warnings.push(OpenWarning::NoNode { height, seconds, source });
    }

    /// Tells that a network stands still: its nodes answer, and what they have is old. An idle one has a block a minute.
    async fn tell_still(&mut self) {
        if self.nodes.is_none() {
            return;
        }
        let Ok(Standing { height, time, .. }) = self.standing().await else { return };
        let seconds = (self.settings.clock)().saturating_sub(time);
        if seconds > STILL_SECONDS {
            self.warnings.push(OpenWarning::Still { height, seconds });
        }
    }

    /// Takes the blocks that sites hold above the host's head. What cannot be taken is told, and sealing decides for itself.
    async fn follow(&mut self) {
        // All are asked at the same time, and only those that know more are read: one after the other.
        let Ok(Standing { height, .. }) = self.standing().await else { return };
        let asked =
            join_all(self.sites.up().map(async |(_, site)| (site, blocks::has_above(site, height).await))).await;
        for (site, answer) in asked {
            let name = site.name().clone();
            let followed = match answer {
                Ok(false) => continue,
                Ok(true) => match self.home.own_copy() {
                    Ok(home) => follow_site(home, site).await,
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error.into()),
            };
            match followed {
                Ok(0) => {}
                Ok(blocks) => self.warnings.push(OpenWarning::Followed { site: name, blocks }),
                Err(error) => self.warnings.push(OpenWarning::Blocks { site: name, source: error.into() }),
            }
        }
    }
}

/// Imports what the site holds above the head; how many blocks were new.
async fn follow_site(home: &Embedded, site: &Site) -> Result<u64, BlocksError> {
    let height = home.standing().await?.height;
    match blocks::ahead(site, home, height).await? {
        Some(chain) => Ok(home.import(chain.into_objects()).await?.added),
        None => Ok(0),
    }
}

/// The best chain and a site that serves it. Of a fork the side on which this host's key is in force is taken: it only says what
/// this host did, and whether it may go on is asked before each sealing.
fn best(served: &[(SiteName, Chain)], own: Option<[u8; 32]>) -> Result<Option<(SiteName, Chain)>, OpenError> {
    let mut strongest = blocks::strongest(served.iter().map(|(_, chain)| chain));
    if strongest.len() > 1 {
        strongest.retain(|chain| Some(chain.authority().ledger_key()) == own);
    }
    match *strongest.as_slice() {
        [best] => {
            let hash = best.authority().hash();
            Ok(served.iter().find(|(_, chain)| chain.authority().hash() == hash).cloned())
        }
        [] if served.is_empty() => Ok(None),
        _ => Err(OpenError::Forked { height: fork_height(served) }),
    }
}

fn fork_height(served: &[(SiteName, Chain)]) -> u64 {
    match *blocks::strongest(served.iter().map(|(_, chain)| chain)).as_slice() {
        [one, other, ..] => blocks::first_difference(one.blocks(), other.blocks()),
        _ => 0,
    }
}

/// The outside chain that the ledger is on, if it is on one.
pub(crate) fn external_of(folder: &VaultFolder, config: &Config) -> Result<Option<External>, ExternalError> {
    let ledger = &config.ledger;
    let Some(terms) = ledger.chain.filter(|_| ledger.home == HomeKind::External) else { return Ok(None) };
    let options = ExternalOptions {
        nodes: ledger.urls.clone(),
        chain_id: ledger.chain_id,
        genesis: ledger.genesis,
        vault: address(ledger.vault),
        terms,
        outbox: folder.outbox(),
    };
    External::new(options).map(Some)
}

/// The nodes of the network that keeps the ledger, if one does.
fn nodes_of(config: &Config) -> Result<Option<Remote>, RemoteError> {
    config.is_of_network().then(|| Remote::new(config.ledger.urls.clone())).transpose()
}

/// An age for people, in its greatest unit.
fn age(seconds: u64) -> String {
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} seconds"), |(length, name)| format!("{} {name}", seconds / length))
}

/// How many sites a reader can do without: where each has its share of a stripe, k shards are left.
const fn spare_sites(code: Code, sites: usize) -> usize {
    let sites = if sites == 0 { 1 } else { sites };
    code.parity() / code.shards().div_ceil(sites)
}

/// The sites as they are opened: each must hold its own marker of this vault.
pub(crate) fn enrolled(config: &Config) -> Vec<Enrolled> {
    let expected = |site| Expected::This { vault: config.vault, site };
    config.sites.iter().map(|entry| Enrolled { spec: entry.spec.clone(), expected: expected(entry.id) }).collect()
}

/// The fingerprint of the vault in `folder` by what is on this host alone: no site is opened, and no node asked.
/// And the one that it had at the block of that height: other validators may have followed since.
pub async fn local_fingerprint(folder: &VaultFolder, height: u64) -> Result<(Fingerprint, Fingerprint), OpenError> {
    let config = Config::load(folder)?;
    if let Some(chain) = external_of(folder, &config)? {
        return Ok((chain.root().fingerprint(), chain.root().fingerprint()));
    }
    let home = Embedded::new(Options::reader(folder.ledger(), Arc::new(now)));
    let (standing, genesis) = (home.standing().await?, home.read(|store| store.genesis().clone()).await?);
    Ok((standing.fingerprint, TrustRoot::new(&genesis, standing.keys.at(height)).fingerprint()))
}

fn load_secrets(folder: &VaultFolder) -> Result<Option<HostSecrets>, OpenError> {
    let path = folder.secrets();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::ReadSecrets { path, source }),
    };
    HostSecrets::from_bytes(&bytes).map(Some).map_err(|source| OpenError::Secrets { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_one_unit() {
        for (seconds, told) in [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7_200, "2 hours")] {
            assert_eq!(age(seconds), told);
        }
        assert_eq!(age(3 * 86_400), "3 days");
    }

    #[test]
    fn a_reader_does_without_as_many_sites_as_leave_k_shards() {
        for (code, sites, expected) in
            [("4+2", 6, 2), ("4+2", 9, 2), ("4+2", 3, 1), ("4+2", 2, 0), ("2+1", 3, 1), ("1+0", 1, 0), ("1+2", 3, 2)]
        {
            let code: Code = code.parse().unwrap();
            assert_eq!(spare_sites(code, sites), expected, "{code} at {sites}");
            assert!((code.shards().div_ceil(sites) * expected) <= code.parity());
        }
        assert_eq!(spare_sites("4+2".parse().unwrap(), 0), 0);
    }
}
