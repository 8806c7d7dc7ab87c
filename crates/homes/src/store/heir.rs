//! The mark that no block is sealed on a store any more by whoever sealed it: the ledger goes on under another key.
//!
//! It is one durable row, written while the store is open to be written, so it stands between two blocks: a process that seals finds it, or
//! its block was there before. It says nothing to who only reads, or takes in blocks that another key certified.

use redb::{ReadOnlyTable, WriteTransaction};

use super::error::Fault;
use super::file::Durability;
use super::tables::META;
use super::{Store, StoreError};

/// The name of the row: the ledger key that follows.
const HEIR: &str = "heir";

impl Store {
    /// The ledger key that the ledger is left to, if it is.
    pub(crate) fn heir(&self) -> Result<Option<[u8; 32]>, StoreError> {
        self.file.guard("read", || self.rows.heir())
    }

    /// Leaves the ledger to that key. When this returns, a power loss does not undo it.
    pub(crate) fn leave_to(&mut self, heir: &[u8; 32]) -> Result<(), StoreError> {
        self.file.write(Durability::Immediate, |transaction| write(transaction, heir))?;
        self.read_durable()
    }
}

fn write(transaction: &WriteTransaction, heir: &[u8; 32]) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(HEIR, heir.as_slice())?;
    Ok(())
}

/// Reads the row.
pub(super) fn read(meta: &ReadOnlyTable<&'static str, &'static [u8]>) -> Result<Option<[u8; 32]>, Fault> {
    let Some(row) = meta.get(HEIR)? else { return Ok(None) };
    let heir = row.value().try_into().map_err(|_| Fault::damaged("the row of its heir has a wrong length"))?;
    Ok(Some(heir))
}
