//! Blocks, transactions, receipts and logs as JSON-RPC shows them.

use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_consensus::{ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256};
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log, Transaction, TransactionReceipt};
use blockhouse_ledger::block::Block as LedgerBlock;

use super::Fault;

/// A block with its transactions, or with their hashes.
pub(super) fn block(block: &LedgerBlock, hash: B256, full: bool) -> Result<Block, Fault> {
    let size = alloy_primitives::U256::from(block.length());
    let transactions = if full {
        let all = (0..block.body.transactions.len()).map(|index| transaction(block, hash, index));
        BlockTransactions::Full(all.collect::<Result<_, _>>()?)
    } else {
        BlockTransactions::Hashes(block.body.transactions.iter().map(|tx| *tx.tx_hash()).collect())
    };
    Ok(Block {
        header: Header { hash, inner: block.header.clone(), total_difficulty: None, size: Some(size) },
        uncles: Vec::new(),
        transactions,
        withdrawals: block.body.withdrawals.clone(),
    })
}

/// The transaction at `index` of a block.
pub(super) fn transaction(block: &LedgerBlock, hash: B256, index: usize) -> Result<Transaction, Fault> {
    let envelope = transaction_at(block, index)?;
    Ok(Transaction {
        inner: Recovered::new_unchecked(envelope.clone(), sender(envelope)?),
        block_hash: Some(hash),
        block_number: Some(block.header.number),
        transaction_index: Some(index as u64),
        effective_gas_price: Some(0),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// The transaction receipts of a whole block.
pub(super) fn receipts(
    block: &LedgerBlock,
    hash: B256,
    receipts: Vec<ReceiptEnvelope>,
) -> Result<Vec<TransactionReceipt>, Fault> {
    let mut views = Vec::with_capacity(receipts.len());
    let (mut gas_before, mut logs_before) = (0, 0);
    for (index, receipt) in receipts.into_iter().enumerate() {
        let place = Place { block, hash, index, envelope: transaction_at(block, index)? };
        let gas_used = receipt.cumulative_gas_used() - gas_before;
        gas_before = receipt.cumulative_gas_used();
        let first_log = logs_before;
        logs_before += receipt.logs().len() as u64;
        views.push(place.receipt(receipt, gas_used, first_log)?);
    }
    Ok(views)
}

/// Where a transaction stands.
struct Place<'a> {
    block: &'a LedgerBlock,
    hash: B256,
    index: usize,
    envelope: &'a TxEnvelope,
}

impl Place<'_> {
    fn receipt(&self, receipt: ReceiptEnvelope, gas_used: u64, first_log: u64) -> Result<TransactionReceipt, Fault> {
        let from = sender(self.envelope)?;
        let created = self.envelope.to().is_none().then(|| from.create(self.envelope.nonce()));
        let mut log_index = first_log;
        let inner = receipt.map_logs(|log| {
            let view = self.log(log, log_index);
            log_index += 1;
            view
        });
        Ok(TransactionReceipt {
            inner,
            transaction_hash: *self.envelope.tx_hash(),
            transaction_index: Some(self.index as u64),
            block_hash: Some(self.hash),
            block_number: Some(self.block.header.number),
            gas_used,
            effective_gas_price: 0,
            blob_gas_used: None,
            blob_gas_price: None,
            from,
            to: self.envelope.to(),
            contract_address: created,
        })
    }

    fn log(&self, inner: alloy_primitives::Log, log_index: u64) -> Log {
        Log {
            inner,
            block_hash: Some(self.hash),
            block_number: Some(self.block.header.number),
            block_timestamp: Some(self.block.header.timestamp),
            transaction_hash: Some(*self.envelope.tx_hash()),
            transaction_index: Some(self.index as u64),
            log_index: Some(log_index),
            removed: false,
        }
    }
}

fn transaction_at(block: &LedgerBlock, index: usize) -> Result<&TxEnvelope, Fault> {
    let transactions = &block.body.transactions;
    transactions.get(index).ok_or_else(|| Fault::internal(format!("block {} has no {index}", block.header.number)))
}

fn sender(envelope: &TxEnvelope) -> Result<Address, Fault> {
    // A sealed block was executed, so every signature in it recovered once before.
    envelope.recover_signer().map_err(|error| Fault::internal(error.to_string()))
}
