//! A vault folder while a vault is being made in it: what was made goes away again unless the making ends well.
//!
//! - **Owns** the files that a half-made vault leaves.
//! - **Does not** touch a file that was there before.
//!
//! # Invariants
//! - **U1** A making that fails leaves nothing in the folder that it made; one that is killed, also while it takes back, leaves files
//!   without a `config.toml`, which [`leftovers`] names.
//! - **U2** One process at a time makes a vault in a folder: what it takes back is its own.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::VaultFolder;

/// The files of a vault in a folder that has none: a making was killed there, or the configuration was lost.
pub fn leftovers(folder: &VaultFolder) -> Vec<PathBuf> {
    let files = [folder.secrets(), folder.ledger(), folder.outbox()];
    files.into_iter().filter(|file| file.symlink_metadata().is_ok()).collect()
}

/// Moves a file of an earlier vault out of the way, under a name that says so; none if it is not there.
fn set_aside(file: &Path) -> io::Result<Option<PathBuf>> {
    if file.symlink_metadata().is_err() {
        return Ok(None);
    }
    let mut number = 1_u32;
    loop {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".old-{number}"));
        let aside = PathBuf::from(name);
        if aside.symlink_metadata().is_err() {
            fs::rename(file, &aside)?;
            return Ok(Some(aside));
        }
        number += 1;
    }
}

/// The folder, and what is taken back with this value unless it is kept.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// The configuration first: without it the rest is no vault.
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
    /// Held while the vault is made. Not on the folder itself, which the making of the ledger locks.
    lock: PathBuf,
    _alone: File,
}

impl Unfinished {
    /// Makes the folder if it is not there; none if another process is making a vault in it. Files of a vault that are there are not
    /// touched.
    pub(crate) fn begin(folder: &VaultFolder) -> io::Result<Option<Self>> {
        let is_new = folder.root().symlink_metadata().is_err();
        DirBuilder::new().recursive(true).mode(0o700).create(folder.root())?;
        let lock = folder.root().join(".making");
        let Some(alone) = lock_file(&lock)? else { return Ok(None) };
        let made = [folder.config(), folder.recovery_sheet(), folder.ledger(), folder.secrets()];
        Ok(Some(Self {
            files: made.into_iter().filter(|file| file.symlink_metadata().is_err()).collect(),
            folder: is_new.then(|| folder.root().to_owned()),
            lock,
            _alone: alone,
        }))
    }

    /// Moves the files of an earlier vault out of the way, to stay there; their names are free from then on. The new names.
    pub(crate) fn set_aside(&mut self, folder: &VaultFolder) -> io::Result<Vec<PathBuf>> {
        let mut kept = Vec::new();
        for file in leftovers(folder) {
            kept.extend(set_aside(&file)?);
            self.files.push(file);
        }
        Ok(kept)
    }

    /// The vault is made.
    pub(crate) fn keep(mut self) {
        self.stay();
    }

    /// What is made stays from here on, whatever comes: others know of it. The folder is still this process's.
    pub(crate) fn stay(&mut self) {
        self.files.clear();
        self.folder = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is named by the next try. A folder with something else in it stays.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_file(&self.lock);
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Creates the file and locks it; none if another process has it. Its holder removes it, so a lock on a file that has lost its name
/// keeps nobody out and does not count.
fn lock_file(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    let (held, named) = (file.metadata()?, path.symlink_metadata());
    let is_named = named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
    Ok(is_named.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(folder: &VaultFolder) -> Unfinished {
        Unfinished::begin(folder).unwrap().unwrap()
    }

    #[test]
    fn what_was_made_goes_away_and_what_was_there_stays() {
        let base = tempfile::tempdir().unwrap();
        let folder = VaultFolder::new(base.path().join("vault"));
        let unfinished = begin(&folder);
        assert_eq!(unfinished.files.first(), Some(&folder.config()), "a kill while it is taken back leaves no vault");
        fs::write(folder.secrets(), b"s").unwrap();
        fs::write(folder.ledger(), b"l").unwrap();
        assert_eq!(leftovers(&folder), [folder.secrets(), folder.ledger()]);
        drop(unfinished);
        assert!(!folder.root().exists());

        fs::create_dir(folder.root()).unwrap();
        fs::write(folder.ledger(), b"before").unwrap();
        let unfinished = begin(&folder);
        fs::write(folder.secrets(), b"s").unwrap();
        drop(unfinished);
        assert_eq!(leftovers(&folder), [folder.ledger()]);
        let mut unfinished = begin(&folder);
        let aside = unfinished.set_aside(&folder).unwrap().remove(0);
        assert_eq!(fs::read(&aside).unwrap(), b"before");
        assert!(unfinished.set_aside(&folder).unwrap().is_empty());
        fs::write(folder.ledger(), b"again").unwrap();
        drop(unfinished);
        assert!(leftovers(&folder).is_empty(), "the name was free, so what took it is taken back");
        fs::write(folder.ledger(), b"again").unwrap();
        assert_ne!(begin(&folder).set_aside(&folder).unwrap(), [aside]);

        begin(&folder).keep();
        assert!(folder.root().exists());
    }

    /// What was seen: two `init` in one folder, and the one that failed removed the files of the one that made the vault.
    #[test]
    fn two_at_once_do_not_take_back_each_others_files() {
        let base = tempfile::tempdir().unwrap();
        let folder = VaultFolder::new(base.path().join("vault"));
        let first = begin(&folder);
        assert!(Unfinished::begin(&folder).unwrap().is_none());
        fs::write(folder.secrets(), b"s").unwrap();
        assert!(Unfinished::begin(&folder).unwrap().is_none());
        first.keep();
        assert_eq!(fs::read(folder.secrets()).unwrap(), b"s");
        assert_eq!(fs::read_dir(folder.root()).unwrap().count(), 1, "the lock is gone");
        // A killed one leaves the lock's file behind: it holds nobody up.
        fs::write(folder.root().join(".making"), b"").unwrap();
        drop(begin(&folder));
        assert_eq!(fs::read(folder.secrets()).unwrap(), b"s");
    }
}
