//! What becomes of the name of an entry: written, left as it is, or made one more name of a file that is there (R2).

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{Decision, Existing, Placing, RestoreError, RestorePath, SparedBelow};
use blockhouse_types::EntryKind;

use super::{Around, Writer, length};
use crate::reader::ChunkReader;
use crate::restore::job::Job;
use crate::restore::links::Inode;
use crate::restore::{Change, ChangeKind, RestoreSnapshotError};

/// One more name of a file that is still to be written.
#[derive(Debug)]
pub(super) struct Deferred {
    path: RestorePath,
    entry: Box<Entry>,
    inode: Inode,
}

impl Writer<'_> {
    /// Decides about an entry that is no folder, and writes it or leaves what is there.
    pub(super) fn place(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
        around: &Around,
    ) -> Result<(), RestoreSnapshotError> {
        let has_left = around.has_left;
        if self.include.is_partial()
            && !self.act.is_rehearsal
            && let Some((folder, _)) = path.split_last()
        {
            self.make_all(&folder, Placing::New)?;
        }
        let inode = Inode::of(entry);
        let existing = self.existing(path)?;
        if existing.is_some() && inode.as_ref().is_some_and(|inode| self.pending.contains(inode)) {
            // What stands there may be a name of the file, or become its original: that is seen only once it is written.
            self.flush(chunks)?;
        }
        if self.is_linked(inode.as_ref(), existing.as_ref())? {
            self.report.kept += 1;
            self.count_as_done(entry);
            return Ok(());
        }
        let decision = self.decide(path, entry, existing.as_ref())?;
        match (decision, &existing) {
            (Decision::Create, _) => {
                self.tell(ChangeKind::New, path, entry);
                self.write(chunks, path, (entry, inode), (Placing::New, has_left))
            }
            (Decision::SetMetadata, Some(existing)) if self.may_stay(inode.as_ref(), existing) => {
                self.adopt(path, entry, inode)
            }
            (Decision::Replace | Decision::SetMetadata, Some(existing)) => {
                if !self.make_way(path, entry, existing, around)? {
                    return Ok(());
                }
                self.write(chunks, path, (entry, inode), (Placing::Replace, has_left))
            }
            (Decision::Replace | Decision::SetMetadata, None) => Ok(()),
            (Decision::Keep, _) => self.keep(path, entry, inode),
            (Decision::Refuse(conflict), _) => {
                self.flaw(path, conflict.to_string());
                self.count_as_done(entry);
                Ok(())
            }
        }
    }

    /// Tells that something is replaced. A folder that is not empty goes only if what is not in the snapshot may go and nothing in it is
    /// spared, and not before the entry gets its name; false if it stays.
    fn make_way(
        &mut self,
        path: &RestorePath,
        entry: &Entry,
        existing: &Existing,
        around: &Around,
    ) -> Result<bool, RestoreSnapshotError> {
        if existing.kind != EntryKind::Directory {
            let kind = if existing.kind == entry.body.kind() { ChangeKind::Changed } else { ChangeKind::Replaced };
            self.tell(kind, path, entry);
            return Ok(true);
        }
        let Some(target) = self.target.as_mut() else { return Ok(true) };
        if !self.act.deletes {
            if !target.names_in(path)?.is_empty() {
                let why = "a folder that is not empty is in the way; --delete removes it";
                return Ok(self.give_in(path, entry, why.to_owned()));
            }
            self.tell(ChangeKind::Replaced, path, entry);
            return Ok(true);
        }
        let found = match target.remove(path, &around.rules, true) {
            Ok(found) => found,
            Err(error) => return Ok(self.give_in(path, entry, crate::chain::chain(&error))),
        };
        if around.is_spared || found.spared > 0 {
            let why = "a folder is in the way that --exclude or the backup leaves out, or that holds such names";
            return Ok(self.give_in(path, entry, why.to_owned()));
        }
        if !self.act.is_rehearsal {
            // If the bytes cannot be fetched, the folder is still there.
            target.let_give_way(path, &around.rules);
            self.side_bytes += size_of::<(RestorePath, SparedBelow)>() + path.as_bytes().len();
        }
        self.tell_of(&Change { kind: ChangeKind::Deleted, path: path.as_bytes().to_vec(), bytes: found.bytes });
        self.tell(ChangeKind::New, path, entry);
        Ok(true)
    }

    /// What is in the way stays: false, and told.
    fn give_in(&mut self, path: &RestorePath, entry: &Entry, why: String) -> bool {
        self.flaw(path, why);
        self.count_as_done(entry);
        false
    }

    /// True if what stands there is a name already of the file that the entry is a name of.
    fn is_linked(&mut self, inode: Option<&Inode>, existing: Option<&Existing>) -> Result<bool, RestoreError> {
        let original = inode.and_then(|inode| self.links.original(inode)).cloned();
        let (Some(original), Some(existing)) = (original, existing) else { return Ok(false) };
        Ok(self.existing(&original)?.is_some_and(|original| original.inode == existing.inode))
    }

    /// Whether a file with the right content may stay: not if it has to become one with another that is there.
    fn may_stay(&mut self, inode: Option<&Inode>, existing: &Existing) -> bool {
        let has_original = inode.is_some_and(|inode| self.links.original(inode).is_some());
        !has_original && self.links.may_stay(inode, existing)
    }

    /// A file is there with its content: it gets its metadata.
    fn adopt(&mut self, path: &RestorePath, entry: &Entry, inode: Option<Inode>) -> Result<(), RestoreSnapshotError> {
        self.report.kept += 1;
        self.count_as_done(entry);
        if !self.act.is_rehearsal {
            let missing = self.target().set_metadata(path, entry.body.kind(), &entry.metadata)?;
            self.note(missing);
        }
        if let Some(inode) = inode {
            self.links.add_kept(inode, path);
        }
        Ok(())
    }

    /// What is there stays as it is. If it has the right content, the file's other names become names of it.
    fn keep(&mut self, path: &RestorePath, entry: &Entry, inode: Option<Inode>) -> Result<(), RestoreSnapshotError> {
        self.report.kept += 1;
        self.count_as_done(entry);
        let Some(inode) = inode.filter(|_| !self.act.is_rehearsal) else { return Ok(()) };
        if self.has_content(path, entry)? {
            for made in self.links.add_kept(inode, path) {
                self.join(path, &made, Placing::Replace)?;
            }
        }
        Ok(())
    }

    /// Writes an entry, or makes it one more name of a file that is there.
    fn write(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        (entry, inode): (&Entry, Option<Inode>),
        (placing, has_left): (Placing, bool),
    ) -> Result<(), RestoreSnapshotError> {
        if self.act.is_rehearsal {
            self.count_as_done(entry);
            return Ok(());
        }
        if let Some(inode) = inode.as_ref().filter(|inode| self.pending.contains(inode)) {
            let deferred = Deferred { path: path.clone(), entry: Box::new(entry.clone()), inode: inode.clone() };
            self.side_bytes += 1024 + 2 * path.as_bytes().len();
            self.deferred.push(deferred);
            return Ok(());
        }
        if let Some(inode) = &inode
            && let Some(original) = self.links.original(inode).cloned()
            && self.join(&original, path, placing)?
        {
            self.count_link(entry);
            self.links.add_made(inode.clone(), path);
            return Ok(());
        }
        if let Body::File { content, hash } = &entry.body {
            if let Some(inode) = &inode {
                self.links.replace(inode.clone(), path);
                self.pending.insert(inode.clone());
            }
            let whole = (content.length(), *hash);
            let job = Job::new(path.clone(), entry.metadata.clone(), whole, placing, inode);
            return self.plan_file(chunks, job, content, has_left);
        }
        if self.special(path, entry, placing)
            && let Some(inode) = inode
        {
            self.links.replace(inode, path);
        }
        Ok(())
    }

    fn count_link(&mut self, entry: &Entry) {
        self.report.files += u64::from(entry.body.kind() == EntryKind::File);
        self.report.bytes += length(entry);
        self.count_as_done(entry);
    }

    /// Makes the further names of files that are written by now; of one that could not be, the next name is tried by itself.
    pub(super) fn settle_links(&mut self, chunks: &mut ChunkReader) -> Result<(), RestoreSnapshotError> {
        for Deferred { path, entry, inode } in std::mem::take(&mut self.deferred) {
            self.write(chunks, &path, (&entry, Some(inode)), (Placing::New, false))?;
        }
        Ok(())
    }

    /// Gives a file one more name; false if the system does not let it: a limit on names, or another file system below the target.
    fn join(
        &mut self,
        original: &RestorePath,
        path: &RestorePath,
        placing: Placing,
    ) -> Result<bool, RestoreSnapshotError> {
        match self.target().hard_link(original, path, placing) {
            Ok(()) => Ok(true),
            Err(error @ RestoreError::System { .. }) => {
                let why = crate::chain::chain(&error);
                self.flaw(path, format!("it is a file of its own, not one with `{original}`: {why}"));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
