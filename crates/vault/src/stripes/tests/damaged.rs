//! Shards that are not what they should be.

use std::collections::BTreeSet;
use std::fs;

use blockhouse_pipeline::shard::ShardFault;

use super::super::*;
use super::world::{self, Sealed, World, sealed_stripe};

/// Numbers that depend on the seed.
struct Draw {
    bytes: std::vec::IntoIter<u8>,
}

impl Draw {
    fn new(seed: u64) -> Self {
        Self { bytes: world::bytes(seed ^ 0xd1ce, 4096).into_iter() }
    }

    fn below(&mut self, limit: usize) -> usize {
        let bytes: [u8; 8] = std::array::from_fn(|_| self.bytes.next().unwrap());
        usize::try_from(u64::from_le_bytes(bytes) % limit as u64).unwrap()
    }
}

/// Damages one shard file in one of its parts.
fn damage(draw: &mut Draw, good: &[u8], prefix_len: usize) -> Vec<u8> {
    let mut bad = good.to_vec();
    let range = match draw.below(8) {
        0 => 0..205,                     // fixed part of the header
        1 => 205..205 + 32 * 6 + 32,     // roots and header hash
        2 => 205 + 32 * 7..prefix_len,   // leaf hashes
        3 | 4 => prefix_len..good.len(), // payload
        5 => good.len() - 1..good.len(), // the last byte
        6 => {
            bad.truncate(draw.below(good.len()));
            return bad;
        }
        _ => {
            bad.push(0);
            return bad;
        }
    };
    for _ in 0..=draw.below(3) {
        let at = range.start + draw.below(range.len());
        bad[at] ^= 1 << draw.below(8);
    }
    bad
}

/// V1: however shards are damaged, reads give the right bytes or an error; with k good ones left, the right bytes.
#[tokio::test]
async fn damage_in_any_part_never_gives_wrong_bytes() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 700_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let prefix_len = sealed.stripe.shape.prefix_len();
    let mut errors = 0;
    for seed in 0..60 {
        let mut draw = Draw::new(seed);
        let count = 1 + draw.below(4);
        let victims: BTreeSet<usize> = std::iter::repeat_with(|| draw.below(6)).take(count).collect();
        let mut draw = Draw::new(seed + 1000);
        for victim in &victims {
            let good = sealed.stripe.shards[usize::from(done.holders[*victim].index.0)].to_vec();
            let path = world.shard(done.entry.id, done.holders[*victim]);
            fs::write(path, damage(&mut draw, &good, prefix_len)).unwrap();
        }
        for guided in [false, true] {
            let store = world.store().await;
            if guided {
                store.guide(Arc::new(store.presence().await));
            }
            for (slot, bytes) in sealed.slots() {
                match store.read_slot(&done.entry, &slot).await {
                    Ok(read) => assert_eq!(read, bytes, "seed {seed}"),
                    Err(error) => {
                        assert!(victims.len() > 2, "seed {seed}: {error}");
                        errors += 1;
                    }
                }
            }
            match world::whole(&store, &done.entry).await {
                Ok(pack) => assert_eq!(pack, sealed.pack, "seed {seed}"),
                Err(error) => assert!(victims.len() > 2, "seed {seed}: {error}"),
            }
            for damage in store.take_damage() {
                let site = damage.site.to_string();
                assert!(
                    victims.iter().any(|victim| format!("site-{}", done.holders[*victim].member) == site),
                    "{damage}"
                );
            }
        }
        for holder in &done.holders {
            let good = sealed.stripe.shards[usize::from(holder.index.0)].to_vec();
            fs::write(world.shard(done.entry.id, *holder), good).unwrap();
        }
    }
    assert!(errors > 0, "some seeds damage too many");
}

#[tokio::test]
async fn a_read_says_which_site_lied() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 700_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let liar = *done.holders.iter().find(|holder| holder.index == ShardIndex(1)).unwrap();
    let path = world.shard(done.entry.id, liar);
    let mut file = fs::read(&path).unwrap();
    *file.last_mut().unwrap() ^= 1;
    fs::write(&path, &file).unwrap();
    let store = world.store().await;
    world::expect_slots(&store, &sealed, &done.entry).await;
    let damage = store.take_damage();
    assert_eq!(damage.len(), 1);
    let last = sealed.stripe.shape.leaves() - 1;
    assert_eq!((damage[0].site.to_string(), damage[0].shard.index), (format!("site-{}", liar.member), liar.index));
    assert!(matches!(damage[0].fault, Fault::Bytes(ShardFault::Leaf { leaf }) if leaf == last));
    assert!(store.take_damage().is_empty(), "each fault is told once");

    fs::remove_file(&path).unwrap();
    let store = world.store().await;
    world::expect_slots(&store, &sealed, &done.entry).await;
    assert!(matches!(store.take_damage()[..], [Damage { fault: Fault::Missing, .. }]));
}

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    expected: fn(&ShardState) -> bool,
}

/// What may lie under the name of `victim`, the shard of `sealed` with index 1.
fn cases(sealed: &Sealed) -> Vec<Case> {
    let other_vault = world::stripe_of(&world::account(3), VaultId::new([8; 32]), sealed.pack.clone());
    let other_stripe = sealed_stripe(7, 700_000).stripe;
    let stranger = world::stripe_of(&world::account(99), world::VAULT, sealed.pack.clone());
    assert_eq!(stranger.id, sealed.stripe.id, "the signature stands outside the id");
    let good = sealed.stripe.shards[1].to_vec();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let foreign = |state: &ShardState| matches!(state, ShardState::Foreign(_));
    let damaged = |state: &ShardState| matches!(state, ShardState::Damaged(_));
    let wrong_size = |state: &ShardState| matches!(state, ShardState::WrongSize { .. });
    vec![
        Case { name: "of another vault", bytes: other_vault.shards[1].to_vec(), expected: foreign },
        Case { name: "of another stripe", bytes: other_stripe.shards[1].to_vec(), expected: foreign },
        Case { name: "of another index", bytes: sealed.stripe.shards[2].to_vec(), expected: foreign },
        Case { name: "empty", bytes: Vec::new(), expected: wrong_size },
        Case { name: "cut", bytes: good[..good.len() - 1].to_vec(), expected: wrong_size },
        Case { name: "longer", bytes: [&good[..], &[0]].concat(), expected: wrong_size },
        Case { name: "flipped in the header", bytes: flipped(300), expected: damaged },
        Case { name: "flipped in the payload", bytes: flipped(good.len() - 5), expected: damaged },
        Case {
            name: "claimed by a stranger",
            bytes: stranger.shards[1].to_vec(),
            expected: |state| matches!(state, ShardState::Unclaimed(ClaimFault::NotAWriter { .. })),
        },
    ]
}

#[tokio::test]
async fn every_kind_of_bad_shard_is_read_around_found_and_repaired() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 700_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let victim = *done.holders.iter().find(|holder| holder.index == ShardIndex(1)).unwrap();
    let path = world.shard(done.entry.id, victim);
    for Case { name, bytes, expected } in cases(&sealed) {
        fs::write(&path, bytes).unwrap();
        let store = world.store().await;
        world::expect_slots(&store, &sealed, &done.entry).await;
        assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack, "{name}");
        assert_eq!(store.read_head(&done.entry.id).await.unwrap().entry, done.entry, "{name}");
        for known in [Sought::from(&done.entry), Sought::from(done.entry.id)] {
            let findings = store.check(&store.presence().await, known, Depth::Data).await;
            let bad: Vec<_> = findings.shards.iter().filter(|shard| !matches!(shard.state, ShardState::Good)).collect();
            assert_eq!((bad.len(), bad[0].holder), (1, victim), "{name}");
            assert!(expected(&bad[0].state), "{name}: {:?}", bad[0].state);
            assert_eq!(findings.durability.w, 1);
        }
        let findings = store.check(&store.presence().await, done.entry.id, Depth::Data).await;
        let plan = store.plan_repair(&findings).unwrap();
        assert_eq!((&plan.remove[..], &plan.write[..], plan.after.w), (&[victim][..], &[victim][..], 2), "{name}");
        let repaired = store.repair(&plan).await.unwrap();
        assert_eq!((&repaired.written[..], &repaired.removed[..]), (&[victim][..], &[victim][..]), "{name}");
        assert_eq!(fs::read(&path).unwrap(), sealed.stripe.shards[1].to_vec(), "{name}");
        let findings = store.check(&store.presence().await, &done.entry, Depth::Data).await;
        assert!(findings.is_whole() && findings.durability.w == 2, "{name}");
    }
}

#[tokio::test]
async fn two_shards_that_changed_places_are_repaired() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 700_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let [a, b] = [0, 5].map(|index| world.shard(done.entry.id, done.holders[index]));
    let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, &second).unwrap();
    fs::write(&b, &first).unwrap();
    let store = world.store().await;
    assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);
    let findings = store.check(&store.presence().await, &done.entry, Depth::Data).await;
    store.repair(&store.plan_repair(&findings).unwrap()).await.unwrap();
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (first, second));
}

#[tokio::test]
async fn two_lost_sites_are_filled_again_from_the_four_others() {
    let world = World::new(6).await;
    let mut all = Vec::new();
    for seed in 0..4 {
        let sealed = sealed_stripe(seed, 300_000);
        all.push((world.store().await.write(sealed.stripe.clone()).await.unwrap(), sealed));
    }
    for member in [1, 4] {
        fs::remove_dir_all(world.site(member)).unwrap();
        world.create_again(member).await;
    }
    let store = world.store().await;
    let mut presence = store.presence().await;
    for (done, _) in &all {
        let findings = store.check(&presence, done.entry.id, Depth::Names).await;
        let missing: Vec<_> = findings.shards.iter().filter(|s| matches!(s.state, ShardState::Missing)).collect();
        assert_eq!(missing.iter().map(|s| s.holder.member).collect::<BTreeSet<_>>(), [1, 4].into());
        let repaired = store.repair(&store.plan_repair(&findings).unwrap()).await.unwrap();
        assert_eq!((repaired.durability.w, repaired.written.len()), (2, 2));
        presence.note_repaired(&repaired);
    }
    assert_eq!(presence.least(all.iter().map(|(done, _)| &done.entry)).durability.unwrap().w, 2);
    // What was written is as good as the first: without two of the others everything is still there.
    world.hide(&[0, 2]);
    let store = world.store().await;
    for (done, sealed) in &all {
        assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);
    }
}

#[tokio::test]
async fn a_stripe_with_too_few_good_shards_is_left_alone() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 300_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    for holder in &done.holders[..3] {
        fs::write(world.shard(done.entry.id, *holder), b"").unwrap();
    }
    let store = world.store().await;
    let findings = store.check(&store.presence().await, &done.entry, Depth::Data).await;
    assert!(!findings.is_readable());
    let error = store.plan_repair(&findings).unwrap_err();
    assert!(matches!(error.remedy(), Remedy::Distrust(sites) if sites.len() == 3));
    for holder in &done.holders {
        assert!(world.shard(done.entry.id, *holder).exists());
    }
}

/// V3: a plan that is old when it is carried out removes nothing that became good since.
#[tokio::test]
async fn a_repair_keeps_what_became_good_since_it_was_planned() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 300_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let path = world.shard(done.entry.id, done.holders[0]);
    let good = fs::read(&path).unwrap();
    fs::write(&path, b"bad").unwrap();
    let store = world.store().await;
    let findings = store.check(&store.presence().await, &done.entry, Depth::Data).await;
    let plan = store.plan_repair(&findings).unwrap();
    fs::write(&path, &good).unwrap();
    let repaired = store.repair(&plan).await.unwrap();
    assert_eq!((repaired.removed, repaired.written, repaired.durability.w), (vec![], vec![], 2));
    assert_eq!(fs::read(&path).unwrap(), good);
}

/// T4: shards that a stranger signed are readable, and nobody's.
#[tokio::test]
async fn a_stripe_that_only_a_stranger_claims_is_nobody_s() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 300_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    let stranger = world::stripe_of(&world::account(99), world::VAULT, sealed.pack.clone());
    let replace = |holder: &Holder| {
        let file = stranger.shards[usize::from(holder.index.0)].to_vec();
        fs::write(world.shard(done.entry.id, *holder), file).unwrap();
    };
    done.holders[..5].iter().for_each(replace);
    let head = world.store().await.read_head(&done.entry.id).await.unwrap();
    assert_eq!((head.entry, head.session), (done.entry, world::SESSION));
    replace(&done.holders[5]);
    let store = world.store().await;
    let error = store.read_head(&done.entry.id).await.unwrap_err();
    assert!(matches!(error, ReadHeadError::NoWriter { source: ClaimFault::NotAWriter { .. }, .. }));
    assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);
    let absent = store.read_head(&StripeId::new([5; 32])).await.unwrap_err();
    assert!(matches!(absent, ReadHeadError::NoHeader { .. }));
}
