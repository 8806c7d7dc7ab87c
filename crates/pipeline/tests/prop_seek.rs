//! K1, K2: extents from any place on are those of a reading from the beginning, whatever was looked for before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;

use blockhouse_crypto::{Secret, hash};
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Closing, Content, ContentBuilder, Extent, ExtentsFrom, SeekMarks};
use blockhouse_types::ChunkId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Content of so many extents, its long lists cut in chunks of `piece` bytes, and those chunks.
fn build(seeds: &[u16], piece: usize) -> (Content, HashMap<ChunkId, Vec<u8>>) {
    let (mut builder, mut chunks) = (ContentBuilder::new(), HashMap::new());
    let mut lists: HashMap<u8, Vec<u8>> = HashMap::new();
    for (number, seed) in (0_u64..).zip(seeds) {
        builder.push(extent(number, *seed)).unwrap();
        while let Some(spill) = builder.spill() {
            lists.entry(spill.depth).or_default().extend(spill.bytes);
        }
    }
    loop {
        match builder.close().unwrap() {
            Closing::Done(content) => return (content, chunks),
            Closing::Cut(spill) => {
                let mut list = lists.remove(&spill.depth).unwrap_or_default();
                list.extend(spill.bytes);
                for bytes in list.chunks(piece) {
                    let chunk = reference(hash::content(bytes), bytes.len());
                    chunks.insert(chunk.id, bytes.to_vec());
                    builder.push_list(spill.depth + 1, Extent::Chunk(chunk)).unwrap();
                    while let Some(more) = builder.spill() {
                        lists.entry(more.depth).or_default().extend(more.bytes);
                    }
                }
            }
        }
    }
}

/// A hole, a chunk, or a part of one.
fn extent(number: u64, seed: u16) -> Extent {
    let length = u32::from(seed) + 2;
    let chunk = reference(hash::content(&number.to_le_bytes()), length as usize);
    match seed % 5 {
        0 => Extent::Hole { length: u64::from(length) << (seed % 20) },
        1 => Extent::Part { chunk, offset: 1, length: length - 1 },
        _ => Extent::Chunk(chunk),
    }
}

fn reference(id: [u8; 32], length: usize) -> ChunkRef {
    ChunkRef { id: ChunkId::new(id), key: Secret::new([0; 32]), plain_len: u32::try_from(length).unwrap() }
}

/// Each extent with where it begins, by reading all of them.
fn in_order(content: &Content, chunks: &HashMap<ChunkId, Vec<u8>>) -> Vec<(u64, Extent)> {
    let mut start = 0;
    let extents = content.extents(|chunk: &ChunkRef| Ok::<_, Infallible>(chunks[&chunk.id].clone()));
    let placed = extents.map(|extent| {
        let extent = extent.unwrap();
        start += extent.length();
        (start - extent.length(), extent)
    });
    placed.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_place_is_found(seeds in vec(any::<u16>(), 0..1500), piece in 200..4000_usize, places in vec(any::<Index>(), 1..12)) {
        let (content, chunks) = build(&seeds, piece);
        let expected = in_order(&content, &chunks);
        let mut marks = SeekMarks::of(&content);
        for place in places {
            let place = place.index(usize::try_from(content.length()).unwrap() + 1) as u64;
            let fetch = |chunk: &ChunkRef| Ok::<_, Infallible>(&chunks[&chunk.id]);
            let found: Vec<_> = ExtentsFrom::new(&content, &mut marks, place, fetch).take(20).collect::<Result<_, _>>().unwrap();
            let from = expected.iter().position(|(start, extent)| start + extent.length() > place);
            let wanted: Vec<_> = expected[from.unwrap_or(expected.len())..].iter().take(20).cloned().collect();
            prop_assert_eq!(found, wanted, "from {} of {}", place, content.length());
        }
        prop_assert!(marks.count() <= expected.len() / 100 + 8, "{} marks for {} extents", marks.count(), expected.len());
    }
}

/// K2: once the way to a place is known, it is found again by a chunk or two of each list.
#[test]
fn a_place_that_was_found_is_found_again_at_once() {
    let seeds: Vec<u16> = (0..40_000).map(|number| u16::try_from(number % 60_000).unwrap() | 2).collect();
    let (content, chunks) = build(&seeds, 8_000);
    assert!(content.depth() >= 2, "{}", content.depth());
    let mut marks = SeekMarks::of(&content);
    let fetched = Cell::new(0);
    let mut find = |place| {
        fetched.set(0);
        let fetch = |chunk: &ChunkRef| {
            fetched.set(fetched.get() + 1);
            Ok::<_, Infallible>(&chunks[&chunk.id])
        };
        let found = ExtentsFrom::new(&content, &mut marks, place, fetch).next().unwrap().unwrap();
        assert!(found.0 <= place && place < found.0 + found.1.length());
        fetched.get()
    };
    let half = content.length() / 2;
    assert!(find(half) > 50, "the list before it is read once");
    assert!(find(half) < 12);
    assert!(find(half / 3) < 12, "and so is every place before it");
}
