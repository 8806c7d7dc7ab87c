//! Blocks: the rules B1 to B4, the real contracts, bytes that were changed.

use std::convert::Infallible;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use blockhouse_crypto::AccountSecret;

use super::world::{FLOOR, GAS, World, address, secret};
use crate::block::{BlockObject, encode_block};
use crate::call::{Call, CallOutcome, Estimate, call, estimate_gas};
use crate::contracts::{Access, OwnerAfterFloor, Vault};
use crate::events::Event;
use crate::execute::{BuildError, Executed, ImportError, build, import};
use crate::genesis::{DEPLOYMENT_GAS, Genesis};
use crate::proof::prove_account;
use crate::rules::TransactionFault;
use crate::time::BlockTime;
use crate::transaction::Request;

type Change = fn(&mut crate::block::Block);
type Built = Result<Executed, BuildError<Infallible>>;

fn try_build(world: &World, txs: Vec<TxEnvelope>) -> Built {
    build(world.genesis(), world.replay.head(), world.replay.nodes(), txs, world.next_time())
}

fn fault(built: Built) -> TransactionFault {
    match built.unwrap_err() {
        BuildError::Transaction { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn sign(tx: &impl SignableTransaction<Signature>, sender: &AccountSecret) -> Signature {
    let [rs @ .., v] = sender.sign(&tx.signature_hash().0);
    Signature::from_bytes_and_parity(&rs, v == 1)
}

#[test]
fn deployments_stand_where_genesis_says() {
    let mut world = World::begin(1 << 40);
    let made = world.deploy();
    for receipt in &made.receipts {
        assert!(receipt.status());
    }
    assert!(made.block.header.gas_used < DEPLOYMENT_GAS * 2, "{}", made.block.header.gas_used);
    let genesis = world.genesis();
    let (access, vault, policy) = (genesis.access_address(), genesis.vault_address(), genesis.policy_address());
    assert_eq!(world.read(access, Access::ownerCall {}), address(world.owner.account()));
    assert!(world.read(access, Access::isRecoveryCall(address(world.recovery.account()))));
    assert_eq!(world.read(policy, OwnerAfterFloor::floorSecondsCall {}), FLOOR);
    assert_eq!(world.read(vault, Vault::accessCall {}), access);
    assert_eq!(world.read(vault, Vault::vaultIdCall {}).0, genesis.vault_id.to_bytes());
    assert_eq!(world.read(vault, Vault::defaultRecipientsCall {}).0, genesis.recipients.to_bytes());
    assert_eq!(world.read(vault, Vault::defaultPolicyCall {}), policy);
}

#[test]
fn genesis_has_one_encoding_and_its_hash_commits_to_it() {
    let genesis = super::world::genesis(1 << 40);
    let bytes = genesis.encode();
    assert_eq!(Genesis::decode(&bytes).unwrap(), genesis);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        if let Ok(other) = Genesis::decode(&flipped) {
            assert_ne!(other.hash(), genesis.hash(), "byte {at}");
        }
    }
    let refused = |change: fn(&mut Genesis)| {
        let mut other = genesis.clone();
        change(&mut other);
        Genesis::decode(&other.encode()).is_err()
    };
    assert!(refused(|g| g.chain_id = (1 << 32) - 1));
    assert!(refused(|g| g.chain_id = 1 << 53));
    assert!(refused(|g| g.recovery.push(g.owner)));
    assert!(refused(|g| g.recovery.push(g.recovery[0])));
    assert!(refused(|g| g.forks.clear()));
    assert!(refused(|g| g.forks[0].0 = g.time + 1));
    assert!(refused(|g| g.gas_limit = 0));
}

#[test]
fn a_snapshot_is_recorded_and_its_events_decode() {
    let mut world = World::new();
    let (snapshot, source) = (B256::repeat_byte(5), B256::repeat_byte(6));
    let committed = world.commit(snapshot, source);
    let found = world.read(world.genesis().vault_address(), Vault::snapshotCall { id: snapshot });
    assert_eq!((found.source, found.writer), (source, address(world.writer.account())));
    assert_eq!((found.committedAt, found.block), (world.now(), world.replay.head().number));
    let events: Vec<_> =
        committed.receipts[0].logs().iter().map(|log| Event::decode(world.genesis(), log).unwrap().unwrap()).collect();
    assert!(events.iter().any(|event| matches!(event,
        Event::Vault(Vault::VaultEvents::SnapshotCommitted(event)) if event.snapshot == snapshot)));
    let foreign = alloy_primitives::Log::new_unchecked(Address::repeat_byte(1), vec![], Bytes::new());
    assert_eq!(Event::decode(world.genesis(), &foreign).unwrap(), None);
}

#[test]
fn a_failed_transaction_costs_a_nonce_and_changes_nothing_else() {
    let mut world = World::new();
    let vault = world.genesis().vault_address();
    let before = world.replay.state().account(&vault).unwrap();
    let tx = world.to_vault(&world.writer, Vault::setDefaultRecipientsCall { set: B256::ZERO });
    let made = world.seal_all(vec![tx]);
    assert!(!made.receipts[0].status());
    assert!(made.receipts[0].logs().is_empty());
    assert_eq!(world.replay.state().account(&vault).unwrap(), before);
    assert_eq!(world.nonce(&world.writer), 1);
}

#[test]
fn transactions_of_another_form_are_refused() {
    let world = World::new();
    let chain_id = world.genesis().chain_id;
    let to = TxKind::Call(world.genesis().vault_address());
    let good = TxEip1559 { chain_id, gas_limit: GAS, to, ..TxEip1559::default() };
    let refused = |tx: TxEip1559| {
        let signature = sign(&tx, &world.writer);
        fault(try_build(&world, vec![tx.into_signed(signature).into()]))
    };
    let other = TxEip1559 { chain_id: chain_id + 1, ..good.clone() };
    assert_eq!(refused(other), TransactionFault::Chain { found: chain_id + 1, expected: chain_id });
    assert_eq!(refused(TxEip1559 { max_fee_per_gas: 1, ..good.clone() }), TransactionFault::Price);
    assert_eq!(refused(TxEip1559 { max_priority_fee_per_gas: 1, ..good.clone() }), TransactionFault::Price);
    assert_eq!(refused(TxEip1559 { value: U256::ONE, ..good.clone() }), TransactionFault::Value);
    let early = TransactionFault::Early { nonce: 1, expected: 0 };
    assert_eq!(refused(TxEip1559 { nonce: 1, ..good.clone() }), early);
    let limit = world.genesis().gas_limit + 1;
    let too_much = TxEip1559 { gas_limit: limit, ..good };
    assert_eq!(refused(too_much), TransactionFault::Gas { limit, left: limit - 1 });

    let legacy = TxLegacy { chain_id: None, gas_limit: GAS, to, ..TxLegacy::default() };
    let signature = sign(&legacy, &world.writer);
    assert_eq!(fault(try_build(&world, vec![legacy.into_signed(signature).into()])), TransactionFault::NoChain);
    let typed = TxEip2930 { chain_id, gas_limit: GAS, to, ..TxEip2930::default() };
    let signature = sign(&typed, &world.writer);
    assert_eq!(
        fault(try_build(&world, vec![typed.into_signed(signature).into()])),
        TransactionFault::Type { found: 1 }
    );
}

#[test]
fn a_legacy_transaction_with_chain_id_is_taken() {
    let mut world = World::new();
    let open = <Vault::openSessionCall as alloy_sol_types::SolCall>::abi_encode(&Vault::openSessionCall {
        leaseSeconds: 3600,
    });
    let legacy = TxLegacy {
        chain_id: Some(world.genesis().chain_id),
        gas_limit: GAS,
        to: TxKind::Call(world.genesis().vault_address()),
        input: open.into(),
        ..TxLegacy::default()
    };
    let signature = sign(&legacy, &world.writer);
    world.seal(legacy.into_signed(signature).into());
}

#[test]
fn only_enrolled_accounts_send() {
    let mut world = World::begin(1 << 40);
    let anyone = secret(77);
    let deploy =
        |world: &World, sender: &AccountSecret| try_build(world, vec![world.tx(sender, TxKind::Create, vec![0])]);
    // Before `Access` stands: those whom genesis names.
    assert!(deploy(&world, &world.owner).is_ok());
    assert!(deploy(&world, &world.recovery).is_ok());
    let sender = address(anyone.account());
    assert_eq!(fault(deploy(&world, &anyone)), TransactionFault::Sender { sender });

    // From then on: those whom `Access` names, also where genesis named them.
    world.deploy();
    assert_eq!(
        fault(deploy(&world, &world.writer)),
        TransactionFault::Sender { sender: address(world.writer.account()) }
    );
    let recovery = address(world.recovery.account());
    assert!(deploy(&world, &world.recovery).is_ok());
    world.seal(world.to_access(&world.owner, Access::removeRecoveryCall { who: recovery }));
    assert_eq!(fault(deploy(&world, &world.recovery)), TransactionFault::Sender { sender: recovery });
}

#[test]
fn a_revoked_writer_sends_nothing_more_but_in_the_block_that_revokes_it() {
    let mut world = World::new();
    let who = address(world.writer.account());
    let revoke = world.to_access(&world.owner, Access::revokeWriterCall { who });
    let open = world.to_vault(&world.writer, Vault::openSessionCall { leaseSeconds: 3600 });
    let made = world.seal_all(vec![revoke, open]);
    assert!(made.receipts[0].status());
    // Enrolled at the parent, so it may stand in the block; the contract refuses it.
    assert!(!made.receipts[1].status());
    let open = world.to_vault(&world.writer, Vault::openSessionCall { leaseSeconds: 3600 });
    assert_eq!(fault(try_build(&world, vec![open])), TransactionFault::Sender { sender: who });
}

#[test]
fn time_must_rise() {
    let world = World::new();
    let at =
        |time| build(world.genesis(), world.replay.head(), world.replay.nodes(), vec![], BlockTime::of_seconds(time));
    assert!(matches!(at(world.now()), Err(BuildError::Time { .. })));
    assert!(at(world.now() + 1).is_ok());
}

#[test]
fn every_changed_header_field_is_refused() {
    let world = World::new();
    let good = world.build(vec![world.to_vault(&world.writer, Vault::openSessionCall { leaseSeconds: 3600 })]);
    let (genesis, head, state) = (world.genesis(), world.replay.head(), world.replay.nodes());
    assert_eq!(import(genesis, head, state, &good.block).unwrap(), good);
    let changes: [Change; 16] = [
        |b| b.header.parent_hash = B256::ZERO,
        |b| b.header.number += 1,
        |b| b.header.state_root = B256::ZERO,
        |b| b.header.receipts_root = B256::ZERO,
        |b| b.header.transactions_root = B256::ZERO,
        |b| b.header.logs_bloom = alloy_primitives::Bloom::ZERO,
        |b| b.header.gas_used += 1,
        |b| b.header.gas_limit += 1,
        |b| b.header.extra_data = Bytes::from_static(b"x"),
        |b| b.header.beneficiary = Address::repeat_byte(1),
        |b| b.header.base_fee_per_gas = Some(1),
        |b| b.header.mix_hash = B256::repeat_byte(1),
        |b| b.header.blob_gas_used = Some(0),
        |b| b.header.withdrawals_root = None,
        |b| b.body.withdrawals = None,
        |b| b.body.ommers.push(b.header.clone()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut block = good.block.clone();
        change(&mut block);
        let refused = import(genesis, head, state, &block).unwrap_err();
        assert!(matches!(refused, ImportError::Differs { .. } | ImportError::Height { .. }), "{index}: {refused:?}");
    }
    // The lease of a session stands in the state: another time gives another root.
    let mut later = good.block.clone();
    later.header.timestamp += 1;
    assert!(matches!(import(genesis, head, state, &later), Err(ImportError::Differs { field: "a state root", .. })));
}

#[test]
fn every_flipped_byte_of_a_block_object_is_refused() {
    let mut world = World::new();
    let before = world.replay.clone();
    world.open_session();
    let bytes = world.objects.last().unwrap().clone();
    assert!(before.clone().extend(&BlockObject::decode(&bytes).unwrap()).is_ok());
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let Ok(object) = BlockObject::decode(&flipped) else { continue };
            assert!(before.clone().extend(&object).is_err(), "byte {at}, bit {bit:#x}");
        }
    }
    for length in 0..bytes.len() {
        assert!(BlockObject::decode(&bytes[..length]).is_err(), "length {length}");
    }
}

#[test]
fn every_flipped_byte_of_block_0_makes_another_ledger_or_none() {
    let world = World::begin(1 << 40);
    let bytes = &world.objects[0];
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let begun = BlockObject::decode(&flipped).ok().and_then(|object| crate::replay::Replay::begin(&object).ok());
        assert!(begun.is_none(), "byte {at}");
    }
}

#[test]
fn a_replay_that_refused_a_block_still_takes_the_right_one() {
    let mut world = World::new();
    let good = world.build(vec![]);
    let stranger = world.object(&good, &super::world::ledger_key(66));
    assert!(world.replay.extend(&stranger).is_err());
    world.take(&good);
}

#[test]
fn a_destroyed_contract_takes_its_slots_with_it() {
    let mut world = World::new();
    // With input it destroys itself; without, it sets slot 1 to 1.
    let runtime = hex!("36600a57600160015500" "5b33ff");
    let mut init = vec![0x6c];
    init.extend_from_slice(&runtime);
    init.extend_from_slice(&hex!("600052600d6013f3"));
    let bomb = address(world.owner.account()).create(world.nonce(&world.owner));
    world.seal(world.tx(&world.owner, TxKind::Create, init));
    world.seal(world.tx(&world.owner, TxKind::Call(bomb), vec![]));
    assert_eq!(world.replay.state().slot(&bomb, &U256::ONE).unwrap(), U256::ONE);
    world.seal(world.tx(&world.owner, TxKind::Call(bomb), vec![1]));
    assert_eq!(world.replay.state().account(&bomb).unwrap(), None);
    assert_eq!(world.replay.state().slot(&bomb, &U256::ONE).unwrap(), U256::ZERO);
}

#[test]
fn proofs_of_the_state_verify_under_its_root_only() {
    let world = World::new();
    let vault = world.genesis().vault_address();
    let state = world.replay.state();
    let is_set = |key: &U256| !state.slot(&vault, key).unwrap().is_zero();
    let keys: Vec<_> = (0..64).map(U256::from).filter(is_set).collect();
    let root = world.replay.head().state_root;
    let proof = prove_account(&state, vault, &keys).unwrap();
    assert!(proof.slots.len() > 1);
    proof.check(root).unwrap();
    assert!(proof.check(B256::repeat_byte(1)).is_err());
    let mut other = proof.clone();
    other.slots[0].value += U256::ONE;
    assert!(other.check(root).is_err());
    let mut other = proof;
    other.record.nonce += 1;
    assert!(other.check(root).is_err());
}

#[test]
fn an_estimate_is_the_least_gas_that_suffices() {
    let world = World::new();
    let vault = world.genesis().vault_address();
    let input = <Vault::openSessionCall as alloy_sol_types::SolCall>::abi_encode(&Vault::openSessionCall {
        leaseSeconds: 3600,
    });
    let (genesis, head, state) = (world.genesis(), world.replay.head(), world.replay.nodes());
    let ask = Call { time: Some(world.now() + 1), ..Call::read(address(world.writer.account()), vault, input) };
    let Estimate::Gas(gas) = estimate_gas(genesis, head, state, &ask).unwrap() else { panic!() };
    let with = |gas| call(genesis, head, state, &Call { gas: Some(gas), ..ask.clone() }).unwrap().outcome;
    assert!(matches!(with(gas), CallOutcome::Returned(_)));
    assert!(!matches!(with(gas - 1), CallOutcome::Returned(_)));

    let stranger = Call { from: Address::repeat_byte(9), ..ask };
    let fails = estimate_gas(genesis, head, state, &stranger).unwrap();
    assert!(matches!(fails, Estimate::Fails(CallOutcome::Reverted(_))));
}

#[test]
fn a_block_holds_many_transactions_of_one_sender_in_nonce_order() {
    let world = World::new();
    let (chain_id, to) = (world.genesis().chain_id, TxKind::Call(world.genesis().vault_address()));
    let open = <Vault::openSessionCall as alloy_sol_types::SolCall>::abi_encode(&Vault::openSessionCall {
        leaseSeconds: 3600,
    });
    let tx = |nonce| Request { chain_id, nonce, to, input: open.clone().into(), gas: GAS }.sign(&world.writer);
    let made = try_build(&world, vec![tx(0), tx(1), tx(2)]).unwrap();
    assert!(made.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
    assert!(!encode_block(&made.block).is_empty());
    assert!(matches!(fault(try_build(&world, vec![tx(1), tx(0)])), TransactionFault::Early { .. }));
}
