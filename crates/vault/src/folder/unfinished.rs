//! A vault folder while a vault is being made in it: what was made goes away again unless the making ends well.
//!
//! - **Owns** the files that a half-made vault leaves.
//! - **Does not** touch a file that was there before.
//!
//! # Invariants
//! - **U1** A making that fails leaves nothing in the folder that it made; one that is killed leaves files without a
//!   `config.toml`, which [`leftovers`] names.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::VaultFolder;

/// The files of a vault in a folder that has none: a making was killed there, or the configuration was lost.
pub fn leftovers(folder: &VaultFolder) -> Vec<PathBuf> {
    let files = [folder.secrets(), folder.ledger()];
    files.into_iter().filter(|file| file.symlink_metadata().is_ok()).collect()
}

/// Moves a file of an earlier vault out of the way, under a name that says so; none if it is not there.
pub(crate) fn set_aside(file: &Path) -> io::Result<Option<PathBuf>> {
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
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
}

impl Unfinished {
    /// Makes the folder if it is not there. Files of a vault that are there are not touched.
    pub(crate) fn begin(folder: &VaultFolder) -> io::Result<Self> {
        let is_new = folder.root().symlink_metadata().is_err();
        DirBuilder::new().recursive(true).mode(0o700).create(folder.root())?;
        let made = [folder.secrets(), folder.ledger(), folder.recovery_sheet(), folder.config()];
        Ok(Self {
            files: made.into_iter().filter(|file| file.symlink_metadata().is_err()).collect(),
            folder: is_new.then(|| folder.root().to_owned()),
        })
    }

    /// The vault is made.
    pub(crate) fn keep(mut self) {
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
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_away_and_what_was_there_stays() {
        let base = tempfile::tempdir().unwrap();
        let folder = VaultFolder::new(base.path().join("vault"));
        let unfinished = Unfinished::begin(&folder).unwrap();
        fs::write(folder.secrets(), b"s").unwrap();
        fs::write(folder.ledger(), b"l").unwrap();
        assert_eq!(leftovers(&folder), [folder.secrets(), folder.ledger()]);
        drop(unfinished);
        assert!(!folder.root().exists());

        fs::create_dir(folder.root()).unwrap();
        fs::write(folder.ledger(), b"before").unwrap();
        let unfinished = Unfinished::begin(&folder).unwrap();
        fs::write(folder.secrets(), b"s").unwrap();
        drop(unfinished);
        assert_eq!(leftovers(&folder), [folder.ledger()]);
        let aside = set_aside(&folder.ledger()).unwrap().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), b"before");
        assert_eq!(set_aside(&folder.ledger()).unwrap(), None);
        fs::write(folder.ledger(), b"again").unwrap();
        assert_ne!(set_aside(&folder.ledger()).unwrap().unwrap(), aside);

        Unfinished::begin(&folder).unwrap().keep();
        assert!(folder.root().exists());
    }
}
