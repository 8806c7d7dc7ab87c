//! The life of a vault, workflow by workflow, on real sites and a real ledger.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sites::{SiteName, SiteSpec};
use blockhouse_sources::files::{Overwrite, Ownership};
use blockhouse_vault::backup::{BackupReport, BackupRequest, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::{InitReport, InitRequest, init};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::recover::{RecoverRequest, recover};
use blockhouse_vault::repair::{RepairRequest, recreate_sites, repair};
use blockhouse_vault::restore::{RestoreRequest, restore};
use blockhouse_vault::select::{Narrow, SnapshotRef, one};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use blockhouse_vault::verify::{VerifyRequest, verify};

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

    fn specs(&self) -> Vec<SiteSpec> {
        (1..=6)
            .map(|n| SiteSpec::parse(self.path(&format!("s{n}")).to_str().unwrap(), Path::new("/")).unwrap())
            .collect()
    }

    async fn init(&self) -> InitReport {
        let request = InitRequest {
            folder: self.folder(),
            identity_out: self.path("identity"),
            paper_out: None,
            passphrase: None,
            sites: self.specs(),
            code: None,
            floor_seconds: 0,
        };
        init(request, Settings::default()).await.unwrap()
    }

    async fn open(&self) -> Vault {
        Vault::open(self.folder(), Settings::default()).await.unwrap()
    }

    fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    fn request(&self) -> BackupRequest {
        BackupRequest {
            paths: vec![self.path("data")],
            source: None,
            host: "here".to_owned(),
            excludes: Vec::new(),
            tags: vec!["k=v".to_owned()],
            level: 3,
            dedup: DomainKind::Writer,
            allow_live: false,
        }
    }

    async fn back_up(&self) -> BackupReport {
        back_up(&self.open().await, &self.request(), &Arc::new(Progress::new())).await.unwrap()
    }

    async fn restore(&self, to: &str) {
        let vault = self.open().await;
        let known = one(&vault, &SnapshotRef::Latest(None), &Narrow::default()).await.unwrap();
        let request = RestoreRequest {
            to: self.path(to),
            include: Vec::new(),
            overwrite: Overwrite::Never,
            ownership: Ownership::ByName,
        };
        let report = restore(&vault, &self.unlocked(), known, &request, &Arc::new(Progress::new())).await.unwrap();
        assert_eq!(report.flaws, vec![]);
        let same = std::process::Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([self.path("data"), self.path(to)])
            .output()
            .unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
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
        read_only: false,
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
