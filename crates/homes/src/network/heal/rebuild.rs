//! Making a store anew: from block 0, executing every block again.

use std::time::Duration;

use blockhouse_ledger::certificate::Certificate;

use super::{HealError, Healer, Kind, REBUILT, Remedy, WAIT};
use crate::embedded::{import_into, lock_folder};
use crate::remote::{NodeError, NodeProblem, NodeUrl, RUN, Remote, RemoteError};
use crate::store::{self, Access, Damage, Part, Salvage, Store};

/// A store that is being made.
struct Rebuilding {
    store: Store,
    salvage: Option<Salvage>,
    damage: Vec<Damage>,
    from_peers: u64,
}

impl Rebuilding {
    /// Takes what the damaged store holds that is sound: each block is executed and its certificate checked, as one of a stranger is.
    fn take_own(&mut self, chain_id: u64) -> Result<(), HealError> {
        let Some(salvage) = &self.salvage else { return Ok(()) };
        let (first, last) = (self.store.height() + 1, salvage.height());
        let objects = (first..).map_while(|height| salvage.object(chain_id, height));
        let imported = import_into(&mut self.store, objects, Store::append_unsynced);
        let next = self.store.height() + 1;
        let what = match imported {
            Ok(_) if last.is_none_or(|last| next > last) => return Ok(()),
            Ok(_) => "it cannot be read".to_owned(),
            Err(error) if error.is_of_elsewhere() => crate::chain::chain(&error),
            Err(error) => return Err(error.into()),
        };
        let damage = Damage { part: Part::Block, height: Some(next), hash: None, what, is_unread: false };
        if self.damage.last() != Some(&damage) {
            self.damage.push(damage);
        }
        Ok(())
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
        let mut rebuilding = Rebuilding { store, salvage, damage, from_peers: 0 };
        loop {
            let before = rebuilding.store.height();
            tokio::task::block_in_place(|| rebuilding.take_own(self.genesis.chain_id))?;
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

    /// Takes the next blocks of the first peer that has them; true if there are none.
    async fn take_of_peers(&self, rebuilding: &mut Rebuilding) -> Result<bool, HealError> {
        let next = rebuilding.store.height() + 1;
        // What the own store held to its end needs no peer.
        let is_whole = rebuilding.salvage.as_ref().and_then(Salvage::height).is_some_and(|height| height < next);
        let Some(peers) = &self.peers else {
            let damage = rebuilding.worst();
            return if is_whole { Ok(true) } else { Err(HealError::NoPeers { damage: Box::new(damage) }) };
        };
        let (mut problems, mut answered) = (Vec::new(), false);
        for node in peers.in_turn() {
            match self.take_of(peers, node, rebuilding).await? {
                Ok(true) => {
                    peers.prefer(node);
                    return Ok(false);
                }
                Ok(false) => answered = true,
                Err(error) => problems.push(NodeProblem { node: node.clone(), error }),
            }
        }
        if is_whole || answered {
            return Ok(true);
        }
        let damage = Box::new(rebuilding.worst());
        Err(HealError::Peers { damage, source: RemoteError::NoNode { problems } })
    }

    /// The outer error is this node's, the inner one the peer's; false if it has no more blocks.
    async fn take_of(
        &self,
        peers: &Remote,
        node: &NodeUrl,
        rebuilding: &mut Rebuilding,
    ) -> Result<Result<bool, NodeError>, HealError> {
        let before = rebuilding.store.height();
        let objects = match peers.blocks(node, before + 1, RUN).await {
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
