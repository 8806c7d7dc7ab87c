//! The last snapshot of a source and host: what a new one names as its parent, and what it is compared with.
//!
//! - **Owns** which snapshot that is, and what this host notes of it in `config.toml`.
//! - **Does not** read manifests: this host cannot open them.
//!
//! # Invariants
//! - **U1** A backup is skipped only if its tree is that of the last snapshot, which is not forgotten, and nothing had to be stored:
//!   what was lost at the sites and written again needs a snapshot that names it.
//!
//! Format: `docs/design/host-files.md`, section *config.toml*.

use std::sync::Arc;

use blockhouse_crypto::hash;
use blockhouse_types::{Encoder, SnapshotId, StripeId};

use super::commit::Prepared;
use super::walker::Tree;
use super::{BackupError, BackupReport, Run};
use crate::folder::{Config, LastEntry, SourceEntry, UpdateError};
use crate::ledger::{Recorded, SnapshotRecord};
use crate::stripes::StripeStore;

const CONTEXT: &str = "blockhouse v1 last tree";

/// The last snapshot of a source and host.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) record: SnapshotRecord,
    /// What this host noted of it.
    noted: Option<LastEntry>,
}

impl Run<'_> {
    /// The last snapshot of this source and host that is not forgotten.
    pub(super) async fn last(&self) -> Result<Option<Last>, BackupError> {
        let config = Config::load(self.vault.folder()).map_err(UpdateError::from)?;
        let snapshots = self.ledger.snapshots().await?;
        let living = snapshots.into_iter().filter(|record| record.source == self.source && !record.forgotten);
        let living: Vec<SnapshotRecord> = living.collect();
        let Some(entry) = config.sources.get(&self.source) else { return Ok(None) };
        let noted = entry.last.get(&self.request.host);
        let id = last_of(entry, &self.request.host, living.iter().map(|record| record.id));
        let record = living.into_iter().find(|record| Some(record.id) == id);
        Ok(record.map(|record| Last { noted: noted.filter(|noted| noted.snapshot == record.id).cloned(), record }))
    }

    /// If the source is as in its last snapshot and that is to be no snapshot: the report about it (U1).
    pub(super) async fn unchanged(
        &self,
        done: &Prepared,
        stripes: &Arc<StripeStore>,
    ) -> Result<Option<BackupReport>, BackupError> {
        if !self.request.skip_if_unchanged || done.stored.written > 0 {
            return Ok(None);
        }
        let Some(last) = self.last().await? else { return Ok(None) };
        if last.noted.is_none_or(|noted| noted.tree != tree_hash(&done.tree)) {
            return Ok(None);
        }
        let needed: Vec<StripeId> = done.stored.stripes.iter().copied().collect();
        let durability = self.durability(stripes, &needed, &done.stored.refusals).await?;
        Ok(Some(BackupReport {
            refusals: done.stored.refusals.clone(),
            warnings: Vec::new(),
            snapshot: last.record.id,
            source: self.source,
            recorded: Recorded { block: last.record.block, transaction: last.record.transaction },
            findings: done.tree.findings.clone(),
            new_bytes: done.stored.new_bytes,
            stored_bytes: done.stored.pack_bytes,
            stripes: done.stored.written,
            durability,
            plan: stripes.plan_durability(),
            is_skipped: true,
        }))
    }

    /// Notes the snapshot on this host: its tags by name, for the ledger has commitments of them only, and its tree.
    pub(super) fn remember(&self, snapshot: SnapshotId, tree: &Tree) -> Result<(), UpdateError> {
        let last = LastEntry { snapshot, tree: tree_hash(tree) };
        Config::update(self.vault.folder(), |config| {
            if let Some(entry) = config.sources.get_mut(&self.source) {
                entry.last.insert(self.request.host.clone(), last);
                if !self.request.tags.is_empty() {
                    entry.tags.insert(snapshot.to_string(), self.request.tags.clone());
                }
            }
        })?;
        Ok(())
    }
}

/// Which of a source's living snapshots, oldest first, is the last of a host. Where nothing was noted, by an older version or before a
/// recovery, all are of the host that the source was entered with.
fn last_of(
    entry: &SourceEntry,
    host: &str,
    mut living: impl DoubleEndedIterator<Item = SnapshotId> + Clone,
) -> Option<SnapshotId> {
    let is_only_host = if entry.last.is_empty() { entry.host == host } else { entry.last.len() == 1 };
    match entry.last.get(host) {
        Some(noted) if living.clone().any(|id| id == noted.snapshot) => Some(noted.snapshot),
        // The noted one is forgotten, or nothing was noted.
        Some(_) if is_only_host => living.next_back(),
        None if entry.last.is_empty() && is_only_host => living.next_back(),
        Some(_) | None => None,
    }
}

fn tree_hash(tree: &Tree) -> String {
    let mut encoder = Encoder::new();
    tree.root.encode(&mut encoder);
    hex::encode(hash::hash(CONTEXT, &encoder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(number: u8) -> SnapshotId {
        SnapshotId::new([number; 32])
    }

    fn entry(noted: &[(&str, u8)]) -> SourceEntry {
        let last = |number| LastEntry { snapshot: id(number), tree: String::new() };
        let last = noted.iter().map(|(host, number)| ((*host).to_owned(), last(*number))).collect();
        SourceEntry { host: "one".to_owned(), last, ..SourceEntry::default() }
    }

    #[test]
    fn a_parent_is_of_the_same_host() {
        let living = [1, 2, 3, 4].map(id);
        let of = |entry: &SourceEntry, host| last_of(entry, host, living.into_iter());
        let both = entry(&[("one", 2), ("other", 3)]);
        assert_eq!((of(&both, "one"), of(&both, "other"), of(&both, "third")), (Some(id(2)), Some(id(3)), None));
        let gone = entry(&[("one", 9), ("other", 3)]);
        assert_eq!(of(&gone, "one"), None, "the others may be of the other host");
        assert_eq!(of(&entry(&[("one", 9)]), "one"), Some(id(4)));
        let unnoted = entry(&[]);
        assert_eq!((of(&unnoted, "one"), of(&unnoted, "other")), (Some(id(4)), None));
        assert_eq!(last_of(&unnoted, "one", std::iter::empty()), None);
    }
}
