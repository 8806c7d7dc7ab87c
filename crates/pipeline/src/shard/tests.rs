use super::*;
use crate::code::Coder;
use crate::stripe::{ShardFile, Stripe, StripeSigner, build_stripe};
use blockhouse_crypto::hash::hash;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_types::SessionId;
use blockhouse_types::limits::{PACK_MAX, PACK_MIN};
use bytes::Bytes;

const VAULT: VaultId = VaultId::new([1; 32]);

fn stripe() -> Stripe {
    let account = AccountSecret::try_new(&Secret::new([3; 32])).unwrap();
    let signer = StripeSigner { vault: VAULT, session: SessionId::new([2; 32]), account: &account };
    let pack = (0..PACK_MIN + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
    build_stripe(&Coder::new(Code::try_new(4, 2).unwrap()), signer, pack).unwrap()
}

fn fault_of(file: Vec<u8>, name: ShardName) -> ShardFault {
    UncheckedShard::new(file).verify(&VAULT, name).unwrap_err().fault
}

/// The file with some bytes of its header replaced, and a header hash that holds again.
fn forged(file: &ShardFile, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut forged = file.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let end = SHARD_FIXED_LEN + 32 * 6;
    let header_hash = hash("blockhouse v1 shard header", &forged[..end]);
    forged[end..end + 32].copy_from_slice(&header_hash);
    forged
}

#[test]
fn names_and_paths_are_one_to_one() {
    let name = ShardName { stripe: StripeId::new([0xab; 32]), index: ShardIndex(31) };
    let path = name.to_string();
    assert_eq!(path, format!("shards/ab/{}-1f", "ab".repeat(32)));
    assert_eq!(path.parse(), Ok(name));
    for bad in [
        path.to_uppercase(),
        path.replace("shards/ab", "shards/ac"),
        path.replace("-1f", "-1F"),
        path.replace("-1f", "-+f"),
        path.replace("-1f", "-01f"),
        format!("/{path}"),
        format!("{path}.tmp"),
        "shards/ab/x".to_owned(),
        String::new(),
    ] {
        assert!(bad.parse::<ShardName>().is_err(), "{bad}");
    }
}

#[test]
fn the_first_bytes_tell_the_length_of_the_prefix() {
    let stripe = stripe();
    let file = stripe.shards[5].to_vec();
    assert_eq!(prefix_len(&file[..SHARD_FIXED_LEN]), Ok(stripe.shape.prefix_len()));
    assert!(matches!(prefix_len(&file[..SHARD_FIXED_LEN - 1]), Err(ShardFault::Decode { .. })));
    let prefix = ShardPrefix::verify(&file[..stripe.shape.prefix_len()], &VAULT, stripe.shards[5].name).unwrap();
    assert_eq!(prefix.leaves().len(), stripe.shape.leaves());
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let stripe = stripe();
    let file = stripe.shards[1].to_vec();
    let name = stripe.shards[1].name;
    for length in (0..stripe.shape.prefix_len()).chain((stripe.shape.prefix_len()..file.len()).step_by(101)) {
        assert!(UncheckedShard::new(file[..length].to_vec()).verify(&VAULT, name).is_err(), "{length}");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(matches!(fault_of(longer, name), ShardFault::Length { .. }));
}

/// Swapped, foreign and stale files are good shards of something else.
#[test]
fn a_good_shard_under_another_name_is_refused() {
    let stripe = stripe();
    let (name, file) = (stripe.shards[1].name, stripe.shards[0].to_vec());
    assert!(matches!(fault_of(file.clone(), name), ShardFault::OtherShard { found } if found == stripe.shards[0].name));
    let elsewhere = UncheckedShard::new(file).verify(&VaultId::new([2; 32]), stripe.shards[0].name).unwrap_err();
    assert!(matches!(elsewhere.fault, ShardFault::OtherVault { .. }));
    assert!(elsewhere.to_string().contains(&stripe.shards[0].name.to_string()));
}

/// Someone who makes the header hash hold again still meets every other check.
#[test]
fn a_header_made_up_is_refused_part_by_part() {
    let stripe = stripe();
    let file = &stripe.shards[0];
    let code = SHARD_FIXED_LEN - 20;
    let fault = |at, bytes: &[u8]| fault_of(forged(file, at, bytes), file.name);
    assert!(matches!(fault(8, &[0; 32]), ShardFault::StripeId));
    assert!(matches!(fault(40, &[0; 32]), ShardFault::StripeId));
    assert!(matches!(fault(code, &[0]), ShardFault::Code { .. }));
    assert!(matches!(fault(code, &[200, 200]), ShardFault::Code { .. }));
    assert!(matches!(fault(code, &[3, 3]), ShardFault::PayloadLength { .. }));
    assert!(matches!(fault(code + 2, &[6]), ShardFault::Index { .. }));
    assert!(matches!(fault(code + 2, &[1]), ShardFault::Leaves));
    assert!(matches!(fault(code + 3, &[1]), ShardFault::Decode { .. }));
    assert!(matches!(fault(code + 4, &u64::MAX.to_le_bytes()), ShardFault::Shape { .. }));
    assert!(matches!(fault(code + 12, &[0; 8]), ShardFault::PayloadLength { .. }));
    assert!(matches!(fault(SHARD_FIXED_LEN, &[0; 32]), ShardFault::StripeId));
    // The writer's fields are outside the stripe id: T4 has its own check.
    assert!(UncheckedShard::new(forged(file, 72, &[0; 117])).verify(&VAULT, file.name).is_ok());
}

#[test]
fn ranges_are_whole_leaves_or_nothing() {
    let stripe = stripe();
    let file = &stripe.shards[2];
    let prefix = ShardPrefix::verify(&file.prefix, &VAULT, file.name).unwrap();
    let length = stripe.shape.payload_len();
    assert_eq!(prefix.covering(&(1..2)), Some(0..SHARD_LEAF));
    assert_eq!(prefix.covering(&(SHARD_LEAF..SHARD_LEAF)), Some(SHARD_LEAF..SHARD_LEAF));
    assert_eq!(prefix.covering(&(length - 1..length)), Some(length / SHARD_LEAF * SHARD_LEAF..length));
    let too_far = length + 1;
    assert_eq!(prefix.covering(&(0..too_far)), None);
    let read = |start: usize, end: usize| prefix.verify_range(start, file.payload.slice(start..end));
    let range = read(SHARD_LEAF, SHARD_LEAF * 3).unwrap();
    let middle = SHARD_LEAF + 5..SHARD_LEAF * 2 + 7;
    assert_eq!(range.get(middle.clone()).unwrap(), file.payload.slice(middle));
    assert_eq!(range.get(SHARD_LEAF - 1..SHARD_LEAF), None);
    assert_eq!(range.get(SHARD_LEAF..SHARD_LEAF * 3 + 1), None);
    for (start, end) in [(1, SHARD_LEAF), (0, SHARD_LEAF - 1), (SHARD_LEAF, SHARD_LEAF + 1)] {
        assert!(matches!(read(start, end).unwrap_err().fault, ShardFault::Range { .. }));
    }
    let past = prefix.verify_range(length.next_multiple_of(SHARD_LEAF), Bytes::from(vec![0; SHARD_LEAF]));
    assert!(past.is_err());
    let moved = prefix.verify_range(0, file.payload.slice(SHARD_LEAF..SHARD_LEAF * 2)).unwrap_err();
    assert_eq!(moved.fault, ShardFault::Leaf { leaf: 0 });
}

#[test]
fn shapes_have_bounds_and_cover_the_pack() {
    let shape = |k, m, length: usize| StripeShape::try_new(Code::try_new(k, m).unwrap(), length as u64);
    assert!(shape(4, 2, PACK_MIN - 1).is_err() && shape(4, 2, PACK_MAX + 1).is_err());
    for (k, m, length) in [(4, 2, PACK_MIN + 1), (255, 0, PACK_MIN), (1, 254, PACK_MAX), (7, 3, PACK_MAX)] {
        let shape = shape(k, m, length).unwrap();
        let parts = shape.locate(0..length).unwrap();
        assert_eq!(parts.iter().map(|part| part.range.len()).sum::<usize>(), length);
        assert_eq!(shape.file_len(), 241 + 32 * usize::from(k + m) + 32 * shape.leaves() + shape.payload_len());
        assert_eq!(shape.locate(length..length), Some(vec![]));
        assert_eq!(shape.locate(0..length + 1), None);
    }
}
