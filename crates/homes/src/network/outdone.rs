//! Whether the ledger was handed over to others than this node's network: then that has ended, and its nodes stop.
//!
//! A network that lost too many validators is founded anew above the highest block that could be had. A validator that was thought lost and
//! comes back must not go on with others that do: there would be two ledgers.
//!
//! - **Owns** the question to the nodes in `rpc_peers`, before this node takes part and while it does.
//! - **Does not** take over what they have: this node has no vote in their network.
//!
//! # Invariants
//! - **U1** No peer's word stops a node: only a handover that as many recovery accounts of this ledger signed as it takes, on a block of this
//!   node's own chain, to a key that certified its block, and with which that chain has more handovers than this one.

#[cfg(test)]
mod tests;

use std::time::Duration;

use alloy_consensus::Transaction as _;
use alloy_primitives::B256;
use blockhouse_consensus::Network;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::handover::{Handover as Named, leading, may_hand_over};
use tokio::sync::mpsc;

use super::backend::NodeBackend;
use super::node::{News, NodeError};
use crate::embedded::{Handover, LedgerKeys};
use crate::remote::{NodeError as PeerError, NodeUrl, Remote};
use crate::store::{Store, StoreError};

/// How often the peers are asked while the node runs.
const LOOK: Duration = Duration::from_mins(1);

/// A handover to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outdone {
    height: u64,
    key: [u8; 32],
    by: NodeUrl,
}

impl From<Outdone> for NodeError {
    fn from(outdone: Outdone) -> Self {
        let Outdone { height, key, by } = outdone;
        Self::HandedOver { height, key, by }
    }
}

/// Fails if a peer shows such a handover. Peers that do not answer say nothing.
pub(super) async fn expect_in_force(store: &Store, own: &[u8; 32], peers: &Remote) -> Result<(), NodeError> {
    for node in peers.nodes() {
        if let Ok(Some((height, key))) = handed_over(store, own, (peers, node)).await? {
            return Err(Outdone { height, key, by: node.clone() }.into());
        }
    }
    Ok(())
}

/// Fails if the store itself is past such a handover: it came with blocks that were taken before anybody showed it.
pub(super) fn expect_own(store: &Store, network: &Network, peers: &Remote) -> Result<(), NodeError> {
    let keys = LedgerKeys::of(store).map_err(NodeError::Past)?;
    let is_other = |it: &&Handover| it.height > network.base().height && it.key != network.key();
    let Some(other) = keys.handovers().iter().find(is_other) else { return Ok(()) };
    let Some(by) = peers.in_turn().next().cloned() else { return Ok(()) };
    Err(Outdone { height: other.height, key: other.key, by }.into())
}

/// Asks again and again while the node runs.
pub(super) async fn watch(backend: NodeBackend, own: [u8; 32], peers: Option<Remote>, news: mpsc::Sender<News>) {
    let Some(peers) = peers else { return };
    loop {
        tokio::time::sleep(LOOK).await;
        // A store that fails is found, and healed, by others.
        if let Err(error @ NodeError::HandedOver { .. }) = expect_in_force(&backend.head(), &own, &peers).await {
            // Who is told went away only with the node.
            let _ = news.send(News::Failed(error)).await;
            return;
        }
    }
}

/// The height and the key of such a handover at that node. The outer error is this node's own.
async fn handed_over(
    store: &Store,
    own: &[u8; 32],
    (peers, node): (&Remote, &NodeUrl),
) -> Result<Result<Option<(u64, [u8; 32])>, PeerError>, NodeError> {
    let common = match last_common(store, (peers, node), store.height()).await? {
        Ok(Some(common)) => common,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error)),
    };
    let next = match peers.blocks(node, common + 1, 1).await {
        Ok(objects) => objects.into_iter().next(),
        Err(error) => return Ok(Err(error)),
    };
    let judged = next.map(|object| tokio::task::block_in_place(|| judge(store, own, &object)));
    Ok(Ok(judged.transpose()?.flatten().map(|key| (common + 1, key))))
}

/// The height of the last block up to `top` that this chain and the peer's share; none if the peer is of another ledger.
pub(super) async fn last_common(
    store: &Store,
    (peers, node): (&Remote, &NodeUrl),
    top: u64,
) -> Result<Result<Option<u64>, PeerError>, StoreError> {
    let mut parting = Parting::new(store.bottom(), top);
    while let Some(height) = parting.next() {
        let hash = match theirs(peers, node, height).await {
            Ok(hash) => hash,
            Err(error) => return Ok(Err(error)),
        };
        parting.learn(height, hash.is_some() && store.hash_at(height)? == hash);
    }
    Ok(Ok(parting.common))
}

/// The search for where two chains part: their blocks are equal up to some height, and differ from there on. Who has fewer blocks may be on another
/// chain all the same: what those before recorded can be the longer one.
struct Parting {
    /// The last height that is known to be shared.
    common: Option<u64>,
    /// Below it nothing is left to be asked; from `end` on neither.
    low: u64,
    end: u64,
    /// Asked first: most chains have not parted.
    top: Option<u64>,
}

impl Parting {
    /// Of what is here, up to a height.
    const fn new(bottom: u64, top: u64) -> Self {
        Self { common: None, low: bottom, end: top.saturating_add(1), top: Some(top) }
    }

    /// Which height to compare now; nothing once it is known.
    fn next(&mut self) -> Option<u64> {
        let middle = (self.low < self.end).then(|| self.low + (self.end - self.low) / 2)?;
        Some(self.top.take().unwrap_or(middle))
    }

    fn learn(&mut self, height: u64, is_shared: bool) {
        if is_shared {
            (self.common, self.low) = (Some(height), height.saturating_add(1));
        } else {
            self.end = height;
        }
    }
}

/// The hash of the peer's block of that height, if it has one.
pub(super) async fn theirs(peers: &Remote, node: &NodeUrl, height: u64) -> Result<Option<B256>, PeerError> {
    let first = peers.blocks(node, height, 1).await?.into_iter().next();
    Ok(first.map(|object| B256::new(object.hash().to_bytes())))
}

/// The key that the block hands the ledger over to, if it counts here (U1). Its parent is on this chain.
fn judge(store: &Store, own: &[u8; 32], object: &BlockObject) -> Result<Option<[u8; 32]>, NodeError> {
    let (header, genesis) = (&object.block.header, store.genesis());
    let Some(transaction) = leading(&object.block.body.transactions) else { return Ok(None) };
    let Some(named) = Named::read(transaction.input()) else { return Ok(None) };
    let place = BlockPlace { chain_id: genesis.chain_id, height: header.number, hash: object.hash() };
    let parent = header.number.checked_sub(1).map(|parent| store.hash_at(parent)).transpose()?.flatten();
    let is_bound = transaction.to() == Some(genesis.access_address())
        && transaction.chain_id() == Some(genesis.chain_id)
        && Some(named.parent) == parent
        && header.parent_hash == named.parent
        && named.next_key != *own
        && object.certificate.verify(&named.next_key, &place).is_ok();
    let keys = LedgerKeys::of(store).map_err(NodeError::Past)?;
    let before = keys.handovers().iter().filter(|handover| handover.height < header.number).count();
    // By the state after this node's last block.
    let may = || may_hand_over(genesis, store.head().header(), store, transaction).unwrap_or(false);
    Ok((is_bound && before == keys.handovers().len() && may()).then_some(named.next_key))
}
