//! How long a site may take and how often it is asked again.
//!
//! The deadline is that of a whole call with its retries, so a slow site costs a run at most one deadline: behind it
//! the site is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use blockhouse_types::limits::MIB;

/// The limits of one call to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Granted to every call; and how long a site may give no byte of an answer, which is known long before the deadline of a long
    /// object is over.
    pub base: Duration,
    /// Granted on top for every begun mebibyte.
    pub per_mib: Duration,
    /// How often a call that failed with a passing error is tried again.
    pub retries: u32,
    /// The pause before the first retry; each later one is four times as long.
    pub back_off: Duration,
    /// How long a site may take to be opened that can be spared ([`Spare`]).
    pub opening: Duration,
}

/// How many sites a run that only reads can still do without. Copies count together.
///
/// One that does not answer takes one of them, and then it is not waited for; who finds none left waits as long as ever.
#[derive(Debug, Clone, Default)]
pub struct Spare {
    left: Arc<AtomicUsize>,
}

impl Spare {
    /// So many. A run that writes has none: each site counts.
    pub fn new(sites: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(sites)) }
    }

    /// True if there is one.
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Takes one; false if none is left.
    pub(crate) fn take(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Calls that may have to share a slow line.
const CALLS_ON_A_LINE: u32 = 32;

impl Default for Patience {
    /// The page's numbers. A disk that has to spin up answers in 15 s, 1 MiB/s is a bad line; three retries with
    /// pauses of 0.1, 0.4 and 1.6 s get over what passes at all.
    fn default() -> Self {
        Self {
            base: Duration::from_mins(1),
            per_mib: Duration::from_secs(1),
            retries: 3,
            back_off: Duration::from_millis(100),
            opening: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// How long a call that moves so many bytes may take.
    pub fn deadline(&self, bytes: u64) -> Duration {
        let mebibytes = u32::try_from(bytes.div_ceil(MIB as u64)).unwrap_or(u32::MAX);
        self.base.saturating_add(self.per_mib.saturating_mul(mebibytes))
    }

    /// How long a site may be silent in the middle of an answer.
    pub(crate) fn stall(&self) -> Duration {
        self.base
    }

    /// Deadlines for a site that shares its line with all others: up to eight calls at each of a few sites go over one
    /// uplink, so a call that is as slow as a thirtieth of it is not a call that hangs.
    pub(crate) fn over_a_shared_line(mut self) -> Self {
        self.per_mib = self.per_mib.saturating_mul(CALLS_ON_A_LINE);
        self
    }

    /// The pause before a retry, counted from 0.
    pub(crate) fn pause(&self, retry: u32) -> Duration {
        self.back_off.saturating_mul(4_u32.saturating_pow(retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_spared_than_there_are() {
        let spare = Spare::new(2);
        let copy = spare.clone();
        assert_eq!([spare.take(), copy.take(), spare.take()], [true, true, false]);
        assert!(!Spare::default().take());
    }

    #[test]
    fn a_deadline_grows_with_every_begun_mebibyte() {
        let patience = Patience::default();
        assert_eq!(patience.deadline(0), Duration::from_mins(1));
        assert_eq!(patience.deadline(1), Duration::from_secs(61));
        assert_eq!(patience.deadline(16 << 20), Duration::from_secs(76));
        assert!(patience.deadline(u64::MAX) > patience.deadline(1 << 40));
        assert_eq!([0, 1, 2].map(|retry| patience.pause(retry).as_millis()), [100, 400, 1600]);
    }
}
