//! Between the kernel's questions and a vault that answers them: numbers, errors and times in their forms, and the threads.
//!
//! - **Owns** which thread answers, and for how long the kernel may keep an answer.
//! - **Does not** know what a snapshot is: `blockhouse_vault::mount` does.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blockhouse_types::{EntryKind, Timestamp};
use blockhouse_vault::mount::{Attributes, Fault, MountedVault};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::workers::Workers;

/// What is in a snapshot never changes.
const LASTING: Duration = Duration::from_hours(24);
/// What is above them does, when a snapshot is made.
const PASSING: Duration = Duration::from_secs(1);
/// Threads that look things up: opening a snapshot at a far site takes its time, and others are looked into meanwhile.
const LOOKERS: usize = 4;
/// Threads that read bytes.
const READERS: usize = 8;
/// How many reads ahead of programs the kernel may ask for at a time.
const AHEAD: u16 = 32;
/// `.` and `..` stand before all others.
const DOTS: u64 = 2;
/// `whence` of a seek.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A vault as the kernel asks it.
#[derive(Debug)]
pub(super) struct Adapter {
    view: View,
    lookers: Workers,
    readers: Workers,
}

/// What a thread needs to answer.
#[derive(Debug, Clone)]
struct View {
    vault: Arc<MountedVault>,
    owner_root: bool,
}

impl Adapter {
    /// Starts the threads.
    pub(super) fn start(vault: Arc<MountedVault>, owner_root: bool) -> io::Result<Self> {
        let view = View { vault, owner_root };
        Ok(Self { view, lookers: Workers::start("look", LOOKERS)?, readers: Workers::start("read", READERS)? })
    }

    fn look(&self, job: impl FnOnce(&View) + Send + 'static) {
        let view = self.view.clone();
        self.lookers.run(move || job(&view));
    }
}

impl View {
    fn attributes(&self, from: &Attributes) -> FileAttr {
        let time = system_time(from.mtime);
        let (uid, gid) = if self.owner_root { (0, 0) } else { from.owner };
        FileAttr {
            ino: INodeNo(from.number),
            size: from.size,
            blocks: from.stored.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(from.kind),
            perm: u16::try_from(from.mode & 0o7777).unwrap_or_default(),
            nlink: from.names,
            uid,
            gid,
            rdev: device_number(from.device),
            blksize: 128 << 10,
            flags: 0,
        }
    }
}

const fn lasts(attributes: &Attributes) -> Duration {
    if attributes.is_lasting { LASTING } else { PASSING }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an old kernel lacks makes it slower, not wrong.
        let wanted =
            [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_READDIRPLUS_AUTO, InitFlags::FUSE_PARALLEL_DIROPS];
        for flag in wanted {
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_background(AHEAD);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned().into_vec();
        self.look(move |view| match view.vault.look_up(parent.0, &name) {
            Ok(found) => reply.entry(&lasts(&found), &view.attributes(&found), Generation(0)),
            Err(fault) => reply.error(errno(fault)),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.view.vault.forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.look(move |view| match view.vault.attributes(ino.0) {
            Ok(found) => reply.attr(&lasts(&found), &view.attributes(&found)),
            Err(fault) => reply.error(errno(fault)),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.look(move |view| match view.vault.link_target(ino.0) {
            Ok(target) => reply.data(&target),
            Err(fault) => reply.error(errno(fault)),
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel refuses to open anything for writing; what it read once is what it will read.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let vault = Arc::clone(&self.view.vault);
        self.readers.run(move || match vault.read(ino.0, (offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(fault) => reply.error(errno(fault)),
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.look(move |view| match view.vault.open_folder(ino.0) {
            // What is in a snapshot the kernel may keep.
            Ok(0) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR),
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(fault) => reply.error(errno(fault)),
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.look(move |view| {
            for (at, name) in (offset..DOTS).zip([".", ".."].iter().skip(usize::try_from(offset).unwrap_or(0))) {
                if reply.add(ino, at + 1, FileType::Directory, name) {
                    return reply.ok();
                }
            }
            let from = (offset.saturating_sub(DOTS), false);
            let visited = view.vault.visit((ino.0, fh.0), from, &mut |found| {
                let (number, name) = (INodeNo(found.number), OsStr::from_bytes(found.name));
                !reply.add(number, found.next + DOTS, file_type(found.kind), name)
            });
            match visited {
                Ok(()) => reply.ok(),
                Err(fault) => reply.error(errno(fault)),
            }
        });
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.look(move |view| {
            let dots = (offset..DOTS).zip([".", ".."].iter().skip(usize::try_from(offset).unwrap_or(0)));
            let Ok(own) = view.vault.attributes(ino.0) else { return reply.error(Errno::EIO) };
            for (at, name) in dots {
                // Of these two the kernel takes the names alone.
                if reply.add(ino, at + 1, name, &Duration::ZERO, &view.attributes(&own), Generation(0)) {
                    return reply.ok();
                }
            }
            let from = (offset.saturating_sub(DOTS), true);
            let visited = view.vault.visit((ino.0, fh.0), from, &mut |found| {
                let Some(attributes) = found.attributes else { return false };
                // Attributes of a snapshot that is not open are made up: the kernel asks again when somebody wants them.
                let lasts = if attributes.is_lasting { LASTING } else { Duration::ZERO };
                let (number, name) = (INodeNo(found.number), OsStr::from_bytes(found.name));
                !reply.add(number, found.next + DOTS, name, &lasts, &view.attributes(&attributes), Generation(0))
            });
            match visited {
                Ok(()) => reply.ok(),
                Err(fault) => reply.error(errno(fault)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.view.vault.close_folder(fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned().into_vec();
        self.look(move |view| give(view.vault.attribute(ino.0, &name), size, reply));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.look(move |view| give(view.vault.attribute_names(ino.0), size, reply));
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (Ok(place), SEEK_DATA | SEEK_HOLE) = (u64::try_from(offset), whence) else {
            return reply.error(Errno::EINVAL);
        };
        self.look(move |view| match view.vault.seek(ino.0, place, whence == SEEK_DATA) {
            Ok(next) => reply.offset(i64::try_from(next).unwrap_or(i64::MAX)),
            Err(fault) => reply.error(errno(fault)),
        });
    }
}

/// Gives bytes, or how many there are if nobody has room for them yet.
fn give(bytes: Result<Vec<u8>, Fault>, room: u32, reply: ReplyXattr) {
    match bytes {
        Err(fault) => reply.error(errno(fault)),
        Ok(bytes) if room == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
    }
}

const fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::NoEntry => Errno::ENOENT,
        Fault::NotAFolder => Errno::ENOTDIR,
        Fault::IsAFolder => Errno::EISDIR,
        Fault::Invalid => Errno::EINVAL,
        Fault::NoAttribute => Errno::NO_XATTR,
        Fault::Beyond => Errno::ENXIO,
        Fault::Stale => Errno::ESTALE,
        Fault::Unreadable => Errno::EIO,
    }
}

const fn file_type(kind: EntryKind) -> FileType {
    match kind {
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::Fifo => FileType::NamedPipe,
        EntryKind::CharDevice => FileType::CharDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Socket => FileType::Socket,
        EntryKind::File | EntryKind::Unreadable => FileType::RegularFile,
    }
}

/// A device's number as the kernel's protocol writes it: 12 bits for the major, 20 for the minor number, these in two parts.
fn device_number((major, minor): (u64, u64)) -> u32 {
    let number = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12);
    u32::try_from(number).unwrap_or_default()
}

/// Times that the clock of this system cannot tell are shown as 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let exact = second.and_then(|second| second.checked_add(Duration::from_nanos(time.nanoseconds.into())));
    exact.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_have_their_nanoseconds() {
        let time = system_time(Timestamp { seconds: -1, nanoseconds: 250 });
        assert_eq!(UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_nanos(999_999_750));
        let first = system_time(Timestamp { seconds: i64::MIN, nanoseconds: 0 });
        assert!(first < UNIX_EPOCH && system_time(Timestamp { seconds: i64::MAX, nanoseconds: 1 }) > UNIX_EPOCH);
    }

    #[test]
    fn device_numbers_are_as_the_kernel_takes_them() {
        assert_eq!(device_number((1, 3)), 0x103);
        assert_eq!(device_number((8, 0x1_23)), 0x10_0823);
    }
}
