//! Four validators with the real ledger in the engine's deterministic runtime: time, messages, the engine's disks and kills are the
//! seed's. Clients deploy the contracts and go on calling them.
//!
//! `BLOCKHOUSE_SEEDS` says how many seeds each test runs, `BLOCKHOUSE_SEED` with which it begins. A failure names its seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how it is replayed"
)]

mod heir;
mod liar;
mod load;
mod seat;
mod world;

use std::time::Duration;

use commonware_glue::simulate::action::{Action, Crash, Schedule};
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::FaultConfig;
use commonware_utils::probability;

use crate::liar::Lie;
use crate::world::{World, each_seed};

/// Seeds of a test in CI. Of the ten, one is long and has two, the one of lies has seven for each lie, and the change of validators, which is long
/// too, has four: 104 in all.
const SEEDS: u64 = 9;
const CHANGES: u64 = 4;
/// Those of validators with one key are called so, and cost more: those that hand it on some seconds each.
const SHARED: u64 = 2;
const HANDED: u64 = 1;

const GOOD: Link =
    Link { latency: Duration::from_millis(10), jitter: Duration::from_millis(5), success_rate: probability!(1.0) };
const BAD: Link =
    Link { latency: Duration::from_millis(50), jitter: Duration::from_millis(40), success_rate: probability!(0.75) };
const POOR: Link =
    Link { latency: Duration::from_millis(15), jitter: Duration::from_millis(10), success_rate: probability!(0.95) };
const CUT: Link = Link { latency: Duration::ZERO, jitter: Duration::ZERO, success_rate: probability!(0.0) };

#[test]
fn four_validators_agree_on_clean_links() {
    each_seed("four_validators_agree_on_clean_links", SEEDS, |seed| {
        World::new(seed).run(20, 4, |plan| plan.link(GOOD))
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    each_seed("the_same_seed_gives_the_same_run", SEEDS, |seed| {
        let run = || World::new(seed).run(8, 4, |plan| plan.link(BAD));
        let (first, second) = (run()?, run()?);
        if first != second {
            return Err("two runs differ".to_owned());
        }
        Ok(first)
    });
}

#[test]
fn lost_and_late_messages_fork_nothing() {
    each_seed("lost_and_late_messages_fork_nothing", SEEDS, |seed| World::new(seed).run(15, 4, |plan| plan.link(BAD)));
}

#[test]
fn nodes_killed_at_random_come_back_and_agree() {
    each_seed("nodes_killed_at_random_come_back_and_agree", SEEDS, |seed| {
        World::new(seed).run(40, 4, |plan| {
            let (frequency, downtime) = (Duration::from_millis(700), Duration::from_millis(400));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
}

#[test]
fn all_nodes_killed_at_once_come_back_and_agree() {
    each_seed("all_nodes_killed_at_once_come_back_and_agree", 2, |seed| {
        World::new(seed).run(300, 4, |plan| {
            // Long enough apart that a view which lost its leader is given up in between.
            let (frequency, downtime) = (Duration::from_secs(5), Duration::from_millis(500));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 4 })
        })
    });
}

#[test]
fn three_of_four_go_on_without_the_fourth() {
    each_seed("three_of_four_go_on_without_the_fourth", SEEDS, |seed| {
        let world = World::new(seed);
        let dead = world.public(usize::try_from(seed % 4).unwrap_or_default());
        let schedule = Schedule::new().at(Duration::from_millis(500), Action::Crash(dead));
        world.run(30, 3, |plan| plan.link(GOOD).crash(Crash::Schedule(schedule)))
    });
}

#[test]
fn halves_that_cannot_talk_wait_and_join_again() {
    each_seed("halves_that_cannot_talk_wait_and_join_again", SEEDS, |seed| {
        let world = World::new(seed);
        let mut schedule = Schedule::new();
        for (from, to) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (3, 0), (2, 1), (3, 1)] {
            let (from, to) = (world.public(from), world.public(to));
            schedule = schedule.at(Duration::from_secs(1), Action::UpdateLink { from, to, link: CUT });
        }
        let schedule = schedule.at(Duration::from_secs(6), Action::Heal(GOOD));
        world.run(60, 4, |plan| plan.link(GOOD).crash(Crash::Schedule(schedule)))
    });
}

#[test]
fn disks_that_fail_to_sync_lose_nothing_that_was_final() {
    each_seed("disks_that_fail_to_sync_lose_nothing_that_was_final", SEEDS, |seed| {
        let world = World::new(seed);
        let faults = FaultConfig::default().sync(probability!(0.01));
        let mut schedule = Schedule::new()
            .at(Duration::from_secs(1), Action::SetStorageFault(faults))
            .at(Duration::from_secs(2), Action::SetStorageFault(FaultConfig::default()));
        for (index, at) in [2500, 2750, 3000, 3250].into_iter().enumerate() {
            schedule = schedule.at(Duration::from_millis(at), Action::Restart(world.public(index)));
        }
        world.run(60, 4, |plan| plan.link(GOOD).crash(Crash::Schedule(schedule)))
    });
}

/// A fifth node comes in the place of the fourth while any one of the five is killed, again and again, over the closing block too.
#[test]
fn a_fifth_comes_in_the_place_of_the_fourth_while_nodes_are_killed() {
    each_seed("a_fifth_comes_in_the_place_of_the_fourth_while_nodes_are_killed", CHANGES, |seed| {
        World::changing(seed).run(56, 5, |plan| {
            let (frequency, downtime) = (Duration::from_millis(1500), Duration::from_millis(400));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
}

#[test]
fn validators_with_one_key_agree_over_bad_links() {
    each_seed("validators_with_one_key_agree_over_bad_links", SHARED, |seed| {
        World::sharing(seed).run(15, 4, |plan| plan.link(BAD))
    });
}

#[test]
fn three_of_four_with_one_key_go_on_without_the_fourth() {
    each_seed("three_of_four_with_one_key_go_on_without_the_fourth", SHARED, |seed| {
        let world = World::sharing(seed);
        let dead = world.public(usize::try_from(seed % 4).unwrap_or_default());
        let schedule = Schedule::new().at(Duration::from_millis(500), Action::Crash(dead));
        world.run(30, 3, |plan| plan.link(GOOD).crash(Crash::Schedule(schedule)))
    });
}

/// Letters of the ceremony are lost like all others, and any one of the five is killed, again and again: before it has a new share, with it, over the
/// closing block.
#[test]
fn a_key_is_handed_on_while_letters_are_lost_and_nodes_killed() {
    each_seed("a_key_is_handed_on_while_letters_are_lost_and_nodes_killed", HANDED, |seed| {
        World::handing_on(seed).run(56, 5, |plan| {
            let (frequency, downtime) = (Duration::from_secs(4), Duration::from_millis(400));
            plan.link(POOR).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
}

#[test]
fn the_same_seed_hands_a_key_on_in_the_same_way() {
    each_seed("the_same_seed_hands_a_key_on_in_the_same_way", 1, |seed| {
        let run = || World::handing_on(seed).run(56, 5, |plan| plan.link(GOOD));
        let (first, second) = (run()?, run()?);
        if first != second {
            return Err("two runs differ".to_owned());
        }
        Ok(first)
    });
}

#[test]
fn a_liar_among_four_forks_nothing() {
    each_seed("a_liar_among_four_forks_nothing", 35, |seed| {
        let lies = [Lie::Garbage, Lie::TwoBlocks, Lie::TwoVotes, Lie::WrongState, Lie::Withheld];
        let lie = lies[usize::try_from(seed).unwrap_or_default() % lies.len()];
        World::new(seed).with_liar(lie).run(20, 4, |plan| plan.link(GOOD))
    });
}
