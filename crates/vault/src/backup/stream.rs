//! A stream of bytes that is cut and stored as it comes, and the extents that its chunks give to their owners.
//!
//! One stream carries one big file, or the small files of a folder joined, or a list: whoever's bytes stand in it is told which
//! pieces of which chunks they became.
//!
//! # Invariants
//! - **S1** The pieces handed to an owner, in order, are its bytes; holes stand where they were announced.
//! - **S2** What is expected moves no boundary: the chunks are those of a stream of which nothing is known. It does where the earlier stream
//!   was cut in another grain: a file that loses its last hole keeps the chunks that it has.
//!
//! # What is expected
//! A file that was backed up before comes with the chunks it was cut into then ([`Stream::expect`]). Where one of them began at this place, as
//! many bytes as it had are hashed, all of them, and compared with its id. If they are that chunk, it ends here again, for a boundary
//! depends on the bytes of its chunk alone (C3 of `pipeline::cut`), and neither boundary nor key has to be computed. If not, this chunk is cut as
//! any other, and the comparison goes on where an old chunk and a new one begin at the same place. So a file that grew is cut only
//! from where it grew, and one flipped byte in its old part costs one chunk and is never missed.

use std::collections::VecDeque;

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::Extent;
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_types::limits::{CUT_MAX, MIB};

use super::store::StoreError;

/// How many bytes are gathered before they are cut: windows much longer than a chunk are scanned once.
const WINDOW: usize = 4 * MIB;

/// Who names and keeps the chunks that a stream is cut into.
pub(super) trait Chunks {
    /// Names a chunk, and stores it unless it is there already.
    fn put(&mut self, plain: &[u8]) -> Result<ChunkRef, StoreError>;
    /// The same for a chunk that is expected to be this one; false, and nothing is done, if it is another.
    fn put_expected(&mut self, expected: &ChunkRef, plain: &[u8]) -> Result<bool, StoreError>;
}

/// A stretch of the stream that belongs to one owner.
#[derive(Debug, Clone, Copy)]
struct Stretch<T> {
    owner: T,
    length: u64,
    is_hole: bool,
}

/// A stream whose bytes belong to owners of type `T`.
#[derive(Debug)]
pub(super) struct Stream<T> {
    /// Grows to the greatest window and is used again and again; what lies behind `end` means nothing.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    stretches: VecDeque<Stretch<T>>,
    grain: Grain,
    pieces: Vec<(T, Extent)>,
    expected: Expected,
}

/// The chunks that an earlier stream was cut into, from the next place on where this one may meet them.
#[derive(Debug, Default)]
struct Expected {
    chunks: VecDeque<ChunkRef>,
    /// Where the first of them began.
    first_at: u64,
    /// Where the next chunk of this stream begins; holes do not count.
    at: u64,
}

impl Expected {
    /// The chunk that began here.
    fn here(&mut self) -> Option<&ChunkRef> {
        while self.first_at < self.at && self.pass() {}
        self.chunks.front().filter(|_| self.first_at == self.at)
    }

    fn pass(&mut self) -> bool {
        let passed = self.chunks.pop_front();
        self.first_at += passed.as_ref().map_or(0, |chunk| u64::from(chunk.plain_len));
        passed.is_some()
    }
}

impl<T: Copy + PartialEq> Stream<T> {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::in_grain(Grain::Usual)
    }

    /// Nothing yet, of which chunks of this grain are to be made.
    pub(super) fn in_grain(grain: Grain) -> Self {
        let (stretches, expected) = (VecDeque::new(), Expected::default());
        Self { buffer: Vec::new(), start: 0, end: 0, stretches, grain, pieces: Vec::new(), expected }
    }

    /// The chunks that an earlier stream was cut into, in order. Its last one ended with the stream and not by its bytes: it is no guide.
    pub(super) fn expect(&mut self, mut chunks: VecDeque<ChunkRef>) {
        chunks.pop_back();
        self.expected = Expected { chunks, first_at: 0, at: 0 };
    }

    /// Appends what `fill` writes into room for `length` bytes.
    pub(super) fn append<E>(
        &mut self,
        owner: T,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.end + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        fill(self.buffer.get_mut(self.end..end).unwrap_or_default())?;
        self.end = end;
        self.announce(owner, length as u64, false);
        Ok(())
    }

    /// The bytes appended last, `length` of them.
    pub(super) fn last(&self, length: usize) -> &[u8] {
        self.end.checked_sub(length).and_then(|at| self.buffer.get(at..self.end)).unwrap_or_default()
    }

    /// A hole of the owner stands here; it takes no bytes.
    pub(super) fn hole(&mut self, owner: T, length: u64) {
        self.announce(owner, length, true);
    }

    fn announce(&mut self, owner: T, length: u64, is_hole: bool) {
        match self.stretches.back_mut() {
            // One owner's bytes are one stretch however they come: where a read ended does not show in the extents.
            Some(last) if !is_hole && !last.is_hole && last.owner == owner => last.length += length,
            _ if length > 0 => self.stretches.push_back(Stretch { owner, length, is_hole }),
            _ => {}
        }
    }

    /// True if enough bytes are gathered to be cut.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start >= WINDOW
    }

    /// Cuts and stores what can be cut; all of it if the stream `ends` here.
    pub(super) fn cut(&mut self, cutter: &Cutter, store: &mut impl Chunks, ends: bool) -> Result<(), StoreError> {
        loop {
            let window = self.buffer.get(self.start..self.end).unwrap_or_default();
            // A short window would be scanned again next time: wait for more.
            if window.is_empty() || (!ends && window.len() < CUT_MAX) {
                break;
            }
            let reference = match as_expected(&mut self.expected, window, store)? {
                Some(expected) => expected,
                None => match cutter.next(self.grain, window, ends).and_then(|length| window.get(..length)) {
                    Some(plain) => store.put(plain)?,
                    None => break,
                },
            };
            self.start += reference.plain_len as usize;
            self.expected.at += u64::from(reference.plain_len);
            self.deal(&reference, reference.plain_len.into());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if ends {
            self.deal_holes();
        }
        Ok(())
    }

    /// The pieces that came out of cutting since they were last taken.
    pub(super) fn take_pieces(&mut self) -> Vec<(T, Extent)> {
        std::mem::take(&mut self.pieces)
    }

    /// Deals the bytes of a chunk to their owners.
    fn deal(&mut self, chunk: &ChunkRef, length: u64) {
        let mut offset = 0;
        while offset < length {
            self.deal_holes();
            let Some(stretch) = self.stretches.front_mut() else { break };
            let taken = stretch.length.min(length - offset);
            stretch.length -= taken;
            let owner = stretch.owner;
            if stretch.length == 0 {
                self.stretches.pop_front();
            }
            self.pieces.push((owner, piece(chunk, offset, taken)));
            offset += taken;
        }
    }

    fn deal_holes(&mut self) {
        while let Some(Stretch { owner, length, is_hole: true }) = self.stretches.front().copied() {
            self.stretches.pop_front();
            self.pieces.push((owner, Extent::Hole { length }));
        }
    }
}

/// Stores the chunk that began here in the earlier stream, if these bytes are it.
fn as_expected(
    expected: &mut Expected,
    window: &[u8],
    store: &mut impl Chunks,
) -> Result<Option<ChunkRef>, StoreError> {
    let Some(chunk) = expected.here() else { return Ok(None) };
    let Some(plain) = window.get(..chunk.plain_len as usize) else { return Ok(None) };
    Ok(store.put_expected(chunk, plain)?.then(|| chunk.clone()))
}

fn piece(chunk: &ChunkRef, offset: u64, length: u64) -> Extent {
    if length == u64::from(chunk.plain_len) {
        return Extent::Chunk(chunk.clone());
    }
    let number = |value| u32::try_from(value).expect("a place in a chunk is below its length, at most 1 MiB");
    Extent::Part { chunk: chunk.clone(), offset: number(offset), length: number(length) }
}

#[cfg(test)]
mod tests;
