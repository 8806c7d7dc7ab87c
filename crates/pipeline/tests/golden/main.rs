//! The golden files of version 1: what is checked in must open for ever, and must be what is written today.
//!
//! `tests/fixtures/v1/`: `pack.bin`, its 4+2 stripe under the paths that a site would have, and `keys.json` with every
//! secret and what the pack holds. `BLOCKHOUSE_WRITE_FIXTURES=1` writes them anew; after the release of version 1 that
//! must never change a byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

mod flips;
mod make;

use std::fs;
use std::path::PathBuf;

use blockhouse_crypto::hash::content;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::chunk::{ChunkOpener, ChunkRef, IdRule, SealedChunk};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_pipeline::domain::{DomainKind, VaultSecret, WriteSecrets};
use blockhouse_pipeline::pack::{PackBuilder, PackKeys, PackNonces, TRAILER_LEN, check_pack, open_trailer};
use blockhouse_pipeline::shard::{ShardName, UncheckedShard, VerifiedShard};
use blockhouse_pipeline::stripe::{StripeSigner, build_stripe, rebuild_pack};
use blockhouse_types::{Account, ShardIndex, SourceId, StripeId, VaultId};
use serde_json::Value;

/// The golden files as they are checked in.
struct Golden {
    keys: Value,
    pack: Vec<u8>,
}

impl Golden {
    fn folder() -> PathBuf {
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where")).join("tests/fixtures/v1")
    }

    fn open() -> Self {
        if std::env::var_os("BLOCKHOUSE_WRITE_FIXTURES").is_some() {
            // Several tests of one process come here: the files are made once.
            static MADE: std::sync::Once = std::sync::Once::new();
            MADE.call_once(|| make::write(&Self::folder()));
        }
        let keys = serde_json::from_slice(&fs::read(Self::folder().join("keys.json")).unwrap()).unwrap();
        Self { keys, pack: fs::read(Self::folder().join("pack.bin")).unwrap() }
    }

    fn text(&self, name: &str) -> &str {
        self.keys[name].as_str().unwrap()
    }

    fn secret(&self, name: &str) -> Secret {
        Secret::new(hex::decode(self.text(name)).unwrap().try_into().unwrap())
    }

    fn vault(&self) -> VaultId {
        self.text("vault_id").parse().unwrap()
    }

    fn write_secrets(&self) -> WriteSecrets {
        let first_account: Account = self.text("first_account").parse().unwrap();
        VaultSecret::new(self.secret("vault_secret")).write_secrets(first_account)
    }

    fn pack_keys(&self) -> PackKeys {
        PackKeys::new(&self.secret("index_key"))
    }

    fn shard_names(&self) -> Vec<ShardName> {
        let stripe: StripeId = self.text("stripe_id").parse().unwrap();
        (0..6).map(|index| ShardName { stripe, index: ShardIndex(index) }).collect()
    }

    fn shard_file(name: ShardName) -> Vec<u8> {
        fs::read(Self::folder().join(name.to_string())).unwrap()
    }

    fn shards(&self) -> Vec<VerifiedShard> {
        let verify = |name| UncheckedShard::new(Self::shard_file(name)).verify(&self.vault(), name).unwrap();
        self.shard_names().into_iter().map(verify).collect()
    }

    /// The references in `keys.json`, in the order of the pack; true for those under a random key.
    fn references(&self) -> Vec<(ChunkRef, bool)> {
        let reference = |chunk: &Value| {
            let key: [u8; 32] = hex::decode(chunk["key"].as_str().unwrap()).unwrap().try_into().unwrap();
            let reference = ChunkRef {
                id: chunk["id"].as_str().unwrap().parse().unwrap(),
                key: Secret::new(key),
                plain_len: chunk["plain_len"].as_u64().unwrap().try_into().unwrap(),
            };
            (reference, chunk["rule"] == "random key")
        };
        self.keys["chunks"].as_array().unwrap().iter().map(reference).collect()
    }
}

#[test]
fn secrets_derive_as_they_did() {
    let golden = Golden::open();
    let secrets = golden.write_secrets();
    assert_eq!(secrets.cut_seed.to_string(), golden.text("cut_seed"));
    assert_eq!(secrets.index_key, golden.secret("index_key"));
    assert_eq!(secrets.writer_domain, golden.secret("writer_domain"));
    assert_eq!(secrets.vault_domain, golden.secret("vault_domain"));
    assert_eq!(secrets.chain_domain, golden.secret("chain_domain"));
    let source: SourceId = golden.text("source_id").parse().unwrap();
    for (kind, id, key) in
        [(DomainKind::Writer, "id_subkey", "key_subkey"), (DomainKind::Source, "source_id_subkey", "source_key_subkey")]
    {
        let domain = secrets.domain(kind, source);
        assert_eq!((domain.id_subkey(), domain.key_subkey()), (&golden.secret(id), &golden.secret(key)));
    }
}

#[test]
fn every_chunk_of_the_pack_opens_to_what_it_was() {
    let golden = Golden::open();
    let table = check_pack(&golden.pack_keys(), &golden.pack).unwrap();
    let (plains, id_subkey) = (make::plain_chunks(&golden.write_secrets()), golden.secret("id_subkey"));
    assert_eq!(table.entries().len(), plains.len());
    let mut codecs = Vec::new();
    for (((reference, random), entry), plain) in golden.references().iter().zip(table.entries()).zip(&plains) {
        let rule = if *random { IdRule::RandomKey } else { IdRule::Domain(&id_subkey) };
        let sealed = &golden.pack[entry.range()];
        let opened = ChunkOpener::new().open(reference, rule, (entry.codec, sealed)).unwrap();
        assert_eq!(&opened, plain);
        assert_eq!((entry.id, entry.plain_len), (reference.id, reference.plain_len));
        codecs.push(entry.codec);
    }
    assert!(codecs.contains(&Codec::Stored) && codecs.contains(&Codec::Zstd));
    for (chunk, plain) in golden.keys["chunks"].as_array().unwrap().iter().zip(&plains) {
        assert_eq!(chunk["plain_blake3"], hex::encode(content(plain)));
    }
}

#[test]
fn cuts_ids_and_keys_are_what_they_were() {
    let golden = Golden::open();
    let secrets = golden.write_secrets();
    let stream = make::stream();
    let cut: Vec<&[u8]> = Cutter::new(secrets.cut_seed).chunks(Grain::Usual, &stream).collect();
    assert!(cut.len() > 2);
    let domain = secrets.domain(DomainKind::Writer, golden.text("source_id").parse().unwrap());
    for (plain, (reference, _)) in cut.iter().zip(golden.references()) {
        assert_eq!(ChunkRef::of(&domain, plain).unwrap(), reference);
    }
}

/// What zstd makes of a chunk may change with its release; everything around it may not.
#[test]
fn the_same_sealed_chunks_give_the_same_pack() {
    let golden = Golden::open();
    let keys = golden.pack_keys();
    let table = check_pack(&keys, &golden.pack).unwrap();
    let trailer = open_trailer(&keys, golden.pack.len(), golden.pack.last_chunk().unwrap()).unwrap();
    let nonce = |at: usize| golden.pack[at..at + 12].try_into().unwrap();
    let nonces =
        PackNonces { table: nonce(trailer.table_range().start), trailer: nonce(golden.pack.len() - TRAILER_LEN) };
    let mut builder = PackBuilder::with_limit(0);
    for entry in table.entries() {
        let (id, codec, plain_len) = (entry.id, entry.codec, entry.plain_len);
        let bytes = golden.pack[entry.range()].to_vec();
        assert_eq!(builder.push(&SealedChunk { id, codec, bytes, plain_len }), Ok(entry.offset));
    }
    assert!(builder.finish(&keys, nonces).unwrap().bytes() == golden.pack);
}

#[test]
fn the_same_pack_gives_the_same_shards() {
    let golden = Golden::open();
    let account = AccountSecret::try_new(&golden.secret("writer_secret")).unwrap();
    assert_eq!(account.account().to_string(), golden.text("writer_account"));
    let session = golden.text("session_id").parse().unwrap();
    let signer = StripeSigner { vault: golden.vault(), session, account: &account };
    let coder = Coder::new(golden.text("code").parse().unwrap());
    let stripe = build_stripe(&coder, signer, golden.pack.clone()).unwrap();
    assert_eq!(stripe.id.to_string(), golden.text("stripe_id"));
    for (shard, name) in stripe.shards.iter().zip(golden.shard_names()) {
        assert!(shard.to_vec() == Golden::shard_file(name), "{name}");
    }
}

#[test]
fn any_four_shards_give_back_the_pack() {
    let golden = Golden::open();
    let coder = Coder::new(golden.text("code").parse().unwrap());
    let all = golden.shards();
    for shard in &all {
        let writer = shard.header().writer.verify(&golden.vault(), shard.header().stripe).unwrap();
        assert_eq!(writer.account().to_string(), golden.text("writer_account"));
    }
    for lost in 0..6 {
        for other in 0..lost {
            let left: Vec<_> = all.iter().filter(|shard| ![lost, other].contains(&shard.index().0)).cloned().collect();
            assert!(rebuild_pack(&coder, &left).unwrap() == golden.pack, "without {other} and {lost}");
        }
    }
}
