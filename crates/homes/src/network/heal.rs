//! Healing: what is altered in a node's store is put back, from the other nodes and from what is still sound.
//!
//! - **Owns** what is done about which damage, and in which order files are written.
//! - **Does not** decide when: the node is out of agreement meanwhile. Peers are believed nothing: a block of theirs is taken if the chain
//!   above it, or its execution and its certificate, say that it is the one.
//!
//! A block, a certificate or a row of an index is put back alone. Where receipts, the state or the file are damaged, the store is made anew
//! from block 0 by executing all blocks again: the own ones as far as they are sound, peers' for the others.
//!
//! # Invariants
//! - **H1** While it is prepared, nothing of the store is changed. [`Remedy::apply`] is one durable transaction, or one rename.
//! - **H2** A damaged store is kept under another name when it is replaced.
//! - **H3** A store of another ledger is never healed.
//! - **H4** A kill at any instant leaves the damaged store or the healed one.

mod rebuild;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockhouse_consensus::Network;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::genesis::Genesis;

use super::scrub::Pass;
use crate::embedded::{HomeError, LedgerKeys, lock_folder, replace};
use crate::remote::{NodeError, NodeProblem, Remote, RemoteError};
use crate::store::{Access, Beside, Damage, Part, Salvage, Store, StoreError};

/// How long another process that heals or reads the same store is waited for.
const WAIT: Duration = Duration::from_secs(10);
/// What a store that is being made is called.
const REBUILT: &str = "rebuilt";
/// How many steps of a survey are taken before other tasks have their turn.
const STEPS: usize = 64;

/// Why a store is not healed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HealError {
    #[error(
        "{damage}; this node knows no other from which it could heal: name some in `rpc_peers` of its node.toml, then start it again"
    )]
    NoPeers { damage: Box<Damage> },
    #[error("{damage}; and no other node has what heals it")]
    Peers {
        damage: Box<Damage>,
        #[source]
        source: RemoteError,
    },
    /// Nothing says that it was altered: where the disk gives nothing back, nothing is healed.
    #[error("{damage}")]
    Unread { damage: Box<Damage> },
    #[error("the ledger in {} begins otherwise than the `network` file says: it is of another ledger, and is not touched", path.display())]
    OtherGenesis { path: PathBuf },
    #[error("the store of the ledger could not be mended")]
    Store(#[from] StoreError),
    #[error("the store of the ledger could not be made anew")]
    Home(#[from] HomeError),
}

impl HealError {
    /// What was found to be altered, and is not healed by that.
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::NoPeers { damage } | Self::Peers { damage, .. } => Some(damage),
            Self::Unread { .. } | Self::OtherGenesis { .. } | Self::Store(_) | Self::Home(_) => None,
        }
    }
}

/// Who heals the store of one node.
#[derive(Debug, Clone)]
pub struct Healer {
    path: PathBuf,
    genesis: Genesis,
    peers: Option<Remote>,
    /// The key of the network, if it may not be in force yet at what a store that is made anew holds.
    network: Option<Network>,
}

/// What heals a store. It is applied while nobody has the store open.
#[derive(Debug)]
pub struct Remedy {
    damage: Vec<Damage>,
    from_peers: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// These blocks go where they belong.
    Mend(Vec<BlockObject>),
    /// This store takes the place of the damaged one.
    Rebuilt { new: Beside, height: u64 },
}

/// What was healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// What was wrong.
    pub damage: Vec<Damage>,
    /// How many blocks came from other nodes.
    pub from_peers: u64,
    /// The height of the store that was made anew, if it was.
    pub rebuilt: Option<u64>,
    /// Where the damaged store is kept, if it was replaced.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Healed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rebuilt {
            Some(height) => write!(f, "the store was made anew up to block {height}")?,
            None => write!(f, "{} blocks were written anew", self.damage.len())?,
        }
        write!(f, ", {} blocks came from other nodes", self.from_peers)?;
        match &self.kept {
            Some(kept) => write!(f, "; the damaged store is kept as {}", kept.display()),
            None => Ok(()),
        }
    }
}

impl Healer {
    /// For the store at that path, of that ledger, with these other nodes.
    pub fn new(path: PathBuf, genesis: Genesis, peers: Option<Remote>) -> Self {
        Self { path, genesis, peers, network: None }
    }

    /// The same of a node of the network of that key.
    #[must_use]
    pub fn of_network(self, network: Network) -> Self {
        Self { network: Some(network), ..self }
    }

    /// The same, asking other nodes.
    #[must_use]
    pub(super) fn asking(self, peers: Option<Remote>) -> Self {
        Self { peers, ..self }
    }

    /// Examines all of an open store, and gathers what heals it; nothing if it is sound.
    pub async fn examine(&self, store: &Store) -> Result<Option<Remedy>, HealError> {
        if *store.genesis() != self.genesis {
            return Err(HealError::OtherGenesis { path: self.path.clone() });
        }
        let mut survey = match Pass::whole(store) {
            Ok(pass) => Survey::of(pass),
            Err(damage) => return self.rebuild_for(store, vec![damage]).await.map(Some),
        };
        while let Some(damage) = survey.next(store) {
            tokio::task::yield_now().await;
            let Some(damage) = damage else { continue };
            let mendable = !damage.is_unread && matches!(damage.part, Part::Block | Part::Certificate | Part::Index);
            let (true, Some(height), Some(hash)) = (mendable, damage.height, damage.hash) else {
                survey.damage.push(damage);
                return self.rebuild_for(store, survey.damage).await.map(Some);
            };
            self.gather(store, &mut survey, damage, (height, hash.0)).await?;
        }
        let Survey { damage, objects, from_peers, .. } = survey;
        let remedy = Remedy { damage, from_peers, kind: Kind::Mend(objects) };
        Ok((!remedy.damage.is_empty()).then_some(remedy))
    }

    /// Gathers what heals a store that cannot be opened, or is gone.
    pub async fn examine_closed(&self, error: &StoreError) -> Result<Remedy, HealError> {
        let salvage = Salvage::open(&self.path, WAIT).ok();
        let other = salvage.as_ref().and_then(Salvage::genesis).filter(|genesis| *genesis != self.genesis);
        if other.is_some() {
            return Err(HealError::OtherGenesis { path: self.path.clone() });
        }
        let mut remedy = self.rebuild_from(salvage, vec![Damage::of_file(error)]).await?;
        if remedy.damage.len() == 1 {
            remedy.damage.extend(self.first_damage().await);
        }
        Ok(remedy)
    }

    /// What a store that cannot be opened to write shows when it is only read: no block of it was missed, so it is something else.
    async fn first_damage(&self) -> Option<Damage> {
        let open = || Salvage::open(&self.path, WAIT).ok()?.store().ok();
        let store = tokio::task::block_in_place(open)?;
        let mut survey = match Pass::whole(&store) {
            Ok(pass) => Survey::of(pass),
            Err(damage) => return Some(damage),
        };
        while let Some(damage) = survey.next(&store) {
            if damage.is_some() {
                return damage;
            }
            tokio::task::yield_now().await;
        }
        None
    }

    /// Finds the block that belongs to that height, here or at a peer, and lets the survey go on below it.
    async fn gather(
        &self,
        store: &Store,
        survey: &mut Survey,
        damage: Damage,
        (height, hash): (u64, [u8; 32]),
    ) -> Result<(), HealError> {
        let keys = LedgerKeys::of(store)?;
        let judge = |object: &BlockObject| {
            let place = BlockPlace { chain_id: self.genesis.chain_id, height, hash: object.hash() };
            let is_same = object.chain_id == place.chain_id && place.hash.to_bytes() == hash;
            let certified = object.certificate.verify(&keys.at(height), &place);
            if is_same { certified.map_err(|error| error.to_string()) } else { Err("it is another one".to_owned()) }
        };
        let own = Salvage::of(store).object(self.genesis.chain_id, height).filter(|object| judge(object).is_ok());
        let object = match own {
            // Only the way to it is lost.
            Some(object) if damage.part == Part::Index => object,
            _ => {
                survey.from_peers += 1;
                self.fetch_one(&damage, height, judge).await?
            }
        };
        let transactions = object.block.body.transactions.len() as u64;
        survey.pass.skip(object.block.header.parent_hash, transactions);
        survey.damage.push(damage);
        survey.objects.push(object);
        Ok(())
    }

    async fn fetch_one(
        &self,
        damage: &Damage,
        height: u64,
        judge: impl Fn(&BlockObject) -> Result<(), String>,
    ) -> Result<BlockObject, HealError> {
        let peers = self.peers(damage)?;
        let mut problems = Vec::new();
        for node in peers.in_turn() {
            let error = match peers.blocks(node, height, 1).await {
                Ok(objects) => match objects.into_iter().next().map(|object| (judge(&object), object)) {
                    Some((Ok(()), object)) => {
                        peers.prefer(node);
                        return Ok(object);
                    }
                    Some((Err(why), _)) => {
                        NodeError::form("blockhouse_getBlockObjects", format!("block {height}: {why}"))
                    }
                    None => NodeError::form("blockhouse_getBlockObjects", format!("it has no block {height}")),
                },
                Err(error) => error,
            };
            problems.push(NodeProblem { node: node.clone(), error });
        }
        let source = RemoteError::NoNode { problems };
        Err(HealError::Peers { damage: Box::new(damage.clone()), source })
    }

    fn peers(&self, damage: &Damage) -> Result<&Remote, HealError> {
        self.peers.as_ref().ok_or_else(|| HealError::NoPeers { damage: Box::new(damage.clone()) })
    }

    async fn rebuild_for(&self, store: &Store, damage: Vec<Damage>) -> Result<Remedy, HealError> {
        if let Some(damage) = damage.iter().find(|damage| damage.is_unread) {
            return Err(HealError::Unread { damage: Box::new(damage.clone()) });
        }
        self.rebuild_from(Some(Salvage::of(store)), damage).await
    }
}

/// A survey of an open store, from the head down.
struct Survey {
    pass: Pass,
    damage: Vec<Damage>,
    objects: Vec<BlockObject>,
    from_peers: u64,
}

impl Survey {
    fn of(pass: Pass) -> Self {
        Self { pass, damage: Vec::new(), objects: Vec::new(), from_peers: 0 }
    }

    /// Goes on for some steps; nothing at the end, else what was found, if anything.
    #[expect(clippy::option_option, reason = "at the end, nothing found, something found")]
    fn next(&mut self, store: &Store) -> Option<Option<Damage>> {
        tokio::task::block_in_place(|| {
            for _ in 0..STEPS {
                match self.pass.step(store) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(damage) => return Some(Some(damage)),
                }
            }
            Some(None)
        })
    }
}

impl Remedy {
    /// What is wrong.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The height of the store that takes the place of the damaged one, if one does.
    pub(super) const fn rebuilt(&self) -> Option<u64> {
        match &self.kind {
            Kind::Rebuilt { height, .. } => Some(*height),
            Kind::Mend(_) => None,
        }
    }

    /// Heals the store at that path, which nobody has open. An error that [is healed by replay](StoreError::is_healed_by_replay) says that the
    /// file is worse than it seemed.
    pub fn apply(self, path: &Path) -> Result<Healed, HealError> {
        let Self { damage, from_peers, kind } = self;
        let (rebuilt, kept) = match kind {
            Kind::Mend(objects) => {
                Store::open(path, Access::Write, WAIT, None)?.mend(&objects)?;
                (None, None)
            }
            Kind::Rebuilt { new, height } => {
                let _alone = lock_folder(path, WAIT)?;
                (Some(height), replace(new.path(), path)?)
            }
        };
        Ok(Healed { damage, from_peers, rebuilt, kept })
    }
}
