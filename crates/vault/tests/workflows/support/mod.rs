//! A vault over three sites, a thief of its host, and what either may leave at the sites.

pub(crate) mod cut;
pub(crate) mod requests;

use std::collections::BTreeSet;
use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy_consensus::proofs::calculate_transaction_root;
use alloy_consensus::{BlockBody, Header};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Role, Secret};
use blockhouse_homes::{Embedded, Options};
use blockhouse_ledger::contracts::{Access, Vault as VaultContract};
use blockhouse_ledger::{Block, BlockObject, BlockPlace, Certificate, Request};
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::{ObjectKey, SiteSpec};
use blockhouse_types::SnapshotId;
use blockhouse_vault::backup::{BackupError, BackupReport, BackupRequest, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::{InitRequest, init};
use blockhouse_vault::ledger::address;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::recover::{RecoverError, RecoverReport, RecoverRequest, recover};
use blockhouse_vault::select::{Narrow, SnapshotRef, one};
use blockhouse_vault::unlock::{Unlocked, open_bag};
use blockhouse_vault::vault::{Settings, Vault};
use requests::{site_at, to_back_up, to_init};

const SITES: [&str; 3] = ["s1", "s2", "s3"];

pub(crate) struct World {
    base: tempfile::TempDir,
}

impl World {
    /// Folders alone.
    pub(crate) fn empty() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("sites")).unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        Self { base }
    }

    /// A vault with one snapshot.
    pub(crate) async fn with_backup() -> Self {
        let world = Self::empty();
        init(world.init_request(), Settings::default()).await.unwrap();
        world.try_back_up("vault").await.unwrap();
        world
    }

    pub(crate) fn init_request(&self) -> InitRequest {
        let sites = SITES.map(|name| self.path("sites").join(name));
        InitRequest { paper_out: Some(self.path("paper")), ..to_init(self.base.path(), sites) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> VaultFolder {
        VaultFolder::new(self.path(name))
    }

    pub(crate) fn specs(&self) -> Vec<SiteSpec> {
        self.specs_in("sites")
    }

    pub(crate) fn specs_in(&self, folder: &str) -> Vec<SiteSpec> {
        SITES.iter().map(|name| site_at(&self.path(folder).join(name))).collect()
    }

    pub(crate) async fn open(&self) -> Vault {
        self.open_at("vault").await
    }

    pub(crate) async fn open_at(&self, host: &str) -> Vault {
        Vault::open(self.folder(host), Settings::default()).await.unwrap()
    }

    pub(crate) fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    pub(crate) fn owner(&self) -> AccountSecret {
        self.unlocked().recovery_account().unwrap()
    }

    pub(crate) fn request(&self, host: &str, sites: &[SiteSpec]) -> RecoverRequest {
        RecoverRequest {
            folder: self.folder(host),
            sites: sites.to_vec(),
            fingerprint: None,
            expect: None,
            prefer_expected: false,
            chain: None,
            read_only: false,
            network: Vec::new(),
            host_stolen: false,
        }
    }

    pub(crate) async fn recover(&self, request: RecoverRequest) -> Result<RecoverReport, RecoverError> {
        recover(request, &self.unlocked(), Settings::default()).await
    }

    /// Backs up something new on that host; the error in full.
    pub(crate) async fn try_back_up(&self, host: &str) -> Result<(), String> {
        self.try_back_up_with(host, Settings::default()).await
    }

    pub(crate) async fn try_back_up_with(&self, host: &str, settings: Settings) -> Result<(), String> {
        fs::write(self.path("data/file"), rand::random::<u64>().to_string()).unwrap();
        let vault = Vault::open(self.folder(host), settings).await.map_err(|error| format!("{error:?}"))?;
        self.back_up_open(&vault, Vec::new()).await.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Backs up on a vault that is open.
    pub(crate) async fn back_up_open(&self, vault: &Vault, tags: Vec<String>) -> Result<BackupReport, BackupError> {
        let request = BackupRequest { tags, ..to_back_up(self.path("data")) };
        back_up(vault, &request, &Arc::new(Progress::new())).await
    }

    /// Settings of a host that does `work` between asking the sites and sealing, the first time that it seals when `is_due`: the
    /// clock is read then, with the ledger locked for writing.
    pub(crate) fn between(
        &self,
        host: &str,
        is_due: impl Fn() -> bool + Send + Sync + 'static,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Settings {
        let (usual, ledger) = (Settings::default(), self.folder(host).ledger());
        let (clock, work) = (Arc::clone(&usual.clock), Mutex::new(Some(Box::pin(work))));
        let is_sealing = move || {
            fs::File::open(&ledger).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
        };
        let interrupted = move || {
            let due = if is_sealing() && is_due() { work.lock().unwrap().take() } else { None };
            if let Some(work) = due {
                tokio::runtime::Handle::current().block_on(work);
            }
            clock()
        };
        Settings { clock: Arc::new(interrupted), ..usual }
    }

    /// The ids of the snapshots on the ledger of that host.
    pub(crate) async fn snapshots(&self, host: &str) -> Vec<SnapshotId> {
        let records = self.open_at(host).await.ledger().snapshots().await.unwrap();
        records.into_iter().map(|record| record.id).collect()
    }

    /// A receipt of the latest snapshot, by the ledger of that host.
    pub(crate) async fn receipt(&self, host: &str) -> Vec<u8> {
        let vault = self.open_at(host).await;
        let known = one(&vault, &SnapshotRef::Latest(None), &Narrow::default()).await.unwrap();
        blockhouse_vault::receipt::of_snapshot(&vault, &known).await.unwrap().to_bytes()
    }

    /// The key bag that the ledger names.
    pub(crate) async fn bag(&self) -> KeyBag {
        let vault = self.open().await;
        open_bag(vault.sites(), vault.ledger().bag().await.unwrap(), &self.unlocked()).await.unwrap()
    }

    /// The second version of the bag, sealed so that the paper key of `victim` opens it: its public half is on no secret.
    pub(crate) async fn seal_for(&self, mut bag: KeyBag, victim: &Self) -> Vec<u8> {
        let Unlocked::Paper(paper) = Unlocked::paper(victim.path("paper")).unwrap() else { panic!("a paper key") };
        let recipient = paper.age_identity().recipient(Role::Paper, "another paper").unwrap();
        let mut members: Vec<_> = bag.recipients.members().to_vec();
        members.retain(|member| member.label() != "paper key");
        members.push(recipient);
        bag.recipients = blockhouse_crypto::RecipientSet::try_new(members).unwrap();
        bag.seal(self.open().await.id(), 2).unwrap().to_bytes()
    }

    /// Leaves an object at every site, as anybody can who may write there.
    pub(crate) fn plant(&self, key: &ObjectKey, bytes: &[u8]) {
        for site in SITES {
            let path = self.path("sites").join(site).join(key.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !path.exists() {
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// Copies the folder of all sites.
    pub(crate) fn copy_sites(&self, name: &str) {
        merge(&self.path("sites"), &self.path(name));
    }

    /// The names of all blocks at the sites.
    pub(crate) fn blocks(&self) -> BTreeSet<PathBuf> {
        SITES.iter().flat_map(|site| files(&self.path("sites").join(site).join("blocks"))).collect()
    }

    /// Takes the blocks of these heights away from all sites.
    pub(crate) fn take_blocks(&self, wanted: impl Fn(u64) -> bool) -> Vec<(PathBuf, Vec<u8>)> {
        self.take_blocks_of(&SITES, wanted)
    }

    pub(crate) fn take_blocks_of(&self, sites: &[&str], wanted: impl Fn(u64) -> bool) -> Vec<(PathBuf, Vec<u8>)> {
        let mut taken = Vec::new();
        for path in sites.iter().flat_map(|site| files(&self.path("sites").join(site).join("blocks"))) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if wanted(name.split_once('-').unwrap().0.parse().unwrap()) {
                taken.push((path.clone(), fs::read(&path).unwrap()));
                fs::remove_file(path).unwrap();
            }
        }
        taken
    }
}

/// Puts back what was taken.
pub(crate) fn give_back(taken: Vec<(PathBuf, Vec<u8>)>) {
    for (path, bytes) in taken {
        fs::write(path, bytes).unwrap();
    }
}

/// Copies what `to` lacks.
pub(crate) fn merge(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if !target.exists() {
            fs::copy(&file, target).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub(crate) fn key_number(number: u8) -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed(&Secret::new([number; 32])))
}

/// The object of a block, certified by that key.
pub(crate) fn certified(chain_id: u64, block: Block, key: &LedgerKey) -> BlockObject {
    let hash = blockhouse_ledger::block_hash(&block.header);
    let place = BlockPlace { chain_id, height: block.header.number, hash };
    BlockObject { chain_id, certificate: Certificate::solo(key, &place), block, genesis: None }
}

/// Who took everything that was on the host: sealing key, writer account, ledger.
pub(crate) struct Thief {
    pub(crate) key: Arc<LedgerKey>,
    writer: AccountSecret,
    home: Embedded,
    chain_id: u64,
    access: TxKind,
    vault: TxKind,
}

impl Thief {
    pub(crate) async fn of(world: &World) -> Self {
        let vault = world.open().await;
        let secrets = vault.secrets().unwrap();
        let key = Arc::new(LedgerKey::from_seed(&secrets.ledger_seed));
        let path = world.path(&format!("stolen-{}.redb", rand::random::<u64>()));
        fs::copy(vault.folder().ledger(), &path).unwrap();
        // His clock does what he wants.
        let clock = AtomicU64::new(vault.standing().await.unwrap().time);
        let clock = Arc::new(move || clock.fetch_add(5, Ordering::SeqCst));
        let ledger = &vault.config().ledger;
        Self {
            home: Embedded::new(Options::sealer(path, clock, Arc::clone(&key))),
            key,
            writer: secrets.writer.clone(),
            chain_id: ledger.chain_id,
            access: TxKind::Call(address(ledger.access)),
            vault: TxKind::Call(address(ledger.vault)),
        }
    }

    /// Valid blocks, certified by the stolen key.
    pub(crate) async fn chain(&self, blocks: u64) -> Vec<BlockObject> {
        let who = address(self.writer.account());
        let nonce = self.home.read(move |store| store.state().account(&who).unwrap().map_or(0, |it| it.nonce));
        let first = nonce.await.unwrap();
        let mut sealed = Vec::new();
        for nonce in first..first + blocks {
            let call = VaultContract::openSessionCall { leaseSeconds: 600 };
            sealed.push(self.home.seal(vec![self.sign(nonce, self.vault, &call)]).await.unwrap().object);
        }
        sealed
    }

    fn sign(&self, nonce: u64, to: TxKind, call: &impl SolCall) -> Bytes {
        self.request(nonce, to, call).sign(&self.writer).encoded_2718().into()
    }

    fn request(&self, nonce: u64, to: TxKind, call: &impl SolCall) -> Request {
        Request { chain_id: self.chain_id, nonce, to, input: call.abi_encode().into(), gas: 1_000_000 }
    }

    /// A handover above `parent`, signed by the writer, since he has no recovery account, and certified by the key that it names.
    pub(crate) fn handover(&self, parent: &Header, key: &LedgerKey) -> BlockObject {
        let parent_hash = parent.hash_slow();
        let call = Access::handoverCall { nextKey: B256::new(key.public()), parentHash: parent_hash };
        let transactions = vec![self.request(0, self.access, &call).sign(&self.writer)];
        let header = Header {
            number: parent.number + 1,
            timestamp: parent.timestamp + 1,
            parent_hash,
            transactions_root: calculate_transaction_root(&transactions),
            extra_data: Bytes::new(),
            ..parent.clone()
        };
        let withdrawals = Some(alloy_eips::eip4895::Withdrawals::default());
        let body = BlockBody { transactions, withdrawals, ..BlockBody::default() };
        certified(self.chain_id, Block { header, body }, key)
    }

    /// The genuine handover's transaction in a block of his own, above `parent`, certified by `key`.
    pub(crate) fn copied(&self, genuine: &BlockObject, parent: &[u8; 32], key: &LedgerKey) -> BlockObject {
        let mut block = genuine.block.clone();
        block.header.parent_hash = B256::new(*parent);
        block.header.timestamp += 1;
        certified(self.chain_id, block, key)
    }

    /// The same block at another time, certified by `key`.
    pub(crate) fn sibling(&self, object: &BlockObject, later: u64, key: &LedgerKey) -> BlockObject {
        let mut block = object.block.clone();
        block.header.timestamp += later;
        certified(self.chain_id, block, key)
    }
}
