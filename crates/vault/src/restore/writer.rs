//! Walks one snapshot and decides, entry by entry, what becomes of it in the target.
//!
//! - **Owns** the order of a restore: a folder, what is in it, what is not to be in it, then the folder's own metadata; and what is
//!   told of each entry.
//! - **Does not** decide what may be replaced (`blockhouse-sources` does), nor which names are one file (`links`), nor fetch content
//!   (`fill` does, for many files at a time).

mod contents;
mod fill;
mod leftovers;
mod names;

use std::collections::{HashMap, HashSet, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{
    Decision, Existing, MayGo, NotRestored, Placing, RestoreError, RestorePath, RestoreTarget, SparedBelow, Wanted,
    decide,
};
use blockhouse_types::{EntryKind, Metadata};

use self::leftovers::Shared;
use self::names::Deferred;
use super::fetch::Fetcher;
use super::include::Include;
use super::job::Job;
use super::links::{Inode, Links};
use super::plan::Plan;
use super::start::{Itself, Start};
use super::unfinished;
use super::{Act, Change, ChangeKind, RestoreFlaw, RestoreReport, RestoreSnapshotError};
use crate::progress::Progress;
use crate::reader::{ChunkReader, Entries, ReadTreeError};

/// Writes one snapshot into a target.
pub(super) struct Writer<'a> {
    /// None in a rehearsal for a target that is not there yet.
    target: Option<RestoreTarget>,
    act: Act,
    include: Arc<Include>,
    links: Links,
    /// Files with several names that are planned and not yet written.
    pending: HashSet<Inode>,
    /// Whether anything was asked for so far.
    matched: bool,
    report: RestoreReport,
    progress: &'a Progress,
    fetcher: Fetcher,
    plan: Plan,
    jobs: HashMap<u64, Job>,
    next_job: u64,
    /// Files that are open, the one that was written to longest ago first.
    open: VecDeque<u64>,
    deferred: Vec<Deferred>,
    again: Vec<(Job, Box<Content>)>,
    /// Folders of which everything is planned, deepest first.
    folders: Vec<(RestorePath, Metadata)>,
    /// What has to go, each with what rules the folder that holds it.
    deletions: Vec<(RestorePath, SparedBelow)>,
    root_metadata: Option<Metadata>,
    shared: Shared,
    /// What is planned beside chunks takes in memory.
    side_bytes: usize,
    /// How many flushes are under way, one out of another.
    flushes: u32,
}

/// A folder that was entered.
struct Open {
    path: RestorePath,
    /// Its path as a restore of the whole snapshot writes it: patterns match this.
    whole: RestorePath,
    metadata: Metadata,
    /// Whether everything in it is wanted.
    included: bool,
    /// Whether it was made or may get its metadata.
    is_made: bool,
    /// Whether a killed restore left files in it that are wanted.
    has_left: bool,
    /// None where nothing in it is to be restored.
    entries: Option<Entries>,
    /// Names in the target that may have to go.
    extras: Peekable<IntoIter<MayGo>>,
    /// What of them is spared further down.
    rules: SparedBelow,
}

/// How a folder is entered.
struct Entering {
    /// Whether everything in it is wanted.
    included: bool,
    /// Whether it is restored itself.
    itself: Itself,
    /// What is spared in it.
    rules: SparedBelow,
}

/// The place of an entry.
struct Around {
    /// Whether a killed restore left files in its folder that are wanted.
    has_left: bool,
    /// What is spared in its folder.
    rules: SparedBelow,
    /// Whether that holds for what stands in its place.
    is_spared: bool,
}

impl<'a> Writer<'a> {
    /// A writer that has written nothing yet.
    pub(super) fn new(
        target: Option<RestoreTarget>,
        act: Act,
        include: Arc<Include>,
        fetcher: Fetcher,
        progress: &'a Progress,
    ) -> Self {
        Self {
            target,
            links: Links::new(act.keeps),
            act,
            include,
            pending: HashSet::new(),
            matched: false,
            report: RestoreReport::default(),
            progress,
            fetcher,
            plan: Plan::default(),
            jobs: HashMap::new(),
            next_job: 0,
            open: VecDeque::new(),
            deferred: Vec::new(),
            again: Vec::new(),
            folders: Vec::new(),
            deletions: Vec::new(),
            root_metadata: None,
            shared: Shared::default(),
            side_bytes: 0,
            flushes: 0,
        }
    }

    /// Writes what is still planned, makes it durable, and tells what was done.
    pub(super) fn finish(&mut self, chunks: &mut ChunkReader) -> Result<RestoreReport, RestoreSnapshotError> {
        self.flush(chunks)?;
        if !self.matched {
            return Err(RestoreSnapshotError::NothingMatches);
        }
        if !self.act.is_rehearsal {
            // Before the mark goes: what it says is then true after a loss of power as well.
            self.target().sync()?;
            if self.report.unread == 0 {
                unfinished::end(self.target().path());
            }
            if let Some(metadata) = self.root_metadata.take() {
                self.set_folder(&RestorePath::target(), &metadata)?;
            }
        }
        // What was left out with all that is in it was never counted.
        self.progress.set_total(self.progress.bytes());
        let mut report = std::mem::take(&mut self.report);
        report.fetched_bytes = self.fetcher.fetched();
        Ok(report)
    }

    /// The target of anything but a rehearsal.
    fn target(&mut self) -> &mut RestoreTarget {
        self.target.as_mut().expect("only a rehearsal has no target, and it changes none")
    }

    fn existing(&mut self, path: &RestorePath) -> Result<Option<Existing>, RestoreError> {
        self.target.as_mut().map_or(Ok(None), |target| target.existing(path))
    }

    /// Restores something of the snapshot with everything below it.
    pub(super) fn start(&mut self, chunks: &mut ChunkReader, start: Start) -> Result<(), RestoreSnapshotError> {
        if self.include.leaves_out_within(&start.whole) {
            self.progress.take_off(length(&start.entry));
            return Ok(());
        }
        let (included, rules) = (self.include.holds(&start.whole), start.rules(self.shared.ignore.as_deref()));
        let Start { entry, whole, to, itself, .. } = start;
        let mut stack = Vec::new();
        if let Body::Directory(listing) = &entry.body {
            stack.push(self.enter(chunks, (to, whole), (&entry, listing), Entering { included, itself, rules })?);
        } else {
            let around = Around { has_left: self.has_left_beside(&to), rules, is_spared: false };
            self.entry(chunks, &to, &entry, (included, &around))?;
        }
        while let Some(open) = stack.last_mut() {
            if self.progress.is_interrupted() {
                return Err(RestoreSnapshotError::Interrupted);
            }
            let Some((entry, is_spared)) = self.next(chunks, open) else {
                if let Some(done) = stack.pop() {
                    self.leave(done);
                }
                continue;
            };
            let (path, whole) = (open.path.join(&entry.name)?, open.whole.join(&entry.name)?);
            if self.include.leaves_out(&whole) {
                self.progress.take_off(length(&entry));
                continue;
            }
            let included = open.included || self.include.names(&whole);
            let around = Around { has_left: open.has_left, rules: open.rules.clone(), is_spared };
            match &entry.body {
                Body::Directory(listing) => {
                    let entering = Entering { included, itself: Itself::Restored, rules: around.rules };
                    let below = self.enter(chunks, (path, whole), (&entry, listing), entering)?;
                    stack.push(below);
                }
                _ => self.entry(chunks, &path, &entry, (included, &around))?,
            }
            if self.is_full() {
                self.flush(chunks)?;
            }
        }
        Ok(())
    }

    /// True if an earlier restore left something where this goes; a folder that is not there holds nothing.
    fn has_left_beside(&mut self, path: &RestorePath) -> bool {
        let Some((folder, _)) = path.split_last() else { return false };
        self.target.as_mut().is_some_and(|target| target.has_temporaries(&folder).unwrap_or(false))
    }

    /// The next entry of a folder, and whether what has its name in the target is spared. A listing that cannot be read costs what is in
    /// that folder, and no other.
    fn next(&mut self, chunks: &mut ChunkReader, open: &mut Open) -> Option<(Entry, bool)> {
        let next = open.entries.as_mut()?.next(chunks);
        match next {
            Ok(next) => {
                while let Some(extra) =
                    open.extras.next_if(|extra| next.as_ref().is_none_or(|entry| extra.name < entry.name))
                {
                    self.extra(open, &extra);
                }
                // What has the name of an entry stays, whatever becomes of that.
                let entry = next?;
                let in_its_place = open.extras.next_if(|extra| extra.name == entry.name);
                Some((entry, in_its_place.is_some_and(|found| found.is_spared)))
            }
            Err(error) => {
                self.lose_folder(&open.path, &error);
                // What is not known to be no entry stays.
                (open.entries, open.extras) = (None, Vec::new().into_iter().peekable());
                None
            }
        }
    }

    /// A folder that was asked for, and of which nothing is known: told, and the rest goes on.
    pub(super) fn lose_start(&mut self, path: &RestorePath, error: &ReadTreeError) {
        self.matched = true;
        self.lose_folder(path, error);
    }

    fn lose_folder(&mut self, path: &RestorePath, error: &ReadTreeError) {
        self.report.unread += 1;
        self.flaw(path, format!("what is in it could not be read: {}", crate::chain::chain(error)));
    }

    /// Makes a folder, unless its own name is stripped, and begins to read its listing.
    fn enter(
        &mut self,
        chunks: &mut ChunkReader,
        (path, whole): (RestorePath, RestorePath),
        (entry, listing): (&Entry, &Content),
        Entering { included, itself, rules }: Entering,
    ) -> Result<Open, RestoreSnapshotError> {
        let entries = match Entries::of(chunks, path.as_bytes(), listing) {
            Ok(entries) => Some(entries.sending_for_lists()),
            Err(error) => {
                self.matched |= included;
                self.lose_folder(&path, &error);
                None
            }
        };
        let extras = Vec::new().into_iter().peekable();
        let metadata = entry.metadata.clone();
        let mut open =
            Open { path, whole, metadata, included, is_made: false, has_left: false, entries, extras, rules };
        let may_go = match itself {
            // Nothing goes from the target then, and what ruled it before the others came is known (`Shared`).
            Itself::Stripped { is_alone: false } => Vec::new(),
            // Before anything in it is written, so that the rules are those that a rehearsal sees.
            Itself::Restored | Itself::Stripped { .. } => self.may_go(&mut open)?,
        };
        match itself {
            Itself::Restored if included => {
                self.matched = true;
                let existing = self.existing(&open.path)?;
                open.is_made = self.make_folder(&open.path, entry, existing.as_ref())?;
                if !open.is_made {
                    open.entries = None;
                } else if existing.is_some_and(|existing| existing.kind == EntryKind::Directory) {
                    if open.entries.is_some() {
                        open.extras = may_go.into_iter().peekable();
                    }
                    self.look_into(chunks, &mut open, listing)?;
                }
            }
            // The target is no folder of the snapshot: nothing goes from it, and it keeps its metadata.
            Itself::Stripped { is_alone: true } if included => self.look_into(chunks, &mut open, listing)?,
            Itself::Stripped { is_alone: false } => open.has_left = self.shared.has_left,
            Itself::Restored | Itself::Stripped { .. } => {}
        }
        Ok(open)
    }

    /// What stands in a folder before, if anything has to go. The ignore file there rules what is below.
    fn may_go(&mut self, open: &mut Open) -> Result<Vec<MayGo>, RestoreSnapshotError> {
        let Some(target) = self.target.as_mut().filter(|_| self.act.deletes) else { return Ok(Vec::new()) };
        match target.may_go(&open.path, &open.rules) {
            Ok((names, rules)) => {
                open.rules = rules;
                Ok(names)
            }
            // Nothing goes from it, and what cannot be looked at rules nothing.
            Err(_) if !open.included => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// A name that is not in the snapshot.
    fn extra(&mut self, open: &Open, extra: &MayGo) {
        if extra.is_spared {
            self.report.spared += 1;
            return;
        }
        // A name that the system gave us is one.
        let Ok(path) = open.path.join(&extra.name) else { return };
        self.side_bytes += size_of::<(RestorePath, SparedBelow)>() + path.as_bytes().len();
        self.deletions.push((path, open.rules.clone()));
    }

    /// True if the folder is there and may get its metadata.
    fn make_folder(
        &mut self,
        path: &RestorePath,
        entry: &Entry,
        existing: Option<&Existing>,
    ) -> Result<bool, RestoreSnapshotError> {
        let decision = self.decide(path, entry, existing)?;
        let placing = match decision {
            Decision::Refuse(conflict) => {
                self.flaw(path, conflict.to_string());
                return Ok(false);
            }
            Decision::Replace => Placing::Replace,
            Decision::Create | Decision::SetMetadata | Decision::Keep => Placing::New,
        };
        if matches!(decision, Decision::Create | Decision::Replace) && !path.is_target() {
            self.tell(if decision == Decision::Create { ChangeKind::New } else { ChangeKind::Replaced }, path, entry);
        }
        if !self.act.is_rehearsal {
            self.make_all(path, placing)?;
        }
        Ok(true)
    }

    /// Makes a folder and those above it.
    fn make_all(&mut self, path: &RestorePath, placing: Placing) -> Result<(), RestoreSnapshotError> {
        if !self.include.is_partial() {
            // Those above were entered before.
            return Ok(self.target().create_dir(path, placing)?);
        }
        let mut above = RestorePath::target();
        let names: Vec<Vec<u8>> = path.names().map(<[u8]>::to_vec).collect();
        for (place, name) in names.iter().enumerate() {
            above = above.join(name)?;
            let placing = if place + 1 == names.len() { placing } else { Placing::New };
            self.target().create_dir(&above, placing)?;
        }
        Ok(())
    }

    /// Lets a folder get its metadata, once everything in it is done.
    fn leave(&mut self, open: Open) {
        if self.act.is_rehearsal || !open.included || !open.is_made {
            return;
        }
        if open.path.is_target() {
            self.root_metadata = Some(open.metadata);
        } else {
            self.side_bytes += size_of::<(RestorePath, Metadata)>() + 2 * open.path.as_bytes().len();
            self.folders.push((open.path, open.metadata));
        }
    }

    fn set_folder(&mut self, path: &RestorePath, metadata: &Metadata) -> Result<(), RestoreSnapshotError> {
        let missing = self.target().set_metadata(path, EntryKind::Directory, metadata)?;
        self.note(missing);
        Ok(())
    }

    /// Restores something that is no folder.
    fn entry(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
        (included, around): (bool, &Around),
    ) -> Result<(), RestoreSnapshotError> {
        if !included {
            self.progress.take_off(length(entry));
            return Ok(());
        }
        self.matched = true;
        match &entry.body {
            Body::Unreadable { reason, .. } => {
                self.flaw(path, format!("it could not be read when it was backed up: {reason}"));
                Ok(())
            }
            Body::Socket => Ok(()),
            _ => self.place(chunks, path, entry, around),
        }
    }

    /// Counts an entry that needed no reading.
    fn count_as_done(&self, entry: &Entry) {
        if let Body::File { content, .. } = &entry.body {
            self.progress.add_file(content.length());
        }
    }

    fn decide(
        &mut self,
        path: &RestorePath,
        entry: &Entry,
        existing: Option<&Existing>,
    ) -> Result<Decision, RestoreError> {
        let wanted = Wanted { kind: entry.body.kind(), size: length(entry), mtime: entry.metadata.mtime };
        let (overwrite, is_compared) = (self.act.overwrite, wanted.kind != EntryKind::Directory);
        decide(overwrite, &wanted, existing, is_compared.then_some(|| self.has_content(path, entry)))
    }

    /// Tells what is done, or would be.
    fn tell(&mut self, kind: ChangeKind, path: &RestorePath, entry: &Entry) {
        self.tell_of(&Change { kind, path: path.as_bytes().to_vec(), bytes: length(entry) });
    }

    fn tell_of(&mut self, change: &Change) {
        let counts = &mut self.report.changes;
        let (entries, bytes) = match change.kind {
            ChangeKind::New => (&mut counts.new, &mut counts.new_bytes),
            ChangeKind::Changed | ChangeKind::Replaced => (&mut counts.changed, &mut counts.changed_bytes),
            ChangeKind::Deleted => (&mut counts.deleted, &mut counts.deleted_bytes),
        };
        *entries += 1;
        *bytes += change.bytes;
        if let Some(tell) = &self.act.on_change {
            tell(change);
        }
    }

    fn flaw(&mut self, path: &RestorePath, why: String) {
        self.report.flaws.push(RestoreFlaw { path: path.as_bytes().to_vec(), why });
    }

    fn note(&mut self, missing: Vec<NotRestored>) {
        for one in missing {
            let path = one.path.as_bytes().to_vec();
            self.report.flaws.push(RestoreFlaw { path, why: crate::chain::chain(&one) });
        }
    }
}

/// The bytes of a file, holes too.
fn length(entry: &Entry) -> u64 {
    match &entry.body {
        Body::File { content, .. } => content.length(),
        _ => 0,
    }
}
