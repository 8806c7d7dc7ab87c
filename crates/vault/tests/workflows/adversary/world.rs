//! A vault over six sites, and one folder that is backed up.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::hash::keyed_stream;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::stripe::ShardFile;
use blockhouse_types::{ListHash, StripeId};
use blockhouse_vault::backup::{BackupReport, BackupRequest, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::init;
use blockhouse_vault::lists;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::recover::{RecoverRequest, recover};
use blockhouse_vault::restore::{RestoreReport, RestoreRequest, RestoreSnapshotError, restore};
use blockhouse_vault::select::{Narrow, SnapshotRef, one};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::requests::{site_at, to_back_up, to_init};

const SITES: usize = 6;

pub(crate) struct World {
    base: tempfile::TempDir,
}

/// Bytes that do not shrink and depend on the seed.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    keyed_stream(&Secret::new([seed; 32]), b"noise", &mut bytes);
    bytes
}

impl World {
    /// A new vault with one snapshot of a folder that holds one file.
    pub(crate) async fn with_snapshot() -> Self {
        let world = Self { base: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("data")).unwrap();
        let request = to_init(world.base.path(), (0..SITES).map(|number| world.site(number)));
        init(request, Settings::default()).await.unwrap();
        world.write("first", &noise(1, 200_000));
        world.back_up().await;
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(crate) fn site(&self, number: usize) -> PathBuf {
        self.path(&format!("site-{number}"))
    }

    fn folder(&self) -> VaultFolder {
        VaultFolder::new(self.path("vault"))
    }

    /// Puts a file into the folder that is backed up.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("data").join(name), bytes).unwrap();
    }

    pub(crate) async fn open(&self) -> Vault {
        Vault::open(self.folder(), Settings::default()).await.unwrap()
    }

    pub(crate) fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    pub(crate) async fn back_up(&self) -> BackupReport {
        self.back_up_at(3).await
    }

    pub(crate) async fn back_up_at(&self, level: i32) -> BackupReport {
        let request = BackupRequest { level, ..to_back_up(self.path("data")) };
        back_up(&self.open().await, &request, &Arc::new(Progress::new())).await.unwrap()
    }

    /// Restores the newest snapshot into a new folder.
    pub(crate) async fn restore(&self, to: &str) -> Result<RestoreReport, RestoreSnapshotError> {
        let vault = self.open().await;
        let known = one(&vault, &SnapshotRef::Latest(None), &Narrow::default()).await.unwrap();
        let request = RestoreRequest::new(self.path(to));
        restore(&vault, &self.unlocked(), known, &request, &Arc::new(Progress::new())).await
    }

    /// Demands that the newest snapshot is the folder as it is now.
    pub(crate) async fn expect_restores(&self, to: &str) {
        let report = self.restore(to).await.unwrap();
        assert_eq!(report.flaws, vec![], "{to}");
        for entry in fs::read_dir(self.path("data")).unwrap() {
            let name = entry.unwrap().file_name();
            let (from, back) = (self.path("data").join(&name), self.path(to).join(&name));
            assert!(fs::read(from).unwrap() == fs::read(back).unwrap(), "{to}: {}", name.display());
        }
    }

    /// The stripes that the newest snapshot names.
    pub(crate) async fn stripes_of_newest(&self) -> BTreeSet<StripeId> {
        let vault = self.open().await;
        let newest = vault.ledger().snapshots().await.unwrap().pop().unwrap();
        let root = ListHash::new(newest.commit.listRoot.0);
        lists::read(vault.sites(), root).await.unwrap().into_iter().collect()
    }

    /// Puts every one of these shards at every site, over what is there.
    pub(crate) fn place(&self, shards: &[(ShardFile, Vec<u8>)]) {
        for site in (0..SITES).map(|number| self.site(number)) {
            for (shard, bytes) in shards {
                let path = site.join(shard.name.to_string());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// Removes what of the vault folder can be made anew from the sites.
    pub(crate) fn forget_index(&self) {
        fs::remove_dir_all(self.path("vault/index")).unwrap();
    }

    /// The host is gone; a new one takes the vault over. Gives the account of the old one.
    pub(crate) async fn recover(&self, host_stolen: bool) -> AccountSecret {
        let old = self.open().await.secrets().unwrap().writer.clone();
        fs::rename(self.path("vault"), self.path("vault of the old host")).unwrap();
        let sites = vec![site_at(&self.site(0))];
        let (folder, read_only) = (self.folder(), false);
        let request = RecoverRequest {
            folder,
            sites,
            fingerprint: None,
            expect: None,
            prefer_expected: false,
            chain: None,
            read_only,
            network: Vec::new(),
            host_stolen,
        };
        recover(request, &self.unlocked(), Settings::default()).await.unwrap();
        old
    }
}
