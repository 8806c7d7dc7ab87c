//! Receipts: checked where there is no vault, and refused when one digit is another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, World, exit};
use rand::RngExt;

/// How many digits are changed, spread by chance over the file.
const CHANGES: usize = 150;

fn check(world: &World, receipt: &Path, fingerprint: &str) -> Call {
    world.outside("check-receipt").arg(receipt).arg("--fingerprint").arg(fingerprint)
}

#[test]
fn a_snapshots_receipt_proves_it_offline() {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let receipt = world.path("r.json");
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    let length = fs::metadata(&receipt).unwrap().len();
    assert!(length <= 8 << 10, "a snapshot's receipt of {length} bytes");
    let fingerprint = world.fingerprint();
    // Nothing of the vault is there any more.
    fs::rename(world.vault(), world.path("elsewhere")).unwrap();
    fs::rename(world.path("sites"), world.path("sites elsewhere")).unwrap();
    check(&world, &receipt, &fingerprint).run().expect(exit::DONE);

    let without = world.outside("check-receipt").arg(&receipt).run().expect(exit::USAGE);
    assert!(without.says(&fingerprint) || String::from_utf8_lossy(&without.stdout).contains(&fingerprint));
    assert!(without.says("anyone"), "that anyone can make such a file is said: {}", without.stderr);
    let wrong = flip_digit(fingerprint.as_bytes(), 10);
    check(&world, &receipt, std::str::from_utf8(&wrong).unwrap()).run().refuses(exit::CHECK, "fingerprint");
    check(&world, &receipt, "not a fingerprint").run().refuses(exit::USAGE, "fingerprint");
    every_change_is_refused(&world, &receipt, &fingerprint);
}

/// Single digits, and other spellings of the same facts.
fn every_change_is_refused(world: &World, receipt: &Path, fingerprint: &str) {
    let good = fs::read(receipt).unwrap();
    let digits: Vec<usize> = (0..good.len()).filter(|at| good[*at].is_ascii_digit()).collect();
    let mut random = tree::random(3);
    let changed = world.path("changed.json");
    for _ in 0..CHANGES {
        let at = digits[random.random_range(0..digits.len())];
        fs::write(&changed, flip_digit(&good, at)).unwrap();
        let refused = check(world, &changed, fingerprint).run();
        assert_eq!(refused.code(), exit::CHECK, "digit at {at}: {}", refused.stderr);
    }
    let text = String::from_utf8(good.clone()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let others = [
        ("no line break", text.trim_end().to_owned()),
        ("a space", text.replacen(':', ": ", 1)),
        ("upper case", text.replace("\"0x", "\"0X")),
        ("keys in another order", serde_json::to_string(&value).unwrap() + "\n"),
        ("cut", text[..text.len() / 2].to_owned()),
        ("empty", String::new()),
        ("not JSON", "receipt".to_owned()),
        ("twice", text.repeat(2)),
    ];
    for (what, other) in others.into_iter().filter(|(_, other)| *other != text) {
        fs::write(&changed, other).unwrap();
        let refused = check(world, &changed, fingerprint).run();
        assert_eq!(refused.code(), exit::CHECK, "{what}: {}", refused.stderr);
    }
}

fn flip_digit(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] = if changed[at] == b'7' { b'3' } else { b'7' };
    changed
}

/// One file, proved alone: with the file beside it, and not with another.
#[test]
fn a_files_receipt_proves_that_file() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let receipt = world.path("r.json");
    let make = |call: Call| call.arg("latest").arg("small/7.txt").arg("-o").arg(&receipt).run();
    make(world.call("receipt")).refuses(exit::NOT_ALLOWED, "--identity");
    make(world.unlocked("receipt")).expect(exit::DONE);
    let text = fs::read_to_string(&receipt).unwrap();
    let hidden = ["8.txt", "noise.bin"].iter().all(|name| !text.contains(&hex(name.as_bytes())));
    assert!(hidden, "a file's receipt shows no neighbour");
    let fingerprint = world.fingerprint();
    let with = |file: &str| check(&world, &receipt, &fingerprint).arg("--file").arg(source.join(file)).run();
    with("small/7.txt").expect(exit::DONE);
    with("small/8.txt").refuses(exit::CHECK, "file");
    check(&world, &receipt, &fingerprint).run().expect(exit::DONE);
    world
        .unlocked("receipt latest no/such/file -o")
        .arg(world.path("n.json"))
        .run()
        .refuses(exit::FAILED, "no/such/file");
    every_change_is_refused(&world, &receipt, &fingerprint);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// In a vault the ledger on the host is enough: no site is opened, so what they know more is not fetched either.
#[test]
fn a_receipt_is_checked_in_a_vault_without_its_sites() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    let receipt = world.path("r.json");
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    let ledger = world.vault().join("ledger.redb");
    let before = fs::read(&ledger).unwrap();
    tree::write(&source.join("more"), b"more");
    world.back_up(&source);
    fs::write(&ledger, &before).unwrap();
    let checked = world.call("check-receipt").arg(&receipt).run().expect(exit::DONE);
    assert_eq!(checked.stderr.matches("warning").count(), 0, "{}", checked.stderr);
    assert_eq!(fs::read(&ledger).unwrap(), before, "the ledger was brought up to a site");
}

/// A receipt of another vault is genuine, and not of this one.
#[test]
fn a_receipt_of_another_vault_is_refused() {
    let (world, other) = (World::with_sites(1), World::with_sites(1));
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    world.back_up(&source);
    other.back_up(&source);
    let receipt = world.path("r.json");
    other.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    check(&world, &receipt, &other.fingerprint()).run().expect(exit::DONE);
    check(&world, &receipt, &world.fingerprint()).run().refuses(exit::CHECK, "fingerprint");
    // Inside a vault its own fingerprint is the one that counts.
    world.call("check-receipt").arg(&receipt).run().refuses(exit::CHECK, "fingerprint");
    other.call("check-receipt").arg(&receipt).run().expect(exit::DONE);
}
