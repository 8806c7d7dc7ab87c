//! A run over the block with which a tenure ends: there another key vouches.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_ledger::block::{BlockObject, block_hash};
use blockhouse_ledger::certificate::{Certificate, Committee, Finality, Vote, namespace, quorum};
use blockhouse_ledger::contracts::{Access as Accounts, Validators};
use blockhouse_ledger::execute::{Room, gather};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::governance::{LEAD, validators_address};
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::state::MemoryState;
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{Fork, Founder, Genesis, Governance, Request, succession};
use blockhouse_types::{Encoder, RecipientSetHash, VaultId};
use commonware_codec::Encode as _;
use commonware_cryptography::Signer as _;
use commonware_cryptography::ed25519::PrivateKey;

use super::import_run;
use crate::store::{Access, Store};

pub(crate) const CHAIN: u64 = 1 << 40;
pub(crate) const LENGTH: u64 = 16;
pub(crate) const OLD: [u64; 4] = [1, 2, 3, 4];
pub(crate) const NEW: [u64; 4] = [1, 2, 3, 5];

pub(crate) fn public(node: u64) -> [u8; 32] {
    PrivateKey::from_seed(node).public_key().encode().as_ref().try_into().unwrap()
}

fn account(number: u64) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([u8::try_from(number).unwrap(); 32])).unwrap()
}

fn address(number: u64) -> Address {
    Address::new(account(number).account().to_bytes())
}

/// By a quorum of these nodes, in that epoch.
pub(crate) fn certify(nodes: [u64; 4], epoch: u64, header: &Header) -> Certificate {
    let by_key: BTreeMap<_, _> = nodes.iter().map(|node| (public(*node), PrivateKey::from_seed(*node))).collect();
    let finality = Finality { epoch, view: header.number, parent: header.number - 1, descendants: Vec::new() };
    let mut message = Encoder::new();
    message.varint(finality.epoch).varint(finality.view).varint(finality.parent).raw(block_hash(header).as_bytes());
    let namespace = [namespace(CHAIN).as_slice(), b"_FINALIZE"].concat();
    let signers = by_key.values().take(quorum(nodes.len())).enumerate();
    let vote = |(signer, node): (usize, &PrivateKey)| {
        let signature = node.sign(&namespace, message.as_slice()).encode();
        Vote { signer, signature: signature.as_ref().try_into().unwrap() }
    };
    Certificate::Committee(Committee {
        charter: None,
        votes: signers.map(vote).collect(),
        keys: by_key.keys().copied().collect(),
        finality,
    })
}

pub(crate) fn genesis() -> Genesis {
    let founder = |node: &u64| Founder {
        key: public(*node),
        address: format!("10.0.0.{node}:9650"),
        operator: account(*node).account(),
    };
    let mut validators: Vec<Founder> = OLD.iter().map(founder).collect();
    validators.sort_by_key(|founder| founder.key);
    let governors = OLD.iter().map(|node| account(*node).account()).collect();
    let governance = Governance { epoch_length: LENGTH, governors, threshold: 3, validators, group: None };
    Genesis {
        vault_id: VaultId::new([1; 32]),
        chain_id: CHAIN,
        owner: account(9).account(),
        recovery: Vec::new(),
        ledger_key: governance.key(),
        time: 1_700_000_000,
        gas_limit: 120_000_000,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([5; 32]),
        governance: Some(governance),
    }
}

/// What is to happen in the first blocks: the contracts, the operators enrolled, and node 5 voted in for node 4.
fn story(genesis: &Genesis) -> Vec<Vec<TxEnvelope>> {
    let mut nonces = BTreeMap::new();
    let mut sign = |who: u64, to: TxKind, input: Bytes, gas| {
        let nonce = nonces.entry(who).or_insert(0);
        *nonce += 1;
        Request { chain_id: CHAIN, nonce: *nonce - 1, to, input, gas }.sign(&account(who))
    };
    let contracts = genesis.deployments(0).map(|code| sign(9, TxKind::Create, code, DEPLOYMENT_GAS)).to_vec();
    let enrol = |who: &u64| {
        let call = Accounts::enrolWriterCall {
            who: address(*who),
            predecessor: Address::ZERO,
            predecessorLastBlock: 0,
            hostStolen: false,
        };
        call.abi_encode().into()
    };
    let access = TxKind::Call(genesis.access_address());
    let enrolments = OLD.iter().map(|who| sign(9, access, enrol(who), 1_500_000)).collect();
    let validator = Validators::Validator {
        p2pKey: B256::new(public(5)),
        consensusKey: public(5).to_vec().into(),
        hint: b"10.0.0.5:9650".to_vec().into(),
        operator: address(5),
        role: 0,
    };
    let changes = vec![Validators::Change { kind: 2, member: B256::new(public(4)), validator }];
    let mut govern =
        |who: u64, call: Vec<u8>| vec![sign(who, TxKind::Call(validators_address()), call.into(), 10_000_000)];
    // The same proposal by each of three: whoever proposes approves.
    let propose = Validators::proposeCall { changes: changes.clone() }.abi_encode();
    let votes = [1, 2, 3].map(|who| govern(who, propose.clone()));
    let enact = govern(1, Validators::enactCall { changes }.abi_encode());
    // Block 3 makes `Validators`, which `Vault` must stand for.
    [vec![contracts, enrolments, Vec::new(), Vec::new()], votes.to_vec(), vec![enact]].concat()
}

/// The blocks up to that height, of which the old set keeps those up to the closing block: each with a certificate of the set that is given for
/// those above.
pub(crate) fn blocks(genesis: &Genesis, above: ([u64; 4], u64), until: u64) -> (u64, Vec<BlockObject>) {
    let (mut state, mut head, mut objects, mut closing) = (MemoryState::new(), genesis.block().header, Vec::new(), 0);
    let mut story = story(genesis).into_iter();
    for second in 1..=until {
        let txs = story.next().unwrap_or_default();
        let room = Room { time: BlockTime::of_seconds(genesis.time + second), length: 1 << 20 };
        let made = gather(genesis, &head, &state, &txs, room).unwrap().executed;
        assert!(made.receipts.len() >= txs.len(), "block {second}");
        assert!(made.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status), "block {second}");
        state.apply(&made.changes);
        state.set_block_hash(made.block.header.number, B256::new(made.hash.to_bytes()));
        head = made.block.header.clone();
        let (nodes, epoch) = if closing == 0 { (OLD, 0) } else { above };
        if succession(&head).is_some() {
            closing = head.number;
        }
        let certificate = certify(nodes, epoch, &head);
        objects.push(BlockObject { chain_id: CHAIN, block: made.block, certificate, genesis: None });
    }
    (closing, objects)
}

pub(crate) fn store(genesis: &Genesis, folder: &std::path::Path) -> Store {
    let path = folder.join("ledger.redb");
    Store::create(&path, genesis, &Certificate::Genesis { key: genesis.ledger_key }).unwrap();
    Store::open(&path, Access::Write, Duration::ZERO, None).unwrap()
}

#[test]
fn who_left_vouches_for_nothing_above_the_closing_block() {
    let (genesis, folder) = (genesis(), tempfile::tempdir().unwrap());
    let mut store = store(&genesis, folder.path());
    let (closing, objects) = blocks(&genesis, (OLD, 0), LEAD * LENGTH + 3);
    assert_eq!(closing, LEAD * LENGTH - 1);
    import_run(&mut store, &objects, &Recall::default()).unwrap_err();
    assert_eq!(store.height(), closing);
}

#[test]
fn a_run_goes_on_under_those_who_follow() {
    let (genesis, folder) = (genesis(), tempfile::tempdir().unwrap());
    let mut store = store(&genesis, folder.path());
    let (closing, objects) = blocks(&genesis, (NEW, LEAD), LEAD * LENGTH + 3);
    import_run(&mut store, &objects, &Recall::default()).unwrap();
    assert_eq!(store.height(), closing + 4);
}
