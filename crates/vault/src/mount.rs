//! A vault as a file system that can only be read: what a kernel asks, answered.
//!
//! - **Owns** what is shown where, the numbers of files, what is kept in memory, and what is said of damage.
//! - **Does not** speak with a kernel: a thin adapter of the command line does, and tests need none.
//!
//! # Invariants
//! - **M1** Every byte that is given out was checked: manifests against the snapshot id on the ledger, chunks against their ids.
//! - **M2** What cannot be read is an error of its own file or folder; everything else stays readable.
//! - **M3** Memory is bounded: chunks and listings by the budget (but one listing is held whole), opened snapshots and marks of long
//!   files by number, numbers of files by what the kernel remembers.
//! - **M4** Nothing is written anywhere but the host's index.
//!
//! Guide: `docs/guides/mount.md`.

mod answers;
mod attributes;
mod catalog;
mod inodes;
mod snapshots;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::SnapshotId;
use tokio::runtime::Handle;

use crate::folder::{Config, ConfigError};
use crate::index::{Index, IndexError};
use crate::ledger::LedgerError;
use crate::reader::{self, OpenSnapshotError, Seeker, SharedChunks};
use crate::select::{self, Narrow};
use crate::stripes::Damage;
use crate::unlock::Unlocked;
use crate::vault::Vault;

use crate::reader::ByteCache;
pub use answers::Visited;
pub use attributes::Attributes;
use catalog::Catalog;
use inodes::Inodes;
use snapshots::{Opened, Turn};
use tree::Listing;

/// How many snapshots stay open: a manifest each.
const OPENED_MAX: usize = 128;
/// How many long files are remembered with the marks of their lists.
const SEEKERS_MAX: usize = 64;
/// How long a catalog is not compared with the ledger again.
const CATALOG_AGE: Duration = Duration::from_secs(1);
/// How many troubles are remembered, so that each is told once.
const TROUBLES_MAX: usize = 10_000;

/// What to show, and with how much memory.
#[derive(Debug, Clone)]
pub struct MountSettings {
    /// The budget for chunks and listings, in bytes.
    pub cache: usize,
    /// Which snapshots are shown.
    pub narrow: Narrow,
    /// Whose the folders above snapshots are: user and group.
    pub owner: (u32, u32),
}

/// Why a vault cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenMountError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The index.
    #[error("the index could not be used")]
    Index(#[from] IndexError),
    /// The index key.
    #[error(transparent)]
    Key(#[from] OpenSnapshotError),
}

/// Why a question has no other answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing of that name.
    NoEntry,
    /// It is no folder.
    NotAFolder,
    /// It is a folder.
    IsAFolder,
    /// It is not what can be asked so.
    Invalid,
    /// It has no such attribute.
    NoAttribute,
    /// Nothing follows that place.
    Beyond,
    /// The number is not known any more.
    Stale,
    /// It cannot be read: damage at the sites, or something that could not be read when it was backed up. What and where was told.
    Unreadable,
}

/// Something in a snapshot that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The snapshot; none if it is the vault.
    pub snapshot: Option<SnapshotId>,
    /// Where in it, as `restore` writes it; empty for the snapshot itself.
    pub path: Vec<u8>,
    /// Why, with its causes.
    pub why: String,
}

/// Whom troubles are told.
pub type Tell = Box<dyn Fn(&Trouble) + Send + Sync>;

/// A vault that is shown as files. Its methods block: for threads that may.
pub struct MountedVault {
    vault: Vault,
    unlocked: Unlocked,
    settings: MountSettings,
    runtime: Handle,
    /// What opens tables of stripes; a reader has none and needs the reader's map of each snapshot.
    keys: Option<PackKeys>,
    chunks: SharedChunks,
    shown: Mutex<ShownNow>,
    inodes: Mutex<Inodes>,
    opened: Mutex<ByteCache<SnapshotId, Arc<Opened>>>,
    /// Each snapshot is opened by one at a time, and no snapshot waits for another that its sites are slow to give.
    opening: Mutex<HashMap<SnapshotId, Turn>>,
    /// Held while the index is brought up to a snapshot that it does not know.
    learning: tokio::sync::Mutex<()>,
    listings: Mutex<ByteCache<u64, Arc<Listing>>>,
    seekers: Mutex<ByteCache<u64, Arc<Seeker>>>,
    folders: Mutex<OpenFolders>,
    told: Mutex<HashSet<(Option<SnapshotId>, Vec<u8>)>>,
    tell: Tell,
}

impl std::fmt::Debug for MountedVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountedVault").field("vault", &self.vault.id()).finish_non_exhaustive()
    }
}

/// What is shown above snapshots, and how old that is.
#[derive(Debug)]
struct ShownNow {
    catalog: Arc<Catalog>,
    checked: Instant,
    seen: Stamps,
}

/// When ledger and configuration were written last.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// Folders above snapshots that somebody reads: each is read as it was when it was opened.
#[derive(Debug, Default)]
struct OpenFolders {
    next: u64,
    open: HashMap<u64, Arc<Catalog>>,
}

impl MountedVault {
    /// Makes a vault ready to be shown. Snapshots are opened when they are looked at.
    pub async fn open(
        vault: Vault,
        unlocked: Unlocked,
        settings: MountSettings,
        tell: Tell,
    ) -> Result<Self, OpenMountError> {
        let keys = match reader::index_key(&vault, &unlocked).await {
            Ok(key) => Some(PackKeys::new(&key)),
            Err(OpenSnapshotError::Bag(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let index = Index::open(&vault.folder().index())?;
        let store = vault.stripes().await?;
        let seen = stamps(&vault);
        let catalog = load(&vault, &settings.narrow).await?;
        let listings = settings.cache / 4;
        Ok(Self {
            chunks: SharedChunks::new(store, index, settings.cache - listings),
            keys,
            shown: Mutex::new(ShownNow { catalog: Arc::new(catalog), checked: Instant::now(), seen }),
            inodes: Mutex::new(Inodes::new()),
            opened: Mutex::new(ByteCache::new(OPENED_MAX)),
            opening: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            listings: Mutex::new(ByteCache::new(listings)),
            seekers: Mutex::new(ByteCache::new(SEEKERS_MAX)),
            folders: Mutex::default(),
            told: Mutex::default(),
            runtime: Handle::current(),
            vault,
            unlocked,
            settings,
            tell,
        })
    }

    /// How many snapshots are shown.
    pub fn snapshots(&self) -> usize {
        lock(&self.shown).catalog.count()
    }

    /// Damage that other shards made up for, each once.
    pub fn take_damage(&self) -> Vec<Damage> {
        self.chunks.take_damage()
    }

    /// What is shown, with the snapshots that were made meanwhile.
    fn catalog(&self) -> Arc<Catalog> {
        let mut shown = lock(&self.shown);
        if shown.checked.elapsed() < CATALOG_AGE {
            return Arc::clone(&shown.catalog);
        }
        // Asked before the ledger is read: what is written meanwhile is seen next time.
        let now = stamps(&self.vault);
        if now != shown.seen {
            match self.runtime.block_on(load(&self.vault, &self.settings.narrow)) {
                Ok(catalog) => (shown.catalog, shown.seen) = (Arc::new(catalog), now),
                Err(error) => self.trouble(None, b"", &error),
            }
        }
        shown.checked = Instant::now();
        Arc::clone(&shown.catalog)
    }

    /// Tells once that something cannot be read.
    fn trouble(&self, snapshot: Option<SnapshotId>, path: &[u8], error: &dyn std::error::Error) {
        let mut told = lock(&self.told);
        if told.len() < TROUBLES_MAX && told.insert((snapshot, path.to_vec())) {
            (self.tell)(&Trouble { snapshot, path: path.to_vec(), why: crate::chain::chain(error) });
        }
    }
}

async fn load(vault: &Vault, narrow: &Narrow) -> Result<Catalog, OpenMountError> {
    let config = Config::load(vault.folder())?;
    let known = select::all_by(vault, &config, narrow).await?;
    Ok(Catalog::of(known.into_iter().map(|known| known.record).collect(), &config.sources))
}

fn stamps(vault: &Vault) -> Stamps {
    [vault.folder().ledger(), vault.folder().config()].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No step under a lock leaves what it guards half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
