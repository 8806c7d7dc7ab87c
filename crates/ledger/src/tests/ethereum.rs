//! Ethereum's own tests of blocks, through the ledger's machine.
//!
//! The bytes of blocks, the run of transactions, receipts, the way from the run to the tries, their roots and proofs are the
//! ledger's own code; only the rules before and behind the transactions are Ethereum's ([`rules`]).
//! Files, source and licence: `tests/fixtures/ethereum/SOURCES.md`.

mod bytes;
mod fixture;
mod rules;
mod tree;

use std::fs;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::Nibbles;

use self::fixture::{Account, Named, SubTest, files, folder};
use self::rules::Network;
use self::tree::{Node, Tree};
use crate::block::decode_block;
use crate::state::{MemoryState, State, check_whole, encode_record, slot_key};
use crate::trie::{check_inclusion, list_entries, list_key};

/// How many files, sub-tests, valid and invalid blocks there are.
const COUNTS: [usize; 4] = [51, 51, 144, 45];

/// What the exceptions of the files are here: a refusal must hold the text behind its exception. Where two stand, the block breaks
/// two rules and the second one is met first.
const REFUSALS: [(&str, &str); 21] = [
    ("BlockException.EXTRA_DATA_TOO_BIG", "too much extra data"),
    ("BlockException.GASLIMIT_TOO_BIG", "a gas limit out of bounds"),
    ("BlockException.IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS", "a difficulty"),
    ("BlockException.IMPORT_IMPOSSIBLE_LEGACY", "another base fee"),
    ("BlockException.IMPORT_IMPOSSIBLE_LEGACY_WRONG_PARENT", "an ommer with another base fee"),
    ("BlockException.IMPORT_IMPOSSIBLE_LEGACY_WRONG_PARENT", "another base fee"),
    ("BlockException.IMPORT_IMPOSSIBLE_LONDON_WRONG_PARENT", "an ommer with a gas limit too far from its parent's"),
    ("BlockException.IMPORT_IMPOSSIBLE_LONDON_WRONG_PARENT", "another base fee"),
    ("BlockException.IMPORT_IMPOSSIBLE_UNCLES_OVER_PARIS", "ommers"),
    ("BlockException.INVALID_BLOCK_NUMBER", "a number that does not follow"),
    ("BlockException.INVALID_BLOCK_TIMESTAMP_OLDER_THAN_PARENT", "a time not after its parent's"),
    ("BlockException.INVALID_GASLIMIT", "a gas limit too far from its parent's"),
    ("BlockException.INVALID_GAS_USED", "an amount of gas used that its execution does not give"),
    ("BlockException.INVALID_GAS_USED", "a state root that its execution does not give"),
    ("BlockException.INVALID_LOG_BLOOM", "a bloom filter that its execution does not give"),
    ("BlockException.INVALID_RECEIPTS_ROOT", "a receipts root that its execution does not give"),
    ("BlockException.INVALID_STATE_ROOT", "a state root that its execution does not give"),
    ("BlockException.INVALID_TRANSACTIONS_ROOT", "a transactions root that its execution does not give"),
    ("BlockException.UNCLE_PARENT_INCORRECT", "an ommer of no ancestor"),
    ("BlockException.UNKNOWN_PARENT", "no known parent"),
    ("BlockException.UNKNOWN_PARENT_ZERO", "no known parent"),
];

/// The same of exceptions of transactions.
const TRANSACTION_REFUSALS: [(&str, &str); 3] = [
    ("TransactionException.INSUFFICIENT_MAX_FEE_PER_GAS", "gas price is less than basefee"),
    ("TransactionException.INTRINSIC_GAS_TOO_LOW", "call gas cost (53000) exceeds the gas limit (30000)"),
    ("TransactionException.TYPE_NOT_SUPPORTED", "Eip1559 is not supported"),
];

#[test]
fn every_block_of_ethereums_tests_comes_out_as_it_says() {
    let (mut counts, mut skips) = ([0; 4], Vec::new());
    for (file, tests) in files() {
        counts[0] += 1;
        for (name, test) in tests {
            counts[1] += 1;
            counts[2] += test.blocks.iter().filter(|given| given.block_header.is_some()).count();
            counts[3] += test.blocks.iter().filter(|given| given.expect_exception.is_some()).count();
            match Network::of(&test.network) {
                Some(network) => run(&name, network, &test),
                None => skips.push(format!("skip {file} {name}: the rules of {} are not known here", test.network)),
            }
        }
    }
    for skip in &skips {
        println!("{skip}");
    }
    assert_eq!(counts, COUNTS);
    let listed = fs::read_to_string(folder().join("skips.txt")).unwrap();
    let listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(skips, listed, "what was skipped is not what skips.txt lists");
}

fn run(name: &str, network: Network, test: &SubTest) {
    let genesis = decode_block(&test.genesis_rlp).unwrap();
    let mut tree = Tree::begin(network, genesis, &test.pre);
    check_block(name, &test.genesis_block_header, tree.head());
    for (index, given) in test.blocks.iter().enumerate() {
        let place = format!("{name}, block {index}");
        match (tree.take(&given.rlp), &given.block_header, &given.expect_exception) {
            (Ok(node), Some(header), None) => check_block(&place, header, node),
            (Err(refusal), None, Some(exception)) => {
                let mut known = REFUSALS.iter().chain(&TRANSACTION_REFUSALS);
                let is_known = known.any(|(name, text)| name == exception && refusal.ends_with(text));
                assert!(is_known, "{place}: refused for {exception}: {refusal}");
            }
            (Ok(_), _, exception) => panic!("{place}: taken in spite of {exception:?}"),
            (Err(refusal), _, exception) => panic!("{place}: refused: {refusal}; {exception:?}"),
        }
    }
    assert_eq!(tree.head, test.lastblockhash, "{name}: the head");
    let Node { block, state, .. } = tree.head();
    assert!(!test.post_state.is_empty(), "{name}");
    for (address, account) in &test.post_state {
        check_account(&format!("{name}, {address}"), &State::at(block.header.state_root, state), address, account);
    }
}

/// A block is what the file says, and everything in it and behind it is proved under its header.
fn check_block(place: &str, named: &Named, node: &Node) {
    let Node { block, receipts, state, .. } = node;
    let header = &block.header;
    assert_eq!(header.hash_slow(), named.hash, "{place}");
    assert_eq!(header.state_root, named.state_root, "{place}");
    assert_eq!(header.receipts_root, named.receipt_trie, "{place}");
    assert_eq!(header.transactions_root, named.transactions_trie, "{place}");
    assert_eq!(header.logs_bloom.as_slice(), named.bloom.as_ref(), "{place}");
    assert_eq!(U256::from(header.gas_used), named.gas_used, "{place}");
    let transactions: Vec<Vec<u8>> = block.body.transactions.iter().map(Encodable2718::encoded_2718).collect();
    let receipts: Vec<Vec<u8>> = receipts.iter().map(Encodable2718::encoded_2718).collect();
    check_list(place, header.transactions_root, &transactions);
    check_list(place, header.receipts_root, &receipts);
    assert_eq!(check_whole(header.state_root, state).unwrap(), state.node_count(), "{place}: nodes of another state");
}

/// Every item of a list is proved at its place, and no other bytes are.
fn check_list(place: &str, root: B256, items: &[Vec<u8>]) {
    let entries = list_entries(items);
    assert_eq!(entries.root(), root, "{place}");
    for (index, item) in (0..).zip(items) {
        let proof = entries.proof(list_key(index));
        check_inclusion(root, &list_key(index), item, &proof).unwrap();
        check_inclusion(root, &list_key(index), b"another", &proof).unwrap_err();
    }
}

/// An account is what the file says, and so are its slots; all are proved under the root of the state.
fn check_account(place: &str, state: &State<'_, MemoryState>, address: &Address, account: &Account) {
    let record = state.account(address).unwrap().unwrap_or_else(|| panic!("{place}: it is not there"));
    assert_eq!((record.balance, U256::from(record.nonce)), (account.balance, account.nonce), "{place}");
    assert_eq!(state.code(&record.code_hash).unwrap(), account.code, "{place}");
    let proof = state.prove_account(address).unwrap();
    check_entry(state.root(), keccak256(address), &encode_record(&record), &proof);
    for (key, value) in &account.storage {
        assert_eq!(state.slot(address, key).unwrap(), *value, "{place}, slot {key}");
        let proof = state.prove_slot(address, key).unwrap();
        check_entry(record.storage_root, slot_key(key), &alloy_rlp::encode(value), &proof);
    }
}

fn check_entry(root: B256, key: B256, value: &[u8], proof: &[Bytes]) {
    check_inclusion(root, &Nibbles::unpack(key), value, proof).unwrap();
    check_inclusion(root, &Nibbles::unpack(key), b"another", proof).unwrap_err();
}
