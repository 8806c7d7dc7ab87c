//! Sets owner, attributes, mode and times of an open entry, and tells what could not be set.
//!
//! The order is forced: a change of owner clears set-id bits and capabilities, an ACL changes the mode, and everything
//! changes the times.

use std::os::fd::OwnedFd;

use blockhouse_types::{EntryKind, Metadata};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fstat,
        utimensat,
    },
    io::Errno,
};

use super::{RestorePath, Settings};
use crate::files::{Accounts, Identity, attributes, found::kind_of};

/// Set-user-id and set-group-id: they lend the owner's rights to whoever runs the file.
const SET_ID: u32 = 0o6000;

/// Whom restored entries belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The user and group of the stored names, where this host has them; else the stored numbers.
    #[default]
    ByName,
    /// The stored numbers.
    ByNumber,
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

/// Sets everything that can be set. `handle` may be opened with `O_PATH`.
pub(super) fn set(handle: &OwnedFd, path: &RestorePath, wanted: &Metadata, settings: &Settings) -> Vec<NotRestored> {
    let mut setting = Setting { handle, path, wanted, missing: Vec::new() };
    setting.owner(settings);
    for (name, error) in attributes::make(handle, &wanted.attributes) {
        setting.miss(Aspect::Attribute { name }, Some(error));
    }
    setting.mode(settings);
    setting.time();
    setting.missing
}

struct Setting<'a> {
    handle: &'a OwnedFd,
    path: &'a RestorePath,
    wanted: &'a Metadata,
    missing: Vec<NotRestored>,
}

impl Setting<'_> {
    fn owner(&mut self, settings: &Settings) {
        let (uid, gid) = owner_of(self.wanted, settings.ownership, &settings.accounts);
        let Ok(before) = fstat(self.handle) else { return self.miss(Aspect::Owner { uid, gid }, Some(Errno::BADF)) };
        if (before.st_uid, before.st_gid) == (uid, gid) {
            return;
        }
        if let Err(error) = self.chown(Some(uid), Some(gid)) {
            // A user may give a file to another group of their own, though not to another user.
            let _ = self.chown(None, Some(gid));
            self.miss(Aspect::Owner { uid, gid }, Some(error));
        }
    }

    fn mode(&mut self, settings: &Settings) {
        let Ok(stat) = fstat(self.handle) else { return };
        if kind_of(FileType::from_raw_mode(stat.st_mode)) == EntryKind::Symlink {
            return;
        }
        let mut mode = self.wanted.mode & 0o7777;
        if mode & SET_ID != 0 && !belongs_as_stored(&stat, self.wanted, settings) {
            mode &= !SET_ID;
            self.miss(Aspect::SetId, None);
        }
        if stat.st_mode & 0o7777 == mode {
            return;
        }
        let set = chmodat(CWD, attributes::path_of(self.handle), Mode::from_raw_mode(mode), AtFlags::empty());
        let is_set = fstat(self.handle).is_ok_and(|stat| stat.st_mode & 0o7777 == mode);
        if set.is_err() || !is_set {
            self.miss(Aspect::Mode { mode }, set.err());
        }
    }

    fn time(&mut self) {
        let mtime = self.wanted.mtime;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
        };
        let set = utimensat(self.handle, "", &times, AtFlags::EMPTY_PATH);
        let is_set = fstat(self.handle).is_ok_and(|stat| Identity::of(&stat).mtime == mtime);
        if set.is_err() || !is_set {
            self.miss(Aspect::Time, set.err());
        }
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // The last number means "leave it", so nothing can belong to it.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        chownat(self.handle, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
    }

    fn miss(&mut self, what: Aspect, reason: Option<Errno>) {
        self.missing.push(NotRestored { path: self.path.clone(), what, reason });
    }
}

fn owner_of(wanted: &Metadata, ownership: Ownership, accounts: &Accounts) -> (u32, u32) {
    match ownership {
        Ownership::ByNumber => (wanted.uid, wanted.gid),
        Ownership::ByName => {
            (accounts.uid(&wanted.user).unwrap_or(wanted.uid), accounts.gid(&wanted.group).unwrap_or(wanted.gid))
        }
    }
}

fn belongs_as_stored(stat: &Stat, wanted: &Metadata, settings: &Settings) -> bool {
    let (uid, gid) = owner_of(wanted, settings.ownership, &settings.accounts);
    (stat.st_uid, stat.st_gid) == (uid, gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_win_over_numbers_where_this_host_has_them() {
        let accounts = Accounts::parse(b"anna:x:1000:1000::/:/bin/sh\n", b"staff:x:50:\n");
        let metadata = |user: &[u8], group: &[u8]| Metadata {
            uid: 7,
            gid: 8,
            user: user.to_vec(),
            group: group.to_vec(),
            ..Metadata::default()
        };
        assert_eq!(owner_of(&metadata(b"anna", b"staff"), Ownership::ByName, &accounts), (1000, 50));
        assert_eq!(owner_of(&metadata(b"bert", b""), Ownership::ByName, &accounts), (7, 8));
        assert_eq!(owner_of(&metadata(b"anna", b"staff"), Ownership::ByNumber, &accounts), (7, 8));
    }
}
