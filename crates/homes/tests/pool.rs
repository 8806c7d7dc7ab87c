//! The pool over a real ledger, and its journal under real kills.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "a child reports to its parent")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::{Header, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use blockhouse_homes::network::pool::journal::Journal;
use blockhouse_homes::network::pool::{
    AddError, Added, Examined, Included, Limits, Origin, Pending, Pool, Refusal, Rules, Standing,
};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{MemoryState, State, build, is_enrolled};
use support::{Choices, account, address, enrol, genesis, rounds, seed, sign};

const FOLDER: &str = "BLOCKHOUSE_TEST_POOL_FOLDER";

fn rules() -> Rules {
    Rules { genesis: genesis(), system: Address::repeat_byte(9), gas_max: genesis().gas_limit, recall: Arc::default() }
}

fn examined(raw: &Bytes) -> Examined {
    rules().examine_bytes(raw, support::START).unwrap()
}

/// A node without the node: state, head and pool.
struct Node {
    nodes: MemoryState,
    head: Header,
    pool: Pool,
}

impl Node {
    fn new() -> Self {
        Self { nodes: MemoryState::default(), head: genesis().block().header, pool: Pool::new(Limits::default()) }
    }

    fn add(&mut self, raw: &Bytes) -> Result<Added, Refusal> {
        let Self { nodes, head, pool } = self;
        let ask = |sender: &Address| {
            let account = State::at(head.state_root, nodes).account(sender).unwrap();
            let enrolled = is_enrolled(&genesis(), head, nodes, sender)?;
            Ok::<_, blockhouse_ledger::CallError<_>>(Standing { nonce: account.map_or(0, |a| a.nonce), enrolled })
        };
        pool.add(examined(raw), Origin::Local, Duration::ZERO, ask).map_err(|error| match error {
            AddError::Refused(refusal) => refusal,
            AddError::Standing { source, .. } => panic!("the state cannot be read: {source}"),
        })
    }

    /// Makes a block of what the pool gives.
    fn seal(&mut self) -> usize {
        let taken = self.pool.take(genesis().gas_limit, 1 << 20, &Pending::new());
        let txs: Vec<TxEnvelope> = taken.iter().map(|tx| tx.tx().clone()).collect();
        let time = self.head.timestamp + 1;
        let made = build(&genesis(), &self.head, &self.nodes, txs, BlockTime::of_seconds(time))
            .expect("all that the pool gives can stand in a block");
        self.nodes.apply(&made.changes);
        self.head = made.block.header.clone();
        let included = |tx: &Arc<Examined>| Included { sender: tx.sender(), nonce: tx.nonce(), hash: tx.hash() };
        self.pool.on_final(self.head.number, &taken.iter().map(included).collect::<Vec<_>>());
        taken.len()
    }
}

#[test]
fn a_ledger_lives_from_its_pool() {
    let mut node = Node::new();
    let (owner, writer) = (account(1), account(3));
    for (nonce, code) in (0..).zip(genesis().deployments(0)) {
        assert_eq!(node.add(&sign(&owner, nonce, TxKind::Create, code, DEPLOYMENT_GAS)), Ok(Added::Ready));
    }
    let access = TxKind::Call(genesis().access_address());
    let touch = |nonce| sign(&account(3), nonce, access, Bytes::new(), 100_000);
    assert_eq!(node.add(&touch(0)), Err(Refusal::NotEnrolled { sender: address(&writer) }));
    assert_eq!(node.seal(), 3);
    assert_eq!(node.add(&sign(&owner, 3, access, enrol(&writer), 1_000_000)), Ok(Added::Ready));
    assert_eq!(node.seal(), 1);
    assert_eq!(node.add(&touch(1)), Ok(Added::Queued), "enrolled by the last block");
    assert_eq!(node.seal(), 0);
    assert_eq!(node.add(&touch(0)), Ok(Added::Ready));
    assert_eq!(node.seal(), 2);
    assert_eq!(node.add(&touch(1)), Err(Refusal::NonceTooLow { found: 1, next: 2 }));
    assert_eq!(node.pool.status().accounts, 0);
}

/// The pool and the machine agree to the unit on the gas that a transaction must offer.
#[test]
fn what_the_pool_takes_for_enough_gas_the_machine_does() {
    let input = Bytes::from_static(&[0, 1, 2]);
    let raw = |gas| sign(&account(1), 0, TxKind::Call(Address::ZERO), input.clone(), gas);
    let needed = 21_000 + 4 + 16 + 16;
    for (gas, enough) in [(needed - 1, false), (needed, true)] {
        assert_eq!(rules().examine_bytes(&raw(gas), support::START).is_ok(), enough);
        let tx = TxEnvelope::decode_2718_exact(&raw(gas)).unwrap();
        let head = genesis().block().header;
        let made =
            build(&genesis(), &head, &MemoryState::default(), vec![tx], BlockTime::of_seconds(head.timestamp + 1));
        assert_eq!(made.is_ok(), enough);
    }
}

/// The child of the test below: hands in and reports until it is killed.
#[test]
#[ignore = "is run as a child process by the test below"]
fn child_hands_in_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (mut journal, recovered) = Journal::open(&Path::new(&folder).join("pool")).unwrap();
    let mut waiting: Vec<_> = recovered.transactions.iter().map(|raw| examined(&Bytes::copy_from_slice(raw))).collect();
    let mut nonce = waiting.last().map_or(0, |tx| tx.nonce() + 1);
    loop {
        let batch: Vec<_> = (nonce..nonce + 1 + nonce % 3).map(transaction).collect();
        nonce += batch.len() as u64;
        journal.append(&batch).unwrap();
        for tx in &batch {
            println!("accepted {}", tx.hash());
        }
        std::io::stdout().flush().unwrap();
        waiting.extend(batch);
        if nonce.is_multiple_of(5) {
            journal.rewrite(&waiting).unwrap();
        }
    }
}

fn transaction(nonce: u64) -> Examined {
    let input = Bytes::from(vec![7; usize::try_from(nonce * 977 % 5000).unwrap()]);
    examined(&sign(&account(1), nonce, TxKind::Call(Address::ZERO), input, 1_000_000))
}

#[test]
fn killed_at_any_instant_no_acknowledged_transaction_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut choices = Choices(seed());
    let mut accepted: Vec<B256> = Vec::new();
    for round in 0..rounds(15) {
        accepted.extend(run_child(folder.path(), choices.below(12), Duration::from_micros(choices.below(20_000))));
        let (_, recovered) = Journal::open(&folder.path().join("pool")).unwrap();
        assert_eq!(recovered.damaged, None, "round {round}, seed {}", seed());
        let hash = |raw: &Vec<u8>| *TxEnvelope::decode_2718_exact(raw).unwrap().tx_hash();
        let found: BTreeSet<_> = recovered.transactions.iter().map(hash).collect();
        let lost: Vec<_> = accepted.iter().filter(|hash| !found.contains(*hash)).collect();
        assert!(lost.is_empty(), "lost {lost:?} in round {round}, seed {}", seed());
    }
    assert!(accepted.len() > 30, "the children came to hand in");
}

/// Starts a child, kills it a while after it reported some transactions, and returns all that it reported.
fn run_child(folder: &Path, count: u64, delay: Duration) -> Vec<B256> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_hands_in_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let report = |line: String| line.split_once("accepted ")?.1.trim().parse().ok();
    let mut reported: Vec<B256> = lines.by_ref().filter_map(report).take(usize::try_from(count).unwrap()).collect();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reported.extend(lines.filter_map(report));
    reported
}
