//! Targets for anchors: what anybody may hand over as proof that a block was seen outside, or put on the ledger as such.

use alloy_primitives::{Address, B256, Bytes};
use blockhouse_homes::external::parse_account_key;
use blockhouse_ledger::BlockPlace;
use blockhouse_ledger::anchor::{
    AnchorFile, Attestation, AttestationKind, BitcoinHeader, COSIGNATURE_LEN, Cosignature, EvmAnchor, Ots, Timestamp,
};
use blockhouse_types::BlockHash;

use super::ledger::objects;
use crate::{Target, Verdict};

const GENESIS: BlockHash = BlockHash::new([1; 32]);

/// The block of the golden ledger at that height.
fn place(height: usize) -> BlockPlace {
    let object = &objects()[height];
    BlockPlace { chain_id: object.chain_id, height: object.block.header.number, hash: object.hash() }
}

fn evm() -> EvmAnchor {
    EvmAnchor {
        chain_id: 1,
        genesis: GENESIS,
        point: Address::repeat_byte(7),
        header: alloy_rlp::encode(&objects()[2].block.header).into(),
        transaction_index: 0,
        transaction_receipt: Bytes::from_static(&[2, 0xc0]),
        proof: vec![Bytes::from_static(&[0xc0])],
        log_index: 0,
    }
}

/// An anchor file, and the check of all that is in it.
pub(super) const ANCHOR_FILE: Target = Target {
    name: "anchor-file",
    decoders: &["ledger/anchor.rs::parse"],
    run: |bytes| {
        let result = AnchorFile::parse(bytes);
        if let Ok(file) = &result {
            let attested = file.check(GENESIS, &place(1)).is_ok();
            assert!(!attested, "nothing that could be a seed was ever signed");
        }
        Verdict::canonical(bytes, result, AnchorFile::to_bytes)
    },
    seeds: || {
        let headers: Vec<_> = objects()[2..].iter().map(|object| object.block.header.clone()).collect();
        let attestations = vec![
            Attestation { height: 2, kind: AttestationKind::Witness, data: vec![7; COSIGNATURE_LEN].into() },
            Attestation { height: 3, kind: AttestationKind::Evm, data: evm().encode().into() },
        ];
        vec![AnchorFile::new(GENESIS, &place(1), &headers, attestations).to_bytes()]
    },
};

/// The data of an anchor on an outside chain.
pub(super) const EVM_ANCHOR: Target = Target {
    name: "evm-anchor",
    decoders: &["ledger/anchor/evm.rs::decode"],
    run: |bytes| {
        let result = EvmAnchor::decode(bytes);
        if let Ok(anchor) = &result {
            assert!(anchor.check(B256::repeat_byte(9), &place(1)).is_err(), "what was never anchored was proved");
        }
        Verdict::canonical(bytes, result, EvmAnchor::encode)
    },
    seeds: || vec![evm().encode()],
};

/// A witness's signature.
pub(super) const COSIGNATURE: Target = Target {
    name: "cosignature",
    decoders: &["ledger/anchor/cosignature.rs::decode"],
    run: |bytes| {
        let result = Cosignature::decode(bytes);
        if let Ok(cosignature) = &result {
            assert!(cosignature.check(GENESIS, &place(1)).is_err(), "what nobody signed was taken");
        }
        Verdict::canonical(bytes, result, Cosignature::encode)
    },
    seeds: || vec![vec![7; COSIGNATURE_LEN]],
};

/// The key of an account that pays outside.
pub(super) const ACCOUNT_KEY: Target = Target {
    name: "account-key",
    decoders: &["homes/external/key_file.rs::parse_account_key"],
    run: |bytes| match std::str::from_utf8(bytes).ok().and_then(parse_account_key) {
        Some(_) => Verdict::Accepted,
        None => Verdict::Refused,
    },
    seeds: || vec![format!("0x{}\n", "07".repeat(32)).into_bytes()],
};

/// An OpenTimestamps proof as the reference implementation writes it: a nonce, two calendars, a Bitcoin block.
const OTS_SEED: &str = "004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e892940108d36e0ed8035583b808b89cf2649d17cfa23aa185149684707f5607c558da8fe5ff0083dfe30d2ef90c8e141368747470733a2f2f626f622e6578616d706c65fff010000102030405060708090a0b0c0d0e0f08ff0083dfe30d2ef90c8e1f1e68747470733a2f2f616c6963652e6578616d706c652f63616c656e646172f12007070707070707070707070707070707070707070707070707070707070707070808000588960d73d7190103f7ef15f2f3670001010101010101010477686174";

/// An OpenTimestamps proof.
pub(super) const OTS: Target = Target {
    name: "ots",
    decoders: &["ledger/anchor/ots.rs::decode"],
    run: |bytes| {
        let result = Ots::decode(bytes);
        if let Ok(ots) = &result {
            let claims = ots.claims();
            if let Some(first) = claims.first() {
                ots.clone().complete(&first.message, &ots.timestamp);
            }
        }
        Verdict::canonical(bytes, result, Ots::encode)
    },
    seeds: || vec![hex::decode(OTS_SEED).unwrap()],
};

/// A calendar's answer.
pub(super) const CALENDAR_ANSWER: Target = Target {
    name: "calendar-answer",
    decoders: &["ledger/anchor/ots.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, Timestamp::decode(bytes, 32), Timestamp::encode),
    seeds: || vec![Ots::decode(&hex::decode(OTS_SEED).unwrap()).unwrap().timestamp.encode()],
};

/// The header of a Bitcoin block: that of block 0.
pub(super) const BITCOIN_HEADER: Target = Target {
    name: "bitcoin-header",
    decoders: &["ledger/anchor/bitcoin.rs::decode"],
    run: |bytes| {
        let result = BitcoinHeader::decode(bytes);
        if let Ok(header) = &result {
            assert!(header.hash.starts_with(&[0; 4]), "less work than ever was enough");
        }
        Verdict::of(result)
    },
    seeds: || {
        let root = "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a";
        vec![hex::decode(format!("01000000{}{root}29ab5f49ffff001d1dac2b7c", "00".repeat(32))).unwrap()]
    },
};
