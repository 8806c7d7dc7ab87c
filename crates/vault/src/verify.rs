//! Verifying: is everything that snapshots need at the sites, and is it what it should be?
//!
//! - **Owns** which stripes and objects are looked at and what is recorded of the outcome.
//! - **Does not** mend anything: `repair` does.
//!
//! Without the identity, every shard can be checked and no plain text; with it, also that the public stripe list covers every
//! chunk of the manifest (L1), and that every file opens to its hash.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::tree::{Body, EntryLeaves};
use blockhouse_sites::{ObjectKey, SiteName};
use blockhouse_types::{Durability, SnapshotId, StripeId};

use crate::chain::chain;
use crate::ledger::{LedgerError, VerifyRecord};
use crate::lists::ListError;
use crate::reader::{self, ReadTreeError};
use crate::repair::needed_stripes;
use crate::select::Known;
use crate::stripes::{Depth, ShardState};
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
        self.flaws.is_empty() && self.is_readable()
    }

    /// True if every snapshot can be read, whatever has to be repaired.
    pub fn is_readable(&self) -> bool {
        self.unreadable.is_empty() && self.lists.is_empty() && self.broken.is_empty()
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
}

/// Verifies snapshots, and records the outcome if this host is a writer.
pub async fn verify(
    vault: &Vault,
    snapshots: Vec<Known>,
    unlocked: Option<&Unlocked>,
    request: VerifyRequest,
) -> Result<VerifyReport, VerifyError> {
    let stripes = vault.stripes().await?;
    let presence = stripes.presence().await;
    let records: Vec<_> = snapshots.iter().map(|known| known.record.clone()).collect();
    let (needed, unread) = needed_stripes(vault, &records).await;
    let mut report = VerifyReport {
        snapshots: records.len() as u64,
        lists: unread.into_iter().map(|(_, error)| error).collect(),
        plan: Some(stripes.plan_durability()),
        plaintext_checked: unlocked.is_some() && request.data_basis_points.is_some(),
        ..VerifyReport::default()
    };
    let sample = sample(&needed, request.data_basis_points);
    for stripe in &needed {
        let depth = if sample.contains(stripe) { Depth::Data } else { Depth::Names };
        let findings = stripes.check(&presence, *stripe, depth).await;
        report.stripes += 1;
        report.stripes_read += u64::from(depth == Depth::Data);
        report.durability =
            Some(report.durability.map_or(findings.durability, |least| least.least(findings.durability)));
        if !findings.is_readable() {
            report.unreadable.push(*stripe);
        }
        for shard in findings.shards {
            let counts = match shard.state {
                ShardState::Good => continue,
                ShardState::Missing | ShardState::SiteDown => &mut report.missing,
                _ => &mut report.damaged,
            };
            *counts.entry(shard.site.clone()).or_default() += 1;
            let index = shard.holder.index.0;
            report.flaws.push(ShardFlaw { stripe: *stripe, index, site: shard.site, state: shard.state });
        }
    }
    for known in &snapshots {
        for object in lacking_description(vault, known).await {
            report.broken.push((known.record.id, format!("no site gives a good copy of {object}")));
        }
    }
    if let (Some(unlocked), Some(_)) = (unlocked, request.data_basis_points) {
        for known in &snapshots {
            if let Err(why) = read_all(vault, unlocked, known.clone()).await? {
                report.broken.push((known.record.id, why));
            }
        }
    }
    record(vault, &snapshots, &report, request).await?;
    crate::blocks::copy_all(vault).await?;
    Ok(report)
}

/// What describes a snapshot and is at no site as the ledger names it.
async fn lacking_description(vault: &Vault, known: &Known) -> Vec<String> {
    let (id, named) = (known.record.id, known.record.commit.objectHash.0);
    let object = ObjectKey::Snapshot(id);
    let wraps = ObjectKey::Wraps { snapshot: id, version: 0 };
    let described = vault.sites().get_any(&object, |bytes| SnapshotObject::hash(bytes).to_bytes() == named).await;
    let wrapped = vault.sites().get_any(&wraps, |bytes| crate::objects::is_genuine(&wraps, bytes)).await;
    let lacking = [(object, described.is_err()), (wraps, wrapped.is_err())];
    lacking.into_iter().filter(|(_, is_lacking)| *is_lacking).map(|(key, _)| key.path()).collect()
}

/// Which stripes are read: spread over all of them, so that the share is right whatever their number.
fn sample(needed: &BTreeSet<StripeId>, basis_points: Option<u16>) -> BTreeSet<StripeId> {
    let share = usize::from(basis_points.unwrap_or(0));
    let wanted = (needed.len() * share).div_ceil(10_000);
    let mut ids: Vec<StripeId> = needed.iter().copied().collect();
    // Another part each time: what is read is drawn by chance.
    let salt: [u8; 32] = rand::random();
    ids.sort_by_key(|id| {
        blockhouse_crypto::hash::hash_parts("blockhouse v1 verify sample", [&salt[..], id.as_bytes()])
    });
    ids.into_iter().take(wanted).collect()
}

/// Opens a whole snapshot: the outer error stops everything, the inner one is what is wrong with the snapshot.
async fn read_all(vault: &Vault, unlocked: &Unlocked, known: Known) -> Result<Result<(), String>, VerifyError> {
    let opened = match reader::open(vault, unlocked, known.record).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(chain(&error))),
    };
    let work = move || -> Result<(), BrokenError> {
        let mut chunks = opened.chunks;
        let mut leaves = EntryLeaves::new(&opened.manifest_key);
        reader::walk(&mut chunks, &opened.manifest.root, &mut |chunks, path, entry| {
            leaves.push(path, &entry.facts());
            if let Body::File { content, hash } = &entry.body {
                let mut hasher = ContentHasher::new();
                reader::pieces(chunks, content, |piece| -> Result<(), ReadTreeError> {
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
    Ok(done.map_err(|error| chain(&error)))
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
}

async fn record(
    vault: &Vault,
    snapshots: &[Known],
    report: &VerifyReport,
    request: VerifyRequest,
) -> Result<(), LedgerError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let count = |counts: &BTreeMap<SiteName, u64>| u32::try_from(counts.values().sum::<u64>()).unwrap_or(u32::MAX);
    let outcome = VerifyRecord {
        data_basis_points: request.data_basis_points.unwrap_or(0),
        missing: count(&report.missing),
        damaged: count(&report.damaged),
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
