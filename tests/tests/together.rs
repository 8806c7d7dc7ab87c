//! Several processes on one vault at once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{World, exit};

/// Two backups of two sources and a restore side by side; then two backups of one source.
#[test]
fn two_backups_and_a_restore_at_once() {
    let world = World::with_sites(6);
    let [old, left, right] = ["old", "left", "right"].map(|name| world.path(name));
    tree::plain(&old, 8, 1);
    tree::plain(&left, 8, 2);
    tree::plain(&right, 8, 3);
    let first = world.back_up(&old).snapshot();
    for round in 0..3 {
        tree::write(&left.join("news"), &tree::noise(2 * MIB, 10 + round));
        tree::write(&right.join("news"), &tree::noise(2 * MIB, 20 + round));
        let to = world.path(&format!("to-{round}"));
        let backups = [&left, &right].map(|source| world.call("backup --json").arg(source).spawn());
        let restore = world.unlocked("restore --json").arg(&first).arg("--to").arg(&to).spawn();
        let done = backups.map(|backup| backup.finish().expect(exit::DONE));
        restore.finish().expect(exit::DONE);
        tree::assert_equal(&old, &to);
        world.expect_restores(&done[0].snapshot(), &left);
        world.expect_restores(&done[1].snapshot(), &right);
    }
    let twice = [0, 1].map(|_| world.call("backup --json").arg(&left).spawn());
    let twice = twice.map(|backup| backup.finish().expect(exit::DONE).snapshot());
    assert_ne!(twice[0], twice[1]);
    world.expect_restores(&twice[0], &left);
    world.expect_restores(&twice[1], &left);
    assert_eq!(world.snapshots().len(), 9);
    assert_eq!(world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
}
