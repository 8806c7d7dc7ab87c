//! Blocks in, transaction receipts and roots out: the rules B1 to B5.
//!
//! - **Owns** how a block is made from transactions, and the check of a block made elsewhere: it is made again
//!   and must be the same in every byte.
//! - **Does not** store, certify or choose a time.
//!
//! # Invariants
//! - **X1** An [`Executed`] exists only for a block that satisfies B1 to B5 above its parent.
//!
//! Format: `docs/design/ledger.md`, section *Blocks*.

use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{
    BlockBody, Eip658Value, Header, Receipt, ReceiptEnvelope, Transaction, TxEnvelope, TxReceipt, TxType,
};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{Address, Bloom, Log, TxKind, U256};
use alloy_rlp::Encodable;
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_types::BlockHash;
use blockhouse_types::limits::BLOCK_MAX;
use revm::ExecuteCommitEvm;
use revm::context::TxEnv;
use revm::context::result::{EVMError, ExecutionResult};

use crate::block::{Block, block_hash};
use crate::call::CallError;
use crate::contracts::Access;
use crate::evm::{BlockEvm, ViewError, evm};
use crate::genesis::Genesis;
use crate::rules::{Enrolled, TransactionFault, sender};
use crate::state::{State, StateChanges, StateError, StateNodes};
use crate::writes::Writes;

/// A block that satisfies the rules, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub hash: BlockHash,
    /// The receipt of each transaction.
    pub receipts: Vec<ReceiptEnvelope>,
    /// What it changes in the state.
    pub changes: StateChanges,
    /// The ledger key in force from this block on, if it is a handover.
    pub handover: Option<[u8; 32]>,
}

/// Why no block can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError<E: std::error::Error + Send + Sync + 'static> {
    #[error("block {height} cannot have time {time}: its parent has {parent}")]
    Time { height: u64, time: u64, parent: u64 },
    #[error("no height is left after block {parent}")]
    Height { parent: u64 },
    #[error("transaction {index} cannot stand in block {height}")]
    Transaction {
        height: u64,
        index: usize,
        #[source]
        source: TransactionFault,
    },
    #[error("transaction {index} of block {height} is a handover, which must stand alone and succeed")]
    Handover { height: u64, index: usize },
    #[error("block {height} would have {length} bytes, the limit is {BLOCK_MAX}")]
    TooLong { height: u64, length: usize },
    #[error("the sender of transaction {index} of block {height} could not be checked")]
    Enrolled {
        height: u64,
        index: usize,
        #[source]
        source: CallError<E>,
    },
    #[error("block {height} could not be executed")]
    View {
        height: u64,
        #[source]
        source: ViewError<E>,
    },
    #[error("the machine failed at transaction {index} of block {height}: {text}")]
    Machine { height: u64, index: usize, text: String },
}

impl<E: std::error::Error + Send + Sync + 'static> BuildError<E> {
    /// What is wrong with the state, if that is what it was.
    pub fn into_state(self) -> Result<StateError<E>, Self> {
        match self {
            Self::View { source: ViewError::State(error), .. } => Ok(error),
            Self::Enrolled { height, index, source } => {
                source.into_state().map_err(|source| Self::Enrolled { height, index, source })
            }
            other => Err(other),
        }
    }
}

/// Why a block made elsewhere is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError<E: std::error::Error + Send + Sync + 'static> {
    #[error("block {found} cannot follow block {parent}")]
    Height { found: u64, parent: u64 },
    #[error("block {height} ({hash}) cannot be executed")]
    Build {
        height: u64,
        hash: BlockHash,
        #[source]
        source: BuildError<E>,
    },
    #[error("block {height} ({hash}) says {field} that its execution does not give")]
    Differs { height: u64, hash: BlockHash, field: &'static str },
}

impl<E: std::error::Error + Send + Sync + 'static> ImportError<E> {
    /// What is wrong with the state, if that is what it was.
    pub fn into_state(self) -> Result<StateError<E>, Self> {
        match self {
            Self::Build { height, hash, source } => {
                source.into_state().map_err(|source| Self::Build { height, hash, source })
            }
            other => Err(other),
        }
    }
}

/// Makes the block of these transactions above `parent`, whose state these nodes hold.
pub fn build<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    txs: Vec<TxEnvelope>,
    time: u64,
) -> Result<Executed, BuildError<N::Error>> {
    let height = parent.number.checked_add(1).ok_or(BuildError::Height { parent: parent.number })?;
    if time <= parent.timestamp {
        return Err(BuildError::Time { height, time, parent: parent.timestamp });
    }
    let senders = senders(genesis, parent, nodes, &txs)?;
    let mut run = Run { evm: evm(genesis, parent, nodes, height, time), height, gas_used: 0, receipts: Vec::new() };
    for (index, (tx, sender)) in txs.iter().zip(senders).enumerate() {
        run.transaction(genesis, index, tx, sender)?;
    }
    let handover = handover(genesis, height, &txs, &run.receipts)?;

    let view = |source: StateError<N::Error>| BuildError::View { height, source: source.into() };
    let state = State::at(parent.state_root, nodes);
    let writes = Writes::of(&state, run.evm.ctx.journaled_state.database.cache).map_err(view)?;
    let (state_root, changes) = writes.apply(&state).map_err(view)?;
    let header = Header {
        parent_hash: parent.hash_slow(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root,
        transactions_root: calculate_transaction_root(&txs),
        receipts_root: calculate_receipt_root(&run.receipts),
        logs_bloom: run.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom()),
        number: height,
        gas_limit: genesis.gas_limit,
        gas_used: run.gas_used,
        timestamp: time,
        base_fee_per_gas: Some(0),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        ..Header::default()
    };
    let body = BlockBody { transactions: txs, ommers: Vec::new(), withdrawals: Some(Withdrawals::default()) };
    let block = Block::new(header, body);
    match block.length() {
        length if length > BLOCK_MAX => Err(BuildError::TooLong { height, length }),
        _ => Ok(Executed { hash: block_hash(&block.header), block, receipts: run.receipts, changes, handover }),
    }
}

/// Makes the block again from its transactions and time; refuses it whole if anything differs.
pub fn import<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    block: &Block,
) -> Result<Executed, ImportError<N::Error>> {
    let height = block.header.number;
    if parent.number.checked_add(1) != Some(height) {
        return Err(ImportError::Height { found: height, parent: parent.number });
    }
    let hash = block_hash(&block.header);
    if block.header.parent_hash != parent.hash_slow() {
        return Err(ImportError::Differs { height, hash, field: "a parent" });
    }
    let made = build(genesis, parent, nodes, block.body.transactions.clone(), block.header.timestamp)
        .map_err(|source| ImportError::Build { height, hash, source })?;
    match difference(block, &made.block) {
        Some(field) => Err(ImportError::Differs { height, hash, field }),
        None => Ok(made),
    }
}

/// The first part in which a block differs from the one that its transactions make.
fn difference(found: &Block, made: &Block) -> Option<&'static str> {
    let (f, m) = (&found.header, &made.header);
    let parts = [
        (f.state_root != m.state_root, "a state root"),
        (f.receipts_root != m.receipts_root, "a receipts root"),
        (f.transactions_root != m.transactions_root, "a transactions root"),
        (f.logs_bloom != m.logs_bloom, "a bloom filter"),
        (f.gas_used != m.gas_used, "an amount of gas used"),
        (f.gas_limit != m.gas_limit, "a gas limit"),
        (f.extra_data != m.extra_data, "extra data"),
        (f != m, "a header field"),
        (found.body != made.body, "ommers or withdrawals"),
    ];
    parts.into_iter().find(|(differs, _)| *differs).map(|(_, field)| field)
}

/// The senders of all transactions, each allowed to send (B2, B3).
fn senders<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    txs: &[TxEnvelope],
) -> Result<Vec<Address>, BuildError<N::Error>> {
    let height = parent.number.saturating_add(1);
    let mut enrolled = Enrolled::at(genesis, parent, nodes);
    let checked = txs.iter().enumerate().map(|(index, tx)| {
        let fault = |source| BuildError::Transaction { height, index, source };
        let sender = sender(genesis, tx).map_err(fault)?;
        match enrolled.contains(&sender) {
            Ok(true) => Ok(sender),
            Ok(false) => Err(fault(TransactionFault::Sender { sender })),
            Err(source) => Err(BuildError::Enrolled { height, index, source }),
        }
    });
    checked.collect()
}

/// The run of a block's transactions, one after another.
struct Run<'a, N: StateNodes> {
    evm: BlockEvm<'a, N>,
    height: u64,
    gas_used: u64,
    receipts: Vec<ReceiptEnvelope>,
}

impl<N: StateNodes> Run<'_, N> {
    fn transaction(
        &mut self,
        genesis: &Genesis,
        index: usize,
        tx: &TxEnvelope,
        sender: Address,
    ) -> Result<(), BuildError<N::Error>> {
        let height = self.height;
        let fault = |source| BuildError::Transaction { height, index, source };
        let left = genesis.gas_limit.saturating_sub(self.gas_used);
        if tx.gas_limit() > left {
            return Err(fault(TransactionFault::Gas { limit: tx.gas_limit(), left }));
        }
        let result = self.evm.transact_commit(environment(tx, sender)).map_err(|error| match error {
            EVMError::Transaction(invalid) => fault(TransactionFault::Invalid { reason: invalid.to_string() }),
            EVMError::Database(source) => BuildError::View { height, source },
            other => BuildError::Machine { height, index, text: other.to_string() },
        })?;
        self.gas_used = self.gas_used.saturating_add(result.tx_gas_used());
        self.receipts.push(receipt(tx.tx_type(), result, self.gas_used));
        Ok(())
    }
}

/// A transaction as the machine takes it.
pub(crate) fn environment(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type() as u8,
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: 0,
        kind: tx.kind(),
        value: U256::ZERO,
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
    match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        // B2 lets no other type in.
        _ => ReceiptEnvelope::Eip1559(receipt),
    }
}

/// The next ledger key of a handover block (B5). A handover inside another transaction, say of a contract that is a
/// recovery account, makes the block invalid: the transaction's own signature must be the recovery account's.
fn handover<E: std::error::Error + Send + Sync + 'static>(
    genesis: &Genesis,
    height: u64,
    txs: &[TxEnvelope],
    receipts: &[ReceiptEnvelope],
) -> Result<Option<[u8; 32]>, BuildError<E>> {
    let access = genesis.access_address();
    let handed = |log: &Log| log.address == access && log.topics().first() == Some(&Access::HandedOver::SIGNATURE_HASH);
    let calls =
        |tx: &TxEnvelope| tx.kind() == TxKind::Call(access) && tx.input().starts_with(&Access::handoverCall::SELECTOR);
    let found = txs.iter().zip(receipts).position(|(tx, receipt)| calls(tx) || receipt.logs().iter().any(handed));
    let Some(index) = found else { return Ok(None) };
    let refused = BuildError::Handover { height, index };
    match (txs, receipts) {
        ([tx], [receipt]) if calls(tx) && receipt.status() => {
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
