//! Files beside the store: names for one that is being made, copies of damaged ones, and the durability of names.
//!
//! - **Owns** the names, and when a file of them goes away.
//! - **Does not** know what is in them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// A name beside the store for one that is being made; the file goes away with the value, unless it was renamed.
pub(crate) fn beside(path: &Path, what: &str) -> Beside {
    Beside::new(path, what)
}

/// Removes what killed makers of such files have left beside the store. The caller keeps others out.
#[cfg(feature = "node")]
pub(crate) fn remove_leftovers(path: &Path, what: &str) -> Result<(), StoreError> {
    let failed = |source| io_error(path, "remove what is left beside", source);
    let prefix = suffixed(path, &format!("{what}-"));
    let Some(prefix) = prefix.file_name().map(std::ffi::OsStr::as_encoded_bytes) else { return Ok(()) };
    for entry in std::fs::read_dir(folder_of(path)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Keeps what is at `path` under `<path>.damaged-<n>` too, and returns that name; nothing if nothing is there.
///
/// The old name stays until the new store takes it over: there is no moment without a file.
pub(crate) fn keep(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    for count in 1_u32..=u32::MAX {
        let name = suffixed(path, &format!("damaged-{count}"));
        match std::fs::hard_link(path, &name) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(path, "keep a copy of", source)),
        }
    }
    Ok(None)
}

/// Makes the names in the folder of the store durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    sync_folder_of(path).map_err(|source| io_error(path, "sync the folder of", source))
}

/// A file beside the store that goes away with this value, unless it was renamed.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
}

impl Beside {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `<store>.<what>-<process>-<count>`: two writers never share one.
    pub(super) fn new(store: &Path, what: &str) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { path: suffixed(store, &format!("{what}-{}-{count}", std::process::id())) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Only a leftover: the next one overwrites it.
        let _ = remove_if_there(&self.path);
    }
}

/// `<store>.<suffix>`.
pub(crate) fn suffixed(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives `from` the name `to`, and fails if that name is taken.
pub(crate) fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems know links only.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => std::fs::hard_link(from, to),
        other => Ok(other?),
    }
}

/// Makes what is in a file durable.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The system refused this to the store.
pub(super) fn io_error(path: &Path, action: &'static str, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}
