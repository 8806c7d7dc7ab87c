//! Retention, forget, prune, freeze and tag through the real binary; and pruning while backups run, seeded.
//!
//! `BLOCKHOUSE_PRUNE_SEEDS` says how many random histories (6 unless told); `BLOCKHOUSE_SEED` the first of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, Output, Running, World, exit};
use blockhouse_tests::{damage, need};
use rand::RngExt;
use rand::rngs::StdRng;

const KIB: usize = 1 << 10;

/// A vault whose host's clock the test sets.
struct Days {
    world: World,
    library: PathBuf,
    source: PathBuf,
}

impl Days {
    fn begin() -> Option<Self> {
        let library = faketime()?;
        let world = World::with_sites(3);
        let source = world.path("source");
        tree::write(&source.join("steady"), &tree::noise(400 * KIB, 1));
        Some(Self { world, library, source })
    }

    /// A call some days from now.
    fn on(&self, day: u32, call: Call) -> Call {
        let call = call.env("LD_PRELOAD", &self.library).env("FAKETIME", format!("+{day}d"));
        call.env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// A snapshot with something new in it.
    fn back_up(&self, day: u32, more: &str) -> String {
        tree::write(&self.source.join("news"), &tree::noise(700 * KIB, 100 + u64::from(day)));
        let call = self.world.call("backup --json --source papers").args(more).arg(&self.source);
        self.on(day, call).run().expect(exit::DONE).snapshot()
    }

    fn run(&self, day: u32, words: &str) -> Output {
        self.on(day, self.world.call(words)).run()
    }

    fn run_as_owner(&self, day: u32, words: &str) -> Output {
        self.on(day, self.world.unlocked(words)).run()
    }
}

fn faketime() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found = places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|path| path.is_file());
    need::program("libfaketime", "libfaketime", found.is_some()).then_some(found).flatten()
}

/// Snapshot to whether it goes, and why it is kept.
fn verdicts(output: &Output) -> BTreeMap<String, (bool, String)> {
    let verdicts = output.lines().into_iter().filter(|line| line["type"] == "verdict");
    let verdict = |line: serde_json::Value| {
        let reasons: Vec<&str> = line["reasons"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        (line["snapshot"].as_str().unwrap().to_owned(), (line["goes"].as_bool().unwrap(), reasons.join(", ")))
    };
    verdicts.map(verdict).collect()
}

fn shards(world: &World, sites: usize) -> usize {
    (1..=sites).map(|number| damage::objects(&world.site(number), "shards").len()).sum()
}

/// The daily life: a rule once, with the identity; then everything without it.
#[test]
fn a_rule_lets_go_what_it_does_not_keep_and_prune_frees_it() {
    let Some(days) = Days::begin() else { return };
    let ids: Vec<String> = (0..6).map(|day| days.back_up(day, if day == 1 { "--tag keep=me" } else { "" })).collect();
    let rule = "retention set --json --source papers --keep-last 1 --keep-daily 2 --keep-tag keep=me --min-age 1d";
    days.run(6, rule).refuses(exit::NOT_ALLOWED, "needs the identity");
    days.run(6, "retention set --default --min-age 3d").refuses(exit::USAGE, "keeps nothing");
    let planned = days.run_as_owner(6, &format!("{rule} --dry-run")).expect(exit::DONE);
    assert_eq!((planned.number("going"), planned.number("kept")), (3, 3));
    let set = days.run_as_owner(6, rule).expect(exit::DONE);
    assert_eq!(set.number("going"), 3);
    let shown = days.run(6, "retention show --json").expect(exit::DONE).lines();
    assert!(shown.iter().any(|line| line["source_name"] == "papers" && line["rule"]["daily"] == 2), "{shown:?}");

    let told = verdicts(&days.run(6, "forget --json").expect(exit::DONE));
    let because = |number: usize| told[&ids[number]].clone();
    assert_eq!(because(5), (false, "last 1, daily 1".to_owned()));
    assert_eq!(because(4), (false, "daily 2".to_owned()));
    assert_eq!(because(1), (false, "tag among keep=me".to_owned()));
    assert!(because(0).0 && because(2).0 && because(3).0);

    // What the rule keeps is refused to the writer with the date, what goes is not.
    days.run(6, &format!("forget {}", ids[4])).refuses(exit::NOT_ALLOWED, "it may go on");
    days.run(6, &format!("forget {}", ids[3])).expect(exit::DONE);
    let held = shards(&days.world, 3);
    let applied = days.run(6, "forget --apply --json").expect(exit::DONE);
    assert_eq!(applied.summary()["forgotten"].as_array().unwrap().len(), 2);
    let planned = days.run(6, "prune --dry-run --json").expect(exit::DONE).summary();
    assert_eq!(shards(&days.world, 3), held, "a dry run removes nothing");
    let pruned = days.run(6, "prune --json").expect(exit::DONE).summary();
    assert_eq!(planned["removed"], pruned["removed"]);
    assert!(pruned["freed_bytes"].as_u64().unwrap() > 2 * 700 * KIB as u64, "{pruned}");
    assert!(shards(&days.world, 3) < held);
    assert_eq!(damage::objects(&days.world.site(1), "snapshots").len(), 3, "those of the forgotten are gone");
    let again = days.run(6, "prune --json").expect(exit::DONE).summary();
    assert_eq!((again["removed"].as_u64(), again["freed_bytes"].as_u64()), (Some(0), Some(0)));
    assert_eq!(days.run(6, "verify --read-data --json").expect(exit::DONE).summary()["ok"], true);
    assert_eq!(days.run(6, "repair --json").expect(exit::DONE).summary()["written"], 0);
    days.run_as_owner(6, &format!("restore {} --to back", ids[5])).expect(exit::DONE);
    tree::assert_equal(&days.source, &days.world.path("back"));

    // Outside the rule the owner may, after the minimum age, and not before.
    days.run_as_owner(6, &format!("forget {}", ids[4])).expect(exit::DONE);
    let young = days.back_up(6, "");
    days.run_as_owner(6, &format!("forget {young}")).refuses(exit::NOT_ALLOWED, "too young until");
    let history = days.run(7, "history --json").expect(exit::DONE).lines();
    for event in ["Tagged", "Imported", "Dropped", "Marked", "Swept", "PolicySet"] {
        assert!(history.iter().any(|line| line["event"] == event), "{event}");
    }
    // A backup after all this reuses what is left and is whole.
    let last = days.back_up(8, "");
    days.run_as_owner(8, &format!("restore {last} --to last")).expect(exit::DONE);
    tree::assert_equal(&days.source, &days.world.path("last"));
}

/// The writer freezes, the owner lifts; in between nothing goes, whoever asks.
#[test]
fn a_freeze_stops_all_removal_until_the_owner_lifts_it() {
    let Some(days) = Days::begin() else { return };
    let ids: Vec<String> = (0..3).map(|day| days.back_up(day, "")).collect();
    days.run(3, "freeze").refuses(exit::NOT_ALLOWED, "needs the identity");
    let set = days.run_as_owner(3, "retention set --json --default --keep-last 1 --min-age 0s").expect(exit::DONE);
    assert!(set.says("warning: this rule asks for nothing but number"), "{}", set.stderr);
    assert_eq!(set.summary()["warnings"].as_array().unwrap().len(), 1);
    days.run(3, "forget --json").expect(exit::DONE);
    days.run(3, "freeze").expect(exit::DONE);
    days.run(3, &format!("forget {}", ids[0])).refuses(exit::NOT_ALLOWED, "was frozen by");
    days.run_as_owner(3, &format!("forget {}", ids[0])).refuses(exit::NOT_ALLOWED, "was frozen by");
    let applied = days.run(3, "forget --apply --json").expect(exit::DONE);
    assert_eq!(applied.summary()["forgotten"].as_array().unwrap().len(), 0);
    days.run(3, "unfreeze").refuses(exit::NOT_ALLOWED, "needs the identity");
    // A new rule lifts nothing.
    days.run_as_owner(3, "retention set --default --keep-last 1 --min-age 0s --keep-within 1h").expect(exit::DONE);
    days.run_as_owner(3, &format!("forget {}", ids[0])).refuses(exit::NOT_ALLOWED, "was frozen by");
    days.run_as_owner(3, "unfreeze").expect(exit::DONE);
    let applied = days.run(3, "forget --apply --json").expect(exit::DONE);
    assert_eq!(applied.summary()["forgotten"].as_array().unwrap().len(), 2);
    days.run(3, "freeze --source papers").expect(exit::DONE);
    days.run(3, "prune").refuses(exit::NOT_ALLOWED, "was frozen by");
    days.run_as_owner(3, "unfreeze --source papers").expect(exit::DONE);
    days.run(3, "prune").expect(exit::DONE);
}

/// A rule of its own binds a source until the owner takes it away; then the default does again.
#[test]
fn a_source_goes_back_to_the_default() {
    let Some(days) = Days::begin() else { return };
    let ids: Vec<String> = (0..3).map(|day| days.back_up(day, "")).collect();
    days.run_as_owner(3, "retention set --default --keep-daily 1 --min-age 0s").expect(exit::DONE);
    days.run_as_owner(3, "retention set --source papers --keep-daily 9").expect(exit::DONE);
    assert!(verdicts(&days.run(3, "forget --json")).values().all(|(goes, _)| !goes));
    days.run(3, "retention unset").refuses(exit::USAGE, "--source");
    days.run(3, "retention unset --source nobody").refuses(exit::USAGE, "nobody");
    days.run(3, "retention unset --source papers").refuses(exit::NOT_ALLOWED, "needs the identity");
    let planned = days.run(3, "retention unset --source papers --dry-run --json").expect(exit::DONE);
    assert_eq!((planned.number("going"), planned.number("kept")), (2, 1));
    assert!(verdicts(&days.run(3, "forget --json")).values().all(|(goes, _)| !goes), "a dry run changes nothing");
    let done = days.run_as_owner(3, "retention unset --source papers --json").expect(exit::DONE);
    assert_eq!((done.number("going"), done.summary()["rule"]["daily"].as_u64()), (2, Some(1)));
    let applied = days.run(3, "forget --apply --json").expect(exit::DONE);
    assert_eq!(applied.summary()["forgotten"].as_array().unwrap().len(), 2);
    assert_eq!(days.run(3, "snapshots --json").lines()[0]["id"].as_str(), Some(ids[2].as_str()));
}

/// A tag that is added protects, and is found; taking it away needs the owner.
#[test]
fn tags_are_added_by_the_writer_and_taken_away_by_the_owner() {
    let Some(days) = Days::begin() else { return };
    let ids: Vec<String> = (0..3).map(|day| days.back_up(day, "")).collect();
    days.run_as_owner(3, "retention set --default --keep-last 1 --keep-tag hold=yes --min-age 0s").expect(exit::DONE);
    days.run(3, &format!("tag {} --add hold=yes", ids[0])).expect(exit::DONE);
    let found = days.run(3, "snapshots --json --tag hold=yes").expect(exit::DONE).lines();
    assert_eq!((found.len(), found[0]["id"].as_str()), (1, Some(ids[0].as_str())));
    days.run(3, &format!("forget {}", ids[0])).refuses(exit::NOT_ALLOWED, "tag among hold=yes");
    days.run(3, "forget --apply").expect(exit::DONE);
    assert_eq!(days.run(3, "snapshots --json").lines().len(), 2);
    days.run(3, &format!("tag {} --remove hold=yes", ids[0])).refuses(exit::NOT_ALLOWED, "needs the identity");
    days.run_as_owner(3, &format!("tag {} --remove hold=yes", ids[0])).expect(exit::DONE);
    assert!(days.run(3, "snapshots --json --tag hold=yes").lines().is_empty());
    days.run(3, "forget --apply").expect(exit::DONE);
    assert_eq!(days.run(3, "snapshots --json").lines().len(), 1);
}

/// A site that was down keeps old shards: they are not counted on, and go when it is back.
#[test]
fn what_a_site_holds_that_was_down_goes_when_it_is_back() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::write(&source.join("file"), &tree::noise(800 * KIB, 1));
    world.back_up(&source);
    let old = fs::read(source.join("file")).unwrap();
    tree::write(&source.join("file"), &tree::noise(800 * KIB, 2));
    world.back_up(&source);
    world.unlocked("retention set --default --keep-last 1 --min-age 0s").run().expect(exit::DONE);
    world.call("forget --apply").run().expect(exit::DONE);
    world.take_away(2);
    let pruned = world.call("prune --json").run().expect(exit::DEGRADED).summary();
    assert!(pruned["left"]["site-2"].is_string(), "{pruned}");
    world.bring_back(2);
    let held = damage::objects(&world.site(2), "shards").len();
    // The old content comes back while its marking stands: it is stored anew.
    tree::write(&source.join("file"), &old);
    let third = world.back_up(&source);
    assert!(third.number("new_bytes") > 700 * KIB as u64);
    let pruned = world.call("prune --json").run().expect(exit::DONE).summary();
    assert!(pruned["freed"]["site-2"]["shards"].as_u64().unwrap() > 0, "{pruned}");
    assert!(damage::objects(&world.site(2), "shards").len() <= held, "only what is needed is left");
    assert_eq!(world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
    world.expect_restores(&third.snapshot(), &source);
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Backups of two sources, forgets and prunes of one vault in random order and at the same time, killed at random instants: every
/// snapshot that is not forgotten restores bit for bit.
#[test]
fn pruning_while_backups_run_loses_nothing() {
    let (seeds, first) = (number_from("BLOCKHOUSE_PRUNE_SEEDS", 6), number_from("BLOCKHOUSE_SEED", 1));
    for seed in first..first + seeds {
        println!("replay with BLOCKHOUSE_PRUNE_SEEDS=1 BLOCKHOUSE_SEED={seed}");
        Storm::begin(seed).rage();
    }
}

struct Storm {
    world: World,
    random: StdRng,
    sources: [PathBuf; 2],
    /// What an acknowledged snapshot must give back.
    acknowledged: BTreeMap<String, PathBuf>,
    /// The same, in the order of their backups, by source.
    order: [Vec<String>; 2],
    copies: u32,
}

/// A call under way: of which source, if it is a backup, and when it is killed.
struct Going {
    running: Running,
    source: Option<usize>,
    copy: Option<PathBuf>,
    is_killed: bool,
}

impl Storm {
    fn begin(seed: u64) -> Self {
        let world = World::with_sites(3);
        let sources = [world.path("left"), world.path("right")];
        for (number, source) in sources.iter().enumerate() {
            tree::write(&source.join("steady"), &tree::noise(300 * KIB, number as u64));
        }
        let (acknowledged, order) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
        let mut storm = Self { world, random: tree::random(seed), sources, acknowledged, order, copies: 0 };
        for number in 0..2 {
            let going = storm.back_up(number);
            storm.finish(going);
        }
        storm.world.unlocked("retention set --default --keep-last 2 --min-age 0s").run().expect(exit::DONE);
        storm
    }

    fn rage(mut self) {
        for _ in 0..7 {
            let mut together = Vec::new();
            for number in 0..2 {
                if self.random.random_bool(0.7) {
                    together.push(self.back_up(number));
                }
            }
            if self.random.random_bool(0.6) {
                together.push(self.other("forget --apply --json"));
            }
            if self.random.random_bool(0.8) {
                together.push(self.other("prune --json"));
            }
            if self.random.random_bool(0.4) {
                std::thread::sleep(Duration::from_millis(self.random.random_range(20..1_500)));
                let victim = self.random.random_range(0..together.len().max(1));
                if let Some(going) = together.get_mut(victim) {
                    going.running.kill();
                    going.is_killed = true;
                }
            }
            for going in together {
                self.finish(going);
            }
        }
        self.calm();
    }

    /// Content comes and goes and comes again: what was marked is wanted once more.
    fn back_up(&mut self, number: usize) -> Going {
        let source = self.sources[number].clone();
        let which = self.random.random_range(0..5);
        tree::write(&source.join("news"), &tree::noise(300 * KIB, 50 + which));
        if self.random.random_bool(0.5) {
            let which = self.random.random_range(0..5);
            tree::write(&source.join("more"), &tree::noise(200 * KIB, 70 + which));
        }
        self.copies += 1;
        let copy = self.world.path(&format!("copy-{}", self.copies));
        let done = std::process::Command::new("cp").arg("-a").arg(&source).arg(&copy).status().unwrap();
        assert!(done.success());
        let running = self.world.call("backup --json").arg(&source).spawn();
        Going { running, source: Some(number), copy: Some(copy), is_killed: false }
    }

    fn other(&self, words: &str) -> Going {
        Going { running: self.world.call(words).spawn(), source: None, copy: None, is_killed: false }
    }

    fn finish(&mut self, going: Going) {
        let done = going.running.finish();
        if !going.is_killed {
            // A prune may have to leave the rest to the next; another may be at work in vain only after a kill.
            let allowed: &[i32] = if going.source.is_some() { &[exit::DONE] } else { &[exit::DONE, exit::DEGRADED] };
            assert!(allowed.contains(&done.code()), "{} ended with {}:\n{}", done.line, done.code(), done.stderr);
        }
        if let (Some(copy), Some(number), Some(summary)) = (going.copy, going.source, done.try_summary()) {
            let snapshot = summary["snapshot"].as_str().unwrap().to_owned();
            self.order[number].push(snapshot.clone());
            self.acknowledged.insert(snapshot, copy);
        }
    }

    /// Of each source the newest two of the ledger are left, and all that was told after them.
    fn newest_are_left(&self) {
        let listed = self.world.call("snapshots --json").run().expect(exit::DONE).lines();
        for (number, order) in self.order.iter().enumerate() {
            let of_source: BTreeSet<&str> = listed
                .iter()
                .filter(|line| line["roots"][0].as_str() == self.sources[number].to_str())
                .map(|line| line["id"].as_str().unwrap())
                .collect();
            let left = of_source.len();
            assert!((order.len().min(2)..=2).contains(&left), "source {number} has {left}: {listed:?}");
            // A killed backup may have been recorded and not told: each such one takes a place.
            let untold = of_source.iter().filter(|id| !self.acknowledged.contains_key(**id)).count();
            for newest in order.iter().rev().take(2_usize.saturating_sub(untold)) {
                assert!(of_source.contains(newest.as_str()), "source {number} lost {newest}: {listed:?}");
            }
        }
    }

    fn calm(self) {
        self.world.call("forget --apply").run().expect(exit::DONE);
        self.world.call("prune --json").run().expect(exit::DONE);
        let left = self.world.snapshots();
        self.newest_are_left();
        for snapshot in &left {
            match self.acknowledged.get(snapshot) {
                Some(copy) => self.world.expect_restores(snapshot, copy),
                // Of a killed backup that was recorded and not told.
                None => tree::remove(&self.world.restore(snapshot, &format!("untold-{snapshot}"))),
            }
        }
        assert_eq!(self.world.call("verify --read-data --json").run().expect(exit::DONE).summary()["ok"], true);
        // Nothing that nobody needs is left.
        let rest = self.world.call("prune --dry-run --json").run().expect(exit::DONE);
        assert_eq!(rest.summary()["removed"], 0);
    }
}
