//! Going through all plain objects, folder by folder: listed once, read as far as is wanted, mended if that is wanted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use blockhouse_sites::{BLOCKS_PER_FOLDER, ObjectKey, Prefix, Sites};
use blockhouse_types::SnapshotId;
use futures::stream::{self, StreamExt};

use super::copies::{Looked, Shelf, look, read_all};
use super::mend::{mend, plan};
use super::needed::{self, InUse, Needed, Truth};
use super::{CopyState, OBJECTS_IN_FLIGHT, PlainError, PlainReport};
use crate::ledger::SnapshotRecord;
use crate::lists::Node;
use crate::progress::Progress;
use crate::vault::Vault;

/// How many blocks of the host's ledger are in memory.
const BLOCK_RUN: usize = 64;
/// All of the data, in hundredths of a percent.
const ALL: usize = 10_000;

/// What is done about a bad copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is told.
    Look,
    /// It is told what would be done.
    Plan,
    /// A good one takes its place.
    Mend,
}

/// How closely is looked, and to what end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Of how many objects every copy is read, in hundredths of a percent; of the others, names and sizes count.
    pub(crate) data_basis_points: Option<u16>,
    pub(crate) act: Act,
}

/// How many steps a survey takes, as far as is known before it.
pub(crate) fn expected_steps(snapshots: &[SnapshotRecord], nodes: &[Node], height: u64) -> u64 {
    (2 * snapshots.len() + nodes.len()) as u64 + height + 2
}

/// Goes through the plain objects that these snapshots and the ledger need. `nodes` are those of the snapshots' lists, none
/// before those below it.
///
/// Holds the names that the sites list of one folder, and [`OBJECTS_IN_FLIGHT`] objects of each site, of a map 4 MiB.
pub(crate) async fn survey(
    vault: &Vault,
    snapshots: &[SnapshotRecord],
    nodes: &[Node],
    request: Request,
    progress: &Progress,
) -> Result<PlainReport, PlainError> {
    let mut report = PlainReport::default();
    report.whereabouts.listed = vault.sites().up().map(|(member, _)| member).collect();
    let mut survey = Survey { vault, request, progress, report };
    survey.folder(Prefix::Lists, needed::nodes(nodes)).await?;
    survey.folder(Prefix::Snapshots, needed::snapshots(snapshots)).await?;
    survey.wraps(snapshots).await?;
    survey.maps(snapshots).await?;
    survey.folder(Prefix::Bags, needed::bag(vault).await?.into_iter().collect()).await?;
    survey.blocks(snapshots).await?;
    let standing = vault.standing().await?;
    survey.folder(Prefix::Handovers, needed::handovers(vault, &standing).await?).await?;
    let mut report = survey.report;
    report.whereabouts.listed.retain(|member| is_up(vault.sites(), *member));
    Ok(report)
}

/// What it means that a member does not list an object.
enum Absence {
    /// It lacks it.
    Loss,
    /// It is not expected to have it yet.
    News,
    /// It may be right not to have it: nothing is written there.
    Disputed,
}

struct Survey<'a> {
    vault: &'a Vault,
    request: Request,
    progress: &'a Progress,
    report: PlainReport,
}

impl Survey<'_> {
    async fn folder(&mut self, prefix: Prefix, needed: Vec<Needed>) -> Result<(), PlainError> {
        let keys: HashSet<ObjectKey> = needed.iter().map(|needed| needed.key).collect();
        let mut held = Shelf::list(self.vault.sites(), prefix, |key| keys.contains(key)).await;
        self.note_unlisted(&mut held);
        self.objects(&held, needed, |_, _| Absence::Loss).await
    }

    /// Which version is needed the sites say: keys may have been rotated.
    async fn wraps(&mut self, snapshots: &[SnapshotRecord]) -> Result<(), PlainError> {
        let mut held = Shelf::list(self.vault.sites(), Prefix::Wraps, |_| true).await;
        self.note_unlisted(&mut held);
        let mut listed: BTreeMap<SnapshotId, BTreeMap<u32, usize>> = BTreeMap::new();
        // The newest version that each member lists.
        let mut newest: BTreeMap<(SnapshotId, usize), u32> = BTreeMap::new();
        for key in held.keys() {
            let ObjectKey::Wraps { snapshot, version } = key else { continue };
            let holders = held.holders(&key);
            listed.entry(snapshot).or_default().insert(version, holders.len());
            for (member, _) in holders {
                let known = newest.entry((snapshot, *member)).or_insert(version);
                *known = version.max(*known);
            }
        }
        let sites = self.vault.sites().members().len();
        let silent = sites.saturating_sub(held.members.len());
        let found = listed.iter().map(|(id, listed)| (*id, needed::version_in_use(listed, sites, silent)));
        let found: BTreeMap<SnapshotId, InUse> = found.collect();
        let in_use: BTreeMap<SnapshotId, u32> = found.iter().map(|(id, in_use)| (*id, in_use.version)).collect();
        let needed = needed::wraps(snapshots, &in_use);
        self.report.whereabouts.wraps = in_use.into_iter().filter(|(_, version)| *version > 0).collect();
        // No old wraps beside newer ones: whoever has the old keys would open by them.
        let absence = |key: &ObjectKey, member: usize| match key {
            ObjectKey::Wraps { snapshot, version }
                if found.get(snapshot).is_some_and(|in_use| in_use.is_disputed)
                    || newest.get(&(*snapshot, member)).is_some_and(|newest| newest > version) =>
            {
                Absence::Disputed
            }
            _ => Absence::Loss,
        };
        self.objects(&held, needed, absence).await
    }

    async fn maps(&mut self, snapshots: &[SnapshotRecord]) -> Result<(), PlainError> {
        let mut held = Shelf::list(self.vault.sites(), Prefix::Maps, |_| true).await;
        self.note_unlisted(&mut held);
        let needed = needed::maps(snapshots, held.keys());
        self.objects(&held, needed, |_, _| Absence::Loss).await
    }

    /// Blocks that were sealed after the last commit or handover are news that the sites get when they are next written to;
    /// one that is missing below another of the same site is a loss.
    async fn blocks(&mut self, snapshots: &[SnapshotRecord]) -> Result<(), PlainError> {
        if self.vault.home().own_copy().is_err() {
            return Ok(());
        }
        let standing = self.vault.standing().await?;
        let committed = snapshots.iter().map(|record| record.block).max().unwrap_or(0);
        let handed_over = standing.keys.handovers().last().map_or(0, |handover| handover.height);
        let due = committed.max(handed_over);
        for folder in (0..=standing.height).step_by(usize::try_from(BLOCKS_PER_FOLDER).unwrap_or(usize::MAX)) {
            let end = (folder + BLOCKS_PER_FOLDER).min(standing.height + 1);
            let keys: HashSet<ObjectKey> = needed::block_keys(self.vault, folder..end).await?.into_iter().collect();
            let mut held = Shelf::list(self.vault.sites(), Prefix::BlocksNear(folder), |key| keys.contains(key)).await;
            self.note_unlisted(&mut held);
            let heads = heads(&held);
            let absence = |key: &ObjectKey, member: usize| match key {
                ObjectKey::Block { height, .. }
                    if *height > due && heads.get(&member).is_none_or(|head| height >= head) =>
                {
                    Absence::News
                }
                _ => Absence::Loss,
            };
            for from in (folder..end).step_by(BLOCK_RUN) {
                let count = usize::try_from(end - from).unwrap_or(BLOCK_RUN).min(BLOCK_RUN);
                let needed = needed::blocks(self.vault, from, count).await?;
                self.objects(&held, needed, absence).await?;
            }
        }
        Ok(())
    }

    /// A site that could not be listed holds nothing that counts; if it is up, that is told.
    fn note_unlisted(&mut self, held: &mut Shelf) {
        for (member, error) in std::mem::take(&mut held.failed) {
            self.report.whereabouts.listed.remove(&member);
            if is_up(self.vault.sites(), member) {
                self.report.unlisted.push(error);
            }
        }
    }

    /// Looks at the objects of one folder, several at a time, and goes on with each in their order.
    async fn objects(
        &mut self,
        held: &Shelf,
        needed: Vec<Needed>,
        absence: impl Fn(&ObjectKey, usize) -> Absence,
    ) -> Result<(), PlainError> {
        let sites = self.vault.sites();
        let drawn = draw(needed.len(), self.request.data_basis_points);
        let looks = needed.into_iter().zip(drawn).map(|(needed, read)| look(sites, held, needed, read));
        let mut looks = stream::iter(looks).buffered(OBJECTS_IN_FLIGHT);
        while let Some(mut looked) = looks.next().await {
            if self.progress.is_interrupted() {
                return Err(PlainError::Interrupted);
            }
            let key = looked.needed.key;
            looked.flaws.retain(|member, state| {
                if matches!(state, CopyState::Missing) {
                    match absence(&key, *member) {
                        Absence::Loss => {}
                        Absence::News => return false,
                        Absence::Disputed => *state = CopyState::Disputed,
                    }
                }
                true
            });
            self.object(looked).await;
            self.progress.add_step();
        }
        Ok(())
    }

    async fn object(&mut self, mut looked: Looked) {
        let (sites, report) = (self.vault.sites(), &mut self.report);
        // Where only the sites can say which bytes are right, all of them are asked before any are spread.
        let is_open = matches!(looked.needed.truth, Truth::Agreement(_)) && !looked.is_read;
        if is_open && self.request.act != Act::Look && !looked.flaws.is_empty() {
            looked = read_all(sites, looked).await;
        }
        let key = looked.needed.key;
        report.objects += 1;
        report.objects_read += u64::from(looked.is_read);
        for (member, state) in &looked.flaws {
            if let Some(site) = sites.members().get(*member) {
                report.note(key, site.name(), state);
            }
        }
        let is_disputed = looked.flaws.values().any(|state| matches!(state, CopyState::Disputed));
        if looked.good.is_empty() && !is_disputed && !matches!(looked.needed.truth, Truth::Bytes(_)) {
            report.gone.insert(key);
        }
        match self.request.act {
            _ if looked.flaws.is_empty() => {}
            Act::Mend => mend(sites, &looked, report).await,
            Act::Plan => plan(sites, &looked, report),
            Act::Look => looked.flaws.keys().for_each(|member| report.whereabouts.note_lacking(key, *member)),
        }
    }
}

fn is_up(sites: &Sites, member: usize) -> bool {
    sites.members().get(member).is_some_and(|member| member.readable().is_some())
}

/// The highest block of this chain that each member lists.
fn heads(shelf: &Shelf) -> BTreeMap<usize, u64> {
    let mut heads = BTreeMap::new();
    for key in shelf.keys() {
        let ObjectKey::Block { height, .. } = key else { continue };
        for (member, _) in shelf.holders(&key) {
            let head = heads.entry(*member).or_insert(height);
            *head = height.max(*head);
        }
    }
    heads
}

/// Which of so many are read: another part each time, drawn by chance.
pub(crate) fn draw(of: usize, basis_points: Option<u16>) -> Vec<bool> {
    let wanted = (of * usize::from(basis_points.unwrap_or(0))).div_ceil(ALL).min(of);
    let drawn: BTreeSet<usize> = rand::seq::index::sample(&mut rand::rng(), of, wanted).into_iter().collect();
    (0..of).map(|number| drawn.contains(&number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_drawn_and_rounded_up() {
        let count = |of, share| draw(of, share).into_iter().filter(|drawn| *drawn).count();
        assert_eq!(count(1000, None), 0);
        assert_eq!(count(1000, Some(10_000)), 1000);
        assert_eq!(count(1000, Some(1_234)), 124);
        assert_eq!((count(3, Some(1)), count(0, Some(10_000))), (1, 0));
        assert_ne!(draw(1000, Some(5_000)), draw(1000, Some(5_000)), "another part each time");
    }
}
