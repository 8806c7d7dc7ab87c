//! Four nodes, each a process that a test starts, kills and starts again by itself, with a proxy on the way from each to each.
//!
//! Their folders are those of a network that has ended, held in memory: making one takes seconds, and every test takes one of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::json;

use super::proxy::Proxies;
use super::{Network, Node, free_ports, number, wait_until};
use crate::world::binary;

/// The files of a network whose nodes have ended, by their paths below its folder.
#[derive(Debug, Clone)]
pub struct Founded {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    /// The public keys of the nodes, in their order.
    pub keys: Vec<String>,
}

impl Founded {
    /// Takes up what that network left, which must have ended.
    pub fn of(dir: &Path, nodes: usize) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    let held = (metadata.permissions().mode(), fs::read(&path).unwrap());
                    files.insert(path.strip_prefix(dir).unwrap().to_owned(), held);
                }
            }
        }
        let keys = (0..nodes).map(|at| own_key(&dir.join(folder_name(at)))).collect();
        Self { files, keys }
    }

    /// Writes the folder of one node.
    pub fn write_node(&self, at: usize, to: &Path) {
        for (path, (mode, bytes)) in &self.files {
            if let Ok(name) = path.strip_prefix(folder_name(at)) {
                let path = to.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut file = File::options().create_new(true).write(true).mode(*mode).open(path).unwrap();
                std::io::Write::write_all(&mut file, bytes).unwrap();
            }
        }
    }
}

fn folder_name(at: usize) -> String {
    format!("node-{}", at + 1)
}

/// A node is the validator at whose address it listens.
fn own_key(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("node.toml")).unwrap();
    let value = |line: &str| line.split_once('=').unwrap().1.trim().trim_matches('"').to_owned();
    let listen = value(text.lines().find(|line| line.starts_with("listen")).unwrap());
    let own = text.lines().find(|line| !line.starts_with("listen") && line.ends_with(&format!("\"{listen}\"")));
    own.unwrap().split_once('=').unwrap().0.trim().trim_matches('"').to_owned()
}

/// Nodes that run apart.
#[derive(Debug)]
pub struct Apart {
    hosts: Vec<Host>,
    /// What lies between them.
    pub proxies: Proxies,
    listen: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Host {
    node: Node,
    child: Option<Child>,
    /// Where its stderr goes, of all its runs.
    talk: PathBuf,
    /// Where its last run began in it.
    since: u64,
}

/// How a node ended.
#[derive(Debug)]
pub struct Ended {
    /// How its process did.
    pub status: ExitStatus,
    /// What it said since it was started.
    pub talk: String,
}

impl Apart {
    /// Gives each node its folder below `to`, and itself addresses of the proxies for the others. None runs yet.
    pub fn new(founded: &Founded, to: &Path, seed: u64) -> Self {
        let count = founded.keys.len();
        let ports = free_ports(u16::try_from(count * 2).unwrap());
        let port = |at: usize| ports + u16::try_from(at).unwrap();
        let listen: Vec<SocketAddr> = (0..count).map(|at| SocketAddr::from(([127, 0, 0, 1], port(at)))).collect();
        let host = |at: usize| {
            let dir = to.join(folder_name(at));
            founded.write_node(at, &dir);
            Host {
                node: Node { dir, pid: 0, port: port(count + at) },
                child: None,
                talk: to.join(format!("{}.talk", folder_name(at))),
                since: 0,
            }
        };
        let hosts = (0..count).map(host).collect();
        let proxies = Proxies::start(seed, &listen);
        let apart = Self { hosts, proxies, listen };
        (0..count).for_each(|at| apart.configure(at, &founded.keys));
        apart
    }

    /// Puts a node of another network at the place of one of these; it is told that the others are of its own.
    pub fn replace(&self, at: usize, other: &Founded) {
        fs::remove_dir_all(&self.node(at).dir).unwrap();
        other.write_node(at, &self.node(at).dir);
        self.configure(at, &other.keys);
    }

    /// Writes the configuration of a node.
    fn configure(&self, at: usize, keys: &[String]) {
        let address = |to: usize| if to == at { self.listen[at] } else { self.proxies.address(at, to) };
        let validators: Vec<String> =
            keys.iter().enumerate().map(|(to, key)| format!("{key} = \"{}\"", address(to))).collect();
        let (listen, rpc, validators) = (self.listen[at], self.node(at).port, validators.join("\n"));
        let text = format!(
            "listen = \"{listen}\"\n[validators]\n{validators}\n[rpc]\nlisten = \"127.0.0.1:{rpc}\"\ndebug = true\n"
        );
        fs::write(self.node(at).dir.join("node.toml"), text).unwrap();
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// A node; they are numbered from 0.
    pub fn node(&self, at: usize) -> &Node {
        &self.hosts[at].node
    }

    /// Copies of all, to ask them.
    pub fn nodes(&self) -> Vec<Node> {
        self.hosts.iter().map(|host| host.node.clone()).collect()
    }

    /// Where a node listens for others, not by a proxy.
    pub fn listens(&self, at: usize) -> SocketAddr {
        self.listen[at]
    }

    /// Starts all nodes.
    pub fn start_all(&mut self) {
        (0..self.count()).for_each(|at| self.start(at));
    }

    /// Starts a node, which must start.
    #[track_caller]
    pub fn start(&mut self, at: usize) {
        self.start_under(at, &[], &[]);
    }

    /// The same under another program, whose words come first, and with variables of the environment.
    #[track_caller]
    pub fn start_under(&mut self, at: usize, words: &[&str], variables: &[(&str, &str)]) {
        if let Err(ended) = self.try_start_under(at, words, variables) {
            panic!("node {at} did not start ({}): {}", ended.status, ended.talk);
        }
    }

    /// Starts a node, or says how it ended.
    pub fn try_start(&mut self, at: usize) -> Result<(), Ended> {
        self.try_start_under(at, &[], &[])
    }

    fn try_start_under(&mut self, at: usize, words: &[&str], variables: &[(&str, &str)]) -> Result<(), Ended> {
        let host = &mut self.hosts[at];
        assert!(host.child.is_none(), "node {at} runs already");
        let talk = File::options().create(true).append(true).open(&host.talk).unwrap();
        host.since = talk.metadata().unwrap().len();
        let program = binary();
        let mut line: Vec<&std::ffi::OsStr> = words.iter().map(AsRef::as_ref).collect();
        line.push(program.as_os_str());
        let mut command = Command::new(line.remove(0));
        command.args(line).args(["node", "run", "--with-parent", "--dir"]).arg(&host.node.dir);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(talk);
        let mut child = command.spawn().unwrap();
        host.node.pid = child.id();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        if first.contains("http://") {
            host.child = Some(child);
            return Ok(());
        }
        let status = child.wait().unwrap();
        Err(Ended { status, talk: read_from(&host.talk, host.since) })
    }

    /// Ends a node as kill -9 does.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.hosts[at].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends a node as a service manager does; it must end well.
    pub fn end(&mut self, at: usize) {
        let mut child = self.hosts[at].child.take().unwrap();
        // It ends with its input.
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "node {at} ended with {status}: {}", self.talk(at));
    }

    /// Waits until a node has ended by itself.
    pub fn wait_for_end(&mut self, at: usize, what: &str) -> Ended {
        let host = &mut self.hosts[at];
        let mut child = host.child.take().unwrap();
        let mut status = None;
        wait_until(
            || {
                status = child.try_wait().unwrap();
                status.is_some()
            },
            what,
        );
        Ended { status: status.unwrap(), talk: read_from(&host.talk, host.since) }
    }

    /// True while its process runs.
    pub fn runs(&self, at: usize) -> bool {
        self.hosts[at].child.is_some() && self.node(at).lives()
    }

    /// All that a node said.
    pub fn talk(&self, at: usize) -> String {
        read_from(&self.hosts[at].talk, 0)
    }

    /// No node panicked, whatever happened to it.
    #[track_caller]
    pub fn expect_no_panic(&self) {
        for at in 0..self.count() {
            let talk = self.talk(at);
            assert!(!talk.contains("panicked"), "node {at} panicked:\n{talk}");
        }
    }

    /// Waits until these nodes have the highest block that any of them has now.
    #[track_caller]
    pub fn wait_until_level(&self, nodes: &[usize]) {
        let height = nodes.iter().map(|at| self.node(*at).height()).max().unwrap();
        wait_until(|| nodes.iter().all(|at| self.node(*at).height() >= height), "all nodes have the same height");
    }

    /// All blocks, the same at each of these nodes up to the least of their heights: the hashes of their transactions, by height.
    #[track_caller]
    pub fn expect_one_history(&self, nodes: &[usize]) -> Vec<Vec<String>> {
        let height = nodes.iter().map(|at| self.node(*at).height()).min().unwrap();
        let block =
            |at: usize, height: u64| self.node(at).ask("eth_getBlockByNumber", &json!([format!("{height:#x}"), false]));
        let mut last = None;
        let mut history = Vec::new();
        for height in 0..=height {
            let first = block(nodes[0], height);
            assert!(
                last.is_none_or(|last| first["parentHash"] == last),
                "block {height} does not follow the one before"
            );
            for at in &nodes[1..] {
                assert_eq!(
                    block(*at, height)["hash"],
                    first["hash"],
                    "nodes {} and {at} differ at block {height}",
                    nodes[0]
                );
            }
            assert_eq!(number(&first["number"]), height);
            let hashes = first["transactions"].as_array().unwrap().iter();
            history.push(hashes.map(|hash| hash.as_str().unwrap().to_owned()).collect());
            last = Some(first["hash"].clone());
        }
        history
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for at in 0..self.count() {
            self.kill(at);
        }
    }
}

fn read_from(path: &Path, start: u64) -> String {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// The network that `founding` makes and leaves ended.
pub fn found(founding: impl FnOnce(&Network, &Path)) -> Founded {
    let folder = tempfile::Builder::new().prefix("blockhouse-").tempdir().unwrap();
    let dir = folder.path().join("ledger");
    let mut network = Network::start(&dir, 4, "");
    founding(&network, &dir);
    network.end();
    Founded::of(&dir, network.nodes().len())
}
