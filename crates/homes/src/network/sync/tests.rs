//! A store that begins by a state: part by part, with lies between, and with the blocks below afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, TxKind};
use alloy_sol_types::SolCall as _;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::contracts::Access;
use blockhouse_ledger::governance::LEAD;
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::state::StatePlace;
use blockhouse_ledger::time::BlockTime;

use super::super::chain::tests::World;
use super::super::chain::{Chain, ChainError};
use super::super::tenure::Now;
use super::*;
use crate::embedded::run::tests as governed;
use crate::embedded::{LedgerKeys, import_run, link_at};
use crate::store::{Access as Open, PartError, Past, StatePart};

const WRITERS: u8 = 60;
/// Blocks with nothing in them, so that some are further below than a store must have.
const EMPTY: u64 = 300;

/// A chain with some hundred slots, and its blocks with their receipts from the top down.
fn chain(world: &World) -> (Chain, Vec<Past>) {
    let chain = world.chain("old");
    let access = TxKind::Call(world.genesis.access_address());
    let mut transactions: Vec<_> = (0..)
        .zip(world.genesis.deployments(0))
        .map(|(nonce, input)| world.sign(nonce, TxKind::Create, input))
        .collect();
    for number in 1..=WRITERS {
        let call = Access::enrolWriterCall {
            who: Address::repeat_byte(number),
            predecessor: Address::ZERO,
            predecessorLastBlock: 0,
            hostStolen: false,
        };
        transactions.push(world.sign(transactions.len() as u64, access, call.abi_encode()));
    }
    let mut past = Vec::new();
    let runs = transactions.chunks(10).map(<[_]>::to_vec).chain((0..EMPTY).map(|_| Vec::new()));
    for (second, run) in (1..).zip(runs) {
        let time = BlockTime::of_seconds(world.genesis.time + second);
        let executed = chain.propose(&[], &run, time).unwrap().executed;
        chain.finalize(&executed.block, &world.certificate()).unwrap();
        let (chain_id, certificate) = (world.genesis.chain_id, world.certificate());
        let object = BlockObject { chain_id, block: executed.block.clone(), certificate, genesis: None };
        past.insert(0, Past { object, receipts: executed.receipts.clone() });
    }
    (chain, past)
}

/// A store with these blocks and without a state.
fn begun(world: &World, name: &str, past: &[Past]) -> (PathBuf, Store) {
    let path = world.folder.path().join(name);
    Store::begin_at(&path, &world.genesis, past, &[]).unwrap();
    let store = Store::open(&path, Open::Write, Duration::ZERO, None).unwrap();
    (path, store)
}

fn part(store: &Store, from: StatePlace) -> StatePart {
    let part = StatePart::read_some(store, from, 1).unwrap();
    assert_eq!(StatePart::decode(&part.encode()).unwrap(), part);
    part
}

#[test]
fn parts_are_the_whole_state_and_the_blocks_below_follow() {
    let world = World::new();
    let (chain, past) = chain(&world);
    let old = chain.head();
    let at = usize::try_from(Store::BLOCKS_BELOW).unwrap() + 1;
    let (above, below) = past.split_at(at);
    let (path, mut new) = begun(&world, "new", above);
    let root = old.head().header().state_root;
    let (mut next, mut parts) = (Some(StatePlace::default()), 0);
    while let Some(place) = next {
        let some = part(&old, place);
        new.put_state(&some.take(root, place, &new).unwrap()).unwrap();
        (next, parts) = (some.next(), parts + 1);
    }
    assert!(parts > 1, "{parts} parts");
    new.sync().unwrap();
    drop(new);

    let mut new = Store::open(&path, Open::Write, Duration::ZERO, None).unwrap();
    let same_state = |one: &Store, two: &Store| one.memory().unwrap() == two.memory().unwrap();
    assert!(same_state(&old, &new), "nothing more and nothing less");
    let bottom = old.height() - Store::BLOCKS_BELOW;
    assert_eq!(new.bottom(), bottom);
    let missing = new.block(bottom - 1).unwrap_err();
    assert!(matches!(missing, StoreError::NotHere { height, bottom: from } if height + 1 == bottom && from == bottom));
    assert!(new.hash_at(0).unwrap() == old.hash_at(0).unwrap() && new.certificate(1).is_err());

    // A gap is refused, and a kill between two runs leaves the first.
    assert!(matches!(new.put_past(&below[1..]), Err(StoreError::NotNext { .. })));
    let (first, rest) = below.split_at(20);
    new.put_past(first).unwrap();
    drop(new);
    let mut new = Store::open(&path, Open::Write, Duration::ZERO, None).unwrap();
    assert_eq!(new.below_bottom().unwrap().unwrap().0, rest[0].height());
    new.put_past(rest).unwrap();
    assert_eq!((new.bottom(), new.below_bottom().unwrap()), (0, None));
    for height in 0..=old.height() {
        assert_eq!(new.block(height).unwrap().block, old.block(height).unwrap().block);
        assert_eq!(new.receipts(height).unwrap(), old.receipts(height).unwrap());
    }
    assert!(same_state(&old, &new));
    new.examine_rows(past.iter().map(|past| past.receipts.len() as u64).sum()).unwrap();
}

/// Takes the whole state of one store into another.
fn take_state(old: &Store, new: &mut Store) {
    let (root, mut next) = (old.head().header().state_root, Some(StatePlace::default()));
    while let Some(place) = next {
        let some = part(old, place);
        new.put_state(&some.take(root, place, new).unwrap()).unwrap();
        next = some.next();
    }
    new.sync().unwrap();
}

/// A store that began by a state above a change of the validators knows above which block they began, as one that executed all of it does; a
/// kill between the runs of what lies below leaves that.
#[test]
fn a_store_that_begins_above_a_closing_block_knows_it() {
    let (genesis, file, folder) = (governed::genesis(), keys::tests::file(), tempfile::tempdir().unwrap());
    let mut old = governed::store(&genesis, folder.path());
    let (closing, objects) = governed::blocks(&genesis, (governed::NEW, LEAD), LEAD * governed::LENGTH + 300);
    import_run(&mut old, &objects, &Recall::default()).unwrap();
    let past = |object: &BlockObject| {
        let receipts = old.receipts(object.block.header.number).unwrap();
        Past { object: object.clone(), receipts }
    };
    let past: Vec<_> = objects.iter().rev().map(past).collect();
    let (above, below) = past.split_at(usize::try_from(Store::BLOCKS_BELOW).unwrap() + 1);
    let keys = LedgerKeys::of(&old).unwrap();
    let link = link_at(&old, &keys, closing).unwrap();
    let path = folder.path().join("new");
    Store::begin_at(&path, &genesis, above, std::slice::from_ref(&link)).unwrap();
    let open = || Store::open(&path, Open::Write, Duration::ZERO, None).unwrap();
    let mut new = open();
    take_state(&old, &mut new);
    drop(new);

    let mut new = open();
    assert!(closing < new.bottom() && new.hash_at(closing).is_err(), "the block itself is not here");
    assert_eq!(LedgerKeys::of(&new).unwrap(), keys);
    assert_eq!(link_at(&new, &keys, closing).unwrap(), link);
    let network = |store: &Store| Now::of(store, &file).unwrap().network;
    assert_eq!(network(&new), network(&old));
    assert_eq!((network(&new).epoch(), network(&new).base().height), (LEAD, closing));
    for run in below.chunks(7) {
        new.put_past(run).unwrap();
        drop(new);
        new = open();
        assert_eq!(network(&new), network(&old));
        assert_eq!(new.link(closing).unwrap().is_some(), new.bottom() > closing, "it goes when the block is here");
    }
    new.examine_rows(past.iter().map(|past| past.receipts.len() as u64).sum()).unwrap();

    // A row that was altered is damage, and no word of who keeps the ledger.
    let path = folder.path().join("altered");
    let mut altered = link;
    altered.header.gas_used += 1;
    Store::begin_at(&path, &genesis, above, &[altered]).unwrap();
    let mut new = Store::open(&path, Open::Write, Duration::ZERO, None).unwrap();
    take_state(&old, &mut new);
    assert!(matches!(Now::of(&new, &file), Err(ChainError::Keys(HomeError::Store(StoreError::Damaged { .. })))));
}

/// Each byte of a part counts, or is of nothing that is taken.
#[test]
fn a_part_that_was_changed_is_not_taken() {
    let world = World::new();
    let (chain, past) = chain(&world);
    let old = chain.head();
    let least = usize::try_from(Store::BLOCKS_BELOW).unwrap() + 1;
    let (_, new) = begun(&world, "new", &past[..least]);
    let (root, from) = (old.head().header().state_root, StatePlace::default());
    let true_part = part(&old, from);
    let taken = true_part.take(root, from, &new).unwrap();
    let bytes = true_part.encode();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(97) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let Ok(changed) = StatePart::decode(&bytes) else { continue };
        match changed.take(root, from, &new) {
            Ok(changed) => assert_eq!(changed, taken, "byte {at}"),
            Err(PartError::Strange { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 10, "{refused} of {} bytes", bytes.len() / 97);
    // The part that would be next, the end before the end, and nothing at all.
    let second = true_part.next().unwrap();
    let strange = |part: &StatePart| matches!(part.take(root, from, &new), Err(PartError::Strange { .. }));
    assert!(strange(&part(&old, second)) && strange(&StatePart::default()));
}

#[test]
fn blocks_are_taken_by_what_the_chain_says_of_them() {
    let world = World::new();
    let (_, past) = chain(&world);
    let with = past.iter().find(|past| !past.receipts.is_empty()).unwrap();
    let (height, hash) = (with.height(), alloy_primitives::B256::new(with.object.hash().to_bytes()));
    with.compare(height, hash).unwrap();
    assert!(with.compare(height + 1, hash).is_err() && with.compare(height, with.parent()).is_err());
    let mut fewer = with.clone();
    fewer.receipts.pop();
    assert!(fewer.compare(height, hash).is_err());
    let mut bare = with.clone();
    bare.object.block.body.transactions.clear();
    bare.receipts.clear();
    assert!(bare.compare(height, hash).is_err());
}

#[test]
fn states_are_kept_for_a_while_and_few_of_them() {
    let world = World::new();
    let chain = world.chain("node");
    let (shelf, start) = (Shelf::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let grow = |second| {
        let time = BlockTime::of_seconds(world.genesis.time + second);
        let block = Arc::new(chain.propose(&[], &[], time).unwrap().executed.block.clone());
        chain.finalize(&block, &world.certificate()).unwrap();
        chain.head()
    };
    let first = shelf.late(&grow(1), at(0));
    let hash = first.head().hash();
    assert_eq!(shelf.late(&grow(2), at(10)).height(), 1, "a fresh one is enough");
    assert_eq!(shelf.late(&grow(3), at(35)).height(), 3);
    assert_eq!(shelf.late(&grow(4), at(69)).height(), 3, "there are two");
    assert_eq!(shelf.of(&hash, at(600)).unwrap().height(), 1, "it is as it was");
    assert_eq!(shelf.late(&grow(5), at(700)).height(), 5, "nobody asked for the third");
    assert_eq!(shelf.of(&hash, at(1199)).unwrap().height(), 1, "over a slow line");
    assert!(shelf.of(&hash, at(1800)).is_none(), "nobody asked");
}
