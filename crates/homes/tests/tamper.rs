//! A store that was altered is found out, part by part, and healed: by mending, or by being made anew; at any instant of a kill.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "a child reports to its parent")]

mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Bytes, TxKind};
use blockhouse_homes::network::{
    Founding, HealError, Healed, Healer, Keys, NodeConfig, NodeFolder, Remedy, RpcConfig, Signing, SyncConfig, Told,
    keep,
};
use blockhouse_homes::store::{Access, Damage, Part};
use blockhouse_homes::{Remote, Store};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{BlockObject, Genesis, Request};
use rand::SeedableRng as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};
use support::node::{Fault, Node};
use support::{Choices, World, account, genesis, seed};

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
const EVENTS: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("events");
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("transactions");
const HEIGHTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("heights");
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
const CODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("codes");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// A ledger that a sound node serves, and copies of its store for the taking.
struct Truth {
    world: World,
    node: Node,
    blocks: Vec<BlockObject>,
    bytes: Vec<u8>,
}

impl Truth {
    async fn new() -> Self {
        let world = World::with_writer().await;
        for nonce in 0..4 {
            world.session(nonce).await;
        }
        let blocks = world.home.block_objects(0, usize::MAX).await.unwrap();
        let bytes = std::fs::read(world.path()).unwrap();
        let node = Node::start(world.home.clone());
        Self { world, node, blocks, bytes }
    }

    fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.redb");
        std::fs::write(&path, &self.bytes).unwrap();
        Copy { folder, path }
    }

    fn healer(&self, copy: &Copy) -> Healer {
        healer(&copy.path, &[self.node.url()])
    }

    fn top(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// The copy is sound, and holds what it held before.
    async fn expect_sound(&self, copy: &Copy, hint: &str) {
        let store = open(&copy.path).unwrap_or_else(|error| panic!("{hint}: {error}"));
        let found = healer(&copy.path, &[]).examine(&store).await.unwrap();
        assert!(found.is_none(), "{hint}: {found:?}");
        for (height, truth) in (0..).zip(&self.blocks) {
            assert_eq!(store.block(height).unwrap().block, truth.block, "{hint}: block {height}");
        }
    }
}

/// A store that may be altered.
struct Copy {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    /// What else lies in its folder.
    fn beside(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "ledger.redb");
        names.sort();
        names
    }
}

fn open(path: &Path) -> Result<Store, blockhouse_homes::StoreError> {
    Store::open(path, Access::Write, Duration::ZERO, None)
}

fn healer(path: &Path, peers: &[String]) -> Healer {
    let urls: Vec<_> = peers.iter().map(|url| url.parse().unwrap()).collect();
    let peers = (!urls.is_empty()).then(|| Remote::new(urls).unwrap());
    Healer::new(path.to_owned(), genesis(), peers)
}

/// What heals that store, however it is found to be altered.
async fn remedy(path: &Path, healer: &Healer) -> Result<Option<Remedy>, HealError> {
    match open(path) {
        Ok(store) => healer.examine(&store).await,
        Err(error) => healer.examine_closed(&error).await.map(Some),
    }
}

async fn heal(path: &Path, healer: &Healer) -> Result<Healed, HealError> {
    remedy(path, healer).await?.expect("it is altered").apply(path)
}

/// Changes a store as redb itself does: all its pages have their checksums.
fn alter(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let mut transaction = database.begin_write().unwrap();
    transaction.set_quick_repair(true);
    change(&transaction);
    transaction.commit().unwrap();
}

/// Flips a bit of the last byte of a row.
fn flip(path: &Path, table: TableDefinition<'_, u64, &'static [u8]>, height: u64) {
    alter(path, |transaction| {
        let mut table = transaction.open_table(table).unwrap();
        let mut bytes = table.get(height).unwrap().unwrap().value().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        table.insert(height, bytes.as_slice()).unwrap();
    });
}

type Alter = Box<dyn Fn(&Path, &Truth)>;

type Alteration = (&'static str, Alter, Part, Option<u64>);

fn rows(name: &'static str, alter: Alter, part: Part, height: Option<u64>) -> Alteration {
    (name, alter, part, height)
}

fn in_table(change: fn(&redb::WriteTransaction)) -> Alter {
    Box::new(move |path, _| alter(path, change))
}

/// Each way to alter what belongs to one block, with what must be found.
fn alterations_of_blocks() -> Vec<Alteration> {
    vec![
        rows("a block's bytes", Box::new(|path, _| flip(path, BLOCKS, 3)), Part::Block, Some(3)),
        rows(
            "another block in its place",
            in_table(|tx| {
                let mut blocks = tx.open_table(BLOCKS).unwrap();
                let other = blocks.get(2).unwrap().unwrap().value().to_vec();
                blocks.insert(4, other.as_slice()).unwrap();
            }),
            Part::Block,
            Some(4),
        ),
        rows("no block", in_table(|tx| drop(tx.open_table(BLOCKS).unwrap().remove(2).unwrap())), Part::Block, Some(2)),
        rows("a certificate", Box::new(|path, _| flip(path, CERTIFICATES, 5)), Part::Certificate, Some(5)),
        rows(
            "another's certificate",
            in_table(|tx| {
                let mut table = tx.open_table(CERTIFICATES).unwrap();
                let other = table.get(2).unwrap().unwrap().value().to_vec();
                table.insert(6, other.as_slice()).unwrap();
            }),
            Part::Certificate,
            Some(6),
        ),
        rows(
            "no certificate",
            in_table(|tx| drop(tx.open_table(CERTIFICATES).unwrap().remove(1).unwrap())),
            Part::Certificate,
            Some(1),
        ),
        rows("receipts", Box::new(|path, _| flip(path, RECEIPTS, 4)), Part::Receipts, Some(4)),
        rows(
            "no receipts",
            in_table(|tx| drop(tx.open_table(RECEIPTS).unwrap().remove(4).unwrap())),
            Part::Receipts,
            Some(4),
        ),
    ]
}

/// Each way to alter what leads to a block, its transactions or its events.
fn alterations_of_indexes() -> Vec<Alteration> {
    let hash = |truth: &Truth, height: usize| truth.blocks[height].hash().to_bytes();
    let transaction = |truth: &Truth, height: usize| truth.blocks[height].block.body.transactions[0].tx_hash().0;
    vec![
        rows(
            "no way to a block",
            Box::new(move |path, truth| {
                alter(path, |tx| {
                    tx.open_table(HEIGHTS).unwrap().remove(&hash(truth, 3)).unwrap();
                });
            }),
            Part::Index,
            Some(3),
        ),
        rows(
            "a wrong way to a transaction",
            Box::new(move |path, truth| {
                alter(path, |tx| {
                    tx.open_table(TRANSACTIONS).unwrap().insert(&transaction(truth, 5), 2).unwrap();
                });
            }),
            Part::Index,
            Some(5),
        ),
        rows(
            "an event that is not found",
            in_table(|tx| {
                let mut events = tx.open_table(EVENTS).unwrap();
                let row =
                    events.iter().unwrap().map(|row| *row.unwrap().0.value()).find(|row| row[8..13] == [0, 0, 0, 0, 5]);
                events.remove(&row.unwrap()).unwrap();
            }),
            Part::Index,
            Some(5),
        ),
    ]
}

/// Each way to alter what belongs to no block.
fn alterations_of_the_rest() -> Vec<Alteration> {
    vec![
        rows(
            "an index of events that claims more than there is",
            in_table(|tx| {
                tx.open_table(META).unwrap().insert("events", 1_000_u64.to_le_bytes().as_slice()).unwrap();
            }),
            Part::File,
            None,
        ),
        rows(
            "a way to a transaction that never was",
            in_table(|tx| {
                tx.open_table(TRANSACTIONS).unwrap().insert(&[7; 32], 2).unwrap();
            }),
            Part::File,
            None,
        ),
        rows(
            "a block above the head",
            in_table(|tx| {
                tx.open_table(BLOCKS).unwrap().insert(99, [1].as_slice()).unwrap();
            }),
            Part::File,
            None,
        ),
        rows(
            "the row of the head",
            in_table(|tx| {
                let mut meta = tx.open_table(META).unwrap();
                let mut head = meta.get("head").unwrap().unwrap().value().to_vec();
                head[20] ^= 1;
                meta.insert("head", head.as_slice()).unwrap();
            }),
            Part::File,
            None,
        ),
        rows(
            "the height in the row of the head",
            in_table(|tx| {
                let mut meta = tx.open_table(META).unwrap();
                let mut head = meta.get("head").unwrap().unwrap().value().to_vec();
                head[0] += 90;
                meta.insert("head", head.as_slice()).unwrap();
            }),
            Part::File,
            None,
        ),
        rows(
            "the genesis",
            in_table(|tx| {
                let mut meta = tx.open_table(META).unwrap();
                let mut genesis = meta.get("genesis").unwrap().unwrap().value().to_vec();
                *genesis.last_mut().unwrap() ^= 1;
                meta.insert("genesis", genesis.as_slice()).unwrap();
            }),
            Part::File,
            None,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alteration_of_a_row_is_found_named_and_healed() {
    let truth = Truth::new().await;
    for (name, alter, part, height) in
        [alterations_of_blocks(), alterations_of_indexes(), alterations_of_the_rest()].into_iter().flatten()
    {
        let copy = truth.copy();
        alter(&copy.path, &truth);
        let remedy =
            remedy(&copy.path, &truth.healer(&copy)).await.unwrap().unwrap_or_else(|| panic!("{name}: not found"));
        let is_named = |damage: &Damage| damage.part == part && damage.height == height;
        assert!(remedy.damage().iter().any(is_named), "{name}: {:?}", remedy.damage());
        let is_there = |damage: &Damage| damage.height.is_none_or(|height| height <= truth.top());
        assert!(remedy.damage().iter().all(is_there), "{name}: {:?}", remedy.damage());
        let healed = remedy.apply(&copy.path).unwrap();
        // What is replaced is kept, and nothing else is left.
        let kept: Vec<_> = healed.kept.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(copy.beside(), kept, "{name}");
        truth.expect_sound(&copy, name).await;
    }
}

/// Every node of the state's tries, and all code.
#[tokio::test(flavor = "multi_thread")]
async fn every_alteration_of_the_state_is_found_and_healed_without_any_other_node() {
    let truth = Truth::new().await;
    let (nodes, codes) = {
        let database = Database::open(truth.copy().path).unwrap();
        let read = database.begin_read().unwrap();
        let nodes: Vec<Vec<u8>> =
            read.open_table(NODES).unwrap().iter().unwrap().map(|row| row.unwrap().0.value().to_vec()).collect();
        let codes: Vec<[u8; 32]> =
            read.open_table(CODES).unwrap().iter().unwrap().map(|row| *row.unwrap().0.value()).collect();
        (nodes, codes)
    };
    assert!(nodes.len() > 20 && codes.len() >= 3, "{} nodes", nodes.len());
    let mut choices = Choices(seed());
    for number in 0..nodes.len() + codes.len() {
        let copy = truth.copy();
        let is_removed = choices.below(2) == 0;
        alter(&copy.path, |transaction| {
            if let Some(key) = nodes.get(number) {
                let mut table = transaction.open_table(NODES).unwrap();
                let mut node = table.remove(key.as_slice()).unwrap().unwrap().value().to_vec();
                *node.last_mut().unwrap() ^= 1;
                if !is_removed {
                    table.insert(key.as_slice(), node.as_slice()).unwrap();
                }
            } else {
                let key = codes[number - nodes.len()];
                let mut table = transaction.open_table(CODES).unwrap();
                let mut code = table.remove(&key).unwrap().unwrap().value().to_vec();
                code[0] ^= 1;
                if !is_removed {
                    table.insert(&key, code.as_slice()).unwrap();
                }
            }
        });
        let alone = healer(&copy.path, &[]);
        let remedy = remedy(&copy.path, &alone).await.unwrap().unwrap_or_else(|| panic!("{number} is not found"));
        let found = &remedy.damage()[0];
        assert_eq!((found.part, found.height), (Part::State, Some(truth.top())), "{number}: {found}");
        // One of each kind is healed: the others would be made anew in the same way.
        if number % 16 == 0 || number + 1 == nodes.len() + codes.len() {
            let healed = remedy.apply(&copy.path).unwrap();
            assert_eq!((healed.rebuilt, healed.from_peers), (Some(truth.top()), 0));
            truth.expect_sound(&copy, &format!("part {number} of the state")).await;
        }
    }
}

/// Bytes on the disk, behind redb's back.
#[tokio::test(flavor = "multi_thread")]
async fn flipped_on_the_disk_the_block_is_named_and_comes_from_a_peer() {
    let truth = Truth::new().await;
    let copy = truth.copy();
    let marker = *truth.blocks[5].block.body.transactions[0].signature();
    let marker = marker.r().to_be_bytes::<32>();
    let mut bytes = truth.bytes.clone();
    let places: Vec<_> = (0..bytes.len() - 32).filter(|at| bytes[*at..at + 32] == marker).collect();
    assert!(!places.is_empty(), "the block is in the file");
    for at in &places {
        bytes[at + 7] ^= 0x10;
    }
    std::fs::write(&copy.path, &bytes).unwrap();
    let healed = heal(&copy.path, &truth.healer(&copy)).await.unwrap();
    assert!(healed.damage.iter().any(|damage| (damage.part, damage.height) == (Part::Block, Some(5))), "{healed:?}");
    assert!(healed.from_peers > 0);
    assert_eq!(std::fs::read(healed.kept.clone().unwrap()).unwrap(), bytes, "the evidence is kept as it was");
    truth.expect_sound(&copy, "flipped on the disk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_or_no_store_at_all_comes_from_peers_alone() {
    let truth = Truth::new().await;
    for bytes in [None, Some(Vec::new()), Some(b"no store".to_vec()), Some(truth.bytes[..5000].to_vec())] {
        let copy = truth.copy();
        match &bytes {
            Some(bytes) => std::fs::write(&copy.path, bytes).unwrap(),
            None => std::fs::remove_file(&copy.path).unwrap(),
        }
        let alone = heal(&copy.path, &healer(&copy.path, &[])).await.unwrap_err();
        assert!(matches!(alone, HealError::NoPeers { .. }), "{alone:?}");
        assert!(alone.to_string().contains("rpc_peers"), "the way out: {alone}");
        let healed = heal(&copy.path, &truth.healer(&copy)).await.unwrap();
        assert_eq!((healed.rebuilt, healed.from_peers), (Some(truth.top()), truth.top()));
        assert_eq!(healed.kept.is_some(), bytes.is_some());
        truth.expect_sound(&copy, "gone").await;
    }
}

/// A peer that lies, or is none, heals nothing; what is there stays as it is, and the next peer is asked.
#[tokio::test(flavor = "multi_thread")]
async fn peers_are_believed_nothing() {
    let truth = Truth::new().await;
    let other = World::other(9).await;
    let foreign = Node::start(other.home.clone());
    let liar = Node::start(truth.world.another());
    let faults = [Fault::Mute, Fault::Status, Fault::Garbage, Fault::Forges, Fault::Skips, Fault::Stale];
    for is_rebuilt in [true, false] {
        for fault in faults {
            let hint = format!("{fault:?}, rebuilt: {is_rebuilt}");
            let copy = truth.copy();
            flip(&copy.path, BLOCKS, 3);
            if is_rebuilt {
                flip(&copy.path, RECEIPTS, 6);
            }
            liar.set(fault);
            let error = heal(&copy.path, &healer(&copy.path, &[liar.url()])).await.unwrap_err();
            assert!(matches!(error, HealError::Peers { .. }), "{hint}: {error:?}");
            assert!(error.to_string().contains("block 3"), "{hint}: {error}");
            assert!(copy.beside().is_empty(), "{hint}: {:?}", copy.beside());
            let all = healer(&copy.path, &[liar.url(), foreign.url(), truth.node.url()]);
            heal(&copy.path, &all).await.unwrap();
            truth.expect_sound(&copy, &hint).await;
        }
    }
}

/// H3.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_ledger_is_not_touched() {
    let truth = Truth::new().await;
    let other = Genesis { chain_id: genesis().chain_id + 1, ..genesis() };
    let copy = truth.copy();
    for altered in [false, true] {
        if altered {
            alter(&copy.path, |tx| drop(tx.open_table(META).unwrap().insert("head", [0; 40].as_slice()).unwrap()));
        }
        let peers = Remote::new(vec![truth.node.url().parse().unwrap()]).unwrap();
        let refused = remedy(&copy.path, &Healer::new(copy.path.clone(), other.clone(), Some(peers))).await;
        assert!(matches!(refused, Err(HealError::OtherGenesis { .. })), "{refused:?}");
        assert!(copy.beside().is_empty());
    }
}

/// A network of one node in this process.
struct Alone {
    _folder: tempfile::TempDir,
    node: NodeFolder,
    url: String,
    genesis: Genesis,
    nonce: u64,
}

impl Alone {
    fn new() -> Self {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed());
        let validators = vec![Keys::generate(&mut random)];
        let owner = account(1).account();
        let founding = Founding { owner, time: 1_700_000_000, signing: Signing::Threshold, validators, governed: None };
        let founded = founding.found(&mut random).unwrap();
        let [listen, rpc] = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let [listen, rpc] = [listen, rpc].map(|listener| listener.local_addr().unwrap());
        let config = NodeConfig {
            listen,
            validators: [(NodeConfig::name_of(&founded.keys[0]), listen.to_string())].into(),
            followers: Vec::new(),
            rpc_peers: Vec::new(),
            sync: SyncConfig::default(),
            rpc: RpcConfig { listen: rpc, ..RpcConfig::default() },
            metrics: None,
            anchor: None,
            witness: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let node = NodeFolder::new(folder.path().join("node"));
        node.create(&founded.file, &founded.keys[0], &config).unwrap();
        Self { _folder: folder, node, url: format!("http://{rpc}"), genesis: founded.file.genesis, nonce: 0 }
    }

    /// Runs the node until the sender is dropped; gives what it tells.
    fn run(&self) -> (tokio::sync::oneshot::Sender<()>, tokio::sync::mpsc::UnboundedReceiver<String>, Running) {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let folder = self.node.clone();
        let until = async { drop(stopped.await) };
        let running = tokio::spawn(async move {
            let tell = |told: Told<'_>| {
                let words = match told {
                    Told::Started(_) => "started".to_owned(),
                    Told::PoolDamaged(_)
                    | Told::NoPast { .. }
                    | Told::Sync(_)
                    | Told::Misread(_)
                    | Told::Fork(_)
                    | Told::Sign(_)
                    | Told::Silent => return,
                    Told::Damaged(damage) => damage.to_string(),
                    Told::NotHealed(error) => error.to_string(),
                    Told::Healed(healed) => format!("healed: {healed}"),
                };
                let _ = tell.send(words);
            };
            keep(&folder, tell, until).await.map_err(|error| format!("{error:?}"))
        });
        (stop, told, running)
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = reqwest::Client::new().post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Hands a transaction of the owner in, and waits until it is final.
    async fn record(&mut self, to: TxKind, input: Bytes) {
        let request = Request { chain_id: self.genesis.chain_id, nonce: self.nonce, to, input, gas: DEPLOYMENT_GAS };
        self.nonce += 1;
        let raw = Bytes::from(request.sign(&account(1)).encoded_2718());
        let hash = self.ask("eth_sendRawTransaction", json!([raw])).await;
        for _ in 0..2400 {
            if !self.ask("eth_getTransactionReceipt", json!([hash])).await.is_null() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("transaction {} did not become final", self.nonce - 1);
    }
}

type Running = tokio::task::JoinHandle<Result<(), String>>;

async fn says(told: &mut tokio::sync::mpsc::UnboundedReceiver<String>, words: &str) -> String {
    let line = tokio::time::timeout(Duration::from_mins(2), told.recv()).await;
    let line = line.unwrap_or_else(|_| panic!("the node never said `{words}`")).expect("it runs");
    assert!(line.contains(words), "{line}");
    line
}

/// Opening compares pages and the last blocks; what somebody who knows the format altered elsewhere is found by the watch.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_finds_its_state_altered_heals_alone_and_goes_on() {
    let mut alone = Alone::new();
    let (stop, mut told, running) = alone.run();
    says(&mut told, "started").await;
    for input in alone.genesis.deployments(0) {
        alone.record(TxKind::Create, input).await;
    }
    drop(stop);
    running.await.unwrap().unwrap();

    // Code that no block here runs.
    let store = alone.node.store();
    let policy = {
        let store = open(&store).unwrap();
        store.state().account(&alone.genesis.policy_address()).unwrap().unwrap().code_hash.0
    };
    alter(&store, |transaction| {
        let mut codes = transaction.open_table(CODES).unwrap();
        let mut code = codes.get(&policy).unwrap().unwrap().value().to_vec();
        code[10] ^= 1;
        codes.insert(&policy, code.as_slice()).unwrap();
    });
    let (stop, mut told, running) = alone.run();
    says(&mut told, "started").await;
    says(&mut told, "the state after block").await;
    says(&mut told, "healed: ").await;
    says(&mut told, "started").await;
    let status = alone.ask("blockhouse_nodeStatus", json!([])).await;
    assert_eq!((&status["scrub"]["healed"], &status["failure"]), (&json!(1), &Value::Null), "{status}");
    alone.record(TxKind::Call(alone.genesis.access_address()), Bytes::from_static(b"it votes again")).await;
    drop(stop);
    running.await.unwrap().unwrap();
}

const FOLDER: &str = "BLOCKHOUSE_TEST_HEAL_FOLDER";
const PEER: &str = "BLOCKHOUSE_TEST_HEAL_PEER";

/// The child of the test below: heals until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run as a child process by the test below"]
async fn child_heals_until_it_is_killed() {
    let (Some(folder), Ok(peer)) = (std::env::var_os(FOLDER), std::env::var(PEER)) else { return };
    let path = Path::new(&folder).join("ledger.redb");
    println!("heals");
    std::io::stdout().flush().unwrap();
    heal(&path, &healer(&path, &[peer])).await.unwrap();
    println!("healed");
}

/// H4: whatever the instant, the store is the damaged one or the healed one, and the next try ends well.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_the_next_try_heals() {
    let truth = Truth::new().await;
    let mut choices = Choices(seed());
    let ways: [fn(&Path); 3] = [
        |path| flip(path, BLOCKS, 3),
        |path| flip(path, RECEIPTS, 4),
        |path| std::fs::write(path, b"no store").unwrap(),
    ];
    for (number, way) in ways.iter().enumerate() {
        let copy = truth.copy();
        way(&copy.path);
        let (is_done, took) = run_child(&copy, &truth, None);
        assert!(is_done);
        let whole = u64::try_from(took.as_micros()).unwrap();
        let mut killed = 0;
        for round in 0..8 {
            let hint = format!("way {number}, round {round}, seed {}", seed());
            let copy = truth.copy();
            way(&copy.path);
            let delay = Duration::from_micros(choices.below(whole));
            killed += u32::from(!run_child(&copy, &truth, Some(delay)).0);
            assert!(copy.path.exists(), "{hint}: there is no store, neither the old one nor the new");
            let found =
                remedy(&copy.path, &truth.healer(&copy)).await.unwrap_or_else(|error| panic!("{hint}: {error}"));
            if let Some(found) = found {
                found.apply(&copy.path).unwrap();
            }
            truth.expect_sound(&copy, &hint).await;
        }
        assert!(killed > 0, "no child of way {number} was killed before it ended");
    }
}

/// Runs a child, kills it so long after it began to heal, and says whether it was done, and how long it healed.
fn run_child(copy: &Copy, truth: &Truth, delay: Option<Duration>) -> (bool, Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_heals_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, copy.folder.path())
        .env(PEER, truth.node.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("heals")), "the child began");
    let begun = Instant::now();
    if let Some(delay) = delay {
        std::thread::sleep(delay);
        child.kill().unwrap();
    }
    let is_done = lines.any(|line| line.ends_with("healed"));
    let took = begun.elapsed();
    child.wait().unwrap();
    (is_done, took)
}
