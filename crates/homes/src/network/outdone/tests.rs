//! Which handover ends a network, and which says nothing.

use alloy_consensus::{BlockBody, Header, TxEnvelope};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::TxKind;
use alloy_sol_types::SolCall as _;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::Request;
use blockhouse_ledger::block::{Block, block_hash};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::execute::build;
use blockhouse_ledger::handover::{RecoveryChange, approve};
use blockhouse_ledger::time::BlockTime;

use super::*;
use crate::network::succession::tests::{genesis, owner, store};

const OWN: [u8; 32] = [8; 32];

fn others() -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([5; 32]))
}

/// A call that hands the ledger over, signed by that account.
fn handover(sender: &AccountSecret, key: [u8; 32], parent: B256) -> TxEnvelope {
    call_of(sender, &Named { next_key: key, parent, approvals: Vec::new() })
}

fn call_of(sender: &AccountSecret, handover: &Named) -> TxEnvelope {
    let to = TxKind::Call(genesis().access_address());
    Request { chain_id: genesis().chain_id, nonce: 3, to, input: handover.input(), gas: 1_000_000 }.sign(sender)
}

/// A block of that transaction, certified by that key; nobody executed it.
fn object(transaction: TxEnvelope, parent: B256, certifier: &LedgerKey) -> BlockObject {
    let header = Header { number: 2, parent_hash: parent, ..Header::default() };
    let withdrawals = Some(Withdrawals::default());
    let body = BlockBody { transactions: vec![transaction], ommers: Vec::new(), withdrawals };
    let block = Block::new(header, body);
    let chain_id = genesis().chain_id;
    let place = BlockPlace { chain_id, height: 2, hash: block_hash(&block.header) };
    BlockObject { chain_id, certificate: Certificate::solo(certifier, &place), block, genesis: None }
}

/// U1.
#[test]
fn only_a_handover_that_counts_on_the_own_chain_ends_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (parent, key) = (store.head().hash(), others().public());
    let judged = |object: &BlockObject| judge(&store, &OWN, object).unwrap();
    assert_eq!(judged(&object(handover(&owner(), key, parent), parent, &others())), Some(key));

    let stranger = AccountSecret::try_new(&Secret::new([6; 32])).unwrap();
    let forged = LedgerKey::from_seed(&Secret::new([7; 32]));
    let elsewhere = B256::repeat_byte(9);
    for (what, none) in [
        ("signed by an account that may not", object(handover(&stranger, key, parent), parent, &others())),
        ("certified by another key", object(handover(&owner(), key, parent), parent, &forged)),
        ("bound to another block", object(handover(&owner(), key, elsewhere), parent, &others())),
        ("on another block", object(handover(&owner(), key, elsewhere), elsewhere, &others())),
    ] {
        assert_eq!(judged(&none), None, "{what}");
    }
    let own = judge(&store, &key, &object(handover(&owner(), key, parent), parent, &others())).unwrap();
    assert_eq!(own, None, "that is the network's own beginning");
}

/// A handover that the own chain has outdone, or stands against as a rival, stops nothing.
#[test]
fn a_handover_beside_the_own_one_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let (parent, key) = (store.head().hash(), others().public());
    let rival = object(handover(&owner(), key, parent), parent, &others());
    let time = BlockTime::of_seconds(genesis().time + 2);
    let own = handover(&owner(), OWN, parent);
    let executed = build(&genesis(), store.head().header(), &store, vec![own], time).unwrap();
    // Who vouches for it is not the question here.
    store.append(&executed, &Certificate::Genesis { key: OWN }).unwrap();
    assert_eq!(judge(&store, &OWN, &rival).unwrap(), None);
}

/// Where it takes two, one alone stops no node: neither by the plain call nor with a word that is no other account's.
#[test]
fn a_handover_that_too_few_signed_ends_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let other = AccountSecret::try_new(&Secret::new([7; 32])).unwrap();
    let change = RecoveryChange { number: 0, added: vec![other.account()], removed: Vec::new(), threshold: 2 };
    let to = TxKind::Call(genesis().access_address());
    let input = change.call(Vec::new()).abi_encode().into();
    let raised = Request { chain_id: genesis().chain_id, nonce: 3, to, input, gas: 1_000_000 }.sign(&owner());
    let time = BlockTime::of_seconds(genesis().time + 2);
    let executed = build(&genesis(), store.head().header(), &store, vec![raised], time).unwrap();
    assert!(executed.receipts[0].status());
    store.append(&executed, &Certificate::Genesis { key: OWN }).unwrap();

    let (parent, key) = (store.head().hash(), others().public());
    let handover = Named { next_key: key, parent, approvals: Vec::new() };
    let digest = handover.digest(genesis().chain_id, genesis().access_address());
    let with = |secrets: &[&AccountSecret]| {
        let approvals = secrets.iter().map(|secret| approve(&digest, secret).to_vec().into()).collect();
        let mut object = object(call_of(&owner(), &Named { approvals, ..handover.clone() }), parent, &others());
        object.block.header.number = 3;
        let place = BlockPlace { chain_id: genesis().chain_id, height: 3, hash: object.hash() };
        object.certificate = Certificate::solo(&others(), &place);
        judge(&store, &OWN, &object).unwrap()
    };
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[&owner()]), None);
    assert_eq!(with(&[&AccountSecret::try_new(&Secret::new([9; 32])).unwrap()]), None);
    assert_eq!(with(&[&other]), Some(key));
}

/// Also where the own chain is the longer one: what those before recorded above the base.
#[test]
fn chains_part_where_they_do_however_long_each_is() {
    for (bottom, top) in [(0, 0), (0, 1), (0, 9), (4, 9)] {
        for shared in bottom..=top {
            let (mut parting, mut asked) = (Parting::new(bottom, top), 0);
            // Above what is shared the peer has other blocks, or none: that is the same here.
            while let Some(height) = parting.next() {
                assert!((bottom..=top).contains(&height));
                parting.learn(height, height <= shared);
                asked += 1;
            }
            assert_eq!(parting.common, Some(shared), "{bottom} to {top}");
            assert!(asked <= 5 && (shared < top || asked == 1));
        }
        let mut strange = Parting::new(bottom, top);
        while let Some(height) = strange.next() {
            strange.learn(height, false);
        }
        assert_eq!(strange.common, None, "of another ledger");
    }
}
