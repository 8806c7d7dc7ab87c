//! The vault's events, read into records.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;
use alloy_rpc_types_eth::Log;
use blockhouse_ledger::contracts::Tags::TagsEvents;
use blockhouse_ledger::contracts::Vault::{Commit, VaultEvents};
use blockhouse_ledger::{Contract, Event};
use blockhouse_types::{Account, Durability, SnapshotId, SourceId};

use super::{Contracts, LedgerError, account};

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
    pub(super) fn read(logs: &[Log], contracts: &Contracts) -> Result<Self, LedgerError> {
        let mut entries = Vec::with_capacity(logs.len());
        for log in logs {
            let block = log.block_number.unwrap_or_default();
            let Some(contract) = contracts.at(log.address()) else { continue };
            let event = match Event::of(contract, &log.inner) {
                Ok(event) => event,
                // What the owner registered under the name may be a later kind of it, with events of its own.
                Err(_) if Contract::MODULES.contains(&contract) => continue,
                Err(source) => return Err(LedgerError::Log { block, source: Box::new(source) }),
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
    /// The height of the block that says so.
    pub forgotten_in: Option<u64>,
    /// Its tags now: those of its commit and those added since, without those taken away.
    pub tags: BTreeSet<B256>,
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

/// Tags that came before the commit of their snapshot, as those of a backup do.
pub(crate) type EarlyTags = BTreeMap<B256, BTreeSet<B256>>;

/// Snapshots while the history is read.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    records: Vec<SnapshotRecord>,
    places: BTreeMap<B256, usize>,
    early: EarlyTags,
}

impl Snapshots {
    /// Goes on where reading ended before, with what it had come to then.
    pub(crate) fn resume(records: Vec<SnapshotRecord>, early: EarlyTags) -> Self {
        let place = |(place, record): (usize, &SnapshotRecord)| (B256::new(record.id.to_bytes()), place);
        let places = records.iter().enumerate().map(place).collect();
        Self { records, places, early }
    }

    pub(crate) fn into_records(self) -> Vec<SnapshotRecord> {
        self.records
    }

    /// All that [`Self::resume`] goes on with.
    pub(crate) fn into_parts(self) -> (Vec<SnapshotRecord>, EarlyTags) {
        (self.records, self.early)
    }

    /// Takes in the next event.
    pub(crate) fn take(&mut self, entry: &HistoryEntry) {
        match &entry.event {
            Event::Vault(event) => self.take_vault(entry, event),
            Event::Tags(event) => self.take_tags(event),
            _ => {}
        }
    }

    fn take_vault(&mut self, entry: &HistoryEntry, event: &VaultEvents) {
        match event {
            VaultEvents::SnapshotCommitted(committed) => {
                let mut tags = self.early.remove(&committed.snapshot).unwrap_or_default();
                tags.extend(&committed.data.tags);
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
                    forgotten_in: None,
                    tags,
                    durability: Durability { d, w, wd },
                    verified: None,
                });
            }
            VaultEvents::SnapshotForgotten(forgotten) => {
                if let Some(record) = self.known(&forgotten.snapshot) {
                    record.forgotten = true;
                    record.forgotten_in = Some(entry.block);
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

    fn take_tags(&mut self, event: &TagsEvents) {
        match event {
            TagsEvents::Tagged(tagged) => {
                let (snapshot, tag) = (tagged.snapshot, tagged.tag);
                match self.known(&snapshot) {
                    Some(record) => drop(record.tags.insert(tag)),
                    None => drop(self.early.entry(snapshot).or_default().insert(tag)),
                }
            }
            TagsEvents::Untagged(untagged) => {
                if let Some(record) = self.known(&untagged.snapshot) {
                    record.tags.remove(&untagged.tag);
                }
            }
        }
    }

    fn known(&mut self, id: &B256) -> Option<&mut SnapshotRecord> {
        self.places.get(id).and_then(|place| self.records.get_mut(*place))
    }
}

#[cfg(test)]
mod tests {
    use blockhouse_ledger::contracts::{Tags, Vault};

    use super::*;

    const FIRST: B256 = B256::repeat_byte(1);
    const SECOND: B256 = B256::repeat_byte(2);

    fn committed(snapshot: B256) -> Event {
        let (source, writer) = (B256::repeat_byte(3), alloy_primitives::Address::repeat_byte(4));
        let data = Commit { snapshot, source, tags: vec![B256::repeat_byte(5)], ..Commit::default() };
        Event::Vault(VaultEvents::SnapshotCommitted(Vault::SnapshotCommitted { source, snapshot, writer, data }))
    }

    fn tagged(snapshot: B256, tag: u8) -> Event {
        let (tag, by) = (B256::repeat_byte(tag), alloy_primitives::Address::ZERO);
        Event::Tags(TagsEvents::Tagged(Tags::Tagged { snapshot, tag, by }))
    }

    fn verified(snapshot: B256, ok: bool) -> Event {
        let (source, by) = (B256::repeat_byte(3), alloy_primitives::Address::ZERO);
        let (missing, damaged) = (u32::from(!ok), 0);
        let record = Vault::VerifyRecorded { source, snapshot, by, dataBasisPoints: 10_000, missing, damaged, ok };
        Event::Vault(VaultEvents::VerifyRecorded(record))
    }

    /// Tags come before the commit that they are of, and what is said of a snapshot may come long after it, also once it is forgotten.
    fn events() -> Vec<Event> {
        let by = alloy_primitives::Address::ZERO;
        let untagged = Tags::Untagged { snapshot: FIRST, tag: B256::repeat_byte(6), by };
        let health = Vault::HealthRecorded { snapshot: FIRST, by, d: 3, w: 2, wd: 1 };
        let late = Vault::HealthRecorded { snapshot: SECOND, by, d: 4, w: 3, wd: 2 };
        vec![
            tagged(FIRST, 6),
            committed(FIRST),
            tagged(SECOND, 7),
            tagged(FIRST, 8),
            committed(SECOND),
            Event::Tags(TagsEvents::Untagged(untagged)),
            Event::Vault(VaultEvents::HealthRecorded(health)),
            verified(FIRST, true),
            Event::Vault(VaultEvents::SnapshotForgotten(Vault::SnapshotForgotten { snapshot: SECOND, by })),
            tagged(SECOND, 9),
            Event::Vault(VaultEvents::HealthRecorded(late)),
            verified(SECOND, false),
        ]
    }

    #[test]
    fn reading_that_goes_on_later_comes_to_the_same() {
        let entry =
            |(block, event): (u64, Event)| HistoryEntry { block, time: block + 100, transaction: FIRST, log: 0, event };
        let entries: Vec<HistoryEntry> = (0..).zip(events()).map(entry).collect();
        let whole = snapshots_of(&History { entries: entries.clone() });
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0].tags, BTreeSet::from([5, 8].map(B256::repeat_byte)));
        assert_eq!(whole[1].tags, BTreeSet::from([5, 7, 9].map(B256::repeat_byte)));
        assert_eq!((whole[0].durability.d, whole[1].durability.d, whole[1].forgotten_in), (3, 4, Some(8)));
        let verified = whole.iter().map(|record| record.verified.map(|(time, outcome)| (time, outcome.ok)));
        assert_eq!(verified.collect::<Vec<_>>(), [Some((107, true)), Some((111, false))]);
        for cut in 0..=entries.len() {
            let (before, after) = entries.split_at(cut);
            let mut snapshots = Snapshots::default();
            for entry in before {
                snapshots.take(entry);
            }
            let (records, early) = snapshots.into_parts();
            let mut snapshots = Snapshots::resume(records, early);
            for entry in after {
                snapshots.take(entry);
            }
            assert_eq!(format!("{:?}", snapshots.into_records()), format!("{whole:?}"), "cut at {cut}");
        }
    }
}
