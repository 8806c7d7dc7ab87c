//! Verifying: is everything that snapshots need at the sites, and is it what it should be?
//!
//! - **Owns** which stripes and objects are looked at and what is recorded of the outcome.
//! - **Does not** mend anything: `repair` does.
//!
//! Without the identity, every shard can be checked and no plain text; with it, also that the public stripe list covers every
//! chunk of the manifest (L1), and that every file opens to its hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::tree::{Body, EntryLeaves};
use blockhouse_sites::{ObjectKey, SiteName};
use blockhouse_types::{Durability, SnapshotId, StripeId};
use futures::stream::{self, StreamExt};

use crate::chain::chain;
use crate::ledger::{LedgerError, SnapshotRecord, VerifyRecord};
use crate::lists::{self, ListError};
use crate::plain::{self, Act, PlainError, PlainReport};
use crate::progress::Progress;
use crate::reader::{self, ReadTreeError};
use crate::select::Known;
use crate::stripes::{Depth, PACKS_IN_FLIGHT, ShardState, StripeFindings, StripeStore};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyRequest {
    /// How much of the data is read, in hundredths of a percent; none: names and sizes only.
    pub data_basis_points: Option<u16>,
}

/// A shard that is not as it should be.
#[derive(Debug, Clone)]
pub struct ShardFlaw {
    /// Its stripe.
    pub stripe: StripeId,
    /// Its index.
    pub index: u8,
    /// The site.
    pub site: SiteName,
    /// What is wrong.
    pub state: ShardState,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Stripes looked at.
    pub stripes: u64,
    /// Stripes of which every shard was read.
    pub stripes_read: u64,
    /// Missing shards by the site that should have them.
    pub missing: BTreeMap<SiteName, u64>,
    /// Damaged shards by site.
    pub damaged: BTreeMap<SiteName, u64>,
    /// Each of them.
    pub flaws: Vec<ShardFlaw>,
    /// Stripes with too few good shards to be read.
    pub unreadable: Vec<StripeId>,
    /// The plain objects: lists, snapshot objects, wraps, maps, the key bag, blocks and handovers.
    pub plain: PlainReport,
    /// Stripe lists that could not be read.
    pub lists: Vec<ListError>,
    /// Snapshots whose tree or files are not what they should be, with what is wrong.
    pub broken: Vec<(SnapshotId, String)>,
    /// Whether plain text was opened.
    pub plaintext_checked: bool,
    /// What the worst stripe survives.
    pub durability: Option<Durability>,
    /// What it would survive with everything in place.
    pub plan: Option<Durability>,
}

impl VerifyReport {
    /// True if nothing is missing, damaged or broken.
    pub fn is_clean(&self) -> bool {
        self.flaws.is_empty() && self.plain.is_clean() && self.is_readable()
    }

    /// True if every snapshot can be read, whatever has to be repaired.
    pub fn is_readable(&self) -> bool {
        self.unreadable.is_empty() && self.lists.is_empty() && self.broken.is_empty()
    }

    /// Takes in what was found of a stripe.
    fn take(&mut self, findings: StripeFindings) {
        self.stripes += 1;
        self.stripes_read += u64::from(findings.depth == Depth::Data);
        let so_far = self.durability.unwrap_or(findings.durability);
        self.durability = Some(so_far.least(findings.durability));
        if !findings.is_readable() {
            self.unreadable.push(findings.stripe);
        }
        for shard in findings.shards {
            let counts = match shard.state {
                ShardState::Good => continue,
                ShardState::Missing | ShardState::SiteDown => &mut self.missing,
                _ => &mut self.damaged,
            };
            *counts.entry(shard.site.clone()).or_default() += 1;
            let (stripe, index) = (findings.stripe, shard.holder.index.0);
            self.flaws.push(ShardFlaw { stripe, index, site: shard.site, state: shard.state });
        }
    }
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
    let height = vault.standing().await?.height;
    progress.expect_steps(needed.stripes.len() as u64 + plain::expected_steps(&records, &needed.nodes, height));
    let mut report = VerifyReport {
        snapshots: records.len() as u64,
        plan: Some(stripes.plan_durability()),
        plaintext_checked: unlocked.is_some() && request.data_basis_points.is_some(),
        ..VerifyReport::default()
    };
    check_stripes(&stripes, &needed.stripes, request, progress, &mut report).await?;
    report.lists = needed.unread;
    let looking = plain::Request { data_basis_points: request.data_basis_points, act: Act::Look };
    report.plain = plain::survey(vault, &records, &needed.nodes, looking, progress).await?;
    for known in &snapshots {
        let lacking = report.plain.gone.iter().filter(|object| describes(object, known.record.id));
        let broken = lacking.map(|object| (known.record.id, format!("no site gives a good copy of {object}")));
        report.broken.extend(broken.collect::<Vec<_>>());
    }
    if let (Some(unlocked), Some(_)) = (unlocked, request.data_basis_points) {
        for known in &snapshots {
            if let Err(why) = read_all(vault, unlocked, known.clone(), progress).await? {
                report.broken.push((known.record.id, why));
            }
        }
    }
    record(vault, &snapshots, &report, request).await?;
    crate::blocks::copy_all(vault).await?;
    Ok(report)
}

/// Looks at every stripe, several at a time.
async fn check_stripes(
    stripes: &StripeStore,
    needed: &BTreeSet<StripeId>,
    request: VerifyRequest,
    progress: &Progress,
    report: &mut VerifyReport,
) -> Result<(), VerifyError> {
    let presence = stripes.presence().await;
    let drawn = plain::draw(needed.len(), request.data_basis_points);
    let depths = drawn.into_iter().map(|is_drawn| if is_drawn { Depth::Data } else { Depth::Names });
    let checks = needed.iter().zip(depths).map(|(stripe, depth)| stripes.check(&presence, *stripe, depth));
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

/// True for what a snapshot cannot be opened without.
fn describes(object: &ObjectKey, id: SnapshotId) -> bool {
    match object {
        ObjectKey::Snapshot(snapshot) | ObjectKey::Wraps { snapshot, .. } => *snapshot == id,
        _ => false,
    }
}

/// Opens a whole snapshot: the outer error stops everything, the inner one is what is wrong with the snapshot.
async fn read_all(
    vault: &Vault,
    unlocked: &Unlocked,
    known: Known,
    progress: &Arc<Progress>,
) -> Result<Result<(), String>, VerifyError> {
    let opened = match reader::open(vault, unlocked, known.record).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(chain(&error))),
    };
    let progress = Arc::clone(progress);
    progress.expect_steps(opened.manifest.entries);
    let work = move || -> Result<(), BrokenError> {
        let mut chunks = opened.chunks;
        let mut leaves = EntryLeaves::new(&opened.manifest_key);
        reader::walk(&mut chunks, &opened.manifest.root, &mut |chunks, path, entry| {
            progress.add_step();
            leaves.push(path, &entry.facts());
            if let Body::File { content, hash } = &entry.body {
                let mut hasher = ContentHasher::new();
                reader::pieces(chunks, content, |piece| -> Result<(), BrokenError> {
                    if progress.is_interrupted() {
                        return Err(BrokenError::Interrupted);
                    }
                    match piece {
                        reader::Piece::Bytes(bytes) => hasher.update(bytes),
                        reader::Piece::Hole(length) => hasher.update_zeros(length),
                    }
                    Ok(())
                })?;
                if hasher.finish() != *hash {
                    return Err(BrokenError::File { path: path.to_vec() });
                }
            }
            Ok(true)
        })?;
        let entries = leaves.finish();
        let is_committed = entries.root == opened.manifest.entries_root && entries.entries == opened.manifest.entries;
        if is_committed { Ok(()) } else { Err(BrokenError::Entries) }
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(VerifyError::Stopped)?;
    match done {
        Err(BrokenError::Interrupted) => Err(VerifyError::Interrupted),
        done => Ok(done.map_err(|error| chain(&error))),
    }
}

/// What is wrong inside a snapshot.
#[derive(Debug, thiserror::Error)]
enum BrokenError {
    #[error(transparent)]
    Read(#[from] ReadTreeError),
    #[error("file `{}` does not have the bytes that the snapshot says", path.escape_ascii())]
    File { path: Vec<u8> },
    #[error("the tree is not the one that the snapshot commits to")]
    Entries,
    #[error("it was interrupted")]
    Interrupted,
}

async fn record(
    vault: &Vault,
    snapshots: &[Known],
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
    for known in snapshots {
        newest.insert(known.record.source, known.record.id);
    }
    for snapshot in newest.into_values() {
        ledger.record_verify(snapshot, outcome).await?;
    }
    Ok(())
}
