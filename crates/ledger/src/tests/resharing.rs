//! Validators that share one key and hand it on: who comes takes over once an outcome that all signed stands on the ledger, and the key stays.

use alloy_primitives::{B256, TxKind};
use alloy_sol_types::SolCall;
use commonware_codec::Encode as _;
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::deal_anonymous;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::{Mode, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_utils::{N3f1, NZU32};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::governed::{LENGTH, World, genesis, node, operator, public, replace};
use crate::certificate::GROUP_KEY_LEN;
use crate::contracts::GroupValidators::postOutcomeCall;
use crate::execute::Executed;
use crate::governance::{Governance, validators_address};
use crate::resharing::{Coming, OUTCOME_NAME, Outcome, SETTLED, coming, read_polynomial, statement};
use crate::validators::{government, tenures};
use crate::{Genesis, succession};

fn dealt(seed: u64) -> (Sharing<MinPk>, Vec<Share>) {
    deal_anonymous::<MinPk, N3f1>(StdRng::seed_from_u64(seed), Mode::NonZeroCounter, NZU32!(4))
}

fn polynomial(seed: u64) -> Vec<u8> {
    dealt(seed).0.encode().to_vec()
}

/// Another polynomial of the same key. Of its shares nobody asks here.
fn same_key(seed: u64) -> Vec<u8> {
    let (first, mut other) = (polynomial(1), polynomial(seed));
    // A quorum of three points stands at the end, the constant before the others.
    let constant = first.len() - 3 * GROUP_KEY_LEN..first.len() - 2 * GROUP_KEY_LEN;
    other[constant.clone()].copy_from_slice(&first[constant]);
    assert_ne!(other, first);
    assert!(read_polynomial(&other).is_some());
    other
}

fn shared() -> Genesis {
    let governance = Governance { group: Some(polynomial(1)), ..genesis().governance.unwrap() };
    Genesis { ledger_key: governance.key(), governance: Some(governance), ..genesis() }
}

pub(super) fn world() -> World {
    let mut world = World::of(shared());
    world.shares = Some(dealt(1));
    world.found();
    world
}

fn next(world: &World) -> Option<Coming> {
    coming(world.replay.genesis(), world.replay.head(), world.replay.nodes()).unwrap()
}

/// What all of the participants sign.
fn outcome(coming: &Coming, polynomial: Vec<u8>) -> Outcome {
    let (step, transcript) = (&coming.step, [7; 32]);
    let statement = statement(&step.ceremony(), &transcript, &polynomial);
    let sign = |key: &[u8; 32]| {
        let node = (1..=6).map(node).find(|node| public(node) == *key).unwrap();
        let mut signature = [0; 64];
        signature.copy_from_slice(node.sign(OUTCOME_NAME, &statement).as_ref());
        signature
    };
    Outcome { transcript, polynomial, signatures: step.participants().iter().map(sign).collect() }
}

/// In the next block; true if the contract took it.
fn post(world: &mut World, who: u64, from: u64, data: Vec<u8>) -> bool {
    let call = postOutcomeCall { epoch_: from, data: data.into() }.abi_encode();
    let tx = world.sign(&operator(who), TxKind::Call(validators_address()), call.into(), 16_000_000);
    let is_taken = |made: &Executed| made.receipts[0].status();
    if !is_taken(&world.build(vec![tx.clone()])) {
        return false;
    }
    is_taken(&world.seal(vec![tx]))
}

fn sorted(nodes: &[u64]) -> Vec<[u8; 32]> {
    let mut keys: Vec<_> = nodes.iter().map(|seed| public(&node(*seed))).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_genesis_with_one_key_comes_back_and_its_polynomial_is_of_its_validators() {
    let genesis = shared();
    let bytes = genesis.encode();
    assert_eq!((bytes[4], Genesis::decode(&bytes).unwrap()), (3, genesis.clone()));
    for version in [1, 2, 4] {
        let mut other = bytes.clone();
        other[4] = version;
        assert!(Genesis::decode(&other).is_err(), "version {version}");
    }
    let with = |group: Vec<u8>| {
        let governance = Governance { group: Some(group), ..genesis.governance.clone().unwrap() };
        Genesis { ledger_key: governance.key(), governance: Some(governance), ..genesis.clone() }
    };
    let (three, _) = deal_anonymous::<MinPk, N3f1>(StdRng::seed_from_u64(3), Mode::NonZeroCounter, NZU32!(3));
    assert!(Genesis::decode(&with(three.encode().to_vec()).encode()).is_err());
    assert!(Genesis::decode(&with(vec![1, 2, 3]).encode()).is_err());
    let other = Genesis { ledger_key: with(polynomial(2)).ledger_key, ..genesis };
    assert!(Genesis::decode(&other.encode()).is_err(), "the key is that of the polynomial");
}

/// U1: without an outcome the old set goes on, epoch after epoch; then the new one takes over, and the key is the same.
#[test]
fn a_set_takes_over_once_its_outcome_stood_long_enough() {
    let mut world = world();
    world.reach(5);
    assert_eq!(next(&world), None);
    world.enact(&[replace(4, 5)]);
    let key = world.replay.authority().ledger_key();
    world.reach(2 * LENGTH + 2);
    assert_eq!((world.tenures(), world.settled_end()), (Vec::new(), None), "the change does not take effect");
    let open = next(&world).unwrap();
    assert_eq!((open.from, open.takes_over), (2, None));
    assert_eq!((&open.step.dealers, &open.step.players), (&sorted(&[1, 2, 3]), &sorted(&[1, 2, 3, 5])));
    // Whoever posts what is none only wastes his one word.
    let right = outcome(&open, same_key(9));
    let mut unsigned = right.clone();
    unsigned.signatures[3][0] ^= 1;
    assert!(
        post(&mut world, 1, 2, unsigned.encode()) && post(&mut world, 2, 2, outcome(&open, polynomial(2)).encode())
    );
    assert!(!post(&mut world, 1, 2, right.encode()), "once for each operator");
    assert!(!post(&mut world, 4, 2, right.encode()), "who leaves says nothing of the set that comes");
    assert_eq!(next(&world).unwrap().takes_over, None);
    assert!(post(&mut world, 3, 2, right.encode()));
    let posted = world.height();
    // It stands too late for epoch 3.
    assert!(posted + SETTLED >= 3 * LENGTH && posted + SETTLED < 4 * LENGTH);
    assert_eq!(next(&world).unwrap().takes_over, Some(4));
    world.reach(3 * LENGTH);
    assert_eq!((world.tenures(), world.settled_end()), (Vec::new(), Some(4 * LENGTH - 1)));
    world.reach(4 * LENGTH - 1);
    assert_eq!(succession(world.replay.head()), Some(key));
    assert_eq!(world.tenures(), [(4, 4 * LENGTH)]);
    world.reach(5 * LENGTH + 1);
    let closing = world.headers.iter().filter(|header| succession(header).is_some()).count();
    let authority = world.replay.authority();
    assert_eq!((closing, authority.ledger_key(), authority.successions()), (1, key, 1), "the key stays");
    let all = tenures(world.replay.genesis(), world.replay.head(), world.replay.nodes(), world.height()).unwrap();
    assert_eq!((all[0].set, &all[0].voters, &all[0].polynomial), (2, &sorted(&[1, 2, 3, 5]), &Some(same_key(9))));
    assert_eq!(next(&world), None);
}

/// U3: the last block that counts for an epoch is settled before the engine can make the closing one.
#[test]
fn the_last_block_for_an_outcome_is_sixteen_below_the_epoch() {
    for (at, epoch) in [(2 * LENGTH - 1, 3), (2 * LENGTH, 4)] {
        let mut world = world();
        world.reach(5);
        world.enact(&[replace(4, 5)]);
        world.reach(at - 1);
        let open = next(&world).unwrap();
        assert!(post(&mut world, 5, 2, outcome(&open, same_key(9)).encode()));
        assert_eq!((world.height(), next(&world).unwrap().takes_over), (at, Some(epoch)));
        let governed = government(world.replay.genesis(), world.replay.head(), world.replay.nodes()).unwrap().unwrap();
        // A node that looks again only where something may be settled finds it in time.
        let looks: Vec<u64> = (at..epoch * LENGTH - 1).filter(|height| governed.settles(*height)).collect();
        world.reach(looks.last().copied().unwrap().max(world.height()));
        assert_eq!(world.settled_end(), Some(epoch * LENGTH - 1));
    }
}

/// Governors who see that somebody does not come name another.
#[test]
fn a_set_that_never_made_its_shares_is_passed_over_by_the_next() {
    let mut world = world();
    world.reach(5);
    world.enact(&[replace(4, 5)]);
    let first = next(&world).unwrap();
    world.reach(2 * LENGTH + 1);
    world.enact(&[replace(5, 6)]);
    world.reach(3 * LENGTH + 1);
    let second = next(&world).unwrap();
    assert_eq!((second.from, &second.step.players), (4, &sorted(&[1, 2, 3, 6])));
    assert_eq!(second.step.holders, first.step.holders);
    // What the first would have made comes too late, and is of nothing that the second makes.
    assert!(!outcome(&first, same_key(9)).holds(&second.step));
    assert!(post(&mut world, 1, 4, outcome(&second, same_key(8)).encode()));
    world.reach(5 * LENGTH + 1);
    assert_eq!(world.tenures(), [(5, 5 * LENGTH)]);
    let header = world.headers.iter().find(|header| succession(header).is_some()).unwrap();
    assert_eq!((header.number, succession(header)), (5 * LENGTH - 1, Some(shared().ledger_key)));
    assert_ne!(header.mix_hash, B256::ZERO);
}
