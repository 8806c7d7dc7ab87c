//! Verifying: is everything that snapshots need at the sites, and is it what it should be?
//!
//! - **Owns** which stripes and objects are looked at and what is recorded of the outcome.
//! - **Does not** mend anything: `repair` does.
//!
//! Without the identity, every shard can be checked and no plain text; with it, also that the public stripe list covers every
//! chunk that is read (L1), and that files open to their hashes.
//!
//! # Invariants
//! - **V1** What was found is reported, whether or not the ledger takes it.
//! - **V2** Only a host with the writer's secrets writes, and only ledger blocks: from any other folder nothing at a site changes.

mod contents;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockhouse_sites::{ObjectKey, SiteName};
use blockhouse_types::{SnapshotId, StripeId};
use futures::stream::{self, StreamExt};

pub use self::report::{OpenedFiles, ShardFlaw, VerifyReport};
use crate::health::{self, Found};
use crate::ledger::{LedgerError, SnapshotRecord, VerifyRecord};
use crate::lists;
use crate::plain::{self, Act, PlainError};
use crate::progress::Progress;
use crate::recording::{NotRecorded, Recording};
use crate::select::Known;
use crate::stripes::{Depth, PACKS_IN_FLIGHT, Presence, StripeStore};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyRequest {
    /// How much of the data is read, in hundredths of a percent: of stripes, of objects, and with the identity of each snapshot's
    /// files; none: names and sizes only.
    pub data_basis_points: Option<u16>,
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The ledger.
    #[error("the ledger could not be used")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] blockhouse_homes::HomeError),
    /// A task ended early.
    #[error("a task of the verification was stopped")]
    Stopped(#[source] tokio::task::JoinError),
    /// The user stopped it. Nothing is recorded.
    #[error("the verification was interrupted")]
    Interrupted,
}

impl From<PlainError> for VerifyError {
    fn from(error: PlainError) -> Self {
        match error {
            PlainError::Ledger(error) => Self::Ledger(error),
            PlainError::Home(error) => Self::Home(error),
            PlainError::Interrupted => Self::Interrupted,
        }
    }
}

/// Verifies snapshots, and records the outcome if this host is a writer.
///
/// Looks at [`PACKS_IN_FLIGHT`] stripes at a time, so that what is read holds two packs at most.
pub async fn verify(
    vault: &Vault,
    snapshots: Vec<Known>,
    unlocked: Option<&Unlocked>,
    request: VerifyRequest,
    progress: &Arc<Progress>,
) -> Result<VerifyReport, VerifyError> {
    let stripes = vault.stripes().await?;
    let records: Vec<SnapshotRecord> = snapshots.iter().map(|known| known.record.clone()).collect();
    let needed = lists::read_union(vault.sites(), &records).await;
    let height = vault.kept_height().await?;
    progress.expect_steps(needed.stripes.len() as u64 + plain::expected_steps(&records, &needed.nodes, height));
    let mut report = VerifyReport {
        snapshots: records.len() as u64,
        plan: Some(stripes.plan_durability()),
        ..VerifyReport::default()
    };
    let presence = stripes.presence().await;
    check_stripes((&stripes, &presence), &needed.stripes, request, progress, &mut report).await?;
    report.lists = needed.unread;
    let looking = plain::Request { data_basis_points: request.data_basis_points, act: Act::Look };
    report.plain = plain::survey(vault, &records, &needed.nodes, looking, progress).await?;
    judge(vault, (&stripes, &presence), &records, &mut report).await;
    if let (Some(unlocked), Some(basis_points)) = (unlocked, request.data_basis_points) {
        let found = contents::open((vault, unlocked), snapshots, basis_points, progress).await?;
        report.broken.extend(found.broken);
        report.files = Some(found.files);
    }
    report.recording = record(vault, &records, &report, request).await;
    vault.keep_summary().await;
    Ok(report)
}

/// Looks at every stripe, several at a time.
async fn check_stripes(
    (stripes, presence): (&StripeStore, &Presence),
    needed: &BTreeSet<StripeId>,
    request: VerifyRequest,
    progress: &Progress,
    report: &mut VerifyReport,
) -> Result<(), VerifyError> {
    let drawn = plain::draw(needed.len(), request.data_basis_points);
    let depths = drawn.into_iter().map(|is_drawn| if is_drawn { Depth::Data } else { Depth::Names });
    let checks = needed.iter().zip(depths).map(|(stripe, depth)| stripes.check(presence, *stripe, depth));
    let mut checks = stream::iter(checks).buffered(PACKS_IN_FLIGHT);
    while let Some(findings) = checks.next().await {
        if progress.is_interrupted() {
            return Err(VerifyError::Interrupted);
        }
        report.take(findings);
        progress.add_step();
    }
    Ok(())
}

/// Says of each snapshot what it lacks, and what they survive: no more than what describes them does.
async fn judge(
    vault: &Vault,
    (stripes, presence): (&StripeStore, &Presence),
    records: &[SnapshotRecord],
    report: &mut VerifyReport,
) {
    let lost: BTreeSet<StripeId> = report.unreadable.iter().copied().collect();
    let found = Found { stripes, presence, whereabouts: &report.plain.whereabouts, lost: &lost };
    let assessed = health::assess(vault, records, found).await;
    for health in &assessed {
        let id = health.snapshot;
        let lacking = report.plain.gone.iter().filter(|object| describes(object, id));
        let mut broken: Vec<_> =
            lacking.map(|object| (id, format!("no site that is up gives a good copy of {object}"))).collect();
        if health.is_list_lost() {
            broken.push((id, "no site that is up gives its stripe list".to_owned()));
        }
        if health.lost_stripes > 0 {
            let why = format!("stripes with too few good shards to be read: {}", health.lost_stripes);
            broken.push((id, why));
        }
        report.broken.extend(broken);
    }
    if !assessed.is_empty() {
        let least = report.durability.unwrap_or(stripes.plan_durability());
        report.durability = Some(health::cap(least, &assessed));
    }
}

/// True for what a snapshot cannot be opened without.
fn describes(object: &ObjectKey, id: SnapshotId) -> bool {
    match object {
        ObjectKey::Snapshot(snapshot) | ObjectKey::Wraps { snapshot, .. } => *snapshot == id,
        _ => false,
    }
}

/// Records the outcome, and copies the blocks of that to the sites.
async fn record(vault: &Vault, records: &[SnapshotRecord], report: &VerifyReport, request: VerifyRequest) -> Recording {
    if vault.secrets().is_none() {
        return Recording::NoWriter;
    }
    let recorded = async || -> Result<(), NotRecorded> {
        record_outcome(vault, records, report, request).await?;
        Ok(crate::blocks::copy_all(vault).await?)
    };
    recorded().await.into()
}

async fn record_outcome(
    vault: &Vault,
    records: &[SnapshotRecord],
    report: &VerifyReport,
    request: VerifyRequest,
) -> Result<(), LedgerError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let count = |shards: &BTreeMap<SiteName, u64>, plain: &BTreeMap<SiteName, u64>| {
        u32::try_from(shards.values().chain(plain.values()).sum::<u64>()).unwrap_or(u32::MAX)
    };
    let outcome = VerifyRecord {
        data_basis_points: request.data_basis_points.unwrap_or(0),
        missing: count(&report.missing, &report.plain.missing),
        damaged: count(&report.damaged, &report.plain.damaged),
        ok: report.is_clean(),
    };
    // The newest snapshot of each source stands for the run.
    let mut newest = BTreeMap::new();
    for snapshot in records {
        newest.insert(snapshot.source, snapshot.id);
    }
    for snapshot in newest.into_values() {
        ledger.record_verify(snapshot, outcome).await?;
    }
    Ok(())
}
