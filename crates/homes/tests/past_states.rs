//! What a server answers of the states of the last blocks: what it answered when each of these blocks was the head; and traces, which begin at
//! such a state.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use alloy_primitives::{B256, U64};
use alloy_sol_types::SolCall as _;
use blockhouse_homes::Embedded;
use blockhouse_ledger::contracts::Vault;
use redb::{Database, TableDefinition};
use serde_json::{Value, json};
use support::wire::Served;
use support::{account, address, genesis, open_session, options};

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const UNDO: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("undo");

/// How many states below the head's are kept.
const KEPT: u64 = 128;
/// The head at the end: some states are gone then.
const HEAD: u64 = KEPT + 12;
const EARLIEST: u64 = HEAD - KEPT;
/// A block whose record is altered.
const ALTERED: u64 = HEAD - 20;

/// Questions about a state; the block is to be put behind their parameters.
fn questions() -> Vec<(&'static str, Value)> {
    let (writer, vault) = (address(&account(3)), genesis().vault_address());
    let session = Vault::openSessionCall { leaseSeconds: 600 }.abi_encode();
    let call = json!({ "from": writer, "to": vault, "input": alloy_primitives::Bytes::from(session) });
    vec![
        ("eth_getBalance", json!([writer])),
        ("eth_getTransactionCount", json!([writer])),
        ("eth_getCode", json!([vault])),
        ("eth_getStorageAt", json!([vault, "0x0"])),
        ("eth_getProof", json!([vault, ["0x0", "0x1", "0x2", "0x3"]])),
        ("eth_getProof", json!([writer, []])),
        // Its answer is the id of the session, made of the nonce and the block: it differs with each of them.
        ("eth_call", json!([call])),
    ]
}

/// All answers at a block.
async fn answers(served: &Served, block: &Value) -> Vec<Value> {
    let mut answers = Vec::new();
    for (method, params) in questions() {
        let mut params = params.as_array().unwrap().clone();
        params.push(block.clone());
        answers.push(served.call(method, Value::Array(params)).await);
    }
    answers
}

fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}

/// What was answered at heads.
type Told = BTreeMap<u64, Vec<Value>>;

/// A ledger with a session in each block from 3 on, by their transactions, and what was answered at some heads.
async fn grown() -> (Served, Told, Vec<String>) {
    let served = Served::new().await;
    let (mut told, mut hashes) = (Told::new(), Vec::new());
    for height in 3..=HEAD {
        served.world.tick(30);
        let sent = served.call("eth_sendRawTransaction", json!([open_session(height - 3)])).await;
        hashes.push(sent.as_str().unwrap().to_owned());
        if [EARLIEST, EARLIEST + 1, ALTERED - 1, HEAD - 2, HEAD - 1, HEAD].contains(&height) {
            told.insert(height, answers(&served, &json!("latest")).await);
        }
    }
    (served, told, hashes)
}

async fn trace(served: &Served, hash: &str) -> Result<Value, (i64, String)> {
    let options = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } });
    served.try_call("debug_traceTransaction", json!([hash, options])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_states_answer_as_they_did_and_earlier_ones_say_which_are_kept() {
    let (served, told, hashes) = grown().await;
    for (height, told) in &told {
        let block = served.call("eth_getBlockByNumber", json!([quantity(*height), false])).await;
        assert_eq!(answers(&served, &quantity(*height)).await, *told, "block {height}");
        assert_eq!(answers(&served, &json!({ "blockHash": block["hash"] })).await, *told, "block {height}");
    }
    assert_ne!(told[&EARLIEST], told[&(EARLIEST + 1)]);
    assert_ne!(told[&(HEAD - 1)], told[&HEAD]);
    expect_refusal(&served, EARLIEST - 1).await;
    expect_refusal(&served, 0).await;
    expect_costs_of_then(&served, EARLIEST).await;
    expect_traces(&served, &hashes).await;
    expect_errors_of_an_altered_record(&served, &told[&(ALTERED - 1)]).await;
    expect_same_after_rebuilding(&served).await;
}

async fn expect_refusal(served: &Served, height: u64) {
    let words = format!(
        "missing trie node: the state of block {height} is not kept, only those of blocks {EARLIEST} to {HEAD}"
    );
    let more = [("eth_estimateGas", json!([{}])), ("eth_createAccessList", json!([{}]))];
    for (method, params) in questions().into_iter().chain(more) {
        let mut params = params.as_array().unwrap().clone();
        params.push(quantity(height));
        let error = served.try_call(method, Value::Array(params)).await.unwrap_err();
        assert_eq!(error, (-32_000, words.clone()), "{method}");
    }
}

/// Estimates and lists too are of the state that is named.
async fn expect_costs_of_then(served: &Served, height: u64) {
    let (_, params) = questions().pop().unwrap();
    let call = &params[0];
    for block in [quantity(height), json!("latest")] {
        let gas = served.call("eth_estimateGas", json!([call, block])).await;
        assert!(serde_json::from_value::<U64>(gas).unwrap() > U64::from(21_000));
        let list = served.call("eth_createAccessList", json!([call, block])).await;
        assert!(list.get("error").is_none() && !list["accessList"].as_array().unwrap().is_empty(), "{list}");
    }
    let stranger = json!({ "from": address(&account(77)), "to": call["to"], "input": call["input"] });
    assert_eq!(served.code("eth_estimateGas", json!([stranger, quantity(height)])).await, 3);
}

/// A trace by the state that is kept is the one by running the chain again, and needs no earlier block.
async fn expect_traces(served: &Served, hashes: &[String]) {
    let of = |height: u64| &hashes[usize::try_from(height - 3).unwrap()];
    // The first whose parent's state is kept, and the last whose is not.
    let (kept, replayed) = (of(EARLIEST + 1), of(EARLIEST));
    let traced = trace(served, kept).await.unwrap();
    assert!(traced["calls"].as_array().is_some_and(|calls| !calls.is_empty()));
    trace(served, replayed).await.unwrap();
    // Its hash stands in the header; its last byte does not.
    let path = served.world.path();
    let block = alter(&path, BLOCKS, 5, |row| *row.last_mut().unwrap() ^= 1);
    assert_eq!(trace(served, kept).await.unwrap(), traced);
    assert_eq!(trace(served, replayed).await.unwrap_err().0, -32_603, "block 5 is damaged");
    put(&path, BLOCKS, 5, &block);
    // The same transaction both ways: with the next block that state is gone.
    served.world.tick(30);
    served.call("eth_sendRawTransaction", json!([open_session(HEAD - 2)])).await;
    assert_eq!(served.code("eth_getBalance", json!([genesis().vault_address(), quantity(EARLIEST)])).await, -32_000);
    assert_eq!(trace(served, kept).await.unwrap(), traced);
}

/// The row as it was before `change`.
fn alter(
    path: &Path,
    table: TableDefinition<'_, u64, &'static [u8]>,
    height: u64,
    change: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let before = transaction.open_table(table).unwrap().remove(height).unwrap().unwrap().value().to_vec();
    let mut row = before.clone();
    change(&mut row);
    transaction.open_table(table).unwrap().insert(height, row.as_slice()).unwrap();
    transaction.commit().unwrap();
    before
}

fn put(path: &Path, table: TableDefinition<'_, u64, &'static [u8]>, height: u64, row: &[u8]) {
    alter(path, table, height, |place| row.clone_into(place));
}

/// Whatever stands in a record, no answer is another one.
async fn expect_errors_of_an_altered_record(served: &Served, told: &[Value]) {
    let path = served.world.path();
    let length = alter(&path, UNDO, ALTERED, |_| {}).len();
    let mut refused = 0;
    for place in (0..length).step_by(length / 24) {
        let before = alter(&path, UNDO, ALTERED, |row| row[place] ^= 0x11);
        for ((method, params), told) in questions().into_iter().zip(told) {
            let mut params = params.as_array().unwrap().clone();
            params.push(quantity(ALTERED - 1));
            match served.try_call(method, Value::Array(params)).await {
                Ok(answer) => assert_eq!(answer, *told, "{method} with byte {place} of {length}"),
                Err((code, _)) => {
                    assert_eq!(code, -32_603, "{method} with byte {place} of {length}");
                    refused += 1;
                }
            }
        }
        put(&path, UNDO, ALTERED, &before);
    }
    assert!(refused > questions().len(), "only {refused} answers were refused");
    assert_eq!(answers(served, &quantity(ALTERED - 1)).await, *told);
}

/// A store that was made anew from its blocks keeps the same states.
async fn expect_same_after_rebuilding(served: &Served) {
    let blocks = served.world.home.block_objects(0, usize::MAX).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rebuilt = Embedded::new(options(&folder.path().join("ledger.redb"), &served.world.clock));
    rebuilt.rebuild_from(blocks).await.unwrap();
    let states = |home: Embedded| async move {
        let read = home.read(|store| {
            let roots = (store.states_from()..=store.height()).map(|height| {
                let at = store.state_at(height).unwrap().unwrap();
                let counted = blockhouse_ledger::check_whole(at.header().state_root, &at).unwrap();
                (at.header().state_root, counted)
            });
            roots.collect::<Vec<(B256, usize)>>()
        });
        read.await.unwrap()
    };
    let (one, other) = (states(served.world.home.clone()).await, states(rebuilt).await);
    assert_eq!(one.len() as u64, KEPT + 1);
    assert_eq!(one, other);
}
