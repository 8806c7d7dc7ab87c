//! Ethereum's usual clients, as others wrote them, against the JSON-RPC of real ledgers: cast, ethers, viem, web3.py.
//!
//! Each deploys a contract, sends, waits for receipts, reads logs, subscribes, and asks for proofs. They do it at the same time on a network of four
//! nodes, calling one and listening to another; one of them again where the ledger is sealed inside the call.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/writers.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod writers;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, TxKind, hex, keccak256};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::rpc::{EmbeddedBackend, Server, ServerOptions};
use blockhouse_homes::{Embedded, HostClock, Options};
use blockhouse_ledger::contracts::Access;
use blockhouse_ledger::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS};
use blockhouse_ledger::{Fork, Genesis, Request};
use blockhouse_tests::need::{self, ethereum_tools};
use blockhouse_tests::network::{Network, number, wait_until};
use blockhouse_tests::world::World;
use blockhouse_types::{RecipientSetHash, VaultId};
use serde_json::json;
use tempfile::TempDir;

/// What the contract of the tests has, in words that ethers and viem read.
const ABI: &str =
    r#"["event Incremented(uint256 indexed value)","function increment()","function value() view returns (uint256)"]"#;

const CAST: &str = "npm/node_modules/@foundry-rs/cast-linux-amd64/bin/cast";
/// How long a client may take on a machine that is very busy.
const PATIENCE_SECONDS: &str = "300";
/// Who may send on the ledger of one key.
const WRITER: u8 = 3;

/// The code that makes a contract with one slot: `value()` gives it, any other call adds one and logs what it is then.
fn bytecode() -> Bytes {
    let topic = hex::encode(keccak256("Incremented(uint256)"));
    let select = "60003560e01c633fa4f24514604057";
    let count = format!("600054600101806000557f{topic}60006000a200");
    let value = "5b60005460005260206000f3";
    let code = format!("{select}{count}{value}");
    let length = code.len() / 2;
    hex::decode(format!("60{length:02x}600c60003960{length:02x}6000f3{code}")).unwrap().into()
}

fn account(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

fn key_of(number: u8) -> String {
    hex::encode_prefixed([number; 32])
}

/// A ledger that is asked at one address and listened to at another, and the number of an account that may send.
struct Client {
    calls: SocketAddr,
    listens: SocketAddr,
    chain_id: u64,
    account: u8,
}

impl Client {
    /// Runs a program to its end; its environment says all there is to know of this ledger.
    fn run(&self, mut command: Command) -> String {
        let Self { calls, listens, chain_id, account } = self;
        command
            .env("HTTP_URL", format!("http://{calls}"))
            .env("WS_URL", format!("ws://{listens}"))
            .env("ETH_RPC_URL", format!("http://{calls}"))
            .env("CHAIN_ID", chain_id.to_string())
            .env("PRIVATE_KEY", key_of(*account))
            .env("STRANGER_KEY", key_of(77))
            .env("ABI", ABI)
            .env("BYTECODE", bytecode().to_string())
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let words = command.get_args().collect::<Vec<_>>();
        assert!(output.status.success(), "{words:?}: {}\n{told}\n{errors}", output.status);
        told.trim().to_owned()
    }

    fn cast(&self, words: &[&str]) -> String {
        let mut command = program(ethereum_tools().join(CAST));
        command.args(words);
        self.run(command)
    }
}

/// A ledger of one key, with an enrolled account, and its server.
struct Embedding {
    _folder: TempDir,
    server: Server,
    chain_id: u64,
}

impl Embedding {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let key = Arc::new(LedgerKey::from_seed(&Secret::new([9; 32])));
        let genesis = Genesis {
            vault_id: VaultId::new([1; 32]),
            chain_id: (1 << 40) + 7,
            owner: account(1).account(),
            recovery: vec![account(2).account()],
            ledger_key: key.public(),
            time: now() - 10_000,
            gas_limit: DEFAULT_GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new([5; 32]),
            governance: None,
        };
        let path = folder.path().join("ledger.redb");
        Embedded::create(&path, &genesis, &key).unwrap();
        // Each look at the clock is a second later than the one before, so nobody waits for the next block.
        let ticks = std::sync::atomic::AtomicU64::new(genesis.time);
        let clock: HostClock = Arc::new(move || ticks.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let home = Embedded::new(Options::sealer(path, clock, key));
        let sign = |nonce, to, input, gas| -> Bytes {
            let request = Request { chain_id: genesis.chain_id, nonce, to, input, gas };
            request.sign(&account(1)).encoded_2718().into()
        };
        let deployments = genesis.deployments(3600);
        let raw = (0..).zip(deployments).map(|(nonce, code)| sign(nonce, TxKind::Create, code, DEPLOYMENT_GAS));
        home.seal(raw.collect()).await.unwrap();
        let enrol = Access::enrolWriterCall {
            who: Address::new(account(WRITER).account().to_bytes()),
            predecessor: Address::ZERO,
            predecessorLastBlock: 0,
            hostStolen: false,
        };
        let to = TxKind::Call(genesis.access_address());
        let sealed = home.seal(vec![sign(3, to, enrol.abi_encode().into(), 1_000_000)]).await.unwrap();
        assert!(sealed.receipts[0].status());
        let mut options = ServerOptions::default();
        options.listen.set_port(0);
        let server = Server::start(EmbeddedBackend::open(home).await.unwrap(), options).await.unwrap();
        Self { _folder: folder, server, chain_id: genesis.chain_id }
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools").join(name)
}

/// Ends it if what it waits for does not come.
fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE_SECONDS).arg(path);
    command
}

fn node(name: &str) -> Command {
    let mut command = program("node");
    command.arg(script(name)).env("NODE_PATH", ethereum_tools().join("npm/node_modules"));
    command
}

fn python(name: &str) -> Command {
    let mut command = program(ethereum_tools().join("python/bin/python"));
    command.arg("-B").arg(script(name));
    command
}

fn has(path: &str) -> bool {
    need::set_up("ethereum-tools", ethereum_tools().join(path).exists())
}

/// How a client is run.
type Run = fn(&Client);

/// What is called one way on one node shows on the others: each client calls the second node and listens to the third.
#[test]
fn clients_deploy_send_listen_and_check_proofs_on_a_network_at_the_same_time() {
    let world = World::empty();
    let network = Network::start(&world.path("ledger"), 4, "");
    let clients: [(&str, Run); 4] = [
        (CAST, cast),
        ("npm/node_modules/ethers", |client| drop(client.run(node("ethers_client.cjs")))),
        ("npm/node_modules/viem", |client| drop(client.run(node("viem_client.cjs")))),
        ("python/bin/python", |client| drop(client.run(python("web3_client.py")))),
    ];
    let first = network.node(0);
    writers::enrol(&world.path("ledger"), first, u8::try_from(clients.len()).unwrap());
    let height = first.height();
    wait_until(|| network.nodes().iter().all(|node| node.height() >= height), "all nodes know who may send");
    let chain_id = number(&first.ask("eth_chainId", &json!([])));
    let address = |at: usize| SocketAddr::from(([127, 0, 0, 1], network.node(at).port()));
    std::thread::scope(|scope| {
        for (account, (tool, run)) in (1..).zip(clients) {
            let client = Client { calls: address(1), listens: address(2), chain_id, account };
            // What is missing is said by the test itself.
            if has(tool) {
                scope.spawn(move || run(&client));
            }
        }
    });
}

fn cast(client: &Client) {
    let key = key_of(client.account);
    let code = bytecode().to_string();
    let free = ["--private-key", &key, "--gas-price", "0", "--priority-gas-price", "0", "--json"];
    let send = |words: &[&str]| -> serde_json::Value {
        let words = [&["send"][..], &free, words].concat();
        serde_json::from_str(&client.cast(&words)).unwrap()
    };
    assert_eq!(client.cast(&["chain-id"]), client.chain_id.to_string());
    let height: u64 = client.cast(&["block-number"]).parse().unwrap();
    let deployed = send(&["--create", &code]);
    let address = deployed["contractAddress"].as_str().unwrap().to_owned();
    assert_eq!(deployed["status"], "0x1");
    assert!(number(&deployed["blockNumber"]) > height);
    let counted = send(&[&address, "increment()"]);
    assert_eq!(client.cast(&["call", &address, "value()(uint256)"]), "1");
    assert_eq!(client.cast(&["storage", &address, "0"]), format!("{:#066x}", 1));
    let logs = client.cast(&["logs", "--from-block", "0", "--address", &address, "--json"]);
    let logs: serde_json::Value = serde_json::from_str(&logs).unwrap();
    assert_eq!(logs[0]["transactionHash"], counted["transactionHash"]);
    let hash = counted["transactionHash"].as_str().unwrap();
    assert_eq!(client.cast(&["receipt", hash, "status"]).split(' ').next(), Some("true"));
    assert!(client.cast(&["tx", hash, "input"]).starts_with("0xd09de08a"));
    let proof: serde_json::Value = serde_json::from_str(&client.cast(&["proof", &address, "0"])).unwrap();
    assert_eq!(proof["storageProof"][0]["value"], "0x1");
    assert_eq!(client.cast(&["gas-price"]), "0");
    let own = format!("{:#x}", Address::new(account(client.account).account().to_bytes()));
    assert_eq!(client.cast(&["nonce", &own]), "2");
    let standing = client.cast(&["rpc", "blockhouse_standing"]);
    assert!(standing.contains("\"fingerprint\""), "{standing}");
}

/// On a ledger of one host a transaction is final before its hash is answered.
#[tokio::test(flavor = "multi_thread")]
async fn ethers_deploys_sends_listens_and_reads_where_one_key_seals() {
    if has("npm/node_modules/ethers") {
        let ledger = Embedding::new().await;
        let (address, chain_id) = (ledger.server.address(), ledger.chain_id);
        let client = Client { calls: address, listens: address, chain_id, account: WRITER };
        tokio::task::spawn_blocking(move || client.run(node("ethers_client.cjs"))).await.unwrap();
    }
}
