use blockhouse_consensus::{Base, Dealt, deal};
use blockhouse_types::BlockHash;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::*;

const CHAIN: u64 = 0x1_0000_0007;

/// A network of the same validators with another polynomial, as after a resharing: for files it does not matter that the key is another.
fn dealt(seed: u64, epoch: u64) -> Dealt {
    let mut identities = StdRng::seed_from_u64(1);
    let keys = (0..4).map(|_| Keys::generate(&mut identities)).collect();
    let base = Base { height: epoch * 16, hash: BlockHash::new([0; 32]) };
    deal(&mut StdRng::seed_from_u64(seed), CHAIN, epoch, base, keys).unwrap()
}

/// The folder of the first validator, with its share of that network.
fn node(of: &Dealt) -> (TempDir, NodeFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = NodeFolder::new(dir.path());
    folder.write_share(&of.keys[0]).unwrap();
    (dir, folder)
}

fn share(of: &Dealt) -> Share {
    of.keys[0].share().unwrap().clone()
}

fn keep(folder: &NodeFolder, from: &Dealt, to: &Dealt) {
    let (from, polynomial) = (from.network.polynomial().unwrap(), to.network.polynomial().unwrap());
    folder.keep_share(&to.keys[0], &share(to), &from, &polynomial).unwrap();
}

fn files(folder: &NodeFolder) -> usize {
    folder.kept().unwrap().len()
}

#[test]
fn a_new_share_waits_beside_the_old_one_until_its_tenure_is_there() {
    let (first, second, dead) = (dealt(2, 0), dealt(3, 4), dealt(4, 4));
    let (dir, folder) = node(&first);
    keep(&folder, &first, &second);
    keep(&folder, &first, &dead);
    // Before: nothing of the old tenure is touched, and each network finds its own share.
    folder.settle_shares(&Held { former: Vec::new(), current: first.network.clone() }).unwrap();
    assert_eq!(files(&folder), 2);
    for of in [&first, &second] {
        assert!(of.network.is_share_of(&folder.keys_for(&of.network).unwrap()));
    }
    // Then the old one and the dead one are gone, also from the bytes of the disk that this file system writes in place.
    let old = std::fs::File::open(dir.path().join("node.key")).unwrap();
    let held = Held { former: vec![first.network.clone()], current: second.network.clone() };
    folder.settle_shares(&held).unwrap();
    assert_eq!(files(&folder), 0);
    assert!(second.network.is_share_of(&folder.read_keys().unwrap()));
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &old, &mut bytes).unwrap();
    assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0));
    // What is made for the next one stays.
    let third = dealt(5, 8);
    keep(&folder, &second, &third);
    folder.settle_shares(&held).unwrap();
    assert_eq!(files(&folder), 1);
}

/// A1: a kill before any of the writes leaves what the next start goes on with.
#[test]
fn killed_anywhere_the_share_in_force_is_found() {
    let (first, second) = (dealt(2, 0), dealt(3, 4));
    let held = Held { former: vec![first.network.clone()], current: second.network.clone() };
    let found = |folder: &NodeFolder| second.network.is_share_of(&folder.keys_for(&second.network).unwrap());
    // Before `node.key` was written; the file beside it was begun.
    let (dir, folder) = node(&first);
    keep(&folder, &first, &second);
    std::fs::write(dir.path().join("node.new"), b"half").unwrap();
    assert!(found(&folder));
    folder.settle_shares(&held).unwrap();
    assert!(found(&folder) && files(&folder) == 0);
    // After it, and before the other file was erased.
    keep(&folder, &first, &second);
    assert!(found(&folder));
    folder.settle_shares(&held).unwrap();
    assert!(found(&folder) && files(&folder) == 0);
    // Between the second name of the old file and its replacement, and between that and its end.
    for is_replaced in [false, true] {
        let (dir, folder) = node(&first);
        let (key, second_name) = (dir.path().join("node.key"), dir.path().join("node.replaced"));
        keep(&folder, &first, &second);
        std::fs::hard_link(&key, &second_name).unwrap();
        let mut old = std::fs::File::open(&second_name).unwrap();
        if is_replaced {
            folder.write_share(&second.keys[0]).unwrap();
        }
        folder.settle_shares(&held).unwrap();
        assert!(found(&folder) && files(&folder) == 0 && !second_name.exists());
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut old, &mut bytes).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0), "the old share is erased");
    }
}

/// A2.
#[test]
fn a_ledger_that_was_put_back_erases_nothing() {
    let (first, second, third) = (dealt(2, 0), dealt(3, 4), dealt(4, 8));
    let (_dir, folder) = node(&second);
    keep(&folder, &second, &third);
    folder.settle_shares(&Held { former: Vec::new(), current: first.network.clone() }).unwrap();
    assert!(second.network.is_share_of(&folder.keys_for(&second.network).unwrap()));
    assert!(third.network.is_share_of(&folder.keys_for(&third.network).unwrap()));
    assert!(!first.network.is_share_of(&folder.keys_for(&first.network).unwrap()));
}

#[test]
fn who_left_keeps_no_share() {
    let (first, second) = (dealt(2, 0), dealt(3, 4));
    let (_dir, folder) = node(&first);
    folder.settle_shares(&Held { former: vec![first.network], current: second.network }).unwrap();
    let keys = folder.read_keys().unwrap();
    assert!(!keys.has_share() && keys.public() == first.keys[0].public());
}
