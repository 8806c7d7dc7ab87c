//! Charters: the block of a handover makes the contract that its key commits to, and from there on validators follow each other, until the next
//! handover.

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_primitives::{B256, TxKind};
use alloy_sol_types::SolCall as _;
use blockhouse_types::Account;

use super::governed::{
    CHAIN, LENGTH, World, commit, genesis as governed, golden, golden_receipt, node, operator, public, receipt, replace,
};
use super::world::{address, secret};
use crate::charter::{CHARTER_ADDRESS, CHARTER_GAS, contract_address, making};
use crate::contracts::Access;
use crate::execute::{BuildError, Executed, build};
use crate::genesis::{DEFAULT_GAS_LIMIT, Genesis};
use crate::governance::{Founder, Governance, validators_address};
use crate::handover::Handover;
use crate::receipt::{CheckError, Receipt};
use crate::rules::{TransactionFault, sender};
use crate::time::BlockTime;
use crate::transaction::Request;
use crate::validators::{government, members};

/// A ledger that one host began, with the gas of one.
fn alone() -> Genesis {
    let key = super::world::ledger_key(9).public();
    Genesis { governance: None, ledger_key: key, gas_limit: DEFAULT_GAS_LIMIT, ..governed() }
}

/// Nodes 1 to 4, or others, whose operators change them.
fn charter(seeds: &[u64], epoch_length: u64) -> Governance {
    let of = |seed: &u64| Founder {
        key: public(&node(*seed)),
        address: format!("10.0.0.{seed}:9650"),
        operator: operator(*seed).account(),
    };
    let mut validators: Vec<Founder> = seeds.iter().map(of).collect();
    validators.sort_by_key(|founder| founder.key);
    let governors = seeds.iter().map(|seed| operator(*seed).account()).collect();
    Governance { epoch_length, governors, threshold: 3, validators, group: None }
}

/// The handover to that key, and what stands behind it.
fn opening(world: &mut World, key: [u8; 32], charter: Option<(&Governance, u64)>) -> Vec<TxEnvelope> {
    let parent = world.replay.head().hash_slow();
    let input = Handover { next_key: key, parent, approvals: Vec::new() }.input();
    let to = TxKind::Call(world.replay.genesis().access_address());
    let handover = world.sign(&secret(1), to, input, 1_000_000);
    let made = charter.map(|(charter, nonce)| making(world.replay.genesis(), charter, nonce));
    std::iter::once(handover).chain(made).collect()
}

fn try_build(world: &World, txs: Vec<TxEnvelope>) -> Result<Executed, BuildError<std::convert::Infallible>> {
    let (genesis, head, nodes) = (world.replay.genesis(), world.replay.head(), world.replay.nodes());
    build(genesis, head, nodes, txs, BlockTime::of_seconds(head.timestamp + 1))
}

/// The world of one host, whose ledger goes over to nodes 1 to 4.
fn grown() -> World {
    let mut world = World::sealed_by(alone(), 9);
    let charter = charter(&[1, 2, 3, 4], LENGTH);
    let txs = opening(&mut world, charter.charter_key(), Some((&charter, 0)));
    world.hand_over(txs, &[1, 2, 3, 4], charter.charter_hash());
    world
}

#[test]
fn the_account_of_charters_is_a_name() {
    assert_ne!(*CHARTER_ADDRESS, *crate::system::SYSTEM_ADDRESS);
    assert_eq!(contract_address(1), CHARTER_ADDRESS.create(1));
    let genesis = alone();
    let made = making(&genesis, &charter(&[1, 2, 3, 4], LENGTH), 0);
    assert!(matches!(sender(&genesis, &made, None), Err(TransactionFault::System)), "nobody speaks by it");
}

#[test]
fn validators_follow_by_the_word_of_a_charter() {
    let mut world = grown();
    let begun = world.height();
    let (genesis, head, nodes) = (world.replay.genesis(), world.replay.head(), world.replay.nodes());
    let found = government(genesis, head, nodes).unwrap().unwrap();
    assert_eq!((found.contract, found.since, found.epoch_length), (contract_address(0), begun, LENGTH));
    assert_eq!(members(genesis, head, nodes, 0).unwrap().len(), 4);

    // As on a ledger that began governed: two epochs later, with a closing block.
    world.reach(LENGTH + 3);
    world.enact_at(contract_address(0), &[replace(4, 5)]);
    assert_eq!(world.tenures(), []);
    world.reach(3 * LENGTH - 1);
    assert_eq!(world.tenures(), [(3, 3 * LENGTH)]);
    world.follow(&[1, 2, 3, 5], 3);
    world.seal(Vec::new());
    let authority = world.replay.authority();
    assert_eq!((authority.handovers(), authority.successions()), (1, 1));

    // A receipt leads from the charter's key to that of the others, for who knows either; nobody else vouches for that link.
    let made = commit(&mut world);
    let charter = charter(&[1, 2, 3, 4], LENGTH);
    let mut link = world.link(3 * LENGTH - 1, &[1, 2, 3, 4], 0);
    let plain = receipt(&world, &made, (charter.charter_key(), &[link.clone()]));
    assert!(
        matches!(plain.check(None), Err(CheckError::Link { index: 0, .. })),
        "without its charter it is another key"
    );
    link.certificate = link.certificate.under(Some(charter.charter_hash()));
    let proof = golden_receipt(
        ("receipt-charter.json", "fingerprint-charter.txt"),
        &receipt(&world, &made, (charter.charter_key(), &[link])),
    );
    for key in [charter.charter_key(), world.replay.authority().ledger_key()] {
        proof.check(Some(world.root(key).fingerprint())).unwrap();
    }
    // Of version 2, which is made no more and read for ever.
    let old = golden("receipt-charter-2.json", &[]);
    let read = Receipt::parse(&old).unwrap();
    assert!(read.to_bytes() == old, "the receipt is written in another way");
    read.check(Some(world.root(charter.charter_key()).fingerprint())).unwrap();
    let other = Governance { threshold: 1, ..charter };
    assert!(proof.check(Some(world.root(other.charter_key()).fingerprint())).is_err());
}

/// As the second decoder has it.
#[test]
fn the_key_of_a_charter_is_that_of_the_page() {
    let of = |n: u8| Founder { key: [n; 32], address: format!("10.0.0.{n}:9650"), operator: Account::new([n; 20]) };
    let (validators, governors) = ((1..=4).map(of).collect(), (1..=4).map(|n| Account::new([n; 20])).collect());
    let charter = Governance { epoch_length: 64, governors, threshold: 3, validators, group: None };
    let (hash, key) = (hex::encode(charter.charter_hash()), hex::encode(charter.charter_key()));
    assert_eq!(hash, "12f0e3990591ebd3947b1826fa084e8dba4029061531df48030a59671970718c");
    assert_eq!(key, "8bb005a1ecf8914d5facc1fa0f824da0858b4fc79274b055e0f538e4eb530007");
}

/// C2: the key commits to who governs, how many of them it takes, how long an epoch is, and where the validators say that they are.
#[test]
fn another_charter_is_none_of_that_key() {
    let mut world = World::sealed_by(alone(), 9);
    let right = charter(&[1, 2, 3, 4], LENGTH);
    let mut others = vec![right.clone(); 5];
    others[0].epoch_length += 1;
    others[1].threshold = 1;
    others[2].governors[3] = operator(5).account();
    others[3].validators[0].operator = operator(5).account();
    others[4].validators[0].address = "10.9.9.9:1".to_owned();
    let key = right.charter_key();
    let handover = opening(&mut world, key, None).remove(0);
    let genesis = world.replay.genesis().clone();
    let behind = |tx: TxEnvelope| try_build(&world, vec![handover.clone(), tx]);
    for other in others {
        let refused = behind(making(&genesis, &other, 0)).unwrap_err();
        let is_it = matches!(refused, BuildError::Transaction { index: 1, source: TransactionFault::System, .. });
        assert!(is_it, "{refused:?}");
    }
    // The right one, once and in its one form.
    assert!(behind(making(&genesis, &right, 1)).is_err(), "another nonce");
    let input = making(&genesis, &right, 0).input().clone();
    let stranger = Request { chain_id: CHAIN, nonce: 0, to: TxKind::Create, input, gas: CHARTER_GAS }.sign(&secret(3));
    assert!(behind(stranger).is_err(), "by somebody else");
    let made = making(&genesis, &right, 0);
    assert!(try_build(&world, vec![made.clone()]).is_err(), "without its handover");
    assert!(try_build(&world, vec![made.clone(), handover.clone()]).is_err(), "before it");
    assert!(try_build(&world, vec![handover.clone(), made.clone(), made.clone()]).is_err(), "twice");
    let good = try_build(&world, vec![handover, made]).unwrap();
    assert_eq!(good.handover, Some(key));
    assert_eq!(good.senders[1], *CHARTER_ADDRESS);
    assert_eq!(good.block.header.mix_hash, B256::ZERO);
}

/// A handover without a charter is what it was, and names nobody's contract.
#[test]
fn a_handover_without_a_charter_ends_governance() {
    let mut world = grown();
    world.reach(LENGTH + 3);
    world.enact_at(contract_address(0), &[replace(4, 5)]);
    let txs = opening(&mut world, super::world::ledger_key(10).public(), None);
    world.sealer(10);
    world.seal_alone(txs);
    let (genesis, head, nodes) = (world.replay.genesis(), world.replay.head(), world.replay.nodes());
    assert_eq!(government(genesis, head, nodes).unwrap(), None);
    world.reach(3 * LENGTH + 1);
    assert_eq!(world.tenures(), [], "what was settled and had not begun ends with it");
    assert!(world.headers.iter().all(|header| header.mix_hash == B256::ZERO));
}

/// A governed network is founded anew: its sets and what is pending there end; the next charter counts its own. So again.
#[test]
fn each_charter_ends_what_was_before() {
    let mut world = World::new();
    world.reach(5);
    world.enact(&[replace(4, 5)]);
    world.reach(2 * LENGTH - 1);
    assert_eq!(world.tenures(), [(2, 2 * LENGTH)], "a closing block: the handover stands right above it");
    let (second, third) = (charter(&[6, 7, 8, 9], LENGTH + 1), charter(&[1, 2, 3, 4], LENGTH));
    for who in 6..=9 {
        assert_ne!(operator(who).account(), operator(1).account());
    }
    let txs = opening(&mut world, second.charter_key(), Some((&second, 0)));
    world.hand_over(txs, &[6, 7, 8, 9], second.charter_hash());
    let find = |world: &World| {
        let (genesis, head, nodes) = (world.replay.genesis(), world.replay.head(), world.replay.nodes());
        government(genesis, head, nodes).unwrap().unwrap()
    };
    let found = find(&world);
    assert_eq!((found.contract, found.since, found.epoch_length), (contract_address(0), 2 * LENGTH, LENGTH + 1));
    // The old governors change their own contract, and nothing else.
    world.enact_at(validators_address(), &[replace(3, 4)]);
    world.reach(5 * LENGTH);
    assert_eq!(world.tenures(), [(2, 2 * LENGTH)]);
    let header_of = |height: u64| world.headers[usize::try_from(height).unwrap()].mix_hash;
    assert!((2 * LENGTH..world.height()).all(|height| header_of(height) == B256::ZERO));

    let txs = opening(&mut world, third.charter_key(), Some((&third, 1)));
    world.hand_over(txs, &[1, 2, 3, 4], third.charter_hash());
    assert_eq!(find(&world).contract, contract_address(1));
    let now = world.height() / LENGTH;
    world.enact_at(contract_address(1), &[replace(4, 5)]);
    let first = (now + 2) * LENGTH;
    world.reach(first - 1);
    assert_eq!(world.tenures(), [(2, 2 * LENGTH), (now + 2, first)]);
    world.follow(&[1, 2, 3, 5], now + 2);
    world.seal(Vec::new());
    assert_eq!((world.replay.authority().handovers(), world.replay.authority().successions()), (2, 2));
}

/// The greatest charter that operators of one network make has room in a block of a ledger that one host began.
#[test]
fn the_greatest_charter_fits_a_block() {
    let mut world = World::sealed_by(alone(), 9);
    let seeds: Vec<u64> = (1..=16).collect();
    let mut charter = charter(&seeds, LENGTH);
    for founder in &mut charter.validators {
        founder.address = format!("{}:1", "h".repeat(257));
    }
    charter.threshold = 11;
    assert_eq!(charter.charter_fault(world.replay.genesis()), None);
    let txs = opening(&mut world, charter.charter_key(), Some((&charter, 0)));
    let made = try_build(&world, txs).unwrap();
    let gas = made.block.header.gas_used;
    assert!(gas < CHARTER_GAS * 3 / 4, "{gas}");
    let few = Genesis { gas_limit: CHARTER_GAS, ..alone() };
    assert!(charter.charter_fault(&few).is_some());
}

#[test]
fn who_governs_is_enrolled_by_the_owner_alone() {
    let mut world = grown();
    let who = address(operator(9).account());
    let enrolled = Access::isEnrolledCall { who }.abi_encode();
    let ask =
        crate::call::Call::read(alloy_primitives::Address::ZERO, world.replay.genesis().access_address(), enrolled);
    let (genesis, head, nodes) = (world.replay.genesis(), world.replay.head(), world.replay.nodes());
    let answer = crate::call::call(genesis, head, nodes, &ask).unwrap().outcome;
    assert_eq!(answer, crate::call::CallOutcome::Returned(vec![0; 32].into()), "a charter enrols nobody");
    world.seal(Vec::new());
}
