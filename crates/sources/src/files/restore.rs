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
//! - **B3** A folder that is not empty is removed only by [`RestoreTarget::remove`], or in place of something that has its bytes by then
//!   ([`RestoreTarget::let_give_way`]). What exists is replaced only when [`Placing::Replace`] says so.
//! - **B4** What could not be set is returned as [`NotRestored`]. Set-id bits are never set for another owner than stored.

mod clear;
mod decide;
mod metadata;
mod owners;
mod path;
mod spared;
mod spot;
mod writer;

use std::{
    collections::HashMap,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use blockhouse_types::{EntryKind, Link, Metadata};
use rustix::{
    fs::{
        AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, fstatvfs, linkat, openat, readlinkat, statat,
        syncfs, unlinkat,
    },
    io::Errno,
};

use self::spot::Spot;
pub use self::{
    clear::{Cleared, MayGo},
    decide::{Conflict, Decision, Existing, Overwrite, Placing, Wanted, decide},
    metadata::{Aspect, MetadataRules, NotRestored},
    owners::{OwnerKind, OwnerMapping, OwnerMappingError, Ownership},
    path::{PathError, RestorePath},
    spared::{Spared, SparedBelow},
    writer::{FileWriter, Mark, ParkedFile},
};
use super::{
    Accounts, DeviceNumber,
    found::{Identity, kind_of},
    trail::{Open, Trail},
};

/// How the names of files begin that are not complete. A killed restore may leave some behind: the next one into the same folder
/// takes up those that it needs and removes the others.
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
    #[error("another restore writes to the target `{}`", path.display())]
    Busy { path: PathBuf },
    #[error("`{path}` is on another file system than the target, or holds a folder that is")]
    OtherFileSystem { path: RestorePath },
    #[error("could not draw random digits for a temporary name")]
    Random(#[source] getrandom::Error),
}

impl RestoreError {
    /// True if the disk is full, or what the user may take of it.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::System { source: Errno::NOSPC | Errno::DQUOT, .. })
    }
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
    path: PathBuf,
    /// What deleting leaves where it is.
    spared: Option<Spared>,
    /// Folders that go when something else gets their name.
    giving_way: HashMap<RestorePath, SparedBelow>,
    /// Held, not used.
    lock: Option<OwnedFd>,
}

/// What setting metadata depends on; shared with writers, which may finish on other threads.
#[derive(Debug)]
struct Settings {
    accounts: Accounts,
    rules: MetadataRules,
}

impl RestoreTarget {
    /// Opens the target, which is created, with what lies above it, if it is missing.
    pub fn open(path: &Path, rules: impl Into<MetadataRules>) -> Result<Self, RestoreError> {
        let fail = |source| RestoreError::Target { path: path.to_owned(), source };
        if path.exists() && !path.is_dir() {
            return Err(RestoreError::NoFolder { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(fail)?;
        Self::take(path, rules.into())
    }

    /// The target if it is there already; nothing is created.
    pub fn find(path: &Path, rules: impl Into<MetadataRules>) -> Result<Option<Self>, RestoreError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Self::take(path, rules.into()).map(Some),
            Ok(_) => Err(RestoreError::NoFolder { path: path.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RestoreError::Target { path: path.to_owned(), source }),
        }
    }

    fn take(path: &Path, rules: MetadataRules) -> Result<Self, RestoreError> {
        let fail = |source| RestoreError::Target { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(fail)?;
        let base = Open::absolute(&canonical).map_err(|error| fail(error.into()))?;
        let settings = Arc::new(Settings { accounts: Accounts::of_this_host(), rules });
        let (trail, giving_way) = (Trail::new(base.clone()), HashMap::new());
        Ok(Self { trail, base, settings, path: canonical, spared: None, giving_way, lock: None })
    }

    /// Where it is, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps every other restore out of this very folder until the target is dropped. File systems that know no locks let all in.
    pub fn lock(&mut self) -> Result<(), RestoreError> {
        let listing = self.base.to_list().map_err(failed("open", &RestorePath::target()))?;
        if flock(&listing, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(RestoreError::Busy { path: self.path.clone() });
        }
        self.lock = Some(listing);
        Ok(())
    }

    /// How many bytes this user may still write, as far as the file system says.
    pub fn free_bytes(&self) -> Option<u64> {
        let space = fstatvfs(&self.base).ok()?;
        space.f_bavail.checked_mul(space.f_frsize)
    }

    /// What stands at a path now, for [`decide()`].
    pub fn existing(&mut self, path: &RestorePath) -> Result<Option<Existing>, RestoreError> {
        let stat = if path.is_target() {
            fstat(&self.base)
        } else {
            match self.spot(path) {
                // Nothing stands in a folder that is not there, nor in one that is none.
                Err(RestoreError::System { source: Errno::NOENT | Errno::NOTDIR | Errno::LOOP, .. }) => {
                    return Ok(None);
                }
                spot => {
                    let spot = spot?;
                    statat(&spot.folder, spot.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                }
            }
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
        FileWriter::begin(spot, (size, placing), None, Arc::clone(&self.settings))
    }

    /// The same under a temporary name that a restore of the same file finds again. What an earlier one left under it is taken up
    /// if only this user could have written it: [`FileWriter::is_resumed`] says so, and then nothing is known of its bytes.
    pub fn resume_file(
        &mut self,
        path: &RestorePath,
        (size, placing): (u64, Placing),
        mark: Mark,
    ) -> Result<FileWriter, RestoreError> {
        let spot = self.spot(path)?;
        FileWriter::begin(spot, (size, placing), Some(mark), Arc::clone(&self.settings))
    }

    /// Goes on with a file that was put aside.
    pub fn take_up(&mut self, parked: ParkedFile) -> Result<FileWriter, RestoreError> {
        let spot = self.spot(parked.path())?;
        FileWriter::take_up(spot, parked, Arc::clone(&self.settings))
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
        let not_restored = metadata::set_at(&handle, path, metadata, &self.settings);
        let placed = self.clear_way(path).and_then(|()| spot.place(&temporary, placing));
        placed.inspect_err(|_| temporary.discard())?;
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
        let placed = self.clear_way(path).and_then(|()| spot.place(&temporary, placing));
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
        Ok(metadata::set_at(&handle, path, metadata, &self.settings))
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
