//! The vault folder on a backup host: where its files are and how they are written.
//!
//! - **Owns** paths, permissions and the write order of the host's own files.
//! - **Does not** hold anything that `recover` could not make anew, but for the secrets of this host.
//!
//! ```text
//! config.toml            what this host knows of the vault: sites, sources' names; no secret
//! secrets                writer account, write secrets, ledger key; mode 0600
//! ledger.redb            the embedded ledger
//! ledger.summary         what was read of it before; a cache
//! index/                 which stripe holds which chunk; a cache
//! cache/                 what the last backup saw of each source; holds keys of present files only
//! sessions/              one file for each backup that runs, locked by it
//! prune.lock             locked by whoever prunes
//! publish.lock           locked by backups, together, while they publish, and by a prune while it removes what they may share
//! anchors/               what was sent to anchor the ledger on chains outside and is not final yet: an outbox for each
//! anchor.lock            locked by whoever anchors
//! joining                what a host keeps that asked to be one of a vault's, until it is; mode 0600
//! recovery-sheet.txt     what to do when this folder is gone; no secret
//! ```

mod config;
mod durable;
mod lock;
mod profiles;
mod unfinished;

use std::path::{Path, PathBuf};

pub use config::{
    Config, ConfigError, GrowthEntry, HomeKind, LastEntry, LedgerEntry, RecipientEntry, SiteEntry, SiteUse,
    SourceEntry, UpdateError, UserTable,
};
pub use durable::{WriteError, write_durably};
pub use lock::{Held, LockError};
pub(crate) use profiles::one_or_many;
pub use profiles::{Profile, ProfileError, Profiles, Size};
pub(crate) use unfinished::Unfinished;
pub use unfinished::leftovers;

/// The environment variable that names the vault folder.
pub const VAULT_VARIABLE: &str = "BLOCKHOUSE_VAULT";

/// The paths inside a vault folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultFolder {
    root: PathBuf,
}

impl VaultFolder {
    /// The vault folder at `root`, whether it is there or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What this host knows of the vault.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The host's secrets.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// The embedded ledger's store.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.redb")
    }

    /// What was read of the ledger before.
    pub fn ledger_summary(&self) -> PathBuf {
        self.root.join("ledger.summary")
    }

    /// What was sent to an outside chain and is not final yet.
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// What an unfinished `init` on an outside chain must remember.
    pub fn founding(&self) -> PathBuf {
        self.root.join("founding")
    }

    /// The chunk index.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// The file caches.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The backups that run: a file each.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// What keeps two prunes of this host apart.
    pub fn prune_lock(&self) -> PathBuf {
        self.root.join("prune.lock")
    }

    /// What keeps the removal of plain objects apart from backups that publish some of the same name.
    pub fn publish_lock(&self) -> PathBuf {
        self.root.join("publish.lock")
    }

    /// What was sent to anchor the ledger on chains outside.
    pub fn anchors(&self) -> PathBuf {
        self.root.join("anchors")
    }

    /// What keeps two runs of this host that anchor apart.
    pub fn anchor_lock(&self) -> PathBuf {
        self.root.join("anchor.lock")
    }

    /// The recovery sheet.
    pub fn recovery_sheet(&self) -> PathBuf {
        self.root.join("recovery-sheet.txt")
    }

    /// What a host keeps that has asked to be one of a vault's and was not answered yet.
    pub fn joining(&self) -> PathBuf {
        self.root.join("joining")
    }

    /// True if a vault was made here.
    pub fn exists(&self) -> bool {
        self.config().exists()
    }
}
