//! One immutable file of the index, sorted by chunk id.
//!
//! - **Owns** the bytes of a segment: blocks of entries, then the foot that says what they are.
//! - **Does not** decide which segments there are, nor how many.
//!
//! Format: `docs/design/host-files.md`, section *Index*.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blockhouse_crypto::hash;
use blockhouse_types::encoding::HEADER_LEN;
use blockhouse_types::{Account, ChunkId, Code, DecodeError, Decoder, Encoder, StripeId};

use super::filter::{Filter, LINE_LEN};
use super::{Location, Slot, StripeEntry};

const MAGIC: [u8; 4] = *b"BHI2";
/// How the name of a segment ends.
pub(super) const EXTENSION: &str = "chunks";
/// How much of a chunk's id an entry keeps.
const SHORT_LEN: usize = 20;
const ENTRY_LEN: usize = SHORT_LEN + 4 + 1 + 4 + 3 + 3;
const BLOCK_ENTRIES: usize = 64;
const BLOCK_LEN: usize = ENTRY_LEN * BLOCK_ENTRIES;
const HASH_LEN: usize = 32;
const STRIPE_LEN: usize = 32 + 2 + 8 + 20;
const FENCE_LEN: usize = 8;
/// Numbers of stripes, blocks, lines of the filter, and entries; the hash of the foot.
const TAIL_LEN: usize = 4 + 4 + 4 + 8 + HASH_LEN;
const FOOT_CONTEXT: &str = "blockhouse v2 index foot";
const BLOCK_CONTEXT: &str = "blockhouse v2 index block";

/// Why a segment could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The disk failed.
    #[error("reading or writing failed")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("the segment is damaged: {why}")]
    Damaged { why: &'static str },
}

impl From<DecodeError> for SegmentError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged { why: "its foot does not decode" }
    }
}

/// The first 160 bits of a chunk's id: what the index keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShortId([u8; SHORT_LEN]);

impl ShortId {
    pub(super) fn of(chunk: &ChunkId) -> Self {
        Self(*chunk.as_bytes().first_chunk().expect("an id of 32 bytes has a first 20"))
    }

    /// Eight bytes of it, from a place that has so many behind it.
    pub(super) fn word(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        u64::from_be_bytes(bytes)
    }

    fn fence(&self) -> u64 {
        self.word(0)
    }
}

/// One chunk in a segment: its id, the number of its stripe there, its place in that stripe's pack.
pub(super) type Entry = (ShortId, u32, Slot);

/// An open segment: its foot is in memory, its blocks are on disk.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    stripes: Vec<StripeEntry>,
    fences: Vec<u64>,
    filter: Filter,
    entries: u64,
}

/// What the last bytes of a segment say of the others.
struct Counts {
    stripes: u32,
    blocks: u32,
    lines: u32,
    entries: u64,
}

impl Counts {
    fn read(tail: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("an index segment", tail);
        let (stripes, blocks, lines) = (decoder.u32()?, decoder.u32()?, decoder.u32()?);
        Ok(Self { stripes, blocks, lines, entries: decoder.u64()? })
    }

    fn write(&self, encoder: &mut Encoder) {
        encoder.u32(self.stripes).u32(self.blocks).u32(self.lines).u64(self.entries);
    }

    const fn stripes_len(&self) -> u64 {
        self.stripes as u64 * STRIPE_LEN as u64
    }

    const fn filter_len(&self) -> u64 {
        self.lines as u64 * LINE_LEN as u64
    }

    const fn foot_len(&self) -> u64 {
        self.stripes_len() + self.blocks as u64 * FENCE_LEN as u64 + self.filter_len() + TAIL_LEN as u64
    }

    /// Where the foot begins in a file of that length, if the file has the length that these numbers give.
    fn foot_at(&self, file_len: u64) -> Option<u64> {
        let foot_at = block_at(self.blocks.into());
        let fits = foot_at + self.foot_len() == file_len;
        (fits && self.entries.div_ceil(BLOCK_ENTRIES as u64) == u64::from(self.blocks)).then_some(foot_at)
    }
}

const fn block_at(block: u64) -> u64 {
    HEADER_LEN as u64 + block * (BLOCK_LEN + HASH_LEN) as u64
}

impl Segment {
    /// Opens and checks the foot; blocks are checked as they are read.
    pub(super) fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut header = [0; HEADER_LEN];
        read_exact(&file, &mut header, 0)?;
        Decoder::with_header("an index segment", MAGIC, &header)?;
        let cut_short = SegmentError::Damaged { why: "it is cut short" };
        let tail_at = length.checked_sub(TAIL_LEN as u64).ok_or(cut_short)?;
        let mut tail = [0; TAIL_LEN];
        read_exact(&file, &mut tail, tail_at)?;
        let counts = Counts::read(&tail)?;
        let foot_at =
            counts.foot_at(length).ok_or(SegmentError::Damaged { why: "its length is not what its foot says" })?;
        let too_long = |_| SegmentError::Damaged { why: "it is too long" };
        let mut foot = vec![0; usize::try_from(counts.foot_len()).map_err(too_long)?];
        read_exact(&file, &mut foot, foot_at)?;
        let (body, stored) = foot.split_at(foot.len() - HASH_LEN);
        if hash::hash(FOOT_CONTEXT, body) != stored {
            return Err(SegmentError::Damaged { why: "its foot was altered" });
        }
        let mut decoder = Decoder::new("an index segment", body);
        let stripes = (0..counts.stripes).map(|_| read_stripe(&mut decoder)).collect::<Result<_, _>>()?;
        let fences = (0..counts.blocks).map(|_| decoder.u64()).collect::<Result<_, _>>()?;
        let filter = decoder.left().get(..usize::try_from(counts.filter_len()).map_err(too_long)?);
        let filter = Filter::from_bytes(filter.unwrap_or_default());
        Ok(Self { path: path.to_owned(), file, stripes, fences, filter, entries: counts.entries })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn stripes(&self) -> &[StripeEntry] {
        &self.stripes
    }

    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Adds every location of `chunk` to `found`. Reads nothing for most chunks that are not here.
    pub(super) fn locate(&self, chunk: &ChunkId, found: &mut Vec<Location>) -> Result<(), SegmentError> {
        let wanted = ShortId::of(chunk);
        if !self.filter.may_hold(&wanted) {
            return Ok(());
        }
        let first = self.fences.partition_point(|fence| *fence < wanted.fence()).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= wanted.fence());
        for number in first..end {
            let block = self.read_block(number)?;
            for entry in block.entries().filter(|entry| entry.starts_with(&wanted.0)) {
                let (_, ordinal, slot) = read_entry(entry)?;
                found.push(Location { stripe: self.stripe_of(ordinal)?.id, slot });
            }
        }
        Ok(())
    }

    /// The stripe of an ordinal in a block.
    pub(super) fn stripe_of(&self, ordinal: u32) -> Result<&StripeEntry, SegmentError> {
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        self.stripes.get(at).ok_or(SegmentError::Damaged { why: "an entry names no stripe" })
    }

    /// The entries of one block.
    pub(super) fn block(&self, block: usize) -> Result<Vec<Entry>, SegmentError> {
        self.read_block(block)?.entries().map(|entry| read_entry(entry).map_err(SegmentError::from)).collect()
    }

    fn read_block(&self, block: usize) -> Result<Block, SegmentError> {
        let mut bytes = [0; BLOCK_LEN + HASH_LEN];
        read_exact(&self.file, &mut bytes, block_at(block as u64))?;
        let (body, stored) = bytes.split_at(BLOCK_LEN);
        if hash::hash(BLOCK_CONTEXT, body) != stored {
            return Err(SegmentError::Damaged { why: "a block was altered" });
        }
        let before = block as u64 * BLOCK_ENTRIES as u64;
        let here = usize::try_from(self.entries.saturating_sub(before)).unwrap_or(BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        Ok(Block { bytes, here })
    }
}

/// A block whose hash holds.
struct Block {
    bytes: [u8; BLOCK_LEN + HASH_LEN],
    here: usize,
}

impl Block {
    fn entries(&self) -> impl Iterator<Item = &[u8; ENTRY_LEN]> {
        self.bytes.as_chunks().0.iter().take(self.here)
    }
}

/// Writes a segment in one pass over its sorted entries, whole or not at all. There are `at_most` so many of them.
pub(super) fn write(
    path: &Path,
    stripes: &[StripeEntry],
    at_most: u64,
    entries: impl Iterator<Item = Result<Entry, SegmentError>>,
) -> Result<(), SegmentError> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = write_body(&temporary, stripes, at_most, entries).and_then(|()| Ok(fs::rename(&temporary, path)?));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_body(
    path: &Path,
    stripes: &[StripeEntry],
    at_most: u64,
    entries: impl Iterator<Item = Result<Entry, SegmentError>>,
) -> Result<(), SegmentError> {
    let mut out = BufWriter::with_capacity(64 << 10, File::create(path)?);
    out.write_all(Encoder::with_header(MAGIC).as_slice())?;
    let (mut fences, mut filter) = (Vec::new(), Filter::for_entries(at_most));
    let (mut count, mut block) = (0_u64, Vec::with_capacity(BLOCK_LEN));
    for entry in entries {
        let entry = entry?;
        if block.is_empty() {
            fences.push(entry.0.fence());
        }
        filter.insert(&entry.0);
        write_entry(&mut block, entry)?;
        count += 1;
        if block.len() == BLOCK_LEN {
            write_block(&mut out, &mut block)?;
        }
    }
    if !block.is_empty() {
        write_block(&mut out, &mut block)?;
    }
    out.write_all(&foot(stripes, &fences, &filter, count)?)?;
    // A cache: what power loss takes is found again at the sites. The hashes tell a torn file from a whole one.
    Ok(out.flush()?)
}

fn foot(stripes: &[StripeEntry], fences: &[u64], filter: &Filter, entries: u64) -> Result<Vec<u8>, SegmentError> {
    let number = |count: usize| u32::try_from(count).map_err(|_| SegmentError::Damaged { why: "it would be too long" });
    let (blocks, lines) = (number(fences.len())?, number(filter.lines())?);
    let counts = Counts { stripes: number(stripes.len())?, blocks, lines, entries };
    let mut foot = Encoder::new();
    for stripe in stripes {
        foot.raw(stripe.id.as_bytes()).raw(&stripe.code.to_bytes()).u64(stripe.pack_len).raw(stripe.writer.as_bytes());
    }
    for fence in fences {
        foot.u64(*fence);
    }
    for word in filter.bytes() {
        foot.raw(&word);
    }
    counts.write(&mut foot);
    let sum = hash::hash(FOOT_CONTEXT, foot.as_slice());
    foot.raw(&sum);
    Ok(foot.finish())
}

fn write_block(out: &mut impl Write, block: &mut Vec<u8>) -> io::Result<()> {
    block.resize(BLOCK_LEN, 0);
    out.write_all(block)?;
    out.write_all(&hash::hash(BLOCK_CONTEXT, block))?;
    block.clear();
    Ok(())
}

fn write_entry(out: &mut Vec<u8>, (id, ordinal, slot): Entry) -> Result<(), SegmentError> {
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&ordinal.to_le_bytes());
    out.push(slot.codec);
    out.extend_from_slice(&slot.offset.to_le_bytes());
    for length in [slot.sealed_len, slot.plain_len] {
        let [a, b, c, 0] = length.to_le_bytes() else {
            return Err(SegmentError::Damaged { why: "a chunk is longer than chunks are" });
        };
        out.extend_from_slice(&[a, b, c]);
    }
    Ok(())
}

fn read_entry(entry: &[u8; ENTRY_LEN]) -> Result<Entry, DecodeError> {
    let mut from = Decoder::new("an index entry", entry);
    let (id, ordinal, codec, offset) = (ShortId(from.array()?), from.u32()?, from.u8()?, from.u32()?);
    let mut length = || from.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
    Ok((id, ordinal, Slot { codec, offset, sealed_len: length()?, plain_len: length()? }))
}

fn read_stripe(from: &mut Decoder<'_>) -> Result<StripeEntry, SegmentError> {
    let id = StripeId::new(from.array()?);
    let (data, parity) = (from.u8()?, from.u8()?);
    let code =
        Code::try_new(data.into(), parity.into()).map_err(|_| SegmentError::Damaged { why: "a code is none" })?;
    Ok(StripeEntry { id, code, pack_len: from.u64()?, writer: Account::new(from.array()?) })
}

fn read_exact(file: &File, buffer: &mut [u8], at: u64) -> Result<(), SegmentError> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SegmentError::Damaged { why: "it is cut short" },
        _ => SegmentError::Io(error),
    })
}
