//! Blocks that are added to a store, and the index of events that follows them.
//!
//! - **Owns** that a block follows the head, is one transaction with all that came with it, and when it is durable (D1).
//! - **Does not** know the rows.

use std::sync::Arc;

use alloy_primitives::B256;
use blockhouse_ledger::block::encode_block;
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::execute::Executed;

use super::file::Durability;
use super::receipt_rows::encode_receipts;
use super::tables::{self, BlockRows, Rows, Step};
use super::{Store, StoreError};

/// How much of the index of events one transaction of redb makes: a few megabytes.
const INDEX_STEP: Step = Step { blocks: 16_384, rows: 100_000 };

impl Store {
    /// Brings the index of events up to the head, step by step: a kill leaves the steps that are done.
    pub fn index_events(&mut self) -> Result<(), StoreError> {
        let end = self.height() + 1;
        while self.indexed_events() < end {
            self.file.write(Durability::Immediate, |transaction| {
                tables::index_events(transaction, end, INDEX_STEP).map(drop)
            })?;
            self.read_durable()?;
        }
        Ok(())
    }

    /// Appends an executed block that follows the head. When this returns, a power loss does not undo it.
    pub fn append(&mut self, executed: &Executed, certificate: &Certificate) -> Result<(), StoreError> {
        self.append_with(executed, certificate, Durability::Immediate)?;
        self.durable = Arc::clone(&self.rows);
        Ok(())
    }

    /// Appends without waiting for the disk what a kill may undo: it is in a new store that has no name yet, or is given again. [`Self::sync`]
    /// must follow.
    pub(crate) fn append_unsynced(&mut self, executed: &Executed, certificate: &Certificate) -> Result<(), StoreError> {
        self.append_with(executed, certificate, Durability::None)
    }

    /// Makes all that was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.write(Durability::Immediate, |_| Ok(()))?;
        self.read_durable()
    }

    /// Whether all that was appended is durable.
    #[cfg(feature = "node")]
    pub(crate) fn is_synced(&self) -> bool {
        Arc::ptr_eq(&self.rows, &self.durable)
    }

    /// Reads the rows anew, after a durable transaction.
    pub(super) fn read_durable(&mut self) -> Result<(), StoreError> {
        self.rows = Arc::new(self.file.read(Rows::open)?);
        self.durable = Arc::clone(&self.rows);
        Ok(())
    }

    /// Appends executed blocks that follow the head, one upon the other, as one durable transaction.
    #[cfg(feature = "node")]
    pub(crate) fn append_all(&mut self, blocks: &[(Arc<Executed>, Certificate)]) -> Result<(), StoreError> {
        let mut head = (self.height(), self.head.hash());
        for (executed, _) in blocks {
            let header = &executed.block.header;
            if header.parent_hash != head.1 || header.number != head.0 + 1 {
                return Err(StoreError::NotNext { height: header.number, head: head.0 });
            }
            head = (header.number, B256::new(executed.hash.to_bytes()));
        }
        let records: Vec<_> = blocks.iter().map(|(executed, certificate)| Record::of(executed, certificate)).collect();
        self.file.write(Durability::Immediate, |transaction| {
            records
                .iter()
                .zip(blocks)
                .try_for_each(|(record, (executed, _))| tables::write_block(transaction, &record.rows(executed)))
        })?;
        self.read_durable()?;
        self.last_read.forget();
        for (executed, _) in blocks {
            let hash = B256::new(executed.hash.to_bytes());
            Arc::make_mut(&mut self.head).advance(executed.block.header.clone(), hash);
        }
        Ok(())
    }

    fn append_with(
        &mut self,
        executed: &Executed,
        certificate: &Certificate,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let header = &executed.block.header;
        if header.parent_hash != self.head.hash() || header.number != self.height() + 1 {
            return Err(StoreError::NotNext { height: header.number, head: self.height() });
        }
        let record = Record::of(executed, certificate);
        self.file.write(durability, |transaction| tables::write_block(transaction, &record.rows(executed)))?;
        self.rows = Arc::new(self.file.read(Rows::open)?);
        self.last_read.forget();
        Arc::make_mut(&mut self.head).advance(header.clone(), B256::new(executed.hash.to_bytes()));
        Ok(())
    }
}

/// The bytes of an executed block, as the store keeps them.
struct Record {
    block: Vec<u8>,
    certificate: Vec<u8>,
    receipts: Vec<u8>,
    transactions: Vec<B256>,
}

impl Record {
    fn of(executed: &Executed, certificate: &Certificate) -> Self {
        Self {
            block: encode_block(&executed.block),
            certificate: certificate.encode(),
            receipts: encode_receipts(&executed.receipts),
            transactions: executed.block.body.transactions.iter().map(|tx| *tx.tx_hash()).collect(),
        }
    }

    fn rows<'a>(&'a self, executed: &'a Executed) -> BlockRows<'a> {
        BlockRows {
            height: executed.block.header.number,
            hash: B256::new(executed.hash.to_bytes()),
            block: &self.block,
            certificate: &self.certificate,
            receipts: &self.receipts,
            outcomes: &executed.receipts,
            transactions: &self.transactions,
            changes: &executed.changes,
        }
    }
}
