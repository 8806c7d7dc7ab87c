//! What a server refuses, with the codes that clients know, and that it lives on after each of these.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use blockhouse_homes::rpc::Limits;
use blockhouse_homes::rpc::server::Gate;
use blockhouse_ledger::fork::ForkSide;
use blockhouse_ledger::transaction::Request;
use blockhouse_ledger::{BlockPlace, Certificate};
use blockhouse_types::BlockHash;
use serde_json::{Value, json};
use support::wire::{Served, Socket, soon};
use support::{account, genesis, ledger_key, open_session, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The server still answers others.
async fn lives(served: &Served) {
    assert_eq!(served.call("eth_blockNumber", json!([])).await, "0x2");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_get_the_standard_codes() {
    let served = Served::new().await;
    for (body, code) in [
        ("{\"jsonrpc\": \"2.0\", \"method\"", -32_700),
        ("{", -32_700),
        ("[", -32_700),
        ("[1, 2", -32_700),
        // Without an id it is not told from what is no JSON.
        ("{}", -32_700),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1}", -32_600),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": 5}", -32_600),
        ("[]", -32_600),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"eth_nothing\"}", -32_601),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"eth_getBalance\", \"params\": {\"a\": 1}}", -32_602),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"eth_getBalance\", \"params\": [\"0x1\"]}", -32_602),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"eth_getBalance\"}", -32_602),
    ] {
        assert_eq!(served.post(body).await.code(), code, "{body}");
    }
    assert_eq!(served.post("").await.status, 400);
    assert_eq!(served.post_with("{}", &[("content-type", "text/plain")]).await.status, 415);
    let host = served.address();
    assert_eq!(
        served.raw(format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes()).await.status,
        405
    );
    assert_eq!(served.raw(b"nonsense\r\n\r\n").await.status, 400);
    lives(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_told_for_every_method() {
    let served = Served::new().await;
    let account = Address::repeat_byte(1);
    for (method, params) in [
        ("eth_chainId", json!([1])),
        ("eth_getBlockByNumber", json!(["0xzz", false])),
        ("eth_getBlockByNumber", json!(["latest", "yes"])),
        ("eth_getBlockByHash", json!(["0x12", false])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["latest"])),
        ("eth_getProof", json!([account, vec!["0x0"; 1025]])),
        ("eth_getStorageAt", json!([account])),
        ("eth_call", json!([])),
        ("eth_call", json!([{ "to": account, "input": "0x01", "data": "0x02" }])),
        ("eth_getLogs", json!([{ "blockHash": B256::ZERO, "fromBlock": "0x0" }])),
        ("eth_newFilter", json!(["x"])),
        ("eth_getFilterChanges", json!([])),
        ("eth_sendRawTransaction", json!(["no bytes"])),
        ("eth_feeHistory", json!(["0x1", "latest", [50.0, 10.0]])),
        ("eth_feeHistory", json!(["0x1", "latest", [101.0]])),
        ("web3_sha3", json!(["0x0"])),
        ("blockhouse_getBlockObjects", json!(["0x0"])),
        ("blockhouse_getPastBlocks", json!(["0x0"])),
        ("blockhouse_getStatePart", json!([B256::ZERO])),
        ("blockhouse_certificate", json!(["latest"])),
        ("blockhouse_getCheckpoint", json!(["latest"])),
        ("blockhouse_getCheckpoint", json!(["0x1", "0x2"])),
    ] {
        assert_eq!(served.code(method, params.clone()).await, -32_602, "{method} {params}");
    }
    assert_eq!(served.code("eth_getBalance", json!([account, "0x99"])).await, -32_001);
    assert_eq!(served.code("eth_getLogs", json!([{ "blockHash": B256::ZERO }])).await, -32_001);
    assert_eq!(served.code("eth_getFilterChanges", json!(["0x1"])).await, -32_000);
    assert_eq!(served.call("eth_uninstallFilter", json!(["0x1"])).await, false);
}

/// Two blocks of one height that somebody certified.
fn two_blocks(height: u64) -> Value {
    let side = |timestamp| {
        let header = alloy_consensus::Header { number: height, timestamp, ..Default::default() };
        let hash = BlockHash::new(header.hash_slow().0);
        let place = BlockPlace { chain_id: genesis().chain_id, height, hash };
        Bytes::from(ForkSide { header, certificate: Certificate::solo(&ledger_key(77), &place) }.encode())
    };
    json!([side(1), side(2)])
}

/// What was seen: a node that was behind the last change of validators called a fork by the newer ones none, and was never handed it again.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_does_not_judge_a_fork_above() {
    let served = Served::new().await;
    let submit = |height| served.try_call("blockhouse_submitFork", two_blocks(height));
    let (code, message) = submit(3).await.unwrap_err();
    assert_eq!((code, message.as_str()), (-32_000, "block 3 is above block 2, the last one here: ask again later"));
    let (code, message) = submit(2).await.unwrap_err();
    assert!(code == -32_602 && message.contains("no two blocks of one height"), "{message}");
    lives(&served).await;
}

fn raw(change: impl FnOnce(&mut alloy_consensus::TxEip1559)) -> Bytes {
    use alloy_consensus::SignableTransaction;
    use alloy_network::TxSignerSync;
    let mut transaction = alloy_consensus::TxEip1559 {
        chain_id: genesis().chain_id,
        gas_limit: 100_000,
        to: TxKind::Call(Address::repeat_byte(5)),
        ..Default::default()
    };
    change(&mut transaction);
    let signature = support::signer(&account(3)).sign_transaction_sync(&mut transaction).unwrap();
    alloy_consensus::TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_the_ledger_refuses_say_why() {
    let served = Served::new().await;
    let stranger = Request {
        chain_id: genesis().chain_id,
        nonce: 0,
        to: TxKind::Call(Address::ZERO),
        input: Bytes::new(),
        gas: 50_000,
    };
    let stranger: Bytes = stranger.sign(&account(77)).encoded_2718().into();
    for (bytes, words) in [
        (raw(|transaction| transaction.chain_id = 1), "it is for chain 1"),
        (raw(|transaction| transaction.max_fee_per_gas = 1), "there are no fees"),
        (raw(|transaction| transaction.value = U256::from(1)), "it carries value"),
        (raw(|transaction| transaction.gas_limit = 1), "gas"),
        (raw(|transaction| transaction.gas_limit = u64::MAX), "exceeds"),
        (raw(|transaction| transaction.nonce = 5), "nonce"),
        (stranger, "is not enrolled"),
        (Bytes::from_static(b"\x02\xff"), "cannot be read"),
        (Bytes::new(), "cannot be read"),
    ] {
        let (code, message) = served.try_call("eth_sendRawTransaction", json!([bytes])).await.unwrap_err();
        assert_eq!(code, -32_003, "{message}");
        assert!(message.contains(words), "{words}: {message}");
    }
    lives(&served).await;
    let taken = open_session(0);
    served.call("eth_sendRawTransaction", json!([taken])).await;
    let (code, message) = served.try_call("eth_sendRawTransaction", json!([taken])).await.unwrap_err();
    assert_eq!(code, -32_003);
    assert!(message.contains("nonce") && message.contains("too low"), "{message}");
    assert_eq!(served.call("eth_blockNumber", json!([])).await, "0x3");
    // What fails inside the machine is sealed, as anywhere.
    let failing = sign(&account(3), 1, TxKind::Call(genesis().vault_address()), Bytes::from_static(b"none"), 100_000);
    let hash = served.call("eth_sendRawTransaction", json!([failing])).await;
    assert_eq!(served.call("eth_getTransactionReceipt", json!([hash])).await["status"], "0x0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_hundred_megabytes_is_not_taken() {
    let served = Served::new().await;
    let response = served.post(&" ".repeat(100 << 20)).await;
    assert_eq!(response.status, 413);
    assert_eq!(response.code(), -32_007);
    let host = served.address();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("{:x}\r\n[{}\r\n", 1 << 20, " ".repeat((1 << 20) - 1));
    let mut bytes = head.into_bytes();
    (0..8).for_each(|_| bytes.extend(chunk.as_bytes()));
    bytes.extend(b"0\r\n\r\n");
    assert_eq!(served.raw(&bytes).await.status, 500, "its length was not told beforehand");
    lives(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_and_long_batches_are_refused() {
    let served = Served::new().await;
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_call\",\"params\":[{deep}]}}");
    assert_eq!(served.post(&body).await.code(), -32_602);
    let bare = served.post(&deep).await.json();
    assert!(bare["error"]["code"].is_i64() || bare[0]["error"]["code"].is_i64(), "{bare}");
    let one = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let batch = |length| Value::Array(vec![one.clone(); length]).to_string();
    assert_eq!(served.post(&batch(101)).await.code(), -32_010);
    let answers = served.post(&batch(100)).await.json();
    assert_eq!(answers.as_array().unwrap().len(), 100);
    let mixed =
        json!([one, 5, { "jsonrpc": "2.0", "method": "eth_chainId" }, { "jsonrpc": "2.0", "id": 2, "method": "x" }]);
    let answers = served.post(&mixed.to_string()).await.json();
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(codes, [Value::Null, json!(-32_600), json!(-32_601)]);
    lives(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_drip_their_bytes_are_let_go_and_hold_up_nobody() {
    let limits = Limits {
        head_time: Duration::from_millis(300),
        request_time: Duration::from_millis(600),
        connections: 12,
        connections_per_client: 12,
        ..Limits::USUAL
    };
    let served = Served::with_limits(limits).await;
    let host = served.address();
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut head = TcpStream::connect(host).await.unwrap();
        head.write_all(b"POST / HT").await.unwrap();
        slow.push(head);
        let mut body = TcpStream::connect(host).await.unwrap();
        let text = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
        );
        body.write_all(text.as_bytes()).await.unwrap();
        slow.push(body);
    }
    lives(&served).await;
    for mut stream in slow {
        let mut rest = Vec::new();
        // Closed by the server, with or without an answer.
        let _ = soon(stream.read_to_end(&mut rest)).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    lives(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_client_are_bounded() {
    let served = Served::with_limits(Limits { connections_per_client: 2, ..Limits::USUAL }).await;
    let (first, second) = (served.socket().await, served.socket().await);
    let mut third = TcpStream::connect(served.address()).await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(soon(third.read_to_end(&mut rest)).await.unwrap_or(0), 0, "closed at once");
    drop((first, second));
    // The server hears of it when it next looks at the sockets.
    soon(async {
        while Socket::open(served.address(), &[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_so() {
    let served = Served::with_limits(Limits { calls_burst: 5, calls_per_second: 0, ..Limits::USUAL }).await;
    for _ in 0..5 {
        lives(&served).await;
    }
    assert_eq!(served.code("eth_blockNumber", json!([])).await, -32_005);
    let mut socket = served.socket().await;
    assert_eq!(socket.call("eth_nothing", json!([])).await["error"]["code"], -32_005);
    let batch = json!([{ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }]);
    assert_eq!(served.post(&batch.to_string()).await.code(), -32_005);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_and_other_pages_do_not_get_in() {
    let served = Served::new().await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }).to_string();
    let json_type = ("content-type", "application/json");
    let rebound = served.post_with(&body, &[json_type, ("host", "evil.example")]).await;
    assert_eq!(rebound.status, 403);
    assert!(served.post_with(&body, &[json_type, ("host", "localhost:1")]).await.json()["result"].is_string());
    let page = served.post_with(&body, &[json_type, ("origin", "https://evil.example")]).await;
    assert_eq!(page.status, 403);
    assert!(!page.head.contains("access-control"));
    assert_eq!(Socket::open(served.address(), &[("origin", "https://evil.example")]).await.err(), Some(403));

    let origins = vec!["https://app.example".to_owned()];
    let served = Served::with_gate(Gate { origins, ..Gate::local() }).await;
    let page = served.post_with(&body, &[json_type, ("origin", "https://app.example")]).await;
    assert!(page.head.contains("access-control-allow-origin: https://app.example"), "{}", page.head);
    assert!(page.json()["result"].is_string());
    let host = served.address();
    let ask = format!("OPTIONS / HTTP/1.1\r\nhost: {host}\r\norigin: https://app.example\r\nconnection: close\r\n\r\n");
    let preflight = served.raw(ask.as_bytes()).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.head.contains("access-control-allow-headers: content-type"));
    assert!(Socket::open(served.address(), &[("origin", "https://app.example")]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_are_refused_and_narrower_ones_given() {
    let served = Served::with_limits(Limits { log_range: 2, logs: 2, ..Limits::USUAL }).await;
    assert_eq!(served.code("eth_getLogs", json!([{ "fromBlock": "0x0" }])).await, -32_005);
    assert_eq!(served.code("eth_getLogs", json!([{ "fromBlock": "0x1", "toBlock": "0x1" }])).await, -32_005);
    assert!(served.try_call("eth_getLogs", json!([{ "fromBlock": "0x2" }])).await.is_ok());
    let served = Served::with_limits(Limits { response_bytes: 1000, ..Limits::USUAL }).await;
    let (code, _) = served.try_call("eth_getBlockByNumber", json!(["latest", true])).await.unwrap_err();
    assert_eq!(code, -32_008);
    lives(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_fails_tells_clients_nothing_of_its_files() {
    let served = Served::new().await;
    std::fs::remove_file(served.world.path()).unwrap();
    let (code, message) = served.try_call("eth_blockNumber", json!([])).await.unwrap_err();
    assert_eq!(code, -32_603);
    assert!(!message.contains("ledger.redb"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_closes_its_connections_and_its_port() {
    let served = Served::new().await;
    let mut socket = served.socket().await;
    let address = served.address();
    soon(served.server.stop()).await;
    assert!(socket.receive().await.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}
