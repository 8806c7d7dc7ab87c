//! The Debian package holds what it says, and what is unpacked from it works.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockhouse_tests::world::{World, binary, exit};
use blockhouse_tests::{need, tree};

fn text_of(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Packs the binary under test; gives the package.
fn pack(out: &Path) -> PathBuf {
    let root: PathBuf = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where").into();
    let cargo = std::env::var_os("CARGO").expect("cargo says which");
    let mut xtask = Command::new(cargo);
    xtask.args(["run", "--quiet", "--profile", "ci", "--package", "xtask", "--", "deb", "--binary"]);
    xtask.arg(binary()).arg("--out").arg(out).current_dir(root.parent().unwrap());
    // Where this test was built, so that nothing is built anew.
    xtask.env("CARGO_TARGET_DIR", binary().ancestors().nth(2).unwrap());
    let told = text_of(&mut xtask);
    PathBuf::from(told.lines().last().unwrap())
}

#[test]
fn the_package_holds_what_it_says_and_its_binary_runs() {
    let has_it = Command::new("dpkg-deb").arg("--version").output().is_ok_and(|done| done.status.success());
    if !need::program("dpkg-deb", "dpkg", has_it) {
        return;
    }
    let world = World::with_sites(1);
    let package = pack(&world.path("out"));
    let again = pack(&world.path("again"));
    assert_eq!(fs::read(&package).unwrap(), fs::read(again).unwrap(), "the same commit gives the same package");
    let about = text_of(Command::new("dpkg-deb").arg("-I").arg(&package));
    for field in ["Package: blockhouse", "Version: ", "Architecture: ", "Depends: libc6 (>= 2."] {
        assert!(about.contains(field), "{field}:\n{about}");
    }
    let listed = text_of(Command::new("dpkg-deb").arg("-c").arg(&package));
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    for file in
        ["usr/bin/blockhouse", "usr/lib/systemd/system/blockhouse-backup@.timer", "usr/share/doc/blockhouse/copyright"]
    {
        assert!(listed.contains(file), "{file}:\n{listed}");
    }
    let root = world.path("root");
    text_of(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root));
    removal_is_whole(&fs::read_to_string(root.join("usr/lib/systemd/system/blockhouse-prune.service")).unwrap());
    let licences = fs::read_to_string(root.join("usr/share/doc/blockhouse/copyright")).unwrap();
    assert!(licences.contains(" zstd ") && licences.contains("License: MIT or Apache-2.0"), "{licences}");
    let source = world.path("source");
    tree::plain(&source, 0, 1);
    let mut installed = Command::new(root.join("usr/bin/blockhouse"));
    let told = text_of(installed.env("BLOCKHOUSE_VAULT", world.vault()).args(["backup", "--json"]).arg(&source));
    assert!(told.contains("\"type\":\"summary\""), "{told}");
    world.call("verify --read-data").run().expect(exit::DONE);
}

/// What the rules let go is forgotten first: without that nothing is ever removed. A removal that waits for a backup is no failure.
fn removal_is_whole(unit: &str) {
    let runs: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/blockhouse ")).collect();
    assert_eq!(runs, ["forget --apply", "prune"], "{unit}");
    let waits = format!("SuccessExitStatus={}", exit::DEGRADED);
    assert!(unit.lines().any(|line| line == waits), "{unit}");
}
