//! What a store that began by a state keeps of blocks below its bottom: the ones at which the ledger went over to other keys.
//!
//! They lead from the key that a reader knows to the one in force, and say above which block the validators of today begin. Each is a header
//! with its certificate. When the block itself comes, the row goes.
//!
//! - **Owns** these rows.
//! - **Does not** judge them: who reads one checks its certificate.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

use alloy_consensus::Header;
use alloy_rlp::Decodable as _;
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::receipt::Link;
#[cfg(feature = "node")]
use redb::WriteTransaction;
use redb::{ReadOnlyTable, ReadTransaction, TableDefinition};

use super::error::Fault;
use super::{Store, StoreError};

/// Height to the header in RLP and, behind it, its certificate.
const LINKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("links");

/// The rows of one moment.
pub(super) type LinkTable = ReadOnlyTable<u64, &'static [u8]>;

impl Store {
    /// What is here of a block below the bottom, if anything is: its certificate is not checked.
    pub(crate) fn link(&self, height: u64) -> Result<Option<Link>, StoreError> {
        self.read(|rows| rows.link(height))
    }
}

/// The rows, if the file has any.
pub(super) fn open_rows(transaction: &ReadTransaction) -> Result<Option<LinkTable>, Fault> {
    match transaction.open_table(LINKS) {
        Ok(table) => Ok(Some(table)),
        // It began with block 0.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn read(rows: &LinkTable, height: u64) -> Result<Option<Link>, Fault> {
    let Some(row) = rows.get(height)? else { return Ok(None) };
    let damaged = |error: &dyn std::fmt::Display| Fault::damaged(format!("link {height}: {error}"));
    let mut rest = row.value();
    let header = Header::decode(&mut rest).map_err(|error| damaged(&error))?;
    let certificate = Certificate::decode(rest).map_err(|error| damaged(&error))?;
    if header.number == height { Ok(Some(Link { header, certificate })) } else { Err(damaged(&"it is another one")) }
}

#[cfg(feature = "node")]
pub(super) fn write(transaction: &WriteTransaction, links: &[Link]) -> Result<(), Fault> {
    let mut table = transaction.open_table(LINKS)?;
    for link in links {
        let row = [alloy_rlp::encode(&link.header), link.certificate.encode()].concat();
        table.insert(link.height(), row.as_slice())?;
    }
    Ok(())
}

/// Removes those whose blocks are here now.
#[cfg(feature = "node")]
pub(super) fn forget_from(transaction: &WriteTransaction, height: u64) -> Result<(), Fault> {
    transaction.open_table(LINKS)?.retain_in(height.., |_, _| false)?;
    Ok(())
}
