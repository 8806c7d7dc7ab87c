//! Real folders as sites, real shards in them.

mod damaged;
mod world;

use std::fs;

use blockhouse_pipeline::pack::OpenPackError;
use blockhouse_pipeline::shard::StripeShape;
use blockhouse_sites::{Patience, Site, Spare};
use blockhouse_types::limits::SHARD_LEAF;

use super::*;
use world::{World, code, pack_keys, sealed_stripe};

fn pairs() -> impl Iterator<Item = [usize; 2]> {
    (0..6).flat_map(|a| (a + 1..6).map(move |b| [a, b]))
}

#[tokio::test]
async fn every_pair_of_six_sites_can_be_lost() {
    let world = World::new(6).await;
    let mut written = Vec::new();
    let store = world.store().await;
    for seed in 0..3 {
        let sealed = sealed_stripe(seed, 300_000 + 200_000 * usize::from(seed));
        let done = store.write(sealed.stripe.clone()).await.unwrap();
        assert_eq!((done.durability.d, done.durability.w, done.refused.len()), (6, 2, 0));
        assert_eq!(done.durability, store.plan_durability());
        written.push((sealed, done.entry));
    }
    for pair in pairs() {
        world.hide(&pair);
        let store = world.store().await;
        let presence = store.presence().await;
        for (sealed, entry) in &written {
            assert_eq!(presence.durability(entry), Some(Durability { d: 4, w: 0, wd: 0 }));
            assert_eq!(presence.missing(entry.id).len(), 2);
            assert_eq!(store.read_head(&entry.id).await.unwrap().entry, *entry);
            assert_eq!(world::whole(&store, entry).await.unwrap(), sealed.pack, "{pair:?}");
            assert_eq!(store.read_table(entry, &pack_keys(1)).await.unwrap(), sealed.table);
            world::expect_slots(&store, sealed, entry).await;
        }
        assert!(store.take_damage().is_empty(), "sites that are down did not lie");
        world.show(&pair);
    }
    world.hide(&[0, 2, 5]);
    let store = world.store().await;
    let (sealed, entry) = &written[0];
    let error = world::whole(&store, entry).await.unwrap_err();
    assert_eq!(error.to_string(), format!("stripe {} has 3 of the 4 good shards it needs", entry.id));
    let gone = ["site-0", "site-2", "site-5"].map(|name| SiteName::parse(name).unwrap());
    assert_eq!(error.remedy(), Remedy::BringBack(gone.to_vec()));
    let mut failed = 0;
    for (slot, bytes) in sealed.slots() {
        // A chunk whose own shard is left can be read all the same.
        match store.read_slot(entry, &slot).await {
            Ok(read) => assert_eq!(read, bytes),
            Err(ReadStripeError::TooFewShards { needed: 4, .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failed > 0);
}

/// Three sites are away when a run is opened that can do without two, and come back: it does not fail for want of them.
#[tokio::test]
async fn sites_that_were_spared_are_asked_again_when_shards_are_wanting() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(0, 500_000);
    let entry = world.store().await.write(sealed.stripe.clone()).await.unwrap().entry;
    world.hide(&[0, 2, 5]);
    let sparing =
        async || world.store_on(Sites::open_sparing(&world.enrolled, Patience::default(), Spare::new(2)).await);
    let [by_range, by_column, by_head, still_away] =
        [sparing().await, sparing().await, sparing().await, sparing().await];
    let needing = world.store().await;
    assert!(world::whole(&still_away, &entry).await.is_err());
    world.show(&[0, 2, 5]);
    assert_eq!(world::whole(&by_range, &entry).await.unwrap(), sealed.pack);
    assert_eq!(pack_by_columns(&by_column, &entry, sealed.stripe.shape).await, sealed.pack);
    assert_eq!(by_head.read_head(&entry.id).await.unwrap().entry, entry);
    assert!(by_range.take_damage().is_empty() && by_range.silent().is_empty());
    for given_up in [still_away, needing] {
        assert!(world::whole(&given_up, &entry).await.is_err(), "sites are asked again once, if they were spared");
    }
}

/// Columns of all data shards, joined to the pack.
async fn pack_by_columns(store: &StripeStore, entry: &StripeEntry, shape: StripeShape) -> Vec<u8> {
    let (run_len, width) = (shape.payload_len(), 2 * SHARD_LEAF);
    let mut runs = vec![Vec::new(); shape.code().data()];
    for start in (0..run_len).step_by(width) {
        let end = run_len.min(start + width);
        let columns = store.read_columns(entry, start..end).await.unwrap();
        for (number, run) in runs.iter_mut().enumerate() {
            let at = number * run_len;
            let read = columns.first_of(&(at + start..at + end)).unwrap();
            assert_eq!(columns.first_of(&(at + start..at + end + 1000)), Some(read.clone()), "it ends with the column");
            if end < run_len {
                assert_eq!(columns.first_of(&(at + end..at + end + 1)), None);
            }
            run.extend_from_slice(&read);
        }
    }
    let mut pack = runs.concat();
    pack.truncate(shape.pack_len());
    pack
}

/// A pack was read whole where data shards were missing; and every site was asked first for what only the missing ones have.
#[tokio::test]
async fn columns_and_chunks_come_from_any_four_shards_those_within_reach_first() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 500_000);
    let done = world.store().await.write(sealed.stripe.clone()).await.unwrap();
    for pair in pairs() {
        world.hide(&pair);
        let store = world.store().await;
        assert_eq!(pack_by_columns(&store, &done.entry, sealed.stripe.shape).await, sealed.pack, "{pair:?}");
        world::expect_slots(&store, &sealed, &done.entry).await;
        let is_lost = |index: ShardIndex| {
            let holder = done.holders.iter().find(|holder| holder.index == index).unwrap();
            pair.contains(&holder.member)
        };
        let order: Vec<bool> = store.likeliest(done.entry.id, code()).map(is_lost).collect();
        assert_eq!(order, [false, false, false, false, true, true], "{pair:?}");
        assert_eq!(store.lacks_data_shards(&done.entry), code().indices().take(4).any(is_lost));
        world.show(&pair);
    }
    // One site is gone, and what another one has is damaged: it is said which, and read around.
    let [gone, liar] =
        [0, 2].map(|index| *done.holders.iter().find(|holder| holder.index == ShardIndex(index)).unwrap());
    world.hide(&[gone.member]);
    let path = world.shard(done.entry.id, liar);
    let mut file = fs::read(&path).unwrap();
    *file.last_mut().unwrap() ^= 1;
    fs::write(&path, file).unwrap();
    let store = world.store().await;
    assert_eq!(pack_by_columns(&store, &done.entry, sealed.stripe.shape).await, sealed.pack);
    let damage = store.take_damage();
    assert_eq!((damage.len(), damage[0].shard.index), (1, liar.index));
    // One more, and there are too few.
    let third = done.holders.iter().find(|holder| holder.index == ShardIndex(5)).unwrap();
    world.hide(&[third.member]);
    let end = sealed.stripe.shape.payload_len();
    let error = world.store().await.read_columns(&done.entry, end - 1..end).await.unwrap_err();
    assert!(matches!(error, ReadStripeError::TooFewShards { found: 3, needed: 4, .. }), "{error:?}");
    let outside = world.store().await.read_columns(&done.entry, end..end + 1).await.unwrap_err();
    assert!(matches!(outside, ReadStripeError::Outside { .. }), "{outside:?}");
}

#[tokio::test]
async fn a_stripe_written_to_three_of_six_sites_is_spread_out_by_repair() {
    let world = World::new(6).await;
    world.hide(&[1, 2, 4]);
    let sealed = sealed_stripe(1, 500_000);
    let store = world.store().await;
    assert_eq!(store.plan_durability().w, 2);
    let done = store.write(sealed.stripe.clone()).await.unwrap();
    assert_eq!(done.durability, Durability { d: 6, w: 1, wd: 0 });
    let mut presence = store.presence().await;
    let least = presence.least([&done.entry]);
    assert_eq!((least.degraded, least.unreadable), (vec![done.entry.id], vec![]));
    let findings = store.check(&presence, &done.entry, Depth::Data).await;
    assert!(findings.is_whole() && store.plan_repair(&findings).unwrap().is_empty());

    for member in [1, 2, 4] {
        world.create_again(member).await;
    }
    let store = world.store().await;
    let mut fresh = store.presence().await;
    for presence in [&mut presence, &mut fresh] {
        let findings = store.check(presence, done.entry.id, Depth::Names).await;
        let plan = store.plan_repair(&findings).unwrap();
        assert_eq!((plan.before.w, plan.after.w, plan.remove.len(), plan.write.len()), (1, 2, 0, 0));
        assert_eq!(plan.copy.len(), 3);
        let repaired = store.repair(&plan).await.unwrap();
        assert_eq!((repaired.durability.w, repaired.durability.d, repaired.refused.len()), (2, 6, 0));
        presence.note_repaired(&repaired);
        let findings = store.check(presence, &done.entry, Depth::Data).await;
        assert!(findings.is_whole() && store.plan_repair(&findings).unwrap().is_empty());
        // The second round begins from sites that lost everything again.
        for member in [1, 2, 4] {
            fs::remove_dir_all(world.site(member).join("shards")).unwrap();
        }
    }
}

#[tokio::test]
async fn too_few_sites_degrade_a_stripe_and_none_refuses_it() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 300_000);
    for (hidden, live) in [(vec![0, 1, 2, 3], 2), (vec![4], 1)] {
        world.hide(&hidden);
        let store = world.store().await;
        let done = store.write(sealed.stripe.clone()).await.unwrap();
        // Everything can be read, and no site may be lost: whether that will do is not decided here.
        assert_eq!(done.durability, Durability { d: 6, w: 0, wd: 0 });
        assert_eq!(done.holders.iter().map(|holder| holder.member).collect::<BTreeSet<_>>().len(), live);
        assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);
    }
    world.hide(&[5]);
    let error = world.store().await.write(sealed.stripe.clone()).await.unwrap_err();
    assert!(
        matches!(&error, WriteStripeError::TooFewShards { durable: 0, needed: 4, silent, .. } if silent.len() == 6)
    );
    assert!(matches!(error.remedy(), Remedy::BringBack(sites) if sites.len() == 6));
    world.show(&[0, 1, 2, 3, 4, 5]);
    // The four sites that are back get what doubled up at the crowded ones.
    let store = world.store().await;
    let presence = store.presence().await;
    let findings = store.check(&presence, sealed.stripe.id, Depth::Data).await;
    let repaired = store.repair(&store.plan_repair(&findings).unwrap()).await.unwrap();
    assert_eq!((repaired.durability.w, repaired.written.len()), (2, 4));
}

#[tokio::test]
async fn a_stranger_s_stripe_is_not_written() {
    let world = World::new(6).await;
    let store = world.store().await;
    let stranger = world::stripe_of(&world::account(99), world::VAULT, sealed_stripe(1, 300_000).pack);
    let error = store.write(stranger).await.unwrap_err();
    assert!(matches!(error, WriteStripeError::NoWriter { source: ClaimFault::NotAWriter { .. }, .. }));
    let other_vault = world::stripe_of(&world::account(3), VaultId::new([8; 32]), sealed_stripe(1, 300_000).pack);
    assert!(matches!(store.write(other_vault).await.unwrap_err(), WriteStripeError::NotGood { .. }));
    assert_eq!(store.presence().await.stripes().count(), 0);
}

#[tokio::test]
async fn a_name_that_is_taken_sends_the_shard_elsewhere() {
    let world = World::new(6).await;
    let sealed = sealed_stripe(1, 300_000);
    let store = world.store().await;
    let name = sealed.stripe.shards[2].name;
    for member in 0..6 {
        let path = world.site(member).join(name.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if member != 3 {
            fs::write(path, b"somebody else's").unwrap();
        }
    }
    let done = store.write(sealed.stripe.clone()).await.unwrap();
    assert!(done.refused.iter().all(|refusal| refusal.error.is_exists() && refusal.holder.index == name.index));
    let at: Vec<_> = done.holders.iter().filter(|holder| holder.index == name.index).map(|h| h.member).collect();
    assert_eq!(at, [3]);
    assert_eq!(done.durability.d, 6);
    assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);

    let findings = store.check(&store.presence().await, &done.entry, Depth::Names).await;
    let plan = store.plan_repair(&findings).unwrap();
    assert_eq!(plan.remove.len(), 5);
    assert_eq!(store.repair(&plan).await.unwrap().removed.len(), 5);
    let findings = store.check(&store.presence().await, &done.entry, Depth::Data).await;
    assert!(findings.is_whole() && findings.durability.w == 2);
}

#[tokio::test]
async fn writing_the_same_stripe_again_changes_nothing() {
    let world = World::new(6).await;
    let store = world.store().await;
    let sealed = sealed_stripe(1, 300_000);
    let first = store.write(sealed.stripe.clone()).await.unwrap();
    let again = store.write(sealed.stripe.clone()).await.unwrap();
    assert_eq!((first.holders, first.entry), (again.holders, again.entry));
}

#[tokio::test]
async fn presence_knows_what_was_listed_and_what_was_written_since() {
    let world = World::new(6).await;
    let store = world.store().await;
    let first = store.write(sealed_stripe(1, 300_000).stripe).await.unwrap();
    let mut presence = store.presence().await;
    let second = store.write(sealed_stripe(2, 400_000).stripe).await.unwrap();
    assert!(presence.durability(second.entry.id).is_none() && !presence.is_usable(&second.entry));
    presence.note_written(&second);
    let fresh = store.presence().await;
    for presence in [&presence, &fresh] {
        let mut all: Vec<_> = presence.stripes().collect();
        all.sort_unstable();
        let mut expected = vec![first.entry.id, second.entry.id];
        expected.sort_unstable();
        assert_eq!(all, expected);
        for written in [&first, &second] {
            assert_eq!(presence.holders(&written.entry), written.holders);
            assert_eq!(presence.holders(written.entry.id), written.holders);
            assert_eq!(presence.durability(&written.entry), Some(written.durability));
        }
    }
    // A site whose marker goes missing after it was opened counts as not listed, whatever lies in its folder.
    fs::remove_file(world.site(4).join("site")).unwrap();
    let presence = store.presence().await;
    assert_eq!((presence.listed(), presence.failed().len()), (&[0, 1, 2, 3, 5][..], 1));
    assert_eq!(presence.durability(&first.entry).unwrap().d, 5);
}

#[tokio::test]
async fn shards_are_found_wherever_they_lie() {
    let world = World::new(6).await;
    let store = world.store().await;
    let sealed = sealed_stripe(1, 300_000);
    let done = store.write(sealed.stripe.clone()).await.unwrap();
    for holder in &done.holders {
        let name = ShardName { stripe: done.entry.id, index: holder.index }.to_string();
        let to = world.site((holder.member + 1) % 6).join(format!("{name}.moving"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(world.site(holder.member).join(name), to).unwrap();
    }
    for member in 0..6 {
        for file in fs::read_dir(world.site(member).join("shards")).unwrap() {
            for file in fs::read_dir(file.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                fs::rename(&path, path.with_extension("")).unwrap();
            }
        }
    }
    for guided in [false, true] {
        let store = world.store().await;
        if guided {
            store.guide(Arc::new(store.presence().await));
        }
        assert_eq!(world::whole(&store, &done.entry).await.unwrap(), sealed.pack);
        world::expect_slots(&store, &sealed, &done.entry).await;
        assert!(store.take_damage().is_empty());
    }
}

#[tokio::test]
async fn tables_open_with_the_right_keys_alone() {
    let world = World::new(6).await;
    let store = world.store().await;
    let done = store.write(sealed_stripe(1, 300_000).stripe).await.unwrap();
    let error = store.read_table(&done.entry, &pack_keys(2)).await.unwrap_err();
    assert!(matches!(error, ReadTableError::Open { source: OpenPackError::Seal { .. }, .. }));
    let outside = crate::index::Slot { codec: 0, offset: u32::MAX, sealed_len: u32::MAX, plain_len: 1 };
    let error = store.read_slot(&done.entry, &outside).await.unwrap_err();
    assert!(matches!(error, ReadStripeError::Outside { .. }));
}

/// A site without room: its shards go elsewhere, and it keeps what it has.
#[tokio::test]
async fn the_shards_of_a_full_site_go_elsewhere() {
    let world = World::new(5).await;
    let Some(_mounted) = world::Mounted::tmpfs(&world.scratch.path().join("small"), "size=300k") else { return };
    let mut enrolled = world.enrolled.clone();
    enrolled.push(world.enroll("small/site", 5).await);
    let store = world.store_of(&enrolled).await;
    let sealed = sealed_stripe(1, 900_000);
    // The first fits beside the marker, the second does not.
    let first = store.write(sealed.stripe.clone()).await.unwrap();
    let second = sealed_stripe(2, 900_000);
    let done = store.write(second.stripe.clone()).await.unwrap();
    assert_eq!((first.durability.w, first.refused.len()), (2, 0));
    assert_eq!(done.refused.len(), 1, "{:?}", done.refused);
    assert!(done.refused[0].error.is_full() && done.refused[0].holder.member == 5);
    assert_eq!((done.durability.d, done.durability.w), (6, 1));
    let third = store.write(sealed_stripe(3, 900_000).stripe).await.unwrap();
    assert_eq!((third.durability.w, third.refused.len()), (1, 0), "a full site is not asked again");
    for (sealed, written) in [(&sealed, &first), (&second, &done)] {
        assert_eq!(world::whole(&store, &written.entry).await.unwrap(), sealed.pack);
    }
}

/// Workflows may run on any thread.
#[tokio::test]
async fn calls_can_be_spawned() {
    let world = World::new(6).await;
    let store = Arc::new(world.store().await);
    let sealed = sealed_stripe(1, 300_000);
    let done = tokio::spawn(async move {
        let written = store.write(sealed.stripe).await.unwrap();
        let entry = written.entry;
        store.read_head(&entry.id).await.unwrap();
        store.read_table(&entry, &pack_keys(1)).await.unwrap();
        world::whole(&store, &entry).await.unwrap();
        let presence = store.presence().await;
        let findings = store.check(&presence, &entry, Depth::Data).await;
        let plan = store.plan_repair(&findings).unwrap();
        store.repair(&plan).await.unwrap().durability.w
    });
    assert_eq!(done.await.unwrap(), 2);
}

impl World {
    /// Makes a hidden or lost site again, empty.
    async fn create_again(&self, member: usize) {
        let enrolled = &self.enrolled[member];
        Site::recreate(&enrolled.spec, &world::marker(member), Patience::default()).await.unwrap();
    }
}
