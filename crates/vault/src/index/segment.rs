//! One immutable file of the index, sorted by chunk id.
//!
//! Format: `docs/design/host-files.md`, section *Index*.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blockhouse_crypto::hash;
use blockhouse_types::encoding::HEADER_LEN;
use blockhouse_types::{Account, ChunkId, Code, DecodeError, Decoder, Encoder, StripeId};

use super::{Location, Slot, StripeEntry};

const MAGIC: [u8; 4] = *b"BHIX";
const ENTRY_LEN: usize = 49;
const BLOCK_ENTRIES: usize = 64;
const BLOCK_LEN: usize = ENTRY_LEN * BLOCK_ENTRIES;
const HASH_LEN: usize = 32;
/// Header, number of stripes, of blocks and of entries.
const COUNTS_LEN: usize = HEADER_LEN + 4 + 4 + 8;
const STRIPE_LEN: usize = 32 + 2 + 8 + 20;
const FENCE_LEN: usize = 8;
const HEAD_CONTEXT: &str = "blockhouse v1 index head";
const BLOCK_CONTEXT: &str = "blockhouse v1 index block";

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
        Self::Damaged { why: "its head does not decode" }
    }
}

/// An open segment: its head is in memory, its blocks are on disk.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    stripes: Vec<StripeEntry>,
    fences: Vec<u64>,
    entries: u64,
    blocks_at: u64,
}

impl Segment {
    /// Opens and checks the head; blocks are checked as they are read.
    pub(super) fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut counts = [0; COUNTS_LEN];
        read_exact(&file, &mut counts, 0)?;
        let mut decoder = Decoder::with_header("an index segment", MAGIC, &counts)?;
        let (stripes, blocks, entries) = (decoder.u32()?, decoder.u32()?, decoder.u64()?);
        let head_len =
            COUNTS_LEN as u64 + u64::from(stripes) * STRIPE_LEN as u64 + u64::from(blocks) * FENCE_LEN as u64;
        let blocks_at = head_len + HASH_LEN as u64;
        let whole = blocks_at + u64::from(blocks) * (BLOCK_LEN + HASH_LEN) as u64;
        if whole != length || entries.div_ceil(BLOCK_ENTRIES as u64) != u64::from(blocks) {
            return Err(SegmentError::Damaged { why: "its length is not what its head says" });
        }
        let mut head =
            vec![0; usize::try_from(blocks_at).map_err(|_| SegmentError::Damaged { why: "it is too long" })?];
        read_exact(&file, &mut head, 0)?;
        let (body, stored) = head.split_at(head.len() - HASH_LEN);
        if hash::hash(HEAD_CONTEXT, body) != stored {
            return Err(SegmentError::Damaged { why: "its head was altered" });
        }
        let mut decoder = Decoder::new("an index segment", body.get(COUNTS_LEN..).unwrap_or_default());
        let stripes = (0..stripes).map(|_| read_stripe(&mut decoder)).collect::<Result<_, _>>()?;
        let fences = (0..blocks).map(|_| decoder.u64()).collect::<Result<_, _>>()?;
        decoder.finish()?;
        Ok(Self { path: path.to_owned(), file, stripes, fences, entries, blocks_at })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn stripes(&self) -> &[StripeEntry] {
        &self.stripes
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Adds every location of `chunk` to `found`.
    pub(super) fn locate(&self, chunk: &ChunkId, found: &mut Vec<Location>) -> Result<(), SegmentError> {
        let wanted = fence(chunk);
        let first = self.fences.partition_point(|fence| *fence < wanted).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= wanted);
        for block in first..end {
            for (id, ordinal, slot) in self.block(block)? {
                if id == *chunk {
                    found.push(Location { stripe: self.stripe_of(ordinal)?.id, slot });
                }
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
    pub(super) fn block(&self, block: usize) -> Result<Vec<(ChunkId, u32, Slot)>, SegmentError> {
        let mut bytes = [0; BLOCK_LEN + HASH_LEN];
        let at = self.blocks_at + block as u64 * bytes.len() as u64;
        read_exact(&self.file, &mut bytes, at)?;
        let (body, stored) = bytes.split_at(BLOCK_LEN);
        if hash::hash(BLOCK_CONTEXT, body) != stored {
            return Err(SegmentError::Damaged { why: "a block was altered" });
        }
        let before = block as u64 * BLOCK_ENTRIES as u64;
        let here = usize::try_from(self.entries.saturating_sub(before)).unwrap_or(BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        let mut decoder = Decoder::new("an index block", body);
        (0..here).map(|_| read_entry(&mut decoder).map_err(SegmentError::from)).collect()
    }
}

/// Writes a segment in one pass over its sorted entries.
pub(super) struct SegmentWriter;

impl SegmentWriter {
    /// Writes the segment at `path`, whole or not at all.
    pub(super) fn write(
        path: &Path,
        stripes: &[StripeEntry],
        entries: impl Iterator<Item = Result<(ChunkId, u32, Slot), SegmentError>>,
    ) -> Result<(), SegmentError> {
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let written = write_body(&temporary, stripes, entries).and_then(|()| Ok(fs::rename(&temporary, path)?));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Blocks go to a first file as they come, since the head's length depends on their number; then head and blocks are joined.
fn write_body(
    path: &Path,
    stripes: &[StripeEntry],
    entries: impl Iterator<Item = Result<(ChunkId, u32, Slot), SegmentError>>,
) -> Result<(), SegmentError> {
    let blocks_path = path.with_extension("blocks");
    let mut blocks =
        BufWriter::new(File::options().read(true).write(true).create(true).truncate(true).open(&blocks_path)?);
    fs::remove_file(&blocks_path)?;
    let (mut fences, mut count, mut block) = (Vec::new(), 0_u64, Encoder::new());
    for entry in entries {
        let (id, ordinal, slot) = entry?;
        if block.is_empty() {
            fences.push(fence(&id));
        }
        write_entry(&mut block, &id, ordinal, slot);
        count += 1;
        if block.len() == BLOCK_LEN {
            write_block(&mut blocks, std::mem::take(&mut block))?;
        }
    }
    if !block.is_empty() {
        write_block(&mut blocks, block)?;
    }
    let mut blocks = blocks.into_inner().map_err(io::IntoInnerError::into_error)?;
    let mut out = File::create(path)?;
    out.write_all(&head(stripes, &fences, count)?)?;
    blocks.seek(SeekFrom::Start(0))?;
    io::copy(&mut blocks, &mut out)?;
    // A cache: what power loss takes is found again at the sites. The hashes tell a torn file from a whole one.
    Ok(())
}

fn head(stripes: &[StripeEntry], fences: &[u64], entries: u64) -> Result<Vec<u8>, SegmentError> {
    let number = |count: usize| u32::try_from(count).map_err(|_| SegmentError::Damaged { why: "it would be too long" });
    let mut head = Encoder::with_header(MAGIC);
    head.u32(number(stripes.len())?).u32(number(fences.len())?).u64(entries);
    for stripe in stripes {
        head.raw(stripe.id.as_bytes()).raw(&stripe.code.to_bytes()).u64(stripe.pack_len).raw(stripe.writer.as_bytes());
    }
    for fence in fences {
        head.u64(*fence);
    }
    let sum = hash::hash(HEAD_CONTEXT, head.as_slice());
    head.raw(&sum);
    Ok(head.finish())
}

fn write_block(out: &mut impl Write, block: Encoder) -> io::Result<()> {
    let mut bytes = block.finish();
    bytes.resize(BLOCK_LEN, 0);
    out.write_all(&bytes)?;
    out.write_all(&hash::hash(BLOCK_CONTEXT, &bytes))
}

fn write_entry(out: &mut Encoder, id: &ChunkId, ordinal: u32, slot: Slot) {
    out.raw(id.as_bytes()).u32(ordinal).u8(slot.codec).u32(slot.offset).u32(slot.sealed_len).u32(slot.plain_len);
}

fn read_entry(from: &mut Decoder<'_>) -> Result<(ChunkId, u32, Slot), DecodeError> {
    let id = ChunkId::new(from.array()?);
    let ordinal = from.u32()?;
    let slot = Slot { codec: from.u8()?, offset: from.u32()?, sealed_len: from.u32()?, plain_len: from.u32()? };
    Ok((id, ordinal, slot))
}

fn read_stripe(from: &mut Decoder<'_>) -> Result<StripeEntry, SegmentError> {
    let id = StripeId::new(from.array()?);
    let (data, parity) = (from.u8()?, from.u8()?);
    let code =
        Code::try_new(data.into(), parity.into()).map_err(|_| SegmentError::Damaged { why: "a code is none" })?;
    Ok(StripeEntry { id, code, pack_len: from.u64()?, writer: Account::new(from.array()?) })
}

fn fence(id: &ChunkId) -> u64 {
    u64::from_be_bytes(*id.as_bytes().first_chunk().expect("an id of 32 bytes has a first 8"))
}

fn read_exact(file: &File, buffer: &mut [u8], at: u64) -> Result<(), SegmentError> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SegmentError::Damaged { why: "it is cut short" },
        _ => SegmentError::Io(error),
    })
}
