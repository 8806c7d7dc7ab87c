//! One file on its way to its name.

use std::{os::fd::OwnedFd, sync::Arc};

use blockhouse_types::Metadata;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fstat, ftruncate, openat, unlinkat},
    io::{Errno, pread, pwrite},
    process::geteuid,
};

use super::{NotRestored, Placing, RestoreError, RestorePath, Settings, Spot, failed, metadata};
use crate::files::trail::Node;

/// What tells the temporary name of one file from those of others in its folder: the same for the same file of the same content,
/// so that a restore finds again what an earlier one left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; 8]);

/// A file that has no real name yet. Ranges may be written from any thread, in any order; dropped before
/// [`FileWriter::finish`] or [`FileWriter::leave`], it leaves nothing behind.
#[derive(Debug)]
pub struct FileWriter {
    file: OwnedFd,
    temporary: Spot,
    spot: Spot,
    size: u64,
    placing: Placing,
    is_resumed: bool,
    /// True once the temporary name is no longer to be removed.
    is_settled: bool,
    settings: Arc<Settings>,
}

/// A file that was put aside, so that it takes no handles. Its temporary name stays.
#[derive(Debug)]
pub struct ParkedFile {
    path: RestorePath,
    name: Vec<u8>,
    node: Node,
    size: u64,
    placing: Placing,
    is_resumed: bool,
}

impl ParkedFile {
    /// The path that the file will have.
    pub fn path(&self) -> &RestorePath {
        &self.path
    }
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl FileWriter {
    pub(super) fn begin(
        spot: Spot,
        (size, placing): (u64, Placing),
        mark: Option<Mark>,
        settings: Arc<Settings>,
    ) -> Result<Self, RestoreError> {
        let file = std::cell::Cell::new(None);
        let create = |temporary: &Spot| {
            let flags = FLAGS | OFlags::CREATE | OFlags::EXCL;
            let opened = openat(&temporary.folder, temporary.name.as_slice(), flags, Mode::RUSR | Mode::WUSR)?;
            file.set(Some(opened));
            Ok(())
        };
        let mut is_resumed = false;
        let temporary = match mark {
            None => spot.temporary(create)?,
            Some(Mark(mark)) => {
                let temporary = spot.marked(mark);
                match create(&temporary) {
                    Err(Errno::EXIST) => {
                        if let Some(opened) = left_behind(&temporary) {
                            is_resumed = true;
                            file.set(Some(opened));
                        } else {
                            temporary.discard();
                            create(&temporary).map_err(failed("create", &spot.path))?;
                        }
                    }
                    created => created.map_err(failed("create", &spot.path))?,
                }
                temporary
            }
        };
        let file = file.into_inner().expect("the temporary name was made, or found, by opening the file");
        let writer = Self { file, temporary, spot, size, placing, is_resumed, is_settled: false, settings };
        ftruncate(&writer.file, size).map_err(failed("give its length to", writer.path()))?;
        Ok(writer)
    }

    pub(super) fn take_up(spot: Spot, parked: ParkedFile, settings: Arc<Settings>) -> Result<Self, RestoreError> {
        let ParkedFile { name, node, size, placing, is_resumed, .. } = parked;
        let temporary = Spot { folder: spot.folder.clone(), name, path: spot.path.clone() };
        let file = openat(&temporary.folder, temporary.name.as_slice(), FLAGS | OFlags::NONBLOCK, Mode::empty())
            .map_err(failed("go on with", &spot.path))?;
        match fstat(&file) {
            Ok(stat) if Node::of(&stat) == node => {}
            // Not ours to remove.
            _ => return Err(failed("go on with", &spot.path)(Errno::STALE)),
        }
        Ok(Self { file, temporary, spot, size, placing, is_resumed, is_settled: false, settings })
    }

    /// Puts the file aside.
    pub fn park(mut self) -> Result<ParkedFile, RestoreError> {
        let stat = fstat(&self.file).map_err(failed("look at", self.path()))?;
        self.is_settled = true;
        Ok(ParkedFile {
            path: self.spot.path.clone(),
            name: self.temporary.name.clone(),
            node: Node::of(&stat),
            size: self.size,
            placing: self.placing,
            is_resumed: self.is_resumed,
        })
    }

    /// The path that the file will have.
    pub fn path(&self) -> &RestorePath {
        &self.spot.path
    }

    /// True if an earlier restore began it: its bytes may be right, or not.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Empties a file that an earlier restore began: all of it is a hole then.
    pub fn start_over(&mut self) -> Result<(), RestoreError> {
        self.is_resumed = false;
        let emptied = ftruncate(&self.file, 0).and_then(|()| ftruncate(&self.file, self.size));
        emptied.map_err(failed("begin again", self.path()))
    }

    /// Writes a range, which must lie in the file.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(RestoreError::OutOfRange { path: self.path().clone(), offset, end, size: self.size });
        }
        let mut rest = bytes;
        let mut position = offset;
        while !rest.is_empty() {
            match pwrite(&self.file, rest, position) {
                Ok(0) => return Err(failed("write", self.path())(Errno::NOSPC)),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    position += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("write", self.path())(error)),
            }
        }
        Ok(())
    }

    /// Reads a range back, as much of it as there is.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, RestoreError> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(&self.file, buffer.get_mut(done..).unwrap_or_default(), offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("read back", self.path())(error)),
            }
        }
        Ok(done)
    }

    /// Leaves the file under its temporary name, for a restore that goes on with it.
    pub fn leave(mut self) {
        self.is_settled = true;
    }

    /// Sets the metadata and gives the file its name.
    pub fn finish(mut self, metadata: &Metadata) -> Result<Vec<NotRestored>, RestoreError> {
        let not_restored = metadata::set(&self.file, self.path(), metadata, &self.settings);
        self.spot.place(&self.temporary, self.placing)?;
        self.is_settled = true;
        Ok(not_restored)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.is_settled {
            self.temporary.discard();
        }
    }
}

/// What stands under a temporary name, if it is a file that only this user could have written.
fn left_behind(temporary: &Spot) -> Option<OwnedFd> {
    let opened = openat(&temporary.folder, temporary.name.as_slice(), FLAGS | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let stat = fstat(&opened).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_mine = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o7777 == 0o600 && stat.st_nlink == 1;
    (is_file && is_mine).then_some(opened)
}

/// Removes a file that was put aside.
pub(super) fn discard(spot: &Spot, parked: &ParkedFile) {
    let _ = unlinkat(&spot.folder, parked.name.as_slice(), AtFlags::empty());
}
