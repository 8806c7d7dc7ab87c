//! A store that begins by a state, and takes the blocks below it later: each with its receipts, from the top down.
//!
//! - **Owns** what such a block must be, and how it is written.
//! - **Does not** ask anybody for blocks, nor believe who gives them: a block is taken by its hash, which the block above it names.
//!
//! # Invariants
//! - **P1** From `bottom` up to the head there is no gap, and block 0 is there; what is between is refused, not missing.
//! - **P2** `bottom` goes down with the blocks that bring it there, in one durable transaction; the last one must follow block 0.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

use std::path::Path;
use std::sync::Arc;

use alloy_consensus::ReceiptEnvelope;
use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_primitives::B256;
use blockhouse_ledger::block::{BlockObject, encode_block};
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::genesis::Genesis;
use blockhouse_ledger::receipt::Link;
use blockhouse_ledger::state::StateChanges;
use redb::WriteTransaction;

use super::error::Fault;
use super::file::{Durability, StoreFile};
use super::head::BLOCK_HASHES;
use super::links;
use super::receipt_rows::{decode_receipts, encode_receipts};
use super::tables::{self, BlockRows, Rows};
use super::{Store, StoreError};

/// A block that is final, with its receipts: not executed here.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    /// The block and its certificate.
    pub(crate) object: BlockObject,
    /// The receipts of its transactions.
    pub(crate) receipts: Vec<ReceiptEnvelope>,
}

impl Past {
    /// Takes up what a node gave.
    pub(crate) fn read(object: &[u8], receipts: &[u8]) -> Result<Self, String> {
        let object = BlockObject::decode(object).map_err(|error| error.to_string())?;
        Ok(Self { object, receipts: decode_receipts(receipts)? })
    }

    /// The bytes of its receipts, as [`Self::read`] takes them.
    pub(crate) fn receipt_bytes(receipts: &[ReceiptEnvelope]) -> Vec<u8> {
        encode_receipts(receipts)
    }

    pub(crate) const fn height(&self) -> u64 {
        self.object.block.header.number
    }

    /// The hash of the block below it.
    pub(crate) const fn parent(&self) -> B256 {
        self.object.block.header.parent_hash
    }

    /// Compares it with the hash that the chain has at that height: then all of it is what it was when it became final, but for its
    /// certificate.
    pub(crate) fn compare(&self, height: u64, hash: B256) -> Result<(), String> {
        let block = &self.object.block;
        let differs = |what: &str| Err(format!("{what} of block {height} are not those of the chain"));
        if block.header.number != height || B256::new(self.object.hash().to_bytes()) != hash {
            return Err(format!("it gave another block for block {height}"));
        }
        let is_bare =
            block.body.ommers.is_empty() && block.body.withdrawals.as_ref().is_none_or(|list| list.is_empty());
        if !is_bare || calculate_transaction_root(&block.body.transactions) != block.header.transactions_root {
            return differs("the transactions");
        }
        let is_whole = self.receipts.len() == block.body.transactions.len();
        if !is_whole || calculate_receipt_root(&self.receipts) != block.header.receipts_root {
            return differs("the receipts");
        }
        Ok(())
    }

    /// Checks who vouches for it, with the key that was in force there.
    pub(crate) fn certified_by(&self, chain_id: u64, key: &[u8; 32]) -> Result<(), String> {
        let place = BlockPlace { chain_id, height: self.height(), hash: self.object.hash() };
        self.object.certificate.verify(key, &place).map_err(|error| format!("block {}: {error}", place.height))
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let transactions: Vec<B256> = self.object.block.body.transactions.iter().map(|tx| *tx.tx_hash()).collect();
        let rows = BlockRows {
            height: self.height(),
            hash: B256::new(self.object.hash().to_bytes()),
            block: &encode_block(&self.object.block),
            certificate: &self.object.certificate.encode(),
            receipts: &encode_receipts(&self.receipts),
            outcomes: &self.receipts,
            transactions: &transactions,
            changes: &StateChanges::default(),
        };
        tables::write_past(transaction, &rows)
    }
}

impl Store {
    /// How many blocks below its head a store must begin with: what the EVM's `BLOCKHASH` sees.
    pub(crate) const BLOCKS_BELOW: u64 = BLOCK_HASHES;

    /// Makes a store whose head is the first of these blocks; the others stand below it, each the parent of the one before. Of those further
    /// below it has the links. Its state is to follow by [`Self::put_state`], so it is for a file that has no name yet. Fails if there is a
    /// file at `path`.
    pub(crate) fn begin_at(path: &Path, genesis: &Genesis, past: &[Past], links: &[Link]) -> Result<(), StoreError> {
        Self::create(path, genesis, &Certificate::Genesis { key: genesis.ledger_key })?;
        let (Some(first), Some(last)) = (past.first(), past.last()) else { return Ok(()) };
        let head = (first.height(), B256::new(first.object.hash().to_bytes()));
        let file = StoreFile::open(path, super::Access::Write, std::time::Duration::ZERO, false)?;
        file.write(Durability::Immediate, |transaction| {
            past.iter().try_for_each(|past| past.write(transaction))?;
            links::write(transaction, links)?;
            tables::begin_at(transaction, head, bottom_at(last))
        })
    }

    /// Takes a part of the state after the head, which the caller has checked. It is durable after [`Self::sync`].
    pub(crate) fn put_state(&mut self, part: &StateChanges) -> Result<(), StoreError> {
        // It is the first state that is here: there is none to go back to.
        self.file.write(Durability::None, |transaction| tables::write_changes(transaction, part, |_, _, _| {}))?;
        self.rows = Arc::new(self.file.read(Rows::open)?);
        Ok(())
    }

    /// Takes blocks below the bottom, each the parent of the one before, which the caller has checked (P2). Durable when this returns.
    pub(crate) fn put_past(&mut self, past: &[Past]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (past.first(), past.last()) else { return Ok(()) };
        if first.height() + 1 != self.bottom() {
            return Err(StoreError::NotNext { height: first.height(), head: self.bottom() });
        }
        let genesis = B256::new(self.genesis().hash().to_bytes());
        if last.height() == 1 && last.parent() != genesis {
            return Err(self.damaged("its blocks do not lead down to its block 0"));
        }
        self.file.write(Durability::Immediate, |transaction| {
            past.iter().try_for_each(|past| past.write(transaction))?;
            links::forget_from(transaction, last.height())?;
            tables::write_bottom(transaction, bottom_at(last))
        })?;
        self.read_durable()
    }

    /// The hash of the block below the bottom; none if all are here.
    pub(crate) fn below_bottom(&self) -> Result<Option<(u64, B256)>, StoreError> {
        match self.bottom() {
            0 => Ok(None),
            bottom => Ok(Some((bottom - 1, self.header(bottom)?.parent_hash))),
        }
    }
}

/// What is below the lowest block is missing, unless that is block 0 alone.
fn bottom_at(lowest: &Past) -> Option<u64> {
    Some(lowest.height()).filter(|height| *height > 1)
}
