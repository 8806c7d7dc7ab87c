//! Recovering a living vault from what the sites hold.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{Call, World, exit};

/// A vault over six sites with two snapshots of one source, and a copy of its first state.
fn world() -> (World, PathBuf, [String; 2]) {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 4, 1);
    let first = world.back_up(&source).snapshot();
    tree::write(&source.join("second"), &tree::noise(300_000, 9));
    let second = world.back_up(&source).snapshot();
    (world, source, [first, second])
}

fn recover(world: &World, site: usize) -> Call {
    world.call("recover --json --no-passphrase --site").arg(world.site(site))
}

/// The vault folder and two sites are gone: the identity and one of the sites that are left give back a vault that lives.
#[test]
fn a_vault_comes_back_from_one_site_and_the_identity() {
    let (world, source, [first, second]) = world();
    let receipt = world.path("r.json");
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    let old_fingerprint = world.fingerprint();
    let host = world.path("old host");
    fs::rename(world.vault(), &host).unwrap();
    world.take_away(2);
    world.take_away(5);
    recover(&world, 3).arg("--identity").arg(world.identity()).arg("--expect").arg(&receipt).run().expect(exit::DONE);

    assert_eq!(world.snapshots(), [first.clone(), second.clone()]);
    world.expect_restores(&second, &source);
    let old = world.restore(&first, "old");
    assert!(!old.join("second").exists());
    assert_ne!(world.fingerprint(), old_fingerprint, "a handover changes the fingerprint");
    tree::write(&source.join("third"), &tree::noise(200_000, 10));
    let next = world.call("backup --json").arg(&source).run();
    assert!([exit::DONE, exit::DEGRADED].contains(&next.code()), "{}", next.stderr);
    assert!(next.number("new_bytes") < MIB as u64, "what the lost host stored is used: {}", next.number("new_bytes"));
    world.expect_restores(&next.snapshot(), &source);
    world.bring_back(2);
    world.bring_back(5);
    world.call("repair --json").run().expect(exit::DONE);
    world.expect_restores(&next.snapshot(), &source);

    the_old_host_is_refused(&world, &host, &source);
    let again = world.back_up(&source);
    world.expect_restores(&again.snapshot(), &source);
}

/// Its cron job runs: it learns that another host has the vault, and changes nothing.
fn the_old_host_is_refused(world: &World, host: &Path, source: &Path) {
    let held = tree::files(&world.path("sites"));
    let cron = world.call("backup").arg(source).env("BLOCKHOUSE_VAULT", host).run();
    cron.refuses(exit::NOT_ALLOWED, "another host");
    let new: Vec<_> = tree::files(&world.path("sites")).into_iter().filter(|file| !held.contains(file)).collect();
    assert!(new.is_empty(), "the old host wrote {new:?}");
}

/// The same with the words on paper, and the vault lives on through a second recovery.
#[test]
fn a_vault_comes_back_from_the_paper_key_and_again() {
    let (world, source, [_, second]) = world();
    for round in 0..2 {
        fs::rename(world.vault(), world.path(&format!("lost-{round}"))).unwrap();
        recover(&world, 1 + round).arg("--paper-key").arg(world.paper_key()).run().expect(exit::DONE);
        let to = world.path(&format!("to-{round}"));
        let restore = world.call("restore --json").arg(&second).arg("--to").arg(&to).arg("--paper-key");
        restore.arg(world.paper_key()).run().expect(exit::DONE);
        tree::assert_equal(&source, &to);
        assert_eq!(world.back_up(&source).number("new_bytes"), 0);
    }
    assert_eq!(world.snapshots().len(), 4);
}

/// A rehearsal changes nothing: the host that has the vault goes on.
#[test]
fn a_rehearsal_reads_and_changes_nothing() {
    let (world, source, [_, second]) = world();
    let held = tree::files(&world.path("sites"));
    let rehearsal = world.path("rehearsal");
    let call = recover(&world, 4).arg("--read-only").arg("--identity").arg(world.identity());
    call.env("BLOCKHOUSE_VAULT", &rehearsal).run().expect(exit::DONE);
    assert_eq!(tree::files(&world.path("sites")), held);
    let to = world.path("to");
    let restore = world.unlocked("restore").arg(&second).arg("--to").arg(&to);
    restore.env("BLOCKHOUSE_VAULT", &rehearsal).run().expect(exit::DONE);
    tree::assert_equal(&source, &to);
    let refused = world.call("backup").arg(&source).env("BLOCKHOUSE_VAULT", &rehearsal).run();
    assert_ne!(refused.code(), exit::DONE, "a rehearsed vault cannot write");
    world.back_up(&source);
}

/// The fingerprint on the sheet anchors it: another one stops it with exit code 4, and without one the paper key is not enough to
/// be sure.
#[test]
fn the_fingerprint_of_the_sheet_tells_the_vault() {
    let (world, source, _) = world();
    let fingerprint = world.fingerprint();
    let sheet = fs::read_to_string(world.vault().join("recovery-sheet.txt")).unwrap();
    let command = sheet.lines().find(|line| line.contains("--paper-key")).unwrap();
    assert!(command.contains(&format!("--fingerprint {fingerprint}")), "{command}");
    fs::rename(world.vault(), world.path("lost")).unwrap();
    let held = tree::files(&world.path("sites"));
    let other = fingerprint.chars().rev().collect::<String>();
    let with_paper = || recover(&world, 1).arg("--paper-key").arg(world.paper_key());
    with_paper().arg("--fingerprint").arg(&other).run().refuses(exit::CHECK, &other);
    assert_eq!(tree::files(&world.path("sites")), held);
    assert!(!world.vault().exists());

    let rehearsal = with_paper().arg("--read-only").env("BLOCKHOUSE_VAULT", world.path("rehearsal")).run();
    let rehearsal = rehearsal.expect(exit::DONE);
    assert!(rehearsal.says("nothing tells this vault from a forged one"), "{}", rehearsal.stderr);
    assert!(rehearsal.says(&fingerprint), "what to compare is printed: {}", rehearsal.stderr);
    let anchored = with_paper().arg("--fingerprint").arg(&fingerprint).run().expect(exit::DONE);
    assert!(!anchored.says("forged"), "{}", anchored.stderr);
    world.back_up(&source);
}

/// What is not as expected stops it before anything is changed.
#[test]
fn recover_refuses_what_is_not_the_vault_expected() {
    let (world, _, _) = world();
    let other = World::with_sites(1);
    let source = other.path("source");
    tree::plain(&source, 1, 1);
    other.back_up(&source);
    let foreign = world.path("foreign.json");
    other.call("receipt latest -o").arg(&foreign).run().expect(exit::DONE);
    let held = tree::files(&world.path("sites"));

    let there = recover(&world, 1).arg("--identity").arg(world.identity()).run();
    assert_ne!(there.code(), exit::DONE, "the vault folder is there");
    let new = world.path("new");
    let fresh = |call: Call| call.env("BLOCKHOUSE_VAULT", &new).run();
    let expected = recover(&world, 1).arg("--identity").arg(world.identity()).arg("--expect").arg(&foreign);
    let unexpected = fresh(expected);
    assert_eq!(unexpected.code(), exit::CHECK, "{}", unexpected.stderr);
    let stranger = fresh(recover(&world, 1).arg("--identity").arg(other.identity()));
    assert!([exit::FAILED, exit::NOT_ALLOWED].contains(&stranger.code()), "{}", stranger.stderr);
    let nowhere = world.call("recover --no-passphrase --site").arg(world.path("nothing here")).arg("--identity");
    assert_ne!(fresh(nowhere.arg(world.identity())).code(), exit::DONE);
    tree::write(&world.path("words"), b"abandon abandon abandon");
    let words = fresh(recover(&world, 1).arg("--paper-key").arg(world.path("words")));
    assert!(words.says("paper key"), "{}", words.stderr);
    assert_eq!(tree::files(&world.path("sites")), held);
    assert!(!new.join("config.toml").exists());
}
