//! Runs one target over many inputs, each of which can be made again from the seed and its number alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Target, Verdict, mutate};

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// After that many inputs.
    Runs(u64),
    /// After that long, and one input at least.
    Time(Duration),
}

/// An input that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// Which run it was; [`input`] makes the bytes again.
    pub run: u64,
    /// The bytes.
    pub input: Vec<u8>,
}

/// What a drive that found nothing did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Inputs.
    pub runs: u64,
    /// Those that were taken for what they should be.
    pub accepted: u64,
}

/// The input of a run: a seed as it is, or changed. The first runs take each seed unchanged.
pub fn input(target: &Target, seeds: &[Vec<u8>], seed: u64, run: u64) -> Vec<u8> {
    if let Some(unchanged) = usize::try_from(run).ok().and_then(|run| seeds.get(run)) {
        return unchanged.clone();
    }
    let name = target.name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    let mut random = StdRng::seed_from_u64(name.wrapping_add(run.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    let other = &seeds[random.random_range(0..seeds.len())];
    mutate(&mut input, other, &mut random);
    input
}

/// Runs a target until its budget is used or it breaks a promise; `current` always holds the number of the run.
pub fn drive(target: &Target, seed: u64, budget: Budget, current: &AtomicU64) -> Result<Count, Failure> {
    let seeds = (target.seeds)();
    let started = Instant::now();
    let mut count = Count::default();
    loop {
        let run = count.runs;
        let done = match budget {
            Budget::Runs(runs) => run >= runs,
            Budget::Time(time) => run > 0 && started.elapsed() >= time,
        };
        if done {
            return Ok(count);
        }
        current.store(run, Ordering::Relaxed);
        let input = input(target, &seeds, seed, run);
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(verdict) => count.accepted += u64::from(verdict == Verdict::Accepted),
            Err(_) => return Err(Failure { run, input }),
        }
        count.runs += 1;
    }
}
