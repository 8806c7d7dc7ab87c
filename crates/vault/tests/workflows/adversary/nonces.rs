//! AES-GCM breaks when one key meets one nonce twice. A chunk's key comes from its content, so it meets every way of
//! compressing that content: each sealing must bring a nonce of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::ChunkId;
use blockhouse_vault::index::Slot;

use super::world::{World, noise};

const NONCE_LEN: usize = 12;

/// Every sealed chunk at the sites, by its id.
async fn sealed_chunks(world: &World) -> BTreeMap<ChunkId, Vec<Vec<u8>>> {
    let vault = world.open().await;
    let keys = PackKeys::new(&vault.secrets().unwrap().write.index_key);
    let stripes = vault.stripes().await.unwrap();
    let mut chunks: BTreeMap<ChunkId, Vec<Vec<u8>>> = BTreeMap::new();
    for id in stripes.presence().await.stripes() {
        let entry = stripes.read_head(&id).await.unwrap().entry;
        for found in stripes.read_table(&entry, &keys).await.unwrap().entries() {
            let (codec, offset, sealed_len) = (found.codec.tag(), found.offset, found.sealed_len);
            let slot = Slot { codec, offset, sealed_len, plain_len: found.plain_len };
            chunks.entry(found.id).or_default().push(stripes.read_slot(&entry, &slot).await.unwrap());
        }
    }
    chunks
}

fn nonces(chunks: &BTreeMap<ChunkId, Vec<Vec<u8>>>) -> Vec<&[u8]> {
    chunks.values().flatten().map(|sealed| &sealed[..NONCE_LEN]).collect()
}

/// Two real backups of one folder, at the lowest and the highest level, the second after all shards were lost.
#[tokio::test(flavor = "multi_thread")]
async fn one_chunk_sealed_at_two_levels_shares_no_key_and_nonce() {
    let world = World::with_snapshot().await;
    let words: Vec<String> = (0..120_000_u64).map(|number| (number * number % 7919).to_string()).collect();
    world.write("text", words.join(" ").as_bytes());
    world.write("noise", &noise(5, 400_000));
    lose_shards(&world);
    world.back_up_at(1).await;
    let low = sealed_chunks(&world).await;
    lose_shards(&world);
    world.back_up_at(19).await;
    let high = sealed_chunks(&world).await;

    assert!(low.len() > 5 && low.keys().eq(high.keys()), "the same chunks, so the same keys");
    let other_bodies = low.iter().filter(|(id, sealed)| high[id][0].len() != sealed[0].len()).count();
    assert!(other_bodies > 0, "the levels give other bytes");
    // No nonce comes twice at all, so no pair of key and nonce does.
    let all: Vec<&[u8]> = nonces(&low).into_iter().chain(nonces(&high)).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

/// All that was stored is gone, and the host knows nothing of it: everything is sealed again.
fn lose_shards(world: &World) {
    for number in 0..6 {
        fs::remove_dir_all(world.site(number).join("shards")).unwrap();
    }
    for cache in ["vault/index", "vault/cache"] {
        fs::remove_dir_all(world.path(cache)).unwrap();
    }
}
