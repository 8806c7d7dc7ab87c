//! The golden files of fork evidence, version 1: what was evidence is evidence for ever.
//!
//! `BLOCKHOUSE_MAKE_GOLDEN=1` writes them where they are missing, and never over what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use std::path::PathBuf;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256};
use blockhouse_crypto::{LedgerKey, Secret};
use blockhouse_ledger::certificate::{Committee, Finality, Threshold, Vote, namespace};
use blockhouse_ledger::receipt::Link;
use blockhouse_ledger::{BlockPlace, Certificate, ForkEvidence, ForkSide, SignedBy, TrustRoot, block_hash};
use blockhouse_types::{BlockHash, Encoder};
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::primitives::group::Private;
use commonware_cryptography::bls12381::primitives::ops::{compute_public, sign_message};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PrivateKey;

const CHAIN: u64 = (1 << 40) + 9;
const HEIGHT: u64 = 40;

fn golden(name: &str, made: &ForkEvidence) -> ForkEvidence {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
        std::fs::write(&path, made.encode()).unwrap();
        std::fs::write(path.with_extension("txt"), format!("{}\n", made.root().fingerprint())).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes == made.encode(), "{name} is made in another way");
    let read = ForkEvidence::decode(&bytes).unwrap();
    assert!(read.encode() == bytes, "{name} is written in another way");
    read
}

fn root(ledger_key: [u8; 32]) -> TrustRoot {
    TrustRoot { chain_id: CHAIN, genesis: BlockHash::new([1; 32]), vault: Address::repeat_byte(2), ledger_key }
}

fn header(number: u64, timestamp: u64) -> Header {
    Header { number, timestamp, base_fee_per_gas: Some(0), withdrawals_root: Some(B256::ZERO), ..Header::default() }
}

fn finality(view: u64) -> Finality {
    Finality { epoch: 0, view, parent: view - 1, descendants: Vec::new() }
}

/// What is signed of a block, and under which name.
fn statement(header: &Header, finality: &Finality) -> (Vec<u8>, Vec<u8>) {
    let mut message = Encoder::new();
    message.varint(finality.epoch).varint(finality.view).varint(finality.parent).raw(block_hash(header).as_bytes());
    ([namespace(CHAIN).as_slice(), b"_FINALIZE"].concat(), message.finish())
}

fn public(node: &PrivateKey) -> [u8; 32] {
    node.public_key().encode()[..].try_into().unwrap()
}

fn nodes(seed: u64) -> Vec<PrivateKey> {
    let mut nodes: Vec<_> = (seed..seed + 4).map(PrivateKey::from_seed).collect();
    nodes.sort_by_key(public);
    nodes
}

fn key(nodes: &[PrivateKey]) -> [u8; 32] {
    Committee::key_of(&nodes.iter().map(public).collect::<Vec<_>>())
}

fn by_committee(nodes: &[PrivateKey], header: Header, finality: Finality, signers: &[usize]) -> ForkSide {
    let (name, message) = statement(&header, &finality);
    let votes = signers.iter().map(|signer| Vote {
        signer: *signer,
        signature: nodes[*signer].sign(&name, &message).encode()[..].try_into().unwrap(),
    });
    let (votes, keys) = (votes.collect(), nodes.iter().map(public).collect());
    ForkSide { certificate: Certificate::Committee(Committee { keys, finality, votes }), header }
}

#[test]
fn an_operator_forks() {
    let key = LedgerKey::from_seed(&Secret::new([9; 32]));
    let side = |time| {
        let header = header(HEIGHT, time);
        let place = BlockPlace { chain_id: CHAIN, height: HEIGHT, hash: block_hash(&header) };
        ForkSide { header, certificate: Certificate::solo(&key, &place) }
    };
    let made = ForkEvidence::new(root(key.public()), Vec::new(), [side(1), side(2)]);
    let proved = golden("fork-solo.bin", &made).check(Some(made.root().fingerprint())).unwrap();
    assert_eq!((proved.height, proved.by), (HEIGHT, SignedBy::Operator));
}

/// Other validators had followed at block 31, and one of the two blocks is final by its descendant.
#[test]
fn validators_that_followed_fork() {
    let (old, new) = (nodes(0), nodes(10));
    let closing = Header { mix_hash: B256::new(key(&new)), ..header(31, 5) };
    let link = by_committee(&old, closing, finality(31), &[0, 1, 3]);
    let links = vec![Link { header: link.header, certificate: link.certificate }];
    let one = by_committee(&new, header(HEIGHT, 10), finality(50), &[0, 1, 2]);
    let other = header(HEIGHT, 11);
    let child = Header { parent_hash: B256::new(block_hash(&other).to_bytes()), ..header(HEIGHT + 1, 12) };
    let ForkSide { certificate, .. } = by_committee(&new, child.clone(), finality(51), &[1, 2, 3]);
    let Certificate::Committee(mut committee) = certificate else { panic!("a committee's") };
    committee.finality.descendants = vec![child];
    let other = ForkSide { header: other, certificate: Certificate::Committee(committee) };
    let made = ForkEvidence::new(root(key(&old)), links, [one, other]);
    let read = golden("fork-committee.bin", &made);
    let both: Vec<_> = new[1..3].iter().map(public).collect();
    for asked in [made.root().fingerprint(), root(key(&new)).fingerprint()] {
        let proved = read.check(Some(asked)).unwrap();
        assert_eq!((proved.fingerprint, proved.height), (asked, HEIGHT));
        assert_eq!(proved.by, SignedBy::Validators { both: both.clone(), of: 4, one_view: false });
    }
}

#[test]
fn validators_with_one_key_fork() {
    let private = Private::decode(Copying(&[[0; 31].as_slice(), &[7]].concat())).unwrap();
    let group_key = compute_public::<MinPk>(&private).encode()[..].try_into().unwrap();
    let side = |time, view| {
        let (header, finality) = (header(HEIGHT, time), finality(view));
        let (name, message) = statement(&header, &finality);
        let signature = sign_message::<MinPk>(&private, &name, &message).encode()[..].try_into().unwrap();
        ForkSide { header, certificate: Certificate::Threshold(Threshold { group_key, finality, signature }) }
    };
    let made = ForkEvidence::new(root(Threshold::key_of(&group_key)), Vec::new(), [side(10, 50), side(11, 51)]);
    let proved = golden("fork-threshold.bin", &made).check(Some(made.root().fingerprint())).unwrap();
    assert_eq!((proved.by.clone(), proved.signers()), (SignedBy::Group, vec![Threshold::key_of(&group_key)]));
}
