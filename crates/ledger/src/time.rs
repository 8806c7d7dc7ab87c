//! Which time the next block gets.
//!
//! - **Owns** the rule of a one-operator ledger, whose clock is the host's.
//! - **Does not** read a clock.
//!
//! Format: `docs/design/ledger.md`, section *Time*.

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
