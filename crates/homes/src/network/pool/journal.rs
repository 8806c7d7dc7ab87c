//! The file that keeps the transactions handed in at this node over a restart.
//!
//! - **Owns** the file `pool`: its order of writes, and what is read of it after a kill or a fault of the disk.
//! - **Does not** know what waits: the pool's own transactions are given to it, and all that it returns is examined and
//!   added again like new.
//!
//! # Invariants
//! - **J1** What [`Journal::append`] was given is on the disk when it returns: a kill or a loss of power does not undo it.
//! - **J2** Under the name there is a file that this code wrote, whole up to at most one unfinished append.
//! - **J3** Only what was appended is ever returned, each transaction whole. A fault of the disk takes no more than the
//!   transactions whose bytes it changed.
//! - **J4** After a failed write nothing more is written until the file was opened again.
//!
//! One process at a time: the node holds the lock of its folder. Format: `docs/design/mempool.md`.

mod record;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blockhouse_types::DecodeError;

use super::examine::Examined;
use crate::store::{folder_of, suffixed, sync_folder_of};

pub use record::{Decoded, Fault, decode};

/// How much longer than the transactions that wait the file may be before it is written anew: so it is not done for
/// each of a few.
const SLACK: u64 = 1024 * 1024;

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    #[error("could not {action} the pool's journal {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the pool's journal {} cannot be read by this version", path.display())]
    Newer {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("an earlier write to the pool's journal {} failed; start the node again", path.display())]
    Poisoned { path: PathBuf },
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The transactions, in the order in which they came.
    pub transactions: Vec<Vec<u8>>,
    /// Bytes of an append that a kill interrupted: nobody was told that it was done.
    pub torn: usize,
    /// Where the file is kept that a fault of the disk damaged; what could be read of it is in `transactions`.
    pub damaged: Option<PathBuf>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` after a failed write.
    file: Option<File>,
    length: u64,
    /// The length when it was last written anew.
    rewritten: u64,
}

impl Journal {
    /// Opens the journal, or makes an empty one, and gives what it held. What a kill or a fault left in it is removed.
    pub fn open(path: &Path) -> Result<(Self, Recovered), JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(io_error(path, "read", source)),
        };
        let mut journal = Self { path: path.to_owned(), file: None, length: 0, rewritten: 0 };
        let Some(bytes) = bytes else {
            journal.replace(&[])?;
            return Ok((journal, Recovered::default()));
        };
        let decoded = decode(&bytes).map_err(|source| JournalError::Newer { path: path.to_owned(), source })?;
        let mut recovered = Recovered::default();
        match decoded.fault {
            None => {}
            Some(Fault::Torn { bytes }) => recovered.torn = bytes,
            Some(Fault::Damaged) => recovered.damaged = Some(set_aside(path)?),
        }
        // Also of a whole file: whatever wrote it may have been killed before it was durable, and much of it is done.
        let records: Vec<_> = decoded.transactions.iter().flat_map(|tx| record::encode(tx)).collect();
        journal.replace(&records)?;
        recovered.transactions = decoded.transactions.into_iter().map(<[u8]>::to_vec).collect();
        Ok((journal, recovered))
    }

    /// Appends transactions. They are durable when this returns, all with one sync: collect what comes at the same time.
    pub fn append<'a>(&mut self, txs: impl IntoIterator<Item = &'a Examined>) -> Result<(), JournalError> {
        let records: Vec<_> = txs.into_iter().flat_map(|tx| record::encode(&tx.bytes())).collect();
        // Taken away until it is known that the write succeeded (J4).
        let Some(mut file) = self.file.take() else {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        };
        file.write_all(&records).map_err(|source| io_error(&self.path, "write to", source))?;
        file.sync_data().map_err(|source| io_error(&self.path, "sync", source))?;
        self.length = self.length.saturating_add(records.len() as u64);
        self.file = Some(file);
        Ok(())
    }

    /// True if most of the file may be done: then [`Journal::rewrite`] it.
    pub const fn is_grown(&self) -> bool {
        self.length > self.rewritten.saturating_mul(2).saturating_add(SLACK)
    }

    /// Writes the file anew with the transactions that still wait: [`super::Pool::local`].
    pub fn rewrite<'a>(&mut self, live: impl IntoIterator<Item = &'a Examined>) -> Result<(), JournalError> {
        if self.file.is_none() {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let records: Vec<_> = live.into_iter().flat_map(|tx| record::encode(&tx.bytes())).collect();
        self.replace(&records)
    }

    /// Puts a file with these records under the name, durably: written beside, synced, renamed, the folder synced.
    fn replace(&mut self, records: &[u8]) -> Result<(), JournalError> {
        self.file = None;
        let beside = suffixed(&self.path, "new");
        let bytes = [&record::header()[..], records].concat();
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(file)
        });
        let file = written.map_err(|source| io_error(&beside, "write", source))?;
        std::fs::rename(&beside, &self.path).map_err(|source| io_error(&self.path, "name", source))?;
        sync_folder_of(&self.path).map_err(|source| io_error(folder_of(&self.path), "sync the folder of", source))?;
        self.length = bytes.len() as u64;
        self.rewritten = self.length;
        self.file = Some(file);
        Ok(())
    }
}

/// Keeps a damaged file under `pool.damaged`; an earlier one gives way.
fn set_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let kept = suffixed(path, "damaged");
    let copied = std::fs::copy(path, &kept).and_then(|_| File::open(&kept)?.sync_all());
    copied.map_err(|source| io_error(path, "keep a copy of", source))?;
    Ok(kept)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
