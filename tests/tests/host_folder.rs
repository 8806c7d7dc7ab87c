//! What lies on the backup host: nothing that opens what is gone, and nothing that cannot be made anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockhouse_tests::damage::{contains, flip};
use blockhouse_tests::tree::{self, files};
use blockhouse_tests::world::{World, exit};

fn cache_of(world: &World) -> PathBuf {
    let caches = files(&world.vault().join("cache"));
    assert_eq!(caches.len(), 1, "one source, one cache: {caches:?}");
    caches[0].clone()
}

/// The part of a cache that speaks of one file: from its name to the next thing that both caches have in common.
///
/// The secret is a big file of noise in a folder of its own, so everything between the folder's name and the name of the
/// next folder is its record: identity, chunk ids and chunk keys.
fn record<'a>(cache: &'a [u8], folder: &str, next: &str) -> &'a [u8] {
    let find = |name: &str| cache.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let (from, to) = (find(folder), find(next));
    assert!(from < to);
    &cache[from + folder.len()..to]
}

/// Promise 5: what was gone from the source before the last backup has no key on the host.
#[test]
fn a_stolen_host_folder_opens_nothing_that_was_deleted() {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source.join("aaa kept"), 1, 1);
    tree::write(&source.join("mmm secret folder/secret file"), &tree::noise(700_000, 2));
    tree::write(&source.join("nnn next folder/plain"), &tree::noise(200_000, 3));
    tree::settle();
    world.back_up(&source);
    let old = fs::read(cache_of(&world)).unwrap();
    let secret = record(&old, "mmm secret folder", "nnn next folder");
    assert!(secret.len() > 64 * 2, "a file of 700 kB has several chunks, each with id and key: {} bytes", secret.len());

    fs::remove_dir_all(source.join("mmm secret folder")).unwrap();
    world.back_up(&source);
    let new = fs::read(cache_of(&world)).unwrap();
    assert!(!contains(&new, b"secret folder"), "the cache still names what is gone");
    // Ids may stay, in the index: they open nothing. Keys may not, and nobody can tell them apart from outside; so:
    // half of the random words of the record are keys, and of those that are left none may be one.
    let left = left_on_host(&world.vault(), secret);
    let index_only = left_on_host(&world.vault().join("index"), secret);
    assert_eq!(left, index_only, "something of the record is left outside of the index");
    let words = chunk_words(secret);
    assert!(left * 2 <= words, "{left} of {words} words of the record are left: more than the ids");
}

/// How many words of the record are left in the files of a folder. Words are runs of 32 random bytes that stand apart.
fn left_on_host(folder: &Path, secret: &[u8]) -> usize {
    let wanted: HashSet<&[u8]> = secret.windows(32).filter(is_random).collect();
    let mut left = HashSet::new();
    for file in files(folder) {
        let bytes = fs::read(file).unwrap();
        left.extend(bytes.windows(32).filter_map(|window| wanted.get(window).copied()));
    }
    let (mut count, mut at) = (0, 0);
    while at + 32 <= secret.len() {
        let is_left = left.contains(&secret[at..at + 32]);
        count += usize::from(is_left);
        at += if is_left { 32 } else { 1 };
    }
    count
}

/// How many words of 32 bytes the record holds: ids and keys, and the hash of the content.
fn chunk_words(secret: &[u8]) -> usize {
    secret.len() / 32
}

/// Small files share chunks. One that was too fresh to be recorded is in the chunk of its neighbours all the same: when it is
/// deleted, that chunk's key must not stay with them.
#[test]
fn a_fresh_file_in_a_shared_chunk_leaves_no_key_behind() {
    let world = World::with_sites(3);
    let source = world.path("source");
    (0..5).for_each(|number| tree::write(&source.join(format!("file {number}")), &tree::noise(3000, number)));
    tree::settle();
    let secret = tree::noise(3000, 99);
    tree::write(&source.join("file 2 secret"), &secret);
    world.back_up(&source);
    let old = fs::read(cache_of(&world)).unwrap();
    fs::remove_file(source.join("file 2 secret")).unwrap();
    world.back_up(&source);
    let new = fs::read(cache_of(&world)).unwrap();
    // All of the folder is one chunk, and what names and opens it is what all records of the first cache have in common.
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    old.windows(32).filter(is_random).for_each(|word| *counts.entry(word).or_default() += 1);
    let common = counts.iter().filter(|(_, count)| **count >= 5).map(|(word, _)| *word);
    let left = common.filter(|word| contains(&new, word)).count();
    assert_eq!(left, 0, "the chunk with the deleted file's bytes can still be opened");
}

/// Ids, keys and hashes are random; lengths and times are not.
fn is_random(word: &&[u8]) -> bool {
    word.iter().collect::<HashSet<_>>().len() > 20
}

/// Neighbours that share chunks two and two: what one change sets apart must not keep the key of what another deletes.
#[test]
fn a_deletion_after_a_change_leaves_no_key_behind() {
    let world = World::with_sites(3);
    let source = world.path("source");
    let name = |folder: u64, file: u64| format!("d{folder}/f{file} of d{folder}");
    for folder in 0..8 {
        for file in 0..6 {
            tree::write(&source.join(name(folder, file)), &tree::noise(100_000, 10 * folder + file));
        }
    }
    tree::settle();
    world.back_up(&source);
    let first = fs::read(cache_of(&world)).unwrap();
    for folder in 0..8 {
        tree::write(&source.join(name(folder, 3)), &tree::noise(100_000, 1000 + folder));
    }
    tree::settle();
    world.back_up(&source);
    for folder in 0..8 {
        fs::remove_file(source.join(name(folder, 2))).unwrap();
    }
    world.back_up(&source);
    let third = fs::read(cache_of(&world)).unwrap();
    for folder in 0..8 {
        let (deleted, next) = (format!("f2 of d{folder}"), format!("f3 of d{folder}"));
        let left = shared_keys(record(&first, &deleted, &next), &third);
        assert_eq!(left, 0, "folder {folder}: {left} words that open the deleted file's chunks are left");
    }
}

/// How many runs of 32 random bytes of a record stand in another cache; whole ids and keys are such.
fn shared_keys(record: &[u8], cache: &[u8]) -> usize {
    let here: HashSet<&[u8]> = cache.windows(32).collect();
    record.windows(32).filter(is_random).filter(|word| here.contains(word)).count()
}

/// A run that was killed leaves the cache it was writing; the next run does away with it.
#[test]
fn a_killed_run_leaves_no_keys_for_long() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source.join("kept"), 1, 1);
    tree::write(&source.join("secret folder/secret file"), &tree::noise(24 << 20, 2));
    tree::settle();
    for wait in 1..200 {
        let mut running = world.call("backup").arg(&source).spawn();
        std::thread::sleep(Duration::from_millis(5 * wait));
        running.kill();
        let _ = running.finish();
        if !files(&world.vault().join("cache")).is_empty() {
            break;
        }
    }
    fs::remove_dir_all(source.join("secret folder")).unwrap();
    world.back_up(&source);
    assert!(!contains(&fs::read(cache_of(&world)).unwrap(), b"secret folder"));
}

/// What the host holds without the identity restores nothing.
#[test]
fn the_host_cannot_read_without_the_identity() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    fs::remove_file(world.identity()).unwrap();
    world.call("restore latest --to").arg(world.path("to")).run().refuses(exit::NOT_ALLOWED, "--identity");
    world.call("ls latest").run().refuses(exit::NOT_ALLOWED, "--identity");
    for words in ["snapshots", "status", "verify", "verify --read-data", "repair", "history"] {
        world.call(words).run().expect(exit::DONE);
    }
    let verified = world.call("verify --read-data").run();
    let said = verified.stderr.clone() + &String::from_utf8_lossy(&verified.stdout);
    assert!(said.to_lowercase().contains("plain"), "that no plain text was opened is said: {said}");
    world.back_up(&source);
}

/// Index and caches are caches: without them the next backup is slower and no bigger.
#[test]
fn a_lost_index_and_cache_are_made_anew() {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 3, 1);
    tree::settle();
    world.back_up(&source);
    for folder in ["index", "cache"] {
        fs::remove_dir_all(world.vault().join(folder)).unwrap();
        assert_eq!(world.back_up(&source).number("new_bytes"), 0, "without {folder}");
    }
    let mut random = tree::random(1);
    for folder in ["index", "cache"] {
        for file in files(&world.vault().join(folder)) {
            flip(&file, &mut random);
        }
        let done = world.back_up(&source);
        world.expect_restores(&done.snapshot(), &source);
    }
}

/// The ledger's file is cut, altered, or gone: it is made anew from the sites, said so, and the backup goes on.
#[test]
fn a_damaged_ledger_file_is_healed_from_the_sites() {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let first = world.back_up(&source).snapshot();
    let (fingerprint, ledger) = (world.fingerprint(), world.vault().join("ledger.redb"));
    let half = fs::metadata(&ledger).unwrap().len() / 2;
    let damages: [(&str, &dyn Fn()); 5] = [
        ("gone", &|| fs::remove_file(&ledger).unwrap()),
        ("cut", &|| fs::OpenOptions::new().write(true).open(&ledger).unwrap().set_len(half).unwrap()),
        ("empty", &|| fs::write(&ledger, b"").unwrap()),
        ("no ledger", &|| fs::write(&ledger, tree::prose(100_000, 1)).unwrap()),
        ("altered", &|| alter_all_over(&ledger)),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        damage();
        tree::write(&source.join("round"), format!("round {number}").as_bytes());
        let done = world.call("backup --json").arg(&source).run();
        assert_eq!(done.code(), exit::DONE, "{what}: {}", done.stderr);
        assert!(done.says("ledger"), "{what}: that the ledger was made anew is said: {}", done.stderr);
        world.expect_restores(&done.snapshot(), &source);
        assert_eq!(world.fingerprint(), fingerprint);
        assert_eq!(world.snapshots().len(), number + 2);
        assert_eq!(world.snapshots()[0], first);
    }
}

/// A byte in every 512.
fn alter_all_over(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes.iter_mut().step_by(512).skip(8).for_each(|byte| *byte ^= 0x55);
    fs::write(file, bytes).unwrap();
}

/// Single bits of the ledger's file: each is healed or harmless; no snapshot is lost or invented.
#[test]
fn single_bits_of_the_ledger_file() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::write(&source.join("file"), b"content");
    let snapshot = world.back_up(&source).snapshot();
    let ledger = world.vault().join("ledger.redb");
    let good = fs::read(&ledger).unwrap();
    let mut random = tree::random(5);
    for number in 0..25 {
        flip(&ledger, &mut random);
        assert_eq!(world.snapshots(), std::slice::from_ref(&snapshot), "bit {number}");
        fs::write(&ledger, &good).unwrap();
    }
    world.expect_restores(&snapshot, &source);
}

/// With the ledger's file damaged and no site up there is a way out, and it is named.
#[test]
fn a_damaged_ledger_without_sites_names_the_way_out() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    (1..=3).for_each(|number| world.take_away(number));
    fs::write(world.vault().join("ledger.redb"), b"").unwrap();
    let refused = world.call("snapshots").run();
    assert!([exit::FAILED, exit::CHECK, 6].contains(&refused.code()), "{}", refused.stderr);
    assert!(refused.says("site"), "{}", refused.stderr);
    (1..=3).for_each(|number| world.bring_back(number));
    assert_eq!(world.snapshots().len(), 1);
}
