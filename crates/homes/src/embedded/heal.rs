//! Healing: blocks from the sites extend the store, or make it anew.
//!
//! # Invariants
//! - **N1** A new store takes the place of a damaged one whole and durable; the damaged one is kept beside it.
//! - **N2** Of two processes that heal at once, the second finds the work of the first and only adds to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::chain::Authority;
use blockhouse_ledger::execute::import;
use blockhouse_ledger::state::check_whole;

use super::Embedded;
use super::error::HomeError;
use super::keys::LedgerKeys;
use crate::forks::keep_evidence;
use crate::store::{self, Access, Store, StoreError};

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many blocks were new here.
    pub added: u64,
    /// Height of the head now.
    pub height: u64,
    /// Hash of the head now.
    pub hash: B256,
}

/// What a rebuilding did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// What was read from the blocks.
    pub imported: Imported,
    /// Where the damaged store is kept, if there was one.
    pub kept: Option<PathBuf>,
}

impl Embedded {
    /// Takes blocks that the sites hold, in order of height. Those that are here already are only compared.
    ///
    /// What was added before an error stays: each block stands for itself.
    pub async fn import<I>(&self, objects: I) -> Result<Imported, HomeError>
    where
        I: IntoIterator<Item = BlockObject> + Send + 'static,
    {
        self.blocking(|home| home.with_store(Access::Write, |store| import_into(store, objects, Store::append))).await
    }

    /// The same for many at once: they are durable together, when this returns.
    pub(super) async fn import_run(&self, objects: Vec<BlockObject>) -> Result<Imported, HomeError> {
        let import = |store: &mut Store| {
            let imported = import_into(store, objects, Store::append_unsynced);
            // What came before a block that cannot be taken stays.
            store.sync()?;
            imported
        };
        self.blocking(|home| home.with_store(Access::Write, import)).await
    }

    /// Checks all that the store holds, not only what opening it looks at.
    pub async fn check(&self) -> Result<(), HomeError> {
        self.read(check_all).await?.map_err(HomeError::from)
    }

    /// Makes a missing or damaged store anew from all blocks of the ledger, block 0 first. A store that is not damaged
    /// is extended.
    pub async fn rebuild_from<I>(&self, objects: I) -> Result<Rebuilt, HomeError>
    where
        I: IntoIterator<Item = BlockObject> + Send + 'static,
    {
        self.blocking(|home| home.rebuild_now(objects)).await
    }

    fn rebuild_now(&self, objects: impl IntoIterator<Item = BlockObject>) -> Result<Rebuilt, HomeError> {
        let path = &self.options().path;
        let _alone = lock_folder(path, self.options().wait)?;
        match Store::open(path, Access::Read, self.options().wait, None) {
            Ok(store) if check_all(&store).is_ok() => {
                drop(store);
                let imported = self.with_store(Access::Write, |store| import_into(store, objects, Store::append))?;
                return Ok(Rebuilt { imported, kept: None });
            }
            Ok(_) => {}
            Err(error) if error.is_healed_by_replay() => {}
            Err(error) => return Err(error.into()),
        }
        self.remember(None);
        let new = store::beside(path, "rebuilt");
        let imported = replay(new.path(), objects)?;
        let kept = replace(new.path(), path)?;
        Ok(Rebuilt { imported, kept })
    }
}

/// Reads every block, certificate and transaction receipt, and the whole state, once: what opening alone does not look at. What is damaged
/// would else be found by a command that cannot heal it.
fn check_all(store: &Store) -> Result<(), StoreError> {
    check_whole(store.head().header().state_root, store).map_err(|error| store.of_state(error))?;
    for height in 0..=store.height() {
        store.certificate(height)?;
        store.receipts(height)?;
    }
    Ok(())
}

/// Writes a new store at `path`; it is durable when this returns.
fn replay(path: &Path, objects: impl IntoIterator<Item = BlockObject>) -> Result<Imported, HomeError> {
    let mut objects = objects.into_iter();
    let first = objects.next().ok_or(HomeError::NoGenesis)?;
    let genesis =
        first.genesis.as_ref().filter(|genesis| genesis.block() == first.block).ok_or(HomeError::NoGenesis)?;
    Authority::begin(genesis, &first.certificate).map_err(|source| HomeError::Authority { height: 0, source })?;
    Store::create(path, genesis, &first.certificate)?;
    let mut store = Store::open(path, Access::Write, Duration::ZERO, None)?;
    let mut imported = import_into(&mut store, objects, Store::append_unsynced)?;
    store.sync()?;
    imported.added += 1;
    Ok(imported)
}

pub(crate) type Append = fn(
    &mut Store,
    &blockhouse_ledger::execute::Executed,
    &blockhouse_ledger::certificate::Certificate,
) -> Result<(), StoreError>;

/// Takes blocks into a store, in order of height: each is executed, compared, and certified by the key in force. Those that are there already
/// are only compared; what came before an error stays.
pub(crate) fn import_into(
    store: &mut Store,
    objects: impl IntoIterator<Item = BlockObject>,
    append: Append,
) -> Result<Imported, HomeError> {
    let mut authority = LedgerKeys::of(store)?.authority(store.head());
    let mut added = 0;
    for object in objects {
        let (height, next) = (object.block.header.number, store.height() + 1);
        check_ledger(store, &object)?;
        if height < next {
            compare(store, &object)?;
            continue;
        }
        if height > next {
            return Err(HomeError::Gap { next, found: height });
        }
        if object.block.header.parent_hash != store.head().hash() {
            return Err(other_parent(store, &authority, &object));
        }
        let executed = import(store.genesis(), store.head().header(), &*store, &object.block)
            .map_err(|error| HomeError::of_import(store, height, error))?;
        authority.advance(&executed, &object.certificate).map_err(|source| HomeError::Authority { height, source })?;
        append(store, &executed, &object.certificate)?;
        added += 1;
    }
    Ok(Imported { added, height: store.height(), hash: store.head().hash() })
}

fn check_ledger(store: &Store, object: &BlockObject) -> Result<(), HomeError> {
    let (height, found, expected) = (object.block.header.number, object.chain_id, store.genesis().chain_id);
    if found == expected { Ok(()) } else { Err(HomeError::OtherLedger { height, found, expected }) }
}

/// A block of a height that is here already must be the one that is here. Only a certified other one is a fork:
/// anyone who can write at a site can leave uncertified bytes there.
fn compare(store: &Store, object: &BlockObject) -> Result<(), HomeError> {
    let (height, theirs) = (object.block.header.number, B256::new(object.hash().to_bytes()));
    let ours = store.hash_at(height)?.ok_or_else(|| store.damaged(format!("block {height} has no hash")))?;
    if ours == theirs {
        return Ok(());
    }
    let keys = LedgerKeys::of(store)?;
    expect_certified(object, &keys.at(height))?;
    let evidence = keep_evidence(store, object);
    Err(HomeError::Fork { height, ours, theirs, evidence })
}

/// The next block has another parent than the head.
fn other_parent(store: &Store, authority: &Authority, object: &BlockObject) -> HomeError {
    let (height, ours, theirs) = (store.height(), store.head().hash(), object.block.header.parent_hash);
    // The block that it follows is not at hand: whoever asks for it keeps the evidence.
    let fork = HomeError::Fork { height, ours, theirs, evidence: None };
    expect_certified(object, &authority.ledger_key()).err().unwrap_or(fork)
}

pub(super) fn expect_certified(object: &BlockObject, key: &[u8; 32]) -> Result<(), HomeError> {
    let height = object.block.header.number;
    let place = BlockPlace { chain_id: object.chain_id, height, hash: object.hash() };
    let certified = object.certificate.verify(key, &place);
    certified.map_err(|source| HomeError::Authority { height, source: source.into() })
}

/// Names the new store as the store; the old one is kept beside it, if there is one.
pub(crate) fn replace(new: &Path, path: &Path) -> Result<Option<PathBuf>, HomeError> {
    let kept = store::keep(path)?;
    std::fs::rename(new, path).map_err(|source| HomeError::Io { action: "name", path: path.to_owned(), source })?;
    store::sync_folder(path)?;
    Ok(kept)
}

/// Keeps other healers of the same store out until it is dropped.
pub(crate) fn lock_folder(path: &Path, wait: Duration) -> Result<File, HomeError> {
    use rustix::fs::{FlockOperation, flock};
    let folder = store::folder_of(path);
    let io = |action, source| HomeError::Io { action, path: folder.to_owned(), source };
    let file = File::open(folder).map_err(|source| io("open", source))?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::Busy { path: path.to_owned(), waited: started.elapsed() }.into());
            }
            Err(error) => return Err(io("lock", error.into())),
        }
    }
}
