//! Runs of blocks: the next is fetched while one is executed.

use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::recall::Recall;
use tokio::task::JoinSet;

use super::super::past::{is_other_base, may_follow};
use super::{Ended, Sync, SyncError, SyncNews};
use crate::embedded::import_run;
use crate::remote::{NodeError, NodeProblem, NodeUrl, RUN, Remote};
use crate::store::Store;

const OBJECTS: &str = "blockhouse_getBlockObjects";

impl Sync<'_> {
    /// Takes blocks of peers until none has more; a peer that cannot go on is left for the next. Gives what was wrong with those that gave none.
    pub(super) async fn by_blocks(
        self,
        store: &mut Store,
        of: u64,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<Vec<NodeProblem>, SyncError> {
        let mut problems = Vec::new();
        for node in self.peers.in_turn() {
            let before = store.height();
            let error = match self.take_blocks(node, store, of, tell).await {
                Ok(()) if store.height() == before => {
                    NodeError::form(OBJECTS, format!("it has no block {}", before + 1))
                }
                Ok(()) => {
                    self.peers.prefer(node);
                    if store.height() >= of {
                        break;
                    }
                    continue;
                }
                Err(Ended::Own(error)) => return Err(error),
                Err(Ended::Peer(error)) => {
                    tell(&SyncNews::Left { node, error: &error });
                    error
                }
            };
            problems.push(NodeProblem { node: node.clone(), error });
        }
        Ok(problems)
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
        let (mut fetching, recall) = (JoinSet::new(), Recall::default());
        fetching.spawn(fetch(self.peers.clone(), node.clone(), store.height() + 1));
        while let Some(fetched) = fetching.join_next().await {
            let fetched = fetched.unwrap_or_else(|error| Err(NodeError::form(OBJECTS, error)));
            let fetched = fetched.map_err(Ended::Peer)?;
            let objects: Vec<_> = fetched.into_iter().take_while(|object| may_follow(object, self.network())).collect();
            if objects.is_empty() {
                break;
            }
            if objects.iter().any(|object| is_other_base(object, self.network())) {
                return Err(Ended::strange(OBJECTS, "its blocks do not lead to the base of this network"));
            }
            let next = store.height() + 1 + objects.len() as u64;
            fetching.spawn(fetch(self.peers.clone(), node.clone(), next));
            tokio::task::block_in_place(|| import_run(store, &objects, &recall))?;
            tell(&SyncNews::Blocks { height: store.height(), of: of.max(store.height()) });
        }
        Ok(())
    }
}

async fn fetch(peers: Remote, node: NodeUrl, from: u64) -> Result<Vec<BlockObject>, NodeError> {
    peers.blocks(&node, from, RUN).await
}
