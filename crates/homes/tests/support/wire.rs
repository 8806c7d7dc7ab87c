//! A server over a small ledger, and clients that speak HTTP and WebSockets byte by byte: what is wrong on purpose, no
//! library would send.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use blockhouse_homes::rpc::server::Gate;
use blockhouse_homes::rpc::{EmbeddedBackend, Limits, Server, ServerOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::World;

/// Longer than anything takes here: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// No status: the connection was closed instead.
pub const CLOSED: u16 = 0;

/// Waits for something that must come.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes far too long")
}

/// A server over a ledger with a writer.
pub struct Served<B = EmbeddedBackend> {
    pub world: World,
    pub backend: B,
    pub server: Server,
}

impl Served {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other options than the usual ones; the port is free in any case.
    pub async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let world = World::with_writer().await;
        world.tick(1000);
        let backend = EmbeddedBackend::open(world.home.clone()).await.unwrap();
        let mut options = ServerOptions { debug: true, ..ServerOptions::default() };
        change(&mut options);
        options.listen.set_port(0);
        let server = Server::start(backend.clone(), options).await.unwrap();
        Self { world, backend, server }
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self::with(|options| options.limits = limits).await
    }

    pub async fn with_gate(gate: Gate) -> Self {
        Self::with(|options| options.gate = gate).await
    }
}

impl<B> Served<B> {
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The result of a call, or its error as `(code, message)`.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let response = self.post(&request.to_string()).await.json();
        assert_eq!(response["jsonrpc"], "2.0");
        assert_eq!(response["id"], 7);
        match (response.get("result"), response.get("error")) {
            (Some(result), None) => Ok(result.clone()),
            (None, Some(error)) => {
                Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned()))
            }
            _ => panic!("neither a result nor an error: {response}"),
        }
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    /// The code of the error that a call must give.
    pub async fn code(&self, method: &str, params: Value) -> i64 {
        match self.try_call(method, params).await {
            Ok(result) => panic!("{method} gave {result}"),
            Err((code, _)) => code,
        }
    }

    pub async fn post(&self, body: &str) -> Response {
        self.post_with(body, &[("content-type", "application/json")]).await
    }

    pub async fn post_with(&self, body: &str, headers: &[(&str, &str)]) -> Response {
        let named = headers.iter().any(|(name, _)| *name == "host");
        let host = if named { String::new() } else { format!("host: {}\r\n", self.address()) };
        let headers = lines(headers);
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\n{host}{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        self.raw(&[head.as_bytes(), body.as_bytes()].concat()).await
    }

    /// Sends bytes on a connection of their own and reads what comes.
    pub async fn raw(&self, bytes: &[u8]) -> Response {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // The server may answer and close before it took everything.
        let (_, read) = soon(async { tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer)) }).await;
        if let Err(error) = read {
            assert!(!answer.is_empty(), "no answer: {error}");
        }
        Response::parse(&answer)
    }

    pub async fn socket(&self) -> Socket {
        Socket::open(self.address(), &[]).await.unwrap_or_else(|status| panic!("no WebSocket: {status}"))
    }
}

fn lines(headers: &[(&str, &str)]) -> String {
    headers.iter().fold(String::new(), |lines, (name, value)| lines + name + ": " + value + "\r\n")
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of its error.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

/// One end of a WebSocket.
pub struct Socket {
    pub stream: TcpStream,
    /// Notifications that came while an answer was awaited.
    early: Vec<Value>,
}

impl Socket {
    /// Opens one, or gives the status of the refusal, [`CLOSED`] if the server closed the connection without one.
    pub async fn open(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, u16> {
        // A small buffer: who does not read is noticed soon.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let headers = lines(headers);
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\n{headers}connection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.map_err(|_| CLOSED)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(stream.read_u8()).await.map_err(|_| CLOSED)?);
        }
        match Response::parse(&answer).status {
            101 => Ok(Self { stream, early: Vec::new() }),
            status => Err(status),
        }
    }

    pub async fn send(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..=0xffff => {
                frame.push(0xfe);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0xff);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // A mask of zeros leaves the text as it is.
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next message; nothing if the server closed the connection.
    pub async fn receive(&mut self) -> Option<Value> {
        soon(async {
            loop {
                let (kind, payload) = self.frame().await?;
                match kind {
                    1 => return Some(serde_json::from_slice(&payload).unwrap()),
                    8 => return None,
                    9 => {
                        let length = u8::try_from(payload.len()).unwrap();
                        let pong = [&[0x8a, 0x80 | length, 0, 0, 0, 0][..], &payload].concat();
                        self.stream.write_all(&pong).await.ok()?;
                    }
                    _ => {}
                }
            }
        })
        .await
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await.ok()? & 0x0f;
        let length = match self.stream.read_u8().await.ok()? {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((kind, payload))
    }

    /// Calls and waits for the answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()).await;
        loop {
            let message = self.receive().await.expect("the server closed the connection");
            if message.get("method").is_none() {
                return message;
            }
            self.early.push(message);
        }
    }

    pub async fn subscribe(&mut self, params: Value) -> String {
        self.call("eth_subscribe", params).await["result"].as_str().unwrap().to_owned()
    }

    /// The next notification: its subscription and its result.
    pub async fn notified(&mut self) -> (String, Value) {
        let message =
            if self.early.is_empty() { self.receive().await.expect("it was closed") } else { self.early.remove(0) };
        assert_eq!(message["method"], "eth_subscription", "{message}");
        let params = &message["params"];
        (params["subscription"].as_str().unwrap().to_owned(), params["result"].clone())
    }
}
