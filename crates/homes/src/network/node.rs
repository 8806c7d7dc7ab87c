//! A running node: its ledger, what waits for it, the engine that agrees with other nodes, and the door for clients.
//!
//! - **Owns** the order in which these start and end, and the tasks between them.
//! - **Does not** do their work, nor start again: [`keep`](super::keep()) does.
//!
//! # Invariants
//! - **Y1** Everything that was started ends with the node: it is stopped, or dropped.
//! - **Y2** A node whose store failed takes no part in agreeing any more, and goes on answering whatever is sound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, hex};
use blockhouse_consensus::{EngineError, Gossip, Inbox, Keys, Role, StartError};
use blockhouse_crypto::AccountSecret;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use super::alarms::Alarms;
use super::anchoring::Schedule;
use super::attesting::Attesting;
use super::backend::{Itself, NodeBackend};
use super::chain::{Chain, ChainError};
use super::clock::SystemClock;
use super::config::{AnchorConfig, ConfigError, NodeConfig, RpcConfig};
use super::folder::{FolderError, NodeFolder};
use super::forks::{self, Eye};
use super::heal::{HealError, Healer, Remedy};
use super::metrics;
use super::network_file::NetworkFile;
use super::operator::{self, Asking};
use super::orderer::Orderer;
use super::pool::journal::{Journal, JournalError};
use super::releases::Releases;
use super::resharing::{HandingOn, Resharing};
use super::scrub;
use super::signs::ForkSign;
use super::speaker::{Speaker, address};
use super::sync::{Shelf, SyncError, Trouble};
use super::tenure::{Engines, Seat};
use super::waiting::Waiting;
use super::witness::Witness;
use crate::embedded::HomeError;
use crate::external::{KeyFileError, read_account_key};
use crate::forks::KeptFork;
use crate::remote::{NodeUrl, Remote, RemoteError};
use crate::rpc::server::Gate;
use crate::rpc::{Limits, Server, ServerError, ServerOptions};
use crate::store::{Store, StoreError};

/// How often the pool's journal is looked at: it is written anew when most of it is done.
const TIDY: Duration = Duration::from_mins(1);
/// The longest pause between two looks at what is to be sent to peers.
const GOSSIP_LOOK: Duration = Duration::from_secs(5);
/// The pause before other nodes are asked again for what heals the store: one of them may be starting. Each is twice as long as the last one,
/// for the store is examined again.
pub(super) const HEAL_AGAIN: Duration = Duration::from_secs(10);
/// The longest such pause.
pub(super) const HEAL_AGAIN_MAX: Duration = Duration::from_mins(10);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("could not open the ledger of the node")]
    Store(#[from] StoreError),
    #[error("the ledger in {} begins otherwise than its `network` file says", path.display())]
    OtherGenesis { path: PathBuf },
    #[error(
        "the ledger of the node ends at block {height}, its network begins above block {base}, and it knows no other node that has what lies between"
    )]
    NoPast { height: u64, base: u64 },
    #[error("the ledger of the node has block {found} at height {height}, its network begins above {expected}")]
    OtherPast { height: u64, found: B256, expected: B256 },
    #[error("what the ledger held before its network took it over could not be taken in")]
    Past(#[source] HomeError),
    #[error(
        "the ledger was handed over to others at block {height}, to the key {}, as the node at {by} shows: the network of this node has ended, and it takes no part any more",
        hex::encode(key)
    )]
    HandedOver { height: u64, key: [u8; 32], by: NodeUrl },
    #[error("could not heal the ledger of the node")]
    Heal(#[source] HealError),
    #[error("the ledger of the node was healed {times} times and is damaged again: its disk cannot be trusted")]
    DamagedAgain { times: u32 },
    #[error(
        "the ledger of the node and the journal of its votes are lost, and no other node has a block yet: whether this node voted before cannot be known"
    )]
    NothingLeft,
    #[error(
        "the node failed {times} times in a row over a store that was sound whenever it was examined, the last time for: {why}"
    )]
    FailedAgain { times: u32, why: String },
    #[error("the nodes in `rpc_peers` cannot be asked")]
    Peers(#[source] RemoteError),
    #[error("the node could not catch up with its network")]
    Sync(#[from] SyncError),
    #[error("the ledger of the node cannot go on")]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("could not start the engine")]
    Engine(#[from] StartError),
    #[error("could not listen for metrics at {address}")]
    Metrics {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("could not serve JSON-RPC")]
    Server(#[from] ServerError),
    #[error("the evidence of forks in the node's folder cannot be read")]
    Forks(#[source] HomeError),
    #[error("the key that pays for anchors cannot be used")]
    AnchorKey(#[from] KeyFileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the engine of the node ended")]
    Ended(#[source] EngineError),
}

impl From<HealError> for NodeError {
    fn from(error: HealError) -> Self {
        match error {
            HealError::OtherGenesis { path } => Self::OtherGenesis { path },
            other => Self::Heal(other),
        }
    }
}

/// What a node of a folder is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: NetworkFile,
    pub(super) config: NodeConfig,
    pub(super) healer: Healer,
    /// The nodes from which it heals, and takes what its engine does not bring.
    pub(super) peers: Option<Remote>,
    /// Its store took blocks of peers before this start.
    pub(super) jumped: bool,
    /// How often its store was healed since the process began.
    pub(super) healed: u64,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    backend: NodeBackend,
    server: Server,
    tasks: JoinSet<()>,
    /// Those that ask other nodes.
    asked: Arc<Mutex<JoinSet<()>>>,
    damaged_pool: Option<PathBuf>,
    /// What its operator says.
    told: Arc<watch::Sender<NodeConfig>>,
    news: mpsc::Receiver<News>,
}

/// What happens to a running node.
#[derive(Debug)]
pub(super) enum News {
    /// Its store was altered, and this heals it: it is to be stopped for that.
    Remedy(Remedy),
    /// Nothing heals it yet.
    Trouble(HealError),
    /// What its operator wrote is no configuration.
    Misread(ConfigError),
    /// It failed, and its store is sound: it may start again.
    Sound,
    /// Its ledger is forked.
    Fork(Box<KeptFork>),
    /// It may be.
    Sign(Box<ForkSign>),
    /// It is to start again, and give no vote.
    Silenced,
    /// It cannot go on.
    Failed(NodeError),
}

/// What a node keeps and records, made before its engine and shared by all that runs in it.
struct Trunk {
    chain: Arc<Chain>,
    waiting: Arc<Waiting>,
    orderer: Arc<Orderer>,
    eye: Arc<Eye>,
    speaker: Speaker,
    /// What its operator says.
    told: Arc<watch::Sender<NodeConfig>>,
    /// How its network's one key is handed on.
    handing_on: HandingOn,
    damaged_pool: Option<PathBuf>,
}

impl Trunk {
    fn open(folder: &NodeFolder, parts: &Parts, mut store: Store, account: AccountSecret) -> Result<Self, NodeError> {
        let file = &parts.file;
        // At once only after an earlier version wrote to it.
        store.index_events()?;
        let chain = Arc::new(Chain::open(store, file.network.key())?.opened_by(file));
        let (journal, recovered) = Journal::open(&folder.journal())?;
        let waiting = Arc::new(Waiting::open(Arc::clone(&chain), journal, &recovered));
        let eye = Arc::new(Eye::open(folder.forks(), file).map_err(NodeError::Forks)?);
        let orderer = Orderer::new(Arc::clone(&chain), Arc::clone(&waiting), Arc::new(SystemClock));
        let orderer = Arc::new(orderer.watched_by(Arc::clone(&eye)));
        let speaker = Speaker::new(Arc::clone(&chain), Arc::clone(&waiting), account, orderer.heights());
        let (told, handing_on) = (Arc::new(watch::channel(parts.config.clone()).0), HandingOn::default());
        Ok(Self { chain, waiting, orderer, eye, speaker, told, handing_on, damaged_pool: recovered.damaged })
    }

    fn engines(&self, folder: &NodeFolder, parts: &Parts) -> Engines {
        let file = &parts.file;
        let hands_on = file.governance().is_some_and(|governance| governance.group.is_some());
        let resharing = hands_on.then(|| Resharing {
            folder: folder.clone(),
            file: file.clone(),
            chain: Arc::clone(&self.chain),
            speaker: self.speaker.clone(),
            told: Arc::clone(&self.handing_on),
        });
        Engines {
            folder: folder.engine(),
            config_path: folder.config(),
            file: file.clone(),
            told: Arc::clone(&self.told),
            node: folder.clone(),
            resharing,
            jumped: parts.jumped,
            eye: Arc::clone(&self.eye),
            chain: Arc::clone(&self.chain),
            waiting: Arc::clone(&self.waiting),
            orderer: Arc::clone(&self.orderer),
        }
    }
}

impl Node {
    /// Starts the node of that folder, over a store that is sound.
    pub(super) async fn start(folder: &NodeFolder, parts: &Parts, store: Store) -> Result<Self, NodeError> {
        let (file, config) = (&parts.file, &parts.config);
        let keys = folder.read_keys()?;
        let (key, account) = (keys.public(), keys.account());
        let trunk = Trunk::open(folder, parts, store, account.clone())?;
        // While it gives no vote its journal waits: when it votes again, what came meanwhile is a jump.
        let is_silenced = trunk.eye.silences(&trunk.chain.head()).is_some();
        if is_silenced {
            folder.note_jump()?;
        }
        let running = trunk.engines(folder, parts).begin()?;
        if !is_silenced {
            folder.forget_jump();
        }
        let seat = running.seat.clone();
        let (teller, news) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(running.keep(teller.clone()));
        tasks.spawn(operator::read_again(folder.config(), Arc::clone(&trunk.told), teller.clone()));
        let alarms = Alarms::open(folder, &account)?;
        let untold = alarms.untold();
        tasks.spawn(alarms.tell(Arc::clone(&trunk.chain), Arc::clone(&trunk.waiting), trunk.orderer.heights()));
        tell_forks(&mut tasks, &trunk.eye, trunk.speaker.clone(), (&seat, teller.clone()));
        let (anchoring, witness) = attest(&mut tasks, (folder, config), keys, &trunk.speaker)?;
        let itself = Itself {
            key,
            account: address(&account),
            progress: Arc::default(),
            healed: parts.healed,
            untold,
            shelf: Arc::default(),
            trouble: Trouble::default(),
            eye: Arc::clone(&trunk.eye),
            anchoring,
            releases: Releases::default(),
            witness,
            resharing: Arc::clone(&trunk.handing_on),
        };
        tasks.spawn(tidy(Arc::clone(&trunk.waiting), Arc::clone(&itself.shelf)));
        let progress = Arc::clone(&itself.progress);
        tasks.spawn(scrub::watch(Arc::clone(&trunk.chain), Arc::clone(&trunk.orderer), progress));
        let (trouble, releases) = (itself.trouble.clone(), itself.releases.clone());
        let ledger = (Arc::clone(&trunk.chain), trunk.waiting, Arc::clone(&trunk.orderer));
        let backend = NodeBackend::new(ledger, seat, itself);
        let asked = Arc::new(Mutex::new(JoinSet::new()));
        let asking = Asking {
            chain: trunk.chain,
            orderer: trunk.orderer,
            trouble,
            backend: backend.clone(),
            healer: parts.healer.clone(),
            keys: (key, file.network.key()),
            releases,
            eye: trunk.eye,
            teller,
            tasks: Arc::clone(&asked),
        };
        tasks.spawn(asking.keep_on(Arc::clone(&trunk.told), parts.peers.clone()));
        let server = serve(&mut tasks, config, &backend).await?;
        Ok(Self { backend, server, tasks, asked, damaged_pool: trunk.damaged_pool, told: trunk.told, news })
    }

    /// Where the pool's journal is kept as it was found, if a fault of the disk damaged it: what is whole in it goes on.
    pub(super) fn damaged_pool(&self) -> Option<&Path> {
        self.damaged_pool.as_deref()
    }

    /// Where JSON-RPC is served.
    pub(super) const fn rpc_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits for what happens to it. Cancelling loses nothing.
    pub(super) async fn news(&mut self) -> News {
        self.news.recv().await.unwrap_or(News::Sound)
    }

    /// What its operator says by now.
    pub(super) fn config(&self) -> NodeConfig {
        self.told.borrow().clone()
    }

    /// Why it takes no part any more, once it does not.
    pub(super) fn failure(&self) -> Option<String> {
        self.backend.failure()
    }

    /// Fails as by an alarm.
    #[cfg(test)]
    pub(super) fn fail(&self, why: &str) {
        self.backend.fail(why);
    }

    /// Stops it in order: first nothing comes in, then nothing is agreed on, and the store is closed last.
    pub(super) async fn stop(mut self) {
        self.server.stop().await;
        self.tasks.shutdown().await;
        self.asked.lock().await.shutdown().await;
        let backend = self.backend;
        // The engine's threads end while nobody of this runtime waits for them.
        let _ = tokio::task::spawn_blocking(move || drop(backend)).await;
    }
}

/// Once the node failed: ends its part in agreeing, and looks for what heals its store, until there is something or it cannot go on.
pub(super) async fn heal(node: NodeBackend, healer: Healer, news: mpsc::Sender<News>) {
    node.failed().await;
    // Nothing more is written to a store that is not sound.
    let engine = node.engine();
    engine.end_soon();
    let ended = engine.ended().await;
    drop(engine);
    let mut pause = HEAL_AGAIN;
    loop {
        let told = match (healer.examine(&node.head()).await, &ended) {
            (Ok(Some(remedy)), _) => News::Remedy(remedy),
            // Its disk takes no more: that is not healed by another start. What was open then cannot be read either, and the first reason tells more.
            (Ok(None) | Err(HealError::Unread { .. }), Err(error)) if node.is_unrecorded() => {
                News::Failed(NodeError::Ended(error.clone()))
            }
            (Ok(None), _) => News::Sound,
            (Err(error @ (HealError::Unread { .. } | HealError::NoPeers { .. })), _) => News::Failed(error.into()),
            (Err(error), _) => News::Trouble(error),
        };
        let is_over = !matches!(told, News::Trouble(_));
        // Who is told went away only with the node.
        if news.send(told).await.is_err() || is_over {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(HEAL_AGAIN_MAX);
    }
}

/// Who anchors, as the operator says.
fn schedule(folder: &NodeFolder, config: AnchorConfig, speaker: Speaker) -> Result<Schedule, NodeError> {
    let key = config.key_file.as_ref().map(|path| read_account_key(&folder.path().join(path))).transpose()?;
    let payer = key.unwrap_or_else(|| speaker.secret().clone());
    Ok(Schedule { config, payer, folder: folder.anchors(), speaker, told: Arc::new(Attesting::default()) })
}

/// Takes what peers send.
pub(super) async fn hear(waiting: Arc<Waiting>, mut inbox: Inbox) {
    while let Some(heard) = inbox.recv().await {
        // What is no message is a peer's fault, and nothing of it is kept.
        let _ = tokio::task::block_in_place(|| waiting.hear(heard.from, &heard.bytes));
    }
}

/// Sends to peers what was handed in here, until it is final.
pub(super) async fn tell(waiting: Arc<Waiting>, gossip: Gossip) {
    loop {
        let woken = waiting.woken();
        // A full queue of the network drops it; it is due again.
        while waiting.due_message().is_some_and(|message| gossip.send(message.0)) {}
        let pause = waiting.next_due().map_or(GOSSIP_LOOK, |due| due.min(GOSSIP_LOOK));
        // Either way the next look finds what is due.
        let _ = tokio::time::timeout(pause, woken).await;
    }
}

/// Keeps the pool's journal short, and no state longer than it is asked for.
async fn tidy(waiting: Arc<Waiting>, shelf: Arc<Shelf>) {
    loop {
        tokio::time::sleep(TIDY).await;
        shelf.tidy(std::time::Instant::now());
        // A journal that cannot be written refuses the next transaction by itself, and says why.
        let _ = waiting.tidy().await;
    }
}

/// Answers JSON-RPC, and metrics where the operator wants them.
async fn serve(tasks: &mut JoinSet<()>, config: &NodeConfig, backend: &NodeBackend) -> Result<Server, NodeError> {
    let mut gate = Gate::local();
    gate.hosts.extend(config.rpc.hosts.iter().cloned());
    let RpcConfig { listen, debug, calls_per_second, .. } = config.rpc;
    let options = ServerOptions { listen, gate, limits: Limits::with_calls(calls_per_second), debug };
    let server = Server::start(backend.clone(), options).await?;
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| NodeError::Metrics { address, source })?;
        tasks.spawn(metrics::serve(listener, backend.clone()));
    }
    Ok(server)
}

/// Tells the forks that are found.
fn tell_forks(tasks: &mut JoinSet<()>, eye: &Arc<Eye>, speaker: Speaker, (seat, news): (&Seat, mpsc::Sender<News>)) {
    let seat = seat.clone();
    let votes = move || seat.engine().status().role == Role::Validator;
    tasks.spawn(forks::tell(Arc::clone(eye), speaker, votes, news));
}

/// How the two kinds of attesting stand, of those that the operator asked for.
type Attested = (Option<Arc<Attesting>>, Option<Arc<Attesting>>);

/// Anchors the ledger outside, and cosigns it, if its operator says so.
fn attest(
    tasks: &mut JoinSet<()>,
    (folder, config): (&NodeFolder, &NodeConfig),
    keys: Keys,
    speaker: &Speaker,
) -> Result<Attested, NodeError> {
    let anchoring = match &config.anchor {
        Some(anchor) => {
            let schedule = schedule(folder, anchor.clone(), speaker.clone())?;
            let told = Arc::clone(&schedule.told);
            tasks.spawn(schedule.run());
            Some(told)
        }
        None => None,
    };
    let witness = config.witness.clone().map(|config| {
        let told = Arc::new(Attesting::default());
        tasks.spawn(Witness { config, keys, speaker: speaker.clone(), told: Arc::clone(&told) }.run());
        told
    });
    Ok((anchoring, witness))
}
