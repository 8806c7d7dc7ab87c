//! Sites that others overtook: a mount that hangs would hold up each read anew.
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

impl Overtaken {
    /// Others gave what was asked of this site before it did.
    pub(super) fn note(&self, member: usize) {
        self.lock().insert(member, Instant::now());
    }

    /// It gave an answer.
    pub(super) fn answered(&self, member: usize) {
        self.lock().remove(&member);
    }

    /// True if it was overtaken a short time ago, and has not answered since.
    pub(super) fn is(&self, member: usize) -> bool {
        self.lock().get(&member).is_some_and(|since| since.elapsed() < AVOIDED)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_asked_last_until_it_answers() {
        let overtaken = Overtaken::default();
        overtaken.note(1);
        assert!(overtaken.is(1) && !overtaken.is(2));
        overtaken.answered(1);
        assert!(!overtaken.is(1));
    }
}
