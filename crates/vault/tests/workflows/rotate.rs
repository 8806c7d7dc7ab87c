//! Rotations of keys, whole and cut off anywhere: what the old keys open then, and that somebody always opens everything.
//!
//! `BLOCKHOUSE_CUTS` says at how many instants (6 unless told), `BLOCKHOUSE_SEED` at which.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::{AgeIdentity, Identity, PaperKey, Role};
use blockhouse_sites::SiteName;
use blockhouse_vault::backup::back_up;
use blockhouse_vault::folder::{Config, SiteUse, VaultFolder};
use blockhouse_vault::init::{InitRequest, init};
use blockhouse_vault::keys::{self, KeysError};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::reader;
use blockhouse_vault::recover::{RecoverRequest, recover};
use blockhouse_vault::repair::{RepairRequest, repair};
use blockhouse_vault::rotate::{NewKeys, RotateError, RotateReport, rotate};
use blockhouse_vault::unlock::{Unlocked, open_bag};
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::cut::{cut, instants};
use crate::support::requests::{site_at, to_back_up, to_init};

const SITES: [&str; 3] = ["s1", "s2", "s3"];

struct World {
    base: tempfile::TempDir,
}

fn fresh(world: &Vault) -> NewKeys {
    NewKeys { identity: Some(NewKeys::make_identity(world.id())), paper: Some(NewKeys::make_paper()) }
}

fn as_owner(identity: &Identity) -> Unlocked {
    Unlocked::Owner(Box::new(identity.clone()))
}

fn as_paper(paper: &PaperKey) -> Unlocked {
    Unlocked::Paper(Box::new(paper.clone()))
}

impl World {
    async fn new() -> Self {
        Self::over(&SITES).await
    }

    async fn over(sites: &[&str]) -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        let world = Self { base };
        let sites = sites.iter().map(|name| world.path(name)).collect::<Vec<_>>();
        let request = InitRequest { paper_out: Some(world.path("paper")), ..to_init(world.base.path(), sites) };
        init(request, Settings::default()).await.unwrap();
        for _ in 0..2 {
            world.back_up().await;
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    async fn open(&self) -> Vault {
        Vault::open(VaultFolder::new(self.path("vault")), Settings::default()).await.unwrap()
    }

    fn old(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    fn old_paper(&self) -> Unlocked {
        Unlocked::paper(self.path("paper")).unwrap()
    }

    async fn back_up(&self) {
        fs::write(self.path("data/file"), rand::random::<u64>().to_string()).unwrap();
        back_up(&self.open().await, &to_back_up(self.path("data")), &Arc::new(Progress::new())).await.unwrap();
    }

    async fn rotate(&self, keys: &NewKeys) -> Result<RotateReport, RotateError> {
        rotate(&self.open().await, &self.old(), keys, &Progress::new()).await
    }

    /// How many snapshots this key opens, and whether it opens the bag in force.
    async fn opens(&self, unlocked: &Unlocked) -> (usize, bool) {
        let vault = self.open().await;
        let mut opened = 0;
        for record in vault.ledger().snapshots().await.unwrap() {
            opened += usize::from(reader::open(&vault, unlocked, record).await.is_ok());
        }
        let named = vault.ledger().bag().await.unwrap();
        (opened, open_bag(vault.sites(), named, unlocked).await.is_ok())
    }

    /// The files in a folder of a site, by name.
    fn objects(&self, site: &str, folder: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut waiting = vec![self.path(site).join(folder)];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path());
                } else {
                    names.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        names.sort();
        names
    }

    /// Nothing is left to mend, and the sites hold one bag and one version of each snapshot's wraps.
    async fn is_clean(&self, snapshots: usize) {
        let dry = RepairRequest { dry_run: true, read_data: true };
        let found = repair(&self.open().await, &dry, &Progress::new()).await.unwrap();
        assert!(found.plain.is_clean() && found.is_whole(), "{found:?}");
        for site in SITES {
            assert_eq!(self.objects(site, "bags").len(), 1, "{site}");
            assert_eq!(self.objects(site, "wraps").len(), snapshots, "{site}: {:?}", self.objects(site, "wraps"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_the_old_identity_opens_and_rules_nothing() {
    let world = World::new().await;
    let keys = fresh(&world.open().await);
    let report = world.rotate(&keys).await.unwrap();
    assert_eq!((report.rewrapped, report.unopened.len(), report.left.len()), (2, 0, 0), "{report:?}");
    assert_eq!((report.wraps_removed, report.bags_removed), (6, 3), "{report:?}");
    assert_eq!((report.accounts_removed.len(), report.accounts_left.len()), (2, 1), "{report:?}");
    world.is_clean(2).await;
    for old in [world.old(), world.old_paper()] {
        assert_eq!(world.opens(&old).await, (0, false));
    }
    let (identity, paper) = (keys.identity.as_ref().unwrap(), keys.paper.as_ref().unwrap());
    world.back_up().await;
    for new in [as_owner(identity), as_paper(paper)] {
        assert_eq!(world.opens(&new).await, (3, true));
    }
    let vault = world.open().await;
    assert_eq!(vault.ledger().owner().await.unwrap(), identity.owner().account());
    let old_account = world.old().recovery_account().unwrap();
    let hash = vault.ledger().bag().await.unwrap();
    vault.ledger_as(&old_account).record_bag(hash.0 + 1, hash.1).await.unwrap_err();
    let reader = AgeIdentity::random(&mut rand::rng()).recipient(Role::Reader, "auditor").unwrap();
    let refused = keys::add(&vault, &world.old(), reader.clone()).await.unwrap_err();
    assert!(matches!(refused, KeysError::Change(_)), "{refused:?}");
    keys::add(&vault, &as_owner(identity), reader).await.unwrap();
}

/// R3, and the way to end what a removed reader could open.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_lets_nobody_in_and_locks_a_removed_reader_out_of_what_was() {
    let world = World::new().await;
    let (early, late) = (AgeIdentity::random(&mut rand::rng()), AgeIdentity::random(&mut rand::rng()));
    let as_reader = |age: &AgeIdentity| Unlocked::Reader(Box::new(age.clone()));
    let add = async |age: &AgeIdentity, label: &str| {
        let recipient = age.recipient(Role::Reader, label).unwrap();
        keys::add(&world.open().await, &world.old(), recipient).await.unwrap();
    };
    add(&early, "early").await;
    world.back_up().await;
    add(&late, "late").await;
    let before = world.rotate(&NewKeys::default()).await.unwrap();
    assert_eq!((before.rewrapped, before.current), (0, 3), "nobody was locked out: {before:?}");
    assert_eq!((world.opens(&as_reader(&early)).await.0, world.opens(&as_reader(&late)).await.0), (1, 0));
    keys::remove(&world.open().await, &world.old(), "early").await.unwrap();
    assert_eq!(world.opens(&as_reader(&early)).await.0, 1, "removing is for what follows");
    let after = world.rotate(&NewKeys::default()).await.unwrap();
    assert_eq!((after.rewrapped, after.current), (1, 2), "{after:?}");
    assert_eq!((world.opens(&as_reader(&early)).await.0, world.opens(&as_reader(&late)).await.0), (0, 0));
    assert_eq!(world.opens(&world.old()).await, (3, true));
    world.is_clean(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_killed_anywhere_goes_on_and_no_key_is_lost() {
    let number = |variable: &str, default: usize| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (cuts, seed) = (number("BLOCKHOUSE_CUTS", 6), number("BLOCKHOUSE_SEED", 1));
    let world = World::new().await;
    let keys = fresh(&world.open().await);
    let (done, polls) = cut(world.rotate(&keys), usize::MAX).await;
    done.unwrap().unwrap();
    for instant in instants(polls, cuts, seed as u64) {
        println!("replay with BLOCKHOUSE_CUTS={cuts} BLOCKHOUSE_SEED={seed}: cut after {instant} of {polls} polls");
        let world = World::new().await;
        let keys = fresh(&world.open().await);
        let (done, _) = cut(world.rotate(&keys), instant).await;
        let new = as_owner(keys.identity.as_ref().unwrap());
        let (of_old, of_new) = (world.opens(&world.old()).await, world.opens(&new).await);
        println!("done: {}, the old opens {of_old:?}, the new {of_new:?}", done.is_some());
        assert!(of_old == (2, true) || of_new == (2, true), "R1: one of the two opens everything");
        world.rotate(&keys).await.unwrap();
        assert_eq!(world.opens(&new).await, (2, true));
        assert_eq!(world.opens(&world.old()).await, (0, false));
        world.is_clean(2).await;
        world.back_up().await;
        assert_eq!(world.opens(&new).await, (3, true));
    }
}

/// A site that was down keeps what it has, is named, and gives it up when it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_site_keeps_is_told_and_neither_spread_nor_forgotten() {
    let world = World::new().await;
    let keys = fresh(&world.open().await);
    fs::rename(world.path("s3"), world.path("away")).unwrap();
    let report = world.rotate(&keys).await.unwrap();
    assert_eq!(report.left.keys().map(SiteName::as_str).collect::<Vec<_>>(), ["s3"]);
    fs::rename(world.path("away"), world.path("s3")).unwrap();
    assert_eq!(world.opens(&world.old()).await.0, 2, "the wraps that are left open still");
    // Repair brings the new ones to it, and the old ones to nobody.
    repair(&world.open().await, &RepairRequest::default(), &Progress::new()).await.unwrap();
    assert_eq!((world.objects("s1", "wraps").len(), world.objects("s3", "wraps").len()), (2, 4));
    let again = world.rotate(&keys).await.unwrap();
    assert!(again.left.is_empty() && again.wraps_removed == 2, "{again:?}");
    assert_eq!(world.opens(&world.old()).await, (0, false));
    world.is_clean(2).await;
}

/// Old wraps come back with sites that were down, while most of those with the new ones are down: nobody is given the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn old_wraps_that_come_back_are_spread_to_nobody() {
    let world = World::over(&["s1", "s2", "s3", "s4", "s5"]).await;
    let away = |site: &str| fs::rename(world.path(site), world.path(&format!("away-{site}"))).unwrap();
    let back = |site: &str| fs::rename(world.path(&format!("away-{site}")), world.path(site)).unwrap();
    let keys = fresh(&world.open().await);
    away("s4");
    away("s5");
    world.rotate(&keys).await.unwrap();
    let (new, old) = (world.objects("s1", "wraps"), vec!["00000000".to_owned(); 2]);
    assert_eq!(new, ["00000001", "00000001"]);
    away("s2");
    away("s3");
    back("s4");
    back("s5");
    let repaired = repair(&world.open().await, &RepairRequest::default(), &Progress::new()).await.unwrap();
    assert_eq!(world.objects("s1", "wraps"), new, "no old ones beside the new ones");
    assert_eq!((world.objects("s4", "wraps"), world.objects("s5", "wraps")), (old.clone(), old));
    let disputed =
        repaired.plain.failed.iter().filter(|error| error.to_string().contains("no greater part of them agrees"));
    assert_eq!(disputed.count(), 2 * 2, "that it is not known is said: {:?}", repaired.plain.failed);
    back("s2");
    back("s3");
    repair(&world.open().await, &RepairRequest::default(), &Progress::new()).await.unwrap();
    let again = world.rotate(&keys).await.unwrap();
    assert!(again.left.is_empty(), "{again:?}");
    assert_eq!(world.objects("s4", "wraps"), new);
    assert_eq!(world.opens(&world.old()).await, (0, false));
}

/// A site that is not asked any more is named: it keeps what it had.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_leaving_is_named_with_what_it_keeps() {
    let world = World::over(&["s1", "s2", "s3", "s4"]).await;
    let keys = fresh(&world.open().await);
    Config::update(&VaultFolder::new(world.path("vault")), |config| config.sites[3].state = Some(SiteUse::Leaving))
        .unwrap();
    let report = world.rotate(&keys).await.unwrap();
    assert_eq!(report.left.keys().map(SiteName::as_str).collect::<Vec<_>>(), ["s4"]);
    assert!(report.left.values().all(|left| left.wraps.is_none() && left.why.contains("leaving")), "{report:?}");
}

/// The vault comes back with the new keys and not with the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_recovered_with_the_new_keys_alone() {
    let world = World::new().await;
    let keys = fresh(&world.open().await);
    world.rotate(&keys).await.unwrap();
    let request = |folder: &str| RecoverRequest {
        folder: VaultFolder::new(world.path(folder)),
        sites: vec![site_at(&world.path("s2"))],
        fingerprint: None,
        expect: None,
        prefer_expected: false,
        chain: None,
        read_only: false,
        network: Vec::new(),
        host_stolen: false,
    };
    for old in [world.old(), world.old_paper()] {
        recover(request("old"), &old, Settings::default()).await.unwrap_err();
    }
    let paper = as_paper(keys.paper.as_ref().unwrap());
    assert_eq!(recover(request("by-paper"), &paper, Settings::default()).await.unwrap().snapshots, 2);
    let identity = as_owner(keys.identity.as_ref().unwrap());
    assert_eq!(recover(request("by-identity"), &identity, Settings::default()).await.unwrap().snapshots, 2);
}
