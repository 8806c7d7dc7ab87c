//! Recovery: a living vault from one reachable site and the identity or the paper key.
//!
//! - **Owns** the choice among the chains that sites serve, the handover, the new writer, the new host folder.
//! - **Does not** trust a site for anything but bytes: the key bag's hash, the chain's certificates and handovers decide.
//!
//! # Invariants
//! - **R1** Of certified chains the one with more valid handovers is taken, then the higher; others are reported.
//! - **R2** A handover is durable at S−W sites before the new host counts as the ledger's home.
//!
//! Format: `docs/design/ledger.md`, section *Handover*.

mod chains;
mod take_over;

use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_homes::HomeError;
use blockhouse_ledger::receipt::{CheckError, ParseError};
use blockhouse_pipeline::key_bag::{KeyBag, SealedBag};
use blockhouse_sites::{
    Enrolled, Expected, Labels, ObjectKey, Patience, Prefix, SiteDown, SiteName, SiteSpec, SiteUrl, Sites,
};
use blockhouse_types::{BlockHash, Fingerprint, VaultId};

use crate::blocks::BlocksError;
use crate::folder::{Config, LedgerEntry, SiteEntry, VaultFolder, WriteError};
use crate::ledger::LedgerError;
use crate::publish::TooFewCopies;
use crate::recipients;
use crate::unlock::{BagError, Unlocked};
use crate::vault::{Settings, Vault};

pub use chains::{ChainReport, ChainState};

/// What to recover from, and how.
#[derive(Debug)]
pub struct RecoverRequest {
    /// The new vault folder.
    pub folder: VaultFolder,
    /// The sites that are known; one is enough.
    pub sites: Vec<SiteSpec>,
    /// A receipt that must be in the chain.
    pub expect: Option<Vec<u8>>,
    /// Only rehearse: a folder that can read, no handover.
    pub read_only: bool,
    /// What the old host wrote is not reused before it is verified.
    pub host_stolen: bool,
}

/// A recovered vault.
#[derive(Debug)]
pub struct RecoverReport {
    /// The vault.
    pub vault: VaultId,
    /// Its trust root before.
    pub before: Fingerprint,
    /// Its trust root now: another one after a handover.
    pub after: Fingerprint,
    /// What each site served.
    pub chains: Vec<ChainReport>,
    /// Sites that could not be reached.
    pub down: Vec<SiteName>,
    /// How many snapshots the ledger knows.
    pub snapshots: u64,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is a vault in the folder.
    #[error("there is a vault in {} already", folder.display())]
    Exists { folder: PathBuf },
    /// No site could be opened.
    #[error("none of the sites given could be opened")]
    NoSite { down: Vec<SiteDown> },
    /// The sites are of several vaults.
    #[error("the sites given belong to different vaults: {one} and {other}")]
    SeveralVaults { one: VaultId, other: VaultId },
    /// No key bag opens.
    #[error("no key bag at the sites opens with this key")]
    NoBag {
        tried: usize,
        #[source]
        source: Option<BagError>,
    },
    /// The key bag's site list is none.
    #[error("the key bag names a site that is none: {url}")]
    BagSite { url: String },
    /// No site serves a chain.
    #[error("no site serves the ledger of this vault from its beginning")]
    NoChain { chains: Vec<ChainReport> },
    /// Two chains are equally good.
    #[error("the ledger is forked: sites serve two chains of equal standing, which differ at or below block {height}")]
    Fork { height: u64, chains: Vec<ChainReport> },
    /// The bag is not the one on the ledger.
    #[error("the ledger names version {version} of the key bag, which no site gave")]
    OldBag {
        version: u32,
        #[source]
        source: BagError,
    },
    /// A reader cannot take a vault over.
    #[error("a reader's key opens snapshots only: a vault is recovered with the owner's identity or the paper key")]
    ReaderOnly,
    /// The receipt is none.
    #[error("the expected receipt cannot be read")]
    ExpectForm(#[from] ParseError),
    /// The receipt does not check.
    #[error("the expected receipt does not check")]
    ExpectCheck(#[source] Box<CheckError>),
    /// The receipt's block is not in the chain.
    #[error(
        "block {height} ({block}) of the expected receipt is not in the chain that the sites serve: it was rewritten, or they are behind"
    )]
    NotInChain { height: u64, block: BlockHash },
    /// Too few sites for a handover.
    #[error("a handover must be durable at {needed} of {sites} sites, {writable} can be written")]
    TooFewSites { needed: usize, sites: usize, writable: usize },
    /// The handover is durable at too few sites.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The ledger.
    #[error("the ledger did not take the recovery")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] HomeError),
    /// Blocks.
    #[error("the ledger's blocks could not be copied")]
    Blocks(#[from] BlocksError),
    /// The folder.
    #[error("could not make the vault folder {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Recovers a vault.
pub async fn recover(
    request: RecoverRequest,
    unlocked: &Unlocked,
    settings: Settings,
) -> Result<RecoverReport, RecoverError> {
    if request.folder.exists() {
        return Err(RecoverError::Exists { folder: request.folder.root().to_owned() });
    }
    let given = open_given(&request.sites).await?;
    let id = vault_of(&given)?;
    let (sites, config, found) = chain_of_newest_bag(&given, id, unlocked).await?;
    if let Some(receipt) = &request.expect {
        chains::expect(&found.objects, receipt)?;
    }
    take_over::make_folder(request.folder.root())?;
    let mut vault = Vault::assemble(request.folder, config, sites, settings);
    vault.home().rebuild_from(found.objects).await?;
    let bag = take_over::bag_in_force(&vault, unlocked).await?;
    vault.set_recipients(recipients::to_entries(&bag.recipients));
    let before = vault.standing().await?.fingerprint;
    if !request.read_only {
        take_over::take_over(&mut vault, &bag, unlocked, request.host_stolen).await?;
    }
    take_over::finish(&mut vault, unlocked).await?;
    let after = vault.standing().await?.fingerprint;
    let snapshots = vault.ledger().snapshots().await?.iter().filter(|record| !record.forgotten).count() as u64;
    let down = vault.sites().down().map(|(member, _)| member.name().clone()).collect();
    Ok(RecoverReport { vault: vault.id(), before, after, chains: found.reports, down, snapshots })
}

async fn open_given(specs: &[SiteSpec]) -> Result<Sites, RecoverError> {
    let any = |spec: &SiteSpec| Enrolled { spec: spec.clone(), expected: Expected::Any };
    let enrolled: Vec<Enrolled> = specs.iter().map(any).collect();
    let mut open = Vec::new();
    let mut down = Vec::new();
    for one in &enrolled {
        match blockhouse_sites::Site::open(&one.spec, one.expected, Patience::default()).await {
            Ok(site) => open.push(site),
            Err(error) => down.push(error),
        }
    }
    if open.is_empty() { Err(RecoverError::NoSite { down }) } else { Ok(Sites::of(open)) }
}

fn vault_of(sites: &Sites) -> Result<VaultId, RecoverError> {
    let mut vaults = sites.up().map(|(_, site)| site.vault());
    let one = vaults.next().ok_or(RecoverError::NoSite { down: Vec::new() })?;
    match vaults.find(|other| *other != one) {
        Some(other) => Err(RecoverError::SeveralVaults { one, other }),
        None => Ok(one),
    }
}

/// The chain that the newest key bag names; a bag that leads to none is passed over for the one before it, for anyone who knows
/// the recipients can leave one at a site.
async fn chain_of_newest_bag(
    given: &Sites,
    id: VaultId,
    unlocked: &Unlocked,
) -> Result<(Arc<Sites>, Config, chains::Found), RecoverError> {
    let mut refused = None;
    for bag in bags(given, id, unlocked).await? {
        let mut config = config_of(&bag, id, given)?;
        let sites = Arc::new(Sites::open_all(&enrolled(&config), Patience::default()).await);
        for (entry, member) in config.sites.iter_mut().zip(sites.members()) {
            entry.device = member.readable().and_then(blockhouse_sites::Site::device);
        }
        match chains::choose(&sites, &config).await {
            Ok(found) => return Ok((sites, config, found)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(RecoverError::NoBag { tried: 0, source: None }))
}

/// The key bags that open, the newest first. With the owner's identity only those that hold the owner's account count: nobody
/// else can make one.
async fn bags(sites: &Sites, vault: VaultId, unlocked: &Unlocked) -> Result<Vec<KeyBag>, RecoverError> {
    let mut named = std::collections::BTreeSet::new();
    for (_, site) in sites.up() {
        for listed in site.list_all(Prefix::Bags).await.unwrap_or_default() {
            if let ObjectKey::Bag { version, hash } = listed.key {
                named.insert((version, hash));
            }
        }
    }
    let (tried, mut refused, mut opened) = (named.len(), None, Vec::new());
    let is_owners = |bag: &KeyBag| match unlocked {
        Unlocked::Owner(identity) => identity.owner().account() == bag.owner.account(),
        Unlocked::Paper(_) | Unlocked::Reader(_) => true,
    };
    for (version, hash) in named.into_iter().rev() {
        let key = ObjectKey::Bag { version, hash };
        let Ok(fetched) = sites.get_any(&key, |bytes| SealedBag::hash(bytes) == hash).await else { continue };
        let Ok(sealed) = SealedBag::from_bytes(&fetched.bytes) else { continue };
        match sealed.open(&unlocked.age()) {
            Ok(bag) if sealed.vault() == vault && is_owners(&bag) => opened.push(bag),
            Ok(_) => {}
            Err(error) => refused = Some(BagError::Open(error)),
        }
    }
    if opened.is_empty() { Err(RecoverError::NoBag { tried, source: refused }) } else { Ok(opened) }
}

/// The configuration that the bag describes; a site that was given at another place is used there.
fn config_of(bag: &KeyBag, vault: VaultId, given: &Sites) -> Result<Config, RecoverError> {
    let mut sites = Vec::new();
    for site in &bag.sites {
        let url = SiteUrl::parse_absolute(&site.url).map_err(|_| RecoverError::BagSite { url: site.url.clone() })?;
        let name = SiteName::parse(&site.name).map_err(|_| RecoverError::BagSite { url: site.url.clone() })?;
        let label = |text: &String| (!text.is_empty()).then(|| text.clone());
        let labels = Labels { region: label(&site.region), provider: label(&site.provider) };
        let here = given.up().find(|(_, open)| open.id() == site.id);
        let url = here.map_or(url, |(_, open)| open.url().clone());
        let device = here.and_then(|(_, open)| open.device());
        sites.push(SiteEntry { id: site.id, spec: SiteSpec { url, name, labels }, device });
    }
    Ok(Config {
        version: 1,
        vault,
        code: bag.code,
        ledger: LedgerEntry {
            home: "embedded".to_owned(),
            chain_id: bag.chain_id,
            genesis: bag.genesis,
            vault: bag.vault_contract,
            access: bag.access_contract,
        },
        recipients: recipients::to_entries(&bag.recipients),
        sites,
        sources: std::collections::BTreeMap::new(),
    })
}

fn enrolled(config: &Config) -> Vec<Enrolled> {
    let expected = |site| Expected::This { vault: config.vault, site };
    config.sites.iter().map(|entry| Enrolled { spec: entry.spec.clone(), expected: expected(entry.id) }).collect()
}
