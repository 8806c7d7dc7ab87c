//! What a ledger costs as it grows: real commits of snapshots, executed and made durable as a node does it, without the agreement of others,
//! which does not know how many there are. At each size: how long a block of one commit takes, of a hundred, and a start.
//!
//! `cargo bench --profile ci --workspace --bench size -- [--snapshots N]`: sizes are powers of ten from 10,000 up to N.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

#[path = "../tests/support/writers.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod writers;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::network::{Chain, GAS_LIMIT};
use blockhouse_homes::store::Access;
use blockhouse_homes::{Embedded, Store};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::{BlockPlace, BlockTime, Certificate, Executed, Fork, Genesis};
use blockhouse_types::{RecipientSetHash, VaultId};
use writers::{Signed, Writer, founding};

const WRITERS: u8 = 40;
/// Sessions that each writer keeps open.
const SESSIONS: usize = 5;
/// How many commits a block has while the ledger grows.
const FULL: usize = 100;
const ROUNDS: usize = 200;

fn main() {
    let snapshots = snapshots();
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::create(&folder.path().join("ledger.redb"));
    println!("\n| snapshots | block of 1 commit, p50 | p99 | of {FULL}, p50 | p99 | start | on disk |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let mut size = 10_000;
    while size <= snapshots {
        while ledger.commits < size {
            ledger.block(FULL);
        }
        let start = ledger.start_again();
        let mut single: Vec<_> = (0..ROUNDS).map(|_| ledger.block(1)).collect();
        let mut full: Vec<_> = (0..ROUNDS / 10).map(|_| ledger.block(FULL)).collect();
        let (single, full) = (spread(&mut single), spread(&mut full));
        let disk = ledger.path.metadata().unwrap().len() >> 20;
        println!("| {size} | {single} | {full} | {:.1} ms | {disk} MiB |", start.as_secs_f64() * 1e3);
        size *= 10;
    }
}

/// The p50 and the p99.
fn spread(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
    format!("{:.2} ms | {:.2} ms", at(50), at(99))
}

struct Ledger {
    path: PathBuf,
    key: LedgerKey,
    genesis: Genesis,
    chain: Option<Chain>,
    writers: Vec<Writer>,
    /// Sessions that are open, each with the place of its writer.
    sessions: VecDeque<(usize, B256)>,
    commits: usize,
    millis: u64,
}

impl Ledger {
    fn create(path: &Path) -> Self {
        let owner = AccountSecret::try_new(&Secret::new([200; 32])).unwrap();
        let key = LedgerKey::from_seed(&Secret::new([9; 32]));
        let genesis = Genesis {
            vault_id: VaultId::new([1; 32]),
            chain_id: (1 << 32) + 7,
            owner: owner.account(),
            recovery: Vec::new(),
            ledger_key: key.public(),
            time: 1_700_000_000,
            gas_limit: GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new([5; 32]),
            governance: None,
        };
        Embedded::create(path, &genesis, &key).unwrap();
        let writers = (1..=WRITERS).map(|number| Writer::new(number, &genesis)).collect();
        let (path, millis) = (path.to_owned(), genesis.time * 1000);
        let mut ledger =
            Self { path, key, genesis, chain: None, writers, sessions: VecDeque::new(), commits: 0, millis };
        ledger.start_again();
        for call in founding(&ledger.genesis, &owner, WRITERS) {
            ledger.record(&[call]);
        }
        for _ in 0..SESSIONS {
            let opening: Vec<_> = ledger.writers.iter_mut().map(Writer::open).collect();
            ledger.record(&opening);
        }
        ledger
    }

    /// Opens the store anew, as a node does that starts, up to where it could execute a block.
    fn start_again(&mut self) -> Duration {
        self.chain = None;
        let started = Instant::now();
        let store = Store::open(&self.path, Access::Write, Duration::ZERO, None).unwrap();
        self.chain = Some(Chain::open(store, self.key.public()).unwrap());
        started.elapsed()
    }

    /// A block of so many commits, each with the opening of the session after it; gives how long it took to make and record.
    fn block(&mut self, commits: usize) -> Duration {
        let mut calls = Vec::new();
        for _ in 0..commits {
            let (writer, session) = self.sessions.pop_front().unwrap();
            let writer = &mut self.writers[writer];
            calls.extend([writer.commit(session), writer.open()]);
        }
        self.commits += commits;
        self.record(&calls)
    }

    fn record(&mut self, calls: &[Signed]) -> Duration {
        let decode = |call: &Signed| {
            TxEnvelope::decode_2718_exact(&hex::decode(call.raw.trim_start_matches("0x")).unwrap()).unwrap()
        };
        let candidates: Vec<_> = calls.iter().map(decode).collect();
        self.millis += 100;
        let (chain, started) = (self.chain.as_ref().unwrap(), Instant::now());
        let made = chain.propose(&[], &candidates, BlockTime::of_millis(self.millis)).unwrap();
        let executed = made.executed;
        let (chain_id, height) = (self.genesis.chain_id, executed.block.header.number);
        let certificate = Certificate::solo(&self.key, &BlockPlace { chain_id, height, hash: executed.hash });
        chain.finalize(&executed.block, &certificate).unwrap();
        let took = started.elapsed();
        self.take(&executed, calls.len());
        took
    }

    fn take(&mut self, executed: &Executed, calls: usize) {
        assert!(executed.receipts.len() >= calls, "a call was left out");
        for receipt in executed.receipts.iter().take(calls) {
            assert!(receipt.status(), "a call reverted");
            for event in receipt.logs().iter().filter_map(|log| Vault::SessionOpened::decode_log(log).ok()) {
                self.sessions.push_back((usize::from(writers::number(&event.writer).unwrap() - 1), event.session));
            }
        }
    }
}

fn snapshots() -> usize {
    let mut words = std::env::args().skip(1).skip_while(|word| word != "--snapshots");
    words.nth(1).map_or(100_000, |text| text.parse().unwrap())
}
