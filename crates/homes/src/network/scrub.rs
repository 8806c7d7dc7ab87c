//! A node's watch over its own store: everything that it holds is read again and compared, over and over, slowly.
//!
//! - **Owns** the order of a pass, its pace, and what is told of it.
//! - **Does not** know what a sound block is (the [`Store`] does), nor heal anything.
//!
//! A pass goes from the head down to block 0, each block with its receipts, its certificate and its rows of the indexes; then up over the
//! blocks that came meanwhile; then over the rows that belong to no block; then over the state, by ascending keys; then over the pages of the
//! file. The first thing of all is a pass over the pages alone, at a quicker pace: the start has compared few of them.
//!
//! # Invariants
//! - **S1** A step reads one block, some hundred entries of the state, or a mebibyte of pages, on a view of the store that it gives back at its end.
//! - **S2** A pass that ends has compared every block that was there when it began and every entry of the state that was there and was not
//!   written meanwhile.
//! - **S3** It takes no more than one part in [`PACE`] of a core; after a start, until all pages are compared, one in [`PAGES_PACE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use blockhouse_consensus::tuning::SYNC_BLOCKS;
use blockhouse_ledger::state::{StatePlace, check_from};

use super::chain::Chain;
use super::clock::{Clock as _, SystemClock};
use super::orderer::Orderer;
use crate::embedded::{HomeError, LedgerKeys};
use crate::store::{Damage, PagePlace, Part, Store, StoreError};

/// A step is followed by a pause so many times as long: the watch costs 0.2 % of a core.
const PACE: u32 = 500;
/// The same while the pages are compared that the start left out: a gigabyte in less than a minute.
const PAGES_PACE: u32 = 20;
/// The longest pause after a step: a machine that stood still for a while does not stop the watch for hours.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The pause between two passes: a small ledger is through in seconds.
const REST: Duration = Duration::from_mins(10);
/// How many accounts and slots are read in a step: some milliseconds.
const ENTRIES: usize = 256;
/// How many bytes of pages are compared in a step.
const PAGES: usize = 1 << 20;
/// How many blocks are examined before a node takes part at all: those that its engine brought since the last sync but one, which a kill or a full disk can
/// have touched. The first pass takes the others, a run of blocks of peers that a kill ended among them.
pub(super) const RECENT: u64 = SYNC_BLOCKS as u64;

/// One pass through a store.
#[derive(Debug)]
pub struct Pass {
    keys: LedgerKeys,
    /// The head when it began.
    top: u64,
    /// The lowest block that is looked at; of a whole pass the lowest that is here, which is not its end.
    bottom: u64,
    is_whole: bool,
    stage: Stage,
    /// Transactions of the blocks so far.
    transactions: u64,
}

#[derive(Debug)]
enum Stage {
    /// This block is next, and has this hash.
    Down(u64, B256),
    /// The blocks that came since the pass began, from this height on.
    Up(u64),
    State(StatePlace),
    Pages(PagePlace),
    Done,
}

impl Pass {
    /// Over all of it.
    pub fn whole(store: &Store) -> Result<Self, Damage> {
        Self::begin(store, store.bottom(), true)
    }

    /// Over the last blocks alone.
    pub fn recent(store: &Store) -> Result<Self, Damage> {
        Self::begin(store, store.height().saturating_sub(RECENT).max(store.bottom()), false)
    }

    /// Over the pages of the file alone.
    pub fn pages(store: &Store) -> Result<Self, Damage> {
        let stage = Stage::Pages(PagePlace::default());
        Ok(Self { stage, ..Self::begin(store, store.height(), false)? })
    }

    fn begin(store: &Store, bottom: u64, is_whole: bool) -> Result<Self, Damage> {
        let (top, hash) = (store.height(), store.head().hash());
        let keys = keys_of(store)?;
        Ok(Self { keys, top, bottom, is_whole, stage: Stage::Down(top, hash), transactions: 0 })
    }

    /// Takes a step; false at the end. `store` is the store at any head at or above that with which it began (S1).
    pub fn step(&mut self, store: &Store) -> Result<bool, Damage> {
        self.stage = match self.stage {
            Stage::Down(height, hash) => self.step_down(store, height, hash)?,
            Stage::Up(height) if height <= store.height() => self.step_up(store, height)?,
            Stage::Up(_) => {
                // Blocks below come meanwhile where they are fetched: then the next pass counts.
                if store.bottom() == self.bottom {
                    store.examine_rows(self.transactions)?;
                }
                Stage::State(StatePlace::default())
            }
            Stage::State(place) => step_state(store, place)?,
            Stage::Pages(ref place) => step_pages(store, place)?,
            Stage::Done => Stage::Done,
        };
        Ok(!matches!(self.stage, Stage::Done))
    }

    /// What is above a block that was found to be altered is examined; the pass goes on below it, by the block that belongs there.
    pub(super) fn skip(&mut self, parent: B256, transactions: u64) {
        if let Stage::Down(height, _) = self.stage {
            self.transactions += transactions;
            self.stage = self.below(height, parent);
        }
    }

    fn step_down(&mut self, store: &Store, height: u64, hash: B256) -> Result<Stage, Damage> {
        let examined = store.examine_block(height, hash, &self.keys.at(height))?;
        self.transactions += examined.transactions;
        Ok(self.below(height, examined.parent))
    }

    fn below(&self, height: u64, parent: B256) -> Stage {
        match height.checked_sub(1) {
            Some(next) if next >= self.bottom => Stage::Down(next, parent),
            _ if self.is_whole => Stage::Up(self.top + 1),
            _ => Stage::Done,
        }
    }

    fn step_up(&mut self, store: &Store, height: u64) -> Result<Stage, Damage> {
        let hash = store.hash_at(height).and_then(|hash| hash.ok_or_else(|| store.damaged("its head went back")));
        let hash = hash.map_err(|error| Damage::of(Part::Block, (Some(height), None), &error))?;
        // Above a closing block others certify, and from a handover on. A certificate that cannot be read is told below.
        let is_by_other = |key: [u8; 32]| key != self.keys.at(height);
        if store.certificate(height).is_ok_and(|certificate| is_by_other(certificate.key())) {
            self.keys = keys_of(store)?;
        }
        let examined = store.examine_block(height, hash, &self.keys.at(height))?;
        self.transactions += examined.transactions;
        Ok(Stage::Up(height + 1))
    }

    /// How many blocks were looked at, and how many there are.
    fn blocks(&self) -> (u64, u64) {
        let all = self.top - self.bottom + 1;
        match self.stage {
            Stage::Down(next, _) => (self.top - next, all),
            _ => (all, all),
        }
    }
}

/// Which key was in force where: that stands in the state.
fn keys_of(store: &Store) -> Result<LedgerKeys, Damage> {
    LedgerKeys::of(store).map_err(|error| {
        let error = match error {
            HomeError::Store(error) => error,
            other => store.damaged(crate::chain::chain(&other)),
        };
        Damage::of(Part::State, (Some(store.height()), Some(store.head().hash())), &error)
    })
}

fn step_state(store: &Store, place: StatePlace) -> Result<Stage, Damage> {
    let head = store.head();
    let next = check_from(head.header().state_root, store, place, ENTRIES).map_err(|error| {
        let error: StoreError = store.of_state(error);
        Damage::of(Part::State, (Some(head.height()), Some(head.hash())), &error)
    })?;
    Ok(next.map_or_else(|| Stage::Pages(PagePlace::default()), Stage::State))
}

fn step_pages(store: &Store, place: &PagePlace) -> Result<Stage, Damage> {
    let next = store.compare_pages(place, PAGES).map_err(|error| Damage::of_file(&error))?;
    Ok(next.map_or(Stage::Done, Stage::Pages))
}

/// How far the watch is, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Progress {
    examined: AtomicU64,
    blocks: AtomicU64,
    passes: AtomicU64,
    /// When the last pass ended, in milliseconds since 1970.
    ended: AtomicU64,
}

impl Progress {
    /// Blocks of this pass, all blocks, passes that ended well, when the last one did.
    pub(super) fn read(&self) -> [u64; 4] {
        [&self.examined, &self.blocks, &self.passes, &self.ended].map(|number| number.load(Ordering::Relaxed))
    }

    pub(super) fn note(&self, pass: &Pass) {
        let (examined, blocks) = pass.blocks();
        self.examined.store(examined, Ordering::Relaxed);
        self.blocks.store(blocks, Ordering::Relaxed);
    }

    fn end(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.ended.store(SystemClock.now(), Ordering::Relaxed);
    }
}

/// Watches until something is found; then the node takes no part any more, and says what it is.
pub(super) async fn watch(chain: Arc<Chain>, orderer: Arc<Orderer>, progress: Arc<Progress>) {
    let pages = async { run(&chain, Pass::pages(&chain.head())?, PAGES_PACE, |_| ()).await };
    if let Err(damage) = pages.await {
        return orderer.fail(damage.to_string());
    }
    loop {
        let whole = async { run(&chain, Pass::whole(&chain.head())?, PACE, |pass| progress.note(pass)).await };
        match whole.await {
            Ok(()) => progress.end(),
            Err(damage) => return orderer.fail(damage.to_string()),
        }
        tokio::time::sleep(REST).await;
    }
}

/// Takes a pass to its end, with a pause after each step that is so many times as long.
async fn run(chain: &Chain, mut pass: Pass, pace: u32, note: impl Fn(&Pass)) -> Result<(), Damage> {
    loop {
        let begun = Instant::now();
        let goes_on = tokio::task::block_in_place(|| pass.step(&chain.head()))?;
        note(&pass);
        if !goes_on {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed().saturating_mul(pace).min(PAUSE_MAX)).await;
    }
}
