//! A host's own copy of the ledger, kept in one file: read here, whoever seals. In home 1 this process seals, certified by one
//! key; of a network's ledger the nodes seal, and the copy follows them.
//!
//! - **Owns** when the store is opened, who may seal, and how the store is healed and brought up to date.
//! - **Does not** talk to sites: blocks come in and go out as [`BlockObject`]s.
//!
//! # Invariants
//! - **M1** The store is open for one request at a time, never between requests.
//! - **M2** A block is sealed here only by the ledger key in force at it, and after the guard of the caller agreed.
//! - **M3** Nothing is imported that the ledger's rules and the key in force do not vouch for, whoever gives it.
//! - **M4** A transaction that the nodes seal is reported done only when the block that holds it is durable here.
//!
//! Format: `docs/design/ledger.md`.

mod error;
mod evidence;
mod follow;
mod heal;
mod keys;
mod leave;
mod own_calls;
#[cfg(feature = "node")]
pub(crate) mod run;
mod seal;
mod send;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use blockhouse_crypto::LedgerKey;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::genesis::Genesis;
use blockhouse_ledger::replay::Replay;
use blockhouse_ledger::time::Clock;
use blockhouse_ledger::validators::operators;
use blockhouse_types::{BlockHash, Fingerprint};
use futures::future::BoxFuture;

use crate::remote::Remote;
use crate::store::{Access, Known, Store, WAIT};

pub use error::HomeError;
pub use evidence::Evidence;
#[cfg(feature = "node")]
pub(crate) use evidence::link_at;
pub(crate) use evidence::links;
pub use follow::Followed;
pub use heal::{Imported, Rebuilt};
#[cfg(feature = "node")]
pub(crate) use heal::{import_into, lock_folder, replace};
pub use keys::{Handover, LedgerKeys};
#[cfg(feature = "node")]
pub(crate) use run::import_run;
pub use seal::Sealed;

/// The host's clock: seconds since 1970.
pub type HostClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the caller wants to check before each sealing, while the store is closed.
pub type BeforeSeal =
    Arc<dyn Fn(Standing) -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + Sync>;

/// Where the ledger stands, as this home sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Height of the last block.
    pub height: u64,
    /// Hash of the last block.
    pub hash: B256,
    /// Time of the last block in seconds.
    pub time: u64,
    /// The keys and handovers up to it.
    pub keys: LedgerKeys,
    /// What a reader has to know to check receipts of this ledger.
    pub fingerprint: Fingerprint,
}

/// Who seals blocks.
#[derive(Clone, Default)]
pub enum Sealer {
    /// Nobody from here: the ledger is only read.
    #[default]
    Nobody,
    /// This host, with its ledger key: home 1.
    Key(Arc<LedgerKey>),
    /// The nodes of a network: home 2.
    Network(Remote),
}

impl Sealer {
    /// The ledger key of this host, if it has one.
    pub const fn key(&self) -> Option<&Arc<LedgerKey>> {
        match self {
            Self::Key(key) => Some(key),
            Self::Nobody | Self::Network(_) => None,
        }
    }
}

/// How a host's ledger is opened.
#[derive(Clone)]
pub struct Options {
    /// The file of the store.
    pub path: PathBuf,
    /// Who seals.
    pub sealer: Sealer,
    /// The host's clock.
    pub clock: HostClock,
    /// Whether a strange clock was accepted by the operator.
    pub clock_rule: Clock,
    /// How long to wait while another process holds the store.
    pub wait: Duration,
    /// Asked before each sealing by this host. Of a network consensus decides, and it is not asked.
    pub before_seal: Option<BeforeSeal>,
}

impl Options {
    /// Reading only, with the usual waiting time.
    pub fn reader(path: impl Into<PathBuf>, clock: HostClock) -> Self {
        let sealer = Sealer::Nobody;
        Self { path: path.into(), sealer, clock, clock_rule: Clock::Checked, wait: WAIT, before_seal: None }
    }

    /// Reading and sealing.
    pub fn sealer(path: impl Into<PathBuf>, clock: HostClock, key: Arc<LedgerKey>) -> Self {
        Self { sealer: Sealer::Key(key), ..Self::reader(path, clock) }
    }

    /// Reading, and sending to the nodes of a network.
    pub fn of_network(path: impl Into<PathBuf>, clock: HostClock, nodes: Remote) -> Self {
        Self { sealer: Sealer::Network(nodes), ..Self::reader(path, clock) }
    }
}

/// A handle to a host's ledger; clones share one memory of the checked head.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    /// What was checked when the store was last open.
    known: Mutex<Option<Known>>,
}

impl Embedded {
    /// A handle; nothing is opened yet.
    pub fn new(options: Options) -> Self {
        Self { shared: Arc::new(Shared { options, known: Mutex::new(None) }) }
    }

    /// Makes the store of a new ledger: block 0, certified by the key of genesis.
    pub fn create(path: &Path, genesis: &Genesis, key: &LedgerKey) -> Result<(), HomeError> {
        if key.public() != genesis.ledger_key {
            return Err(HomeError::HandedOver { in_force: genesis.ledger_key, own: key.public() });
        }
        let place = BlockPlace { chain_id: genesis.chain_id, height: 0, hash: genesis.hash() };
        Ok(Store::create(path, genesis, &Certificate::solo(key, &place))?)
    }

    /// Opens the store, reads from it, closes it.
    pub async fn read<T, F>(&self, read: F) -> Result<T, HomeError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        self.blocking(|home| home.with_store(Access::Read, |store| Ok(read(store)))).await
    }

    /// Where the ledger stands.
    pub async fn standing(&self) -> Result<Standing, HomeError> {
        self.read(standing_of).await?
    }

    /// The accounts that govern the ledger, and those that speak for nodes of the set in force or of one to come, as the state here says; none where nobody
    /// governs it.
    pub async fn operators(&self) -> Result<Vec<Address>, HomeError> {
        self.read(|store| {
            let named = operators(store.genesis(), store.head().header(), store);
            named.map_err(|error| HomeError::of_handovers(store, error))
        })
        .await?
    }

    /// The blocks from that height on, at most so many, as they are copied to the sites. Certificates are checked.
    pub async fn block_objects(&self, from: u64, at_most: usize) -> Result<Vec<BlockObject>, HomeError> {
        self.read(move |store| {
            let keys = LedgerKeys::of(store)?;
            (from..=store.height()).take(at_most).map(|height| block_object(store, &keys, height)).collect()
        })
        .await?
    }

    /// The chain up to the head: what elsewhere is said to follow it can be verified on this, with the store closed.
    pub async fn replay(&self) -> Result<Replay, HomeError> {
        self.read(|store| {
            let head = store.head();
            let authority = LedgerKeys::of(store)?.authority(head);
            Ok(Replay::resume(head.genesis().clone(), head.header().clone(), store.memory()?, authority))
        })
        .await?
    }

    /// The nodes that seal, if they do.
    pub fn network(&self) -> Option<&Remote> {
        match &self.shared.options.sealer {
            Sealer::Network(nodes) => Some(nodes),
            Sealer::Nobody | Sealer::Key(_) => None,
        }
    }

    /// What the home was opened with.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The host's clock now.
    pub(crate) fn now(&self) -> u64 {
        (self.shared.options.clock)()
    }

    /// Runs work on files where it may block.
    async fn blocking<T, F>(&self, work: F) -> Result<T, HomeError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, HomeError> + Send + 'static,
    {
        let home = self.clone();
        tokio::task::spawn_blocking(move || work(&home)).await.map_err(HomeError::Stopped)?
    }

    /// Opens the store for `work` and remembers the head that it leaves.
    fn with_store<T>(
        &self,
        access: Access,
        work: impl FnOnce(&mut Store) -> Result<T, HomeError>,
    ) -> Result<T, HomeError> {
        let Options { path, wait, .. } = &self.shared.options;
        let mut store = Store::open(path, access, *wait, self.known())?;
        // A writer changes the head: the shared memory lets go of it, so that it is changed in place.
        self.remember((access == Access::Read).then(|| store.known()));
        let done = work(&mut store)?;
        self.remember(Some(store.known()));
        Ok(done)
    }

    fn known(&self) -> Option<Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, known: Option<Known>) {
        *self.shared.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.shared.options.path).finish_non_exhaustive()
    }
}

/// Where the ledger of that store stands.
pub(crate) fn standing_of(store: &Store) -> Result<Standing, HomeError> {
    let (head, keys) = (store.head(), LedgerKeys::of(store)?);
    let fingerprint = keys.authority(head).fingerprint(head.genesis());
    Ok(Standing { height: head.height(), hash: head.hash(), time: head.header().timestamp, keys, fingerprint })
}

/// The block of that height with its certificate, which must be by the key that was in force there.
pub(crate) fn block_object(store: &Store, keys: &LedgerKeys, height: u64) -> Result<BlockObject, HomeError> {
    let stored = store.block(height)?;
    let certificate = store.certificate(height)?;
    let chain_id = store.genesis().chain_id;
    let place = BlockPlace { chain_id, height, hash: BlockHash::new(stored.hash.0) };
    certificate.verify(&keys.at(height), &place).map_err(|error| store.damaged(error.to_string()))?;
    let genesis = (height == 0).then(|| store.genesis().clone());
    Ok(BlockObject { chain_id, block: stored.block, certificate, genesis })
}
