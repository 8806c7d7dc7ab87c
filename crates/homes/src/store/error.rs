//! Why the block store could not do what it was asked.

use std::path::PathBuf;
use std::time::Duration;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process held it for the whole time that was allowed to wait.
    #[error("the ledger store {} was in use by another process for {} s", path.display(), waited.as_secs())]
    Busy { path: PathBuf, waited: Duration },
    /// There is no such file.
    #[error("there is no ledger store at {}", path.display())]
    Missing { path: PathBuf },
    /// Creation found a file where the new store was to go.
    #[error("there is already a ledger store at {}", path.display())]
    Exists { path: PathBuf },
    /// Its content is not what its head commits to, or not a store at all.
    #[error("the ledger store {} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// A later release wrote it: it is not damaged, and nothing of it is changed.
    #[error("the ledger store {} has layout {layout}, of a newer blockhouse; this one reads layout {known}", path.display())]
    Newer { path: PathBuf, layout: u8, known: u8 },
    /// The disk or the file system failed.
    #[error("could not {action} the ledger store {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A block was offered that does not follow the head.
    #[error("block {height} does not follow the head {head} of the ledger store")]
    NotNext { height: u64, head: u64 },
    /// The store began above block 0, and what is below is not here yet.
    #[error("block {height} is not here yet: this ledger store holds blocks from {bottom} on, and fetches those below")]
    NotHere { height: u64, bottom: u64 },
    /// A write was asked of a store that was opened to be read.
    #[error("the ledger store {} was opened to be read, not to be written", path.display())]
    ReadOnly { path: PathBuf },
}

impl StoreError {
    /// True if replaying the blocks of the sites gives back what is lost.
    pub const fn is_healed_by_replay(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
    }
}

/// What went wrong inside redb, before it is known which file and which action it was.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another process holds the file.
    Held,
    /// The file must be repaired by a writer before it can be read.
    NeedsWriter,
    /// The bytes of the file are wrong.
    Damaged(String),
    /// It has a layout that is not known yet.
    Newer { layout: u8, known: u8 },
    /// The system refused.
    Io(std::io::Error),
}

impl Fault {
    /// The bytes are wrong, in these words.
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    fn from_io(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            // redb says so of a file that is too short or has no header of its own.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(source) => Self::from_io(source),
            // It wants to be closed; nothing says that its bytes are wrong.
            redb::StorageError::PreviousIo => Self::Io(std::io::Error::other("an earlier access to it failed")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::DatabaseError> for Fault {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Held,
            redb::DatabaseError::RepairAborted => Self::NeedsWriter,
            redb::DatabaseError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}
