//! Sources whose backups may not be older than their owner allows: what `Automation` watches.
//!
//! - **Owns** the calls of the watches, and reading them.
//! - **Does not** decide what is late: the contract does at its ticks, and whoever reads here compares with the clock.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::Contract;
use blockhouse_ledger::contracts::Automation;
use blockhouse_ledger::system::automation_address;
use blockhouse_types::SourceId;

use super::{Ledger, LedgerError, account};

/// A source that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The source.
    pub source: SourceId,
    /// How old its last commit may be, in seconds.
    pub interval: u64,
    /// Time of its last commit; until there is one, of the beginning of the watch.
    pub since: u64,
    /// The ledger has told that it is overdue, and not that it resumed.
    pub is_raised: bool,
}

impl Watch {
    /// True if its last commit is too old at that time.
    pub const fn is_late(&self, now: u64) -> bool {
        now >= self.since.saturating_add(self.interval)
    }
}

impl Ledger {
    /// Where `Automation` stands, if it does.
    pub(crate) async fn automation(&self) -> Result<Option<Address>, LedgerError> {
        // On an outside chain anybody speaks as the account that makes it.
        if self.home_signs {
            return self.module(Contract::Automation).await;
        }
        self.module_or(Contract::Automation, automation_address()).await
    }

    /// The sources that are watched, in no order.
    pub async fn watches(&self) -> Result<Vec<Watch>, LedgerError> {
        let Some(to) = self.automation().await? else { return Ok(Vec::new()) };
        let count: u64 = self.call(to, &Automation::watchedCountCall {}).await?.saturating_to();
        let mut watches = Vec::new();
        for index in 0..count {
            let source = match self.call(to, &Automation::watchedAtCall { index: U256::from(index) }).await {
                Ok(source) => source,
                // An alarm was ended meanwhile: the list is shorter now.
                Err(LedgerError::Refused { .. }) => break,
                Err(error) => return Err(error),
            };
            let found = match self.call(to, &Automation::watchCall { source }).await {
                Ok(found) => found,
                Err(LedgerError::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            watches.push(Watch {
                source: SourceId::new(source.0),
                interval: found.interval,
                since: found.since,
                is_raised: found.raised,
            });
        }
        Ok(watches)
    }

    /// Has the ledger tell at once that a source has resumed, if it told that it is overdue and there is a backup now: a tick may look at it
    /// ten minutes later only, and a ledger that one host seals may have no block then. Gives the height of the block that says so.
    pub(crate) async fn end_alarm(&self, source: SourceId) -> Result<Option<u64>, LedgerError> {
        let Some(to) = self.automation().await? else { return Ok(None) };
        let source = B256::new(source.to_bytes());
        match self.call(to, &Automation::watchCall { source }).await {
            Ok(watch) if watch.raised && !watch.late => {
                Ok(self.send(to, &Automation::lookCall { source }).await?.block_number)
            }
            // It is not watched, or there is nothing to end.
            Ok(_) | Err(LedgerError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Watches these sources with that interval; 0 ends their watches. Owner.
    pub(crate) async fn set_intervals(
        &self,
        owner: &AccountSecret,
        sources: impl IntoIterator<Item = SourceId>,
        interval: u64,
    ) -> Result<(), LedgerError> {
        let name = Contract::Automation.name();
        let to = account(self.automation().await?.ok_or(LedgerError::NoModule { name })?);
        let call = |source: SourceId| {
            let call = Automation::setBackupIntervalCall { source: B256::new(source.to_bytes()), interval };
            (to, call.abi_encode().into())
        };
        self.send_all(owner, sources.into_iter().map(call).collect()).await
    }
}
