//! Making a store anew: from block 0, executing every block again.

use std::time::Duration;

use blockhouse_consensus::Network;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};

use super::super::past::may_follow;
use super::{HealError, Healer, Kind, REBUILT, Remedy, WAIT};
use crate::embedded::{LedgerKeys, import_into, lock_folder};
use crate::remote::{NodeError, NodeProblem, NodeUrl, RUN, Remote, RemoteError};
use crate::store::{self, Access, Damage, Part, Salvage, Store};

/// How many own blocks are executed before other tasks have their turn: a node that is to end hears of it.
const OWN_RUN: u64 = 64;

/// A store that is being made.
struct Rebuilding {
    store: Store,
    salvage: Option<Salvage>,
    damage: Vec<Damage>,
    from_peers: u64,
    /// The key of the node's network.
    network: Option<[u8; 32]>,
}

impl Rebuilding {
    /// Takes a run of what the damaged store holds that is sound: each block is executed and its certificate checked, as one of a stranger is.
    /// False if that ended there.
    fn take_own(&mut self) -> Result<bool, HealError> {
        let Some(salvage) = &self.salvage else { return Ok(false) };
        let chain_id = self.store.genesis().chain_id;
        let (first, last) = (self.store.height() + 1, salvage.height());
        if first < salvage.bottom() {
            // It began by a state, and never had these.
            return Ok(false);
        }
        let objects = (first..first.saturating_add(OWN_RUN)).map_while(|height| salvage.object(chain_id, height));
        let imported = import_into(&mut self.store, objects, Store::append_unsynced);
        let next = self.store.height() + 1;
        let what = match imported {
            Ok(imported) if imported.added == OWN_RUN => return Ok(true),
            Ok(_) if last.is_none_or(|last| next > last) => return Ok(false),
            Ok(_) => "it cannot be read".to_owned(),
            Err(error) if error.is_of_elsewhere() => crate::chain::chain(&error),
            Err(error) => return Err(error.into()),
        };
        // The row of the head may be what lies of the height.
        let damage = match salvage.row_from(next) {
            Some(None) => {
                let what = format!("it has no block from {next} on, and the row of its head names a higher one");
                Damage { part: Part::File, height: None, hash: None, what, is_unread: false }
            }
            _ => Damage { part: Part::Block, height: Some(next), hash: None, what, is_unread: false },
        };
        // What was found before the store was made anew is met again on the way up.
        if !self.damage.iter().any(|known| (known.part, known.height) == (damage.part, damage.height)) {
            self.damage.push(damage);
        }
        Ok(false)
    }

    /// Whether the damaged store holds a certified block above the new one's head: then no peer is believed that the ledger ends there.
    fn goes_on(&self) -> Result<bool, HealError> {
        let Some(salvage) = &self.salvage else { return Ok(false) };
        let chain_id = self.store.genesis().chain_id;
        // It began by the state of a block that was certified: the ledger goes on at least to there.
        let bottom = salvage.bottom();
        if self.store.height() + 1 < bottom && salvage.height().is_some_and(|height| height >= bottom) {
            return Ok(true);
        }
        // Other validators may follow further up: of the blocks above, those of the ones in force now are enough. Where a network took the
        // ledger over, another one was in force before.
        let keys = [Some(LedgerKeys::of(&self.store)?.in_force()), self.network];
        let is_certified = |height| {
            salvage.object(chain_id, height).is_some_and(|object| {
                let place = BlockPlace { chain_id, height, hash: object.hash() };
                keys.iter().flatten().any(|key| object.certificate.verify(key, &place).is_ok())
            })
        };
        let mut next = Some(self.store.height() + 1);
        // Where its rows cannot be read they say nothing.
        while let Some(height) = next.and_then(|next| salvage.row_from(next).flatten()) {
            if is_certified(height) {
                return Ok(true);
            }
            next = height.checked_add(1);
        }
        Ok(false)
    }

    /// What says most about where the damage is.
    fn worst(&self) -> Damage {
        let last = self.damage.last().cloned();
        last.unwrap_or_else(|| Damage::of_file(&self.store.damaged("it cannot be used")))
    }
}

impl Healer {
    /// Makes a new store beside the old one, from block 0.
    pub(super) async fn rebuild_from(
        &self,
        salvage: Option<Salvage>,
        damage: Vec<Damage>,
    ) -> Result<Remedy, HealError> {
        let _alone = tokio::task::block_in_place(|| lock_folder(&self.path, WAIT))?;
        store::remove_leftovers(&self.path, REBUILT)?;
        let new = store::beside(&self.path, REBUILT);
        let certificate = Certificate::Genesis { key: self.genesis.ledger_key };
        Store::create(new.path(), &self.genesis, &certificate)?;
        let store = Store::open(new.path(), Access::Write, Duration::ZERO, None)?;
        let network = self.network.as_ref().map(Network::key);
        let mut rebuilding = Rebuilding { store, salvage, damage, from_peers: 0, network };
        loop {
            let before = rebuilding.store.height();
            while tokio::task::block_in_place(|| rebuilding.take_own())? {
                tokio::task::yield_now().await;
            }
            let is_over = self.take_of_peers(&mut rebuilding).await?;
            if is_over && rebuilding.store.height() == before {
                break;
            }
        }
        rebuilding.store.sync()?;
        let Rebuilding { store, damage, from_peers, .. } = rebuilding;
        let height = store.height();
        Ok(Remedy { damage, from_peers, kind: Kind::Rebuilt { new, height } })
    }

    /// Takes the next blocks of the first peer that has them; true if the ledger ends here.
    async fn take_of_peers(&self, rebuilding: &mut Rebuilding) -> Result<bool, HealError> {
        let next = rebuilding.store.height() + 1;
        // What the own store held to its end needs no peer.
        let is_whole = rebuilding.salvage.as_ref().and_then(Salvage::height).is_some_and(|height| height < next);
        let (mut problems, mut answered) = (Vec::new(), false);
        if let Some(peers) = &self.peers {
            for node in peers.in_turn() {
                let error = match self.take_of(peers, node, rebuilding).await? {
                    Ok(true) => {
                        peers.prefer(node);
                        return Ok(false);
                    }
                    Ok(false) => {
                        answered = true;
                        NodeError::form("blockhouse_getBlockObjects", format!("it has no block {next}"))
                    }
                    Err(error) => error,
                };
                problems.push(NodeProblem { node: node.clone(), error });
            }
        }
        if (is_whole || answered) && !tokio::task::block_in_place(|| rebuilding.goes_on())? {
            return Ok(true);
        }
        let damage = Box::new(rebuilding.worst());
        match self.peers {
            Some(_) => Err(HealError::Peers { damage, source: RemoteError::NoNode { problems } }),
            None => Err(HealError::NoPeers { damage }),
        }
    }

    /// The outer error is this node's, the inner one the peer's; false if it has no more blocks.
    async fn take_of(
        &self,
        peers: &Remote,
        node: &NodeUrl,
        rebuilding: &mut Rebuilding,
    ) -> Result<Result<bool, NodeError>, HealError> {
        let before = rebuilding.store.height();
        let may_follow = |object: &BlockObject| self.network.as_ref().is_none_or(|network| may_follow(object, network));
        let fetched = peers.blocks(node, before + 1, RUN).await;
        let fetched = fetched.map(|objects| objects.into_iter().take_while(may_follow).collect::<Vec<_>>());
        let objects = match fetched {
            Ok(objects) if objects.is_empty() => return Ok(self.is_of_ledger(peers, node).await.map(|()| false)),
            Ok(objects) => objects,
            Err(error) => return Ok(Err(error)),
        };
        let imported =
            tokio::task::block_in_place(|| import_into(&mut rebuilding.store, objects, Store::append_unsynced));
        let taken = rebuilding.store.height() - before;
        rebuilding.from_peers += taken;
        match imported {
            Err(error) if error.is_of_elsewhere() && taken == 0 => Ok(Err(NodeError::Blocks(Box::new(error)))),
            Err(error) if !error.is_of_elsewhere() => Err(error.into()),
            _ => Ok(Ok(true)),
        }
    }

    /// A peer without more blocks must at least have begun as this ledger did.
    async fn is_of_ledger(&self, peers: &Remote, node: &NodeUrl) -> Result<(), NodeError> {
        let first = peers.blocks(node, 0, 1).await?.into_iter().next();
        match first.map(|first| first.hash()) {
            Some(hash) if hash == self.genesis.hash() => Ok(()),
            Some(hash) => Err(NodeError::OtherGenesis { found: hash.to_string() }),
            None => Err(NodeError::OtherGenesis { found: "missing".to_owned() }),
        }
    }
}
