//! A node that was begun becomes one of a network.
//!
//! - **Owns** what must be true of a network file for the node of a folder to take it.
//! - **Does not** know whether it is the right network: people compare its fingerprint.
//!
//! # Invariants
//! - **J1** A node votes only in a network that names it with what it said of itself, and that begins as its ledger does.
//! - **J2** A node that no vote was given to joins only if its operator meant it to follow.

use std::path::{Path, PathBuf};

use blockhouse_types::Fingerprint;

use super::config::{ConfigError, NodeConfig};
use super::enrolment::Enrolment;
use super::folder::{FolderError, NodeFolder};
use super::network_file::NetworkFile;
use crate::remote::NodeUrl;

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the network file is of fingerprint {found}, and {expected} was expected")]
    Fingerprint { found: Fingerprint, expected: Fingerprint },
    #[error("the network file does not fit together: its network does not begin with its ledger")]
    Inconsistent,
    #[error("the network signs with one key, which somebody dealt and may have kept: he alone could write its ledger")]
    OneKey,
    #[error(
        "this node has no share of the network's key: it was not in the ceremony that made it, or lost what it had of it"
    )]
    NoShare,
    #[error("the founding file is {found}, and {expected} was expected")]
    Founding { found: Fingerprint, expected: Fingerprint },
    #[error("{} is of another network than the founding file", path.display())]
    OtherNetwork { path: PathBuf },
    #[error("the network file does not say where validator {} is reached: it did not enrol", hex::encode(key))]
    NotEnrolled { key: [u8; 32] },
    #[error("this node, {}, is no validator of the network", hex::encode(key))]
    NoValidator { key: [u8; 32] },
    #[error("this node is a validator of the network, and has a vote")]
    Validator,
    #[error(
        "the network took over a ledger with {height} blocks, and this node was told of no other from which it could get them"
    )]
    NoPast { height: u64 },
    #[error("the network file says of this node what it did not say itself in {}", enrolment.display())]
    OtherEnrolment { enrolment: PathBuf },
}

/// A join that can be shown before it is done.
#[derive(Debug)]
pub struct Joining {
    folder: NodeFolder,
    key: [u8; 32],
    file: NetworkFile,
    config: NodeConfig,
}

impl Joining {
    /// That of the node that was begun in the folder, to the network of a file; as follower, if it is to have no vote.
    pub fn plan(folder: NodeFolder, network: &Path, follows: bool) -> Result<Self, JoinError> {
        let file = NetworkFile::read(network)?;
        Self::of(folder, file, follows)
    }

    /// The same to the network of a file that was made here.
    pub fn of(folder: NodeFolder, file: NetworkFile, follows: bool) -> Result<Self, JoinError> {
        folder.expect_no_node()?;
        let keys = folder.read_keys()?;
        let key = keys.public();
        let mut config = NodeConfig::load(&folder.config())?;
        if !file.is_consistent() {
            return Err(JoinError::Inconsistent);
        }
        if !file.signs_one_by_one() && !file.was_made_together() {
            return Err(JoinError::OneKey);
        }
        let validators = file.network.validators();
        let enrolled = |key: &[u8; 32]| file.enrolments.iter().find(|enrolment| enrolment.key() == key);
        if let Some(key) = validators.iter().find(|key| enrolled(key).is_none()) {
            return Err(JoinError::NotEnrolled { key: *key });
        }
        match (validators.contains(&key), follows) {
            (true, true) => return Err(JoinError::Validator),
            (false, false) => return Err(JoinError::NoValidator { key }),
            (true, false) if enrolled(&key) != folder.read_enrolment()?.as_ref() => {
                return Err(JoinError::OtherEnrolment { enrolment: folder.enrolment() });
            }
            (true, false) if !file.signs_one_by_one() && !file.network.is_share_of(&keys) => {
                return Err(JoinError::NoShare);
            }
            (true, false) => {}
            // It is let in only by those that name it, itself among them.
            (false, true) => config.followers = vec![hex::encode(key)],
        }
        config.validators = addresses(&file.enrolments);
        Ok(Self { folder, key, file, config })
    }

    /// The same, with other nodes from which it heals its store.
    #[must_use]
    pub fn healed_by(mut self, rpc_peers: &[NodeUrl]) -> Self {
        self.config.rpc_peers.extend_from_slice(rpc_peers);
        self
    }

    /// The same, if the network is the one of that fingerprint.
    pub fn expect(self, expected: Fingerprint) -> Result<Self, JoinError> {
        let found = self.file.fingerprint();
        if found == expected { Ok(self) } else { Err(JoinError::Fingerprint { found, expected }) }
    }

    /// What it joins.
    pub const fn network(&self) -> &NetworkFile {
        &self.file
    }

    /// The node's public key, as configurations write it.
    pub fn key_text(&self) -> String {
        hex::encode(self.key)
    }

    /// Completes the folder. What the ledger held before the network took it over comes from other nodes, when it runs.
    pub fn execute(&self) -> Result<(), JoinError> {
        let height = self.file.network.base().height;
        if height > 0 && self.config.rpc_peers.is_empty() {
            return Err(JoinError::NoPast { height });
        }
        Ok(self.folder.complete(&self.file, &self.config)?)
    }

    /// Completes the folder over the ledger that was copied into it.
    pub fn execute_over_past(&self) -> Result<(), JoinError> {
        Ok(self.folder.complete_over(&self.file, &self.config)?)
    }
}

/// Where validators are reached, as configurations have it.
pub(super) fn addresses(enrolments: &[Enrolment]) -> std::collections::BTreeMap<String, String> {
    enrolments.iter().map(|enrolment| (enrolment.key_text(), enrolment.address().to_string())).collect()
}

#[cfg(test)]
mod tests;
