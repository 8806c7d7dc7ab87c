//! The file system of this host, through the calls that take an open folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::{Disk, FolderEntry, Space, direct, split};

/// Objects are sealed, yet their names and number are nobody else's business on a shared host.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const FOLDER_MODE: Mode = Mode::RWXU;
const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A folder, held open: all calls reach this folder, whatever its path leads to by now.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
}

impl RealDisk {
    /// Opens a folder; the path itself may be a symbolic link.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty())? })
    }

    /// Opens a folder below, one name at a time, following no link on the way.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let mut folder = self.root.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if matches!(name, "." | "..") {
                return Err(Errno::INVAL.into());
            }
            folder = rustix::fs::openat(&folder, name, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(folder)
    }

    /// The folder of a path and the name in it.
    fn place<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (folder, name) = split(path);
        if matches!(name, "" | "." | "..") {
            return Err(Errno::INVAL.into());
        }
        Ok((self.folder(folder)?, name))
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        if path.is_empty() {
            return Ok(rustix::fs::fstat(&self.root)?);
        }
        let (folder, name) = self.place(path)?;
        Ok(rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl Disk for RealDisk {
    fn create_new(&self, path: &str) -> io::Result<File> {
        let (folder, name) = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(&folder, name, flags, FILE_MODE)?))
    }

    fn write_all(&self, file: &File, pieces: &[&[u8]]) -> io::Result<()> {
        direct::write_all(file, pieces)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn open(&self, path: &str) -> io::Result<File> {
        let (folder, name) = self.place(path)?;
        // Non-blocking, because a pipe of this name would keep us waiting for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&folder, name, flags, Mode::empty())?))
    }

    fn open_to_read(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&self.root, path, flags, Mode::empty())?))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_folder, from), (to_folder, to)) = (self.place(from)?, self.place(to)?);
        Ok(rustix::fs::renameat_with(&from_folder, from, &to_folder, to, RenameFlags::NOREPLACE)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_folder, from), (to_folder, to)) = (self.place(from)?, self.place(to)?);
        Ok(rustix::fs::linkat(&from_folder, from, &to_folder, to, AtFlags::empty())?)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    fn make_folder(&self, path: &str) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(rustix::fs::mkdirat(&folder, name, FOLDER_MODE)?)
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.folder(path)?)?)
    }

    fn list_folder(&self, path: &str) -> io::Result<Vec<FolderEntry>> {
        let folder = self.folder(path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    entries.push(FolderEntry { name: name.to_string_lossy().into_owned(), modified: modified(&stat) });
                }
                // Removed between the two calls.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(entries)
    }

    fn device(&self, path: &str) -> io::Result<u64> {
        Ok(self.stat(path)?.st_dev)
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::fstatvfs(&self.root)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

/// Times before 1970 count as 1970.
fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}
