//! Makes the golden files, from nothing but constants: no clock and no random source.

use std::fs;
use std::path::Path;

use blockhouse_crypto::hash::{content, keyed_stream};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::chunk::{ChunkRef, SealedChunk, seal_chunk};
use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::compress::{Compressor, DEFAULT_LEVEL};
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_pipeline::domain::{DomainKind, VaultSecret, WriteSecrets};
use blockhouse_pipeline::pack::{PackBuilder, PackKeys, PackNonces, Table};
use blockhouse_pipeline::stripe::{StripeSigner, build_stripe};
use blockhouse_types::limits::PACK_MIN;
use blockhouse_types::{Account, Code, SessionId, SourceId, VaultId};
use serde_json::{Value, json};

const VAULT: VaultId = VaultId::new([0xa1; 32]);
const SESSION: SessionId = SessionId::new([0xb2; 32]);
const SOURCE: SourceId = SourceId::new([0xc3; 32]);
const FIRST_ACCOUNT: Account = Account::new([0xd4; 20]);
const VAULT_SECRET: Secret = Secret::new([0xe5; 32]);
const WRITER_SECRET: Secret = Secret::new([0xf6; 32]);
const RANDOM_KEY: Secret = Secret::new([0x17; 32]);

/// Bytes that look random and are the same everywhere: BLAKE3's extended output.
fn noise<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    keyed_stream(&Secret::new([0x28; 32]), name.as_bytes(), &mut bytes);
    bytes
}

/// A stream of text, long enough for several chunks.
pub(super) fn stream() -> Vec<u8> {
    let line = |number: u32| {
        let [a, b] = noise::<2>(&number.to_string());
        format!("{number}: {} blocks were sealed by writer {a} at height {}\n", u32::from(b) * 7, number * 31)
    };
    (0..8000).flat_map(|number| line(number).into_bytes()).collect()
}

/// What the pack holds: the stream's chunks, one that does not shrink, one of a single byte, one under a random key.
pub(super) fn plain_chunks(secrets: &WriteSecrets) -> Vec<Vec<u8>> {
    let stream = stream();
    let mut chunks: Vec<Vec<u8>> =
        Cutter::new(secrets.cut_seed).chunks(Grain::Usual, &stream).map(<[u8]>::to_vec).collect();
    chunks.push(noise::<20_000>("dense").to_vec());
    chunks.push(b"!".to_vec());
    chunks.push(b"an object that must not deduplicate".to_vec());
    chunks
}

pub(super) fn write(folder: &Path) {
    let secrets = VaultSecret::new(VAULT_SECRET).write_secrets(FIRST_ACCOUNT);
    let domain = secrets.domain(DomainKind::Writer, SOURCE);
    let plains = plain_chunks(&secrets);
    let mut compressor = Compressor::try_new(DEFAULT_LEVEL).unwrap();
    let mut builder = PackBuilder::with_limit(PACK_MIN);
    let mut references = Vec::new();
    for (at, plain) in plains.iter().enumerate() {
        let random = at + 1 == plains.len();
        let reference =
            if random { ChunkRef::under_random_key(RANDOM_KEY, plain) } else { ChunkRef::of(&domain, plain) }.unwrap();
        let nonce = noise(&format!("nonce of chunk {at}"));
        let sealed: SealedChunk = seal_chunk(&mut compressor, &reference, nonce, plain).unwrap();
        builder.push(&sealed).unwrap();
        references.push((reference, random));
    }
    let nonces = PackNonces { table: noise("nonce of table"), trailer: noise("nonce of trailer") };
    let (pack, table) = builder.finish(&PackKeys::new(&secrets.index_key), nonces).unwrap().into_parts();

    let _ = fs::remove_dir_all(folder.join("shards"));
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("pack.bin"), &pack).unwrap();
    let account = AccountSecret::try_new(&WRITER_SECRET).unwrap();
    let signer = StripeSigner { vault: VAULT, session: SESSION, account: &account };
    let code = Code::try_new(4, 2).unwrap();
    let stripe = build_stripe(&Coder::new(code), signer, pack).unwrap();
    for shard in &stripe.shards {
        let path = folder.join(shard.name.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, shard.to_vec()).unwrap();
    }
    let mut keys = secrets_json(&secrets);
    for (name, value) in [
        ("writer_account", json!(account.account())),
        ("stripe_id", json!(stripe.id)),
        ("code", json!(code.to_string())),
        ("chunks", chunks_json(&plains, &references, &table)),
    ] {
        keys[name] = value;
    }
    fs::write(folder.join("keys.json"), format!("{keys:#}\n")).unwrap();
}

fn secrets_json(secrets: &WriteSecrets) -> Value {
    let text = |secret: &Secret| hex::encode(secret.expose());
    let (writer, source) = (secrets.domain(DomainKind::Writer, SOURCE), secrets.domain(DomainKind::Source, SOURCE));
    json!({
        "vault_id": VAULT,
        "session_id": SESSION,
        "source_id": SOURCE,
        "first_account": FIRST_ACCOUNT,
        "vault_secret": text(&VAULT_SECRET),
        "writer_secret": text(&WRITER_SECRET),
        "cut_seed": secrets.cut_seed.to_string(),
        "index_key": text(&secrets.index_key),
        "writer_domain": text(&secrets.writer_domain),
        "vault_domain": text(&secrets.vault_domain),
        "chain_domain": text(&secrets.chain_domain),
        "id_subkey": text(writer.id_subkey()),
        "key_subkey": text(writer.key_subkey()),
        "source_id_subkey": text(source.id_subkey()),
        "source_key_subkey": text(source.key_subkey()),
    })
}

fn chunks_json(plains: &[Vec<u8>], references: &[(ChunkRef, bool)], table: &Table) -> Value {
    let chunk = |((plain, (reference, random)), entry): ((&Vec<u8>, &(ChunkRef, bool)), &_)| {
        let entry: &blockhouse_pipeline::pack::TableEntry = entry;
        json!({
            "id": reference.id,
            "key": hex::encode(reference.key.expose()),
            "rule": if *random { "random key" } else { "writer domain" },
            "plain_len": reference.plain_len,
            "plain_blake3": hex::encode(content(plain)),
            "codec": entry.codec.tag(),
            "offset": entry.offset,
            "sealed_len": entry.sealed_len,
        })
    };
    plains.iter().zip(references).zip(table.entries()).map(chunk).collect()
}
