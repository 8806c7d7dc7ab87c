//! C1 to C3 of the cutter, against the crate that defines the boundaries used at once on the whole input.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::keyed_stream;
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_types::limits::{CUT_MAX, CUT_MIN, CUT_TARGET, FINE_CUT_MAX, FINE_CUT_MIN, FINE_CUT_TARGET};
use fastcdc::v2020::{FastCDC, Normalization};
use proptest::prelude::*;

/// Runs of random bytes, of zeros and of repeats, which take all ways through the rule.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let run = (0_u8..3, any::<[u8; 8]>(), 0..2 * CUT_MAX).prop_map(|(kind, seed, length)| {
        let mut bytes = vec![0; length];
        match kind {
            0 => keyed_stream(&Secret::new([1; 32]), &seed, &mut bytes),
            1 => {}
            _ => bytes.iter_mut().zip(seed.iter().cycle()).for_each(|(byte, value)| *byte = *value),
        }
        bytes
    });
    prop::collection::vec(run, 0..4).prop_map(|runs| runs.concat())
}

/// The bounds of each grain.
const fn bounds(grain: Grain) -> [usize; 3] {
    match grain {
        Grain::Usual => [CUT_MIN, CUT_TARGET, CUT_MAX],
        Grain::Fine => [FINE_CUT_MIN, FINE_CUT_TARGET, FINE_CUT_MAX],
    }
}

fn by_the_crate(seed: u64, grain: Grain, stream: &[u8]) -> Vec<usize> {
    let [min, target, max] = bounds(grain);
    FastCDC::with_level_and_seed(stream, min, target, max, Normalization::Level1, seed)
        .map(|chunk| chunk.length)
        .collect()
}

/// Feeds pieces of these sizes, over and over, and takes each chunk as soon as it is decided.
fn in_pieces((cutter, grain): (&Cutter, Grain), stream: &[u8], pieces: &[usize]) -> Vec<usize> {
    let (mut lengths, mut start, mut fed) = (Vec::new(), 0, 0);
    let mut sizes = pieces.iter().cycle();
    loop {
        let end = fed == stream.len();
        match cutter.next(grain, &stream[start..fed], end) {
            Some(length) => {
                lengths.push(length);
                start += length;
            }
            None if end => return lengths,
            None => fed = (fed + sizes.next().unwrap()).min(stream.len()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_are_those_of_the_crate_however_the_stream_is_fed(
        seed in any::<u64>(),
        grain in prop::sample::select(vec![Grain::Usual, Grain::Fine]),
        stream in stream(),
        pieces in prop::collection::vec(9_000..900_000_usize, 1..6),
    ) {
        let cutter = Cutter::new(seed);
        let expected = by_the_crate(seed, grain, &stream);
        let at_once: Vec<usize> = cutter.chunks(grain, &stream).map(<[u8]>::len).collect();
        prop_assert_eq!(&at_once, &expected);
        prop_assert_eq!(&in_pieces((&cutter, grain), &stream, &pieces), &expected);
        prop_assert_eq!(&in_pieces((&cutter, grain), &stream, &[CUT_MAX]), &expected);
        prop_assert_eq!(at_once.iter().sum::<usize>(), stream.len());
        prop_assert_eq!(cutter.chunks(grain, &stream).collect::<Vec<_>>().concat(), stream);
        let [min, _, max] = bounds(grain);
        for (at, length) in at_once.iter().enumerate() {
            prop_assert!(*length <= max && (*length >= min || at + 1 == at_once.len()));
        }
    }
}
