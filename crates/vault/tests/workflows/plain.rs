//! Plain objects at the sites: what verify sees of them, what repair makes of them, and that no promise exceeds their copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_crypto::{AgeIdentity, Role};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_vault::backup::{BackupError, BackupReport, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::init;
use blockhouse_vault::plain::CopyState;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::repair::{RepairReport, RepairRequest, RepairVaultError, recreate_sites, repair};
use blockhouse_vault::select::{Narrow, all};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use blockhouse_vault::verify::{VerifyError, VerifyReport, VerifyRequest, verify};

use crate::support::requests::{to_back_up, to_init};

/// The folders of plain objects that a vault with a reader has.
const FOLDERS: [&str; 6] = ["lists", "snapshots", "wraps", "maps", "bags", "blocks"];
const ALL: Option<u16> = Some(10_000);

/// A vault over six sites, with one snapshot that a reader may read.
struct World {
    base: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let world = Self { base };
        fs::create_dir(world.path("data")).unwrap();
        fs::write(world.path("data/file"), "a file\n".repeat(4000)).unwrap();
        let request = to_init(world.base.path(), (1..=6).map(|n| world.site(n)));
        init(request, Settings::default()).await.unwrap();
        let owner = Unlocked::identity(world.path("identity"), None, None).unwrap();
        let reader = AgeIdentity::random(&mut rand::rng()).recipient(Role::Reader, "auditor").unwrap();
        blockhouse_vault::keys::add(&world.open().await, &owner, reader).await.unwrap();
        world.back_up(false).await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn folder(&self) -> VaultFolder {
        VaultFolder::new(self.path("vault"))
    }

    /// Sites are numbered from 1.
    fn site(&self, number: usize) -> PathBuf {
        self.path(&format!("s{number}"))
    }

    async fn open(&self) -> Vault {
        Vault::open(self.folder(), Settings::default()).await.unwrap()
    }

    async fn back_up(&self, accept_risk: bool) -> Result<BackupReport, BackupError> {
        let settings = Settings { accept_risk, ..Settings::default() };
        let vault = Vault::open(self.folder(), settings).await.unwrap();
        let request = to_back_up(self.path("data"));
        back_up(&vault, &request, &Arc::new(Progress::new())).await
    }

    async fn verify(&self, data_basis_points: Option<u16>) -> VerifyReport {
        let vault = self.open().await;
        let snapshots = all(&vault, &Narrow::default()).await.unwrap();
        let request = VerifyRequest { data_basis_points };
        verify(&vault, snapshots, None, request, &Arc::new(Progress::new())).await.unwrap()
    }

    async fn repair(&self, read_data: bool) -> RepairReport {
        let request = RepairRequest { dry_run: false, read_data };
        repair(&self.open().await, &request, &Progress::new()).await.unwrap()
    }

    /// What the ledger says that the newest snapshot survives: d, w, wd.
    async fn recorded(&self) -> (u16, u16, u16) {
        let durability = self.open().await.ledger().snapshots().await.unwrap().pop().unwrap().durability;
        (durability.d, durability.w, durability.wd)
    }
}

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path.strip_prefix(folder).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

/// Flips a bit of the last byte, where every kind has bytes that only its own hash tells.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
}

fn counts(of: &std::collections::BTreeMap<blockhouse_sites::SiteName, u64>) -> Vec<(&str, u64)> {
    of.iter().map(|(site, count)| (site.as_str(), *count)).collect()
}

/// The names of all plain objects are at all sites, with the same bytes.
fn expect_same_everywhere(world: &World, folders: &[&str]) {
    for folder in folders {
        let held = files(&world.site(1).join(folder));
        assert!(!held.is_empty(), "{folder}");
        for number in 2..=6 {
            let other = world.site(number).join(folder);
            assert_eq!(files(&other), held, "{folder} at site {number}");
            for file in &held {
                let same =
                    fs::read(other.join(file)).unwrap() == fs::read(world.site(1).join(folder).join(file)).unwrap();
                assert!(same, "{folder}/{} at site {number}", file.display());
            }
        }
    }
}

/// Every kind of plain object, damaged at one site and missing at another: told, and mended, and counted as it was.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_found_missing_and_damaged_and_is_mended() {
    let world = World::new().await;
    assert!(world.verify(ALL).await.is_clean());
    for folder in FOLDERS {
        let object = files(&world.site(3).join(folder)).pop().unwrap();
        // Of bags and blocks the newest is one that the ledger needs: its name is the last, or it is the only one below.
        let object = if folder == "blocks" { PathBuf::from("0").join(block(&world, 3)) } else { object };
        flip(&world.site(3).join(folder).join(&object));
        fs::remove_file(world.site(5).join(folder).join(&object)).unwrap();

        let by_names = world.verify(None).await;
        assert_eq!(
            (counts(&by_names.plain.missing), counts(&by_names.plain.damaged)),
            (vec![("s5", 1)], vec![]),
            "{folder}"
        );
        if folder == "blocks" {
            // Verify itself copies the ledger's blocks to where they are missing.
            fs::remove_file(world.site(5).join(folder).join(&object)).unwrap();
        }
        let verified = world.verify(ALL).await;
        assert_eq!(counts(&verified.plain.missing), [("s5", 1)], "{folder}");
        assert_eq!(counts(&verified.plain.damaged), [("s3", 1)], "{folder}");
        assert!(!verified.is_clean() && verified.is_readable(), "{folder}");
        assert_eq!(verified.plain.flaws.len(), 2);
        let damaged = verified.plain.flaws.iter().find(|flaw| matches!(flaw.state, CopyState::Wrong)).unwrap();
        assert_eq!(damaged.object.path(), format!("{folder}/{}", object.display()));

        if folder == "blocks" {
            fs::remove_file(world.site(5).join(folder).join(&object)).unwrap();
        }
        let planned = RepairRequest { dry_run: true, read_data: true };
        let planned = repair(&world.open().await, &planned, &Progress::new()).await.unwrap();
        assert_eq!((planned.plain.written, planned.plain.removed), (2, 1), "{folder}");
        let repaired = world.repair(true).await;
        assert_eq!((repaired.plain.written, repaired.plain.removed), (2, 1), "{folder}");
        assert!(repaired.is_whole() && repaired.plain.failed.is_empty(), "{folder}");
        expect_same_everywhere(&world, &FOLDERS);
        assert!(world.verify(ALL).await.is_clean(), "{folder}");
    }
}

/// The name of a block below the head.
fn block(world: &World, site: usize) -> PathBuf {
    let blocks = files(&world.site(site).join("blocks/0"));
    blocks.into_iter().find(|name| name.to_str().unwrap().starts_with("2-")).unwrap()
}

/// Anyone can write a snapshot object with any id; the ledger's hash says which one is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_snapshot_object_with_the_right_id_is_never_spread() {
    let world = World::new().await;
    let name = files(&world.site(1).join("snapshots")).pop().unwrap();
    let right = fs::read(world.site(1).join("snapshots").join(&name)).unwrap();
    let mut wrong = SnapshotObject::from_bytes(&right).unwrap();
    wrong.session = blockhouse_types::SessionId::new([9; 32]);
    let wrong = wrong.to_bytes();
    assert_eq!(wrong.len(), right.len());
    let at = |number| world.site(number).join("snapshots").join(&name);
    // The first site that is asked has the wrong one.
    fs::write(at(1), &wrong).unwrap();
    fs::remove_file(at(4)).unwrap();
    let repaired = world.repair(false).await;
    assert_eq!(counts(&repaired.plain.missing), [("s4", 1)]);
    assert_eq!(fs::read(at(4)).unwrap(), right, "the right one was copied");
    assert_eq!(fs::read(at(1)).unwrap(), wrong, "by its name and length the other is as good");
    let repaired = world.repair(true).await;
    assert_eq!((repaired.plain.written, repaired.plain.removed), (1, 1));
    assert_eq!(fs::read(at(1)).unwrap(), right);
}

/// Two wraps of one length that are both wraps: what most sites hold is right, and without a greater part nothing is touched.
#[tokio::test(flavor = "multi_thread")]
async fn disputed_wraps_are_left_to_whoever_has_a_key() {
    let world = World::new().await;
    let name = files(&world.site(1).join("wraps")).pop().unwrap();
    let at = |number: usize| world.site(number).join("wraps").join(&name);
    for number in [1, 2, 3] {
        flip(&at(number));
    }
    let verified = world.verify(ALL).await;
    assert_eq!(verified.plain.damaged.values().sum::<u64>(), 6);
    assert!(verified.plain.flaws.iter().all(|flaw| matches!(flaw.state, CopyState::Disputed)));
    let held: Vec<_> = (1..=6).map(|number| fs::read(at(number)).unwrap()).collect();
    let repaired = world.repair(true).await;
    assert!(!repaired.is_whole());
    assert_eq!((repaired.plain.written, repaired.plain.removed), (0, 0));
    assert_eq!(held, (1..=6).map(|number| fs::read(at(number)).unwrap()).collect::<Vec<_>>());
    // One vote more, and it is decided.
    flip(&at(1));
    let repaired = world.repair(true).await;
    assert_eq!((repaired.plain.written, repaired.plain.removed), (2, 2));
    assert!(repaired.is_whole() && world.verify(ALL).await.is_clean());
}

/// What nothing on the ledger names is nobody's damage and stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_no_damage() {
    let world = World::new().await;
    let id = "ab".repeat(32);
    let strangers = [
        "lists/readme.txt".to_owned(),
        format!("lists/{id}"),
        format!("snapshots/{id}"),
        format!("wraps/{id}/00000000"),
        format!("maps/{id}/00000000"),
        format!("bags/00000009-{id}"),
        format!("blocks/0/1-{id}"),
        format!("handovers/1-{id}"),
    ];
    for stranger in &strangers {
        let path = world.site(2).join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"somebody's").unwrap();
    }
    let verified = world.verify(ALL).await;
    assert!(verified.is_clean(), "{:?}", verified.plain);
    let repaired = world.repair(true).await;
    assert_eq!((repaired.plain.written, repaired.plain.removed), (0, 0));
    assert!(strangers.iter().all(|stranger| fs::read(world.site(2).join(stranger)).unwrap() == b"somebody's"));
}

/// A site where a copy cannot be put: that is told, and is not counted as copied.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_site_refuses_is_not_counted_as_copied() {
    let world = World::new().await;
    let name = files(&world.site(6).join("snapshots")).pop().unwrap();
    for number in [4, 6] {
        fs::remove_file(world.site(number).join("snapshots").join(&name)).unwrap();
    }
    // Something that is no file has the name.
    fs::create_dir(world.site(6).join("snapshots").join(&name)).unwrap();
    let repaired = world.repair(false).await;
    assert_eq!(counts(&repaired.plain.missing), [("s4", 1), ("s6", 1)]);
    assert_eq!((repaired.plain.written, repaired.plain.failed.len()), (1, 1));
    assert!(!repaired.is_whole());
    let text = repaired.plain.failed[0].to_string();
    assert!(text.contains("s6") && text.contains("snapshots/"), "{text}");
}

/// Lengths that differ are looked into even where nothing is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_copy_is_found_by_its_length() {
    let world = World::new().await;
    for folder in FOLDERS {
        let name = if folder == "blocks" {
            PathBuf::from("0").join(block(&world, 2))
        } else {
            files(&world.site(2).join(folder)).pop().unwrap()
        };
        let path = world.site(2).join(folder).join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let verified = world.verify(None).await;
        assert_eq!(counts(&verified.plain.damaged), [("s2", 1)], "{folder}");
        fs::write(&path, whole).unwrap();
    }
}

/// A share is a share: with a bad copy of everything at one site, half of the objects are read and found bad.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_objects_is_read() {
    let world = World::new().await;
    for folder in FOLDERS {
        for name in files(&world.site(4).join(folder)) {
            flip(&world.site(4).join(folder).join(name));
        }
    }
    let all = world.verify(ALL).await.plain;
    assert_eq!((all.objects_read, all.damaged.values().sum::<u64>()), (all.objects, all.objects));
    let half = world.verify(Some(5_000)).await.plain;
    assert!(half.objects_read >= half.objects / 2 && half.objects_read < half.objects, "{half:?}");
    // All are bad but the block in which the first verification was recorded.
    assert!(half.damaged.values().sum::<u64>() + 1 >= half.objects_read);
    let none = world.verify(None).await;
    assert!(none.plain.objects_read == 0 && none.is_clean());
    let repaired = world.repair(true).await;
    assert!(repaired.is_whole() && world.verify(ALL).await.is_clean());
}

/// A snapshot whose description is at fewer sites than its shards survives no more than the description, and that is what the
/// ledger is told; repair raises both.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_is_no_more_than_the_description_survives() {
    let world = World::new().await;
    assert_eq!(world.recorded().await, (6, 2, 0));
    // A file stands where the folder of snapshot objects should be: these sites take shards and no snapshot object.
    let block = |numbers: &[usize]| {
        for number in numbers {
            fs::rename(world.site(*number).join("snapshots"), world.path(&format!("kept-{number}"))).unwrap();
            fs::write(world.site(*number).join("snapshots"), b"").unwrap();
        }
    };
    let clear = |numbers: &[usize]| {
        for number in numbers {
            fs::remove_file(world.site(*number).join("snapshots")).unwrap();
            fs::rename(world.path(&format!("kept-{number}")), world.site(*number).join("snapshots")).unwrap();
        }
    };
    block(&[1, 2, 3, 4, 5]);
    let before = world.open().await.ledger().snapshots().await.unwrap().len();
    let refused = world.back_up(false).await.unwrap_err();
    assert!(matches!(refused, BackupError::AtRisk { durability, planned: 2, .. } if durability.w == 0), "{refused:?}");
    assert_eq!(world.open().await.ledger().snapshots().await.unwrap().len(), before, "nothing was committed");
    let report = world.back_up(true).await.unwrap();
    assert_eq!((report.durability.d, report.durability.w), (6, 0));
    assert!(report.is_degraded());
    assert_eq!(world.recorded().await, (6, 0, 0));

    clear(&[1, 2, 3]);
    let repaired = world.repair(false).await;
    // Four sites have it now, so three may go; the shards bear the loss of two.
    assert_eq!(counts(&repaired.plain.missing).iter().map(|(_, count)| count).sum::<u64>(), 3 + 4);
    assert_eq!(world.recorded().await, (6, 2, 0));
    clear(&[4, 5]);
    assert!(world.repair(false).await.is_whole());
    assert!(world.verify(ALL).await.is_clean());
}

/// What repair records counts the copies of the description, wherever they went.
#[tokio::test(flavor = "multi_thread")]
async fn health_counts_where_the_description_is() {
    let world = World::new().await;
    for number in [1, 2, 3, 4, 5] {
        fs::remove_dir_all(world.site(number).join("wraps")).unwrap();
        fs::write(world.site(number).join("wraps"), b"in the way").unwrap();
    }
    // The shards bear the loss of two sites; that of the one with the wraps ends everything.
    let weakest = |durability: Option<blockhouse_types::Durability>| durability.map(|it| (it.d, it.w, it.wd));
    assert_eq!(weakest(world.verify(None).await.durability), Some((6, 0, 0)));
    let repaired = world.repair(false).await;
    assert_eq!(weakest(repaired.durability), Some((6, 0, 0)), "they cannot be written");
    assert_eq!(world.recorded().await, (6, 0, 0), "one site has the wraps");
    for number in [1, 2, 3, 4, 5] {
        fs::remove_file(world.site(number).join("wraps")).unwrap();
    }
    let request = RepairRequest { dry_run: true, read_data: false };
    let planned = repair(&world.open().await, &request, &Progress::new()).await.unwrap();
    assert_eq!(weakest(planned.durability), Some((6, 2, 0)), "what they would survive then");
    assert_eq!(world.recorded().await, (6, 0, 0), "nothing was done");
    assert!(world.repair(false).await.is_whole());
    assert_eq!(world.recorded().await, (6, 2, 0));
    assert_eq!(weakest(world.verify(None).await.durability), Some((6, 2, 0)));
}

/// A site that came back empty gets everything that the ledger names.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_made_again_gets_every_plain_object() {
    let world = World::new().await;
    world.back_up(false).await.unwrap();
    fs::remove_dir_all(world.site(2)).unwrap();
    fs::create_dir(world.site(2)).unwrap();
    assert_eq!(recreate_sites(&world.open().await, &[]).await.len(), 1);
    let verified = world.verify(None).await;
    assert!(verified.plain.missing.len() == 1 && !verified.is_clean() && verified.is_readable());
    let repaired = world.repair(false).await;
    assert!(repaired.is_whole());
    assert!(world.verify(ALL).await.is_clean());
    // The bag before the one in force is history: nothing needs it.
    expect_same_everywhere(&world, &["lists", "snapshots", "wraps", "maps", "blocks"]);
}

/// Who wants to stop is heard, and what a stopped verification saw is not recorded.
#[tokio::test(flavor = "multi_thread")]
async fn verify_and_repair_stop_when_asked() {
    let world = World::new().await;
    let vault = world.open().await;
    let progress = Arc::new(Progress::new());
    progress.interrupt();
    let snapshots = all(&vault, &Narrow::default()).await.unwrap();
    let before = vault.standing().await.unwrap().height;
    let stopped = verify(&vault, snapshots, None, VerifyRequest { data_basis_points: ALL }, &progress).await;
    assert!(matches!(stopped, Err(VerifyError::Interrupted)));
    let request = RepairRequest { dry_run: false, read_data: true };
    assert!(matches!(repair(&vault, &request, &progress).await, Err(RepairVaultError::Interrupted)));
    assert_eq!(vault.standing().await.unwrap().height, before);
}

/// The steps that are announced are those that are done.
#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_where_it_said() {
    let world = World::new().await;
    let vault = world.open().await;
    let progress = Arc::new(Progress::new());
    let snapshots = all(&vault, &Narrow::default()).await.unwrap();
    let owner = Unlocked::identity(world.path("identity"), None, None).unwrap();
    let request = VerifyRequest { data_basis_points: ALL };
    let report = verify(&vault, snapshots, Some(&owner), request, &progress).await.unwrap();
    assert!(report.is_clean());
    assert!(progress.steps() > report.stripes + report.plain.objects, "entries count too");
    assert_eq!(progress.steps(), progress.steps_in_all());
}
