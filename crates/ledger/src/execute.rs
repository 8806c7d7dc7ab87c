//! Blocks in, transaction receipts and roots out: the rules B1 to B8.
//!
//! - **Owns** how a block is made from transactions, and the check of a block made elsewhere: it is made again
//!   and must be the same in every byte.
//! - **Does not** store, certify or choose a time.
//!
//! # Invariants
//! - **X1** An [`Executed`] exists only for a block that satisfies B1 to B8 above its parent.
//!
//! Format: `docs/design/ledger.md`, section *Blocks*.

mod gather;
mod own_call;
mod run;

use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy_consensus::{BlockBody, Header, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::Address;
use alloy_rlp::Encodable;
use blockhouse_types::BlockHash;
use blockhouse_types::limits::BLOCK_MAX;

pub use self::gather::{Gathered, Room, gather};
pub use self::own_call::{first_own_call, own_call};
pub(crate) use self::run::{Outcome, Run, environment};
use self::run::{calls_handover, handover};
use crate::block::{Block, block_hash};
use crate::call::CallError;
use crate::charter::{CHARTER_ADDRESS, behind_handover};
use crate::evm::{ViewError, evm};
use crate::genesis::Genesis;
use crate::rules::{Enrolled, TransactionFault, sender};
use crate::state::{State, StateChanges, StateError, StateNodes};
use crate::system::{self, Due, SYSTEM_ADDRESS};
use crate::time::{BlockTime, NoTime};
use crate::validators::mix_hash;

/// A block that satisfies the rules, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub hash: BlockHash,
    /// Who signed each transaction.
    pub senders: Vec<Address>,
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
    Time { height: u64, time: BlockTime, parent: BlockTime },
    #[error("the parent of block {height} has no time")]
    ParentTime {
        height: u64,
        #[source]
        source: NoTime,
    },
    #[error("no height is left after block {parent}")]
    Height { parent: u64 },
    #[error("transaction {index} cannot stand in block {height}")]
    Transaction {
        height: u64,
        index: usize,
        #[source]
        source: TransactionFault,
    },
    #[error(
        "transaction {index} of block {height} is a handover, which must stand alone, but for its charter, and succeed"
    )]
    Handover { height: u64, index: usize },
    #[error("block {height} does not end with the tick that is due there")]
    NoTick { height: u64 },
    #[error("block {height} would have {length} bytes, the limit is {BLOCK_MAX}")]
    TooLong { height: u64, length: usize },
    #[error("the sender of transaction {index} of block {height} could not be checked")]
    Enrolled {
        height: u64,
        index: usize,
        #[source]
        source: CallError<E>,
    },
    #[error("who keeps the ledger after block {height} could not be read")]
    Validators {
        height: u64,
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
            Self::Validators { height, source } => {
                source.into_state().map_err(|source| Self::Validators { height, source })
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
    time: BlockTime,
) -> Result<Executed, BuildError<N::Error>> {
    let frame = Frame::above(genesis, parent, nodes, time)?;
    let senders = frame.senders(&txs)?;
    let mut run = frame.run();
    for (index, (tx, sender)) in txs.iter().zip(&senders).enumerate() {
        run.transaction(index, tx, *sender)?;
    }
    frame.seal(run, txs, senders)
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
    let time = BlockTime::of(&block.header).map_err(|_| ImportError::Differs { height, hash, field: "extra data" })?;
    let made = build(genesis, parent, nodes, block.body.transactions.clone(), time)
        .map_err(|source| ImportError::Build { height, hash, source })?;
    match difference(block, &made.block) {
        Some(field) => Err(ImportError::Differs { height, hash, field }),
        None => Ok(made),
    }
}

/// The first part in which a block differs from the one that its transactions make.
pub(crate) fn difference(found: &Block, made: &Block) -> Option<&'static str> {
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

/// Where a block goes: above which parent, at which time.
struct Frame<'a, N> {
    genesis: &'a Genesis,
    parent: &'a Header,
    nodes: &'a N,
    height: u64,
    time: BlockTime,
    /// The ledger's own call at the end.
    due: Due,
}

impl<'a, N: StateNodes> Frame<'a, N> {
    fn above(
        genesis: &'a Genesis,
        parent: &'a Header,
        nodes: &'a N,
        time: BlockTime,
    ) -> Result<Self, BuildError<N::Error>> {
        let height = parent.number.checked_add(1).ok_or(BuildError::Height { parent: parent.number })?;
        let before = BlockTime::of(parent).map_err(|source| BuildError::ParentTime { height, source })?;
        if time <= before {
            return Err(BuildError::Time { height, time, parent: before });
        }
        let view = |source: StateError<N::Error>| BuildError::View { height, source: source.into() };
        let due = system::due(genesis, parent, nodes).map_err(view)?;
        Ok(Self { genesis, parent, nodes, height, time, due })
    }

    fn run(&self) -> Run<'a, N> {
        let evm = evm(self.genesis, self.parent, self.nodes, self.height, self.time.seconds());
        Run::new(evm, self.height)
    }

    /// The senders of all transactions, each allowed to send (B2, B3); the ledger's own stands where it is due (S1, S2).
    fn senders(&self, txs: &[TxEnvelope]) -> Result<Vec<Address>, BuildError<N::Error>> {
        let height = self.height;
        let own = self.due.transaction();
        let ends_with_own = own.is_some() && txs.last() == own;
        let holds_charter = self.holds_charter(txs)?;
        if matches!(self.due, Due::Must(_)) && !ends_with_own && !holds_charter && !self.is_handover(txs) {
            return Err(BuildError::NoTick { height });
        }
        let mut enrolled = Enrolled::at(self.genesis, self.parent, self.nodes);
        let checked = txs.iter().enumerate().map(|(index, tx)| {
            if ends_with_own && index + 1 == txs.len() {
                return Ok(*SYSTEM_ADDRESS);
            }
            if holds_charter && index == 1 {
                return Ok(*CHARTER_ADDRESS);
            }
            let fault = |source| BuildError::Transaction { height, index, source };
            let sender = sender(self.genesis, tx, self.nodes.recall()).map_err(fault)?;
            match enrolled.contains(&sender) {
                Ok(true) => Ok(sender),
                Ok(false) => Err(fault(TransactionFault::Sender { sender })),
                Err(source) => Err(BuildError::Enrolled { height, index, source }),
            }
        });
        checked.collect()
    }

    /// True for the one transaction of a handover: it stands alone (B5).
    fn is_handover(&self, txs: &[TxEnvelope]) -> bool {
        matches!(txs, [tx] if calls_handover(self.genesis.access_address(), tx))
    }

    /// True for a handover with its charter behind it, and nothing else (B8).
    fn holds_charter(&self, txs: &[TxEnvelope]) -> Result<bool, BuildError<N::Error>> {
        let [call, made] = txs else { return Ok(false) };
        if !calls_handover(self.genesis.access_address(), call) || !made.kind().is_create() {
            return Ok(false);
        }
        let record = State::at(self.parent.state_root, self.nodes).account(&CHARTER_ADDRESS);
        let record = record.map_err(|source| BuildError::View { height: self.height, source: source.into() })?;
        let nonce = record.map_or(0, |record| record.nonce);
        Ok(behind_handover(self.genesis, call, made, nonce).is_some())
    }

    /// The block of what was run.
    fn seal(
        &self,
        run: Run<'a, N>,
        txs: Vec<TxEnvelope>,
        senders: Vec<Address>,
    ) -> Result<Executed, BuildError<N::Error>> {
        let Self { genesis, parent, nodes, height, time, .. } = *self;
        let is_chartered = senders.get(1) == Some(&*CHARTER_ADDRESS);
        let handover = handover(genesis, height, (&txs, is_chartered), &run.receipts)?;
        let view = |source: StateError<N::Error>| BuildError::View { height, source: source.into() };
        let Outcome { header: ran, receipts, changes } = run.finish(&txs).map_err(view)?;
        let mut header = Header {
            parent_hash: parent.hash_slow(),
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            number: height,
            gas_limit: genesis.gas_limit,
            timestamp: time.seconds(),
            extra_data: time.extra_data(),
            base_fee_per_gas: Some(0),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            ..ran
        };
        header.mix_hash =
            mix_hash(genesis, &header, nodes, &changes).map_err(|source| BuildError::Validators { height, source })?;
        let body = BlockBody { transactions: txs, ommers: Vec::new(), withdrawals: Some(Withdrawals::default()) };
        let block = Block::new(header, body);
        match block.length() {
            length if length > BLOCK_MAX => Err(BuildError::TooLong { height, length }),
            _ => {
                let hash = block_hash(&block.header);
                Ok(Executed { block, hash, senders, receipts, changes, handover })
            }
        }
    }
}
