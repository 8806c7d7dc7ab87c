//! Blocks that a network's leader makes of what waits, and the ledger's own call at their end.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_types::limits::BLOCK_MAX;

use super::world::{GAS, World, address, ledger_key, secret};
use crate::contracts::{Access, Automation, Vault};
use crate::execute::{BuildError, Executed, Gathered, Room, build, gather, import};
use crate::rules::TransactionFault;
use crate::system::{MAKING_GAS, SYSTEM_ADDRESS, TICK_GAS, automation_address};
use crate::time::BlockTime;
use crate::transaction::Request;

const fn room(time: BlockTime) -> Room {
    Room { time, length: BLOCK_MAX }
}

fn gathered(world: &World, candidates: &[TxEnvelope]) -> Gathered {
    let (genesis, head, nodes) = (world.genesis(), world.replay.head(), world.replay.nodes());
    let gathered = gather(genesis, head, nodes, candidates, room(world.next_time())).unwrap();
    let imported = import(genesis, head, nodes, &gathered.executed.block).unwrap();
    assert_eq!(imported, gathered.executed, "G1");
    gathered
}

pub(super) fn take(world: &mut World, candidates: &[TxEnvelope]) -> Gathered {
    let gathered = gathered(world, candidates);
    world.take(&gathered.executed);
    gathered
}

fn senders(executed: &Executed) -> Vec<Address> {
    use alloy_consensus::transaction::SignerRecoverable;
    executed.block.body.transactions.iter().map(|tx| tx.recover_signer().unwrap()).collect()
}

fn session(world: &World, sender: &AccountSecret, nonce: u64) -> TxEnvelope {
    session_of(world, sender, nonce, GAS)
}

fn session_of(world: &World, sender: &AccountSecret, nonce: u64, gas: u64) -> TxEnvelope {
    let (chain_id, to) = (world.genesis().chain_id, TxKind::Call(world.genesis().vault_address()));
    let input = Vault::openSessionCall { leaseSeconds: 3600 }.abi_encode().into();
    Request { chain_id, nonce, to, input, gas }.sign(sender)
}

#[test]
fn the_system_account_has_a_secret_of_the_curve() {
    assert_ne!(*SYSTEM_ADDRESS, Address::ZERO);
    assert_eq!(automation_address(), SYSTEM_ADDRESS.create(0));
}

#[test]
fn a_network_makes_automation_once_and_ticks_from_then_on() {
    let mut world = World::new();
    let first = take(&mut world, &[]).executed;
    assert_eq!(senders(&first), [*SYSTEM_ADDRESS]);
    assert!(first.receipts[0].status(), "Automation was not made");
    assert!(first.block.header.gas_used < MAKING_GAS);
    assert_eq!(world.read(automation_address(), Automation::vaultCall {}), world.genesis().vault_address());

    let open = session(&world, &world.writer, 0);
    let second = take(&mut world, &[open]).executed;
    assert_eq!(senders(&second), [address(world.writer.account()), *SYSTEM_ADDRESS]);
    assert!(second.receipts.iter().all(alloy_consensus::TxReceipt::status));
    assert_eq!(second.block.body.transactions[1].to(), Some(automation_address()));
    assert!(second.receipts[1].cumulative_gas_used() - second.receipts[0].cumulative_gas_used() < TICK_GAS / 2);
}

#[test]
fn before_the_contracts_stand_a_block_may_be_empty() {
    let world = World::begin(0x1_2345_6789);
    assert!(gathered(&world, &[]).executed.block.body.transactions.is_empty());
}

/// S1 and S2: nothing else of the system account, and no block without its tick.
#[test]
fn a_block_without_its_tick_or_with_another_is_refused() {
    let mut world = World::new();
    take(&mut world, &[]);
    let (genesis, head, nodes) = (world.genesis().clone(), world.replay.head().clone(), world.replay.nodes().clone());
    let try_build = |txs: Vec<TxEnvelope>| build(&genesis, &head, &nodes, txs, world.next_time());
    let open = || session(&world, &world.writer, 0);
    let tick = gathered(&world, &[]).executed.block.body.transactions[0].clone();

    assert!(matches!(try_build(vec![]), Err(BuildError::NoTick { .. })));
    assert!(matches!(try_build(vec![open()]), Err(BuildError::NoTick { .. })));
    assert!(matches!(try_build(vec![tick.clone(), open()]), Err(BuildError::NoTick { .. })));
    assert!(try_build(vec![open(), tick.clone()]).is_ok());
    let twice = try_build(vec![tick.clone(), tick.clone()]).unwrap_err();
    assert!(matches!(twice, BuildError::Transaction { index: 0, source: TransactionFault::System, .. }), "{twice:?}");

    // Anybody can sign for the system account: the rules let no other word of it in.
    let system = AccountSecret::try_new(&blockhouse_crypto::Secret::new(blockhouse_crypto::hash::hash(
        "blockhouse v1 system account",
        &[],
    )))
    .unwrap();
    let input = Automation::tickCall {}.abi_encode().into();
    let request = Request {
        chain_id: genesis.chain_id,
        nonce: 1,
        to: TxKind::Call(automation_address()),
        input,
        gas: TICK_GAS - 1,
    };
    let forged = try_build(vec![request.sign(&system)]);
    assert!(matches!(forged, Err(BuildError::NoTick { .. })), "{forged:?}");
    let offered = gathered(&world, &[session(&world, &system, 1)]);
    assert_eq!(offered.refused, [(0, TransactionFault::System)]);
}

#[test]
fn an_embedded_ledger_needs_no_tick() {
    let mut world = World::new();
    world.seal_all(vec![]);
    world.seal_all(vec![session(&world, &world.writer, 0)]);
}

/// G2: what cannot run is refused, what only has to wait is neither taken nor refused, and the others do not suffer.
#[test]
fn what_cannot_stand_in_a_block_is_left_out_of_it() {
    let world = World::new();
    let stranger = secret(77);
    let good = |nonce| session(&world, &world.writer, nonce);
    let greedy = Request {
        chain_id: world.genesis().chain_id,
        nonce: 1,
        to: TxKind::Call(Address::ZERO),
        input: alloy_primitives::Bytes::new(),
        gas: world.genesis().gas_limit,
    };
    let candidates = [
        session(&world, &stranger, 0),
        good(0),
        greedy.sign(&world.writer),
        good(2),
        good(1),
        good(1),
        world.to_access(&world.owner, Access::addRecoveryCall { who: Address::repeat_byte(5) }),
    ];
    let Gathered { executed, refused } = gathered(&world, &candidates);
    let txs = &executed.block.body.transactions;
    assert_eq!(&txs[..3], [candidates[1].clone(), candidates[4].clone(), candidates[6].clone()]);
    assert_eq!(txs.len(), 4, "and the ledger's own");
    let places: Vec<usize> = refused.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [0, 2, 5], "{refused:?}");
    assert!(matches!(refused[0].1, TransactionFault::Sender { .. }));
    assert!(matches!(refused[1].1, TransactionFault::Gas { .. }));
    assert!(matches!(refused[2].1, TransactionFault::Invalid { .. }));
}

#[test]
fn a_full_block_leaves_the_rest_for_the_next() {
    let mut world = World::new();
    // None uses what it may; each needs that much left.
    let gas = world.genesis().gas_limit * 4 / 5;
    let many: Vec<TxEnvelope> = (0..40).map(|nonce| session_of(&world, &world.writer, nonce, gas)).collect();
    let first = take(&mut world, &many);
    assert!(first.refused.is_empty());
    let taken = first.executed.block.body.transactions.len() - 1;
    assert!((1..40).contains(&taken), "{taken} of 40 fit by their gas limits");
    assert!(first.executed.block.header.gas_used <= world.genesis().gas_limit);
    let second = take(&mut world, &many[taken..]);
    assert!(second.refused.is_empty() && second.executed.block.body.transactions.len() > 1);
}

#[test]
fn a_handover_waits_for_a_block_of_its_own() {
    let mut world = World::new();
    take(&mut world, &[]);
    let handover = |world: &World| {
        let (next, parent) = (ledger_key(10).public(), world.replay.head().hash_slow());
        world.to_access(&world.recovery, Access::handoverCall { nextKey: B256::new(next), parentHash: parent })
    };
    let open = session(&world, &world.writer, 0);
    let behind = gathered(&world, &[open.clone(), handover(&world)]);
    assert!(behind.refused.is_empty());
    assert_eq!(behind.executed.block.body.transactions[0], open);
    assert_eq!(behind.executed.block.body.transactions.len(), 2);
    assert_eq!(behind.executed.handover, None);

    let first = gathered(&world, &[handover(&world), open]);
    assert_eq!(first.executed.block.body.transactions.len(), 1, "neither the other nor a tick stands beside it");
    assert_eq!(first.executed.handover, Some(ledger_key(10).public()));
}

/// Several blocks a second: the milliseconds rise, the seconds do not fall.
#[test]
fn blocks_of_one_second_rise_by_milliseconds() {
    let mut world = World::new();
    let second = world.now() + 10;
    for millis in [0, 1, 255, 256, 999] {
        let time = BlockTime::of_millis(second * 1000 + millis);
        let (genesis, head, nodes) = (world.genesis(), world.replay.head(), world.replay.nodes());
        let executed = gather(genesis, head, nodes, &[], room(time)).unwrap().executed;
        assert_eq!(BlockTime::of(&executed.block.header), Ok(time));
        assert_eq!(executed.block.header.timestamp, second);
        world.take(&executed);
        let again = gather(world.genesis(), world.replay.head(), world.replay.nodes(), &[], room(time));
        assert!(matches!(again, Err(BuildError::Time { .. })), "{again:?}");
    }
}
