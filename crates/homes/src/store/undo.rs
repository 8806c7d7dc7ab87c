//! What the last blocks changed, so that the states before them can still be read.
//!
//! The tables have the nodes of the head's state and no others. Beside them each of the last blocks has an **undo record**: the nodes that it
//! changed, as they were before it. The state after an earlier block is that of the head with the records of the blocks above it laid over.
//!
//! - **Owns** the rows of the records, how many are kept, and the mark that says of which blocks.
//! - **Does not** believe what they hold: a state is read under the root in its block's header, node by node (see [`super::state_at`]).
//!
//! # Invariants
//! - **U1** The mark names a run of heights, each with its record. It counts only where it ends at the head: elsewhere an earlier version, which
//!   knows no records, wrote the last blocks, or the store began by a state. Then the head's state is the only one.
//! - **U2** A record comes and goes in the transaction of a block: a kill leaves both or neither. There are at most [`RECORDS_MAX`], together
//!   at most [`BYTES_MAX`] long.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

mod record;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::error::Fault;
use super::tables::META;

pub use record::UndoRecord;
pub(super) use record::Undoing;

/// Height to the record of the block of that height.
const UNDO: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("undo");
/// The name of the mark among the rows of `meta`.
const MARK: &str = "undo";
/// How many blocks back states are kept, as in go-ethereum: a client that reads the head and asks at it has minutes, also where blocks are
/// seconds apart.
const RECORDS_MAX: u64 = 128;
/// How long the records are together at most: who reads the earliest state holds all of them in memory, several readers each their own. A block
/// of one commit has some 25 KiB, one of a hundred 1.3 MiB: so 128 blocks as they usually are, and the last dozen under the greatest load.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The rows of one moment.
pub(super) type UndoTable = ReadOnlyTable<u64, &'static [u8]>;

/// Of which blocks there are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The height of the block below the first of them: the earliest state that is kept.
    from: u64,
    /// The height of the last of them.
    to: u64,
    /// How long they are together.
    bytes: u64,
}

impl Mark {
    /// No record yet: the first will be that of the block above.
    const fn at(height: u64) -> Self {
        Self { from: height, to: height, bytes: 0 }
    }

    /// Reads the row, if there is one. One that cannot be read is none: nothing but earlier states stands on it.
    pub(super) fn read(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<Self>, Fault> {
        Ok(meta.get(MARK)?.and_then(|row| Self::decode(row.value())))
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (from, rest) = row.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let mark = Self {
            from: u64::from_le_bytes(*from),
            to: u64::from_le_bytes(*to),
            bytes: u64::from_le_bytes(rest.try_into().ok()?),
        };
        mark.to.checked_sub(mark.from).filter(|records| *records <= RECORDS_MAX).map(|_| mark)
    }

    fn encode(&self) -> [u8; 24] {
        let mut row = [0; 24];
        for (place, number) in row.chunks_exact_mut(8).zip([self.from, self.to, self.bytes]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        row
    }

    /// The earliest state that is kept of a store with that head.
    pub(super) fn states_from(mark: Option<Self>, head: u64) -> u64 {
        mark.filter(|mark| mark.to == head).map_or(head, |mark| mark.from)
    }

    /// Takes what is kept no longer out of the table.
    fn prune(&mut self, rows: &mut Table<'_, u64, &'static [u8]>) -> Result<(), Fault> {
        while self.from < self.to && (self.to - self.from > RECORDS_MAX || self.bytes > BYTES_MAX as u64) {
            self.from += 1;
            let length = rows.remove(self.from)?.map_or(0, |row| row.value().len());
            self.bytes = self.bytes.saturating_sub(length as u64);
        }
        Ok(())
    }
}

/// Writes the record of a block, and removes those that are kept no longer (U2). Before block 0 there is no state.
pub(super) fn write(transaction: &WriteTransaction, height: u64, undoing: Undoing) -> Result<(), Fault> {
    let Some(below) = height.checked_sub(1) else { return Ok(()) };
    let (mut meta, mut rows) = (transaction.open_table(META)?, transaction.open_table(UNDO)?);
    let known = Mark::read(&meta)?.filter(|mark| mark.to == below);
    let record = undoing.finish();
    if known.is_none() || record.is_none() {
        // The records of earlier blocks lead to no state any more (U1).
        rows.retain(|_, _| false)?;
    }
    let mark = match record {
        Some(record) => {
            rows.insert(height, record.as_slice())?;
            let Mark { from, bytes, .. } = known.unwrap_or(Mark::at(below));
            let mut mark = Mark { from, to: height, bytes: bytes.saturating_add(record.len() as u64) };
            mark.prune(&mut rows)?;
            mark
        }
        None => Mark::at(height),
    };
    meta.insert(MARK, mark.encode().as_slice())?;
    Ok(())
}

/// The rows, if the file has any.
pub(super) fn open_rows(transaction: &ReadTransaction) -> Result<Option<UndoTable>, Fault> {
    match transaction.open_table(UNDO) {
        Ok(table) => Ok(Some(table)),
        // An earlier version made it, or there is block 0 alone.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record of the block of that height, which the mark names; `room` is what it and those after it may be long.
pub(super) fn read(rows: &UndoTable, height: u64, room: &mut usize) -> Result<UndoRecord, Fault> {
    let row = rows.get(height)?.ok_or_else(|| Fault::damaged(format!("undo record {height} is missing")))?;
    let left = room.checked_sub(row.value().len());
    *room = left.ok_or_else(|| Fault::damaged("its undo records are longer than they may be together"))?;
    UndoRecord::read(row.value()).map_err(|error| Fault::damaged(format!("undo record {height}: {error}")))
}

#[cfg(test)]
mod tests;
