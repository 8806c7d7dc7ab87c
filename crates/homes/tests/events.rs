//! Events by account, object, topic and emitter: pages against a search of everything, also while blocks arrive, in a store that an
//! earlier version wrote, and after kills while its index is made.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "a child reports to its parent")]

mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_homes::Store;
use blockhouse_homes::network::Chain;
use blockhouse_homes::rpc::answer_text;
use blockhouse_homes::store::Access;
use blockhouse_ledger::contracts::Access::{addRecoveryCall, removeRecoveryCall};
use blockhouse_ledger::{BlockPlace, BlockTime, Certificate, build};
use redb::TableDefinition;
use serde_json::{Value, json};
use support::{Choices, World, account, address, genesis, ledger_key, rounds, seed, sign};

const FOLDER: &str = "BLOCKHOUSE_TEST_EVENTS_FOLDER";

/// A ledger that grows by transactions that are really executed.
struct Ledger {
    world: World,
    choices: Choices,
    /// The next nonces of the owner and of the writer.
    owner: u64,
    writer: u64,
    /// Accounts that may hand over, beside the first.
    recovery: Vec<u8>,
}

impl Ledger {
    async fn new() -> Self {
        let world = World::with_writer().await;
        Self { world, choices: Choices(seed()), owner: 4, writer: 0, recovery: Vec::new() }
    }

    fn open(&self, access: Access) -> Store {
        Store::open(&self.world.path(), access, Duration::from_secs(10), None).unwrap()
    }

    /// Appends so many blocks, some of them without an event.
    fn grow(&mut self, blocks: u64) {
        let mut store = self.open(Access::Write);
        for _ in 0..blocks {
            let transactions = (0..self.choices.below(4)).map(|_| self.transaction()).collect();
            let time = BlockTime::of_seconds(store.head().header().timestamp + 1);
            let made = build(store.genesis(), store.head().header(), &store, transactions, time).unwrap();
            let place = BlockPlace { chain_id: genesis().chain_id, height: made.block.header.number, hash: made.hash };
            store.append(&made, &Certificate::solo(&ledger_key(9), &place)).unwrap();
        }
    }

    fn transaction(&mut self) -> TxEnvelope {
        let raw = match self.choices.below(4) {
            0 => {
                let number = u8::try_from(10 + self.choices.below(4)).unwrap();
                self.of_owner(support::enrol(&account(number)))
            }
            1 => self.of_recovery(),
            _ => {
                self.writer += 1;
                support::open_session(self.writer - 1)
            }
        };
        TxEnvelope::decode_2718_exact(&raw).unwrap()
    }

    fn of_recovery(&mut self) -> Bytes {
        if self.recovery.len() > 2 {
            let who = address(&account(self.recovery.remove(0)));
            return self.of_owner(removeRecoveryCall { who }.abi_encode().into());
        }
        let free = (20..30).find(|number| !self.recovery.contains(number)).unwrap();
        self.recovery.push(free);
        self.of_owner(addRecoveryCall { who: address(&account(free)) }.abi_encode().into())
    }

    fn of_owner(&mut self, input: Bytes) -> Bytes {
        self.owner += 1;
        sign(&account(1), self.owner - 1, TxKind::Call(genesis().access_address()), input, 1_000_000)
    }
}

/// A log of the ledger, found by reading everything.
#[derive(Debug, Clone)]
struct Found {
    place: (u64, u64),
    log: alloy_primitives::Log,
}

fn all(store: &Store) -> Vec<Found> {
    let mut found = Vec::new();
    for height in 0..=store.height() {
        let receipts = store.receipts(height).unwrap();
        let logs = receipts.iter().flat_map(alloy_consensus::ReceiptEnvelope::logs);
        found.extend((0..).zip(logs).map(|(index, log)| Found { place: (height, index), log: log.clone() }));
    }
    found
}

fn is_wanted(question: &Value, log: &alloy_primitives::Log) -> bool {
    let word = |name: &str| question[name].as_str().map(|text| text.parse::<B256>().unwrap());
    let address = |name: &str| question[name].as_str().map(|text| text.parse::<Address>().unwrap());
    let has = |argument: B256| log.topics().iter().skip(1).any(|topic| *topic == argument);
    address("emitter").is_none_or(|emitter| log.address == emitter)
        && word("topic").is_none_or(|topic| log.topics().first() == Some(&topic))
        && word("object").is_none_or(has)
        && address("account").is_none_or(|account| has(account.into_word()))
}

fn expected(store: &Store, question: &Value) -> Vec<(u64, u64)> {
    let found = all(store).into_iter().filter(|found| is_wanted(question, &found.log));
    let mut places: Vec<_> = found.map(|found| found.place).collect();
    if question["order"] == "newest" {
        places.reverse();
    }
    places
}

fn ask(store: &Store, method: &str, params: &Value) -> Result<Value, i64> {
    let answer = answer_text(store, method, &json!([params]).to_string()).unwrap();
    answer.map(|text| serde_json::from_str(&text).unwrap())
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn page(store: &Store, question: &Value) -> (Vec<(u64, u64)>, Value) {
    let answer = ask(store, "blockhouse_getEvents", question).unwrap();
    let events = answer["events"].as_array().unwrap();
    let places = events.iter().map(|event| (number(&event["blockNumber"]), number(&event["logIndex"]))).collect();
    (places, answer)
}

/// All pages, each as long as `choices` says.
fn pages(store: &Store, question: &Value, choices: &mut Choices) -> Vec<(u64, u64)> {
    let (mut question, mut found) = (question.clone(), Vec::new());
    loop {
        question["limit"] = json!(format!("{:#x}", 1 + choices.below(40)));
        let (places, answer) = page(store, &question);
        found.extend(places);
        match &answer["next"] {
            Value::Null => return found,
            next => question["cursor"] = next.clone(),
        }
    }
}

/// Conditions that fit some event, or a part of two different ones that no event has together.
fn question(events: &[Found], choices: &mut Choices) -> Value {
    let mut any = || &events[usize::try_from(choices.below(events.len() as u64)).unwrap()].log;
    let (one, other) = (any().clone(), any().clone());
    let mut question = json!({ "order": if choices.below(2) == 0 { "newest" } else { "oldest" } });
    if choices.below(2) == 0 {
        question["emitter"] = json!(one.address);
    }
    if choices.below(2) == 0 {
        question["topic"] = json!(if choices.below(4) == 0 { &other } else { &one }.topics()[0]);
    }
    let arguments: Vec<B256> = one.topics().iter().skip(1).copied().collect();
    if !arguments.is_empty() && choices.below(2) == 0 {
        let argument = arguments[usize::try_from(choices.below(arguments.len() as u64)).unwrap()];
        if argument.starts_with(&[0; 12]) {
            question["account"] = json!(Address::from_word(argument));
        } else {
            question["object"] = json!(argument);
        }
    }
    question
}

/// Takes the index of events away, as far as an earlier version would not have made it.
fn as_of_an_earlier_version(path: &Path) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(TableDefinition::<&[u8; 16], ()>::new("events")).unwrap());
    transaction.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap().remove("events").unwrap();
    transaction.commit().unwrap();
}

fn check_pages(store: &Store, choices: &mut Choices, count: u64) {
    let events = all(store);
    for round in 0..count {
        let question = question(&events, choices);
        let hint = format!("{question}, round {round}, seed {}", seed());
        assert_eq!(pages(store, &question, choices), expected(store, &question), "{hint}");
    }
}

/// G1 and G2, by random questions.
#[tokio::test(flavor = "multi_thread")]
async fn pages_give_what_a_search_of_everything_gives() {
    let mut ledger = Ledger::new().await;
    ledger.grow(60);
    let store = ledger.open(Access::Read);
    assert_eq!(store.indexed_events(), store.height() + 1);
    assert!(all(&store).len() > 40, "the blocks hold events");
    check_pages(&store, &mut ledger.choices, rounds(60));
    for order in ["newest", "oldest"] {
        let everything = json!({ "order": order });
        assert_eq!(pages(&store, &everything, &mut ledger.choices), expected(&store, &everything));
    }
}

/// G2: newest first, pages end where they would have ended; oldest first, they go on into the new blocks.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_stay_while_blocks_arrive() {
    let mut ledger = Ledger::new().await;
    ledger.grow(30);
    for order in ["newest", "oldest"] {
        let mut question = json!({ "order": order, "account": address(&account(3)), "limit": "0x5" });
        let store = ledger.open(Access::Read);
        let before = expected(&store, &question);
        let (mut found, answer) = page(&store, &question);
        drop(store);
        ledger.grow(10);
        question["cursor"] = answer["next"].clone();
        let store = ledger.open(Access::Read);
        found.extend(pages(&store, &question, &mut ledger.choices));
        let after = expected(&store, &question);
        assert_eq!(found, if order == "newest" { before } else { after }, "{order}, seed {}", seed());
    }
    // At the end of what there is, oldest first, there is a cursor for what comes.
    let mut question = json!({ "order": "oldest", "limit": "0x3e8", "account": address(&account(3)) });
    let (known, answer) = page(&ledger.open(Access::Read), &question);
    assert!(answer["next"].is_null());
    question["cursor"] = answer["resume"].clone();
    ledger.grow(10);
    let store = ledger.open(Access::Read);
    let (new, _) = page(&store, &question);
    assert_eq!([known, new].concat(), expected(&store, &question));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_question_is_refused() {
    let mut ledger = Ledger::new().await;
    ledger.grow(10);
    let store = ledger.open(Access::Read);
    let question = json!({ "order": "newest", "emitter": genesis().vault_address(), "limit": "0x1" });
    let cursor = page(&store, &question).1["next"].clone();
    let mut changed = cursor.as_str().unwrap().to_owned();
    let last = if changed.ends_with('0') { "1" } else { "0" };
    changed.replace_range(changed.len() - 1.., last);
    for wrong in [
        json!({ "order": "oldest", "emitter": genesis().vault_address(), "cursor": cursor }),
        json!({ "order": "newest", "emitter": genesis().access_address(), "cursor": cursor }),
        json!({ "order": "newest", "cursor": cursor }),
        json!({ "order": "newest", "emitter": genesis().vault_address(), "cursor": changed }),
        json!({ "order": "newest", "emitter": genesis().vault_address(), "cursor": "0x" }),
        json!({ "order": "sideways" }),
        json!({ "limit": "0x0" }),
        json!({ "limit": "0x3e9" }),
        json!({ "block": "0x1" }),
    ] {
        assert_eq!(ask(&store, "blockhouse_getEvents", &wrong), Err(-32_602), "{wrong}");
    }
}

/// A store of an earlier version answers the same at once, while its index is made, and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_earlier_version_is_read_and_brought_up() {
    let mut ledger = Ledger::new().await;
    ledger.grow(300);
    as_of_an_earlier_version(&ledger.world.path());
    let store = ledger.open(Access::Read);
    assert_eq!(store.indexed_events(), 0);
    check_pages(&store, &mut ledger.choices, 4);
    drop(store);

    // A block takes older ones along.
    ledger.grow(1);
    let store = ledger.open(Access::Read);
    let partly = store.indexed_events();
    assert!(partly > 0 && partly < store.height(), "{partly}");
    check_pages(&store, &mut ledger.choices, 8);
    let believing = Chain::open(store, ledger_key(9).public()).unwrap().head();
    check_logs(&ledger.open(Access::Read), &believing, &mut ledger.choices, 8);
    drop(believing);
    ledger.grow(1);
    let store = ledger.open(Access::Read);
    assert_eq!(store.indexed_events(), store.height() + 1);
    check_pages(&store, &mut ledger.choices, 8);
    drop(store);

    // A node does it before it starts.
    as_of_an_earlier_version(&ledger.world.path());
    let mut store = ledger.open(Access::Write);
    store.index_events().unwrap();
    assert_eq!(store.indexed_events(), store.height() + 1);
    check_pages(&store, &mut ledger.choices, 8);
}

/// The same logs with the index as without it.
fn check_logs(plain: &Store, believing: &Store, choices: &mut Choices, count: u64) {
    let events = all(plain);
    for round in 0..count {
        let mut any = || &events[usize::try_from(choices.below(events.len() as u64)).unwrap()].log;
        let (one, other) = (any().clone(), any().clone());
        let from = choices.below(plain.height());
        let to = from + choices.below(plain.height());
        let mut filter = json!({ "fromBlock": format!("{from:#x}"), "toBlock": format!("{to:#x}") });
        if choices.below(2) == 0 {
            filter["address"] = json!([one.address, other.address]);
        }
        let topics = (0..one.topics().len()).map(|number| match choices.below(3) {
            0 => Value::Null,
            1 => json!(one.topics()[number]),
            _ => json!([one.topics()[number], other.topics().get(number).unwrap_or(&B256::ZERO)]),
        });
        filter["topics"] = Value::Array(topics.collect());
        let (with, without) = (ask(believing, "eth_getLogs", &filter), ask(plain, "eth_getLogs", &filter));
        assert_eq!(with, without, "{filter}, round {round}, seed {}", seed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_the_same_with_the_index_as_without() {
    let mut ledger = Ledger::new().await;
    ledger.grow(60);
    let plain = ledger.open(Access::Read);
    let believing = Chain::open(ledger.open(Access::Read), ledger_key(9).public()).unwrap().head();
    check_logs(&plain, &believing, &mut ledger.choices, rounds(200));
}

/// The child of the test below: makes the index, takes it away, and so on until it is killed.
#[test]
#[ignore = "is run as a child process by the test below"]
fn child_makes_the_index_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join("ledger.redb");
    println!("begun");
    std::io::stdout().flush().unwrap();
    loop {
        let mut store = Store::open(&path, Access::Write, Duration::from_secs(10), None).unwrap();
        store.index_events().unwrap();
        drop(store);
        as_of_an_earlier_version(&path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_index_is_made_nothing_is_missed() {
    let mut ledger = Ledger::new().await;
    ledger.grow(40);
    for _ in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_makes_the_index_until_it_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, ledger.world.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("begun")), "the child runs");
        std::thread::sleep(Duration::from_micros(ledger.choices.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = ledger.open(Access::Read);
        check_pages(&store, &mut ledger.choices, 3);
    }
    ledger.grow(1);
    let store = ledger.open(Access::Read);
    assert_eq!(store.indexed_events(), store.height() + 1);
    check_pages(&store, &mut ledger.choices, 8);
}
