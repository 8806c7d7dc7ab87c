//! What the ledger has of its own blocks' anchors: recorded in `Anchors`, and read from its events.

use alloy_primitives::Address;
use alloy_sol_types::SolEvent;
use blockhouse_ledger::contracts::Anchors;
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;
use blockhouse_ledger::{Contract, Event};

use super::{Ledger, LedgerError};

/// What was said in `Anchors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorRecord {
    /// When, in the ledger's seconds.
    pub time: u64,
    /// In which of its blocks.
    pub block: u64,
    /// What.
    pub event: AnchorsEvents,
}

impl Ledger {
    /// The contract `Anchors`.
    pub async fn anchors_contract(&self) -> Result<Address, LedgerError> {
        let found = self.modules().await?.anchors;
        found.ok_or(LedgerError::NoModule { name: Contract::Anchors.name() })
    }

    /// Records an anchor. An enrolled account.
    pub async fn record_anchor(&self, record: &Anchors::recordCall) -> Result<(), LedgerError> {
        let to = self.anchors_contract().await?;
        self.send(to, record).await.map(drop)
    }

    /// All that was said of anchors and by witnesses, in order. Whoever is enrolled may say anything there.
    pub async fn anchor_records(&self) -> Result<Vec<AnchorRecord>, LedgerError> {
        let mut records = Vec::new();
        let kinds = [Anchors::Anchored::SIGNATURE_HASH, Anchors::Cosigned::SIGNATURE_HASH];
        self.scan(&kinds, |page| {
            records.extend(page.entries.into_iter().filter_map(|entry| match entry.event {
                Event::Anchors(event) => Some(AnchorRecord { time: entry.time, block: entry.block, event }),
                _ => None,
            }));
        })
        .await?;
        Ok(records)
    }
}
