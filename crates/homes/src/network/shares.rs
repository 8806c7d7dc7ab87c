//! The shares of a node where validators hand their one key on: the one in `node.key`, and those that ceremonies made for sets to come.
//!
//! ```text
//! shares/<from>-<to>   a key file, whose share is of the polynomial with the hash <to>; it was dealt by those of the one with <from>
//! node.replaced        the key file that another took the place of, until it is erased
//! resharing            what the node keeps of the ceremony: how often it began, and what it signed last
//! ```
//!
//! - **Owns** which share is the one of a network, and when one is erased.
//! - **Does not** make shares, or say which network is in force.
//!
//! # Invariants
//! - **A1** A share that a node may have signed for is in a file until one of another polynomial has taken its place: killed at any instant, the node
//!   finds its share of the tenure that is in force.
//! - **A2** A share is erased only for what is final: it is of a tenure that is over, or dealt in one. What is of none that this ledger has had stays,
//!   for the ledger may have been put back.
//!
//! Format: `docs/design/node.md`, section *Data folder*.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::hex;
use blockhouse_consensus::ceremony::{Record, Share};
use blockhouse_consensus::{Keys, Network};
use blockhouse_crypto::hash::hash;

use super::folder::{FolderError, NodeFolder, io_error, sync, write_durably};

const NAME: &str = "blockhouse v1 share of";

/// What names a polynomial in the names of files.
fn name_of(polynomial: &[u8]) -> String {
    hex::encode(hash(NAME, polynomial))
}

/// The tenures of a ledger up to the one in which its head is.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Those that are over.
    pub(super) former: Vec<Network>,
    /// The one in force; a block of it is final.
    pub(super) current: Network,
}

impl NodeFolder {
    /// The node's keys, with its share of that network's key if it has one.
    pub fn keys_for(&self, network: &Network) -> Result<Keys, FolderError> {
        let keys = self.read_keys()?;
        if !network.shares_a_key() || network.is_share_of(&keys) {
            return Ok(keys);
        }
        let kept = network.polynomial().map(|polynomial| self.kept_share(&keys, &polynomial)).transpose()?.flatten();
        Ok(kept.filter(|kept| network.is_share_of(kept)).unwrap_or(keys))
    }

    /// Makes a new share durable, beside the one in force. See A1.
    pub(super) fn keep_share(&self, keys: &Keys, share: &Share, from: &[u8], to: &[u8]) -> Result<(), FolderError> {
        let folder = self.shares();
        std::fs::create_dir_all(&folder).map_err(|source| io_error("make", &folder, source))?;
        sync(self.path())?;
        let path = folder.join(format!("{}-{}", name_of(from), name_of(to)));
        write_durably(&path, &keys.clone().with_share(share.clone()).encode(), 0o600)
    }

    /// The keys with the share of that polynomial, if a ceremony made one here.
    pub(super) fn kept_share(&self, keys: &Keys, polynomial: &[u8]) -> Result<Option<Keys>, FolderError> {
        let to = name_of(polynomial);
        for path in self.kept()? {
            if parts(&path).is_some_and(|(_, its)| its == to) {
                let kept = Self::read_key_file(&path)?;
                return Ok(Some(kept).filter(|kept| kept.public() == keys.public()));
            }
        }
        Ok(None)
    }

    /// Puts the share of the tenure in force in its place, and erases those that are of no use any more. Done again after a kill, it ends the same. A2.
    pub(super) fn settle_shares(&self, held: &Held) -> Result<(), FolderError> {
        let current = held.current.polynomial().map(|polynomial| name_of(&polynomial));
        let former: Vec<String> = held.former.iter().filter_map(|it| Some(name_of(&it.polynomial()?))).collect();
        let is_over = |name: &str| former.iter().any(|over| over == name);
        let (mut own, mut dead) = (Vec::new(), Vec::new());
        for path in self.kept()? {
            match parts(&path) {
                Some((_, to)) if Some(to) == current.as_deref() => own.push(path),
                Some((from, _)) if is_over(from) => dead.push(path),
                // What a kill left half written.
                None => dead.push(path),
                Some(_) => {}
            }
        }
        dead.iter().try_for_each(|path| erase(path))?;
        self.erase_replaced()?;
        let keys = self.read_keys()?;
        if !held.current.is_share_of(&keys) {
            let next = self.keys_for(&held.current)?;
            let has_share = held.current.is_share_of(&next);
            if has_share || held.former.iter().any(|former| former.is_share_of(&keys)) {
                let next = if has_share { next } else { keys.without_share() };
                self.replace_keys(&next)?;
            }
        }
        own.iter().try_for_each(|path| erase(path))
    }

    /// What the old `node.key` is called besides until it is erased. It is not in `shares/`: before the rename it is the key file itself.
    fn replaced(&self) -> PathBuf {
        self.path().join("node.replaced")
    }

    /// Writes the keys anew, and over the bytes of those before.
    fn replace_keys(&self, keys: &Keys) -> Result<(), FolderError> {
        let (path, old) = (self.path().join("node.key"), self.replaced());
        std::fs::hard_link(&path, &old).map_err(|source| io_error("link", &old, source))?;
        sync(self.path())?;
        self.write_share(keys)?;
        self.erase_replaced()
    }

    /// Erases the key file that was replaced. One that a kill left before the rename is the key file in force: it only loses the second name.
    fn erase_replaced(&self) -> Result<(), FolderError> {
        let (path, old) = (self.path().join("node.key"), self.replaced());
        let failed = |source| io_error("erase", &old, source);
        let inode = |path: &Path| std::fs::metadata(path).map(|found| found.ino());
        match inode(&old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
            Ok(found) if found == inode(&path).map_err(failed)? => {
                std::fs::remove_file(&old).map_err(failed)?;
                sync(self.path())
            }
            Ok(_) => erase(&old),
        }
    }

    /// What the node keeps of the ceremony by which a key is handed on.
    pub(super) fn read_resharing(&self) -> Result<Record, FolderError> {
        Self::read_record_at(&self.path().join("resharing"))
    }

    /// Makes it durable.
    pub(super) fn write_resharing(&self, record: &Record) -> Result<(), FolderError> {
        write_durably(&self.path().join("resharing"), &record.encode(), 0o644)
    }

    fn shares(&self) -> PathBuf {
        self.path().join("shares")
    }

    fn kept(&self) -> Result<Vec<PathBuf>, FolderError> {
        let folder = self.shares();
        let failed = |source| io_error("look into", &folder, source);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }
}

/// What a file of shares is called by; nothing if it is none, as what a kill left half written.
fn parts(path: &Path) -> Option<(&str, &str)> {
    let (from, to) = path.file_name()?.to_str()?.split_once('-')?;
    (to.len() == 64).then_some((from, to))
}

/// Writes over a file and removes it. A disk that writes elsewhere, or a copy, may keep the bytes all the same.
fn erase(path: &Path) -> Result<(), FolderError> {
    let run = || -> io::Result<()> {
        overwrite(&mut OpenOptions::new().write(true).open(path)?)?;
        std::fs::remove_file(path)
    };
    run().map_err(|source| io_error("erase", path, source))?;
    sync(path.parent().unwrap_or(path))
}

fn overwrite(file: &mut std::fs::File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
