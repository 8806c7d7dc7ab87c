//! Which transactions may stand in a block at all (B2 and B3), before any of them runs.
//!
//! - **Owns** the form of transactions and the right to send.
//! - **Does not** run transactions; one call asks `Access` at the parent's state.
//!
//! Format: `docs/design/ledger.md`, section *Blocks*.

use std::collections::BTreeSet;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, Transaction, TxEnvelope, TxType, Typed2718};
use alloy_primitives::{Address, B256, U256, b256, keccak256};
use alloy_sol_types::SolCall;
use alloy_trie::KECCAK_EMPTY;
use revm::context_interface::cfg::GasParams;
use revm::primitives::eip3860::MAX_INITCODE_SIZE;
use revm::primitives::hardfork::SpecId;

use crate::call::{Call, CallError, CallOutcome, call};
use crate::charter::CHARTER_ADDRESS;
use crate::contracts::Access;
use crate::execute::environment;
use crate::genesis::Genesis;
use crate::recall::Recall;
use crate::state::{State, StateNodes};
use crate::system::SYSTEM_ADDRESS;

/// Enough for the reads of `Access.isEnrolled` several times over; a bound, since it is asked for every sender.
const ENROLLED_GAS: u64 = 1_000_000;
/// keccak256 of the code of `Access`, of versions 1 and 2. Asked who is enrolled, that code reads its own slots and nothing else, neither block nor
/// time: under one storage root its answers stay. Other code at its place is asked each time.
pub(crate) const ACCESS_CODES: [B256; 2] = [
    b256!("1d21442c1dbea08b5d736c4b123345bfa6f8cd7f0e09d0ae7acbb33e68528973"),
    b256!("a7304bbc26e1fa2a549b828a9ddef92c153cc788797fda42dcceea906998fa24"),
];

/// Why a transaction cannot stand in a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionFault {
    #[error("it has type {found}; types 0 and 2 are taken")]
    Type { found: u8 },
    #[error("it is for chain {found}, this is chain {expected}")]
    Chain { found: u64, expected: u64 },
    #[error("it names no chain")]
    NoChain,
    #[error("it offers a gas price; there are no fees on this ledger")]
    Price,
    #[error("it carries value; there is none on this ledger")]
    Value,
    #[error("its signature fits no account")]
    Signature,
    #[error("its sender {sender} is not enrolled")]
    Sender { sender: Address },
    #[error("its gas limit {limit} does not cover the {needed} that it costs before it runs")]
    Intrinsic { limit: u64, needed: u64 },
    #[error("it creates a contract from {length} bytes, the limit is {limit}")]
    InitCode { length: usize, limit: usize },
    #[error("no nonce is left after its own")]
    LastNonce,
    #[error("its gas limit {limit} exceeds the {left} that the block has left")]
    Gas { limit: u64, left: u64 },
    #[error("its nonce {nonce} is ahead: the sender's next one is {expected}")]
    Early { nonce: u64, expected: u64 },
    #[error("it is the ledger's own: a block ends with it or does not hold it")]
    System,
    #[error("it hands the ledger over from within, which only a transaction of its own may")]
    Handover,
    #[error("it has {length} bytes, more than a block may")]
    TooLong { length: usize },
    #[error("it is not valid here: {reason}")]
    Invalid { reason: String },
}

/// The sender of a transaction that has the form of B2 and is not the ledger's own; what was checked before is not checked again.
pub fn sender(genesis: &Genesis, tx: &TxEnvelope, recall: Option<&Recall>) -> Result<Address, TransactionFault> {
    if !matches!(tx.tx_type(), TxType::Legacy | TxType::Eip1559) {
        return Err(TransactionFault::Type { found: tx.ty() });
    }
    match tx.chain_id() {
        None => return Err(TransactionFault::NoChain),
        Some(found) if found != genesis.chain_id => {
            return Err(TransactionFault::Chain { found, expected: genesis.chain_id });
        }
        Some(_) => {}
    }
    if tx.max_fee_per_gas() != 0 || tx.max_priority_fee_per_gas().unwrap_or(0) != 0 {
        return Err(TransactionFault::Price);
    }
    if tx.value() != U256::ZERO {
        return Err(TransactionFault::Value);
    }
    let known = recall.and_then(|recall| recall.sender(tx.tx_hash()));
    let sender = known.map_or_else(|| tx.recover_signer().map_err(|_| TransactionFault::Signature), Ok)?;
    if let (Some(recall), None) = (recall, known) {
        recall.keep_sender(*tx.tx_hash(), sender);
    }
    let is_own = sender == *SYSTEM_ADDRESS || sender == *CHARTER_ADDRESS;
    if is_own { Err(TransactionFault::System) } else { Ok(sender) }
}

/// What a transaction must offer by itself, whatever the state is, to stand in a block of that time: gas for what it
/// costs before it runs, no longer init code than may be, a nonce that can be counted up.
pub fn check_alone(genesis: &Genesis, time: u64, tx: &TxEnvelope) -> Result<(), TransactionFault> {
    let spec = genesis.fork_at(time).spec();
    let cost = GasParams::new_spec(spec).initial_tx_gas_for_tx(environment(tx, Address::ZERO), None);
    let floor = if spec.is_enabled_in(SpecId::PRAGUE) { cost.floor_gas() } else { 0 };
    let (limit, needed) = (tx.gas_limit(), cost.initial_total_gas().max(floor));
    if limit < needed {
        return Err(TransactionFault::Intrinsic { limit, needed });
    }
    let length = tx.input().len();
    if tx.kind().is_create() && length > MAX_INITCODE_SIZE {
        return Err(TransactionFault::InitCode { length, limit: MAX_INITCODE_SIZE });
    }
    if tx.nonce() == u64::MAX {
        return Err(TransactionFault::LastNonce);
    }
    Ok(())
}

/// The senders that may send at the parent, as B3 has it.
pub(crate) struct Enrolled<'a, N> {
    genesis: &'a Genesis,
    parent: &'a Header,
    nodes: &'a N,
    known: BTreeSet<Address>,
}

impl<'a, N: StateNodes> Enrolled<'a, N> {
    pub(crate) fn at(genesis: &'a Genesis, parent: &'a Header, nodes: &'a N) -> Self {
        Self { genesis, parent, nodes, known: BTreeSet::new() }
    }

    /// True if this account may send in the next block.
    pub(crate) fn contains(&mut self, sender: &Address) -> Result<bool, CallError<N::Error>> {
        if self.known.contains(sender) {
            return Ok(true);
        }
        let enrolled = is_enrolled(self.genesis, self.parent, self.nodes, sender)?;
        if enrolled {
            self.known.insert(*sender);
        }
        Ok(enrolled)
    }
}

/// True if this account may send in the block after `head`: before `Access` stands, the accounts that genesis names;
/// from then on, those that `Access` says.
pub fn is_enrolled<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    sender: &Address,
) -> Result<bool, CallError<N::Error>> {
    let access = genesis.access_address();
    let record = State::at(head.state_root, nodes).account(&access).map_err(|source| CallError::View(source.into()))?;
    let Some(record) = record.filter(|record| record.code_hash != KECCAK_EMPTY) else {
        return Ok(genesis.names(sender));
    };
    let Some(recall) = nodes.recall().filter(|_| ACCESS_CODES.contains(&record.code_hash)) else {
        return ask_access(genesis, head, nodes, sender);
    };
    let spec = genesis.fork_at(head.timestamp).spec();
    let decides = [record.code_hash.as_slice(), record.storage_root.as_slice(), sender.as_slice(), &[spec as u8]];
    let asked = keccak256(decides.concat());
    if let Some(enrolled) = recall.enrolled(&asked) {
        return Ok(enrolled);
    }
    let enrolled = ask_access(genesis, head, nodes, sender)?;
    recall.keep_enrolled(asked, enrolled);
    Ok(enrolled)
}

fn ask_access<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    sender: &Address,
) -> Result<bool, CallError<N::Error>> {
    let input = Access::isEnrolledCall { who: *sender }.abi_encode();
    let ask = Call { gas: Some(ENROLLED_GAS), ..Call::read(Address::ZERO, genesis.access_address(), input) };
    let answer = call(genesis, head, nodes, &ask)?;
    let CallOutcome::Returned(output) = answer.outcome else { return Ok(false) };
    Ok(Access::isEnrolledCall::abi_decode_returns(&output).unwrap_or(false))
}
