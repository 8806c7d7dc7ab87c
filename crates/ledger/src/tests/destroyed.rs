//! Contracts that end: their slots go with them, in whatever order a block's transactions come.

use alloy_consensus::TxEnvelope;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};

use super::world::{GAS, World, address};
use crate::transaction::Request;

/// Writes 1 to slot 0 and leaves a contract that destroys itself when called: `CALLER SELFDESTRUCT`.
const MORTAL: [u8; 14] = hex!("60015f55 6133ff 5f52 6002 601e f3");
/// Leaves a contract that creates, by `CREATE2` with salt 0, what its input says.
const FACTORY: [u8; 18] = hex!("69 365f5f375f365f5ff500 5f52 600a 6016 f3");

/// Transactions of the writer, in order.
fn txs<const N: usize>(world: &World, calls: [(TxKind, &[u8]); N]) -> Vec<TxEnvelope> {
    let nonce = world.nonce(&world.writer);
    let sign = |(nonce, (to, input)): (u64, (TxKind, &[u8]))| {
        let request =
            Request { chain_id: world.genesis().chain_id, nonce, to, input: Bytes::copy_from_slice(input), gas: GAS };
        request.sign(&world.writer)
    };
    (nonce..).zip(calls).map(sign).collect()
}

fn seal<const N: usize>(world: &mut World, calls: [(TxKind, &[u8]); N]) {
    let txs = txs(world, calls);
    let made = world.seal_all(txs);
    assert!(made.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
}

fn slot(world: &World, contract: Address) -> U256 {
    world.replay.state().slot(&contract, &U256::ZERO).unwrap()
}

/// [`World`] looks after each block whether the store holds exactly the nodes of the state.
#[test]
fn slots_of_a_destroyed_contract_are_gone() {
    let mut world = World::new();
    let nonce = world.nonce(&world.writer);
    let contract = address(world.writer.account()).create(nonce);
    seal(&mut world, [(TxKind::Create, &MORTAL)]);
    assert_eq!(slot(&world, contract), U256::from(1));
    // The second call touches what the first one has destroyed.
    seal(&mut world, [(TxKind::Call(contract), &[]), (TxKind::Call(contract), &[])]);
    assert_eq!(world.replay.state().account(&contract).unwrap(), None);
}

#[test]
fn a_contract_that_comes_again_begins_anew() {
    let mut world = World::new();
    let factory = address(world.writer.account()).create(world.nonce(&world.writer));
    let contract = factory.create2(B256::ZERO, keccak256(MORTAL));
    let (create, call) = ((TxKind::Call(factory), MORTAL.as_slice()), (TxKind::Call(contract), [].as_slice()));
    seal(&mut world, [(TxKind::Create, &FACTORY), create]);
    assert_eq!(slot(&world, contract), U256::from(1));
    // Destroyed, touched, and created again, in one block and over two.
    seal(&mut world, [call, call, create]);
    assert_eq!(slot(&world, contract), U256::from(1));
    seal(&mut world, [call, call]);
    seal(&mut world, [create, call]);
    assert_eq!(world.replay.state().account(&contract).unwrap(), None);
    seal(&mut world, [create]);
    assert_eq!(slot(&world, contract), U256::from(1));
}
