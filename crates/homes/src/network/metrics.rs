//! The node's metrics over HTTP, at `/metrics`, in Prometheus' text format.
//!
//! Reference: `docs/reference/node.md`, section *Status and metrics*.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::backend::NodeBackend;
use crate::rpc::Backend as _;

/// More than the few that watch a node.
const CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long the node waits when the system has no more sockets for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, node: NodeBackend) {
    let (room, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
    loop {
        // Nothing is lost by either: a connection that is not accepted yet waits.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Who is one too many finds the connection closed.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let node = node.clone();
        connections.spawn(async move {
            connection(stream, node).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, node: NodeBackend) {
    let service = service_fn(move |request| {
        let answer = answer(&node, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).keep_alive(false);
    // However it ends, the other side sees that it ended.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(node: &NodeBackend, request: &Request<Incoming>) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text(node)),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "GET it\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(FORMAT));
    response
}

/// The node's own metrics, then the engine's.
fn text(node: &NodeBackend) -> String {
    let own = node.node().map(|status| status.prometheus()).unwrap_or_default();
    own + &node.engine().metrics()
}
