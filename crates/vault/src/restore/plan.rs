//! What is to be fetched, for as many files as fit: grouped by stripe, so that each part of a pack is read once.
//!
//! - **Owns** the order of reading, and how much the plan itself may take in memory.
//! - **Does not** know files but by their number.
//!
//! # Invariants
//! - **P1** A chunk of the window is fetched once, however many files want it.
//! - **P2** The units of a stripe follow one another, by their place in the pack; within a unit, files are served in the order of the
//!   walk. So what was backed up in one run is written from the front to the back.
//! - **P3** Of a stripe that lacks a data shard, and of which much is wanted, columns are read, each once and one after the other: the same
//!   range of k shards gives the same range of all data shards, so of columns no byte more comes over the line than is in the pack. A chunk
//!   that lies in two data shards is read by itself beside them: its part of a lost shard costs the same range of k others.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::shard::StripeShape;
use blockhouse_types::limits::SHARD_LEAF;
use blockhouse_types::{ChunkId, StripeId};

use super::fetch::{Column, Source, Unit, UnitChunk};
use crate::index::{Slot, StripeEntry};

/// The sealed bytes of a unit, unless one chunk has more: enough that a request is worth its latency.
const UNIT_SEALED: usize = 1 << 20;
/// The plain bytes of a unit: chunks may shrink a lot.
const UNIT_PLAIN: usize = 2 << 20;
/// Bytes that nobody wants are read where that saves a request.
const GAP: usize = 64 << 10;
/// A pack with a missing data shard is read by columns if this part of it or more is wanted: each range would take k others.
const COLUMNS_PART: u64 = 4;
/// The bytes of a column in all data shards together: its chunks are those of one unit, as a rule.
const COLUMN_SEALED: usize = 3 << 19;

/// What the parts of a plan cost in memory, roughly: with the maps that lead to them and the units made of them.
const WANT_BYTES: usize = 56;
const CHUNK_BYTES: usize = 320;
const STRIPE_BYTES: usize = 200;

/// A piece of a file that comes out of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// Which file.
    pub(super) file: u64,
    /// Which chunk of the plan.
    chunk: u32,
    /// Which part of the chunk.
    pub(super) from: u32,
    /// How long.
    pub(super) length: u32,
    /// Where in the file.
    pub(super) at: u64,
    /// Zeros of a hole right before.
    pub(super) zeros_before: u64,
}

#[derive(Debug)]
struct Planned {
    chunk: ChunkRef,
    slot: Slot,
    stripe: u32,
}

/// A unit, and what it serves.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) unit: Unit,
    /// What is to be written, each with the number of its chunk in the unit.
    pub(super) wants: Vec<(u32, Want)>,
}

/// A window of a restore.
#[derive(Debug, Default)]
pub(super) struct Plan {
    wants: Vec<Want>,
    chunks: Vec<Planned>,
    by_id: HashMap<ChunkId, u32>,
    stripes: Vec<StripeEntry>,
    by_stripe: HashMap<StripeId, u32>,
}

impl Plan {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.wants.len() * WANT_BYTES + self.chunks.len() * CHUNK_BYTES + self.stripes.len() * STRIPE_BYTES
    }

    /// True if nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// True if the chunk has its place in the plan.
    pub(super) fn knows(&self, chunk: &ChunkId) -> bool {
        self.by_id.contains_key(chunk)
    }

    /// Gives a chunk its place.
    pub(super) fn place(&mut self, chunk: &ChunkRef, entry: &StripeEntry, slot: Slot) {
        let number = |length: usize| u32::try_from(length).expect("the plan is flushed long before it has that many");
        let stripe = *self.by_stripe.entry(entry.id).or_insert_with(|| {
            self.stripes.push(*entry);
            number(self.stripes.len() - 1)
        });
        self.by_id.insert(chunk.id, number(self.chunks.len()));
        self.chunks.push(Planned { chunk: chunk.clone(), slot, stripe });
    }

    /// Wants a part of a chunk that has its place; false if it has none.
    pub(super) fn want(
        &mut self,
        chunk: &ChunkId,
        file: u64,
        part: (u32, u32),
        (at, zeros_before): (u64, u64),
    ) -> bool {
        let Some(chunk) = self.by_id.get(chunk).copied() else { return false };
        self.wants.push(Want { file, chunk, from: part.0, length: part.1, at, zeros_before });
        true
    }

    /// Takes everything: the units in the order of reading. `lacks` says of a stripe whether parts of it are dear.
    pub(super) fn take(&mut self, lacks: impl Fn(&StripeEntry) -> bool) -> Vec<Served> {
        let Self { wants, chunks, stripes, .. } = std::mem::take(self);
        let mut wanted = vec![0_u64; stripes.len()];
        for chunk in &chunks {
            if let Some(bytes) = wanted.get_mut(chunk.stripe as usize) {
                *bytes += u64::from(chunk.slot.sealed_len);
            }
        }
        let columns = |(entry, wanted): (&StripeEntry, u64)| {
            (wanted * COLUMNS_PART >= entry.pack_len && lacks(entry)).then(|| ColumnsOf::new(entry)).flatten()
        };
        let mut columns: Vec<Option<ColumnsOf>> = stripes.iter().zip(wanted).map(columns).collect();
        let place = |chunk: &Planned| {
            let columns = columns.get(chunk.stripe as usize).and_then(Option::as_ref);
            let column = columns.and_then(|columns| columns.first(&range(&chunk.slot)));
            (chunk.stripe, column, chunk.slot.offset)
        };
        let mut order: Vec<_> = chunks.iter().map(place).enumerate().map(|(at, place)| (place, at)).collect();
        order.sort_unstable();
        let mut served: Vec<Served> = Vec::new();
        let mut places = vec![(0_usize, 0_u32); chunks.len()];
        let mut last = None;
        for ((stripe, column, _), at) in order {
            let Some(planned) = chunks.get(at) else { continue };
            let Some(entry) = stripes.get(stripe as usize) else { continue };
            let is_same = last.replace((stripe, column)) == Some((stripe, column));
            let columns = columns.get_mut(stripe as usize).and_then(Option::as_mut).filter(|_| column.is_some());
            let source = match columns {
                Some(columns) => Source::Columns(columns.of(&range(&planned.slot))),
                None => Source::Range(range(&planned.slot)),
            };
            let unit = UnitPart { entry, planned, source };
            let left = match served.last_mut().filter(|_| is_same) {
                Some(before) => unit.join(before),
                None => Some(unit),
            };
            served.extend(left.map(UnitPart::alone));
            if let (Some(place), Some(unit)) = (places.get_mut(at), served.last()) {
                let number = u32::try_from(unit.unit.chunks.len() - 1).unwrap_or(u32::MAX);
                *place = (served.len() - 1, number);
            }
        }
        for want in wants {
            let Some((unit, number)) = places.get(want.chunk as usize).copied() else { continue };
            if let Some(served) = served.get_mut(unit) {
                served.wants.push((number, want));
            }
        }
        served
    }
}

/// The columns of one stripe, as far as units want them.
struct ColumnsOf {
    run_len: usize,
    width: usize,
    known: HashMap<usize, Arc<Column>>,
}

impl ColumnsOf {
    /// None of lengths that no stripe has: that is told by whoever reads it.
    fn new(entry: &StripeEntry) -> Option<Self> {
        let run_len = StripeShape::try_new(entry.code, entry.pack_len).ok()?.payload_len();
        let width = (COLUMN_SEALED / entry.code.data() / SHARD_LEAF).max(1) * SHARD_LEAF;
        Some(Self { run_len, width, known: HashMap::new() })
    }

    /// The column in which a chunk begins; none of one that lies in two runs, of which each is read by itself.
    fn first(&self, chunk: &Range<usize>) -> Option<usize> {
        let is_in_one = chunk.start / self.run_len == chunk.end.saturating_sub(1) / self.run_len;
        is_in_one.then(|| chunk.start % self.run_len / self.width)
    }

    /// The columns that hold a chunk.
    fn of(&mut self, chunk: &Range<usize>) -> Vec<Arc<Column>> {
        let start = chunk.start % self.run_len;
        let (first, last) = (start / self.width, (start + chunk.len()).saturating_sub(1) / self.width);
        let (width, run_len) = (self.width, self.run_len);
        let column = |number: usize| {
            let new = || Arc::new(Column::new(number * width..run_len.min((number + 1) * width)));
            Arc::clone(self.known.entry(number).or_insert_with(new))
        };
        (first..=last).map(column).collect()
    }
}

/// A chunk on its way into a unit.
struct UnitPart<'a> {
    entry: &'a StripeEntry,
    planned: &'a Planned,
    source: Source,
}

impl UnitPart<'_> {
    /// Adds the chunk to the unit before it, if it stands near and fits; else gives it back.
    fn join(self, Served { unit, .. }: &mut Served) -> Option<Self> {
        let plain_len = unit.plain_len + self.planned.chunk.plain_len as usize;
        if plain_len > UNIT_PLAIN {
            return Some(self);
        }
        match (&mut unit.source, self.source) {
            (Source::Range(held), Source::Range(next)) => {
                let is_near = next.start <= held.end + GAP;
                if !is_near || next.end.saturating_sub(held.start) > UNIT_SEALED {
                    return Some(Self { source: Source::Range(next), ..self });
                }
                held.end = held.end.max(next.end);
            }
            // They begin in one column, so the longer list has the shorter.
            (Source::Columns(held), Source::Columns(next)) => {
                if next.len() > held.len() {
                    *held = next;
                }
            }
            (_, source) => return Some(Self { source, ..self }),
        }
        unit.plain_len = plain_len;
        unit.chunks.push(in_unit(self.planned));
        None
    }

    /// A unit of the chunk alone.
    fn alone(self) -> Served {
        let Self { entry, planned, source } = self;
        let (chunks, plain_len) = (vec![in_unit(planned)], planned.chunk.plain_len as usize);
        Served { unit: Unit { entry: *entry, source, chunks, plain_len }, wants: Vec::new() }
    }
}

fn range(slot: &Slot) -> Range<usize> {
    slot.offset as usize..slot.offset as usize + slot.sealed_len as usize
}

fn in_unit(planned: &Planned) -> UnitChunk {
    UnitChunk { chunk: planned.chunk.clone(), codec: planned.slot.codec, range: range(&planned.slot) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::Secret;
    use blockhouse_types::{Account, Code};

    fn stripe(number: u8) -> StripeEntry {
        let code = Code::try_new(4, 2).unwrap();
        StripeEntry { id: StripeId::new([number; 32]), code, pack_len: 32 << 20, writer: Account::new([0; 20]) }
    }

    fn chunk(number: u16, plain_len: u32) -> ChunkRef {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        ChunkRef { id: ChunkId::new(id), key: Secret::new([1; 32]), plain_len }
    }

    fn slot(offset: u32, sealed_len: u32) -> Slot {
        Slot { codec: 0, offset, sealed_len, plain_len: 0 }
    }

    /// Chunks of two stripes, wanted by turns: each stripe is read in one go, and files are served in their order.
    #[test]
    fn stripes_are_not_read_by_turns() {
        let mut plan = Plan::default();
        for number in 0..20_u16 {
            let chunk = chunk(number, 100_000);
            // Against the order of the pack, and two stripes by turns.
            let at = u32::from(19 - number) * 100_000;
            plan.place(&chunk, &stripe(u8::try_from(number % 2).unwrap()), slot(at, 100_000));
            assert!(plan.want(&chunk.id, u64::from(number), (0, 100_000), (0, 0)));
        }
        assert!(!plan.want(&chunk(99, 1).id, 0, (0, 1), (0, 0)));
        let served = plan.take(|_| false);
        assert!(plan.is_empty() && plan.bytes() == 0);
        let read: Vec<u8> = served.iter().map(|served| served.unit.entry.id.as_bytes()[0]).collect();
        assert!(read.is_sorted(), "{read:?}");
        for served in &served {
            let files: Vec<u64> = served.wants.iter().map(|(_, want)| want.file).collect();
            assert!(files.is_sorted());
            for (number, want) in &served.wants {
                assert_eq!(
                    served.unit.chunks[*number as usize].chunk,
                    chunk(u16::try_from(want.file).unwrap(), 100_000)
                );
            }
        }
        assert_eq!(served.iter().map(|served| served.wants.len()).sum::<usize>(), 20);
    }

    #[test]
    fn a_unit_has_bounds_and_no_large_gap() {
        let mut plan = Plan::default();
        for number in 0..100_u16 {
            // Every tenth chunk stands far from the one before it.
            let at = u32::from(number) * 100_000 + u32::from(number / 10) * 1_000_000;
            plan.place(&chunk(number, 600_000), &stripe(1), slot(at, 100_000));
            plan.want(&chunk(number, 0).id, 0, (0, 1), (0, 0));
        }
        for served in plan.take(|_| false) {
            let unit = served.unit;
            let Source::Range(range) = &unit.source else { panic!("nothing is dear") };
            assert!(range.len() <= UNIT_SEALED && unit.plain_len <= UNIT_PLAIN);
            assert!(unit.chunks.windows(2).all(|pair| pair[1].range.start - pair[0].range.end <= GAP));
            assert_eq!(*range, unit.chunks[0].range.start..unit.chunks[unit.chunks.len() - 1].range.end);
        }
    }

    #[test]
    fn a_chunk_that_many_files_want_is_read_once() {
        let mut plan = Plan::default();
        plan.place(&chunk(1, 1000), &stripe(1), slot(0, 1000));
        for file in 0..50 {
            assert!(plan.knows(&chunk(1, 0).id));
            plan.want(&chunk(1, 0).id, file, (u32::try_from(file).unwrap() * 20, 20), (0, 0));
        }
        let served = plan.take(|_| true);
        assert_eq!((served.len(), served[0].unit.chunks.len(), served[0].wants.len()), (1, 1, 50));
        assert!(matches!(served[0].unit.source, Source::Range(_)), "a thousand bytes are no reason to read columns");
    }

    /// P3: of each column one is made, every chunk is in those of its unit, and columns are wanted one after the other.
    #[test]
    fn a_pack_without_a_data_shard_is_read_by_columns_each_once() {
        let mut plan = Plan::default();
        let (run_len, width) = (8 << 20, 24 * SHARD_LEAF);
        for number in 0..100_u16 {
            plan.place(&chunk(number, 300_000), &stripe(1), slot(u32::from(number) * 300_000, 300_000));
            plan.want(&chunk(number, 0).id, 0, (0, 1), (0, 0));
        }
        let served = plan.take(|_| true);
        let mut columns: HashMap<usize, Arc<Column>> = HashMap::new();
        let (mut firsts, mut alone, mut count) = (Vec::new(), 0, 0);
        for Served { unit, .. } in &served {
            assert!(unit.plain_len <= UNIT_PLAIN);
            count += unit.chunks.len();
            let Source::Columns(held) = &unit.source else {
                let range = &unit.chunks[0].range;
                assert_ne!(range.start / run_len, (range.end - 1) / run_len, "it lies in two runs");
                alone += unit.chunks.len();
                continue;
            };
            firsts.push(held[0].range().start);
            for column in held {
                let known = columns.entry(column.range().start).or_insert_with(|| Arc::clone(column));
                assert!(Arc::ptr_eq(known, column), "read once");
            }
            for chunk in &unit.chunks {
                let begin = chunk.range.start % run_len;
                assert_eq!(begin / width * width, held[0].range().start);
                assert!(begin + chunk.range.len() <= held[held.len() - 1].range().end);
            }
        }
        assert!(firsts.is_sorted() && count == 100 && alone == 3, "{firsts:?} {count} {alone}");
        // Of the last column nothing is wanted but parts of those that lie in two runs.
        let all: usize = columns.values().map(|column| column.range().len()).sum();
        assert_eq!((all, columns.len()), (run_len / width * width, run_len / width));
    }
}
