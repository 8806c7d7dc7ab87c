//! Following a network: the blocks of its nodes are taken into this host's own copy, each judged as one from a site is.
//!
//! # Invariants
//! - **F1** What a node gives is imported or refused, never believed; the blocks before a refused one stay.
//! - **F2** A node that gives something else than this ledger is told, and the next one asked.
//! - **F3** Each answer of a node that counts makes the copy longer: no node can keep a host busy with nothing.

use std::time::Duration;

use blockhouse_ledger::block::BlockObject;
use blockhouse_types::BlockHash;

use super::error::HomeError;
use super::heal::Rebuilt;
use super::{Embedded, Sealer};
use crate::forks::{ForkFolder, KeptFork};
use crate::remote::{NodeError, NodeProblem, NodeUrl, RUN, Remote, RemoteError};

/// The longest that a following takes for handing evidence of forks on.
const HANDING_MAX: Duration = Duration::from_secs(10);

/// What following came to.
#[derive(Debug, Default)]
pub struct Followed {
    /// How many blocks were new here.
    pub added: u64,
    /// Nodes that were asked first and gave no usable answer.
    pub problems: Vec<NodeProblem>,
}

/// From where on a node is asked for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The head, so that a node of another ledger shows itself, by that or by its block 0.
    Head,
    /// The block after it.
    Next,
}

impl Embedded {
    /// Takes what the network's nodes have above the head, from the first one that can be used. Nothing to do where no network
    /// keeps the ledger.
    pub async fn follow(&self) -> Result<Followed, HomeError> {
        match &self.shared.options.sealer {
            Sealer::Network(nodes) => {
                let followed = self.follow_any(nodes, From::Head).await;
                self.hand_forks(nodes).await;
                followed
            }
            Sealer::Nobody | Sealer::Key(_) => Ok(Followed::default()),
        }
    }

    pub(super) async fn follow_any(&self, nodes: &Remote, from: From) -> Result<Followed, HomeError> {
        let mut followed = Followed::default();
        for node in nodes.in_turn() {
            match self.follow_one(nodes, node, (from, &mut followed.added)).await? {
                Ok(()) => {
                    nodes.prefer(node);
                    return Ok(followed);
                }
                Err(error) => followed.problems.push(NodeProblem { node: node.clone(), error }),
            }
        }
        Err(RemoteError::NoNode { problems: followed.problems }.into())
    }

    /// Hands the evidence that is kept here, and that they do not have, to all nodes: they check it, tell it on the ledger and give no vote. Who cannot be
    /// reached is handed it with the next following: until then each takes so much longer.
    async fn hand_forks(&self, nodes: &Remote) {
        let forks = ForkFolder::beside(&self.shared.options.path);
        let Ok(all) = forks.all() else { return };
        let handed = all.iter().filter(|kept| !kept.is_told() && !kept.is_settled()).map(async |kept| {
            if hand_to_all(nodes, kept).await {
                forks.note_told(kept);
            }
        });
        // All at once: a node that never answers keeps none of them from the others.
        let handed = futures::future::join_all(handed);
        // What the caller wants is more than this: a silent node does not hold it up for long.
        let _ = tokio::time::timeout(HANDING_MAX, handed).await;
    }

    /// The outer error is this home's, the inner one the node's.
    async fn follow_one(
        &self,
        nodes: &Remote,
        node: &NodeUrl,
        (from, added): (From, &mut u64),
    ) -> Result<Result<(), NodeError>, HomeError> {
        let (height, genesis) = self.read(|store| (store.height(), store.genesis().hash())).await?;
        let first = if from == From::Head { height } else { height + 1 };
        let mut next = first;
        loop {
            let objects = match nodes.blocks(node, next, RUN).await {
                Ok(objects) => objects,
                Err(error) => return Ok(Err(error)),
            };
            let Some(last) = objects.last() else {
                // A node that is behind has not even the head: it must at least have begun the same way.
                if from != From::Head || next != first {
                    return Ok(Ok(()));
                }
                return match beginning(nodes, node, genesis).await {
                    Ok(_) => self.compare_last(nodes, node, height).await,
                    Err(error) => Ok(Err(error)),
                };
            };
            next = last.block.header.number + 1;
            match self.import_run(objects).await {
                Ok(imported) => *added += imported.added,
                Err(error) if error.is_of_elsewhere() => return Ok(Err(NodeError::Blocks(Box::new(error)))),
                Err(error) => return Err(error),
            }
        }
    }

    /// Compares the last block of a node that has fewer: a certified other one is a fork. One that cannot be had says nothing.
    async fn compare_last(
        &self,
        nodes: &Remote,
        node: &NodeUrl,
        height: u64,
    ) -> Result<Result<(), NodeError>, HomeError> {
        let Ok(last) = nodes.height(node).await else { return Ok(Ok(())) };
        let objects = if last < height { nodes.blocks(node, last, 1).await.unwrap_or_default() } else { Vec::new() };
        match self.import_run(objects).await {
            Ok(_) => Ok(Ok(())),
            Err(error) if error.is_of_elsewhere() => Ok(Err(NodeError::Blocks(Box::new(error)))),
            Err(error) => Err(error),
        }
    }

    /// Makes a missing or damaged store anew from the nodes: block 0 first, which must be `genesis`, and then what follows it. A
    /// kill leaves a shorter copy, which the next following makes whole.
    pub async fn rebuild_from_network(&self, genesis: BlockHash) -> Result<(Rebuilt, Followed), HomeError> {
        let nodes = self.network().ok_or(RemoteError::NoUrl)?;
        let mut problems = Vec::new();
        for node in nodes.in_turn() {
            match beginning(nodes, node, genesis).await {
                Ok(first) => {
                    nodes.prefer(node);
                    let rebuilt = self.rebuild_from([first]).await?;
                    let mut followed = self.follow().await?;
                    problems.append(&mut followed.problems);
                    return Ok((rebuilt, Followed { problems, ..followed }));
                }
                Err(error) => problems.push(NodeProblem { node: node.clone(), error }),
            }
        }
        Err(RemoteError::NoNode { problems }.into())
    }
}

/// Hands one fork to all nodes; true once each has answered, and one at least took it. That it is no fork of its chain, that it keeps none, or that it has
/// no such method, for its release is an earlier one, is an answer; that it is busy, or behind, is none.
async fn hand_to_all(nodes: &Remote, kept: &KeptFork) -> bool {
    let answers = nodes.nodes().iter().map(|node| nodes.submit_fork(node, kept.evidence.sides()));
    let answers = futures::future::join_all(answers).await;
    let is_answer = |answer: &Result<(), NodeError>| {
        matches!(answer, Ok(()) | Err(NodeError::Answered { code: -32_602 | -32_601 | -32_001, .. }))
    };
    answers.iter().all(is_answer) && answers.iter().any(Result::is_ok)
}

/// Block 0 of a node.
async fn beginning(nodes: &Remote, node: &NodeUrl, genesis: BlockHash) -> Result<BlockObject, NodeError> {
    let first = nodes.blocks(node, 0, 1).await?.into_iter().next();
    let first = first.ok_or_else(|| NodeError::Blocks(Box::new(HomeError::NoGenesis)))?;
    match first.hash() {
        found if found == genesis => Ok(first),
        found => Err(NodeError::OtherGenesis { found: found.to_string() }),
    }
}
