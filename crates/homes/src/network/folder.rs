//! The data folder of a node: which file is what, and how a new one is made.
//!
//! - **Owns** the names in it and the order in which a new folder is written.
//! - **Does not** look into the engine's own folder.
//!
//! # Invariants
//! - **D1** A folder is a node's once its `network` file is there; that is written last, so a kill leaves no half of one.
//! - **D2** `node.key` is readable by its owner alone.
//!
//! Format: `docs/design/node.md`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use blockhouse_consensus::{Keys, KeysError, Network, NetworkError};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::genesis::{GENESIS_MAX, Genesis};
use blockhouse_types::{Decoder, Encoder, Magic};
use zeroize::Zeroizing;

use super::config::{ConfigError, NodeConfig};
use crate::store::{Store, StoreError};

const MAGIC: Magic = *b"BHNF";
const WHAT: &str = "a network file";
/// The longest network file: a genesis, and a polynomial with its validators.
const NETWORK_MAX: usize = GENESIS_MAX + 64 * 1024;

/// What all nodes of a network are given: the ledger's genesis, and who certifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFile {
    /// What the ledger began with.
    pub genesis: Genesis,
    /// Who certifies it.
    pub network: Network,
}

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
    #[error("{} cannot be read", path.display())]
    Network {
        path: PathBuf,
        #[source]
        source: NetworkError,
    },
    #[error("{} is of ledger {found}, its genesis of {expected}", path.display())]
    OtherLedger { path: PathBuf, found: u64, expected: u64 },
    #[error("{} cannot be read", path.display())]
    Keys {
        path: PathBuf,
        #[source]
        source: KeysError,
    },
    #[error("{} may be read by others: its mode is {mode:o}, it must be 600", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the store of the ledger could not be made")]
    Store(#[from] StoreError),
}

impl NetworkFile {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.bytes(&self.genesis.encode()).bytes(&self.network.encode());
        encoder.finish()
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let genesis = Genesis::decode(decoder.bytes("genesis", GENESIS_MAX)?)?;
        let bytes = decoder.bytes("network", NETWORK_MAX)?;
        let network = Network::decode(bytes)?;
        // A header flag that a reader may ignore would make a second file of the same values.
        if network.encode() != bytes {
            return Err(decoder.not_canonical("its network holds what this version does not write").into());
        }
        decoder.finish()?;
        Ok(Self { genesis, network })
    }
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

    /// Makes the folder of a new node whose ledger begins with its network. See D1.
    pub fn create(&self, file: &NetworkFile, keys: &Keys, config: &NodeConfig) -> Result<(), FolderError> {
        let network = self.network();
        if network.try_exists().map_err(|source| io_error("look for", &network, source))? {
            return Err(FolderError::Exists { path: self.path.clone() });
        }
        std::fs::create_dir_all(&self.path).map_err(|source| io_error("make", &self.path, source))?;
        write_new(&self.keys(), &keys.encode(), 0o600)?;
        write_new(&self.config(), config.text().as_bytes(), 0o644)?;
        // What a kill left of an earlier try is of another genesis.
        remove(&self.store())?;
        Store::create(&self.store(), &file.genesis, &Certificate::Genesis { key: file.genesis.ledger_key })?;
        write_new(&network, &file.encode(), 0o644)?;
        let folder = std::fs::File::open(&self.path).and_then(|folder| folder.sync_all());
        folder.map_err(|source| io_error("sync", &self.path, source))
    }

    /// What all nodes were given.
    pub fn read_network(&self) -> Result<NetworkFile, FolderError> {
        let path = self.network();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FolderError::NoNode { path: self.path.clone() });
            }
            Err(source) => return Err(io_error("read", &path, source)),
        };
        let file = NetworkFile::decode(&bytes).map_err(|source| FolderError::Network { path: path.clone(), source })?;
        let (found, expected) = (file.network.chain_id(), file.genesis.chain_id);
        if found == expected { Ok(file) } else { Err(FolderError::OtherLedger { path, found, expected }) }
    }

    /// The node's keys.
    pub fn read_keys(&self) -> Result<Keys, FolderError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.keys();
        let metadata = std::fs::metadata(&path).map_err(|source| io_error("read", &path, source))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(FolderError::Open { path, mode });
        }
        let bytes = Zeroizing::new(std::fs::read(&path).map_err(|source| io_error("read", &path, source))?);
        Keys::decode(&bytes).map_err(|source| FolderError::Keys { path, source })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its operator decides.
    pub fn config(&self) -> PathBuf {
        self.path.join("node.toml")
    }

    /// The ledger.
    pub fn store(&self) -> PathBuf {
        self.path.join("ledger.redb")
    }

    /// What was handed in here and is not final.
    pub fn journal(&self) -> PathBuf {
        self.path.join("pool")
    }

    /// What was found altered here and is not told on the ledger yet.
    pub fn alarms(&self) -> PathBuf {
        self.path.join("alarms")
    }

    /// The engine's own folder. Never copied, never restored: with an older one a validator may vote twice.
    pub fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    fn network(&self) -> PathBuf {
        self.path.join("network")
    }

    fn keys(&self) -> PathBuf {
        self.path.join("node.key")
    }
}

/// Writes a file that its owner alone may read, whole and durable or not at all.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    write_durably(path, bytes, 0o600)
}

/// Writes a file whole and durable or not at all.
pub(super) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FolderError> {
    write_new(path, bytes, mode)?;
    let folder = crate::store::folder_of(path);
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io_error("sync", folder, source))
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
