//! A network whose nodes are started one by one, some of them late, and a node between that lies or falls silent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blockhouse_crypto::{AccountSecret, EnrolKey};
use blockhouse_homes::NodeUrl;
use blockhouse_homes::network::{
    Enrolment, Founding, Governed, Keys, NodeConfig, NodeFolder, Place, RpcConfig, Signing, SyncConfig,
};
use blockhouse_ledger::Founder;
use blockhouse_tests::network::{Node, free_ports, wait_until};
use blockhouse_tests::world::binary;
use serde_json::{Value, json};

/// Nodes of one network: the validators first, then followers. None runs yet.
pub(crate) struct Late {
    dir: PathBuf,
    /// How many of them vote.
    validators: usize,
    ports: u16,
    count: usize,
}

/// A node's process; it is killed when the value is dropped.
pub(crate) struct Run {
    child: Child,
    talk: PathBuf,
}

impl Late {
    /// Founds it below that folder.
    pub(crate) fn found(dir: &Path, validators: usize, followers: usize) -> Self {
        Self::found_with(dir, validators, followers, None)
    }

    /// The same with validators that may change, by their own accounts, between epochs of so many blocks.
    pub(crate) fn found_governed(dir: &Path, validators: usize, followers: usize, epoch_length: u64) -> Self {
        Self::found_with(dir, validators, followers, Some(epoch_length))
    }

    fn found_with(dir: &Path, validators: usize, followers: usize, epoch_length: Option<u64>) -> Self {
        let count = validators + followers;
        let late =
            Self { dir: dir.to_owned(), validators, ports: free_ports(u16::try_from(2 * count).unwrap()), count };
        fs::create_dir_all(dir).unwrap();
        let mut random = rand::rng();
        let owner = AccountSecret::random(&mut random);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let keys: Vec<_> = (0..validators).map(|_| Keys::generate(&mut random)).collect();
        let governed = epoch_length.map(|length| {
            let founder = |(at, keys): (usize, &Keys)| Founder {
                key: keys.public(),
                address: late.listen(at).to_string(),
                operator: keys.account().account(),
            };
            Governed::by_operators(length, keys.iter().enumerate().map(founder).collect()).unwrap()
        });
        let founding =
            Founding { owner: owner.account(), time, signing: Signing::Committee, validators: keys, governed };
        let founded = founding.found(&mut random).unwrap();
        let following: Vec<_> = (0..followers).map(|_| Keys::generate(&mut random)).collect();
        let names: Vec<_> = following.iter().map(NodeConfig::name_of).collect();
        let addresses: BTreeMap<_, _> = (0..)
            .zip(&founded.keys)
            .map(|(at, keys)| (NodeConfig::name_of(keys), late.listen(at).to_string()))
            .collect();
        for (at, keys) in founded.keys.iter().chain(&following).enumerate() {
            NodeFolder::new(late.folder(at))
                .create(&founded.file, keys, &late.config(at, &addresses, names.clone()))
                .unwrap();
        }
        let key = EnrolKey { chain_id: founded.file.genesis.chain_id, genesis: founded.file.genesis.hash(), owner };
        fs::write(dir.join("enrol.key"), key.to_text().as_bytes()).unwrap();
        late
    }

    fn config(&self, at: usize, validators: &BTreeMap<String, String>, followers: Vec<String>) -> NodeConfig {
        let rpc = RpcConfig { listen: SocketAddr::from(([127, 0, 0, 1], self.rpc_port(at))), ..RpcConfig::default() };
        NodeConfig {
            listen: self.listen(at),
            validators: validators.clone(),
            followers,
            rpc_peers: Vec::new(),
            sync: SyncConfig::default(),
            rpc,
            metrics: None,
            anchor: None,
            witness: None,
        }
    }

    fn port(&self, at: usize) -> u16 {
        self.ports + u16::try_from(at).unwrap()
    }

    fn rpc_port(&self, at: usize) -> u16 {
        self.port(at + self.count)
    }

    fn listen(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(at)))
    }

    fn folder(&self, at: usize) -> PathBuf {
        self.dir.join(format!("node-{}", at + 1))
    }

    /// Where its owner's key is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node; they are numbered from 0.
    pub(crate) fn node(&self, at: usize) -> Node {
        Node::apart(self.folder(at), self.rpc_port(at))
    }

    /// A follower, numbered from 0.
    pub(crate) fn follower(&self, number: usize) -> Node {
        self.node(self.validators + number)
    }

    /// What a node says of itself to who gives it a vote, as a file.
    pub(crate) fn enrolment(&self, node: &Node, name: &str) -> PathBuf {
        let (keys, config) = (Self::keys(node), NodeConfig::load(&node.dir.join("node.toml")).unwrap());
        let (name, address) = (name.parse().unwrap(), config.listen.to_string().parse().unwrap());
        let enrolment = Enrolment::sign(&keys, name, address, Place::default(), Some(keys.account().account()));
        let path = self.dir.join(format!("{}.enrolment", NodeConfig::name_of(&keys)));
        fs::write(&path, enrolment.encode()).unwrap();
        path
    }

    /// The keys of a node.
    pub(crate) fn keys(node: &Node) -> Keys {
        NodeFolder::new(node.dir.clone()).read_keys().unwrap()
    }

    /// Tells a node which others it may ask, and from how far behind it takes their state.
    pub(crate) fn tell(node: &Node, peers: &[String], state_from: u64) {
        let path = node.dir.join("node.toml");
        let mut config = NodeConfig::load(&path).unwrap();
        config.rpc_peers = peers.iter().map(|url| url.parse::<NodeUrl>().unwrap()).collect();
        config.sync.state_from = state_from;
        fs::write(path, config.text()).unwrap();
    }
}

impl Run {
    /// Starts a node, with these words beside.
    pub(crate) fn start(node: &Node, words: &str) -> Self {
        let talk = node.dir.with_extension("talk");
        let mut command = Command::new(binary());
        command.args(["node", "run", "--with-parent", "--dir"]).arg(&node.dir).args(words.split_whitespace());
        let stderr = File::create(&talk).unwrap();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { child, talk }
    }

    /// What it said.
    pub(crate) fn talk(&self) -> String {
        fs::read_to_string(&self.talk).unwrap()
    }

    /// Waits until it answers clients.
    #[track_caller]
    pub(crate) fn answers(&mut self, node: &Node) {
        wait_until(
            || {
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "the node ended ({ended:?}): {}", self.talk());
                node.try_ask("eth_blockNumber", &json!([])).is_ok()
            },
            "a node answers",
        );
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a node between does with a call that it was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malice {
    /// It changes a digit in the middle of the answer.
    Lies,
    /// It does not answer any more.
    Silent,
    /// It answers late, yet before it counts as silent.
    Slow,
    /// It has trouble with as many calls as there are kinds of it, and then none.
    Troubled,
}

/// Longer than a node that has blocks waits for its peers' heights.
const SLOW: Duration = Duration::from_secs(4);

/// A trouble of a node that has what it is asked for.
enum Trouble {
    /// The connection ends without an answer.
    Cut,
    /// It answers with an error of that code.
    Error(i64),
}

impl Trouble {
    /// It falls away, is asked too much twice, and does not have any more what it had. Then it is well.
    const ALL: [Self; 4] = [Self::Cut, Self::Error(-32_005), Self::Error(-32_005), Self::Error(-32_001)];
}

/// Passes calls on to a node, but for some.
pub(crate) struct Between {
    port: u16,
    met: Arc<AtomicUsize>,
}

impl Between {
    /// From the `nth` call of that method on, counted from 0, it does as it is told.
    pub(crate) fn new(node: &Node, method: &'static str, nth: usize, malice: Malice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, to, met) = (listener.local_addr().unwrap().port(), node.port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&met);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let met = Arc::clone(&counted);
                std::thread::spawn(move || pass_on(stream.unwrap(), to, (method, nth, malice), &met));
            }
        });
        Self { port, met }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// As a node, for another one between that passes calls on to it.
    pub(crate) fn node(&self) -> Node {
        Node::foreign(0, self.port)
    }

    /// How many calls of its method were made.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

fn pass_on(mut from: TcpStream, to: u16, (method, nth, malice): (&str, usize, Malice), met: &AtomicUsize) {
    let Some((_, body)) = message(&mut from) else { return };
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let is_of_method = asked["method"] == method;
    let meant = is_of_method.then(|| met.fetch_add(1, Ordering::SeqCst)).and_then(|before| before.checked_sub(nth));
    match (malice, meant) {
        (Malice::Silent, Some(_)) => {
            // As long as the other side waits.
            let _ = from.read(&mut [0]);
            return;
        }
        (Malice::Slow, Some(_)) => std::thread::sleep(SLOW),
        (Malice::Troubled, Some(number)) => match Trouble::ALL.get(number) {
            Some(Trouble::Cut) => return,
            Some(Trouble::Error(code)) => {
                let error = json!({ "code": code, "message": "another time" });
                let refusal = json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error });
                return answer(&mut from, "HTTP/1.1 200 OK", refusal.to_string().as_bytes());
            }
            None => {}
        },
        _ => {}
    }
    let Ok(mut node) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close";
    write!(node, "{head}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    node.write_all(&body).unwrap();
    let Some((status, mut body)) = message(&mut node) else { return };
    if malice == Malice::Lies && meant.is_some() {
        let middle = body.len() / 2;
        body[middle] = if body[middle] == b'0' { b'1' } else { b'0' };
    }
    answer(&mut from, &status, &body);
}

fn answer(to: &mut TcpStream, status: &str, body: &[u8]) {
    let head = "Content-Type: application/json\r\nConnection: close";
    // Who asked may be dead by now.
    let _ = write!(to, "{status}\r\n{head}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = to.write_all(body);
}

/// The first line and the body of a message of HTTP.
fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    Some((head.lines().next()?.to_owned(), body))
}
