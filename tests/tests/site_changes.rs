//! Sites that are added, drained, removed and lost, through the binary: what was acknowledged restores all the way.
//!
//! `BLOCKHOUSE_SITE_KILLS` says at how many instants `site lost` is killed (3 unless told); `BLOCKHOUSE_SEED` at which ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockhouse_tests::Output;
use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::{World, exit};
use rand::RngExt;
use serde_json::Value;

/// A vault with some content, and what its snapshot must give back.
struct Kept {
    world: World,
    source: PathBuf,
    snapshot: String,
}

impl Kept {
    fn over(sites: usize, bytes: usize) -> Self {
        let world = World::with_sites(sites);
        let source = world.path("source");
        tree::plain(&source, 1, 1);
        tree::write(&source.join("noise"), &tree::noise(bytes, 7));
        let snapshot = world.back_up(&source).snapshot();
        Self { world, source, snapshot }
    }

    fn restores(&self) {
        self.world.expect_restores(&self.snapshot, &self.source);
    }

    /// A change with `--json`: each line says what it is, the last one is the summary.
    fn site(&self, words: &str) -> Output {
        let done = self.world.unlocked(&format!("site {words} --json")).run();
        let lines = done.lines();
        assert!(lines.iter().all(|line| line["type"].is_string()), "{}: {lines:?}", done.line);
        assert!(lines.last().is_none_or(|last| last["type"] == "summary"), "{}: {lines:?}", done.line);
        done
    }

    /// The sites as `site list` tells them, by name.
    fn listed(&self) -> Vec<Value> {
        self.world.call("site list --json").run().expect(exit::DONE).lines()
    }

    /// A site that holds shards: of a stripe with fewer shards than there are sites one has none.
    fn holder(&self) -> usize {
        let holds = |site: &Value| site["shards"].as_u64().unwrap() > 0;
        self.listed().iter().position(holds).unwrap() + 1
    }

    /// Two sites other than this one.
    fn others(number: usize) -> [usize; 2] {
        if number < 3 { [6, 7] } else { [1, 2] }
    }

    fn state(&self, name: &str) -> Option<String> {
        let found = self.listed().into_iter().find(|site| site["name"] == name)?;
        Some(found["state"].as_str().unwrap().to_owned())
    }

    /// What the weakest snapshot survives, on the ledger.
    fn recorded_w(&self) -> u64 {
        let listed = self.world.call("snapshots --json").run().expect(exit::DONE);
        listed.lines().iter().map(|line| line["w"].as_u64().unwrap()).min().unwrap()
    }

    fn config(&self) -> String {
        fs::read_to_string(self.world.vault().join("config.toml")).unwrap()
    }

    fn sheet(&self) -> String {
        fs::read_to_string(self.world.vault().join("recovery-sheet.txt")).unwrap()
    }
}

#[test]
fn a_lost_site_is_made_again_at_the_others_and_two_more_may_vanish() {
    let kept = Kept::over(7, 2 * MIB);
    let number = kept.holder();
    let name = format!("site-{number}");
    kept.world.destroy(number);
    // Needs no key to look.
    let planned = kept.world.call(&format!("site lost {name} --dry-run --json")).run().expect(exit::DONE);
    let (written, read) = (planned.number("written"), planned.number("read_bytes"));
    assert!(written > 0 && read > planned.number("written_bytes"), "{written} {read}");
    assert_eq!(kept.state(&name).as_deref(), Some("down"), "a dry run changes nothing");
    let lost = kept.site(&format!("lost {name}")).expect(exit::DONE);
    assert_eq!(lost.number("written"), written);
    assert_eq!(lost.number("read_bytes"), read, "as was said before");
    assert_eq!(lost.summary()["recorded"], true);
    assert_eq!(kept.state(&name), None);
    assert!(!kept.config().contains(&name) && !kept.sheet().contains(&name));
    assert_eq!(kept.recorded_w(), 2);
    kept.world.call("verify --read-data --json").run().expect(exit::DONE);
    for other in Kept::others(number) {
        kept.world.destroy(other);
    }
    kept.restores();
}

#[test]
fn below_protection_only_a_loss_goes_and_it_is_said_and_recorded() {
    let kept = Kept::over(6, MIB);
    kept.world.destroy(2);
    let lost = kept.site("lost site-2").expect(exit::DONE);
    assert!(lost.says("WARNING: without `site-2` any 1 site may vanish, not any 2 sites as before"), "{}", lost.stderr);
    assert_eq!((lost.summary()["plan"]["w"].as_u64(), kept.recorded_w()), (Some(1), 1));
    // A backup goes on with five, and the vault can be recovered without the lost one.
    let next = kept.world.back_up(&kept.source);
    assert_eq!(next.summary()["degraded"], false);
    kept.restores();
    let there = kept.world.path("rehearsal");
    let site = kept.world.site(5);
    let recover = kept.world.outside("recover --read-only --json --vault").arg(&there).arg("--site").arg(site);
    let recovered = recover.env("BLOCKHOUSE_IDENTITY", kept.world.identity()).run().expect(exit::DONE);
    assert!(recovered.summary()["down"].as_array().unwrap().is_empty(), "the lost site is not asked for");
}

#[test]
fn a_lost_site_that_comes_back_does_no_harm_and_is_added_only_when_empty() {
    let kept = Kept::over(6, MIB);
    kept.world.take_away(4);
    kept.site("lost site-4").expect(exit::DONE);
    kept.world.bring_back(4);
    let before = tree::size(&kept.world.site(4));
    tree::write(&kept.source.join("later"), b"later");
    let next = kept.world.back_up(&kept.source);
    kept.world.expect_restores(&next.snapshot(), &kept.source);
    kept.world.call("repair --json").run().expect(exit::DONE);
    kept.world.call("verify --json").run().expect(exit::DONE);
    assert_eq!(tree::size(&kept.world.site(4)), before, "it is not written to");
    let again = || kept.world.unlocked("site add").arg(kept.world.site(4)).run();
    again().refuses(exit::NOT_ALLOWED, "out of date");
    assert_eq!(kept.state("site-4"), None, "what was refused leaves nothing");
    tree::remove(&kept.world.site(4));
    again().expect(exit::DONE);
    assert_eq!(kept.state("site-4").as_deref(), Some("up"));
    kept.world.expect_restores(&next.snapshot(), &kept.source);
}

#[test]
fn a_seventh_site_gets_what_every_site_has_and_new_stripes() {
    let kept = Kept::over(5, MIB);
    assert_eq!(kept.recorded_w(), 2, "3+2 over five");
    let added =
        kept.world.unlocked("site add --json").arg(format!("{},name=attic,region=north", kept.world.site(7).display()));
    let added = added.run().expect(exit::DONE);
    assert!(added.says("w stays 2"), "{}", added.stderr);
    assert!(added.number("copied") > 0);
    assert!(kept.sheet().contains("attic") && kept.sheet().contains("region north"));
    let attic = kept.listed().into_iter().find(|site| site["name"] == "attic").unwrap();
    assert_eq!((&attic["state"], &attic["shards"], &attic["region"]), (&"up".into(), &0.into(), &"north".into()));
    // The key bag names it: whoever has nothing but it and the identity finds all the others.
    let there = kept.world.path("rehearsal");
    let recover =
        kept.world.outside("recover --read-only --json --vault").arg(&there).arg("--site").arg(kept.world.site(7));
    let recovered = recover.env("BLOCKHOUSE_IDENTITY", kept.world.identity()).run().expect(exit::DONE);
    assert_eq!(recovered.number("snapshots"), 1);
    let shards =
        |name: &str| kept.listed().iter().find(|site| site["name"] == name).unwrap()["shards"].as_u64().unwrap();
    let mut next = kept.world.back_up(&kept.source);
    // Five shards of a stripe over six sites: each stripe leaves one out.
    for round in 0..12 {
        tree::write(&kept.source.join("more"), &tree::noise(MIB / 2, 9 + round));
        next = kept.world.back_up(&kept.source);
        if shards("attic") > 0 {
            break;
        }
    }
    assert!(shards("attic") > 0, "twelve stripes in a row passed it over");
    kept.world.expect_restores(&next.snapshot(), &kept.source);
    // Again, it is there already.
    let again =
        kept.world.unlocked("site add --json").arg(format!("{},name=attic", kept.world.site(7).display())).run();
    assert_eq!(again.expect(exit::DONE).summary()["already"], true);
}

#[test]
fn a_site_is_drained_then_removed_and_nothing_is_missed() {
    let kept = Kept::over(7, 2 * MIB);
    let number = kept.holder();
    let name = format!("site-{number}");
    kept.world.unlocked(&format!("site remove {name}")).run().refuses(exit::NOT_ALLOWED, "site lost");
    let drained = kept.site(&format!("drain {name}")).expect(exit::DONE);
    assert_eq!(drained.summary()["drained"], true);
    let (read, written) = (drained.number("read_bytes"), drained.number("written_bytes"));
    assert!(written > 0 && read == written, "read from the site itself, not made anew: {read} {written}");
    assert_eq!(kept.state(&name).as_deref(), Some("draining"));
    let shards = || kept.listed().iter().find(|site| site["name"] == *name).unwrap()["shards"].as_u64().unwrap();
    let held = shards();
    tree::write(&kept.source.join("more"), &tree::noise(3 * MIB, 11));
    let next = kept.world.back_up(&kept.source);
    assert_eq!(shards(), held, "nothing new goes there, nothing is deleted there");
    assert_eq!(kept.site(&format!("drain {name}")).expect(exit::DONE).number("written"), 0, "it was done");
    let removed = kept.site(&format!("remove {name}")).expect(exit::DONE);
    assert!(removed.says("rm -r"), "{}", removed.stderr);
    assert_eq!(kept.state(&name), None);
    tree::remove(&kept.world.site(number));
    kept.world.call("verify --json").run().expect(exit::DONE);
    for other in Kept::others(number) {
        kept.world.destroy(other);
    }
    kept.world.expect_restores(&next.snapshot(), &kept.source);
    let first = kept.world.restore(&kept.snapshot, "first");
    assert_eq!(fs::read(first.join("noise")).unwrap(), tree::noise(2 * MIB, 7));
}

/// Only `lost` goes below what was planned; a removal that is refused, or was killed, leaves a site that can be used.
#[test]
fn a_removal_below_the_plan_is_refused_and_one_that_was_killed_is_taken_back() {
    let kept = Kept::over(6, MIB);
    kept.site("drain site-2").expect(exit::DONE);
    let remove = || kept.world.unlocked("site remove site-2").run();
    remove().refuses(exit::NOT_ALLOWED, "the loss of any 1 site, not of any 2 sites as now");
    assert_eq!(kept.state("site-2").as_deref(), Some("draining"));
    kept.world.unlocked("site remove site-2 --cancel").run().refuses(exit::USAGE, "is not being removed");
    // As a kill leaves it, before the key bag.
    let leaving = kept.config().replace("state = \"draining\"", "state = \"leaving\"");
    fs::write(kept.world.vault().join("config.toml"), leaving).unwrap();
    assert_eq!(kept.state("site-2").as_deref(), Some("leaving"));
    kept.restores();
    let cancelled = kept.site("remove site-2 --cancel").expect(exit::DONE);
    assert_eq!(cancelled.summary()["cancelled"], true);
    assert_eq!(kept.state("site-2").as_deref(), Some("up"));
    // With a seventh the plan stays what it is.
    kept.world.unlocked("site add").arg(kept.world.site(7)).run().expect(exit::DONE);
    kept.site("drain site-2").expect(exit::DONE);
    remove().expect(exit::DONE);
    kept.world.call("verify --json").run().expect(exit::DONE);
    kept.restores();
}

#[test]
fn what_would_leave_too_little_or_nobody_knows_is_refused() {
    let kept = Kept::over(3, 1000);
    kept.world.unlocked("site drain site-1").run().refuses(exit::NOT_ALLOWED, "needs at least 3 sites");
    kept.world.unlocked("site remove site-1").run().refuses(exit::NOT_ALLOWED, "needs at least 3 sites");
    for words in ["lost oslo", "drain oslo", "remove oslo", "probe oslo"] {
        let refused = kept.world.unlocked(&format!("site {words}")).run();
        assert!(refused.says("its sites are site-1, site-2, site-3") && refused.says("hint:"), "{}", refused.stderr);
        refused.refuses(exit::USAGE, "no site `oslo`");
    }
    kept.world.call("site lost site-1").run().refuses(exit::NOT_ALLOWED, "needs the identity");
    let twice = format!("{},name=site-2", kept.world.site(9).display());
    kept.world.unlocked("site add").arg(twice).run().refuses(exit::USAGE, "a site `site-2` already");
    fs::create_dir(kept.world.site(9)).unwrap();
    tree::write(&kept.world.site(9).join("file"), b"x");
    kept.world.unlocked("site add").arg(kept.world.site(9)).run().refuses(exit::FAILED, "is not empty");
    assert_eq!(kept.listed().len(), 3);
    let probed = kept.world.call("site probe --json").run().expect(exit::DONE);
    assert_eq!(probed.lines().iter().filter(|line| line["type"] == "probe" && line["ok"] == true).count(), 3);
    kept.world.take_away(2);
    kept.world.call("site probe site-2").run().expect(exit::CHECK);
    kept.restores();
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Wherever `site lost` is killed, the snapshot restores, backups go on, and the command goes on too.
#[test]
fn a_loss_that_was_killed_goes_on() {
    let (kills, seed) = (number_from("BLOCKHOUSE_SITE_KILLS", 3), number_from("BLOCKHOUSE_SEED", 1));
    println!("replay with BLOCKHOUSE_SITE_KILLS={kills} BLOCKHOUSE_SEED={seed}");
    let mut random = tree::random(seed);
    let mut unharmed = Duration::from_millis(1500);
    for _ in 0..kills {
        let kept = Kept::over(7, 6 * MIB);
        kept.world.destroy(5);
        let instant = unharmed.mul_f64(random.random_range(0.05..1.0));
        let mut running = kept.world.unlocked("site lost site-5 --json").spawn();
        std::thread::sleep(instant);
        running.kill();
        let killed = running.finish();
        let was_done = killed.try_summary().is_some();
        println!("killed after {instant:?}; done: {was_done}; then {:?}", kept.state("site-5"));
        kept.restores();
        go_on(&kept, was_done, &mut unharmed);
    }
}

fn go_on(kept: &Kept, was_done: bool, unharmed: &mut Duration) {
    let backed_up = kept.world.call("backup --json").arg(&kept.source).run();
    assert!([exit::DONE, exit::DEGRADED].contains(&backed_up.code()), "{}", backed_up.stderr);
    if kept.state("site-5").is_some() {
        let started = Instant::now();
        kept.site("lost site-5").expect(exit::DONE);
        *unharmed = started.elapsed();
    } else {
        assert!(was_done || !kept.config().contains("site-5"));
    }
    assert_eq!(kept.state("site-5"), None);
    assert_eq!(kept.recorded_w(), 2);
    kept.world.call("verify --json").run().expect(exit::DONE);
    kept.world.destroy(1);
    kept.world.destroy(2);
    kept.restores();
    expect_small(&kept.world.vault());
}

/// What `docs/design/host-files.md` names.
const OF_A_VAULT: [&str; 9] = [
    "config.toml",
    "secrets",
    "ledger.redb",
    "ledger.summary",
    "index",
    "cache",
    "sessions",
    "publish.lock",
    "recovery-sheet.txt",
];

/// No file of a killed run lies in the vault's folder but what the page names.
fn expect_small(vault: &Path) {
    let strange: Vec<_> = fs::read_dir(vault)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .filter(|name| !OF_A_VAULT.contains(&name.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}
