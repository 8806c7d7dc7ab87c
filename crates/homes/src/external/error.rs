//! Why an outside chain did not do what was asked.

use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};

use crate::remote::{NodeProblem, told};

/// Why an outside chain did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// No node is named.
    #[error("no node of the chain is named")]
    NoUrl,
    /// The client of HTTP could not be made.
    #[error("the client of HTTP could not be made")]
    Client(#[source] reqwest::Error),
    /// None can be asked.
    #[error("no node of the chain could be asked for {} s: {}", waited.as_secs(), told(problems))]
    NoNode { waited: Duration, problems: Vec<NodeProblem> },
    /// A node refuses a question.
    #[error("a node of the chain refused {method}: {message} (code {code})")]
    Refused { method: &'static str, code: i64, message: String },
    /// The nodes are of another chain.
    #[error("the nodes keep the chain {found}, the vault is on the chain {expected}")]
    OtherChain { expected: u64, found: u64 },
    /// The nodes are of another chain of the same id.
    #[error("the nodes keep a chain that begins with block {found}, that of the vault begins with another one")]
    OtherGenesis { found: String },
    /// A block is not there.
    #[error("the nodes have no block {height}")]
    NoBlock { height: u64 },
    /// No block is called final.
    #[error("the chain's nodes call no block final")]
    NoFinality,
    /// A final block is gone.
    #[error("the chain has dropped block {height} ({was}), which counted as final; there is {found} now")]
    Dropped { height: u64, was: B256, found: B256 },
    /// The nodes have not come as far as this host has seen the chain.
    #[error("the nodes do not have block {height} of the chain, which was final before: they are behind")]
    Behind { height: u64 },
    /// Gas costs more than may be paid.
    #[error("the chain takes transactions for {needed} wei a unit of gas, and at most {cap} may be offered")]
    Fee { needed: u128, cap: u128 },
    /// The sender cannot pay.
    #[error("the account {account} has {has} wei on the chain and needs {needed} for the next transaction")]
    Funds { account: Address, has: U256, needed: U256 },
    /// Somebody else used the account.
    #[error("the nonce {nonce} of the account {account} was taken by another transaction")]
    NonceTaken { account: Address, nonce: u64 },
    /// Somebody else is using the account.
    #[error(
        "nodes hold transactions of the account {account} that were not sent from here: the next nonce here is {next}, theirs is {pending}"
    )]
    Foreign { account: Address, next: u64, pending: u64 },
    /// No account can send so often.
    #[error("the account {account} has no nonces left")]
    NoNonce { account: Address },
    /// No contract can be put at an address that is found again.
    #[error(
        "the chain has no deterministic deployment proxy, and the account {account} has sent too much there for one of its own: pay from a new account"
    )]
    NoFactory { account: Address },
    /// What belongs together was sent in part.
    #[error("{sent} of {of} transactions that belong together were sent, and then no more: {why}")]
    InPart { sent: usize, of: usize, why: String },
    /// What was sent did not become final in time.
    #[error(
        "transaction {sent} was sent and is not in a final block after {} s; it may still become final{}",
        waited.as_secs(),
        last.as_ref().map(|last| format!("; a node says of it: {last}")).unwrap_or_default()
    )]
    NotFinal { sent: B256, waited: Duration, last: Option<String> },
    /// There is no such transaction.
    #[error("the chain has no final transaction {hash}")]
    NoTransaction { hash: B256 },
    /// A block is of a form that this version does not know.
    #[error("block {height} of the chain cannot be proved: {why}")]
    Form { height: u64, why: String },
    /// The outbox could not be read or written.
    #[error("could not {action} {}", path.display())]
    Outbox {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another process holds the outbox.
    #[error("another process of this host is sending: {} stays locked", path.display())]
    Busy { path: PathBuf },
    /// The outbox is damaged.
    #[error("{} is not what this vault wrote: {why}", path.display())]
    OutboxForm { path: PathBuf, why: String },
    /// The wrong account.
    #[error("what is sent as {from} cannot be signed here")]
    NotSigner { from: Address },
}
