//! What a rule says of one snapshot, and until when.

use std::collections::BTreeSet;
use std::fmt;

use blockhouse_types::{Account, SnapshotId, SourceId};
use jiff::Timestamp;
use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::TimeZone;

use super::{ALL, Rule};
use crate::ledger::Frozen;

/// A snapshot, as far as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The snapshot.
    pub(crate) id: SnapshotId,
    /// Its source.
    pub(crate) source: SourceId,
    /// Who committed it.
    pub(crate) signer: Account,
    /// When, in the ledger's seconds.
    pub(crate) time: u64,
    /// Its tags.
    pub(crate) tags: BTreeSet<[u8; 32]>,
}

/// The kinds of periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The rule keeps everything.
    All,
    /// Its signer made none after it.
    Newest,
    /// It is one of the newest.
    Last {
        /// Which, counted from the newest.
        nth: u32,
        /// Of how many that are kept.
        of: u32,
    },
    /// It is the newest of its period.
    Period {
        /// The kind of period.
        span: Span,
        /// Which of those that have snapshots, counted from the newest.
        nth: u32,
        /// Of how many that are kept.
        of: u32,
        /// When it can fall out at the earliest: if every period that comes gets a snapshot.
        not_before: u64,
    },
    /// It is not older than the newest by more than the rule says.
    Within {
        /// When it can fall out at the earliest.
        not_before: u64,
    },
    /// It has one of the rule's tags.
    Tag([u8; 32]),
    /// It is younger than anything that may go, whoever asks.
    Young {
        /// Until then.
        until: u64,
    },
    /// It is frozen, whoever asks.
    Frozen(Frozen),
    /// No rule was laid down: the owner alone removes.
    NoRule,
    /// The source's policy is a contract that this version does not know.
    Unknown,
}

impl Span {
    /// All of them, from the shortest on.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// What the newest snapshot of such a period is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    fn kept(self, rule: &Rule) -> u32 {
        match self {
            Self::Hour => rule.keep.hourly,
            Self::Day => rule.keep.daily,
            Self::Week => rule.keep.weekly,
            Self::Month => rule.keep.monthly,
            Self::Year => rule.keep.yearly,
        }
    }

    /// The beginning of the period in which a moment lies; seconds since 1970.
    fn begin(self, time: u64) -> u64 {
        if self == Self::Hour {
            return time - time % 3_600;
        }
        let day = date(time);
        let first = match self {
            Self::Hour | Self::Day => day,
            Self::Week => monday(day),
            Self::Month => day.first_of_month(),
            Self::Year => day.first_of_year(),
        };
        seconds(first)
    }

    /// The beginning of the period that is `count` periods later than the one which begins then.
    fn later(self, begin: u64, count: u32) -> u64 {
        let (count, day) = (i64::from(count), date(begin));
        let step = match self {
            Self::Hour => return begin + 3_600 * u64::try_from(count).unwrap_or_default(),
            Self::Day => jiff::Span::new().try_days(count),
            Self::Week => jiff::Span::new().try_weeks(count),
            Self::Month => jiff::Span::new().try_months(count),
            Self::Year => jiff::Span::new().try_years(count),
        };
        step.and_then(|step| day.checked_add(step)).map_or(u64::MAX, seconds)
    }
}

fn date(time: u64) -> Date {
    let stamp = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok()).unwrap_or(Timestamp::MAX);
    stamp.to_zoned(TimeZone::UTC).date()
}

fn seconds(day: Date) -> u64 {
    let stamp = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0));
    stamp.ok().and_then(|stamp| u64::try_from(stamp.as_second()).ok()).unwrap_or_default()
}

fn monday(day: Date) -> Date {
    let week: ISOWeekDate = day.iso_week_date();
    ISOWeekDate::new(week.year(), week.week(), Weekday::Monday).map_or(day, ISOWeekDate::date)
}

/// Why each of these snapshots of one source and one signer is kept at a moment; nothing where a writer may remove it. They are given
/// from the newest to the oldest, and each is looked at once.
///
/// Newer are those with a later block time: none of one block displaces another.
pub(crate) fn judge_chain(rule: &Rule, chain: &[&Moment], now: u64) -> Vec<Vec<Reason>> {
    let mut reasons = Vec::with_capacity(chain.len());
    let mut newer = Newer::default();
    for together in chain.chunk_by(|one, next| one.time == next.time) {
        reasons.extend(together.iter().map(|own| newer.judge(rule, own, now)));
        for own in together {
            newer.take(own.time);
        }
    }
    reasons
}

/// What is newer than those that are looked at.
#[derive(Debug, Default)]
struct Newer {
    count: u32,
    newest: Option<u64>,
    /// For each span: how many periods, the first and the last of them.
    periods: [Option<(u32, u64, u64)>; 5],
}

impl Newer {
    fn take(&mut self, time: u64) {
        self.count = self.count.saturating_add(1);
        self.newest = self.newest.or(Some(time));
        for (span, seen) in Span::ALL.into_iter().zip(&mut self.periods) {
            let begin = span.begin(time);
            *seen = match *seen {
                None => Some((1, begin, begin)),
                Some((count, last, newest)) if last == begin => Some((count, last, newest)),
                Some((count, _, newest)) => Some((count + 1, begin, newest)),
            };
        }
    }

    fn judge(&self, rule: &Rule, own: &Moment, now: u64) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let until = own.time.saturating_add(rule.minimum_age);
        if now < until {
            reasons.push(Reason::Young { until });
        }
        if rule.keep.last == ALL {
            reasons.push(Reason::All);
            return reasons;
        }
        if self.count < rule.keep.last {
            reasons.push(Reason::Last { nth: self.count + 1, of: rule.keep.last });
        } else if self.newest.is_none() {
            reasons.push(Reason::Newest);
        }
        for (span, seen) in Span::ALL.into_iter().zip(&self.periods) {
            reasons.extend(of_seen(span, span.kept(rule), own.time, *seen));
        }
        let not_before = own.time.saturating_add(rule.within);
        if rule.within != 0 && self.newest.unwrap_or(own.time) < not_before {
            reasons.push(Reason::Within { not_before });
        }
        reasons.extend(rule.tags.iter().find(|tag| own.tags.contains(*tag)).map(|tag| Reason::Tag(*tag)));
        reasons
    }
}

fn of_seen(span: Span, of: u32, time: u64, seen: Option<(u32, u64, u64)>) -> Option<Reason> {
    let (before, last, newest) = match seen {
        _ if of == 0 => return None,
        None => (0, None, span.begin(time)),
        Some((count, last, newest)) => (count, Some(last), newest),
    };
    if before >= of || last == Some(span.begin(time)) {
        return None;
    }
    Some(Reason::Period { span, nth: before + 1, of, not_before: span.later(newest, of - before) })
}

impl Reason {
    /// Before when it cannot cease to hold; none if it may at any time, or never.
    pub const fn not_before(&self) -> Option<u64> {
        match self {
            Self::Period { not_before, .. } | Self::Within { not_before } => Some(*not_before),
            Self::Young { until } => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("the rule keeps everything"),
            Self::Newest => f.write_str("newest of its writer"),
            Self::Last { nth, .. } => write!(f, "last {nth}"),
            Self::Period { span, nth, .. } => write!(f, "{} {nth}", span.name()),
            Self::Within { .. } => f.write_str("within"),
            Self::Tag(tag) => write!(f, "tag {}", hex::encode(tag)),
            Self::Young { until } => write!(f, "too young until {until}"),
            Self::Frozen(frozen) => write!(f, "frozen by {} at {}", frozen.by, frozen.since),
            Self::NoRule => f.write_str("no rule: only the owner removes"),
            Self::Unknown => f.write_str("a policy that this version does not know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::Keep;

    /// 2026-03-02, a Monday.
    const MONDAY: u64 = 1_772_409_600;
    const DAY: u64 = 86_400;

    fn at(number: u8, time: u64) -> Moment {
        Moment {
            id: SnapshotId::new([number; 32]),
            source: SourceId::new([1; 32]),
            signer: Account::new([1; 20]),
            time,
            tags: BTreeSet::new(),
        }
    }

    /// The slow and obvious way: each is compared with all that are not forgotten, of whatever source and signer.
    fn judge(rule: &Rule, own: &Moment, all: &[Moment], now: u64) -> Vec<Reason> {
        let is_newer =
            |other: &&Moment| other.source == own.source && other.signer == own.signer && other.time > own.time;
        let newer: Vec<u64> = all.iter().filter(is_newer).map(|other| other.time).collect();
        let newest = newer.iter().max().copied();
        let mut reasons = Vec::new();
        let until = own.time.saturating_add(rule.minimum_age);
        if now < until {
            reasons.push(Reason::Young { until });
        }
        if rule.keep.last == ALL {
            reasons.push(Reason::All);
            return reasons;
        }
        let count = u32::try_from(newer.len()).unwrap_or(u32::MAX);
        if count < rule.keep.last {
            reasons.push(Reason::Last { nth: count + 1, of: rule.keep.last });
        } else if newest.is_none() {
            reasons.push(Reason::Newest);
        }
        for span in Span::ALL {
            reasons.extend(of_period(span, span.kept(rule), own.time, &newer));
        }
        let not_before = own.time.saturating_add(rule.within);
        if rule.within != 0 && newest.unwrap_or(own.time) < not_before {
            reasons.push(Reason::Within { not_before });
        }
        reasons.extend(rule.tags.iter().find(|tag| own.tags.contains(*tag)).map(|tag| Reason::Tag(*tag)));
        reasons
    }

    /// Kept as the newest of its period, if it is, and fewer than `of` periods have newer ones.
    fn of_period(span: Span, of: u32, time: u64, newer: &[u64]) -> Option<Reason> {
        let own = span.begin(time);
        let periods: BTreeSet<u64> = newer.iter().map(|time| span.begin(*time)).collect();
        let before = u32::try_from(periods.len()).ok().filter(|before| before < &of)?;
        if periods.contains(&own) {
            return None;
        }
        let newest = periods.last().copied().unwrap_or(own);
        let not_before = span.later(newest, of - before);
        Some(Reason::Period { span, nth: before + 1, of, not_before })
    }

    fn told(rule: &Rule, all: &[Moment], now: u64) -> Vec<String> {
        let words = |own| judge(rule, own, all, now).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        all.iter().map(words).collect()
    }

    #[test]
    fn every_snapshot_is_told_why_it_stays_or_that_it_goes() {
        let all: Vec<Moment> = (0..6).map(|n| at(n, MONDAY + u64::from(n) * DAY / 2)).collect();
        let rule = Rule { keep: Keep { last: 1, daily: 2, weekly: 1, ..Keep::default() }, ..Rule::default() };
        assert_eq!(told(&rule, &all, MONDAY + 9 * DAY), ["", "", "", "daily 2", "", "last 1, daily 1, weekly 1"]);
        let rule = Rule { within: DAY, minimum_age: 2 * DAY, ..Rule::default() };
        let young = format!("too young until {}", MONDAY + 2 * DAY + DAY / 2);
        let told = told(&rule, &all, MONDAY + 2 * DAY);
        assert_eq!(told[..2], [String::new(), young]);
        assert!(told[5].ends_with("newest of its writer, within"), "{told:?}");
    }

    #[test]
    fn weeks_begin_on_monday_and_dates_are_told() {
        assert_eq!(Span::Week.begin(MONDAY - 1), MONDAY - 7 * DAY);
        assert_eq!(Span::Week.begin(MONDAY + 7 * DAY - 1), MONDAY);
        let all = [at(0, MONDAY), at(1, MONDAY + DAY)];
        let rule = Rule { keep: Keep { daily: 3, monthly: 2, ..Keep::default() }, ..Rule::default() };
        // A moment when both are there: what is not committed yet is too young, whatever the minimum age.
        let now = MONDAY + 2 * DAY;
        let reasons = judge(&rule, &all[0], &all, now);
        // The second of three days: two more must get snapshots.
        assert_eq!(reasons.iter().map(Reason::not_before).collect::<Vec<_>>(), [Some(MONDAY + 3 * DAY)]);
        let reasons = judge(&rule, &all[1], &all, now);
        let may = 1_777_593_600; // 2026-05-01
        assert_eq!(
            reasons.iter().map(Reason::not_before).collect::<Vec<_>>(),
            [None, Some(MONDAY + 4 * DAY), Some(may)]
        );
    }

    /// The walk over a chain against the comparison of each with all.
    #[test]
    fn the_walk_says_what_comparing_all_says() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        for _ in 0..300 {
            let mut time = MONDAY;
            let mut all: Vec<Moment> = Vec::new();
            for number in 0..random.random_range(1..30) {
                time += [0, 1_000, 9_000, DAY, 9 * DAY, 90 * DAY][random.random_range(0..6)];
                all.push(at(number, time));
            }
            let mut some = |most: u32| random.random_range(0..most);
            let keep = Keep {
                last: some(3),
                hourly: some(4),
                daily: some(4),
                weekly: some(4),
                monthly: some(4),
                yearly: some(3),
            };
            let rule = Rule { keep, within: u64::from(some(20)) * DAY, tags: Vec::new(), minimum_age: DAY };
            let newest_first: Vec<&Moment> = all.iter().rev().collect();
            let walked = judge_chain(&rule, &newest_first, time);
            for (own, reasons) in newest_first.iter().zip(walked) {
                assert_eq!(reasons, judge(&rule, own, &all, time), "{rule:?} {own:?} {all:?}");
            }
        }
    }

    #[test]
    fn another_signer_or_source_displaces_nothing() {
        let mut all = vec![at(0, MONDAY), at(1, MONDAY + DAY), at(2, MONDAY + 2 * DAY)];
        all[1].signer = Account::new([2; 20]);
        all[2].source = SourceId::new([2; 32]);
        let rule = Rule { keep: Keep { last: 1, ..Keep::default() }, ..Rule::default() };
        assert_eq!(told(&rule, &all, MONDAY + 3 * DAY), ["last 1", "last 1", "last 1"]);
    }
}
