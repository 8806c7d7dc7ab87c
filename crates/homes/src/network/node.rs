//! A running node: its ledger, what waits for it, the engine that agrees with other nodes, and the door for clients.
//!
//! - **Owns** the order in which these start and end, and the tasks between them.
//! - **Does not** do their work.
//!
//! # Invariants
//! - **Y1** Everything that was started ends with the node: it is stopped, or dropped.
//! - **Y2** A node whose store failed takes no part in agreeing any more, and goes on answering whatever is sound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::{self as consensus, Engine, EngineError, Gossip, Inbox, StartError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::backend::NodeBackend;
use super::chain::{Chain, ChainError};
use super::clock::SystemClock;
use super::config::{ConfigError, NodeConfig};
use super::folder::{FolderError, NodeFolder};
use super::metrics;
use super::orderer::Orderer;
use super::pool::journal::{Journal, JournalError};
use super::waiting::Waiting;
use crate::rpc::server::Gate;
use crate::rpc::{Server, ServerError, ServerOptions};
use crate::store::{Access, Store, StoreError};

/// How long the node waits for another process that has its ledger open: a backup of this host may read it.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// How often the pool's journal is looked at: it is written anew when most of it is done.
const TIDY: Duration = Duration::from_mins(1);
/// The longest pause between two looks at what is to be sent to peers.
const GOSSIP_LOOK: Duration = Duration::from_secs(5);

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
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the engine of the node ended")]
    Ended(#[source] EngineError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    backend: NodeBackend,
    server: Server,
    tasks: JoinSet<()>,
}

impl Node {
    /// Starts the node of that folder.
    pub async fn start(folder: &NodeFolder) -> Result<Self, NodeError> {
        let file = folder.read_network()?;
        let config = NodeConfig::load(&folder.config())?;
        let keys = folder.read_keys()?;
        let mut store = Store::open(&folder.store(), Access::Write, STORE_WAIT, None)?;
        // At once only after an earlier version wrote to it.
        store.index_events()?;
        if *store.genesis() != file.genesis {
            return Err(NodeError::OtherGenesis { path: folder.path().to_owned() });
        }
        let chain = Arc::new(Chain::open(store, file.network.key())?);
        let (journal, recovered) = Journal::open(&folder.journal())?;
        let waiting = Arc::new(Waiting::open(Arc::clone(&chain), journal, &recovered));
        let orderer = Arc::new(Orderer::new(Arc::clone(&chain), Arc::clone(&waiting), Arc::new(SystemClock)));
        let settings = consensus::Config {
            network: file.network.clone(),
            addresses: config.validator_addresses(&folder.config())?,
            followers: config.follower_keys(&folder.config())?,
            listen: config.listen,
            never_voted: false,
            keep_blocks: None,
        };
        let (handle, inbox) = Engine::start(settings, keys, Arc::clone(&orderer), &folder.engine())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(hear(Arc::clone(&waiting), inbox));
        tasks.spawn(tell(Arc::clone(&waiting), handle.gossip()));
        tasks.spawn(tidy(Arc::clone(&waiting)));
        let backend = NodeBackend::new(&file.network, (chain, waiting, orderer), handle);
        let mut gate = Gate::local();
        gate.hosts.extend(config.rpc.hosts.iter().cloned());
        let options =
            ServerOptions { listen: config.rpc.listen, gate, debug: config.rpc.debug, ..ServerOptions::default() };
        let server = Server::start(backend.clone(), options).await?;
        if let Some(address) = config.metrics {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|source| NodeError::Metrics { address, source })?;
            tasks.spawn(metrics::serve(listener, backend.clone()));
        }
        Ok(Self { backend, server, tasks })
    }

    /// What clients ask.
    pub const fn backend(&self) -> &NodeBackend {
        &self.backend
    }

    /// Where JSON-RPC is served.
    pub const fn rpc_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until the engine ends, which it does only when it cannot go on.
    pub async fn ended(&self) -> NodeError {
        match self.backend.engine().ended().await {
            Ok(()) => NodeError::Ended(EngineError::Ended { part: "node" }),
            Err(error) => NodeError::Ended(error),
        }
    }

    /// Stops it in order: first nothing comes in, then nothing is agreed on, and the store is closed last.
    pub async fn stop(mut self) {
        self.server.stop().await;
        self.tasks.shutdown().await;
        let backend = self.backend;
        // The engine's threads end while nobody of this runtime waits for them.
        let _ = tokio::task::spawn_blocking(move || drop(backend)).await;
    }
}

/// Takes what peers send.
async fn hear(waiting: Arc<Waiting>, mut inbox: Inbox) {
    while let Some(heard) = inbox.recv().await {
        // What is no message is a peer's fault, and nothing of it is kept.
        let _ = tokio::task::block_in_place(|| waiting.hear(heard.from, &heard.bytes));
    }
}

/// Sends to peers what was handed in here, until it is final.
async fn tell(waiting: Arc<Waiting>, gossip: Gossip) {
    loop {
        let woken = waiting.woken();
        // A full queue of the network drops it; it is due again.
        while waiting.due_message().is_some_and(|message| gossip.send(message.0)) {}
        let pause = waiting.next_due().map_or(GOSSIP_LOOK, |due| due.min(GOSSIP_LOOK));
        // Either way the next look finds what is due.
        let _ = tokio::time::timeout(pause, woken).await;
    }
}

/// Keeps the pool's journal short.
async fn tidy(waiting: Arc<Waiting>) {
    loop {
        tokio::time::sleep(TIDY).await;
        // A journal that cannot be written refuses the next transaction by itself, and says why.
        let _ = waiting.tidy().await;
    }
}
