//! Targets for packs and chunks: as they come from shards, and, sealed here, what a writer with the keys could put
//! inside.

use std::sync::LazyLock;

use blockhouse_crypto::hash::derive;
use blockhouse_crypto::seal::{self, SEAL_OVERHEAD};
use blockhouse_crypto::{OpenError, Secret};
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule};
use blockhouse_pipeline::compress::{Codec, Compressor, DEFAULT_LEVEL, Decompressor};
use blockhouse_pipeline::pack::{PackKeys, TRAILER_LEN, Trailer, check_pack, open_table, open_trailer};
use blockhouse_types::ChunkId;
use blockhouse_types::limits::CHUNK_MAX;

use crate::seeds::{golden, golden_json, hex32};
use crate::{Target, Verdict};

struct Golden {
    index_key: Secret,
    keys: PackKeys,
    pack: Vec<u8>,
    trailer: Trailer,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let index_key = Secret::new(hex32(&golden_json("pipeline", "keys.json")["index_key"]));
    let (keys, pack) = (PackKeys::new(&index_key), golden("pipeline", "pack.bin"));
    let trailer = open_trailer(&keys, pack.len(), pack.last_chunk().unwrap()).unwrap();
    Golden { index_key, keys, pack, trailer }
});

/// The version, which is what tables and trailers are sealed with.
const PACK_AAD: [u8; 1] = [1];

fn open(context: &'static str, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    seal::open(&derive(context, &GOLDEN.index_key, []), &PACK_AAD, sealed)
}

fn seal(context: &'static str, plain: &[u8]) -> Vec<u8> {
    seal::seal(&derive(context, &GOLDEN.index_key, []), [4; 12], &PACK_AAD, plain)
}

/// A whole pack: what is accepted has the golden table. Chunks are opened elsewhere.
pub(super) const PACK: Target = Target {
    name: "pack",
    decoders: &["pipeline/pack.rs::check_pack"],
    run: |bytes| {
        let result = check_pack(&GOLDEN.keys, bytes);
        if let Ok(table) = &result {
            let range = GOLDEN.trailer.table_range();
            assert!(bytes[range.clone()] == GOLDEN.pack[range], "an altered table was accepted");
            let ends = table.entries().iter().all(|entry| entry.range().end <= bytes.len());
            assert!(ends, "a chunk outside the pack");
        }
        Verdict::of(result)
    },
    seeds: || vec![GOLDEN.pack.clone()],
};

/// Any plain trailer, sealed.
pub(super) const TRAILER: Target = Target {
    name: "pack-trailer",
    decoders: &["pipeline/pack.rs::open_trailer"],
    run: |bytes| {
        let sealed = seal("blockhouse v1 pack trailer", bytes);
        let Ok(sealed) = <[u8; TRAILER_LEN]>::try_from(sealed) else { return Verdict::Refused };
        let result = open_trailer(&GOLDEN.keys, GOLDEN.pack.len(), &sealed);
        if let Ok(trailer) = &result {
            assert!(trailer.table_range().end + TRAILER_LEN <= GOLDEN.pack.len(), "a table outside the pack");
        }
        Verdict::of(result)
    },
    seeds: || vec![open("blockhouse v1 pack trailer", &GOLDEN.pack[GOLDEN.pack.len() - TRAILER_LEN..]).unwrap()],
};

/// Any plain table, sealed: its entries lie in the pack, one after another.
pub(super) const TABLE: Target = Target {
    name: "pack-table",
    decoders: &["pipeline/pack.rs::open_table", "pipeline/pack/table.rs::decode"],
    run: |bytes| {
        let result = open_table(&GOLDEN.keys, &GOLDEN.trailer, &seal("blockhouse v1 pack table", bytes));
        if let Ok(table) = &result {
            let mut end = 0;
            for entry in table.entries() {
                assert_eq!(entry.range().start, end, "a gap between chunks");
                assert!(entry.sealed_len as usize >= SEAL_OVERHEAD, "a chunk without room for its seal");
                end = entry.range().end;
            }
            assert_eq!(end, GOLDEN.trailer.table_range().start);
        }
        Verdict::of(result)
    },
    seeds: || vec![open("blockhouse v1 pack table", &GOLDEN.pack[GOLDEN.trailer.table_range()]).unwrap()],
};

const PLAIN: &[u8] = b"a chunk of some length, a chunk of some length, a chunk of some length";

/// Sealed bytes of a chunk: what opens is the chunk.
pub(super) const CHUNK: Target = Target {
    name: "chunk",
    decoders: &["pipeline/chunk.rs::open", "pipeline/chunk.rs::open_into"],
    run: |bytes| {
        let mut verdict = Verdict::Refused;
        for (codec, body) in [(Codec::Stored, PLAIN.to_vec()), (Codec::Zstd, zstd(PLAIN))] {
            let reference = ChunkRef::under_random_key(Secret::new([8; 32]), PLAIN).unwrap();
            let opened = ChunkOpener::new().open(&reference, IdRule::RandomKey, (codec, bytes));
            let (mut again, sealed) = (vec![0; PLAIN.len()], (codec, bytes));
            let in_place = ChunkOpener::new().open_into(&reference, IdRule::RandomKey, sealed, &mut again);
            assert_eq!(in_place.is_ok(), opened.is_ok(), "both ways open the same");
            if let Ok(plain) = &opened {
                assert!(*plain == again, "both ways open to the same");
                assert!(plain == PLAIN && !body.is_empty(), "an altered chunk was returned as good");
                verdict = Verdict::Accepted;
            }
            Verdict::of(opened);
        }
        verdict
    },
    seeds: || {
        let seal = |codec: Codec, body: &[u8]| {
            let [a, b, c, d] = u32::try_from(PLAIN.len()).unwrap().to_le_bytes();
            seal::seal(&Secret::new([8; 32]), [4; 12], &[1, codec.tag(), a, b, c, d], body)
        };
        vec![seal(Codec::Stored, PLAIN), seal(Codec::Zstd, &zstd(PLAIN))]
    },
};

/// What a writer may have sealed as a compressed chunk.
pub(super) const DECOMPRESS: Target = Target {
    name: "decompress",
    decoders: &[
        "pipeline/compress.rs::decompress_new",
        "pipeline/compress.rs::decompress_frame",
        "pipeline/chunk.rs::decode",
        "pipeline/domain.rs::decode",
    ],
    run: |bytes| {
        let Some((length, body)) = bytes.split_first_chunk::<4>() else { return Verdict::Refused };
        let length = u32::from_le_bytes(*length) as usize % (CHUNK_MAX + 1);
        let result = Decompressor::new().decompress_new(body, length);
        let mut again = vec![0; length];
        let in_place = Decompressor::new().decompress_frame(body, &mut again);
        assert_eq!(in_place.is_ok(), result.is_ok(), "both ways take the same frames");
        if let Ok(plain) = &result {
            assert_eq!(plain.len(), length);
            assert!(*plain == again, "both ways give the same bytes");
        }
        Verdict::of(in_place);
        let mut decoder = blockhouse_types::Decoder::new("a reference", body);
        Verdict::of(ChunkRef::decode(&mut decoder).map(|reference| reference.id == ChunkId::new([0; 32])));
        Verdict::of(blockhouse_pipeline::domain::DomainKind::decode(&mut decoder));
        Verdict::of(result)
    },
    seeds: || vec![[&70_u32.to_le_bytes()[..], &zstd(PLAIN)].concat()],
};

fn zstd(plain: &[u8]) -> Vec<u8> {
    assert_eq!(plain.len(), 70);
    let mut body = Vec::new();
    let codec = Compressor::try_new(DEFAULT_LEVEL).unwrap().compress_into(plain, &mut body).unwrap();
    assert_eq!(codec, Codec::Zstd);
    body
}
