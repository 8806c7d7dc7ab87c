//! A ledger whose validators change: governors vote, a closing block names who follows, and whoever checks blocks or receipts goes along.

use std::collections::BTreeMap;

use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_types::{Account, Encoder, SnapshotId};
use commonware_codec::Encode as _;
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::ops::threshold;
use commonware_cryptography::bls12381::primitives::sharing::Sharing;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PrivateKey;
use commonware_parallel::Sequential;

use super::world::{FLOOR, GAS, address, secret};
use crate::block::{BlockObject, block_hash};
use crate::certificate::{Committee, Finality, Threshold, Vote, namespace, quorum};
use crate::contracts::{Access, Validators, Vault};
use crate::execute::{Executed, build};
use crate::genesis::{DEPLOYMENT_GAS, Fork, Genesis};
use crate::governance::{Founder, Governance, LEAD, validators_address};
use crate::receipt::{CheckError, Link, LinkError, Receipt, ReceiptParts};
use crate::resharing::group_key;
use crate::system::Due;
use crate::time::BlockTime;
use crate::transaction::Request;
use crate::validators::{last_block, members, tenures};
use crate::{
    Authority, BlockPlace, Certificate, CertificateError, Replay, ReplayError, TrustRoot, compare, succession,
};

pub(super) const CHAIN: u64 = 0x1_2345_6789;
pub(super) const LENGTH: u64 = 16;

pub(super) fn node(seed: u64) -> PrivateKey {
    PrivateKey::from_seed(seed)
}

pub(super) fn public(node: &PrivateKey) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(&node.public_key().encode());
    key
}

/// Who speaks for a node, and governs.
pub(super) fn operator(seed: u64) -> AccountSecret {
    secret(100 + u8::try_from(seed).unwrap())
}

pub(super) fn member(seed: u64) -> Validators::Validator {
    let key = public(&node(seed));
    Validators::Validator {
        p2pKey: B256::new(key),
        consensusKey: key.to_vec().into(),
        hint: format!("10.0.0.{seed}:9650").into_bytes().into(),
        operator: address(operator(seed).account()),
        role: 0,
    }
}

fn founder(seed: u64) -> Founder {
    let key = public(&node(seed));
    Founder { key, address: format!("10.0.0.{seed}:9650"), operator: operator(seed).account() }
}

pub(super) fn genesis() -> Genesis {
    let mut validators: Vec<Founder> = (1..=4).map(founder).collect();
    validators.sort_by_key(|founder| founder.key);
    let governors = (1..=4).map(|seed| operator(seed).account()).collect();
    let governance = Governance { epoch_length: LENGTH, governors, threshold: 3, validators, group: None };
    Genesis {
        ledger_key: governance.key(),
        gas_limit: 120_000_000,
        forks: vec![(0, Fork::Shanghai)],
        governance: Some(governance),
        ..super::world::genesis(CHAIN)
    }
}

/// Under which name validators sign a block as final, what, and what a certificate says of it.
fn signed(epoch: u64, header: &Header) -> (Vec<u8>, Vec<u8>, Finality) {
    let finality = Finality { epoch, view: header.number, parent: header.number - 1, descendants: Vec::new() };
    let mut message = Encoder::new();
    message.varint(finality.epoch).varint(finality.view).varint(finality.parent).raw(block_hash(header).as_bytes());
    ([namespace(CHAIN).as_slice(), b"_FINALIZE"].concat(), message.finish(), finality)
}

/// By a quorum of these nodes, in that epoch.
pub(super) fn certify(nodes: &[u64], epoch: u64, header: &Header) -> Certificate {
    let by_key: BTreeMap<[u8; 32], PrivateKey> = nodes.iter().map(|seed| (public(&node(*seed)), node(*seed))).collect();
    let keys: Vec<[u8; 32]> = by_key.keys().copied().collect();
    let (namespace, message, finality) = signed(epoch, header);
    let votes = by_key.values().take(quorum(keys.len())).enumerate().map(|(signer, node)| {
        let mut signature = [0; 64];
        signature.copy_from_slice(&node.sign(&namespace, &message).encode());
        Vote { signer, signature }
    });
    Certificate::Committee(Committee { charter: None, votes: votes.collect(), keys, finality })
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) replay: Replay,
    pub(super) headers: Vec<Header>,
    /// Who validates, and from which epoch on.
    nodes: Vec<u64>,
    epoch: u64,
    /// The charter that names them, if one does.
    charter: Option<[u8; 32]>,
    /// The one who certifies, before there is a network.
    sealer: Option<u8>,
    /// By which they certify, if they share one key.
    pub(super) shares: Option<(Sharing<MinPk>, Vec<Share>)>,
    nonces: BTreeMap<Account, u64>,
}

impl World {
    /// Block 0, the contracts of the vault, and everybody enrolled.
    pub(super) fn new() -> Self {
        let mut world = Self::of(genesis());
        world.found();
        world
    }

    pub(super) fn found(&mut self) {
        let (world, owner) = (self, secret(1));
        let contracts = world.replay.genesis().deployments(FLOOR);
        let txs: Vec<TxEnvelope> =
            contracts.into_iter().map(|code| world.sign(&owner, TxKind::Create, code, DEPLOYMENT_GAS)).collect();
        world.seal(txs);
        let who = (1..=5).map(operator).chain([secret(3)]);
        let enrol: Vec<TxEnvelope> = who
            .map(|account| {
                let who = address(account.account());
                let call = Access::enrolWriterCall {
                    who,
                    predecessor: Address::ZERO,
                    predecessorLastBlock: 0,
                    hostStolen: false,
                };
                world.sign(&owner, TxKind::Call(genesis().access_address()), call.abi_encode().into(), GAS)
            })
            .collect();
        world.seal(enrol);
    }

    pub(super) fn of(genesis: Genesis) -> Self {
        let certificate = Certificate::Genesis { key: genesis.ledger_key };
        let header = genesis.block().header;
        let object = BlockObject { chain_id: CHAIN, block: genesis.block(), certificate, genesis: Some(genesis) };
        let replay = Replay::begin(&BlockObject::decode(&object.encode()).unwrap()).unwrap();
        let nodes = vec![1, 2, 3, 4];
        Self {
            replay,
            headers: vec![header],
            nodes,
            epoch: 0,
            charter: None,
            sealer: None,
            shares: None,
            nonces: BTreeMap::new(),
        }
    }

    pub(super) fn sign(&mut self, who: &AccountSecret, to: TxKind, input: Bytes, gas: u64) -> TxEnvelope {
        let nonce = self.nonces.entry(who.account()).or_default();
        let request = Request { chain_id: CHAIN, nonce: *nonce, to, input, gas };
        *nonce += 1;
        request.sign(who)
    }

    /// Makes the next block of these transactions and of what is due.
    pub(super) fn build(&self, mut txs: Vec<TxEnvelope>) -> Executed {
        let (genesis, head, nodes) = (self.replay.genesis(), self.replay.head(), self.replay.nodes());
        let due = crate::system::due(genesis, head, nodes).unwrap();
        // One host alone does without what the ledger does by itself.
        let is_left_out = self.sealer.is_some() && matches!(due, Due::Making(_));
        txs.extend(due.transaction().filter(|_| !is_left_out).cloned());
        build(genesis, head, nodes, txs, BlockTime::of_seconds(head.timestamp + 1)).unwrap()
    }

    fn object(made: &Executed, certificate: Certificate) -> BlockObject {
        let object = BlockObject { chain_id: CHAIN, block: made.block.clone(), certificate, genesis: None };
        BlockObject::decode(&object.encode()).unwrap()
    }

    pub(super) fn certificate(&self, header: &Header) -> Certificate {
        if let Some(sealer) = self.sealer {
            let place = BlockPlace { chain_id: CHAIN, height: header.number, hash: block_hash(header) };
            return Certificate::solo(&super::world::ledger_key(sealer), &place);
        }
        let Some((sharing, shares)) = &self.shares else {
            return certify(&self.nodes, self.epoch, header).under(self.charter);
        };
        let (name, message, finality) = signed(self.epoch, header);
        let partials: Vec<_> = shares.iter().map(|it| threshold::sign_message::<MinPk>(it, &name, &message)).collect();
        let signature =
            threshold::recover::<MinPk, _>(sharing, &partials[..quorum(partials.len())], &Sequential).unwrap();
        let (mut bytes, group_key) = ([0; 96], group_key(sharing));
        bytes.copy_from_slice(&signature.encode());
        Certificate::Threshold(Threshold { group_key, finality, signature: bytes })
    }

    pub(super) fn seal(&mut self, txs: Vec<TxEnvelope>) -> Executed {
        self.take(self.build(txs))
    }

    /// The same without what is due.
    pub(super) fn seal_alone(&mut self, txs: Vec<TxEnvelope>) -> Executed {
        let (genesis, head, nodes) = (self.replay.genesis(), self.replay.head(), self.replay.nodes());
        self.take(build(genesis, head, nodes, txs, BlockTime::of_seconds(head.timestamp + 1)).unwrap())
    }

    fn take(&mut self, made: Executed) -> Executed {
        assert!(made.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status), "a transaction failed");
        let object = Self::object(&made, self.certificate(&made.block.header));
        let taken = self.replay.extend(&object).unwrap();
        assert_eq!(taken, made);
        self.headers.push(made.block.header.clone());
        made
    }

    pub(super) fn height(&self) -> u64 {
        self.replay.head().number
    }

    /// Makes empty blocks up to that height.
    pub(super) fn reach(&mut self, height: u64) {
        while self.height() < height {
            self.seal(Vec::new());
        }
    }

    pub(super) fn govern(&mut self, who: u64, call: &impl SolCall) -> Executed {
        self.govern_at(validators_address(), who, call)
    }

    fn govern_at(&mut self, contract: Address, who: u64, call: &impl SolCall) -> Executed {
        let tx = self.sign(&operator(who), TxKind::Call(contract), call.abi_encode().into(), 10_000_000);
        self.seal(vec![tx])
    }

    /// Three governors want the change.
    pub(super) fn enact(&mut self, changes: &[Validators::Change]) -> Executed {
        self.enact_at(validators_address(), changes)
    }

    pub(super) fn enact_at(&mut self, contract: Address, changes: &[Validators::Change]) -> Executed {
        let proposed = self.govern_at(contract, 1, &Validators::proposeCall { changes: changes.to_vec() });
        let log = proposed.receipts[0].logs().iter().find(|log| log.topics().len() == 3).unwrap();
        let proposal = log.topics()[1];
        for who in [2, 3] {
            self.govern_at(contract, who, &Validators::approveCall { proposal });
        }
        self.govern_at(contract, 5, &Validators::enactCall { changes: changes.to_vec() })
    }

    pub(super) fn tenures(&self) -> Vec<(u64, u64)> {
        let all = tenures(self.replay.genesis(), self.replay.head(), self.replay.nodes(), self.height() + 1).unwrap();
        all.into_iter().map(|tenure| (tenure.epoch, tenure.first)).collect()
    }

    pub(super) fn settled_end(&self) -> Option<u64> {
        last_block(self.replay.genesis(), self.replay.head(), self.replay.nodes()).unwrap()
    }

    pub(super) fn root(&self, key: [u8; 32]) -> TrustRoot {
        TrustRoot::new(self.replay.genesis(), key)
    }

    /// A ledger of one host, with its contracts.
    pub(super) fn sealed_by(genesis: Genesis, sealer: u8) -> Self {
        let mut world = Self::of(genesis);
        world.sealer = Some(sealer);
        world.found();
        world
    }

    /// One certifies from the next block on.
    pub(super) const fn sealer(&mut self, sealer: u8) {
        self.sealer = Some(sealer);
    }

    /// These nodes certify from the next block on, in that epoch.
    pub(super) fn follow(&mut self, nodes: &[u64], epoch: u64) {
        (self.nodes, self.epoch, self.charter, self.sealer) = (nodes.to_vec(), epoch, None, None);
    }

    /// The ledger goes over to these nodes by the transactions of one block, under that charter.
    pub(super) fn hand_over(&mut self, txs: Vec<TxEnvelope>, nodes: &[u64], charter: [u8; 32]) {
        self.follow(nodes, 0);
        self.charter = Some(charter);
        self.seal_alone(txs);
    }

    /// What the links need of a closing block.
    pub(super) fn link(&self, height: u64, nodes: &[u64], epoch: u64) -> Link {
        let header = self.headers[usize::try_from(height).unwrap()].clone();
        Link { certificate: certify(nodes, epoch, &header), header }
    }
}

pub(super) fn replace(old: u64, new: u64) -> Validators::Change {
    Validators::Change { kind: 2, member: B256::new(public(&node(old))), validator: member(new) }
}

fn key_of(nodes: &[u64]) -> [u8; 32] {
    let mut keys: Vec<_> = nodes.iter().map(|seed| public(&node(*seed))).collect();
    keys.sort_unstable();
    Committee::key_of(&keys)
}

/// The validators 1 to 4, then 5 for 4. The world stands at the first closing block.
fn replaced() -> World {
    let mut world = World::new();
    world.reach(5);
    world.enact(&[replace(4, 5)]);
    assert_eq!(world.settled_end(), None, "epoch 0 ends with a change for nobody");
    world.reach(LENGTH);
    assert_eq!(world.settled_end(), Some(LEAD * LENGTH - 1), "who votes in epoch 2 is settled when epoch 1 begins");
    world.reach(LEAD * LENGTH - 1);
    world
}

#[test]
fn a_governed_genesis_comes_back_and_an_earlier_release_refuses_it() {
    let genesis = genesis();
    let bytes = genesis.encode();
    assert_eq!(Genesis::decode(&bytes).unwrap(), genesis);
    assert_eq!(bytes[4], 2);
    let mut plain = bytes.clone();
    plain[4] = 1;
    assert!(Genesis::decode(&plain).is_err(), "a genesis of version 1 has nothing behind it");
    let ungoverned = Genesis { governance: None, ..genesis.clone() };
    assert_eq!((ungoverned.encode()[4], Genesis::decode(&ungoverned.encode()).unwrap()), (1, ungoverned));
    let refused = |change: &dyn Fn(&mut Governance)| {
        let mut other = genesis.clone();
        change(other.governance.as_mut().unwrap());
        Genesis::decode(&other.encode()).unwrap_err();
    };
    refused(&|it| it.epoch_length = 15);
    refused(&|it| it.threshold = 0);
    refused(&|it| it.threshold = 5);
    refused(&|it| it.governors[1] = it.governors[0]);
    refused(&|it| it.validators.swap(0, 1));
    refused(&|it| it.validators[0].address = String::new());
    refused(&|it| {
        it.validators.pop();
    });
}

#[test]
fn the_ledger_makes_the_contract_before_its_first_tick() {
    let mut world = World::of(genesis());
    assert!(members(world.replay.genesis(), world.replay.head(), world.replay.nodes(), 0).unwrap().is_empty());
    world = World::new();
    world.reach(3);
    let found = members(world.replay.genesis(), world.replay.head(), world.replay.nodes(), 0).unwrap();
    let keys: Vec<_> = found.iter().map(|member| member.key).collect();
    let expected: Vec<_> = genesis().governance.unwrap().validators.iter().map(|founder| founder.key).collect();
    assert_eq!((keys, found.iter().all(|member| member.votes)), (expected, true));
    assert_eq!(found[0].address.split(':').nth(1), Some("9650"));
    assert!(world.headers.iter().all(|header| header.mix_hash == B256::ZERO));
}

/// The greatest set with which a ledger can begin is made by the gas that the rule gives; a greater one is no genesis.
#[test]
fn sixty_four_validators_fit() {
    let greatest = |label: usize| {
        let mut validators: Vec<Founder> = (1..=64)
            .map(|seed| Founder {
                key: public(&node(seed)),
                address: format!("{}.example:9650", "x".repeat(label)),
                operator: secret(u8::try_from(seed + 100).unwrap()).account(),
            })
            .collect();
        validators.sort_by_key(|founder| founder.key);
        let governors = (1..=16).map(|n| secret(n).account()).collect();
        let governance = Governance { epoch_length: LENGTH, governors, threshold: 11, validators, group: None };
        Genesis { ledger_key: governance.key(), governance: Some(governance), ..genesis() }
    };
    assert!(Genesis::decode(&greatest(240).encode()).is_err());
    let mut world = World::of(greatest(110));
    world.nodes = (1..=64).collect();
    world.found();
    world.reach(3);
    let found = members(world.replay.genesis(), world.replay.head(), world.replay.nodes(), 0).unwrap();
    assert_eq!(found.len(), 64);
    assert_eq!(Genesis::decode(&world.replay.genesis().encode()).unwrap(), *world.replay.genesis());
}

#[test]
fn other_validators_follow_after_a_closing_block_and_no_earlier() {
    let mut world = replaced();
    let (old, new) = (key_of(&[1, 2, 3, 4]), key_of(&[1, 2, 3, 5]));
    let closing = world.replay.head().clone();
    assert_eq!((closing.number, succession(&closing)), (LEAD * LENGTH - 1, Some(new)));
    assert_eq!(world.headers.iter().filter(|header| succession(header).is_some()).count(), 1);
    assert_eq!(world.replay.authority().ledger_key(), new);
    assert_eq!((world.replay.authority().successions(), world.tenures()), (1, vec![(2, closing.number + 1)]));
    // Those who left certify nothing any more, whatever they sign.
    let next = world.build(Vec::new());
    let by_old = World::object(&next, certify(&[1, 2, 3, 4], 0, &next.block.header));
    let error = world.replay.clone().extend(&by_old).unwrap_err();
    assert!(matches!(error, ReplayError::Authority { .. }), "{error:?}");
    world.nodes = vec![1, 2, 3, 5];
    world.epoch = 2;
    world.seal(Vec::new());
    world.reach(3 * LENGTH + 2);
    assert_eq!(world.replay.authority().ledger_key(), new);
    assert!(old != new);
}

#[test]
fn a_header_that_names_others_than_the_contract_is_no_block() {
    let mut world = replaced();
    for (height, mix) in [(LEAD * LENGTH - 1, B256::ZERO), (LEAD * LENGTH, B256::repeat_byte(9))] {
        let before = usize::try_from(height - 1).unwrap();
        let mut again = World::new();
        again.reach(5);
        again.enact(&[replace(4, 5)]);
        again.reach(height.min(LEAD * LENGTH - 1) - 1);
        if height == LEAD * LENGTH {
            again.seal(Vec::new());
            (again.nodes, again.epoch) = (vec![1, 2, 3, 5], 2);
        }
        assert_eq!(again.headers[before].number, height - 1);
        let mut made = again.build(Vec::new());
        made.block.header.mix_hash = mix;
        let object = World::object(&made, certify(&again.nodes, again.epoch, &made.block.header));
        let error = again.replay.extend(&object).unwrap_err();
        assert!(matches!(error, ReplayError::Import { .. }), "{error:?}");
    }
    world.nodes = vec![1, 2, 3, 5];
    world.epoch = 2;
    world.seal(Vec::new());
}

/// What amends a set counts with what it amends: no more than a third comes anew at once.
#[test]
fn a_set_is_not_amended_by_more_than_a_third() {
    let mut world = World::new();
    world.reach(4);
    world.enact(&[replace(4, 5)]);
    let changes = vec![replace(5, 6)];
    let proposed = world.govern(1, &Validators::proposeCall { changes: changes.clone() });
    let log = proposed.receipts[0].logs().iter().find(|log| log.topics().len() == 3).unwrap();
    let proposal = log.topics()[1];
    for who in [2, 3] {
        world.govern(who, &Validators::approveCall { proposal });
    }
    let call = Validators::enactCall { changes }.abi_encode();
    let tx = world.sign(&operator(5), TxKind::Call(validators_address()), call.into(), 10_000_000);
    assert!(!world.build(vec![tx]).receipts[0].status());
    // What was refused is not sealed, and its sender begins again.
    world.nonces.entry(operator(5).account()).and_modify(|nonce| *nonce -= 1);
    world.reach(LEAD * LENGTH - 1);
    assert_eq!(world.replay.authority().ledger_key(), key_of(&[1, 2, 3, 5]));
}

/// T2: governors name a key that is none.
#[test]
fn validators_that_could_not_sign_are_passed_over() {
    let mut world = World::new();
    world.reach(4);
    let mut nobody = member(5);
    // No point of the curve has the ordinate 2.
    let mut ordinate = [0; 32];
    ordinate[0] = 2;
    nobody.p2pKey = B256::new(ordinate);
    let change = Validators::Change { kind: 2, member: B256::new(public(&node(4))), validator: nobody };
    world.enact(&[change]);
    world.reach(LEAD * LENGTH + 1);
    assert_eq!((world.replay.authority().successions(), world.tenures()), (0, Vec::new()));
}

/// Only the governors' word counts, and enough of it.
#[test]
fn two_governors_of_four_change_nothing() {
    let mut world = World::new();
    world.reach(4);
    let changes = vec![replace(4, 5)];
    world.govern(1, &Validators::proposeCall { changes: changes.clone() });
    let tx = world.sign(
        &operator(5),
        TxKind::Call(validators_address()),
        Validators::enactCall { changes }.abi_encode().into(),
        10_000_000,
    );
    let made = world.build(vec![tx]);
    assert!(!made.receipts[0].status());
}

/// Whoever stole the keys of a set that is not in force any more makes a longer chain, and outdoes nothing.
#[test]
fn a_longer_chain_of_retired_validators_is_the_lesser() {
    let mut world = World::new();
    let mut forked = world.clone();
    world.reach(5);
    world.enact(&[replace(4, 5)]);
    world.reach(LEAD * LENGTH - 1);
    forked.reach(5 * LENGTH);
    let (ours, theirs): (&Authority, &Authority) = (world.replay.authority(), forked.replay.authority());
    assert!(ours.height() < theirs.height());
    assert_eq!(compare(ours, theirs), std::cmp::Ordering::Greater);
}

/// A golden file. `BLOCKHOUSE_MAKE_GOLDEN=1` writes it where it is missing, and never over what is there.
pub(super) fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// A receipt that is made now, as its golden file has it.
pub(super) fn golden_receipt((receipt, fingerprint): (&str, &str), made: &Receipt) -> Receipt {
    let bytes = golden(receipt, &made.to_bytes());
    assert!(made.to_bytes().len() == bytes.len(), "the receipt is made in another form");
    let fingerprint = golden(fingerprint, format!("{}\n", made.fingerprint()).as_bytes());
    let fingerprint = String::from_utf8(fingerprint).unwrap().trim_end().parse().unwrap();
    let read = Receipt::parse(&bytes).unwrap();
    assert!(read.to_bytes() == bytes, "the receipt is written in another way");
    read.check(Some(fingerprint)).unwrap();
    read
}

/// The golden files of a governed ledger: its genesis, of version 2, and receipts with links: of version 3, and of version 2, which is made no more and
/// read for ever.
#[test]
fn golden_files_of_a_governed_ledger_hold() {
    let bytes = golden("genesis-2.bin", &genesis().encode());
    assert!(Genesis::decode(&bytes).unwrap().encode() == bytes && bytes[4] == 2);
    let made = with_receipt().1;
    let lean = golden_receipt(("receipt-3.json", "fingerprint-2.txt"), &made);
    assert!(made.to_bytes() == lean.to_bytes() && lean.to_bytes().len() <= 8 * 1024);
    let old = golden("receipt-2.json", &[]);
    let read = Receipt::parse(&old).unwrap();
    assert!(read.to_bytes() == old, "the receipt is written in another way");
    assert_eq!(read.check(Some(made.fingerprint())).unwrap().snapshot, lean.check(None).unwrap().snapshot);
}

/// What stands in the proof alone is no less checked: no byte of a receipt of version 3 can be another, and it is written in one way.
#[test]
fn every_flipped_byte_of_a_receipt_with_links_is_refused() {
    let made = with_receipt().1;
    let (bytes, fingerprint) = (made.to_bytes(), made.fingerprint());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= if at % 2 == 0 { 0x01 } else { 0x02 };
        let good = Receipt::parse(&flipped).is_ok_and(|receipt| receipt.check(Some(fingerprint)).is_ok());
        assert!(!good, "byte {at}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let of_version = |other: &str| text.replacen("\"version\":3", &format!("\"version\":{other}"), 1);
    let twice = text.replacen("\"links\":[{", "\"links\":[],\"links\":[{", 1);
    for other in [of_version("1"), of_version("2"), of_version("4"), twice] {
        assert!(other != text && Receipt::parse(other.as_bytes()).is_err());
    }
}

/// A world of three tenures, with a snapshot in the last one, and its receipt from the first key on.
fn with_receipt() -> (World, Receipt, Vec<Link>) {
    let mut world = replaced();
    (world.nodes, world.epoch) = (vec![1, 2, 3, 5], 2);
    world.seal(Vec::new());
    world.enact(&[replace(3, 4)]);
    world.reach(4 * LENGTH - 1);
    assert_eq!(world.replay.authority().ledger_key(), key_of(&[1, 2, 4, 5]));
    (world.nodes, world.epoch) = (vec![1, 2, 4, 5], 4);
    let made = commit(&mut world);
    let links = vec![world.link(2 * LENGTH - 1, &[1, 2, 3, 4], 0), world.link(4 * LENGTH - 1, &[1, 2, 3, 5], 2)];
    let receipt = receipt(&world, &made, (genesis().ledger_key, &links));
    (world, receipt, links)
}

/// A snapshot is committed.
pub(super) fn commit(world: &mut World) -> Executed {
    let commit = commit_of(world);
    world.seal(vec![commit])
}

/// The commit of a snapshot, its session opened.
pub(super) fn commit_of(world: &mut World) -> TxEnvelope {
    let writer = secret(3);
    let to = TxKind::Call(genesis().vault_address());
    let open = world.sign(&writer, to, Vault::openSessionCall { leaseSeconds: 3600 }.abi_encode().into(), GAS);
    let opened = world.seal(vec![open]);
    let log = &opened.receipts[0].logs()[0];
    let session = <Vault::SessionOpened as alloy_sol_types::SolEvent>::decode_log(log).unwrap().session;
    let c = Vault::Commit {
        session,
        source: B256::repeat_byte(6),
        snapshot: B256::repeat_byte(5),
        objectHash: B256::repeat_byte(0x11),
        listRoot: B256::repeat_byte(0x12),
        storedBytes: 1 << 20,
        recipients: B256::repeat_byte(0xbb),
        tags: Vec::new(),
        parent: B256::ZERO,
        d: 6,
        w: 2,
        wd: 2,
        headHeight: 0,
        headHash: B256::ZERO,
    };
    world.sign(&writer, to, Vault::commitCall { c }.abi_encode().into(), GAS)
}

/// Its receipt, by who certifies now.
pub(super) fn receipt(world: &World, made: &Executed, (key, links): ([u8; 32], &[Link])) -> Receipt {
    let header = &made.block.header;
    let parts = ReceiptParts {
        root: world.root(key),
        links,
        header,
        receipts: &made.receipts,
        descendants: &[],
        certificate: &world.certificate(header),
        snapshot: SnapshotId::new([5; 32]),
        file: None,
    };
    Receipt::from_parts(&parts).unwrap()
}

/// Made under the third set, checked by who knows the first, the second or the third.
#[test]
fn a_receipt_is_checked_against_the_fingerprint_of_every_tenure_before() {
    let (world, receipt, links) = with_receipt();
    let bytes = receipt.to_bytes();
    let parsed = Receipt::parse(&bytes).unwrap();
    for nodes in [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 4, 5]] {
        let fingerprint = world.root(key_of(&nodes)).fingerprint();
        assert_eq!(parsed.check(Some(fingerprint)).unwrap().fingerprint, fingerprint);
    }
    let newest = world.root(key_of(&[1, 2, 4, 5])).fingerprint();
    assert_eq!(parsed.check(None).unwrap().fingerprint, newest);
    let stranger = world.root(key_of(&[1, 2, 3, 6])).fingerprint();
    assert!(matches!(parsed.check(Some(stranger)), Err(CheckError::OtherVault { .. })));
    // Said on the page: what a link costs, with four validators.
    let without = bytes.len() - serde_json::to_vec(&serde_json::to_value(&parsed).unwrap()["links"]).unwrap().len();
    let each = (bytes.len() - without) / links.len();
    assert!(without <= 8 * 1024 && each <= 2_200, "{without} bytes, and {each} for each link");
}

#[test]
fn links_that_skip_turn_back_or_are_signed_by_others_lead_nowhere() {
    let (world, receipt, links) = with_receipt();
    let made_at = world.height();
    let remade = |key: [u8; 32], links: &[Link], by: &[u64]| {
        let mut again = world.clone();
        // The same block, made again with other links around it.
        again.headers.truncate(usize::try_from(made_at).unwrap());
        let mut value = serde_json::to_value(&receipt).unwrap();
        value["ledger_key"] = serde_json::to_value(B256::new(key)).unwrap();
        let written: Vec<_> = links
            .iter()
            .map(|link| {
                serde_json::json!({ "header": Bytes::from(alloy_rlp::encode(&link.header)), "certificate": Bytes::from(link.certificate.encode()) })
            })
            .collect();
        value["links"] = written.into();
        let certificate = certify(by, 4, &world.headers[usize::try_from(made_at).unwrap()]);
        value["certificate"] = serde_json::to_value(Bytes::from(certificate.encode())).unwrap();
        if links.is_empty() {
            value.as_object_mut().unwrap().remove("links");
        }
        serde_json::from_value::<Receipt>(value).unwrap().check(None)
    };
    let (first, now) = (genesis().ledger_key, [1, 2, 4, 5]);
    remade(first, &links, &now).unwrap();
    // From the middle on is enough for who knows the second key.
    remade(key_of(&[1, 2, 3, 5]), &links[1..], &now).unwrap();
    let skipped = remade(first, &links[1..], &now).unwrap_err();
    assert!(
        matches!(
            skipped,
            CheckError::Link { source: LinkError::Certificate { source: CertificateError::OtherKey { .. }, .. }, .. }
        ),
        "{skipped:?}"
    );
    // Those of the first tenure, whose keys may have leaked since, vouch for a block of the third: not under a newer key.
    let retired = remade(first, &links, &[1, 2, 3, 4]).unwrap_err();
    assert!(matches!(retired, CheckError::Certificate(CertificateError::OtherKey { .. })), "{retired:?}");
    // An ordinary block, certified by the right ones, names nobody.
    let ordinary = world.link(2 * LENGTH - 2, &[1, 2, 3, 4], 0);
    let nowhere = remade(first, &[ordinary, links[1].clone()], &now).unwrap_err();
    assert!(matches!(nowhere, CheckError::Link { index: 0, source: LinkError::NotClosing { .. } }), "{nowhere:?}");
    // The closing block is final by a descendant only: then somebody voted above it.
    let mut above = links.clone();
    if let Certificate::Committee(committee) = &mut above[0].certificate {
        committee.finality.descendants = vec![world.headers[usize::try_from(2 * LENGTH).unwrap()].clone()];
    }
    let signed_above = remade(first, &above, &now).unwrap_err();
    assert!(matches!(signed_above, CheckError::Link { source: LinkError::NotSigned { .. }, .. }), "{signed_above:?}");
    // A block that is no higher than its last link is not of the time after it.
    let late = Link { header: Header { number: made_at, ..links[1].header.clone() }, ..links[1].clone() };
    let late = Link { certificate: certify(&[1, 2, 3, 5], 2, &late.header), ..late };
    let order = remade(first, &[links[0].clone(), late], &now).unwrap_err();
    assert!(matches!(order, CheckError::Link { source: LinkError::Order { .. }, .. }), "{order:?}");
}

/// T3.
#[test]
fn a_handover_ends_the_succession() {
    let mut world = World::new();
    world.reach(5);
    world.enact(&[replace(4, 5)]);
    let parent = world.replay.head().hash_slow();
    let key = super::world::ledger_key(77);
    let call = Access::handoverCall { nextKey: B256::new(key.public()), parentHash: parent };
    let tx = world.sign(&secret(2), TxKind::Call(genesis().access_address()), call.abi_encode().into(), GAS);
    let (genesis, head, nodes) =
        (world.replay.genesis().clone(), world.replay.head().clone(), world.replay.nodes().clone());
    let made = build(&genesis, &head, &nodes, vec![tx], BlockTime::of_seconds(head.timestamp + 1)).unwrap();
    let solo = |header: &Header| {
        let place = BlockPlace { chain_id: CHAIN, height: header.number, hash: block_hash(header) };
        Certificate::solo(&key, &place)
    };
    let object = World::object(&made, solo(&made.block.header));
    world.replay.extend(&object).unwrap();
    while world.height() < LEAD * LENGTH + 2 {
        let made = world.build(Vec::new());
        assert_eq!(succession(&made.block.header), None);
        let object = World::object(&made, solo(&made.block.header));
        world.replay.extend(&object).unwrap();
    }
    assert_eq!(world.replay.authority().ledger_key(), key.public());
}
