//! Taking away: what is not in the snapshot, and what killed restores left.
//!
//! - **Owns** the removal of a name with all that is in it, below the target only.
//! - **Does not** decide what is to go.
//!
//! # Invariants
//! - **K1** No link is followed and no other file system entered: a folder on another one is refused, with all that holds it.

use std::collections::HashSet;

use blockhouse_types::EntryKind;
use rustix::{
    fs::{AtFlags, FileType, fstat, statat, unlinkat},
    io::Errno,
};

use super::{
    Mark, ParkedFile, RestoreError, RestorePath, RestoreTarget, TEMPORARY_PREFIX, failed,
    spot::{Spot, temporary_name},
    writer,
};
use crate::files::{
    found::{Identity, kind_of},
    list::{Named, names},
    trail::{Open, Trail},
};

/// What was taken away, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Names.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl RestoreTarget {
    /// The names in a folder of the target, but for temporary ones, by ascending bytes; none if it is no folder.
    pub fn names_in(&mut self, folder: &RestorePath) -> Result<Vec<Vec<u8>>, RestoreError> {
        let found = self.all_in(folder)?.into_iter().map(|Named { name, .. }| name);
        Ok(found.filter(|name| !name.starts_with(TEMPORARY_PREFIX.as_bytes())).collect())
    }

    /// True if nothing is in the target, but perhaps something of this name.
    pub fn is_empty_but(&mut self, name: &[u8]) -> Result<bool, RestoreError> {
        self.all_in(&RestorePath::target()).map(|found| found.iter().all(|named| named.name == name))
    }

    /// True if killed restores left something in a folder.
    pub fn has_temporaries(&mut self, folder: &RestorePath) -> Result<bool, RestoreError> {
        Ok(self.all_in(folder)?.iter().any(|named| is_left_behind(&named.name)))
    }

    /// Removes what killed restores left in a folder, but for the files of these marks.
    pub fn clear_temporaries(&mut self, folder: &RestorePath, wanted: &HashSet<Mark>) -> Result<Cleared, RestoreError> {
        let mut left = self.all_in(folder)?;
        let wanted: HashSet<Vec<u8>> = wanted.iter().map(|Mark(mark)| temporary_name(*mark)).collect();
        left.retain(|Named { name, .. }| is_left_behind(name) && !wanted.contains(name));
        let (open, mut cleared) = (self.folder(folder)?, Cleared::default());
        for Named { name, .. } in left {
            let bytes = size_of(&open, &name);
            if unlinkat(&open, name.as_slice(), AtFlags::empty()).is_ok() {
                cleared.entries += 1;
                cleared.bytes += bytes;
            }
        }
        Ok(cleared)
    }

    /// Removes a name of the target with all that is in it; with `only_look` it only counts.
    pub fn remove(&mut self, path: &RestorePath, only_look: bool) -> Result<Cleared, RestoreError> {
        let spot = self.spot(path)?;
        let mut cleared = Cleared::default();
        if spot.kind() != Some(EntryKind::Directory) {
            cleared.entries = 1;
            cleared.bytes = size_of(&spot.folder, &spot.name);
            if !only_look {
                unlinkat(&spot.folder, spot.name.as_slice(), AtFlags::empty()).map_err(failed("remove", path))?;
            }
            return Ok(cleared);
        }
        // Looked at first, so that a folder that holds another file system loses nothing.
        let mut looking = Removal { path, only_look: true, cleared: Cleared::default() };
        looking.folder(&spot)?;
        if only_look {
            return Ok(looking.cleared);
        }
        let mut removal = Removal { path, only_look: false, cleared };
        removal.folder(&spot)?;
        Ok(removal.cleared)
    }

    /// Removes a file that was put aside.
    pub fn discard(&mut self, parked: &ParkedFile) -> Result<(), RestoreError> {
        let spot = self.spot(parked.path())?;
        writer::discard(&spot, parked);
        Ok(())
    }

    fn all_in(&mut self, folder: &RestorePath) -> Result<Vec<Named>, RestoreError> {
        match self.folder(folder) {
            Err(RestoreError::System { source: Errno::NOENT | Errno::NOTDIR | Errno::LOOP, .. }) => Ok(Vec::new()),
            open => names(&open?).map_err(failed("list", folder)),
        }
    }

    fn folder(&mut self, folder: &RestorePath) -> Result<Open, RestoreError> {
        if folder.is_target() {
            return Ok(self.base.clone());
        }
        let spot = self.spot(folder)?;
        spot.folder.child(&spot.name).map_err(failed("open the folder", folder))
    }
}

/// A temporary name as restores give them: the prefix and sixteen digits.
fn is_left_behind(name: &[u8]) -> bool {
    let digits = name.strip_prefix(TEMPORARY_PREFIX.as_bytes());
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn size_of(folder: &Open, name: &[u8]) -> u64 {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if kind_of(FileType::from_raw_mode(stat.st_mode)) == EntryKind::File => Identity::of(&stat).size,
        _ => 0,
    }
}

struct Removal<'a> {
    path: &'a RestorePath,
    only_look: bool,
    cleared: Cleared,
}

impl Removal<'_> {
    fn folder(&mut self, spot: &Spot) -> Result<(), RestoreError> {
        let fail = || failed("remove", self.path);
        let top = spot.folder.child(&spot.name).map_err(fail())?;
        let device = fstat(&spot.folder).map_err(fail())?.st_dev;
        self.same_device(&top, device)?;
        let mut waiting = vec![names(&top).map_err(fail())?];
        let mut trail = Trail::new(top);
        let mut above: Vec<Vec<u8>> = Vec::new();
        while let Some(inside) = waiting.last_mut() {
            let Some(Named { name, kind }) = inside.pop() else {
                waiting.pop();
                if let Some(done) = above.pop() {
                    trail.pop();
                    let folder = trail.current().map_err(fail())?;
                    self.take(&folder, &done, AtFlags::REMOVEDIR)?;
                }
                continue;
            };
            let folder = trail.current().map_err(fail())?;
            if kind == EntryKind::Directory {
                let open = folder.child(&name).map_err(fail())?;
                self.same_device(&open, device)?;
                waiting.push(names(&open).map_err(fail())?);
                trail.push(&name, open);
                above.push(name);
            } else {
                self.cleared.bytes += size_of(&folder, &name);
                self.take(&folder, &name, AtFlags::empty())?;
            }
        }
        self.take(&spot.folder, &spot.name, AtFlags::REMOVEDIR)
    }

    fn take(&mut self, folder: &Open, name: &[u8], flags: AtFlags) -> Result<(), RestoreError> {
        self.cleared.entries += 1;
        if self.only_look {
            return Ok(());
        }
        unlinkat(folder, name, flags).map_err(failed("remove", self.path))
    }

    fn same_device(&self, folder: &Open, device: u64) -> Result<(), RestoreError> {
        if folder.node().device == device {
            return Ok(());
        }
        Err(RestoreError::OtherFileSystem { path: self.path.clone() })
    }
}
