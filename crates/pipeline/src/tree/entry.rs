//! One entry of a listing and its record.

use blockhouse_types::limits::{MODE_MAX, NAME_MAX, NANOSECONDS_MAX, RECORD_MAX};
use blockhouse_types::{
    Attribute, DecodeError, Decoder, Encoder, EntryFacts, EntryKind, Link, Metadata, Timestamp, decode_mode_and_owner,
};

use crate::content::Content;

/// The number of a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Which driver.
    pub major: u64,
    /// Which of its devices.
    pub minor: u64,
}

/// What an entry is, beyond what every entry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A folder, with its listing.
    Directory(Content),
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Plain BLAKE3 of its bytes, holes as zeros.
        hash: [u8; 32],
    },
    /// A symbolic link.
    Symlink {
        /// What it points at.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A socket.
    Socket,
    /// Something that could not be read.
    Unreadable {
        /// What it was; [`EntryKind::Unreadable`] if not even that could be told.
        was: EntryKind,
        /// Why it could not be read.
        reason: String,
    },
}

impl Body {
    /// The kind of entry.
    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::Directory(_) => EntryKind::Directory,
            Self::File { .. } => EntryKind::File,
            Self::Symlink { .. } => EntryKind::Symlink,
            Self::Fifo => EntryKind::Fifo,
            Self::CharDevice(_) => EntryKind::CharDevice,
            Self::BlockDevice(_) => EntryKind::BlockDevice,
            Self::Socket => EntryKind::Socket,
            Self::Unreadable { .. } => EntryKind::Unreadable,
        }
    }
}

/// Why an entry cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    #[error("`{}` cannot be the name of an entry", name.escape_ascii())]
    Name { name: Vec<u8> },
    #[error("entry `{}` has mode {mode:o}, more than the twelve bits of a mode", name.escape_ascii())]
    Mode { name: Vec<u8>, mode: u32 },
    #[error("entry `{}` has {nanoseconds} nanoseconds in its time, a second has fewer", name.escape_ascii())]
    Time { name: Vec<u8>, nanoseconds: u32 },
    #[error("folder `{}` has the identity of a hard link", name.escape_ascii())]
    LinkedFolder { name: Vec<u8> },
    #[error("the attributes of entry `{}` are not in ascending order of distinct names", name.escape_ascii())]
    Attributes { name: Vec<u8> },
    #[error("entry `{}` takes {length} bytes to record, the limit is {RECORD_MAX}", name.escape_ascii())]
    TooLong { name: Vec<u8>, length: usize },
    #[error("entry `{}` does not come after `{}` in the order of names", name.escape_ascii(), previous.escape_ascii())]
    Order { name: Vec<u8>, previous: Vec<u8> },
}

/// True if an entry may have that name (E2).
pub fn is_name(name: &[u8]) -> bool {
    let special = name.is_empty() || name == b"." || name == b"..";
    !special && name.len() <= NAME_MAX && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in its folder.
    pub name: Vec<u8>,
    /// What every entry has.
    pub metadata: Metadata,
    /// What it is.
    pub body: Body,
}

impl Entry {
    /// The facts that its leaf commits to.
    pub fn facts(&self) -> EntryFacts {
        let (length, content_hash) = match &self.body {
            Body::File { content, hash } => (content.length(), *hash),
            Body::Symlink { target } => (0, blockhouse_crypto::hash::content(target)),
            _ => (0, [0; 32]),
        };
        let Metadata { mode, uid, gid, mtime, .. } = self.metadata;
        EntryFacts { kind: self.body.kind(), mode, uid, gid, mtime, length, content_hash }
    }

    /// The record's bytes; refuses what a reader would refuse.
    pub fn record(&self) -> Result<Vec<u8>, EntryError> {
        self.check()?;
        let mut encoder = Encoder::new();
        encoder.bytes(&self.name).u8(self.body.kind().tag());
        encode_metadata(&mut encoder, &self.metadata);
        match &self.body {
            Body::Directory(listing) => listing.encode(&mut encoder),
            Body::File { content, hash } => {
                content.encode(&mut encoder);
                encoder.raw(hash);
            }
            Body::Symlink { target } => {
                encoder.bytes(target);
            }
            Body::CharDevice(device) | Body::BlockDevice(device) => {
                encoder.varint(device.major).varint(device.minor);
            }
            Body::Fifo | Body::Socket => {}
            Body::Unreadable { was, reason } => {
                encoder.u8(was.tag()).bytes(reason.as_bytes());
            }
        }
        match encoder.len() {
            length if length > RECORD_MAX => Err(EntryError::TooLong { name: self.name.clone(), length }),
            _ => Ok(encoder.finish()),
        }
    }

    /// Reads a record, all of `bytes`.
    pub fn from_record(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("an entry", bytes);
        let name = decoder.bytes("name", NAME_MAX)?.to_vec();
        if !is_name(&name) {
            return Err(decoder.not_canonical("its name is empty, special, or holds `/` or NUL"));
        }
        let tag = decoder.u8()?;
        let kind = EntryKind::from_tag(tag).ok_or_else(|| decoder.unknown("kind", tag.into()))?;
        let metadata = decode_metadata(&mut decoder)?;
        if kind == EntryKind::Directory && metadata.link.is_some() {
            return Err(decoder.not_canonical("a folder has the identity of a hard link"));
        }
        let body = decode_body(&mut decoder, kind)?;
        decoder.finish()?;
        Ok(Self { name, metadata, body })
    }

    fn check(&self) -> Result<(), EntryError> {
        let name = || self.name.clone();
        let Metadata { mode, mtime, link, attributes, .. } = &self.metadata;
        if !is_name(&self.name) {
            return Err(EntryError::Name { name: name() });
        }
        if *mode > MODE_MAX {
            return Err(EntryError::Mode { name: name(), mode: *mode });
        }
        if mtime.nanoseconds > NANOSECONDS_MAX {
            return Err(EntryError::Time { name: name(), nanoseconds: mtime.nanoseconds });
        }
        if link.is_some() && self.body.kind() == EntryKind::Directory {
            return Err(EntryError::LinkedFolder { name: name() });
        }
        if !attributes.is_sorted_by(|a, b| a.name < b.name) {
            return Err(EntryError::Attributes { name: name() });
        }
        Ok(())
    }
}

fn decode_body(decoder: &mut Decoder<'_>, kind: EntryKind) -> Result<Body, DecodeError> {
    Ok(match kind {
        EntryKind::Directory => Body::Directory(Content::decode(decoder)?),
        EntryKind::File => Body::File { content: Content::decode(decoder)?, hash: decoder.array()? },
        EntryKind::Symlink => Body::Symlink { target: decoder.bytes("target", RECORD_MAX)?.to_vec() },
        EntryKind::Fifo => Body::Fifo,
        EntryKind::CharDevice => Body::CharDevice(decode_device(decoder)?),
        EntryKind::BlockDevice => Body::BlockDevice(decode_device(decoder)?),
        EntryKind::Socket => Body::Socket,
        EntryKind::Unreadable => {
            let tag = decoder.u8()?;
            let was = EntryKind::from_tag(tag).ok_or_else(|| decoder.unknown("kind", tag.into()))?;
            Body::Unreadable { was, reason: decoder.text("reason", RECORD_MAX)?.to_owned() }
        }
    })
}

fn decode_device(decoder: &mut Decoder<'_>) -> Result<Device, DecodeError> {
    Ok(Device { major: decoder.varint()?, minor: decoder.varint()? })
}

fn encode_metadata(encoder: &mut Encoder, metadata: &Metadata) {
    let Metadata { mode, uid, gid, user, group, mtime, link, attributes } = metadata;
    encoder.varint((*mode).into()).varint((*uid).into()).varint((*gid).into()).bytes(user).bytes(group);
    mtime.encode(encoder);
    encoder.option(*link, |encoder, link| {
        encoder.varint(link.device).varint(link.inode);
    });
    encoder.list(attributes.iter(), |encoder, attribute| {
        encoder.bytes(&attribute.name).bytes(&attribute.value);
    });
}

fn decode_metadata(decoder: &mut Decoder<'_>) -> Result<Metadata, DecodeError> {
    let (mode, uid, gid) = decode_mode_and_owner(decoder)?;
    let user = decoder.bytes("user name", NAME_MAX)?.to_vec();
    let group = decoder.bytes("group name", NAME_MAX)?.to_vec();
    let mtime = Timestamp::decode(decoder)?;
    let link = decoder.option(|decoder| Ok(Link { device: decoder.varint()?, inode: decoder.varint()? }))?;
    let attributes = decoder.list("attributes", RECORD_MAX, |decoder| {
        let name = decoder.bytes("attribute's name", RECORD_MAX)?.to_vec();
        Ok(Attribute { name, value: decoder.bytes("attribute's value", RECORD_MAX)?.to_vec() })
    })?;
    if !attributes.is_sorted_by(|a, b| a.name < b.name) {
        return Err(decoder.not_canonical("attributes are not in ascending order of distinct names"));
    }
    Ok(Metadata { mode, uid, gid, user, group, mtime, link, attributes })
}
