//! Packs: sealed chunks one after another with a sealed table of contents.
//!
//! - **Owns** the bytes of a pack, its table, its padding and its length.
//! - **Does not** open chunks: it never sees their keys.
//!
//! # Invariants
//! - **P1** Opening a table or trailer that was altered in any bit fails.
//! - **P2** The table gives exactly the sealed chunks; no byte of the pack belongs to two of them or to none but
//!   table, padding, trailer.
//! - **P3** Whoever holds the index key can tell every byte of the padding.
//!
//! Format: `docs/design/chunks-and-packs.md`, section *Pack*.

mod table;

use blockhouse_crypto::hash::{derive, keyed_stream};
use blockhouse_crypto::seal::{self, NONCE_LEN, SEAL_OVERHEAD};
use blockhouse_crypto::{OpenError, Secret};
use blockhouse_types::limits::{PACK_CHUNKS_MAX, PACK_MAX, PACK_MIN};
use blockhouse_types::{ChunkId, DecodeError};

use crate::chunk::SealedChunk;
pub use table::{Table, TableEntry, Trailer};
use table::{sealed_table_len, trailer_plain};

/// The length of the sealed trailer, the last bytes of every pack.
pub const TRAILER_LEN: usize = table::TRAILER_PLAIN_LEN + SEAL_OVERHEAD;
/// The additional data of tables and trailers: the version.
const PACK_AAD: [u8; 1] = [1];

/// The keys of packs, derived from the index key once.
#[derive(Debug, Clone)]
pub struct PackKeys {
    table: Secret,
    trailer: Secret,
    padding: Secret,
}

impl PackKeys {
    /// The keys under an index key.
    pub fn new(index_key: &Secret) -> Self {
        Self {
            table: derive("blockhouse v1 pack table", index_key, []),
            trailer: derive("blockhouse v1 pack trailer", index_key, []),
            padding: derive("blockhouse v1 pack padding", index_key, []),
        }
    }

    fn fill_padding(&self, trailer_nonce: &[u8; NONCE_LEN], out: &mut [u8]) {
        keyed_stream(&self.padding, trailer_nonce, out);
    }
}

/// The two nonces of a pack, fresh and random.
#[derive(Debug, Clone, Copy)]
pub struct PackNonces {
    /// That of the table.
    pub table: [u8; NONCE_LEN],
    /// That of the trailer; the padding depends on it.
    pub trailer: [u8; NONCE_LEN],
}

impl PackNonces {
    /// Draws both.
    pub fn random(random: &mut impl rand::CryptoRng) -> Self {
        let mut nonces = Self { table: [0; NONCE_LEN], trailer: [0; NONCE_LEN] };
        random.fill_bytes(&mut nonces.table);
        random.fill_bytes(&mut nonces.trailer);
        nonces
    }
}

/// Why a pack could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildPackError {
    #[error("chunk {id} does not fit into the pack any more")]
    Full { id: ChunkId },
    #[error("a pack holds at least one chunk")]
    Empty,
}

/// Why bytes are not a good pack, table or trailer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenPackError {
    #[error("a pack cannot be {length} bytes long")]
    Length { length: usize },
    #[error("could not decrypt the pack's {part}")]
    Seal {
        part: &'static str,
        #[source]
        source: OpenError,
    },
    #[error("could not decode the pack's {part}")]
    Decode {
        part: &'static str,
        #[source]
        source: DecodeError,
    },
    #[error("the pack's table is not where its trailer says: {why}")]
    Layout { why: &'static str },
    #[error("entry {entry} of the pack's table is wrong: {why}")]
    Entry { entry: usize, why: &'static str },
    #[error("the pack's padding was altered")]
    Padding,
}

/// A finished pack: all its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    bytes: Vec<u8>,
    table: Table,
}

impl Pack {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What lies where.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Bytes and table, to be coded and indexed.
    pub fn into_parts(self) -> (Vec<u8>, Table) {
        (self.bytes, self.table)
    }
}

/// Collects sealed chunks into one pack.
#[derive(Debug)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    entries: Vec<TableEntry>,
    limit: usize,
}

impl PackBuilder {
    /// An empty pack that grows up to `limit` bytes, padding and all. The limit is brought into the range that packs may have.
    ///
    /// Memory is touched as chunks come, not before.
    pub fn with_limit(limit: usize) -> Self {
        Self::in_room(Vec::new(), limit)
    }

    /// The same in the memory of an earlier pack or stripe: what is in it goes, its room stays.
    pub fn in_room(mut bytes: Vec<u8>, limit: usize) -> Self {
        let limit = limit.clamp(PACK_MIN, PACK_MAX);
        bytes.clear();
        // For the pack alone: what its parity takes is known, and asked for, when it becomes a stripe.
        bytes.reserve_exact(limit);
        Self { bytes, entries: Vec::new(), limit }
    }

    /// True if a sealed chunk of that length still fits: with it the pack, padded, is within its limit.
    pub fn would_fit(&self, sealed_len: usize) -> bool {
        let count = self.entries.len() + 1;
        if count > PACK_CHUNKS_MAX || sealed_len > self.limit {
            return false;
        }
        let used = self.bytes.len() + sealed_len + sealed_table_len(count) + TRAILER_LEN;
        padme(used.max(PACK_MIN)) <= self.limit
    }

    /// Appends a sealed chunk and returns its offset.
    pub fn push(&mut self, chunk: &SealedChunk) -> Result<u32, BuildPackError> {
        let full = BuildPackError::Full { id: chunk.id };
        if !self.would_fit(chunk.bytes.len()) {
            return Err(full);
        }
        let offset = u32::try_from(self.bytes.len()).map_err(|_| full)?;
        let sealed_len = u32::try_from(chunk.bytes.len()).map_err(|_| full)?;
        self.bytes.extend_from_slice(&chunk.bytes);
        let (id, codec, plain_len) = (chunk.id, chunk.codec, chunk.plain_len);
        self.entries.push(TableEntry { id, codec, offset, sealed_len, plain_len });
        Ok(offset)
    }

    /// How many chunks it holds.
    pub fn chunks(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes the sealed chunks have so far.
    pub fn sealed_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds table, padding and trailer.
    pub fn finish(self, keys: &PackKeys, nonces: PackNonces) -> Result<Pack, BuildPackError> {
        if self.entries.is_empty() {
            return Err(BuildPackError::Empty);
        }
        let Self { mut bytes, entries, .. } = self;
        let toc_offset = bytes.len();
        let table_len = sealed_table_len(entries.len());
        let trailer = trailer_plain(toc_offset, table_len, entries.len());
        let table = Table::new(entries);
        seal::seal_into(&mut bytes, &keys.table, nonces.table, &PACK_AAD, &table.encode());
        let padding_start = bytes.len();
        bytes.resize(pack_len(padding_start + TRAILER_LEN) - TRAILER_LEN, 0);
        let padding = bytes.get_mut(padding_start..).expect("padding begins inside the pack");
        keys.fill_padding(&nonces.trailer, padding);
        seal::seal_into(&mut bytes, &keys.trailer, nonces.trailer, &PACK_AAD, &trailer);
        Ok(Pack { bytes, table })
    }
}

/// The length of a pack whose chunks, table and trailer have `used` bytes.
fn pack_len(used: usize) -> usize {
    padme(used.max(PACK_MIN)).min(PACK_MAX)
}

/// Rounds a length up so that few lengths are left and at most 12 % is added (Nikitin et al., PETS 2019).
fn padme(length: usize) -> usize {
    let Some(exponent) = length.checked_ilog2().filter(|exponent| *exponent > 0) else {
        return length;
    };
    let mantissa_bits = exponent.ilog2() + 1;
    length.next_multiple_of(1 << exponent.saturating_sub(mantissa_bits))
}

/// Opens the trailer: the last [`TRAILER_LEN`] bytes of a pack of `pack_len` bytes.
pub fn open_trailer(keys: &PackKeys, pack_len: usize, sealed: &[u8; TRAILER_LEN]) -> Result<Trailer, OpenPackError> {
    if !(PACK_MIN..=PACK_MAX).contains(&pack_len) {
        return Err(OpenPackError::Length { length: pack_len });
    }
    let part = "trailer";
    let plain = seal::open(&keys.trailer, &PACK_AAD, sealed).map_err(|source| OpenPackError::Seal { part, source })?;
    let nonce = *sealed.first_chunk().expect("a trailer is longer than a nonce");
    let trailer = Trailer::decode(&plain, nonce).map_err(|source| OpenPackError::Decode { part, source })?;
    trailer.check(pack_len)?;
    Ok(trailer)
}

/// Opens the table: the bytes at [`Trailer::table_range`].
pub fn open_table(keys: &PackKeys, trailer: &Trailer, sealed: &[u8]) -> Result<Table, OpenPackError> {
    let part = "table";
    let plain = seal::open(&keys.table, &PACK_AAD, sealed).map_err(|source| OpenPackError::Seal { part, source })?;
    let table = Table::decode(&plain).map_err(|source| OpenPackError::Decode { part, source })?;
    table.check(trailer)?;
    Ok(table)
}

/// Checks a whole pack, byte for byte but for the chunks' own seals, and gives its table.
pub fn check_pack(keys: &PackKeys, bytes: &[u8]) -> Result<Table, OpenPackError> {
    let length = OpenPackError::Length { length: bytes.len() };
    let Some((body, sealed_trailer)) = bytes.split_last_chunk::<TRAILER_LEN>() else {
        return Err(length);
    };
    let trailer = open_trailer(keys, bytes.len(), sealed_trailer)?;
    let range = trailer.table_range();
    let outside = OpenPackError::Layout { why: "it ends behind the trailer" };
    let (before, padding) = body.split_at_checked(range.end).ok_or(outside)?;
    let table = open_table(keys, &trailer, before.get(range).unwrap_or_default())?;
    let mut expected = vec![0; padding.len()];
    keys.fill_padding(trailer.nonce(), &mut expected);
    if padding != expected {
        return Err(OpenPackError::Padding);
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
