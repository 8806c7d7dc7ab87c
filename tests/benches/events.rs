//! `blockhouse_getEvents` over a million events: how long a page takes, and what the index costs each block and on the disk.
//!
//! The blocks are made here and not executed: 10,000 blocks of 100 commits of snapshots, each with a signed transaction of the size of a
//! commit and the receipt that a commit has, by 20 writers from 200 sources. All go through [`Store::append`], as executed ones do,
//! and are read back with all their checks. The state does not change.
//!
//! `cargo bench --profile ci --workspace --bench events -- [--blocks N]`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

use std::time::{Duration, Instant};

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, TxEnvelope};
use alloy_primitives::{Address, B256, Bloom, TxKind, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::network::Chain;
use blockhouse_homes::rpc::answer_text;
use blockhouse_homes::store::Access;
use blockhouse_homes::{Embedded, Store};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::genesis::DEFAULT_GAS_LIMIT;
use blockhouse_ledger::{BlockPlace, BlockTime, Certificate, Executed, Fork, Genesis, Request, block_hash, build};
use blockhouse_types::{RecipientSetHash, VaultId};
use serde_json::{Value, json};

const EVENTS: u64 = 100;
const WRITERS: u64 = 20;
const SOURCES: u64 = 200;
const ROUNDS: u64 = 200;

fn account(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

fn word(kind: u8, number: u64) -> B256 {
    keccak256([&[kind][..], &number.to_be_bytes()].concat())
}

fn address(number: u64) -> Address {
    Address::from_word(word(1, number))
}

struct Filler {
    genesis: Genesis,
    key: LedgerKey,
    transactions: Vec<TxEnvelope>,
}

impl Filler {
    fn new() -> Self {
        let key = LedgerKey::from_seed(&Secret::new([9; 32]));
        let genesis = Genesis {
            vault_id: VaultId::new([1; 32]),
            chain_id: (1 << 32) + 7,
            owner: account(1).account(),
            recovery: vec![account(2).account()],
            ledger_key: key.public(),
            time: 1_700_000_000,
            gas_limit: DEFAULT_GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new([5; 32]),
            governance: None,
        };
        let transaction = |nonce| {
            let input = Vault::commitCall { c: commit(nonce) }.abi_encode().into();
            let to = TxKind::Call(genesis.vault_address());
            Request { chain_id: genesis.chain_id, nonce, to, input, gas: 700_000 }.sign(&account(3))
        };
        let transactions = (0..EVENTS).map(transaction).collect();
        Self { genesis, key, transactions }
    }

    fn certificate(&self, executed: &Executed) -> Certificate {
        let (chain_id, height) = (self.genesis.chain_id, executed.block.header.number);
        Certificate::solo(&self.key, &BlockPlace { chain_id, height, hash: executed.hash })
    }

    /// The block after the head, like the empty one that is given.
    fn block(&self, store: &Store, empty: &Executed) -> Executed {
        let mut executed = empty.clone();
        let (height, parent) = (store.height() + 1, store.head().header());
        executed.receipts = (0..EVENTS).map(|index| self.receipt(height * EVENTS + index)).collect();
        executed.block.body.transactions.clone_from(&self.transactions);
        let header = &mut executed.block.header;
        (header.number, header.parent_hash, header.timestamp) = (height, store.head().hash(), parent.timestamp + 1);
        header.transactions_root = calculate_transaction_root(&executed.block.body.transactions);
        header.receipts_root = calculate_receipt_root(&executed.receipts);
        header.logs_bloom = executed.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        executed.hash = block_hash(&executed.block.header);
        executed
    }

    fn receipt(&self, number: u64) -> ReceiptEnvelope {
        let data = commit(number);
        let writer = address(number % WRITERS);
        let event = Vault::SnapshotCommitted { source: data.source, snapshot: data.snapshot, writer, data };
        let log = alloy_primitives::Log { address: self.genesis.vault_address(), data: event.encode_log_data() };
        let receipt =
            Receipt { status: Eip658Value::Eip658(true), cumulative_gas_used: 350_000 * number, logs: vec![log] };
        ReceiptEnvelope::Eip1559(receipt.with_bloom())
    }
}

/// Every writer has its own sources; so a writer and a source of another have no event together.
fn commit(number: u64) -> Vault::Commit {
    Vault::Commit {
        session: word(2, number / 1000),
        source: word(3, number % SOURCES),
        snapshot: word(4, number),
        objectHash: word(5, number),
        listRoot: word(6, number),
        storedBytes: 1 << 20,
        recipients: B256::repeat_byte(5),
        tags: Vec::new(),
        parent: B256::ZERO,
        d: 6,
        w: 2,
        wd: 1,
        headHeight: 0,
        headHash: B256::ZERO,
    }
}

fn main() {
    let blocks = blocks();
    let folder = tempfile::tempdir().unwrap();
    let (path, filler) = (folder.path().join("ledger.redb"), Filler::new());
    Embedded::create(&path, &filler.genesis, &filler.key).unwrap();
    let mut store = Store::open(&path, Access::Write, Duration::ZERO, None).unwrap();
    let time = BlockTime::of_seconds(filler.genesis.time + 1);
    let empty = build(store.genesis(), store.head().header(), &store, Vec::new(), time).unwrap();
    let mut took = Vec::new();
    for _ in 0..blocks {
        let executed = filler.block(&store, &empty);
        let certificate = filler.certificate(&executed);
        let started = Instant::now();
        store.append(&executed, &certificate).unwrap();
        took.push(started.elapsed());
    }
    println!("\n{} events in {blocks} blocks, {} MiB on disk", blocks * EVENTS, path.metadata().unwrap().len() >> 20);
    println!("\n| a block of {EVENTS} events made durable | p50 | p99 |\n|---|---:|---:|");
    let tenth = took.len().div_ceil(10);
    row("the first tenth", &mut took[..tenth].to_vec());
    let last = took.len() - tenth;
    row("the last tenth", &mut took[last..].to_vec());
    let store = Chain::open(store, filler.key.public()).unwrap().head();
    ask_all(&store);
}

/// A question for each number.
type Question = fn(u64) -> Value;

fn ask_all(store: &Store) {
    let topic = Vault::SnapshotCommitted::SIGNATURE_HASH;
    println!("\n| page of 50 | p50 | p99 |\n|---|---:|---:|");
    let questions: [(&str, Question); 5] = [
        ("account", |n| json!({ "account": address(n % WRITERS) })),
        ("object: a source", |n| json!({ "object": word(3, n % SOURCES) })),
        ("object: a snapshot", |n| json!({ "object": word(4, EVENTS + n * 97) })),
        ("account and source", |n| json!({ "account": address(n % WRITERS), "object": word(3, n % SOURCES) })),
        (
            "account and a source it never wrote to",
            |n| json!({ "account": address(n % WRITERS), "object": word(3, (n + 1) % SOURCES) }),
        ),
    ];
    for (name, question) in questions {
        measure(store, name, question);
    }
    measure(store, "topic", |_| json!({ "topic": Vault::SnapshotCommitted::SIGNATURE_HASH }));
    measure(
        store,
        "topic, oldest first",
        |_| json!({ "topic": Vault::SnapshotCommitted::SIGNATURE_HASH, "order": "oldest" }),
    );
    measure(store, "all", |_| json!({}));
    let filter = json!({ "fromBlock": "0x1", "address": store.genesis().vault_address(), "topics": [topic, null, word(4, 777)] });
    let mut took: Vec<_> = (0..20).map(|_| timed(store, "eth_getLogs", &filter).1).collect();
    row("eth_getLogs of one snapshot over all blocks (20 times)", &mut took);
}

/// First pages, and pages after a hundred others.
fn measure(store: &Store, name: &str, question: impl Fn(u64) -> Value) {
    let (mut first, mut deep, mut hits, mut calls) = (Vec::new(), Vec::new(), 0, 0);
    for number in 0..ROUNDS {
        let mut question = question(number);
        question["limit"] = json!("0x32");
        let (answer, took) = timed(store, "blockhouse_getEvents", &question);
        first.push(took);
        hits += answer["events"].as_array().unwrap().len();
        calls += 1;
        if number % 20 == 0 {
            let mut next = answer["next"].clone();
            for depth in 0..100 {
                if next.is_null() {
                    break;
                }
                question["cursor"] = next;
                let (answer, took) = timed(store, "blockhouse_getEvents", &question);
                if depth >= 80 {
                    deep.push(took);
                }
                next = answer["next"].clone();
            }
        }
    }
    row(&format!("{name}: first page, {} events", hits / calls), &mut first);
    if !deep.is_empty() {
        row(&format!("{name}: after 80 pages"), &mut deep);
    }
}

fn timed(store: &Store, method: &str, question: &Value) -> (Value, Duration) {
    let params = json!([question]).to_string();
    let started = Instant::now();
    let answer = answer_text(store, method, &params).unwrap().unwrap();
    (serde_json::from_str(&answer).unwrap(), started.elapsed())
}

fn row(name: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_micros();
    println!("| {name} | {} µs | {} µs |", at(50), at(99));
}

fn blocks() -> u64 {
    let mut words = std::env::args().skip(1).skip_while(|word| word != "--blocks");
    words.nth(1).map_or(10_000, |text| text.parse().unwrap())
}
