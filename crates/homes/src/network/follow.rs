//! Following by JSON-RPC: what other nodes have and the engine does not bring.
//!
//! An engine knows the blocks of its own tenure. A node that was away while other validators followed, or that no validator serves, takes the blocks
//! from the nodes in `rpc_peers`, each certified by the key in force there; then its engine begins where the ledger stands.
//!
//! - **Owns** when other nodes are asked.
//! - **Does not** believe them: a block is taken by its certificate and its execution.

use std::sync::Arc;
use std::time::Duration;

use super::chain::Chain;
use super::orderer::Orderer;
use crate::remote::{NodeUrl, RUN, Remote};

/// How long the head stands still before other nodes are asked for more: a block a view is the usual, a minute without one is no fault.
const STILL: Duration = Duration::from_secs(3);

/// Asks for as long as the node runs.
pub(super) async fn follow(chain: Arc<Chain>, orderer: Arc<Orderer>, peers: Remote) {
    let mut heights = orderer.heights();
    loop {
        if tokio::time::timeout(STILL, heights.changed()).await.is_ok() {
            continue;
        }
        for node in peers.in_turn() {
            if take_all(&chain, &orderer, &peers, node).await {
                peers.prefer(node);
                break;
            }
        }
        heights.mark_unchanged();
    }
}

/// Takes what that node has above the head; false if that was nothing.
async fn take_all(chain: &Chain, orderer: &Orderer, peers: &Remote, node: &NodeUrl) -> bool {
    let mut any = false;
    while let Ok(objects) = peers.blocks(node, chain.head().height() + 1, RUN).await {
        let before = chain.head().height();
        for object in objects {
            match orderer.take(&object) {
                Ok(is_new) => any |= is_new,
                // The engine was faster, or the node serves another chain: it is asked again later.
                Err(_) => return any,
            }
            tokio::task::yield_now().await;
        }
        if chain.head().height() == before {
            break;
        }
    }
    any
}
