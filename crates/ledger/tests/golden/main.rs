//! The golden files of version 1: blocks and receipts that are checked in must be good for ever.
//!
//! - `tests/fixtures/v1/`: the blocks of a small ledger as they lie at sites, the receipt of the snapshot in its last one, and
//!   the vault's fingerprint. `BLOCKHOUSE_WRITE_FIXTURES=1` writes them anew; after the release of version 1 that must never
//!   be done.
//! - `docs/design/check/vectors/`: the receipt of a file that the Python implementation of the pages made.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

mod make;

use std::fs;
use std::path::PathBuf;

use blockhouse_crypto::hash::content;
use blockhouse_ledger::{BlockObject, Checked, Receipt, Replay};
use blockhouse_types::Fingerprint;

fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where").into()
}

/// A golden file of this crate.
fn golden(name: &str) -> Vec<u8> {
    let folder = package().join("tests/fixtures/v1");
    if std::env::var_os("BLOCKHOUSE_WRITE_FIXTURES").is_some() {
        // Several tests of one process come here: the files are made once.
        static MADE: std::sync::Once = std::sync::Once::new();
        MADE.call_once(|| make::write(&folder));
    }
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A file that the Python implementation made.
fn vector(name: &str) -> Vec<u8> {
    fs::read(package().join("../../docs/design/check/vectors").join(name)).unwrap()
}

fn fingerprint(text: Vec<u8>) -> Fingerprint {
    String::from_utf8(text).unwrap().trim_end().parse().unwrap()
}

fn objects() -> Vec<Vec<u8>> {
    (0..make::BLOCKS).map(|height| golden(&format!("block-{height}.bin"))).collect()
}

/// Parses, checks, and demands that it is written again as the same bytes.
fn checked(bytes: &[u8], fingerprint: Fingerprint) -> Checked {
    let receipt = Receipt::parse(bytes).unwrap();
    assert!(receipt.to_bytes() == bytes, "the receipt is written in another way");
    receipt.check(Some(fingerprint)).unwrap()
}

#[test]
fn every_block_is_read_and_written_as_the_same_bytes() {
    for (height, bytes) in objects().iter().enumerate() {
        let object = BlockObject::decode(bytes).unwrap();
        assert_eq!(object.block.header.number, height as u64);
        assert!(object.encode() == *bytes, "block {height} is written in another way");
    }
}

/// Old blocks replay for ever: the same state, receipts and hashes come out.
#[test]
fn the_chain_replays_to_its_last_block() {
    let objects: Vec<_> = objects().iter().map(|bytes| BlockObject::decode(bytes).unwrap()).collect();
    let mut replay = Replay::begin(&objects[0]).unwrap();
    for object in &objects[1..] {
        let executed = replay.extend(object).unwrap();
        assert!(executed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
    }
    assert_eq!(replay.head(), &objects.last().unwrap().block.header);
    let own = replay.authority().fingerprint(replay.genesis());
    assert_eq!(own, fingerprint(golden("fingerprint.txt")));
}

#[test]
fn the_receipt_of_a_snapshot_checks() {
    let bytes = golden("receipt.json");
    assert!(bytes.len() <= 8 << 10, "{} bytes", bytes.len());
    let found = checked(&bytes, fingerprint(golden("fingerprint.txt")));
    let last = BlockObject::decode(objects().last().unwrap()).unwrap();
    assert_eq!((found.height, found.block), (last.block.header.number, last.hash()));
    assert_eq!(found.snapshot.to_bytes(), make::SNAPSHOT.0);
    assert_eq!(found.source.to_bytes(), make::SOURCE.0);
    assert_eq!((found.commit.d, found.commit.w, found.commit.wd), (6, 2, 1));
    assert!(found.file.is_none());
}

/// What somebody wrote from the pages alone, in another language, is a receipt here too.
#[test]
fn the_receipt_of_a_file_that_python_made_checks() {
    let wanted = fingerprint(vector("fingerprint.txt"));
    let found = checked(&vector("receipt.json"), wanted);
    let (file, shown) = (vector("file.txt"), found.file.unwrap());
    shown.check_file(file.len() as u64, &content(&file)).unwrap();
    assert!(shown.check_file(file.len() as u64, &content(b"another")).is_err());
    let of_golden = Receipt::parse(&golden("receipt.json")).unwrap();
    assert_eq!(of_golden.check(Some(wanted)).unwrap_err().step(), 2, "each is of its own vault");
}

#[test]
fn no_byte_of_a_golden_receipt_can_be_another() {
    for (bytes, wanted) in [
        (golden("receipt.json"), fingerprint(golden("fingerprint.txt"))),
        (vector("receipt.json"), fingerprint(vector("fingerprint.txt"))),
    ] {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let good = Receipt::parse(&flipped).is_ok_and(|receipt| receipt.check(Some(wanted)).is_ok());
            assert!(!good, "byte {at}");
        }
    }
}
