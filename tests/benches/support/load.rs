//! Writers at work on the nodes of a network, over JSON-RPC as any client: each commit ends its session, so the next one is opened with it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use blockhouse_ledger::contracts::Vault;
use blockhouse_tests::network::Node;
use serde_json::{Value, json};

use crate::writers::{Signed, Writer, opened_by};

/// What is waited for: sessions that are open, and commits, which tell their events only where they succeed.
static EVENTS: LazyLock<[B256; 2]> =
    LazyLock::new(|| [Vault::SessionOpened::SIGNATURE_HASH, Vault::SnapshotCommitted::SIGNATURE_HASH]);

/// Commits in one request of the burst.
const BATCH: usize = 25;
/// The error of a node for who asks too often, before it looks at anything.
const TOO_OFTEN: &str = "\"code\":-32005";
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// A connection that nobody used for so long is not used again: the node may close it at any moment.
const RESTED: Duration = Duration::from_secs(2);

/// Writers at work, each by one of the nodes.
pub(crate) struct Load {
    seen: Arc<Seen>,
    desks: Vec<Desk>,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Begins with these, each of whom keeps so many sessions open.
    pub(crate) fn begin(nodes: &[Node], writers: Vec<Writer>, sessions: usize) -> Self {
        let (seen, mut desks) = desks(nodes.len(), writers);
        seen.next.store(nodes[0].height() + 1, Ordering::Relaxed);
        let watcher = seen.watch(&nodes[0]);
        nodes.iter().zip(&mut desks).for_each(|(node, desk)| desk.open(node, sessions));
        Self { seen, desks, watcher: Some(watcher) }
    }

    /// Sends commits by all these nodes at once, so many a second or as many as they take, and gives for each when it was due and when it was
    /// final.
    pub(crate) fn send(&mut self, nodes: &[Node], count: usize, rate: Option<usize>) -> Vec<(Instant, Instant)> {
        send_all(nodes, &mut self.desks, count, rate, &self.seen)
    }

    /// Asks the nodes nothing more: they are to be stopped.
    pub(crate) fn rest(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.join().unwrap();
        }
    }

    /// Goes on after that, with what was open.
    pub(crate) fn go_on(&mut self, nodes: &[Node]) {
        self.seen.stop.store(false, Ordering::Relaxed);
        self.watcher = Some(self.seen.watch(&nodes[0]));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.rest();
    }
}

/// One for each node, with its share of the writers.
fn desks(count: usize, writers: Vec<Writer>) -> (Arc<Seen>, Vec<Desk>) {
    let (opened, sessions): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    let mut desks: Vec<_> = sessions.into_iter().map(|sessions| Desk { writers: HashMap::new(), sessions }).collect();
    for (number, writer) in writers.into_iter().enumerate() {
        desks[number % count].writers.insert(number, writer);
    }
    (Arc::new(Seen { at: Mutex::default(), opened, next: AtomicU64::new(0), stop: AtomicBool::new(false) }), desks)
}

/// What happens on the ledger, as the first node tells it.
struct Seen {
    /// When it had which transaction in a final block.
    at: Mutex<HashMap<B256, Instant>>,
    /// The sessions that were opened, for who sends by each node.
    opened: Vec<Sender<(usize, B256)>>,
    /// The first block that was not looked at.
    next: AtomicU64,
    stop: AtomicBool,
}

impl Seen {
    fn watch(self: &Arc<Self>, node: &Node) -> std::thread::JoinHandle<()> {
        let seen = Arc::clone(self);
        let mut line = Line::to(node);
        std::thread::spawn(move || {
            while !seen.stop.load(Ordering::Relaxed) {
                let height = line.ask("eth_blockNumber", &json!([]));
                let height = u64::from_str_radix(height.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
                let now = Instant::now();
                for height in seen.next.load(Ordering::Relaxed)..=height {
                    let height = format!("{height:#x}");
                    let filter = json!([{ "fromBlock": height, "toBlock": height, "topics": [*EVENTS] }]);
                    line.ask("eth_getLogs", &filter).as_array().unwrap().iter().for_each(|log| seen.take(log, now));
                }
                seen.next.fetch_max(height + 1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    }

    fn take(&self, log: &Value, now: Instant) {
        let hash = log["transactionHash"].as_str().unwrap().parse().unwrap();
        self.at.lock().unwrap().insert(hash, now);
        if let Some((writer, session)) = opened_by(log) {
            let writer = usize::from(writer - 1);
            // Nobody sends any more at the end.
            let _ = self.opened[writer % self.opened.len()].send((writer, session));
        }
    }

    fn wait_for(&self, hash: &B256) -> Instant {
        let end = Instant::now() + Duration::from_mins(5);
        loop {
            if let Some(at) = self.at.lock().unwrap().get(hash) {
                return *at;
            }
            assert!(Instant::now() < end, "a commit did not become final");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Who sends by one node: its writers, and their sessions as they are opened.
struct Desk {
    writers: HashMap<usize, Writer>,
    sessions: Receiver<(usize, B256)>,
}

impl Desk {
    /// Opens the sessions that its writers keep open.
    fn open(&mut self, node: &Node, sessions: usize) {
        let mut line = Line::to(node);
        for writer in self.writers.values_mut() {
            send_batch(&mut line, &(0..sessions).map(|_| writer.open()).collect::<Vec<_>>());
        }
    }

    /// Sends so many commits, each when it is due or as soon as there is a session for it, and opens another session with each. Gives when
    /// each was due.
    fn send(&mut self, node: &Node, count: usize, pause: Option<Duration>) -> Vec<(B256, Instant)> {
        let (start, mut sent, mut line) = (Instant::now(), Vec::new(), Line::to(node));
        while sent.len() < count {
            let due = pause.map(|pause| start + pause * u32::try_from(sent.len()).unwrap());
            std::thread::sleep(due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now())));
            let most = if pause.is_some() { 1 } else { BATCH.min(count - sent.len()) };
            let first = self.sessions.recv().unwrap();
            let due = due.unwrap_or_else(Instant::now);
            let mut batch = Vec::new();
            for (writer, session) in std::iter::once(first).chain(self.sessions.try_iter()).take(most) {
                let writer = self.writers.get_mut(&writer).unwrap();
                let commit = writer.commit(session);
                sent.push((commit.hash, due));
                batch.extend([commit, writer.open()]);
            }
            send_batch(&mut line, &batch);
        }
        sent
    }
}

fn send_all(
    nodes: &[Node],
    desks: &mut [Desk],
    count: usize,
    rate: Option<usize>,
    seen: &Seen,
) -> Vec<(Instant, Instant)> {
    let pause =
        rate.map(|rate| Duration::from_secs(1) * u32::try_from(nodes.len()).unwrap() / u32::try_from(rate).unwrap());
    let sent = std::thread::scope(|scope| {
        let share = count / nodes.len();
        let pairs = nodes.iter().zip(desks.iter_mut());
        let threads: Vec<_> = pairs.map(|(node, desk)| scope.spawn(move || desk.send(node, share, pause))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let all: Vec<_> = sent.iter().map(|(hash, due)| (*due, seen.wait_for(hash))).collect();
    let receipt = nodes[0].receipt(&json!(sent.last().unwrap().0));
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    seen.at.lock().unwrap().clear();
    all
}

fn send_batch(line: &mut Line, batch: &[Signed]) {
    let request = |(id, signed): (usize, &Signed)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [signed.raw] });
    let request = Value::from(batch.iter().enumerate().map(request).collect::<Vec<_>>()).to_string();
    let answer = line.post(&request);
    assert!(!answer.contains("\"error\""), "{answer}");
}

/// A connection to a node, which stays open from request to request as every client's does.
struct Line {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
    used: Instant,
}

impl Line {
    fn to(node: &Node) -> Self {
        Self { port: node.port(), stream: None, used: Instant::now() }
    }

    /// The result of a request, which must succeed.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut answer: Value = serde_json::from_str(&self.post(&request.to_string())).unwrap();
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].take()
    }

    /// The answer to a request. One client may not ask as often as it can, and a network of one node is that fast: then it is asked again.
    fn post(&mut self, body: &str) -> String {
        loop {
            let answer = self.post_once(body);
            if !answer.contains(TOO_OFTEN) {
                return answer;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn post_once(&mut self, body: &str) -> String {
        let stream = self.stream.take().filter(|_| self.used.elapsed() < RESTED);
        let mut stream =
            stream.unwrap_or_else(|| BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap()));
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length";
        stream.get_mut().write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let (mut length, mut field) = (None, String::new());
        while field != "\r\n" {
            field.clear();
            assert!(stream.read_line(&mut field).unwrap() > 0, "the node ended the connection");
            if let Some((name, value)) = field.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        let mut answer = vec![0; length.expect("an answer has a length")];
        stream.read_exact(&mut answer).unwrap();
        (self.stream, self.used) = (Some(stream), Instant::now());
        String::from_utf8(answer).unwrap()
    }
}

/// How long what was sent took until it was final, the shortest first.
pub(crate) fn waits(sent: &[(Instant, Instant)]) -> Vec<Duration> {
    let mut waits: Vec<_> = sent.iter().map(|(due, done)| done.saturating_duration_since(*due)).collect();
    waits.sort_unstable();
    waits
}

/// What so many of a hundred are not above.
pub(crate) fn at(sorted: &[Duration], share: usize) -> Duration {
    sorted[(sorted.len() - 1) * share / 100]
}
