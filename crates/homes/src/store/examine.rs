//! What of a store is not what it was when it was written: each part is compared with what the part above it names.
//!
//! - **Owns** the checks of one block with all that came with it, of the rows that no block names, and the words for what is found.
//! - **Does not** choose what is looked at when, or mend anything.
//!
//! # Invariants
//! - **X1** A block is sound only if its bytes have the hash that the block above it names, and its transactions, receipts, certificate and
//!   rows of the indexes are its own.

use std::fmt;

use alloy_primitives::B256;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_types::BlockHash;

use super::error::Fault;
use super::tables::Rows;
use super::{Store, StoreError, checked_block, checked_receipts};
use crate::chain::chain;

/// A part of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A block: its header and transactions.
    Block,
    /// The receipts of a block's transactions.
    Receipts,
    /// The certificate of a block.
    Certificate,
    /// Where a block or its transactions are found by their hashes.
    Index,
    /// The state after the head.
    State,
    /// The file itself, or rows that belong to no block.
    File,
}

impl Part {
    /// One word, as alarms on the ledger have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Receipts => "receipts",
            Self::Certificate => "certificate",
            Self::Index => "index",
            Self::State => "state",
            Self::File => "file",
        }
    }
}

/// One thing that is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which part it is.
    pub part: Part,
    /// The height of its block; of the head where it is the state; none where no block is known.
    pub height: Option<u64>,
    /// The hash that this block has on the ledger, if that is known.
    pub hash: Option<B256>,
    /// What was found.
    pub what: String,
    /// True if the disk did not give it back: nothing says that it was altered, and only another disk heals it.
    pub is_unread: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.part, self.height) {
            (Part::File, None) => f.write_str("the file of the store")?,
            (Part::Block, Some(height)) => write!(f, "block {height} of the store")?,
            (Part::State, Some(height)) => write!(f, "the state after block {height} of the store")?,
            (part, Some(height)) => write!(f, "the {} of block {height} of the store", part.word())?,
            (part, None) => write!(f, "the {} of the store", part.word())?,
        }
        let words = if self.is_unread { "could not be read" } else { "was altered" };
        write!(f, " {words}: {}", self.what)
    }
}

impl Damage {
    /// What an error of the store says of one of its parts.
    pub(crate) fn of(part: Part, (height, hash): (Option<u64>, Option<B256>), error: &StoreError) -> Self {
        match error {
            StoreError::Damaged { what, .. } => Self { part, height, hash, what: what.clone(), is_unread: false },
            other => Self { part, height, hash, what: chain(other), is_unread: true },
        }
    }

    /// The file cannot be used as it is.
    pub(crate) fn of_file(error: &StoreError) -> Self {
        Self::of(Part::File, (None, None), error)
    }
}

/// A block that was examined and is sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Examined {
    /// The hash of the block below it.
    pub(crate) parent: B256,
    /// How many transactions it has.
    pub(crate) transactions: u64,
}

impl Store {
    /// Examines the block of that height, whose hash is known from above, with all that came with it (X1).
    pub(crate) fn examine_block(&self, height: u64, hash: B256, key: &[u8; 32]) -> Result<Examined, Damage> {
        let found = |part| move |error: StoreError| Damage::of(part, (Some(height), Some(hash)), &error);
        let stored = self.read(|rows| rows.block(height, |bytes| checked_block(height, hash, bytes)));
        let block = stored.map_err(found(Part::Block))?.block;
        let root = block.header.receipts_root;
        let receipts = self.read(|rows| rows.receipts(height, |bytes| checked_receipts(height, root, bytes)));
        let receipts = receipts.map_err(found(Part::Receipts))?;
        let count = receipts.len();
        let transactions = block.body.transactions.len();
        if count != transactions {
            let what = format!("it has {count} receipts and {transactions} transactions");
            return Err(found(Part::Receipts)(self.damaged(what)));
        }
        self.examine_certificate(height, hash, key)?;
        let hashes = block.body.transactions.iter().map(|transaction| *transaction.tx_hash());
        self.read(|rows| examine_index(rows, (height, hash), hashes)).map_err(found(Part::Index))?;
        let indexed = self.read(|rows| rows.has_events(height, &receipts)).map_err(found(Part::Index))?;
        if !indexed {
            return Err(found(Part::Index)(
                self.damaged("one of its events is not found by what it is about".to_owned()),
            ));
        }
        Ok(Examined { parent: block.header.parent_hash, transactions: transactions as u64 })
    }

    fn examine_certificate(&self, height: u64, hash: B256, key: &[u8; 32]) -> Result<(), Damage> {
        let found = |error: StoreError| Damage::of(Part::Certificate, (Some(height), Some(hash)), &error);
        let stored = self.read(|rows| {
            rows.certificate(height, |bytes| {
                Certificate::decode(bytes).map_err(|error| Fault::damaged(format!("it cannot be read: {error}")))
            })
        });
        let certificate = stored.map_err(found)?;
        let place = BlockPlace { chain_id: self.genesis().chain_id, height, hash: BlockHash::new(hash.0) };
        certificate.verify(key, &place).map_err(|error| found(self.damaged(error.to_string())))
    }

    /// Examines what belongs to no block: the row of the head, the genesis, and that there are no rows beside those of the blocks up to the
    /// head, which have so many transactions.
    pub(crate) fn examine_rows(&self, transactions: u64) -> Result<(), Damage> {
        let examined = self.read(|rows| {
            if rows.head()? != (self.height(), self.head().hash()) {
                return Err(Fault::damaged("the row of its head names another block"));
            }
            if rows.genesis()? != self.genesis().encode() {
                return Err(Fault::damaged("its genesis is another one"));
            }
            let (above, counts) = (self.height() + 1, rows.counts()?);
            if rows.indexed() > above {
                return Err(Fault::damaged(format!("its index of events claims {} blocks of {above}", rows.indexed())));
            }
            // Of a store that began above block 0, and that block.
            let blocks = if rows.bottom() == 0 { above } else { above.saturating_sub(rows.bottom()) + 1 };
            let expected = [
                ("blocks", blocks),
                ("certificates", blocks),
                ("receipts", blocks),
                ("heights", blocks),
                ("transactions", transactions),
            ];
            if rows.bottom() == 0 && rows.count_links()? > 0 {
                return Err(Fault::damaged("it has links to blocks that are all here"));
            }
            match counts.into_iter().zip(expected).find(|(found, (_, expected))| found != expected) {
                Some((found, (table, expected))) => {
                    Err(Fault::damaged(format!("its table of {table} has {found} rows, not {expected}")))
                }
                None => Ok(()),
            }
        });
        examined.map_err(|error| Damage::of_file(&error))
    }
}

fn examine_index(
    rows: &Rows,
    (height, hash): (u64, B256),
    transactions: impl Iterator<Item = B256>,
) -> Result<(), Fault> {
    if rows.height(&hash)? != Some(height) {
        return Err(Fault::damaged(format!("its hash {hash} leads elsewhere")));
    }
    for transaction in transactions {
        if rows.transaction(&transaction)? != Some(height) {
            return Err(Fault::damaged(format!("its transaction {transaction} is not found there")));
        }
    }
    Ok(())
}
