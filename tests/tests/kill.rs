//! kill -9 at seeded instants of a backup, the sealing of the ledger among them.
//!
//! `BLOCKHOUSE_KILLS` says how many instants (20 unless told); `BLOCKHOUSE_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{World, exit};
use blockhouse_tests::{Output, damage};
use rand::RngExt;
use rand::rngs::StdRng;

/// New bytes in each round.
const NEWS: usize = 6 * MIB;
/// k of the code.
const ENOUGH: usize = 4;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Promise 2: a kill loses no acknowledged snapshot, needs no repair, and what was uploaded is used.
#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_acknowledged() {
    let (kills, seed) = (number_from("BLOCKHOUSE_KILLS", 20), number_from("BLOCKHOUSE_SEED", 1));
    println!("replay with BLOCKHOUSE_KILLS={kills} BLOCKHOUSE_SEED={seed}");
    let mut random = tree::random(seed);
    let mut round = Rounds::begin();
    for number in 0..kills {
        round.kill_once(number, &mut random);
    }
    println!("{}", round.tally);
    round.expect_all_restore();
}

/// How often the kill came when; a run in which all came too early or too late says so.
#[derive(Debug, Default)]
struct Tally {
    before_shards: u32,
    after_shards: u32,
    acknowledged: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before_shards, after_shards, acknowledged } = self;
        write!(f, "killed before a stripe was whole: {before_shards}, after: {after_shards}, ")?;
        write!(f, "after the acknowledgement: {acknowledged}")
    }
}

struct Rounds {
    world: World,
    source: PathBuf,
    /// How long a backup takes when nobody kills it.
    unharmed: Duration,
    /// Acknowledged snapshots and a copy of what they must give back.
    acknowledged: Vec<(String, PathBuf)>,
    tally: Tally,
}

impl Rounds {
    fn begin() -> Self {
        let world = World::with_sites(6);
        let source = world.path("source");
        tree::plain(&source, 1, 1);
        let mut rounds =
            Self { world, source, unharmed: Duration::ZERO, acknowledged: Vec::new(), tally: Tally::default() };
        for seed in [1000, 1001] {
            rounds.change(seed);
            let started = Instant::now();
            let done = rounds.world.back_up(&rounds.source);
            rounds.unharmed = started.elapsed();
            rounds.keep(&done);
        }
        rounds
    }

    fn change(&self, seed: u64) {
        tree::write(&self.source.join("news"), &tree::noise(NEWS, seed));
        tree::write(&self.source.join(format!("small/{seed}")), &tree::prose(900, seed));
    }

    /// An acknowledged snapshot, with the state of the source that it must give back. Only small copies are kept: the
    /// news are made again from their seed.
    fn keep(&mut self, done: &Output) {
        let copy = self.world.path(&format!("kept-{}", self.acknowledged.len()));
        copy_tree(&self.source, &copy);
        self.acknowledged.push((done.summary()["snapshot"].as_str().unwrap().to_owned(), copy));
    }

    fn kill_once(&mut self, number: u64, random: &mut StdRng) {
        self.change(2000 + number);
        let before = self.stripes();
        // Half of the instants lie anywhere, half in the last part: there the ledger is sealed.
        let from = if number.is_multiple_of(2) { 0.0 } else { 0.5 };
        let instant = self.unharmed.mul_f64(random.random_range(from..1.1));
        let mut running = self.world.call("backup --json").arg(&self.source).spawn();
        std::thread::sleep(instant);
        running.kill();
        let killed = running.finish();
        let was_acknowledged = killed.try_summary().is_some();
        if was_acknowledged {
            self.keep(&killed);
        }
        let left: Vec<_> = self.stripes().into_iter().filter(|(stripe, _)| !before.contains_key(stripe)).collect();
        let is_whole = left.iter().any(|(_, shards)| *shards >= ENOUGH);
        match () {
            () if was_acknowledged => self.tally.acknowledged += 1,
            () if is_whole => self.tally.after_shards += 1,
            () => self.tally.before_shards += 1,
        }
        self.go_on(number, instant, is_whole);
    }

    /// The next backup succeeds by itself and stores only what is not there.
    fn go_on(&mut self, number: u64, instant: Duration, is_whole: bool) {
        let held = tree::size(&self.world.path("sites"));
        let started = Instant::now();
        let next = self.world.back_up(&self.source);
        self.unharmed = (self.unharmed * 3 + started.elapsed().max(self.unharmed / 2)) / 4;
        let fresh = next.number("new_bytes");
        assert!(fresh < 2 * NEWS as u64, "kill {number}: {fresh} new bytes");
        let grown = tree::size(&self.world.path("sites")) - held;
        if is_whole {
            assert!(
                fresh < NEWS as u64 / 4,
                "kill {number} after {instant:?} left the stripe, yet {fresh} bytes were stored anew"
            );
            assert!(grown < NEWS as u64, "kill {number}: the sites grew by {grown} bytes");
        }
        assert!(grown < 2 * NEWS as u64, "kill {number}: the sites grew by {grown} bytes");
        self.keep(&next);
        let verified = self.world.call("verify --json").run().expect(exit::DONE);
        assert_eq!(verified.summary()["ok"], true, "kill {number} after {instant:?}");
        for (snapshot, copy) in &self.acknowledged[self.acknowledged.len().saturating_sub(2)..] {
            self.world.expect_restores(snapshot, copy);
        }
    }

    fn stripes(&self) -> std::collections::BTreeMap<String, usize> {
        damage::stripes(&(1..=6).map(|number| self.world.site(number)).collect::<Vec<_>>())
    }

    fn expect_all_restore(&self) {
        let listed = self.world.snapshots();
        for (snapshot, copy) in &self.acknowledged {
            assert!(listed.contains(snapshot), "{snapshot} was acknowledged and is not listed");
            self.world.expect_restores(snapshot, copy);
        }
    }
}

/// A copy with everything that the comparison looks at. The big file shares its bytes with nothing, so copies cost disk.
fn copy_tree(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}
