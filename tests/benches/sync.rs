//! How soon a new node has what the others have: by the engine alone, by runs of blocks, by the state of a late block.
//!
//! A network of real processes with real contract calls in its blocks; it is idle while a follower joins. All share the cores.
//!
//! `cargo bench --profile ci --workspace --bench sync -- [--validators N] [--blocks N] [--writers N]`
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
    let net = Late::found(&world.path("net"), options.validators, 3);
    let nodes: Vec<_> = (0..options.validators).map(|at| net.node(at)).collect();
    let mut running: Vec<_> = nodes.iter().map(|node| Run::start(node, "")).collect();
    running.iter_mut().zip(&nodes).for_each(|(run, node)| run.answers(node));
    let (begun, writers) = (Instant::now(), enrol(net.dir(), &nodes[0], options.writers));
    std::thread::scope(|scope| {
        for (number, writer) in writers.into_iter().enumerate() {
            let node = &nodes[number % nodes.len()];
            scope.spawn(move || write_until(node, writer, options.blocks));
        }
    });
    let (height, made) = (nodes[0].height(), begun.elapsed());
    let transactions = nodes.first().map(|node| transactions(node, height)).unwrap();
    println!(
        "\n{} validators, {height} blocks with {transactions} transactions, made in {:.0} s",
        nodes.len(),
        made.as_secs_f64()
    );
    let peers: Vec<_> = nodes.iter().map(Node::url).collect();
    println!("\n| a new node joins | until it has all blocks | blocks a second |\n|---|---:|---:|");
    tell("by the engine alone (no `rpc_peers`)", height, join(&net.follower(0), &[], "", height));
    tell("by runs of blocks (`--by-blocks`)", height, join(&net.follower(1), &peers, "--by-blocks", height));
    let late = net.follower(2);
    let begun = Instant::now();
    Late::tell(&late, &peers, 1);
    let mut run = Run::start(&late, "");
    run.answers(&late);
    wait(|| late.height() >= height);
    println!("| by state: it takes part | {:.2} s | |", begun.elapsed().as_secs_f64());
    wait(|| late.ask("blockhouse_nodeStatus", &json!([]))["history"]["bottom"] == json!(0));
    tell("by state: it has all blocks and receipts", height, begun.elapsed());
    assert_eq!(late.hash_at(height), nodes[0].hash_at(height));
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
fn write_until(node: &Node, mut writer: Writer, height: u64) {
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
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let rate = height as f64 / took.as_secs_f64();
    println!("| {what} | {:.2} s | {rate:.0} |", took.as_secs_f64());
}
