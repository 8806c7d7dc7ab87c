//! Alarms of backups that do not come: how the owner asks for them and ends them.
//!
//! The ledger itself tells that a source is overdue, and that it has resumed: a network at the end of every block, a ledger that one host
//! seals at the end of each of its own, from the first alarm on.
//!
//! - **Owns** the order of the steps.
//! - **Does not** decide what is late: `Automation` does, and readers compare with the clock.
//!
//! Contract: `docs/design/contracts.md`, section *Automation*.

use std::collections::BTreeSet;

use blockhouse_homes::{Home, HomeError};
use blockhouse_types::SourceId;

use crate::ledger::LedgerError;
use crate::retention::{self, RetentionError};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// The longest that a backup may be allowed to be away: `Automation.MAX_INTERVAL_SECONDS`.
pub const MOST_SECONDS: u64 = 3_650 * 86_400;

/// Why an alarm could not be asked for or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlarmError {
    /// An outside chain calls nothing by itself.
    #[error("the ledger of this vault is on an outside chain, which raises no alarm by itself")]
    Outside,
    /// The contract takes no such age.
    #[error("an alarm after {seconds} s cannot be asked for: between 1 and {MOST_SECONDS} can")]
    Age { seconds: u64 },
    /// There is nothing to end.
    #[error("there is no alarm for source {source_id}")]
    NotSet { source_id: SourceId },
    /// The ledger.
    #[error("the ledger did not take the change")]
    Ledger(#[from] LedgerError),
    /// The home of the ledger.
    #[error("the ledger's home failed")]
    Home(#[from] HomeError),
    /// The owner's account, or the copies of the block.
    #[error(transparent)]
    Owner(#[from] RetentionError),
}

/// Asks for an alarm when the last backup of one of these sources is older than so many seconds.
///
/// What has to tick is made first, in a block of its own: a kill behind it leaves a ledger that ticks and watches nothing.
pub async fn set(
    vault: &Vault,
    unlocked: &Unlocked,
    sources: &BTreeSet<SourceId>,
    seconds: u64,
) -> Result<(), AlarmError> {
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(AlarmError::Age { seconds });
    }
    let Home::Own(home) = vault.home() else { return Err(AlarmError::Outside) };
    let owner = retention::owner(vault, unlocked).await?;
    home.begin_own_calls().await?;
    vault.ledger_as(&owner).set_intervals(&owner, sources.iter().copied(), seconds).await?;
    Ok(retention::conclude(vault).await?)
}

/// Ends the alarms of these sources; each must have one.
pub async fn unset(vault: &Vault, unlocked: &Unlocked, sources: &BTreeSet<SourceId>) -> Result<(), AlarmError> {
    let watched: BTreeSet<SourceId> = vault.ledger().watches().await?.iter().map(|watch| watch.source).collect();
    if let Some(source_id) = sources.difference(&watched).next().copied() {
        return Err(AlarmError::NotSet { source_id });
    }
    let owner = retention::owner(vault, unlocked).await?;
    vault.ledger_as(&owner).set_intervals(&owner, sources.iter().copied(), 0).await?;
    Ok(retention::conclude(vault).await?)
}
