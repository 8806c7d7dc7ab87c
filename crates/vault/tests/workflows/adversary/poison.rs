//! Poisoned stripes: right in everything but that a chunk they name has other bytes.
//!
//! Whoever knows the write secrets and guesses a file can seal other bytes under the ids of its chunks, in a stripe that is
//! coded, hashed and named as it must be. Only the writer's signature tells it from one of the own writer's (T4, T1). A host
//! that took it for its own would record a snapshot that cannot be restored.

use blockhouse_crypto::hash::hash;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::chunk::{ChunkRef, seal_chunk};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::Compressor;
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_pipeline::pack::{PackBuilder, PackKeys, PackNonces};
use blockhouse_pipeline::shard::{SHARD_FIXED_LEN, UncheckedShard};
use blockhouse_pipeline::stripe::{ShardFile, Stripe, StripeSigner, build_stripe};
use blockhouse_types::{SessionId, SourceId};
use blockhouse_vault::ledger::WriterRecord;
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::Vault;

use super::world::{World, noise};

/// Longer than what is joined with its neighbours, so its chunks depend on it alone; and than any chunk, so it has several.
const VICTIM: usize = 700_000;
/// Session, account and signature in a shard's header: after magic and version, vault id and stripe id.
const CLAIM: std::ops::Range<usize> = 8 + 64..8 + 64 + 32 + 20 + 65;

fn victim() -> Vec<u8> {
    noise(7, VICTIM)
}

/// A stripe whose table names the chunks of the victim and whose pack holds other bytes, sealed under their keys.
fn poisoned(vault: &Vault, signer: &AccountSecret) -> Stripe {
    let secrets = &vault.secrets().unwrap().write;
    let domain = secrets.domain(DomainKind::Writer, SourceId::new([0; 32]));
    let mut compressor = Compressor::try_new(3).unwrap();
    let mut pack = PackBuilder::with_limit(1 << 20);
    for (number, chunk) in (0_u8..).zip(Cutter::new(secrets.cut_seed).chunks(Grain::Usual, &victim())) {
        let reference = ChunkRef::of(&domain, chunk).unwrap();
        let lie = noise(100 + number, chunk.len());
        pack.push(&seal_chunk(&mut compressor, &reference, [number; 12], &lie).unwrap()).unwrap();
    }
    assert!(pack.chunks() > 1);
    let nonces = PackNonces { table: [1; 12], trailer: [2; 12] };
    let (pack, _) = pack.finish(&PackKeys::new(&secrets.index_key), nonces).unwrap().into_parts();
    let signer = StripeSigner { vault: vault.id(), session: SessionId::new([3; 32]), account: signer };
    build_stripe(&Coder::new(vault.config().code), signer, pack).unwrap()
}

fn files(stripe: &Stripe) -> Vec<(ShardFile, Vec<u8>)> {
    stripe.shards.iter().map(|shard| (shard.clone(), shard.to_vec())).collect()
}

/// The same shards with another claim in their headers, whose hash is made to fit.
fn with_claim(vault: &Vault, stripe: &Stripe, claim: impl Fn(&mut [u8])) -> Vec<(ShardFile, Vec<u8>)> {
    let header_len = SHARD_FIXED_LEN + 32 * stripe.shards.len();
    let mut shards = files(stripe);
    for (shard, bytes) in &mut shards {
        claim(&mut bytes[CLAIM]);
        let sum = hash("blockhouse v1 shard header", &bytes[..header_len]);
        bytes[header_len..header_len + 32].copy_from_slice(&sum);
        let checked = UncheckedShard::new(bytes.clone()).verify(&vault.id(), shard.name);
        assert!(checked.is_ok(), "all but the signature holds: {checked:?}");
    }
    shards
}

/// The claim of a stripe that the honest writer made.
fn honest_claim(world: &World) -> Vec<u8> {
    let mut folder = world.site(0).join("shards");
    while folder.is_dir() {
        folder = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    }
    std::fs::read(folder).unwrap()[CLAIM].to_vec()
}

fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

/// The poison lies at all sites before the victim is backed up: it is stored anew, with and without the index.
async fn expect_harmless(world: &World, stripe: &Stripe, shards: &[(ShardFile, Vec<u8>)]) {
    world.place(shards);
    world.write("victim", &victim());
    let first = world.back_up().await;
    assert!(first.new_bytes >= VICTIM as u64, "the poison was reused: {} new bytes", first.new_bytes);
    assert!(!world.stripes_of_newest().await.contains(&stripe.id), "the snapshot names the poison");
    world.expect_restores("restored").await;

    world.forget_index();
    world.expect_restores("restored without the index").await;
    world.forget_index();
    let again = world.back_up().await;
    assert_eq!(again.new_bytes, 0, "the own stripes are found again");
    assert!(!world.stripes_of_newest().await.contains(&stripe.id), "the snapshot names the poison");
    world.expect_restores("restored from the index made anew").await;
}

/// What all this is about: signed by the writer itself the same stripe is reused, so the ids are right and only the signature
/// stands between. Even then the other bytes are never returned as good.
#[tokio::test(flavor = "multi_thread")]
async fn a_stripe_of_the_own_writer_is_reused_and_its_lies_are_not_returned() {
    let world = World::with_snapshot().await;
    let vault = world.open().await;
    let stripe = poisoned(&vault, &vault.secrets().unwrap().writer);
    world.place(&files(&stripe));
    world.write("victim", &victim());
    let report = world.back_up().await;
    assert!(report.new_bytes < VICTIM as u64, "{} new bytes", report.new_bytes);
    assert!(world.stripes_of_newest().await.contains(&stripe.id));
    if let Ok(report) = world.restore("restored").await {
        assert!(!report.flaws.is_empty(), "the loss is said");
        assert!(!world.path("restored/victim").exists(), "no bytes stand under the name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stripe_that_a_stranger_signed_is_not_reused() {
    let world = World::with_snapshot().await;
    let stripe = poisoned(&world.open().await, &account(99));
    expect_harmless(&world, &stripe, &files(&stripe)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_copied_from_an_honest_shard_makes_no_stripe_honest() {
    let world = World::with_snapshot().await;
    let vault = world.open().await;
    let (stripe, claim) = (poisoned(&vault, &account(99)), honest_claim(&world));
    let shards = with_claim(&vault, &stripe, |bytes| bytes.copy_from_slice(&claim));
    expect_harmless(&world, &stripe, &shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_honest_account_beside_a_stranger_s_signature_makes_no_stripe_honest() {
    let world = World::with_snapshot().await;
    let vault = world.open().await;
    let stripe = poisoned(&vault, &account(99));
    let honest = vault.secrets().unwrap().writer.account();
    let shards = with_claim(&vault, &stripe, |bytes| bytes[32..52].copy_from_slice(honest.as_bytes()));
    expect_harmless(&world, &stripe, &shards).await;
}

/// Another writer of the same vault, enrolled by the owner, with a signature that holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_stripe_of_another_writer_of_the_vault_is_not_reused() {
    let world = World::with_snapshot().await;
    let vault = world.open().await;
    let Unlocked::Owner(identity) = world.unlocked() else { panic!("the identity is the owner's") };
    let other = account(42);
    let record = WriterRecord {
        account: other.account(),
        active: true,
        host_stolen: false,
        predecessor: None,
        predecessor_last_block: 0,
    };
    vault.ledger_as(identity.owner()).enrol_writer(record).await.unwrap();
    let stripe = poisoned(&vault, &other);
    expect_harmless(&world, &stripe, &files(&stripe)).await;
}

/// The host before the recovery, whether it was said to be stolen or not: what it signs after it was replaced is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_stripe_that_the_writer_of_before_a_recovery_adds_is_not_reused() {
    for host_stolen in [false, true] {
        let world = World::with_snapshot().await;
        let old = world.recover(host_stolen).await;
        let stripe = poisoned(&world.open().await, &old);
        expect_harmless(&world, &stripe, &files(&stripe)).await;
    }
}
