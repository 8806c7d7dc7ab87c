use super::*;
use crate::compress::Codec;

fn keys() -> PackKeys {
    PackKeys::new(&Secret::new([1; 32]))
}

const NONCES: PackNonces = PackNonces { table: [2; 12], trailer: [3; 12] };

fn chunk(tag: u8, plain_len: u32) -> SealedChunk {
    let bytes = vec![tag; plain_len as usize + SEAL_OVERHEAD];
    SealedChunk { id: ChunkId::new([tag; 32]), codec: Codec::Stored, bytes, plain_len }
}

fn pack_of(lengths: &[u32]) -> Pack {
    let mut builder = PackBuilder::with_limit(PACK_MAX);
    for (tag, length) in (1..).zip(lengths) {
        builder.push(&chunk(tag, *length)).unwrap();
    }
    builder.finish(&keys(), NONCES).unwrap()
}

/// A table and its trailer as a writer with the index key could seal them, honest or not.
fn forged(entries: &[TableEntry], toc_offset: usize, length: usize) -> Vec<u8> {
    let table = Table::new(entries.to_vec());
    let mut bytes = vec![9; toc_offset];
    seal::seal_into(&mut bytes, &keys().table, [2; 12], &PACK_AAD, &table.encode());
    let trailer = trailer_plain(toc_offset, bytes.len() - toc_offset, entries.len());
    let start = bytes.len();
    bytes.resize(length - TRAILER_LEN, 0);
    keys().fill_padding(&[3; 12], &mut bytes[start..]);
    seal::seal_into(&mut bytes, &keys().trailer, [3; 12], &PACK_AAD, &trailer);
    bytes
}

#[test]
fn padme_rounds_as_the_page_says() {
    for (length, padded) in
        [(9, 10), (1, 1), (2, 2), (3, 3), (1 << 18, 1 << 18), ((1 << 18) + 1, (1 << 18) + (1 << 13))]
    {
        assert_eq!(padme(length), padded, "{length}");
    }
    for length in (PACK_MIN..PACK_MAX).step_by(99_991) {
        let padded = padme(length);
        assert!(padded >= length && padded - length <= length * 12 / 100);
        assert_eq!(padme(padded), padded);
    }
}

#[test]
fn a_pack_gives_back_its_chunks_from_the_whole_or_from_ranges() {
    let pack = pack_of(&[1, 1000, 300_000, 77]);
    let table = check_pack(&keys(), pack.bytes()).unwrap();
    assert_eq!(&table, pack.table());
    for (tag, entry) in (1..).zip(table.entries()) {
        assert_eq!(pack.bytes()[entry.range()], chunk(tag, entry.plain_len).bytes);
        assert_eq!(table.by_id()[&entry.id], *entry);
    }
    let trailer = open_trailer(&keys(), pack.bytes().len(), pack.bytes().last_chunk().unwrap()).unwrap();
    assert_eq!(open_table(&keys(), &trailer, &pack.bytes()[trailer.table_range()]).unwrap(), table);
}

#[test]
fn the_floor_hides_small_packs() {
    assert_eq!(pack_of(&[1]).bytes().len(), PACK_MIN);
    assert_eq!(pack_of(&[200_000]).bytes().len(), PACK_MIN);
}

#[test]
fn a_full_pack_refuses_more_and_never_passes_its_limit() {
    let mut builder = PackBuilder::with_limit(0);
    let room = PACK_MIN - sealed_table_len(1) - TRAILER_LEN;
    assert!(builder.would_fit(room) && !builder.would_fit(room + 1));
    builder.push(&chunk(1, u32::try_from(room - SEAL_OVERHEAD).unwrap())).unwrap();
    assert!(matches!(builder.push(&chunk(2, 1)), Err(BuildPackError::Full { .. })));
    assert_eq!(builder.finish(&keys(), NONCES).unwrap().bytes().len(), PACK_MIN);

    let mut builder = PackBuilder::with_limit(PACK_MAX);
    let big = chunk(1, 1 << 20);
    while builder.push(&big).is_ok() {}
    let room = PACK_MAX - builder.sealed_bytes() - sealed_table_len(builder.chunks() + 1) - TRAILER_LEN;
    builder.push(&chunk(2, u32::try_from(room - SEAL_OVERHEAD).unwrap())).unwrap();
    let pack = builder.finish(&keys(), NONCES).unwrap();
    assert_eq!(pack.bytes().len(), PACK_MAX);
    check_pack(&keys(), pack.bytes()).unwrap();
}

/// A limit that no padded length hits: the padding counts, and what is asked for at the start is enough to the end.
#[test]
fn padding_does_not_pass_the_limit() {
    let limit = 3 * PACK_MIN + 4321;
    assert!(padme(limit) > limit);
    let mut builder = PackBuilder::with_limit(limit);
    while builder.push(&chunk(1, 1000)).is_ok() {}
    assert!(!builder.would_fit(usize::MAX));
    let (bytes, _) = builder.finish(&keys(), NONCES).unwrap().into_parts();
    assert_eq!((bytes.len(), bytes.capacity()), (3 * PACK_MIN, limit));

    let at = bytes.as_ptr();
    let mut builder = PackBuilder::in_room(bytes, limit);
    assert_eq!((builder.chunks(), builder.sealed_bytes()), (0, 0));
    builder.push(&chunk(2, 1000)).unwrap();
    let (bytes, table) = builder.finish(&keys(), NONCES).unwrap().into_parts();
    assert_eq!((bytes.as_ptr(), bytes.capacity()), (at, limit));
    assert_eq!(check_pack(&keys(), &bytes).unwrap(), table);
}

#[test]
fn the_number_of_chunks_is_bounded() {
    let mut builder = PackBuilder::with_limit(PACK_MAX);
    let tiny = chunk(1, 1);
    for _ in 0..PACK_CHUNKS_MAX {
        builder.push(&tiny).unwrap();
    }
    assert!(builder.push(&tiny).is_err());
    let pack = builder.finish(&keys(), NONCES).unwrap();
    assert_eq!(check_pack(&keys(), pack.bytes()).unwrap().entries().len(), PACK_CHUNKS_MAX);
}

#[test]
fn an_empty_pack_is_none() {
    assert_eq!(PackBuilder::with_limit(0).finish(&keys(), NONCES), Err(BuildPackError::Empty));
}

/// P1, P3. The chunks' own bytes are covered by their seals, see `tests/golden/flips.rs`.
#[test]
fn every_flip_behind_the_chunks_is_refused() {
    let pack = pack_of(&[5000, 60]);
    let start = pack.table().entries()[1].range().end;
    let step = if std::env::var_os("BLOCKHOUSE_FULL_FLIPS").is_some() { 1 } else { 997 };
    let table_end = start + sealed_table_len(2);
    let trailer_start = PACK_MIN - TRAILER_LEN;
    let places = (start..table_end).chain((table_end..trailer_start).step_by(step)).chain(trailer_start..PACK_MIN);
    let mut bytes = pack.bytes().to_vec();
    for at in places {
        bytes[at] ^= 1 << (at % 8);
        assert!(check_pack(&keys(), &bytes).is_err(), "byte {at}");
        bytes[at] ^= 1 << (at % 8);
    }
    check_pack(&keys(), &bytes).unwrap();
    assert!(check_pack(&PackKeys::new(&Secret::new([2; 32])), &bytes).is_err());
}

#[test]
fn other_lengths_are_refused() {
    let pack = pack_of(&[5000]);
    for bytes in [&pack.bytes()[..0], &pack.bytes()[..51], &pack.bytes()[1..], &[&[0], pack.bytes()].concat()] {
        assert!(check_pack(&keys(), bytes).is_err());
    }
}

/// P2, against someone who holds the index key.
#[test]
fn a_table_that_does_not_fit_its_pack_is_refused() {
    let entry = |offset, plain_len: u32| {
        let sealed_len = plain_len + 28;
        TableEntry { id: ChunkId::new([1; 32]), codec: Codec::Stored, offset, sealed_len, plain_len }
    };
    let good = vec![entry(0, 72), entry(100, 172)];
    check_pack(&keys(), &forged(&good, 300, PACK_MIN)).unwrap();
    let zstd = |plain_len| TableEntry { codec: Codec::Zstd, plain_len, ..entry(0, 272) };
    let cases: Vec<(&str, Vec<TableEntry>, usize)> = vec![
        ("begins behind 0", vec![entry(1, 271)], 300),
        ("a gap", vec![entry(0, 71), entry(100, 172)], 300),
        ("an overlap", vec![entry(0, 73), entry(100, 172)], 300),
        ("ends early", good.clone(), 301),
        ("ends late", good.clone(), 299),
        ("a stored length that is another", vec![TableEntry { plain_len: 271, ..entry(0, 272) }], 300),
        ("a compressed length above the plain", vec![zstd(272)], 300),
        ("an empty chunk", vec![entry(0, 0)], 28),
        ("a chunk too long", vec![zstd(1 << 21)], 300),
        ("no entries", vec![], 0),
    ];
    for (case, entries, toc_offset) in cases {
        assert!(check_pack(&keys(), &forged(&entries, toc_offset, PACK_MIN)).is_err(), "{case}");
    }
    assert!(check_pack(&keys(), &forged(&good, 300, PACK_MIN * 2)).is_err(), "more padding than needed");
    assert!(check_pack(&keys(), &forged(&[zstd(273)], 300, PACK_MIN)).is_ok());
}
