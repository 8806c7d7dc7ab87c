//! A vault that the release which froze version 1 has written: sites, keys and receipts, checked in as they were.
//!
//! Every later version opens it. How it was made: `fixtures/v1/make.sh`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};
use serde_json::Value;

fn fixture() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where")).join("fixtures/v1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}

/// The ids that the release printed, oldest first.
fn snapshots() -> Vec<String> {
    let text = fs::read_to_string(fixture().join("snapshots.jsonl")).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

fn fingerprint() -> String {
    let status: Value = serde_json::from_slice(&fs::read(fixture().join("status.json")).unwrap()).unwrap();
    status["fingerprint"].as_str().unwrap().to_owned()
}

/// A copy of the fixture's sites, recovered with one of its keys: `--identity identity` or `--paper-key paper-key`.
fn recovered(flag: &str, key: &str) -> World {
    let world = World::empty();
    let mut call = world.call("recover --yes --fingerprint").arg(fingerprint()).arg(flag).arg(fixture().join(key));
    for site in ["a", "b", "c"] {
        let place = world.path("sites").join(site);
        copy(&fixture().join("sites").join(site), &place);
        call = call.arg("--site").arg(place);
    }
    call.run().expect(exit::DONE);
    world
}

#[test]
fn a_vault_of_version_1_comes_back_and_lives_on() {
    let world = recovered("--identity", "identity");
    assert_eq!(world.snapshots(), snapshots());
    let restore = |snapshot: &str, name: &str| {
        let to = world.path(name);
        let call = world.call("restore").arg(snapshot).arg("--to").arg(&to).arg("--identity");
        call.arg(fixture().join("identity")).run().expect(exit::DONE);
        to
    };
    let [first, second] = snapshots().try_into().unwrap();
    let (old, new) = (restore(&first, "first"), restore(&second, "second"));
    assert_eq!(fs::read(old.join("notes/two.txt")).unwrap(), b"The neighbour.\n");
    assert!(!new.join("notes/two.txt").exists());
    for folder in [&old, &new] {
        assert_eq!(fs::read(folder.join("numbers.txt")).unwrap(), numbers());
        assert_eq!(fs::read_link(folder.join("link")).unwrap(), Path::new("numbers.txt"));
        let file = |name: &str| fs::metadata(folder.join(name)).unwrap().ino();
        assert_eq!(file("notes/one.txt"), file("notes/one-again.txt"), "two names of one file");
    }
    world.call("verify --read-data").run().expect(exit::DONE);
    let next = world.back_up(&new);
    assert!(next.number("new_bytes") < 10_000, "what version 1 stored is stored again: {}", next.summary());
}

#[test]
fn the_paper_key_of_version_1_opens_it_too() {
    let world = recovered("--paper-key", "paper-key");
    assert_eq!(world.snapshots(), snapshots());
}

#[test]
fn receipts_of_version_1_still_prove() {
    let world = World::empty();
    for (receipt, file) in [("receipt.json", None), ("receipt-file.json", Some("one.txt"))] {
        let receipt = fixture().join(receipt);
        let mut call = world.outside("check-receipt").arg(&receipt).arg("--fingerprint").arg(fingerprint());
        if let Some(name) = file {
            tree::write(&world.path(name), b"A small file, joined with its neighbour.\n");
            call = call.arg("--file").arg(world.path(name));
        }
        call.run().expect(exit::DONE);
    }
}

/// What `seq 1 30000` prints.
fn numbers() -> Vec<u8> {
    (1..=30_000).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}
