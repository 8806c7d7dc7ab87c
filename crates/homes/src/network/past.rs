//! The past of a ledger that a network took over: what a node must have before it takes part.
//!
//! - **Owns** how the blocks up to the network's base come into the store of a node that joins it.
//! - **Does not** believe a peer: each block is executed, and certified by the key that was in force at it. Those above the base come by the
//!   engine.
//!
//! # Invariants
//! - **P1** No engine begins over a store that ends below its network's base, or has another block there.

use std::time::Duration;

use alloy_primitives::B256;
use blockhouse_consensus::{Base, Network};
use blockhouse_ledger::block::BlockObject;

use super::keep::Told;
use super::node::NodeError;
use crate::embedded::import_into;
use crate::remote::{NodeError as PeerError, NodeProblem, NodeUrl, RUN, Remote, RemoteError};
use crate::store::Store;

/// The pause before the peers are asked again: they may be starting too. Each is twice as long as the last one.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_mins(1);

/// Takes what is missing up to the base from the peers, however long it takes until one has it.
pub(super) async fn bring_to_base(
    store: &mut Store,
    base: &Base,
    peers: Option<&Remote>,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<(), NodeError> {
    let (mut pause, first) = (AGAIN, store.height());
    while store.height() < base.height {
        let peers = peers.ok_or(NodeError::NoPast { height: store.height(), base: base.height })?;
        match take(store, base, peers).await? {
            Ok(()) => pause = AGAIN,
            Err(source) => {
                // What came is not asked for again after a kill.
                store.sync()?;
                tell(Told::NoPast { height: store.height(), base: base.height, source: &source });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
    if first < base.height {
        store.sync()?;
    }
    let found = store.hash_at(base.height)?.unwrap_or_default();
    let expected = B256::new(base.hash.to_bytes());
    if found == expected { Ok(()) } else { Err(NodeError::OtherPast { height: base.height, found, expected }) }
}

/// The next blocks, of the first peer that has them. The outer error is this node's.
async fn take(store: &mut Store, base: &Base, peers: &Remote) -> Result<Result<(), RemoteError>, NodeError> {
    let mut problems = Vec::new();
    for node in peers.in_turn() {
        match take_of(store, base, (peers, node)).await? {
            Ok(()) => {
                peers.prefer(node);
                return Ok(Ok(()));
            }
            Err(error) => problems.push(NodeProblem { node: node.clone(), error }),
        }
    }
    Ok(Err(RemoteError::NoNode { problems }))
}

/// False for a block directly above the base that others certified: what those before recorded there is beside this network's chain.
pub(super) fn may_follow(object: &BlockObject, network: &Network) -> bool {
    object.block.header.number != network.base().height + 1 || object.certificate.key() == network.key()
}

async fn take_of(
    store: &mut Store,
    base: &Base,
    (peers, node): (&Remote, &NodeUrl),
) -> Result<Result<(), PeerError>, NodeError> {
    let before = store.height();
    let objects = match peers.blocks(node, before + 1, RUN).await {
        Ok(objects) => objects,
        Err(error) => return Ok(Err(error)),
    };
    let objects = objects.into_iter().filter(|object| object.block.header.number <= base.height);
    let imported = tokio::task::block_in_place(|| import_into(store, objects, Store::append_unsynced));
    match imported {
        Err(error) if error.is_of_elsewhere() && store.height() == before => {
            Ok(Err(PeerError::Blocks(Box::new(error))))
        }
        Err(error) if !error.is_of_elsewhere() => Err(NodeError::Past(error)),
        Ok(_) if store.height() == before => {
            Ok(Err(PeerError::form("blockhouse_getBlockObjects", format!("it has no block {}", before + 1))))
        }
        _ => Ok(Ok(())),
    }
}
