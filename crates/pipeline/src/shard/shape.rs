//! What the code and a pack's length say of its shards: sizes, and which shard holds which bytes.

use std::ops::Range;

use blockhouse_types::limits::{PACK_MAX, PACK_MIN, SHARD_LEAF};
use blockhouse_types::{Code, ShardIndex};

use super::SHARD_FIXED_LEN;

/// A pack of a length that no pack has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stripe cannot be made of a pack of {pack_len} bytes: packs have {PACK_MIN} to {PACK_MAX}")]
pub struct ShapeError {
    /// The length found.
    pub pack_len: u64,
}

/// A code and the length of a pack: all lengths of the stripe follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StripeShape {
    code: Code,
    pack_len: usize,
}

/// Bytes of one shard's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRange {
    /// The shard.
    pub index: ShardIndex,
    /// The bytes, counted from the start of the payload.
    pub range: Range<usize>,
}

impl StripeShape {
    /// The shape of the stripe of a pack.
    pub fn try_new(code: Code, pack_len: u64) -> Result<Self, ShapeError> {
        match usize::try_from(pack_len) {
            Ok(length) if (PACK_MIN..=PACK_MAX).contains(&length) => Ok(Self { code, pack_len: length }),
            _ => Err(ShapeError { pack_len }),
        }
    }

    /// The code.
    pub const fn code(self) -> Code {
        self.code
    }

    /// P, the length of the pack.
    pub const fn pack_len(self) -> usize {
        self.pack_len
    }

    /// L, the length of each payload.
    pub const fn payload_len(self) -> usize {
        self.pack_len.div_ceil(self.code.data())
    }

    /// How many leaves each payload has.
    pub const fn leaves(self) -> usize {
        self.payload_len().div_ceil(SHARD_LEAF)
    }

    /// The length of the header with its hash: what stands before the leaf hashes.
    pub const fn header_len(self) -> usize {
        SHARD_FIXED_LEN + 32 * self.code.shards() + 32
    }

    /// The length of all that stands before the payload.
    pub const fn prefix_len(self) -> usize {
        self.header_len() + 32 * self.leaves()
    }

    /// The length of a shard file.
    pub const fn file_len(self) -> usize {
        self.prefix_len() + self.payload_len()
    }

    /// The whole leaves of a payload that hold `range`; `None` if it has no such range.
    pub fn covering(self, range: &Range<usize>) -> Option<Range<usize>> {
        let payload_len = self.payload_len();
        (range.start <= range.end && range.end <= payload_len).then(|| whole_leaves(range, payload_len))
    }

    /// Where bytes of a payload lie in its file.
    pub const fn file_range(self, payload_range: &Range<usize>) -> Range<usize> {
        let start = self.prefix_len();
        start + payload_range.start..start + payload_range.end
    }

    /// Where the bytes of a range of the pack lie, in their order; `None` if the pack has no such range.
    pub fn locate(self, pack_range: Range<usize>) -> Option<Vec<ShardRange>> {
        if pack_range.start > pack_range.end || pack_range.end > self.pack_len {
            return None;
        }
        let length = self.payload_len();
        let part = |index: ShardIndex| {
            let run_start = usize::from(index.0) * length;
            let start = pack_range.start.clamp(run_start, run_start + length) - run_start;
            let end = pack_range.end.clamp(run_start, run_start + length) - run_start;
            (start < end).then_some(ShardRange { index, range: start..end })
        };
        Some(self.code.indices().take(self.code.data()).filter_map(part).collect())
    }
}

/// The smallest range of whole leaves of a payload of `payload_len` bytes that holds `range`.
pub(super) fn whole_leaves(range: &Range<usize>, payload_len: usize) -> Range<usize> {
    let start = range.start / SHARD_LEAF * SHARD_LEAF;
    start..range.end.next_multiple_of(SHARD_LEAF).min(payload_len)
}
