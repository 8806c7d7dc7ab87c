//! One connection: its bytes, its deadlines, and what stands before the methods.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// How many bytes of answers may be made for a connection before it has taken them: some answers of usual length.
const OWED_BYTES: usize = 1024 * 1024;
/// How often is read in a row before the writer has its turn for sure, and for how long it has: a buffer of some
/// kilobytes each, so that reading alone goes on at a hundred megabytes a second.
const READS_IN_A_ROW: u32 = 16;
const READ_REST: Duration = Duration::from_millis(1);

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

/// Answers of one connection that were made and are not written yet.
#[derive(Debug, Default)]
pub(super) struct Owed(AtomicUsize);

impl Owed {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn written(&self, bytes: usize) {
        // What was never counted, as the head of an answer, makes it no less than nothing.
        let less = |owed: usize| Some(owed.saturating_sub(bytes));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn is_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > OWED_BYTES
    }
}

/// The bytes of a connection. While the other side takes nothing, or much is made for it already, nothing is read from
/// it: who asks without end and does not listen cannot pile up answers here. If it takes nothing for too long, the
/// connection ends.
///
/// It counts as a connection until it is dropped, also when it became a WebSocket.
pub(super) struct Paced {
    stream: TcpStream,
    write_time: Duration,
    owed: Arc<Owed>,
    /// Running while the other side takes nothing; when it has run out, the connection is over in both directions.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Running while nothing is read because much is owed; as long as the other side may take nothing.
    owing: Option<Pin<Box<Sleep>>>,
    /// Who wants to read as soon as it takes something again, or is given up.
    reader: Option<Waker>,
    /// How often was read since the last attempt to write.
    reads: u32,
    /// Running while the writer is let through.
    rest: Option<Pin<Box<Sleep>>>,
    _counted: (Connected, OwnedSemaphorePermit),
}

impl Paced {
    pub(super) fn new(
        stream: TcpStream,
        write_time: Duration,
        owed: Arc<Owed>,
        counted: (Connected, OwnedSemaphorePermit),
    ) -> Self {
        let (stalled, owing, reader, rest) = (None, None, None, None);
        Self { stream, write_time, owed, stalled, owing, reader, reads: 0, rest, _counted: counted }
    }

    /// Waits until something may be read.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stalled) = &self.stalled {
            if stalled.is_elapsed() {
                return Poll::Ready(Err(given_up()));
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.owed.is_much() {
            self.reader = Some(context.waker().clone());
            let write_time = self.write_time;
            let owing = self.owing.get_or_insert_with(|| Box::pin(sleep(write_time)));
            ready!(owing.as_mut().poll(context));
            return Poll::Ready(Err(given_up()));
        }
        if self.reads >= READS_IN_A_ROW {
            // Reader and writer of a WebSocket share a lock, which is free while this waits: a reader that always finds
            // something would keep the writer from ever noticing that the other side takes nothing.
            let rest = self.rest.get_or_insert_with(|| Box::pin(sleep(READ_REST)));
            ready!(rest.as_mut().poll(context));
            (self.rest, self.reads) = (None, 0);
        }
        self.reads += 1;
        Poll::Ready(Ok(()))
    }

    /// Passes on what became of an attempt to write.
    fn paced(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.reads = 0;
        let write_time = self.write_time;
        let result = if let Poll::Ready(done) = &written {
            (self.stalled, self.owing) = (None, None);
            self.owed.written(*done.as_ref().unwrap_or(&0));
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
        ready!(self.poll_turn(context))?;
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
