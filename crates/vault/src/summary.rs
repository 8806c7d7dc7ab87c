//! What a host keeps of its ledger, so that commands that only read need not read, link and check all of it each time.
//!
//! - **Owns** when what was kept may be used, and how it is brought up to the head.
//! - **Does not** vouch for anything: it repeats what the checked store said about one head.
//!
//! # Invariants
//! - **L1** It is used only while the ledger's file is the very one that it was made of (device, inode, length, times) and names
//!   the same head; a bit of it that changed is seen by its hash. In all other cases the ledger is read and checked as if it were
//!   not there. So E1 holds: nothing is told that this head does not commit to.
//! - **L2** It is made only of a store whose every block, certificate and transaction receipt this process, or an earlier one by
//!   L1, has checked.
//! - **L3** It is never needed: what fails here costs time alone.
//!
//! Format: `docs/design/host-files.md`, section *Summary of the ledger*.

mod format;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use blockhouse_homes::{Embedded, Standing, Store, StoreError};
use blockhouse_types::{BagHash, BlockHash};

use crate::folder::{Config, VaultFolder};
use crate::ledger::{EarlyTags, Ledger, LedgerError, SnapshotRecord, Snapshots, WriterRecord};

/// How long the head is waited for while another process writes to the ledger.
const WAIT: Duration = Duration::from_secs(10);

/// Which file something was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Time of the last change of its content: seconds and nanoseconds.
    modified: (i64, i64),
    /// Time of the last change of any kind; no program can set it.
    changed: (i64, i64),
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// What the ledger says at one head.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The file it was read from.
    stamp: FileStamp,
    /// The head.
    pub(crate) standing: Standing,
    /// The contract of tags at that head, whose events the records tell.
    tags: Option<Address>,
    /// Every writer that was ever enrolled.
    pub(crate) writers: Vec<WriterRecord>,
    /// The key bag.
    pub(crate) bag: (u32, BagHash),
    /// Every snapshot, forgotten ones too; shared with whoever asks, for there may be ten thousand.
    pub(crate) snapshots: Arc<Vec<SnapshotRecord>>,
    /// Tags of snapshots that were not committed up to that head.
    early: EarlyTags,
}

/// True if these bytes are a whole summary of the ledger that begins with that block.
pub fn is_whole(bytes: &[u8], genesis: BlockHash) -> bool {
    format::decode(bytes, genesis).is_some()
}

/// Who keeps it for one vault folder.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: PathBuf,
    file: PathBuf,
    genesis: BlockHash,
    known: Mutex<Known>,
}

/// What this process has read of it.
#[derive(Debug, Default)]
struct Known {
    summary: Option<Arc<Summary>>,
    /// The file is read once.
    is_read: bool,
}

impl Keeper {
    /// For that folder; nothing is read yet.
    pub(crate) fn new(folder: &VaultFolder, config: &Config) -> Self {
        let (ledger, file, genesis) = (folder.ledger(), folder.ledger_summary(), config.ledger.genesis);
        Self { shared: Arc::new(Shared { ledger, file, genesis, known: Mutex::default() }) }
    }

    /// Reads what was kept, so that it is at hand when it is asked for: this may go on beside other work.
    pub(crate) async fn read_ahead(&self) {
        let shared = Arc::clone(&self.shared);
        let _ = tokio::task::spawn_blocking(move || shared.last()).await;
    }

    /// What was kept, if the ledger still is as it was then (L1).
    pub(crate) async fn current(&self) -> Option<Arc<Summary>> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.current()).await.ok().flatten()
    }

    /// Keeps what the ledger says now. What was kept of an earlier head of the same chain is not read again.
    pub(crate) async fn renew(&self, home: &Embedded, ledger: &Ledger) {
        // L3: whatever fails, the next command reads the ledger itself.
        let Ok(Some(summary)) = self.read(home, ledger).await else { return };
        let shared = Arc::clone(&self.shared);
        let _ = tokio::task::spawn_blocking(move || shared.save(summary)).await;
    }

    async fn read(&self, home: &Embedded, ledger: &Ledger) -> Result<Option<Summary>, LedgerError> {
        let failed = |error| LedgerError::Home(Box::new(error));
        let Some(before) = FileStamp::of(&self.shared.ledger) else { return Ok(None) };
        let standing = home.standing().await.map_err(failed)?;
        let contracts = ledger.contracts().await?;
        // Another contract of tags has other events in blocks that were read before.
        let base = self.shared.last().filter(|base| base.tags == contracts.modules.tags);
        let base = match base {
            Some(base) if is_on_chain(home, &base.standing).await => Some(base),
            _ => None,
        };
        let (mut snapshots, first) = match &base {
            Some(base) => (Snapshots::resume(base.snapshots.to_vec(), base.early.clone()), base.standing.height + 1),
            None => (Snapshots::default(), 0),
        };
        ledger.read_snapshots(&contracts, (first, standing.height), &mut snapshots).await?;
        let (writers, bag) = (ledger.read_writers().await?, ledger.read_bag().await?);
        // Another process may have written meanwhile: then nothing of it is kept.
        let Some(stamp) = FileStamp::of(&self.shared.ledger).filter(|after| *after == before) else { return Ok(None) };
        let (snapshots, early) = snapshots.into_parts();
        let (tags, snapshots) = (contracts.modules.tags, Arc::new(snapshots));
        Ok(Some(Summary { stamp, standing, tags, writers, bag, snapshots, early }))
    }
}

/// True if the chain of this host has that block.
async fn is_on_chain(home: &Embedded, standing: &Standing) -> bool {
    let (height, hash) = (standing.height, standing.hash);
    home.read(move |store| matches!(store.hash_at(height), Ok(Some(found)) if found == hash)).await.unwrap_or(false)
}

impl Shared {
    fn current(&self) -> Option<Arc<Summary>> {
        let summary = self.last()?;
        let is_same = FileStamp::of(&self.ledger) == Some(summary.stamp);
        (is_same && self.head() == Some((summary.standing.height, summary.standing.hash))).then_some(summary)
    }

    /// The head that the file names.
    fn head(&self) -> Option<(u64, B256)> {
        let peeked: Result<_, StoreError> = Store::peek(&self.ledger, WAIT);
        peeked.ok()
    }

    /// What was kept last, of whatever head.
    fn last(&self) -> Option<Arc<Summary>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_read {
            known.is_read = true;
            let bytes = std::fs::read(&self.file).ok();
            known.summary = bytes.and_then(|bytes| format::decode(&bytes, self.genesis)).map(Arc::new);
        }
        known.summary.clone()
    }

    fn save(&self, summary: Summary) {
        let bytes = format::encode(&summary, self.genesis);
        let written = write_beside(&self.file, &bytes);
        if written.is_err() {
            // An old one is as good as none; it is not used either way.
            let _ = std::fs::remove_file(&self.file);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Known { summary: Some(Arc::new(summary)), is_read: true };
    }
}

/// Whole or not at all for other processes. Not synced: what a power loss tears has another hash.
fn write_beside(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let write = || {
        let mut to = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        to.write_all(bytes)?;
        std::fs::rename(&new, file)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}
