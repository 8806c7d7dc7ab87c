//! Backing up: from folders to an acknowledged snapshot, in the write order that is the safety argument.
//!
//! - **Owns** the order of steps and what each failure means.
//! - **Does not** read files (`blockhouse-sources`), place shards (`stripes`) or know contracts (`ledger`).
//!
//! # Invariants
//! - **O1** A snapshot on the ledger has all its objects durable.
//! - **O3** Nothing acknowledged depends on unsynced data.
//! - **O4** A snapshot is acknowledged only after the sites, its block among them, were asked again for a handover.
//! - **O5** What fails after that is a warning of the report: the snapshot stands.
//!
//! Format: `docs/design/sites.md`, section *Write order of a backup*.

mod after;
mod commit;
pub mod copy;
mod last;
mod lease;
mod preview;
mod session;
mod sink;
mod source;
mod store;
mod stream;
mod walker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::{LedgerKey, RecipientSet, Secret};
use blockhouse_homes::HomeError;
use blockhouse_pipeline::cut::Cutter;
use blockhouse_pipeline::domain::{DomainKey, DomainKind};
use blockhouse_pipeline::manifest::SealManifestError;
use blockhouse_pipeline::pack::PackKeys;
use blockhouse_sites::SiteName;
use blockhouse_sources::files::{CaptureError, FilesSource, OpenSourceError, Options};
use blockhouse_sources::stream::StreamSource;
use blockhouse_types::{Durability, SnapshotId, SourceId, Timestamp};

use crate::blocks::{BlocksError, GuardError};
use crate::cache::{CacheReader, CacheWriter, Scope};
use crate::folder::{Config, ConfigError, LockError, SiteUse, UpdateError};
use crate::index::IndexError;
use crate::ledger::{Ledger, LedgerError, Recorded, Session};
use crate::progress::Progress;
use crate::prune::{self, Marked};
use crate::publish::TooFewCopies;
use crate::recipients::RecipientsError;
use crate::stripes::StripeStore;
use crate::vault::{HostSecrets, Vault};

pub use after::BackupWarning;
use lease::Lease;
pub use preview::{Change, Changed, Preview, Tally, Told, preview};
pub use session::CatchUpError;
use source::Opened;
pub(crate) use source::readable;
pub use store::StoreError;
use store::{ChunkStore, StoreKeys, Stored};
pub use walker::{Findings, Flaw, WalkError};
use walker::{Tree, Walker};

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// Where it comes from.
    pub origin: Origin,
    /// The source's name; else it is known by host and paths.
    pub source: Option<String>,
    /// The name of this host.
    pub host: String,
    /// What to leave out, and how paths are taken.
    pub options: Options,
    /// Tags, each `key=value`.
    pub tags: Vec<String>,
    /// The base level of compression.
    pub level: i32,
    /// Who shares chunks with this source.
    pub dedup: DomainKind,
    /// Read all files, also those that this host knows as unchanged.
    pub force: bool,
    /// Record no snapshot if the source is as in the last one of this host.
    pub skip_if_unchanged: bool,
}

/// Where the bytes of a backup come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Folders and files.
    Paths(Vec<PathBuf>),
    /// A stream that becomes one file.
    Stream(StreamSource),
}

impl BackupRequest {
    /// Opens what is to be backed up; reads nothing yet.
    fn open(&self) -> Result<Opened, OpenSourceError> {
        Ok(match &self.origin {
            Origin::Paths(paths) => Opened::Files(Box::new(FilesSource::try_new(paths, &self.options)?)),
            Origin::Stream(stream) => Opened::Stream(stream.clone()),
        })
    }
}

/// An acknowledged snapshot.
#[derive(Debug)]
pub struct BackupReport {
    /// Sites that did not take what they were given, with the first reason.
    pub refusals: BTreeMap<SiteName, String>,
    /// What failed on this host when the snapshot stood already.
    pub warnings: Vec<BackupWarning>,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its source.
    pub source: SourceId,
    /// Where the commit stands.
    pub recorded: Recorded,
    /// What the walk found.
    pub findings: Findings,
    /// Plain bytes that were not there before.
    pub new_bytes: u64,
    /// Bytes of the packs written, before coding.
    pub stored_bytes: u64,
    /// Stripes written.
    pub stripes: u64,
    /// What the snapshot survives.
    pub durability: Durability,
    /// What it would survive with every site up.
    pub plan: Durability,
    /// Nothing was recorded, for the source is as in `snapshot`, the last one of this host.
    pub is_skipped: bool,
}

impl BackupReport {
    /// True if the snapshot survives less than the plan.
    pub const fn is_degraded(&self) -> bool {
        self.durability.w < self.plan.w
    }
}

/// Why a backup did not become a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// This host holds no secrets of the vault.
    #[error("this host holds no writer's secrets of the vault: it can read and cannot back up")]
    NoWriter,
    /// The paths.
    #[error("the source cannot be backed up")]
    Source(#[from] OpenSourceError),
    /// A running node or database.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The configuration could not be changed.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// The recipients.
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
    /// The owner has not approved the recipients.
    #[error("the owner has not approved the recipients of this host's configuration for source {source_id}")]
    NotApproved { source_id: SourceId },
    /// The ledger.
    #[error("the ledger did not take the backup")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] HomeError),
    /// The index.
    #[error("the index could not be used")]
    Index(#[from] IndexError),
    /// The index could not be brought up to the sites.
    #[error("the index could not be brought up to what the sites hold")]
    CatchUp(#[from] CatchUpError),
    /// The chunks.
    #[error("the data could not be stored")]
    Store(#[from] StoreError),
    /// The walk.
    #[error("the source could not be read into the vault")]
    Walk(#[from] WalkError),
    /// The file cache.
    #[error("could not write the file cache in {}", folder.display())]
    Cache {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The manifest.
    #[error("the manifest could not be sealed")]
    Manifest(#[from] SealManifestError),
    /// The reader's map.
    #[error("the map for readers could not be made")]
    Map(#[from] crate::maps::MapError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// Blocks could not be copied.
    #[error("the ledger's blocks could not be copied to the sites")]
    Blocks(#[from] BlocksError),
    /// Another host took the ledger over while the snapshot was recorded.
    #[error(
        "snapshot {snapshot} was recorded in block {block} of a ledger that another host has taken over: it is not a snapshot of the vault that lives on"
    )]
    TakenOver {
        snapshot: SnapshotId,
        block: u64,
        #[source]
        source: GuardError,
    },
    /// Nobody can say whether it did.
    #[error("snapshot {snapshot} was recorded in block {block}, and is not confirmed")]
    Unconfirmed {
        snapshot: SnapshotId,
        block: u64,
        #[source]
        source: GuardError,
    },
    /// A stripe that the snapshot needs is gone.
    #[error("stripe {stripe}, which the snapshot needs, is not at the sites any more")]
    StripeGone { stripe: blockhouse_types::StripeId },
    /// A stripe that the snapshot needs may be removed at any moment: it must not be named.
    #[error("stripe {stripe}, which the snapshot needs, is marked for removal")]
    StripeMarked { stripe: blockhouse_types::StripeId },
    /// The mark of a running backup.
    #[error("could not note in {} that a backup runs", folder.display())]
    Mark {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    ReadConfig(#[from] ConfigError),
    /// A removal of the site has begun: it counts sessions before it looks what is at the site, and ours came later or unseen.
    #[error("site `{site}` was taken out of the vault while the backup began")]
    SiteTaken { site: SiteName },
    /// The lock under which backups publish.
    #[error("the snapshot could not be published")]
    Publish(#[from] LockError),
    /// The loss of one more site would be the loss of the snapshot.
    #[error(
        "the snapshot would not survive the loss of one more site ({durability}), the plan survives {planned}{refused}"
    )]
    AtRisk { durability: Durability, planned: u16, refused: Refused },
    /// A task ended early.
    #[error("a task of the backup was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// Sites that did not take what they were given, each with its first reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused(pub BTreeMap<SiteName, String>);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(site, why)| write!(f, "; site `{site}` did not take what it was given: {why}"))
    }
}

/// Backs up, and returns once the snapshot is acknowledged.
pub async fn back_up(
    vault: &Vault,
    request: &BackupRequest,
    progress: &Arc<Progress>,
) -> Result<BackupReport, BackupError> {
    let secrets = vault.secrets().ok_or(BackupError::NoWriter)?;
    let opened = request.open()?;
    if let Opened::Files(files) = &opened {
        files.capture()?;
    }
    let source = source::enrol(vault, request, &opened)?;
    let recipients = crate::recipients::of_config(vault.config())?;
    let (ledger, lease) = admit(vault, secrets, source, &recipients).await?;
    let run = Run { vault, secrets, request, ledger: &ledger, session: lease.session, source };
    let done = run.store_and_commit(opened, recipients, progress).await;
    lease.end(&ledger, done.as_ref().is_ok_and(|report| !report.is_skipped)).await;
    vault.keep_summary().await;
    done
}

/// What comes before the first byte of a backup or a copy: is this host still the one, are the recipients approved, and a session.
async fn admit(
    vault: &Vault,
    secrets: &HostSecrets,
    source: SourceId,
    recipients: &RecipientSet,
) -> Result<(Ledger, Lease), BackupError> {
    refuse_if_handed_over(vault, secrets).await?;
    sweep(vault).await;
    let ledger = vault.ledger_as(&secrets.writer);
    if !ledger.is_approved(source, recipients.hash()).await? {
        return Err(BackupError::NotApproved { source_id: source });
    }
    let lease = Lease::open(vault, &ledger).await?;
    match refuse_if_site_taken(vault) {
        Ok(()) => Ok((ledger, lease)),
        Err(error) => {
            lease.end(&ledger, false).await;
            Err(error)
        }
    }
}

/// How old a temporary file at a site must be to be a killed run's.
const LEFTOVER: std::time::Duration = std::time::Duration::from_hours(24);

/// Removes what killed runs left at the sites. A site that fails at it shows so at the first write.
async fn sweep(vault: &Vault) {
    let now = std::time::SystemTime::now();
    futures::future::join_all(vault.sites().up().map(async |(_, site)| site.sweep(now, LEFTOVER).await)).await;
}

/// A host whose ledger was handed over is told so, before the contract refuses its revoked writer for a lesser reason.
async fn refuse_if_handed_over(vault: &Vault, secrets: &HostSecrets) -> Result<(), BackupError> {
    if !vault.config().is_sealed_here() {
        return Ok(());
    }
    let own = LedgerKey::from_seed(&secrets.ledger_seed).public();
    let in_force = vault.standing().await?.keys.in_force();
    if own == in_force { Ok(()) } else { Err(HomeError::HandedOver { in_force, own }.into()) }
}

/// A removal notes the site first and looks for sessions then; so whoever has a session and finds the site in use is waited for, and here
/// whoever came too late finds it noted.
fn refuse_if_site_taken(vault: &Vault) -> Result<(), BackupError> {
    let now = Config::load(vault.folder())?;
    let is_out = |state: Option<SiteUse>| matches!(state, Some(SiteUse::Leaving | SiteUse::Lost));
    let is_taken = |id| now.sites.iter().find(|entry| entry.id == id).is_none_or(|entry| is_out(entry.state));
    match vault.config().sites.iter().find(|entry| !is_out(entry.state) && is_taken(entry.id)) {
        Some(entry) => Err(BackupError::SiteTaken { site: entry.spec.name.clone() }),
        None => Ok(()),
    }
}

/// One running backup.
struct Run<'a> {
    vault: &'a Vault,
    secrets: &'a HostSecrets,
    request: &'a BackupRequest,
    ledger: &'a Ledger,
    session: Session,
    source: SourceId,
}

/// Where the chunks of a session go, and what it may reuse.
struct Opening {
    domain: DomainKey,
    stripes: Arc<StripeStore>,
    marked: Marked,
    store: ChunkStore,
}

impl Run<'_> {
    async fn open_store(&self) -> Result<Opening, BackupError> {
        let domain = self.secrets.write.domain(self.request.dedup, self.source);
        let stripes = self.vault.stripes().await?;
        // After the session was opened: what is marked from now on waits for it.
        let marked = prune::marked(self.vault, self.ledger, self.session.epoch).await?;
        let presence = stripes.presence().await;
        let there = (&*stripes, &presence);
        let known = session::catch_up(self.vault, self.secrets, self.ledger, there, &marked).await?;
        let keys = StoreKeys {
            vault: self.vault.id(),
            session: self.session.id,
            writer: self.secrets.writer.clone(),
            domain: domain.clone(),
            pack: PackKeys::new(&self.secrets.write.index_key),
            code: self.vault.config().code,
            level: self.request.level,
        };
        let store = ChunkStore::start(keys, known, Arc::clone(&stripes))?;
        Ok(Opening { domain, stripes, marked, store })
    }

    async fn store_and_commit(
        &self,
        opened: Opened,
        recipients: RecipientSet,
        progress: &Arc<Progress>,
    ) -> Result<BackupReport, BackupError> {
        let roots = opened.roots();
        let Opening { domain, stripes, marked, store } = self.open_store().await?;
        let manifest_key = Secret::random(&mut rand::rng());
        let started = wall_clock();
        let (tree, stored, cache) = self.walk(opened, store, &manifest_key, (progress, started)).await?;
        let copied = None;
        let prepared =
            commit::Prepared { roots, tree, stored, domain, recipients, manifest_key, started, marked, copied };
        let mut report = match self.unchanged(&prepared, &stripes).await? {
            Some(report) => report,
            None => self.commit(prepared, &stripes).await?,
        };
        report.warnings.extend(after::replace_cache(cache, &self.vault.folder().cache(), &self.source));
        Ok(report)
    }

    /// Reads the source on a thread that may block.
    async fn walk(
        &self,
        opened: Opened,
        mut store: ChunkStore,
        manifest_key: &Secret,
        (progress, started): (&Arc<Progress>, Timestamp),
    ) -> Result<(Tree, Stored, CacheWriter), BackupError> {
        let folder = self.vault.folder().cache();
        let scope = Scope::new(self.source, &self.secrets.write.domain(self.request.dedup, self.source));
        let cache = if self.request.force { CacheReader::default() } else { CacheReader::open(&folder, &scope) };
        let mut next_cache = CacheWriter::create(&folder, &scope, &self.session.id)
            .map_err(|source| BackupError::Cache { folder, source })?;
        let (manifest_key, progress) = (manifest_key.clone(), Arc::clone(progress));
        let cutter = Cutter::new(self.secrets.write.cut_seed);
        let walk = move || {
            let context = (&manifest_key, &*progress, started);
            let mut capture = None;
            let walked = match &opened {
                Opened::Files(files) => {
                    let capture = capture.insert(files.capture()?);
                    Walker::new(capture, &mut store, &cutter, (cache, &mut next_cache), context).run()
                }
                Opened::Stream(source) => walker::store_stream(source, &mut store, &cutter, context),
            };
            // What stopped the threads behind the store says more than that they stopped.
            let stored = store.finish();
            let tree = match (walked, stored) {
                (Ok(tree), Ok(stored)) => (tree, stored),
                (Err(error), Ok(_)) => return Err(error.into()),
                (_, Err(error)) => return Err(error.into()),
            };
            if let Some(capture) = capture {
                capture.check_still_quiet()?;
            }
            Ok((tree.0, tree.1, next_cache))
        };
        tokio::task::spawn_blocking(walk).await.map_err(BackupError::Stopped)?
    }
}

pub(crate) fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
}
