//! From one set of validators to the next: which network a node takes part in, and the engine that runs for it.
//!
//! The engine of a tenure ends with the closing block. It goes on for a moment after that block is final here, so that the other nodes make it
//! final too; then it is stopped, and the engine of the next tenure begins above that block, with journals of its own.
//!
//! - **Owns** the engine of the node, the tasks that carry its gossip, and when one follows another.
//! - **Does not** know which votes were given: the engine's folder does.
//!
//! # Invariants
//! - **E1** An engine begins above a block that is final here, and runs for the validators that the state after that block names.
//! - **E2** Two engines of a node never run at once.
//!
//! Format: `docs/design/consensus.md`, section *Succession*.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::B256;
use blockhouse_consensus::{
    self as consensus, Base, Engine, EngineError, Gossip, Handle, Inbox, Kind, Network, is_address, is_node_key,
};
use blockhouse_ledger::validators::{Member, Tenure, government, members, tenures};
use blockhouse_types::BlockHash;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::chain::{Chain, ChainError};
use super::config::{ConfigError, NodeConfig};
use super::folder::NodeFolder;
use super::forks::Eye;
use super::network_file::NetworkFile;
use super::node::{News, NodeError, hear, tell};
use super::operator::introduce;
use super::orderer::Orderer;
use super::resharing::Resharing;
use super::shares::Held;
use super::waiting::Waiting;
use crate::embedded::{LedgerKeys, link_at};
use crate::store::Store;

/// How long an engine goes on after its closing block is final here: views enough for the other nodes to see it final too.
const HANDING_OVER: Duration = Duration::from_secs(2);
/// Where nobody is reached: the address of a validator that names none.
const NOWHERE: &str = "0.0.0.0:0";

/// Who keeps the ledger above the head of a store.
#[derive(Debug)]
pub(super) struct Now {
    /// What all its nodes agree on.
    pub(super) network: Network,
    /// The nodes of its set, and of the one that the ledger names for its epoch; none where the ledger says nothing.
    members: Vec<Member>,
    /// The validators of the tenure before.
    former: Vec<[u8; 32]>,
}

impl Now {
    /// As the state after the head says; before any succession, as the network file does.
    pub(super) fn of(store: &Store, file: &NetworkFile) -> Result<Self, ChainError> {
        let (genesis, head) = (store.genesis(), store.head().header());
        let next = head.number.saturating_add(1);
        let failed = |error| ChainError::of_call(store, error);
        // Before the handover to this network is final the state names those before (ledger T3).
        let is_own = file.handover.is_none() || head.number > file.network.base().height;
        let governed = if is_own { government(genesis, head, store).map_err(failed)? } else { None };
        let Some(governed) = governed else {
            return Ok(Self { network: file.network.clone(), members: Vec::new(), former: Vec::new() });
        };
        let mut all = tenures(genesis, head, store, next).map_err(failed)?;
        all.retain(|tenure| tenure.first > governed.since);
        let set = |epoch| members(genesis, head, store, epoch).map_err(failed);
        let mut members = set(next / governed.epoch_length)?;
        // The set that keeps the ledger may not be the one that the contract names: it was passed over, or has no shares yet.
        let known: Vec<_> = members.iter().map(|member| member.key).collect();
        let kept = set(all.last().map_or(governed.since / governed.epoch_length, |tenure| tenure.set))?;
        members.extend(kept.into_iter().filter(|member| !known.contains(&member.key)));
        let Some(last) = all.pop() else {
            return Ok(Self { network: file.network.clone(), members, former: Vec::new() });
        };
        let former = all.pop().map_or_else(|| file.network.validators(), |tenure| tenure.voters);
        Ok(Self { network: network_of(store, &last)?, members, former })
    }

    /// Where its validators are: as the operator says, else as the ledger does. What the operator has from the founding is not his own word:
    /// the ledger knows better where a founder went since.
    fn addresses(
        &self,
        mut told: BTreeMap<[u8; 32], String>,
        founders: &BTreeMap<[u8; 32], &str>,
    ) -> BTreeMap<[u8; 32], String> {
        if self.members.is_empty() {
            // Where the ledger names nobody, the operator must.
            return told;
        }
        let hint = |key: &[u8; 32]| {
            let member = self.members.iter().find(|member| member.key == *key);
            member.map(|member| member.address.clone()).filter(|hint| is_address(hint))
        };
        for key in self.network.validators() {
            let is_own = told.get(&key).is_some_and(|address| founders.get(&key) != Some(&address.as_str()));
            match hint(&key).filter(|_| !is_own) {
                Some(hint) => drop(told.insert(key, hint)),
                None => {
                    told.entry(key).or_insert_with(|| NOWHERE.to_owned());
                }
            }
        }
        told
    }

    /// Who is let in beside the validators: whom the operator names, whom the ledger names, and who has just left.
    fn followers(&self, mut told: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
        // The contract takes any 32 bytes: nobody can come with those that are no key.
        let named = self.members.iter().filter(|member| !member.votes && is_node_key(&member.key));
        let named = named.map(|member| member.key);
        told.extend(named.chain(self.former.iter().copied()));
        let validators = self.network.validators();
        told.retain(|key| is_node_key(key) && validators.binary_search(key).is_err());
        told.sort_unstable();
        told.dedup();
        told
    }
}

/// Who keeps the ledger above the head of a store, as the state there says; before any succession, as the network file does.
pub fn network_above(store: &Store, file: &NetworkFile) -> Result<Network, ChainError> {
    Now::of(store, file).map(|now| now.network)
}

fn network_of(store: &Store, tenure: &Tenure) -> Result<Network, ChainError> {
    let height = tenure.first.saturating_sub(1);
    let hash = closing_hash(store, height)?;
    let base = Base { height, hash: BlockHash::new(hash.0) };
    let failed = |source| ChainError::Validators { epoch: tenure.epoch, source };
    let kind = tenure.polynomial.as_ref().map_or(Ok(Kind::Committee), |polynomial| Kind::sharing(polynomial));
    let kind = kind.map_err(failed)?;
    Network::try_new(store.genesis().chain_id, tenure.epoch, base, &tenure.voters, kind).map_err(failed)
}

/// The tenures of a ledger up to the one in which its head is.
pub(super) fn held(store: &Store, file: &NetworkFile) -> Result<Held, ChainError> {
    // T3: who took the ledger over never shares one key.
    if file.handover.is_some() {
        return Ok(Held { former: Vec::new(), current: file.network.clone() });
    }
    let tenures = tenures(store.genesis(), store.head().header(), store, store.height());
    let tenures = tenures.map_err(|error| ChainError::of_call(store, error))?;
    let (mut former, mut current) = (Vec::new(), file.network.clone());
    for tenure in &tenures {
        former.push(std::mem::replace(&mut current, network_of(store, tenure)?));
    }
    Ok(Held { former, current })
}

/// The hash of a closing block. A store that began by a state has at least what leads from key to key.
fn closing_hash(store: &Store, height: u64) -> Result<B256, ChainError> {
    if store.expect_here(height).is_err() {
        let keys = LedgerKeys::of(store).map_err(ChainError::Keys)?;
        return Ok(link_at(store, &keys, height).map_err(ChainError::Keys)?.header.hash_slow());
    }
    Ok(store.hash_at(height)?.ok_or_else(|| store.damaged(format!("block {height} has no hash")))?)
}

/// Where validators are, and who is let in besides.
pub(super) type Peers = (BTreeMap<[u8; 32], String>, Vec<[u8; 32]>);

/// The engine of a node, whichever it is at the moment.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    current: Arc<RwLock<(Arc<Handle>, Arc<Network>)>>,
}

impl Seat {
    /// The engine that runs, or ran last.
    pub(super) fn engine(&self) -> Arc<Handle> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What it runs for.
    pub(super) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).1)
    }
}

/// What the engines of a node begin with.
#[derive(Clone)]
pub(super) struct Engines {
    pub(super) folder: PathBuf,
    pub(super) config_path: PathBuf,
    pub(super) file: NetworkFile,
    /// What the operator says, as it is now.
    pub(super) told: Arc<watch::Sender<NodeConfig>>,
    /// Where its keys are.
    pub(super) node: NodeFolder,
    /// How it hands the network's one key on, if there is one.
    pub(super) resharing: Option<Resharing>,
    /// The store took blocks of peers before this start.
    pub(super) jumped: bool,
    /// What it knows of forks.
    pub(super) eye: Arc<Eye>,
    pub(super) chain: Arc<Chain>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) orderer: Arc<Orderer>,
}

impl Engines {
    /// Starts the engine of the tenure in which the ledger stands.
    fn start(&self) -> Result<(Handle, Inbox, Network), NodeError> {
        let now = self.take_part()?;
        let ((addresses, followers), config) = (self.peers(&now)?, self.told.borrow().clone());
        let settings = consensus::Config {
            network: now.network.clone(),
            addresses,
            followers,
            listen: config.listen,
            never_voted: false,
            keep_blocks: config.sync.keep_blocks,
            jumped: self.jumped,
            silent: self.eye.silences(&self.chain.head()).is_some(),
        };
        let keys = self.node.keys_for(&now.network)?;
        let (handle, inbox) = Engine::start(settings, keys, Arc::clone(&self.orderer), &self.folder)?;
        Ok((handle, inbox, now.network))
    }

    /// Where the validators are, and who is let in beside them, as the operator and the ledger have it now.
    fn peers(&self, now: &Now) -> Result<Peers, ConfigError> {
        let config = self.told.borrow().clone();
        let told = config.validator_addresses(&self.config_path)?;
        let governance = self.file.governance();
        let founders = governance.iter().flat_map(|governance| &governance.validators);
        let founders = founders.map(|founder| (founder.key, founder.address.as_str())).collect();
        Ok((now.addresses(told, &founders), now.followers(config.follower_keys(&self.config_path)?)))
    }

    /// The same for the engine that runs; nothing while another is about to follow.
    pub(super) fn peers_now(&self) -> Result<Option<Peers>, NodeError> {
        let now = Now::of(&self.chain.head(), &self.file)?;
        Ok(if self.chain.is_over() { None } else { Some(self.peers(&now)?) })
    }

    /// The epoch of the next block; of a ledger that is not governed there is one.
    pub(super) fn epoch(&self) -> u64 {
        let length = self.file.governance().map(|governance| governance.epoch_length);
        length.map_or(0, |length| self.chain.head().height().saturating_add(1) / length)
    }

    /// Takes part in the tenure in which the ledger stands. It may pass the end of one meanwhile: blocks come another way than by an engine too.
    fn take_part(&self) -> Result<Now, ChainError> {
        loop {
            let now = Now::of(&self.chain.head(), &self.file)?;
            self.chain.begin(&now.network);
            if Now::of(&self.chain.head(), &self.file)?.network == now.network {
                return Ok(now);
            }
        }
    }

    /// Starts the first one; the rest is done by [`Running::keep`].
    pub(super) fn begin(self) -> Result<Running, NodeError> {
        let (handle, inbox, network) = self.start()?;
        let seat = Seat { current: Arc::new(RwLock::new((Arc::new(handle), Arc::new(network)))) };
        Ok(Running { engines: self, seat, inbox })
    }
}

/// Engines of which the first one runs.
pub(super) struct Running {
    engines: Engines,
    pub(super) seat: Seat,
    inbox: Inbox,
}

impl Running {
    /// Lets one engine follow another until the node fails or an engine does; says why.
    pub(super) async fn keep(self, news: mpsc::Sender<News>) {
        let Self { engines, seat, mut inbox } = self;
        loop {
            let mut talk = JoinSet::new();
            let gossip: Gossip = seat.engine().gossip();
            talk.spawn(hear(Arc::clone(&engines.waiting), inbox));
            talk.spawn(tell(Arc::clone(&engines.waiting), gossip));
            talk.spawn(introduce(engines.clone(), seat.engine()));
            if let Some((resharing, post)) = engines.resharing.clone().zip(seat.engine().post()) {
                talk.spawn(resharing.run(seat.network(), post));
            }
            match run_out(&engines, &seat.engine()).await {
                Ended::Failed => return,
                Ended::Engine(error) => {
                    let _ = news.send(News::Failed(NodeError::Ended(error))).await;
                    return;
                }
                Ended::Over => {}
            }
            talk.shutdown().await;
            // E2: its port and its folder are free when it has ended.
            seat.engine().end_soon();
            let _ = seat.engine().ended().await;
            match engines.start() {
                Ok((handle, next, network)) => {
                    inbox = next;
                    let current = (Arc::new(handle), Arc::new(network));
                    let old =
                        std::mem::replace(&mut *seat.current.write().unwrap_or_else(PoisonError::into_inner), current);
                    // Its thread has ended: nothing is waited for.
                    drop(old);
                }
                Err(error) => {
                    let _ = news.send(News::Failed(error)).await;
                    return;
                }
            }
        }
    }
}

/// How the time of an engine ended.
enum Ended {
    /// Other validators follow.
    Over,
    /// The node takes no part any more: who heals it has the word.
    Failed,
    /// The engine failed by itself.
    Engine(EngineError),
}

/// Waits until the time of the engine is over, and it has been so for a moment.
async fn run_out(engines: &Engines, engine: &Handle) -> Ended {
    let (mut heights, mut failure) = (engines.orderer.heights(), engines.orderer.failure());
    let over = async {
        while !engines.chain.is_over() {
            // The orderer is held by who waits here.
            let _ = heights.changed().await;
        }
        tokio::time::sleep(HANDING_OVER).await;
    };
    tokio::select! {
        () = over => Ended::Over,
        _ = failure.wait_for(Option::is_some) => {
            // Nothing more is written to a store that is not sound.
            engine.end_soon();
            Ended::Failed
        }
        ended = engine.ended() => match ended {
            _ if engines.orderer.failure().borrow().is_some() => Ended::Failed,
            Err(error) => Ended::Engine(error),
            // Nobody asked it to end: a part of it did.
            Ok(()) => Ended::Engine(EngineError::Ended { part: "engine" }),
        },
    }
}
