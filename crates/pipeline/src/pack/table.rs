//! The table of contents and the trailer that says where it lies.

use std::collections::BTreeMap;
use std::ops::Range;

use blockhouse_crypto::seal::{NONCE_LEN, SEAL_OVERHEAD};
use blockhouse_types::encoding::HEADER_LEN;
use blockhouse_types::limits::{CHUNK_MAX, PACK_CHUNKS_MAX};
use blockhouse_types::{ChunkId, DecodeError, Decoder, Encoder, Magic};

use super::{OpenPackError, TRAILER_LEN, pack_len};
use crate::compress::Codec;

const TABLE_MAGIC: Magic = *b"BHPK";
const TRAILER_MAGIC: Magic = *b"BHPT";
/// Id, codec, offset, sealed length, plain length.
const ENTRY_LEN: usize = ChunkId::LEN + 1 + 4 + 4 + 4;
pub(super) const TRAILER_PLAIN_LEN: usize = HEADER_LEN + 4 * 4;

/// Where one sealed chunk lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEntry {
    /// The chunk's id.
    pub id: ChunkId,
    /// How its plain bytes were written before sealing.
    pub codec: Codec,
    /// Where it begins.
    pub offset: u32,
    /// How long it is, with nonce and tag.
    pub sealed_len: u32,
    /// How long the plain chunk is.
    pub plain_len: u32,
}

impl TableEntry {
    /// The bytes of the pack that are this sealed chunk.
    pub const fn range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start + self.sealed_len as usize
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let id = ChunkId::new(decoder.array()?);
        let tag = decoder.u8()?;
        let codec = Codec::from_tag(tag).ok_or_else(|| decoder.unknown("codec", u64::from(tag)))?;
        Ok(Self { id, codec, offset: decoder.u32()?, sealed_len: decoder.u32()?, plain_len: decoder.u32()? })
    }

    /// Why its lengths cannot be those of a sealed chunk.
    fn fault(&self) -> Option<&'static str> {
        let (sealed, plain) = (self.sealed_len as usize, self.plain_len as usize);
        if plain == 0 || plain > CHUNK_MAX {
            return Some("no chunk has such a plain length");
        }
        let fits = match self.codec {
            Codec::Stored => sealed == plain + SEAL_OVERHEAD,
            Codec::Zstd => (SEAL_OVERHEAD + 1..plain + SEAL_OVERHEAD).contains(&sealed),
        };
        (!fits).then_some("its sealed length does not fit its plain length and codec")
    }
}

/// A pack's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    entries: Vec<TableEntry>,
}

impl Table {
    pub(super) const fn new(entries: Vec<TableEntry>) -> Self {
        Self { entries }
    }

    /// The chunks in the order of their offsets.
    pub fn entries(&self) -> &[TableEntry] {
        &self.entries
    }

    /// The entries by id.
    pub fn by_id(&self) -> BTreeMap<ChunkId, TableEntry> {
        self.entries.iter().map(|entry| (entry.id, *entry)).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(TABLE_MAGIC);
        encoder.list(self.entries.iter(), |encoder, entry| {
            encoder.raw(entry.id.as_bytes()).u8(entry.codec.tag());
            encoder.u32(entry.offset).u32(entry.sealed_len).u32(entry.plain_len);
        });
        encoder.finish()
    }

    pub(super) fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header("a pack's table", TABLE_MAGIC, plain)?;
        let entries = decoder.list("entries", PACK_CHUNKS_MAX, TableEntry::decode)?;
        decoder.finish()?;
        Ok(Self { entries })
    }

    /// P2: the entries cover the bytes before the table, each once.
    pub(super) fn check(&self, trailer: &Trailer) -> Result<(), OpenPackError> {
        if self.entries.len() != trailer.entries as usize {
            return Err(OpenPackError::Layout { why: "it has not as many entries as its trailer says" });
        }
        let mut end = 0_usize;
        for (at, entry) in self.entries.iter().enumerate() {
            let gap = (entry.offset as usize != end).then_some("it does not begin where the one before ends");
            if let Some(why) = gap.or_else(|| entry.fault()) {
                return Err(OpenPackError::Entry { entry: at, why });
            }
            end = entry.range().end;
        }
        if end != trailer.table_range().start {
            return Err(OpenPackError::Layout { why: "it does not begin where the last chunk ends" });
        }
        Ok(())
    }
}

/// Where the table of a pack lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    toc_offset: u32,
    table_len: u32,
    entries: u32,
    nonce: [u8; NONCE_LEN],
}

impl Trailer {
    /// The bytes of the pack that are the sealed table.
    pub const fn table_range(&self) -> Range<usize> {
        let start = self.toc_offset as usize;
        start..start + self.table_len as usize
    }

    /// How many chunks the pack holds.
    pub const fn entries(&self) -> usize {
        self.entries as usize
    }

    pub(super) const fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    pub(super) fn decode(plain: &[u8], nonce: [u8; NONCE_LEN]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header("a pack's trailer", TRAILER_MAGIC, plain)?;
        let trailer = Self { toc_offset: decoder.u32()?, table_len: decoder.u32()?, entries: decoder.u32()?, nonce };
        if decoder.u32()? != 0 {
            return Err(decoder.not_canonical("its last field is not zero"));
        }
        decoder.finish()?;
        Ok(trailer)
    }

    /// Everything but the table's own content.
    pub(super) fn check(&self, found_pack_len: usize) -> Result<(), OpenPackError> {
        let layout = |why| Err(OpenPackError::Layout { why });
        if self.entries == 0 || self.entries() > PACK_CHUNKS_MAX {
            return layout("no pack has that many entries");
        }
        if self.table_len as usize != sealed_table_len(self.entries()) {
            return layout("its length does not fit its entries");
        }
        let used = u64::from(self.toc_offset) + u64::from(self.table_len) + TRAILER_LEN as u64;
        if used > found_pack_len as u64 {
            return layout("it ends behind the trailer");
        }
        if pack_len(self.table_range().end + TRAILER_LEN) != found_pack_len {
            return Err(OpenPackError::Length { length: found_pack_len });
        }
        Ok(())
    }
}

pub(super) fn trailer_plain(toc_offset: usize, table_len: usize, entries: usize) -> Vec<u8> {
    let mut encoder = Encoder::with_header(TRAILER_MAGIC);
    for value in [toc_offset, table_len, entries, 0] {
        encoder.u32(u32::try_from(value).expect("a pack is shorter than 4 GiB"));
    }
    encoder.finish()
}

/// The length of the sealed table of that many entries.
pub(super) fn sealed_table_len(entries: usize) -> usize {
    let mut count = Encoder::new();
    count.count(entries);
    HEADER_LEN + count.len() + entries * ENTRY_LEN + SEAL_OVERHEAD
}
