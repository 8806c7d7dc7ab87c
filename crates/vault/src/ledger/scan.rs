//! Reads the vault's events page by page: no answer holds more than its home gives at once, however long the ledger is.

use std::sync::Arc;

use alloy_network::Ethereum;
use alloy_primitives::B256;
use alloy_provider::Provider;
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::SolEvent;
use blockhouse_ledger::Event;
use blockhouse_ledger::contracts::Access::AccessEvents;
use blockhouse_ledger::contracts::{Access, Tags, Vault};

use super::records::Snapshots;
use super::{
    Contracts, History, HistoryEntry, Ledger, LedgerError, RecoveryChange, RecoveryStep, SnapshotRecord, account,
};

/// The blocks of the first page.
const PAGE_BLOCKS: u64 = 16_384;

/// The events that make a snapshot's record. Blocks without any of them are passed over by their headers. What a host has kept
/// under another list is not used.
pub(crate) const OF_SNAPSHOTS: [B256; 6] = [
    Vault::SnapshotCommitted::SIGNATURE_HASH,
    Vault::SnapshotForgotten::SIGNATURE_HASH,
    Vault::HealthRecorded::SIGNATURE_HASH,
    Vault::VerifyRecorded::SIGNATURE_HASH,
    Tags::Tagged::SIGNATURE_HASH,
    Tags::Untagged::SIGNATURE_HASH,
];

impl Ledger {
    /// Everything the vault's contracts said, in order.
    pub async fn history(&self) -> Result<History, LedgerError> {
        let mut history = History::default();
        self.scan(&[], |page| history.entries.extend(page.entries)).await?;
        Ok(history)
    }

    /// Every snapshot that was committed, in order, forgotten ones too.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotRecord>, LedgerError> {
        Ok(Arc::unwrap_or_clone(self.shared_snapshots().await?))
    }

    /// The same for those who take few of them: what the host has kept is not copied.
    pub(crate) async fn shared_snapshots(&self) -> Result<Arc<Vec<SnapshotRecord>>, LedgerError> {
        if let Some(summary) = self.kept().await {
            return Ok(Arc::clone(&summary.snapshots));
        }
        // Asked first: later ones only add to it.
        let counted = if self.home_signs { self.snapshot_count().await? } else { 0 };
        let (contracts, height) = (self.contracts().await?, self.height().await?);
        let mut snapshots = Snapshots::default();
        self.read_snapshots(&contracts, (0, height), &mut snapshots).await?;
        let records = snapshots.into_records();
        if (records.len() as u64) < counted {
            return Err(LedgerError::LeftOut { counted, seen: records.len() as u64 });
        }
        Ok(Arc::new(records))
    }

    /// Takes in what these contracts say of snapshots in these blocks.
    pub(crate) async fn read_snapshots(
        &self,
        contracts: &Contracts,
        (first, last): (u64, u64),
        into: &mut Snapshots,
    ) -> Result<(), LedgerError> {
        let filter = Filter::new().address(contracts.addresses()).event_signature(OF_SNAPSHOTS.to_vec());
        self.pages(&filter, (first, last), |logs| {
            History::read(&logs, contracts)?.entries.iter().for_each(|entry| into.take(entry));
            Ok(())
        })
        .await
    }

    /// The vault's contracts and its modules as they are now: their events alone are read.
    pub(crate) async fn contracts(&self) -> Result<Contracts, LedgerError> {
        Ok(Contracts { vault: self.vault, access: self.access, modules: self.modules().await? })
    }

    /// How it came to be who may hand the ledger over, in order.
    pub async fn recovery_changes(&self) -> Result<Vec<RecoveryChange>, LedgerError> {
        let change = |entry: HistoryEntry| {
            let step = match &entry.event {
                Event::Access(AccessEvents::RecoveryAdded(added)) => RecoveryStep::Added(account(added.who)),
                Event::Access(AccessEvents::RecoveryRemoved(removed)) => RecoveryStep::Removed(account(removed.who)),
                Event::Access(AccessEvents::RecoveryThresholdSet(set)) => {
                    RecoveryStep::Threshold(set.threshold.saturating_to())
                }
                _ => return None,
            };
            Some(RecoveryChange { block: entry.block, step })
        };
        let mut changes = Vec::new();
        let wanted = [
            Access::RecoveryAdded::SIGNATURE_HASH,
            Access::RecoveryRemoved::SIGNATURE_HASH,
            Access::RecoveryThresholdSet::SIGNATURE_HASH,
        ];
        self.scan(&wanted, |page| changes.extend(page.entries.into_iter().filter_map(change))).await?;
        Ok(changes)
    }

    /// The events of these kinds, or all of them, of the vault's contracts and of its modules as they are now.
    pub(super) async fn scan(&self, kinds: &[B256], mut take: impl FnMut(History)) -> Result<(), LedgerError> {
        let contracts = self.contracts().await?;
        let filter = Filter::new().address(contracts.addresses());
        let filter = if kinds.is_empty() { filter } else { filter.event_signature(kinds.to_vec()) };
        let height = self.height().await?;
        self.pages(&filter, (0, height), |logs| {
            take(History::read(&logs, &contracts)?);
            Ok(())
        })
        .await
    }

    async fn pages(
        &self,
        filter: &Filter,
        (mut first, height): (u64, u64),
        mut take: impl FnMut(Vec<Log>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut blocks = PAGE_BLOCKS;
        while first <= height {
            let last = height.min(first.saturating_add(blocks - 1));
            match self.page(filter.clone().from_block(first).to_block(last)).await {
                Ok(logs) => {
                    take(logs)?;
                    first = last + 1;
                    // Grows slowly: where events are dense, every refusal costs a page's work.
                    blocks = PAGE_BLOCKS.min(blocks + blocks.div_ceil(8));
                }
                Err(LedgerError::LimitExceeded { .. }) if last > first => blocks = (last - first).div_ceil(2),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn page(&self, filter: Filter) -> Result<Vec<Log>, LedgerError> {
        Provider::<Ethereum>::get_logs(&self.provider, &filter).await.map_err(LedgerError::from)
    }
}
