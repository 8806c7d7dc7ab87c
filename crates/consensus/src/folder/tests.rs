//! Who votes in which epoch, whatever was lost or killed between two.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::sync::Arc;

use blockhouse_ledger::Block;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::application::{Application, Standing, Stop};
use crate::engine::Config;
use crate::keys::Keys;
use crate::network::{Base, Kind};

const BASE: Base = Base { height: 7, hash: BlockHash::new([1; 32]) };

/// A ledger that stands where the network begins.
struct Still;

impl Application for Still {
    async fn propose(&self, _: Vec<Arc<Block>>) -> Option<Block> {
        None
    }

    async fn verify(&self, _: Vec<Arc<Block>>, _: Arc<Block>) -> bool {
        std::future::pending().await
    }

    async fn finalize(&self, _: Arc<Block>, _: Certificate) -> Result<(), Stop> {
        Ok(())
    }

    async fn sync(&self) -> Result<(), Stop> {
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing { height: BASE.height, hash: BASE.hash }
    }

    fn block(&self, _: u64) -> Option<Arc<Block>> {
        None
    }

    fn certificate(&self, _: u64) -> Option<Certificate> {
        None
    }
}

struct World {
    folder: tempfile::TempDir,
    key: [u8; 32],
}

impl World {
    /// A key that was drawn just now.
    fn fresh() -> Self {
        let world = Self::strange();
        prepare(world.folder.path(), &world.key).unwrap();
        world
    }

    /// A key of which the folder says nothing.
    fn strange() -> Self {
        let key = Keys::generate(&mut StdRng::seed_from_u64(1)).public();
        Self { folder: tempfile::tempdir().unwrap(), key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether it votes in that epoch, which begins now or goes on.
    fn votes_in(&self, epoch: u64) -> bool {
        let network = Network::try_new(1 << 33, epoch, BASE, &[self.key], Kind::Committee).unwrap();
        let config = Config {
            network,
            addresses: std::collections::BTreeMap::new(),
            followers: Vec::new(),
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            never_voted: false,
            keep_blocks: None,
            jumped: false,
            silent: false,
        };
        let votes = Folder::open(self.folder.path(), &config, self.key, &Still).unwrap().may_vote;
        assert!(!self.path("unvoted").exists(), "the word is gone before a vote is given");
        votes
    }
}

#[test]
fn a_key_that_was_here_all_the_time_votes_in_each_epoch() {
    let world = World::fresh();
    for epoch in [0, 0, 7, 7, 8, 20] {
        assert!(world.votes_in(epoch), "epoch {epoch}");
    }
}

#[test]
fn a_fresh_key_may_begin_with_a_later_epoch() {
    let world = World::fresh();
    assert!(world.votes_in(12) && world.votes_in(13));
}

#[test]
fn an_epoch_that_was_removed_is_not_begun_again() {
    let world = World::fresh();
    assert!(world.votes_in(0) && world.votes_in(7));
    fs::remove_dir_all(world.path("epoch-7")).unwrap();
    assert!(!world.votes_in(7));
    assert!(!world.votes_in(8), "how many epochs are missing is not known");
}

/// Put back as of an earlier block, a ledger leads through epochs in which the key has voted.
#[test]
fn a_folder_that_was_lost_never_votes_again_in_whatever_epoch() {
    let world = World::strange();
    for epoch in [0, 7, 8] {
        assert!(!world.votes_in(epoch), "epoch {epoch}");
    }
}

#[test]
fn a_lost_journal_costs_its_epoch_and_no_later_one() {
    let world = World::fresh();
    assert!(world.votes_in(3));
    fs::remove_dir_all(world.path("epoch-3/journal")).unwrap();
    assert!(!world.votes_in(3) && !world.votes_in(3));
    assert!(world.votes_in(4));
}

/// F4: after every step of the change.
#[test]
fn a_kill_between_two_epochs_costs_nothing_and_gives_nothing() {
    let steps: [&dyn Fn(&World); 3] = [
        &|world| write(&world.path("unvoted"), &unvoted(&world.key)).unwrap(),
        &|world| write(&world.path("epoch-0/over"), &[]).unwrap(),
        &|world| fs::create_dir_all(world.path("epoch-7/journal")).unwrap(),
    ];
    for done in 0..=steps.len() {
        let world = World::fresh();
        assert!(world.votes_in(0));
        steps.iter().take(done).for_each(|step| step(&world));
        assert!(world.votes_in(7), "after {done} steps");
        fs::remove_dir_all(world.path("epoch-7")).unwrap();
        assert!(!world.votes_in(7), "after {done} steps, once it had begun");
    }
    // `node` is written and the word still there: it goes before anything is signed.
    let world = World::fresh();
    assert!(world.votes_in(0) && world.votes_in(7));
    write(&world.path("unvoted"), &unvoted(&world.key)).unwrap();
    assert!(world.votes_in(7));
    fs::remove_dir_all(world.path("epoch-7")).unwrap();
    assert!(!world.votes_in(7));
}

#[test]
fn the_words_of_another_identity_say_nothing() {
    let world = World::fresh();
    assert!(world.votes_in(0));
    let other = World { key: Keys::generate(&mut StdRng::seed_from_u64(2)).public(), folder: world.folder };
    assert!(!other.votes_in(7));
}

/// F5: after every step of the removal; the journal of the epoch that begins is never touched.
#[test]
fn the_journal_of_an_epoch_that_is_over_goes_and_half_of_it_is_none() {
    let steps: [&dyn Fn(&World); 3] = [
        &|world| fs::write(world.path("epoch-0/journal/votes"), "votes").unwrap(),
        &|world| fs::rename(world.path("epoch-0/journal"), world.path("epoch-0/journal.over")).unwrap(),
        &|world| fs::remove_file(world.path("epoch-0/journal.over/votes")).unwrap(),
    ];
    for done in 0..=steps.len() {
        let world = World::fresh();
        assert!(world.votes_in(0));
        steps.iter().take(done).for_each(|step| step(&world));
        assert!(world.votes_in(7), "after {done} steps");
        assert!(!world.path("epoch-0/journal").exists() && !world.path("epoch-0/journal.over").exists());
        assert!(world.path("epoch-7/journal").is_dir());
        fs::write(world.path("epoch-7/journal/votes"), "votes").unwrap();
        assert!(world.votes_in(7) && world.path("epoch-7/journal/votes").exists());
        // A ledger that was put back leads there once more: those votes are gone, and later epochs are as they were.
        assert!(!world.votes_in(0), "after {done} steps");
        assert!(world.path("epoch-7/journal/votes").exists(), "an earlier epoch removes nothing of a later one");
        assert!(world.votes_in(7) && world.votes_in(8), "after {done} steps");
    }
}

/// Whoever is silent in an epoch leaves a journal too.
#[test]
fn a_removed_journal_makes_no_lost_identity_vote() {
    let world = World::strange();
    assert!(!world.votes_in(0) && !world.votes_in(7));
    assert!(!world.path("epoch-0/journal").exists());
    assert!(!world.votes_in(0) && !world.votes_in(7) && !world.votes_in(9));
}
