//! A ledger that nodes keep: which of them is asked, what is asked of it, and for how long.
//!
//! - **Owns** the nodes' addresses, JSON-RPC over HTTP to them, and the deadlines of both.
//! - **Does not** believe a node: its blocks are judged by [`Embedded`](crate::Embedded), as those of a site are.
//!
//! # Invariants
//! - **R1** No answer of a node is longer than [`client::ANSWER_MAX`], and none is waited for without a deadline.
//! - **R2** A transaction is called refused only if a node refused it before any could have taken it. Where that is not
//!   sure the final blocks decide.
//! - **R3** What stands in a node's URL beside its host is shown to nobody: it may be a key to it.
//!
//! Methods: `docs/reference/json-rpc.md`.

pub(crate) mod client;
mod error;
mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_json_rpc::RpcSend;
use alloy_primitives::{Address, B256, Bytes, U64};
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::fork::ForkSide;
use blockhouse_ledger::genesis::Genesis;
use serde::de::DeserializeOwned;

use client::Client;

#[cfg(feature = "node")]
use crate::chain::chain;
#[cfg(feature = "node")]
use crate::store::{Past, StatePart};
#[cfg(feature = "node")]
use blockhouse_ledger::receipt::Link;
#[cfg(feature = "node")]
use blockhouse_ledger::state::StatePlace;

pub use client::ANSWER_MAX;
pub(crate) use error::told;
pub use error::{NodeError, NodeProblem, RemoteError};
pub use url::{NodeUrl, NodeUrlError};

/// How many blocks are asked for at once: some hundred kilobytes of an idle ledger, and less than a node gives at most.
pub(crate) const RUN: u64 = 256;

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until a node takes a connection: it gets over two lost packets.
    pub connect: Duration,
    /// Until it has answered a request: enough for the longest answer over a slow line.
    pub answer: Duration,
    /// Until a transaction that was sent is final: a network that lost its leader takes some seconds, one that has no
    /// quorum any time.
    pub finality: Duration,
    /// Until a transaction that is not final is sent to the next node too: the first may have died with it.
    pub again: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let [connect, answer, finality, again] = [5, 30, 60, 5].map(Duration::from_secs);
        Self { connect, answer, finality, again }
    }
}

/// Who a node is, of all that it says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct NodeIdentity {
    /// Its public key among nodes.
    pub key: B256,
    /// The account by which it speaks on the ledger.
    pub account: Address,
}

/// Which release a node is of, as it says.
#[cfg(feature = "node")]
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct NodeRelease {
    /// Its public key among nodes.
    #[serde(default)]
    pub(crate) key: B256,
    /// Its version.
    pub(crate) version: String,
    /// The newest rules of the ledger that it knows; 0 if it is of a release that does not say.
    #[serde(default)]
    pub(crate) rules: u64,
}

/// The nodes of a ledger, seen by a host. Clones share which of them answered last.
#[derive(Debug, Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<NodeUrl>,
    client: Client,
    deadlines: Deadlines,
    /// The number of the node that is asked first.
    first: AtomicUsize,
}

impl Remote {
    /// The nodes at these URLs; nothing is connected yet.
    pub fn new(nodes: Vec<NodeUrl>) -> Result<Self, RemoteError> {
        Self::with_deadlines(nodes, Deadlines::default())
    }

    /// The same with other deadlines.
    pub fn with_deadlines(nodes: Vec<NodeUrl>, deadlines: Deadlines) -> Result<Self, RemoteError> {
        if nodes.is_empty() {
            return Err(RemoteError::NoUrl);
        }
        let client = Client::new(&deadlines).map_err(RemoteError::Client)?;
        Ok(Self { shared: Arc::new(Shared { nodes, client, deadlines, first: AtomicUsize::new(0) }) })
    }

    /// Where the nodes are.
    pub fn nodes(&self) -> &[NodeUrl] {
        &self.shared.nodes
    }

    /// What the ledger began with, as the first node says that answers: the caller must know whether it is the right one.
    pub async fn genesis(&self) -> Result<Genesis, RemoteError> {
        const METHOD: &str = "blockhouse_genesis";
        self.any(METHOD, (), |bytes: Bytes| Genesis::decode(&bytes).map_err(|error| NodeError::form(METHOD, error)))
            .await
    }

    /// Who a node says that it is. It can say anything: whoever goes by it compares it with what its operator reads.
    pub async fn identity(&self, node: &NodeUrl) -> Result<NodeIdentity, NodeError> {
        self.shared.client.ask(node, "blockhouse_nodeStatus", ()).await
    }

    /// Which release that node is of.
    #[cfg(feature = "node")]
    pub(crate) async fn release(&self, node: &NodeUrl) -> Result<NodeRelease, NodeError> {
        self.shared.client.ask(node, "blockhouse_nodeStatus", ()).await
    }

    /// What the first node that answers says of itself.
    #[cfg(feature = "node")]
    pub async fn node_status(&self) -> Result<crate::rpc::NodeStatus, RemoteError> {
        self.any("blockhouse_nodeStatus", (), Ok).await
    }

    /// The outcome of a resharing that waits to be posted, as the first node knows it that answers.
    #[cfg(feature = "node")]
    pub async fn made_outcome(&self) -> Result<Option<crate::rpc::MadeOutcome>, RemoteError> {
        self.any("blockhouse_getResharingOutcome", (), Ok).await
    }

    /// Deadlines.
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.shared.deadlines
    }

    /// All nodes, the one that answered last first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &NodeUrl> {
        let (nodes, first) = (&self.shared.nodes, self.shared.first.load(Ordering::Relaxed));
        nodes.iter().cycle().skip(first % nodes.len()).take(nodes.len())
    }

    /// That node is asked first from now on.
    pub(crate) fn prefer(&self, node: &NodeUrl) {
        if let Some(number) = self.shared.nodes.iter().position(|other| other == node) {
            self.shared.first.store(number, Ordering::Relaxed);
        }
    }

    /// The next node is asked first from now on.
    pub(crate) fn pass_over(&self) {
        self.shared.first.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer of the first node that gives one which can be read.
    pub(crate) async fn any<P, A, T>(
        &self,
        method: &'static str,
        params: P,
        read: fn(A) -> Result<T, NodeError>,
    ) -> Result<T, RemoteError>
    where
        P: RpcSend,
        A: DeserializeOwned,
    {
        let mut problems = Vec::new();
        for node in self.in_turn() {
            match self.shared.client.ask(node, method, params.clone()).await.and_then(read) {
                Ok(answer) => {
                    self.prefer(node);
                    return Ok(answer);
                }
                Err(error) => problems.push(NodeProblem { node: node.clone(), error }),
            }
        }
        Err(RemoteError::NoNode { problems })
    }

    /// Blocks of a node from that height on, in order and without a gap; none if it has none there. Not judged yet.
    pub(crate) async fn blocks(&self, node: &NodeUrl, from: u64, count: u64) -> Result<Vec<BlockObject>, NodeError> {
        const METHOD: &str = "blockhouse_getBlockObjects";
        let params = (U64::from(from), U64::from(count));
        let encoded: Vec<Bytes> = self.shared.client.ask(node, METHOD, params).await?;
        let decode = |(height, bytes): (u64, Bytes)| match BlockObject::decode(&bytes) {
            Ok(object) if object.block.header.number == height => Ok(object),
            Ok(object) => Err(NodeError::Order { expected: height, found: object.block.header.number }),
            Err(error) => Err(NodeError::form(METHOD, error)),
        };
        (from..).zip(encoded).map(decode).collect()
    }

    /// The height of a node's last final block, as it says.
    pub(crate) async fn height(&self, node: &NodeUrl) -> Result<u64, NodeError> {
        self.shared.client.ask(node, "eth_blockNumber", ()).await.map(|height: U64| height.to())
    }

    /// Hands a node both sides of a fork; it checks and keeps them, and tells others.
    pub(crate) async fn submit_fork(&self, node: &NodeUrl, sides: &[ForkSide; 2]) -> Result<(), NodeError> {
        let [one, other] = sides.each_ref().map(|side| Bytes::from(side.encode()));
        let _: serde_json::Value = self.shared.client.ask(node, "blockhouse_submitFork", (one, other)).await?;
        Ok(())
    }

    /// Blocks with their receipts of a node from that height down; none if it has none there. Not judged yet.
    #[cfg(feature = "node")]
    pub(crate) async fn past(&self, node: &NodeUrl, top: u64, count: u64) -> Result<Vec<Past>, NodeError> {
        const METHOD: &str = "blockhouse_getPastBlocks";
        #[derive(serde::Deserialize)]
        struct View {
            block: Bytes,
            receipts: Bytes,
        }
        let views: Vec<View> = self.shared.client.ask(node, METHOD, (U64::from(top), U64::from(count))).await?;
        let read = |view: &View| Past::read(&view.block, &view.receipts).map_err(|why| NodeError::form(METHOD, why));
        views.iter().map(read).collect()
    }

    /// The blocks of a node above that height at which the key changes, the lowest first; none if it has none. Not judged yet.
    #[cfg(feature = "node")]
    pub(crate) async fn links(&self, node: &NodeUrl, after: u64, count: u64) -> Result<Vec<Link>, NodeError> {
        const METHOD: &str = "blockhouse_getLinks";
        #[derive(serde::Deserialize)]
        struct View {
            header: Bytes,
            certificate: Bytes,
        }
        let views: Vec<View> = self.shared.client.ask(node, METHOD, (U64::from(after), U64::from(count))).await?;
        if views.len() as u64 > count {
            return Err(NodeError::form(METHOD, format!("it has {} links, and {count} were asked for", views.len())));
        }
        let read = |view: &View| {
            Link::decode(&view.header, &view.certificate).map_err(|error| NodeError::form(METHOD, chain(&error)))
        };
        views.iter().map(read).collect()
    }

    /// The block whose state a node keeps for who begins to fetch it.
    #[cfg(feature = "node")]
    pub(crate) async fn kept_state(&self, node: &NodeUrl) -> Result<(u64, B256), NodeError> {
        #[derive(serde::Deserialize)]
        struct View {
            height: U64,
            hash: B256,
        }
        let kept: View = self.shared.client.ask(node, "blockhouse_getKeptState", ()).await?;
        Ok((kept.height.to(), kept.hash))
    }

    /// A part of the state after that block. Not judged yet.
    #[cfg(feature = "node")]
    pub(crate) async fn state_part(
        &self,
        node: &NodeUrl,
        block: B256,
        from: StatePlace,
    ) -> Result<StatePart, NodeError> {
        const METHOD: &str = "blockhouse_getStatePart";
        let part: Bytes = self.shared.client.ask(node, METHOD, (block, from.account, from.slot)).await?;
        StatePart::decode(&part).map_err(|error| NodeError::form(METHOD, error))
    }

    /// The nonce after all that a node holds of the account, in blocks or waiting.
    pub(crate) async fn pending_nonce(&self, account: Address) -> Result<u64, RemoteError> {
        self.any("eth_getTransactionCount", (account, "pending"), |nonce: U64| Ok(nonce.to())).await
    }

    /// Sends a transaction to the first node that takes it.
    pub(crate) async fn send(&self, raw: &Bytes, hash: B256) -> Result<(), SendError> {
        let (mut problems, mut may_be_taken) = (Vec::new(), false);
        for node in self.in_turn() {
            match self.send_to(node, raw, hash).await {
                Ok(()) => {
                    self.prefer(node);
                    return Ok(());
                }
                Err(NodeError::Answered { code, message }) if is_refusal(code) => {
                    // R2: after a node that may have it, `nonce too low` may say that it is in a block.
                    return if may_be_taken { Ok(()) } else { Err(SendError::Refused(message)) };
                }
                Err(error) => {
                    may_be_taken |= error.may_have_arrived();
                    problems.push(NodeProblem { node: node.clone(), error });
                }
            }
        }
        if may_be_taken { Ok(()) } else { Err(SendError::NoNode(problems)) }
    }

    /// The answer of the first node that gives one, an error of the protocol among them.
    #[cfg(feature = "node")]
    pub(crate) async fn exchange<P: RpcSend>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<alloy_json_rpc::ResponsePayload, RemoteError> {
        let mut problems = Vec::new();
        for node in self.in_turn() {
            match self.shared.client.exchange(node, method, params.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => problems.push(NodeProblem { node: node.clone(), error }),
            }
        }
        Err(RemoteError::NoNode { problems })
    }

    async fn send_to(&self, node: &NodeUrl, raw: &Bytes, hash: B256) -> Result<(), NodeError> {
        const METHOD: &str = "eth_sendRawTransaction";
        match self.shared.client.ask::<_, B256>(node, METHOD, (raw,)).await {
            Ok(named) if named == hash => Ok(()),
            Ok(named) => Err(NodeError::OtherHash { sent: hash, named }),
            Err(NodeError::Answered { message, .. }) if is_known(&message) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Why a transaction was not sent.
pub(crate) enum SendError {
    /// A node refused it, in these words.
    Refused(String),
    /// No node answered.
    NoNode(Vec<NodeProblem>),
}

/// What nodes of Ethereum answer with where the transaction itself is to blame; other codes are a node's own trouble.
const fn is_refusal(code: i64) -> bool {
    matches!(code, -32_000 | -32_003 | -32_602)
}

/// As nodes of Ethereum say that they have a transaction already.
fn is_known(message: &str) -> bool {
    ["already known", "known transaction", "already imported"].iter().any(|words| message.contains(words))
}
