//! Durable, create-only writes below a folder.
//!
//! - **Owns** the order of calls that makes a write survive a loss of power, temporary files and their removal.
//! - **Does not** read objects (`opendal` does), know deadlines, or retry: `site` does.
//!
//! # Invariants
//! - **F1** Under a name there is nothing, or a whole object: bytes are synced before the name exists.
//! - **F2** After [`FileLayer::put`] returned, the object survives a loss of power: its bytes, its name, and every
//!   folder on the way are synced.
//! - **F3** An existing name is never replaced. Equal bytes under it count as written, after a sync of their own.
//! - **F4** A write that fails leaves at most a file in `.tmp`, and removes that if it can.
//!
//! Assumptions: the file system keeps what it confirmed with `fsync`, and a failed sync is reported once at least.
//!
//! Order of calls: `docs/design/sites.md`, The `file:` layer.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use crate::disk::{Disk, DiskCall, split};
use crate::error::is;

/// Where objects are written before they have their name.
pub(crate) const TEMPORARY_FOLDER: &str = ".tmp";

/// The step of a comparison; larger ones save no time.
const COMPARE_STEP: usize = 256 * 1024;

/// How a write ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Written,
    /// The same bytes had the name already, and are durable now.
    AlreadyThere,
}

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    #[error("something else has the name already")]
    Exists,
    #[error("could not {call}")]
    Disk {
        call: DiskCall,
        #[source]
        source: io::Error,
    },
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Temporary files that were removed.
    pub removed: usize,
    /// Temporary files that may still be in use.
    pub kept: usize,
}

/// The write side of a `file:` site.
#[derive(Debug)]
pub struct FileLayer {
    disk: Arc<dyn Disk>,
    /// Folders whose own names this process has made durable. A folder that is found may be one that a process made
    /// and died before it synced the parent, so finding it proves nothing.
    durable_folders: Mutex<HashSet<String>>,
}

trait At<T> {
    fn at(self, call: DiskCall) -> Result<T, WriteError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, call: DiskCall) -> Result<T, WriteError> {
        self.map_err(|source| WriteError::Disk { call, source })
    }
}

impl FileLayer {
    /// Writes through this disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, durable_folders: Mutex::default() }
    }

    /// The disk below.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Writes an object. When this returns, it survives a loss of power.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<Put, WriteError> {
        self.put_pieces(path, &[bytes])
    }

    /// The same of an object in pieces.
    pub fn put_pieces(&self, path: &str, pieces: &[&[u8]]) -> Result<Put, WriteError> {
        if let Some(put) = self.settle_existing(path, pieces)? {
            return Ok(put);
        }
        let temporary = self.write_temporary(pieces)?;
        let (folder, _) = split(path);
        let moved = self.ensure_folder(folder).and_then(|()| self.move_to(&temporary, path));
        match moved {
            Ok(true) => {
                self.disk.sync_folder(folder).at(DiskCall::SyncFolder)?;
                Ok(Put::Written)
            }
            Ok(false) => {
                self.discard(&temporary);
                // Removed again between the two looks: the next attempt may write it.
                let vanished = || io::Error::from(io::ErrorKind::Interrupted);
                self.settle_existing(path, pieces)?
                    .ok_or_else(|| WriteError::Disk { call: DiskCall::Rename, source: vanished() })
            }
            Err(error) => {
                self.discard(&temporary);
                Err(error)
            }
        }
    }

    /// Removes an object; false if it was not there. When this returns, the removal survives a loss of power.
    pub fn delete(&self, path: &str) -> Result<bool, WriteError> {
        match self.disk.unlink(path) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::NOENT) || is(&error, Errno::NOTDIR) => return Ok(false),
            Err(source) => return Err(WriteError::Disk { call: DiskCall::Unlink, source }),
        }
        self.disk.sync_folder(split(path).0).at(DiskCall::SyncFolder)?;
        Ok(true)
    }

    /// Removes temporary files that nobody can be writing any more: those last written to `age` or longer before `now`.
    pub fn sweep(&self, now: SystemTime, age: Duration) -> Result<Swept, WriteError> {
        let entries = match self.disk.list_folder(TEMPORARY_FOLDER) {
            Err(error) if is(&error, Errno::NOENT) => return Ok(Swept::default()),
            entries => entries.at(DiskCall::Open)?,
        };
        let mut swept = Swept::default();
        for entry in entries.iter().filter(|entry| is_temporary_name(&entry.name)) {
            // A file from the future is kept: one of the two clocks is wrong, and it may be in use.
            if now.duration_since(entry.modified).is_ok_and(|since| since >= age) {
                match self.disk.unlink(&format!("{TEMPORARY_FOLDER}/{}", entry.name)) {
                    Err(error) if !is(&error, Errno::NOENT) => return Err(error).at(DiskCall::Unlink),
                    _ => swept.removed += 1,
                }
            } else {
                swept.kept += 1;
            }
        }
        Ok(swept)
    }

    /// Tries to give a second object a name that exists; true if that is refused, as it must be.
    pub(crate) fn refuses_to_replace(&self, path: &str) -> Result<bool, WriteError> {
        let temporary = self.write_temporary(&[])?;
        let moved = self.move_to(&temporary, path);
        self.discard(&temporary);
        moved.map(|moved| !moved)
    }

    /// Makes an object that is there durable, whoever wrote it; false if it is not there.
    pub fn settle(&self, path: &str) -> Result<bool, WriteError> {
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(error) if is(&error, Errno::NOENT) => return Ok(false),
            Err(source) => return Err(WriteError::Disk { call: DiskCall::Open, source }),
        };
        self.settle_file(path, &file)?;
        Ok(true)
    }

    /// Its writer may have died before it synced the folder, or a folder above.
    fn settle_file(&self, path: &str, file: &File) -> Result<(), WriteError> {
        let (folder, _) = split(path);
        self.disk.sync_file(file).at(DiskCall::SyncFile)?;
        self.ensure_folder(folder)?;
        self.disk.sync_folder(folder).at(DiskCall::SyncFolder)
    }

    /// If the name exists: makes equal bytes durable, refuses others.
    fn settle_existing(&self, path: &str, pieces: &[&[u8]]) -> Result<Option<Put>, WriteError> {
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(error) if is(&error, Errno::NOENT) => return Ok(None),
            // A link or a socket has the name.
            Err(error) if is(&error, Errno::LOOP) || is(&error, Errno::NXIO) => return Err(WriteError::Exists),
            Err(source) => return Err(WriteError::Disk { call: DiskCall::Open, source }),
        };
        if !holds(&file, pieces).at(DiskCall::Read)? {
            return Err(WriteError::Exists);
        }
        self.settle_file(path, &file)?;
        Ok(Some(Put::AlreadyThere))
    }

    /// Writes and syncs a temporary file, and gives its path.
    fn write_temporary(&self, pieces: &[&[u8]]) -> Result<String, WriteError> {
        let path = format!("{TEMPORARY_FOLDER}/{:032x}", rand::random::<u128>());
        let file = match self.disk.create_new(&path) {
            Err(error) if is(&error, Errno::NOENT) => {
                self.make_temporary_folder()?;
                self.disk.create_new(&path)
            }
            created => created,
        }
        .at(DiskCall::CreateNew)?;
        let written = self.disk.write_all(&file, pieces).at(DiskCall::Write);
        let synced = written.and_then(|()| self.disk.sync_file(&file).at(DiskCall::SyncFile));
        drop(file);
        match synced {
            Ok(()) => Ok(path),
            Err(error) => {
                self.discard(&path);
                Err(error)
            }
        }
    }

    /// Makes `.tmp`. It need not be durable: nothing in it has to survive.
    fn make_temporary_folder(&self) -> Result<(), WriteError> {
        match self.disk.make_folder(TEMPORARY_FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).at(DiskCall::MakeFolder),
            _ => Ok(()),
        }
    }

    /// Makes a folder and those above it, and makes their names durable.
    fn ensure_folder(&self, folder: &str) -> Result<(), WriteError> {
        if folder.is_empty() || self.durable().contains(folder) {
            return Ok(());
        }
        let (parent, _) = split(folder);
        self.ensure_folder(parent)?;
        match self.disk.make_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // If the parent vanished, the next attempt has to make it again.
                self.durable().clear();
                return Err(error).at(DiskCall::MakeFolder);
            }
            _ => {}
        }
        self.disk.sync_folder(parent).at(DiskCall::SyncFolder)?;
        self.durable().insert(folder.to_owned());
        Ok(())
    }

    /// Gives a temporary file its name; false if the name exists.
    fn move_to(&self, temporary: &str, path: &str) -> Result<bool, WriteError> {
        match self.disk.rename_noreplace(temporary, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) if [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].iter().any(|errno| is(&error, *errno)) => {
                self.link_to(temporary, path)
            }
            Err(source) => {
                // If a folder vanished, the next attempt has to make it again.
                self.durable().clear();
                Err(WriteError::Disk { call: DiskCall::Rename, source })
            }
        }
    }

    /// The same where the file system cannot refuse to replace.
    fn link_to(&self, temporary: &str, path: &str) -> Result<bool, WriteError> {
        match self.disk.link(temporary, path) {
            Ok(()) => {
                self.discard(temporary);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => {
                self.durable().clear();
                Err(WriteError::Disk { call: DiskCall::Link, source })
            }
        }
    }

    /// Removes a temporary file. If that fails, a later sweep will: the failure that led here is the one to report.
    fn discard(&self, temporary: &str) {
        let _ = self.disk.unlink(temporary);
    }

    /// A panic elsewhere cannot have left the set half-changed.
    fn durable(&self) -> MutexGuard<'_, HashSet<String>> {
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for names that `write_temporary` gives.
pub(crate) fn is_temporary_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// True if the file is a regular one and holds exactly these pieces.
fn holds(mut file: &File, pieces: &[&[u8]]) -> io::Result<bool> {
    let (metadata, length) = (file.metadata()?, pieces.iter().map(|piece| piece.len()).sum::<usize>());
    if !metadata.is_file() || metadata.len() != length as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; COMPARE_STEP.min(length)];
    for expected in pieces.iter().flat_map(|piece| piece.chunks(COMPARE_STEP)) {
        let Some(found) = buffer.get_mut(..expected.len()) else { return Ok(false) };
        match file.read_exact(found) {
            Ok(()) if found == expected => {}
            Ok(()) => return Ok(false),
            // Cut shorter since we asked for its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
