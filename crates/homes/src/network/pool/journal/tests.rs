//! What is read of a journal after kills at any instant and after faults of the disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind};
use blockhouse_types::DecodeError;

use super::record::{encode, header};
use super::{Decoded, Fault, Journal, JournalError, Recovered, SLACK, decode};
use crate::network::pool::Examined;

fn tx(nonce: u64, size: usize) -> Examined {
    let input = Bytes::from(vec![3; size]);
    let inner = TxEip1559 { nonce, input, to: TxKind::Call(Address::ZERO), ..TxEip1559::default() };
    let tx: TxEnvelope = inner.into_signed(Signature::test_signature()).into();
    Examined { hash: *tx.tx_hash(), sender: Address::ZERO, length: tx.encode_2718_len(), tx }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    (folder, path)
}

fn open(path: &Path) -> (Journal, Recovered) {
    Journal::open(path).unwrap()
}

/// Some transactions, the journal of them, and where each record ends.
fn sample() -> (Vec<Vec<u8>>, Vec<u8>, Vec<usize>) {
    let txs: Vec<_> = [0, 1, 40].iter().zip(0..).map(|(size, nonce)| tx(nonce, *size).bytes()).collect();
    let mut bytes = header();
    let mut ends = vec![bytes.len()];
    for tx in &txs {
        bytes.extend(encode(tx));
        ends.push(bytes.len());
    }
    (txs, bytes, ends)
}

#[test]
fn what_was_appended_is_there_in_order() {
    let (_folder, path) = folder();
    let (mut journal, recovered) = open(&path);
    assert!(recovered.transactions.is_empty());
    let txs = [tx(0, 5), tx(1, 0), tx(2, 9000)];
    journal.append(&txs[..2]).unwrap();
    journal.append(&[]).unwrap();
    journal.append(&txs[2..]).unwrap();
    drop(journal);
    for _ in 0..2 {
        let (_, recovered) = open(&path);
        assert_eq!(recovered.transactions, txs.each_ref().map(Examined::bytes));
        assert_eq!((recovered.torn, recovered.damaged), (0, None));
    }
}

/// A kill during an append leaves a beginning of what it wrote; a kill at another time leaves the whole file.
#[test]
fn cut_at_any_byte_all_that_was_acknowledged_is_there_and_it_goes_on() {
    let (_folder, path) = folder();
    let (txs, bytes, ends) = sample();
    for cut in ends[0]..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let (mut journal, recovered) = open(&path);
        assert_eq!(recovered.transactions, txs[..whole], "cut at {cut}");
        assert_eq!((recovered.torn, recovered.damaged), (cut - ends[whole], None), "cut at {cut}");
        journal.append(&[tx(9, 0)]).unwrap();
        let (_, recovered) = open(&path);
        let expected: Vec<_> = txs[..whole].iter().cloned().chain([tx(9, 0).bytes()]).collect();
        assert_eq!((recovered.transactions, recovered.torn), (expected, 0), "cut at {cut}");
    }
}

/// A file system may have made the file longer before it wrote what stands there.
#[test]
fn zeros_at_the_end_are_an_unfinished_append() {
    let (txs, bytes, _) = sample();
    for zeros in [1, 8, 30, 5000] {
        let longer = [&bytes[..], &vec![0; zeros]].concat();
        let fault = Some(Fault::Torn { bytes: zeros });
        assert_eq!(decode(&longer).unwrap(), Decoded { transactions: txs.iter().map(Vec::as_slice).collect(), fault });
    }
}

#[test]
fn a_changed_byte_costs_one_transaction_at_most_and_is_noticed() {
    let (txs, bytes, ends) = sample();
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let record = ends.iter().filter(|end| **end <= at).count();
            match decode(&changed) {
                Err(error) => assert!(matches!(error, DecodeError::Newer { .. }) && record == 0, "{error}"),
                Ok(decoded) => {
                    let left = txs.iter().zip(1..).filter(|(_, number)| *number != record);
                    let left: Vec<_> = left.map(|(tx, _)| tx.as_slice()).collect();
                    assert_eq!(decoded.transactions, left, "byte {at}");
                    assert_eq!(decoded.fault, Some(Fault::Damaged), "byte {at}");
                }
            }
        }
    }
}

#[test]
fn a_damaged_file_is_kept_and_the_rest_goes_on() {
    let (_folder, path) = folder();
    let (txs, mut bytes, ends) = sample();
    bytes[ends[0] + 30] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (_, recovered) = open(&path);
    assert_eq!(recovered.transactions, txs[1..]);
    assert_eq!(std::fs::read(recovered.damaged.unwrap()).unwrap(), bytes);
    assert_eq!(open(&path).1.damaged, None, "it is told once");
}

#[test]
fn a_file_of_a_later_version_is_left_as_it_is() {
    let (_folder, path) = folder();
    let (_, mut bytes, _) = sample();
    bytes[4] += 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Newer { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// Each state that a kill can leave while the file is written anew: beside, in part or whole, and after the rename.
#[test]
fn a_kill_while_it_is_written_anew_leaves_the_old_or_the_new_file() {
    let (_folder, path) = folder();
    let beside = path.with_extension("new");
    let (txs, bytes, _) = sample();
    let shorter = [header(), encode(&txs[2])].concat();
    for cut in 0..=shorter.len() {
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(&beside, &shorter[..cut]).unwrap();
        assert_eq!(open(&path).1.transactions, txs, "beside with {cut} bytes");
        assert!(!beside.exists());
    }
    std::fs::write(&path, &shorter).unwrap();
    assert_eq!(open(&path).1.transactions, txs[2..]);
}

#[test]
fn a_grown_file_is_written_anew_with_what_waits() {
    let (_folder, path) = folder();
    let (mut journal, _) = open(&path);
    let large: Vec<_> = (0..12).map(|nonce| tx(nonce, 100_000)).collect();
    assert!(!journal.is_grown());
    journal.append(&large).unwrap();
    assert!(journal.is_grown());
    journal.rewrite(&large[11..]).unwrap();
    assert!(!journal.is_grown());
    assert!(std::fs::metadata(&path).unwrap().len() < SLACK);
    journal.append(&[tx(50, 0)]).unwrap();
    let bytes = [&large[11], &tx(50, 0)].map(Examined::bytes);
    assert_eq!(open(&path).1.transactions, bytes);
}

#[test]
fn after_a_failed_write_nothing_is_written_until_it_is_opened_again() {
    let (_folder, path) = folder();
    let (mut journal, _) = open(&path);
    journal.append(&[tx(0, 0)]).unwrap();
    // A file that takes no writes stands for a disk that takes none.
    journal.file = Some(File::open(&path).unwrap());
    assert!(matches!(journal.append(&[tx(1, 0)]), Err(JournalError::Io { action: "write to", .. })));
    assert!(matches!(journal.append(&[tx(2, 0)]), Err(JournalError::Poisoned { .. })));
    assert!(matches!(journal.rewrite(&[tx(2, 0)]), Err(JournalError::Poisoned { .. })));
    let (mut journal, recovered) = open(&path);
    assert_eq!(recovered.transactions, [tx(0, 0).bytes()]);
    journal.append(&[tx(3, 0)]).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error_with_its_path() {
    let (folder, _) = folder();
    let error = Journal::open(&folder.path().join("no/pool")).unwrap_err();
    assert!(error.to_string().contains("no/pool"), "{error}");
}
