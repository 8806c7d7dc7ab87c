//! Targets for the pool of home 2: its journal, and the transactions that anyone sends.

use std::sync::LazyLock;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, TxKind};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::network::pool::journal::{Fault, Journal, decode};
use blockhouse_homes::network::pool::{Examined, Rules};
use blockhouse_ledger::Request;

use super::ledger::objects;
use super::vault::in_folder;
use crate::{Target, Verdict};

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let genesis = objects()[0].genesis.clone().unwrap();
    Rules { gas_max: genesis.gas_limit, genesis, system: Address::repeat_byte(9), recall: std::sync::Arc::default() }
});

fn transaction(nonce: u64, length: usize) -> TxEnvelope {
    let sender = AccountSecret::try_new(&Secret::new([5; 32])).unwrap();
    let (to, input) = (TxKind::Call(Address::ZERO), Bytes::from(vec![7; length]));
    Request { chain_id: RULES.genesis.chain_id, nonce, to, input, gas: 1_000_000 }.sign(&sender)
}

/// The journal. What is read of it is in it, and a file without a fault is the one that is written from what it holds.
pub(super) const JOURNAL: Target = Target {
    name: "pool-journal",
    decoders: &["homes/network/pool/journal/record.rs::decode"],
    run: |bytes| {
        let decoded = decode(bytes);
        if let Ok(decoded) = &decoded {
            let total: usize = decoded.transactions.iter().map(|tx| tx.len()).sum();
            let torn = if let Some(Fault::Torn { bytes }) = decoded.fault { bytes } else { 0 };
            assert!(total + torn <= bytes.len(), "more is read than there is");
            if decoded.fault.is_some() {
                return Verdict::Refused;
            }
        }
        Verdict::of(decoded)
    },
    seeds: || {
        in_folder(|folder| {
            let path = folder.join("pool");
            let (mut journal, _) = Journal::open(&path).unwrap();
            let empty = std::fs::read(&path).unwrap();
            let examine = |nonce, length| RULES.examine(transaction(nonce, length), RULES.genesis.time).unwrap();
            journal.append(&[examine(0, 0), examine(1, 40), examine(2, 700)]).unwrap();
            vec![empty, std::fs::read(&path).unwrap()]
        })
    },
};

/// A transaction as peers and users send it: what is taken has one encoding, and is charged for all of it.
pub(super) const TRANSACTION: Target = Target {
    name: "pool-transaction",
    decoders: &[],
    run: |bytes| {
        let examined = RULES.examine_bytes(bytes, RULES.genesis.time);
        if let Ok(examined) = &examined {
            assert!(examined.length() >= bytes.len(), "a transaction counts for less than its bytes");
        }
        Verdict::canonical(bytes, examined, Examined::bytes)
    },
    seeds: || vec![transaction(0, 0).encoded_2718(), transaction(3, 100).encoded_2718()],
};
