//! A vault with as many snapshots on its ledger as are asked for, and how long reading it takes: a measurement, run by hand.
//!
//! `BLOCKHOUSE_SNAPSHOTS=10000 BLOCKHOUSE_MAKE=/tmp/many cargo test -p blockhouse-vault --test workflows many_snapshots -- \
//! --ignored --nocapture`
//! leaves the vault in that folder, for `blockhouse --vault /tmp/many/vault snapshots`. The snapshots are commits alone, many in a
//! block: nothing but the ledger is read of them.
#![allow(clippy::print_stderr, reason = "the measurement's result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, TxKind};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::LedgerKey;
use blockhouse_homes::{Embedded, Options};
use blockhouse_ledger::Request;
use blockhouse_ledger::contracts::Vault as Contract;
use blockhouse_vault::ledger::{Commit, address};
use blockhouse_vault::select::{Narrow, all};
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::World;

/// Transactions in a block, as far as its gas reaches.
const BATCH: usize = 60;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Writing {
    home: Embedded,
    vault: Vault,
    nonce: u64,
}

impl Writing {
    /// Seals without asking the sites: nobody else has this ledger. The clock runs as fast as blocks are made.
    async fn of(vault: Vault) -> Self {
        let secrets = vault.secrets().unwrap();
        let who = address(secrets.writer.account());
        let (time, key) = (vault.standing().await.unwrap().time, Arc::new(LedgerKey::from_seed(&secrets.ledger_seed)));
        let clock = AtomicU64::new(time);
        let clock = Arc::new(move || clock.fetch_add(2, Ordering::SeqCst));
        let home = Embedded::new(Options::sealer(vault.folder().ledger(), clock, key));
        let nonce = home.read(move |store| store.state().account(&who).unwrap().map_or(0, |it| it.nonce));
        let nonce = nonce.await.unwrap();
        Self { home, vault, nonce }
    }

    async fn seal(&mut self, inputs: Vec<Vec<u8>>, gas: u64) -> u64 {
        let secrets = self.vault.secrets().unwrap();
        let entry = &self.vault.config().ledger;
        let (chain_id, to) = (entry.chain_id, TxKind::Call(address(entry.vault)));
        let raw: Vec<Bytes> = inputs
            .into_iter()
            .map(|input| {
                let request = Request { chain_id, nonce: self.nonce, to, input: input.into(), gas };
                self.nonce += 1;
                request.sign(&secrets.writer).encoded_2718().into()
            })
            .collect();
        self.home.seal(raw).await.unwrap().object.block.header.number
    }

    async fn sessions(&mut self, count: usize) -> Vec<B256> {
        let call = Contract::openSessionCall { leaseSeconds: 3600 * 24 };
        let height = self.seal(vec![call.abi_encode(); count], 400_000).await;
        let receipts = self.home.read(move |store| store.receipts(height).unwrap()).await.unwrap();
        let opened = receipts.iter().flat_map(|receipt| receipt.logs().to_vec());
        opened.filter_map(|log| Contract::SessionOpened::decode_log(&log).ok()).map(|event| event.session).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn reading_a_ledger_with_many_snapshots() {
    let wanted = usize::try_from(number("BLOCKHOUSE_SNAPSHOTS", 200)).unwrap();
    let world = World::with_backup().await;
    let vault = world.open().await;
    let one = vault.ledger().snapshots().await.unwrap().pop().unwrap();
    let started = Instant::now();
    let mut writing = Writing::of(vault).await;
    let mut made = 1;
    while made < wanted {
        let sessions = writing.sessions(BATCH.min(wanted - made)).await;
        assert!(!sessions.is_empty());
        let commit = |session: &B256| {
            let commit = Commit { session: *session, snapshot: B256::new(rand::random()), ..one.commit.clone() };
            Contract::commitCall { c: commit }.abi_encode()
        };
        made += sessions.len();
        writing.seal(sessions.iter().map(commit).collect(), 500_000).await;
    }
    eprintln!("{made} snapshots made in {:.1} s", started.elapsed().as_secs_f64());
    drop(writing);
    for round in ["first", "second", "third"] {
        let started = Instant::now();
        let settings = Settings { reads_only: true, ..Settings::default() };
        let vault = Vault::open(world.folder("vault"), settings).await.unwrap();
        let opened = started.elapsed();
        let found = all(&vault, &Narrow::default()).await.unwrap();
        let listed = started.elapsed().saturating_sub(opened);
        let latest = found.last().unwrap().record.commit.objectHash;
        assert_eq!((found.len(), latest), (made, one.commit.objectHash));
        eprintln!("{round}: opened in {} ms, listed in {} ms", opened.as_millis(), listed.as_millis());
    }
    if let Some(to) = std::env::var_os("BLOCKHOUSE_MAKE") {
        let from = world.path("vault").parent().unwrap().to_owned();
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    }
}
