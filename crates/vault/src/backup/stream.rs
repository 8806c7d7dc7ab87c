//! A stream of bytes that is cut and stored as it comes, and the extents that its chunks give to their owners.
//!
//! One stream carries one big file, or the small files of a folder joined, or a list: whoever's bytes stand in it is told which
//! pieces of which chunks they became.
//!
//! # Invariants
//! - **S1** The pieces handed to an owner, in order, are its bytes; holes stand where they were announced.

use std::collections::VecDeque;

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::Extent;
use blockhouse_pipeline::cut::Cutter;
use blockhouse_types::limits::{CUT_MAX, MIB};

use super::store::{ChunkStore, StoreError};

/// How many bytes are gathered before they are cut: windows much longer than a chunk are scanned once.
const WINDOW: usize = 4 * MIB;

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
    buffer: Vec<u8>,
    start: usize,
    stretches: VecDeque<Stretch<T>>,
    pieces: Vec<(T, Extent)>,
}

impl<T: Copy> Stream<T> {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, stretches: VecDeque::new(), pieces: Vec::new() }
    }

    /// Appends what `fill` writes into room for `length` bytes.
    pub(super) fn append<E>(
        &mut self,
        owner: T,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = self.buffer.len();
        self.buffer.resize(at + length, 0);
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        if let Err(error) = fill(room) {
            self.buffer.truncate(at);
            return Err(error);
        }
        self.announce(owner, length as u64, false);
        Ok(())
    }

    /// The bytes appended last, `length` of them.
    pub(super) fn last(&self, length: usize) -> &[u8] {
        self.buffer.len().checked_sub(length).and_then(|at| self.buffer.get(at..)).unwrap_or_default()
    }

    /// A hole of the owner stands here; it takes no bytes.
    pub(super) fn hole(&mut self, owner: T, length: u64) {
        self.announce(owner, length, true);
    }

    fn announce(&mut self, owner: T, length: u64, is_hole: bool) {
        if length > 0 {
            self.stretches.push_back(Stretch { owner, length, is_hole });
        }
    }

    /// True if enough bytes are gathered to be cut.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() - self.start >= WINDOW
    }

    /// Cuts and stores what can be cut; all of it if the stream `ends` here.
    pub(super) fn cut(&mut self, cutter: &Cutter, store: &mut ChunkStore, ends: bool) -> Result<(), StoreError> {
        loop {
            let window = self.buffer.get(self.start..).unwrap_or_default();
            // A short window would be scanned again next time: wait for more.
            let length = if ends || window.len() >= CUT_MAX { cutter.next(window, ends) } else { None };
            let Some(plain) = length.and_then(|length| window.get(..length)) else { break };
            let (length, reference) = (plain.len(), store.put(plain)?);
            self.start += length;
            self.deal(&reference, length as u64);
        }
        self.buffer.drain(..self.start);
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

fn piece(chunk: &ChunkRef, offset: u64, length: u64) -> Extent {
    if length == u64::from(chunk.plain_len) {
        return Extent::Chunk(chunk.clone());
    }
    let number = |value| u32::try_from(value).expect("a place in a chunk is below its length, at most 1 MiB");
    Extent::Part { chunk: chunk.clone(), offset: number(offset), length: number(length) }
}
