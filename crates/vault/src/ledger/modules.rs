//! The contracts beside `Vault` that the owner registered there by name.

use alloy_primitives::{Address, B256};
use blockhouse_ledger::contracts::Vault;

use super::{Ledger, LedgerError};

/// Where the modules stand that this version knows; none of those that were never registered, or are retired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modules {
    /// Tags that contracts can read.
    pub tags: Option<Address>,
    /// Who froze what.
    pub freeze: Option<Address>,
    /// The snapshots that rules of retention walk.
    pub timeline: Option<Address>,
    /// What nodes tell of themselves.
    pub alarms: Option<Address>,
}

/// The contracts whose events are the vault's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contracts {
    pub(crate) vault: Address,
    pub(crate) access: Address,
    pub(crate) modules: Modules,
}

impl Contracts {
    pub(super) fn addresses(&self) -> Vec<Address> {
        let Modules { tags, freeze, timeline, alarms } = self.modules;
        [self.vault, self.access].into_iter().chain([tags, freeze, timeline, alarms].into_iter().flatten()).collect()
    }
}

/// The names of modules, as the contract knows them.
pub(super) mod name {
    use alloy_primitives::B256;

    pub(in crate::ledger) fn of(text: &str) -> B256 {
        B256::right_padding_from(text.as_bytes())
    }

    pub(in crate::ledger) const TAGS: &str = "tags";
    pub(in crate::ledger) const FREEZE: &str = "freeze";
    pub(in crate::ledger) const TIMELINE: &str = "timeline";
    pub(in crate::ledger) const ALARMS: &str = "alarms";
}

impl Ledger {
    /// The modules as they are now.
    pub async fn modules(&self) -> Result<Modules, LedgerError> {
        Ok(Modules {
            tags: self.module(name::of(name::TAGS)).await?,
            freeze: self.module(name::of(name::FREEZE)).await?,
            timeline: self.module(name::of(name::TIMELINE)).await?,
            alarms: self.module(name::of(name::ALARMS)).await?,
        })
    }

    async fn module(&self, name: B256) -> Result<Option<Address>, LedgerError> {
        let found = self.call(self.vault, &Vault::moduleCall { name }).await?;
        Ok((!found.is_zero()).then_some(found))
    }
}
