//! Joins sorted segments into one sorted run, a block of each in memory at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use blockhouse_types::StripeId;

use super::segment::{Entry, Segment, SegmentError, ShortId};

/// The entries of all segments in order, ordinals rewritten, exact repetitions left out.
pub(super) struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
    heap: BinaryHeap<Reverse<(ShortId, u32, u32, usize)>>,
    ordinals: &'a BTreeMap<StripeId, u32>,
    last: Option<(ShortId, u32, u32)>,
    failed: Option<SegmentError>,
    unusable: Option<usize>,
}

struct Cursor<'a> {
    segment: &'a Segment,
    next_block: usize,
    entries: std::vec::IntoIter<Entry>,
    current: Option<Entry>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(segments: &[&'a Segment], ordinals: &'a BTreeMap<StripeId, u32>) -> Self {
        let cursors = segments
            .iter()
            .map(|segment| Cursor { segment, next_block: 0, entries: Vec::new().into_iter(), current: None })
            .collect::<Vec<_>>();
        let mut merge = Self { cursors, heap: BinaryHeap::new(), ordinals, last: None, failed: None, unusable: None };
        for at in 0..merge.cursors.len() {
            merge.advance(at);
        }
        merge
    }

    fn advance(&mut self, at: usize) {
        let Some(cursor) = self.cursors.get_mut(at) else { return };
        match cursor.step(self.ordinals) {
            Ok(Some((id, ordinal, slot))) => self.heap.push(Reverse((id, ordinal, slot.offset, at))),
            Ok(None) => {}
            Err(error) => {
                self.unusable = matches!(error, SegmentError::Damaged { .. }).then_some(at);
                self.failed = Some(error);
            }
        }
    }

    /// The place, among those given, of the segment that ended the merge: an entry of it names no stripe, though all its hashes are right.
    pub(super) const fn unusable(&self) -> Option<usize> {
        self.unusable
    }
}

impl Cursor<'_> {
    /// Moves to the next entry; blocks that do not check are left out.
    fn step(&mut self, ordinals: &BTreeMap<StripeId, u32>) -> Result<Option<Entry>, SegmentError> {
        loop {
            if let Some((id, ordinal, slot)) = self.entries.next() {
                let stripe = self.segment.stripe_of(ordinal)?;
                let ordinal =
                    *ordinals.get(&stripe.id).ok_or(SegmentError::Damaged { why: "an entry names no stripe" })?;
                self.current = Some((id, ordinal, slot));
                return Ok(self.current);
            }
            if self.next_block == self.segment.blocks() {
                self.current = None;
                return Ok(None);
            }
            match self.segment.block(self.next_block) {
                Ok(entries) => self.entries = entries.into_iter(),
                Err(SegmentError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            self.next_block += 1;
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Entry, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.failed.take() {
                self.heap.clear();
                return Some(Err(error));
            }
            let Reverse((id, ordinal, offset, at)) = self.heap.pop()?;
            let entry = self.cursors.get(at).and_then(|cursor| cursor.current)?;
            self.advance(at);
            let key = (id, ordinal, offset);
            if self.last != Some(key) {
                self.last = Some(key);
                return Some(Ok(entry));
            }
        }
    }
}
