//! Calls that change nothing: `eth_call`, `eth_estimateGas` and `eth_createAccessList`.
//!
//! - **Owns** the run of a call above a head, the search for the least gas that suffices, and the list of what is read.
//! - **Does not** check who asks: reading is open to every holder of the state.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use revm::ExecuteEvm;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{TransactionType, TxEnv};
use revm::state::EvmState;

use crate::evm::{ViewError, evm};
use crate::genesis::Genesis;
use crate::state::{StateError, StateNodes};

/// How often a call is run to find what it reads. Each round but the last finds something new; calls whose path depends
/// on the gas that is left twice over are hardly written, and a bound is needed since anyone may ask.
const ACCESS_LIST_ROUNDS: u32 = 4;

/// What is called, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The account that calls.
    pub from: Address,
    /// The contract, or the creation of one.
    pub to: TxKind,
    /// The input.
    pub input: Bytes,
    /// How much gas it may use; a block's if not said.
    pub gas: Option<u64>,
    /// The time of the block it would stand in, in seconds; if not said it runs as if in the head block itself.
    pub time: Option<u64>,
}

impl Call {
    /// A read of a contract, as of the head.
    pub fn read(from: Address, to: Address, input: impl Into<Bytes>) -> Self {
        Self { from, to: TxKind::Call(to), input: input.into(), gas: None, time: None }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// With this output (of a creation: the code).
    Returned(Bytes),
    /// The contract refused, with these bytes.
    Reverted(Bytes),
    /// The EVM stopped it: out of gas, bad instruction.
    Halted(String),
}

/// How a call ended and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// How it ended.
    pub outcome: CallOutcome,
    /// The gas it used, after refunds.
    pub gas_used: u64,
}

/// What a call reads, and how it ends when it says so beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accessed {
    /// Accounts and slots beyond those that every transaction has warm.
    pub list: AccessList,
    /// How the call ends with that list, and what it costs then.
    pub result: CallResult,
}

/// How much gas a call needs, or how it fails with all the gas there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Estimate {
    /// It succeeds with this gas limit.
    Gas(u64),
    /// It fails in any case.
    Fails(CallOutcome),
}

/// Why a call could not be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E: std::error::Error + Send + Sync + 'static> {
    #[error("the call is not one that a transaction could make")]
    Invalid(#[source] InvalidTransaction),
    #[error("the call could not be executed")]
    View(#[source] ViewError<E>),
    #[error("the machine failed: {text}")]
    Machine { text: String },
}

impl<E: std::error::Error + Send + Sync + 'static> CallError<E> {
    /// What is wrong with the state, if that is what it was.
    pub fn into_state(self) -> Result<StateError<E>, Self> {
        match self {
            Self::View(ViewError::State(error)) => Ok(error),
            other => Err(other),
        }
    }
}

/// Runs a call above the state after `head`.
pub fn call<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    call: &Call,
) -> Result<CallResult, CallError<N::Error>> {
    let gas = call.gas.unwrap_or(genesis.gas_limit).min(genesis.gas_limit);
    run(genesis, head, nodes, call, gas)
}

/// The least gas limit with which the call succeeds, found by bisection: an inner call gets only a part of the gas
/// that is left, so what one run used need not suffice for another.
pub fn estimate_gas<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    call: &Call,
) -> Result<Estimate, CallError<N::Error>> {
    let mut enough = call.gas.unwrap_or(genesis.gas_limit).min(genesis.gas_limit);
    let full = run(genesis, head, nodes, call, enough)?;
    if !matches!(full.outcome, CallOutcome::Returned(_)) {
        return Ok(Estimate::Fails(full.outcome));
    }
    let mut too_little = full.gas_used.saturating_sub(1);
    // Most calls need little more than they used: one probe saves most of the bisection.
    let mut probe = full.gas_used.saturating_add(full.gas_used / 32);
    while enough - too_little > 1 {
        if probe <= too_little || probe >= enough {
            probe = too_little + (enough - too_little) / 2;
        }
        let sufficient = match run(genesis, head, nodes, call, probe) {
            Ok(result) => matches!(result.outcome, CallOutcome::Returned(_)),
            // Less than the transaction costs before it begins.
            Err(CallError::Invalid(_)) => false,
            Err(other) => return Err(other),
        };
        if sufficient {
            enough = probe;
        } else {
            too_little = probe;
        }
        probe = 0;
    }
    Ok(Estimate::Gas(enough))
}

/// Runs a call until the list of what it reads is the one that it was given: a list makes reads cheaper, and with more
/// gas left a call may go on to read more.
pub fn access_list<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    call: &Call,
) -> Result<Accessed, CallError<N::Error>> {
    let gas = call.gas.unwrap_or(genesis.gas_limit).min(genesis.gas_limit);
    let mut list = AccessList::default();
    let mut rounds = ACCESS_LIST_ROUNDS;
    loop {
        let (result, read) = run_with(genesis, head, nodes, call, Offer { gas, list: list.clone() })?;
        rounds -= 1;
        if read == list || rounds == 0 {
            return Ok(Accessed { list: read, result });
        }
        list = read;
    }
}

fn run<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    call: &Call,
    gas: u64,
) -> Result<CallResult, CallError<N::Error>> {
    run_with(genesis, head, nodes, call, Offer { gas, list: AccessList::default() }).map(|(result, _)| result)
}

/// What a run of a call is given.
struct Offer {
    gas: u64,
    list: AccessList,
}

/// Runs a call, and tells what it read beyond what is warm in every transaction.
fn run_with<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    call: &Call,
    offer: Offer,
) -> Result<(CallResult, AccessList), CallError<N::Error>> {
    let (height, time) = match call.time {
        Some(time) => (head.number.saturating_add(1), time),
        None => (head.number, head.timestamp),
    };
    let mut evm = evm(genesis, head, nodes, height, time);
    evm.ctx.cfg.disable_nonce_check = true;
    let tx = TxEnv {
        caller: call.from,
        tx_type: if offer.list.is_empty() { TransactionType::Legacy } else { TransactionType::Eip2930 } as u8,
        gas_limit: offer.gas,
        gas_price: 0,
        access_list: offer.list,
        kind: call.to,
        value: U256::ZERO,
        data: call.input.clone(),
        nonce: 0,
        chain_id: Some(genesis.chain_id),
        ..TxEnv::default()
    };
    let result = evm.transact_one(tx).map_err(|error| match error {
        EVMError::Transaction(invalid) => CallError::Invalid(invalid),
        EVMError::Database(source) => CallError::View(source),
        other => CallError::Machine { text: other.to_string() },
    })?;
    let read = evm.finalize();
    // The sender, the beneficiary and the precompiles.
    let mut warm: Vec<Address> = vec![call.from, Address::ZERO];
    warm.extend(evm.precompiles.warm_addresses().iter());
    warm.extend(match (call.to, &result) {
        (TxKind::Call(to), _) => Some(to),
        (TxKind::Create, ExecutionResult::Success { output, .. }) => output.address().copied(),
        (TxKind::Create, _) => None,
    });
    let list = list_of(&read, &warm);
    let gas_used = result.tx_gas_used();
    let outcome = match result {
        ExecutionResult::Success { output, .. } => CallOutcome::Returned(output.into_data()),
        ExecutionResult::Revert { output, .. } => CallOutcome::Reverted(output),
        ExecutionResult::Halt { reason, .. } => CallOutcome::Halted(reason.to_string()),
    };
    Ok((CallResult { outcome, gas_used }, list))
}

/// Every account that was loaded, unless it is warm anyway and no slot of it was read; in the order of addresses.
fn list_of(read: &EvmState, warm: &[Address]) -> AccessList {
    let slots = |account: &revm::state::Account| {
        let mut keys: Vec<B256> = account.storage.keys().map(|key| B256::from(*key)).collect();
        keys.sort_unstable();
        keys
    };
    let all: BTreeMap<Address, Vec<B256>> = read.iter().map(|(address, account)| (*address, slots(account))).collect();
    let listed = all.into_iter().filter(|(address, keys)| !keys.is_empty() || !warm.contains(address));
    AccessList(listed.map(|(address, storage_keys)| AccessListItem { address, storage_keys }).collect())
}
