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
//! - **C2** Every chunk but the last of a stream is between [`CUT_MIN`] and [`CUT_MAX`], those of fine grain between [`FINE_CUT_MIN`] and
//!   [`FINE_CUT_MAX`].
//! - **C3** Boundaries depend on the seed and the bytes, not on how they were fed.
//!
//! Format: `docs/design/chunks-and-packs.md`, section *Cut*.

use std::borrow::Cow;
use std::fmt;

use blockhouse_types::limits::{CUT_MAX, CUT_MIN, CUT_TARGET, FINE_CUT_MAX, FINE_CUT_MIN, FINE_CUT_TARGET};
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// How long chunks are to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grain {
    /// [`CUT_TARGET`]: few references for many bytes.
    #[default]
    Usual,
    /// [`FINE_CUT_TARGET`]: for a file whose pages are overwritten in place, as those of disk images and databases are.
    Fine,
}

impl Grain {
    /// That of a file which is cut alone. One with holes was not written from its front to its end, but page by page.
    pub const fn of_file(has_holes: bool) -> Self {
        if has_holes { Self::Fine } else { Self::Usual }
    }
}

/// The bounds of chunks, and where between them a cut is likely.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    min: usize,
    target: usize,
    max: usize,
    mask_small: u64,
    mask_large: u64,
}

impl Sizes {
    fn new(min: usize, target: usize, max: usize) -> Self {
        let (mask_small, mask_large) = select_masks(target, Normalization::Level1);
        Self { min, target, max, mask_small, mask_large }
    }
}

/// The boundary rule under one seed. Has no state: one cutter serves any number of streams.
#[derive(Clone)]
pub struct Cutter {
    usual: Sizes,
    fine: Sizes,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl Cutter {
    /// The rule under a seed.
    pub fn new(seed: u64) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        let usual = Sizes::new(CUT_MIN, CUT_TARGET, CUT_MAX);
        let fine = Sizes::new(FINE_CUT_MIN, FINE_CUT_TARGET, FINE_CUT_MAX);
        Self { usual, fine, gear, gear_shifted }
    }

    /// The length of the chunk that `window` begins with; `None` if more bytes are needed to tell, or there are none.
    ///
    /// `window` begins where the last chunk ended; `end` says that the stream ends with it. A window of [`CUT_MAX`]
    /// bytes always gives an answer. A shorter one is scanned again at the next call: offer big windows.
    pub fn next(&self, grain: Grain, window: &[u8], end: bool) -> Option<usize> {
        let sizes = match grain {
            Grain::Usual => &self.usual,
            Grain::Fine => &self.fine,
        };
        let (_, length) = cut_gear(
            window,
            sizes.min,
            sizes.target,
            sizes.max,
            sizes.mask_small,
            sizes.mask_large,
            sizes.mask_small << 1,
            sizes.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        // A cut inside the window was decided by the bytes before it alone: what follows cannot move it.
        let decided = length < window.len() || length == sizes.max || end;
        (decided && length > 0).then_some(length)
    }

    /// The chunks of a stream that is wholly in memory.
    pub fn chunks<'a>(&self, grain: Grain, mut stream: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            let (chunk, rest) = stream.split_at_checked(self.next(grain, stream, true)?)?;
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
        assert_eq!(cutter.next(Grain::Usual, &[], true), None);
        assert_eq!(cutter.next(Grain::Usual, &[], false), None);
        assert_eq!(cutter.chunks(Grain::Usual, &[]).count(), 0);
    }

    #[test]
    fn zeros_are_cut_at_the_maximum() {
        let zeros = vec![0; CUT_MAX * 2 + 5];
        let lengths = |grain| Cutter::new(0).chunks(grain, &zeros).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(Grain::Usual), [CUT_MAX, CUT_MAX, 5]);
        assert_eq!(lengths(Grain::Fine), [&[FINE_CUT_MAX; 8][..], &[5]].concat());
    }

    #[test]
    fn the_average_is_near_the_target_and_the_seed_moves_the_cuts() {
        let mut bytes = vec![0; 16 << 20];
        keyed_stream(&Secret::new([7; 32]), b"average", &mut bytes);
        for (grain, target) in [(Grain::Usual, CUT_TARGET), (Grain::Fine, FINE_CUT_TARGET)] {
            let lengths = |seed| Cutter::new(seed).chunks(grain, &bytes).map(<[u8]>::len).collect::<Vec<_>>();
            let (one, two) = (lengths(1), lengths(2));
            assert_ne!(one, two);
            let average = bytes.len() / one.len();
            // A quarter before any cut, fewer cuts up to the target, more of them behind it: 1.22 times the target.
            assert!((target..target * 3 / 2).contains(&average), "average {average}");
        }
    }

    /// The format: these lengths never change.
    #[test]
    fn boundaries_are_frozen() {
        let mut bytes = vec![0; 1 << 20];
        keyed_stream(&Secret::new([7; 32]), b"frozen", &mut bytes);
        let lengths =
            |grain| Cutter::new(0x0123_4567_89ab_cdef).chunks(grain, &bytes).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(Grain::Usual), FROZEN);
        assert_eq!(lengths(Grain::Fine), FROZEN_FINE);
    }
    const FROZEN: &[usize] = &[102_862, 149_325, 78_463, 142_583, 103_331, 80_428, 106_891, 212_067, 72_626];
    const FROZEN_FINE: &[usize] = &[
        35_937, 85_448, 36_052, 30_841, 10_728, 59_581, 10_987, 17_037, 44_039, 47_472, 8_961, 48_159, 41_412, 66_695,
        33_215, 64_169, 16_259, 40_168, 38_440, 28_283, 14_157, 27_556, 16_893, 41_363, 37_760, 39_481, 40_349, 53_312,
        13_822,
    ];
}
