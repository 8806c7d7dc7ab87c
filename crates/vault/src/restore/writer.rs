//! Writes one snapshot into a target, entry by entry.
//!
//! - **Owns** the order of a restore: a folder, what is in it, then the folder's own metadata; and what is told of each entry.
//! - **Does not** decide what may be replaced (`blockhouse-sources` does), nor which names are one file (`links`).

mod contents;
mod names;

use std::vec::IntoIter;

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{
    Decision, Existing, NotRestored, Overwrite, Placing, RestoreError, RestorePath, RestoreTarget, Wanted, decide,
};
use blockhouse_types::{EntryKind, Metadata};

use super::include::Include;
use super::links::Links;
use super::{RestoreFlaw, RestoreReport, RestoreSnapshotError};
use crate::progress::Progress;
use crate::reader::{self, ChunkReader};

/// Writes one snapshot into a target.
pub(super) struct Writer<'a> {
    target: RestoreTarget,
    overwrite: Overwrite,
    include: Include,
    links: Links,
    /// Whether anything was asked for so far.
    matched: bool,
    report: RestoreReport,
    progress: &'a Progress,
}

/// A folder that was entered.
struct Open {
    path: RestorePath,
    metadata: Metadata,
    /// Whether everything in it is wanted.
    included: bool,
    /// Whether it was made or may get its metadata.
    is_made: bool,
    entries: IntoIter<Entry>,
}

impl<'a> Writer<'a> {
    /// A writer that has written nothing yet.
    pub(super) fn new(target: RestoreTarget, overwrite: Overwrite, include: Include, progress: &'a Progress) -> Self {
        let report = RestoreReport::default();
        Self { target, overwrite, include, links: Links::default(), matched: false, report, progress }
    }

    /// Makes what was written durable, and tells what was done.
    pub(super) fn finish(self) -> Result<RestoreReport, RestoreSnapshotError> {
        if !self.matched {
            return Err(RestoreSnapshotError::NothingMatches);
        }
        self.target.sync()?;
        Ok(self.report)
    }

    /// Restores a root of the snapshot and everything below it.
    pub(super) fn root(
        &mut self,
        chunks: &mut ChunkReader,
        root: &Entry,
        path: RestorePath,
    ) -> Result<(), RestoreSnapshotError> {
        let included = self.include.names(&path);
        let mut stack = Vec::new();
        match &root.body {
            Body::Directory(listing) => stack.push(self.enter(chunks, path, (root, listing), included)?),
            _ => self.entry(chunks, &path, root, included)?,
        }
        while let Some(open) = stack.last_mut() {
            if self.progress.is_interrupted() {
                return Err(RestoreSnapshotError::Interrupted);
            }
            let Some(entry) = open.entries.next() else {
                if let Some(done) = stack.pop() {
                    self.leave(&done)?;
                }
                continue;
            };
            let path = open.path.join(&entry.name)?;
            let included = open.included || self.include.names(&path);
            match &entry.body {
                Body::Directory(listing) => {
                    let below = self.enter(chunks, path, (&entry, listing), included)?;
                    stack.push(below);
                }
                _ => self.entry(chunks, &path, &entry, included)?,
            }
        }
        Ok(())
    }

    /// Makes a folder and reads its listing.
    fn enter(
        &mut self,
        chunks: &mut ChunkReader,
        path: RestorePath,
        (entry, listing): (&Entry, &Content),
        included: bool,
    ) -> Result<Open, RestoreSnapshotError> {
        let entries = reader::list(chunks, path.as_bytes(), listing)?;
        let mut open =
            Open { path, metadata: entry.metadata.clone(), included, is_made: false, entries: entries.into_iter() };
        if included {
            self.matched = true;
            open.is_made = self.make_folder(&open.path, entry)?;
            if !open.is_made {
                open.entries = Vec::new().into_iter();
            }
        }
        Ok(open)
    }

    /// True if the folder is there and may get its metadata.
    fn make_folder(&mut self, path: &RestorePath, entry: &Entry) -> Result<bool, RestoreSnapshotError> {
        let existing = self.target.existing(path)?;
        match self.decide(path, entry, existing.as_ref())? {
            Decision::Refuse(conflict) => {
                self.flaw(path, conflict.to_string());
                return Ok(false);
            }
            Decision::Replace => self.make_all(path, Placing::Replace)?,
            Decision::Create | Decision::SetMetadata | Decision::Keep => self.make_all(path, Placing::New)?,
        }
        Ok(true)
    }

    /// Makes a folder and those above it.
    fn make_all(&mut self, path: &RestorePath, placing: Placing) -> Result<(), RestoreSnapshotError> {
        let mut above = RestorePath::target();
        let names: Vec<Vec<u8>> = path.names().map(<[u8]>::to_vec).collect();
        for (place, name) in names.iter().enumerate() {
            above = above.join(name)?;
            let placing = if place + 1 == names.len() { placing } else { Placing::New };
            self.target.create_dir(&above, placing)?;
        }
        Ok(())
    }

    /// Gives a folder its metadata, once everything in it is done.
    fn leave(&mut self, open: &Open) -> Result<(), RestoreSnapshotError> {
        if open.included && open.is_made {
            let missing = self.target.set_metadata(&open.path, EntryKind::Directory, &open.metadata)?;
            self.note(missing);
        }
        Ok(())
    }

    /// Restores something that is no folder, and counts it as done whatever became of it.
    fn entry(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
        included: bool,
    ) -> Result<(), RestoreSnapshotError> {
        if !included {
            self.progress.take_off(length(entry));
            return Ok(());
        }
        self.matched = true;
        let before = self.progress.bytes();
        match &entry.body {
            Body::Unreadable { reason, .. } => {
                self.flaw(path, format!("it could not be read when it was backed up: {reason}"));
            }
            Body::Socket => {}
            _ => self.place(chunks, path, entry)?,
        }
        if let Body::File { content, .. } = &entry.body {
            // Links and files that stay are done without reading.
            let read = self.progress.bytes() - before;
            self.progress.add_file(content.length().saturating_sub(read));
        }
        Ok(())
    }

    fn decide(
        &mut self,
        path: &RestorePath,
        entry: &Entry,
        existing: Option<&Existing>,
    ) -> Result<Decision, RestoreError> {
        let wanted = Wanted { kind: entry.body.kind(), size: length(entry), mtime: entry.metadata.mtime };
        let (overwrite, is_file) = (self.overwrite, matches!(entry.body, Body::File { .. }));
        decide(overwrite, &wanted, existing, is_file.then_some(|| self.has_content(path, entry)))
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
