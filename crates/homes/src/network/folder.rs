//! The data folder of a node: which file is what, and how a new one is made.
//!
//! - **Owns** the names in it and the order in which a new folder is written.
//! - **Does not** look into the engine's own folder, though it has it made.
//!
//! # Invariants
//! - **D1** A folder is a node's once its `network` file is there; that is written last, so a kill leaves no half of one.
//! - **D2** `node.key` is readable by its owner alone.
//! - **D3** A key that is in a folder is never overwritten but by [`NodeFolder::create`], which is for folders that are made whole. A share of
//!   a network's key comes beside it, or replaces one of an attempt that led to nothing.
//! - **D4** That a key never voted is written down before the key, by who drew it, and never for one that was there before.
//!
//! Format: `docs/design/node.md`.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockhouse_consensus::ceremony::Record;
use blockhouse_consensus::{Engine, Keys, KeysError};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_types::DecodeError;
use zeroize::Zeroizing;

use super::config::{ConfigError, NodeConfig};
use super::enrolment::{ENROLMENT_MAX, Enrolment, EnrolmentError};
use super::founding_file::{FoundingError, FoundingFile};
use super::network_file::{NetworkFile, NetworkFileError};
use super::proposal::ProposalError;
use crate::forks::ForkFolder;
use crate::store::{Access, Store, StoreError};

/// The longest record of a key ceremony: a polynomial, and the hashes of 128 logs.
const RECORD_MAX: usize = 32 * 1024;

/// Why a folder is no node's, or cannot be made one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    #[error("could not {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no folder of a node: it has no `network` file", path.display())]
    NoNode { path: PathBuf },
    #[error("{} is a folder of a node already", path.display())]
    Exists { path: PathBuf },
    #[error("a node was made in {} already: its enrolment is {}", path.display(), enrolment.display())]
    Enrolled { path: PathBuf, enrolment: PathBuf },
    #[error("{} is not empty, and `{found}` in it is not of a node that was begun", path.display())]
    NotEmpty { path: PathBuf, found: String },
    #[error("no node was made in {}: it has no key", path.display())]
    NoKey { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Network {
        path: PathBuf,
        #[source]
        source: NetworkFileError,
    },
    #[error("{} cannot be read", path.display())]
    Founding {
        path: PathBuf,
        #[source]
        source: FoundingError,
    },
    #[error("{} cannot be read", path.display())]
    Proposal {
        path: PathBuf,
        #[source]
        source: ProposalError,
    },
    #[error("{} cannot be read", path.display())]
    Enrolment {
        path: PathBuf,
        #[source]
        source: EnrolmentError,
    },
    #[error("{} does not end with the block {height} that the network begins above", path.display())]
    OtherPast { path: PathBuf, height: u64 },
    #[error("{} is of ledger {found}, its genesis of {expected}", path.display())]
    OtherLedger { path: PathBuf, found: u64, expected: u64 },
    #[error("{} cannot be read", path.display())]
    Keys {
        path: PathBuf,
        #[source]
        source: KeysError,
    },
    #[error("{} cannot be read", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("{} may be read by others: its mode is {mode:o}, it must be 600", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the store of the ledger could not be made")]
    Store(#[from] StoreError),
}

/// The data folder of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFolder {
    path: PathBuf,
}

impl NodeFolder {
    /// The folder at that path; nothing is looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the whole folder of a new node, whose keys were drawn just now, and whose ledger begins with its network. See D1.
    pub fn create(&self, file: &NetworkFile, keys: &Keys, config: &NodeConfig) -> Result<(), FolderError> {
        self.expect_no_node()?;
        make_folder(&self.path)?;
        self.write_fresh(keys)?;
        self.complete(file, config)
    }

    /// Begins the folder of a node that has no network yet: its key, what its operator decided so far, and last, the enrolment
    /// that `enrol` makes. Killed before that, it is begun again with the key that is there. See D3.
    pub fn prepare(
        &self,
        fresh: Keys,
        config: &NodeConfig,
        enrol: impl FnOnce(&Keys) -> Enrolment,
    ) -> Result<Enrolment, FolderError> {
        self.expect_no_node()?;
        if is_there(&self.enrolment())? {
            return Err(FolderError::Enrolled { path: self.path.clone(), enrolment: self.enrolment() });
        }
        make_folder(&self.path)?;
        self.expect_nothing_strange()?;
        let keys = if is_there(&self.keys())? {
            self.read_keys()?
        } else {
            self.write_fresh(&fresh)?;
            fresh
        };
        write_new(&self.config(), config.text().as_bytes(), 0o644)?;
        sync(&self.path)?;
        let enrolment = enrol(&keys);
        write_new(&self.enrolment(), &enrolment.encode(), 0o644)?;
        sync(&self.path)?;
        Ok(enrolment)
    }

    /// Makes it a node's, beside its key: its ledger begins with that network. Killed before the end, it is done again. See D1.
    pub fn complete(&self, file: &NetworkFile, config: &NodeConfig) -> Result<(), FolderError> {
        self.expect_no_node()?;
        write_new(&self.config(), config.text().as_bytes(), 0o644)?;
        // What a kill left of an earlier try is of another genesis.
        remove(&self.store())?;
        Store::create(&self.store(), &file.genesis, &Certificate::Genesis { key: file.genesis.ledger_key })?;
        sync(&self.path)?;
        write_new(&self.network(), &file.encode(), 0o644)?;
        sync(&self.path)
    }

    /// The same over the ledger that is in the folder, which must hold the block that the network begins above. See D1.
    pub fn complete_over(&self, file: &NetworkFile, config: &NodeConfig) -> Result<(), FolderError> {
        self.expect_no_node()?;
        let base = file.network.base();
        let store = Store::open(&self.store(), Access::Read, Duration::ZERO, None)?;
        let found = store.hash_at(base.height)?;
        let ends_there = store.height() == base.height && found.is_some_and(|hash| hash.0 == base.hash.to_bytes());
        if *store.genesis() != file.genesis || !ends_there {
            return Err(FolderError::OtherPast { path: self.store(), height: base.height });
        }
        drop(store);
        write_new(&self.config(), config.text().as_bytes(), 0o644)?;
        sync(&self.path)?;
        write_new(&self.network(), &file.encode(), 0o644)?;
        sync(&self.path)
    }

    /// What it keeps of key ceremonies; nothing yet, if it is not there.
    pub(super) fn read_record(&self) -> Result<Record, FolderError> {
        Self::read_record_at(&self.record())
    }

    /// One of another name; nothing yet, if it is not there.
    pub(super) fn read_record_at(path: &Path) -> Result<Record, FolderError> {
        match read_file(path, RECORD_MAX) {
            Ok(bytes) => Record::decode(&bytes).map_err(|source| FolderError::Record { path: path.to_owned(), source }),
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes it durable.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), FolderError> {
        write_durably(&self.record(), &record.encode(), 0o644)
    }

    /// Makes the keys durable with a share of a network's key. See D3.
    pub(super) fn write_share(&self, keys: &Keys) -> Result<(), FolderError> {
        write_durably(&self.keys(), &keys.encode(), 0o600)
    }

    /// Keys that were drawn just now. See D4.
    fn write_fresh(&self, keys: &Keys) -> Result<(), FolderError> {
        let engine = self.engine();
        Engine::prepare(&engine, keys.public()).map_err(|source| io_error("make", &engine, source))?;
        write_new(&self.keys(), &keys.encode(), 0o600)
    }

    pub(super) fn expect_no_node(&self) -> Result<(), FolderError> {
        if is_there(&self.network())? { Err(FolderError::Exists { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Only what a killed [`NodeFolder::prepare`] leaves may be there.
    fn expect_nothing_strange(&self) -> Result<(), FolderError> {
        let failed = |source| io_error("look into", &self.path, source);
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !["engine", "node.key", "node.toml", "node.new", "enrolment.new"].iter().any(|known| name == *known) {
                let found = name.to_string_lossy().escape_debug().to_string();
                return Err(FolderError::NotEmpty { path: self.path.clone(), found });
            }
        }
        Ok(())
    }

    /// What all nodes were given.
    pub fn read_network(&self) -> Result<NetworkFile, FolderError> {
        match NetworkFile::read(&self.network()) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(FolderError::NoNode { path: self.path.clone() })
            }
            other => other,
        }
    }

    /// What the node said of itself, if its folder was begun by that.
    pub fn read_enrolment(&self) -> Result<Option<Enrolment>, FolderError> {
        let path = self.enrolment();
        match read_file(&path, ENROLMENT_MAX) {
            Ok(bytes) => match Enrolment::decode(&bytes) {
                Ok(enrolment) => Ok(Some(enrolment)),
                Err(source) => Err(FolderError::Enrolment { path, source }),
            },
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The node's keys.
    pub fn read_keys(&self) -> Result<Keys, FolderError> {
        match Self::read_key_file(&self.keys()) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(FolderError::NoKey { path: self.path.clone() })
            }
            other => other,
        }
    }

    /// A file of keys.
    pub(super) fn read_key_file(path: &Path) -> Result<Keys, FolderError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = path.to_owned();
        let metadata = std::fs::metadata(&path).map_err(|source| io_error("read", &path, source))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(FolderError::Open { path, mode });
        }
        let bytes = Zeroizing::new(std::fs::read(&path).map_err(|source| io_error("read", &path, source))?);
        Keys::decode(&bytes).map_err(|source| FolderError::Keys { path, source })
    }

    /// Whether it says of its key whether that voted: a folder whose `engine` was lost does not.
    pub(super) fn remembers_votes(&self) -> Result<bool, FolderError> {
        let engine = self.engine();
        let identity = self.read_keys()?.public();
        Engine::remembers(&engine, identity).map_err(|source| io_error("look into", &engine, source))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its operator decides.
    pub fn config(&self) -> PathBuf {
        self.path.join("node.toml")
    }

    /// What it says of itself to who founds a network.
    pub fn enrolment(&self) -> PathBuf {
        self.path.join("enrolment")
    }

    /// The ledger.
    pub fn store(&self) -> PathBuf {
        self.path.join("ledger.redb")
    }

    /// What was handed in here and is not final.
    pub fn journal(&self) -> PathBuf {
        self.path.join("pool")
    }

    /// What it does to come near the others, as a line of text, while it does and does not answer yet.
    pub fn syncing(&self) -> PathBuf {
        self.path.join("syncing")
    }

    /// The word that the ledger may have taken blocks of which the engine does not know.
    fn jumped(&self) -> PathBuf {
        self.path.join("jumped")
    }

    /// Writes that word down, durably; true if it was there.
    pub(super) fn note_jump(&self) -> Result<bool, FolderError> {
        let path = self.jumped();
        let was = path.exists();
        if !was {
            write_durably(&path, b"", 0o644)?;
        }
        Ok(was)
    }

    /// Whether that word is there.
    pub(super) fn has_jumped(&self) -> bool {
        self.jumped().exists()
    }

    /// Takes it back: the engine's folder knows now. One that stays only makes it look once more.
    pub(super) fn forget_jump(&self) {
        let _ = std::fs::remove_file(self.jumped());
    }

    /// What was found altered here and is not told on the ledger yet.
    pub fn alarms(&self) -> PathBuf {
        self.path.join("alarms")
    }

    /// Evidence of forks of its ledger.
    pub fn forks(&self) -> ForkFolder {
        ForkFolder::beside(&self.store())
    }

    /// What was sent to anchor the ledger outside, and is not final yet.
    pub fn anchors(&self) -> PathBuf {
        self.path.join("anchors")
    }

    /// The engine's own folder. Never copied, never restored: with an older one a validator may vote twice.
    pub fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    fn network(&self) -> PathBuf {
        self.path.join("network")
    }

    fn record(&self) -> PathBuf {
        self.path.join("ceremony")
    }

    fn keys(&self) -> PathBuf {
        self.path.join("node.key")
    }
}

/// Writes a file that its owner alone may read, whole and durable or not at all.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    write_durably(path, bytes, 0o600)
}

/// Writes what all nodes are given, whole and durable or not at all.
pub fn write_network(path: &Path, file: &NetworkFile) -> Result<(), FolderError> {
    write_durably(path, &file.encode(), 0o644)
}

/// Writes what the nodes are given that are to make a key together, whole and durable or not at all.
pub fn write_founding(path: &Path, file: &FoundingFile) -> Result<(), FolderError> {
    write_durably(path, &file.encode(), 0o644)
}

/// Writes a file whole and durable or not at all.
pub(super) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FolderError> {
    write_new(path, bytes, mode)?;
    sync(crate::store::folder_of(path))
}

/// Writes a file whole and durable or not at all, where none is: what was written there before is not replaced, and done again after a kill it
/// is done.
pub(super) fn create_durably(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    // A name of its own: what lies beside a file that somebody named is not the node's.
    let new = crate::store::suffixed(path, &format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match crate::store::name_new(&new, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && std::fs::read(path)? == bytes => Ok(()),
            named => named,
        }
    };
    let written = write();
    // Its other name, or what is left of one that failed.
    let _ = std::fs::remove_file(&new);
    written.map_err(|source| io_error("write", path, source))?;
    sync(crate::store::folder_of(path))
}

pub(super) fn sync(folder: &Path) -> Result<(), FolderError> {
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| io_error("sync", folder, source))
}

/// Makes a folder that is durable in the one above it.
fn make_folder(path: &Path) -> Result<(), FolderError> {
    std::fs::create_dir_all(path).map_err(|source| io_error("make", path, source))?;
    sync(crate::store::folder_of(path))
}

fn is_there(path: &Path) -> Result<bool, FolderError> {
    path.try_exists().map_err(|source| io_error("look for", path, source))
}

/// The bytes of a file, and no more than one above the most that it may have: then it is refused as too long.
pub(super) fn read_file(path: &Path, most: usize) -> Result<Vec<u8>, FolderError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| io_error("read", path, source))?;
    Ok(bytes)
}

/// Writes a file beside its name and gives it that name, durable.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FolderError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        remove_if_there(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| io_error("write", path, source))
}

fn remove(path: &Path) -> Result<(), FolderError> {
    remove_if_there(path).map_err(|source| io_error("remove", path, source))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> FolderError {
    FolderError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
