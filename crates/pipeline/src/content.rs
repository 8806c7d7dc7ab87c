//! A run of plain bytes of any length, as a short list of chunks, parts of chunks and holes.
//!
//! - **Owns** the encoding of content, the nesting of long lists ([`ContentBuilder`]) and their reading
//!   ([`Extents`], and from any place on [`ExtentsFrom`]).
//! - **Does not** cut, store or fetch chunks: bytes to be stored and references to be fetched go out as values.
//!
//! # Invariants
//! - **N1** A content's extents sum to its length; at a depth above 0 they sum to the length of the list below.
//! - **N2** No extent is empty, no two holes are neighbours, no part is a whole chunk.
//! - **N3** One list of extents has one depth: the least at which it is short.
//!
//! Format: `docs/design/manifests.md`, section *Content*.

mod builder;
mod extents;
mod seek;
#[cfg(test)]
mod tests;

use blockhouse_types::limits::{EXTENTS_DEPTH_MAX, EXTENTS_INLINE_MAX};
use blockhouse_types::{DecodeError, Decoder, Encoder};

pub use builder::{Closing, ContentBuilder, ContentError, Spill};
pub use extents::{Extents, ResolveError};
pub use seek::{ExtentsFrom, SeekMarks};

use crate::chunk::ChunkRef;

/// The greatest length of one encoded extent: a part of a chunk.
pub(crate) const EXTENT_MAX: usize = 1 + 32 + 32 + 3 * 3;

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Reads as zeros and is stored nowhere.
    Hole {
        /// How many zeros.
        length: u64,
    },
    /// A whole chunk.
    Chunk(ChunkRef),
    /// A part of a chunk, never all of it.
    Part {
        /// The chunk.
        chunk: ChunkRef,
        /// Where in the chunk the part begins.
        offset: u32,
        /// How long it is.
        length: u32,
    },
}

impl Extent {
    /// How many bytes of content it is.
    pub fn length(&self) -> u64 {
        match self {
            Self::Hole { length } => *length,
            Self::Chunk(chunk) => chunk.plain_len.into(),
            Self::Part { length, .. } => (*length).into(),
        }
    }

    /// The chunk it needs; none for a hole.
    pub const fn chunk(&self) -> Option<&ChunkRef> {
        match self {
            Self::Hole { .. } => None,
            Self::Chunk(chunk) | Self::Part { chunk, .. } => Some(chunk),
        }
    }

    /// What it takes out of its chunk's plain bytes; `None` for a hole or if the bytes are not of that chunk's length.
    pub fn slice<'a>(&self, plain: &'a [u8]) -> Option<&'a [u8]> {
        let chunk = self.chunk().filter(|chunk| plain.len() as u64 == u64::from(chunk.plain_len))?;
        match self {
            Self::Part { offset, length, .. } => {
                let (start, length) = (usize::try_from(*offset).ok()?, usize::try_from(*length).ok()?);
                plain.get(start..start.checked_add(length)?)
            }
            _ => plain.get(..usize::try_from(chunk.plain_len).ok()?),
        }
    }

    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Hole { length } => {
                encoder.u8(0).varint(*length);
            }
            Self::Chunk(chunk) => {
                encoder.u8(1);
                chunk.encode(encoder);
            }
            Self::Part { chunk, offset, length } => {
                encoder.u8(2);
                chunk.encode(encoder);
                encoder.varint(u64::from(*offset)).varint(u64::from(*length));
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match decoder.u8()? {
            0 => match decoder.varint()? {
                0 => Err(decoder.not_canonical("a hole is empty")),
                length => Ok(Self::Hole { length }),
            },
            1 => ChunkRef::decode(decoder).map(Self::Chunk),
            2 => Self::decode_part(decoder),
            tag => Err(decoder.unknown("kind of extent", tag.into())),
        }
    }

    fn decode_part(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let chunk = ChunkRef::decode(decoder)?;
        let (offset, length) = (decoder.varint()?, decoder.varint()?);
        let inside = offset.checked_add(length).is_some_and(|end| end <= chunk.plain_len.into());
        match (u32::try_from(offset), u32::try_from(length)) {
            (Ok(offset), Ok(length)) if inside => match length {
                0 => Err(decoder.not_canonical("a part of a chunk is empty")),
                _ if length == chunk.plain_len => Err(decoder.not_canonical("a part of a chunk is all of it")),
                _ => Ok(Self::Part { chunk, offset, length }),
            },
            _ => Err(decoder.not_canonical("a part reaches beyond its chunk")),
        }
    }
}

/// Reads extents one after another and checks what two neighbours and their sum must be.
#[derive(Debug, Clone)]
struct ListRules {
    depth: u8,
    after_hole: bool,
    sum: u64,
}

impl ListRules {
    const fn new(depth: u8) -> Self {
        Self { depth, after_hole: false, sum: 0 }
    }

    /// Reads the next extent.
    fn read(&mut self, decoder: &mut Decoder<'_>) -> Result<Extent, DecodeError> {
        let extent = Extent::decode(decoder)?;
        let hole = matches!(extent, Extent::Hole { .. });
        if hole && self.depth > 0 {
            return Err(decoder.not_canonical("a list of extents has a hole"));
        }
        if hole && self.after_hole {
            return Err(decoder.not_canonical("two holes are neighbours"));
        }
        self.after_hole = hole;
        let sum = self.sum.checked_add(extent.length());
        self.sum = sum.ok_or_else(|| decoder.not_canonical("the lengths of extents do not fit 64 bits"))?;
        Ok(extent)
    }

    /// Checks the sum at the end: `length` is that of the content.
    fn finish(&self, decoder: &Decoder<'_>, length: u64) -> Result<(), DecodeError> {
        match self.depth {
            0 if self.sum != length => Err(decoder.not_canonical("the extents do not sum to the length")),
            0 => Ok(()),
            _ if self.sum <= EXTENTS_INLINE_MAX as u64 => {
                Err(decoder.not_canonical("a short list of extents is stored as content"))
            }
            _ => Ok(()),
        }
    }
}

/// A run of plain bytes: its length and, at some depth, the list of its extents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    length: u64,
    depth: u8,
    extents: Vec<Extent>,
}

impl Content {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { length: 0, depth: 0, extents: Vec::new() }
    }

    /// How many plain bytes it is.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// How often its list of extents is itself stored as content.
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// The extents at its depth. [`Content::extents`] gives those at depth 0.
    pub fn inline_extents(&self) -> &[Extent] {
        &self.extents
    }

    /// All extents of the bytes, one after another. `fetch` gives a chunk's plain bytes; it is asked for chunks of
    /// lists only.
    pub fn extents<F>(&self, fetch: F) -> Extents<F> {
        Extents::new(self, fetch)
    }

    /// Writes the content.
    pub fn encode(&self, encoder: &mut Encoder) {
        let mut list = Encoder::new();
        for extent in &self.extents {
            extent.encode(&mut list);
        }
        encoder.varint(self.length).u8(self.depth).bytes(list.as_slice());
    }

    /// Reads content.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let length = decoder.varint()?;
        let depth = decoder.u8()?;
        decoder.limit("depth", depth.into(), EXTENTS_DEPTH_MAX.into())?;
        let mut list = Decoder::new("a list of extents", decoder.bytes("extents", EXTENTS_INLINE_MAX)?);
        if length == 0 && depth > 0 {
            return Err(list.not_canonical("content without bytes has a depth"));
        }
        let mut rules = ListRules::new(depth);
        let mut extents = Vec::new();
        while !list.is_empty() {
            extents.push(rules.read(&mut list)?);
        }
        rules.finish(&list, length)?;
        Ok(Self { length, depth, extents })
    }
}
