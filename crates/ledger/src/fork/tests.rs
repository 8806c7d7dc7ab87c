use alloy_primitives::B256;
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::primitives::group::Private;
use commonware_cryptography::bls12381::primitives::ops::{compute_public, sign_message};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PrivateKey;

use super::*;
use crate::certificate::{Committee, Finality, Threshold, Vote, namespace};
use crate::tests::world::ledger_key;

const CHAIN: u64 = (1 << 40) + 9;
const HEIGHT: u64 = 40;

fn root(ledger_key: [u8; 32]) -> TrustRoot {
    TrustRoot { chain_id: CHAIN, genesis: BlockHash::new([1; 32]), vault: Address::repeat_byte(2), ledger_key }
}

/// A block that differs from others by its time.
fn header(number: u64, timestamp: u64) -> Header {
    Header { number, timestamp, base_fee_per_gas: Some(0), withdrawals_root: Some(B256::ZERO), ..Header::default() }
}

fn solo(time: u64) -> ForkSide {
    let header = header(HEIGHT, time);
    let place = BlockPlace { chain_id: CHAIN, height: HEIGHT, hash: block_hash(&header) };
    ForkSide { header, certificate: Certificate::solo(&ledger_key(9), &place) }
}

fn public(node: &PrivateKey) -> [u8; 32] {
    node.public_key().encode()[..].try_into().unwrap()
}

/// Four validators, ascending by key, of that seed on.
fn nodes(seed: u64) -> Vec<PrivateKey> {
    let mut nodes: Vec<_> = (seed..seed + 4).map(PrivateKey::from_seed).collect();
    nodes.sort_by_key(public);
    nodes
}

fn keys(nodes: &[PrivateKey]) -> Vec<[u8; 32]> {
    nodes.iter().map(public).collect()
}

fn message(header: &Header, finality: &Finality) -> (Vec<u8>, Vec<u8>) {
    let mut message = Encoder::new();
    message.varint(finality.epoch).varint(finality.view).varint(finality.parent).raw(block_hash(header).as_bytes());
    ([namespace(CHAIN).as_slice(), b"_FINALIZE"].concat(), message.finish())
}

fn finality(view: u64) -> Finality {
    Finality { epoch: 0, view, parent: view - 1, descendants: Vec::new() }
}

/// Signed by these of the validators, as the engine does.
fn signed(nodes: &[PrivateKey], header: Header, view: u64, signers: &[usize]) -> ForkSide {
    let finality = finality(view);
    let (name, message) = message(&header, &finality);
    let vote = |signer: &usize| {
        let signature = nodes[*signer].sign(&name, &message).encode()[..].try_into().unwrap();
        Vote { signer: *signer, signature }
    };
    let votes = signers.iter().map(vote).collect();
    ForkSide {
        header,
        certificate: Certificate::Committee(Committee { charter: None, keys: keys(nodes), finality, votes }),
    }
}

fn committee(time: u64, view: u64, signers: &[usize]) -> ForkSide {
    signed(&nodes(0), header(HEIGHT, time), view, signers)
}

fn group(time: u64, view: u64) -> ForkSide {
    let private = Private::decode(Copying(&[[0; 31].as_slice(), &[7]].concat())).unwrap();
    let (header, finality) = (header(HEIGHT, time), finality(view));
    let (name, message) = message(&header, &finality);
    let threshold = Threshold {
        group_key: compute_public::<MinPk>(&private).encode()[..].try_into().unwrap(),
        finality,
        signature: sign_message::<MinPk>(&private, &name, &message).encode()[..].try_into().unwrap(),
    };
    ForkSide { header, certificate: Certificate::Threshold(threshold) }
}

fn evidence(one: &ForkSide, other: &ForkSide) -> ForkEvidence {
    ForkEvidence::new(root(one.certificate.key()), Vec::new(), [one.clone(), other.clone()])
}

fn refused(one: &ForkSide, other: &ForkSide) -> ForkError {
    let made = evidence(one, other);
    let read = ForkEvidence::decode(&made.encode()).unwrap();
    read.check(Some(made.root.fingerprint())).unwrap_err()
}

#[test]
fn who_signed_both_is_named() {
    let (one, other) = (committee(10, 8, &[0, 1, 2]), committee(11, 9, &[1, 2, 3]));
    let made = evidence(&one, &other);
    assert_eq!(made.encode(), evidence(&other, &one).encode(), "F3");
    let read = ForkEvidence::decode(&made.encode()).unwrap();
    assert_eq!(read, made);
    let proved = read.check(Some(made.root.fingerprint())).unwrap();
    let both = keys(&nodes(0))[1..3].to_vec();
    assert_eq!((proved.height, proved.signers()), (HEIGHT, both.clone()));
    assert_eq!(proved.by, SignedBy::Validators { both, of: 4, one_view: false });
    let same = evidence(&one, &committee(11, 8, &[0, 1, 2, 3])).check(None).unwrap();
    assert!(matches!(same.by, SignedBy::Validators { both, one_view: true, .. } if both.len() == 3));
    for side in made.sides() {
        assert_eq!(ForkSide::decode(&side.encode()).unwrap(), *side);
    }
}

#[test]
fn what_is_no_fork_proves_none() {
    let one = committee(10, 8, &[0, 1, 2]);
    assert!(matches!(refused(&one, &committee(10, 9, &[1, 2, 3])), ForkError::OneBlock { .. }));
    assert!(matches!(refused(&one, &committee(11, 9, &[1, 2])), ForkError::Certificate { .. }), "a signature too few");
    let foreign = signed(&nodes(50), header(HEIGHT, 11), 9, &[0, 1, 2]);
    assert!(matches!(refused(&one, &foreign), ForkError::Certificate { .. }), "of another ledger");
    let higher = signed(&nodes(0), header(HEIGHT + 1, 11), 9, &[0, 1, 2]);
    assert!(matches!(refused(&one, &higher), ForkError::Heights { .. }));
    let beginning = |time| {
        let header = header(0, time);
        ForkSide { certificate: Certificate::Genesis { key: one.certificate.key() }, header }
    };
    assert!(matches!(refused(&beginning(1), &beginning(2)), ForkError::Beginning));
    let unsigned = |time| ForkSide { header: header(HEIGHT, time), ..beginning(0) };
    assert!(matches!(refused(&unsigned(1), &unsigned(2)), ForkError::Certificate { .. }));
    let asked = root([3; 32]).fingerprint();
    let other = evidence(&one, &committee(11, 9, &[1, 2, 3])).check(Some(asked)).unwrap_err();
    assert!(matches!(other, ForkError::OtherVault { .. }));
}

#[test]
fn a_key_that_many_share_names_nobody() {
    let shared = evidence(&group(10, 8), &group(11, 9)).check(None).unwrap();
    assert_eq!((shared.by.clone(), shared.signers()), (SignedBy::Group, vec![shared.key]));
    let own = evidence(&solo(10), &solo(11)).check(None).unwrap();
    assert_eq!((own.by.clone(), own.signers()), (SignedBy::Operator, vec![ledger_key(9).public()]));
}

/// Validators 0 to 3 close at block 31; 10 to 13 follow, and fork.
fn linked() -> ForkEvidence {
    let (old, new) = (nodes(0), nodes(10));
    let key = Committee::key_of(&keys(&new));
    let closing = Header { mix_hash: B256::new(key), ..header(31, 5) };
    let ForkSide { header: closing, certificate } = signed(&old, closing, 31, &[0, 1, 3]);
    let link = Link { header: closing, certificate };
    let side = |time, view| signed(&new, header(HEIGHT, time), view, &[0, 2, 3]);
    ForkEvidence::new(root(Committee::key_of(&keys(&old))), vec![link], [side(10, 40), side(11, 40)])
}

#[test]
fn links_lead_from_the_key_that_is_known() {
    let made = linked();
    assert_eq!(ForkEvidence::decode(&made.encode()).unwrap(), made);
    let old = made.root.fingerprint();
    let new = root(Committee::key_of(&keys(&nodes(10)))).fingerprint();
    for asked in [old, new] {
        assert_eq!(made.check(Some(asked)).unwrap().fingerprint, asked);
    }
    assert_eq!(made.check(None).unwrap().key, Committee::key_of(&keys(&nodes(10))));
    // Blocks below the time of those validators are not theirs.
    let early = |time| signed(&nodes(10), header(31, time), 40, &[0, 2, 3]);
    let made = ForkEvidence { sides: ForkEvidence::new(made.root, Vec::new(), [early(1), early(2)]).sides, ..made };
    assert!(matches!(made.check(Some(old)).unwrap_err(), ForkError::Early { height: 31, after: 31 }));
}

/// F1 of every byte: none can be another.
#[test]
fn every_flipped_byte_is_refused() {
    let made = [
        evidence(&solo(10), &solo(11)),
        evidence(&committee(10, 8, &[0, 1, 2]), &committee(11, 9, &[1, 2, 3])),
        evidence(&group(10, 8), &group(11, 9)),
        linked(),
    ];
    for made in made {
        let (bytes, asked) = (made.encode(), made.root.fingerprint());
        assert!(made.check(Some(asked)).is_ok());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let good = ForkEvidence::decode(&flipped).is_ok_and(|evidence| evidence.check(Some(asked)).is_ok());
            assert!(!good, "byte {at}");
        }
        assert!(ForkEvidence::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(ForkEvidence::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}

/// The golden file of that name, which this is: what was evidence is evidence for ever. `BLOCKHOUSE_MAKE_GOLDEN=1` writes it where it is missing, and
/// never over what is there.
fn golden(name: &str, made: &ForkEvidence) -> ForkEvidence {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
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

#[test]
fn golden_files_of_one_key_hold() {
    let made = evidence(&solo(1), &solo(2));
    let proved = golden("fork-solo.bin", &made).check(Some(made.root.fingerprint())).unwrap();
    assert_eq!((proved.height, proved.by), (HEIGHT, SignedBy::Operator));
    let made = evidence(&group(10, 50), &group(11, 51));
    let proved = golden("fork-threshold.bin", &made).check(Some(made.root.fingerprint())).unwrap();
    assert_eq!(proved.by, SignedBy::Group);
}

/// Other validators had followed at block 31, and one of the two blocks is final by its descendant.
#[test]
fn a_golden_file_of_validators_that_followed_holds() {
    let new = nodes(10);
    let one = signed(&new, header(HEIGHT, 10), 50, &[0, 1, 2]);
    let other = header(HEIGHT, 11);
    let child = Header { parent_hash: B256::new(block_hash(&other).to_bytes()), ..header(HEIGHT + 1, 12) };
    let ForkSide { certificate, .. } = signed(&new, child.clone(), 51, &[1, 2, 3]);
    let Certificate::Committee(mut committee) = certificate else { panic!("a committee's") };
    committee.finality.descendants = vec![child];
    let other = ForkSide { header: other, certificate: Certificate::Committee(committee) };
    let ForkEvidence { root: old, links, .. } = linked();
    let read = golden("fork-committee.bin", &ForkEvidence::new(old, links, [one, other]));
    let both = keys(&new)[1..3].to_vec();
    for asked in [old.fingerprint(), root(Committee::key_of(&keys(&new))).fingerprint()] {
        let proved = read.check(Some(asked)).unwrap();
        assert_eq!((proved.fingerprint, proved.height), (asked, HEIGHT));
        assert_eq!(proved.by, SignedBy::Validators { both: both.clone(), of: 4, one_view: false });
    }
}
