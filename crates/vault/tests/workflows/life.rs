//! The life of a vault, workflow by workflow, on real sites and a real ledger.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sites::{SiteName, SiteSpec};
use blockhouse_vault::backup::{BackupReport, BackupRequest, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::{InitReport, init};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::recording::Recording;
use blockhouse_vault::recover::{RecoverRequest, recover};
use blockhouse_vault::repair::{RepairReport, RepairRequest, recreate_sites, repair};
use blockhouse_vault::restore::{RestoreRequest, restore};
use blockhouse_vault::select::{Narrow, SnapshotRef, all, one};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use blockhouse_vault::verify::{VerifyReport, VerifyRequest, verify};

use crate::support::requests::{site_at, to_back_up, to_init};

struct World {
    base: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        Self { base }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn folder(&self) -> VaultFolder {
        VaultFolder::new(self.path("vault"))
    }

    fn sites(&self) -> impl Iterator<Item = PathBuf> {
        (1..=6).map(|n| self.path(&format!("s{n}")))
    }

    fn specs(&self) -> Vec<SiteSpec> {
        self.sites().map(|path| site_at(&path)).collect()
    }

    async fn init(&self) -> InitReport {
        init(to_init(self.base.path(), self.sites()), Settings::default()).await.unwrap()
    }

    async fn open(&self) -> Vault {
        Vault::open(self.folder(), Settings::default()).await.unwrap()
    }

    fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    fn request(&self) -> BackupRequest {
        BackupRequest { tags: vec!["k=v".to_owned()], ..to_back_up(self.path("data")) }
    }

    async fn back_up(&self) -> BackupReport {
        back_up(&self.open().await, &self.request(), &Arc::new(Progress::new())).await.unwrap()
    }

    async fn restore(&self, to: &str) {
        let vault = self.open().await;
        let known = one(&vault, &SnapshotRef::Latest(None), &Narrow::default()).await.unwrap();
        let request = RestoreRequest::new(self.path(to));
        let report = restore(&vault, &self.unlocked(), known, &request, &Arc::new(Progress::new())).await.unwrap();
        assert_eq!(report.flaws, vec![]);
        let same = std::process::Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([self.path("data"), self.path(to)])
            .output()
            .unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    }

    async fn verify(&self, vault: &Vault, data_basis_points: Option<u16>) -> VerifyReport {
        let snapshots = all(vault, &Narrow::default()).await.unwrap();
        let unlocked = data_basis_points.map(|_| self.unlocked());
        let request = VerifyRequest { data_basis_points };
        verify(vault, snapshots, unlocked.as_ref(), request, &Arc::new(Progress::new())).await.unwrap()
    }

    async fn repair(&self, dry_run: bool) -> RepairReport {
        let request = RepairRequest { dry_run, read_data: false };
        repair(&self.open().await, &request, &Progress::new()).await.unwrap()
    }

    /// Every file at every site, with its bytes.
    fn at_sites(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut open: Vec<PathBuf> = (1..=6).map(|n| self.path(&format!("s{n}"))).collect();
        let mut found = BTreeMap::new();
        while let Some(next) = open.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
        found
    }

    fn fill(&self) {
        let data = self.path("data");
        fs::create_dir_all(data.join("deep/er")).unwrap();
        for n in 0..300_u32 {
            fs::write(data.join(format!("deep/f{n}")), format!("small file {n}\n").repeat(40)).unwrap();
        }
        let mut big = vec![0; 12 << 20];
        blockhouse_crypto::hash::keyed_stream(&blockhouse_crypto::Secret::new([1; 32]), b"big", &mut big);
        fs::write(data.join("deep/er/big"), big).unwrap();
        fs::write(data.join("empty"), b"").unwrap();
        std::os::unix::fs::symlink("deep/f1", data.join("link")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_backed_up_comes_back_and_is_stored_once() {
    let world = World::new();
    world.init().await;
    world.fill();
    let first = world.back_up().await;
    assert_eq!(first.findings.files, 302);
    assert!(!first.is_degraded());
    world.restore("first").await;
    let second = world.back_up().await;
    assert_eq!(second.new_bytes, 0, "{second:?}");
    fs::write(world.path("data/deep/f7"), b"changed").unwrap();
    let third = world.back_up().await;
    assert!(third.new_bytes < 400_000, "{third:?}");
    world.restore("third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_sites_are_survived_and_repaired() {
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    for lost in ["s2", "s5"] {
        fs::remove_dir_all(world.path(lost)).unwrap();
    }
    world.restore("degraded").await;
    for lost in ["s2", "s5"] {
        fs::create_dir(world.path(lost)).unwrap();
    }
    let vault = world.open().await;
    let made = recreate_sites(&vault, &[]).await;
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|(_, result): &(SiteName, _)| result.is_ok()));
    let vault = world.open().await;
    let report = repair(&vault, &RepairRequest { dry_run: false, read_data: true }, &Progress::new()).await.unwrap();
    assert!(report.is_whole());
    assert_eq!(report.durability.unwrap().w, 2);
    let vault = world.open().await;
    let known = one(&vault, &SnapshotRef::Latest(None), &Narrow::default()).await.unwrap();
    let request = VerifyRequest { data_basis_points: Some(10_000) };
    let progress = Arc::new(Progress::new());
    let verified = verify(&vault, vec![known], Some(&world.unlocked()), request, &progress).await.unwrap();
    assert!(verified.is_clean(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_lives_on_after_its_host_and_two_sites_are_gone() {
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    fs::rename(world.path("vault"), world.path("old-vault")).unwrap();
    for lost in ["s1", "s4"] {
        fs::remove_dir_all(world.path(lost)).unwrap();
    }
    let spec = world.specs()[1].clone();
    let request = RecoverRequest {
        folder: world.folder(),
        sites: vec![spec],
        fingerprint: None,
        expect: None,
        prefer_expected: false,
        chain: None,
        read_only: false,
        network: Vec::new(),
        host_stolen: false,
    };
    let report = recover(request, &world.unlocked(), Settings::default()).await.unwrap();
    assert_ne!(report.before, report.after);
    assert_eq!(report.snapshots, 1);
    world.restore("recovered").await;
    let again = world.back_up().await;
    assert_eq!(again.new_bytes, 0, "{again:?}");
    world.restore("again").await;
    // The old host comes back: its ledger was handed over.
    let old = Vault::open(VaultFolder::new(world.path("old-vault")), Settings::default()).await.unwrap();
    let refused = back_up(&old, &world.request(), &Arc::new(Progress::new())).await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("HandedOver"), "{refused}");
    // It may not record what it finds; it tells it all the same.
    let found = world.verify(&old, None).await;
    assert!(found.snapshots > 0 && found.stripes > 0 && found.is_clean(), "{found:?}");
    assert!(matches!(found.recording, Recording::Failed(_)), "{found:?}");
}

/// `verify` and `repair` told nothing of what they found when the ledger could not be sealed: when it is needed most.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_told_though_too_few_sites_are_up_to_record_it() {
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    for away in [3, 4, 5, 6] {
        fs::rename(world.path(&format!("s{away}")), world.path(&format!("away-{away}"))).unwrap();
    }
    let found = world.verify(&world.open().await, None).await;
    assert!(matches!(found.recording, Recording::Failed(_)), "{found:?}");
    assert_eq!(found.missing.len(), 4, "{found:?}");
    assert_eq!((found.unreadable.len() as u64, found.broken.len()), (found.stripes, 1), "{found:?}");
    assert_eq!(found.durability.unwrap().w, 0);
    let mended = world.repair(false).await;
    assert!(matches!(mended.recording, Recording::Failed(_)), "{mended:?}");
    assert!(mended.stripes > 0 && mended.lost.len() as u64 == mended.stripes && !mended.is_whole(), "{mended:?}");
    assert_eq!(mended.durability.unwrap().w, 0, "what is lost survives nothing");
}

/// A folder that only reads the vault may look: `verify` leaves every site as it is. `repair` mends, for that needs no key, and
/// writes nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_secrets_writes_nothing_but_what_was_lost() {
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    let block_before = world.open().await.standing().await.unwrap().height;
    assert!(matches!(world.verify(&world.open().await, None).await.recording, Recording::Done));
    // The newest block is at no site: a host would copy it there, a folder that only reads does not.
    let height = world.open().await.standing().await.unwrap().height;
    assert!(height > block_before);
    for path in world.at_sites().into_keys() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.parent().unwrap().ends_with("blocks/0") && name.starts_with(&format!("{height}-")) {
            fs::remove_file(path).unwrap();
        }
    }
    fs::rename(world.path("vault/secrets"), world.path("secrets")).unwrap();
    let held = world.at_sites();
    let vault = world.open().await;
    let found = world.verify(&vault, Some(10_000)).await;
    assert!(found.is_clean() && matches!(found.recording, Recording::NoWriter), "{found:?}");
    assert!(world.at_sites() == held, "verify changed something at the sites");

    let lost = held.keys().find(|path| path.starts_with(world.path("s2/shards"))).unwrap();
    fs::remove_file(lost).unwrap();
    let mended = world.repair(false).await;
    assert!(mended.is_whole() && matches!(mended.recording, Recording::NoWriter), "{mended:?}");
    assert!(world.at_sites() == held, "what was lost is there again, and nothing else");
    assert_eq!(world.open().await.standing().await.unwrap().height, height, "nothing was recorded");

    fs::rename(world.path("secrets"), world.path("vault/secrets")).unwrap();
    assert!(matches!(world.verify(&world.open().await, None).await.recording, Recording::Done));
    let is_back = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{height}-"));
    assert_eq!(world.at_sites().keys().filter(is_back).count(), 6, "the host copies it");
}

/// `--read-data=1` with the identity opened every file of every snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_files_is_opened() {
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    let vault = world.open().await;
    let opened = async |share| {
        let report = world.verify(&vault, share).await;
        assert!(report.is_clean(), "{report:?}");
        report.files.map(|files| (files.opened, files.of))
    };
    assert_eq!(opened(Some(100)).await, Some((4, 302)), "one in a hundred, rounded up");
    assert_eq!(opened(Some(10_000)).await, Some((302, 302)));
    assert_eq!(opened(None).await, None);
}

/// A reader has no index key: the map that came with the snapshot shows it where its chunks lie.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_restores_by_its_map() {
    use blockhouse_crypto::{AgeIdentity, Role};
    let world = World::new();
    world.init().await;
    world.fill();
    world.back_up().await;
    let reader = AgeIdentity::random(&mut rand::rng());
    let vault = world.open().await;
    let recipient = reader.recipient(Role::Reader, "auditor").unwrap();
    blockhouse_vault::keys::add(&vault, &world.unlocked(), recipient).await.unwrap();
    let report = world.back_up().await;
    fs::write(world.path("identity"), format!("# a reader\n{}\n", *reader.to_text())).unwrap();
    assert!(matches!(world.unlocked(), Unlocked::Reader(_)));
    // On a host of its own: no secrets, no index.
    fs::remove_file(world.path("vault/secrets")).unwrap();
    fs::remove_dir_all(world.path("vault/index")).unwrap();
    world.restore("read").await;
    let vault = world.open().await;
    let earlier = vault.ledger().snapshots().await.unwrap().remove(0);
    assert_ne!(earlier.id, report.snapshot);
    let refused = blockhouse_vault::reader::open(&vault, &world.unlocked(), earlier).await.unwrap_err();
    assert!(refused.to_string().contains("is not wrapped for"), "{refused}");
}

/// What was seen: files that a run of one domain had cached were named in a snapshot of another, where nobody can open them.
#[tokio::test(flavor = "multi_thread")]
async fn another_domain_of_dedup_makes_snapshots_that_are_whole() {
    let world = World::new();
    world.fill();
    world.init().await;
    // So that the files are settled, and known as unchanged next time.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    world.back_up().await;
    for dedup in [DomainKind::Source, DomainKind::Writer, DomainKind::Vault] {
        let request = BackupRequest { dedup, ..world.request() };
        let report = back_up(&world.open().await, &request, &Arc::new(Progress::new())).await.unwrap();
        assert!(report.new_bytes > 0 || dedup == DomainKind::Writer, "{dedup:?} shares no chunk with another");
        world.restore(&format!("out-{dedup:?}")).await;
    }
}
