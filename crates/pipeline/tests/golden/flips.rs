//! Every byte of a small shard and of a small pack, flipped in turn, is never returned as good.
//!
//! Shards: every byte, always. Packs: every byte of table and trailer and of the short chunks, and of the long chunks
//! and the padding every 61st; `BLOCKHOUSE_FULL_FLIPS=1` takes every one.

use blockhouse_pipeline::chunk::{ChunkOpener, IdRule};
use blockhouse_pipeline::pack::{TRAILER_LEN, check_pack, open_trailer};
use blockhouse_pipeline::shard::{ShardFault, ShardPrefix, UncheckedShard};
use blockhouse_types::limits::SHARD_LEAF;
use bytes::Bytes;

use super::Golden;

fn step() -> usize {
    if std::env::var_os("BLOCKHOUSE_FULL_FLIPS").is_some() { 1 } else { 61 }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 1 << (at % 8);
    flipped
}

#[test]
fn every_flip_of_a_shard_is_refused() {
    let golden = Golden::open();
    for name in [golden.shard_names()[1], golden.shard_names()[5]] {
        let file = Golden::shard_file(name);
        for at in 0..file.len() {
            let result = UncheckedShard::new(flipped(&file, at)).verify(&golden.vault(), name);
            assert!(result.is_err(), "byte {at} of {name}");
        }
    }
}

#[test]
fn every_flip_of_a_prefix_or_of_a_leaf_read_alone_is_refused() {
    let golden = Golden::open();
    let name = golden.shard_names()[0];
    let file = Golden::shard_file(name);
    let shape = golden.shards()[0].header().shape;
    for at in 0..shape.prefix_len() {
        let prefix = flipped(&file[..shape.prefix_len()], at);
        assert!(ShardPrefix::verify(&prefix, &golden.vault(), name).is_err(), "byte {at}");
    }
    let prefix = ShardPrefix::verify(&file, &golden.vault(), name).unwrap();
    let leaf = &file[shape.prefix_len() + SHARD_LEAF..][..SHARD_LEAF];
    prefix.verify_range(SHARD_LEAF, Bytes::copy_from_slice(leaf)).unwrap();
    for at in 0..SHARD_LEAF {
        let error = prefix.verify_range(SHARD_LEAF, flipped(leaf, at).into()).unwrap_err();
        assert_eq!(error.fault, ShardFault::Leaf { leaf: 1 }, "byte {at}");
    }
}

#[test]
fn every_flip_of_a_pack_is_refused() {
    let golden = Golden::open();
    let keys = golden.pack_keys();
    let trailer = open_trailer(&keys, golden.pack.len(), golden.pack.last_chunk().unwrap()).unwrap();
    let (table, trailer_start) = (trailer.table_range(), golden.pack.len() - TRAILER_LEN);
    let padding = (table.end..trailer_start).step_by(step());
    for at in table.clone().chain(padding).chain(trailer_start..golden.pack.len()) {
        assert!(check_pack(&keys, &flipped(&golden.pack, at)).is_err(), "byte {at}");
    }
    let table = check_pack(&keys, &golden.pack).unwrap();
    let id_subkey = golden.secret("id_subkey");
    for ((reference, random), entry) in golden.references().iter().zip(table.entries()) {
        let rule = if *random { IdRule::RandomKey } else { IdRule::Domain(&id_subkey) };
        let sealed = &golden.pack[entry.range()];
        let step = if sealed.len() < 1024 { 1 } else { step() };
        for at in (0..sealed.len()).step_by(step) {
            let opened = ChunkOpener::new().open(reference, rule, (entry.codec, &flipped(sealed, at)));
            assert!(opened.is_err(), "byte {at} of chunk {}", reference.id);
        }
    }
}
