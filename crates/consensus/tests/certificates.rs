//! Certificates that the real engine's schemes make are taken by the ledger, and nothing that differs from them is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/mod.rs"]
mod support;

use alloy_consensus::Header;
use blockhouse_consensus::bind::{Group, Individuals};
use blockhouse_consensus::{Dealt, Digest, Scheme};
use blockhouse_ledger::certificate::{CertificateError, DESCENDANTS_MAX, Vote};
use blockhouse_ledger::{BlockPlace, Certificate, block_hash};
use commonware_consensus::simplex::types::{Finalization, Finalize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_parallel::Sequential;
use commonware_utils::non_empty;

use support::{CHAIN, base_block, block, committee, threshold};

/// How many validators the tests have: f is 1, a quorum 3.
const NODES: usize = 4;

/// Blocks 8 to 11 above the base.
fn chain() -> Vec<Header> {
    let mut headers = vec![base_block().header];
    for number in 8..12 {
        headers.push(block(headers.last(), number, b"made").header);
    }
    headers.split_off(1)
}

fn place(header: &Header) -> BlockPlace {
    BlockPlace { chain_id: CHAIN, height: header.number, hash: block_hash(header) }
}

/// The engine's finalization of that block by the first signers.
fn finalization<S: Scheme>(dealt: &Dealt, signers: usize, header: &Header) -> (S, Option<Finalization<S, Digest>>) {
    let payload = Digest::from(block_hash(header).to_bytes());
    let proposal = Proposal::new(Round::new(Epoch::zero(), View::new(300)), View::new(299), payload);
    let schemes: Vec<S> = dealt.keys.iter().map(|keys| S::of(&dealt.network, keys, true).unwrap()).collect();
    let votes: Vec<_> =
        schemes.iter().take(signers).map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap()).collect();
    let found = Finalization::from_finalizes(&schemes[0], non_empty![@votes.iter()], &Sequential).ok();
    (schemes[0].clone(), found)
}

/// The certificate of the first block of a chain whose last one was signed.
fn certificate<S: Scheme>(dealt: &Dealt, headers: &[Header]) -> Certificate {
    let (scheme, found) = finalization::<S>(dealt, 3, headers.last().unwrap());
    scheme.certificate(&found.unwrap(), headers[1..].to_vec()).unwrap()
}

fn every_change_is_refused(certificate: &Certificate, key: &[u8; 32], place: &BlockPlace) {
    let bytes = certificate.encode();
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let taken = Certificate::decode(&changed).is_ok_and(|changed| changed.verify(key, place).is_ok());
            assert!(!taken, "byte {at} may be changed");
        }
        assert!(Certificate::decode(&bytes[..at]).is_err(), "{at} bytes are a certificate");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(Certificate::decode(&longer).is_err(), "bytes may follow");
}

fn holds_for_its_block_alone<S: Scheme>(dealt: &Dealt) {
    let (headers, key) = (chain(), dealt.network.key());
    for from in 0..headers.len() {
        let certificate = certificate::<S>(dealt, &headers[from..]);
        let place = place(&headers[from]);
        assert_eq!(certificate.key(), key);
        assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
        certificate.verify(&key, &place).unwrap();
        let others = [
            BlockPlace { chain_id: CHAIN + 1, ..place },
            BlockPlace { hash: block_hash(&base_block().header), ..place },
        ];
        for other in &others {
            assert!(certificate.verify(&key, other).is_err(), "it vouches for {other:?}");
        }
        if !certificate.finality().unwrap().descendants.is_empty() {
            let other = BlockPlace { height: place.height + 1, ..place };
            let refused = CertificateError::Descendant { height: other.height, index: 0 };
            assert_eq!(certificate.verify(&key, &other), Err(refused));
        }
        assert!(matches!(certificate.verify(&[7; 32], &place), Err(CertificateError::OtherKey { .. })));
    }
    every_change_is_refused(&certificate::<S>(dealt, &headers[..1]), &key, &place(&headers[0]));
    every_change_is_refused(&certificate::<S>(dealt, &headers[..2]), &key, &place(&headers[0]));
}

#[test]
fn a_threshold_certificate_holds_for_its_block_alone() {
    holds_for_its_block_alone::<Group>(&threshold(1, NODES));
}

#[test]
fn a_committee_certificate_holds_for_its_block_alone() {
    holds_for_its_block_alone::<Individuals>(&committee(1, NODES));
}

#[test]
fn a_threshold_certificate_is_small_whatever_the_number_of_validators() {
    let headers = chain();
    let sizes = [4, 10].map(|nodes| {
        let dealt = threshold(2, nodes);
        let (scheme, found) = finalization::<Group>(&dealt, nodes, &headers[0]);
        scheme.certificate(&found.unwrap(), Vec::new()).unwrap().encode().len()
    });
    assert_eq!(sizes[0], sizes[1]);
    assert!(sizes[0] < 160, "{} bytes", sizes[0]);
}

#[test]
fn fewer_signers_than_a_quorum_make_no_certificate() {
    let headers = chain();
    assert!(finalization::<Group>(&threshold(3, NODES), 2, &headers[0]).1.is_none());
    let dealt = committee(3, NODES);
    assert!(finalization::<Individuals>(&dealt, 2, &headers[0]).1.is_none());
    let Certificate::Committee(mut short) = certificate::<Individuals>(&dealt, &headers[..1]) else { panic!() };
    short.votes.pop();
    let refused = CertificateError::Quorum { height: 8, found: 2, needed: 3 };
    assert_eq!(Certificate::Committee(short).verify(&dealt.network.key(), &place(&headers[0])), Err(refused));
}

#[test]
fn a_signer_counts_once() {
    let (headers, dealt) = (chain(), committee(4, NODES));
    let Certificate::Committee(whole) = certificate::<Individuals>(&dealt, &headers[..1]) else { panic!() };
    let first: Vote = whole.votes[0].clone();
    let twice = vec![first.clone(), first.clone(), whole.votes[1].clone()];
    // A signature of one validator does not count as another's.
    let borrowed = vec![whole.votes[0].clone(), whole.votes[1].clone(), Vote { signer: 3, ..first }];
    for votes in [twice, borrowed] {
        let forged = Certificate::Committee(blockhouse_ledger::certificate::Committee { votes, ..whole.clone() });
        let place = place(&headers[0]);
        let refused = CertificateError::Signature { height: 8, hash: place.hash };
        assert_eq!(forged.verify(&dealt.network.key(), &place), Err(refused));
    }
}

#[test]
fn other_validators_vouch_for_nothing() {
    let (headers, ours) = (chain(), committee(5, NODES));
    let theirs = certificate::<Individuals>(&committee(6, NODES), &headers[..1]);
    let refused = theirs.verify(&ours.network.key(), &place(&headers[0]));
    assert!(matches!(refused, Err(CertificateError::OtherKey { .. })));
    // With our keys written over theirs the name is right and the signatures are not.
    let Certificate::Committee(mut forged) = theirs else { panic!() };
    forged.keys = ours.network.validators();
    let refused = Certificate::Committee(forged).verify(&ours.network.key(), &place(&headers[0]));
    assert!(matches!(refused, Err(CertificateError::Signature { .. })));
}

#[test]
fn votes_of_another_kind_are_no_certificate() {
    let (headers, dealt) = (chain(), committee(7, NODES));
    let payload = Digest::from(block_hash(&headers[0]).to_bytes());
    let proposal = Proposal::new(Round::new(Epoch::zero(), View::new(300)), View::new(299), payload);
    let Certificate::Committee(mut forged) = certificate::<Individuals>(&dealt, &headers[..1]) else { panic!() };
    for vote in &mut forged.votes {
        let scheme = Individuals::of(&dealt.network, &dealt.keys[vote.signer], true).unwrap();
        let notarize = commonware_consensus::simplex::types::Notarize::sign(&scheme, proposal.clone()).unwrap();
        let signature = notarize.attestation.signature.get().unwrap();
        vote.signature.copy_from_slice(&commonware_codec::Encode::encode(signature));
    }
    assert!(Certificate::Committee(forged).verify(&dealt.network.key(), &place(&headers[0])).is_err());
}

#[test]
fn a_certificate_without_descendants_is_the_engines_finalization_again() {
    fn there_and_back<S: Scheme>(dealt: &Dealt) {
        let headers = chain();
        let (scheme, found) = finalization::<S>(dealt, 3, &headers[0]);
        let found = found.unwrap();
        let certificate = scheme.certificate(&found, Vec::new()).unwrap();
        assert_eq!(scheme.finalization(&certificate, found.proposal.payload), Some(found.clone()));
        let far = scheme.certificate(&found, headers[1..2].to_vec()).unwrap();
        assert_eq!(scheme.finalization(&far, found.proposal.payload), None);
    }
    there_and_back::<Group>(&threshold(8, NODES));
    there_and_back::<Individuals>(&committee(8, NODES));
}

#[test]
fn a_certificate_has_a_bounded_number_of_descendants() {
    let dealt = threshold(9, NODES);
    let mut headers = vec![base_block().header];
    for number in 8..8 + DESCENDANTS_MAX as u64 + 2 {
        headers.push(block(headers.last(), number, b"made").header);
    }
    let key = dealt.network.key();
    let most = certificate::<Group>(&dealt, &headers[1..=DESCENDANTS_MAX + 1]);
    let read = Certificate::decode(&most.encode()).unwrap();
    read.verify(&key, &place(&headers[1])).unwrap();
    let more = certificate::<Group>(&dealt, &headers[1..=DESCENDANTS_MAX + 2]);
    assert!(Certificate::decode(&more.encode()).is_err());
}

/// Golden bytes: `BLOCKHOUSE_MAKE_GOLDEN=1` writes them where they are missing, and never over what is there.
#[test]
fn golden_certificates_hold() {
    let headers = chain();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ledger/tests/fixtures/v1");
    let made = [
        ("certificate-threshold.bin", certificate::<Group>(&threshold(40, NODES), &headers[..1])),
        ("certificate-threshold-2.bin", certificate::<Group>(&threshold(40, NODES), &headers[..3])),
        ("certificate-committee.bin", certificate::<Individuals>(&committee(40, NODES), &headers[..1])),
    ];
    for (name, certificate) in made {
        let path = folder.join(name);
        if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
            std::fs::write(&path, certificate.encode()).unwrap();
        }
        let golden = Certificate::decode(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(golden, certificate, "{name}");
        golden.verify(&golden.key(), &place(&headers[0])).unwrap();
    }
}
