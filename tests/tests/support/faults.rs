//! What the tests of a network's faults share: a network that is founded once, their place in the queue, and their seeds.

#[path = "load.rs"]
pub(crate) mod load;
#[path = "writers.rs"]
pub(crate) mod writers;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use alloy_primitives::Address;
use blockhouse_tests::World;
use blockhouse_tests::network::apart::{Apart, Founded, found};
use blockhouse_tests::network::{Node, number, wait_until};
use load::{Acknowledged, Load};
use serde_json::json;
use writers::{Writer, enrol, genesis};

/// How many writers work at one time.
pub(crate) const WRITERS: u8 = 3;

/// One test at a time: four nodes are enough for a machine of two cores.
static TURN: Mutex<()> = Mutex::new(());
static FOUNDED: OnceLock<(Founded, Vec<Writer>)> = OnceLock::new();

/// A test's turn: its nodes with their proxies, the writers, and what its random choices begin with.
pub(crate) struct Turn {
    pub(crate) apart: Apart,
    pub(crate) writers: Vec<Writer>,
    pub(crate) seed: u64,
    /// How many times as much as in CI is to be done.
    pub(crate) effort: u64,
    /// Where its files are.
    pub(crate) world: World,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for the turn of this test, and tells how to run it again.
    pub(crate) fn begin() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (effort, seed) = (number_from("BLOCKHOUSE_FAULTS", 1), number_from("BLOCKHOUSE_SEED", 1));
        let (thread, binary) = (std::thread::current(), env!("CARGO_CRATE_NAME"));
        let name = thread.name().unwrap_or_default();
        println!(
            "replay with BLOCKHOUSE_FAULTS={effort} BLOCKHOUSE_SEED={seed} cargo test --profile ci --workspace --test {binary} {name}"
        );
        let world = World::empty();
        let (founded, writers) = founded();
        let apart = Apart::new(founded, &world.path("."), seed);
        Self { apart, writers: writers.clone(), seed, effort, world, _one_at_a_time: turn }
    }

    /// Starts all nodes and waits until each has the blocks that let the writers send: it may have ended before those were on its disk.
    pub(crate) fn start_all(&mut self) {
        self.apart.start_all();
        let genesis = genesis(self.apart.node(0));
        let owner = Address::new(genesis.owner.to_bytes());
        let calls = genesis.deployments(0).len() + usize::from(WRITERS);
        let count = |node: &Node| number(&node.ask("eth_getTransactionCount", &json!([owner, "latest"])));
        let nodes = self.apart.nodes();
        wait_until(|| nodes.iter().all(|node| count(node) == calls as u64), "all nodes know who may send");
    }

    /// Puts all writers to work at these nodes.
    pub(crate) fn load(&mut self, nodes: &[usize]) -> Load {
        let nodes: Vec<_> = nodes.iter().map(|at| self.apart.node(*at).clone()).collect();
        Load::start(&nodes, std::mem::take(&mut self.writers), self.seed)
    }

    /// Ends a load.
    pub(crate) fn stop(&mut self, load: Load) -> Vec<Acknowledged> {
        let (writers, done) = load.stop();
        self.writers = writers;
        done
    }

    /// Waits until all nodes are level; then all have one history, with each of these transactions once, and nobody panicked.
    #[track_caller]
    pub(crate) fn expect_all_well(&self, done: &[Acknowledged]) {
        let all: Vec<usize> = (0..self.apart.count()).collect();
        self.apart.wait_until_level(&all);
        let history = self.apart.expect_one_history(&all);
        let mut seen = std::collections::HashMap::new();
        for (height, hashes) in history.iter().enumerate() {
            for hash in hashes {
                assert_eq!(seen.insert(hash.as_str(), height as u64), None, "transaction {hash} is there twice");
            }
        }
        for Acknowledged { hash, height, .. } in done {
            assert_eq!(seen.get(hash.as_str()), Some(height), "transaction {hash} was final in block {height}");
        }
        for Acknowledged { block, height, .. } in done {
            assert_eq!(self.apart.node(0).hash_at(*height), block.as_str(), "block {height} was final before");
        }
        self.apart.expect_no_panic();
    }
}

fn founded() -> &'static (Founded, Vec<Writer>) {
    FOUNDED.get_or_init(|| {
        let mut writers = Vec::new();
        let founded = found(|network, dir| writers = enrol(dir, network.node(0), WRITERS));
        (founded, writers)
    })
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}
