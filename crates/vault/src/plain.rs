//! Plain objects at the sites: those that the ledger names should be the same, and good, at every site that is up.
//!
//! - **Owns** which plain objects the ledger needs, what a copy at one site is worth, and the replacing of bad copies.
//! - **Does not** look at shards (`stripes` does), nor at files that nothing on the ledger names: those are left alone.
//!
//! # Invariants
//! - **P1** What a copy is worth is decided by what the ledger says of it: a hash, or the bytes of the host's own ledger.
//!   Only wraps and reader's maps have no hash there; see [`Truth::Agreement`].
//! - **P2** A copy is removed only if it was read and found bad right before, and its successor is in memory and came from
//!   elsewhere.
//! - **P3** Objects are written in the order in which a backup writes them: what is named before what names it.
//! - **P4** No more than [`OBJECTS_IN_FLIGHT`] objects are read at a time, and of a long one a piece at each site.
//!
//! Rules: `docs/design/sites.md`, section *Plain objects*.

mod copies;
mod mend;
mod needed;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockhouse_homes::HomeError;
use blockhouse_sites::{ObjectKey, SiteError, SiteName};
use blockhouse_types::SnapshotId;

use crate::ledger::LedgerError;

pub use needed::Truth;
pub(crate) use survey::{Act, Request, draw, expected_steps, survey};

/// How many objects are read at a time, each at all sites: enough to keep the sites busy.
const OBJECTS_IN_FLIGHT: usize = 4;
/// How many flaws are told one by one; a site that lost everything would fill memory with what one number says.
const FLAWS_MAX: usize = 10_000;

/// What is wrong with one copy.
#[derive(Debug, Clone)]
pub enum CopyState {
    /// The site does not have it.
    Missing,
    /// Its bytes are not those of the object.
    Wrong,
    /// Nothing on the ledger says which bytes are right, or which version, and the sites do not agree.
    Disputed,
    /// The site is up and cannot give it.
    Unreadable(Arc<SiteError>),
}

/// A copy that is not as it should be.
#[derive(Debug, Clone)]
pub struct PlainFlaw {
    /// The object.
    pub object: ObjectKey,
    /// The site.
    pub site: SiteName,
    /// What is wrong there.
    pub state: CopyState,
}

/// What was found of the plain objects, and what was done about it.
#[derive(Debug, Default)]
pub struct PlainReport {
    /// Objects looked at.
    pub objects: u64,
    /// Objects of which every copy was read.
    pub objects_read: u64,
    /// Missing copies by the site that should have them.
    pub missing: BTreeMap<SiteName, u64>,
    /// Bad copies by site.
    pub damaged: BTreeMap<SiteName, u64>,
    /// Each of them, the first ten thousand.
    pub flaws: Vec<PlainFlaw>,
    /// Objects of which no site that is up has a good copy.
    pub gone: BTreeSet<ObjectKey>,
    /// Sites that are up and could not be listed.
    pub unlisted: Vec<SiteError>,
    /// Copies written.
    pub written: u64,
    /// Bad copies removed.
    pub removed: u64,
    /// Copies that could not be mended.
    pub failed: Vec<MendError>,
    /// What is where, for the account of what a snapshot survives.
    pub(crate) whereabouts: Whereabouts,
}

/// Why a copy was not mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MendError {
    #[error("could not mend {object} at site `{site}`")]
    Site {
        object: ObjectKey,
        site: SiteName,
        #[source]
        source: Arc<SiteError>,
    },
    #[error("site `{site}` takes no writes, {object} was not mended there")]
    Closed { object: ObjectKey, site: SiteName },
    #[error(
        "the sites hold different bytes for {object}, or other versions of it, and no greater part of them agrees: nothing was changed"
    )]
    Disputed { object: ObjectKey },
}

/// Why plain objects could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlainError {
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    #[error("the embedded ledger could not be read")]
    Home(#[from] HomeError),
    #[error("it was interrupted")]
    Interrupted,
}

/// Which members hold what, as far as they were listed to the end.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    listed: BTreeSet<usize>,
    lacking: BTreeMap<ObjectKey, BTreeSet<usize>>,
    /// The lowest block that a member lacks.
    first_gap: BTreeMap<usize, u64>,
    /// The version of a snapshot's wraps that is needed, where that is not 0.
    wraps: BTreeMap<SnapshotId, u32>,
}

impl PlainReport {
    /// True if every site that is up holds a good copy of everything, as far as was looked.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.damaged.is_empty() && self.gone.is_empty() && self.unlisted.is_empty()
    }

    /// True if nothing is left to mend.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.gone.is_empty() && self.unlisted.is_empty()
    }

    fn note(&mut self, object: ObjectKey, site: &SiteName, state: &CopyState) {
        let counts = if matches!(state, CopyState::Missing) { &mut self.missing } else { &mut self.damaged };
        *counts.entry(site.clone()).or_default() += 1;
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(PlainFlaw { object, site: site.clone(), state: state.clone() });
        }
    }
}

impl Whereabouts {
    fn note_lacking(&mut self, object: ObjectKey, member: usize) {
        if let ObjectKey::Block { height, .. } = object {
            let gap = self.first_gap.entry(member).or_insert(height);
            *gap = (*gap).min(height);
        } else {
            self.lacking.entry(object).or_default().insert(member);
        }
    }

    /// The wraps of a snapshot that are needed.
    pub(crate) fn wraps_of(&self, snapshot: SnapshotId) -> ObjectKey {
        ObjectKey::Wraps { snapshot, version: self.wraps.get(&snapshot).copied().unwrap_or(0) }
    }

    /// The members that hold all of these, and every block up to that height.
    pub(crate) fn holders(&self, objects: impl IntoIterator<Item = ObjectKey>, height: u64) -> BTreeSet<usize> {
        let mut holders = self.listed.clone();
        holders.retain(|member| self.first_gap.get(member).is_none_or(|gap| *gap > height));
        for object in objects {
            if let Some(lacking) = self.lacking.get(&object) {
                holders.retain(|member| !lacking.contains(member));
            }
        }
        holders
    }
}
