//! How fast bytes may go to and come from sites.
//!
//! - **Owns** rates as they are typed, and the waiting that keeps to them: per site and for the whole process.
//! - **Does not** count a wait into a call's deadline: it happens before the deadline begins, so a limited site is
//!   never taken for a hanging one.
//!
//! A whole call waits until what was asked for before it has had its time. So the mean rate is bounded, while one
//! object (at most a pack) still travels as fast as the line can.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Rate(NonZeroU64);

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a number of bytes per second above 0, such as 500KiB, 2MiB or 10MB")]
pub struct RateError {
    pub text: String,
}

/// What a suffix multiplies by; the longer ones of equal ends come first.
const UNITS: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
];

impl Rate {
    /// So many bytes per second.
    pub const fn new(bytes: NonZeroU64) -> Self {
        Self(bytes)
    }

    /// Bytes per second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// How long so many bytes take.
    fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError { text: text.to_owned() };
        let bare = text.trim().trim_end_matches("/s");
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((bare.strip_suffix(unit)?, *factor)))
            .unwrap_or((bare.strip_suffix('B').unwrap_or(bare), 1));
        let number: u64 = number.trim().parse().map_err(|_| error())?;
        number.checked_mul(factor).and_then(NonZeroU64::new).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.get();
        match UNITS.iter().rev().find(|(unit, factor)| unit.ends_with("iB") && bytes.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
            None => write!(f, "{bytes}B"),
        }
    }
}

/// The limits of one site, as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SiteLimits {
    /// Bytes per second that may be written to it.
    #[serde(default, rename = "limit_upload", skip_serializing_if = "Option::is_none")]
    pub upload: Option<Rate>,
    /// Bytes per second that may be read from it.
    #[serde(default, rename = "limit_download", skip_serializing_if = "Option::is_none")]
    pub download: Option<Rate>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// A rate, and until when what was granted takes.
#[derive(Debug)]
struct Pace {
    rate: Rate,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        Self { rate, free_at: Mutex::new(None) }
    }

    /// Grants bytes, and gives the time at which they may begin to move.
    fn grant(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(now, |free| free.max(now));
        *free_at = Some(begin + self.rate.time_for(bytes));
        begin
    }
}

#[derive(Debug, Default)]
struct Paces {
    upload: Option<Pace>,
    download: Option<Pace>,
}

impl Paces {
    fn new(limits: SiteLimits) -> Self {
        Self { upload: limits.upload.map(Pace::new), download: limits.download.map(Pace::new) }
    }

    /// Takes other limits. A way whose rate stays the same goes on where it was.
    fn follow(&mut self, limits: SiteLimits) {
        for (pace, rate) in [(&mut self.upload, limits.upload), (&mut self.download, limits.download)] {
            if pace.as_ref().map(|pace| pace.rate) != rate {
                *pace = rate.map(Pace::new);
            }
        }
    }

    fn of(&self, way: Way) -> Option<&Pace> {
        match way {
            Way::Up => self.upload.as_ref(),
            Way::Down => self.download.as_ref(),
        }
    }
}

static PROCESS: Mutex<Paces> = Mutex::new(Paces { upload: None, download: None });

/// A panic elsewhere cannot have left a rate half-changed.
fn process() -> MutexGuard<'static, Paces> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bounds the sum over all sites of this process from now on, also over those that are open.
pub fn limit_process(limits: SiteLimits) {
    process().follow(limits);
}

/// The limits that hold at one site.
#[derive(Debug)]
pub(crate) struct Throttle {
    own: Paces,
}

impl Throttle {
    pub(crate) fn new(limits: SiteLimits) -> Self {
        Self { own: Paces::new(limits) }
    }

    /// Waits until so many bytes may move.
    pub(crate) async fn wait(&self, way: Way, bytes: u64) {
        if let Some(begin) = self.charge(way, bytes) {
            tokio::time::sleep_until(begin).await;
        }
    }

    /// Counts bytes of which the number was not known before; later calls wait for them.
    pub(crate) fn charge(&self, way: Way, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let grant = |paces: &Paces| Some(paces.of(way)?.grant(bytes, now));
        grant(&self.own).max(grant(&process()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Result<u64, RateError> {
        text.parse::<Rate>().map(Rate::get)
    }

    #[test]
    fn rates_are_typed_with_units() {
        assert_eq!(rate("2MiB"), Ok(2 << 20));
        assert_eq!(rate("2M"), Ok(2 << 20));
        assert_eq!(rate("500kB"), Ok(500_000));
        assert_eq!(rate("10MB/s"), Ok(10_000_000));
        assert_eq!(rate("77"), Ok(77));
        assert_eq!(rate("77B"), Ok(77));
        for bad in ["", "0", "-1", "1.5MiB", "MiB", "1TiBx", "99999999999999999999", "18446744073709551615G"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_shown_as_it_is_read() {
        for text in ["2MiB", "500KiB", "1GiB", "77B", "1000B"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_was_granted_takes_its_time() {
        let pace = Pace::new("1MiB".parse().unwrap());
        let now = Instant::now();
        assert_eq!(pace.grant(2 << 20, now), now);
        assert_eq!(pace.grant(1 << 20, now), now + Duration::from_secs(2));
        assert_eq!(pace.grant(0, now), now + Duration::from_secs(3));
        let later = now + Duration::from_mins(1);
        assert_eq!(pace.grant(1, later), later, "unused time is not saved up");
    }

    #[test]
    fn other_limits_count_from_then_on_and_a_rate_that_stays_goes_on() {
        let rate = |text: &str| Some(text.parse().unwrap());
        let mut paces = Paces::new(SiteLimits { upload: rate("1MiB"), download: None });
        let now = Instant::now();
        let begin = |paces: &Paces, way| paces.of(way).map(|pace| pace.grant(1 << 20, now));
        assert_eq!((begin(&paces, Way::Up), begin(&paces, Way::Down)), (Some(now), None));
        paces.follow(SiteLimits { upload: rate("1MiB"), download: rate("2MiB") });
        assert_eq!(begin(&paces, Way::Up), Some(now + Duration::from_secs(1)), "what was granted before still counts");
        assert_eq!(begin(&paces, Way::Down), Some(now));
        assert_eq!(begin(&paces, Way::Down), Some(now + Duration::from_millis(500)));
        paces.follow(SiteLimits::default());
        assert_eq!((begin(&paces, Way::Up), begin(&paces, Way::Down)), (None, None));
    }

    #[test]
    fn calls_wait_for_those_before_them() {
        let limits = SiteLimits { upload: Some("1MiB".parse().unwrap()), download: None };
        let throttle = Throttle::new(limits);
        let first = throttle.charge(Way::Up, 1 << 20).unwrap();
        let begins: Vec<_> = (0..4).map(|_| throttle.charge(Way::Up, 1 << 20).unwrap()).collect();
        let seconds: Vec<_> = begins.iter().map(|begin| begin.duration_since(first).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 3, 4]);
        assert_eq!(throttle.charge(Way::Down, 1 << 40), None, "the other way is not limited");
    }
}
