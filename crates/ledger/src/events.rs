//! The ledger's events as `history` reads them.
//!
//! - **Owns** which logs are events of this vault: those of its own two contracts, and of the modules that it names.
//! - **Does not** name or order them for people.

use alloy_primitives::Log;
use alloy_sol_types::SolEventInterface;

use crate::contracts::Access::AccessEvents;
use crate::contracts::Alarms::AlarmsEvents;
use crate::contracts::Freeze::FreezeEvents;
use crate::contracts::Tags::TagsEvents;
use crate::contracts::Timeline::TimelineEvents;
use crate::contracts::Vault::VaultEvents;
use crate::genesis::Genesis;

/// An event of the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "events are read one after another, never kept in bulk")]
pub enum Event {
    /// Of `Access`: owner, writers, recovery accounts, handovers.
    Access(AccessEvents),
    /// Of `Vault`: sessions, snapshots, removal, rules.
    Vault(VaultEvents),
    /// Of the module `freeze`.
    Freeze(FreezeEvents),
    /// Of the module `tags`.
    Tags(TagsEvents),
    /// Of the module `timeline`.
    Timeline(TimelineEvents),
    /// Of the module `alarms`.
    Alarms(AlarmsEvents),
}

/// A log of one of the vault's contracts that is none of their events.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a log of contract {contract} is none of its events")]
pub struct UnknownEvent {
    contract: alloy_primitives::Address,
    #[source]
    source: alloy_sol_types::Error,
}

impl Event {
    /// The event in a log; none if the log is of a contract that is not the vault's.
    pub fn decode(genesis: &Genesis, log: &Log) -> Result<Option<Self>, UnknownEvent> {
        let unknown = |source| UnknownEvent { contract: log.address, source };
        if log.address == genesis.vault_address() {
            let event = VaultEvents::decode_log(log).map_err(unknown)?;
            return Ok(Some(Self::Vault(event.data)));
        }
        if log.address == genesis.access_address() {
            let event = AccessEvents::decode_log(log).map_err(unknown)?;
            return Ok(Some(Self::Access(event.data)));
        }
        Ok(None)
    }
}
