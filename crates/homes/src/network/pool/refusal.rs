//! Why a transaction does not get into the pool, in the words that users of Ethereum know.

use alloy_primitives::{Address, TxHash};
use blockhouse_ledger::TransactionFault;

/// Why a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("rlp: the bytes are no transaction: {reason}")]
    Encoding { reason: String },
    #[error("transaction type not supported: type {found}, types 0 and 2 are taken")]
    Type { found: u8 },
    #[error("only replay-protected (EIP-155) transactions are taken: this one names no chain")]
    NoChain,
    #[error("invalid chain id for signer: have {found} want {expected}")]
    Chain { found: u64, expected: u64 },
    #[error(
        "there are no fees on this ledger: the gas price must be 0, the transaction offers up to {max_fee} wei for \
         each unit"
    )]
    Price { max_fee: u128 },
    #[error("there is no value on this ledger: the value must be 0")]
    Value,
    #[error("invalid sender: the signature fits no account")]
    Signature,
    #[error("oversized data: transaction size {length}, limit {limit}")]
    TooLarge { length: usize, limit: usize },
    #[error("exceeds block gas limit: gas limit {found}, a block has at most {limit} for transactions")]
    BlockGas { found: u64, limit: u64 },
    #[error("intrinsic gas too low: gas {found}, minimum needed {needed}")]
    IntrinsicGas { found: u64, needed: u64 },
    #[error("max initcode size exceeded: code size {length}, limit {limit}")]
    InitCode { length: usize, limit: usize },
    #[error("nonce has max value")]
    LastNonce,
    #[error("invalid transaction: {0}")]
    Fault(TransactionFault),
    #[error("the account {sender} is the ledger's own: only the nodes make its transactions")]
    System { sender: Address },
    #[error("the sender {sender} is not enrolled on this ledger")]
    NotEnrolled { sender: Address },
    #[error("nonce too low: next nonce {next}, tx nonce {found}")]
    NonceTooLow { found: u64, next: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {found}, at most {gap} may be missing before it")]
    NonceTooHigh { found: u64, next: u64, gap: u64 },
    #[error("already known")]
    AlreadyKnown { hash: TxHash },
    #[error("already replaced: {by} of the same nonce came after it")]
    AlreadyReplaced { by: TxHash },
    #[error("replacement refused: the transaction with nonce {nonce} was replaced {limit} times already")]
    Replacements { nonce: u64, limit: usize },
    #[error("account limit exceeded: {weight} bytes of {sender} would wait, the limit is {limit}")]
    AccountFull { sender: Address, weight: usize, limit: usize },
    #[error("txpool is full: {weight} of {limit} bytes wait, and no other account has more waiting than {sender}")]
    Full { sender: Address, weight: usize, limit: usize },
}

impl Refusal {
    /// True if the transaction is refused whatever the ledger's state and the pool's content: no honest node sends it.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Encoding { .. }
            | Self::Type { .. }
            | Self::NoChain
            | Self::Chain { .. }
            | Self::Price { .. }
            | Self::Value
            | Self::Signature
            | Self::TooLarge { .. }
            | Self::BlockGas { .. }
            | Self::IntrinsicGas { .. }
            | Self::InitCode { .. }
            | Self::LastNonce
            | Self::Fault(_)
            | Self::System { .. } => true,
            Self::NotEnrolled { .. }
            | Self::NonceTooLow { .. }
            | Self::NonceTooHigh { .. }
            | Self::AlreadyKnown { .. }
            | Self::AlreadyReplaced { .. }
            | Self::Replacements { .. }
            | Self::AccountFull { .. }
            | Self::Full { .. } => false,
        }
    }

    /// The refusal of a transaction that the ledger's rules do not let into any block.
    pub(super) fn from_fault(fault: TransactionFault, max_fee: u128) -> Self {
        match fault {
            TransactionFault::Type { found } => Self::Type { found },
            TransactionFault::Chain { found, expected } => Self::Chain { found, expected },
            TransactionFault::NoChain => Self::NoChain,
            TransactionFault::Price => Self::Price { max_fee },
            TransactionFault::Value => Self::Value,
            TransactionFault::Signature => Self::Signature,
            TransactionFault::Intrinsic { limit, needed } => Self::IntrinsicGas { found: limit, needed },
            TransactionFault::InitCode { length, limit } => Self::InitCode { length, limit },
            TransactionFault::LastNonce => Self::LastNonce,
            other => Self::Fault(other),
        }
    }
}

/// Why a transaction was not added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError<E: std::error::Error + 'static> {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be judged: the state of its sender could not be read.
    #[error("could not look up the sender {sender} of a transaction")]
    Standing {
        sender: Address,
        #[source]
        source: E,
    },
}
