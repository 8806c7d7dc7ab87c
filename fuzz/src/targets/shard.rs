//! Targets for shard files as a site may give them back.

use std::sync::LazyLock;

use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::shard::{ShardName, ShardPrefix, UncheckedShard, VerifiedShard, prefix_len};
use blockhouse_pipeline::stripe::rebuild_pack;
use blockhouse_types::{ShardIndex, VaultId};
use bytes::Bytes;

use crate::seeds::{golden, golden_json, hex32};
use crate::{Target, Verdict};

/// The golden stripe.
struct Golden {
    vault: VaultId,
    names: Vec<ShardName>,
    files: Vec<Vec<u8>>,
    pack: Vec<u8>,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let keys = golden_json("pipeline", "keys.json");
    let stripe = keys["stripe_id"].as_str().unwrap().parse().unwrap();
    let names: Vec<_> = (0..6).map(|index| ShardName { stripe, index: ShardIndex(index) }).collect();
    let files = names.iter().map(|name| golden("pipeline", &name.to_string())).collect();
    Golden { vault: VaultId::new(hex32(&keys["vault_id"])), names, files, pack: golden("pipeline", "pack.bin") }
});

fn seeds() -> Vec<Vec<u8>> {
    GOLDEN.files.clone()
}

fn verify(bytes: &[u8], name: ShardName) -> Result<VerifiedShard, blockhouse_pipeline::shard::ShardError> {
    UncheckedShard::new(bytes.to_vec()).verify(&GOLDEN.vault, name)
}

/// A whole shard, under each of the names that it may be given: what is accepted is what was written.
pub(super) const SHARD: Target = Target {
    name: "shard",
    decoders: &["pipeline/shard/verify.rs::verify", "pipeline/shard/writer.rs::verify"],
    run: |bytes| {
        let mut verdict = Verdict::Refused;
        for (name, file) in GOLDEN.names.iter().zip(&GOLDEN.files) {
            let result = verify(bytes, *name);
            if let Ok(shard) = &result {
                let header = shard.header();
                assert!(file.ends_with(shard.payload()), "an altered payload was returned as good");
                Verdict::of(header.writer.verify(&GOLDEN.vault, header.stripe));
            }
            if Verdict::of(result) == Verdict::Accepted {
                verdict = Verdict::Accepted;
            }
        }
        verdict
    },
    seeds,
};

/// The beginning of a shard, read alone, and then a range of its payload.
pub(super) const PREFIX: Target = Target {
    name: "shard-prefix",
    decoders: &[
        "pipeline/shard/prefix.rs::verify",
        "pipeline/shard/prefix.rs::verify_range",
        "pipeline/shard/prefix.rs::prefix_len",
    ],
    run: |bytes| {
        Verdict::of(prefix_len(bytes));
        let result = ShardPrefix::verify(bytes, &GOLDEN.vault, GOLDEN.names[0]);
        if let Ok(prefix) = &result {
            let start = prefix.header().shape.prefix_len();
            let payload = Bytes::copy_from_slice(bytes.get(start..).unwrap_or_default());
            if let Ok(range) = prefix.verify_range(0, payload) {
                assert!(GOLDEN.files[0][start..].starts_with(range.bytes()), "an altered range was returned as good");
            }
        }
        Verdict::of(result)
    },
    seeds: || vec![GOLDEN.files[0].clone()],
};

/// The name of a shard at a site.
pub(super) const NAME: Target = Target {
    name: "shard-name",
    decoders: &["pipeline/shard.rs::from_str"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        Verdict::canonical(bytes, text.parse::<ShardName>(), |name| name.to_string().into_bytes())
    },
    seeds: || GOLDEN.names.iter().map(|name| name.to_string().into_bytes()).collect(),
};

/// A pack out of shards, one of them changed: the pack, or an error.
pub(super) const REBUILD: Target = Target {
    name: "rebuild",
    decoders: &["pipeline/stripe.rs::rebuild_pack"],
    run: |bytes| {
        let coder = Coder::new("4+2".parse().unwrap());
        let changed = verify(bytes, GOLDEN.names[5]);
        let healthy = (0..4).map(|at| verify(&GOLDEN.files[at], GOLDEN.names[at]).unwrap());
        let verdict = if changed.is_ok() { Verdict::Accepted } else { Verdict::Refused };
        let shards: Vec<_> = changed.into_iter().chain(healthy.skip(1)).collect();
        if let Ok(pack) = rebuild_pack(&coder, &shards) {
            assert!(pack == GOLDEN.pack, "another pack was rebuilt");
        }
        verdict
    },
    seeds: || vec![GOLDEN.files[5].clone()],
};
