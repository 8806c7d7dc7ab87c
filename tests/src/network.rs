//! A network of real nodes on this machine, and JSON-RPC to them.

pub mod apart;
mod ports;
pub mod proxy;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::schema::Schema;
use crate::world::binary;

pub use ports::free_ports;

/// How long anything of a network may take before it counts as never: this machine may be very busy.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// `blockhouse node local`, running.
#[derive(Debug)]
pub struct Network {
    dir: PathBuf,
    ports: (u16, u16),
    parent: Child,
    nodes: Vec<Node>,
}

/// One node of it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its data folder.
    pub dir: PathBuf,
    /// Its process.
    pub pid: u32,
    port: u16,
}

impl Network {
    /// Starts a new network, or the one that is in that folder, with these words beside.
    pub fn start(dir: &Path, nodes: u16, words: &str) -> Self {
        let first = free_ports(2 * nodes);
        Self::start_at(dir, nodes, words, (first, first + nodes))
    }

    fn start_at(dir: &Path, nodes: u16, words: &str, ports: (u16, u16)) -> Self {
        let mut command = Command::new(binary());
        command.args(["node", "local", "--json", "--dir"]).arg(dir).args(words.split_whitespace());
        for (name, value) in [("--nodes", nodes), ("--rpc-port", ports.0), ("--port", ports.1)] {
            command.args([name, &value.to_string()]);
        }
        let mut parent = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let mut started = Vec::new();
        while started.len() < usize::from(nodes) {
            let line = lines.next().expect("the network ended before its nodes started").unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            let words = ["node", "local"].map(str::to_owned);
            let faults = Schema::page().faults(&words, &value);
            assert!(faults.is_empty(), "docs/reference/json.md says otherwise of {value}: {faults:#?}");
            if value["type"] == "node" {
                let number = u16::try_from(value["number"].as_u64().unwrap()).unwrap();
                let pid = u32::try_from(value["pid"].as_u64().unwrap()).unwrap();
                started.push(Node {
                    dir: PathBuf::from(value["dir"].as_str().unwrap()),
                    pid,
                    port: ports.0 + number - 1,
                });
            }
        }
        Self { dir: dir.to_owned(), ports, parent, nodes: started }
    }

    /// Ends it as Ctrl-C does, and starts it again on the same folder.
    #[must_use]
    pub fn restart(mut self, words: &str) -> Self {
        self.end();
        let (dir, count, ports) = (self.dir.clone(), u16::try_from(self.nodes.len()).unwrap(), self.ports);
        drop(self);
        Self::start_at(&dir, count, words, ports)
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node; they are numbered from 0.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// Asks the whole network to end, and waits until all its processes have.
    pub fn end(&mut self) {
        let own = rustix::process::Pid::from_child(&self.parent);
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        self.parent.wait().unwrap();
        self.expect_all_ended();
    }

    /// Kills the process that started the nodes; they must end by themselves.
    pub fn kill_parent(&mut self) {
        self.parent.kill().unwrap();
        self.parent.wait().unwrap();
        self.expect_all_ended();
    }

    fn expect_all_ended(&self) {
        for node in &self.nodes {
            wait_until(|| !node.lives(), "a node ends with the process that started it");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its nodes end with it.
        let _ = self.parent.kill();
        let _ = self.parent.wait();
        for node in &self.nodes {
            let end = Instant::now() + PATIENCE;
            while node.lives() && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
        }
    }
}

impl Node {
    /// Whatever answers JSON-RPC at that port of this machine.
    pub const fn foreign(pid: u32, port: u16) -> Self {
        Self { dir: PathBuf::new(), pid, port }
    }

    /// The node of a folder that answers clients at that port and is started by [`Node::run_again`] alone.
    pub fn apart(dir: PathBuf, port: u16) -> Self {
        Self { dir, pid: 0, port }
    }

    /// Its URL for clients.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port for clients.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as kill -9 does.
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
        wait_until(|| !self.lives(), "a killed node ends");
    }

    /// Stops its time, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.signal(if paused { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT });
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// True while its process runs; one that only waits to be buried does not.
    pub fn lives(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = status.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    }

    /// Starts it again, apart from the others; it ends when the value is dropped.
    pub fn run_again(&self) -> RunningNode {
        self.run_by(&binary())
    }

    /// The same by that program, which may be of another release.
    pub fn run_by(&self, program: &Path) -> RunningNode {
        let mut command = Command::new(program);
        command.args(["node", "run", "--with-parent", "--dir"]).arg(&self.dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("http://"), "the node did not start again: {line}");
        RunningNode { child }
    }

    /// The result of a request, which must succeed.
    #[track_caller]
    pub fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.try_ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"));
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// The whole answer to a request.
    pub fn try_ask(&self, method: &str, params: &Value) -> std::io::Result<Value> {
        self.try_ask_within(method, params, PATIENCE)
    }

    /// The whole answer to a request, if it comes in that time: a node that is paused answers nothing.
    pub fn try_ask_within(&self, method: &str, params: &Value, time: Duration) -> std::io::Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(time))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|error| std::io::Error::other(format!("{error}: {answer}")))
    }

    /// The height of its last final block.
    pub fn height(&self) -> u64 {
        number(&self.ask("eth_blockNumber", &json!([])))
    }

    /// The hash of its block of that height.
    pub fn hash_at(&self, height: u64) -> Value {
        self.ask("eth_getBlockByNumber", &json!([format!("{height:#x}"), false]))["hash"].clone()
    }

    /// Waits for the receipt of a transaction.
    #[track_caller]
    pub fn receipt(&self, hash: &Value) -> Value {
        let mut receipt = Value::Null;
        wait_until(
            || {
                receipt = self.ask("eth_getTransactionReceipt", &json!([hash]));
                !receipt.is_null()
            },
            "a transaction becomes final",
        );
        receipt
    }
}

/// A node that runs apart from its network.
#[derive(Debug)]
pub struct RunningNode {
    child: Child,
}

impl RunningNode {
    /// Ends it as a service manager does.
    pub fn stop(mut self) {
        let own = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number as Ethereum writes it.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Waits for something that must become true.
#[track_caller]
pub fn wait_until(mut is_so: impl FnMut() -> bool, what: &str) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it did not come true within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(LOOK);
    }
}
