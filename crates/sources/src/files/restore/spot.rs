//! A name in a folder of the target, and the temporary name beside it.
//!
//! - **Owns** how a name is given: in one step, over nothing or over what may be replaced.
//! - **Does not** write content or metadata.

use blockhouse_types::EntryKind;
use rustix::{
    fs::{
        AtFlags, FileType, Mode, RenameFlags, makedev, mkdirat, mknodat, renameat, renameat_with, statat, symlinkat,
        unlinkat,
    },
    io::Errno,
};

use super::{DeviceNumber, Placing, RestoreError, RestorePath, Special, TEMPORARY_PREFIX, failed};
use crate::files::{found::kind_of, trail::Open};

/// A folder of the target and a name in it.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) folder: Open,
    pub(super) name: Vec<u8>,
    pub(super) path: RestorePath,
}

impl Spot {
    pub(super) fn make_dir(&self) -> Result<(), Errno> {
        mkdirat(&self.folder, self.name.as_slice(), Mode::RWXU)
    }

    pub(super) fn kind(&self) -> Option<EntryKind> {
        let stat = statat(&self.folder, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(kind_of(FileType::from_raw_mode(stat.st_mode)))
    }

    pub(super) fn make_special(&self, special: Special<'_>) -> Result<(), Errno> {
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
    pub(super) fn temporary(&self, make: impl Fn(&Self) -> Result<(), Errno>) -> Result<Self, RestoreError> {
        loop {
            let temporary = self.marked(getrandom::u64().map_err(RestoreError::Random)?.to_be_bytes());
            match make(&temporary) {
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create", &self.path)(error)),
                Ok(()) => return Ok(temporary),
            }
        }
    }

    /// The temporary name with these digits, beside this spot.
    pub(super) fn marked(&self, mark: [u8; 8]) -> Self {
        Self { folder: self.folder.clone(), name: temporary_name(mark), path: self.path.clone() }
    }

    /// Gives what stands under a temporary name this spot's name.
    pub(super) fn place(&self, temporary: &Self, placing: Placing) -> Result<(), RestoreError> {
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
    pub(super) fn discard(&self) {
        let _ = unlinkat(&self.folder, self.name.as_slice(), AtFlags::empty());
    }
}

/// The temporary name with these digits.
pub(super) fn temporary_name(mark: [u8; 8]) -> Vec<u8> {
    format!("{TEMPORARY_PREFIX}{:016x}", u64::from_be_bytes(mark)).into_bytes()
}
