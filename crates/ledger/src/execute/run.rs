//! The run of a block's transactions, one after another, and what its receipts say.
//!
//! - **Owns** how a transaction becomes a receipt, what the run gives the header, and whether a block is a handover (B5).
//! - **Does not** decide what stands in a block.

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, Transaction, TxEnvelope, TxReceipt as _, TxType};
use alloy_primitives::{Address, Bloom, Log, TxKind};
use alloy_sol_types::SolEvent;
use revm::ExecuteCommitEvm;
use revm::context::TxEnv;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::database::CacheDB;

use super::BuildError;
use crate::contracts::Access;
use crate::evm::{BlockEvm, View};
use crate::genesis::Genesis;
use crate::handover::{is_call, needs_word};
use crate::rules::TransactionFault;
use crate::state::{StateChanges, StateError, StateNodes};
use crate::writes::Writes;

/// The run of a block's transactions, one after another.
pub(crate) struct Run<'a, N: StateNodes> {
    pub(crate) evm: BlockEvm<'a, N>,
    height: u64,
    pub(super) gas_used: u64,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
}

/// What the transactions of a block come to.
pub(crate) struct Outcome {
    /// The parts of the block's header that only the run gives; all others have their defaults.
    pub(crate) header: Header,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
    pub(crate) changes: StateChanges,
}

impl<'a, N: StateNodes> Run<'a, N> {
    pub(crate) const fn new(evm: BlockEvm<'a, N>, height: u64) -> Self {
        Self { evm, height, gas_used: 0, receipts: Vec::new() }
    }

    /// Runs one transaction; one that cannot run leaves everything as it was.
    pub(crate) fn transaction(
        &mut self,
        index: usize,
        tx: &TxEnvelope,
        sender: Address,
    ) -> Result<(), BuildError<N::Error>> {
        let height = self.height;
        let fault = |source| BuildError::Transaction { height, index, source };
        let left = self.evm.ctx.block.gas_limit.saturating_sub(self.gas_used);
        if tx.gas_limit() > left {
            return Err(fault(TransactionFault::Gas { limit: tx.gas_limit(), left }));
        }
        let result = self.evm.transact_commit(environment(tx, sender)).map_err(|error| match error {
            EVMError::Transaction(InvalidTransaction::NonceTooHigh { tx, state }) => {
                fault(TransactionFault::Early { nonce: tx, expected: state })
            }
            EVMError::Transaction(invalid) => fault(TransactionFault::Invalid { reason: invalid.to_string() }),
            EVMError::Database(source) => BuildError::View { height, source },
            other => BuildError::Machine { height, index, text: other.to_string() },
        })?;
        self.gas_used = self.gas_used.saturating_add(result.tx_gas_used());
        self.receipts.push(receipt(tx.tx_type(), result, self.gas_used));
        Ok(())
    }

    /// The end of the run of these transactions.
    pub(crate) fn finish(self, txs: &[TxEnvelope]) -> Result<Outcome, StateError<N::Error>> {
        let (gas_used, receipts) = (self.gas_used, self.receipts);
        let CacheDB { cache, db: View { state, .. } } = self.evm.ctx.journaled_state.database;
        let (state_root, changes) = Writes::of(&state, cache)?.apply(&state)?;
        let header = Header {
            state_root,
            transactions_root: calculate_transaction_root(txs),
            receipts_root: calculate_receipt_root(&receipts),
            logs_bloom: receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom()),
            gas_used,
            ..Header::default()
        };
        Ok(Outcome { header, receipts, changes })
    }
}

/// A transaction as the EVM takes it; B2 lets none in that names a price or carries value.
pub(crate) fn environment(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type() as u8,
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

fn receipt(kind: TxType, result: ExecutionResult, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let status = Eip658Value::Eip658(result.is_success());
    // A revert takes its logs back.
    let logs: Vec<Log> = if result.is_success() { result.into_logs() } else { Vec::new() };
    let receipt = Receipt { status, cumulative_gas_used, logs }.with_bloom();
    ReceiptEnvelope::from_typed(kind, receipt)
}

/// The next ledger key of a handover block (B5). A handover inside another transaction, say of a contract that is a
/// recovery account, makes the block invalid: the transaction's own signature must be the recovery account's.
pub(super) fn handover<E: std::error::Error + Send + Sync + 'static>(
    genesis: &Genesis,
    height: u64,
    (txs, is_chartered): (&[TxEnvelope], bool),
    receipts: &[ReceiptEnvelope],
) -> Result<Option<[u8; 32]>, BuildError<E>> {
    let access = genesis.access_address();
    let handed = |log: &Log| log.address == access && log.topics().first() == Some(&Access::HandedOver::SIGNATURE_HASH);
    let calls = |tx: &TxEnvelope| calls_handover(access, tx);
    // To a contract of the first version a call with the word of others is any call that fails: among others it is no handover, as a release
    // that does not know it has it. Alone it stands for nothing else.
    let made = |receipt: &ReceiptEnvelope| receipt.status();
    let is_alone = txs.len() == 1 || is_chartered;
    let names = |tx: &TxEnvelope| calls(tx) && (is_alone || !needs_word(tx.input()));
    let found = txs.iter().zip(receipts).position(|(tx, receipt)| names(tx) || receipt.logs().iter().any(handed));
    let Some(index) = found else { return Ok(None) };
    let refused = BuildError::Handover { height, index };
    match (txs, receipts) {
        // What stands behind it is the charter to which its key commits, which has to be made.
        ([tx, ..], [receipt, rest @ ..]) if is_alone && calls(tx) && receipt.status() && rest.iter().all(made) => {
            let logs = receipt.logs().iter().filter(|log| handed(log));
            let keys: Vec<_> = logs.filter_map(|log| Access::HandedOver::decode_log(log).ok()).collect();
            match keys.as_slice() {
                [event] => Ok(Some(event.nextKey.0)),
                _ => Err(refused),
            }
        }
        _ => Err(refused),
    }
}

/// True if the transaction calls the handover itself, whatever comes of it.
pub(super) fn calls_handover(access: Address, tx: &TxEnvelope) -> bool {
    tx.kind() == TxKind::Call(access) && is_call(tx.input())
}
