//! State sync: a new store that begins by the state of a late block.
//!
//! The block is one that the validators of this network certified, those of the network file or those who followed them. Its header names the
//! state root, under which each part of the state is checked when it arrives, and the block below it, so the blocks that execution looks back on
//! are checked too. What leads from the key of the network file to that block goes into the new store, and so is there with the state or not at
//! all: above which block its validators begin is known from it.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::B256;
use blockhouse_ledger::receipt::Link;
use blockhouse_ledger::state::StatePlace;
use blockhouse_types::BlockHash;

use super::keys::Way;
use super::{Ended, Sync, SyncError, SyncNews};
use crate::embedded::{HomeError, LedgerKeys, lock_folder};
use crate::remote::{NodeError, NodeUrl};
use crate::rpc::LIMIT_EXCEEDED;
use crate::store::{self, Access, Beside, PartError, Past, StatePart, Store, StoreError, WAIT};

/// What a store that is being made is called.
const SYNCED: &str = "synced";

const PAST: &str = "blockhouse_getPastBlocks";
const PART: &str = "blockhouse_getStatePart";

/// How often each peer is asked for a state: what is in the way may have passed, and the blocks take far longer.
const ROUNDS: u32 = 2;
/// The pause before the next round: a node that starts again takes some seconds.
const ROUND_PAUSE: Duration = Duration::from_secs(5);
/// The pause before a part is asked for again: what a client may ask a node grows by the second.
const PART_PAUSE: Duration = Duration::from_secs(1);
/// How often that is done where the node says that too much is asked of it: others at the same address may ask too.
const REFUSED_MAX: u32 = 30;
/// The same where no answer came.
const LOST_MAX: u32 = 2;

/// A whole state beside the store whose place it takes.
struct Made<'a> {
    new: Beside,
    node: &'a NodeUrl,
    height: u64,
    /// It has no blocks up to that one.
    below: u64,
}

impl<'a> Sync<'a> {
    /// Replaces a store that holds nothing but block 0 (N2) by one with the state of a late block, of the first peer that gives it.
    pub(super) async fn by_state(self, old: Store, tell: &mut impl FnMut(&SyncNews<'_>)) -> Result<Store, SyncError> {
        let path = old.path().to_owned();
        let _alone = tokio::task::block_in_place(|| lock_folder(&path, WAIT))?;
        store::remove_leftovers(&path, SYNCED)?;
        let Some(way) = self.learn_keys(tell).await else { return Ok(old) };
        // The blocks themselves lead there too (N3).
        let Some(made) = self.make_of_any(&path, &way, tell).await? else { return Ok(old) };
        drop(old);
        let store = tokio::task::block_in_place(|| take_place(&made.new, &path))?;
        self.peers.prefer(made.node);
        tell(&SyncNews::HasState { height: made.height, below: made.below });
        Ok(store)
    }

    /// Makes the new store of what the first peer gives that gives a state. Who gave anything else is not asked again.
    async fn make_of_any(
        self,
        path: &Path,
        way: &Way,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<Option<Made<'a>>, SyncError> {
        let mut nodes: Vec<_> = self.peers.in_turn().collect();
        for round in 1..=ROUNDS {
            let mut left = Vec::new();
            for node in nodes {
                let new = store::beside(path, SYNCED);
                match self.make(node, way, &new, tell).await {
                    Ok((height, below)) => return Ok(Some(Made { new, node, height, below })),
                    Err(Ended::Own(error)) => return Err(error),
                    Err(Ended::Peer(error)) => {
                        tell(&SyncNews::Left { node, error: &error });
                        left.extend(error.may_pass().then_some(node));
                    }
                }
            }
            if left.is_empty() || round == ROUNDS {
                break;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
            nodes = left;
        }
        Ok(None)
    }

    /// Makes the new store of what one peer gives; gives its height, and the height below which it has no blocks.
    async fn make(
        self,
        node: &NodeUrl,
        way: &Way,
        new: &Beside,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<(u64, u64), Ended> {
        let past = self.late_blocks(node, way).await?;
        let height = past.first().map_or(0, Past::height);
        let links = self.links_below(node, way, past.last().map_or(0, Past::height)).await?;
        tell(&SyncNews::State { height, node });
        let mut store = tokio::task::block_in_place(|| -> Result<_, StoreError> {
            Store::begin_at(new.path(), &self.file.genesis, &past, &links)?;
            Store::open(new.path(), Access::Write, WAIT, None)
        })?;
        self.take_state(node, &mut store, tell).await?;
        tokio::task::block_in_place(|| -> Result<_, Ended> {
            Self::verify_keys(&store, way, &past)?;
            store.sync()?;
            Ok((height, store.bottom().saturating_sub(1)))
        })
    }

    /// The block whose state the peer keeps, certified by this network, and those below that a store must have.
    async fn late_blocks(self, node: &NodeUrl, way: &Way) -> Result<Vec<Past>, Ended> {
        let (top, hash) = self.peers.kept_state(node).await.map_err(Ended::Peer)?;
        let lowest = top.saturating_sub(Store::BLOCKS_BELOW).max(1);
        let (mut past, mut next): (Vec<Past>, _) = (Vec::new(), (top, hash));
        if top <= self.network().base().height {
            return Err(Ended::strange(
                PAST,
                format!("it keeps the state of block {top}, which is not above the beginning"),
            ));
        }
        while next.0 >= lowest {
            let given = self.peers.past(node, next.0, next.0 - lowest + 1).await.map_err(Ended::Peer)?;
            if given.is_empty() {
                return Err(Ended::strange(PAST, format!("it has no block {}", next.0)));
            }
            let wanted = usize::try_from(next.0 - lowest + 1).unwrap_or(usize::MAX);
            for block in given.into_iter().take(wanted) {
                block.compare(next.0, next.1).map_err(|why| Ended::strange(PAST, why))?;
                next = (next.0 - 1, block.parent());
                self.expect_beginning(next).map_err(|why| Ended::strange(PAST, why))?;
                past.push(block);
            }
            // Who cannot show that this network made the block is believed nothing more.
            if let Some(first) = past.first() {
                let certified = first.certified_by(self.file.genesis.chain_id, &way.at(top));
                certified.map_err(|why| Ended::strange(PAST, why))?;
            }
        }
        Ok(past)
    }

    /// Compares what a block names below it, if that is block 0 or the base.
    fn expect_beginning(self, (height, hash): (u64, B256)) -> Result<(), &'static str> {
        let base = self.network().base();
        let other = |expected: BlockHash| hash != B256::new(expected.to_bytes());
        if height == 0 && other(self.file.genesis.hash()) {
            return Err("its blocks do not lead down to block 0");
        }
        if height == base.height && other(base.hash) {
            return Err("its blocks do not lead down to the base of this network");
        }
        Ok(())
    }

    /// What the new store has of blocks below `bottom`: how the keys changed, and where a network that took the ledger over began.
    async fn links_below(self, node: &NodeUrl, way: &Way, bottom: u64) -> Result<Vec<Link>, Ended> {
        let mut links = way.links_below(bottom);
        if self.file.handover.is_some() && self.network().base().height + 1 < bottom {
            links.insert(0, self.first_block(node).await?);
        }
        Ok(links)
    }

    /// Takes the parts of the state after the head, one after the other.
    async fn take_state(
        self,
        node: &NodeUrl,
        store: &mut Store,
        tell: &mut impl FnMut(&SyncNews<'_>),
    ) -> Result<(), Ended> {
        let (hash, root) = (store.head().hash(), store.head().header().state_root);
        let mut place = Some(StatePlace::default());
        while let Some(from) = place {
            let part = self.part(node, hash, from).await.map_err(Ended::Peer)?;
            let put = || match part.take(root, from, store) {
                Ok(changes) => store.put_state(&changes).map_err(Ended::from),
                Err(PartError::Store(error)) => Err(error.into()),
                Err(strange) => Err(Ended::strange(PART, strange)),
            };
            tokio::task::block_in_place(put)?;
            place = part.next();
            tell(&SyncNews::Share { share: place.map_or(u16::MAX, |place| place.share()) });
        }
        Ok(())
    }

    /// A part of that state, asked for again where it may come yet: all parts before it would be lost.
    async fn part(self, node: &NodeUrl, block: B256, from: StatePlace) -> Result<StatePart, NodeError> {
        let mut again = 0;
        loop {
            let error = match self.peers.state_part(node, block, from).await {
                Ok(part) => return Ok(part),
                Err(error) => error,
            };
            let most = match &error {
                NodeError::Answered { code: LIMIT_EXCEEDED, .. } => REFUSED_MAX,
                NodeError::Http(_) => LOST_MAX,
                _ => 0,
            };
            if again >= most {
                return Err(error);
            }
            again += 1;
            tokio::time::sleep(PART_PAUSE).await;
        }
    }

    /// Now that the state says which key was in force where: they are those of the way, and each block is certified by the one of its height.
    fn verify_keys(store: &Store, way: &Way, past: &[Past]) -> Result<(), Ended> {
        let keys = LedgerKeys::of(store).map_err(|error| match error {
            HomeError::Store(error) => Ended::from(error),
            // A state that was checked and does not answer is not that of a ledger.
            other => Ended::strange(PART, crate::chain::chain(&other)),
        })?;
        way.expect(&keys, store.height()).map_err(|why| Ended::strange(PART, why))?;
        let verify = |past: &Past| past.certified_by(store.genesis().chain_id, &keys.at(past.height()));
        past.iter().try_for_each(verify).map_err(|why| Ended::strange(PAST, why))
    }
}

/// Gives the new store, which is closed and durable, the name of the old one (N1).
fn take_place(new: &Beside, path: &Path) -> Result<Store, SyncError> {
    let failed = |source| HomeError::Io { action: "name", path: path.to_owned(), source };
    std::fs::rename(new.path(), path).map_err(failed)?;
    store::sync_folder(path)?;
    Store::open(path, Access::Watched, WAIT, None).map_err(|error: StoreError| error.into())
}
