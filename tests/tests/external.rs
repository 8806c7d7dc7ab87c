//! A vault on an outside chain: the real binary against a real anvil, with reorgs, a killed node, stuck transactions and poor accounts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use blockhouse_tests::need;
use blockhouse_tests::world::{Call, World, exit};
use serde_json::{Value, json};

/// How long anything may take before it counts as never: this machine may be very busy.
const PATIENCE: Duration = Duration::from_mins(2);
/// What an account is given: ten ether.
const RICH: &str = "0x8ac7230489e80000";

/// `anvil`, running. Two slots are an epoch, and a block is made five times a second: it is final after less than a second.
struct Anvil {
    process: Child,
    port: u16,
    state: PathBuf,
    words: Vec<String>,
}

/// Where `./x test` puts it.
fn program() -> PathBuf {
    let tools = std::env::var_os("BLOCKHOUSE_ETHEREUM_TOOLS").map(PathBuf::from);
    let here = || std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/ethereum");
    tools.unwrap_or_else(here).join("npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
}

impl Anvil {
    /// Starts it; none if it is waived.
    fn start(folder: &Path, words: &[&str]) -> Option<Self> {
        need::set_up("ethereum-tools", program().exists()).then(|| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Self::spawn(folder.join("anvil-state"), port, words)
        })
    }

    fn spawn(state: PathBuf, port: u16, words: Vec<String>) -> Self {
        let mut command = Command::new(program());
        command.args(["--slots-in-an-epoch", "1", "--block-time", "0.2", "--quiet", "--port", &port.to_string()]);
        // A node that forgot the state of its last final block cannot be read from.
        command.args(["--preserve-historical-states", "--state-interval", "1", "--state"]).arg(&state).args(&words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let anvil = Self { process: command.spawn().unwrap(), port, state, words };
        anvil.wait_until(|anvil| anvil.ask("eth_chainId", json!([])).is_some());
        anvil
    }

    /// Asks it to end, which writes its state down, and starts it again on that.
    fn restart_after(self, pause: Duration) -> Self {
        let (state, port, words) = (self.state.clone(), self.port, self.words.clone());
        drop(self);
        std::thread::sleep(pause);
        Self::spawn(state, port, words)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One question by hand: no client of ours is in between.
    #[expect(clippy::needless_pass_by_value, reason = "so are they written where they are asked")]
    fn ask(&self, method: &str, params: Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let start = body.find('{')?;
        let end = body.rfind('}')?;
        let answer: Value = serde_json::from_str(&body[start..=end]).ok()?;
        answer.get("result").cloned()
    }

    fn height(&self) -> u64 {
        number(&self.ask("eth_blockNumber", json!([])).unwrap())
    }

    fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "it never came to it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.process.wait();
    }
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn init(world: &World, anvil: &Anvil) -> Call {
    world.init(3).args("--json --ledger").arg(anvil.url())
}

/// Makes a vault: the first try names the accounts that have to pay, the second goes on.
fn founded(world: &World, anvil: &Anvil) {
    let poor = init(world, anvil).run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let accounts: Vec<&str> = told.match_indices("0x").map(|(at, _)| &told[at..at + 42]).collect();
    assert_eq!(accounts.len(), 2, "owner and writer are named: {told}");
    for account in accounts {
        anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
    }
    init(world, anvil).run().expect(exit::DONE);
}

fn folder(world: &World, name: &str, text: &str) -> PathBuf {
    let folder = world.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("letter.txt"), text).unwrap();
    folder
}

/// From nothing to a restored file, a receipt that a node vouches for, and a recovery from the sites and the chain.
#[test]
fn a_vault_lives_on_an_outside_chain() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let source = folder(&world, "source", "one");
    world.back_up(&source);
    let snapshots = world.snapshots();
    assert_eq!(snapshots.len(), 1);
    world.expect_restores(&snapshots[0], &source);
    world.call("verify --json").run().expect(exit::DONE);

    let receipt = world.path("receipt.json");
    world.unlocked("receipt latest letter.txt -o").arg(&receipt).run().expect(exit::DONE);
    let check = || world.call("check-receipt").arg(&receipt);
    let told = check().run().expect(exit::USAGE);
    assert!(told.stderr.contains("nobody was asked"), "{}", told.stderr);
    let good = check().arg("--rpc").arg(anvil.url()).arg("--file").arg(source.join("letter.txt")).run();
    assert!(good.expect(exit::DONE).stderr.contains("and final"));
    check().arg("--block").arg("0".repeat(64)).run().expect(exit::CHECK);

    let fingerprint = world.fingerprint();
    let sheet = fs::read_to_string(world.vault().join("recovery-sheet.txt")).unwrap();
    for part in ["Vault        0x", "Access       0x", "chain id     31337", "--ledger URL_OF_A_NODE --since"] {
        assert!(sheet.contains(part), "{part}:\n{sheet}");
    }
    fs::rename(world.vault(), world.path("lost")).unwrap();
    let recover = || {
        let call = world.call("recover --json --yes --ledger").arg(anvil.url()).arg("--site").arg(world.site(1));
        call.arg("--fingerprint").arg(&fingerprint).arg("--identity").arg(world.identity())
    };
    recover().run().expect(exit::DONE);
    assert_eq!(world.snapshots(), snapshots);
    world.expect_restores(&snapshots[0], &source);
    // The new writer's account has nothing yet, and its error says which it is.
    let poor = world.call("backup --json").arg(&source).run().expect(exit::NOT_ALLOWED);
    let told = &poor.stderr;
    let account = &told[told.find("0x").unwrap()..][..42];
    anvil.ask("anvil_setBalance", json!([account, RICH])).unwrap();
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    assert_eq!(world.snapshots().len(), 2);
}

/// Blocks with our transactions are dropped before they are final, again and again: each snapshot is committed once.
#[test]
fn reorgs_before_finality_lose_and_double_nothing() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    // Finality is twelve blocks away from here on, so that a reorg hits what is not final.
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[ledger.chain]\n", "[ledger.chain]\ndepth = 12\n")).unwrap();
    let source = folder(&world, "source", "one");
    // What init saw final lies deeper than any reorg.
    let before = anvil.height();
    anvil.wait_until(|anvil| anvil.height() > before + 10);
    let backup = world.call("backup --json").arg(&source).spawn();
    let waiting = || fs::read_to_string(world.vault().join("outbox")).unwrap_or_default();
    for _ in 0..4 {
        // Something of ours is on its way: empty blocks in the place of the last six.
        anvil.wait_until(|_| waiting().contains("\"raw\""));
        let before = anvil.height();
        anvil.wait_until(|anvil| anvil.height() > before + 2);
        anvil.ask("anvil_reorg", json!([6, []])).unwrap();
    }
    backup.finish().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 1);
    let history = world.call("history --json").run().expect(exit::DONE);
    let commits = history.lines().iter().filter(|line| line.to_string().contains("SnapshotCommitted")).count();
    assert_eq!(commits, 1, "each snapshot is committed once");
    let snapshot = world.snapshots().remove(0);
    world.expect_restores(&snapshot, &source);
}

/// The node dies in the middle of a backup and of a restore, and comes back: both go on. A backup that is killed itself leaves what it
/// sent in the outbox, and the next one finishes that first.
#[test]
fn a_killed_node_and_a_killed_backup_are_got_over() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let source = folder(&world, "source", "one");
    let backup = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| fs::read_to_string(world.vault().join("outbox")).is_ok_and(|text| text.contains("\"raw\"")));
    let anvil = anvil.restart_after(Duration::from_millis(500));
    backup.finish().expect(exit::DONE);
    let mut second = world.call("backup --json").arg(&source).spawn();
    anvil.wait_until(|_| fs::read_to_string(world.vault().join("outbox")).is_ok_and(|text| text.contains("\"raw\"")));
    second.kill();
    second.finish();
    fs::write(source.join("letter.txt"), "two").unwrap();
    world.back_up(&source);
    let snapshots = world.snapshots();
    world.expect_restores(snapshots.last().unwrap(), &source);
}

/// A base fee that rises above what was offered: the transaction is replaced by one that offers more.
#[test]
fn a_stuck_transaction_is_replaced() {
    let world = World::empty();
    let Some(anvil) = Anvil::start(&world.path(""), &[]) else { return };
    founded(&world, &anvil);
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("replace_secs = 90", "replace_secs = 1")).unwrap();
    let source = folder(&world, "source", "one");
    // No blocks: what is sent waits.
    anvil.ask("evm_setIntervalMining", json!([0])).unwrap();
    let backup = world.call("backup --json").arg(&source).spawn();
    let outbox = || fs::read_to_string(world.vault().join("outbox")).unwrap_or_default();
    anvil.wait_until(|_| outbox().matches("\"raw\"").count() >= 2);
    anvil.ask("evm_setIntervalMining", json!([1])).unwrap();
    backup.finish().expect(exit::DONE);
    assert_eq!(world.snapshots().len(), 1);
    assert!(anvil.height() > 0);
}
