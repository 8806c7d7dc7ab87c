//! What can be wrong with a node, and with all of them.

use std::fmt;
use std::time::Duration;

use alloy_primitives::{Address, B256};

use super::client::ANSWER_MAX;
use super::url::NodeUrl;
use crate::chain::chain;
use crate::embedded::HomeError;
use crate::rpc::LIMIT_EXCEEDED;

/// Why a node's answer is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It was not reached, or fell silent.
    #[error("it was not reached, or did not answer in time")]
    Http(#[source] reqwest::Error),
    /// It answers with a status that is none of JSON-RPC.
    #[error("it answered with the HTTP status {status}")]
    Status { status: u16 },
    /// Its answer is longer than any may be.
    #[error("its answer is longer than {ANSWER_MAX} bytes")]
    TooLong,
    /// Its answer is not of the form of its method.
    #[error("its answer to {method} cannot be read: {why}")]
    Form { method: &'static str, why: String },
    /// It answers with an error of the protocol.
    #[error("it answered: {message} (code {code})")]
    Answered { code: i64, message: String },
    /// The blocks that it gives are not those that were asked for.
    #[error("it gave block {found} where block {expected} was asked for")]
    Order { expected: u64, found: u64 },
    /// It took a transaction and named another.
    #[error("it took the transaction {sent} and named it {named}")]
    OtherHash { sent: B256, named: B256 },
    /// It is of another chain.
    #[error("it keeps the chain {found}, and not {expected}")]
    OtherChain { expected: u64, found: u64 },
    /// It does not have a block that another node has.
    #[error("it does not have block {height} of the chain as it is")]
    Behind { height: u64 },
    /// It begins with another block 0.
    #[error("it keeps another ledger: its block 0 is {found}")]
    OtherGenesis { found: String },
    /// Its blocks are not those of this ledger: evidence against it, never imported.
    #[error("it serves blocks that are not of this ledger")]
    Blocks(#[source] Box<HomeError>),
}

impl NodeError {
    pub(crate) fn form(method: &'static str, error: impl fmt::Display) -> Self {
        Self::Form { method, why: error.to_string() }
    }

    /// True if what was asked may have been done all the same.
    pub(crate) fn may_have_arrived(&self) -> bool {
        match self {
            Self::Http(error) => !error.is_connect() && !error.is_builder(),
            Self::Answered { code, .. } => *code != LIMIT_EXCEEDED,
            // It was not asked then.
            Self::OtherChain { .. } | Self::OtherGenesis { .. } | Self::Behind { .. } => false,
            _ => true,
        }
    }

    /// True if it says nothing of what the node has: it was not reached, or would not answer now. Asked again it may.
    #[cfg(feature = "node")]
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Status { .. } | Self::Answered { .. })
    }

    /// True if the node shows something that it should not be able to have: forged or foreign blocks.
    pub const fn is_evidence(&self) -> bool {
        matches!(self, Self::Blocks(_) | Self::OtherGenesis { .. })
    }
}

/// What is wrong with one of the nodes.
#[derive(Debug)]
pub struct NodeProblem {
    /// The node.
    pub node: NodeUrl,
    /// What is wrong with it.
    pub error: NodeError,
}

impl fmt::Display for NodeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, chain(&self.error))
    }
}

/// Why the nodes of a ledger did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No node is named.
    #[error("no node of the ledger is named")]
    NoUrl,
    /// The client of HTTP could not be made.
    #[error("the client of HTTP could not be made")]
    Client(#[source] reqwest::Error),
    /// None can be asked.
    #[error("none of the ledger's nodes gave a usable answer; {}", told(problems))]
    NoNode { problems: Vec<NodeProblem> },
    /// A node refuses a transaction; nothing of it will be on the ledger.
    #[error("the ledger refused the transaction: {why}")]
    Refused { why: String },
    /// The ledger does not know its sender, or does not any more.
    #[error("the ledger does not take transactions of {account}: it is not enrolled, or was revoked")]
    NotEnrolled { account: Address },
    /// Transactions that belong together were sent in part.
    #[error("{sent} of {of} transactions that belong together were sent, and then no more: {why}")]
    InPart { sent: usize, of: usize, why: String },
    /// What was sent did not become final in time.
    #[error(
        "the {} sent and not in a final block after {} s; it may still become final{}",
        transactions(sent),
        waited.as_secs(),
        last.as_ref().map(|last| format!("; {last}")).unwrap_or_default()
    )]
    NotFinal { sent: Vec<B256>, waited: Duration, last: Option<String> },
    /// No transaction was given.
    #[error("there is no transaction to send")]
    Nothing,
}

impl RemoteError {
    /// True if all nodes show what they should not be able to have.
    pub fn is_evidence(&self) -> bool {
        match self {
            Self::NoNode { problems } => problems.iter().all(|problem| problem.error.is_evidence()),
            _ => false,
        }
    }
}

pub(crate) fn told(problems: &[NodeProblem]) -> String {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    told.join("; ")
}

fn transactions(sent: &[B256]) -> String {
    match sent {
        [one] => format!("transaction {one} was"),
        several => {
            let hashes: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("transactions {} were", hashes.join(", "))
        }
    }
}
