//! Every method over real HTTP: the shape of its answer, as clients of other nodes expect it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use alloy_primitives::{B256, Bytes, U256, keccak256};
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::proof::{AccountProof, SlotProof, check_receipt};
use blockhouse_ledger::state::AccountRecord;
use blockhouse_ledger::{Genesis, Replay, decode_header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::wire::Served;
use support::{account, address, genesis, open_session};

/// A value as the type that it stands for.
fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// Sends the next transaction of the writer.
async fn send(served: &Served, nonce: u64) -> String {
    let sent = served.call("eth_sendRawTransaction", json!([open_session(nonce)])).await;
    sent.as_str().unwrap().to_owned()
}

/// True for `0x` and hexadecimal digits of that many bytes.
fn is_data(value: &Value, bytes: usize) -> bool {
    read::<Bytes>(value).len() == bytes && value.as_str().unwrap().starts_with("0x")
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_the_chain_and_the_program() {
    let served = Served::new().await;
    let chain_id = genesis().chain_id;
    assert_eq!(served.call("eth_chainId", json!([])).await, format!("{chain_id:#x}"));
    assert_eq!(served.call("net_version", json!([])).await, chain_id.to_string());
    assert_eq!(served.call("net_listening", json!([])).await, true);
    assert_eq!(served.call("net_peerCount", json!([])).await, "0x0");
    assert_eq!(served.call("eth_blockNumber", json!([])).await, "0x2");
    assert_eq!(served.call("eth_syncing", json!([])).await, false);
    assert_eq!(served.call("eth_accounts", json!([])).await, json!([]));
    assert!(served.call("web3_clientVersion", json!([])).await.as_str().unwrap().starts_with("blockhouse/"));
    let hashed = served.call("web3_sha3", json!(["0x68656c6c6f20776f726c64"])).await;
    assert_eq!(hashed, "0x47173285a8d7341e5e972fc677286384f802f8ef42a5ec5f03bbfa254cb01fad");
    for method in ["eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_blobBaseFee"] {
        assert_eq!(served.call(method, json!([])).await, "0x0", "{method}");
    }
    let fees = served.call("eth_feeHistory", json!(["0x5", "latest", [10.0, 50.0]])).await;
    assert_eq!(fees["oldestBlock"], "0x0");
    assert_eq!(fees["baseFeePerGas"], json!(["0x0", "0x0", "0x0", "0x0"]));
    assert_eq!(fees["reward"], json!([["0x0", "0x0"], ["0x0", "0x0"], ["0x0", "0x0"]]));
    assert_eq!(fees["gasUsedRatio"].as_array().unwrap().len(), 3);
    assert_eq!(served.call("txpool_status", json!([])).await, json!({ "pending": "0x0", "queued": "0x0" }));
    assert_eq!(served.call("txpool_content", json!([])).await, json!({ "pending": {}, "queued": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_have_every_field_of_their_fork() {
    let served = Served::new().await;
    let hash = send(&served, 0).await;
    let block = served.call("eth_getBlockByNumber", json!(["latest", false])).await;
    for (field, bytes) in [
        ("hash", 32),
        ("parentHash", 32),
        ("sha3Uncles", 32),
        ("stateRoot", 32),
        ("transactionsRoot", 32),
        ("receiptsRoot", 32),
        ("withdrawalsRoot", 32),
        ("mixHash", 32),
        ("logsBloom", 256),
        ("miner", 20),
        ("nonce", 8),
        ("extraData", 0),
    ] {
        assert!(is_data(&block[field], bytes), "{field}: {}", block[field]);
    }
    for field in ["number", "timestamp", "gasLimit", "gasUsed", "difficulty", "baseFeePerGas", "size"] {
        let digits = block[field].as_str().unwrap().strip_prefix("0x").unwrap();
        assert!(digits == "0" || !digits.starts_with('0'), "{field}: {digits}");
    }
    assert_eq!((&block["number"], &block["baseFeePerGas"]), (&json!("0x3"), &json!("0x0")));
    assert_eq!((&block["uncles"], &block["withdrawals"]), (&json!([]), &json!([])));
    assert_eq!(block["transactions"], json!([hash]));

    let full = served.call("eth_getBlockByHash", json!([block["hash"], true])).await;
    let transaction = &full["transactions"][0];
    assert_eq!(transaction["hash"], hash);
    for (field, value) in [
        ("blockHash", block["hash"].clone()),
        ("blockNumber", json!("0x3")),
        ("transactionIndex", json!("0x0")),
        ("type", json!("0x2")),
        ("chainId", json!(format!("{:#x}", genesis().chain_id))),
        ("from", json!(address(&account(3)))),
        ("to", json!(genesis().vault_address())),
        ("nonce", json!("0x0")),
        ("value", json!("0x0")),
        ("gas", json!("0xf4240")),
        ("gasPrice", json!("0x0")),
        ("maxFeePerGas", json!("0x0")),
        ("maxPriorityFeePerGas", json!("0x0")),
        ("accessList", json!([])),
    ] {
        assert_eq!(transaction[field].to_string().to_lowercase(), value.to_string().to_lowercase(), "{field}");
    }
    for field in ["r", "s", "v", "yParity", "input"] {
        assert!(transaction[field].as_str().unwrap().starts_with("0x"), "{field}");
    }
    for (method, place) in [
        ("eth_getTransactionByHash", json!([hash])),
        ("eth_getTransactionByBlockHashAndIndex", json!([block["hash"], "0x0"])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["latest", "0x0"])),
    ] {
        assert_eq!(&served.call(method, place).await, transaction, "{method}");
    }
    for (tag, number) in
        [("earliest", "0x0"), ("latest", "0x3"), ("safe", "0x3"), ("finalized", "0x3"), ("pending", "0x3")]
    {
        assert_eq!(served.call("eth_getBlockByNumber", json!([tag, false])).await["number"], number, "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_uncles_and_what_is_not_there() {
    let served = Served::new().await;
    let first = served.call("eth_getBlockByNumber", json!(["0x1", false])).await;
    assert_eq!(served.call("eth_getBlockTransactionCountByNumber", json!(["0x1"])).await, "0x3");
    assert_eq!(served.call("eth_getBlockTransactionCountByHash", json!([first["hash"]])).await, "0x3");
    assert_eq!(served.call("eth_getUncleCountByBlockNumber", json!(["0x1"])).await, "0x0");
    assert_eq!(served.call("eth_getUncleCountByBlockHash", json!([first["hash"]])).await, "0x0");
    let nothing = B256::repeat_byte(1);
    for (method, params) in [
        ("eth_getUncleByBlockNumberAndIndex", json!(["0x1", "0x0"])),
        ("eth_getUncleByBlockHashAndIndex", json!([first["hash"], "0x0"])),
        ("eth_getBlockByNumber", json!(["0x99", false])),
        ("eth_getBlockByHash", json!([nothing, true])),
        ("eth_getBlockReceipts", json!(["0x99"])),
        ("eth_getBlockTransactionCountByNumber", json!(["0x99"])),
        ("eth_getBlockTransactionCountByHash", json!([nothing])),
        ("eth_getUncleCountByBlockNumber", json!(["0x99"])),
        ("eth_getUncleCountByBlockHash", json!([nothing])),
        ("eth_getTransactionByHash", json!([nothing])),
        ("eth_getTransactionReceipt", json!([nothing])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x3"])),
        ("eth_getTransactionByBlockHashAndIndex", json!([nothing, "0x0"])),
        ("blockhouse_certificate", json!(["0x99"])),
        ("blockhouse_getCheckpoint", json!(["0x99"])),
        ("blockhouse_getCheckpoint", json!(["0x0"])),
        ("blockhouse_getReceiptProof", json!([nothing])),
    ] {
        assert_eq!(served.call(method, params).await, Value::Null, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_logs_name_their_places() {
    let served = Served::new().await;
    let hash = send(&served, 0).await;
    let receipt = served.call("eth_getTransactionReceipt", json!([hash])).await;
    let block = served.call("eth_getBlockByNumber", json!(["latest", false])).await;
    for (field, value) in [
        ("transactionHash", json!(hash)),
        ("transactionIndex", json!("0x0")),
        ("blockHash", block["hash"].clone()),
        ("blockNumber", json!("0x3")),
        ("status", json!("0x1")),
        ("type", json!("0x2")),
        ("effectiveGasPrice", json!("0x0")),
        ("contractAddress", Value::Null),
        ("gasUsed", block["gasUsed"].clone()),
        ("cumulativeGasUsed", block["gasUsed"].clone()),
        ("logsBloom", block["logsBloom"].clone()),
    ] {
        assert_eq!(receipt[field], value, "{field}");
    }
    let logs = served.call("eth_getLogs", json!([{ "fromBlock": "0x3" }])).await;
    assert_eq!(logs, receipt["logs"]);
    let log = &logs[0];
    assert_eq!(
        (&log["logIndex"], &log["removed"], &log["transactionHash"]),
        (&json!("0x0"), &json!(false), &json!(hash))
    );
    assert_eq!(served.call("eth_getBlockReceipts", json!(["latest"])).await, json!([receipt]));

    let by_topic = json!([{ "fromBlock": "earliest", "toBlock": "latest", "topics": [log["topics"][0]] }]);
    assert_eq!(served.call("eth_getLogs", by_topic).await, logs);
    let by_hash = json!([{ "blockHash": block["hash"], "address": [log["address"]] }]);
    assert_eq!(served.call("eth_getLogs", by_hash).await, logs);
    let other = json!([{ "fromBlock": "0x0", "address": address(&account(3)) }]);
    assert_eq!(served.call("eth_getLogs", other).await, json!([]));
    let deployed = served.call("eth_getBlockReceipts", json!(["0x1"])).await;
    let created: Vec<String> = read::<Vec<Value>>(&deployed).iter().map(|one| read(&one["contractAddress"])).collect();
    assert_eq!(created.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_head_comes_with_its_proof() {
    let served = Served::new().await;
    let (owner, access) = (address(&account(1)), genesis().access_address());
    assert_eq!(served.call("eth_getBalance", json!([owner, "latest"])).await, "0x0");
    assert_eq!(served.call("eth_getTransactionCount", json!([owner, "latest"])).await, "0x4");
    assert_eq!(served.call("eth_getTransactionCount", json!([owner, "pending"])).await, "0x4");
    assert_eq!(served.call("eth_getCode", json!([owner, "latest"])).await, "0x");
    assert!(read::<Bytes>(&served.call("eth_getCode", json!([access, "latest"])).await).len() > 1000);
    let slot = served.call("eth_getStorageAt", json!([access, "0x0", "latest"])).await;
    assert!(is_data(&slot, 32));

    let proof = served.call("eth_getProof", json!([access, ["0x0"], "latest"])).await;
    let proved = &proof["storageProof"][0];
    let record = AccountRecord {
        nonce: read::<alloy_primitives::U64>(&proof["nonce"]).to(),
        balance: read(&proof["balance"]),
        code_hash: read(&proof["codeHash"]),
        storage_root: read(&proof["storageHash"]),
    };
    let value: U256 = read(&proved["value"]);
    assert_eq!(B256::from(value), read::<B256>(&slot));
    let slots = vec![SlotProof { key: U256::ZERO, value, nodes: read(&proved["proof"]) }];
    let checked = AccountProof { account: access, record, nodes: read(&proof["accountProof"]), slots };
    let head = served.call("eth_getBlockByNumber", json!(["latest", false])).await;
    checked.check(read(&head["stateRoot"])).unwrap();

    // Of the blocks before too: see `past_states`.
    assert_eq!(served.call("eth_getTransactionCount", json!([owner, "0x1"])).await, "0x3");
    assert_eq!(served.call("eth_getTransactionCount", json!([owner, "earliest"])).await, "0x0");
    assert_eq!(served.call("eth_getCode", json!([access, "0x0"])).await, "0x");
    assert_eq!(served.code("eth_getBalance", json!([owner, "0x3"])).await, -32_001);
    let head_hash = json!([owner, { "blockHash": head["hash"], "requireCanonical": true }]);
    assert_eq!(served.call("eth_getBalance", head_hash).await, "0x0");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_estimates_and_access_lists_agree_with_the_transaction() {
    let served = Served::new().await;
    let input = hex_of_session();
    let call = json!({ "from": address(&account(3)), "to": genesis().vault_address(), "input": input });
    assert!(is_data(&served.call("eth_call", json!([call, "latest"])).await, 32));
    let estimate: U256 = read(&served.call("eth_estimateGas", json!([call])).await);
    let list = served.call("eth_createAccessList", json!([call])).await;
    assert!(list.get("error").is_none());
    let listed: Vec<Value> = read(&list["accessList"]);
    let vault =
        listed.iter().find(|item| read::<alloy_primitives::Address>(&item["address"]) == genesis().vault_address());
    assert!(!vault.unwrap()["storageKeys"].as_array().unwrap().is_empty());
    let hash = send(&served, 0).await;
    let used: U256 = read(&served.call("eth_getTransactionReceipt", json!([hash])).await["gasUsed"]);
    assert!(estimate >= used, "{estimate} {used}");
    assert!(estimate < used * U256::from(2));

    let refused = json!([{ "from": address(&account(77)), "to": genesis().vault_address(), "input": input }]);
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": refused });
    let error = served.post(&request.to_string()).await.json()["error"].clone();
    assert_eq!((&error["code"], &error["message"]), (&json!(3), &json!("execution reverted")));
    assert!(read::<Bytes>(&error["data"]).len() >= 4, "the contract's own error: {error}");
    let failed = served.call("eth_createAccessList", refused.clone()).await;
    assert_eq!(failed["error"], "execution reverted");
    assert_eq!(served.code("eth_estimateGas", refused).await, 3);
}

fn hex_of_session() -> Bytes {
    use alloy_sol_types::SolCall;
    blockhouse_ledger::contracts::Vault::openSessionCall { leaseSeconds: 600 }.abi_encode().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_the_calls_inside_a_transaction() {
    let served = Served::new().await;
    let hash = send(&served, 0).await;
    let options = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true }, "timeout": "10s" });
    let trace = served.call("debug_traceTransaction", json!([hash, options])).await;
    let receipt = served.call("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!((&trace["type"], &trace["gas"], &trace["value"]), (&json!("CALL"), &json!("0xf4240"), &json!("0x0")));
    assert_eq!(
        (&trace["gasUsed"], &trace["from"], &trace["to"]),
        (&receipt["gasUsed"], &receipt["from"], &receipt["to"])
    );
    assert_eq!(read::<Bytes>(&trace["input"]), hex_of_session());
    assert!(is_data(&trace["output"], 32));
    assert_eq!(trace["logs"][0]["topics"], receipt["logs"][0]["topics"]);
    // `Vault` asks `Access` whether the sender is enrolled.
    let inner = &trace["calls"][0];
    assert_eq!(inner["type"], "STATICCALL");
    assert!(inner.get("value").is_none());
    assert_eq!(read::<alloy_primitives::Address>(&inner["to"]), genesis().access_address());

    let first = served.call("eth_getBlockByNumber", json!(["0x1", false])).await["transactions"][0].clone();
    let created = served.call("debug_traceTransaction", json!([first, { "tracer": "callTracer" }])).await;
    assert_eq!(created["type"], "CREATE");
    assert_eq!(read::<alloy_primitives::Address>(&created["to"]), genesis().access_address());
    assert_eq!(served.code("debug_traceTransaction", json!([hash])).await, -32_602);
    assert_eq!(served.code("debug_traceTransaction", json!([B256::ZERO, options])).await, -32_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn block_objects_rebuild_the_ledger_and_proofs_hold() {
    let served = Served::new().await;
    let hash = send(&served, 0).await;
    let bytes: Bytes = read(&served.call("blockhouse_genesis", json!([])).await);
    assert_eq!(Genesis::decode(&bytes).unwrap(), genesis());
    let first: Vec<Bytes> = read(&served.call("blockhouse_getBlockObjects", json!(["0x0", "0x2"])).await);
    let rest: Vec<Bytes> = read(&served.call("blockhouse_getBlockObjects", json!(["0x2", "0x99"])).await);
    assert_eq!((first.len(), rest.len()), (2, 2));
    assert_eq!(served.call("blockhouse_getBlockObjects", json!(["0x4", "0x1"])).await, json!([]));
    let objects: Vec<_> = first.iter().chain(&rest).map(|bytes| BlockObject::decode(bytes).unwrap()).collect();
    let mut replay = Replay::begin(&objects[0]).unwrap();
    for object in &objects[1..] {
        replay.extend(object).unwrap();
    }
    let standing = served.call("blockhouse_standing", json!([])).await;
    assert_eq!(standing["height"], "0x3");
    assert_eq!(read::<B256>(&standing["hash"]), replay.head().hash_slow());
    let ours = served.world.home.standing().await.unwrap();
    assert_eq!(read::<B256>(&standing["fingerprint"]).0, ours.fingerprint.to_bytes());
    assert_eq!((&standing["handovers"], read::<B256>(&standing["ledgerKey"]).0), (&json!([]), ours.keys.in_force()));
    let certificate: Bytes = read(&served.call("blockhouse_certificate", json!(["0x3"])).await);
    assert_eq!(Certificate::decode(&certificate).unwrap(), objects[3].certificate);

    let proof = served.call("blockhouse_getReceiptProof", json!([hash])).await;
    let header = decode_header(&read::<Bytes>(&proof["header"])).unwrap();
    assert_eq!(header.hash_slow(), replay.head().hash_slow());
    let index: alloy_primitives::U64 = read(&proof["transactionIndex"]);
    let (receipt, nodes): (Bytes, Vec<Bytes>) = (read(&proof["transactionReceipt"]), read(&proof["proof"]));
    check_receipt(header.receipts_root, index.to(), &receipt, &nodes).unwrap();
    assert!(check_receipt(keccak256([]), index.to(), &receipt, &nodes).is_err());
    assert_eq!(read::<Bytes>(&proof["certificate"]), certificate);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_account_object_and_topic_and_told_in_words() {
    let served = Served::new().await;
    for nonce in 0..3 {
        send(&served, nonce).await;
        served.world.tick(5);
    }
    let writer = address(&account(3));
    let first = served.call("blockhouse_getEvents", json!([{ "account": writer, "limit": "0x2" }])).await;
    let events = first["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    let newest = &events[0];
    assert_eq!((&newest["blockNumber"], &newest["logIndex"]), (&json!("0x5"), &json!("0x0")));
    let log = &served.call("eth_getLogs", json!([{ "fromBlock": "0x5" }])).await[0];
    for (field, value) in log.as_object().unwrap() {
        assert_eq!(&newest[field], value, "{field}");
    }
    assert!(newest["blockTimestamp"].as_str().unwrap().starts_with("0x"));
    let words = &newest["event"];
    assert_eq!((&words["contract"], &words["name"]), (&json!("vault"), &json!("SessionOpened")));
    assert_eq!(words["fields"]["writer"], hex::encode(writer));
    let rest = json!([{ "account": writer, "cursor": first["next"] }]);
    let rest = served.call("blockhouse_getEvents", rest).await;
    let names: Vec<_> = rest["events"].as_array().unwrap().iter().map(|event| &event["event"]["name"]).collect();
    assert_eq!(names, [&json!("SessionOpened"), &json!("WriterEnrolled")]);
    assert!(rest["next"].is_null() && rest.get("resume").is_none());

    let session = &newest["topics"][1];
    let about = served.call("blockhouse_getEvents", json!([{ "object": session, "order": "oldest" }])).await;
    assert_eq!(about["events"].as_array().unwrap().len(), 1);
    assert!(about["resume"].is_string());
    let question = json!([{ "topic": newest["topics"][0], "emitter": genesis().access_address() }]);
    assert_eq!(served.call("blockhouse_getEvents", question).await["events"], json!([]));
    let all = served.call("blockhouse_getEvents", json!([])).await;
    let logs = served.call("eth_getLogs", json!([{ "fromBlock": "0x0" }])).await;
    assert_eq!(all["events"].as_array().unwrap().len(), logs.as_array().unwrap().len());
    assert_eq!(served.code("blockhouse_getEvents", json!([{ "accounts": writer }])).await, -32_602);
}

#[tokio::test(flavor = "multi_thread")]
async fn costly_methods_are_offered_only_when_asked_for() {
    let served = Served::with(|options| options.debug = false).await;
    for method in ["debug_traceTransaction", "txpool_content"] {
        assert_eq!(served.code(method, json!([B256::ZERO])).await, -32_601, "{method}");
    }
    assert!(served.try_call("txpool_status", json!([])).await.is_ok());
}

/// `docs/reference/json-rpc.md` names every method, and the server has every method that it names.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_server_have_the_same_methods() {
    let page = include_str!("../../../docs/reference/json-rpc.md");
    let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let spaces = ["eth_", "net_", "web3_", "txpool_", "debug_", "blockhouse_"];
    let named: std::collections::BTreeSet<_> =
        words.filter(|word| spaces.iter().any(|space| word.starts_with(space))).collect();
    for method in blockhouse_homes::rpc::method_names() {
        assert!(named.contains(method), "the page does not name {method}");
    }
    let served = Served::new().await;
    for method in named {
        if let Err((code, message)) = served.try_call(method, json!([])).await {
            assert_ne!(code, -32_601, "{method}: {message}");
        }
    }
}
