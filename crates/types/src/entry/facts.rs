//! The facts of an entry that its leaf commits to.

use super::{EntryKind, Timestamp};
use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::limits::MODE_MAX;

/// What a file proof shows of an entry, beside its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFacts {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Timestamp,
    /// A file's size, else 0.
    pub length: u64,
    /// Plain BLAKE3 of a file's bytes or of a symlink's target, else zeros.
    pub content_hash: [u8; 32],
}

impl EntryFacts {
    /// The bytes that are hashed, and shown by a proof.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.u8(self.kind.tag());
        encoder.varint(self.mode.into()).varint(self.uid.into()).varint(self.gid.into());
        self.mtime.encode(&mut encoder);
        encoder.varint(self.length).raw(&self.content_hash);
        encoder.finish()
    }

    /// Reads the facts, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("the facts of an entry", bytes);
        let tag = decoder.u8()?;
        let kind = EntryKind::from_tag(tag).ok_or_else(|| decoder.unknown("kind", tag.into()))?;
        let (mode, uid, gid) = decode_mode_and_owner(&mut decoder)?;
        let mtime = Timestamp::decode(&mut decoder)?;
        let (length, content_hash) = (decoder.varint()?, decoder.array()?);
        if kind != EntryKind::File && length != 0 {
            return Err(decoder.not_canonical("something that is not a file has a length"));
        }
        if !matches!(kind, EntryKind::File | EntryKind::Symlink) && content_hash != [0; 32] {
            return Err(decoder.not_canonical("something without content has a content hash"));
        }
        decoder.finish()?;
        Ok(Self { kind, mode, uid, gid, mtime, length, content_hash })
    }
}

/// Mode, owner and group, as every format writes them.
pub fn decode_mode_and_owner(decoder: &mut Decoder<'_>) -> Result<(u32, u32, u32), DecodeError> {
    Ok((number(decoder, "mode", MODE_MAX)?, number(decoder, "uid", u32::MAX)?, number(decoder, "gid", u32::MAX)?))
}

/// A varint of at most `limit`.
fn number(decoder: &mut Decoder<'_>, field: &'static str, limit: u32) -> Result<u32, DecodeError> {
    let value = decoder.varint()?;
    decoder.limit(field, value, limit.into())?;
    u32::try_from(value).map_err(|_| decoder.not_canonical("a number does not fit 32 bits"))
}
