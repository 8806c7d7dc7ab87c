//! The server of JSON-RPC: HTTP and WebSockets on one port.
//!
//! - **Owns** connections, limits, filters, subscriptions, and who gets in.
//! - **Does not** know what a method does beyond the pool: see [`crate::rpc`].
//!
//! # Invariants
//! - **V1** Everything that a client can make the server keep or do has a bound in [`Limits`].
//! - **V2** A panic in an answer is an error of that answer and of nothing else.
//! - **V3** All that was begun ends with the server: it is stopped, or dropped.
//!
//! Methods, limits and codes: `docs/reference/json-rpc.md`.

mod answerer;
mod clients;
mod connection;
mod errors;
mod filters;
mod forks;
mod gate;
mod layer;
mod limits;
mod pool;
mod state_parts;
mod subscriptions;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, Methods, PingConfig, RegisterMethodError, ServerConfig, ServerHandle, StopHandle, stop_channel,
};
use jsonrpsee::{RpcModule, server as jsonrpsee_server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::{Backend, trace};
use answerer::{Answerer, register, register_table};
use clients::{Client, Clients};
use connection::{Door, Owed, Paced};
use layer::Counted;

pub use gate::Gate;
pub use limits::Limits;

/// The port on which Ethereum's nodes are asked.
pub const PORT: u16 = 8545;
/// How long the server waits when the system has no more sockets for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it waits at its end for answers that are under way.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it listens. Whoever reaches it may read the whole ledger, and send what is signed.
    pub listen: SocketAddr,
    /// Who gets in.
    pub gate: Gate,
    /// What it gives at most.
    pub limits: Limits,
    /// Whether `debug_traceTransaction` and `txpool_content` are offered: they cost far more than other calls.
    pub debug: bool,
}

impl Default for ServerOptions {
    /// For programs of this machine alone.
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        Self { listen, gate: Gate::local(), limits: Limits::USUAL, debug: false }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error("could not listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the methods could not be set up")]
    Methods(#[source] RegisterMethodError),
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts serving that home.
    pub async fn start<B: Backend>(backend: B, options: ServerOptions) -> Result<Self, ServerError> {
        let ServerOptions { listen, gate, limits, debug } = options;
        let failed = |source| ServerError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let methods = methods(Answerer::new(backend, limits), debug).map_err(ServerError::Methods)?;
        let (stop, handle) = stop_channel();
        let clients = Arc::new(Clients::new(limits));
        let together = B::POOLS.then(|| usize::try_from(limits.response_bytes).unwrap_or(usize::MAX));
        let desk = Desk { door: Arc::new(Door { gate, limits }), clients, methods, together, stop };
        let accepting = tokio::spawn(desk.accept(listener));
        Ok(Self { address, handle, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: nothing new is taken, and answers under way have a few seconds.
    pub async fn stop(mut self) {
        // An error says that it stopped already.
        let _ = self.handle.stop();
        let _ = tokio::time::timeout(STOP_TIME, &mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        self.accepting.abort();
    }
}

/// All methods of a server.
fn methods<B: Backend>(answerer: Answerer<B>, debug: bool) -> Result<Methods, RegisterMethodError> {
    let mut module = RpcModule::new(answerer);
    register_table(&mut module)?;
    pool::register_pool(&mut module, debug)?;
    state_parts::register_parts(&mut module)?;
    filters::register_filters(&mut module)?;
    subscriptions::register_subscriptions(&mut module)?;
    if debug {
        register(&mut module, "debug_traceTransaction", |answerer, params, _| async move {
            answerer.read(move |store, terms| trace::transaction(store, terms, params)).await
        })?;
    }
    Ok(module.into())
}

/// What takes connections.
struct Desk {
    door: Arc<Door>,
    clients: Arc<Clients>,
    methods: Methods,
    /// How long the answer may be to transactions that are handed in together, where a home takes them so.
    together: Option<usize>,
    stop: StopHandle,
}

impl Desk {
    async fn accept(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.door.limits.connections));
        let mut connections = JoinSet::new();
        let stopped = self.stop.clone().shutdown();
        tokio::pin!(stopped);
        loop {
            // Nothing is lost by any of these: a connection that is not accepted yet waits for the next turn.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = &mut stopped => break,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Who is one too many finds the connection closed.
            let client = Client::of(address.ip());
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
            let Some(connected) = self.clients.connect(client, Instant::now()) else { continue };
            let (owed, write_time) = (Arc::default(), self.door.limits.write_time);
            let io = Paced::new(without_delay(stream), write_time, Arc::clone(&owed), (connected, permit));
            connections.spawn(self.connection(io, client, owed));
        }
        while connections.join_next().await.is_some() {}
    }

    fn connection(&self, io: Paced, client: Client, owed: Arc<Owed>) -> impl Future<Output = ()> + Send + use<> {
        let clients = Arc::clone(&self.clients);
        let together = self.together;
        let counted = move |inner| Counted { inner, clients: Arc::clone(&clients), owed: Arc::clone(&owed), together };
        let layer = RpcServiceBuilder::new().layer_fn(counted);
        let methods = jsonrpsee_server::Server::builder()
            .set_config(config(&self.door.limits))
            .set_rpc_middleware(layer)
            .to_service_builder()
            .build(self.methods.clone(), self.stop.clone());
        connection::serve(Arc::clone(&self.door), io, client, methods, self.stop.clone().shutdown())
    }
}

fn without_delay(stream: TcpStream) -> TcpStream {
    // Answers are written at once; a socket that refuses is only slower.
    let _ = stream.set_nodelay(true);
    stream
}

fn config(limits: &Limits) -> ServerConfig {
    // Neither may be zero.
    let (ping_time, messages) = (limits.ping_time.max(Duration::from_secs(1)), limits.messages.max(1));
    let ping = PingConfig::new().ping_interval(ping_time).inactive_limit(ping_time).max_failures(2);
    ServerConfig::builder()
        .max_request_body_size(limits.request_bytes)
        .max_response_body_size(limits.response_bytes)
        .max_subscriptions_per_connection(limits.subscriptions)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch))
        .set_message_buffer_capacity(messages)
        .enable_ws_ping(ping)
        .set_id_provider(subscriptions::Ids)
        .build()
}
