//! The HTTP client of remote sites.
//!
//! - **Owns** how connections are made, and how long a service may be silent once it has all of a request.
//! - **Does not** watch answers as they come (`reads` does), nor an upload that nobody takes: that ends by the kernel's own limit, when
//!   its packets are not acknowledged for 30 s.
//!
//! How much of an upload is under way is not seen from here, but when all of it is with the kernel: then nothing holds its bytes any
//! more. What the kernel holds is in keeping with what the line takes, and gone long before the stall is over.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::sync::oneshot;

use crate::error::{Cause, Silence};
use crate::trouble::{ServiceFailure, Trouble};

/// A host that is there answers in a round trip; fifteen seconds get over three lost packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an upload is handed on at a time: less than what is buffered behind it anyway.
const PIECE: usize = 64 * 1024;

/// A client that follows no redirect: what is signed for one host must not be told to another.
///
/// Certificates are checked against those that the system trusts; `SSL_CERT_FILE` names others.
pub(super) fn client() -> Result<reqwest::Client, Cause> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("blockhouse/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| {
        let mut said = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            said = format!("{said}: {cause}");
        }
        Cause::Service(ServiceFailure::new(Trouble::Setting, &said))
    })
}

/// An operator that uses this client, and takes a service for failed that has a request and says nothing for the stall.
pub(super) fn with_client(operator: opendal::Operator, client: reqwest::Client, stall: Duration) -> opendal::Operator {
    let transport = Transport { inner: ReqwestTransport::new(client), stall };
    let context = opendal::OperationContext::new().with_http_transport(opendal::HttpTransporter::new(transport));
    operator.with_context(context)
}

/// The way of an operator to its service.
struct Transport {
    inner: ReqwestTransport,
    stall: Duration,
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let (pieces, taken) = upload(body.to_bytes());
        let answer = self.inner.fetch(http::Request::from_parts(parts, Buffer::from(pieces)));
        answered(answer, taken, self.stall).await.unwrap_or_else(|silence| {
            Err(opendal::Error::new(ErrorKind::Unexpected, "the service is silent").set_source(silence))
        })
    }
}

/// The bytes of an upload. They go when nothing holds a part of them any more, and with them the sender: that is all it says.
struct Upload {
    bytes: Bytes,
    _under_way: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Upload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Tells, by an error, that an upload is with the kernel.
pub(super) type Taken = oneshot::Receiver<Infallible>;

/// Bytes to be sent, in pieces, and what tells when all of them are gone.
pub(super) fn upload(bytes: Bytes) -> (Vec<Bytes>, Taken) {
    let (under_way, taken) = oneshot::channel();
    let whole = Bytes::from_owner(Upload { bytes, _under_way: under_way });
    let pieces = (0..whole.len()).step_by(PIECE).map(|from| whole.slice(from..whole.len().min(from + PIECE)));
    (pieces.collect(), taken)
}

/// Waits for the answer to an upload: as long as that is under way, and no longer than the stall when it was taken.
pub(super) async fn answered<T>(answer: impl Future<Output = T>, taken: Taken, stall: Duration) -> Result<T, Silence> {
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer),
        // Nothing is lost: it sends nothing, and is not asked again.
        _ = taken => {}
    }
    tokio::time::timeout(stall, answer).await.map_err(|_elapsed| Silence { allowed: stall })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    pub(in crate::remote) const STALL: Duration = Duration::from_millis(200);
    /// More than the kernel takes for a server that reads nothing.
    pub(in crate::remote) const LONG: usize = 64 << 20;

    /// A server of one request: it waits for a word before it reads, takes all of it, and answers if it is one that does.
    pub(in crate::remote) fn server(length: usize, answers: bool) -> (String, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (begin, word) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            word.recv().unwrap();
            let (mut buffer, mut head, mut body) = (vec![0_u8; 64 * 1024], Vec::new(), None);
            while let count @ 1.. = socket.read(&mut buffer).unwrap_or(0) {
                if let Some(body) = &mut body {
                    *body += count;
                } else {
                    head.extend_from_slice(&buffer[..count]);
                    let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
                    body = end.map(|end| head.len() - end - 4);
                }
                if body == Some(length) && answers {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            }
        });
        (url, begin)
    }

    async fn put(url: &str, length: usize) -> opendal::Result<http::Response<HttpBody>> {
        let transport = Transport { inner: ReqwestTransport::new(client().unwrap()), stall: STALL };
        let body = Buffer::from(Bytes::from(vec![7_u8; length]));
        transport.fetch(http::Request::put(format!("{url}/object")).body(body).unwrap()).await
    }

    /// It was found at the deadline of the whole object.
    #[tokio::test]
    async fn a_service_that_takes_an_upload_and_is_silent_has_failed_after_the_stall() {
        let (url, begin) = server(LONG, false);
        begin.send(()).unwrap();
        let error = put(&url, LONG).await.err().unwrap();
        let cause = Cause::from(error);
        assert!(matches!(cause, Cause::Deadline { allowed } if allowed == STALL), "{cause:?}");
    }

    #[tokio::test]
    async fn an_upload_that_takes_longer_than_the_stall_is_no_silence() {
        let (url, begin) = server(LONG, true);
        let mut putting = pin!(put(&url, LONG));
        let early = tokio::time::timeout(3 * STALL, &mut putting).await;
        assert!(early.is_err(), "the server has not read yet");
        begin.send(()).unwrap();
        assert_eq!(putting.await.unwrap().status(), 200);
    }

    #[test]
    fn pieces_are_the_bytes_and_the_last_of_them_tells() {
        let bytes = Bytes::from((0..=250_u8).cycle().take(2 * PIECE + 1).collect::<Vec<_>>());
        let (mut pieces, mut taken) = upload(bytes.clone());
        let joined: Vec<u8> = pieces.iter().flatten().copied().collect();
        assert_eq!((pieces.len(), Bytes::from(joined)), (3, bytes));
        let last = pieces.pop();
        drop(pieces);
        assert_eq!(taken.try_recv().unwrap_err(), oneshot::error::TryRecvError::Empty);
        drop(last);
        assert_eq!(taken.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert!(upload(Bytes::new()).0.is_empty());
    }
}
