//! What a rule would do that its owner may not expect, told before it is laid down.
//!
//! - **Owns** the estimate of how far a removal walks under a rule, and which rules a stolen writer account gets around at once.
//! - **Does not** refuse: an estimate may be wrong, and the contract decides.
//!
//! Page: `docs/design/retention.md`, section *Work*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy_primitives::B256;
use blockhouse_types::{Account, SourceId};

use super::{ALL, Keep, Rule};
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::vault::Vault;

/// Gas for a removal under a rule that counts nothing.
const BASE_GAS: u64 = 300_000;
/// Gas for an entry that a rule counts, and for one that it passes.
const COUNTED_GAS: u64 = 33_000;
const PASSED_GAS: u64 = 5_000;
/// From so many of the last snapshots it is taken how often there is one.
const MEASURED: usize = 100;

/// Something to say of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caution {
    /// What is kept for its age alone makes the check of a removal longer than a block is.
    LongWalk {
        /// The source that has so many snapshots.
        source: SourceId,
        /// How many a removal would walk past.
        passed: u64,
        /// The gas for that.
        gas: u64,
        /// The gas of a block.
        block: u64,
    },
    /// So many new snapshots, made within a minute, let everything else of their writer go.
    LastAlone {
        /// How many are kept.
        last: u32,
    },
}

/// What is to be said of a rule for these sources, by how often they were backed up so far.
pub async fn cautions(vault: &Vault, rule: &Rule, bound: &BTreeSet<SourceId>) -> Result<Vec<Caution>, LedgerError> {
    let (ledger, mut cautions) = (vault.ledger(), Vec::new());
    let (records, block) = (ledger.snapshots().await?, ledger.block_gas().await?);
    let mut chains: BTreeMap<(SourceId, Account), Vec<&SnapshotRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| bound.contains(&record.source)) {
        chains.entry((record.source, record.writer)).or_default().push(record);
    }
    for ((source, _), chain) in chains {
        let is_tagged = |record: &&&SnapshotRecord| {
            !record.forgotten && rule.tags.iter().any(|tag| record.tags.contains(&B256::new(*tag)))
        };
        let tagged = chain.iter().filter(is_tagged).count() as u64;
        let times: Vec<u64> = chain.iter().map(|record| record.time).collect();
        let passed = kept_for_age(rule, &times).saturating_add(tagged);
        let gas = gas(rule, passed);
        if gas > block {
            cautions.push(Caution::LongWalk { source, passed, gas, block });
        }
    }
    cautions.extend(last_alone(rule));
    Ok(cautions)
}

/// How many snapshots a chain with these times, ascending, will have that are kept for their age alone, if it goes on like that.
fn kept_for_age(rule: &Rule, times: &[u64]) -> u64 {
    let recent = times.get(times.len().saturating_sub(MEASURED)..).unwrap_or_default();
    let (Some(first), Some(last)) = (recent.first(), recent.last()) else { return 0 };
    let (made, took) = (recent.len() as u128 - 1, u128::from(last.saturating_sub(*first).max(1)));
    let age = u128::from(rule.within.max(rule.minimum_age));
    u64::try_from(age * made / took).unwrap_or(u64::MAX)
}

/// The gas of a removal that counts all that the rule counts and walks past so many others.
fn gas(rule: &Rule, passed: u64) -> u64 {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = rule.keep;
    if last == ALL {
        // The contract looks at nothing then.
        return BASE_GAS;
    }
    let counted: u64 = [last, hourly, daily, weekly, monthly, yearly].into_iter().map(u64::from).sum();
    let walk = counted.saturating_mul(COUNTED_GAS).saturating_add(passed.saturating_mul(PASSED_GAS));
    walk.saturating_add(BASE_GAS)
}

fn last_alone(rule: &Rule) -> Option<Caution> {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = rule.keep;
    let has_periods = [hourly, daily, weekly, monthly, yearly].iter().any(|count| *count != 0);
    let takes_time = has_periods || rule.within != 0 || rule.minimum_age != 0;
    (last != 0 && last != ALL && !takes_time).then_some(Caution::LastAlone { last })
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongWalk { source, passed, gas, block } => write!(
                f,
                "source {source} is backed up so often that about {passed} snapshots would be kept for age or tag: to check a removal would take about {gas} gas, a block has {block}, and what does not fit is refused; say less with --keep-within and --min-age, or back up less often"
            ),
            Self::LastAlone { last } => write!(
                f,
                "this rule asks for nothing but number: whoever steals the host makes {last} new snapshots of nothing and forgets all others of that host at once; say --min-age 7d, or keep days and weeks too"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_walk_longer_than_a_block_is_foreseen() {
        let every_ten_minutes: Vec<u64> = (0..500).map(|number| 1_800_000_000 + number * 600).collect();
        let rule = |within, minimum_age| Rule {
            keep: Keep { last: 10, daily: 30, ..Keep::default() },
            within,
            minimum_age,
            ..Rule::default()
        };
        assert_eq!(kept_for_age(&rule(30 * DAY, 7 * DAY), &every_ten_minutes), 30 * 144);
        assert_eq!(kept_for_age(&rule(0, 7 * DAY), &every_ten_minutes), 7 * 144);
        assert!(gas(&rule(0, 7 * DAY), 7 * 144) < 30_000_000);
        assert!(gas(&rule(60 * DAY, 0), 60 * 144) > 30_000_000);
        assert_eq!((kept_for_age(&rule(DAY, 0), &[]), kept_for_age(&rule(DAY, 0), &[7])), (0, 0));
        assert_eq!(gas(&Rule::all(), u64::MAX), BASE_GAS);
    }

    #[test]
    fn a_rule_of_number_alone_is_told() {
        let rule = Rule { keep: Keep { last: 3, ..Keep::default() }, ..Rule::default() };
        assert_eq!(last_alone(&rule), Some(Caution::LastAlone { last: 3 }));
        assert_eq!(last_alone(&Rule { minimum_age: DAY, ..rule.clone() }), None);
        assert_eq!(last_alone(&Rule { within: DAY, ..rule.clone() }), None);
        assert_eq!(last_alone(&Rule { keep: Keep { daily: 1, ..rule.keep }, ..rule }), None);
        assert_eq!(last_alone(&Rule::all()), None);
    }
}
