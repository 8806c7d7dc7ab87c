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

#[cfg(test)]
mod tests {
    use super::{Budget, drive, input};
    use crate::{Target, Verdict};
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    /// Breaks its promise on inputs that end with a zero byte and are longer than its seeds.
    const BROKEN: Target = Target {
        name: "broken",
        decoders: &[],
        run: |bytes| {
            assert!(bytes.len() <= 9 || !bytes.ends_with(&[0]), "a promise");
            if bytes == b"untouched" { Verdict::Accepted } else { Verdict::Refused }
        },
        seeds: || vec![b"untouched".to_vec(), b"other".to_vec()],
    };

    #[test]
    fn a_broken_promise_is_found_and_its_input_is_made_again() {
        let failure = drive(&BROKEN, 1, Budget::Runs(1_000_000), &AtomicU64::new(0)).unwrap_err();
        assert_eq!(input(&BROKEN, &(BROKEN.seeds)(), 1, failure.run), failure.input);
        assert!(failure.input.len() > 9 && failure.input.ends_with(&[0]));
    }

    #[test]
    fn seeds_come_first_and_seeds_decide_what_follows() {
        let seeds = (BROKEN.seeds)();
        let run = |seed| (0..50).map(|run| input(&BROKEN, &seeds, seed, run)).collect::<Vec<_>>();
        assert_eq!(run(1)[..2], seeds);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn budgets_are_kept() {
        let sound = Target { run: |_| Verdict::Accepted, ..BROKEN };
        let current = AtomicU64::new(0);
        let count = drive(&sound, 1, Budget::Runs(7), &current).unwrap();
        assert_eq!((count.runs, count.accepted, current.into_inner()), (7, 7, 6));
        assert_eq!(drive(&sound, 1, Budget::Time(Duration::ZERO), &AtomicU64::new(0)).unwrap().runs, 1);
    }
}
