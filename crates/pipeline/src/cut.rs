//! Cuts a byte stream into chunks at places chosen by its content.
//!
//! Equal bytes give equal chunks wherever they stand, so an edit in the middle of a file changes one or two chunks
//! and not all that follow.
//!
//! - **Owns** the boundary rule and its sizes.
//! - **Does not** read, buffer or copy: the caller offers what it has and learns where the next chunk ends.
//!
//! # Invariants
//! - **C1** The chunks of a stream, joined, are the stream.
//! - **C2** Every chunk but the last of a stream is between [`CUT_MIN`] and [`CUT_MAX`].
//! - **C3** Boundaries depend on the seed and the bytes, not on how they were fed.
//!
//! Format: `docs/design/chunks-and-packs.md`, section *Cut*.

use std::borrow::Cow;
use std::fmt;

use blockhouse_types::limits::{CUT_MAX, CUT_MIN, CUT_TARGET};
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// The boundary rule under one seed. Has no state: one cutter serves any number of streams.
#[derive(Clone)]
pub struct Cutter {
    mask_small: u64,
    mask_large: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl Cutter {
    /// The rule under a seed.
    pub fn new(seed: u64) -> Self {
        let (mask_small, mask_large) = select_masks(CUT_TARGET, Normalization::Level1);
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        Self { mask_small, mask_large, gear, gear_shifted }
    }

    /// The length of the chunk that `window` begins with; `None` if more bytes are needed to tell, or there are none.
    ///
    /// `window` begins where the last chunk ended; `end` says that the stream ends with it. A window of [`CUT_MAX`]
    /// bytes always gives an answer. A shorter one is scanned again at the next call: offer big windows.
    pub fn next(&self, window: &[u8], end: bool) -> Option<usize> {
        let (_, length) = cut_gear(
            window,
            CUT_MIN,
            CUT_TARGET,
            CUT_MAX,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        // A cut inside the window was decided by the bytes before it alone: what follows cannot move it.
        let decided = length < window.len() || length == CUT_MAX || end;
        (decided && length > 0).then_some(length)
    }

    /// The chunks of a stream that is wholly in memory.
    pub fn chunks<'a>(&self, mut stream: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            let (chunk, rest) = stream.split_at_checked(self.next(stream, true)?)?;
            stream = rest;
            Some(chunk)
        })
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The table shows the seed, which is a secret.
        f.write_str("Cutter(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::Secret;
    use blockhouse_crypto::hash::keyed_stream;

    #[test]
    fn nothing_has_no_chunks() {
        let cutter = Cutter::new(1);
        assert_eq!(cutter.next(&[], true), None);
        assert_eq!(cutter.next(&[], false), None);
        assert_eq!(cutter.chunks(&[]).count(), 0);
    }

    #[test]
    fn zeros_are_cut_at_the_maximum() {
        let zeros = vec![0; CUT_MAX * 2 + 5];
        let lengths: Vec<_> = Cutter::new(0).chunks(&zeros).map(<[u8]>::len).collect();
        assert_eq!(lengths, [CUT_MAX, CUT_MAX, 5]);
    }

    #[test]
    fn the_average_is_near_the_target_and_the_seed_moves_the_cuts() {
        let mut bytes = vec![0; 16 << 20];
        keyed_stream(&Secret::new([7; 32]), b"average", &mut bytes);
        let lengths = |seed| Cutter::new(seed).chunks(&bytes).map(<[u8]>::len).collect::<Vec<_>>();
        let (one, two) = (lengths(1), lengths(2));
        assert_ne!(one, two);
        let average = bytes.len() / one.len();
        assert!((CUT_TARGET * 3 / 4..CUT_TARGET * 5 / 4).contains(&average), "average {average}");
    }

    /// The format: these lengths never change.
    #[test]
    fn boundaries_are_frozen() {
        let mut bytes = vec![0; 1 << 20];
        keyed_stream(&Secret::new([7; 32]), b"frozen", &mut bytes);
        let lengths: Vec<_> = Cutter::new(0x0123_4567_89ab_cdef).chunks(&bytes).map(<[u8]>::len).collect();
        assert_eq!(lengths, FROZEN);
    }
    const FROZEN: &[usize] = &[102_862, 149_325, 78_463, 142_583, 103_331, 80_428, 106_891, 212_067, 72_626];
}
