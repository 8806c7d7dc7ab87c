//! Which seeds a scenario runs with, and what all of its runs together have to show.

use crate::witness::{Counts, Event};

/// How far the seeds of two scenarios are apart, so that none runs with a seed of another.
const APART: u64 = 1_000_000;

/// What a run came to: with the same seed the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The hash of all that the runtime did.
    pub(crate) state: String,
    /// How many transactions the ledger holds.
    pub(crate) recorded: u64,
    pub(crate) counts: Counts,
}

/// A test that runs once for each of its seeds.
pub(crate) struct Scenario {
    /// Its function's.
    pub(crate) name: &'static str,
    /// No two have the same.
    pub(crate) place: u64,
    /// How many seeds it has in CI.
    pub(crate) seeds: u64,
}

impl Scenario {
    /// Runs it; a failure prints how to run it again. `BLOCKHOUSE_SEED` says the first seed, `BLOCKHOUSE_SEEDS` how many, or
    /// `BLOCKHOUSE_SIMULATIONS` how many times as many as in CI.
    pub(crate) fn each(self, run: impl Fn(u64) -> Result<Outcome, String>) -> Total {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let first = number("BLOCKHOUSE_SEED");
        let full = number("BLOCKHOUSE_SIMULATIONS").map(|times| times * self.seeds);
        let count = number("BLOCKHOUSE_SEEDS").or(full).unwrap_or(if first.is_some() { 1 } else { self.seeds });
        let first = first.unwrap_or(1);
        let mut counts = Counts::default();
        for seed in first..first.saturating_add(count) {
            let name = self.name;
            println!(
                "replay with BLOCKHOUSE_SEED={seed} cargo test --profile ci --workspace --test simulation -- --exact {name}"
            );
            let outcome = run((self.place * APART).wrapping_add(seed));
            counts.add(&outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}")).counts);
        }
        println!("{}: {count} seeds: {counts:?}", self.name);
        Total { counts, whole: count >= self.seeds }
    }
}

/// What the runs of a scenario met together.
#[derive(Debug)]
pub(crate) struct Total {
    counts: Counts,
    /// Not of a seed alone that is run again.
    whole: bool,
}

impl Total {
    /// Fails where one of these was never met: such a scenario would show nothing.
    pub(crate) fn has_met(&self, events: impl IntoIterator<Item = Event>) {
        let never: Vec<Event> = events.into_iter().filter(|event| self.counts.of(*event) == 0).collect();
        assert!(never.is_empty() || !self.whole, "no run met {never:?}");
    }

    /// Fails where none of these was ever met.
    pub(crate) fn has_met_any(&self, events: impl IntoIterator<Item = Event>) {
        let is_any = events.into_iter().any(|event| self.counts.of(event) > 0);
        assert!(is_any || !self.whole, "no run met any of them: {:?}", self.counts);
    }
}
