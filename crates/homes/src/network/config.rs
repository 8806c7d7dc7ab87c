//! `node.toml`: what the operator of a node decides.
//!
//! - **Owns** its keys, their defaults and their checks.
//! - **Does not** hold what all nodes must share: that is the network file.
//!
//! Reference: `docs/reference/node.md`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use blockhouse_consensus::{Keys, is_address};
use serde::{Deserialize, Serialize};

use crate::remote::NodeUrl;
use crate::rpc::Limits;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where it listens for other nodes.
    pub listen: SocketAddr,
    /// `host:port` of every validator, this one too, by its public key in hex.
    pub validators: BTreeMap<String, String>,
    /// The public keys of the followers that this node serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followers: Vec<String>,
    /// The JSON-RPC of other nodes: from them this node heals its store if that was altered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rpc_peers: Vec<NodeUrl>,
    /// How it comes near when it is far behind, and what it keeps for others that are.
    #[serde(default, skip_serializing_if = "SyncConfig::is_usual")]
    pub sync: SyncConfig,
    /// The JSON-RPC interface.
    #[serde(default)]
    pub rpc: RpcConfig,
    /// Where metrics are served, in Prometheus' text format, at `/metrics`; nowhere if not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// The chain outside on which this node anchors the ledger; none if not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<AnchorConfig>,
    /// That this node cosigns checkpoints; it does not if not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessConfig>,
}

/// How a node cosigns checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// The time between two cosignatures.
    #[serde(default = "WitnessConfig::usual_interval")]
    pub interval_secs: u64,
}

impl WitnessConfig {
    /// An hour: it costs no fee, and a line on the ledger.
    const fn usual_interval() -> u64 {
        60 * 60
    }
}

/// A chain outside on which the ledger is anchored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorConfig {
    /// Its nodes, the first one asked first.
    pub urls: Vec<NodeUrl>,
    /// The file of the key that pays there, from the node's folder; none: the node's own account pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The least time between two anchors.
    #[serde(default = "AnchorConfig::usual_interval")]
    pub interval_secs: u64,
    /// How many blocks must be above a final one; none: what its nodes call `finalized`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// The most that is offered for one unit of gas, in wei; none: what is usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_wei: Option<u64>,
}

impl AnchorConfig {
    /// A day: what was recorded longer ago cannot be forged, and the fee is paid once.
    const fn usual_interval() -> u64 {
        24 * 60 * 60
    }
}

/// How a node comes near when it is far behind, and what it keeps for others that are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncConfig {
    /// How far a new node may be behind before it fetches the state of a late block from `rpc_peers`, and the blocks afterwards; 0: never.
    pub state_from: u64,
    /// How many final blocks the engine keeps in its own archive, beside the ledger; all, if not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_blocks: Option<u64>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        // Some ten seconds of executing blocks: as long as the state of a small ledger takes.
        Self { state_from: 10_000, keep_blocks: None }
    }
}

impl SyncConfig {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// The JSON-RPC interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Where it listens; only this host unless told otherwise.
    pub listen: SocketAddr,
    /// Names by which clients may address it, beside addresses and `localhost`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Whether `debug_` methods and the content of the pool are served.
    pub debug: bool,
    /// How many calls each second one client makes in the long run.
    #[serde(skip_serializing_if = "RpcConfig::are_usual")]
    pub calls_per_second: NonZeroU32,
}

impl RpcConfig {
    /// Not written then: earlier releases do not know the key.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn are_usual(calls_per_second: &NonZeroU32) -> bool {
        *calls_per_second == Limits::USUAL_CALLS
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8545)),
            hosts: Vec::new(),
            debug: false,
            calls_per_second: Limits::USUAL_CALLS,
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not a configuration of a node: {reason}", path.display())]
    Form { path: PathBuf, reason: String },
    #[error("in {}, `{text}` is no public key of a node: 64 hex digits are", path.display())]
    Key { path: PathBuf, text: String },
    #[error("in {}, validators {first} and {second} have the same address {address}", path.display())]
    SameAddress { path: PathBuf, first: String, second: String, address: String },
}

impl NodeConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file at that path.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let form = |error: toml::de::Error| {
            let place = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            let at = place.map(|line| format!("line {line}: ")).unwrap_or_default();
            ConfigError::Form { path: path.to_owned(), reason: format!("{at}{}", error.message()) }
        };
        let config: Self = toml::from_str(text).map_err(form)?;
        config.validator_addresses(path)?;
        config.follower_keys(path)?;
        config.check_addresses(path)?;
        if config.anchor.as_ref().is_some_and(|anchor| anchor.urls.is_empty()) {
            let reason = "[anchor] urls names no node".to_owned();
            return Err(ConfigError::Form { path: path.to_owned(), reason });
        }
        Ok(config)
    }

    /// The text of a new file.
    pub fn text(&self) -> String {
        let body = toml::to_string(self).expect("every field of a configuration has a text");
        format!("# What this node's operator decides. Every key: docs/reference/node.md\n{body}")
    }

    /// What a node is called in a configuration.
    pub fn name_of(keys: &Keys) -> String {
        hex::encode(keys.public())
    }

    /// The addresses of the validators by their keys.
    pub fn validator_addresses(&self, path: &Path) -> Result<BTreeMap<[u8; 32], String>, ConfigError> {
        self.validators.iter().map(|(key, address)| Ok((read_key(path, key)?, address.clone()))).collect()
    }

    /// The keys of the followers.
    pub fn follower_keys(&self, path: &Path) -> Result<Vec<[u8; 32]>, ConfigError> {
        self.followers.iter().map(|key| read_key(path, key)).collect()
    }

    fn check_addresses(&self, path: &Path) -> Result<(), ConfigError> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, address) in &self.validators {
            if !is_address(address) {
                let reason = format!("of validator {key}, `{address}` is not host:port");
                return Err(ConfigError::Form { path: path.to_owned(), reason });
            }
            if let Some(first) = seen.insert(address, key) {
                let (first, second, address) = (first.to_owned(), key.clone(), address.clone());
                return Err(ConfigError::SameAddress { path: path.to_owned(), first, second, address });
            }
        }
        Ok(())
    }
}

fn read_key(path: &Path, text: &str) -> Result<[u8; 32], ConfigError> {
    let mut key = [0; 32];
    match hex::decode_to_slice(text, &mut key) {
        Ok(()) => Ok(key),
        Err(_) => Err(ConfigError::Key { path: path.to_owned(), text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        let at = |port: u16| format!("127.0.0.1:{port}");
        NodeConfig {
            listen: at(9650).parse().unwrap(),
            validators: (1..=4_u8).map(|n| (hex::encode([n; 32]), at(9650 + u16::from(n)))).collect(),
            followers: vec![hex::encode([9; 32])],
            rpc_peers: vec!["http://127.0.0.1:8546".parse().unwrap()],
            sync: SyncConfig::default(),
            rpc: RpcConfig::default(),
            metrics: None,
            anchor: None,
            witness: None,
        }
    }

    fn load(text: &str) -> Result<NodeConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        NodeConfig::load(file.path())
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(load(&config().text()).unwrap(), config());
    }

    #[test]
    fn what_is_not_told_has_its_default() {
        let read = load("listen = \"127.0.0.1:1\"\n[validators]\n").unwrap();
        assert_eq!(read.rpc, RpcConfig::default());
        assert!(read.metrics.is_none() && read.followers.is_empty() && read.rpc_peers.is_empty());
    }

    #[test]
    fn anchors_have_their_defaults_and_are_written_as_they_are_read() {
        let read = load("listen = \"127.0.0.1:1\"\n[validators]\n[anchor]\nurls = [\"http://h:1\"]\n").unwrap();
        let anchor = read.anchor.clone().unwrap();
        assert_eq!(
            (anchor.interval_secs, anchor.key_file, anchor.depth, anchor.max_fee_wei),
            (86_400, None, None, None)
        );
        assert_eq!(load(&read.text()).unwrap(), read);
        let none = load("listen = \"127.0.0.1:1\"\n[validators]\n[anchor]\nurls = []\n").unwrap_err().to_string();
        assert!(none.contains("names no node"), "{none}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let wrong = |text: &str| load(text).unwrap_err().to_string();
        assert!(wrong("listen = \"127.0.0.1:1\"\nlisten_rpc = 3\n[validators]\n").contains("line 2: unknown field"));
        assert!(wrong("listen = \"127.0.0.1:1\"\nrpc_peers = [\"ftp://h\"]\n[validators]\n").contains("http or https"));
        assert!(wrong("listen = \"nowhere\"\n[validators]\n").contains("line 1"));
        let no_calls = wrong("listen = \"127.0.0.1:1\"\n[validators]\n[rpc]\ncalls_per_second = 0\n");
        assert!(no_calls.contains("line 4: invalid value"), "{no_calls}");
        assert!(wrong("listen = \"127.0.0.1:1\"\n[validators]\nab = \"h:1\"\n").contains("`ab` is no public key"));
        let mut twice = config();
        let key = hex::encode([2; 32]);
        twice.validators.insert(key, "127.0.0.1:9651".to_owned());
        assert!(matches!(load(&twice.text()), Err(ConfigError::SameAddress { .. })));
    }
}
