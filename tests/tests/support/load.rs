//! A steady load on a network whose nodes come and go: writers that open a session and commit a snapshot in it, again and again, and hand
//! each transaction in at any node that takes it until it is final.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockhouse_tests::network::{Node, wait_until};
use blockhouse_tests::tree;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::writers::{Signed, Writer, opened};

/// How long a node may take to answer before another is asked; one that is paused never does.
const ANSWER: Duration = Duration::from_millis(500);
/// After how long a transaction that is not final is handed in at another node too.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two looks for a receipt.
const LOOK: Duration = Duration::from_millis(30);
/// After how long a transaction counts as lost: longer than any fault of a test, on a machine that is busy with other things.
const LOST: Duration = Duration::from_mins(3);

/// A transaction that a node called final.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    /// Its hash.
    pub(crate) hash: String,
    /// The hash of its block.
    pub(crate) block: String,
    /// That block's height.
    pub(crate) height: u64,
    /// All of the receipt.
    pub(crate) receipt: Value,
}

/// Writers at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<(Writer, Vec<Acknowledged>)>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    final_commits: AtomicUsize,
}

impl Load {
    /// Starts them, each on a thread of its own; which node gets what follows from the seed.
    pub(crate) fn start(nodes: &[Node], writers: Vec<Writer>, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..).zip(writers).map(|(number, mut writer)| {
            let (shared, nodes, mut random) = (Arc::clone(&shared), nodes.to_vec(), tree::random(seed + number));
            std::thread::spawn(move || {
                let mut done = Vec::new();
                while !shared.stop.load(Ordering::Relaxed) {
                    let opening = make_final(&nodes, &writer.open(), &mut random);
                    let (_, session) = opened(&opening.receipt).expect("it opened a session");
                    done.extend([opening, make_final(&nodes, &writer.commit(session), &mut random)]);
                    shared.final_commits.fetch_add(1, Ordering::Relaxed);
                }
                (writer, done)
            })
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// How many commits are final.
    fn count(&self) -> usize {
        self.shared.final_commits.load(Ordering::Relaxed)
    }

    /// Waits until so many more are.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: usize, what: &str) {
        let target = self.count() + more;
        wait_until(
            || {
                assert!(!self.threads.iter().any(JoinHandle::is_finished), "a writer failed, see above");
                self.count() >= target
            },
            what,
        );
    }

    /// Ends it after the commits that it is at, and gives the writers back with what became final.
    pub(crate) fn stop(self) -> (Vec<Writer>, Vec<Acknowledged>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (mut writers, mut all) = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (writer, done) = thread.join().expect("a writer failed, see above");
            writers.push(writer);
            all.extend(done);
        }
        (writers, all)
    }
}

/// Hands a transaction in until it is final.
pub(crate) fn make_final(nodes: &[Node], signed: &Signed, random: &mut StdRng) -> Acknowledged {
    let (start, mut said) = (Instant::now(), Value::Null);
    while start.elapsed() < LOST {
        let at = &nodes[random.random_range(0..nodes.len())];
        // It may be down, or know it already, or be done with it: the receipt decides.
        if let Ok(answer) = at.try_ask_within("eth_sendRawTransaction", &json!([signed.raw]), ANSWER) {
            said = answer;
        }
        let again = Instant::now() + AGAIN;
        while Instant::now() < again {
            let at = &nodes[random.random_range(0..nodes.len())];
            if let Some(receipt) = receipt(at, signed) {
                return receipt;
            }
            std::thread::sleep(LOOK);
        }
    }
    panic!("transaction {} did not become final; the last node said {said}", signed.hash);
}

/// The receipt that a node has, if it has one and answers.
pub(crate) fn receipt(node: &Node, signed: &Signed) -> Option<Acknowledged> {
    let answer = node.try_ask_within("eth_getTransactionReceipt", &json!([signed.hash]), ANSWER).ok()?;
    let receipt = &answer["result"];
    if receipt.is_null() {
        return None;
    }
    if receipt["status"] != "0x1" {
        let trace =
            node.try_ask_within("debug_traceTransaction", &json!([signed.hash, { "tracer": "callTracer" }]), ANSWER);
        panic!("a transaction failed: {receipt}: {trace:?}");
    }
    Some(Acknowledged {
        hash: signed.hash.to_string(),
        block: receipt["blockHash"].as_str()?.to_owned(),
        height: blockhouse_tests::network::number(&receipt["blockNumber"]),
        receipt: receipt.clone(),
    })
}
