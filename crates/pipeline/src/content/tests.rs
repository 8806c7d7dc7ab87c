use std::collections::HashMap;
use std::convert::Infallible;

use blockhouse_crypto::Secret;
use blockhouse_types::{ChunkId, Decoder, Encoder};

use super::*;

fn chunk(seed: u8, plain_len: u32) -> ChunkRef {
    ChunkRef { id: ChunkId::new([seed; 32]), key: Secret::new([seed ^ 0xff; 32]), plain_len }
}

fn part(offset: u32, length: u32) -> Extent {
    Extent::Part { chunk: chunk(1, 100), offset, length }
}

/// Cuts lists in pieces of `piece` bytes and keeps them, as a backup would with chunks.
struct Store {
    piece: usize,
    chunks: HashMap<ChunkId, Vec<u8>>,
    waiting: Vec<Vec<u8>>,
}

impl Store {
    fn new(piece: usize) -> Self {
        Self { piece, chunks: HashMap::new(), waiting: vec![Vec::new(); 8] }
    }

    fn put(&mut self, bytes: Vec<u8>) -> Extent {
        let id = ChunkId::new(blockhouse_crypto::hash::content(&bytes));
        let plain_len = u32::try_from(bytes.len()).unwrap();
        self.chunks.insert(id, bytes);
        Extent::Chunk(ChunkRef { id, key: Secret::new([0; 32]), plain_len })
    }

    fn feed(&mut self, builder: &mut ContentBuilder, spill: Spill, last: bool) {
        let depth = usize::from(spill.depth);
        self.waiting[depth].extend(spill.bytes);
        while self.waiting[depth].len() >= self.piece || (last && !self.waiting[depth].is_empty()) {
            let length = self.piece.min(self.waiting[depth].len());
            let piece = self.waiting[depth].drain(..length).collect();
            let extent = self.put(piece);
            builder.push_list(spill.depth + 1, extent).unwrap();
        }
    }

    fn build(&mut self, extents: &[Extent]) -> Content {
        let mut builder = ContentBuilder::new();
        for extent in extents {
            builder.push(extent.clone()).unwrap();
            while let Some(spill) = builder.spill() {
                self.feed(&mut builder, spill, false);
            }
        }
        loop {
            match builder.close().unwrap() {
                Closing::Done(content) => return content,
                Closing::Cut(spill) => self.feed(&mut builder, spill, true),
            }
            while let Some(spill) = builder.spill() {
                self.feed(&mut builder, spill, false);
            }
        }
    }

    fn read(&self, content: &Content) -> Vec<Extent> {
        let fetch = |chunk: &ChunkRef| Ok::<_, Infallible>(self.chunks[&chunk.id].clone());
        content.extents(fetch).collect::<Result<_, _>>().unwrap()
    }
}

fn encoded(content: &Content) -> Vec<u8> {
    let mut encoder = Encoder::new();
    content.encode(&mut encoder);
    encoder.finish()
}

fn decoded(bytes: &[u8]) -> Result<Content, DecodeError> {
    let mut decoder = Decoder::new("content", bytes);
    let content = Content::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(content)
}

fn raw(length: u64, depth: u8, extents: &[Extent]) -> Vec<u8> {
    encoded(&Content { length, depth, extents: extents.to_vec() })
}

#[test]
fn no_bytes_are_no_extents() {
    let content = Store::new(100).build(&[]);
    assert_eq!(content, Content::empty());
    assert_eq!(encoded(&content), [0, 0, 0]);
    assert_eq!(decoded(&[0, 0, 0]), Ok(content));
}

#[test]
fn the_builder_merges_holes_and_makes_whole_parts_whole() {
    let hole = |length| Extent::Hole { length };
    let content =
        Store::new(100).build(&[hole(0), hole(3), hole(0), hole(4), part(0, 100), hole(0), part(1, 99), hole(9)]);
    assert_eq!(content.inline_extents(), [hole(7), Extent::Chunk(chunk(1, 100)), part(1, 99), hole(9)]);
    assert_eq!(content.length(), 7 + 100 + 99 + 9);
    assert_eq!(decoded(&encoded(&content)), Ok(content));
}

#[test]
fn the_builder_refuses_what_no_reader_takes() {
    let mut builder = ContentBuilder::new();
    for (offset, length) in [(0, 0), (1, 100), (100, 1), (u32::MAX, 2)] {
        assert_eq!(builder.push(part(offset, length)), Err(ContentError::Part { chunk: 100, offset, length }));
    }
    builder.push(Extent::Hole { length: u64::MAX }).unwrap();
    assert_eq!(builder.push(part(0, 1)), Err(ContentError::TooLong));
    assert_eq!(builder.push_list(1, part(0, 1)), Err(ContentError::Order { depth: 1 }));
}

#[test]
fn chunks_that_do_not_hold_the_list_are_noticed() {
    let mut builder = ContentBuilder::new();
    for _ in 0..100 {
        builder.push(part(3, 5)).unwrap();
    }
    let spill = builder.spill().unwrap();
    builder.push_list(1, Extent::Chunk(chunk(1, 64))).unwrap();
    let Closing::Cut(rest) = builder.close().unwrap() else { panic!("the list is long") };
    let expected = (spill.bytes.len() + rest.bytes.len()) as u64;
    assert_eq!(builder.close(), Err(ContentError::ListLength { depth: 1, found: 64, expected }));
}

/// N3, at every depth: with pieces this short each list is nearly as long as the one below.
#[test]
fn lists_of_any_length_come_back() {
    for (count, piece, depth) in [(10, 1000, 0), (100, 5000, 1), (4000, 300, 3), (9000, 1 << 16, 1), (3000, 250, 3)] {
        let extents: Vec<_> = (0..count).map(|i| part(i % 50, 1 + i % 50)).collect();
        let mut store = Store::new(piece);
        let content = store.build(&extents);
        assert_eq!(content.depth(), depth, "{count} extents, pieces of {piece}");
        assert_eq!(decoded(&encoded(&content)).unwrap(), content);
        assert_eq!(store.read(&content), extents);
    }
}

#[test]
fn a_list_that_never_gets_short_is_refused() {
    let mut builder = ContentBuilder::new();
    for _ in 0..100 {
        builder.push(part(3, 5)).unwrap();
    }
    for depth in 0..EXTENTS_DEPTH_MAX {
        let Closing::Cut(spill) = builder.close().unwrap() else { panic!("the list is long") };
        assert_eq!(spill.depth, depth);
        // Seventy chunks however long the list is: their own list is long again.
        let rest = u32::try_from(spill.bytes.len()).unwrap() - 69;
        for plain_len in [rest].into_iter().chain([1; 69]) {
            builder.push_list(depth + 1, Extent::Chunk(chunk(1, plain_len))).unwrap();
        }
    }
    assert_eq!(builder.close(), Err(ContentError::TooDeep));
}

#[test]
fn decode_refuses_other_forms_of_the_same_bytes() {
    let hole = |length| Extent::Hole { length };
    let whole = Extent::Part { chunk: chunk(1, 100), offset: 0, length: 100 };
    for (bad, why) in [
        (raw(7, 0, &[hole(3), hole(4)]), "two holes are neighbours"),
        (raw(0, 0, &[hole(0)]), "a hole is empty"),
        (raw(100, 0, &[whole]), "a part of a chunk is all of it"),
        (raw(0, 0, &[part(3, 0)]), "a part of a chunk is empty"),
        (raw(9, 0, &[part(92, 9)]), "a part reaches beyond its chunk"),
        (raw(8, 0, &[part(3, 9)]), "the extents do not sum to the length"),
        (raw(0, 1, &[]), "content without bytes has a depth"),
        (raw(9, 1, &[part(0, 9)]), "a short list of extents is stored as content"),
        (raw(9, 1, &[hole(5000)]), "a list of extents has a hole"),
        (raw(0, 0, &[hole(u64::MAX), part(0, 1)]), "the lengths of extents do not fit 64 bits"),
        (raw(0, 0, &[Extent::Chunk(chunk(1, 0))]), "a chunk is empty"),
    ] {
        match decoded(&bad) {
            Err(DecodeError::NotCanonical { why: found, .. }) => assert_eq!(found, why),
            other => panic!("{why}: {other:?}"),
        }
    }
    assert!(matches!(decoded(&raw(9000, 5, &[Extent::Chunk(chunk(1, 9000))])), Err(DecodeError::Limit { .. })));
}

#[test]
fn a_stored_list_that_is_wrong_is_refused_while_it_is_read() {
    let extents: Vec<_> = (0..200).map(|i| part(i % 50, 1 + i % 50)).collect();
    let mut store = Store::new(1000);
    let content = store.build(&extents);
    let longer = Content { length: content.length + 1, ..content.clone() };
    let fetch = |chunk: &ChunkRef| Ok::<_, Infallible>(store.chunks[&chunk.id].clone());
    let last = longer.extents(fetch).last().unwrap();
    assert!(matches!(last, Err(ResolveError::List { depth: 0, source: DecodeError::NotCanonical { .. } })), "{last:?}");
    let short = |chunk: &ChunkRef| Ok::<_, Infallible>(store.chunks[&chunk.id][1..].to_vec());
    assert!(matches!(content.extents(short).next(), Some(Err(ResolveError::Length { .. }))));
    let missing = |_: &ChunkRef| Err::<Vec<u8>, _>(std::io::Error::other("gone"));
    let all: Vec<_> = content.extents(missing).collect();
    assert!(matches!(&all[..], [Err(ResolveError::Fetch { .. })]));
}
