//! How soon a new node has what the others have: by the engine alone, by runs of blocks, by the state of a late block.
//!
//! A network of real processes with real contract calls in its blocks; it is idle while a follower joins. All share the cores.
//!
//! `cargo bench --profile ci --workspace --bench sync -- [--validators N] [--blocks N] [--writers N]`, with two validators at least
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

#[path = "../tests/support/late.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod late;
#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::time::{Duration, Instant};

use blockhouse_tests::World;
use blockhouse_tests::network::Node;
use late::{Late, Run};
use serde_json::json;
use writers::{Writer, enrol, opened, send};

/// Between two looks at a node that joins.
const LOOK: Duration = Duration::from_millis(20);

struct Options {
    validators: usize,
    blocks: u64,
    writers: u8,
}

fn main() {
    let options = options();
    let world = World::empty();
    let net = Late::found(&world.path("net"), options.validators, 4);
    let nodes: Vec<_> = (0..options.validators).map(|at| net.node(at)).collect();
    let mut running: Vec<_> = nodes.iter().map(|node| Run::start(node, "")).collect();
    running.iter_mut().zip(&nodes).for_each(|(run, node)| run.answers(node));
    let mut writers = enrol(net.dir(), &nodes[0], options.writers);
    let peers: Vec<_> = nodes.iter().map(Node::url).collect();

    // The state is the same in kind and nearly in size: what differs is how much lies before it. A node keeps the state that it gave for some
    // seconds, so another one is asked later.
    let (early, _) = make(&nodes, &mut writers, options.blocks / 4);
    let early_state = by_state(&net.follower(3), &nodes[0], &peers[..1], early);
    let (height, made) = make(&nodes, &mut writers, options.blocks);
    let transactions = nodes.first().map(|node| transactions(node, height)).unwrap();
    println!(
        "\n{} validators, {height} blocks with {transactions} transactions, made at {made:.0} blocks a second",
        nodes.len()
    );
    println!("\n| a new node joins | until it has all blocks | blocks a second |\n|---|---:|---:|");
    tell("by the engine alone (no `rpc_peers`)", height, join(&net.follower(0), &[], "", height));
    tell("by runs of blocks (`--by-blocks`)", height, join(&net.follower(1), &peers, "--by-blocks", height));
    let state = by_state(&net.follower(2), &nodes[0], &peers[1..], height);
    println!("| by state: it takes part, at block {early} | {:.2} s | |", early_state.0.as_secs_f64());
    println!("| by state: it takes part, at block {height} | {:.2} s | |", state.0.as_secs_f64());
    tell("by state: it has all blocks and receipts", height, state.1);
}

/// Makes blocks until there are so many; gives their number, and how many a second came.
fn make(nodes: &[Node], writers: &mut [Writer], height: u64) -> (u64, f64) {
    let (begun, before) = (Instant::now(), nodes[0].height());
    std::thread::scope(|scope| {
        for (number, writer) in writers.iter_mut().enumerate() {
            let node = &nodes[number % nodes.len()];
            scope.spawn(move || write_until(node, writer, height));
        }
    });
    let height = nodes.iter().map(Node::height).max().unwrap();
    (height, rate(height - before, begun.elapsed()))
}

/// How long a new node takes until it takes part with that block's state, and until it has what lies below.
fn by_state(node: &Node, first: &Node, peers: &[String], height: u64) -> (Duration, Duration) {
    Late::tell(node, peers, 1);
    let begun = Instant::now();
    let mut run = Run::start(node, "");
    run.answers(node);
    wait(|| node.height() >= height);
    let takes_part = begun.elapsed();
    wait(|| node.ask("blockhouse_nodeStatus", &json!([]))["history"]["bottom"] == json!(0));
    assert!(run.talk().contains("has the state of block"), "{}", run.talk());
    assert_eq!(node.hash_at(height), first.hash_at(height));
    (takes_part, begun.elapsed())
}

fn options() -> Options {
    let mut options = Options { validators: 4, blocks: 3000, writers: 12 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--validators" => options.validators = value().parse().unwrap(),
            "--blocks" => options.blocks = value().parse().unwrap(),
            "--writers" => options.writers = value().parse().unwrap(),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is no option of this benchmark"),
        }
    }
    options
}

/// Commits snapshots until there are so many blocks.
fn write_until(node: &Node, writer: &mut Writer, height: u64) {
    while node.height() < height {
        let opening = send(node, &writer.open());
        let (_, session) = opened(&node.receipt(&opening)).unwrap();
        let commit = send(node, &writer.commit(session));
        node.receipt(&commit);
    }
}

fn transactions(node: &Node, height: u64) -> u64 {
    let count = |height| node.ask("eth_getBlockTransactionCountByNumber", &json!([format!("{height:#x}")]));
    (0..=height).map(|height| blockhouse_tests::network::number(&count(height))).sum()
}

/// How long a new node takes until it has that block and answers.
fn join(node: &Node, peers: &[String], words: &str, height: u64) -> Duration {
    Late::tell(node, peers, 1);
    let begun = Instant::now();
    let mut run = Run::start(node, words);
    run.answers(node);
    wait(|| node.height() >= height);
    begun.elapsed()
}

fn wait(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(LOOK);
    }
}

fn tell(what: &str, height: u64, took: Duration) {
    println!("| {what} | {:.2} s | {:.0} |", took.as_secs_f64(), rate(height, took));
}

fn rate(blocks: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let blocks = blocks as f64;
    blocks / took.as_secs_f64()
}
