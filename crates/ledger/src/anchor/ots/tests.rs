//! Proofs as the reference implementation writes them, one that leads to a real block of Bitcoin, and bad ones.

use super::*;
use crate::anchor::BitcoinHeader;

/// Written by python-opentimestamps 0.4.5: of SHA-256("blockhouse"), with every operation that is taken here but one, two calendars, a
/// Bitcoin block and an unknown kind.
const REFERENCE: &str = "004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e892940108d36e0ed8035583b808b89cf2649d17cfa23aa185149684707f5607c558da8fe5ff0083dfe30d2ef90c8e141368747470733a2f2f626f622e6578616d706c65fff010000102030405060708090a0b0c0d0e0f08ff0083dfe30d2ef90c8e1f1e68747470733a2f2f616c6963652e6578616d706c652f63616c656e646172f12007070707070707070707070707070707070707070707070707070707070707070808000588960d73d7190103f7ef15f2f3670001010101010101010477686174";
/// The messages at the first calendar and at the Bitcoin block, as that program computes them, and its answer for the first.
const AT_CALENDAR: &str = "fd75e8a641b20bc4d24a6ddb24bd4ce20b15a1cea26727ef364f03849dca7584";
const AT_BITCOIN: &str = "f03409117fd37c40ea9bf076e5d0d554783893265315521acfbe85991200405f";
const ANSWER: &str = "ff0083dfe30d2ef90c8e1f1e68747470733a2f2f616c6963652e6578616d706c652f63616c656e646172f12007070707070707070707070707070707070707070707070707070707070707070808000588960d73d7190103f7ef15";

fn reference() -> Vec<u8> {
    hex::decode(REFERENCE).unwrap()
}

#[test]
fn a_proof_of_the_reference_implementation_is_read_and_written_alike() {
    let ots = Ots::decode(&reference()).unwrap();
    assert_eq!(ots.encode(), reference());
    assert_eq!(ots.digest, sha256(b"blockhouse"));
    let claims = ots.claims();
    let at = |by: &OtsAttestation| claims.iter().find(|claim| claim.by == *by).map(|claim| hex::encode(&claim.message));
    let alice = OtsAttestation::Pending { uri: "https://alice.example/calendar".to_owned() };
    assert_eq!(at(&alice).unwrap(), AT_CALENDAR);
    assert_eq!(at(&OtsAttestation::Bitcoin { height: 358_391 }).unwrap(), AT_BITCOIN);
    assert_eq!(claims.len(), 4);
    let answer = hex::decode(ANSWER).unwrap();
    assert_eq!(Timestamp::decode(&answer, 32).unwrap().encode(), answer);
}

/// A calendar's promise, and later what it has: the file of both is the one with the whole way.
#[test]
fn a_promise_is_completed_where_it_was_given() {
    let message = hex::decode(AT_CALENDAR).unwrap();
    let digest = <[u8; 32]>::try_from(message.as_slice()).unwrap();
    let promise = OtsAttestation::Pending { uri: "https://alice.example/calendar".to_owned() };
    let mut ots = Ots { digest, timestamp: Timestamp { steps: vec![Step::Attested(promise)] } };
    let answer = Timestamp::decode(&hex::decode(ANSWER).unwrap(), 32).unwrap();
    ots.complete(&[9; 32], &answer);
    assert_eq!(ots.claims().len(), 1, "of another message nothing is taken");
    ots.complete(&message, &answer);
    ots.complete(&message, &answer);
    assert_eq!(ots.timestamp, answer, "what is there is not added again");
}

/// The bytes of a transaction of a real block lead to its Merkle root: so calendars do it, whose digest is in such bytes.
#[test]
fn hashes_lead_from_a_transaction_to_the_root_of_a_real_block() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/bitcoin/bitcoinj/block169482.dat");
    let block = std::fs::read(path).unwrap();
    let header = BitcoinHeader::decode(&block[..80]).unwrap();
    assert_eq!(hex::encode(header.hash), "0000000000000756935f1ee9d5987857b604046f846d3df56d024cdb5f368665");
    let transactions = transactions(&block);
    let number = transactions.len() / 2;
    let (before, rest) = transactions[number].split_at(40);
    let (digest, after) = rest.split_at(32);
    let hash =
        |next| vec![Step::Then(Operation::Sha256, Timestamp { steps: vec![Step::Then(Operation::Sha256, next)] })];
    let mut steps = vec![Step::Attested(OtsAttestation::Bitcoin { height: 169_482 })];
    for (sibling, is_left) in siblings(&transactions, number).into_iter().rev() {
        steps = hash(Timestamp { steps });
        let operation = if is_left { Operation::Prepend(sibling) } else { Operation::Append(sibling) };
        steps = vec![Step::Then(operation, Timestamp { steps })];
    }
    steps = hash(Timestamp { steps });
    for operation in [Operation::Append(after.to_vec()), Operation::Prepend(before.to_vec())] {
        steps = vec![Step::Then(operation, Timestamp { steps })];
    }
    let ots = Ots { digest: digest.try_into().unwrap(), timestamp: Timestamp { steps } };
    let claims = Ots::decode(&ots.encode()).unwrap().claims();
    assert_eq!(claims[0].message, header.merkle_root);
}

/// The transactions of a block without witnesses.
fn transactions(block: &[u8]) -> Vec<Vec<u8>> {
    let mut left = &block[80..];
    let count = number(&mut left);
    let mut found = Vec::new();
    for _ in 0..count {
        let start = left;
        skip(&mut left, 4);
        for _ in 0..number(&mut left) {
            skip(&mut left, 36);
            let script = number(&mut left);
            skip(&mut left, script + 4);
        }
        for _ in 0..number(&mut left) {
            skip(&mut left, 8);
            let script = number(&mut left);
            skip(&mut left, script);
        }
        skip(&mut left, 4);
        found.push(start[..start.len() - left.len()].to_vec());
    }
    assert!(left.is_empty());
    found
}

fn skip(left: &mut &[u8], count: usize) {
    *left = &left[count..];
}

fn number(left: &mut &[u8]) -> usize {
    let first = left[0];
    skip(left, 1);
    match first {
        0xfd => {
            let value = u16::from_le_bytes([left[0], left[1]]);
            skip(left, 2);
            value.into()
        }
        small => small.into(),
    }
}

/// What is beside the way from a transaction to the root, from below, and whether it stands to the left.
fn siblings(transactions: &[Vec<u8>], mut number: usize) -> Vec<(Vec<u8>, bool)> {
    let twice = |bytes: &[u8]| sha256(&sha256(bytes));
    let mut level: Vec<[u8; 32]> = transactions.iter().map(|transaction| twice(transaction)).collect();
    let mut found = Vec::new();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(level[level.len() - 1]);
        }
        found.push((level[number ^ 1].to_vec(), number % 2 == 1));
        level = level.chunks(2).map(|pair| twice(pair.as_flattened())).collect();
        number /= 2;
    }
    found
}

#[test]
fn bad_proofs_are_refused() {
    let good = reference();
    for length in 0..good.len() {
        assert!(Ots::decode(&good[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(Ots::decode(&[&good[..], &[0]].concat()), Err(OtsError::Long { left: 1 }));
    let sha1 = [&good[..32], &[0x02], &good[33..]].concat();
    assert_eq!(Ots::decode(&sha1), Err(OtsError::Digest { tag: 2 }));
    let start = &good[..65];
    let with = |rest: &[u8]| Ots::decode(&[start, rest].concat());
    assert_eq!(with(&[0x02]), Err(OtsError::Operation { tag: 2 }));
    assert_eq!(with(&[0xf0, 0x00]), Err(OtsError::Message));
    assert_eq!(with(&[0xf0, 0x81, 0x00]), Err(OtsError::Number));
    assert_eq!(with(&[0xf0, 0xff, 0xff, 0x7f]), Err(OtsError::Message));
    assert_eq!(with(&[0xf3; 9]), Err(OtsError::Message), "each doubles the message");
    assert_eq!(with(&vec![0x08; 4000]), Err(OtsError::Steps), "too deep");
    let attestation = [&[0x00][..], &[7; 8], &[0x00]].concat();
    let many: Vec<u8> = std::iter::repeat_n([&[0xff][..], &attestation].concat(), 700).flatten().collect();
    assert_eq!(with(&many), Err(OtsError::Short));
    assert!(matches!(with(&vec![0; OTS_MAX]), Err(OtsError::TooLong { .. })));
    let uri = [&[0x00][..], &PENDING, &[0x03, 0x02, b'a', b'?']].concat();
    assert_eq!(with(&uri), Err(OtsError::Uri));
}

#[test]
fn a_header_without_its_work_is_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/bitcoin/bitcoinj/block169482.dat");
    let mut header = std::fs::read(path).unwrap()[..80].to_vec();
    assert!(BitcoinHeader::decode(&header[..79]).is_err());
    header[40] ^= 1;
    assert_eq!(BitcoinHeader::decode(&header), Err(crate::anchor::BitcoinHeaderError::Work));
    // Its own target, as easy as none was.
    header[72..76].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    assert_eq!(BitcoinHeader::decode(&header), Err(crate::anchor::BitcoinHeaderError::Target));
}
