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

fn old_key() -> LedgerKey {
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
    Enrolment::sign(&keys, name, address, Place::default(), None)
}

fn succession() -> Succession {
    Succession::try_new(genesis(), (1..=4).map(enrol).collect()).unwrap()
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

fn at(seconds: u64) -> BlockTime {
    BlockTime::of_seconds(genesis().time + seconds)
}

fn base_of(store: &Store) -> Base {
    Base { height: store.height(), hash: BlockHash::new(store.head().hash().0) }
}

fn file(base: Base) -> NetworkFile {
    let succession = succession();
    succession.file(base, succession.sign(&base, (&owner(), 3), Vec::new())).unwrap()
}

const SOMEWHERE: Base = Base { height: 9, hash: BlockHash::new([7; 32]) };

/// S2, and the bytes of files without a handover.
#[test]
fn a_file_is_read_as_it_was_written_and_made_again_the_same() {
    let grown = file(SOMEWHERE);
    assert!(grown.is_consistent());
    assert_eq!(NetworkFile::decode(&grown.encode()).unwrap(), grown);
    assert_eq!(file(SOMEWHERE).encode(), grown.encode());
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
    let (grown, succession) = (file(SOMEWHERE), succession());
    let elsewhere = Base { hash: BlockHash::new([8; 32]), ..SOMEWHERE };
    let with = |handover: TxEnvelope| NetworkFile { handover: Some(handover), ..grown.clone() }.is_consistent();
    assert!(with(succession.sign(&SOMEWHERE, (&owner(), 8), Vec::new())));
    assert!(!with(succession.sign(&elsewhere, (&owner(), 3), Vec::new())));
    let others = Succession::try_new(genesis(), (2..=5).map(enrol).collect()).unwrap();
    assert!(!with(others.sign(&SOMEWHERE, (&owner(), 3), Vec::new())));
    let of_another = Succession::try_new(Genesis { chain_id: 1 << 41, ..genesis() }, (1..=4).map(enrol).collect());
    assert!(!with(of_another.unwrap().sign(&SOMEWHERE, (&owner(), 3), Vec::new())));
    assert!(Succession::try_new(genesis(), vec![enrol(1), enrol(1)]).is_err());
}

/// Nothing but the handover comes above the base, and then blocks do under the network's key.
#[test]
fn the_first_block_is_the_handover() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let file = file(base_of(&store));
    let chain = Chain::open(store, file.network.key()).unwrap().opened_by(file.handover.clone());
    let nothing = chain.propose(&[], &[], at(2)).unwrap_err();
    assert!(matches!(nothing, ChainError::Key { height: 2, .. }), "{nothing:?}");
    let handover = chain.opening(&[]).unwrap();
    let made = chain.propose(&[], &[handover], at(2)).unwrap();
    assert_eq!(made.executed.handover, Some(file.network.key()));
    let first: Arc<Block> = Arc::new(made.executed.block.clone());
    assert_eq!(first.body.transactions.len(), 1, "no call of the ledger's own stands beside it");
    assert!(chain.opening(&[Arc::clone(&first)]).is_none(), "it is under way");
    let second = chain.propose(&[Arc::clone(&first)], &[], at(3)).unwrap();
    assert_eq!(second.executed.block.body.transactions.len(), 1, "the ledger makes `Automation` by itself");
    chain.finalize(&first, &Certificate::Genesis { key: file.network.key() }).unwrap();
    assert!(chain.opening(&[]).is_none());
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
