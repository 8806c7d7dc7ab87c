//! A rule of retention, as people give it and as its contract has it.

use std::fmt;

use alloy_primitives::B256;
use blockhouse_ledger::contracts::Retention;

/// A count that keeps everything.
pub const ALL: u32 = u32::MAX;
/// The most that all counts may come to, and the most tags: they bound what one removal counts, not what it walks past.
const COUNTS_MAX: u64 = 512;
const TAGS_MAX: usize = 16;

/// How many of each are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Of the newest; [`ALL`] keeps everything.
    pub last: u32,
    /// Of the hours that have snapshots, the newest of each.
    pub hourly: u32,
    /// Of the days.
    pub daily: u32,
    /// Of the weeks, which begin on Monday.
    pub weekly: u32,
    /// Of the months.
    pub monthly: u32,
    /// Of the years.
    pub yearly: u32,
}

/// A rule of retention. Periods are those of the ledger's time, in UTC, and each signer is counted by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The counts.
    pub keep: Keep,
    /// Everything less than so many seconds older than the newest is kept; 0: nothing for that reason.
    pub within: u64,
    /// Everything with one of these tags is kept: commitments, as commits carry them.
    pub tags: Vec<[u8; 32]>,
    /// Nothing younger than so many seconds goes, whoever asks.
    pub minimum_age: u64,
}

/// A rule that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// It would let everything go.
    #[error("the rule keeps nothing")]
    KeepsNothing,
    /// It would cost too much to check.
    #[error("the rule counts {sum} snapshots in all, at most {COUNTS_MAX} can be checked at a removal")]
    CountsTooMany { sum: u64 },
    /// It names too many tags.
    #[error("the rule names {count} tags, at most {TAGS_MAX} can be checked at a removal")]
    TooManyTags { count: usize },
}

impl Rule {
    /// The rule that keeps everything.
    pub fn all() -> Self {
        Self { keep: Keep { last: ALL, ..Keep::default() }, ..Self::default() }
    }

    /// Refuses what the contract would refuse.
    pub fn check(&self) -> Result<(), RuleError> {
        let Keep { last, hourly, daily, weekly, monthly, yearly } = self.keep;
        let of_last = if last == ALL { 0 } else { last };
        let sum = [of_last, hourly, daily, weekly, monthly, yearly].into_iter().map(u64::from).sum();
        match () {
            () if sum > COUNTS_MAX => Err(RuleError::CountsTooMany { sum }),
            () if self.tags.len() > TAGS_MAX => Err(RuleError::TooManyTags { count: self.tags.len() }),
            () if sum == 0 && last != ALL && self.within == 0 && self.tags.is_empty() => Err(RuleError::KeepsNothing),
            () => Ok(()),
        }
    }

    pub(crate) fn of_contract(rule: Retention::Rule) -> Self {
        Self {
            keep: Keep {
                last: rule.last,
                hourly: rule.hourly,
                daily: rule.daily,
                weekly: rule.weekly,
                monthly: rule.monthly,
                yearly: rule.yearly,
            },
            within: rule.within,
            tags: rule.tags.into_iter().map(|tag| tag.0).collect(),
            minimum_age: rule.minimumAge,
        }
    }

    pub(crate) fn to_contract(&self) -> Retention::Rule {
        let Keep { last, hourly, daily, weekly, monthly, yearly } = self.keep;
        Retention::Rule {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: self.within,
            tags: self.tags.iter().copied().map(B256::new).collect(),
            minimumAge: self.minimum_age,
        }
    }
}

/// Seconds in the greatest unit that fits.
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let fits = units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keep { last, hourly, daily, weekly, monthly, yearly } = self.keep;
        let counts = [
            ("last", last),
            ("hourly", hourly),
            ("daily", daily),
            ("weekly", weekly),
            ("monthly", monthly),
            ("yearly", yearly),
        ];
        let mut parts: Vec<String> = counts
            .into_iter()
            .filter(|(_, count)| *count != 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if last == ALL {
            parts = vec!["everything".to_owned()];
        }
        if self.within != 0 {
            parts.push(format!("all within {} of the newest", duration(self.within)));
        }
        if !self.tags.is_empty() {
            // The ledger knows hashes of tags alone.
            parts.push(match self.tags.len() {
                1 => "all with its tag".to_owned(),
                count => format!("all with one of its {count} tags"),
            });
        }
        write!(f, "keeps {}", parts.join(", "))?;
        if self.minimum_age != 0 {
            write!(f, "; nothing goes before it is {} old", duration(self.minimum_age))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_keep_nothing_or_count_too_much_are_refused() {
        let mut rule = Rule { minimum_age: 9, ..Rule::default() };
        assert_eq!(rule.check(), Err(RuleError::KeepsNothing));
        rule.keep.daily = 513;
        assert_eq!(rule.check(), Err(RuleError::CountsTooMany { sum: 513 }));
        rule.keep.daily = 512;
        assert_eq!(rule.check(), Ok(()));
        rule.tags = vec![[1; 32]; 17];
        assert_eq!(rule.check(), Err(RuleError::TooManyTags { count: 17 }));
        assert_eq!(Rule::all().check(), Ok(()));
        assert_eq!(Rule { within: 1, ..Rule::default() }.check(), Ok(()));
    }

    #[test]
    fn rules_survive_their_contract_and_read_well() {
        let keep = Keep { last: 1, daily: 7, yearly: 2, ..Keep::default() };
        let rule = Rule { keep, within: 30 * 86_400, tags: vec![[7; 32]], minimum_age: 5_400 };
        assert_eq!(Rule::of_contract(rule.to_contract()), rule);
        assert_eq!(
            rule.to_string(),
            "keeps last 1, daily 7, yearly 2, all within 30 d of the newest, all with its tag; nothing goes before it is 90 min old"
        );
        assert_eq!(Rule::all().to_string(), "keeps everything");
    }
}
