//! What can still be read of a store that is not sound.
//!
//! - **Owns** the reading of single blocks without anything above them.
//! - **Does not** check what it gives: a block of here is worth what one of a stranger is, and is judged as such.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_ledger::block::{BlockObject, decode_block};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::genesis::Genesis;

use super::error::Fault;
use super::file::{Access, StoreFile};
use super::state_at::LastRead;
use super::tables::Rows;
use super::{Head, Misses, Store, StoreError};

/// The rows of a store, none of them believed.
#[derive(Debug)]
pub(crate) struct Salvage {
    // Before the file, so that they are closed before it.
    rows: Arc<Rows>,
    file: Arc<StoreFile>,
}

impl Salvage {
    /// Opens what is left of a store that nobody has open.
    pub(crate) fn open(path: &Path, wait: Duration) -> Result<Self, StoreError> {
        let file = match StoreFile::open(path, Access::Read, wait, false) {
            Ok(file) => file,
            // A reader of a file that was not closed repairs it first, and cannot where it is damaged.
            Err(StoreError::Damaged { .. }) => StoreFile::open_unfinished(path)?,
            Err(other) => return Err(other),
        };
        let rows = file.read(Rows::open)?;
        Ok(Self { rows: Arc::new(rows), file: Arc::new(file) })
    }

    /// The same as a store, if its head can be read: to look for what is damaged.
    pub(crate) fn store(&self) -> Result<Store, StoreError> {
        let head = self.file.guard("read", || Head::check(&self.rows, None))?;
        let (rows, durable, file) = (Arc::clone(&self.rows), Arc::clone(&self.rows), Arc::clone(&self.file));
        let (head, last_read) = (Arc::new(head), LastRead::default());
        Ok(Store { rows, durable, head, file, written: false, misses: Misses::Believed, last_read })
    }

    /// The same of a store that is open.
    pub(crate) fn of(store: &Store) -> Self {
        Self { rows: Arc::clone(&store.rows), file: Arc::clone(&store.file) }
    }

    /// The ledger that it is of, if its block 0 is that of its genesis: what a fault of the disk has left of a genesis is no other ledger.
    pub(crate) fn genesis(&self) -> Option<Genesis> {
        let bytes = self.read(Rows::genesis)?;
        let genesis = Genesis::decode(&bytes).ok()?;
        let block = self.read(|rows| rows.block(0, |bytes| Ok(decode_block(bytes).ok())))??;
        (block == genesis.block()).then_some(genesis)
    }

    /// The height that the row of its head names.
    pub(crate) fn height(&self) -> Option<u64> {
        self.read(|rows| rows.head().map(|(height, _)| height))
    }

    /// The lowest height above block 0 that it ever had, as its rows say: what is below was never altered.
    pub(crate) fn bottom(&self) -> u64 {
        self.rows.bottom()
    }

    /// The lowest height at or above that one of which there is a row; the outer one is missing where that cannot be read.
    #[expect(clippy::option_option, reason = "not readable, none, one")]
    pub(crate) fn row_from(&self, height: u64) -> Option<Option<u64>> {
        self.read(|rows| rows.block_from(height))
    }

    /// The block of that height with its certificate, if both can be read at all.
    pub(crate) fn object(&self, chain_id: u64, height: u64) -> Option<BlockObject> {
        let block = self.read(|rows| rows.block(height, |bytes| Ok(decode_block(bytes).ok())))??;
        let certificate = self.read(|rows| rows.certificate(height, |bytes| Ok(Certificate::decode(bytes).ok())))??;
        (block.header.number == height).then_some(BlockObject { chain_id, block, certificate, genesis: None })
    }

    fn read<T>(&self, read: impl FnOnce(&Rows) -> Result<T, Fault>) -> Option<T> {
        self.file.guard("read", || read(&self.rows)).ok()
    }
}
