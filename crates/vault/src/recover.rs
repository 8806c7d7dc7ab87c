//! Recovery: a living vault from one reachable site and the identity or the paper key.
//!
//! - **Owns** the choice among the chains that sites serve, the handover, the new writer, the new host folder.
//! - **Does not** trust a site for anything but bytes: the key bag's hash, the chain's certificates and handovers decide.
//!
//! # Invariants
//! - **R1** Of certified chains the one with more valid handovers is taken, then the higher; others are reported. With a
//!   fingerprint only those count that the vault had it on; a receipt goes before height, and before handovers if the owner says so.
//! - **R2** A handover is durable at S−W sites before the new host counts as the ledger's home, and stands alone there.
//! - **R3** Sites and code come from the key bag that the ledger names: whoever knows the recipients can make another.
//! - **R4** No snapshot is left out in silence: a chain that grows while it is read is read again, and what verified chains commit
//!   that the one taken does not, at the latest at the moment after the handover, is reported.
//!
//! Format: `docs/design/ledger.md`, section *Handover*.

mod bags;
mod chains;
mod external;
mod take_over;

use std::path::PathBuf;

use blockhouse_homes::forks::ForkFolder;
use blockhouse_homes::{ExternalError, HomeError, NodeUrl};
use blockhouse_ledger::receipt::{CheckError, ParseError};
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::{Expected, Patience, Site, SiteDown, SiteName, SiteSpec, Sites};
use blockhouse_types::{BlockHash, Fingerprint, VaultId};

use crate::blocks::{BlocksError, GuardError};
use crate::folder::{Config, HomeKind, UpdateError, VaultFolder, WriteError};
use crate::ledger::LedgerError;
use crate::publish::TooFewCopies;
use crate::unlock::{BagError, Unlocked};
use crate::vault::{Settings, Vault};

use bags::Found;
pub use chains::{ChainReport, ChainState, LeftOut};
use chains::{Chosen, LeftOuts, Trust};
pub use external::ChainPlace;
use take_over::Terms;

/// How often a chain that grows while it is read is read: more often than an honest host seals in a row.
const READINGS: usize = 4;

/// What to recover from, and how.
#[derive(Debug, Clone)]
pub struct RecoverRequest {
    /// The new vault folder.
    pub folder: VaultFolder,
    /// The sites that are known; one is enough.
    pub sites: Vec<SiteSpec>,
    /// A fingerprint that the vault had: the anchor of trust, from the recovery sheet.
    pub fingerprint: Option<Fingerprint>,
    /// A receipt that must be in the chain.
    pub expect: Option<Vec<u8>>,
    /// The chain that holds the receipt is taken though another one has more handovers: the owner said so.
    pub prefer_expected: bool,
    /// The outside chain that the ledger is on; none where the sites hold its blocks.
    pub chain: Option<ChainPlace>,
    /// Only rehearse: a folder that can read, no handover.
    pub read_only: bool,
    /// Of a folder that can read: the nodes of the network that keeps the ledger. Others can agree to what is changed from there.
    pub network: Vec<NodeUrl>,
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
    /// Snapshots of other verified chains, which the vault lacks now, in the order of their ids.
    pub left_out: Vec<LeftOut>,
    /// Files of an earlier vault in the folder, under their new names.
    pub set_aside: Vec<PathBuf>,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is a vault in the folder.
    #[error("there is a vault in {} already", folder.display())]
    Exists { folder: PathBuf },
    /// Another process is making a vault there.
    #[error("another process is making a vault in {}", folder.display())]
    Busy { folder: PathBuf },
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
    #[error("the ledger is forked: sites serve two chains of equal standing, which differ from block {height} on")]
    Fork { height: u64, chains: Vec<ChainReport> },
    /// The chain with the receipt is not the one that the rule takes.
    #[error(
        "the ledger is forked: the one that holds the expected receipt has {handovers} handovers, another one has {others}"
    )]
    Outdone { handovers: u64, others: u64, chains: Vec<ChainReport> },
    /// The chain grew each time.
    #[error("the ledger grew each of the {readings} times that it was read: another host is writing to it")]
    KeepsGrowing { readings: usize },
    /// Too few sites for the second look.
    #[error(
        "the handover was made, but only {read} sites could be asked for what the old host wrote meanwhile, {needed} are needed"
    )]
    Unasked { read: usize, needed: usize },
    /// No chain ever had the fingerprint asked for.
    #[error(
        "no ledger that the sites serve ever had the fingerprint {asked}: what they serve is of another vault, or forged"
    )]
    OtherFingerprint { asked: Fingerprint, chains: Vec<ChainReport> },
    /// The ledger names no key bag.
    #[error("the ledger that the sites serve ends before its first key bag")]
    BagNotNamed,
    /// Another host did the same.
    #[error("the handover was made, but another one may stand beside it")]
    NotAlone(#[source] GuardError),
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
    /// One alone cannot hand it over.
    #[error("the ledger is handed over by {threshold} of its recovery accounts together, and this is one")]
    NeedsOthers { threshold: u64 },
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
    /// The outside chain.
    #[error("the chain that the vault is on could not be used")]
    Chain(#[from] ExternalError),
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
    /// The configuration cannot be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl RecoverError {
    /// The chains that sites serve, where they are what recovery failed for.
    pub fn chains(&self) -> &[ChainReport] {
        match self {
            Self::NoChain { chains }
            | Self::Fork { chains, .. }
            | Self::Outdone { chains, .. }
            | Self::OtherFingerprint { chains, .. } => chains,
            _ => &[],
        }
    }

    /// True if the sites serve what no honest host has made.
    pub const fn is_evidence(&self) -> bool {
        matches!(
            self,
            Self::Fork { .. } | Self::Outdone { .. } | Self::OtherFingerprint { .. } | Self::NotInChain { .. }
        )
    }
}

/// Recovers a vault. Evidence of forks among the sites is kept in the folder, whatever comes of the recovery.
pub async fn recover(
    request: RecoverRequest,
    unlocked: &Unlocked,
    settings: Settings,
) -> Result<RecoverReport, RecoverError> {
    let forks = ForkFolder::beside(&request.folder.ledger());
    let recovered = recover_into(request, unlocked, settings).await;
    let chains = match &recovered {
        Ok(report) => &report.chains[..],
        Err(error) => error.chains(),
    };
    keep_evidence(&forks, chains);
    recovered
}

/// What cannot be kept is reported all the same.
fn keep_evidence(forks: &ForkFolder, chains: &[ChainReport]) {
    for report in chains {
        let ChainState::Fork { evidence: Some(evidence), .. } = &report.state else { continue };
        if let Ok(proved) = evidence.check(None) {
            let _ = forks.keep(evidence, &proved);
        }
    }
}

async fn recover_into(
    request: RecoverRequest,
    unlocked: &Unlocked,
    settings: Settings,
) -> Result<RecoverReport, RecoverError> {
    if request.folder.exists() {
        return Err(RecoverError::Exists { folder: request.folder.root().to_owned() });
    }
    if let Some(place) = request.chain.clone() {
        return external::recover(request, place, unlocked, settings).await;
    }
    let trust = Trust::of(&request)?;
    let given = open_given(&request.sites).await?;
    let id = vault_of(&given)?;
    let mut found = bags::find(&given, id, unlocked, &trust).await?;
    trust.expect_in(&found.chosen.chain)?;
    let (unfinished, set_aside) = take_over::begin_folder(&request.folder, false)?;
    let mut readings = 1;
    let mut taken = loop {
        let taken = Taken::begin(found, request.folder.clone(), settings.clone()).await?;
        // The owner's word for a chain holds whoever else writes to it: what that leaves out is reported.
        let is_last = request.read_only || (readings == READINGS && trust.is_chosen());
        if is_last || !take_over::is_outgrown(&taken.vault).await? {
            break taken;
        }
        if readings == READINGS {
            return Err(RecoverError::KeepsGrowing { readings });
        }
        readings += 1;
        found = bags::find(&given, id, unlocked, &trust).await?;
        trust.expect_in(&found.chosen.chain)?;
    };
    let before = taken.vault.standing().await?.fingerprint;
    if !request.read_only {
        taken.take_over(unlocked, (request.host_stolen, trust.is_chosen())).await?;
    }
    take_over::finish(&mut taken.vault, unlocked).await?;
    let report = taken.report(before, set_aside).await?;
    if request.read_only && !request.network.is_empty() {
        Config::update(&request.folder, |config| {
            config.ledger.home = HomeKind::Network;
            config.ledger.urls = request.network;
        })?;
    }
    unfinished.keep();
    Ok(report)
}

/// The vault on the chain that was chosen, with the store of its ledger made.
struct Taken {
    vault: Vault,
    bag: KeyBag,
    chains: Vec<ChainReport>,
    left_out: LeftOuts,
    most_handovers: u64,
}

impl Taken {
    async fn begin(found: Found, folder: VaultFolder, settings: Settings) -> Result<Self, RecoverError> {
        let Found { sites, config, bag, chosen } = found;
        let Chosen { chain, reports, left_out, most_handovers } = chosen;
        // What an earlier reading made.
        match std::fs::remove_file(folder.ledger()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RecoverError::Folder { folder: folder.root().to_owned(), source });
            }
            _ => {}
        }
        let vault = Vault::assemble(folder, config, sites, settings);
        vault.home().own_copy()?.rebuild_from(chain.into_objects()).await?;
        Ok(Self { vault, bag, chains: reports, left_out, most_handovers })
    }

    async fn take_over(
        &mut self,
        unlocked: &Unlocked,
        (host_stolen, is_chosen): (bool, bool),
    ) -> Result<(), RecoverError> {
        let terms = Terms { host_stolen, is_chosen, outdo: if is_chosen { self.most_handovers } else { 0 } };
        let cut_off = take_over::take_over(&mut self.vault, &self.bag, unlocked, terms).await?;
        self.left_out.extend(cut_off);
        Ok(())
    }

    async fn report(self, before: Fingerprint, set_aside: Vec<PathBuf>) -> Result<RecoverReport, RecoverError> {
        let Self { vault, chains, left_out, .. } = self;
        let snapshots = vault.ledger().snapshots().await?.iter().filter(|record| !record.forgotten).count() as u64;
        Ok(RecoverReport {
            vault: vault.id(),
            before,
            after: vault.standing().await?.fingerprint,
            chains,
            down: vault.sites().down().map(|(member, _)| member.name().clone()).collect(),
            snapshots,
            left_out: left_out.into_values().collect(),
            set_aside,
        })
    }
}

async fn open_given(specs: &[SiteSpec]) -> Result<Sites, RecoverError> {
    let mut open = Vec::new();
    let mut down = Vec::new();
    for spec in specs {
        match Site::open(spec, Expected::Any, Patience::default()).await {
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
