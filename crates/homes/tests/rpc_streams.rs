//! Filters and subscriptions: each head and each log once, in order, whoever sealed it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use blockhouse_homes::rpc::{Backend, Limits};
use serde_json::{Value, json};
use support::open_session;
use support::wire::{Served, soon};

async fn send(served: &Served, nonce: u64) -> Value {
    served.call("eth_sendRawTransaction", json!([open_session(nonce)])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_get_each_head_once_and_in_order() {
    let served = Served::new().await;
    let (mut one, mut other) = (served.socket().await, served.socket().await);
    let (first, second) = (one.subscribe(json!(["newHeads"])).await, other.subscribe(json!(["newHeads"])).await);
    assert_ne!(first, second);
    for nonce in 0..5 {
        send(&served, nonce).await;
    }
    for (socket, id) in [(&mut one, &first), (&mut other, &second)] {
        for height in 3..8 {
            let (subscription, head) = socket.notified().await;
            assert_eq!((&subscription, &head["number"]), (id, &json!(format!("{height:#x}"))));
            let block = served.call("eth_getBlockByNumber", json!([head["number"], false])).await;
            assert_eq!((&head["hash"], &head["parentHash"]), (&block["hash"], &block["parentHash"]));
        }
    }
    assert_eq!(one.call("eth_unsubscribe", json!([first])).await["result"], true);
    assert_eq!(one.call("eth_unsubscribe", json!([first])).await["result"], false);
    send(&served, 5).await;
    assert_eq!(other.notified().await.1["number"], "0x8");
    // Nothing came on the other connection in between: its next message is this answer.
    one.send(&json!({ "jsonrpc": "2.0", "id": 9, "method": "eth_chainId" }).to_string()).await;
    assert_eq!(one.receive().await.unwrap()["id"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_arrivals_are_told_to_those_who_want_them() {
    let served = Served::new().await;
    let mut socket = served.socket().await;
    let arrivals = socket.subscribe(json!(["newPendingTransactions"])).await;
    let hash = send(&served, 0).await;
    assert_eq!(socket.notified().await, (arrivals, hash.clone()));
    let log = served.call("eth_getTransactionReceipt", json!([hash])).await["logs"][0].clone();

    let mut socket = served.socket().await;
    let all = socket.subscribe(json!(["logs", {}])).await;
    let wanted = socket.subscribe(json!(["logs", { "address": log["address"], "topics": [log["topics"][0]] }])).await;
    let unwanted = socket.subscribe(json!(["logs", { "address": "0x0000000000000000000000000000000000000001" }])).await;
    for nonce in 1..3 {
        let hash = send(&served, nonce).await;
        let (one, other) = (socket.notified().await, socket.notified().await);
        for (subscription, log) in [&one, &other] {
            assert_ne!(*subscription, unwanted);
            assert_eq!(log["transactionHash"], hash);
        }
        let mut told = [one.0, other.0];
        told.sort();
        let mut expected = [all.clone(), wanted.clone()];
        expected.sort();
        assert_eq!(told, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_another_process_seals_are_told_too() {
    let served = Served::new().await;
    let mut socket = served.socket().await;
    socket.subscribe(json!(["newHeads"])).await;
    served.world.another().seal(vec![open_session(0)]).await.unwrap();
    served.world.another().seal(vec![open_session(1)]).await.unwrap();
    let told = async { (socket.notified().await.1, socket.notified().await.1) };
    let (first, second) = tokio::select! {
        told = told => told,
        () = served.backend.follow() => panic!("it follows until it is dropped"),
    };
    assert_eq!((&first["number"], &second["number"]), (&json!("0x3"), &json!("0x4")));
    assert_eq!(*served.backend.heads().borrow(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_bounded_and_over_websockets_alone() {
    let served = Served::with_limits(Limits { subscriptions: 1, ..Limits::USUAL }).await;
    assert!(served.try_call("eth_subscribe", json!(["newHeads"])).await.is_err());
    let mut socket = served.socket().await;
    assert_eq!(socket.call("eth_subscribe", json!(["nothing"])).await["error"]["code"], -32_602);
    let mut socket = served.socket().await;
    assert_eq!(socket.call("eth_subscribe", json!([])).await["error"]["code"], -32_602);
    let mut socket = served.socket().await;
    let id = socket.subscribe(json!(["newHeads"])).await;
    assert_eq!(socket.call("eth_subscribe", json!(["newHeads"])).await["error"]["code"], -32_006);
    socket.call("eth_unsubscribe", json!([id])).await;
    soon(async { while socket.call("eth_subscribe", json!(["newHeads"])).await.get("result").is_none() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_give_each_block_and_log_once() {
    let served = Served::new().await;
    let blocks = served.call("eth_newBlockFilter", json!([])).await;
    let logs = served.call("eth_newFilter", json!([{}])).await;
    let later = served.call("eth_newFilter", json!([{ "fromBlock": "0x4", "toBlock": "0x4" }])).await;
    let arrivals = served.call("eth_newPendingTransactionFilter", json!([])).await;
    let changes = async |id: &Value| served.call("eth_getFilterChanges", json!([id])).await;
    for id in [&blocks, &logs, &later, &arrivals] {
        assert_eq!(changes(id).await, json!([]));
    }
    let sent = [send(&served, 0).await, send(&served, 1).await, send(&served, 2).await];
    let hash = async |number: &str| served.call("eth_getBlockByNumber", json!([number, false])).await["hash"].clone();
    assert_eq!(changes(&blocks).await, json!([hash("0x3").await, hash("0x4").await, hash("0x5").await]));
    let found = changes(&logs).await;
    let of: Vec<_> = found.as_array().unwrap().iter().map(|log| log["transactionHash"].clone()).collect();
    assert_eq!(of, sent);
    assert_eq!(changes(&later).await, json!([found[1]]));
    assert_eq!(changes(&arrivals).await, json!(sent));
    for id in [&blocks, &logs, &later, &arrivals] {
        assert_eq!(changes(id).await, json!([]), "each once");
    }
    assert_eq!(served.call("eth_getFilterLogs", json!([later])).await, json!([found[1]]));
    assert_eq!(served.code("eth_getFilterLogs", json!([blocks])).await, -32_000);
    assert_eq!(served.call("eth_uninstallFilter", json!([logs])).await, true);
    assert_eq!(served.call("eth_uninstallFilter", json!([logs])).await, false);
    assert_eq!(served.code("eth_getFilterChanges", json!([logs])).await, -32_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_bounded_and_end_when_nobody_asks() {
    let served = Served::with_limits(Limits { filters_per_client: 2, ..Limits::USUAL }).await;
    let first = served.call("eth_newBlockFilter", json!([])).await;
    served.call("eth_newBlockFilter", json!([])).await;
    assert_eq!(served.code("eth_newBlockFilter", json!([])).await, -32_005);
    served.call("eth_uninstallFilter", json!([first])).await;
    assert!(served.try_call("eth_newBlockFilter", json!([])).await.is_ok());
    let served = Served::with_limits(Limits { filter_time: Duration::ZERO, ..Limits::USUAL }).await;
    let id = served.call("eth_newBlockFilter", json!([])).await;
    assert_eq!(served.code("eth_getFilterChanges", json!([id])).await, -32_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_more_than_one_answer_holds_is_read_in_parts() {
    let served = Served::with_limits(Limits { logs: 1, log_range: 2, ..Limits::USUAL }).await;
    let logs = served.call("eth_newFilter", json!([{}])).await;
    for nonce in 0..4 {
        send(&served, nonce).await;
    }
    let mut heights = Vec::new();
    for _ in 0..4 {
        for log in served.call("eth_getFilterChanges", json!([logs])).await.as_array().unwrap() {
            heights.push(log["blockNumber"].clone());
        }
    }
    assert_eq!(heights, [json!("0x3"), json!("0x4"), json!("0x5"), json!("0x6")]);
}
