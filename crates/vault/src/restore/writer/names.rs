//! What becomes of the name of an entry: written, left as it is, or made one more name of a file that is there (R2).

use blockhouse_pipeline::tree::Entry;
use blockhouse_sources::files::{Decision, Existing, Placing, RestoreError, RestorePath};
use blockhouse_types::EntryKind;

use super::{Writer, length};
use crate::reader::ChunkReader;
use crate::restore::RestoreSnapshotError;
use crate::restore::links::Inode;

impl Writer<'_> {
    /// Decides about an entry that is no folder, and writes it or leaves what is there.
    pub(super) fn place(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
    ) -> Result<(), RestoreSnapshotError> {
        if self.include.is_partial()
            && let Some((folder, _)) = path.split_last()
        {
            self.make_all(&folder, Placing::New)?;
        }
        let inode = Inode::of(entry);
        let existing = self.target.existing(path)?;
        if self.is_linked(inode.as_ref(), existing.as_ref())? {
            self.report.kept += 1;
            return Ok(());
        }
        match (self.decide(path, entry, existing.as_ref())?, &existing) {
            (Decision::Create, _) => self.write(chunks, path, (entry, inode), Placing::New),
            (Decision::SetMetadata, Some(existing)) if self.may_stay(inode.as_ref(), existing) => {
                self.adopt(path, entry, inode)
            }
            (Decision::Replace | Decision::SetMetadata, _) => {
                self.write(chunks, path, (entry, inode), Placing::Replace)
            }
            (Decision::Keep, _) => self.keep(path, entry, inode),
            (Decision::Refuse(conflict), _) => {
                self.flaw(path, conflict.to_string());
                Ok(())
            }
        }
    }

    /// True if what stands there is a name already of the file that the entry is a name of.
    fn is_linked(&mut self, inode: Option<&Inode>, existing: Option<&Existing>) -> Result<bool, RestoreError> {
        let original = inode.and_then(|inode| self.links.original(inode)).cloned();
        let (Some(original), Some(existing)) = (original, existing) else { return Ok(false) };
        Ok(self.target.existing(&original)?.is_some_and(|original| original.inode == existing.inode))
    }

    /// Whether a file with the right content may stay: not if it has to become one with another that is there.
    fn may_stay(&mut self, inode: Option<&Inode>, existing: &Existing) -> bool {
        let has_original = inode.is_some_and(|inode| self.links.original(inode).is_some());
        !has_original && self.links.may_stay(inode, existing)
    }

    /// A file is there with its content: it gets its metadata.
    fn adopt(&mut self, path: &RestorePath, entry: &Entry, inode: Option<Inode>) -> Result<(), RestoreSnapshotError> {
        self.report.kept += 1;
        let missing = self.target.set_metadata(path, entry.body.kind(), &entry.metadata)?;
        self.note(missing);
        if let Some(inode) = inode {
            self.links.add_kept(inode, path);
        }
        Ok(())
    }

    /// What is there stays as it is. If it has the right content, the file's other names become names of it.
    fn keep(&mut self, path: &RestorePath, entry: &Entry, inode: Option<Inode>) -> Result<(), RestoreSnapshotError> {
        self.report.kept += 1;
        let Some(inode) = inode else { return Ok(()) };
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
        placing: Placing,
    ) -> Result<(), RestoreSnapshotError> {
        let Some(inode) = inode else { return self.make(chunks, path, entry, placing).map(drop) };
        if let Some(original) = self.links.original(&inode).cloned()
            && self.join(&original, path, placing)?
        {
            self.report.files += u64::from(entry.body.kind() == EntryKind::File);
            self.report.bytes += length(entry);
            self.links.add_made(inode, path);
        } else if self.make(chunks, path, entry, placing)? {
            self.links.replace(inode, path);
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
        match self.target.hard_link(original, path, placing) {
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
