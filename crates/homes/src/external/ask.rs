//! Asking the nodes of a chain, with patience.
//!
//! - **Owns** whom to ask next, what is worth asking again, and how long.
//! - **Does not** give up at a node that is down, or asks to be left alone for a while, before its patience is over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_json_rpc::{ErrorPayload, ResponsePayload, RpcSend};
use alloy_primitives::{B256, Bytes, U64};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answers::ChainBlock;
use super::error::ExternalError;
use crate::remote::client::{Client, one_line};
use crate::remote::{Deadlines, NodeError, NodeProblem, NodeUrl};

/// The first pause before the nodes are asked again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(8);

const BLOCK: &str = "eth_getBlockByNumber";

/// A node, and what is known of it.
#[derive(Debug)]
struct Node {
    url: NodeUrl,
    /// It was found to be of the expected chain.
    is_checked: AtomicBool,
    /// The last block that it was found to have.
    has: Mutex<Option<B256>>,
}

/// The nodes of a chain.
#[derive(Debug)]
pub(super) struct Asker {
    nodes: Vec<Node>,
    client: Client,
    patience: Duration,
    /// The chain's id and its block 0, once they are known: X5.
    expected: Option<(u64, B256)>,
    /// The number of the node that is asked first.
    first: AtomicUsize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// A node answers with an error of the protocol.
    Answered(ErrorPayload),
    /// There is none.
    Failed(ExternalError),
}

/// What nodes did with a signed transaction.
#[derive(Debug)]
pub(super) enum Given {
    /// One has it, in its pool or in a block.
    Taken,
    /// One refuses it now, and another may have it, or it may be in a block: what becomes of it the chain says.
    Unclear(ErrorPayload),
    /// One has looked at it and wants none of it, and no other has seen it.
    Refused(ErrorPayload),
}

impl Given {
    /// A refusal is one only if nothing before it may have arrived, and if it does not say that this nonce is behind: which it also is
    /// when the transaction itself is in a block.
    fn of(error: ErrorPayload, may_have_arrived: bool) -> Self {
        if is_known(&error.message) {
            Self::Taken
        } else if may_have_arrived || is_behind(&error.message) {
            Self::Unclear(error)
        } else {
            Self::Refused(error)
        }
    }
}

impl AskError {
    pub(super) fn of(self, method: &'static str) -> ExternalError {
        match self {
            Self::Failed(error) => error,
            Self::Answered(error) => {
                ExternalError::Refused { method, code: error.code, message: one_line(&error.message) }
            }
        }
    }
}

impl Asker {
    pub(super) fn new(nodes: Vec<NodeUrl>, patience: Duration) -> Result<Self, ExternalError> {
        if nodes.is_empty() {
            return Err(ExternalError::NoUrl);
        }
        let client = Client::new(&Deadlines::default()).map_err(ExternalError::Client)?;
        let node = |url| Node { url, is_checked: AtomicBool::new(false), has: Mutex::new(None) };
        let nodes = nodes.into_iter().map(node).collect();
        Ok(Self { nodes, client, patience, expected: None, first: AtomicUsize::new(0) })
    }

    /// The same, whose nodes are each asked for the chain's id and its block 0 before anything else: what another chain says is no
    /// answer.
    pub(super) const fn expecting(mut self, chain_id: u64, genesis: B256) -> Self {
        self.expected = Some((chain_id, genesis));
        self
    }

    /// The answer to a question that every node of the chain answers.
    pub(super) async fn ask<P, T>(&self, method: &'static str, params: P) -> Result<T, ExternalError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        self.try_ask(method, params).await.map_err(|error| error.of(method))
    }

    /// The answer of a node that has this block.
    pub(super) async fn ask_at<P, T>(
        &self,
        block: &ChainBlock,
        method: &'static str,
        params: P,
    ) -> Result<T, ExternalError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        let raw = self.raw_at(block, method, params).await.map_err(|error| error.of(method))?;
        read(&raw, method)
    }

    /// The same where an error of the protocol is an answer too.
    pub(super) async fn try_ask<P, T>(&self, method: &'static str, params: P) -> Result<T, AskError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        let raw = self.raw(method, params).await?;
        read(&raw, method).map_err(AskError::Failed)
    }

    /// The answer as it stands.
    pub(super) async fn raw<P: RpcSend>(&self, method: &'static str, params: P) -> Result<Box<RawValue>, AskError> {
        self.raw_noting(method, params, None, &mut false).await
    }

    /// The same of a node that has this block: one that is behind it would leave out what it does not know.
    pub(super) async fn raw_at<P: RpcSend>(
        &self,
        block: &ChainBlock,
        method: &'static str,
        params: P,
    ) -> Result<Box<RawValue>, AskError> {
        self.raw_noting(method, params, Some(block), &mut false).await
    }

    /// The same; `may_have_arrived` becomes true if a node failed that may have done what was asked all the same, before another one
    /// answered.
    async fn raw_noting<P: RpcSend>(
        &self,
        method: &'static str,
        params: P,
        at: Option<&ChainBlock>,
        may_have_arrived: &mut bool,
    ) -> Result<Box<RawValue>, AskError> {
        let (started, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let mut problems = Vec::new();
            for number in self.in_turn() {
                let Some(node) = self.nodes.get(number) else { continue };
                let error = match self.exchange(node, method, params.clone(), at).await {
                    Ok(ResponsePayload::Success(answer)) => {
                        self.first.store(number, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Ok(ResponsePayload::Failure(error)) if !is_busy(error.code, &error.message) => {
                        self.first.store(number, Ordering::Relaxed);
                        return Err(AskError::Answered(error));
                    }
                    Ok(ResponsePayload::Failure(error)) => {
                        NodeError::Answered { code: error.code, message: one_line(&error.message) }
                    }
                    Err(error) => error,
                };
                *may_have_arrived |= error.may_have_arrived();
                problems.push(NodeProblem { node: node.url.clone(), error });
            }
            if let Some(error) = of_another_chain(&problems) {
                return Err(AskError::Failed(error));
            }
            if started.elapsed() + pause > self.patience {
                return Err(AskError::Failed(ExternalError::NoNode { waited: started.elapsed(), problems }));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One question to one node, once it is known to be of the chain, and to have a block.
    async fn exchange<P: RpcSend>(
        &self,
        node: &Node,
        method: &'static str,
        params: P,
        at: Option<&ChainBlock>,
    ) -> Result<ResponsePayload, NodeError> {
        if !node.is_checked.load(Ordering::Relaxed) {
            self.check_chain(node).await?;
            node.is_checked.store(true, Ordering::Relaxed);
        }
        if let Some(block) = at {
            self.check_block(node, block).await?;
        }
        self.client.exchange(&node.url, method, params).await
    }

    async fn check_chain(&self, node: &Node) -> Result<(), NodeError> {
        let Some((expected, genesis)) = self.expected else { return Ok(()) };
        let found: U64 = self.client.ask(&node.url, "eth_chainId", ()).await?;
        if found.to::<u64>() != expected {
            return Err(NodeError::OtherChain { expected, found: found.to() });
        }
        match self.client.ask::<_, Option<ChainBlock>>(&node.url, BLOCK, ("0x0", false)).await? {
            Some(first) if first.hash == genesis => Ok(()),
            Some(first) => Err(NodeError::OtherGenesis { found: first.hash.to_string() }),
            None => Err(NodeError::Behind { height: 0 }),
        }
    }

    async fn check_block(&self, node: &Node, block: &ChainBlock) -> Result<(), NodeError> {
        let has = || node.has.lock().unwrap_or_else(PoisonError::into_inner);
        if *has() == Some(block.hash) {
            return Ok(());
        }
        let found: Option<ChainBlock> = self.client.ask(&node.url, BLOCK, (block.number, false)).await?;
        if found.is_none_or(|found| found.hash != block.hash) {
            return Err(NodeError::Behind { height: block.number.to() });
        }
        *has() = Some(block.hash);
        Ok(())
    }

    /// Gives a signed transaction to the nodes.
    pub(super) async fn send(&self, raw: Bytes) -> Result<Given, ExternalError> {
        let mut may_have_arrived = false;
        match self.raw_noting("eth_sendRawTransaction", (raw,), None, &mut may_have_arrived).await {
            Ok(_) => Ok(Given::Taken),
            Err(AskError::Answered(error)) => Ok(Given::of(error, may_have_arrived)),
            Err(AskError::Failed(error)) => Err(error),
        }
    }

    /// A block by its number or tag.
    pub(super) async fn block(&self, at: &str) -> Result<Option<ChainBlock>, ExternalError> {
        self.ask(BLOCK, (at.to_owned(), false)).await
    }

    /// The block of that height of the first node that has one, if any has.
    pub(super) async fn block_of_any(&self, height: u64) -> Result<Option<ChainBlock>, ExternalError> {
        let at = format!("0x{height:x}");
        if let Some(block) = self.block(&at).await? {
            return Ok(Some(block));
        }
        let found: Vec<(usize, Option<ChainBlock>)> = self.each(BLOCK, (at, false)).await;
        let found = found.into_iter().find_map(|(number, block)| Some((number, block?)));
        Ok(found.map(|(number, block)| {
            self.prefer(number);
            block
        }))
    }

    /// The node of that number is asked first from now on.
    pub(super) fn prefer(&self, number: usize) {
        self.first.store(number, Ordering::Relaxed);
    }

    /// What each node answers that does.
    pub(super) async fn each<P, T>(&self, method: &'static str, params: P) -> Vec<(usize, T)>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        let mut answers = Vec::new();
        for number in self.in_turn() {
            let Some(node) = self.nodes.get(number) else { continue };
            let answer = self.exchange(node, method, params.clone(), None).await;
            let Ok(ResponsePayload::Success(answer)) = answer else { continue };
            answers.extend(serde_json::from_str(answer.get()).ok().map(|answer| (number, answer)));
        }
        answers
    }

    /// How long nodes are asked again.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// The chain id.
    pub(super) async fn chain_id(&self) -> Result<u64, ExternalError> {
        Ok(self.ask::<_, U64>("eth_chainId", ()).await?.to())
    }

    /// The hash of the block of that height.
    pub(super) async fn hash_at(&self, height: u64) -> Result<Option<B256>, ExternalError> {
        Ok(self.block(&format!("0x{height:x}")).await?.map(|block| block.hash))
    }

    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, first) = (self.nodes.len(), self.first.load(Ordering::Relaxed));
        (0..count).map(move |step| (first + step) % count)
    }
}

fn read<T: DeserializeOwned>(raw: &RawValue, method: &'static str) -> Result<T, ExternalError> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let message = format!("its answer cannot be read: {error}");
        ExternalError::Refused { method, code: 0, message }
    })
}

/// The error if no node is of the chain: asking again would not help.
fn of_another_chain(problems: &[NodeProblem]) -> Option<ExternalError> {
    let is_foreign =
        |problem: &NodeProblem| matches!(problem.error, NodeError::OtherChain { .. } | NodeError::OtherGenesis { .. });
    if !problems.iter().all(is_foreign) {
        return None;
    }
    match &problems.first()?.error {
        NodeError::OtherChain { expected, found } => {
            Some(ExternalError::OtherChain { expected: *expected, found: *found })
        }
        NodeError::OtherGenesis { found } => Some(ExternalError::OtherGenesis { found: found.clone() }),
        _ => None,
    }
}

/// True if a node says that it was asked too often. Providers say so in their own words, and some of them with the code of answers that
/// are too long: those are told apart, for asking again does not make them shorter.
fn is_busy(code: i64, message: &str) -> bool {
    const WORDS: [&str; 8] = [
        "rate limit",
        "too many requests",
        "request rate",
        "rate exceeded",
        "requests per",
        "compute units",
        "throughput",
        "try again later",
    ];
    let message = message.to_ascii_lowercase();
    let says_so = WORDS.iter().any(|words| message.contains(words));
    says_so || matches!(code, 429 | -32_029) || (code == -32_005 && !is_too_much(code, &message))
}

/// True if a node says that an answer would be too long, and a narrower question gets one.
pub(super) fn is_too_much(code: i64, message: &str) -> bool {
    const WORDS: [&str; 9] = [
        "block range",
        "range is too",
        "range too",
        "more than",
        "too many results",
        "too many logs",
        "response size",
        "limited to",
        "max results",
    ];
    let message = message.to_ascii_lowercase();
    let is_code = matches!(code, -32_000 | -32_005 | -32_600 | -32_602 | -32_603 | -32_701 | -32_011);
    is_code && WORDS.iter().any(|words| message.contains(words))
}

/// True if a node says that it has a transaction already.
fn is_known(message: &str) -> bool {
    const WORDS: [&str; 5] =
        ["already known", "alreadyknown", "known transaction", "already imported", "already exists"];
    let message = message.to_ascii_lowercase();
    WORDS.iter().any(|words| message.contains(words))
}

/// True if a node may mean that the nonce is used: all that speaks of nonces, but for those that are too far ahead.
fn is_behind(message: &str) -> bool {
    const AHEAD: [&str; 4] = ["too high", "gap", "too far", "too distant"];
    let message = message.to_ascii_lowercase();
    let is_ahead = AHEAD.iter().any(|words| message.contains(words));
    (message.contains("nonce") || message.contains("stale")) && !is_ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction is taken out of the outbox, and sent under another nonce, only where it is at no node and in no block.
    #[test]
    fn a_refusal_is_one_only_if_nothing_arrived() {
        let error = |message: &'static str| ErrorPayload { code: -32_000, message: message.into(), data: None };
        for known in ["already known", "AlreadyKnown", "Known transaction", "transaction already imported"] {
            assert!(matches!(Given::of(error(known), false), Given::Taken), "{known}");
        }
        for used in ["nonce too low: next nonce 6, tx nonce 5", "OldNonce", "Invalid Transaction: Stale"] {
            assert!(matches!(Given::of(error(used), false), Given::Unclear(_)), "{used}");
        }
        for plain in ["intrinsic gas too low", "nonce too high", "NonceGap, Future nonce", "insufficient funds"] {
            assert!(matches!(Given::of(error(plain), false), Given::Refused(_)), "{plain}");
            assert!(matches!(Given::of(error(plain), true), Given::Unclear(_)), "{plain}");
        }
    }

    /// As nodes and providers say it.
    #[test]
    fn being_asked_too_often_and_for_too_much_are_told_apart() {
        for (code, message) in [
            (-32_005, "daily request count exceeded, request rate limited"),
            (-32_005, "limit exceeded"),
            (429, "Your app has exceeded its compute units per second capacity"),
            (-32_016, "over rate limit"),
            (-32_007, "50/second request limit reached - too many requests"),
        ] {
            assert!(is_busy(code, message) && !is_too_much(code, message), "{message}");
        }
        for (code, message) in [
            (-32_005, "query returned more than 10000 results"),
            (-32_602, "eth_getLogs is limited to a 10,000 range"),
            (-32_600, "block range is too wide"),
            (-32_000, "exceed maximum block range: 5000"),
        ] {
            assert!(is_too_much(code, message) && !is_busy(code, message), "{message}");
        }
        for (code, message) in [(3, "execution reverted"), (-32_000, "nonce too low"), (-32_601, "no such method")] {
            assert!(!is_too_much(code, message) && !is_busy(code, message), "{message}");
        }
    }
}
