//! Whom evidence silences where a ledger is taken over.

use alloy_consensus::Header;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_types::BlockHash;

use super::*;
use crate::network::succession::tests::{at, base_of, file, old_key, store};

/// Another block 1, by those who kept the ledger before.
fn side(store: &Store, timestamp: u64) -> ForkSide {
    let header = Header { number: 1, timestamp, ..Header::default() };
    let hash = BlockHash::new(header.hash_slow().0);
    let place = BlockPlace { chain_id: store.genesis().chain_id, height: 1, hash };
    ForkSide { header, certificate: Certificate::solo(&old_key(), &place) }
}

/// S3. What was seen: whoever was to go on with a forked ledger under other keys read of the fork on it, before his handover was final, and fell silent for
/// ever.
#[test]
fn a_fork_by_those_before_does_not_keep_a_network_from_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (evidence, proved) = evidence_between(&store, [side(&store, 1), side(&store, 2)]).unwrap().unwrap();
    let theirs = NetworkFile { handover: None, ..file(base_of(&store), None) };
    let ours = file(base_of(&store), None);
    let open = |file: &NetworkFile| Eye::open(ForkFolder::beside(store.path()), file).unwrap();
    let (own, before) = (open(&ours), open(&theirs));
    for eye in [&own, &before] {
        eye.keep(&evidence, &proved).unwrap();
        eye.read().unwrap();
    }
    assert!(before.silences(&store).is_some(), "it is by the key in force");
    assert_eq!(own.silences(&store), None, "above the base another one is in force");
    assert_eq!(own.status(&store).known, 1, "it is known all the same");

    let chain = Chain::open(store, ours.network.key()).unwrap().opened_by(&ours);
    let first = chain.open_with(chain.opening(&[]).unwrap().unwrap(), at(2)).unwrap();
    chain.finalize(&first.block, &Certificate::Genesis { key: ours.network.key() }).unwrap();
    assert_eq!(own.silences(&chain.head()), None);
    assert_eq!(before.silences(&chain.head()), None, "those before are over");
}

/// S2: who hears of it finds it told.
#[test]
fn what_is_read_on_the_ledger_is_not_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let eye = Arc::new(Eye::open(ForkFolder::beside(store.path()), &file(base_of(&store), None)).unwrap());
    let heard = eye.found.subscribe();
    let (listener, found) = (Arc::clone(&eye), eye.found.subscribe());
    let listens = std::thread::spawn(move || {
        while !found.has_changed().unwrap() {
            std::hint::spin_loop();
        }
        listener.known().iter().all(KeptFork::is_told) && listener.untold.load(Ordering::Relaxed) == 0
    });
    for _ in 0..2 {
        let (evidence, proved) = evidence_between(&store, [side(&store, 1), side(&store, 2)]).unwrap().unwrap();
        eye.keep_told(evidence, proved).unwrap();
        assert_eq!((eye.known().len(), eye.status(&store).untold), (1, 0));
    }
    assert!(listens.join().unwrap(), "it is told before anybody hears of it");
    assert!(heard.has_changed().unwrap() && *heard.borrow() == 1);
}
