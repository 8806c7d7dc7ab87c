//! The calls inside a transaction, found by running its block again up to it.
//!
//! - **Owns** the run and the tree of calls, as the `callTracer` of other Ethereum nodes gives it.
//! - **Does not** find the parent's state: whoever asks brings it.
//!
//! # Invariants
//! - **T1** The transactions run as in the block: same machine, same height and time, same order.

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, Transaction, TxEnvelope};
use alloy_primitives::{Address, Bytes, Log, U256};
use alloy_sol_types::{Revert, SolError};
use revm::context::ContextTr;
use revm::context::result::EVMError;
use revm::context_interface::CreateScheme;
use revm::interpreter::{
    CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InstructionResult, InterpreterResult,
};
use revm::{ExecuteCommitEvm, InspectEvm, Inspector};

use crate::block::Block;
use crate::evm::{ViewError, evm};
use crate::execute::environment;
use crate::genesis::Genesis;
use crate::state::{StateError, StateNodes};

/// The most calls of one trace: a bound on its memory, far above what a transaction of the vault makes.
const FRAMES_MAX: usize = 100_000;

/// How code was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `CALL`, or the transaction itself.
    Call,
    /// `CALLCODE`.
    CallCode,
    /// `DELEGATECALL`.
    DelegateCall,
    /// `STATICCALL`.
    StaticCall,
    /// `CREATE`, or the transaction itself.
    Create,
    /// `CREATE2`.
    Create2,
}

impl CallKind {
    /// The name of its instruction.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Call => "CALL",
            Self::CallCode => "CALLCODE",
            Self::DelegateCall => "DELEGATECALL",
            Self::StaticCall => "STATICCALL",
            Self::Create => "CREATE",
            Self::Create2 => "CREATE2",
        }
    }
}

/// One call, with the calls inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How it was entered.
    pub kind: CallKind,
    /// Who called.
    pub from: Address,
    /// What was called or created; nothing if a creation failed.
    pub to: Option<Address>,
    /// The value that it was called with.
    pub value: U256,
    /// The gas that it was given.
    pub gas: u64,
    /// The gas that it used.
    pub gas_used: u64,
    /// Its input; of a creation the code that makes the code.
    pub input: Bytes,
    /// What it returned, or its revert.
    pub output: Bytes,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The text of its revert, if it was one of a plain text.
    pub revert_reason: Option<String>,
    /// The logs that it made itself, each behind so many of its calls.
    pub logs: Vec<(usize, Log)>,
    /// The calls inside it, in order.
    pub calls: Vec<Frame>,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError<E: std::error::Error + Send + Sync + 'static> {
    #[error("block {height} has no transaction {index}")]
    NoTransaction { height: u64, index: usize },
    #[error("transaction {index} of block {height} does not run as it did")]
    Differs { height: u64, index: usize },
    #[error("transaction {index} of block {height} makes more than {FRAMES_MAX} calls")]
    TooMany { height: u64, index: usize },
    #[error("block {height} could not be executed")]
    View {
        height: u64,
        #[source]
        source: ViewError<E>,
    },
}

impl<E: std::error::Error + Send + Sync + 'static> TraceError<E> {
    /// What is wrong with the state, if that is what it was.
    pub fn into_state(self) -> Result<StateError<E>, Self> {
        match self {
            Self::View { source: ViewError::State(error), .. } => Ok(error),
            other => Err(other),
        }
    }
}

/// Runs the transactions of a block up to the one at `index` and traces that one; `nodes` hold the parent's state.
pub fn trace<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    block: &Block,
    index: usize,
) -> Result<Frame, TraceError<N::Error>> {
    let height = block.header.number;
    let (before, from) = block.body.transactions.split_at_checked(index).unwrap_or((&[], &[]));
    let Some(last) = from.first() else { return Err(TraceError::NoTransaction { height, index }) };
    let failed = |index| {
        move |error: EVMError<ViewError<N::Error>>| match error {
            EVMError::Database(source) => TraceError::View { height, source },
            _ => TraceError::Differs { height, index },
        }
    };
    let sender = |index, tx: &TxEnvelope| tx.recover_signer().map_err(|_| TraceError::Differs { height, index });
    let mut evm = evm(genesis, parent, nodes, height, block.header.timestamp);
    for (index, tx) in before.iter().enumerate() {
        evm.transact_commit(environment(tx, sender(index, tx)?)).map_err(failed(index))?;
    }
    let transaction = environment(last, sender(index, last)?);
    let mut evm = evm.with_inspector(Tracer::default());
    let result = evm.inspect_one_tx(transaction).map_err(failed(index))?;
    let tracer = evm.into_inspector();
    if tracer.count > FRAMES_MAX {
        return Err(TraceError::TooMany { height, index });
    }
    let mut frame = tracer.done.ok_or(TraceError::Differs { height, index })?;
    // The outermost frame is the transaction: its gas has what every transaction costs in it.
    frame.gas = last.gas_limit();
    frame.gas_used = result.tx_gas_used();
    Ok(frame)
}

/// Collects the calls while the machine runs.
#[derive(Default)]
struct Tracer {
    open: Vec<Frame>,
    done: Option<Frame>,
    count: usize,
}

impl Tracer {
    fn begin(&mut self, frame: Frame) {
        self.count += 1;
        self.open.push(frame);
    }

    fn end(&mut self, result: &InterpreterResult, target: impl FnOnce(Option<Address>) -> Option<Address>) {
        let Some(mut frame) = self.open.pop() else { return };
        frame.to = target(frame.to);
        frame.gas_used = result.gas.total_gas_spent();
        frame.output = result.output.clone();
        if !result.result.is_ok() {
            frame.error = Some(error_text(result.result));
            frame.revert_reason = Revert::abi_decode(&result.output).ok().map(|revert| revert.reason);
            // What a failed call logged is taken back, with all that was called inside it.
            drop_logs(&mut frame);
        }
        match self.open.last_mut() {
            Some(_) if self.count > FRAMES_MAX => {}
            Some(outer) => outer.calls.push(frame),
            None => self.done = Some(frame),
        }
    }
}

impl<C: ContextTr> Inspector<C> for Tracer {
    fn log(&mut self, _: &mut C, log: Log) {
        if let Some(frame) = self.open.last_mut() {
            frame.logs.push((frame.calls.len(), log));
        }
    }

    fn call(&mut self, context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        // Code of others runs as the caller, so the code's address is what was called.
        let (kind, from, to) = match inputs.scheme {
            CallScheme::Call => (CallKind::Call, inputs.caller, inputs.target_address),
            CallScheme::StaticCall => (CallKind::StaticCall, inputs.caller, inputs.target_address),
            CallScheme::CallCode => (CallKind::CallCode, inputs.caller, inputs.bytecode_address),
            CallScheme::DelegateCall => (CallKind::DelegateCall, inputs.target_address, inputs.bytecode_address),
        };
        let (value, input) = (inputs.value.get(), inputs.input.bytes(context));
        self.begin(Frame { value, gas: inputs.gas_limit, input, to: Some(to), ..empty(kind, from) });
        None
    }

    fn call_end(&mut self, _: &mut C, _: &CallInputs, outcome: &mut CallOutcome) {
        self.end(&outcome.result, |called| called);
    }

    fn create(&mut self, _: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let kind = match inputs.scheme() {
            CreateScheme::Create2 { .. } => CallKind::Create2,
            _ => CallKind::Create,
        };
        let (value, input) = (inputs.value(), inputs.init_code().clone());
        self.begin(Frame { value, gas: inputs.gas_limit(), input, ..empty(kind, inputs.caller()) });
        None
    }

    fn create_end(&mut self, _: &mut C, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(&outcome.result, |_| outcome.address);
    }
}

const fn empty(kind: CallKind, from: Address) -> Frame {
    Frame {
        kind,
        from,
        to: None,
        value: U256::ZERO,
        gas: 0,
        gas_used: 0,
        input: Bytes::new(),
        output: Bytes::new(),
        error: None,
        revert_reason: None,
        logs: Vec::new(),
        calls: Vec::new(),
    }
}

fn drop_logs(frame: &mut Frame) {
    frame.logs.clear();
    frame.calls.iter_mut().for_each(drop_logs);
}

/// The words that go-ethereum has for it, where tools look for them.
fn error_text(result: InstructionResult) -> String {
    match result {
        InstructionResult::Revert => "execution reverted".to_owned(),
        InstructionResult::OutOfGas
        | InstructionResult::MemoryOOG
        | InstructionResult::MemoryLimitOOG
        | InstructionResult::PrecompileOOG
        | InstructionResult::InvalidOperandOOG
        | InstructionResult::ReentrancySentryOOG => "out of gas".to_owned(),
        InstructionResult::InvalidJump => "invalid jump destination".to_owned(),
        InstructionResult::OpcodeNotFound | InstructionResult::InvalidFEOpcode => "invalid opcode".to_owned(),
        InstructionResult::CallTooDeep => "max call depth exceeded".to_owned(),
        InstructionResult::StateChangeDuringStaticCall => "write protection".to_owned(),
        InstructionResult::StackUnderflow => "stack underflow".to_owned(),
        InstructionResult::StackOverflow => "stack limit reached".to_owned(),
        other => format!("{other:?}"),
    }
}
