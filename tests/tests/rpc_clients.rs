//! Ethereum's usual clients, as others wrote them, against the JSON-RPC of a real ledger: cast, ethers, viem, web3.py.
//!
//! Each deploys a contract, sends, waits for receipts, reads logs, subscribes, and asks for proofs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

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
use blockhouse_tests::need;
use blockhouse_types::{RecipientSetHash, VaultId};
use tempfile::TempDir;

/// What the contract of the tests has, in words that ethers and viem read.
const ABI: &str =
    r#"["event Incremented(uint256 indexed value)","function increment()","function value() view returns (uint256)"]"#;

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

/// A ledger with an enrolled account, and its server.
struct Served {
    _folder: TempDir,
    server: Server,
    chain_id: u64,
}

impl Served {
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
            who: Address::new(account(3).account().to_bytes()),
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

    /// Runs a program to its end; its environment says all there is to know of this ledger.
    async fn run(&self, mut command: Command) -> String {
        let address = self.server.address();
        command
            .env("HTTP_URL", format!("http://{address}"))
            .env("WS_URL", format!("ws://{address}"))
            .env("ETH_RPC_URL", format!("http://{address}"))
            .env("CHAIN_ID", self.chain_id.to_string())
            .env("PRIVATE_KEY", key_of(3))
            .env("STRANGER_KEY", key_of(77))
            .env("ABI", ABI)
            .env("BYTECODE", bytecode().to_string())
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{told}\n{errors}", output.status);
        told.trim().to_owned()
    }

    async fn cast(&self, words: &[&str]) -> String {
        let mut command = Command::new(tools().join("npm/node_modules/@foundry-rs/cast-linux-amd64/bin/cast"));
        command.args(words);
        self.run(command).await
    }
}

/// Where `./x test` has put the clients.
fn tools() -> PathBuf {
    std::env::var_os("BLOCKHOUSE_ETHEREUM_TOOLS").map_or_else(in_target, PathBuf::from)
}

fn in_target() -> PathBuf {
    // <target>/<profile>/deps/<test>
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/ethereum")
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools").join(name)
}

fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name)).env("NODE_PATH", tools().join("npm/node_modules"));
    command
}

fn has(path: &str) -> bool {
    need::set_up("ethereum-tools", tools().join(path).exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn cast_deploys_sends_reads_and_proves() {
    if !has("npm/node_modules/@foundry-rs/cast-linux-amd64/bin/cast") {
        return;
    }
    let served = Served::new().await;
    let key = key_of(3);
    let code = bytecode().to_string();
    let free = ["--private-key", &key, "--gas-price", "0", "--priority-gas-price", "0", "--json"];
    let send = async |words: &[&str]| -> serde_json::Value {
        let words = [&["send"][..], &free, words].concat();
        serde_json::from_str(&served.cast(&words).await).unwrap()
    };
    assert_eq!(served.cast(&["chain-id"]).await, served.chain_id.to_string());
    assert_eq!(served.cast(&["block-number"]).await, "2");
    let deployed = send(&["--create", &code]).await;
    let address = deployed["contractAddress"].as_str().unwrap().to_owned();
    assert_eq!(deployed["status"], "0x1");
    let counted = send(&[&address, "increment()"]).await;
    assert_eq!(served.cast(&["call", &address, "value()(uint256)"]).await, "1");
    assert_eq!(served.cast(&["storage", &address, "0"]).await, format!("{:#066x}", 1));
    let logs = served.cast(&["logs", "--from-block", "0", "--address", &address, "--json"]).await;
    let logs: serde_json::Value = serde_json::from_str(&logs).unwrap();
    assert_eq!(logs[0]["transactionHash"], counted["transactionHash"]);
    let hash = counted["transactionHash"].as_str().unwrap();
    assert_eq!(served.cast(&["receipt", hash, "status"]).await.split(' ').next(), Some("true"));
    assert!(served.cast(&["tx", hash, "input"]).await.starts_with("0xd09de08a"));
    let proof: serde_json::Value = serde_json::from_str(&served.cast(&["proof", &address, "0"]).await).unwrap();
    assert_eq!(proof["storageProof"][0]["value"], "0x1");
    assert_eq!(served.cast(&["gas-price"]).await, "0");
    assert_eq!(served.cast(&["nonce", &format!("{:#x}", Address::new(account(3).account().to_bytes()))]).await, "2");
    let standing = served.cast(&["rpc", "blockhouse_standing"]).await;
    assert!(standing.contains("\"fingerprint\""), "{standing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ethers_deploys_sends_listens_and_reads() {
    if has("npm/node_modules/ethers") {
        Served::new().await.run(node("ethers_client.cjs")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viem_deploys_sends_listens_and_reads() {
    if has("npm/node_modules/viem") {
        Served::new().await.run(node("viem_client.cjs")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web3_py_deploys_sends_listens_and_checks_proofs() {
    if has("python/bin/python") {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg("-B").arg(script("web3_client.py"));
        Served::new().await.run(command).await;
    }
}
