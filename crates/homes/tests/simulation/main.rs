//! Validators with the real ledger in the engine's deterministic runtime: time, messages, the engine's disks and kills are the seed's.
//! Clients deploy the contracts and go on calling them.
//!
//! `BLOCKHOUSE_SEEDS` says how many seeds each test runs, `BLOCKHOUSE_SEED` with which it begins. A failure names its seed.
//! No scenario shares a seed with another, and a scenario whose runs never met what it is for fails.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how it is replayed"
)]

mod goal;
mod heir;
mod liar;
mod load;
mod node;
mod seat;
mod seeds;
mod storm;
mod witness;
mod world;

use std::time::Duration;

use commonware_glue::simulate::action::{Action, Crash, Schedule};
use commonware_p2p::simulated::Link;
use commonware_utils::probability;

use crate::liar::Lie;
use crate::seeds::{Outcome, Scenario};
use crate::storm::{Disk, GOOD, Storm};
use crate::witness::{Counts, Event, FORK};
use crate::world::World;

const BAD: Link =
    Link { latency: Duration::from_millis(50), jitter: Duration::from_millis(40), success_rate: probability!(0.75) };
const POOR: Link =
    Link { latency: Duration::from_millis(15), jitter: Duration::from_millis(10), success_rate: probability!(0.95) };

/// A run is the seed's, to the last message.
fn twice(run: impl Fn() -> Result<Outcome, String>) -> Result<Outcome, String> {
    let (first, second) = (run()?, run()?);
    if first == second { Ok(first) } else { Err(format!("two runs differ: {first:?} and {second:?}")) }
}

/// Validators that lie, one in each way, of those who are among them.
fn told() -> impl Iterator<Item = Event> {
    Lie::ALL.into_iter().map(Event::Told)
}

#[test]
fn four_validators_agree_on_clean_links() {
    let scenario = Scenario { name: "four_validators_agree_on_clean_links", place: 1, seeds: 6 };
    scenario.each(|seed| World::new(seed).run(20, 4, |plan| plan.link(GOOD)));
}

#[test]
fn lost_and_late_messages_fork_nothing() {
    let scenario = Scenario { name: "lost_and_late_messages_fork_nothing", place: 2, seeds: 8 };
    scenario.each(|seed| World::new(seed).run(15, 4, |plan| plan.link(BAD)));
}

#[test]
fn nodes_killed_at_random_come_back_and_agree() {
    let scenario = Scenario { name: "nodes_killed_at_random_come_back_and_agree", place: 3, seeds: 6 };
    let total = scenario.each(|seed| {
        World::new(seed).run(40, 4, |plan| {
            let (frequency, downtime) = (Duration::from_millis(700), Duration::from_millis(400));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
    total.has_met([Event::Return, Event::TakenBack]);
}

#[test]
fn all_nodes_killed_at_once_come_back_and_agree() {
    let scenario = Scenario { name: "all_nodes_killed_at_once_come_back_and_agree", place: 4, seeds: 2 };
    let total = scenario.each(|seed| {
        World::new(seed).run(200, 4, |plan| {
            // Long enough apart that a view which lost its leader is given up in between.
            let (frequency, downtime) = (Duration::from_secs(5), Duration::from_millis(500));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 4 })
        })
    });
    total.has_met([Event::Return, Event::TakenBack]);
}

#[test]
fn three_of_four_go_on_without_the_fourth() {
    let scenario = Scenario { name: "three_of_four_go_on_without_the_fourth", place: 5, seeds: 8 };
    scenario.each(|seed| without_one(World::new(seed), seed)).has_met([Event::Away]);
}

fn without_one(world: World, seed: u64) -> Result<Outcome, String> {
    let dead = world.public(usize::try_from(seed % 4).unwrap());
    let schedule = Schedule::new().at(Duration::from_millis(500), Action::Crash(dead));
    world.run(30, 3, |plan| plan.link(GOOD).crash(Crash::Schedule(schedule)))
}

#[test]
fn parts_that_cannot_talk_wait_and_join_again() {
    let scenario = Scenario { name: "parts_that_cannot_talk_wait_and_join_again", place: 6, seeds: 10 };
    let total = scenario.each(|seed| {
        let world = World::new(seed);
        let storm = world.storm(GOOD, 12_000).cuts(2);
        world.weather(storm, 20)
    });
    total.has_met([Event::Standstill, Event::LeftBehind]);
}

#[test]
fn disks_that_fail_lose_nothing_that_was_final() {
    let scenario = Scenario { name: "disks_that_fail_lose_nothing_that_was_final", place: 7, seeds: 16 };
    let total = scenario.each(|seed| {
        let world = World::new(seed);
        let disk = Disk::of(seed);
        // The first file is removed when there are more views than votes are kept of.
        let calm = if disk == Disk::Remove { 10_000 } else { 5000 };
        let storm = world.storm(GOOD, calm).disks(disk, 2);
        world.weather(storm, 20)
    });
    total.has_met(Disk::ALL.map(Event::Stopped));
}

/// A fifth node comes in the place of the fourth while any one of the five is killed, again and again, over the closing block too.
#[test]
fn a_fifth_comes_in_the_place_of_the_fourth_while_nodes_are_killed() {
    let name = "a_fifth_comes_in_the_place_of_the_fourth_while_nodes_are_killed";
    let total = Scenario { name, place: 8, seeds: 3 }.each(|seed| {
        World::changing(seed).run(56, 5, |plan| {
            let (frequency, downtime) = (Duration::from_millis(1500), Duration::from_millis(400));
            plan.link(GOOD).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
    total.has_met([Event::Return, Event::TakenBack]);
}

#[test]
fn a_liar_among_four_forks_nothing() {
    let scenario = Scenario { name: "a_liar_among_four_forks_nothing", place: 9, seeds: 24 };
    let total = scenario.each(|seed| World::new(seed).with_liar(3, Lie::of(seed)).run(20, 4, |plan| plan.link(GOOD)));
    total.has_met(told());
}

/// One liar more than four validators bear. Where they get their way two blocks are final, and the judge says so.
#[test]
fn two_liars_among_four_do_fork() {
    let scenario = Scenario { name: "two_liars_among_four_do_fork", place: 19, seeds: 4 };
    let total = scenario.each(|seed| {
        let world = World::new(seed).with_liar(1, Lie::TwoBlocks).with_liar(3, Lie::Echo);
        match world.run(40, 4, |plan| plan.link(GOOD)) {
            Err(error) if error.starts_with(FORK) => {
                Ok(Outcome { counts: Counts::once(Event::Fork), ..Outcome::default() })
            }
            // Their blocks are empty ones.
            Err(error) if error.starts_with("only ") => Ok(Outcome::default()),
            other => other,
        }
    });
    total.has_met([Event::Fork]);
}

/// Messages are lost, nodes killed and cut off, disks fail, and one of the four lies, all at once.
#[test]
fn all_that_may_go_wrong_at_once_forks_nothing_and_passes() {
    let name = "all_that_may_go_wrong_at_once_forks_nothing_and_passes";
    let total = Scenario { name, place: 10, seeds: 12 }.each(everything);
    let others = [Event::Return, Event::TakenBack, Event::Standstill, Event::LeftBehind];
    total.has_met(told().chain(others));
    total.has_met_any(Disk::ALL.map(Event::Stopped));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario { name: "the_same_seed_gives_the_same_run", place: 11, seeds: 6 };
    scenario.each(|seed| twice(|| everything(seed)));
}

fn everything(seed: u64) -> Result<Outcome, String> {
    let world = World::new(seed).with_liar(usize::try_from(seed / 6 % 4).unwrap(), Lie::of(seed));
    let storm = any_storm(&world, seed).disks(Disk::of(seed), 1);
    world.weather(storm, 15)
}

/// Loss, parts that cannot talk, and kills.
fn any_storm(world: &World, seed: u64) -> Storm {
    let link = [GOOD, POOR, POOR, BAD][usize::try_from(seed / 5 % 4).unwrap()].clone();
    world.storm(link, 12_000).cuts(1 + seed % 2).kills(2 + seed % 5)
}

/// Two of seven lie, each in another way, and any are killed and cut off.
#[test]
fn two_liars_among_seven_fork_nothing_while_nodes_are_killed() {
    let name = "two_liars_among_seven_fork_nothing_while_nodes_are_killed";
    let total = Scenario { name, place: 12, seeds: 4 }.each(|seed| {
        let world = World::seven(seed).with_liar(2, Lie::Echo).with_liar(5, Lie::TwoBlocks);
        let storm = any_storm(&world, seed);
        world.weather(storm, 10)
    });
    total.has_met([Event::Return, Event::Told(Lie::Echo), Event::Told(Lie::TwoBlocks)]);
}

#[test]
fn validators_with_one_key_agree_over_bad_links() {
    let scenario = Scenario { name: "validators_with_one_key_agree_over_bad_links", place: 13, seeds: 1 };
    scenario.each(|seed| World::sharing(seed).run(15, 4, |plan| plan.link(BAD)));
}

#[test]
fn three_of_four_with_one_key_go_on_without_the_fourth() {
    let scenario = Scenario { name: "three_of_four_with_one_key_go_on_without_the_fourth", place: 14, seeds: 1 };
    scenario.each(|seed| without_one(World::sharing(seed), seed)).has_met([Event::Away]);
}

#[test]
fn a_liar_among_four_with_one_key_forks_nothing() {
    let scenario = Scenario { name: "a_liar_among_four_with_one_key_forks_nothing", place: 15, seeds: 6 };
    let total =
        scenario.each(|seed| World::sharing(seed).with_liar(3, Lie::of(seed)).run(12, 4, |plan| plan.link(GOOD)));
    total.has_met(told());
}

#[test]
fn all_that_may_go_wrong_at_once_passes_where_four_share_one_key() {
    let name = "all_that_may_go_wrong_at_once_passes_where_four_share_one_key";
    Scenario { name, place: 16, seeds: 1 }.each(|seed| {
        let world = World::sharing(seed).with_liar(usize::try_from(seed % 4).unwrap(), Lie::of(seed));
        let storm = any_storm(&world, seed);
        world.weather(storm, 10)
    });
}

/// Letters of the ceremony are lost like all others, and any one of the five is killed, again and again: before it has a new share, with it, over the
/// closing block.
#[test]
fn a_key_is_handed_on_while_letters_are_lost_and_nodes_killed() {
    let scenario = Scenario { name: "a_key_is_handed_on_while_letters_are_lost_and_nodes_killed", place: 17, seeds: 1 };
    let total = scenario.each(|seed| {
        World::handing_on(seed).run(56, 5, |plan| {
            let (frequency, downtime) = (Duration::from_secs(4), Duration::from_millis(400));
            plan.link(POOR).crash(Crash::Random { frequency, downtime, count: 1 })
        })
    });
    total.has_met([Event::Return]);
}

#[test]
fn the_same_seed_hands_a_key_on_in_the_same_way() {
    let scenario = Scenario { name: "the_same_seed_hands_a_key_on_in_the_same_way", place: 18, seeds: 1 };
    scenario.each(|seed| twice(|| World::handing_on(seed).run(56, 5, |plan| plan.link(GOOD))));
}
