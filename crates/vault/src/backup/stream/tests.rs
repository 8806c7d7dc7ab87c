//! S2: what is expected of a stream changes how it is cut, never into what.

use std::collections::VecDeque;

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::keyed_stream;
use blockhouse_pipeline::domain::{DomainKey, DomainKind};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Names chunks as a backup does, keeps their bytes, and counts how many were recognised.
struct Named {
    domain: DomainKey,
    plain: Vec<u8>,
    recognised: usize,
}

impl Named {
    fn new() -> Self {
        let domain = DomainKey::new(DomainKind::Writer, &Secret::new([3; 32]));
        Self { domain, plain: Vec::new(), recognised: 0 }
    }
}

impl Chunks for Named {
    fn put(&mut self, plain: &[u8]) -> Result<ChunkRef, StoreError> {
        self.plain.extend_from_slice(plain);
        Ok(ChunkRef::of(&self.domain, plain)?)
    }

    fn put_expected(&mut self, expected: &ChunkRef, plain: &[u8]) -> Result<bool, StoreError> {
        let is_it = expected.is_of(&self.domain, plain);
        if is_it {
            self.recognised += 1;
            self.plain.extend_from_slice(plain);
        }
        Ok(is_it)
    }
}

/// Cuts `bytes`, fed in steps of some length; gives the chunks and how many of them were recognised.
fn cut(bytes: &[u8], step: usize, expected: &[ChunkRef]) -> (Vec<ChunkRef>, usize) {
    cut_in(Grain::Usual, bytes, step, expected)
}

fn cut_in(grain: Grain, bytes: &[u8], step: usize, expected: &[ChunkRef]) -> (Vec<ChunkRef>, usize) {
    let (cutter, mut named) = (Cutter::new(7), Named::new());
    let mut stream: Stream<()> = Stream::in_grain(grain);
    stream.expect(expected.iter().cloned().collect::<VecDeque<_>>());
    for piece in bytes.chunks(step) {
        stream
            .append((), piece.len(), |room| {
                room.copy_from_slice(piece);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        if stream.is_full() {
            stream.cut(&cutter, &mut named, false).unwrap();
        }
    }
    stream.cut(&cutter, &mut named, true).unwrap();
    assert_eq!(named.plain, bytes, "S1");
    let whole = |((), extent)| match extent {
        Extent::Chunk(chunk) => chunk,
        other => panic!("one owner has whole chunks, not {other:?}"),
    };
    (stream.take_pieces().into_iter().map(whole).collect(), named.recognised)
}

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    keyed_stream(&Secret::new([seed; 32]), b"stream", &mut bytes);
    bytes
}

#[test]
fn a_grown_file_is_cut_from_where_it_grew() {
    let mut bytes = noise(6 * MIB, 1);
    let (old, _) = cut(&bytes, MIB, &[]);
    bytes.extend_from_slice(&noise(MIB, 2));
    let (new, recognised) = cut(&bytes, MIB, &old);
    assert_eq!(recognised, old.len() - 1, "all but the last, which ended with the file");
    assert_eq!(new, cut(&bytes, MIB, &[]).0);
}

/// What sampling would miss: one bit, anywhere in the old part of a file that grew.
#[test]
fn one_flipped_bit_in_the_old_part_is_seen_and_costs_little() {
    let bytes = noise(4 * MIB, 1);
    let (old, _) = cut(&bytes, MIB, &[]);
    for at in [0, 1, 100_000, MIB, 3 * MIB + 17, 4 * MIB - 1] {
        let mut grown = bytes.clone();
        grown.extend_from_slice(&noise(200_000, 3));
        grown[at] ^= 1;
        let (new, recognised) = cut(&grown, MIB, &old);
        assert_eq!(new, cut(&grown, MIB, &[]).0, "bit flipped at {at}");
        assert!(recognised + 4 >= old.len(), "{recognised} of {} recognised", old.len());
    }
}

/// A file that gains its first hole, or loses its last, is not stored anew.
#[test]
fn what_was_cut_in_another_grain_is_recognised() {
    let bytes = noise(4 * MIB, 1);
    for (before, after) in [(Grain::Usual, Grain::Fine), (Grain::Fine, Grain::Usual)] {
        let (old, _) = cut_in(before, &bytes, MIB, &[]);
        let (new, recognised) = cut_in(after, &bytes, MIB, &old);
        assert_eq!(recognised, old.len() - 1, "all but the last, which ended with the file");
        assert_eq!(new[..recognised], old[..recognised]);
    }
    let lengths = |grain| cut_in(grain, &bytes, MIB, &[]).0.len();
    assert!(lengths(Grain::Fine) > lengths(Grain::Usual), "fine grain makes more chunks of the same bytes");
}

#[derive(Debug, Clone)]
enum Edit {
    Append(usize),
    Flip(Index),
    Overwrite(Index, usize),
    Insert(Index, usize),
    Truncate(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (1..600_000_usize).prop_map(Edit::Append),
        any::<Index>().prop_map(Edit::Flip),
        (any::<Index>(), 1..200_000_usize).prop_map(|(at, length)| Edit::Overwrite(at, length)),
        (any::<Index>(), 1..100_000_usize).prop_map(|(at, length)| Edit::Insert(at, length)),
        any::<Index>().prop_map(Edit::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit, seed: u8) {
    let at = |index: &Index, bytes: &[u8]| if bytes.is_empty() { 0 } else { index.index(bytes.len()) };
    match edit {
        Edit::Append(length) => bytes.extend_from_slice(&noise(*length, seed)),
        Edit::Flip(index) => {
            let at = at(index, bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
        }
        Edit::Overwrite(index, length) => {
            let at = at(index, bytes);
            let end = bytes.len().min(at + length);
            bytes[at..end].copy_from_slice(&noise(end - at, seed));
        }
        Edit::Insert(index, length) => {
            let at = at(index, bytes);
            bytes.splice(at..at, noise(*length, seed));
        }
        Edit::Truncate(index) => bytes.truncate(at(index, bytes)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After each of some edits the chunks are those of a file of which nothing is known.
    #[test]
    fn edited_files_are_cut_as_new_ones(
        edits in prop::collection::vec(edit(), 1..5),
        length in 0..3 * MIB,
        step in 50_000..2 * MIB,
    ) {
        let mut bytes = noise(length, 100);
        let (mut known, _) = cut(&bytes, step, &[]);
        for (edit, seed) in edits.iter().zip(101..) {
            apply(&mut bytes, edit, seed);
            let (new, _) = cut(&bytes, step, &known);
            prop_assert_eq!(&new, &cut(&bytes, MIB, &[]).0);
            known = new;
        }
    }
}
