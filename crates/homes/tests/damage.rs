//! A damaged file is an error that says so: never a panic, never wrong data.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, TxHash};
use blockhouse_homes::store::{Access, PagePlace};
use blockhouse_homes::{Store, StoreError};
use blockhouse_ledger::state::{StateError, check_whole};
use blockhouse_ledger::{BlockObject, Executed, Replay};
use support::{Choices, World, rounds, seed};

/// What the undamaged store says.
struct Truth {
    bytes: Vec<u8>,
    blocks: Vec<BlockObject>,
    receipts: Vec<Vec<ReceiptEnvelope>>,
}

impl Truth {
    async fn new() -> Self {
        let world = World::with_writer().await;
        for nonce in 0..4 {
            world.session(nonce).await;
        }
        let blocks = world.home.block_objects(0, usize::MAX).await.unwrap();
        let receipts = world
            .home
            .read(|store| (0..=store.height()).map(|height| store.receipts(height).unwrap()).collect())
            .await
            .unwrap();
        Self { bytes: std::fs::read(world.path()).unwrap(), blocks, receipts }
    }

    /// Reads all of a file that was tampered with. Whatever it gives must be true of the chain up to its head.
    /// True if nothing was noticed.
    fn check(&self, path: &Path, access: Access) -> bool {
        let store = match Store::open(path, access, Duration::ZERO, None) {
            Ok(store) => store,
            Err(StoreError::Damaged { .. }) => return false,
            // What is only read is not compared page by page: its layout may be what was altered.
            Err(StoreError::Newer { .. }) if access == Access::Read => return false,
            Err(other) => panic!("another error than damage: {other:?}"),
        };
        let reads =
            [check_state(&store), self.check_blocks(&store), self.check_transactions(&store), compare_pages(&store)];
        reads.iter().all(|read| match read {
            Ok(()) => true,
            Err(StoreError::Damaged { .. }) => false,
            Err(other) => panic!("another error than damage: {other:?}"),
        })
    }

    fn check_blocks(&self, store: &Store) -> Result<(), StoreError> {
        for height in 0..=store.height() {
            let truth = &self.blocks[usize::try_from(height).unwrap()];
            let stored = store.block(height)?;
            assert_eq!(stored.block, truth.block);
            assert_eq!(stored.hash, B256::new(truth.hash().to_bytes()));
            assert_eq!(store.receipts(height)?, self.receipts[usize::try_from(height).unwrap()]);
            let _ = store.certificate(height)?;
        }
        Ok(())
    }

    fn check_transactions(&self, store: &Store) -> Result<(), StoreError> {
        for height in 0..=store.height() {
            for (index, hash) in hashes(&self.blocks[usize::try_from(height).unwrap()]).enumerate() {
                let found = store.find_transaction(&hash)?.expect("a sealed transaction is never missed");
                assert_eq!((found.height, found.index), (height, index));
            }
        }
        Ok(())
    }
}

/// Every page has its checksum, or is said to be damaged; one by one. Nothing is looked at where the store is open to be read.
fn compare_pages(store: &Store) -> Result<(), StoreError> {
    let mut place = Some(PagePlace::default());
    while let Some(from) = place {
        place = store.compare_pages(&from, 1)?;
    }
    Ok(())
}

/// Every node is under the root of the head, or is said to be damaged.
fn check_state(store: &Store) -> Result<(), StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: store.path().to_owned(), what };
    match check_whole(store.head().header().state_root, store) {
        Ok(_) => Ok(()),
        Err(StateError::View(error)) => Err(error),
        Err(other) => Err(damaged(other.to_string())),
    }
}

fn hashes(object: &BlockObject) -> impl Iterator<Item = TxHash> {
    object.block.body.transactions.iter().map(|transaction| *transaction.tx_hash())
}

/// redb's panics are contained, so their reports are noise here; those of this crate and its tests are not.
fn quiet_about_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("BLOCKHOUSE_LOUD").is_some() {
            return;
        }
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|at| at.file().contains("redb-")) {
                usual(panic);
            }
        }));
    });
}

fn judge(truth: &Truth, path: &Path, bytes: &[u8], access: Access, what: &str) -> bool {
    std::fs::write(path, bytes).unwrap();
    let judged = catch_unwind(std::panic::AssertUnwindSafe(|| truth.check(path, access)));
    judged.unwrap_or_else(|_| panic!("failed with {what}, {access:?}; seed {}: set BLOCKHOUSE_SEED", seed()))
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_at_any_length() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let mut choices = Choices(seed());
    let whole = truth.bytes.len();
    assert!(judge(&truth, &path, &truth.bytes, Access::Read, "nothing"));
    let pages = (0..whole).step_by(whole / 100);
    let random = (0..rounds(100)).map(|_| usize::try_from(choices.below(whole as u64)).unwrap());
    let mut unnoticed = 0;
    for length in [0, 1, 8, 63, 64, 319, 320, 511, 512].into_iter().chain(pages).chain(random) {
        for access in [Access::Read, Access::Write, Access::Watched] {
            unnoticed += u32::from(judge(&truth, &path, &truth.bytes[..length], access, &format!("length {length}")));
        }
    }
    assert_eq!(unnoticed, 0, "a shorter file was taken for whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_at_any_place() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let mut choices = Choices(seed());
    // Only places that hold something: the rest of the file is free space.
    let used: Vec<usize> = (0..truth.bytes.len()).filter(|at| truth.bytes[*at] != 0).collect();
    let random: Vec<usize> =
        (0..rounds(400)).map(|_| used[usize::try_from(choices.below(used.len() as u64)).unwrap()]).collect();
    let mut noticed = 0;
    for at in (0..320).chain(random) {
        let mut flipped = truth.bytes.clone();
        flipped[at] ^= 1 << choices.below(8);
        let judged = [Access::Read, Access::Write, Access::Watched]
            .map(|access| judge(&truth, &path, &flipped, access, &format!("byte {at} flipped")));
        noticed += judged.into_iter().map(|is_whole| u32::from(!is_whole)).sum::<u32>();
        // The header has both slots, of which only one counts.
        assert!(at < 320 || judged[1] == judged[2], "byte {at}: all pages at once, or some before and some after");
    }
    // The rest fell on pages of older commits and on redb's own records, which change nothing that is read.
    assert!(noticed > 100, "only {noticed} flips were noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_in_pieces() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let mut choices = Choices(seed());
    for round in 0..rounds(150) {
        let mut bytes = truth.bytes.clone();
        let start = usize::try_from(choices.below(bytes.len() as u64)).unwrap();
        let end = bytes.len().min(start + 1 + usize::try_from(choices.below(8192)).unwrap());
        let kind = choices.below(3);
        let other = usize::try_from(choices.below((bytes.len() - (end - start)) as u64 + 1)).unwrap();
        match kind {
            0 => bytes[start..end].fill(0),
            1 => bytes[start..end].iter_mut().for_each(|byte| *byte = u8::try_from(choices.below(256)).unwrap()),
            _ => bytes.copy_within(other..other + (end - start), start),
        }
        let access = [Access::Read, Access::Write, Access::Watched][usize::try_from(round % 3).unwrap()];
        judge(&truth, &path, &bytes, access, &format!("bytes {start} to {end} overwritten (kind {kind})"));
    }
}

/// A node that starts has not compared the pages of rows yet when it writes its first block: whatever they hold, the process goes on, what it
/// gives is true, and the damage is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_written_over_pages_that_were_overwritten() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let (last, certificate) = without_the_last(&truth, &path);
    let bytes = std::fs::read(&path).unwrap();
    let mut choices = Choices(seed());
    let (mut written, mut noticed) = (0, 0);
    for round in 0..rounds(300) {
        let mut damaged = bytes.clone();
        let pages = choices.below(bytes.len() as u64 / 4096 - 1);
        let start = 4096 * (1 + usize::try_from(pages).unwrap()) + usize::try_from(choices.below(600)).unwrap();
        let end = damaged.len().min(start + 1 + usize::try_from(choices.below(40)).unwrap());
        damaged[start..end].iter_mut().for_each(|byte| *byte = u8::try_from(choices.below(256)).unwrap());
        std::fs::write(&path, &damaged).unwrap();
        let Ok(mut store) = Store::open(&path, Access::Watched, Duration::ZERO, None) else { continue };
        let was_noticed = compare_pages(&store).is_err();
        match store.append(&last, &certificate) {
            Ok(()) => written += 1,
            Err(StoreError::Damaged { .. }) => assert!(was_noticed, "round {round}, seed {}", seed()),
            Err(other) => panic!("another error than damage: {other:?}; round {round}, seed {}", seed()),
        }
        noticed += u32::from(was_noticed);
        drop(store);
        truth.check(&path, Access::Read);
        truth.check(&path, Access::Watched);
    }
    assert!(written > 0 && noticed > 0, "{written} written, {noticed} noticed");
}

/// Makes the store there with all blocks but the last one, which it gives.
fn without_the_last(truth: &Truth, path: &Path) -> (Executed, blockhouse_ledger::Certificate) {
    let (first, later) = truth.blocks.split_first().unwrap();
    let (last, between) = later.split_last().unwrap();
    Store::create(path, first.genesis.as_ref().unwrap(), &first.certificate).unwrap();
    let mut replay = Replay::begin(first).unwrap();
    let mut store = Store::open(path, Access::Write, Duration::ZERO, None).unwrap();
    for object in between {
        store.append(&replay.extend(object).unwrap(), &object.certificate).unwrap();
    }
    (replay.extend(last).unwrap(), last.certificate.clone())
}

/// The store with a bit flipped wherever these words begin: pages of older commits have them too.
fn altered_at(truth: &Truth, words: &[u8]) -> Vec<u8> {
    let mut bytes = truth.bytes.clone();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(words)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    bytes
}

/// The file as it is, which was closed, and with the mark of one that was not.
fn closed_and_killed(bytes: Vec<u8>) -> [Vec<u8>; 2] {
    let mut killed = bytes.clone();
    killed[9] |= 2;
    [bytes, killed]
}

/// What a start leaves out is left out whatever it is, and found after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_compares_no_pages_of_rows() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    // The signature in the certificate of block 1 is in no other row.
    let certificate = truth.blocks[1].certificate.encode();
    let words = &certificate[certificate.len() - 32..];
    for damaged in closed_and_killed(altered_at(&truth, words)) {
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(Store::open(&path, Access::Write, Duration::ZERO, None), Err(StoreError::Damaged { .. })));
        let store = Store::open(&path, Access::Watched, Duration::ZERO, None).unwrap();
        assert!(matches!(compare_pages(&store), Err(StoreError::Damaged { .. })));
        drop(store);
    }
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    quiet_about_redb();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let open = |path: &Path| Store::open(path, Access::Read, Duration::ZERO, None).unwrap_err();
    assert!(matches!(open(&path), StoreError::Missing { .. }));
    for bytes in [Vec::new(), b"text".to_vec(), vec![0; 100_000], vec![255; 100_000]] {
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(&path), StoreError::Damaged { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "reading leaves it as it is");
    }
    assert!(matches!(open(folder.path()), StoreError::Io { .. }));
    let other = folder.path().join("other.redb");
    drop(redb::Database::create(&other).unwrap());
    assert!(matches!(open(&other), StoreError::Damaged { .. }), "a store of another program");
}

/// It is another release's, and not damaged: nothing may heal it, or put another one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_release_is_refused_and_left_as_it_is() {
    const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    std::fs::write(&path, &truth.bytes).unwrap();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", [9].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    for access in [Access::Read, Access::Write] {
        let refused = Store::open(&path, access, Duration::ZERO, None).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { layout: 9, known: 2, .. }), "{refused:?}");
        assert!(!refused.is_healed_by_replay());
        assert!(refused.to_string().contains("of a newer blockhouse"), "{refused}");
    }
}

/// Each block writes them anew: later they would be found sound whatever they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_compares_the_rows_that_stand_under_no_root() {
    quiet_about_redb();
    let truth = Truth::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    // The keys of the table stand one behind the other.
    for damaged in closed_and_killed(altered_at(&truth, b"eventsformatgenesishead")) {
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(Store::open(&path, Access::Watched, Duration::ZERO, None), Err(StoreError::Damaged { .. })));
    }
}
