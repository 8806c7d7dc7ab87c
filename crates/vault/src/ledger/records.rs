//! The vault's events, read into records.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::Log;
use alloy_sol_types::SolEventInterface;
use blockhouse_ledger::Event;
use blockhouse_ledger::contracts::Access::AccessEvents;
use blockhouse_ledger::contracts::Vault::{Commit, VaultEvents};
use blockhouse_types::{Account, Durability, SnapshotId, SourceId};

use super::{LedgerError, account};

/// One event of the vault's contracts.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// The height of its block.
    pub block: u64,
    /// The time of its block, seconds since 1970.
    pub time: u64,
    /// Its transaction.
    pub transaction: B256,
    /// Which log of that block.
    pub log: u64,
    /// What it says.
    pub event: Event,
}

/// Everything the vault's contracts said, in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The events.
    pub entries: Vec<HistoryEntry>,
}

impl History {
    pub(super) fn read(logs: &[Log], vault: Address, access: Address) -> Result<Self, LedgerError> {
        let mut entries = Vec::with_capacity(logs.len());
        for log in logs {
            let block = log.block_number.unwrap_or_default();
            let failed = |source| LedgerError::Log { block, source: Box::new(source) };
            let event = match log.address() {
                address if address == vault => Event::Vault(VaultEvents::decode_log(&log.inner).map_err(failed)?.data),
                address if address == access => {
                    Event::Access(AccessEvents::decode_log(&log.inner).map_err(failed)?.data)
                }
                _ => continue,
            };
            entries.push(HistoryEntry {
                block,
                time: log.block_timestamp.unwrap_or_default(),
                transaction: log.transaction_hash.unwrap_or_default(),
                log: log.log_index.unwrap_or_default(),
                event,
            });
        }
        Ok(Self { entries })
    }
}

/// A verification, as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyRecord {
    /// How much of the data was read, in hundredths of a percent.
    pub data_basis_points: u16,
    /// Shards that were not there.
    pub missing: u32,
    /// Shards that were not what they should be.
    pub damaged: u32,
    /// Whether every stripe could be read.
    pub ok: bool,
}

/// A snapshot, as the ledger knows it.
#[derive(Debug, Clone)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// Its source.
    pub source: SourceId,
    /// Who committed it.
    pub writer: Account,
    /// What the commit said.
    pub commit: Commit,
    /// The height of its block.
    pub block: u64,
    /// The time of its block, seconds since 1970.
    pub time: u64,
    /// Its transaction.
    pub transaction: B256,
    /// True once it was forgotten.
    pub forgotten: bool,
    /// Its durability as recorded last.
    pub durability: Durability,
    /// Its last verification and when that was.
    pub verified: Option<(u64, VerifyRecord)>,
}

/// The snapshots in a history, in the order of their commits.
pub fn snapshots_of(history: &History) -> Vec<SnapshotRecord> {
    let mut snapshots = Snapshots::default();
    history.entries.iter().for_each(|entry| snapshots.take(entry));
    snapshots.into_records()
}

/// Snapshots while the history is read.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    records: Vec<SnapshotRecord>,
    places: BTreeMap<B256, usize>,
}

impl Snapshots {
    pub(crate) fn into_records(self) -> Vec<SnapshotRecord> {
        self.records
    }

    /// Takes in the next event.
    pub(crate) fn take(&mut self, entry: &HistoryEntry) {
        let Event::Vault(event) = &entry.event else { return };
        match event {
            VaultEvents::SnapshotCommitted(committed) => {
                self.places.insert(committed.snapshot, self.records.len());
                let Commit { d, w, wd, .. } = committed.data;
                self.records.push(SnapshotRecord {
                    id: SnapshotId::new(committed.snapshot.0),
                    source: SourceId::new(committed.source.0),
                    writer: account(committed.writer),
                    commit: committed.data.clone(),
                    block: entry.block,
                    time: entry.time,
                    transaction: entry.transaction,
                    forgotten: false,
                    durability: Durability { d, w, wd },
                    verified: None,
                });
            }
            VaultEvents::SnapshotForgotten(forgotten) => {
                if let Some(record) = self.known(&forgotten.snapshot) {
                    record.forgotten = true;
                }
            }
            VaultEvents::HealthRecorded(health) => {
                if let Some(record) = self.known(&health.snapshot) {
                    record.durability = Durability { d: health.d, w: health.w, wd: health.wd };
                }
            }
            VaultEvents::VerifyRecorded(verify) => {
                if let Some(record) = self.known(&verify.snapshot) {
                    let outcome = VerifyRecord {
                        data_basis_points: verify.dataBasisPoints,
                        missing: verify.missing,
                        damaged: verify.damaged,
                        ok: verify.ok,
                    };
                    record.verified = Some((entry.time, outcome));
                }
            }
            _ => {}
        }
    }

    fn known(&mut self, id: &B256) -> Option<&mut SnapshotRecord> {
        self.places.get(id).and_then(|place| self.records.get_mut(*place))
    }
}
