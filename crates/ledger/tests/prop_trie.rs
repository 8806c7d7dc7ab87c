//! Roots and proofs against the definition in the yellow paper, written down as it stands there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use blockhouse_ledger::proof::prove_account;
use blockhouse_ledger::state::{
    MemoryState, State, StateChanges, StateError, StateNodes, StatePlace, StateTrie, check_from, check_whole,
};
use blockhouse_ledger::trie::{NodeChanges, Nodes, check_inclusion, update};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Appendix B: the encoding of a byte string.
fn rlp_bytes(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => [rlp_length(0x80, bytes.len()), bytes.to_vec()].concat(),
    }
}

/// Appendix B: the encoding of a list of encoded items.
fn rlp_list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    [rlp_length(0xc0, payload.len()), payload].concat()
}

fn rlp_length(base: u8, length: usize) -> Vec<u8> {
    if length < 56 {
        return vec![base + u8::try_from(length).unwrap()];
    }
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    [vec![base + 55 + u8::try_from(digits.len()).unwrap()], digits].concat()
}

/// Appendix C: hex-prefix encoding.
fn hex_prefix(nibbles: &[u8], leaf: bool) -> Vec<u8> {
    let flag = if leaf { 2 } else { 0 };
    let padded = if nibbles.len() % 2 == 1 { [&[flag + 1], nibbles].concat() } else { [&[flag, 0], nibbles].concat() };
    padded.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

type Entry = (Vec<u8>, Vec<u8>);

/// Appendix D: the structural composition `c`.
fn compose(entries: &[Entry], from: usize) -> Vec<u8> {
    if let [(key, value)] = entries {
        return rlp_list(&[rlp_bytes(&hex_prefix(&key[from..], true)), rlp_bytes(value)]);
    }
    let first = &entries[0].0;
    let shared = (from..first.len()).take_while(|at| entries.iter().all(|(key, _)| key[*at] == first[*at])).count();
    if shared > 0 {
        let to = from + shared;
        return rlp_list(&[rlp_bytes(&hex_prefix(&first[from..to], false)), node(entries, to)]);
    }
    let mut items: Vec<_> = (0..16_u8)
        .map(|nibble| {
            let below: Vec<_> = entries.iter().filter(|(key, _)| key[from] == nibble).cloned().collect();
            node(&below, from + 1)
        })
        .collect();
    items.push(rlp_bytes(&[]));
    rlp_list(&items)
}

/// Appendix D: the node cap function `n`.
fn node(entries: &[Entry], from: usize) -> Vec<u8> {
    if entries.is_empty() {
        return rlp_bytes(&[]);
    }
    let composed = compose(entries, from);
    if composed.len() < 32 { composed } else { rlp_bytes(keccak256(composed).as_slice()) }
}

fn slow_root(entries: impl IntoIterator<Item = (B256, Vec<u8>)>) -> B256 {
    let entries: Vec<Entry> = entries
        .into_iter()
        .map(|(key, value)| (key.iter().flat_map(|byte| [byte / 16, byte % 16]).collect(), value))
        .collect();
    if entries.is_empty() {
        return keccak256(rlp_bytes(&[]));
    }
    keccak256(compose(&entries, 0))
}

fn rlp_number(value: U256) -> Vec<u8> {
    rlp_bytes(&value.to_be_bytes_trimmed_vec())
}

fn slow_storage_root(slots: &BTreeMap<U256, U256>) -> B256 {
    slow_root(
        slots
            .iter()
            .filter(|(_, value)| !value.is_zero())
            .map(|(key, value)| (keccak256(key.to_be_bytes::<32>()), rlp_number(*value))),
    )
}

fn number() -> impl Strategy<Value = U256> {
    prop_oneof![Just(U256::ZERO), (0_u64..300).prop_map(U256::from), any::<[u8; 32]>().prop_map(U256::from_be_bytes),]
}

fn slots() -> impl Strategy<Value = BTreeMap<U256, U256>> {
    btree_map(number(), number(), 0..40)
}

/// A trie of which no node is kept.
struct Empty;

impl Nodes for Empty {
    type Error = Infallible;

    fn node(&self, _path: &Nibbles) -> Result<Option<Bytes>, Infallible> {
        Ok(None)
    }
}

fn built(entries: impl IntoIterator<Item = (B256, Vec<u8>)>) -> (B256, NodeChanges) {
    let entries = entries.into_iter().map(|(key, value)| (key, Some(value)));
    update(&Empty, EMPTY_ROOT_HASH, entries).unwrap()
}

fn storage(slots: &BTreeMap<U256, U256>) -> (B256, NodeChanges) {
    let set = slots.iter().filter(|(_, value)| !value.is_zero());
    built(set.map(|(key, value)| (keccak256(key.to_be_bytes::<32>()), rlp_number(*value))))
}

/// A state of some accounts with slots, all without code.
fn state_of(accounts: &BTreeMap<[u8; 20], (u64, BTreeMap<U256, U256>)>) -> (MemoryState, B256) {
    let mut changes = StateChanges::default();
    let mut take = |trie, nodes: NodeChanges| {
        changes.nodes.extend(nodes.into_iter().map(|(path, node)| ((trie, path), node)));
    };
    let mut entries = Vec::new();
    for (account, (nonce, slots)) in accounts {
        let account = keccak256(account);
        let (storage_root, nodes) = storage(slots);
        take(StateTrie::Slots(account), nodes);
        let fields = [
            rlp_number(U256::from(*nonce)),
            rlp_number(U256::ZERO),
            rlp_bytes(storage_root.as_slice()),
            rlp_bytes(keccak256([]).as_slice()),
        ];
        entries.push((account, rlp_list(&fields)));
    }
    let (root, nodes) = built(entries.clone());
    assert_eq!(root, slow_root(entries));
    take(StateTrie::Accounts, nodes);
    let mut state = MemoryState::new();
    state.apply(&changes);
    (state, root)
}

/// Where nodes of that state stand: the root of the accounts, and all nodes of slots.
fn places_of(accounts: &BTreeMap<[u8; 20], (u64, BTreeMap<U256, U256>)>) -> Vec<(StateTrie, Nibbles)> {
    let root = (!accounts.is_empty()).then_some((StateTrie::Accounts, Nibbles::new()));
    let of_slots = accounts.iter().flat_map(|(account, (_, slots))| {
        let trie = StateTrie::Slots(keccak256(account));
        storage(slots).1.into_iter().filter_map(move |(path, node)| node.map(|_| (trie, path)))
    });
    root.into_iter().chain(of_slots).collect()
}

proptest! {
    #[test]
    fn storage_roots_are_those_of_the_definition(slots in slots()) {
        prop_assert_eq!(storage(&slots).0, slow_storage_root(&slots));
    }

    #[test]
    fn state_roots_are_those_of_the_definition(
        accounts in btree_map(any::<[u8; 20]>(), (1..u64::MAX, slots()), 0..12),
    ) {
        let (state, root) = state_of(&accounts);
        prop_assert_eq!(check_whole(root, &state).unwrap(), state.node_count());
    }

    /// Read in steps of any size, a whole state is whole, and one altered or missing node is found wherever it is.
    #[test]
    fn a_state_that_is_read_in_steps_is_read_whole(
        accounts in btree_map(any::<[u8; 20]>(), (1..u64::MAX, slots()), 0..12),
        limit in 0_usize..9,
        which in any::<prop::sample::Index>(),
        is_removed in any::<bool>(),
    ) {
        let (mut state, root) = state_of(&accounts);
        let read = |state: &MemoryState| {
            let mut place = Some(StatePlace::default());
            while let Some(at) = place {
                let next = check_from(root, state, at, limit)?;
                assert!(next != Some(at), "it goes on");
                place = next;
            }
            Ok::<_, StateError<Infallible>>(())
        };
        prop_assert!(read(&state).is_ok());
        let places: Vec<_> = places_of(&accounts);
        prop_assume!(!places.is_empty());
        let place = *which.get(&places);
        let node = state.node(&place.0, &place.1).unwrap().unwrap();
        let mut altered = node.to_vec();
        *altered.last_mut().unwrap() ^= 1;
        let nodes = [(place, (!is_removed).then(|| altered.into()))].into_iter().collect();
        state.apply(&StateChanges { nodes, ..StateChanges::default() });
        prop_assert!(read(&state).is_err());
    }

    /// Every account and slot is proved under the root, and nothing that differs is.
    #[test]
    fn proofs_verify_for_what_is_there_and_for_nothing_else(
        accounts in btree_map(any::<[u8; 20]>(), (1..u64::MAX, slots()), 1..12),
        bit in 0_usize..256,
    ) {
        let (state, root) = state_of(&accounts);
        for (account, (_, slots)) in &accounts {
            let keys: Vec<U256> = slots.keys().copied().collect();
            let proof = prove_account(&State::at(root, &state), Address::new(*account), &keys).unwrap();
            prop_assert!(proof.check(root).is_ok());
            let mut other = proof.clone();
            other.record.nonce ^= 1;
            prop_assert!(other.check(root).is_err());
            let mut other = proof.clone();
            other.nodes.pop();
            prop_assert!(other.check(root).is_err());
            for (at, _) in proof.slots.iter().enumerate().filter(|(_, slot)| !slot.value.is_zero()) {
                let mut other = proof.clone();
                other.slots[at].value ^= U256::ONE << bit;
                prop_assert!(other.slots[at].value.is_zero() || other.check(root).is_err());
            }
        }
    }

    /// T1: nodes made by anyone, under a root made to fit, end in an answer.
    #[test]
    fn crafted_proofs_end_in_an_answer(
        key in vec(0_u8..16, 0..64),
        nodes in vec(crafted_node(), 0..6),
    ) {
        let chained = chain(nodes);
        let root = chained.first().map_or(B256::ZERO, keccak256);
        let _ = check_inclusion(root, &Nibbles::from_nibbles(&key), b"value", &chained);
    }
}

/// A node whose child is yet to be named: an extension or a leaf with a key of any length, or any bytes.
#[derive(Debug, Clone)]
enum Crafted {
    Extension(Vec<u8>),
    Leaf(Vec<u8>),
    Branch(u8),
    Bytes(Vec<u8>),
}

fn crafted_node() -> impl Strategy<Value = Crafted> {
    prop_oneof![
        vec(0_u8..16, 0..70).prop_map(Crafted::Extension),
        vec(0_u8..16, 0..70).prop_map(Crafted::Leaf),
        (0_u8..16).prop_map(Crafted::Branch),
        vec(any::<u8>(), 0..80).prop_map(Crafted::Bytes),
    ]
}

/// Encodes nodes so that each names the next by its hash.
fn chain(nodes: Vec<Crafted>) -> Vec<Bytes> {
    let mut below = rlp_bytes(&[1; 32]);
    let mut encoded: Vec<Bytes> = Vec::new();
    for node in nodes.into_iter().rev() {
        let bytes = match node {
            Crafted::Extension(key) => rlp_list(&[rlp_bytes(&hex_prefix(&key, false)), below]),
            Crafted::Leaf(key) => rlp_list(&[rlp_bytes(&hex_prefix(&key, true)), rlp_bytes(b"value")]),
            Crafted::Branch(nibble) => {
                let mut items = vec![rlp_bytes(&[]); 17];
                items[usize::from(nibble)] = below;
                rlp_list(&items)
            }
            Crafted::Bytes(bytes) => bytes,
        };
        below = rlp_bytes(keccak256(&bytes).as_slice());
        encoded.insert(0, bytes.into());
    }
    encoded
}

/// Keys that together are longer than any key of a trie made a library's walk panic.
#[test]
fn a_path_longer_than_any_key_is_refused() {
    let proof = chain(vec![Crafted::Extension(vec![1; 60]), Crafted::Leaf(vec![1; 60])]);
    let key = Nibbles::from_nibbles([1; 64]);
    assert!(check_inclusion(keccak256(&proof[0]), &key, b"value", &proof).is_err());
}

#[test]
fn a_state_that_lies_about_slots_is_found_out() {
    let slots = |value: u64| BTreeMap::from([(U256::from(1), U256::from(value))]);
    let (mut state, root) = state_of(&BTreeMap::from([([1; 20], (1, slots(2)))]));
    let (account, (_, lie)) = (keccak256([1; 20]), storage(&slots(3)));
    let nodes = lie.into_iter().map(|(path, node)| ((StateTrie::Slots(account), path), node)).collect();
    state.apply(&StateChanges { nodes, ..StateChanges::default() });
    let read = State::at(root, &state).slot(&Address::new([1; 20]), &U256::from(1));
    for error in [read.unwrap_err(), check_whole(root, &state).unwrap_err()] {
        assert!(matches!(error, StateError::Slots { account: found, .. } if found == account), "{error}");
    }
}
