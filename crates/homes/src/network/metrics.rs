//! The node's metrics over HTTP, at `/metrics`, in Prometheus' text format.
//!
//! Reference: `docs/reference/node.md`, section *Status and metrics*.

use std::collections::HashSet;
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
    own + &as_text_format(&node.engine().metrics())
}

/// The engine tells its metrics as `OpenMetrics`, which says of what kind a counter is under its name without `_total`, and has an end. In Prometheus'
/// text format both are otherwise: there such a counter would be of no kind.
fn as_text_format(open: &str) -> String {
    let name_of_counter = |line| str::strip_suffix(str::strip_prefix(line, "# TYPE ")?, " counter");
    let counters: HashSet<&str> = open.lines().filter_map(name_of_counter).collect();
    let lines = open.lines().filter(|line| *line != "# EOF");
    lines.fold(String::with_capacity(open.len()), |text, line| {
        let told = line.strip_prefix("# ").and_then(|told| told.split_once(' '));
        let told = told.and_then(|(what, told)| told.split_once(' ').map(|(name, rest)| (what, name, rest)));
        match told {
            Some((what, name, rest)) if counters.contains(name) => text + &format!("# {what} {name}_total {rest}\n"),
            _ => text + line + "\n",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_engine_have_their_kind_under_the_name_of_their_value() {
        let open = "# HELP a How many.\n# TYPE a counter\na_total{x=\"a b\"} 1\n# HELP ab Now.\n# TYPE ab gauge\nab 2\n# EOF\n";
        let text = "# HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"a b\"} 1\n# HELP ab Now.\n# TYPE ab gauge\nab 2\n";
        assert_eq!(as_text_format(open), text);
    }
}
