//! Pruning: what no snapshot needs any more is removed from the sites, in the reverse of the order in which backups write.
//!
//! ```text
//! look     lists of all snapshots that are not forgotten; all shards at all sites
//! mark     the list of what nobody needs, durable at w+1 sites; then the mark on the ledger, its block durable there too
//! sweep    only when no session is live that was opened before the mark
//! act      everything that is needed is read anew; what of the marked set is not in it is unlinked
//! plain    list nodes, snapshot objects, wraps and maps of forgotten snapshots; last the lists of finished markings
//! ```
//!
//! - **Owns** that order, and what a run leaves to the next.
//! - **Does not** decide what may be forgotten, and repacks nothing: a stripe of which a part is needed stays whole.
//!
//! # Invariants
//! - **P1** A stripe is unlinked only under a swept marking that names it, and only if no snapshot lists it that is not forgotten, or was
//!   forgotten after the mark.
//! - **P2** A marking names everything that an earlier unfinished one names and that nobody needs. So only the newest is acted upon.
//! - **P3** A marking is finished when every site of the vault was up and holds nothing of it any more; until then its list stays.
//! - **P4** Nothing is unlinked before the blocks that let it go are at w+1 sites and no other host is known to have the ledger.
//! - **P5** While anything is frozen, also a source without snapshots, nothing is unlinked: it is asked again before each folder of shards.
//!
//! Page: `docs/design/retention.md`, section *Removal*.

mod marked;
mod plain;
mod shards;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blockhouse_pipeline::stripe_list::StripeList;
use blockhouse_sites::{ObjectKey, SiteName};
use blockhouse_types::{Account, ListHash, SnapshotId, StripeId};
use bytes::Bytes;

pub(crate) use marked::{Marked, marked, spread as spread_lists};
pub use shards::Freed;

use crate::blocks::GuardError;
use crate::folder::{Config, Held, LockError, UpdateError};
use crate::index::{Index, IndexError};
use crate::ledger::{Frozen, Ledger, LedgerError, LiveSession, Marking, SnapshotRecord, Swept};
use crate::lists::{self, ListError};
use crate::progress::Progress;
use crate::publish::{Publication, TooFewCopies};
use crate::sessions;
use crate::vault::{HostSecrets, Vault};
use marked::Set;
use shards::{Removal, Shards};

/// How often a waiting prune asks whether the older sessions have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to prune.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneRequest {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Wait for sessions that do not know of the marking.
    pub wait: bool,
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// Stripes of which any site lists a shard, before.
    pub stripes: u64,
    /// Their bytes at all sites.
    pub stored_bytes: u64,
    /// Stripes that nobody needs, as found.
    pub unneeded: u64,
    /// Of the stored bytes, those of stripes that are kept and that forgotten snapshots used too: parts of them may be needed by nobody.
    /// Known only while the lists of those snapshots are there.
    pub partly_needed_bytes: u64,
    /// Sessions of this host that were ended since their processes are gone.
    pub ended_sessions: u64,
    /// The last marking that was made or gone on with.
    pub epoch: Option<u64>,
    /// Sessions that must end before the marking can be acted upon.
    pub waiting: Vec<LiveSession>,
    /// Stripes removed.
    pub removed: u64,
    /// Marked stripes that are needed again and stay.
    pub kept: u64,
    /// What was freed at each site, or would be.
    pub freed: BTreeMap<SiteName, Freed>,
    /// Sites that may still hold something that was to go, with the reason.
    pub left: BTreeMap<SiteName, String>,
}

impl PruneReport {
    /// True if nothing is left to the next prune.
    pub fn is_finished(&self) -> bool {
        self.waiting.is_empty() && self.left.is_empty()
    }
}

/// Why pruning ended. Nothing that is needed was removed; the next prune goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// This host holds no secrets of the vault.
    #[error("this folder has no writer's secrets: it cannot prune")]
    NoWriter,
    /// Another prune, or a file that cannot be locked.
    #[error("the vault cannot be pruned now")]
    Lock(#[from] LockError),
    /// The ledger.
    #[error("the ledger did not take the removal")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] blockhouse_homes::HomeError),
    /// Somebody froze it, or a part of it: stripes are shared.
    #[error("removal is stopped: {} was frozen by {} on {}", what(frozen), frozen.by, day(frozen.since))]
    Frozen { frozen: Frozen },
    /// What snapshots need is not known.
    #[error(
        "what is needed by {} is not known, so nothing was removed; what is not wanted and cannot be mended the owner forgets: `blockhouse forget {} --identity FILE`",
        who(snapshots),
        ids(snapshots)
    )]
    Needed {
        /// Those with lists that cannot be read, and who committed them.
        snapshots: Vec<(SnapshotId, Account)>,
        #[source]
        source: ListError,
    },
    /// What an earlier removal left is not known.
    #[error(
        "the list of marking {epoch} cannot be read and not every site is up: what it names is not known, so nothing was removed"
    )]
    Earlier { epoch: u64 },
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// Another host has the ledger, or nobody can say that none has.
    #[error("it is not sure that this host's ledger is the vault's, so nothing was removed")]
    Guard(#[from] GuardError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// The index.
    #[error("the index could not be brought up to what was removed")]
    Index(#[from] IndexError),
    /// More stripes than one marking can name.
    #[error("{count} stripes are too many for one marking")]
    TooMany { count: usize },
    /// The user stopped it.
    #[error("pruning was interrupted")]
    Interrupted,
}

fn what(frozen: &Frozen) -> String {
    frozen.source.map_or_else(|| "the vault".to_owned(), |source| format!("source {source}"))
}

fn who(snapshots: &[(SnapshotId, Account)]) -> String {
    let each = snapshots.iter().map(|(snapshot, writer)| format!("snapshot {snapshot} of writer {writer}"));
    each.collect::<Vec<_>>().join(" and ")
}

fn ids(snapshots: &[(SnapshotId, Account)]) -> String {
    snapshots.iter().map(|(snapshot, _)| snapshot.to_string()).collect::<Vec<_>>().join(" ")
}

fn day(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    stamp.map_or_else(|| format!("@{seconds}"), |stamp| stamp.to_string())
}

/// What was found.
struct Look {
    shards: Shards,
    /// What snapshots list that are not forgotten.
    needed: BTreeSet<StripeId>,
    /// Markings that are not finished, the newest last, with their sets.
    unfinished: Vec<(Marking, BTreeSet<StripeId>)>,
    /// What they name and nobody needs: sites that are down may hold it.
    owed: BTreeSet<StripeId>,
}

impl Look {
    /// What sites list and nobody needs.
    fn candidates(&self) -> BTreeSet<StripeId> {
        self.shards.by_stripe.keys().filter(|stripe| !self.needed.contains(stripe)).copied().collect()
    }
}

/// Prunes the vault.
pub async fn prune(vault: &Vault, request: PruneRequest, progress: &Progress) -> Result<PruneReport, PruneError> {
    let secrets = vault.secrets().ok_or(PruneError::NoWriter)?;
    let ledger = vault.ledger_as(&secrets.writer);
    let mut run = Run { vault, secrets, ledger, request, progress, report: PruneReport::default() };
    if request.dry_run {
        run.plan().await?;
        return Ok(run.report);
    }
    let alone = Held::try_alone(&vault.folder().prune_lock())?;
    run.go().await?;
    drop(alone);
    Ok(run.report)
}

struct Run<'a> {
    vault: &'a Vault,
    secrets: &'a HostSecrets,
    ledger: Ledger,
    request: PruneRequest,
    progress: &'a Progress,
    report: PruneReport,
}

impl Run<'_> {
    async fn plan(&mut self) -> Result<(), PruneError> {
        let look = self.look().await?;
        let candidates = look.candidates();
        self.report.freed = look.shards.weigh(self.vault.sites(), candidates.iter());
        self.report.removed = candidates.len() as u64;
        self.report.waiting = self.ledger.live_sessions().await?;
        plain::plan(self.vault, &look, &mut self.report).await
    }

    async fn go(&mut self) -> Result<(), PruneError> {
        refuse_frozen(&self.ledger).await?;
        let mut look = self.look().await?;
        plain::plan(self.vault, &look, &mut self.report).await?;
        if look.unfinished.is_empty() {
            // Their lists went last: another host finished them, or this one did and was killed before it noted it.
            self.note_finished(self.ledger.epoch().await?)?;
        }
        let mut tried = BTreeSet::new();
        // First what an earlier run left, if its marking names all that is owed.
        if let Some((marking, set)) = look.unfinished.last().cloned()
            && !set.is_empty()
            && look.owed.is_subset(&set)
        {
            if !self.sweep(&marking).await? {
                return Ok(());
            }
            tried = self.act(&marking, &set, &look).await?;
            look = self.look().await?;
        }
        if look.candidates().iter().any(|stripe| !tried.contains(stripe)) {
            let (marking, set) = self.mark(&look).await?;
            if !self.sweep(&marking).await? {
                return Ok(());
            }
            self.act(&marking, &set, &look).await?;
        }
        plain::remove(self.vault, &self.ledger, &mut self.report).await
    }

    /// What is needed is read after what is there: what was committed in between is needed.
    async fn look(&mut self) -> Result<Look, PruneError> {
        let sites = self.vault.sites();
        let shards = Shards::list(sites, self.progress).await?;
        let needed = read_needed(self.vault, &unforgotten(self.ledger.snapshots().await?)).await?;
        let (mut unfinished, mut owed) = (Vec::new(), BTreeSet::new());
        let finished = marked::finished(self.vault);
        for marking in self.ledger.markings().await?.into_iter().filter(|marking| marking.epoch > finished) {
            let set = match marked::read(self.vault, &marking).await {
                Set::Read(set) => set,
                Set::Gone => continue,
                // With every site up and listed, what it left is in what they list.
                Set::Unreadable if shards.are_all_listed => BTreeSet::new(),
                Set::Unreadable => return Err(PruneError::Earlier { epoch: marking.epoch }),
            };
            owed.extend(set.difference(&needed).copied());
            unfinished.push((marking, set));
        }
        let look = Look { shards, needed, unfinished, owed };
        if self.report.stripes == 0 {
            self.report.stripes = look.shards.by_stripe.len() as u64;
            self.report.stored_bytes = look.shards.bytes(look.shards.by_stripe.keys());
            self.report.unneeded = look.candidates().len() as u64;
        }
        Ok(look)
    }

    /// Marks what nobody needs, and what earlier markings owe. When this returns, its list and its block are at w+1 sites.
    async fn mark(&mut self, look: &Look) -> Result<(Marking, BTreeSet<StripeId>), PruneError> {
        let (sites, needed_copies) = (self.vault.sites(), self.copies());
        let set: BTreeSet<StripeId> = look.candidates().union(&look.owed).copied().collect();
        let count = u32::try_from(set.len()).map_err(|_| PruneError::TooMany { count: set.len() })?;
        let stripes: Vec<StripeId> = set.iter().copied().collect();
        let list = StripeList::build(&stripes).expect("a sorted set is ascending");
        let mut published = Publication::begin(sites);
        for node in list.nodes() {
            published.put(sites, &ObjectKey::List(node.hash), Bytes::from(node.bytes.clone())).await;
        }
        published.require("the list of what is to be removed", needed_copies)?;
        let epoch = self.ledger.mark(list.root(), count).await?;
        self.report.epoch = Some(epoch);
        self.secure_blocks().await?;
        let marking = self.ledger.markings().await?.into_iter().find(|marking| marking.epoch == epoch);
        let marking = marking.ok_or(LedgerError::MissingEvent { event: "Marked" })?;
        // P2: the earlier ones are never acted upon again.
        self.note_finished(epoch - 1)?;
        Ok((marking, set))
    }

    /// True once no session is live that does not know of the marking.
    async fn sweep(&mut self, marking: &Marking) -> Result<bool, PruneError> {
        self.report.epoch = Some(marking.epoch);
        if marking.is_swept {
            return Ok(true);
        }
        loop {
            let ended = sessions::end_dead(self.vault.folder(), &self.ledger, &self.secrets.writer).await?;
            self.report.ended_sessions += ended.len() as u64;
            match self.ledger.sweep(marking.epoch).await? {
                Swept::Done => return Ok(true),
                Swept::Waiting(older) if !self.request.wait => {
                    self.report.waiting = older;
                    // What was recorded so far is copied all the same.
                    self.secure_blocks().await?;
                    return Ok(false);
                }
                Swept::Waiting(_) if self.progress.is_interrupted() => return Err(PruneError::Interrupted),
                Swept::Waiting(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }

    /// Unlinks what of a swept set nobody needs; gives what it tried to.
    async fn act(
        &mut self,
        marking: &Marking,
        set: &BTreeSet<StripeId>,
        look: &Look,
    ) -> Result<BTreeSet<StripeId>, PruneError> {
        self.secure_blocks().await?;
        self.confirm().await?;
        refuse_frozen(&self.ledger).await?;
        let records = self.ledger.snapshots().await?;
        // P1: a session that knew of the marking may have counted on what such a snapshot lists.
        let since = |record: &&SnapshotRecord| record.forgotten_in.is_some_and(|block| block >= marking.block);
        let since: Vec<SnapshotRecord> = records.iter().filter(since).cloned().collect();
        let needed = read_needed(self.vault, &unforgotten(records)).await?;
        let lists::Union { stripes: needed_since, unread, .. } = lists::read_union(self.vault.sites(), &since).await;
        if !unread.is_empty() {
            // A new marking, which comes after those snapshots were forgotten, does not depend on their lists.
            return Ok(BTreeSet::new());
        }
        let is_free = |stripe: &&StripeId| !needed.contains(stripe) && !needed_since.contains(stripe);
        let doomed: BTreeSet<StripeId> = set.iter().filter(is_free).copied().collect();
        let removal = shards::remove(self.vault.sites(), &doomed, &self.ledger, self.progress).await?;
        let is_whole = removal.failed.is_empty();
        let there = doomed.iter().filter(|stripe| look.shards.by_stripe.contains_key(stripe)).count();
        self.report.removed += there as u64;
        self.report.kept += (set.len() - doomed.len()) as u64;
        self.take(removal);
        Index::open(&self.vault.folder().index())?.remove(&doomed)?;
        if is_whole {
            self.note_finished(marking.epoch)?;
        }
        Ok(doomed)
    }

    fn take(&mut self, removal: Removal) {
        take(&mut self.report, removal);
    }

    /// P4: the blocks that let something go are where `recover` finds them.
    async fn secure_blocks(&self) -> Result<(), PruneError> {
        let mut published = Publication::begin(self.vault.sites());
        published.copy_blocks(self.vault.sites(), self.vault.home(), self.vault.standing().await?.height).await;
        Ok(published.require("the ledger's blocks", self.copies())?)
    }

    /// P4: asks the sites, now that they hold the blocks, whether another host took the ledger over.
    async fn confirm(&self) -> Result<(), PruneError> {
        Ok(self.vault.confirm_alone().await?)
    }

    fn copies(&self) -> usize {
        usize::from(self.vault.plan().w) + 1
    }

    /// Remembers that markings up to this one are never acted upon again.
    fn note_finished(&self, epoch: u64) -> Result<(), PruneError> {
        Config::update(self.vault.folder(), |config| {
            if epoch > config.finished_markings.unwrap_or(0) {
                config.finished_markings = Some(epoch);
            }
        })?;
        Ok(())
    }
}

/// P5. The contract would refuse a mark and a sweep; this says who stopped it, and stops what is under way.
async fn refuse_frozen(ledger: &Ledger) -> Result<(), PruneError> {
    match ledger.frozen().await?.first() {
        Some(frozen) => Err(PruneError::Frozen { frozen: *frozen }),
        None => Ok(()),
    }
}

fn take(report: &mut PruneReport, removal: Removal) {
    let mut all = Removal { freed: std::mem::take(&mut report.freed), failed: std::mem::take(&mut report.left) };
    all.add(removal);
    (report.freed, report.left) = (all.freed, all.failed);
}

fn unforgotten(records: Vec<SnapshotRecord>) -> Vec<SnapshotRecord> {
    records.into_iter().filter(|record| !record.forgotten).collect()
}

/// What these snapshots need. One list that cannot be read ends the removal: it is never passed over, for nobody knows what it names.
async fn read_needed(vault: &Vault, snapshots: &[SnapshotRecord]) -> Result<BTreeSet<StripeId>, PruneError> {
    let mut union = lists::read_union(vault.sites(), snapshots).await;
    let unread: BTreeSet<ListHash> = union.unread.iter().map(unread_root).collect();
    let Some(source) = union.unread.pop() else { return Ok(union.stripes) };
    let hidden = snapshots.iter().filter(|record| unread.contains(&lists::root_of(record)));
    Err(PruneError::Needed { snapshots: hidden.map(|record| (record.id, record.writer)).collect(), source })
}

const fn unread_root(error: &ListError) -> ListHash {
    match error {
        ListError::Read { root, .. } | ListError::Stopped { root } => *root,
    }
}
