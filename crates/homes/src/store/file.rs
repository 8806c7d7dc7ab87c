//! The file under the store: opening, waiting, creating, and keeping redb's panics in.
//!
//! - **Owns** the lock's waiting time, crash-safe creation, and the border between redb and the rest.
//! - **Does not** know what the tables hold.
//!
//! # Invariants
//! - **F1** No content of the file makes a caller panic: what redb panics on is reported as damage.
//! - **F2** A store appears under its name whole and durable, or not at all.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, WriteTransaction};

pub(super) use redb::Durability;

use super::beside::{Beside, io_error, name_new, remove_if_there, sync_file, sync_folder_of};
use super::error::{Fault, StoreError};
#[cfg(feature = "node")]
use super::pages::{PageFile, PagePlace};
use super::rehearsal::rehearse;
#[cfg(feature = "node")]
use super::rehearsal::{Unfinished, rehearse_opening};

/// Pages that redb keeps in memory, at most half of them of a write that is under way. A block of a hundred commits writes more
/// (docs/performance.md): the rest goes to the file before its end. With half as many again a node of a small ledger takes 15 MiB more, and 2 %
/// less time.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The first pause while another process holds the file; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause: short enough that a free store is not left waiting.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What an opened store may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading, beside other readers.
    Read,
    /// Reading and writing, alone. All pages of the file are compared with their checksums before.
    Write,
    /// Reading and writing, alone, by who compares the pages of rows while it is open ([`Store::compare_pages`](super::Store::compare_pages)).
    /// Those by which redb goes are compared before, so that an opening does not grow with the ledger.
    #[cfg(feature = "node")]
    Watched,
}

enum Handle {
    Read(ReadOnlyDatabase),
    /// What a kill left unfinished, finished in memory: a reader changes nothing.
    Finished(Database),
    /// What a kill left unfinished, as it is: a salvager changes nothing, and believes nothing.
    #[cfg(feature = "node")]
    Unfinished(Unfinished),
    Write(Database),
}

/// An open redb file.
pub(super) struct StoreFile {
    // `None` only while it is dropped.
    handle: Option<Handle>,
    /// The same file, to compare its pages, where it is open to write.
    #[cfg(feature = "node")]
    pages: Option<PageFile>,
    path: PathBuf,
}

impl StoreFile {
    /// Opens the file, and waits up to `wait` while another process holds it. With `checked` the caller says that this
    /// process has opened the file to write before: its pages are not all read again.
    pub(super) fn open(path: &Path, access: Access, wait: Duration, checked: bool) -> Result<Self, StoreError> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let fault = match guarded(|| Self::open_once(path, access, checked)) {
                Ok(file) => return Ok(file),
                Err(fault) => fault,
            };
            if !matches!(fault, Fault::Held) {
                return Err(with_path(path, "open", fault));
            }
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(StoreError::Busy { path: path.to_owned(), waited: started.elapsed() });
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn open_once(path: &Path, access: Access, checked: bool) -> Result<Self, Fault> {
        let handle = open_handle(path, access, checked)?;
        // Whoever would put another file under this name waits for who has this one open.
        #[cfg(feature = "node")]
        let pages = matches!(handle, Handle::Write(_)).then(|| PageFile::open(path)).transpose()?;
        Ok(Self {
            handle: Some(handle),
            #[cfg(feature = "node")]
            pages,
            path: path.to_owned(),
        })
    }

    /// Opens what is left of a file that cannot be opened otherwise, to be read. Nothing of it is checked.
    #[cfg(feature = "node")]
    pub(super) fn open_unfinished(path: &Path) -> Result<Self, StoreError> {
        match guarded(|| Unfinished::open(path, CACHE_BYTES)) {
            Ok(unfinished) => {
                Ok(Self { handle: Some(Handle::Unfinished(unfinished)), pages: None, path: path.to_owned() })
            }
            Err(fault) => Err(with_path(path, "open", fault)),
        }
    }

    /// Makes a new file: `fill` writes the first transaction. See F2.
    pub(super) fn create(
        path: &Path,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        if path.try_exists().map_err(|source| io_error(path, "look for", source))? {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let new = Beside::new(path, "new");
        guarded(|| {
            // `create` opens what is there: a leftover of a kill must not become the new store.
            remove_if_there(new.path()).map_err(Fault::Io)?;
            let database = Builder::new().set_cache_size(CACHE_BYTES).create(new.path())?;
            write(&database, Durability::Immediate, fill)
        })
        .map_err(|fault| with_path(path, "create", fault))?;
        sync_file(new.path()).map_err(|source| io_error(path, "sync", source))?;
        name_new(new.path(), path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.to_owned() },
            _ => io_error(path, "name", source),
        })?;
        sync_folder_of(path).map_err(|source| io_error(path, "sync the folder of", source))
    }

    /// The path it was opened under.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads within one consistent view.
    pub(super) fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.guard("read", || {
            let transaction = match &self.handle {
                Some(Handle::Read(database)) => database.begin_read()?,
                Some(Handle::Write(database) | Handle::Finished(database)) => database.begin_read()?,
                #[cfg(feature = "node")]
                Some(Handle::Unfinished(unfinished)) => unfinished.database().begin_read()?,
                None => return Err(Fault::damaged("it is closed")),
            };
            read(&transaction)
        })
    }

    /// Works on what was read from this file before (F1).
    pub(super) fn guard<T>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        guarded(work).map_err(|fault| with_path(&self.path, action, fault))
    }

    /// Writes one transaction. With [`Durability::Immediate`] a power loss does not undo it once this has returned.
    pub(super) fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        let Some(Handle::Write(database)) = &self.handle else {
            return Err(StoreError::ReadOnly { path: self.path.clone() });
        };
        guarded(|| write(database, durability, fill)).map_err(|fault| with_path(&self.path, "write", fault))
    }

    /// Goes on comparing pages while the caller holds a view; see [`PageFile`]. Nothing is compared of a file that is open to be read.
    #[cfg(feature = "node")]
    pub(super) fn compare_pages(&self, place: &PagePlace, bytes: usize) -> Result<Option<PagePlace>, StoreError> {
        self.guard("read", || self.pages.as_ref().map_or(Ok(None), |pages| pages.compare_some(place, bytes)))
    }

    /// This file is damaged, in these words.
    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.into() }
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        let handle = self.handle.take();
        // Closing writes to the file too; what a damaged one does then changes nothing for the caller.
        let _ = guarded(|| {
            drop(handle);
            Ok(())
        });
    }
}

impl std::fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn open_handle(path: &Path, access: Access, checked: bool) -> Result<Handle, Fault> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    match access {
        Access::Read => match builder.open_read_only(path).map_err(Fault::from) {
            Ok(database) => Ok(Handle::Read(database)),
            Err(Fault::NeedsWriter) => finish(path).map(Handle::Finished),
            Err(fault) => Err(fault),
        },
        Access::Write => {
            if !checked {
                drop(rehearse(path, CACHE_BYTES)?);
            }
            Ok(Handle::Write(builder.open(path)?))
        }
        #[cfg(feature = "node")]
        Access::Watched => {
            drop(finish(path)?);
            Ok(Handle::Write(builder.open(path)?))
        }
    }
}

/// Finishes in memory what a kill left. Each durable commit of ours says what is free, so that mostly no page of rows is read for it.
fn finish(path: &Path) -> Result<Database, Fault> {
    #[cfg(feature = "node")]
    match rehearse_opening(path, CACHE_BYTES, || PageFile::open(path)?.compare_own()) {
        Err(Fault::NeedsWriter) => {}
        other => return other,
    }
    rehearse(path, CACHE_BYTES)
}

fn write(
    database: &Database,
    durability: Durability,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    let durable = matches!(durability, Durability::Immediate);
    transaction.set_durability(durability).map_err(|error| Fault::damaged(error.to_string()))?;
    // Two phases: the old commit stays reachable until the new one is on the disk, checksums or not. The allocator
    // state goes with it, so that after a kill the file opens for readers at once.
    transaction.set_quick_repair(durable);
    fill(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Runs `work` and turns a panic into damage (F1).
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Nothing that `work` may have left half-changed is used again: a store that reported damage is closed.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without words");
        Err(Fault::damaged(format!("reading it ended in a panic: {words}")))
    })
}

fn with_path(path: &Path, action: &'static str, fault: Fault) -> StoreError {
    let path = path.to_owned();
    match fault {
        Fault::Held => StoreError::Busy { path, waited: Duration::ZERO },
        Fault::Damaged(what) => StoreError::Damaged { path, what },
        Fault::Newer { layout, known } => StoreError::Newer { path, layout, known },
        Fault::NeedsWriter => StoreError::Damaged { path, what: "it was not closed and could not be finished".into() },
        Fault::Io(source) if source.kind() == io::ErrorKind::NotFound => StoreError::Missing { path },
        Fault::Io(source) => StoreError::Io { action, path, source },
    }
}
