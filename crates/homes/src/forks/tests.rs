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
    let evidence = ForkEvidence::new(root(key), Vec::new(), [side(key, height, 1), side(key, height, 2)]);
    let proved = evidence.check(None).unwrap();
    (evidence, proved)
}

fn operator(key: u8) -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([key; 32]))
}

fn root(key: u8) -> TrustRoot {
    let (genesis, vault) = (BlockHash::new([1; 32]), alloy_primitives::Address::ZERO);
    TrustRoot { chain_id: CHAIN, genesis, vault, ledger_key: operator(key).public() }
}

/// A block of that height and time, certified by that operator.
fn side(key: u8, height: u64, timestamp: u64) -> ForkSide {
    let header = alloy_consensus::Header { number: height, timestamp, ..Default::default() };
    let place = BlockPlace { chain_id: CHAIN, height, hash: BlockHash::new(header.hash_slow().0) };
    ForkSide { header, certificate: Certificate::solo(&operator(key), &place) }
}

/// K4. What was seen: of whatever was handed in, the links of an old ledger were read and checked first, up to 64 of them.
#[test]
fn links_are_made_of_forks_alone() {
    let own = |height, time| side(9, height, time);
    let mut forged = own(5, 2);
    forged.header.timestamp = 3;
    for sides in [
        [own(5, 1), own(5, 1)],
        [own(5, 1), own(6, 2)],
        [own(0, 1), own(0, 2)],
        [own(5, 1), side(8, 5, 2)],
        [own(5, 1), forged],
    ] {
        let made = evidence_by(root(9), sides, || panic!("links of what is no fork"));
        assert_eq!(made, None);
    }
    let mut is_led = false;
    let made = evidence_by(root(9), [own(5, 1), own(5, 2)], || {
        is_led = true;
        None
    });
    assert_eq!((made, is_led), (Some(fork(5)), true));
    // Links that lead elsewhere prove nothing.
    let astray = evidence_by(root(9), [own(5, 1), own(5, 2)], || Some((operator(8).public(), Vec::new())));
    assert_eq!(astray, None);
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
