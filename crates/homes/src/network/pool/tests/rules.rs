//! What is refused without a look at the state, in the words that users know.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_ledger::genesis::DEFAULT_GAS_LIMIT;
use blockhouse_ledger::{Fork, Genesis};
use blockhouse_types::{RecipientSetHash, VaultId};

use crate::network::pool::limits::TRANSACTION_MAX;
use crate::network::pool::{Limits, Pool, Refusal, Rules};

const CHAIN: u64 = (1 << 32) + 7;

fn secret(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

fn address(number: u8) -> Address {
    Address::new(secret(number).account().to_bytes())
}

fn rules() -> Rules {
    let genesis = Genesis {
        vault_id: VaultId::new([1; 32]),
        chain_id: CHAIN,
        owner: secret(1).account(),
        recovery: Vec::new(),
        ledger_key: [9; 32],
        time: 1_700_000_000,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([5; 32]),
        governance: None,
    };
    Rules { genesis, system: address(66), gas_max: DEFAULT_GAS_LIMIT - 1_000_000, recall: Arc::default() }
}

fn signed<T: SignableTransaction<Signature>>(number: u8, tx: T) -> TxEnvelope
where
    alloy_consensus::Signed<T>: Into<TxEnvelope>,
{
    let [rs @ .., v] = secret(number).sign(&tx.signature_hash().0);
    let signature = Signature::from_bytes_and_parity(&rs, v == 1);
    tx.into_signed(signature).into()
}

/// A transaction that is taken.
fn good() -> TxEip1559 {
    let to = TxKind::Call(Address::ZERO);
    TxEip1559 { chain_id: CHAIN, gas_limit: 30_000, to, ..TxEip1559::default() }
}

fn refusal(tx: TxEip1559) -> String {
    rules().examine(signed(1, tx), 1_700_000_000).unwrap_err().to_string()
}

#[test]
fn both_kinds_are_taken_with_their_sender() {
    let legacy = TxLegacy { chain_id: Some(CHAIN), gas_limit: 30_000, ..TxLegacy::default() };
    let legacy = TxLegacy { to: TxKind::Call(Address::ZERO), ..legacy };
    for tx in [signed(1, good()), signed(1, legacy)] {
        let examined = rules().examine(tx.clone(), 1_700_000_000).unwrap();
        assert_eq!((examined.sender(), examined.hash(), examined.tx()), (address(1), *tx.tx_hash(), &tx));
        assert_eq!(rules().examine_bytes(&examined.bytes(), 1_700_000_000), Ok(examined));
    }
}

#[test]
fn what_breaks_a_rule_is_refused_in_words_with_numbers() {
    let create = |length: usize| TxEip1559 {
        to: TxKind::Create,
        input: vec![1; length].into(),
        gas_limit: 20_000_000,
        ..good()
    };
    let cases = [
        (TxEip1559 { chain_id: 5, ..good() }, "invalid chain id for signer: have 5 want 4294967303"),
        (
            TxEip1559 { max_fee_per_gas: 3, ..good() },
            "there are no fees on this ledger: the gas price must be 0, the transaction offers up to 3 wei for each unit",
        ),
        (TxEip1559 { value: U256::from(1), ..good() }, "there is no value on this ledger: the value must be 0"),
        (TxEip1559 { gas_limit: 20_999, ..good() }, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        (
            TxEip1559 { gas_limit: 21_016, input: Bytes::from_static(&[1, 1]), ..good() },
            "intrinsic gas too low: gas 21016, minimum needed 21032",
        ),
        (
            TxEip1559 { gas_limit: 29_000_001, ..good() },
            "exceeds block gas limit: gas limit 29000001, a block has at most 29000000 for transactions",
        ),
        (create(49_153), "max initcode size exceeded: code size 49153, limit 49152"),
        (TxEip1559 { nonce: u64::MAX, ..good() }, "nonce has max value"),
    ];
    for (tx, text) in cases {
        assert_eq!(refusal(tx), text);
    }
    assert!(rules().examine(signed(1, create(49_152)), 1_700_000_000).is_ok());
    let long = TxEip1559 { input: vec![0; TRANSACTION_MAX].into(), gas_limit: 20_000_000, ..good() };
    assert!(refusal(long).starts_with("oversized data: transaction size 131"));
    let typed = TxEip2930 { chain_id: CHAIN, gas_limit: 30_000, ..TxEip2930::default() };
    let found = rules().examine(signed(1, typed), 1_700_000_000).unwrap_err();
    assert_eq!(found, Refusal::Type { found: 1 });
    let nowhere = TxLegacy { gas_limit: 30_000, ..TxLegacy::default() };
    assert_eq!(rules().examine(signed(1, nowhere), 1_700_000_000).unwrap_err(), Refusal::NoChain);
}

#[test]
fn the_ledgers_own_account_sends_nothing_through_the_pool() {
    let found = rules().examine(signed(66, good()), 1_700_000_000).unwrap_err();
    assert_eq!(found, Refusal::System { sender: address(66) });
}

#[test]
fn bytes_that_are_no_transaction_are_refused_and_counted() {
    let bytes = rules().examine(signed(1, good()), 1_700_000_000).unwrap().bytes();
    let mut pool = Pool::new(Limits::default());
    let longer = [&bytes[..], &[0]].concat();
    for wrong in [&bytes[1..], &bytes[..bytes.len() - 1], &longer, &[], &vec![0; TRANSACTION_MAX + 1]] {
        let refusal = rules().examine_bytes(wrong, 1_700_000_000).unwrap_err();
        assert!(refusal.is_lasting(), "{refusal}");
        pool.count_refused([1; 32], &refusal);
    }
    assert_eq!(pool.peer(&[1; 32]).invalid, 5);
    assert_eq!(pool.peers().count(), 1);
}
