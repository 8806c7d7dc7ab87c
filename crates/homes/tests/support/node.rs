//! A node of a network, as a host meets it: a ledger behind JSON-RPC over HTTP, with what can go wrong on request.
//!
//! It answers what a host asks a node, and nothing else. One request a connection, read by hand: what it does wrong, it does on
//! purpose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use alloy_primitives::{Address, Bytes, U64, hex};
use blockhouse_homes::Embedded;
use blockhouse_ledger::BlockObject;
use serde_json::{Value, json};

/// What a node does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It closes each connection without an answer.
    Mute,
    /// It does what it is asked, and closes the connection of a sending without an answer.
    LosesAnswers,
    /// It takes transactions, and seals none.
    Swallows,
    /// It answers with an error of HTTP.
    Status,
    /// It answers with what is no JSON-RPC.
    Garbage,
    /// It answers without end.
    Endless,
    /// The certificates of its blocks are altered.
    Forges,
    /// It gives blocks that were not asked for.
    Skips,
    /// It has no block above its first.
    Stale,
    /// It holds the connection over which it is handed a fork, and never answers.
    Hangs,
    /// It is busy, or behind, whenever it is handed a fork.
    Busy,
}

/// What it was handed of forks.
#[derive(Default)]
struct Forks {
    handed: AtomicUsize,
    /// The connections that it holds.
    held: Mutex<Vec<TcpStream>>,
}

/// A running node.
pub(crate) struct Node {
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    asked: Arc<AtomicUsize>,
    forks: Arc<Forks>,
    stopped: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Node {
    /// Serves that ledger at a free port of this machine.
    pub(crate) fn start(home: Embedded) -> Self {
        Self::start_at(home, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at a port that another one has left.
    pub(crate) fn start_at(home: Embedded, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, stopped) = (Arc::new(Mutex::new(Fault::None)), Arc::new(AtomicBool::new(false)));
        let (asked, forks) = (Arc::new(AtomicUsize::new(0)), Arc::new(Forks::default()));
        let (faults, stop, count) = (Arc::clone(&fault), Arc::clone(&stopped), Arc::clone(&asked));
        let handed = Arc::clone(&forks);
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let fault = *faults.lock().unwrap();
                // A client that went away is its own business.
                let _ = serve(&home, &runtime, (fault, &handed), &stream.unwrap());
            }
        });
        Self { address, fault, asked, forks, stopped, serving: Some(serving) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does wrong from now on.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How many requests came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How often it was handed a fork.
    pub(crate) fn handed(&self) -> usize {
        self.forks.handed.load(Ordering::SeqCst)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // So that it looks.
        drop(TcpStream::connect(self.address));
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn serve(
    home: &Embedded,
    runtime: &tokio::runtime::Runtime,
    (fault, forks): (Fault, &Forks),
    stream: &TcpStream,
) -> std::io::Result<()> {
    if fault == Fault::Mute {
        return stream.shutdown(Shutdown::Both);
    }
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let Ok(request) = serde_json::from_slice::<Value>(&body) else { return stream.shutdown(Shutdown::Both) };
    if request["method"] == "blockhouse_submitFork" {
        forks.handed.fetch_add(1, Ordering::SeqCst);
        if fault == Fault::Hangs {
            forks.held.lock().unwrap().push(stream.try_clone()?);
            return Ok(());
        }
    }
    let answer = runtime.block_on(answer(home, fault, &request));
    let is_sending = request["method"] == "eth_sendRawTransaction";
    let (status, text) = match fault {
        Fault::LosesAnswers if is_sending => return stream.shutdown(Shutdown::Both),
        Fault::Status => ("502 Bad Gateway", String::new()),
        Fault::Garbage => ("200 OK", "<html>it works</html>".to_owned()),
        _ => ("200 OK", answer.to_string()),
    };
    let mut out = stream;
    if fault == Fault::Endless {
        out.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\"")?;
        loop {
            out.write_all(&[b'x'; 8192])?;
        }
    }
    write!(out, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
    out.flush()
}

async fn answer(home: &Embedded, fault: Fault, request: &Value) -> Value {
    let params = &request["params"];
    let result = match request["method"].as_str().unwrap_or_default() {
        "blockhouse_genesis" => {
            let genesis = home.read(|store| store.genesis().encode()).await.unwrap();
            Ok(json!(hex::encode_prefixed(genesis)))
        }
        "blockhouse_getBlockObjects" => Ok(blocks(home, fault, params).await),
        "eth_getTransactionCount" => {
            let account: Address = serde_json::from_value(params[0].clone()).unwrap();
            let nonce = home.read(move |store| store.state().account(&account).unwrap().map_or(0, |it| it.nonce));
            Ok(json!(U64::from(nonce.await.unwrap())))
        }
        "blockhouse_submitFork" if fault == Fault::Busy => Err((-32_000, "ask again later".to_owned())),
        "blockhouse_submitFork" => Ok(json!({ "height": "0x1", "isNew": true })),
        "eth_sendRawTransaction" => send(home, fault, params).await,
        other => Err((-32_601, format!("the method {other} does not exist"))),
    };
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": code, "message": message } })
        }
    }
}

async fn blocks(home: &Embedded, fault: Fault, params: &Value) -> Value {
    let number = |at: usize| serde_json::from_value::<U64>(params[at].clone()).unwrap().to::<u64>();
    let (from, count) = (number(0), usize::try_from(number(1)).unwrap());
    let objects = home.block_objects(from, count).await.unwrap();
    let kept = |object: &BlockObject| fault != Fault::Stale || object.block.header.number == 0;
    let encoded = objects.iter().filter(|object| kept(object)).skip(usize::from(fault == Fault::Skips));
    let encoded = encoded.map(|object| {
        let mut bytes = object.encode();
        if fault == Fault::Forges && object.block.header.number > 0 {
            // The last byte of a block's object is one of its certificate's signature.
            *bytes.last_mut().unwrap() ^= 1;
        }
        hex::encode_prefixed(bytes)
    });
    json!(encoded.collect::<Vec<_>>())
}

async fn send(home: &Embedded, fault: Fault, params: &Value) -> Result<Value, (i64, String)> {
    let raw: Bytes = serde_json::from_value(params[0].clone()).unwrap();
    if fault == Fault::Swallows {
        return Ok(json!(alloy_primitives::keccak256(&raw)));
    }
    match home.seal(vec![raw]).await {
        Ok(sealed) => Ok(json!(sealed.transactions[0])),
        Err(error) => {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            Err((-32_003, causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))))
        }
    }
}
