//! What a file system says of one entry, as captured, stored and restored.
//!
//! Format: `docs/design/manifests.md`, section *Tree*.

mod facts;

use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::limits::NANOSECONDS_MAX;

pub use facts::{EntryFacts, decode_mode_and_owner};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket: recorded, restored as nothing.
    Socket,
    /// Something that could not be read.
    Unreadable,
}

impl EntryKind {
    /// The tag in the formats.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Directory => 0,
            Self::File => 1,
            Self::Symlink => 2,
            Self::Fifo => 3,
            Self::CharDevice => 4,
            Self::BlockDevice => 5,
            Self::Socket => 6,
            Self::Unreadable => 7,
        }
    }

    /// The kind of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            0 => Self::Directory,
            1 => Self::File,
            2 => Self::Symlink,
            3 => Self::Fifo,
            4 => Self::CharDevice,
            5 => Self::BlockDevice,
            6 => Self::Socket,
            7 => Self::Unreadable,
            _ => return None,
        })
    }
}

/// A moment since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Appends the twelve bytes of the formats.
    pub fn encode(self, encoder: &mut Encoder) {
        encoder.i64(self.seconds).u32(self.nanoseconds);
    }

    /// Reads what [`Timestamp::encode`] wrote.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanoseconds) = (decoder.i64()?, decoder.u32()?);
        decoder.limit("nanoseconds", nanoseconds.into(), NANOSECONDS_MAX.into())?;
        Ok(Self { seconds, nanoseconds })
    }
}

/// The identity of a file that has several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The device's number.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
}

/// An extended attribute; ACLs are attributes too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribute {
    /// The full name, with its name space.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What every kind of entry has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with set-id and sticky: `07777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, empty if unknown.
    pub user: Vec<u8>,
    /// The group's name, empty if unknown.
    pub group: Vec<u8>,
    /// When the content changed last.
    pub mtime: Timestamp,
    /// Set where a non-directory has more than one name.
    pub link: Option<Link>,
    /// Extended attributes, by ascending name.
    pub attributes: Vec<Attribute>,
}
