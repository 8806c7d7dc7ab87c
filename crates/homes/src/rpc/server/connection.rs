//! One connection: its bytes, its deadlines, and what stands before the methods.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::server::HttpBody;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep, timeout};
use tower::{BoxError, Service};

use super::clients::{Client, Connected};
use super::gate::{Gate, Passage, allow, preflight};
use super::limits::{HEAD_BYTES, HEADERS, Limits};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) gate: Gate,
    pub(super) limits: Limits,
}

/// Serves one connection to its end; `stopped` ends it after the answer that is under way.
pub(super) async fn serve<S>(door: Arc<Door>, io: Paced, client: Client, methods: S, stopped: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<HttpBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(door.limits.head_time);
    builder.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let service = service_fn(move |request| answer(Arc::clone(&door), methods.clone(), client, request));
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    tokio::pin!(connection, stopped);
    // However it ends, the other side sees that it ended; there is nobody to tell more to.
    tokio::select! {
        _ = &mut connection => return,
        () = &mut stopped => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer<S>(
    door: Arc<Door>,
    mut methods: S,
    client: Client,
    mut request: Request<Incoming>,
) -> Result<Response<HttpBody>, BoxError>
where
    S: Service<Request<Incoming>, Response = Response<HttpBody>, Error = BoxError>,
{
    let origin = match door.gate.judge(&request) {
        Passage::In(origin) => origin,
        Passage::Preflight(origin) => return Ok(preflight(origin)),
        Passage::Out(why) => return Ok(refusal(StatusCode::FORBIDDEN, why)),
    };
    request.extensions_mut().insert(client);
    // A body that drips in, or an answer that does not come: what was begun for it ends.
    let Ok(answered) = timeout(door.limits.request_time, methods.call(request)).await else {
        return Ok(refusal(StatusCode::REQUEST_TIMEOUT, "the request took too long\n"));
    };
    let mut response = answered?;
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin);
    }
    Ok(response)
}

fn refusal(status: StatusCode, why: &'static str) -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::from(why));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The bytes of a connection. While the other side takes nothing, nothing is read from it: who asks without end and
/// does not listen cannot pile up answers here. If it takes nothing for too long, the connection ends.
///
/// It counts as a connection until it is dropped, also when it became a WebSocket.
pub(super) struct Paced {
    stream: TcpStream,
    write_time: Duration,
    /// Running while the other side takes nothing; when it has run out, the connection is over in both directions.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Who wants to read as soon as it takes something again, or is given up.
    reader: Option<Waker>,
    _counted: (Connected, OwnedSemaphorePermit),
}

impl Paced {
    pub(super) fn new(stream: TcpStream, write_time: Duration, counted: (Connected, OwnedSemaphorePermit)) -> Self {
        Self { stream, write_time, stalled: None, reader: None, _counted: counted }
    }

    /// Passes on what became of an attempt to write.
    fn paced<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let write_time = self.write_time;
        let result = if written.is_ready() {
            self.stalled = None;
            written
        } else {
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_time)));
            ready!(stalled.as_mut().poll(context));
            Poll::Ready(Err(given_up()))
        };
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        result
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing")
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(stalled) = &self.stalled {
            if stalled.is_elapsed() {
                return Poll::Ready(Err(given_up()));
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
