//! Against redb: what it finds when it reads all of a file is found here, leaf by leaf, also while it writes.

use std::path::PathBuf;

use proptest::prelude::*;
use redb::{Builder, Database, ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::*;

const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");
const WORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("words");
const HASHES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("hashes");
const MARKS: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("marks");

/// A file with tables of all the forms that a store has.
struct Made {
    folder: tempfile::TempDir,
    database: Database,
    random: u64,
}

impl Made {
    fn new(rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Builder::new().create(folder.path().join("made.redb")).unwrap();
        let mut made = Self { folder, database, random: rows };
        made.commit(|transaction, random| write(transaction, rows, random));
        // Pages of its own that are free again.
        made.commit(|transaction, random| write(transaction, rows / 3, random));
        made
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("made.redb")
    }

    fn commit(&mut self, fill: impl FnOnce(&WriteTransaction, &mut u64)) {
        let mut transaction = self.database.begin_write().unwrap();
        transaction.set_quick_repair(true);
        fill(&transaction, &mut self.random);
        transaction.commit().unwrap();
    }

    /// As a kill leaves it.
    fn killed(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 16
}

fn write(transaction: &WriteTransaction, rows: u64, random: &mut u64) {
    if rows == 0 {
        return;
    }
    let mut numbers = transaction.open_table(NUMBERS).unwrap();
    let mut words = transaction.open_table(WORDS).unwrap();
    let mut hashes = transaction.open_table(HASHES).unwrap();
    let mut marks = transaction.open_table(MARKS).unwrap();
    for _ in 0..rows {
        let number = next(random);
        // Some are longer than a page.
        let length = if number.is_multiple_of(29) { 9000 } else { number % 200 };
        let value = vec![number.to_le_bytes()[0]; usize::try_from(length).unwrap()];
        numbers.insert(number % 100_000, value.as_slice()).unwrap();
        let word = &value[..value.len().min(1 + usize::try_from(number % 60).unwrap())];
        words.insert(&[&number.to_be_bytes()[3..], word].concat()[..], word).unwrap();
        let hash: [u8; 32] = std::array::from_fn(|at| number.rotate_left(u32::try_from(at).unwrap()).to_le_bytes()[0]);
        hashes.insert(&hash, number).unwrap();
        marks.insert(hash.first_chunk::<16>().unwrap(), ()).unwrap();
    }
}

/// How many leaves there are, taken one by one.
fn compare_all(path: &Path) -> Result<usize, Fault> {
    let (file, mut place, mut leaves) = (PageFile::open(path)?, PagePlace::default(), 0);
    while let Some(next) = file.compare_some(&place, 1)? {
        (place, leaves) = (next, leaves + 1);
    }
    Ok(leaves)
}

fn leaves(path: &Path) -> usize {
    let file = PageFile::open(path).unwrap();
    let commit = file.commit().unwrap().unwrap();
    let count = |tree| {
        let mut walk = Walk::over(&commit, tree, None);
        std::iter::from_fn(|| walk.next().unwrap()).count()
    };
    commit.tables(commit.rows).unwrap().into_iter().map(|(_, tree)| count(tree)).sum()
}

#[test]
fn each_leaf_is_compared_once() {
    for rows in [0, 1, 30, 1000] {
        let made = Made::new(rows);
        let path = made.path();
        assert!(PageFile::open(&path).unwrap().compare_own().unwrap());
        assert_eq!(compare_all(&path).unwrap(), leaves(&path), "{rows} rows");
        drop(made.database);
        assert!(PageFile::open(&path).unwrap().compare_own().unwrap(), "closed");
        assert_eq!(compare_all(&path).unwrap(), leaves(&path), "{rows} rows, closed");
    }
}

/// Views are held a step long, as a node does (G2).
#[test]
fn nothing_is_taken_for_damage_that_is_being_written() {
    let made = &mut Made::new(1000);
    let (path, database) = (made.path(), &made.database);
    let (file, done) = (PageFile::open(&path).unwrap(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 7;
            for _ in 0..100 {
                let mut transaction = database.begin_write().unwrap();
                transaction.set_quick_repair(true);
                write(&transaction, 50, &mut random);
                transaction.commit().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let (mut place, mut passes) = (PagePlace::default(), 0);
        while passes == 0 || !done.load(std::sync::atomic::Ordering::SeqCst) {
            let view = database.begin_read().unwrap();
            let compared = file.compare_some(&place, 100_000);
            drop(view);
            place = match compared {
                Ok(next) => {
                    passes += usize::from(next.is_none());
                    next.unwrap_or_default()
                }
                Err(fault) => {
                    done.store(true, std::sync::atomic::Ordering::SeqCst);
                    panic!("{fault:?}");
                }
            };
        }
    });
}

#[test]
fn a_commit_in_one_phase_is_left_to_redb() {
    let made = Made::new(10);
    let mut transaction = made.database.begin_write().unwrap();
    transaction.set_quick_repair(false);
    transaction.open_table(NUMBERS).unwrap().insert(1, b"one".as_slice()).unwrap();
    transaction.commit().unwrap();
    assert!(!PageFile::open(&made.path()).unwrap().compare_own().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    /// What redb refuses when it has read all pages is refused here, and nothing else is; but for its header, where both slots count to it.
    #[test]
    fn redb_finds_the_same(rows in 1..400_u64, places in proptest::collection::vec((any::<u32>(), 1..=255_u8), 1..4)) {
        let made = Made::new(rows);
        let mut bytes = made.killed();
        for (place, change) in places {
            let place = 4096 + usize::try_from(place).unwrap() % (bytes.len() - 4096);
            bytes[place] ^= change;
        }
        let path = made.folder.path().join("changed.redb");
        std::fs::write(&path, &bytes).unwrap();
        let ours = PageFile::open(&path).unwrap().compare_own().and_then(|_| compare_all(&path));
        let theirs = super::super::rehearsal::rehearse(&path, 1 << 20);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours.err(), theirs.map(drop).err());
    }

    /// Whatever the bytes are, nothing panics.
    #[test]
    fn other_bytes_are_no_store(header in proptest::collection::vec(any::<u8>(), 0..600), keep in any::<bool>()) {
        let made = Made::new(5);
        let mut bytes = made.killed();
        let from = if keep { MAGIC.len() + 1 } else { 0 };
        for (place, byte) in bytes.iter_mut().skip(from).zip(header) {
            *place = byte;
        }
        let path = made.folder.path().join("changed.redb");
        std::fs::write(&path, &bytes).unwrap();
        let file = PageFile::open(&path).unwrap();
        let _ = file.compare_own().map(drop);
        let _ = file.compare_some(&PagePlace::default(), usize::MAX).map(drop);
    }
}
