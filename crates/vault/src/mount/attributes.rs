//! What `stat` says of an entry.

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_types::{EntryKind, Metadata, Timestamp};

use crate::reader;

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub number: u64,
    /// What it is. What could not be read when it was backed up is what it was then, and a file if nobody knows.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// How long it is.
    pub size: u64,
    /// How much of that is data and not holes, as far as its record alone tells.
    pub stored: u64,
    /// How many names it has. A snapshot does not say: 2 stands for several.
    pub names: u32,
    /// When its content changed last.
    pub mtime: Timestamp,
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// False if it may be another at the next question: folders above snapshots.
    pub is_lasting: bool,
}

/// The attributes of an entry.
pub(super) fn of_entry(number: u64, entry: &Entry) -> Attributes {
    let (size, stored) = match &entry.body {
        Body::File { content, .. } => (content.length(), reader::stored_length(content)),
        Body::Symlink { target } => (target.len() as u64, 0),
        _ => (0, 0),
    };
    let device = match &entry.body {
        Body::CharDevice(device) | Body::BlockDevice(device) => (device.major, device.minor),
        _ => (0, 0),
    };
    Attributes { kind: kind_of(&entry.body), size, stored, device, ..of_folder(number, &entry.metadata) }
}

/// The attributes of a folder with this metadata.
pub(super) fn of_folder(number: u64, metadata: &Metadata) -> Attributes {
    Attributes {
        number,
        kind: EntryKind::Directory,
        mode: metadata.mode,
        owner: (metadata.uid, metadata.gid),
        size: 0,
        stored: 0,
        names: if metadata.link.is_some() { 2 } else { 1 },
        mtime: metadata.mtime,
        device: (0, 0),
        is_lasting: true,
    }
}

/// The attributes of something that no snapshot holds: a folder or a link above them.
pub(super) fn of_shown(number: u64, kind: EntryKind, size: u64, (owner, time): ((u32, u32), u64)) -> Attributes {
    let seconds = i64::try_from(time).unwrap_or(i64::MAX);
    Attributes {
        number,
        kind,
        mode: if kind == EntryKind::Symlink { 0o777 } else { 0o555 },
        owner,
        size,
        stored: 0,
        names: 1,
        mtime: Timestamp { seconds, nanoseconds: 0 },
        device: (0, 0),
        is_lasting: false,
    }
}

/// What an entry is shown as.
pub(super) const fn kind_of(body: &Body) -> EntryKind {
    match body {
        Body::Unreadable { was: EntryKind::Unreadable, .. } => EntryKind::File,
        Body::Unreadable { was, .. } => *was,
        body => body.kind(),
    }
}
