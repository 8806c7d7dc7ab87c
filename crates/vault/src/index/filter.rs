//! Says of most chunks that a segment does not hold, without reading it.
//!
//! A Bloom filter in lines of one cache line each: an id chooses a line and [`PROBES`] bits of it. Ids are keyed hashes, so their own
//! bytes are the hash functions, and nothing is computed; that is why it is not a crate's.
//!
//! # Invariants
//! - **B1** Of what was put in it never says no.

use super::segment::ShortId;

/// The bytes of a line: one cache line.
pub(super) const LINE_LEN: usize = 64;
const LINE_WORDS: usize = LINE_LEN / 8;
/// Bits for each chunk: one unknown chunk of about a hundred costs a read all the same.
const BITS: u64 = 10;
/// How many bits a chunk sets; nine bits of its id choose each, so seven take 63.
const PROBES: u32 = 7;

/// The filter of one segment.
#[derive(Debug, Default)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for so many chunks.
    pub(super) fn for_entries(entries: u64) -> Self {
        let lines = entries.saturating_mul(BITS).div_ceil(LINE_LEN as u64 * 8);
        Self { words: vec![0; usize::try_from(lines).unwrap_or(usize::MAX / LINE_LEN).saturating_mul(LINE_WORDS)] }
    }

    /// The filter that stands in these bytes, whole lines.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self { words: bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect() }
    }

    /// Its bytes, to be written.
    pub(super) fn bytes(&self) -> impl Iterator<Item = [u8; 8]> {
        self.words.iter().map(|word| word.to_le_bytes())
    }

    /// How many lines it has.
    pub(super) const fn lines(&self) -> usize {
        self.words.len() / LINE_WORDS
    }

    pub(super) fn insert(&mut self, id: &ShortId) {
        let bits = bits(id);
        if let Some(line) = self.line_of(id).and_then(|at| self.words.get_mut(at..at + LINE_WORDS)) {
            for (word, mask) in bits {
                if let Some(word) = line.get_mut(word) {
                    *word |= mask;
                }
            }
        }
    }

    /// False if the chunk was not put in.
    pub(super) fn may_hold(&self, id: &ShortId) -> bool {
        let line = self.line_of(id).and_then(|at| self.words.get(at..at + LINE_WORDS));
        line.is_some_and(|line| bits(id).all(|(word, mask)| line.get(word).is_some_and(|word| word & mask != 0)))
    }

    /// Where the line of an id begins. Bytes 4 to 12 choose it: the first ones choose the block, and are alike in small segments' neighbours.
    fn line_of(&self, id: &ShortId) -> Option<usize> {
        let lines = self.lines() as u128;
        // The upper half of the product spreads over all lines without a division.
        let line = (u128::from(id.word(4)) * lines) >> 64;
        (lines > 0).then(|| usize::try_from(line).unwrap_or(0) * LINE_WORDS)
    }
}

/// The bits of an id in its line, as word and mask.
fn bits(id: &ShortId) -> impl Iterator<Item = (usize, u64)> + use<> {
    let choice = id.word(12);
    (0..PROBES).map(move |probe| {
        let bit = (choice >> (9 * probe)) & 511;
        ((bit >> 6) as usize, 1 << (bit & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::ChunkId;

    fn id(number: u64) -> ShortId {
        ShortId::of(&ChunkId::new(blockhouse_crypto::hash::content(&number.to_le_bytes())))
    }

    #[test]
    fn holds_all_that_was_put_in_and_little_else() {
        let mut filter = Filter::for_entries(50_000);
        for number in 0..50_000 {
            filter.insert(&id(number));
        }
        let again = Filter::from_bytes(&filter.bytes().flatten().collect::<Vec<u8>>());
        assert!((0..50_000).all(|number| again.may_hold(&id(number))), "B1");
        let wrong = (50_000..100_000).filter(|number| again.may_hold(&id(*number))).count();
        assert!(wrong < 1_000, "{wrong} of 50,000 strangers");
    }

    #[test]
    fn one_for_nothing_holds_nothing() {
        let mut filter = Filter::for_entries(0);
        filter.insert(&id(1));
        assert_eq!(filter.lines(), 0);
        assert!(!filter.may_hold(&id(1)));
    }
}
