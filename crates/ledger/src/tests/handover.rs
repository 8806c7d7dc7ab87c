//! Handovers: B5, the key in force, and which chain `recover` takes.

use std::cmp::Ordering;

use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_types::Account;

use super::world::{World, address, ledger_key, secret};
use crate::chain::compare;
use crate::contracts::{Access, Vault};
use crate::execute::{BuildError, build};
use crate::handover::{Handover, RecoveryChange, approve, may_hand_over, signer};
use crate::replay::ReplayError;

fn handover_call(world: &World, key: [u8; 32]) -> Access::handoverCall {
    Access::handoverCall { nextKey: B256::new(key), parentHash: world.replay.head().hash_slow() }
}

fn refused_as_handover(world: &World, txs: Vec<alloy_consensus::TxEnvelope>) -> bool {
    let built = build(world.genesis(), world.replay.head(), world.replay.nodes(), txs, world.next_time());
    matches!(built, Err(BuildError::Handover { .. }))
}

#[test]
fn a_recovery_account_names_the_next_key() {
    let mut world = World::new();
    let (old, next) = (ledger_key(9), ledger_key(10));
    let before = world.replay.authority().fingerprint(world.genesis());
    let made = world.build(vec![world.to_access(&world.recovery, handover_call(&world, next.public()))]);
    assert_eq!(made.handover, Some(next.public()));

    // The block itself is the first that the next key certifies.
    let by_old = world.object(&made, &old);
    assert!(matches!(world.replay.extend(&by_old), Err(ReplayError::Authority { .. })));
    world.ledger_key = next;
    world.take(&made);
    let authority = world.replay.authority();
    assert_eq!((authority.handovers(), authority.ledger_key()), (1, world.ledger_key.public()));
    assert_ne!(authority.fingerprint(world.genesis()), before);
    assert_eq!(world.read(world.genesis().access_address(), Access::handoversCall {}), 1);

    // The old key, which a thief may have, certifies nothing any more.
    let after = world.build(vec![]);
    let by_old = world.object(&after, &old);
    assert!(matches!(world.replay.extend(&by_old), Err(ReplayError::Authority { .. })));
    world.take(&after);
}

#[test]
fn a_stolen_sealing_key_makes_no_handover() {
    let mut world = World::new();
    let thief = ledger_key(66);
    // The thief of the host has the sealing key and the writer account.
    let call = handover_call(&world, thief.public());
    assert!(refused_as_handover(&world, vec![world.to_access(&world.writer, call)]));
    // A block of its own without a handover stays under the old key.
    let made = world.build(vec![]);
    assert!(world.replay.extend(&world.object(&made, &thief)).is_err());
    world.take(&made);
    assert_eq!(world.replay.authority().handovers(), 0);
}

#[test]
fn a_handover_stands_alone_and_on_its_parent() {
    let world = World::new();
    let next = ledger_key(10).public();
    let hand = world.to_access(&world.recovery, handover_call(&world, next));
    let open = world.to_vault(&world.writer, Vault::openSessionCall { leaseSeconds: 3600 });
    assert!(refused_as_handover(&world, vec![hand.clone(), open.clone()]));
    assert!(refused_as_handover(&world, vec![open, hand]));

    let elsewhere = Access::handoverCall { nextKey: B256::new(next), parentHash: B256::repeat_byte(1) };
    assert!(refused_as_handover(&world, vec![world.to_access(&world.recovery, elsewhere)]));
    let no_key = Access::handoverCall { nextKey: B256::ZERO, parentHash: world.replay.head().hash_slow() };
    assert!(refused_as_handover(&world, vec![world.to_access(&world.recovery, no_key)]));
}

#[test]
fn a_removed_recovery_account_hands_nothing_over() {
    let mut world = World::new();
    let who = address(world.recovery.account());
    world.seal(world.to_access(&world.owner, Access::removeRecoveryCall { who }));
    let call = handover_call(&world, ledger_key(10).public());
    let built = build(
        world.genesis(),
        world.replay.head(),
        world.replay.nodes(),
        vec![world.to_access(&world.recovery, call)],
        world.next_time(),
    );
    assert!(matches!(built, Err(BuildError::Transaction { .. })), "{built:?}");

    // Enrolled in another role it may send, and still hands nothing over.
    let enrol = Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
    world.seal(world.to_access(&world.owner, enrol));
    let call = handover_call(&world, ledger_key(10).public());
    assert!(refused_as_handover(&world, vec![world.to_access(&world.recovery, call)]));
}

/// A contract as recovery account would let any enrolled sender hand over: its signature would not be a recovery
/// account's. Such a block is invalid.
#[test]
fn a_handover_inside_another_call_is_refused() {
    let mut world = World::new();
    // Forwards its input to `Access`.
    let mut runtime = alloy_primitives::hex!("366000600037600060003660006000" "73").to_vec();
    runtime.extend_from_slice(world.genesis().access_address().as_slice());
    runtime.extend_from_slice(&alloy_primitives::hex!("5af100"));
    let length = u8::try_from(runtime.len()).unwrap();
    let mut init = vec![0x60, length, 0x60, 12, 0x60, 0, 0x39, 0x60, length, 0x60, 0, 0xf3];
    init.extend_from_slice(&runtime);
    let forwarder = address(world.owner.account()).create(world.nonce(&world.owner));
    world.seal(world.tx(&world.owner, TxKind::Create, init));
    world.seal(world.to_access(&world.owner, Access::addRecoveryCall { who: forwarder }));

    let input = handover_call(&world, ledger_key(66).public()).abi_encode();
    assert!(refused_as_handover(&world, vec![world.tx(&world.writer, TxKind::Call(forwarder), input)]));
    // The forwarder does reach `Access`: without the right parent nothing is emitted and the block is an ordinary one.
    let input = Access::handoverCall { nextKey: B256::repeat_byte(1), parentHash: B256::ZERO }.abi_encode();
    let made = world.build(vec![world.tx(&world.writer, TxKind::Call(forwarder), input)]);
    assert_eq!(made.handover, None);
}

#[test]
fn recover_prefers_handovers_then_height() {
    let mut recovered = World::new();
    let mut stolen = World::new();
    let call = handover_call(&recovered, ledger_key(10).public());
    let made = recovered.build(vec![recovered.to_access(&recovered.recovery, call)]);
    recovered.ledger_key = ledger_key(10);
    recovered.take(&made);
    for _ in 0..5 {
        stolen.seal_all(vec![]);
    }
    let (a, b) = (recovered.replay.authority(), stolen.replay.authority());
    assert!(b.height() > a.height());
    assert_eq!(compare(a, b), Ordering::Greater);
    assert_eq!(compare(b, World::new().replay.authority()), Ordering::Greater);
}

#[test]
fn genesis_accounts_alone_cannot_hand_over_before_access_stands() {
    let world = World::begin(1 << 40);
    let call = handover_call(&world, ledger_key(66).public());
    // A call to an address without code succeeds in the EVM; it must not count as a handover.
    assert!(refused_as_handover(&world, vec![world.to_access(&secret(2), call)]));
}

/// Two of three, the owner's with another's word.
fn two_of_three() -> World {
    let mut world = World::new();
    let change = RecoveryChange { number: 0, added: vec![secret(4).account()], removed: Vec::new(), threshold: 2 };
    world.seal(world.to_access(&world.owner, change.call(Vec::new())));
    world
}

fn with_word_of(world: &World, next: [u8; 32], secrets: &[u8]) -> Handover {
    let (chain_id, access) = (world.genesis().chain_id, world.genesis().access_address());
    let handover = Handover { next_key: next, parent: world.replay.head().hash_slow(), approvals: Vec::new() };
    let digest = handover.digest(chain_id, access);
    let mut signers: Vec<_> = secrets.iter().map(|byte| secret(*byte)).collect();
    signers.sort_by_key(blockhouse_crypto::AccountSecret::account);
    let approvals = signers.iter().map(|secret| approve(&digest, secret).to_vec().into()).collect();
    Handover { approvals, ..handover }
}

/// D1: what the wallets of recovery accounts show is what the contract reads.
#[test]
fn what_is_signed_is_what_the_contract_computes() {
    let world = two_of_three();
    let (chain_id, access) = (world.genesis().chain_id, world.genesis().access_address());
    let handover = with_word_of(&world, [7; 32], &[]);
    let call = Access::handoverDigestCall { nextKey: B256::new([7; 32]), parentHash: handover.parent };
    assert_eq!(world.read(access, call).0, handover.digest(chain_id, access));
    for (added, removed) in
        [(vec![], vec![]), (vec![secret(5).account(), secret(6).account()], vec![secret(4).account()])]
    {
        let change = RecoveryChange { number: 1, added, removed, threshold: 3 };
        let Access::changeRecoveryCall { added, removed, threshold, .. } = change.call(Vec::new());
        let call = Access::recoveryChangeDigestCall { added, removed, threshold };
        assert_eq!(world.read(access, call).0, change.digest(chain_id, access));
    }
}

/// Made by eth-account 0.13 (PyPI): any wallet that knows EIP-712 signs the same.
#[test]
fn words_are_those_of_other_wallets() {
    let genesis = super::world::genesis(0x1_2345_6789);
    let (chain_id, access) = (genesis.chain_id, genesis.access_address());
    let handover = Handover { next_key: [7; 32], parent: B256::repeat_byte(9), approvals: Vec::new() };
    let account = |byte: u8| Account::new([byte; 20]);
    let (added, removed) = (vec![account(3), account(4)], vec![account(5)]);
    let change = RecoveryChange { number: 2, added, removed, threshold: 3 };
    let known = [
        (
            handover.digest(chain_id, access),
            "ebd16e37214f68a90e2afc3ff874037d5b3fff8f3f35dbd2d3aae9de97f59ce4",
            "8aaf30ba7f52cb1e0a7c1d5183d86b413d3aa0ded33d2614c25fb58e72618324738df96c9ec54cdf7b974674e00c8e67b9ba1a70dd41707d15f8b023fca73b261b",
        ),
        (
            change.digest(chain_id, access),
            "274784253fefcd4a5b064b2a65c266601c8a88e2cd786f6f5d02bff37e107de6",
            "208816169d3e605ff82bfe7103a3ab3bd4dfec684a085c0dc11c5af303e1a2ab4e23a8679ca74cef209d4ec6e766b02d90b089199df45d709e96b872af0d9e191b",
        ),
    ];
    for (digest, expected, signature) in known {
        assert_eq!(hex::encode(digest), expected);
        let word = approve(&digest, &secret(2));
        assert_eq!(hex::encode(word), signature);
        assert_eq!(signer(&digest, &word), Some(address(secret(2).account())));
    }
}

/// The block, the judgement of who only hears of it, and the count of who knows accounts alone agree, whoever signs.
#[test]
fn a_handover_takes_as_many_as_the_ledger_says() {
    let world = two_of_three();
    let (next, place) = (ledger_key(10).public(), (world.genesis().chain_id, world.genesis().access_address()));
    let accounts: Vec<Address> = [1, 2, 4].map(|byte| address(secret(byte).account())).into();
    let tries: [(u8, &[u8], bool); 9] = [
        (1, &[], false),
        (1, &[1], false),
        (1, &[3], false),
        (3, &[1, 2, 4], false),
        (1, &[2], true),
        (2, &[1], true),
        (4, &[1, 2], true),
        (1, &[2, 3, 4], true),
        (2, &[1, 2], true),
    ];
    for (sender, signers, may) in tries {
        let handover = with_word_of(&world, next, signers);
        let tx = world.tx(&secret(sender), TxKind::Call(place.1), handover.input());
        assert_eq!(Handover::read(&handover.input()).as_ref(), Some(&handover));
        let (genesis, head, nodes) = (world.genesis(), world.replay.head(), world.replay.nodes());
        assert_eq!(may_hand_over(genesis, head, nodes, &tx).unwrap(), may, "{sender} {signers:?}");
        let sender = address(secret(sender).account());
        let is_counted = accounts.contains(&sender) && handover.count(place, sender, |who| accounts.contains(who)) >= 2;
        assert_eq!(is_counted, may, "{sender} {signers:?}");
        if may {
            assert_eq!(world.build(vec![tx]).handover, Some(next));
        } else {
            assert!(refused_as_handover(&world, vec![tx]), "{sender} {signers:?}");
        }
    }
}

/// The block is the first of the next key's.
#[test]
fn a_handover_of_two_is_replayed() {
    let mut world = two_of_three();
    let (access, next) = (world.genesis().access_address(), ledger_key(10));
    let made = {
        let handover = with_word_of(&world, next.public(), &[4]);
        let tx = world.tx(&world.owner, TxKind::Call(access), handover.input());
        world.build(vec![tx])
    };
    world.ledger_key = next;
    world.take(&made);
    assert_eq!(world.replay.authority().handovers(), 1);
}

/// As a release has it that does not know the call: to a contract of the first version it is one that fails.
#[test]
fn among_other_transactions_a_call_that_fails_is_no_handover() {
    let world = World::new();
    let call = with_word_of(&world, ledger_key(10).public(), &[3]);
    let call = Handover { parent: B256::repeat_byte(1), ..call };
    let fails = world.tx(&world.owner, TxKind::Call(world.genesis().access_address()), call.input());
    let open = world.to_vault(&world.writer, Vault::openSessionCall { leaseSeconds: 3600 });
    let made = world.build(vec![fails.clone(), open]);
    assert_eq!((made.handover, made.receipts[0].status()), (None, false));
    assert!(refused_as_handover(&world, vec![fails]));
}
