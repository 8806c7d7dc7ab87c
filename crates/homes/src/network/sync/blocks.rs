//! Runs of blocks: the next is fetched while one is executed.

use blockhouse_ledger::block::BlockObject;
use tokio::task::JoinSet;

use super::super::past::may_follow;
use super::{Ended, Sync, SyncError, SyncNews};
use crate::embedded::import_run;
use crate::remote::{NodeError, NodeUrl, RUN, Remote};
use crate::store::Store;

impl Sync<'_> {
    /// Takes blocks of peers until none has more; a peer that cannot go on is left for the next.
    pub(super) async fn by_blocks(
        self,
        store: &mut Store,
        of: u64,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<(), SyncError> {
        for node in self.peers.in_turn() {
            match self.take_blocks(node, store, of, tell).await {
                Ok(()) => self.peers.prefer(node),
                Err(Ended::Own(error)) => return Err(error),
                Err(Ended::Peer(error)) => tell(&SyncNews::Left { node, error: &error }),
            }
            if store.height() >= of {
                break;
            }
        }
        Ok(())
    }

    /// Takes blocks of one peer until it has no more.
    async fn take_blocks(
        self,
        node: &NodeUrl,
        store: &mut Store,
        of: u64,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<(), Ended> {
        // It ends with this value.
        let mut fetching = JoinSet::new();
        fetching.spawn(fetch(self.peers.clone(), node.clone(), store.height() + 1));
        while let Some(fetched) = fetching.join_next().await {
            let fetched = fetched.unwrap_or_else(|error| Err(NodeError::form("blockhouse_getBlockObjects", error)));
            let fetched = fetched.map_err(Ended::Peer)?;
            let objects: Vec<_> = fetched.into_iter().take_while(|object| may_follow(object, self.network())).collect();
            if objects.is_empty() {
                break;
            }
            let next = store.height() + 1 + objects.len() as u64;
            fetching.spawn(fetch(self.peers.clone(), node.clone(), next));
            tokio::task::block_in_place(|| import_run(store, &objects))?;
            tell(&SyncNews::Blocks { height: store.height(), of: of.max(store.height()) });
        }
        Ok(())
    }
}

async fn fetch(peers: Remote, node: NodeUrl, from: u64) -> Result<Vec<BlockObject>, NodeError> {
    peers.blocks(&node, from, RUN).await
}
