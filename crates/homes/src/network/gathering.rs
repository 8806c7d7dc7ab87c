//! A node takes part in the key ceremony of its founding, and so becomes one of a network.
//!
//! - **Owns** what must be true of a founding file for a node to take part, and the order of what it writes.
//! - **Does not** run the protocol: `consensus` does.
//!
//! # Invariants
//! - **H1** The count of beginnings is durable before the node says a word; its share, in `node.key`, and then what it agreed to, in
//!   `ceremony`, before it signs; the network file before it says that it is through. Killed anywhere, the same command goes on.
//! - **H2** A share is written to `node.key` alone, and never to another file.
//!
//! Format: `docs/design/node.md`, section *Founding*.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use blockhouse_consensus::ceremony::{Agreed, Failure, Outcome, PlanError, Progress, Record, Share};
use blockhouse_consensus::{ConveneError, Convening, Engine, Hold, Keeper, Keys, NetworkError, StartError, convene};
use blockhouse_types::Fingerprint;
use tokio::sync::oneshot;

use super::config::NodeConfig;
use super::folder::{FolderError, NodeFolder};
use super::founding_file::FoundingFile;
use super::joining::{JoinError, addresses};
use super::network_file::NetworkFile;
use crate::remote::NodeUrl;

/// Why a ceremony ended without a key at this node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatherError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("no key was made: {reason}")]
    Failed { reason: String },
    #[error("no key was made in the time that was given: {}", waits.join("; "))]
    Patience { waits: Vec<String> },
    #[error("stopped before there was a key")]
    Stopped,
    #[error("the network of the ceremony failed: {reason}")]
    Connections { reason: String },
}

/// A part in a ceremony that can be shown before it is taken.
#[derive(Debug)]
pub struct Gathering {
    folder: NodeFolder,
    keys: Keys,
    founding: FoundingFile,
    config: NodeConfig,
    /// If this node has its key already, and is there for others.
    completed: Option<NetworkFile>,
}

/// What came of it.
#[derive(Debug)]
pub struct Gathered {
    /// What all nodes have now.
    pub network: NetworkFile,
    /// The names of those who did not say that they have it too.
    pub unfinished: Vec<String>,
}

impl Gathering {
    /// That of the node that was begun in the folder.
    pub fn plan(folder: NodeFolder, path: &Path) -> Result<Self, JoinError> {
        let founding = FoundingFile::read(path)?;
        let completed = match folder.read_network() {
            Ok(network) => Some(network),
            Err(FolderError::NoNode { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if completed.as_ref().is_some_and(|network| network.founding().as_ref() != Some(&founding)) {
            return Err(JoinError::OtherNetwork { path: folder.path().join("network") });
        }
        let keys = folder.read_keys()?;
        let key = keys.public();
        let mut config = NodeConfig::load(&folder.config())?;
        let Some(own) = founding.enrolments.iter().find(|enrolment| *enrolment.key() == key) else {
            return Err(JoinError::NoValidator { key });
        };
        if folder.read_enrolment()?.as_ref() != Some(own) {
            return Err(JoinError::OtherEnrolment { enrolment: folder.enrolment() });
        }
        if completed.is_none() {
            config.validators = addresses(&founding.enrolments);
        }
        Ok(Self { folder, keys, founding, config, completed })
    }

    /// The same, with other nodes from which it heals its store.
    #[must_use]
    pub fn healed_by(mut self, rpc_peers: &[NodeUrl]) -> Self {
        self.config.rpc_peers.extend_from_slice(rpc_peers);
        self
    }

    /// The same, if the founding file is the one of that hash.
    pub fn expect(self, expected: Fingerprint) -> Result<Self, JoinError> {
        let found = self.founding.hash();
        if found == expected { Ok(self) } else { Err(JoinError::Founding { found, expected }) }
    }

    /// What it is of.
    pub const fn founding(&self) -> &FoundingFile {
        &self.founding
    }

    /// The node's public key, as configurations write it.
    pub fn key_text(&self) -> String {
        hex::encode(self.keys.public())
    }

    /// Takes part until all have the key; blocks this thread. What it waits for is told line by line.
    pub fn hold(
        self,
        patience: Option<Duration>,
        tell: impl FnMut(&str) + Send + 'static,
        stopped: oneshot::Receiver<()>,
    ) -> Result<Gathered, GatherError> {
        let held = Engine::hold(&self.folder.engine())?;
        let plan = self.founding.plan()?;
        let mut record = self.folder.read_record()?;
        record.incarnation = record.incarnation.saturating_add(1);
        self.folder.write_record(&record)?;
        let key_of = |enrolment: &super::enrolment::Enrolment| (*enrolment.key(), enrolment.address().to_string());
        let convening = Convening {
            agreed: record.of(&plan, &self.keys),
            plan,
            keys: self.keys.clone(),
            addresses: self.founding.enrolments.iter().map(key_of).collect::<BTreeMap<_, _>>(),
            listen: self.config.listen,
            incarnation: record.incarnation,
            completed: self.completed.as_ref().and_then(|file| Some(file.made.as_ref()?.attestation.clone())),
            patience,
            folder: self.folder.path().to_owned(),
        };
        let (folder, founding) = (self.folder.clone(), self.founding.clone());
        let keeper = Files {
            folder: self.folder,
            keys: self.keys,
            founding: self.founding,
            config: self.config,
            record,
            tell,
            held,
        };
        let progress = convene(convening, keeper, stopped).map_err(|error| named(error, &founding))?;
        let unfinished = progress.unfinished.iter().map(|key| founding.name_of(key)).collect();
        Ok(Gathered { network: folder.read_network()?, unfinished })
    }
}

/// Keys are told by the names of their nodes.
fn named(error: ConveneError<GatherError>, founding: &FoundingFile) -> GatherError {
    match error {
        ConveneError::Start(error) => GatherError::Start(error),
        ConveneError::Failed(failure) => GatherError::Failed { reason: told(&failure, founding) },
        ConveneError::Keeper(error) => error,
        ConveneError::Patience(progress) => GatherError::Patience { waits: waits(&progress, founding) },
        ConveneError::Stopped => GatherError::Stopped,
        ConveneError::Network { reason } => GatherError::Connections { reason },
        error => GatherError::Connections { reason: error.to_string() },
    }
}

fn told(failure: &Failure, founding: &FoundingFile) -> String {
    failure.tell(|key| format!("`{}`", founding.name_of(key)))
}

/// What a ceremony waits for, in words.
fn waits(progress: &Progress, founding: &FoundingFile) -> Vec<String> {
    let names = |keys: &[[u8; 32]]| {
        let at = |key: &[u8; 32]| founding.enrolments.iter().find(|enrolment| enrolment.key() == key);
        let name = |key: &[u8; 32]| at(key).map(|of| format!("`{}` ({})", of.name(), of.address()));
        keys.iter().filter_map(name).collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    if !progress.absent.is_empty() {
        lines.push(format!("not heard: {}", names(&progress.absent)));
    }
    if !progress.strange.is_empty() {
        lines.push(format!("with another founding file: {}", names(&progress.strange)));
    }
    let awaited: Vec<[u8; 32]> =
        progress.awaited.iter().filter(|key| !progress.absent.contains(key)).copied().collect();
    if progress.absent.is_empty() && progress.strange.is_empty() && !awaited.is_empty() {
        lines.push(format!("the part of {} is awaited", names(&awaited)));
    }
    lines
}

/// The files of a node in a ceremony.
struct Files<T> {
    folder: NodeFolder,
    keys: Keys,
    founding: FoundingFile,
    config: NodeConfig,
    record: Record,
    tell: T,
    /// No other process does the same, or runs the node.
    #[allow(dead_code, reason = "it is held")]
    held: Hold,
}

impl<T: FnMut(&str) + Send + 'static> Keeper for Files<T> {
    type Error = GatherError;

    fn keep(&mut self, agreed: &Agreed, share: Option<&Share>) -> Result<(), GatherError> {
        // Who has its key makes no other.
        self.folder.expect_no_node()?;
        if let Some(share) = share {
            self.folder.write_share(&self.keys.clone().with_share(share.clone()))?;
        }
        self.record.agreed = Some(agreed.clone());
        Ok(self.folder.write_record(&self.record)?)
    }

    fn complete(&mut self, outcome: &Outcome) -> Result<(), GatherError> {
        let network = self.founding.complete(outcome)?;
        Ok(self.folder.complete(&network, &self.config)?)
    }

    fn tell(&mut self, progress: &Progress) {
        let lines = waits(progress, &self.founding);
        if progress.complete {
            let names: Vec<String> = progress.unfinished.iter().map(|key| self.founding.name_of(key)).collect();
            match names.as_slice() {
                [] => (self.tell)("all have the key"),
                names => (self.tell)(&format!(
                    "the key is made and kept here; waiting until these have it too: {}",
                    names.join(", ")
                )),
            }
        } else if lines.is_empty() {
            (self.tell)("all are there");
        } else {
            for line in &lines {
                (self.tell)(line);
            }
        }
    }
}
