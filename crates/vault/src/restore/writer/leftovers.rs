//! Looks at what stood in a folder of the target before: what killed restores left there, and what rules it.
//!
//! - **Owns** the removal of leftovers that nobody wants, and what is to be known of a target to which the contents of several folders go.
//! - **Does not** take leftovers up again: `fill` does, file by file.

use std::collections::HashSet;
use std::io::Read;

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::Body;
use blockhouse_sources::files::{IGNORE_FILE, RestorePath, RestoreTarget};

use super::{Open, Writer};
use crate::reader::{ChunkReader, Entries};
use crate::restore::RestoreSnapshotError;
use crate::restore::job::mark;
use crate::restore::start::{IGNORE_MAX, Itself, Start};

/// What the target was before, where the contents of several folders go to it: what one of them brings is no word for the others.
#[derive(Default)]
pub(super) struct Shared {
    /// Whether a killed restore left files in it that one of them wants.
    pub(super) has_left: bool,
    /// What its ignore file says: one of them may bring another, which rules nothing before the next restore.
    pub(super) ignore: Option<Vec<u8>>,
}

impl Writer<'_> {
    /// Looks at the target before anything is written to it, where the contents of several folders go to it.
    pub(in crate::restore) fn look_at_shared(
        &mut self,
        chunks: &mut ChunkReader,
        starts: &[Start],
    ) -> Result<(), RestoreSnapshotError> {
        let stripped = || starts.iter().filter(|start| matches!(start.itself, Itself::Stripped { is_alone: false }));
        if stripped().next().is_none() {
            return Ok(());
        }
        if self.act.deletes {
            let ignore_file = RestorePath::target().join(IGNORE_FILE.as_bytes())?;
            self.shared.ignore = self.target.as_mut().and_then(|target| text(target, &ignore_file));
        }
        if stripped().any(|start| self.include.holds(&start.whole)) {
            // In one go: what one of them does not want another may.
            let listings = stripped().filter_map(|start| match &start.entry.body {
                Body::Directory(listing) => Some((&start.whole, listing)),
                _ => None,
            });
            self.shared.has_left = self.clear_leftovers(chunks, &RestorePath::target(), listings)?;
        }
        Ok(())
    }

    /// Looks for what killed restores left in a folder that was there before.
    pub(super) fn look_into(
        &mut self,
        chunks: &mut ChunkReader,
        open: &mut Open,
        listing: &Content,
    ) -> Result<(), RestoreSnapshotError> {
        open.has_left = self.clear_leftovers(chunks, &open.path, [(&open.whole, listing)])?;
        Ok(())
    }

    /// Removes what killed restores left in a folder, but for what is asked for of these listings, each with its path in the snapshot; true
    /// if something is left.
    fn clear_leftovers<'l>(
        &mut self,
        chunks: &mut ChunkReader,
        folder: &RestorePath,
        listings: impl IntoIterator<Item = (&'l RestorePath, &'l Content)>,
    ) -> Result<bool, RestoreSnapshotError> {
        let Some(target) = self.target.as_mut() else { return Ok(false) };
        if self.act.is_rehearsal || !target.has_temporaries(folder)? {
            return Ok(false);
        }
        let mut wanted = HashSet::new();
        let include = &self.include;
        let is_asked_for = |path: &RestorePath| include.holds(path) && !include.leaves_out_within(path);
        for (whole, listing) in listings {
            let Ok(mut entries) = Entries::of(chunks, folder.as_bytes(), listing) else { continue };
            while let Ok(Some(entry)) = entries.next(chunks) {
                let is_wanted = || whole.join(&entry.name).is_ok_and(|path| is_asked_for(&path));
                if let Body::File { hash, .. } = &entry.body
                    && is_wanted()
                {
                    wanted.insert(mark(&entry.name, hash));
                }
            }
        }
        let cleared = target.clear_temporaries(folder, &wanted)?;
        self.report.cleared += cleared.entries;
        Ok(target.has_temporaries(folder)?)
    }
}

/// What an ignore file says. One that cannot be read, or is none, rules nothing.
fn text(target: &mut RestoreTarget, path: &RestorePath) -> Option<Vec<u8>> {
    let (file, mut text) = (target.read_existing(path).ok()?, Vec::new());
    file.take(IGNORE_MAX + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= IGNORE_MAX).then_some(text)
}
