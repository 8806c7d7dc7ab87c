//! Blocks of a store that are written anew, because what stands there is not what was written.
//!
//! # Invariants
//! - **M1** All blocks of one mending are one durable transaction: a kill leaves the store as it was, or mended.
//! - **M2** Only the block that the chain has at its height is taken: the caller has its hash from the block above.

use alloy_primitives::B256;
use blockhouse_ledger::block::{BlockObject, encode_block};
use blockhouse_ledger::state::StateChanges;

use super::file::Durability;
use super::tables::{self, BlockRows};
use super::{Store, StoreError};

impl Store {
    /// Puts these blocks where they belong, with their certificates and the rows of the indexes; each has the hash that the block above it
    /// names (M2). When this returns, a power loss does not undo it.
    pub(crate) fn mend(&mut self, objects: &[BlockObject]) -> Result<(), StoreError> {
        self.file.write(Durability::Immediate, |transaction| {
            for object in objects {
                let transactions: Vec<B256> = object.block.body.transactions.iter().map(|tx| *tx.tx_hash()).collect();
                let rows = BlockRows {
                    height: object.block.header.number,
                    hash: B256::new(object.hash().to_bytes()),
                    block: &encode_block(&object.block),
                    certificate: &object.certificate.encode(),
                    receipts: &[],
                    outcomes: &[],
                    transactions: &transactions,
                    changes: &StateChanges::default(),
                };
                tables::mend_block(transaction, &rows)?;
            }
            Ok(())
        })?;
        self.read_durable()
    }
}
