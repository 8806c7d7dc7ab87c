//! The server over homes that are not the embedded one: with a pool and peers, slow, failing, panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes};
use blockhouse_homes::rpc::{
    Backend, EmbeddedBackend, Limits, NodeStatus, PoolStatus, Pooled, Refused, Server, ServerOptions, Syncing,
};
use blockhouse_homes::{HomeError, Store};
use serde_json::{Value, json};
use support::wire::{Served, soon};
use support::{World, account, address, genesis, open_session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, broadcast, watch};

/// How a home behaves beside what the embedded one does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Two transactions of the writer wait in its pool, a third one for another.
    Pool,
    /// Its pool is full.
    Full,
    /// The same, said only once three are sent.
    Together,
    /// It never answers.
    Silent,
    /// It panics, where it reads and where it sends.
    Panics,
}

#[derive(Clone)]
struct Odd {
    inner: EmbeddedBackend,
    manner: Manner,
    three: Arc<Barrier>,
}

fn waiting(nonce: u64) -> Pooled {
    let transaction = TxEnvelope::decode_2718_exact(&open_session(nonce)).unwrap();
    Pooled { sender: address(&account(3)), transaction, ready: nonce < 2 }
}

impl Backend for Odd {
    const POOLS: bool = true;

    fn node(&self) -> Option<NodeStatus> {
        None
    }

    async fn read<T, F>(&self, read: F) -> Result<T, HomeError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        match self.manner {
            Manner::Silent => std::future::pending().await,
            Manner::Panics => self.inner.read(|_| panic!("on purpose, where it reads")).await,
            Manner::Pool | Manner::Full | Manner::Together => self.inner.read(read).await,
        }
    }

    async fn submit(&self, raw: Bytes) -> Result<B256, Refused> {
        if self.manner == Manner::Together {
            self.three.wait().await;
        }
        match self.manner {
            Manner::Panics => panic!("on purpose, where it sends"),
            Manner::Full | Manner::Together => Err(Refused::Full { why: "txpool is full".to_owned() }),
            Manner::Pool | Manner::Silent => self.inner.submit(raw).await,
        }
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn heads(&self) -> watch::Receiver<u64> {
        self.inner.heads()
    }

    fn arrivals(&self) -> broadcast::Receiver<B256> {
        self.inner.arrivals()
    }

    fn next_nonce(&self, account: &Address) -> Option<u64> {
        (*account == waiting(0).sender).then_some(2)
    }

    fn find_pooled(&self, hash: &B256) -> Option<Pooled> {
        self.pooled().into_iter().find(|pooled| pooled.transaction.tx_hash() == hash)
    }

    fn pooled(&self) -> Vec<Pooled> {
        [0, 1, 5].map(waiting).to_vec()
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus { pending: 2, queued: 1 }
    }

    fn peers(&self) -> u64 {
        3
    }

    fn syncing(&self) -> Option<Syncing> {
        Some(Syncing { starting: 1, current: 2, highest: 30 })
    }
}

/// A server over a home of that manner.
async fn served(manner: Manner, limits: Limits) -> Served<Odd> {
    let world = World::with_writer().await;
    world.tick(1000);
    let inner = EmbeddedBackend::open(world.home.clone()).await.unwrap();
    let backend = Odd { inner, manner, three: Arc::new(Barrier::new(3)) };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ServerOptions { listen, limits, debug: true, ..ServerOptions::default() };
    let server = Server::start(backend.clone(), options).await.unwrap();
    Served { world, backend, server }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_counted_and_shown() {
    let served = served(Manner::Pool, Limits::USUAL).await;
    let writer = address(&account(3));
    assert_eq!(served.call("eth_getTransactionCount", json!([writer, "latest"])).await, "0x0");
    assert_eq!(served.call("eth_getTransactionCount", json!([writer, "pending"])).await, "0x2");
    assert_eq!(served.call("eth_getTransactionCount", json!([address(&account(1)), "pending"])).await, "0x4");
    assert_eq!(served.call("txpool_status", json!([])).await, json!({ "pending": "0x2", "queued": "0x1" }));
    assert_eq!(served.call("net_peerCount", json!([])).await, "0x3");
    let far = json!({ "startingBlock": "0x1", "currentBlock": "0x2", "highestBlock": "0x1e" });
    assert_eq!(served.call("eth_syncing", json!([])).await, far);

    let hash = *waiting(0).transaction.tx_hash();
    let pooled = served.call("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!((&pooled["hash"], &pooled["nonce"]), (&json!(hash), &json!("0x0")));
    for field in ["blockHash", "blockNumber", "transactionIndex"] {
        assert_eq!(pooled[field], Value::Null, "{field}");
    }
    let content = served.call("txpool_content", json!([])).await;
    let of = |part: &str| content[part].as_object().unwrap().values().next().unwrap().clone();
    assert_eq!(of("pending")["0"], pooled);
    assert_eq!(of("pending").as_object().unwrap().len(), 2);
    assert_eq!(of("queued")["5"]["nonce"], "0x5");

    served.call("eth_sendRawTransaction", json!([open_session(0)])).await;
    let sealed = served.call("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!(sealed["blockNumber"], "0x3", "a block is more than the pool");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_a_limit_and_no_refusal() {
    let served = served(Manner::Full, Limits::USUAL).await;
    let (code, message) = served.try_call("eth_sendRawTransaction", json!([open_session(0)])).await.unwrap_err();
    assert_eq!((code, message.as_str()), (-32_005, "txpool is full"));
}

/// What is handed in together is begun together, and each call has its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_in_one_batch_is_answered_in_its_order() {
    let batch = |ids: [u64; 3]| {
        let call = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [open_session(id)] });
        Value::from(ids.map(call).to_vec()).to_string()
    };
    let full = served(Manner::Together, Limits { call_time: Duration::from_secs(5), ..Limits::USUAL }).await;
    let answers = full.post(&batch([7, 1, 4])).await.json();
    let told = |answer: &Value| (answer["id"].as_u64().unwrap(), answer["error"]["code"].as_i64().unwrap());
    let told: Vec<_> = answers.as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [(7, -32_005), (1, -32_005), (4, -32_005)]);
    let panics = served(Manner::Panics, Limits::USUAL).await;
    assert_eq!(panics.post(&batch([0, 1, 2])).await.code(), -32_603);
    assert_eq!(panics.call("net_peerCount", json!([])).await, "0x3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_never_answers_times_out() {
    let limits = Limits { call_time: Duration::from_millis(50), ..Limits::USUAL };
    let served = served(Manner::Silent, limits).await;
    let (code, message) = served.try_call("eth_blockNumber", json!([])).await.unwrap_err();
    assert_eq!((code, message.as_str()), (-32_002, "request timed out"));
    assert_eq!(served.call("net_peerCount", json!([])).await, "0x3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_of_its_call_alone() {
    let served = served(Manner::Panics, Limits::USUAL).await;
    assert_eq!(served.code("eth_blockNumber", json!([])).await, -32_603);
    assert_eq!(served.code("eth_sendRawTransaction", json!([open_session(0)])).await, -32_603);
    let mut socket = served.socket().await;
    assert_eq!(socket.call("eth_sendRawTransaction", json!([open_session(0)])).await["error"]["code"], -32_603);
    assert_eq!(socket.call("net_peerCount", json!([])).await["result"], "0x3", "the connection lives on");
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "net_peerCount" },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_sendRawTransaction", "params": [open_session(0)] },
    ]);
    assert_eq!(served.post(&batch.to_string()).await.code(), -32_603);
    assert_eq!(served.call("net_peerCount", json!([])).await, "0x3");
}

/// Who asks and never reads: as soon as its answers are stuck nothing more is read from it, and its connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_is_let_go() {
    let limits = Limits { write_time: Duration::from_millis(500), calls_burst: u32::MAX, ..Limits::USUAL };
    let served = Served::with_limits(limits).await;
    let (mut reader, mut writer) = served.socket().await.stream.into_split();
    // Each answer is the code of a contract: a few of them fill all buffers on their way.
    let code = genesis().access_address();
    let text = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getCode", "params": [code, "latest"] }).to_string();
    let frame =
        [&[0x81, 0xfe][..], &u16::try_from(text.len()).unwrap().to_be_bytes(), &[0; 4], text.as_bytes()].concat();
    let thousand = frame.repeat(1000);
    let asked = soon(async {
        let mut asked: usize = 0;
        while asked < 10_000 && writer.write_all(&thousand).await.is_ok() {
            asked += 1;
        }
        asked
    })
    .await;
    assert!(asked < 10_000, "it takes questions without end");
    let mut answers = Vec::new();
    let _ = soon(reader.read_to_end(&mut answers)).await;
    assert_eq!(served.call("eth_blockNumber", json!([])).await, "0x2");
}
