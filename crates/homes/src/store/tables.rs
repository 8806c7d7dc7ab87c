//! The tables of the store and the bytes of their rows.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::receipt::Link;
use blockhouse_ledger::state::{MemoryState, StateChanges, StateTrie};
#[cfg(feature = "node")]
use redb::ReadableTableMetadata;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::Fault;
use super::event_index::{self, EventPlace, EventTable, Order, Sought, Wanted};
use super::heir;
use super::links::{self, LinkTable};
use super::node_key::{node_key, place_of};
use super::receipt_rows::decode_receipts;
use super::undo::{self, Mark, UndoRecord, UndoTable, Undoing};

/// The version of this layout; another one is refused.
const LAYOUT: u8 = 2;

/// `format`, `genesis`, `head`, `events`, `heir`, `bottom`, `undo`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Height to block in RLP.
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height to certificate.
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
/// Height to the list of the block's transaction receipts.
const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
/// Transaction hash to height: a hint, checked against the block.
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("transactions");
/// Block hash to height: a hint, checked against the block.
const HEIGHTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("heights");
/// The key of a node to the node in RLP: [`super::node_key`].
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
/// Code hash to code.
const CODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("codes");

const HEAD_LEN: usize = 8 + 32;

/// How many blocks of an earlier version a block takes along into the index of events.
const CATCH_UP: u64 = 256;

/// One block and all that came with it, as rows.
#[derive(Debug)]
pub(super) struct BlockRows<'a> {
    pub(super) height: u64,
    pub(super) hash: B256,
    pub(super) block: &'a [u8],
    pub(super) certificate: &'a [u8],
    pub(super) receipts: &'a [u8],
    /// The same, not as bytes.
    pub(super) outcomes: &'a [ReceiptEnvelope],
    pub(super) transactions: &'a [B256],
    pub(super) changes: &'a StateChanges,
}

/// Writes what only a new store gets.
pub(super) fn write_genesis(transaction: &WriteTransaction, genesis: &[u8]) -> Result<(), Fault> {
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", [LAYOUT].as_slice())?;
        meta.insert("genesis", genesis)?;
    }
    // Readers open every table: all are there from the start.
    transaction.open_table(TRANSACTIONS)?;
    transaction.open_table(NODES)?;
    transaction.open_table(CODES)?;
    Ok(())
}

/// Writes one block, its receipts, its changes of the state, and makes it the head.
pub(super) fn write_block(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    write_record(transaction, rows)?;
    let mut undoing = Undoing::of(rows.changes.nodes.len());
    write_changes(transaction, rows.changes, |trie, path, before| undoing.note(trie, path, before))?;
    undo::write(transaction, rows.height, undoing)?;
    write_events(transaction, rows)?;
    transaction.open_table(META)?.insert("head", head_row(rows.height, rows.hash).as_slice())?;
    Ok(())
}

/// Writes what a block leaves for ever: itself, its receipts, its certificate, and where it and its transactions are found.
fn write_record(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    transaction.open_table(BLOCKS)?.insert(rows.height, rows.block)?;
    transaction.open_table(HEIGHTS)?.insert(&rows.hash.0, rows.height)?;
    transaction.open_table(CERTIFICATES)?.insert(rows.height, rows.certificate)?;
    transaction.open_table(RECEIPTS)?.insert(rows.height, rows.receipts)?;
    let mut transactions = transaction.open_table(TRANSACTIONS)?;
    for hash in rows.transactions {
        transactions.insert(&hash.0, rows.height)?;
    }
    Ok(())
}

/// Writes a block below the others, with its events. Its state is not kept.
#[cfg(feature = "node")]
pub(super) fn write_past(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    write_record(transaction, rows)?;
    event_index::write_rows(transaction, rows.height, rows.outcomes)?;
    Ok(())
}

/// Makes a block the head without those below it: they are above `bottom`, or not here.
#[cfg(feature = "node")]
pub(super) fn begin_at(
    transaction: &WriteTransaction,
    (height, hash): (u64, B256),
    bottom: Option<u64>,
) -> Result<(), Fault> {
    write_mark(transaction, height + 1)?;
    transaction.open_table(META)?.insert("head", head_row(height, hash).as_slice())?;
    write_bottom(transaction, bottom)
}

/// From which height on all blocks are here; all, if there is no such row.
#[cfg(feature = "node")]
pub(super) fn write_bottom(transaction: &WriteTransaction, bottom: Option<u64>) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    match bottom {
        Some(bottom) => meta.insert(BOTTOM, bottom.to_le_bytes().as_slice())?,
        None => meta.remove(BOTTOM)?,
    };
    Ok(())
}

/// The lowest height above block 0 from which on all blocks are here.
const BOTTOM: &str = "bottom";

/// Brings the index of events up to the block, or nearer to it: blocks that an earlier version wrote come first.
fn write_events(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    let next = index_events(transaction, rows.height, Step { blocks: CATCH_UP, rows: usize::MAX })?;
    if next == rows.height {
        event_index::write_rows(transaction, next, rows.outcomes)?;
        write_mark(transaction, next + 1)?;
    }
    Ok(())
}

/// How much of the index of events is made at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) blocks: u64,
    /// After a block with which there are so many rows, it ends.
    pub(super) rows: usize,
}

/// Makes a step of the index of events, not beyond `end`, and gives the height that is next. A kill leaves what was before.
pub(super) fn index_events(transaction: &WriteTransaction, end: u64, step: Step) -> Result<u64, Fault> {
    let first = {
        let meta = transaction.open_table(META)?;
        let row = meta.get(MARK)?;
        mark_of(row.as_ref().map(redb::AccessGuard::value))?
    };
    if first >= end {
        return Ok(first);
    }
    let (mut next, mut rows) = (first, 0);
    let receipts = transaction.open_table(RECEIPTS)?;
    while next < end && next - first < step.blocks && rows < step.rows {
        let row = receipts.get(next)?.ok_or_else(|| Fault::damaged(format!("receipts {next} is missing")))?;
        let outcomes = decode_receipts(row.value())
            .map_err(|error| Fault::damaged(format!("the receipts of block {next}: {error}")))?;
        rows += event_index::write_rows(transaction, next, &outcomes)?;
        next += 1;
    }
    if next > first {
        write_mark(transaction, next)?;
    }
    Ok(next)
}

/// The mark of the index of events: the height of the first block that is not in it.
const MARK: &str = "events";

fn write_mark(transaction: &WriteTransaction, next: u64) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(MARK, next.to_le_bytes().as_slice())?;
    Ok(())
}

/// Nothing is in the index of a store that has no mark, and nothing is missing in one without a bottom.
fn mark_of(row: Option<&[u8]>) -> Result<u64, Fault> {
    let Some(row) = row else { return Ok(0) };
    let row = row.try_into().map_err(|_| Fault::damaged("a height among its marks has a wrong length"))?;
    Ok(u64::from_le_bytes(row))
}

/// Writes what changes of the state, and tells of each node what it was before.
pub(super) fn write_changes(
    transaction: &WriteTransaction,
    changes: &StateChanges,
    mut tell: impl FnMut(&StateTrie, &Nibbles, Option<&[u8]>),
) -> Result<(), Fault> {
    let mut nodes = transaction.open_table(NODES)?;
    for ((trie, path), node) in &changes.nodes {
        let key = node_key(trie, path);
        let before = match node {
            Some(node) => nodes.insert(key.as_slice(), node.as_ref())?,
            None => nodes.remove(key.as_slice())?,
        };
        tell(trie, path, before.as_ref().map(redb::AccessGuard::value));
    }
    drop(nodes);
    let mut codes = transaction.open_table(CODES)?;
    for (hash, code) in &changes.codes {
        codes.insert(&hash.0, code.as_ref())?;
    }
    Ok(())
}

/// Writes the rows of a block anew that was written before: its own, its certificate, and where it, its transactions and its events are
/// found. Its receipts stand: where they were altered nothing is mended.
#[cfg(feature = "node")]
pub(super) fn mend_block(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    transaction.open_table(BLOCKS)?.insert(rows.height, rows.block)?;
    transaction.open_table(HEIGHTS)?.insert(&rows.hash.0, rows.height)?;
    transaction.open_table(CERTIFICATES)?.insert(rows.height, rows.certificate)?;
    let mut transactions = transaction.open_table(TRANSACTIONS)?;
    for hash in rows.transactions {
        transactions.insert(&hash.0, rows.height)?;
    }
    drop(transactions);
    let receipts = transaction.open_table(RECEIPTS)?;
    let row =
        receipts.get(rows.height)?.ok_or_else(|| Fault::damaged(format!("receipts {} is missing", rows.height)))?;
    let outcomes = decode_receipts(row.value())
        .map_err(|error| Fault::damaged(format!("the receipts of block {}: {error}", rows.height)))?;
    event_index::write_rows(transaction, rows.height, &outcomes)?;
    Ok(())
}

/// All tables of one moment, open to be read.
pub(super) struct Rows {
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
    certificates: ReadOnlyTable<u64, &'static [u8]>,
    receipts: ReadOnlyTable<u64, &'static [u8]>,
    transactions: ReadOnlyTable<&'static [u8; 32], u64>,
    heights: ReadOnlyTable<&'static [u8; 32], u64>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    codes: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    events: Option<EventTable>,
    /// What is here of closing blocks below the bottom, if there is a bottom.
    links: Option<LinkTable>,
    undo: Option<UndoTable>,
    /// Of which blocks that has records.
    undo_mark: Option<Mark>,
    /// The mark of the index of events.
    indexed: u64,
    /// The lowest height above block 0 from which on all blocks are here; 0 if all are.
    bottom: u64,
}

impl Rows {
    /// Opens them, after the version of the layout was checked.
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let meta = transaction.open_table(META)?;
        check_format(&read_meta(&meta, "format")?)?;
        let events = event_index::open_rows(transaction)?;
        let indexed = mark_of(meta.get(MARK)?.as_ref().map(redb::AccessGuard::value))?;
        let bottom = mark_of(meta.get(BOTTOM)?.as_ref().map(redb::AccessGuard::value))?;
        Ok(Self {
            bottom,
            links: links::open_rows(transaction)?,
            undo: undo::open_rows(transaction)?,
            undo_mark: Mark::read(&meta)?,
            // A mark without rows is none.
            indexed: if events.is_some() { indexed } else { 0 },
            events,
            meta,
            blocks: transaction.open_table(BLOCKS)?,
            certificates: transaction.open_table(CERTIFICATES)?,
            receipts: transaction.open_table(RECEIPTS)?,
            transactions: transaction.open_table(TRANSACTIONS)?,
            heights: transaction.open_table(HEIGHTS)?,
            nodes: transaction.open_table(NODES)?,
            codes: transaction.open_table(CODES)?,
        })
    }

    /// The object of genesis.
    pub(super) fn genesis(&self) -> Result<Vec<u8>, Fault> {
        read_meta(&self.meta, "genesis")
    }

    /// The key that the ledger is left to.
    pub(super) fn heir(&self) -> Result<Option<[u8; 32]>, Fault> {
        heir::read(&self.meta)
    }

    /// Height and hash of the head.
    pub(super) fn head(&self) -> Result<(u64, B256), Fault> {
        let row = read_meta(&self.meta, "head")?;
        let row: [u8; HEAD_LEN] =
            row.try_into().map_err(|_| Fault::damaged("the row of its head has a wrong length"))?;
        let (height, hash) =
            row.split_first_chunk::<8>().ok_or_else(|| Fault::damaged("the row of its head is short"))?;
        Ok((u64::from_le_bytes(*height), B256::from_slice(hash)))
    }

    /// What `read` makes of the block of that height, in RLP.
    pub(super) fn block<T>(&self, height: u64, read: impl FnOnce(&[u8]) -> Result<T, Fault>) -> Result<T, Fault> {
        read_at(&self.blocks, "block", height, read)
    }

    /// The lowest height at or above that one of which there is a block.
    #[cfg(feature = "node")]
    pub(super) fn block_from(&self, height: u64) -> Result<Option<u64>, Fault> {
        let row = self.blocks.range(height..)?.next().transpose()?;
        Ok(row.map(|(height, _)| height.value()))
    }

    /// What `read` makes of the certificate of that height.
    pub(super) fn certificate<T>(&self, height: u64, read: impl FnOnce(&[u8]) -> Result<T, Fault>) -> Result<T, Fault> {
        read_at(&self.certificates, "certificate", height, read)
    }

    /// What `read` makes of the transaction receipts of that height.
    pub(super) fn receipts<T>(&self, height: u64, read: impl FnOnce(&[u8]) -> Result<T, Fault>) -> Result<T, Fault> {
        read_at(&self.receipts, "receipts", height, read)
    }

    /// Where that transaction may be.
    pub(super) fn transaction(&self, hash: &B256) -> Result<Option<u64>, Fault> {
        Ok(self.transactions.get(&hash.0)?.map(|height| height.value()))
    }

    /// Where the block of that hash may be.
    pub(super) fn height(&self, hash: &B256) -> Result<Option<u64>, Fault> {
        Ok(self.heights.get(&hash.0)?.map(|height| height.value()))
    }

    /// The node of a trie of the state at that path, as it is.
    pub(super) fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, Fault> {
        let row = self.nodes.get(node_key(trie, path).as_slice())?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }

    /// The code of that hash, as it is.
    pub(super) fn code(&self, hash: &B256) -> Result<Option<Bytes>, Fault> {
        Ok(self.codes.get(&hash.0)?.map(|row| Bytes::copy_from_slice(row.value())))
    }

    /// The earliest state that can be had with that head.
    pub(super) fn states_from(&self, head: u64) -> u64 {
        Mark::states_from(self.undo_mark, head)
    }

    /// What the block of that height changed, as it was before it. Its length is taken from `room`.
    pub(super) fn undo(&self, height: u64, room: &mut usize) -> Result<UndoRecord, Fault> {
        let rows = self.undo.as_ref().ok_or_else(|| Fault::damaged("its undo records are missing"))?;
        undo::read(rows, height, room)
    }

    /// How many rows the tables have that grow with the chain: blocks, certificates, receipts, heights, transactions.
    #[cfg(feature = "node")]
    pub(super) fn counts(&self) -> Result<[u64; 5], Fault> {
        Ok([
            self.blocks.len()?,
            self.certificates.len()?,
            self.receipts.len()?,
            self.heights.len()?,
            self.transactions.len()?,
        ])
    }

    /// The height of the first block that is not in the index of events.
    pub(super) const fn indexed(&self) -> u64 {
        self.indexed
    }

    /// The lowest height above block 0 from which on all blocks are here; 0 if all are.
    pub(super) const fn bottom(&self) -> u64 {
        self.bottom
    }

    /// What is here of a block below the bottom, if anything is.
    pub(super) fn link(&self, height: u64) -> Result<Option<Link>, Fault> {
        self.links.as_ref().map_or(Ok(None), |rows| links::read(rows, height))
    }

    /// How many blocks below the bottom something is here of.
    #[cfg(feature = "node")]
    pub(super) fn count_links(&self) -> Result<u64, Fault> {
        Ok(self.links.as_ref().map(ReadableTableMetadata::len).transpose()?.unwrap_or(0))
    }

    /// True if the events of that block are found where the index should have them.
    #[cfg(feature = "node")]
    pub(super) fn has_events(&self, height: u64, receipts: &[ReceiptEnvelope]) -> Result<bool, Fault> {
        match &self.events {
            Some(events) if height < self.indexed => event_index::has_rows(events, height, receipts),
            _ => Ok(height >= self.indexed),
        }
    }

    /// The next place that may have what is wanted.
    pub(super) fn seek_event(
        &self,
        wanted: &Wanted,
        (from, order): (EventPlace, Order),
        work: &mut u64,
    ) -> Result<Sought, Fault> {
        match &self.events {
            Some(events) => event_index::seek(events, wanted, from, order, work),
            None => Ok(Sought::Nowhere),
        }
    }

    /// All nodes and code, as they are.
    pub(super) fn state(&self) -> Result<MemoryState, Fault> {
        let mut rows = StateChanges::default();
        for row in self.nodes.iter()? {
            let (key, node) = row?;
            let place = place_of(key.value()).ok_or_else(|| Fault::damaged("a node stands where no trie is"))?;
            rows.nodes.insert(place, Some(Bytes::copy_from_slice(node.value())));
        }
        for row in self.codes.iter()? {
            let (hash, code) = row?;
            rows.codes.insert(B256::from(*hash.value()), Bytes::copy_from_slice(code.value()));
        }
        let mut state = MemoryState::new();
        state.apply(&rows);
        Ok(state)
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

fn check_format(found: &[u8]) -> Result<(), Fault> {
    match *found {
        [LAYOUT] => Ok(()),
        // Its blocks are at the sites: it is made anew from there.
        [older] if older < LAYOUT => {
            Err(Fault::damaged(format!("an earlier version of Blockhouse wrote it, with layout {older}")))
        }
        [layout] => Err(Fault::Newer { layout, known: LAYOUT }),
        _ => Err(Fault::damaged(format!("its layout has the unknown version {found:?}"))),
    }
}

fn read_meta(meta: &ReadOnlyTable<&'static str, &'static [u8]>, name: &str) -> Result<Vec<u8>, Fault> {
    let row = meta.get(name)?;
    row.map(|row| row.value().to_vec()).ok_or_else(|| Fault::damaged(format!("the row `{name}` is missing")))
}

fn read_at<T>(
    table: &ReadOnlyTable<u64, &'static [u8]>,
    what: &str,
    height: u64,
    read: impl FnOnce(&[u8]) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let row = table.get(height)?;
    read(row.ok_or_else(|| Fault::damaged(format!("{what} {height} is missing")))?.value())
}

fn head_row(height: u64, hash: B256) -> [u8; HEAD_LEN] {
    let mut row = [0; HEAD_LEN];
    let (left, right) = row.split_at_mut(8);
    left.copy_from_slice(&height.to_le_bytes());
    right.copy_from_slice(hash.as_slice());
    row
}
