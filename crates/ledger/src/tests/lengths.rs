//! How long receipts of a network are, and the golden files of those without links.
//!
//! What is said here stands on the page: `docs/design/receipts.md`, section *Length*.

use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::TxKind;
use alloy_sol_types::SolCall;
use blockhouse_types::SnapshotId;

use super::governed::{World, certify, commit, commit_of, genesis, golden_receipt, operator, receipt};
use super::resharing;
use crate::Certificate;
use crate::contracts::Vault;
use crate::execute::Executed;
use crate::receipt::{Receipt, ReceiptParts};

/// The goal of a receipt.
const GOAL: usize = 8 * 1024;
/// What a block between a snapshot's and the one that was signed adds: its header in hexadecimal.
const DESCENDANT: usize = 1_100;

/// A snapshot committed at that place among so many transactions of one block, the ledger's own not counted.
fn commit_among(world: &mut World, count: usize, place: usize) -> Executed {
    let vault = TxKind::Call(genesis().vault_address());
    let own = commit_of(world);
    let ask = Vault::epochCall {}.abi_encode();
    let mut txs: Vec<TxEnvelope> =
        (1..count).map(|_| world.sign(&operator(1), vault, ask.clone().into(), 60_000)).collect();
    txs.insert(place, own);
    world.seal(txs)
}

/// The certificate of a committee of four by the block that many above, with the headers between.
fn certified_above(world: &mut World, descendants: usize) -> Certificate {
    let above: Vec<Header> = (0..descendants).map(|_| world.seal(Vec::new()).block.header).collect();
    let signed = above.last().cloned().unwrap_or_else(|| world.replay.head().clone());
    let mut certificate = certify(&[1, 2, 3, 4], 0, &signed);
    if let Certificate::Committee(committee) = &mut certificate {
        committee.finality.descendants = above;
    }
    certificate
}

fn of(world: &World, made: &Executed, certificate: &Certificate) -> Receipt {
    let parts = ReceiptParts {
        root: world.root(genesis().ledger_key),
        links: &[],
        header: &made.block.header,
        receipts: &made.receipts,
        descendants: &[],
        certificate,
        snapshot: SnapshotId::new([5; 32]),
        file: None,
    };
    let receipt = Receipt::from_parts(&parts).unwrap();
    Receipt::parse(&receipt.to_bytes()).unwrap().check(Some(parts.root.fingerprint())).unwrap();
    receipt
}

/// In a full block, wherever it stands there, one block before the one that was signed: a receipt by a committee of four is within its goal.
/// What lies further apart costs a header each, and no more.
#[test]
fn receipts_of_a_committee_are_within_their_goal_in_full_blocks() {
    for count in [1, 80, 300] {
        for place in [0, count / 2, count - 1] {
            let mut world = World::new();
            let made = commit_among(&mut world, count, place);
            let certificate = certified_above(&mut world, 1);
            let length = of(&world, &made, &certificate).to_bytes().len();
            assert!(length <= GOAL, "{length} bytes among {count} transactions, at {place}");
            println!("{count} transactions, at {place}, one descendant: {length} bytes");
        }
    }
    let mut world = World::new();
    let made = commit_among(&mut world, 300, 150);
    let lengths = [0, 1, 5].map(|descendants| {
        let mut world = world.clone();
        let certificate = certified_above(&mut world, descendants);
        of(&world, &made, &certificate).to_bytes().len()
    });
    assert!(lengths[1] - lengths[0] <= DESCENDANT && lengths[2] - lengths[1] <= 4 * DESCENDANT, "{lengths:?}");
}

/// Version 3 without links: by a committee, by one shared key. Versions 1 and 2 stay readable: their golden files are elsewhere.
#[test]
fn golden_files_of_receipts_without_links_hold() {
    let mut world = World::new();
    let made = commit(&mut world);
    let certificate = certified_above(&mut world, 1);
    golden_receipt(("receipt-committee.json", "fingerprint-2.txt"), &of(&world, &made, &certificate));
    let mut world = resharing::world();
    let made = commit(&mut world);
    let key = world.replay.genesis().ledger_key;
    let shared = receipt(&world, &made, (key, &[]));
    assert!(shared.to_bytes().len() <= GOAL - 2 * DESCENDANT, "{} bytes", shared.to_bytes().len());
    golden_receipt(("receipt-threshold.json", "fingerprint-threshold.txt"), &shared);
}
