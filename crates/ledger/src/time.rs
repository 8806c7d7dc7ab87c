//! The time of a block, and which one the next block gets.
//!
//! - **Owns** how a header says its time, and the rule of a one-operator ledger, whose clock is the host's.
//! - **Does not** read a clock.
//!
//! Format: `docs/design/ledger.md`, section *Time*.

use alloy_consensus::Header;
use alloy_primitives::Bytes;

/// When a block was made. Times of a chain rise strictly, so a network that makes several blocks a second counts milliseconds too;
/// contracts and Ethereum's tools see the seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockTime {
    seconds: u64,
    millis: u16,
}

/// Extra data that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its extra data is not empty, and no number of milliseconds")]
pub struct NoTime;

impl BlockTime {
    /// A whole second.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self { seconds, millis: 0 }
    }

    /// A time in milliseconds since 1970.
    pub const fn of_millis(millis: u64) -> Self {
        Self { seconds: millis / 1000, millis: (millis % 1000) as u16 }
    }

    /// What a header says. That of block 0 holds its genesis where others have milliseconds.
    pub fn of(header: &Header) -> Result<Self, NoTime> {
        let millis = match (header.number, header.extra_data.as_ref()) {
            (0, _) | (_, []) => 0,
            (_, &[high, low]) => u16::from_be_bytes([high, low]),
            _ => return Err(NoTime),
        };
        // Zero has one encoding, the empty one.
        let is_canonical = (millis == 0) == (header.number == 0 || header.extra_data.is_empty()) && millis < 1000;
        if is_canonical { Ok(Self { seconds: header.timestamp, millis }) } else { Err(NoTime) }
    }

    /// The seconds since 1970, as in the header's `timestamp`.
    pub const fn seconds(self) -> u64 {
        self.seconds
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.seconds.saturating_mul(1000).saturating_add(self.millis as u64)
    }

    /// The milliseconds beside the seconds, as in the header's extra data.
    pub(crate) fn extra_data(self) -> Bytes {
        if self.millis == 0 { Bytes::new() } else { Bytes::copy_from_slice(&self.millis.to_be_bytes()) }
    }
}

impl std::fmt::Display for BlockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.millis {
            0 => write!(f, "{}", self.seconds),
            millis => write!(f, "{}.{millis:03}", self.seconds),
        }
    }
}

/// How far the next block's time may be ahead of the host's clock without `--accept-clock`.
pub const BEHIND_MAX_SECONDS: u64 = 10;
/// How far the host's clock may be ahead of the parent without `--accept-clock`.
pub const AHEAD_MAX_SECONDS: u64 = 400 * 24 * 60 * 60;

/// Whether a strange clock was accepted by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Refuse a clock that is far from the chain's time.
    Checked,
    /// `--accept-clock`: take it as it is.
    Accepted,
}

/// Why the host's clock cannot give the next block its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    #[error("the host's clock ({now}) is {behind} s behind the last block of the ledger ({parent})")]
    Behind { now: u64, parent: u64, behind: u64 },
    #[error("the host's clock ({now}) is {days} days after the last block of the ledger ({parent})")]
    Ahead { now: u64, parent: u64, days: u64 },
    #[error("no time is left after the last block of the ledger ({parent})")]
    End { parent: u64 },
}

/// The time of the block after `parent`, all in seconds: the host's clock, or one second after the parent.
pub fn choose_time(now: u64, parent: u64, clock: Clock) -> Result<u64, ClockError> {
    let least = parent.checked_add(1).ok_or(ClockError::End { parent })?;
    if clock == Clock::Accepted {
        return Ok(now.max(least));
    }
    let (ahead, behind) = (now.saturating_sub(parent), least.saturating_sub(now));
    if ahead > AHEAD_MAX_SECONDS {
        return Err(ClockError::Ahead { now, parent, days: ahead / (24 * 60 * 60) });
    }
    if behind > BEHIND_MAX_SECONDS {
        return Err(ClockError::Behind { now, parent, behind: parent.saturating_sub(now) });
    }
    Ok(now.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_its_time_in_one_way() {
        let header = |number, extra: &[u8]| Header {
            number,
            timestamp: 7,
            extra_data: Bytes::copy_from_slice(extra),
            ..Header::default()
        };
        let time = |extra: &[u8]| BlockTime::of(&header(1, extra));
        assert_eq!(time(&[]), Ok(BlockTime::of_seconds(7)));
        assert_eq!(time(&[3, 231]), Ok(BlockTime::of_millis(7999)));
        for wrong in [&[0, 0][..], &[3, 232], &[1], &[0, 0, 1], &[9; 32]] {
            assert_eq!(time(wrong), Err(NoTime), "{wrong:?}");
        }
        assert_eq!(BlockTime::of(&header(0, &[9; 32])), Ok(BlockTime::of_seconds(7)));
        for millis in [7000, 7001, 7255, 7256, 7999] {
            let time = BlockTime::of_millis(millis);
            assert_eq!(BlockTime::of(&header(1, &time.extra_data())), Ok(time));
            assert_eq!(time.millis(), millis);
        }
        assert!(BlockTime::of_millis(7999) < BlockTime::of_seconds(8));
    }

    #[test]
    fn time_rises_and_strange_clocks_are_refused() {
        let checked = |now| choose_time(now, 1_000_000, Clock::Checked);
        assert_eq!(checked(1_000_050), Ok(1_000_050));
        assert_eq!(checked(1_000_000), Ok(1_000_001));
        assert_eq!(checked(999_991), Ok(1_000_001));
        assert_eq!(checked(999_990), Err(ClockError::Behind { now: 999_990, parent: 1_000_000, behind: 10 }));
        assert_eq!(checked(1_000_000 + AHEAD_MAX_SECONDS), Ok(1_000_000 + AHEAD_MAX_SECONDS));
        let late = 1_000_001 + AHEAD_MAX_SECONDS;
        assert_eq!(checked(late), Err(ClockError::Ahead { now: late, parent: 1_000_000, days: 400 }));
    }

    #[test]
    fn an_accepted_clock_still_rises() {
        assert_eq!(choose_time(0, 1_000_000, Clock::Accepted), Ok(1_000_001));
        assert_eq!(choose_time(u64::MAX, 1_000_000, Clock::Accepted), Ok(u64::MAX));
        assert_eq!(choose_time(0, u64::MAX, Clock::Accepted), Err(ClockError::End { parent: u64::MAX }));
    }
}
