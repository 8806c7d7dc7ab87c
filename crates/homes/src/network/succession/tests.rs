//! Files of networks that take a ledger over, and the chain that begins with the handover alone.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::TxKind;
use blockhouse_consensus::Keys;
use blockhouse_crypto::{LedgerKey, Secret};
use blockhouse_ledger::block::Block;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::execute::build;
use blockhouse_ledger::genesis::{DEPLOYMENT_GAS, Fork};
use blockhouse_ledger::time::BlockTime;
use blockhouse_types::{RecipientSetHash, VaultId};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::network::chain::{Chain, ChainError};
use crate::network::past::expect_base;
use crate::network::{NetworkFile, NodeError, Place};
use crate::store::{Access, Store};

pub(in crate::network) fn owner() -> AccountSecret {
    AccountSecret::try_new(&Secret::new([1; 32])).unwrap()
}

pub(in crate::network) fn old_key() -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([2; 32]))
}

/// A ledger as one host begins it.
pub(in crate::network) fn genesis() -> Genesis {
    Genesis {
        vault_id: VaultId::new([3; 32]),
        chain_id: 1 << 40,
        owner: owner().account(),
        recovery: Vec::new(),
        ledger_key: old_key().public(),
        time: 1_700_000_000,
        gas_limit: 60_000_000,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([4; 32]),
        governance: None,
    }
}

fn enrol(seed: u64) -> Enrolment {
    let keys = Keys::generate(&mut StdRng::seed_from_u64(seed));
    let (name, address) = (format!("n{seed}").parse().unwrap(), format!("h{seed}:1").parse().unwrap());
    let operator = Some(keys.account().account());
    Enrolment::sign(&keys, name, address, Place::default(), operator)
}

/// Whose validators stay, as in the first release, or change by a charter.
fn succession(epoch_length: Option<u64>) -> Succession {
    Succession::try_new(genesis(), (1..=4).map(enrol).collect(), epoch_length).unwrap()
}

/// Its store with block 1, the contracts.
pub(in crate::network) fn store(folder: &tempfile::TempDir) -> Store {
    let (genesis, path) = (genesis(), folder.path().join("ledger.redb"));
    let certify = |place: &BlockPlace| Certificate::solo(&old_key(), place);
    let first = BlockPlace { chain_id: genesis.chain_id, height: 0, hash: genesis.hash() };
    Store::create(&path, &genesis, &certify(&first)).unwrap();
    let mut store = Store::open(&path, Access::Write, Duration::ZERO, None).unwrap();
    let deploy = |(nonce, input)| {
        Request { chain_id: genesis.chain_id, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS }.sign(&owner())
    };
    let txs = (0..).zip(genesis.deployments(0)).map(deploy).collect();
    let executed = build(&genesis, store.head().header(), &store, txs, at(1)).unwrap();
    let place = BlockPlace { chain_id: genesis.chain_id, height: 1, hash: executed.hash };
    store.append(&executed, &certify(&place)).unwrap();
    store
}

pub(in crate::network) fn at(seconds: u64) -> BlockTime {
    BlockTime::of_seconds(genesis().time + seconds)
}

pub(in crate::network) fn base_of(store: &Store) -> Base {
    Base { height: store.height(), hash: BlockHash::new(store.head().hash().0) }
}

pub(in crate::network) fn file(base: Base, epoch_length: Option<u64>) -> NetworkFile {
    let succession = succession(epoch_length);
    succession.file(base, succession.sign(&base, (&owner(), 3), Vec::new())).unwrap()
}

const SOMEWHERE: Base = Base { height: 9, hash: BlockHash::new([7; 32]) };

/// S2, and the bytes of files without a handover.
#[test]
fn a_file_is_read_as_it_was_written_and_made_again_the_same() {
    for epoch_length in [None, Some(64)] {
        let grown = file(SOMEWHERE, epoch_length);
        assert!(grown.is_consistent());
        assert_eq!(NetworkFile::decode(&grown.encode()).unwrap(), grown);
        assert_eq!(file(SOMEWHERE, epoch_length).encode(), grown.encode());
        assert_eq!(grown.governance().map(|charter| charter.threshold), epoch_length.map(|_| 3));
    }
    let grown = file(SOMEWHERE, None);
    let without = NetworkFile { handover: None, ..grown.clone() };
    assert!(!without.is_consistent(), "it begins above a block that nothing hands over at");
    assert_eq!(grown.encode().len() - without.encode().len(), encode(grown.handover.as_ref().unwrap()).len() + 2);
    let mut empty = without.encode();
    empty.push(0);
    assert!(NetworkFile::decode(&empty).is_err(), "an empty handover is none");
}

/// S1.
#[test]
fn a_handover_to_others_or_above_another_block_is_none_of_this_network() {
    let (grown, succession) = (file(SOMEWHERE, None), succession(None));
    let elsewhere = Base { hash: BlockHash::new([8; 32]), ..SOMEWHERE };
    let with = |handover: TxEnvelope| NetworkFile { handover: Some(handover), ..grown.clone() }.is_consistent();
    assert!(with(succession.sign(&SOMEWHERE, (&owner(), 8), Vec::new())));
    assert!(!with(succession.sign(&elsewhere, (&owner(), 3), Vec::new())));
    let others = Succession::try_new(genesis(), (2..=5).map(enrol).collect(), None).unwrap();
    assert!(!with(others.sign(&SOMEWHERE, (&owner(), 3), Vec::new())));
    let of_another =
        Succession::try_new(Genesis { chain_id: 1 << 41, ..genesis() }, (1..=4).map(enrol).collect(), None);
    assert!(!with(of_another.unwrap().sign(&SOMEWHERE, (&owner(), 3), Vec::new())));
    assert!(Succession::try_new(genesis(), vec![enrol(1), enrol(1)], None).is_err());
}

/// S3: another charter is another key, so another handover; and there is none beside the one to which the key commits.
#[test]
fn a_charter_is_that_of_the_key_and_of_the_enrolments() {
    let chartered = file(SOMEWHERE, Some(64));
    let keys = [None, Some(64), Some(65)].map(|length| succession(length).key());
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    let is_one = |file: NetworkFile| file.is_consistent();
    assert!(!is_one(NetworkFile { epoch_length: Some(65), ..chartered.clone() }), "another epoch");
    assert!(!is_one(NetworkFile { epoch_length: None, ..chartered.clone() }), "left out");
    assert!(!is_one(NetworkFile { epoch_length: Some(64), ..file(SOMEWHERE, None) }), "added");
    let mut others = chartered.clone();
    others.enrolments.pop();
    assert!(!is_one(others), "three of the four");
    let three = Succession::try_new(genesis(), (1..=3).map(enrol).collect(), Some(64)).unwrap();
    assert_eq!(three.epoch_length(), None, "three are not governed");
    let small = Genesis { gas_limit: 25_000_000, ..genesis() };
    let small = Succession::try_new(small, (1..=4).map(enrol).collect(), Some(64)).unwrap();
    assert_eq!(small.epoch_length(), None, "a block has no room for the contract");
}

/// Nothing but the handover comes above the base, and then blocks do under the network's key.
#[test]
fn the_first_block_is_the_handover() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let file = file(base_of(&store), None);
    let chain = Chain::open(store, file.network.key()).unwrap().opened_by(&file);
    let nothing = chain.propose(&[], &[], at(2)).unwrap_err();
    assert!(matches!(nothing, ChainError::Key { height: 2, .. }), "{nothing:?}");
    let handover = chain.opening(&[]).unwrap().unwrap();
    let made = chain.open_with(handover, at(2)).unwrap();
    assert_eq!(made.handover, Some(file.network.key()));
    let first: Arc<Block> = Arc::new(made.block.clone());
    assert_eq!(first.body.transactions.len(), 1, "no call of the ledger's own stands beside it");
    assert!(chain.opening(&[Arc::clone(&first)]).unwrap().is_none(), "it is under way");
    let second = chain.propose(&[Arc::clone(&first)], &[], at(3)).unwrap();
    assert_eq!(second.executed.block.body.transactions.len(), 1, "the ledger makes `Automation` by itself");
    chain.finalize(&first, &Certificate::Genesis { key: file.network.key() }).unwrap();
    assert!(chain.opening(&[]).unwrap().is_none());
}

/// The charter is made with the handover or there is none: neither a leader nor a founder leaves it out, adds one, or takes another.
#[test]
fn the_first_block_makes_the_charter_to_which_the_key_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let file = file(base_of(&store), Some(64));
    let chain = Chain::open(store.clone(), file.network.key()).unwrap().opened_by(&file);
    let opening = chain.opening(&[]).unwrap().unwrap();
    let [handover, charter] = <[TxEnvelope; 2]>::try_from(opening.clone()).unwrap();
    let alone = chain.open_with(vec![handover.clone()], at(2)).unwrap_err();
    assert!(matches!(alone, ChainError::Key { height: 2, .. }), "{alone:?}");
    let of_another = succession(Some(65)).file(base_of(&store), handover.clone()).unwrap().governance().unwrap();
    let another = blockhouse_ledger::charter::making(&genesis(), &of_another, 0);
    let refused = chain.open_with(vec![handover, another], at(2)).unwrap_err();
    assert!(matches!(refused, ChainError::Build { parent: 1, .. }), "{refused:?}");
    let early = chain.propose(&[], &[charter], at(2));
    assert!(early.is_err(), "a charter without its handover stands nowhere");

    let made = chain.open_with(opening, at(2)).unwrap();
    assert_eq!(chain.last_block(), None);
    let first: Arc<Block> = Arc::new(made.block.clone());
    chain.finalize(&first, &Certificate::Genesis { key: file.network.key() }).unwrap();
    let head = chain.head();
    let governed = blockhouse_ledger::validators::government(&genesis(), head.head().header(), &head).unwrap().unwrap();
    assert_eq!((governed.since, governed.epoch_length, governed.until), (2, 64, None));
    assert!(chain.is_governed());
}

/// P1.
#[test]
fn a_store_that_ends_below_the_base_or_holds_another_block_there_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let base = base_of(&store);
    expect_base(&store, &base).unwrap();
    let higher = Base { height: 2, ..base };
    let missing = expect_base(&store, &higher).unwrap_err();
    assert!(matches!(missing, NodeError::NoPast { height: 1, base: 2 }), "{missing:?}");
    let other = Base { hash: BlockHash::new([7; 32]), ..base };
    let other = expect_base(&store, &other).unwrap_err();
    assert!(matches!(other, NodeError::OtherPast { height: 1, .. }), "{other:?}");
}
