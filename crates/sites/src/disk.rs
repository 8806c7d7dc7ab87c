//! The file system calls that durable writing is made of.
//!
//! - **Owns** the seam between the `file:` layer and the file system, with two implementations: [`RealDisk`], and the
//!   test twin that forgets what was not synced.
//! - **Does not** know the order in which they make a write durable: `file_layer` does.
//!
//! Paths are relative to the site's folder, with `/` between names; the empty path is the folder itself.

pub(crate) mod direct;
mod real;

use std::fmt;
use std::fs::File;
use std::io;
use std::time::SystemTime;

pub use real::RealDisk;

/// A call that changes or syncs something, named in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskCall {
    /// Open for reading.
    Open,
    /// Read.
    Read,
    /// Create a file that must not exist.
    CreateNew,
    /// Write to a file.
    Write,
    /// Sync a file's bytes and metadata.
    SyncFile,
    /// Rename to a name that must not exist.
    Rename,
    /// Give a file a second name.
    Link,
    /// Remove a name.
    Unlink,
    /// Make a folder.
    MakeFolder,
    /// Sync the names in a folder.
    SyncFolder,
    /// Ask for the device, the names or the room.
    Examine,
}

impl fmt::Display for DiskCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open it",
            Self::Read => "read it back",
            Self::CreateNew => "create a file in .tmp",
            Self::Write => "write its bytes",
            Self::SyncFile => "sync its bytes",
            Self::Rename => "move it to its name",
            Self::Link => "move it to its name: this file system renames over existing files and gave no second name",
            Self::Unlink => "remove a name",
            Self::MakeFolder => "make its folder",
            Self::SyncFolder => "sync its folder",
            Self::Examine => "examine the file system",
        })
    }
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name; what is not UTF-8 is replaced, so that such a name is never one of ours.
    pub name: String,
    /// When it was last written to.
    pub modified: SystemTime,
}

/// Room on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The file system below one site's folder.
///
/// # Laws (checked by `disk/tests.rs` for every implementation)
/// 1. Confined: no call but `open_to_read` leaves the folder it was opened on, not through a symbolic link and not after the folder's
///    path was given to another one.
/// 2. Create-only: `create_new`, `rename_noreplace` and `link` fail with `AlreadyExists` and change nothing if the name
///    exists, whoever else tries at the same time.
/// 3. Durable: after `sync_file` the bytes, and after `sync_folder` the names of that folder alone, survive a loss of
///    power.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a file for writing that must not exist.
    fn create_new(&self, path: &str) -> io::Result<File>;
    /// Writes all pieces, one after the other, to a fresh file of [`Disk::create_new`].
    fn write_all(&self, file: &File, pieces: &[&[u8]]) -> io::Result<()>;
    /// Syncs a file.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Opens for reading, without waiting and without following a link at the name.
    fn open(&self, path: &str) -> io::Result<File>;
    /// Opens for reading as a path is opened, following links: an operator may have moved a folder to another disk, and what is read shows by itself
    /// whether it is right. Without waiting.
    fn open_to_read(&self, path: &str) -> io::Result<File>;
    /// True if the name exists, whatever it is.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Renames; fails with `InvalidInput` or `Unsupported` where the file system cannot refuse to replace.
    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the name of a file.
    fn unlink(&self, path: &str) -> io::Result<()>;
    /// Makes a folder that must not exist.
    fn make_folder(&self, path: &str) -> io::Result<()>;
    /// Syncs a folder.
    fn sync_folder(&self, path: &str) -> io::Result<()>;
    /// The names in a folder.
    fn list_folder(&self, path: &str) -> io::Result<Vec<FolderEntry>>;
    /// The device of a file or folder.
    fn device(&self, path: &str) -> io::Result<u64>;
    /// The room that is left.
    fn space(&self) -> io::Result<Space>;
}

/// Folder and name of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests;
