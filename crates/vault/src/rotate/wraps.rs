//! Manifest keys wrapped anew, snapshot by snapshot.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_crypto::{AgeIdentity, Recipient, RecipientSet, Secret};
use blockhouse_pipeline::manifest::Manifest;
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_sites::{ObjectKey, Prefix};
use blockhouse_types::{RecipientId, SnapshotId};
use bytes::Bytes;

use super::{RotateError, RotateReport};
use crate::ledger::SnapshotRecord;
use crate::progress::Progress;
use crate::publish::{Publication, TooFewCopies};
use crate::reader::OpenSnapshotError;
use crate::vault::Vault;

/// How many version numbers are tried for new wraps: others may have left files under them.
const TRIES: u32 = 8;
/// How many of the newest versions are tried that several sites list, and how many that one site alone does: a site can make up any
/// number of names, and each costs a question to all.
const VERSIONS_TRIED: usize = 8;

/// For whom keys are wrapped, and what opens them.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) wanted: &'a RecipientSet,
    pub(super) ages: &'a [AgeIdentity],
}

/// The versions of wraps that any site lists, and how many do.
type Versions = BTreeMap<SnapshotId, BTreeMap<u32, usize>>;

/// Wraps the key of every snapshot that is not forgotten, unless that was done; `done` learns the version that is for the recipients
/// of now.
pub(super) async fn rewrap(
    vault: &Vault,
    terms: Terms<'_>,
    done: &mut BTreeMap<SnapshotId, u32>,
    report: &mut RotateReport,
    progress: &Progress,
) -> Result<(), RotateError> {
    let snapshots = vault.ledger().snapshots().await?;
    let listed = listed(vault).await;
    report.forgotten = snapshots.iter().filter(|record| record.forgotten).count() as u64;
    report.unopened.clear();
    let open: Vec<&SnapshotRecord> =
        snapshots.iter().filter(|record| !record.forgotten && !done.contains_key(&record.id)).collect();
    progress.expect_steps(open.len() as u64);
    for record in open {
        if progress.is_interrupted() {
            return Err(RotateError::Interrupted);
        }
        let versions = listed.get(&record.id).cloned().unwrap_or_default();
        match unwrap(vault, terms.ages, record, &versions).await {
            Ok((key, wraps)) => {
                let (version, is_new) = one(vault, terms, record.id, &key, wraps).await?;
                *(if is_new { &mut report.rewrapped } else { &mut report.current }) += 1;
                done.insert(record.id, version);
            }
            Err(error) => report.unopened.push((record.id, error)),
        }
        progress.add_step();
    }
    Ok(())
}

async fn listed(vault: &Vault) -> Versions {
    let mut versions = Versions::new();
    for (_, site) in vault.sites().up() {
        for listed in site.list_all(Prefix::Wraps).await.unwrap_or_default() {
            if let ObjectKey::Wraps { snapshot, version } = listed.key {
                *versions.entry(snapshot).or_default().entry(version).or_default() += 1;
            }
        }
    }
    versions
}

/// Wraps one key, if its newest wraps are for others; the version, and whether it is a new one. What a run that was killed left is
/// taken up: no file is written twice.
async fn one(
    vault: &Vault,
    terms: Terms<'_>,
    snapshot: SnapshotId,
    key: &Secret,
    newest: Wraps,
) -> Result<(u32, bool), RotateError> {
    let had: BTreeSet<RecipientId> = newest.wraps().iter().map(|wrap| wrap.recipient).collect();
    // R3: owner and paper key, and of the readers those who could open it before.
    let stays = |member: &&Recipient| member.role().opens_bag() || had.contains(&member.id());
    let set = RecipientSet::try_new(terms.wanted.members().iter().filter(stays).cloned().collect())?;
    let failed = |source| RotateError::Wraps { snapshot, source };
    if set.hash() == newest.set() {
        publish(vault, &newest).await.map_err(failed)?;
        return Ok((newest.version(), false));
    }
    let mut refused = None;
    for version in (newest.version().saturating_add(1)..).take(TRIES as usize) {
        match publish(vault, &Wraps::wrap(snapshot, version, &set, key)).await {
            Ok(()) => return Ok((version, true)),
            Err(error) => refused = Some(error),
        }
    }
    let none =
        || TooFewCopies { what: "the wraps", held: 0, needed: vault.quorum(), places: "sites", failures: Vec::new() };
    Err(failed(refused.unwrap_or_else(none)))
}

/// Makes wraps durable at every site that takes them; enough must, and more than half of all, so that `repair` spreads them.
async fn publish(vault: &Vault, wraps: &Wraps) -> Result<(), TooFewCopies> {
    let key = ObjectKey::Wraps { snapshot: wraps.snapshot(), version: wraps.version() };
    let mut published = Publication::begin(vault.sites());
    published.put(vault.sites(), &key, Bytes::from(wraps.to_bytes())).await;
    let most = vault.sites().members().len() / 2 + 1;
    published.require("the wraps", vault.quorum().max(most))
}

/// The manifest key of a snapshot and the newest wraps that give it.
async fn unwrap(
    vault: &Vault,
    ages: &[AgeIdentity],
    record: &SnapshotRecord,
    versions: &BTreeMap<u32, usize>,
) -> Result<(Secret, Wraps), OpenSnapshotError> {
    let (id, hash) = (record.id, record.commit.objectHash);
    let is_right = |bytes: &[u8]| SnapshotObject::hash(bytes).to_bytes() == hash.0;
    let fetched = vault.sites().get_any(&ObjectKey::Snapshot(id), is_right).await;
    let fetched = fetched.map_err(|source| OpenSnapshotError::Fetch { id, source })?;
    let object = SnapshotObject::from_bytes(&fetched.bytes).map_err(|source| OpenSnapshotError::Form { id, source })?;
    let opened = |bytes: &[u8]| {
        let wraps = Wraps::from_bytes(bytes).ok().filter(|wraps| wraps.snapshot() == id)?;
        let keys = ages.iter().filter_map(|age| wraps.open(age).ok());
        let mut right = keys.filter(|key| Manifest::open(vault.id(), id, key, &object.sealed_manifest).is_ok());
        right.next().map(|key| (key, wraps))
    };
    for version in worth_trying(versions) {
        let key = ObjectKey::Wraps { snapshot: id, version };
        let Ok(fetched) = vault.sites().get_any(&key, |bytes| opened(bytes).is_some()).await else { continue };
        if let Some(found) = opened(&fetched.bytes).filter(|(_, wraps)| wraps.version() == version) {
            return Ok(found);
        }
    }
    Err(OpenSnapshotError::NoWraps { id })
}

/// Those of several sites first, each kind from the newest on.
fn worth_trying(versions: &BTreeMap<u32, usize>) -> Vec<u32> {
    let listed_by = |is_wanted: fn(usize) -> bool| {
        let wanted = versions.iter().rev().filter(move |(_, sites)| is_wanted(**sites));
        wanted.map(|(version, _)| *version).take(VERSIONS_TRIED)
    };
    listed_by(|sites| sites > 1).chain(listed_by(|sites| sites == 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_site_makes_up_is_tried_last_and_not_without_end() {
        let mut versions: BTreeMap<u32, usize> = (0..1_000_000).map(|version| (version, 1)).collect();
        versions.insert(0, 3);
        versions.insert(2, 2);
        let tried = worth_trying(&versions);
        assert_eq!(tried, [2, 0, 999_999, 999_998, 999_997, 999_996, 999_995, 999_994, 999_993, 999_992]);
    }
}
