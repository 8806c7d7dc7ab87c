//! Keys rotated through the binary, and killed at seeded instants of it.
//!
//! `BLOCKHOUSE_ROTATE_KILLS` says at how many instants (3 unless told), `BLOCKHOUSE_SEED` at which.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, World, exit};
use rand::RngExt;

struct Kept {
    world: World,
    source: PathBuf,
    snapshot: String,
}

impl Kept {
    fn new() -> Self {
        let world = World::with_sites(3);
        let source = world.path("source");
        tree::plain(&source, 1, 1);
        let snapshot = world.back_up(&source).snapshot();
        Self { world, source, snapshot }
    }

    fn rotate(&self) -> Call {
        let call = self
            .world
            .unlocked("key rotate --json --new-no-passphrase --new-identity-out")
            .arg(self.path("new-identity"));
        call.arg("--new-paper-key-out").arg(self.path("new-paper"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// How listing the snapshot ends with the identity in this file.
    fn opens_with(&self, identity: &str) -> i32 {
        let call = self.world.call("ls").arg(&self.snapshot).arg("--identity").arg(self.path(identity));
        call.run().code()
    }

    /// The new identity opens and rules, the old one neither, and all is as it should be at the sites.
    fn is_rotated(&self) {
        assert_eq!((self.opens_with("identity"), self.opens_with("new-identity")), (exit::NOT_ALLOWED, exit::DONE));
        let listed = self.world.call("ls").arg(&self.snapshot).arg("--paper-key").arg(self.path("new-paper"));
        listed.run().expect(exit::DONE);
        self.world.unlocked("key list").run().expect(exit::NOT_ALLOWED);
        let keys =
            self.world.call("key list --json --identity").arg(self.path("new-identity")).run().expect(exit::DONE);
        assert_eq!(keys.summary()["ok"], true);
        self.world.call("verify --read-data --json").run().expect(exit::DONE);
        let next = self.world.back_up(&self.source).snapshot();
        let to = self.path("restored");
        let restore = self.world.call("restore").arg(next).arg("--identity").arg(self.path("new-identity"));
        restore.arg("--to").arg(&to).run().expect(exit::DONE);
        tree::assert_equal(&self.source, &to);
    }
}

#[test]
fn new_keys_take_the_place_of_the_old_ones_and_what_is_left_is_told() {
    let kept = Kept::new();
    kept.world.call("key rotate").run().refuses(exit::NOT_ALLOWED, "needs the identity");
    let same = kept.world.unlocked("key rotate --new-no-passphrase --new-identity-out").arg(kept.path("identity"));
    same.run().refuses(exit::USAGE, "is the one that was given as the old one");
    kept.world.take_away(2);
    let rotated = kept.rotate().run().expect(exit::CHECK);
    let summary = rotated.summary();
    assert_eq!((&summary["ok"], &summary["rewrapped"]), (&false.into(), &1.into()), "{summary}");
    assert!(summary["left"]["site-2"]["why"].as_str().unwrap().contains("down"), "{summary}");
    assert!(rotated.says("can still open") && rotated.says("vault secret stays"), "{}", rotated.stderr);
    kept.world.bring_back(2);
    assert_eq!(kept.opens_with("identity"), exit::DONE, "by what site-2 has still");
    let again = kept.rotate().run().expect(exit::DONE);
    assert_eq!(again.summary()["left"], serde_json::json!({}));
    kept.is_rotated();
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_rotation_that_was_killed_goes_on() {
    let (kills, seed) = (number_from("BLOCKHOUSE_ROTATE_KILLS", 3), number_from("BLOCKHOUSE_SEED", 1));
    println!("replay with BLOCKHOUSE_ROTATE_KILLS={kills} BLOCKHOUSE_SEED={seed}");
    let mut random = tree::random(seed);
    let mut unharmed = Duration::from_millis(800);
    for _ in 0..kills {
        let kept = Kept::new();
        let instant = unharmed.mul_f64(random.random_range(0.05..1.0));
        let mut running = kept.rotate().spawn();
        std::thread::sleep(instant);
        running.kill();
        let was_done = running.finish().try_summary().is_some();
        let opens = kept.opens_with("identity") == exit::DONE
            || (kept.path("new-identity").exists() && kept.opens_with("new-identity") == exit::DONE);
        println!("killed after {instant:?}; done: {was_done}");
        assert!(opens, "neither key opens the snapshot");
        let started = Instant::now();
        kept.rotate().run().expect(exit::DONE);
        unharmed = started.elapsed();
        kept.is_rotated();
    }
}
