//! How long `check-receipt` takes for a receipt of each kind: from its bytes to what it proves, by the library's own call, on one thread.
//!
//! The receipts are the golden files, so they are the same on every machine and in every release.
//!
//! `cargo bench --profile ci --workspace --bench receipts -- [--rounds N]`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use blockhouse_ledger::Receipt;
use blockhouse_tests::guide::repository;
use blockhouse_types::Fingerprint;

/// What is certified how, the receipt, the fingerprint that it is checked against.
const RECEIPTS: [(&str, &str, &str); 6] = [
    ("one host's key", "receipt.json", "fingerprint.txt"),
    ("a key that validators share", "receipt-threshold.json", "fingerprint-threshold.txt"),
    ("a committee of four, one block above it", "receipt-committee.json", "fingerprint-2.txt"),
    ("a committee that a charter names, one link", "receipt-charter.json", "fingerprint-charter.txt"),
    ("a committee, two links", "receipt-3.json", "fingerprint-2.txt"),
    ("the same in version 2", "receipt-2.json", "fingerprint-2.txt"),
];

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    let rounds: usize = arguments.next().map_or(200, |text| text.parse().unwrap());
    let folder = repository().join("crates/ledger/tests/fixtures/v1");
    println!("{:45} {:>7} {:>10} {:>10} {:>10}", "certified by", "bytes", "first", "median", "slowest");
    for (what, receipt, fingerprint) in RECEIPTS {
        let (bytes, fingerprint) = (fs::read(folder.join(receipt)).unwrap(), fingerprint_in(&folder.join(fingerprint)));
        let mut times: Vec<Duration> = (0..rounds).map(|_| time_of(&bytes, fingerprint)).collect();
        let first = times[0];
        times.sort_unstable();
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{what:45} {:>7} {first:>10.2?} {median:>10.2?} {slowest:>10.2?}", bytes.len());
    }
}

fn time_of(bytes: &[u8], fingerprint: Fingerprint) -> Duration {
    let begun = Instant::now();
    Receipt::parse(bytes).unwrap().check(Some(fingerprint)).unwrap();
    begun.elapsed()
}

fn fingerprint_in(path: &Path) -> Fingerprint {
    fs::read_to_string(path).unwrap().trim_end().parse().unwrap()
}
