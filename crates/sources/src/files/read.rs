//! Reads one file: where it has data, the data, and whether it stayed what it was.
//!
//! - **Owns** opening without following, blocking or touching, and the proof that nothing changed while reading.
//! - **Does not** buffer or cut: callers ask for ranges, from any thread.
//!
//! # Invariants
//! - **R1** The bytes handed out are those of the inode that the walk found, or opening fails.
//! - **R2** A range that the file no longer has is [`ReadError::Shrunk`], never zeros.
//! - **R3** The entry in [`FileReader::found`] describes the file as opened; what changed since is told by `finish`.

use std::os::fd::{AsFd, OwnedFd};

use blockhouse_types::EntryKind;
use rustix::{
    fs::{Advice, FileType, OFlags, SeekFrom, fadvise, fstat, seek},
    io::{Errno, pread},
};

use super::{
    Accounts, AttributeUnread, Found, Identity, Reason,
    found::{Place, describe},
    trail::{Node, Open, open_quietly},
};

/// From this size on it pays to tell the kernel how a file will be read.
const WORTH_ADVICE: u64 = 256 * 1024;

/// A part of a file that is all data or all hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// Its length, never 0.
    pub length: u64,
    /// Whether it is a hole, which reads as zeros and takes no room.
    pub is_hole: bool,
}

/// Why a range could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("`{}` was cut short while it was being read: nothing is left at byte {offset} of {size}", path.escape_ascii())]
    Shrunk { path: Vec<u8>, offset: u64, size: u64 },
    #[error("could not read `{}` at byte {offset}", path.escape_ascii())]
    System {
        path: Vec<u8>,
        offset: u64,
        #[source]
        source: Errno,
    },
}

impl ReadError {
    /// The reason for the record of the file that was not read.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Shrunk { .. } => Reason::Shrunk,
            Self::System { source, .. } => Reason::from(*source),
        }
    }
}

/// A file that was not the same before and after: its bytes may belong to two moments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` changed while it was being read", path.escape_ascii())]
pub struct ChangedWhileRead {
    /// The path from the root.
    pub path: Vec<u8>,
    /// As it was when opened.
    pub before: Identity,
    /// As it is after reading.
    pub after: Identity,
}

/// An open file.
#[derive(Debug)]
pub struct FileReader {
    file: OwnedFd,
    found: Found,
    attributes_unread: Vec<AttributeUnread>,
}

impl FileReader {
    /// Opens the entry `name` of `folder`, which must still be the file that was found. `O_NONBLOCK` matters if a named
    /// pipe took the name: opening it must not wait for a writer.
    pub(crate) fn open(folder: &Open, name: &[u8], found: &Found, accounts: &Accounts) -> Result<Self, Reason> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open_quietly(folder.as_fd(), name, flags)?;
        let stat = fstat(&file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if found.kind != EntryKind::File || !is_file || Node::of(&stat) != found.identity.node() {
            return Err(Reason::Replaced);
        }
        let (found, attributes_unread) = if Identity::of(&stat) == found.identity {
            (found.clone(), Vec::new())
        } else {
            let place = Place { root: found.root, path: found.path.clone(), name: found.name.clone() };
            describe(&file, place, accounts)?
        };
        let reader = Self { file, found, attributes_unread };
        reader.advise();
        Ok(reader)
    }

    /// The entry as opened: newer than the listing's if the file changed in between.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Attributes that were read anew on opening and could not be.
    pub fn attributes_unread(&self) -> &[AttributeUnread] {
        &self.attributes_unread
    }

    /// The extent that begins at `offset`; none at the end of the file. Where the file system does not tell holes, the
    /// rest of the file is data.
    pub fn extent_at(&self, offset: u64) -> Result<Option<Extent>, ReadError> {
        let size = self.found.size;
        if offset >= size {
            return Ok(None);
        }
        let (end, is_hole) = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (data, true),
            Ok(_) => match seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) => (hole, false),
                Err(error) => return Err(self.lost(offset, error)),
            },
            // Either a hole up to the end, or the end has moved before `offset`.
            Err(Errno::NXIO) => {
                self.check_length(offset)?;
                (size, true)
            }
            Err(Errno::INVAL | Errno::NOTSUP) => (size, false),
            Err(error) => return Err(self.lost(offset, error)),
        };
        Ok(Some(Extent { offset, length: end.clamp(offset + 1, size) - offset, is_hole }))
    }

    /// True if a part of the file is a hole; false where the file system does not tell.
    pub fn has_holes(&self) -> Result<bool, ReadError> {
        let first = self.extent_at(0)?;
        Ok(first.is_some_and(|first| first.is_hole || first.length < self.found.size))
    }

    /// Fills `buffer` from `offset` on. The range must lie in the file as opened.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(filled as u64);
            match pread(&self.file, rest, position) {
                Ok(0) => return Err(self.shrunk(position)),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.lost(position, error)),
            }
        }
        Ok(())
    }

    /// Whether the file is still as it was when opened.
    pub fn finish(self) -> Result<Option<ChangedWhileRead>, ReadError> {
        let stat = fstat(&self.file).map_err(|error| self.lost(0, error))?;
        let (before, after) = (self.found.identity, Identity::of(&stat));
        Ok((before != after).then_some(ChangedWhileRead { path: self.found.path, before, after }))
    }

    /// Says that the file is read once, from its front to its end: what comes into the cache by that goes first. It is not dropped from there: the
    /// program whose data it is would lose what it needs. Advice: nothing is wrong if the file system does not take it.
    fn advise(&self) {
        if self.found.size >= WORTH_ADVICE {
            let _ = fadvise(&self.file, 0, None, Advice::Sequential);
            let _ = fadvise(&self.file, 0, None, Advice::NoReuse);
        }
    }

    /// An end of data counts as a hole only if the file still has its length.
    fn check_length(&self, offset: u64) -> Result<(), ReadError> {
        let stat = fstat(&self.file).map_err(|error| self.lost(offset, error))?;
        if Identity::of(&stat).size < self.found.size { Err(self.shrunk(offset)) } else { Ok(()) }
    }

    fn shrunk(&self, offset: u64) -> ReadError {
        ReadError::Shrunk { path: self.found.path.clone(), offset, size: self.found.size }
    }

    fn lost(&self, offset: u64, source: Errno) -> ReadError {
        ReadError::System { path: self.found.path.clone(), offset, source }
    }
}
