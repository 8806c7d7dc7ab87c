use blockhouse_crypto::{LedgerKey, Secret};
use blockhouse_ledger::certificate::{BlockPlace, Certificate};

use super::*;

const CHAIN: u64 = 7;

/// The fork that one operator makes at that height.
fn fork(height: u64) -> (ForkEvidence, ProvedFork) {
    fork_by(9, height)
}

/// The same by an operator with that key.
fn fork_by(key: u8, height: u64) -> (ForkEvidence, ProvedFork) {
    let key = LedgerKey::from_seed(&Secret::new([key; 32]));
    let root = TrustRoot {
        chain_id: CHAIN,
        genesis: BlockHash::new([1; 32]),
        vault: alloy_primitives::Address::ZERO,
        ledger_key: key.public(),
    };
    let side = |timestamp| {
        let header = alloy_consensus::Header { number: height, timestamp, ..Default::default() };
        let place = BlockPlace { chain_id: CHAIN, height, hash: BlockHash::new(header.hash_slow().0) };
        ForkSide { header, certificate: Certificate::solo(&key, &place) }
    };
    let evidence = ForkEvidence::new(root, Vec::new(), [side(1), side(2)]);
    let proved = evidence.check(None).unwrap();
    (evidence, proved)
}

#[test]
fn a_fork_is_kept_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let forks = ForkFolder::beside(&folder.path().join("ledger.redb"));
    assert!(forks.all().unwrap().is_empty());
    let (evidence, proved) = fork(5);
    let (path, is_new) = forks.keep(&evidence, &proved).unwrap();
    assert!(is_new);
    assert_eq!(forks.keep(&evidence, &proved).unwrap(), (path.clone(), false));
    let kept = forks.all().unwrap();
    assert_eq!(kept, [KeptFork { path: path.clone(), evidence, proved }]);
    assert!(!kept[0].is_told() && !kept[0].is_settled());
    forks.note_told(&kept[0]);
    fs::write(path.with_extension("settled"), b"").unwrap();
    let kept = forks.all().unwrap();
    assert!(kept.len() == 1 && kept[0].is_told() && kept[0].is_settled());
    // What was altered proves nothing, and hides nothing.
    let (other, of_other) = fork(6);
    forks.keep(&other, &of_other).unwrap();
    fs::write(&path, b"altered").unwrap();
    assert_eq!(forks.all().unwrap().len(), 1);
    let (again, proved) = fork(5);
    assert!(forks.keep(&again, &proved).unwrap().1, "it is met again");
    assert_eq!(forks.all().unwrap().len(), 2);
}

/// K2: what a kill while it was written leaves is not read, and in nobody's way.
#[test]
fn a_half_written_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let forks = ForkFolder::beside(&folder.path().join("ledger.redb"));
    let (evidence, proved) = fork(5);
    fs::create_dir_all(forks.path()).unwrap();
    let new = forks.path().join(name(&proved)).with_extension("new");
    fs::write(&new, &evidence.encode()[..100]).unwrap();
    assert!(forks.all().unwrap().is_empty());
    assert!(forks.keep(&evidence, &proved).unwrap().1);
    assert!(!new.exists() && forks.all().unwrap().len() == 1);
}

#[test]
fn there_are_no_more_than_so_many() {
    let folder = tempfile::tempdir().unwrap();
    let forks = ForkFolder::beside(&folder.path().join("ledger.redb"));
    let kept = (1..=FORKS_MAX as u64 + 4).filter(|height| {
        let (evidence, proved) = fork(*height);
        forks.keep(&evidence, &proved).unwrap().1
    });
    assert_eq!(kept.count(), FORKS_MAX);
    assert_eq!(forks.all().unwrap().len(), FORKS_MAX);
    // Who has one key leaves room for forks by others.
    let (evidence, proved) = fork_by(8, 100);
    assert!(forks.keep(&evidence, &proved).unwrap().1);
    assert_eq!(forks.all().unwrap().len(), FORKS_MAX + 1);
}
