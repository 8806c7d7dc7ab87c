//! A real Ethereum node on this machine: `anvil`, as `./x` sets it up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::need;

/// How long anything may take before it counts as never: this machine may be very busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// `anvil`, running. Two slots are an epoch, and a block is made five times a second: it is final after less than a second.
#[derive(Debug)]
pub struct Anvil {
    process: Child,
    port: u16,
    state: PathBuf,
    words: Vec<String>,
}

/// Where `./x test` puts it.
pub fn program() -> PathBuf {
    need::ethereum_tools().join("npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
}

impl Anvil {
    /// Starts it; none if it is waived.
    pub fn start(folder: &Path, words: &[&str]) -> Option<Self> {
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
    #[must_use]
    pub fn restart_after(self, pause: Duration) -> Self {
        let (state, port, words) = (self.state.clone(), self.port, self.words.clone());
        drop(self);
        std::thread::sleep(pause);
        Self::spawn(state, port, words)
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// One question by hand: no client of ours is in between.
    #[expect(clippy::needless_pass_by_value, reason = "so are they written where they are asked")]
    pub fn ask(&self, method: &str, params: Value) -> Option<Value> {
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

    /// The height of its last block.
    pub fn height(&self) -> u64 {
        crate::network::number(&self.ask("eth_blockNumber", json!([])).unwrap())
    }

    /// Waits for something that must become true.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
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
