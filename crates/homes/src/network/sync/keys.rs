//! Which key certifies which block, as peers show it: from the key of the network file on, from one closing block to the next.
//!
//! The validators of each tenure signed the closing block with which it ends, and its header names the key of those who follow. So who knows
//! the first key and these headers knows all later keys, without a state.
//!
//! - **Owns** the way from the first key to the last, and what is made of peers that show different ways.
//! - **Does not** know who stands behind a key: the state that is taken says it, and its keys must be the same.
//!
//! # Invariants
//! - **W1** A key is taken only from a closing block at the end of an epoch, signed itself under the key before, above the one before; where one key is
//!   handed on, that key.
//! - **W2** All peers' ways are one, or parts of it, or no state is taken: who signed two ends of one tenure can show any state.
//!
//! Format: `docs/design/node.md`, section *State sync*.

#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use alloy_primitives::B256;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::receipt::{KeyAt, Link};
use blockhouse_types::BlockHash;

use super::super::network_file::NetworkFile;
use super::{Ended, Sync, SyncNews};
use crate::chain::chain;
use crate::embedded::LedgerKeys;
use crate::remote::{NodeError, NodeUrl};

pub(super) const LINKS: &str = "blockhouse_getLinks";
/// How many links are asked for at once: some hundred kilobytes.
const LINKS_RUN: u64 = 256;
/// The most changes of validators that are followed, some megabytes: eleven years of one a day. Who needs more executes the blocks.
const CHANGES_MAX: usize = 4096;
/// How long a peer may take to show its way.
const WAY_TIME: Duration = Duration::from_mins(2);

/// The keys of a network that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    chain_id: u64,
    /// The blocks of an epoch, where validators change.
    epoch_length: Option<u64>,
    /// Its validators share one key: each step leads from that to itself.
    hands_on: bool,
    first: KeyAt,
    steps: Vec<(Link, KeyAt)>,
}

impl Way {
    /// That of a network file, which names the first key.
    pub(super) fn of(file: &NetworkFile) -> Self {
        let governance = file.governance();
        // The block by which a network took the ledger over is no closing block.
        let first = file.network.base().height + u64::from(file.handover.is_some());
        Self {
            chain_id: file.genesis.chain_id,
            epoch_length: governance.as_ref().map(|governance| governance.epoch_length),
            hands_on: governance.is_some_and(|governance| governance.group.is_some()),
            first: KeyAt { key: file.network.key(), after: first },
            steps: Vec::new(),
        }
    }

    /// Goes on over a closing block (W1).
    pub(super) fn follow(&mut self, link: Link) -> Result<(), String> {
        let height = link.height();
        let ends = self.epoch_length.is_some_and(|length| height.saturating_add(1).is_multiple_of(length));
        if !ends {
            return Err(format!("validators do not change with block {height}"));
        }
        if self.steps.len() >= CHANGES_MAX {
            return Err(format!("it shows more than {CHANGES_MAX} changes of the validators"));
        }
        let from = self.last();
        let next = if self.hands_on { link.hand_on(self.chain_id, from) } else { link.follow(self.chain_id, from) };
        let next = next.map_err(|error| chain(&error))?;
        match (self.hands_on, next.key == from.key) {
            (false, true) => return Err(format!("block {height} names the validators that are there")),
            (true, false) => return Err(format!("block {height} names another key than the one that is handed on")),
            _ => {}
        }
        self.steps.push((link, next));
        Ok(())
    }

    /// The key in force at that height, which is one of this network.
    pub(super) fn at(&self, height: u64) -> [u8; 32] {
        let before = self.steps.iter().rev().find(|(_, step)| step.after < height);
        before.map_or(self.first, |(_, step)| *step).key
    }

    /// The links to blocks below that height.
    pub(super) fn links_below(&self, height: u64) -> Vec<Link> {
        self.steps.iter().map(|(link, _)| link).take_while(|link| link.height() < height).cloned().collect()
    }

    /// Compares the keys that the state after a block names with those along the way.
    pub(super) fn expect(&self, keys: &LedgerKeys, head: u64) -> Result<(), String> {
        let shown = self.steps.iter().map(|(_, step)| (step.after + 1, step.key));
        let shown = shown.take_while(|(height, _)| *height <= head.saturating_add(1));
        let named = keys.successions().iter().map(|next| (next.height, next.key));
        // With the first block its own time begins: a set that was to follow there, and never came, is none of its keys.
        let named = named.filter(|(height, _)| *height > self.first.after.saturating_add(1));
        if !named.eq(shown) {
            return Err("the validators that the state names did not follow as the closing blocks say".to_owned());
        }
        if keys.in_force() != self.at(head.saturating_add(1)) {
            return Err("the key in force there is not that of this network".to_owned());
        }
        Ok(())
    }

    fn last(&self) -> KeyAt {
        self.steps.last().map_or(self.first, |(_, step)| *step)
    }

    /// The height where another way parts from this one; none if one is a part of the other.
    fn parts_from(&self, other: &Self) -> Option<u64> {
        let differ = |((a, _), (b, _)): &(&(Link, KeyAt), &(Link, KeyAt))| a.header != b.header;
        self.steps.iter().zip(&other.steps).find(differ).map(|((a, _), (b, _))| a.height().min(b.height()))
    }
}

impl Sync<'_> {
    /// The way to the last key that any peer shows; nothing if two peers contradict each other (W2). Who shows none may still have a state of the
    /// first tenure.
    pub(super) async fn learn_keys(self, tell: &mut impl FnMut(&SyncNews<'_>)) -> Option<Way> {
        let (mut longest, mut by) = (Way::of(self.file), None::<&NodeUrl>);
        if longest.epoch_length.is_none() {
            return Some(longest);
        }
        let nodes: Vec<_> = self.peers.in_turn().collect();
        let shown = nodes.iter().map(|node| tokio::time::timeout(WAY_TIME, self.way_of(node)));
        let shown = futures::future::join_all(shown).await.into_iter();
        let shown = shown.map(|way| way.unwrap_or_else(|_| Err(NodeError::form(LINKS, "it took too long"))));
        for (node, shown) in nodes.into_iter().zip(shown) {
            let way = match shown {
                Ok(way) => way,
                Err(error) => {
                    tell(&SyncNews::Left { node, error: &error });
                    continue;
                }
            };
            if let (Some(height), Some(by)) = (way.parts_from(&longest), by) {
                let why = format!("block {height} is another one at {by}, under the same key: no state is taken");
                tell(&SyncNews::Left { node, error: &NodeError::form(LINKS, why) });
                return None;
            }
            if way.steps.len() > longest.steps.len() {
                (longest, by) = (way, Some(node));
            }
        }
        if let (changes @ 1.., height) = (longest.steps.len() as u64, longest.last().after) {
            tell(&SyncNews::Keys { changes, height });
        }
        Some(longest)
    }

    /// The way that a peer shows.
    async fn way_of(self, node: &NodeUrl) -> Result<Way, NodeError> {
        let mut way = Way::of(self.file);
        loop {
            let links = self.peers.links(node, way.last().after, LINKS_RUN).await?;
            if links.is_empty() {
                return Ok(way);
            }
            // Signatures are checked: other tasks have their turn between.
            tokio::task::block_in_place(|| links.into_iter().try_for_each(|link| way.follow(link)))
                .map_err(|why| NodeError::form(LINKS, why))?;
        }
    }

    /// The first block of a network that took the ledger over, as a peer shows it: certified by this network, and above its base.
    pub(super) async fn first_block(self, node: &NodeUrl) -> Result<Link, Ended> {
        let base = self.network().base();
        let first = self.peers.links(node, base.height, 1).await.map_err(Ended::Peer)?.pop();
        let first = first.ok_or_else(|| Ended::strange(LINKS, format!("it has no block {}", base.height + 1)))?;
        self.expect_first(&first).map_err(|why| Ended::strange(LINKS, why))?;
        Ok(first)
    }

    fn expect_first(self, first: &Link) -> Result<(), String> {
        let (base, height) = (self.network().base(), first.height());
        let place = BlockPlace {
            chain_id: self.file.genesis.chain_id,
            height,
            hash: BlockHash::new(first.header.hash_slow().0),
        };
        let is_above = Some(height) == base.height.checked_add(1);
        if !is_above || first.header.parent_hash != B256::new(base.hash.to_bytes()) {
            return Err(format!("block {height} is not the first one above the base of this network"));
        }
        first.certificate.verify(&self.network().key(), &place).map_err(|error| format!("block {height}: {error}"))
    }
}
