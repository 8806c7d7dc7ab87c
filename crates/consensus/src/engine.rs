//! A node over TCP, on threads of its own.
//!
//! The engine's storage panics when it is damaged or the disk fails, by design. Here such a panic ends the node with an
//! error that says so, and nothing else of the process.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use blockhouse_types::{BlockHash, DecodeError};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::AddressableTrackedPeers;
use commonware_p2p::authenticated::lookup;
use commonware_runtime::{BlobLayout, Metrics, Runner, Spawner, Supervisor, tokio as runtime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::application::{Application, Erased, Stop};
use crate::bind::{Group, Individuals, Scheme};
use crate::folder::{self, Folder};
use crate::gossip::{self, Ends, Gossip, Inbox};
use crate::keys::Keys;
use crate::letters::{self, Post};
use crate::network::{Kind, Network};
use crate::peers::{self, Guests, Tracked};
use crate::status::{Counts, Role, Status, connected};
use crate::tuning;
use crate::wiring::{Channels, Member, channel, run};

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// What all nodes agree on.
    pub network: Network,
    /// `host:port` of every validator, by its identity.
    pub addresses: BTreeMap<[u8; 32], String>,
    /// The identities of the followers that this node serves; a follower names none but itself.
    pub followers: Vec<[u8; 32]>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The operator's word that the keys of this validator never voted in this epoch, although its folder does not say so:
    /// see [`Engine::prepare`]. A wrong word lets it vote twice in one view.
    pub never_voted: bool,
    /// How many blocks below the application's standing are kept for peers; all, if not told.
    pub keep_blocks: Option<u64>,
    /// The application took final blocks by itself since the engine last ran: it begins at the last of them that was itself signed as final,
    /// and leaves out what is between.
    pub jumped: bool,
    /// It follows and gives no vote, whatever its folder says: those who vote with it have forked the ledger. Its journal stays as it is, so it may
    /// vote again; what is final meanwhile is a jump for it then.
    pub silent: bool,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("another process uses the engine's folder {path}")]
    InUse { path: PathBuf },
    #[error("could not use the engine's folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the engine's folder {path} belongs to another node or network")]
    OtherNode { path: PathBuf },
    #[error("the file {path} is damaged")]
    NodeFile {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("validator {key} has no address", key = hex::encode(key))]
    NoAddress { key: [u8; 32] },
    #[error("`{text}` is not host:port")]
    Address { text: String },
    #[error("{key} is no key of a node", key = hex::encode(key))]
    NoKey { key: [u8; 32] },
    #[error(
        "a network has at most {} nodes, and a running one room for {} followers more than it began with: not {found} nodes",
        tuning::PEERS_MAX,
        tuning::FOLLOWERS_MORE
    )]
    Peers { found: usize },
    #[error("could not start the engine's thread")]
    Thread(#[source] std::io::Error),
}

/// Why a node ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error("the application stopped")]
    Application(#[from] Stop),
    #[error("the ledger of this node has no block {height} ({hash}), which the network begins above")]
    Base { height: u64, hash: BlockHash },
    #[error("the certificate of block {hash}, with which the engine began, is of another kind than the network's")]
    Floor { hash: BlockHash },
    #[error("the network signs in another way than its node was built for")]
    Scheme,
    #[error(
        "the ledger stands at block {standing}, the engine gave it blocks up to {missing} and more and does not have them any more"
    )]
    Behind { standing: u64, missing: u64 },
    #[error("block {found} became final while the ledger stands at block {standing}")]
    Gap { standing: u64, found: u64 },
    #[error("nothing in the engine's archive vouches for block {height}")]
    NoCertificate { height: u64 },
    #[error("block {height} is final by a descendant that is too far above it")]
    TooFar { height: u64 },
    #[error("the engine's archive of {what} is damaged: {reason}")]
    Archive { what: &'static str, reason: String },
    #[error("the engine's part `{part}` ended")]
    Ended { part: &'static str },
    #[error("the engine failed, most likely over its files in {}: {reason}", path.display())]
    Failed { path: PathBuf, reason: String },
}

/// A disk with less than this is called full.
const FULL_BYTES: u64 = 1 << 20;

/// The engine of a node.
#[derive(Debug)]
pub struct Engine;

/// An engine's folder that no other process uses.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "the lock goes with it")] std::fs::File);

impl Engine {
    /// Makes the engine's folder of an identity that was drawn just now, durably, with the word that it never voted. It is made before the
    /// key is written anywhere, and never for a key that was there before: a folder that is made again without it follows, and is silent.
    pub fn prepare(folder: &Path, identity: [u8; 32]) -> std::io::Result<()> {
        folder::prepare(folder, &identity)
    }

    /// Keeps other processes off the engine's folder, which a node has for itself alone, as long as the value lives.
    pub fn hold(folder: &Path) -> Result<Hold, StartError> {
        folder::hold(folder).map(Hold)
    }

    /// Whether an engine's folder says of that identity whether it voted: one that was lost does not.
    pub fn remembers(folder: &Path, identity: [u8; 32]) -> std::io::Result<bool> {
        folder::remembers(folder, &identity)
    }

    /// Starts a node on threads of its own. It runs until the handle is stopped or dropped, or it fails.
    pub fn start(
        config: Config,
        keys: Keys,
        application: Arc<impl Application>,
        folder: &Path,
    ) -> Result<(Handle, Inbox), StartError> {
        let application: Arc<dyn Erased> = application;
        let peers = peers::peers(&config.network, &config.addresses, &config.followers)?;
        let mut folder = Folder::open(folder, &config, keys.public(), application.as_ref())?;
        if config.silent {
            folder = folder.silenced(&config.network, application.as_ref())?;
        }
        // The engine's own listener panics if the port is taken; this one says so.
        TcpListener::bind(config.listen).map_err(|source| StartError::Listen { address: config.listen, source })?;
        let (gossip, inbox, ends) = gossip::queues();
        let (post, letters, guests) = letters::queues();
        let (stop, stopped) = oneshot::channel();
        let (report, ended) = watch::channel(None);
        let shared = Arc::new(Shared::new(role(&config.network, &keys, folder.may_vote)));
        let (change, changes) = mpsc::unbounded_channel();
        let room = peers::set_size(&config).get();
        let arrivals = Arrivals { network: config.network.clone(), room, change };
        let told = Arriving { peers, changes, guests };
        let node =
            Node { config, keys, application, folder, told, ends, letters, shared: Arc::clone(&shared), stopped };
        let thread = std::thread::Builder::new().name("consensus".to_owned());
        let thread = thread.spawn(move || {
            report.send_replace(Some(node.run()));
        });
        let thread = thread.map_err(StartError::Thread)?;
        let (stop, post) = (Mutex::new(Some(stop)), Mutex::new(Some(post)));
        Ok((Handle { shared, gossip, post, arrivals, ended, stop, thread: Some(thread) }, inbox))
    }
}

fn role(network: &Network, keys: &Keys, may_vote: bool) -> Role {
    let named = network.validators().contains(&keys.public());
    let signs = !network.shares_a_key() || network.is_share_of(keys);
    match (named, may_vote && signs) {
        (false, _) => Role::Follower,
        (true, true) => Role::Validator,
        (true, false) => Role::Silent,
    }
}

type Read = Box<dyn Fn() -> String + Send + Sync>;

/// What a handle asks of the running node.
struct Shared {
    role: Role,
    counts: Arc<Counts>,
    metrics: OnceLock<Read>,
}

impl Shared {
    fn new(role: Role) -> Self {
        Self { role, counts: Arc::default(), metrics: OnceLock::new() }
    }
}

/// How a running node is told who its peers are.
struct Arrivals {
    network: Network,
    /// How many there may be, with this node.
    room: usize,
    change: mpsc::UnboundedSender<AddressableTrackedPeers<PublicKey>>,
}

/// Who its peers are at first, and who says that they changed.
struct Arriving {
    peers: AddressableTrackedPeers<PublicKey>,
    changes: mpsc::UnboundedReceiver<AddressableTrackedPeers<PublicKey>>,
    guests: mpsc::Receiver<Guests>,
}

/// A running node. It ends when this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
    gossip: Gossip,
    post: Mutex<Option<Post>>,
    arrivals: Arrivals,
    ended: watch::Receiver<Option<Result<(), EngineError>>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// What the node says about itself.
    pub fn status(&self) -> Status {
        let counts = &self.shared.counts;
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        let height = read(&counts.height);
        Status {
            role: self.shared.role,
            view: read(&counts.view),
            final_view: read(&counts.final_view),
            tip: read(&counts.tip).max(height),
            height,
            peers: connected(&self.metrics()),
            conflicts: read(&counts.conflicts),
        }
    }

    /// The engine's metrics in Prometheus' text format; empty until it runs.
    pub fn metrics(&self) -> String {
        self.shared.metrics.get().map(|read| read()).unwrap_or_default()
    }

    /// Sends to peers.
    pub fn gossip(&self) -> Gossip {
        self.gossip.clone()
    }

    /// Tells the running node where its validators are from now on, and which followers it serves. A connection to one whose address changed is
    /// made anew; the others stay. What does not fit is refused, and what was told before holds.
    pub fn tell_peers(&self, addresses: &BTreeMap<[u8; 32], String>, followers: &[[u8; 32]]) -> Result<(), StartError> {
        let Arrivals { network, room, change } = &self.arrivals;
        let peers = peers::peers(network, addresses, followers)?;
        let found = peers.primary.len() + peers.secondary.len();
        // This node counts beside them where it is not named.
        if found >= *room {
            return Err(StartError::Peers { found });
        }
        // A node that ended needs to know nothing.
        let _ = change.send(peers);
        Ok(())
    }

    /// Letters to and from single nodes, for whoever asks first. They go out only where validators share one key.
    pub fn post(&self) -> Option<Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the node ended. Cancelling loses nothing.
    pub async fn ended(&self) -> Result<(), EngineError> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            Err(_) => Err(EngineError::Ended { part: "thread" }),
        }
    }

    /// Asks the node to end, soon: it takes no part in agreeing any more, and what it said about itself stays.
    pub fn end_soon(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Stops the node and waits until its threads are gone; says why it ended before, if it did.
    pub fn stop(mut self) -> Result<(), EngineError> {
        self.end();
        self.ended.borrow().clone().unwrap_or(Ok(()))
    }

    fn end(&mut self) {
        self.end_soon();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was caught inside; nothing is left to be said.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("role", &self.shared.role).finish_non_exhaustive()
    }
}

/// A node on its thread.
struct Node {
    config: Config,
    keys: Keys,
    application: Arc<dyn Erased>,
    folder: Folder,
    told: Arriving,
    ends: Ends,
    letters: letters::Ends,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
}

impl Node {
    fn run(self) -> Result<(), EngineError> {
        let path = self.folder.journal.clone();
        let settings = runtime::Config::new()
            .with_worker_threads(tuning::WORKERS)
            .with_max_blocking_threads(tuning::DISK_THREADS)
            .with_storage_directory(&self.folder.journal)
            // The layout of new files stays what it is, whatever a later release prefers.
            .with_storage_blob_layouts(BlobLayout::V1..=BlobLayout::V1);
        let run = || {
            runtime::Runner::new(settings).start(|context| async move {
                match self.config.network.kind() {
                    Kind::Threshold(_) => self.live::<Group>(context).await,
                    Kind::Committee | Kind::Chartered(_) => self.live::<Individuals>(context).await,
                }
            })
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let full = if is_full(&path) { ": no space left on the device" } else { "" };
            let reason = format!("{}{full}", said(&*panic));
            Err(EngineError::Failed { path, reason })
        })
    }

    async fn live<S: Scheme>(self, context: runtime::Context) -> Result<(), EngineError> {
        let metrics = context.child("metrics");
        let _ = self.shared.metrics.set(Box::new(move || metrics.encode()));
        let settings = peers::settings::<S>(&self.config, &self.keys);
        let (mut network, oracle) = lookup::Network::new(context.child("network"), settings);
        let me = commonware_cryptography::Signer::public_key(self.keys.identity());
        let mut tracked = Tracked::new(oracle.clone(), self.config.network.epoch(), me, self.told.peers);
        tracked.tell();
        let told = context.child("peers").spawn({
            let (changes, guests) = (self.told.changes, self.told.guests);
            move |_| tracked.keep_told(changes, guests)
        });
        let channels = Channels {
            votes: network.register(channel::VOTES, tuning::VOTES),
            certificates: network.register(channel::CERTIFICATES, tuning::CERTIFICATES),
            resolver: network.register(channel::RESOLVER, tuning::RESOLVER),
            backfill: network.register(channel::BACKFILL, tuning::BACKFILL),
            blocks: network.register(channel::BLOCKS, tuning::BLOCKS),
        };
        let talk = network.register(channel::GOSSIP, tuning::GOSSIP);
        let letters = self.config.network.shares_a_key().then(|| network.register(channel::LETTERS, tuning::CEREMONY));
        let network_end = network.start();
        if let Some(channel) = letters {
            let ends = self.letters;
            // It ends with the network.
            drop(context.child("letters").spawn(move |_| letters::carry(ends, channel)));
        }
        let ends = self.ends;
        let gossip = context.child("gossip").spawn(move |_| gossip::carry(ends, talk));
        let member = Member {
            network: self.config.network,
            keys: self.keys,
            application: self.application,
            may_vote: self.folder.may_vote,
            floor: self.folder.floor.clone(),
            keep: self.config.keep_blocks,
            counts: Arc::clone(&self.shared.counts),
            prefix: String::new(),
        };
        let node = context.child("node").spawn(move |context| run::<S, _, _, _, _>(context, member, oracle, channels));
        let ended = tokio::select! {
            ended = node => ended.unwrap_or(Err(EngineError::Ended { part: "node" })),
            _ = network_end => Err(EngineError::Ended { part: "network" }),
            _ = gossip => Err(EngineError::Ended { part: "gossip" }),
            _ = told => Err(EngineError::Ended { part: "peers" }),
            _ = self.stopped => Ok(()),
        };
        // What does not end in time is dropped; the journals stand that.
        let _ = context.stop(0, Some(tuning::STOP_TIMEOUT)).await;
        ended
    }
}

/// Whether the disk under a folder is full, or nearly so: the engine does not tell why a write failed.
fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < FULL_BYTES)
}

/// The text of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
