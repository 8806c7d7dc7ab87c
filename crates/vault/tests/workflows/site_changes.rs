//! Changes of the sites that were cut off anywhere: real sites, a real ledger, and the same change again.
//!
//! `BLOCKHOUSE_CUTS` says at how many instants each change is cut (4 unless told), `BLOCKHOUSE_SEED` at which.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::SiteName;
use blockhouse_vault::backup::{BackupError, BackupReport, back_up};
use blockhouse_vault::folder::{Config, SiteEntry, SiteUse, VaultFolder};
use blockhouse_vault::init::{InitRequest, init};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::reader;
use blockhouse_vault::repair::{RepairRequest, repair};
use blockhouse_vault::site::{self, SiteChangeError};
use blockhouse_vault::unlock::{Unlocked, open_bag};
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::cut::{cut, instants};
use crate::support::requests::{site_at, to_back_up, to_init};

struct World {
    base: tempfile::TempDir,
}

fn name(number: u8) -> SiteName {
    format!("s{number}").parse().unwrap()
}

fn number_from(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

impl World {
    /// Sites `s1` and so on with this code, and one snapshot.
    async fn new(sites: u8, code: &str) -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        let world = Self { base };
        let folders = (1..=sites).map(|number| world.path(&format!("s{number}")));
        let request = InitRequest { code: Some(code.parse().unwrap()), ..to_init(world.base.path(), folders) };
        init(request, Settings::default()).await.unwrap();
        world.back_up().await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn folder(&self) -> VaultFolder {
        VaultFolder::new(self.path("vault"))
    }

    async fn open(&self) -> Vault {
        Vault::open(self.folder(), Settings::default()).await.unwrap()
    }

    async fn open_without(&self, number: u8) -> Vault {
        Vault::open_without(self.folder(), Settings::default(), &[name(number)]).await.unwrap()
    }

    fn owner(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    async fn back_up(&self) -> Result<BackupReport, BackupError> {
        fs::write(self.path("data/file"), rand::random::<[u8; 32]>().repeat(20_000)).unwrap();
        back_up(&self.open().await, &to_back_up(self.path("data")), &Arc::new(Progress::new())).await
    }

    async fn bag(&self) -> KeyBag {
        let vault = self.open().await;
        open_bag(vault.sites(), vault.ledger().bag().await.unwrap(), &self.owner()).await.unwrap()
    }

    fn config(&self) -> Config {
        Config::load(&self.folder()).unwrap()
    }

    /// Every snapshot opens and its tree is read.
    async fn restores(&self) {
        let vault = self.open().await;
        for record in vault.ledger().snapshots().await.unwrap() {
            let mut opened = reader::open(&vault, &self.owner(), record).await.unwrap();
            let root = opened.manifest.root.clone();
            let read = move || reader::list(&mut opened.chunks, b"", &root).unwrap().len();
            assert!(tokio::task::spawn_blocking(read).await.unwrap() > 0);
        }
    }

    /// Host, key bag, sheet and sites say the same, nothing is under way, nothing is left to mend, and w is as planned.
    async fn is_settled(&self, expected: &[u8]) {
        let expected: Vec<String> = expected.iter().map(|number| format!("s{number}")).collect();
        let config = self.config();
        let mut named: Vec<String> = config.sites.iter().map(|entry| entry.spec.name.to_string()).collect();
        named.sort();
        assert_eq!(named, expected);
        assert!(config.sites.iter().all(|entry| entry.state.is_none()), "{:?}", config.sites);
        let mut of_bag: Vec<String> = self.bag().await.sites.into_iter().map(|site| site.name).collect();
        of_bag.sort();
        assert_eq!(of_bag, expected);
        let sheet = fs::read_to_string(self.path("vault/recovery-sheet.txt")).unwrap();
        assert!(expected.iter().all(|name| sheet.contains(&format!("  {name}  file:"))), "{sheet}");
        assert_eq!(sheet.matches("  file:").count(), expected.len(), "{sheet}");
        let vault = self.open().await;
        let height = usize::try_from(vault.standing().await.unwrap().height).unwrap();
        for name in &expected {
            assert_eq!(fs::read_dir(self.path(&format!("{name}/blocks/0"))).unwrap().count(), height + 1, "{name}");
        }
        let dry = RepairRequest { dry_run: true, read_data: true };
        let found = repair(&vault, &dry, &Progress::new()).await.unwrap();
        assert_eq!((found.written, found.removed, found.plain.written), (0, 0, 0), "{found:?}");
        let recorded = vault.ledger().snapshots().await.unwrap();
        assert!(recorded.iter().all(|record| record.durability.w == vault.plan().w), "{recorded:?}");
    }

    async fn add(&self) -> Result<(), SiteChangeError> {
        site::add(&self.open().await, &self.owner(), site_at(&self.path("s9")), &Progress::new()).await.map(drop)
    }

    async fn lost(&self) -> Result<(), SiteChangeError> {
        site::lost(&self.open_without(2).await, &self.owner(), &[name(2)], &Progress::new()).await.map(drop)
    }

    async fn drain(&self) -> Result<(), SiteChangeError> {
        let mut vault = self.open().await;
        let report = site::drain(&mut vault, &self.owner(), &name(2), &Progress::new()).await?;
        assert!(report.shortfall.is_none(), "{report:?}");
        Ok(())
    }

    async fn remove(&self) -> Result<(), SiteChangeError> {
        site::remove(&self.open_without(2).await, &self.owner(), &name(2), &Progress::new()).await.map(drop)
    }
}

/// Cuts a change at several instants, each time in a new vault: snapshots restore, backups go on, and the change again comes to the end.
async fn cut_everywhere(
    prepare: impl AsyncFn(&World),
    change: impl AsyncFn(&World) -> Result<(), SiteChangeError>,
    expect: impl AsyncFn(&World),
) {
    let (cuts, seed) = (number_from("BLOCKHOUSE_CUTS", 4), number_from("BLOCKHOUSE_SEED", 1));
    let world = World::new(5, "2+1").await;
    prepare(&world).await;
    let (done, polls) = cut(change(&world), usize::MAX).await;
    done.unwrap().unwrap();
    expect(&world).await;
    for instant in instants(polls, cuts, seed as u64) {
        println!("replay with BLOCKHOUSE_CUTS={cuts} BLOCKHOUSE_SEED={seed}: cut after {instant} of {polls} polls");
        let world = World::new(5, "2+1").await;
        prepare(&world).await;
        let (done, _) = cut(change(&world), instant).await;
        println!(
            "done: {}, then {:?}",
            done.is_some(),
            world.config().sites.iter().map(|it| it.state).collect::<Vec<_>>()
        );
        world.restores().await;
        world.back_up().await.unwrap();
        match change(&world).await {
            // It had come to its end.
            Err(SiteChangeError::NoSuchSite { .. }) => {}
            again => again.unwrap(),
        }
        world.restores().await;
        expect(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_cut_anywhere_goes_on() {
    let gone = async |world: &World| fs::remove_dir_all(world.path("s2")).unwrap();
    cut_everywhere(gone, async |world| world.lost().await, async |world| world.is_settled(&[1, 3, 4, 5]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_was_cut_anywhere_goes_on() {
    cut_everywhere(
        async |_| {},
        async |world| world.add().await,
        async |world| world.is_settled(&[1, 2, 3, 4, 5, 9]).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_cut_anywhere_goes_on() {
    let change = async |world: &World| {
        if world.config().sites.iter().any(|entry| entry.spec.name == name(2) && entry.state != Some(SiteUse::Leaving))
        {
            world.drain().await?;
        }
        world.remove().await
    };
    cut_everywhere(async |_| {}, change, async |world| world.is_settled(&[1, 3, 4, 5]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_drained_is_used_again_when_that_is_taken_back() {
    let world = World::new(5, "2+1").await;
    world.drain().await.unwrap();
    let shards = || fs::read_dir(world.path("s2/shards")).map_or(0, Iterator::count);
    let held = shards();
    for _ in 0..3 {
        world.back_up().await.unwrap();
    }
    assert_eq!(shards(), held);
    site::cancel_drain(&world.open().await, &world.owner(), &name(2)).await.unwrap();
    let again = site::cancel_drain(&world.open().await, &world.owner(), &name(2)).await;
    assert!(matches!(again, Err(SiteChangeError::NotDraining { .. })), "{again:?}");
    world.is_settled(&[1, 2, 3, 4, 5]).await;
}

/// D2 and D3: what would be less safe is refused and leaves the site as it was; what was cut before the bag is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_refused_or_taken_back_leaves_a_site_that_is_used() {
    let world = World::new(6, "4+2").await;
    world.drain().await.unwrap();
    let state = || world.config().sites.iter().find(|entry| entry.spec.name == name(2)).unwrap().state;
    let refused = world.remove().await;
    let Err(SiteChangeError::LessSafe { plans, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((plans.before.w, plans.after.w), (2, 1), "4+2 over five sites survives less");
    assert_eq!((state(), world.bag().await.sites.len()), (Some(SiteUse::Draining), 6));

    let cancel = async || site::cancel_remove(&world.open_without(2).await, &world.owner(), &name(2)).await;
    assert!(matches!(cancel().await, Err(SiteChangeError::NotLeaving { .. })));
    Config::update(&world.folder(), |config| config.sites[1].state = Some(SiteUse::Leaving)).unwrap();
    assert_eq!(world.open().await.sites().members().len(), 5);
    let refused = world.remove().await;
    assert!(matches!(refused, Err(SiteChangeError::LessSafe { .. })), "{refused:?}");
    assert_eq!(
        state(),
        Some(SiteUse::Draining),
        "of a killed removal it is not known what was before: it counts again"
    );
    Config::update(&world.folder(), |config| config.sites[1].state = Some(SiteUse::Leaving)).unwrap();
    cancel().await.unwrap();
    assert_eq!((state(), world.bag().await.sites.len()), (None, 6));
    world.back_up().await.unwrap();
    world.restores().await;
}

/// A site that does not keep its promises has our marker by then: put right, it is gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_promises_were_refused_is_added_once_it_keeps_them() {
    let world = World::new(3, "2+1").await;
    // Another file system inside is what the probe refuses, and what a fresh one has by itself is no content.
    let inside = world.path("s9/lost+found");
    fs::create_dir_all(&inside).unwrap();
    let mount = |words: &[&str]| {
        std::process::Command::new(words[0]).args(&words[1..]).arg(&inside).output().is_ok_and(|it| it.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        eprintln!("NOT RUN: a test that needs to mount a tmpfs");
        return;
    }
    let refused = world.add().await;
    assert!(mount(&["umount", "-l"]));
    assert!(matches!(refused, Err(SiteChangeError::Promises { .. })), "{refused:?}");
    assert_eq!(world.config().sites[3].state, Some(SiteUse::Joining));
    world.add().await.unwrap();
    repair(&world.open().await, &RepairRequest::default(), &Progress::new()).await.unwrap();
    world.is_settled(&[1, 2, 3, 9]).await;
}

/// C6: six sites of 4+2 have W = 2, five have 1. While one is declared lost, a handover by the old list may be at four of six.
#[tokio::test(flavor = "multi_thread")]
async fn while_two_site_lists_are_about_the_greater_plan_is_asked() {
    let world = World::new(6, "4+2").await;
    let set = |state| {
        Config::update(&world.folder(), |config| config.sites[5].state = state).unwrap();
    };
    set(Some(SiteUse::Lost));
    for number in 1..=3 {
        fs::rename(world.path(&format!("s{number}")), world.path(&format!("away{number}"))).unwrap();
    }
    let refused = world.back_up().await.unwrap_err();
    assert!(format!("{refused:?}").contains("TooFewSites { read: 2, needed: 3 }"), "{refused:?}");
    for number in 1..=3 {
        fs::rename(world.path(&format!("away{number}")), world.path(&format!("s{number}"))).unwrap();
    }
    world.back_up().await.unwrap();
    let without = world.open().await;
    assert_eq!((without.plan().w, without.sites().members().len(), without.apart().len()), (1, 5, 1));
}

/// A site is asked for nothing once it is declared lost: a folder that is no site would be told as down.
#[tokio::test(flavor = "multi_thread")]
async fn of_copies_the_last_one_goes_on_alone() {
    let world = World::new(2, "1+1").await;
    fs::remove_dir_all(world.path("s2")).unwrap();
    world.lost().await.unwrap();
    let vault = world.open().await;
    assert_eq!((vault.plan().w, vault.sites().members().len()), (0, 1));
    assert!(vault.sites().down().next().is_none());
    assert!(vault.ledger().snapshots().await.unwrap().iter().all(|record| record.durability.w == 0));
    world.restores().await;
    world.back_up().await.unwrap();
    world.add().await.unwrap();
    let added = world.open().await;
    repair(&added, &RepairRequest::default(), &Progress::new()).await.unwrap();
    world.is_settled(&[1, 9]).await;
}

/// The other half of D1 in `site/remove.rs`: a backup whose vault was opened before the site was noted, and whose session came after.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_begins_while_a_site_is_taken_out_stops() {
    let world = World::new(4, "2+1").await;
    let vault = world.open().await;
    let recorded = vault.ledger().snapshots().await.unwrap().len();
    let is_fourth = |entry: &&mut SiteEntry| entry.spec.name == name(4);
    Config::update(&world.folder(), |config| {
        config.sites.iter_mut().find(is_fourth).unwrap().state = Some(SiteUse::Leaving);
    })
    .unwrap();
    let begun = back_up(&vault, &to_back_up(world.path("data")), &Arc::new(Progress::new())).await;
    assert!(matches!(&begun, Err(BackupError::SiteTaken { site }) if *site == name(4)), "{begun:?}");
    let vault = world.open().await;
    assert_eq!(vault.ledger().open_sessions().await.unwrap(), 0, "nothing is held up by it");
    assert_eq!(vault.ledger().snapshots().await.unwrap().len(), recorded);
    world.back_up().await.unwrap();
}
