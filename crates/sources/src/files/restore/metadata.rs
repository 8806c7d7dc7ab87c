//! Sets owner, attributes, mode and times of an open entry, and tells what could not be set.
//!
//! The order is forced: a change of owner clears set-id bits and capabilities, an ACL changes the mode, and everything
//! changes the times. What was set is looked at once, at the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use blockhouse_types::{EntryKind, Metadata};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod,
        fstat, futimens, utimensat,
    },
    io::Errno,
};

use super::{OwnerMapping, Ownership, RestorePath, Settings, owners};
use crate::files::{Identity, attributes, found::kind_of};

/// Set-user-id and set-group-id: they lend the owner's rights to whoever runs the file.
const SET_ID: u32 = 0o6000;

/// What of the metadata is restored, and how.
#[derive(Debug, Clone, Default)]
pub struct MetadataRules {
    /// Whose entries become.
    pub ownership: Ownership,
    /// Users that become others.
    pub users: Vec<OwnerMapping>,
    /// Groups that become others.
    pub groups: Vec<OwnerMapping>,
    /// Leaves extended attributes and ACLs as the target gives them.
    pub without_attributes: bool,
}

impl From<Ownership> for MetadataRules {
    fn from(ownership: Ownership) -> Self {
        Self { ownership, ..Self::default() }
    }
}

/// One thing about an entry that is not as stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not restore {what} of `{path}`")]
pub struct NotRestored {
    /// The entry.
    pub path: RestorePath,
    /// What is missing.
    pub what: Aspect,
    /// Why, as the system says it; none where the system accepted the value and kept another.
    #[source]
    pub reason: Option<Errno>,
}

/// What can be missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Aspect {
    /// The owner or the group.
    #[error("the owner {uid}:{gid}")]
    Owner {
        /// The user's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
    /// The set-id bits, left out because the owner or group is another.
    #[error("the set-id bits of the mode")]
    SetId,
    /// Permissions.
    #[error("the mode {mode:04o}")]
    Mode {
        /// The stored mode.
        mode: u32,
    },
    /// An extended attribute or ACL.
    #[error("the attribute `{}`", name.escape_ascii())]
    Attribute {
        /// Its name.
        name: Vec<u8>,
    },
    /// When the content changed last.
    #[error("the time of the last change")]
    Time,
}

/// How an open entry is reached.
#[derive(Clone, Copy)]
enum Handle<'a> {
    /// Opened with `O_PATH`: by its name under `/proc`.
    Path(BorrowedFd<'a>),
    /// Open for writing: by itself.
    File(BorrowedFd<'a>),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Path(handle) | Self::File(handle) => *handle,
        }
    }
}

/// Sets everything that can be set, of whatever was opened with `O_PATH`.
pub(super) fn set_at(handle: &OwnedFd, path: &RestorePath, wanted: &Metadata, settings: &Settings) -> Vec<NotRestored> {
    let missing = Vec::new();
    Setting { handle: Handle::Path(handle.as_fd()), path, wanted, settings, missing }.run()
}

/// The same of a file that is open for writing, with fewer and cheaper calls.
pub(super) fn set(file: &OwnedFd, path: &RestorePath, wanted: &Metadata, settings: &Settings) -> Vec<NotRestored> {
    let missing = Vec::new();
    Setting { handle: Handle::File(file.as_fd()), path, wanted, settings, missing }.run()
}

struct Setting<'a> {
    handle: Handle<'a>,
    path: &'a RestorePath,
    wanted: &'a Metadata,
    settings: &'a Settings,
    missing: Vec<NotRestored>,
}

impl Setting<'_> {
    fn run(mut self) -> Vec<NotRestored> {
        let Ok(mut stat) = fstat(self.handle) else {
            self.miss(Aspect::Mode { mode: self.wanted.mode }, Some(Errno::BADF));
            return self.missing;
        };
        if self.owner(&stat) | self.attributes() {
            // Both change the mode.
            stat = fstat(self.handle).unwrap_or(stat);
        }
        let (mode, mode_error) = self.mode(&stat);
        let time_error = self.time();
        let after = fstat(self.handle).unwrap_or(stat);
        if mode.is_some_and(|mode| after.st_mode & 0o7777 != mode) {
            self.miss(Aspect::Mode { mode: mode.unwrap_or_default() }, mode_error);
        }
        if time_error.is_some() || Identity::of(&after).mtime != self.wanted.mtime {
            self.miss(Aspect::Time, time_error);
        }
        self.missing
    }

    /// True if something was changed.
    fn owner(&mut self, before: &Stat) -> bool {
        let (uid, gid) = self.intended((before.st_uid, before.st_gid));
        if (before.st_uid, before.st_gid) == (uid, gid) {
            return false;
        }
        if let Err(error) = self.chown(Some(uid), Some(gid)) {
            // A user may give a file to another group of their own, though not to another user.
            let _ = self.chown(None, Some(gid));
            self.miss(Aspect::Owner { uid, gid }, Some(error));
        }
        true
    }

    /// Whom the entry is to belong to; `now` it belongs to whoever made it.
    fn intended(&self, now: (u32, u32)) -> (u32, u32) {
        let MetadataRules { ownership, users, groups, .. } = &self.settings.rules;
        let (uid, gid) = match ownership {
            Ownership::Mine => now,
            ownership => owners::stored(self.wanted, *ownership, &self.settings.accounts),
        };
        let wanted = self.wanted;
        let user = owners::mapped(users, wanted.uid, &wanted.user).unwrap_or(uid);
        (user, owners::mapped(groups, wanted.gid, &wanted.group).unwrap_or(gid))
    }

    /// True if something may have been changed.
    fn attributes(&mut self) -> bool {
        if self.settings.rules.without_attributes {
            return false;
        }
        let wanted = &self.wanted.attributes;
        let (failed, changed) = match self.handle {
            Handle::Path(handle) => attributes::make(&attributes::AtPath::of(handle), wanted),
            Handle::File(file) => attributes::make(&attributes::OfFile(file), wanted),
        };
        for (name, error) in failed {
            self.miss(Aspect::Attribute { name }, Some(error));
        }
        changed
    }

    /// The mode that the entry should have after this; none for links.
    fn mode(&mut self, stat: &Stat) -> (Option<u32>, Option<Errno>) {
        if kind_of(FileType::from_raw_mode(stat.st_mode)) == EntryKind::Symlink {
            return (None, None);
        }
        let mut mode = self.wanted.mode & 0o7777;
        if mode & SET_ID != 0 && !self.belongs_as_stored(stat) {
            mode &= !SET_ID;
            self.miss(Aspect::SetId, None);
        }
        if stat.st_mode & 0o7777 == mode {
            return (Some(mode), None);
        }
        let bits = Mode::from_raw_mode(mode);
        let set = match self.handle {
            Handle::Path(handle) => chmodat(CWD, attributes::path_of(handle), bits, AtFlags::empty()),
            Handle::File(file) => fchmod(file, bits),
        };
        (Some(mode), set.err())
    }

    fn time(&self) -> Option<Errno> {
        let mtime = self.wanted.mtime;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
        };
        let set = match self.handle {
            Handle::Path(handle) => utimensat(handle, "", &times, AtFlags::EMPTY_PATH),
            Handle::File(file) => futimens(file, &times),
        };
        set.err()
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // The last number means "leave it", so nothing can belong to it.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        chownat(self.handle, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
    }

    /// B4: a mapped owner is not the stored one.
    fn belongs_as_stored(&self, stat: &Stat) -> bool {
        let Settings { accounts, rules } = self.settings;
        (stat.st_uid, stat.st_gid) == owners::stored(self.wanted, rules.ownership, accounts)
    }

    fn miss(&mut self, what: Aspect, reason: Option<Errno>) {
        self.missing.push(NotRestored { path: self.path.clone(), what, reason });
    }
}
