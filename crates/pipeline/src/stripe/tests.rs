use super::*;
use crate::shard::{ClaimedWriter, ShardPrefix, UncheckedShard, WriterError};
use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::keyed_stream;
use blockhouse_types::limits::{PACK_MAX, PACK_MIN, SHARD_LEAF};

const VAULT: VaultId = VaultId::new([1; 32]);
const SESSION: SessionId = SessionId::new([2; 32]);

fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    keyed_stream(&Secret::new([9; 32]), b"pack", &mut bytes);
    bytes
}

fn coder(data: u16, parity: u16) -> Coder {
    Coder::new(Code::try_new(data, parity).unwrap())
}

fn build(coder: &Coder, pack: Vec<u8>) -> Stripe {
    let account = account(3);
    build_stripe(coder, StripeSigner { vault: VAULT, session: SESSION, account: &account }, pack).unwrap()
}

fn verify(file: &ShardFile) -> VerifiedShard {
    UncheckedShard::new(file.to_vec()).verify(&VAULT, file.name).unwrap()
}

fn verified(stripe: &Stripe) -> Vec<VerifiedShard> {
    stripe.shards.iter().map(verify).collect()
}

fn writer_of(shard: &VerifiedShard) -> StripeWriter {
    shard.header().writer.verify(&VAULT, shard.header().stripe).unwrap()
}

/// Some of `all`, by the bits of `set`.
fn subset(all: &[VerifiedShard], set: u32) -> Vec<VerifiedShard> {
    all.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, shard)| shard.clone()).collect()
}

/// T1, T2, T5 and repair: all sets of shards of several codes, with packs that fill no run.
#[test]
fn any_k_shards_give_back_the_pack_and_all_lost_files() {
    for (data, parity, length) in
        [(4, 2, PACK_MIN + 3), (1, 0, PACK_MIN), (2, 0, PACK_MIN + 1), (1, 2, PACK_MIN + 1), (3, 3, 300_000)]
    {
        let coder = coder(data, parity);
        let (pack, code) = (bytes(length), coder.code());
        let stripe = build(&coder, pack.clone());
        let all = verified(&stripe);
        for set in 1..1_u32 << code.shards() {
            let some = subset(&all, set);
            if some.len() < code.data() {
                assert!(matches!(rebuild_pack(&coder, &some), Err(RebuildError::TooFewShards { .. })));
                continue;
            }
            assert_eq!(rebuild_pack(&coder, &some).unwrap(), pack, "{code} {set:b}");
            let lost: Vec<_> = code.indices().filter(|index| set >> index.0 & 1 == 0).collect();
            let files = rebuild_shards(&coder, &some, &lost, &writer_of(&some[0])).unwrap();
            let expected: Vec<_> = lost.iter().map(|index| stripe.shards[usize::from(index.0)].clone()).collect();
            assert_eq!(files, expected, "{code} {set:b}");
        }
    }
}

#[test]
fn sizes_are_known_from_code_and_pack() {
    let stripe = build(&coder(4, 2), bytes(PACK_MIN));
    for (index, file) in (0..).map(ShardIndex).zip(&stripe.shards) {
        assert_eq!((file.name.stripe, file.name.index), (stripe.id, index));
        assert_eq!(file.len(), stripe.shape.file_len());
        assert_eq!(file.prefix.len(), stripe.shape.prefix_len());
    }
    let account = account(3);
    let signer = StripeSigner { vault: VAULT, session: SESSION, account: &account };
    for length in [0, PACK_MIN - 1, PACK_MAX + 1] {
        assert!(build_stripe(&coder(4, 2), signer, vec![0; length]).is_err());
    }
}

/// One pack after another in the same memory, which is as long as n runs and not longer.
#[test]
fn the_memory_of_a_stripe_serves_the_next() {
    let coder = coder(4, 2);
    let stripe = build(&coder, bytes(PACK_MIN + 1));
    let coded_len = stripe.shape.payload_len() * coder.code().shards();
    let (room, at) = (stripe.room(), stripe.shards[0].payload.as_ptr());
    drop(stripe);
    let mut next = room.take();
    assert_eq!((next.as_ptr(), next.len(), next.capacity()), (at, 0, coded_len));

    next.extend_from_slice(&bytes(PACK_MIN + 1));
    let stripe = build(&coder, next);
    assert_eq!(stripe.shards[0].payload.as_ptr(), at);
    assert_eq!(rebuild_pack(&coder, &verified(&stripe)[2..]).unwrap(), bytes(PACK_MIN + 1));
    // Memory that somebody still reads is nobody's to write to.
    let (room, held) = (stripe.room(), stripe.shards[5].payload.clone());
    let payload = held.to_vec();
    drop(stripe);
    assert_eq!(room.take().capacity(), 0);
    assert_eq!(held, payload);
}

#[test]
fn the_id_commits_to_vault_code_and_bytes_and_not_to_the_writer() {
    let first = build(&coder(4, 2), bytes(PACK_MIN));
    assert_ne!(build(&coder(3, 3), bytes(PACK_MIN)).id, first.id);
    let mut other = bytes(PACK_MIN);
    other[100] ^= 1;
    assert_ne!(build(&coder(4, 2), other).id, first.id);
    let (same, elsewhere) = (account(8), VaultId::new([7; 32]));
    let signer = StripeSigner { vault: VAULT, session: SessionId::new([5; 32]), account: &same };
    let again = build_stripe(&coder(4, 2), signer, bytes(PACK_MIN)).unwrap();
    assert_eq!(again.id, first.id);
    let signer = StripeSigner { vault: elsewhere, ..signer };
    assert_ne!(build_stripe(&coder(4, 2), signer, bytes(PACK_MIN)).unwrap().id, first.id);
    // T5: shards of the two writes are shards of one stripe.
    let mixed: Vec<_> = verified(&first)[..2].iter().cloned().chain(verified(&again)[2..4].to_vec()).collect();
    assert_eq!(rebuild_pack(&coder(4, 2), &mixed).unwrap(), bytes(PACK_MIN));
}

/// T4: a signature copied from an honest stripe, from another session or another vault proves nothing.
#[test]
fn a_copied_signature_is_refused() {
    let honest = build(&coder(4, 2), bytes(PACK_MIN));
    let claim = verify(&honest.shards[0]).header().writer;
    assert_eq!(claim.verify(&VAULT, honest.id).unwrap().account(), account(3).account());
    let stripe = StripeId::new([6; 32]);
    assert!(claim.verify(&VAULT, stripe).is_err());
    assert!(claim.verify(&VaultId::new([9; 32]), honest.id).is_err());
    assert!(ClaimedWriter { session: SessionId::new([9; 32]), ..claim }.verify(&VAULT, honest.id).is_err());
    let renamed = ClaimedWriter { account: account(4).account(), ..claim };
    assert!(matches!(renamed.verify(&VAULT, honest.id), Err(WriterError::OtherAccount { .. })));

    // And such a writer cannot be used to repair another stripe.
    let other = verified(&build(&coder(4, 2), bytes(PACK_MIN + 7)));
    let writer = claim.verify(&VAULT, honest.id).unwrap();
    let refused = rebuild_shards(&coder(4, 2), &other, &[ShardIndex(0)], &writer);
    assert!(matches!(refused, Err(RebuildError::OtherStripe { .. })));
}

/// T2 against a writer who coded the stripe wrong and signed it.
#[test]
fn a_stripe_coded_wrong_is_never_read_in_two_ways() {
    let coder = coder(2, 1);
    let stripe = build(&coder, bytes(PACK_MIN));
    let mut payloads: Vec<Bytes> = stripe.shards.iter().map(|file| file.payload.clone()).collect();
    let mut parity = payloads[2].to_vec();
    parity[0] ^= 1;
    payloads[2] = parity.into();
    let (leaves, roots): (Vec<_>, Vec<_>) = payloads.iter().map(|payload| leaves_and_root(payload)).unzip();
    let id = stripe_id(&VAULT, stripe.shape, &roots);
    let writer = StripeWriter::sign(&account(3), &VAULT, SESSION, id);
    let shards: Vec<VerifiedShard> = (0..3_u8)
        .map(|index| {
            let at = usize::from(index);
            let (index, roots) = (ShardIndex(index), roots.clone());
            let header =
                ShardHeader { vault: VAULT, stripe: id, writer: writer.claim(), shape: stripe.shape, index, roots };
            let prefix = header.encode_prefix(&leaves[at]).into();
            verify(&ShardFile { name: header.name(), prefix, payload: payloads[at].clone() })
        })
        .collect();
    assert_eq!(rebuild_pack(&coder, &shards[..2]).unwrap(), bytes(PACK_MIN));
    assert!(matches!(rebuild_pack(&coder, &shards[1..]), Err(RebuildError::Inconsistent { .. })));
    let repaired = rebuild_shards(&coder, &shards[..2], &[ShardIndex(2)], &writer);
    assert!(matches!(repaired, Err(RebuildError::Inconsistent { index: ShardIndex(2), .. })));
}

/// T3, healthy and with a shard lost.
#[test]
fn a_range_of_the_pack_is_read_without_whole_shards() {
    let (coder, pack) = (coder(4, 2), bytes(PACK_MIN * 2 + 13));
    let stripe = build(&coder, pack.clone());
    let asked = 131_000..150_000;
    let mut found = Vec::new();
    for part in stripe.shape.locate(asked.clone()).unwrap() {
        let file = stripe.shards[usize::from(part.index.0)].to_vec();
        let name = stripe.shards[usize::from(part.index.0)].name;
        let prefix = ShardPrefix::verify(&file[..stripe.shape.prefix_len()], &VAULT, name).unwrap();
        let leaves = prefix.covering(&part.range).unwrap();
        let read = Bytes::copy_from_slice(&file[prefix.file_range(&leaves)]);
        found.extend_from_slice(&prefix.verify_range(leaves.start, read).unwrap().get(part.range).unwrap());
    }
    assert_eq!(found, &pack[asked]);

    let range = SHARD_LEAF..SHARD_LEAF * 3;
    let reads: Vec<_> = stripe.shards[1..5]
        .iter()
        .map(|file| {
            let prefix = ShardPrefix::verify(&file.prefix, &VAULT, file.name).unwrap();
            prefix.verify_range(range.start, file.payload.slice(range.clone())).unwrap()
        })
        .collect();
    let header = verify(&stripe.shards[1]).header().clone();
    assert_eq!(rebuild_ranges(&coder, &header, &reads, &[ShardIndex(0)]).unwrap(), [&pack[range]]);
    assert!(matches!(
        rebuild_ranges(&coder, &header, &reads[..3], &[ShardIndex(0)]),
        Err(RebuildError::Coding { source: CodingError::TooFew { .. }, .. })
    ));
    assert!(matches!(rebuild_ranges(&coder, &header, &reads, &[ShardIndex(6)]), Err(RebuildError::NoSuchShard { .. })));
}

/// Also at the end of the payloads, where the last leaf is cut; and two lost runs cost one pass.
#[test]
fn ranges_of_several_lost_shards_come_from_one_pass() {
    let coder = coder(4, 2);
    let stripe = build(&coder, bytes(PACK_MIN + 5));
    let good = verified(&stripe);
    let header = good[0].header().clone();
    let length = stripe.shape.payload_len();
    for range in [0..SHARD_LEAF, SHARD_LEAF..3 * SHARD_LEAF, length / SHARD_LEAF * SHARD_LEAF..length] {
        let read = |index: usize| {
            let file = &stripe.shards[index];
            let prefix = ShardPrefix::verify(&file.prefix, &header.vault, file.name).unwrap();
            prefix.verify_range(range.start, file.payload.slice(range.clone())).unwrap()
        };
        let others: Vec<_> = [1, 3, 4, 5].map(read).to_vec();
        let rebuilt = rebuild_ranges(&coder, &header, &others, &[ShardIndex(2), ShardIndex(0)]).unwrap();
        assert_eq!(rebuilt[0], stripe.shards[2].payload.slice(range.clone()), "{range:?}");
        assert_eq!(rebuilt[1], stripe.shards[0].payload.slice(range.clone()), "{range:?}");
        assert!(rebuild_ranges(&coder, &header, &others, &[]).unwrap().is_empty());
        // Each run is computed in one place: a second one for it would be left as zeros.
        let twice = rebuild_ranges(&coder, &header, &others, &[ShardIndex(2), ShardIndex(0), ShardIndex(2)]);
        assert!(matches!(twice, Err(RebuildError::NamedTwice { index: ShardIndex(2), .. })));
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let coder = coder(2, 1);
    let (one, two) = (verified(&build(&coder, bytes(PACK_MIN))), verified(&build(&coder, bytes(PACK_MIN + 1))));
    assert!(matches!(rebuild_pack(&coder, &[]), Err(RebuildError::NoShards)));
    let mixed = [one[0].clone(), two[1].clone()];
    assert!(matches!(rebuild_pack(&coder, &mixed), Err(RebuildError::OtherStripe { .. })));
    let twice = [one[0].clone(), one[0].clone()];
    assert!(matches!(rebuild_pack(&coder, &twice), Err(RebuildError::TooFewShards { found: 1, .. })));
    let other = self::coder(3, 1);
    assert!(matches!(rebuild_pack(&other, &one), Err(RebuildError::OtherCode { .. })));
    let writer = writer_of(&one[0]);
    let refused = rebuild_shards(&coder, &one, &[ShardIndex(3)], &writer);
    assert!(matches!(refused, Err(RebuildError::NoSuchShard { .. })));
}
