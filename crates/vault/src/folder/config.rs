//! `config.toml`: what this host knows of its vault. Holds no secret.

mod text;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use blockhouse_homes::{ChainTerms, NodeUrl};
use blockhouse_sites::SiteSpec;
use blockhouse_types::{Account, BlockHash, Code, Fingerprint, SiteId, SnapshotId, SourceId, VaultId};
use serde::{Deserialize, Serialize};

use super::VaultFolder;
use super::durable::{WriteError, write_durably};

/// Why `config.toml` could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no vault here.
    #[error("there is no vault in {}", folder.display())]
    NoVault { folder: PathBuf },
    /// It cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is not what this version writes.
    #[error("{} is not a vault's configuration", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// Why `config.toml` could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The lock that keeps two changes apart could not be taken.
    #[error("could not lock {}", folder.display())]
    Lock {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What this host knows of its vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of this file.
    pub version: u32,
    /// The vault.
    pub vault: VaultId,
    /// The erasure code, as K+M.
    #[serde(with = "code_text")]
    pub code: Code,
    /// The ledger.
    pub ledger: LedgerEntry,
    /// The public keys that manifest keys are wrapped for.
    pub recipients: Vec<RecipientEntry>,
    /// The sites, in the order in which they came; also those that do not count (yet, or any more).
    pub sites: Vec<SiteEntry>,
    /// Markings up to this one are finished: nothing acts on them any more. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_markings: Option<u64>,
    /// Sources by id.
    #[serde(default)]
    pub sources: BTreeMap<SourceId, SourceEntry>,
    /// What the owner calls the vault's other hosts, by their accounts, as they were approved from here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<Account, String>,
    /// The user's own: read where they are used, so that a slip in them hinders nothing else, and kept as they are written.
    #[serde(default, skip_serializing_if = "UserTable::is_empty")]
    pub hooks: UserTable,
    /// The same by the names of sources.
    #[serde(default, skip_serializing_if = "UserTable::is_empty")]
    pub source_hooks: UserTable,
    /// The user's own as well.
    #[serde(default, skip_serializing_if = "UserTable::is_empty")]
    pub profiles: UserTable,
}

/// Which home the ledger is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HomeKind {
    /// This host seals its blocks.
    Embedded,
    /// The nodes of a network seal them.
    Network,
    /// The contracts stand on an outside chain.
    External,
}

/// Where the ledger is and what its trust root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// Which home.
    pub home: HomeKind,
    /// Where the nodes of a network or an outside chain are asked, the first one first; none where this host seals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<NodeUrl>,
    /// The chain id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub genesis: BlockHash,
    /// The `Vault` contract.
    pub vault: Account,
    /// The `Access` contract.
    pub access: Account,
    /// How an outside chain is dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainTerms>,
    /// What a network is to take over, or has, until the sites know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthEntry>,
}

/// A ledger that was left to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthEntry {
    /// The height of the block above which the network begins.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
    /// The vault's fingerprint from then on.
    pub fingerprint: Fingerprint,
}

/// One recipient of manifest keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientEntry {
    /// The public key, `age1…`.
    pub public: String,
    /// `owner`, `paper` or `reader`.
    pub role: String,
    /// What the owner calls it.
    pub label: String,
}

/// One site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteEntry {
    /// Its id, as in its marker.
    pub id: SiteId,
    /// Where it is, its name and labels.
    #[serde(flatten)]
    pub spec: SiteSpec,
    /// The device it was on when last seen, so that a site that is gone still counts to its wider domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// What is under way with it; none for a site that is used as sites are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SiteUse>,
}

/// What is under way with a site. The page `docs/design/sites.md` has the steps of each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteUse {
    /// It is being added: it does not count until the key bag in force names it.
    Joining,
    /// It is emptied: it counts and is read, and gets no new shards.
    Draining,
    /// It is being removed: it is not contacted any more.
    Leaving,
    /// It was declared lost: it is never contacted, and what it held is being made again elsewhere.
    Lost,
}

impl SiteUse {
    /// As `config.toml` and `site list` name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Lost => "lost",
        }
    }
}

impl SiteEntry {
    /// True if it is one of the vault's sites: contacted, counted, named on the recovery sheet.
    pub const fn counts(&self) -> bool {
        matches!(self.state, None | Some(SiteUse::Draining))
    }

    /// True if it is emptied.
    pub const fn is_draining(&self) -> bool {
        matches!(self.state, Some(SiteUse::Draining))
    }
}

/// One source, as this host names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// Its name: `--source NAME`, else made of the roots.
    pub name: String,
    /// The host it is on.
    pub host: String,
    /// Its canonical roots, percent-encoded where they are not UTF-8.
    pub roots: Vec<String>,
    /// Of a source of copies: the vault and the source that they are from, as `<vault>/<source>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<String>,
    /// Tags of its snapshots, by snapshot id: the ledger holds only commitments of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Vec<String>>,
    /// The last snapshot of each host that backed this source up from here, by the name it went by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last: BTreeMap<String, LastEntry>,
}

/// The last snapshot of a source and host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastEntry {
    /// Its id.
    pub snapshot: SnapshotId,
    /// A hash of its tree, in hexadecimal: equal trees have equal ones. Opens nothing.
    pub tree: String,
}

/// A table that the user writes and this program carries along.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserTable(toml::Table);

impl UserTable {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::str::FromStr for UserTable {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Equal texts are equal tables: a number in them may be none, which equals not even itself.
impl PartialEq for UserTable {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for UserTable {}

impl Config {
    /// Reads the configuration of the vault in `folder`.
    pub fn load(folder: &VaultFolder) -> Result<Self, ConfigError> {
        let path = folder.config();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ConfigError::NoVault { folder: folder.root().to_owned() });
            }
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|source| ConfigError::Form { path, source: Box::new(source) })
    }

    /// True if this host seals the ledger's blocks.
    pub fn is_sealed_here(&self) -> bool {
        self.ledger.home == HomeKind::Embedded
    }

    /// True if a network keeps the ledger.
    pub fn is_of_network(&self) -> bool {
        self.ledger.home == HomeKind::Network
    }

    /// Reads it, changes it and writes it, while no other process does.
    pub fn update<T>(folder: &VaultFolder, change: impl FnOnce(&mut Self) -> T) -> Result<(Self, T), UpdateError> {
        let lock = File::open(folder.root())
            .map_err(|source| UpdateError::Lock { folder: folder.root().to_owned(), source })?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| UpdateError::Lock { folder: folder.root().to_owned(), source: error.into() })?;
        let mut config = Self::load(folder)?;
        let before = config.clone();
        let result = change(&mut config);
        if config != before {
            config.save(folder)?;
        }
        Ok((config, result))
    }

    /// Writes it, whole or not at all. What its user wrote into it, comments too, stays as far as it still holds.
    pub fn save(&self, folder: &VaultFolder) -> Result<(), WriteError> {
        let text = toml::to_string_pretty(self).expect("every field of the configuration is plain data");
        let before = std::fs::read_to_string(folder.config()).unwrap_or_default();
        let kept =
            text::merged(&before, &text).filter(|kept| toml::from_str(kept).is_ok_and(|read: Self| read == *self));
        let text = kept.unwrap_or(text);
        write_durably(&folder.config(), 0o644, text.as_bytes())
    }
}

mod code_text {
    use blockhouse_types::Code;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
    pub(super) fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(code)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
