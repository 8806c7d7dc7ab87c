//! A first try at opening a file to write, in which nothing is written to it.
//!
//! redb checks its pages only when asked to, and on pages that are not what it expects its writing code can panic, and
//! panic again while it closes, which no caller survives. So the file is first opened over memory that takes all
//! writes, all its pages are compared with their checksums, and only then it is opened in earnest. Who compares the pages of rows by himself
//! while it is open tries the opening alone.
//!
//! - **Owns** the memory over the file.
//! - **Does not** know the tables.
//!
//! # Invariants
//! - **R1** The file is not changed by a rehearsal.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "node")]
use redb::RepairSession;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, StorageBackend};

use super::error::Fault;
#[cfg(feature = "node")]
use super::pages::{MAGIC, UNFINISHED};

/// The unit in which written bytes are kept.
const BLOCK: u64 = 4096;

/// Opens the file over memory and checks every page. What the database then writes goes nowhere.
pub(super) fn rehearse(path: &Path, cache_bytes: usize) -> Result<Database, Fault> {
    over_memory(path, |backend| {
        let mut builder = Builder::new();
        let database = builder.set_cache_size(cache_bytes).create_with_backend(backend)?;
        let mut database = ManuallyDrop::new(database);
        if database.check_integrity()? {
            Ok(ManuallyDrop::into_inner(database))
        } else {
            Err(Fault::damaged("a page does not have its checksum"))
        }
    })
}

/// Opens the file over memory as it is, and asks whether what redb went by is sound. One that redb would repair is left alone: that reads all
/// of it, and is for [`rehearse`].
#[cfg(feature = "node")]
pub(super) fn rehearse_opening(
    path: &Path,
    cache_bytes: usize,
    is_sound: impl FnOnce() -> Result<bool, Fault>,
) -> Result<Database, Fault> {
    over_memory(path, |backend| {
        let mut builder = Builder::new();
        builder.set_repair_callback(RepairSession::abort);
        let database = ManuallyDrop::new(builder.set_cache_size(cache_bytes).create_with_backend(backend)?);
        // It holds the file: nobody writes to it meanwhile.
        if is_sound()? { Ok(ManuallyDrop::into_inner(database)) } else { Err(Fault::NeedsWriter) }
    })
}

fn over_memory(path: &Path, open: impl FnOnce(Overlay) -> Result<Database, Fault>) -> Result<Database, Fault> {
    let backend = Overlay::open(path)?;
    let file = Arc::clone(&backend.file);
    // A database that failed is not dropped: closing it could panic. What it holds of the system is given back here.
    let opened = super::file::guarded(|| open(backend));
    if opened.is_err() {
        *lock(&file) = None;
    }
    opened
}

/// A file that was not closed, as its last commit left it: no page of it was compared with its checksum.
#[cfg(feature = "node")]
pub(super) struct Unfinished {
    // Never dropped: closing it could panic.
    database: ManuallyDrop<Database>,
    file: Arc<Mutex<Option<FileBackend>>>,
}

#[cfg(feature = "node")]
impl Unfinished {
    /// Opens it over memory, as if it had been closed: whoever wants to know what is left of a damaged file finds nothing by its repair,
    /// which ends at the first damaged page.
    pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Self, Fault> {
        let backend = Overlay::open(path)?;
        let mut beginning = [0; MAGIC.len() + 1];
        backend.read(0, &mut beginning).map_err(Fault::Io)?;
        let [magic @ .., flags] = beginning;
        if magic != MAGIC {
            return Err(Fault::damaged("it is no store"));
        }
        backend.write(MAGIC.len() as u64, &[flags & !UNFINISHED]).map_err(Fault::Io)?;
        let file = Arc::clone(&backend.file);
        let opened = super::file::guarded(|| {
            let mut builder = Builder::new();
            Ok(ManuallyDrop::new(builder.set_cache_size(cache_bytes).create_with_backend(backend)?))
        });
        match opened {
            Ok(database) => Ok(Self { database, file }),
            Err(fault) => {
                *lock(&file) = None;
                Err(fault)
            }
        }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }
}

#[cfg(feature = "node")]
impl Drop for Unfinished {
    fn drop(&mut self) {
        *lock(&self.file) = None;
    }
}

/// The file below, the memory above.
struct Overlay {
    /// `None` after it was given back.
    file: Arc<Mutex<Option<FileBackend>>>,
    written: Mutex<Written>,
}

struct Written {
    length: u64,
    /// The least length so far: what the file holds above it was cut off and is zero.
    least: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn open(path: &Path) -> Result<Self, Fault> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(Fault::Io)?;
        let length = file.metadata().map_err(Fault::Io)?.len();
        if length == 0 {
            // redb would make an empty database of it.
            return Err(Fault::damaged("it is empty"));
        }
        let file = Arc::new(Mutex::new(Some(FileBackend::new(file)?)));
        Ok(Self { file, written: Mutex::new(Written { length, least: length, blocks: BTreeMap::new() }) })
    }

    fn with_file<T, E: From<io::Error>>(&self, work: impl FnOnce(&FileBackend) -> Result<T, E>) -> Result<T, E> {
        match lock(&self.file).as_ref() {
            Some(file) => work(file),
            None => Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }

    /// A block as it now reads.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or(usize::MAX)];
        let start = number * BLOCK;
        let there = usize::try_from(written.least.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        if let Some(bytes) = block.get_mut(..there).filter(|bytes| !bytes.is_empty()) {
            self.with_file(|file| file.read(start, bytes))?;
        }
        Ok(block)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.written).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = lock(&self.written);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, out) {
            let block = self.block(&written, number)?;
            part.copy_from_slice(block.get(within..within + part.len()).unwrap_or_default());
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = lock(&self.written);
        written.length = written.length.max(offset.saturating_add(data.len() as u64));
        let mut copy = data.to_vec();
        for (number, within, part) in parts(offset, &mut copy) {
            let mut block = self.block(&written, number)?;
            if let Some(place) = block.get_mut(within..within + part.len()) {
                place.copy_from_slice(part);
            }
            written.blocks.insert(number, block);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = lock(&self.written);
        if length < written.length {
            let first = length / BLOCK;
            let mut last = self.block(&written, first)?;
            let kept = usize::try_from(length % BLOCK).unwrap_or(0);
            last.iter_mut().skip(kept).for_each(|byte| *byte = 0);
            written.blocks.split_off(&first);
            written.blocks.insert(first, last);
            written.least = written.least.min(length);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.with_file(FileBackend::close)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.with_file(|file| file.try_lock_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.with_file(|file| file.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.with_file(|file| file.lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.with_file(|file| file.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.with_file(|file| file.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.with_file(|file| file.query_lock_range(start, end))
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overlay")
    }
}

/// Cuts a buffer that stands at `offset` into pieces of one block each: block number, place in the block, piece.
fn parts(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let mut at = offset;
    let mut left = bytes;
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let within = at % BLOCK;
        let length = usize::try_from(BLOCK - within).unwrap_or(usize::MAX).min(left.len());
        let (part, rest) = std::mem::take(&mut left).split_at_mut(length);
        let number = at / BLOCK;
        left = rest;
        at += length as u64;
        Some((number, usize::try_from(within).unwrap_or(0), part))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Resize(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_u64, proptest::collection::vec(any::<u8>(), 1..9000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0..30_000_u64).prop_map(Step::Resize),
        ]
    }

    proptest! {
        /// The overlay reads as a plain vector would, and the file stays as it was.
        #[test]
        fn overlay_is_a_vector_over_an_unchanged_file(
            original in proptest::collection::vec(any::<u8>(), 1..20_000),
            steps in proptest::collection::vec(step(), 0..12),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &original).unwrap();
            let Ok(overlay) = Overlay::open(file.path()) else { panic!("the file opens") };
            let mut model = original.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let start = usize::try_from(at).unwrap();
                        let end = start + data.len();
                        model.resize(model.len().max(end), 0);
                        model[start..end].copy_from_slice(&data);
                        overlay.write(at, &data).unwrap();
                    }
                    Step::Resize(length) => {
                        model.resize(usize::try_from(length).unwrap(), 0);
                        overlay.set_len(length).unwrap();
                    }
                }
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
                let mut read = vec![0xaa; model.len()];
                overlay.read(0, &mut read).unwrap();
                prop_assert!(read == model);
            }
            prop_assert!(overlay.read(model.len() as u64, &mut [0]).is_err());
            prop_assert!(std::fs::read(file.path()).unwrap() == original);
        }
    }
}
