//! Which plain objects the ledger needs, and by what a copy of each is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use blockhouse_crypto::hash;
use blockhouse_homes::{HomeError, Standing, Store, StoreError};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_sites::ObjectKey;
use blockhouse_types::{BlockHash, ObjectHash, RecipientSetHash, SnapshotId};
use bytes::Bytes;

use super::PlainError;
use crate::ledger::SnapshotRecord;
use crate::lists::Node;
use crate::objects::is_genuine;
use crate::vault::Vault;

/// By what a copy is judged.
#[derive(Debug, Clone)]
pub enum Truth {
    /// Its name is the hash of its bytes: nodes of lists, key bags.
    Name,
    /// The commit names the hash of its bytes. The id in the object proves nothing: who writes it chooses it.
    Object(ObjectHash),
    /// The host's own ledger has its bytes: blocks and handovers.
    Bytes(Bytes),
    /// Nothing on the ledger says its hash: wraps, whose recipients the commit names, and reader's maps. A copy that is not
    /// of its kind is wrong; where others differ, one of which more than half of all sites have copies is right, and without
    /// such a one nobody without a key can say which it is.
    Agreement(Option<RecipientSetHash>),
    /// What the sites agreed on: the hash of its bytes.
    Agreed([u8; 32]),
}

/// A plain object that the ledger needs at every site.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    pub(super) key: ObjectKey,
    pub(super) truth: Truth,
    /// How long it is, where that is known.
    pub(super) length: Option<u64>,
}

/// What the bytes of a copy say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Wrong,
    /// They may be right, and have this hash.
    Candidate([u8; 32]),
}

impl Needed {
    /// What these bytes are worth as a copy of it.
    pub(super) fn judge(&self, bytes: &[u8]) -> Verdict {
        let is_good = match &self.truth {
            Truth::Name => is_genuine(&self.key, bytes),
            Truth::Object(named) => SnapshotObject::hash(bytes) == *named,
            Truth::Bytes(right) => right == bytes,
            Truth::Agreed(right) => hash::content(bytes) == *right,
            Truth::Agreement(recipients) => {
                let is_of_kind = is_genuine(&self.key, bytes) && names_recipients(bytes, *recipients);
                return if is_of_kind { Verdict::Candidate(hash::content(bytes)) } else { Verdict::Wrong };
            }
        };
        if is_good { Verdict::Good } else { Verdict::Wrong }
    }
}

fn names_recipients(bytes: &[u8], recipients: Option<RecipientSetHash>) -> bool {
    recipients.is_none_or(|set| Wraps::from_bytes(bytes).is_ok_and(|wraps| wraps.set() == set))
}

pub(super) fn nodes(nodes: &[Node]) -> Vec<Needed> {
    let needed =
        |node: &Node| Needed { key: ObjectKey::List(node.hash), truth: Truth::Name, length: Some(node.length) };
    nodes.iter().map(needed).collect()
}

pub(super) fn snapshots(records: &[SnapshotRecord]) -> Vec<Needed> {
    let needed = |record: &SnapshotRecord| {
        let truth = Truth::Object(ObjectHash::new(record.commit.objectHash.0));
        Needed { key: ObjectKey::Snapshot(record.id), truth, length: None }
    };
    records.iter().map(needed).collect()
}

/// The wraps of these snapshots, each in the version that `versions` says; version 0 where it says none.
pub(super) fn wraps(records: &[SnapshotRecord], versions: &BTreeMap<SnapshotId, u32>) -> Vec<Needed> {
    let needed = |record: &SnapshotRecord| {
        let version = versions.get(&record.id).copied().unwrap_or(0);
        // The commit names the recipients of version 0; those of a later one only the owner knows.
        let recipients = (version == 0).then(|| RecipientSetHash::new(record.commit.recipients.0));
        let truth = Truth::Agreement(recipients);
        Needed { key: ObjectKey::Wraps { snapshot: record.id, version }, truth, length: None }
    };
    records.iter().map(needed).collect()
}

/// The version of a snapshot's wraps that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    pub(super) version: u32,
    /// The sites list several, and those that do not answer could make either the right one: none is spread.
    pub(super) is_disputed: bool,
}

/// Which version of a snapshot's wraps is needed, by how many of `sites` sites list each, when `silent` of them do not say: the newest
/// that more than half of all list. Without such a one it is the newest that could be it, and disputed if there are others: a rotation
/// may have left old wraps at sites that were down, and most of those that answer now may be these.
pub(super) fn version_in_use(listed: &BTreeMap<u32, usize>, sites: usize, silent: usize) -> InUse {
    let newest_with = |more: usize| {
        let is_most = |(_, count): &(&u32, &usize)| (**count + more) * 2 > sites;
        listed.iter().rev().find(is_most).map(|(version, _)| *version)
    };
    if let Some(version) = newest_with(0) {
        return InUse { version, is_disputed: false };
    }
    let most = || listed.iter().max_by_key(|(version, count)| (**count, **version)).map(|(version, _)| *version);
    let version = newest_with(silent).or_else(most).unwrap_or(0);
    InUse { version, is_disputed: listed.len() > 1 }
}

/// Whether a snapshot has a map the ledger does not say: one that any site holds is needed at all of them.
pub(super) fn maps(records: &[SnapshotRecord], listed: impl Iterator<Item = ObjectKey>) -> Vec<Needed> {
    let known: BTreeSet<SnapshotId> = records.iter().map(|record| record.id).collect();
    let keys: BTreeSet<ObjectKey> =
        listed.filter(|key| matches!(key, ObjectKey::Map { snapshot, .. } if known.contains(snapshot))).collect();
    keys.into_iter().map(|key| Needed { key, truth: Truth::Agreement(None), length: None }).collect()
}

/// The key bag in force; none before there is one.
pub(super) async fn bag(vault: &Vault) -> Result<Option<Needed>, PlainError> {
    let (version, hash) = vault.ledger().bag().await?;
    let needed = Needed { key: ObjectKey::Bag { version, hash }, truth: Truth::Name, length: None };
    Ok((version > 0).then_some(needed))
}

/// The names of blocks of the host's ledger.
pub(super) async fn block_keys(vault: &Vault, heights: Range<u64>) -> Result<Vec<ObjectKey>, PlainError> {
    let keys = |store: &Store| {
        let key =
            |(height, hash): (u64, alloy_primitives::B256)| ObjectKey::Block { height, hash: BlockHash::new(hash.0) };
        let hashes = heights.map(|height| Ok(store.hash_at(height)?.map(|hash| key((height, hash)))));
        hashes.filter_map(Result::transpose).collect::<Result<_, StoreError>>()
    };
    Ok(vault.home().own_copy()?.read(keys).await?.map_err(HomeError::from)?)
}

/// Some blocks of the host's ledger, from a height on.
pub(super) async fn blocks(vault: &Vault, from: u64, at_most: usize) -> Result<Vec<Needed>, PlainError> {
    let objects = vault.home().own_copy()?.block_objects(from, at_most).await?;
    let needed = objects.iter().map(|object| {
        let key = ObjectKey::Block { height: object.block.header.number, hash: object.hash() };
        of_bytes(key, object.encode())
    });
    Ok(needed.collect())
}

/// The markers of all handovers: each the block of its handover again.
pub(super) async fn handovers(vault: &Vault, standing: &Standing) -> Result<Vec<Needed>, PlainError> {
    let mut needed = Vec::new();
    for (number, handover) in (1..).zip(standing.keys.handovers()) {
        for object in vault.home().own_copy()?.block_objects(handover.height, 1).await? {
            let key = ObjectKey::Handover { number, hash: BlockHash::new(object.hash().to_bytes()) };
            needed.push(of_bytes(key, object.encode()));
        }
    }
    Ok(needed)
}

fn of_bytes(key: ObjectKey, bytes: Vec<u8>) -> Needed {
    Needed { key, length: Some(bytes.len() as u64), truth: Truth::Bytes(Bytes::from(bytes)) }
}

/// Which bytes are right, where only the sites can say: by the copies that each member holds. `sites` counts all members, also
/// those that are down.
pub(super) fn agreed(candidates: &BTreeMap<usize, [u8; 32]>, sites: usize) -> Option<[u8; 32]> {
    let mut votes: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for hash in candidates.values() {
        *votes.entry(*hash).or_default() += 1;
    }
    let is_undisputed = votes.len() == 1;
    let (hash, most) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    (is_undisputed || most * 2 > sites).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_are_needed_in_the_newest_version_that_a_greater_part_of_all_sites_lists() {
        let in_use = |listed: &[(u32, usize)], sites, silent| {
            let found = version_in_use(&listed.iter().copied().collect(), sites, silent);
            (found.version, found.is_disputed)
        };
        assert_eq!(in_use(&[], 6, 0), (0, false));
        assert_eq!(in_use(&[(0, 6), (1, 3)], 6, 0), (0, false), "a rotation is under way");
        assert_eq!(in_use(&[(0, 6), (1, 4)], 6, 0), (1, false));
        assert_eq!(in_use(&[(0, 5), (7, 1)], 6, 0), (0, false), "a false one");
        assert_eq!(in_use(&[(0, 1), (1, 5), (9, 1)], 6, 0), (1, false), "an old one that could not be removed");
        assert_eq!(in_use(&[(1, 3)], 6, 3), (1, false), "half of the sites are down");
        assert_eq!(
            in_use(&[(0, 2), (1, 1)], 5, 2),
            (1, true),
            "the old ones came back, and two with the new ones are away"
        );
        assert_eq!(in_use(&[(0, 3), (1, 3)], 6, 0), (1, true), "half and half");
        assert_eq!(in_use(&[(0, 2), (1, 1)], 6, 2), (0, true), "neither can be at more than half");
    }

    #[test]
    fn a_greater_part_of_all_sites_decides_and_less_does_not() {
        let held = |hashes: &[u8]| hashes.iter().enumerate().map(|(member, hash)| (member, [*hash; 32])).collect();
        assert_eq!(agreed(&held(&[]), 6), None);
        assert_eq!(agreed(&held(&[1]), 6), Some([1; 32]), "nobody says otherwise");
        assert_eq!(agreed(&held(&[1, 1, 1, 1, 2, 2]), 6), Some([1; 32]));
        assert_eq!(agreed(&held(&[1, 1, 1, 2]), 6), None, "two sites are down and may say otherwise");
        assert_eq!(agreed(&held(&[1, 2]), 2), None);
    }
}
