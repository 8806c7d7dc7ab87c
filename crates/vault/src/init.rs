//! Making a vault: keys, sites, a ledger with its contracts, and the first key bag.
//!
//! - **Owns** the order in which a vault comes to be: what the owner keeps first, the host's configuration last.
//! - **Does not** ask the user anything.
//!
//! # Invariants
//! - **N1** There is a vault once `config.toml` is there, and then everything else is.
//! - **N2** What fails half-way takes back the files it made for the owner and in the vault folder; the folders of sites that were
//!   marked are named, to be emptied. Nothing at a site is deleted. A network's ledger that was begun to be taken over needs these
//!   files, so from there on nothing is taken back, and the same command goes on (`claim`).

mod claim;
mod external;
mod genesis;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_crypto::identity::SealIdentityError;
use blockhouse_crypto::recipient::RecipientError;
use blockhouse_crypto::{AccountSecret, EnrolKey, Identity, LedgerKey, PaperKey, RecipientSet, Role, Secret};
use blockhouse_homes::{ExternalError, HomeError, NodeUrl, RemoteError};
use blockhouse_pipeline::domain::VaultSecret;
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::{SealBagError, SealedBag};
use blockhouse_pipeline::placement::{PlacementError, SiteDomain, Survey, survey};
use blockhouse_sites::{
    CreateError, Expected, Marker, ObjectKey, Patience, ProbeReport, Site, SiteError, SiteName, SiteSpec, Sites,
};
use blockhouse_types::{Account, BlockHash, Code, Fingerprint, SiteId, VaultId};
use bytes::Bytes;

use crate::folder::{HomeKind, SiteEntry, Unfinished, VaultFolder, WriteError, leftovers, write_durably};
use crate::ledger::LedgerError;
use crate::publish::{Publication, TooFewCopies};
use crate::sheet;
use crate::unlock::UnlockError;
use crate::vault::{Settings, Vault};

pub use external::{Poor, is_begun};

/// What a new vault is to be.
#[derive(Debug)]
pub struct InitRequest {
    /// The vault folder.
    pub folder: VaultFolder,
    /// Where the identity file goes.
    pub identity_out: PathBuf,
    /// Where the words of the paper key go, unless the caller shows them.
    pub paper_out: Option<PathBuf>,
    /// Its passphrase; none if the owner wants none.
    pub passphrase: Option<zeroize::Zeroizing<String>>,
    /// The sites.
    pub sites: Vec<SiteSpec>,
    /// The code; by default one that suits the number of sites.
    pub code: Option<Code>,
    /// How long a snapshot is protected from removal after its commit, even by the owner.
    pub floor_seconds: u64,
    /// The network's ledger that it takes over, or the chain that it is put on; none for a ledger of its own, that this host seals.
    pub ledger: Option<Elsewhere>,
}

/// Who keeps the ledger, if this host does not.
#[derive(Debug)]
pub enum Elsewhere {
    /// A network, whose ledger is taken over.
    Network(Claim),
    /// An outside chain.
    Chain(OnChain),
}

/// An outside chain that a vault is put on.
#[derive(Debug, Clone)]
pub struct OnChain {
    /// Its nodes.
    pub nodes: Vec<NodeUrl>,
    /// How many blocks must be above a final one; none: what the nodes call final.
    pub depth: Option<u64>,
    /// The most that is offered for a unit of gas, in wei; none: the usual.
    pub max_fee_wei: Option<u64>,
}

/// A network's ledger that nobody owns yet.
#[derive(Debug)]
pub struct Claim {
    /// Its nodes.
    pub nodes: Vec<NodeUrl>,
    /// What its founder gave to whom is to own it.
    pub key: EnrolKey,
}

/// A new vault.
#[derive(Debug)]
pub struct InitReport {
    /// The vault.
    pub vault: VaultId,
    /// Its trust root.
    pub fingerprint: Fingerprint,
    /// The paper key, to be written down and shown to nobody.
    pub paper: PaperKey,
    /// What the code over these sites survives.
    pub survey: Survey,
    /// What each site promises.
    pub probes: Vec<(SiteName, ProbeReport)>,
}

/// Why no vault was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one already.
    #[error("there is a vault in {} already", folder.display())]
    Exists { folder: PathBuf },
    /// Another process is making one there.
    #[error("another process is making a vault in {}", folder.display())]
    Busy { folder: PathBuf },
    /// A vault was begun there, or its configuration is lost.
    #[error("{} is there already, and no vault around it", files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and "))]
    Leftovers { files: Vec<PathBuf> },
    /// It failed when sites were marked already.
    #[error("no vault was made; empty these places before the next try, for they are marked as its sites: {}", places.join(", "))]
    Marked {
        places: Vec<String>,
        #[source]
        source: Box<InitError>,
    },
    /// No sites.
    #[error("a vault needs at least one site")]
    NoSites,
    /// Two sites in one place.
    #[error("two sites are at {url}")]
    SamePlace { url: String },
    /// The code does not fit the sites.
    #[error("the code does not fit the sites")]
    Placement(#[from] PlacementError),
    /// The folder.
    #[error("could not make the vault folder {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file for the owner is there already.
    #[error("{} is there already and is not overwritten", path.display())]
    FileExists { path: PathBuf },
    /// The identity.
    #[error("could not make the identity file")]
    Identity(#[from] SealIdentityError),
    /// A recipient.
    #[error("could not make the recipients")]
    Recipient(#[from] RecipientError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A site could not be made.
    #[error("could not make site {site}")]
    Site {
        site: SiteName,
        #[source]
        source: Box<CreateError>,
    },
    /// A site does not answer the probe.
    #[error("could not probe site {site}")]
    Probe {
        site: SiteName,
        #[source]
        source: SiteError,
    },
    /// A site does not keep what backups rely on.
    #[error("site {site} does not keep what it must: {report:?}")]
    Promises { site: SiteName, report: ProbeReport },
    /// The key bag.
    #[error("could not seal the key bag")]
    Bag(#[from] SealBagError),
    /// The ledger.
    #[error("could not begin the ledger")]
    Home(#[from] HomeError),
    /// The contracts.
    #[error("the contracts did not take the vault's beginning")]
    Ledger(#[from] LedgerError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The network's nodes.
    #[error("could not ask the nodes of the ledger")]
    Nodes(#[from] RemoteError),
    /// The outside chain.
    #[error("could not put the vault on the chain")]
    Chain(#[from] ExternalError),
    /// The nodes are of a network, which has no place for contracts of strangers.
    #[error("the nodes are those of a Blockhouse network, whose ledger is taken over with its enrol key")]
    IsNetwork,
    /// Accounts cannot pay.
    #[error("the chain wants fees: {}", poor.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Funds { poor: Vec<Poor> },
    /// What was begun belongs to another ledger.
    #[error("what was begun is of the ledger {expected}, these nodes keep the ledger {found}")]
    OtherLedger { expected: BlockHash, found: BlockHash },
    /// The enrol key is not that of the ledger's first owner.
    #[error("the enrol key is that of the account 0x{account}, and the ledger was begun for 0x{owner}")]
    OtherEnrolKey { account: Account, owner: Account },
    /// Somebody owns the ledger.
    #[error("the ledger has an owner already, the account 0x{owner}")]
    Claimed { owner: Account },
    /// Somebody used the enrol key.
    #[error("the ledger has no owner yet, but somebody has used its enrol key to change it")]
    Used,
    /// The ledger is the identity's, and in use.
    #[error("the vault of this ledger is this identity's already, and {snapshots} snapshots are recorded in it")]
    InUse { snapshots: u64 },
    /// A key file that is there cannot be taken up.
    #[error("{} is there already, and is not what an earlier try on this ledger left", path.display())]
    NotTakenUp {
        path: PathBuf,
        #[source]
        source: Option<UnlockError>,
    },
}

/// The keys of a new vault.
struct Keys {
    vault: VaultId,
    vault_secret: VaultSecret,
    identity: Identity,
    paper: PaperKey,
    host: HostSecrets,
    recipients: RecipientSet,
}

impl Keys {
    fn generate() -> Result<Self, InitError> {
        let mut random = rand::rng();
        let vault = VaultId::new(rand::random());
        Self::of(Identity::generate(vault, &mut random), PaperKey::generate(&mut random))
    }

    /// All else is made anew.
    fn of(identity: Identity, paper: PaperKey) -> Result<Self, InitError> {
        let mut random = rand::rng();
        let vault = identity.vault();
        let vault_secret = VaultSecret::new(Secret::random(&mut random));
        let writer = AccountSecret::random(&mut random);
        let write = vault_secret.write_secrets(writer.account());
        let host = HostSecrets { vault, write, writer, ledger_seed: Secret::random(&mut random) };
        let recipients = RecipientSet::try_new(vec![
            identity.age().recipient(Role::Owner, "owner")?,
            paper.age_identity().recipient(Role::Paper, "paper key")?,
        ])?;
        Ok(Self { vault, vault_secret, identity, paper, host, recipients })
    }
}

/// Makes a vault.
pub async fn init(request: InitRequest, settings: Settings) -> Result<InitReport, InitError> {
    let InitRequest { folder, identity_out, paper_out, passphrase, sites, code, floor_seconds, ledger } = request;
    if let Some(elsewhere) = ledger {
        let files = claim::Files { identity_out, paper_out, passphrase };
        let (place, shape) = ((folder, settings), (sites, code, floor_seconds));
        return match elsewhere {
            Elsewhere::Network(claim) => claim::claim(place, files, shape, claim).await,
            Elsewhere::Chain(chain) => external::found(place, files, shape, chain).await,
        };
    }
    refuse_if_taken(&folder)?;
    let code = code.unwrap_or_else(|| Code::default_for(sites.len()));
    let specs = distinct(sites)?;
    // Asked before anything is written, of the sites as they are named; again, with their devices, for the report.
    survey(code, &undeclared(&specs))?;
    // Before the owner's files are written: who comes second to this folder touches nothing.
    let failed = |source| InitError::Folder { folder: folder.root().to_owned(), source };
    let busy = || InitError::Busy { folder: folder.root().to_owned() };
    let unfinished = Unfinished::begin(&folder).map_err(failed)?.ok_or_else(busy)?;
    refuse_if_taken(&folder)?;
    let keys = Keys::generate()?;
    let owners_file = OwnersFile::write(&identity_out, &keys.identity.to_file(passphrase.as_deref().map(|it| &**it))?)?;
    let paper_file = paper_out.map(|path| {
        let text = zeroize::Zeroizing::new(format!("{}\n", keys.paper.words().as_str()));
        OwnersFile::write(&path, text.as_bytes())
    });
    let paper_file = paper_file.transpose()?;
    let mut marked = Vec::new();
    let report = match make_sites(keys.vault, specs, (&mut marked, false)).await {
        Ok(made) => build(folder, keys, made, code, (floor_seconds, settings)).await,
        Err(error) => Err(error),
    };
    let report = report.map_err(|error| {
        if marked.is_empty() { error } else { InitError::Marked { places: marked, source: Box::new(error) } }
    })?;
    unfinished.keep();
    owners_file.keep();
    if let Some(file) = paper_file {
        file.keep();
    }
    Ok(report)
}

/// Fails if a vault is in the folder, or what is left of one.
fn refuse_if_taken(folder: &VaultFolder) -> Result<(), InitError> {
    if folder.exists() {
        return Err(InitError::Exists { folder: folder.root().to_owned() });
    }
    let files = leftovers(folder);
    if files.is_empty() { Ok(()) } else { Err(InitError::Leftovers { files }) }
}

async fn build(
    folder: VaultFolder,
    keys: Keys,
    made: MadeSites,
    code: Code,
    (floor_seconds, settings): (u64, Settings),
) -> Result<InitReport, InitError> {
    let MadeSites { sites, entries, probes } = made;
    let sites = Arc::new(sites);
    let key = Arc::new(LedgerKey::from_seed(&keys.host.ledger_seed));
    let genesis = genesis::genesis(&keys, &key, (settings.clock)());
    let config = genesis::config(&keys, &genesis, (HomeKind::Embedded, Vec::new()), (code, entries));
    write_durably(&folder.secrets(), 0o600, &keys.host.to_bytes())?;
    let mut vault = Vault::assemble(folder, config, Arc::clone(&sites), settings);
    let bag = genesis::first_bag(&keys, vault.config())?;
    vault.begin_ledger(&genesis, key).await?;
    genesis::deploy(&vault, &genesis, keys.identity.owner(), (floor_seconds, 0)).await?;
    let owner = vault.ledger_as(keys.identity.owner());
    genesis::enrol(&owner, &keys, &bag).await?;
    let mut published = Publication::begin(&sites);
    let bag = bag.to_bytes();
    let bag_key = ObjectKey::Bag { version: 1, hash: SealedBag::hash(&bag) };
    published.put(&sites, &bag_key, Bytes::from(bag)).await;
    let height = vault.standing().await?.height;
    published.copy_blocks(&sites, vault.home(), height).await;
    published.require("the beginning of the vault", vault.config().sites.len())?;
    finish(&vault, code, (keys.paper, probes)).await
}

/// What is left when the ledger is the vault's: the recovery sheet, and the configuration, which says that there is a vault.
async fn finish(
    vault: &Vault,
    code: Code,
    (paper, probes): (PaperKey, Vec<(SiteName, ProbeReport)>),
) -> Result<InitReport, InitError> {
    let survey = survey(code, &vault.domains())?;
    let fingerprint = vault.standing().await?.fingerprint;
    sheet::write(vault.folder(), vault.config(), fingerprint)?;
    vault.config().save(vault.folder())?;
    vault.keep_summary().await;
    Ok(InitReport { vault: vault.id(), fingerprint, paper, survey, probes })
}

/// The sites of a new vault.
struct MadeSites {
    sites: Sites,
    entries: Vec<SiteEntry>,
    probes: Vec<(SiteName, ProbeReport)>,
}

/// Marks the sites and asks each what it promises. `touched` are the places that may have a marker by then. Those that an earlier try
/// marked for this very vault are taken up if they may be.
async fn make_sites(
    vault: VaultId,
    specs: Vec<SiteSpec>,
    (touched, takes_up): (&mut Vec<String>, bool),
) -> Result<MadeSites, InitError> {
    let (mut sites, mut entries, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for spec in specs {
        let mut id = SiteId::new(rand::random());
        let marker = Marker { vault, site: id, name: spec.name.clone() };
        let mut created = Site::create(&spec, &marker, Patience::default()).await;
        if let Err(CreateError::Taken { marker, .. }) = &created
            && takes_up
            && marker.vault == vault
        {
            id = marker.site;
            let opened = Site::open(&spec, Expected::This { vault, site: id }, Patience::default()).await;
            created = opened.map_err(CreateError::Down);
        }
        if matches!(created, Ok(_) | Err(CreateError::Marker(_) | CreateError::Down(_))) {
            touched.push(spec.url.place());
        }
        let site = created.map_err(|source| InitError::Site { site: spec.name.clone(), source: Box::new(source) })?;
        let report = site.probe().await.map_err(|source| InitError::Probe { site: spec.name.clone(), source })?;
        if !report.keeps_promises() {
            return Err(InitError::Promises { site: spec.name, report });
        }
        probes.push((spec.name.clone(), report));
        entries.push(SiteEntry { id, device: site.device(), spec, state: None });
        sites.push(site);
    }
    Ok(MadeSites { sites: Sites::of(sites), entries, probes })
}

/// Refuses two sites in one place and numbers equal names.
fn distinct(sites: Vec<SiteSpec>) -> Result<Vec<SiteSpec>, InitError> {
    if sites.is_empty() {
        return Err(InitError::NoSites);
    }
    let mut distinct: Vec<SiteSpec> = Vec::with_capacity(sites.len());
    for mut spec in sites {
        if distinct.iter().any(|other| other.url == spec.url) {
            return Err(InitError::SamePlace { url: spec.url.to_string() });
        }
        let base = spec.name.clone();
        let mut number = 2;
        while distinct.iter().any(|other| other.name == spec.name) {
            spec.name = base.with_number(number);
            number += 1;
        }
        distinct.push(spec);
    }
    Ok(distinct)
}

/// The sites as if each were on a device of its own: for the question whether the code fits their number.
fn undeclared(specs: &[SiteSpec]) -> Vec<SiteDomain> {
    let domain = |(number, spec): (u8, &SiteSpec)| SiteDomain {
        site: SiteId::new([number; SiteId::LEN]),
        device: number.into(),
        provider: spec.labels.provider.clone(),
        region: spec.labels.region.clone(),
    };
    (0..).zip(specs).map(domain).collect()
}

/// The owner's file, taken back unless it is kept.
struct OwnersFile {
    path: Option<PathBuf>,
}

impl OwnersFile {
    fn write(path: &Path, bytes: &[u8]) -> Result<Self, InitError> {
        if path.symlink_metadata().is_ok() {
            return Err(InitError::FileExists { path: path.to_owned() });
        }
        write_durably(path, 0o600, bytes)?;
        Ok(Self { path: Some(path.to_owned()) })
    }

    fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for OwnersFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing is lost with the keys of a vault that was not made.
            let _ = fs::remove_file(path);
        }
    }
}
