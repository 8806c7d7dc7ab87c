//! Sites whose answers were given up because others had what was wanted: a mount that hangs would hold up each read anew.
//!
//! - **Owns** which sites are asked last for a while.
//! - **Does not** take a site down: it is asked again after that, and by whoever needs it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a site that was overtaken is asked last.
const AVOIDED: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Overtaken {
    since: Mutex<HashMap<usize, Instant>>,
}

/// A call that is under way. Dropped without an answer after its time, it was overtaken.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    overtaken: &'a Overtaken,
    member: usize,
    begun: Instant,
    allowed: Duration,
    is_answered: bool,
}

impl Overtaken {
    /// Begins a call that should not take longer.
    pub(super) fn ask(&self, member: usize, allowed: Duration) -> Asked<'_> {
        Asked { overtaken: self, member, begun: Instant::now(), allowed, is_answered: false }
    }

    /// True if a call of this site was given up a short time ago.
    pub(super) fn is(&self, member: usize) -> bool {
        self.lock().get(&member).is_some_and(|since| since.elapsed() < AVOIDED)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// An answer came, whatever it says.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
        self.overtaken.lock().remove(&self.member);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered && self.begun.elapsed() >= self.allowed {
            self.overtaken.lock().insert(self.member, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_given_up_after_its_time_was_overtaken() {
        let overtaken = Overtaken::default();
        drop(overtaken.ask(1, Duration::from_hours(1)));
        assert!(!overtaken.is(1), "it had time left");
        drop(overtaken.ask(1, Duration::ZERO));
        assert!(overtaken.is(1) && !overtaken.is(2));
        overtaken.ask(1, Duration::ZERO).answered();
        assert!(!overtaken.is(1), "it answers again");
    }
}
