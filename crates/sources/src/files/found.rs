//! What a capture says of the entries it meets.

use std::{os::fd::OwnedFd, sync::Arc};

use blockhouse_types::{EntryKind, Link, Metadata, Timestamp};
use rustix::{
    fs::{FileType, Stat, fstat, major, minor, readlinkat},
    io::Errno,
};

use super::{Accounts, IgnoreProblem, LeftOut, LeftOutReason, attributes::Attributes, trail::Node};

/// An entry as it was when its folder was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which root it lies in, as an index into [`super::FilesSource::roots`].
    pub root: usize,
    /// The path from the root, parts joined by `/`; empty for the root itself.
    pub path: Vec<u8>,
    /// The name in the listing: the last part of the path, for a root its encoded name.
    pub name: Vec<u8>,
    /// What it is; never [`EntryKind::Unreadable`].
    pub kind: EntryKind,
    /// Mode, owner, times, link and attributes.
    pub metadata: Metadata,
    /// The length of a file, else 0.
    pub size: u64,
    /// What tells whether it changed.
    pub identity: Identity,
    /// Where a symbolic link points, else empty.
    pub target: Vec<u8>,
    /// The numbers of a device.
    pub device: Option<DeviceNumber>,
}

/// Which device a device file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

/// Two equal identities are the same file with the same content, unless clocks were turned or the change was too recent
/// for the file system's clock: see [`Identity::is_settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device's number.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
    /// When content or metadata changed last; no program can set it.
    pub ctime: Timestamp,
    /// When the content changed last.
    pub mtime: Timestamp,
    /// The length in bytes; for a folder whatever the file system says.
    pub size: u64,
}

impl Identity {
    /// How old the last change must be before equal identities mean equal content: file systems stamp with a clock
    /// that moves in steps, FAT in steps of two seconds.
    const SETTLING: i64 = 3;

    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            ctime: timestamp(stat.st_ctime, u32::try_from(stat.st_ctime_nsec)),
            mtime: timestamp(stat.st_mtime, u32::try_from(stat.st_mtime_nsec)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }

    pub(crate) fn node(&self) -> Node {
        Node { device: self.device, inode: self.inode }
    }

    /// Whether a later equal identity proves that nothing changed. `read_at` is the time at which reading began; a file
    /// that changed just before could change again within the same tick of the clock, unseen.
    pub fn is_settled(&self, read_at: Timestamp) -> bool {
        let latest = self.ctime.max(self.mtime);
        latest.seconds.saturating_add(Self::SETTLING) < read_at.seconds
    }
}

/// An entry that is there, or was a moment ago, and could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Which root it lies in.
    pub root: usize,
    /// The path from the root.
    pub path: Vec<u8>,
    /// The name in the listing.
    pub name: Vec<u8>,
    /// What it is; [`EntryKind::Unreadable`] if not even that is known.
    pub kind: EntryKind,
    /// Its metadata as far as known, else the default.
    pub metadata: Metadata,
    /// Why.
    pub reason: Reason,
}

impl Unreadable {
    /// The same entry, no longer readable.
    pub fn of(found: &Found, reason: Reason) -> Self {
        let Found { root, path, name, kind, metadata, .. } = found.clone();
        Self { root, path, name, kind, metadata, reason }
    }

    /// Whether it was deleted meanwhile: a warning, while everything else is a loss.
    pub fn has_vanished(&self) -> bool {
        self.reason == Reason::Vanished
    }
}

/// Why something could not be read. The text is the same on every run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It was named to be backed up and is not there.
    #[error("there is no such file or folder")]
    Missing,
    /// It was there when its folder was listed and is gone.
    #[error("it vanished while it was being read")]
    Vanished,
    /// The system does not let this user read it.
    #[error("permission denied")]
    Denied,
    /// Its name now belongs to something else.
    #[error("another entry took its name while it was being read")]
    Replaced,
    /// It became shorter than it was when opened.
    #[error("it was cut short while it was being read")]
    Shrunk,
    /// Anything else, as the system says it.
    #[error("{0}")]
    System(Errno),
}

impl From<Errno> for Reason {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Vanished,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            // What `O_NOFOLLOW` and `O_DIRECTORY` say when a name turned into something else, and a reopened folder that did.
            Errno::LOOP | Errno::NOTDIR | Errno::STALE => Self::Replaced,
            other => Self::System(other),
        }
    }
}

/// An attribute that could not be read while its entry could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeUnread {
    /// Which root the entry lies in.
    pub root: usize,
    /// The entry's path from the root.
    pub path: Vec<u8>,
    /// The attribute's name; empty if not even the list of names could be read.
    pub attribute: Vec<u8>,
    /// Why.
    pub reason: Reason,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It was found.
    Found(Arc<Found>),
    /// It was named and could not be read.
    Unreadable(Arc<Unreadable>),
}

impl Entry {
    /// The name in the listing.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Found(found) => &found.name,
            Self::Unreadable(unreadable) => &unreadable.name,
        }
    }
}

/// Everything in one folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// By ascending bytes of their names.
    pub entries: Vec<Entry>,
    /// What the user wants left out; what lies below it is not told.
    pub left_out: Vec<LeftOut>,
    /// What of the folder's ignore file could not be used.
    pub ignore_problems: Vec<IgnoreProblem>,
    /// Attributes of these entries that are missing in their metadata.
    pub attributes_unread: Vec<AttributeUnread>,
}

impl Listing {
    /// Adds an entry of the given kind, as far as it could be described.
    pub(crate) fn add(&mut self, place: Place, kind: EntryKind, described: Result<Described, Errno>) {
        self.entries.push(match described {
            Ok((found, attributes_unread)) => {
                self.attributes_unread.extend(attributes_unread);
                Entry::Found(Arc::new(found))
            }
            Err(error) => Entry::Unreadable(Arc::new(place.unreadable(kind, error.into()))),
        });
    }

    /// Adds a root that is not there.
    pub(crate) fn add_missing(&mut self, place: Place) {
        self.entries.push(Entry::Unreadable(Arc::new(place.unreadable(EntryKind::Unreadable, Reason::Missing))));
    }

    /// Takes the entry added last out again; what of its attributes was unread does not matter any more.
    pub(crate) fn leave_out_last(&mut self, reason: LeftOutReason) {
        if let Some(Entry::Found(found)) = self.entries.pop() {
            self.attributes_unread.retain(|unread| unread.path != found.path);
            self.left_out.push(LeftOut { root: found.root, path: found.path.clone(), reason });
        }
    }
}

/// An entry, and which of its attributes could not be read.
pub(crate) type Described = (Found, Vec<AttributeUnread>);

/// Where an entry stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) root: usize,
    pub(crate) path: Vec<u8>,
    pub(crate) name: Vec<u8>,
}

impl Place {
    pub(crate) fn unreadable(self, kind: EntryKind, reason: Reason) -> Unreadable {
        let Self { root, path, name } = self;
        Unreadable { root, path, name, kind, metadata: Metadata::default(), reason }
    }
}

/// Reads everything about an open entry from its handle, so that all of it belongs to one inode.
pub(crate) fn describe(handle: &OwnedFd, place: Place, accounts: &Accounts) -> Result<Described, Errno> {
    let stat = fstat(handle)?;
    let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
    let target = if kind == EntryKind::Symlink { readlinkat(handle, "", Vec::new())?.into_bytes() } else { Vec::new() };
    let Attributes { read, unread } = Attributes::of(handle);
    let Place { root, path, name } = place;
    let attributes_unread = unread
        .into_iter()
        .map(|(attribute, error)| AttributeUnread { root, path: path.clone(), attribute, reason: error.into() })
        .collect();
    let identity = Identity::of(&stat);
    let metadata = Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: accounts.user(stat.st_uid),
        group: accounts.group(stat.st_gid),
        mtime: identity.mtime,
        link: (kind != EntryKind::Directory && stat.st_nlink > 1)
            .then_some(Link { device: stat.st_dev, inode: stat.st_ino }),
        attributes: read,
    };
    let size = if kind == EntryKind::File { identity.size } else { 0 };
    let device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
        .then(|| DeviceNumber { major: major(stat.st_rdev), minor: minor(stat.st_rdev) });
    Ok((Found { root, path, name, kind, metadata, size, identity, target, device }, attributes_unread))
}

pub(crate) fn kind_of(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => EntryKind::Unreadable,
    }
}

fn timestamp<E>(seconds: i64, nanoseconds: Result<u32, E>) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_tell_a_vanished_entry_from_a_refused_one() {
        assert_eq!(Reason::from(Errno::NOENT), Reason::Vanished);
        assert_eq!(Reason::from(Errno::ACCESS), Reason::Denied);
        assert_eq!(Reason::from(Errno::NOTDIR), Reason::Replaced);
        assert_eq!(Reason::from(Errno::IO), Reason::System(Errno::IO));
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_is_not_settled() {
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        let identity = Identity { device: 1, inode: 2, ctime: at(100), mtime: at(50), size: 3 };
        assert!(!identity.is_settled(at(101)));
        assert!(!identity.is_settled(at(99)));
        assert!(identity.is_settled(at(110)));
        assert!(!Identity { mtime: at(200), ..identity }.is_settled(at(110)));
    }
}
