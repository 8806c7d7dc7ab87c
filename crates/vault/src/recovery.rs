//! Who may hand the ledger over, and how many of them it takes, of a vault whose ledger a network keeps.
//!
//! - **Owns** what a change of that must fit, and its recording.
//! - **Does not** collect the word of others: who calls brings it.
//!
//! # Invariants
//! - **M1** Where this host seals the ledger one account is enough: whoever has the identity or the paper key recovers the vault by himself.
//!
//! Page: `docs/design/keys.md`, section *Several recovery accounts*.

use blockhouse_ledger::Genesis;
use blockhouse_ledger::contracts::Access;
use blockhouse_ledger::handover::{RecoveryChange, THRESHOLD_MAX};
use blockhouse_types::Account;

use crate::bag::{self, BagChangeError};
use crate::ledger::{LedgerError, Recovery};
use crate::publish::{Publication, TooFewCopies};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// Why the recovery accounts were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// This host seals.
    #[error("no network keeps the ledger of this vault: the owner or the paper key must be enough to recover it")]
    OneHost,
    /// A contract of the first version.
    #[error("the contract `Access` of this ledger is of the first version: one recovery account is always enough")]
    FirstVersion,
    /// It could never be reached.
    #[error(
        "{threshold} of {accounts} recovery accounts cannot agree; it takes 1 to {THRESHOLD_MAX}, and never more than there are"
    )]
    Threshold { threshold: u8, accounts: usize },
    /// It changes nothing.
    #[error("account 0x{account} is a recovery account already")]
    There { account: Account },
    /// It changes nothing.
    #[error("account 0x{account} is no recovery account")]
    NotThere { account: Account },
    /// The ledger.
    #[error("the ledger did not take the change")]
    Ledger(#[from] LedgerError),
    /// The key bag, which holds the owner's account.
    #[error(transparent)]
    Bag(#[from] BagChangeError),
    /// This host's copy of the ledger.
    #[error("the ledger's copy on this host could not be read")]
    Home(#[from] blockhouse_homes::HomeError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Who comes.
    pub added: Vec<Account>,
    /// Who goes.
    pub removed: Vec<Account>,
    /// How many it takes; as many as before, if not told.
    pub threshold: Option<u8>,
}

/// A change that may be made.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Of which ledger.
    pub genesis: Genesis,
    /// What changes.
    pub change: RecoveryChange,
    /// Who may hand it over now, and so agrees to the change.
    pub now: Recovery,
    /// Who would make it.
    pub owner: Account,
}

/// Judges a change against the ledger. Nothing is changed.
pub async fn plan(vault: &Vault, wanted: Wanted) -> Result<Planned, RecoveryError> {
    if vault.nodes().is_none() {
        return Err(RecoveryError::OneHost);
    }
    let number = match vault.ledger().count_recovery_changes().await {
        Err(LedgerError::Refused { .. } | LedgerError::Answer { .. }) => return Err(RecoveryError::FirstVersion),
        number => number?,
    };
    let (now, owner) = (vault.ledger().recovery().await?, vault.ledger().owner().await?);
    let Wanted { mut added, mut removed, threshold } = wanted;
    for list in [&mut added, &mut removed] {
        list.sort_unstable();
        list.dedup();
    }
    if let Some(account) = added.iter().find(|account| now.accounts.contains(account)) {
        return Err(RecoveryError::There { account: *account });
    }
    if let Some(account) = removed.iter().find(|account| !now.accounts.contains(account)) {
        return Err(RecoveryError::NotThere { account: *account });
    }
    let accounts = now.accounts.len() + added.len() - removed.len();
    let threshold = threshold.unwrap_or_else(|| u8::try_from(now.threshold).unwrap_or(u8::MAX));
    if threshold == 0 || usize::from(threshold) > accounts.min(THRESHOLD_MAX) {
        return Err(RecoveryError::Threshold { threshold, accounts });
    }
    let genesis = vault.home().own_copy()?.read(|store| store.genesis().clone()).await?;
    Ok(Planned { genesis, change: RecoveryChange { number, added, removed, threshold }, now, owner })
}

/// Makes it; its blocks are at the sites then.
pub async fn change(
    vault: &Vault,
    unlocked: &Unlocked,
    call: &Access::changeRecoveryCall,
) -> Result<Recovery, RecoveryError> {
    let bag = bag::settle(vault, unlocked).await?;
    vault.ledger_as(&bag.owner).change_recovery(call).await?;
    let mut published = Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), vault.standing().await?.height).await;
    published.require("the change of the recovery accounts", vault.quorum())?;
    Ok(vault.ledger().recovery().await?)
}
