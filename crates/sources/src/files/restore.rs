//! Writes entries back below one folder.
//!
//! - **Owns** the safety of the target: where things are created, what may be replaced, in which order metadata is set.
//! - **Does not** decide what to restore or fetch it: callers come with paths, bytes and metadata, folders before what is in
//!   them, and with each folder's metadata once everything in it is done (deepest first).
//!
//! # Invariants
//! - **B1** Nothing outside the target is created, changed or removed, whatever the tree says and whatever other programs
//!   do in the target meanwhile: every step is one checked name relative to an open folder, and no link is followed.
//! - **B2** A file has its real name only when its content and metadata are complete; until then it is called
//!   [`TEMPORARY_PREFIX`] and some random digits, in the same folder, readable by its owner alone.
//! - **B3** A folder that is not empty is never removed. What exists is replaced only when [`Placing::Replace`] says so.
//! - **B4** What could not be set is returned as [`NotRestored`]. Set-id bits are never set for another owner than stored.

mod decide;
mod metadata;
mod path;
mod writer;

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use blockhouse_types::{EntryKind, Link, Metadata};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, fstat, linkat, makedev, mkdirat, mknodat, openat, readlinkat,
        renameat, renameat_with, statat, symlinkat, syncfs, unlinkat,
    },
    io::Errno,
};

pub use self::{
    decide::{Conflict, Decision, Existing, Overwrite, Placing, Wanted, decide},
    metadata::{Aspect, NotRestored, Ownership},
    path::{PathError, RestorePath},
    writer::FileWriter,
};
use super::{
    Accounts, DeviceNumber,
    found::{Identity, kind_of},
    trail::{Open, Trail},
};

/// How files begin that are not complete. A killed restore may leave one behind; it is safe to delete.
pub const TEMPORARY_PREFIX: &str = ".blockhouse-restore-";

/// Why something could not be written back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    #[error("could not open the target `{}`", path.display())]
    Target {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the target `{}` is no folder", path.display())]
    NoFolder { path: PathBuf },
    #[error("could not {what} `{path}`")]
    System {
        what: &'static str,
        path: RestorePath,
        #[source]
        source: Errno,
    },
    #[error("`{path}` is in the way")]
    InTheWay { path: RestorePath },
    #[error("the folder `{path}` is in the way and not empty")]
    NotEmpty { path: RestorePath },
    #[error("the target itself cannot be replaced by something else")]
    IsTarget,
    #[error("bytes {offset} to {end} do not lie in `{path}`, which has {size}")]
    OutOfRange { path: RestorePath, offset: u64, end: u64, size: u64 },
    #[error("could not draw random digits for a temporary name")]
    Random(#[source] getrandom::Error),
}

/// Makes an error of a system call on a path.
fn failed(what: &'static str, path: &RestorePath) -> impl FnOnce(Errno) -> RestoreError {
    move |source| RestoreError::System { what, path: path.clone(), source }
}

/// Entries without content that are neither folder nor file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special<'a> {
    /// A symbolic link to this target, which is not looked at.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A character device; needs root.
    CharDevice(DeviceNumber),
    /// A block device; needs root.
    BlockDevice(DeviceNumber),
}

/// The folder that a restore writes into. Cheapest when paths come in the order of a walk: it keeps its place.
#[derive(Debug)]
pub struct RestoreTarget {
    trail: Trail,
    base: Open,
    settings: Arc<Settings>,
}

/// What setting metadata depends on; shared with writers, which may finish on other threads.
#[derive(Debug)]
struct Settings {
    accounts: Accounts,
    ownership: Ownership,
}

/// A folder of the target and a name in it.
#[derive(Debug, Clone)]
struct Spot {
    folder: Open,
    name: Vec<u8>,
    path: RestorePath,
}

impl RestoreTarget {
    /// Opens the target, which is created, with what lies above it, if it is missing.
    pub fn open(path: &Path, ownership: Ownership) -> Result<Self, RestoreError> {
        let fail = |source| RestoreError::Target { path: path.to_owned(), source };
        if path.exists() && !path.is_dir() {
            return Err(RestoreError::NoFolder { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(fail)?;
        let canonical = path.canonicalize().map_err(fail)?;
        let base = Open::absolute(&canonical).map_err(|error| fail(error.into()))?;
        let settings = Arc::new(Settings { accounts: Accounts::of_this_host(), ownership });
        Ok(Self { trail: Trail::new(base.clone()), base, settings })
    }

    /// What stands at a path now, for [`decide()`].
    pub fn existing(&mut self, path: &RestorePath) -> Result<Option<Existing>, RestoreError> {
        let stat = if path.is_target() {
            fstat(&self.base)
        } else {
            let spot = self.spot(path)?;
            statat(&spot.folder, spot.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
        };
        match stat {
            Ok(stat) => {
                let Identity { size, mtime, device, inode, .. } = Identity::of(&stat);
                let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
                Ok(Some(Existing {
                    kind,
                    size,
                    mtime,
                    inode: Link { device, inode },
                    has_other_names: stat.st_nlink > 1,
                }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", path)(error)),
        }
    }

    /// Opens an existing file to compare its content.
    pub fn read_existing(&mut self, path: &RestorePath) -> Result<fs::File, RestoreError> {
        let spot = self.spot(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&spot.folder, spot.name.as_slice(), flags, Mode::empty()).map_err(failed("open", path))?;
        let stat = fstat(&file).map_err(failed("look at", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(RestoreError::InTheWay { path: path.clone() }),
        }
    }

    /// Where an existing symbolic link points.
    pub fn read_link(&mut self, path: &RestorePath) -> Result<Vec<u8>, RestoreError> {
        let spot = self.spot(path)?;
        let target =
            readlinkat(&spot.folder, spot.name.as_slice(), Vec::new()).map_err(failed("read the link", path))?;
        Ok(target.into_bytes())
    }

    /// Creates a folder, for its owner alone until [`RestoreTarget::set_metadata`]. An existing folder is used as it is.
    pub fn create_dir(&mut self, path: &RestorePath, placing: Placing) -> Result<(), RestoreError> {
        if path.is_target() {
            return Ok(());
        }
        let spot = self.spot(path)?;
        match spot.make_dir() {
            Err(Errno::EXIST) if spot.kind() == Some(EntryKind::Directory) => Ok(()),
            Err(Errno::EXIST) if placing == Placing::Replace => {
                unlinkat(&spot.folder, spot.name.as_slice(), AtFlags::empty()).map_err(failed("replace", path))?;
                spot.make_dir().map_err(failed("create the folder", path))
            }
            Err(Errno::EXIST) => Err(RestoreError::InTheWay { path: path.clone() }),
            result => result.map_err(failed("create the folder", path)),
        }
    }

    /// Begins a file of `size` bytes, all of it a hole: what is never written stays one.
    pub fn begin_file(&mut self, path: &RestorePath, size: u64, placing: Placing) -> Result<FileWriter, RestoreError> {
        let spot = self.spot(path)?;
        FileWriter::begin(spot, size, placing, Arc::clone(&self.settings))
    }

    /// Creates a link, pipe or device with its metadata.
    pub fn create_special(
        &mut self,
        path: &RestorePath,
        special: Special<'_>,
        metadata: &Metadata,
        placing: Placing,
    ) -> Result<Vec<NotRestored>, RestoreError> {
        let spot = self.spot(path)?;
        let temporary = spot.temporary(|temporary| temporary.make_special(special))?;
        let handle = temporary.folder.entry(&temporary.name).map_err(failed("open", path))?;
        let is_ours = fstat(&handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == special.file_type());
        if !is_ours {
            return Err(failed("create", path)(Errno::STALE));
        }
        let not_restored = metadata::set(&handle, path, metadata, &self.settings);
        spot.place(&temporary, placing).inspect_err(|_| temporary.discard())?;
        Ok(not_restored)
    }

    /// Gives a file that was restored before one more name.
    pub fn hard_link(
        &mut self,
        original: &RestorePath,
        path: &RestorePath,
        placing: Placing,
    ) -> Result<(), RestoreError> {
        let original = self.spot(original)?;
        let spot = self.spot(path)?;
        let temporary = spot.temporary(|temporary| {
            linkat(&original.folder, &*original.name, &temporary.folder, &*temporary.name, AtFlags::empty())
        })?;
        let placed = spot.place(&temporary, placing);
        // Renaming one name of a file over another of the same file leaves both, so there may be something to discard.
        temporary.discard();
        placed
    }

    /// Sets the metadata of what stands at a path: of folders, when everything in them is done, and of files that were kept.
    pub fn set_metadata(
        &mut self,
        path: &RestorePath,
        kind: EntryKind,
        metadata: &Metadata,
    ) -> Result<Vec<NotRestored>, RestoreError> {
        let handle = self.open_entry(path)?;
        let stat = fstat(&handle).map_err(failed("look at", path))?;
        if kind_of(FileType::from_raw_mode(stat.st_mode)) != kind {
            return Err(RestoreError::InTheWay { path: path.clone() });
        }
        Ok(metadata::set(&handle, path, metadata, &self.settings))
    }

    /// Returns when everything written so far, on the target's file system, would survive a loss of power.
    pub fn sync(&self) -> Result<(), RestoreError> {
        let target = RestorePath::target();
        let listing = self.base.to_list().map_err(failed("open", &target))?;
        syncfs(&listing).map_err(failed("sync", &target))
    }

    fn open_entry(&mut self, path: &RestorePath) -> Result<OwnedFd, RestoreError> {
        let opened = if path.is_target() {
            self.base.entry(b".")
        } else {
            let spot = self.spot(path)?;
            spot.folder.entry(&spot.name)
        };
        opened.map_err(failed("open", path))
    }

    /// Goes to the folder that holds the path.
    fn spot(&mut self, path: &RestorePath) -> Result<Spot, RestoreError> {
        let (parent, name) = path.split_last().ok_or(RestoreError::IsTarget)?;
        let shared = self.trail.names().zip(parent.names()).take_while(|(have, want)| have == want).count();
        while self.trail.depth() > shared {
            self.trail.pop();
        }
        let fail = |error| failed("open the folder of", path)(error);
        for part in parent.names().skip(shared) {
            let open = self.trail.current().and_then(|current| current.child(part)).map_err(fail)?;
            self.trail.push(part, open);
        }
        let folder = self.trail.current().map_err(fail)?;
        Ok(Spot { folder, name: name.to_vec(), path: path.clone() })
    }
}

impl Spot {
    fn make_dir(&self) -> Result<(), Errno> {
        mkdirat(&self.folder, self.name.as_slice(), Mode::RWXU)
    }

    fn kind(&self) -> Option<EntryKind> {
        let stat = statat(&self.folder, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(kind_of(FileType::from_raw_mode(stat.st_mode)))
    }

    fn make_special(&self, special: Special<'_>) -> Result<(), Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        let device = |number: DeviceNumber| makedev(number.major, number.minor);
        let number = match special {
            Special::Symlink(target) => return symlinkat(target, &self.folder, self.name.as_slice()),
            Special::Fifo => 0,
            Special::CharDevice(number) | Special::BlockDevice(number) => device(number),
        };
        mknodat(&self.folder, self.name.as_slice(), special.file_type(), mode, number)
    }

    /// Creates something under a temporary name beside this spot. `make` must fail with `EXIST` rather than use what is there.
    fn temporary(&self, make: impl Fn(&Self) -> Result<(), Errno>) -> Result<Self, RestoreError> {
        loop {
            let digits = getrandom::u64().map_err(RestoreError::Random)?;
            let name = format!("{TEMPORARY_PREFIX}{digits:016x}").into_bytes();
            let temporary = Self { folder: self.folder.clone(), name, path: self.path.clone() };
            match make(&temporary) {
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create", &self.path)(error)),
                Ok(()) => return Ok(temporary),
            }
        }
    }

    /// Gives what stands under a temporary name this spot's name.
    fn place(&self, temporary: &Self, placing: Placing) -> Result<(), RestoreError> {
        let placed = match placing {
            Placing::New => self.rename_from(temporary),
            Placing::Replace => {
                if self.kind() == Some(EntryKind::Directory) {
                    self.remove_empty_dir()?;
                }
                renameat(&temporary.folder, temporary.name.as_slice(), &self.folder, self.name.as_slice())
            }
        };
        placed.map_err(|error| match error {
            Errno::EXIST => RestoreError::InTheWay { path: self.path.clone() },
            error => failed("name", &self.path)(error),
        })
    }

    /// Renames without replacing. File systems that cannot (FAT, some network ones) are asked before instead, which leaves an
    /// instant in which another program's new file would be replaced.
    fn rename_from(&self, temporary: &Self) -> Result<(), Errno> {
        let (from, to) = (temporary.name.as_slice(), self.name.as_slice());
        match renameat_with(&temporary.folder, from, &self.folder, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => match self.kind() {
                Some(_) => Err(Errno::EXIST),
                None => renameat(&temporary.folder, from, &self.folder, to),
            },
            result => result,
        }
    }

    fn remove_empty_dir(&self) -> Result<(), RestoreError> {
        unlinkat(&self.folder, self.name.as_slice(), AtFlags::REMOVEDIR).map_err(|error| match error {
            Errno::NOTEMPTY | Errno::EXIST => RestoreError::NotEmpty { path: self.path.clone() },
            error => failed("replace", &self.path)(error),
        })
    }

    /// Removes a temporary name. If that fails too, the name tells what it is.
    fn discard(&self) {
        let _ = unlinkat(&self.folder, self.name.as_slice(), AtFlags::empty());
    }
}

impl Special<'_> {
    fn file_type(self) -> FileType {
        match self {
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::CharDevice(_) => FileType::CharacterDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
        }
    }
}
