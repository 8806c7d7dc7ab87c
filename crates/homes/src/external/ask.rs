//! Asking the nodes of a chain, with patience.
//!
//! - **Owns** whom to ask next, what is worth asking again, and how long.
//! - **Does not** give up at a node that is down, or asks to be left alone for a while, before its patience is over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloy_json_rpc::{ErrorPayload, ResponsePayload, RpcSend};
use alloy_primitives::{B256, U64};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answers::ChainBlock;
use super::error::ExternalError;
use crate::remote::client::{Client, one_line};
use crate::remote::{Deadlines, NodeError, NodeProblem, NodeUrl};

/// The first pause before the nodes are asked again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// The nodes of a chain.
#[derive(Debug)]
pub(super) struct Asker {
    nodes: Vec<NodeUrl>,
    client: Client,
    patience: Duration,
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
        Ok(Self { nodes, client, patience, first: AtomicUsize::new(0) })
    }

    /// The answer to a question that every node of the chain answers.
    pub(super) async fn ask<P, T>(&self, method: &'static str, params: P) -> Result<T, ExternalError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        self.try_ask(method, params).await.map_err(|error| error.of(method))
    }

    /// The same where an error of the protocol is an answer too.
    pub(super) async fn try_ask<P, T>(&self, method: &'static str, params: P) -> Result<T, AskError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        let raw = self.raw(method, params).await?;
        serde_json::from_str(raw.get()).map_err(|error| {
            let message = format!("its answer cannot be read: {error}");
            AskError::Failed(ExternalError::Refused { method, code: 0, message })
        })
    }

    /// The answer as it stands.
    pub(super) async fn raw<P: RpcSend>(&self, method: &'static str, params: P) -> Result<Box<RawValue>, AskError> {
        let (started, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let mut problems = Vec::new();
            for number in self.in_turn() {
                let Some(node) = self.nodes.get(number) else { continue };
                let error = match self.client.exchange(node, method, params.clone()).await {
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
                problems.push(NodeProblem { node: node.clone(), error });
            }
            if started.elapsed() + pause > self.patience {
                return Err(AskError::Failed(ExternalError::NoNode { waited: started.elapsed(), problems }));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A block by its number or tag.
    pub(super) async fn block(&self, at: &str) -> Result<Option<ChainBlock>, ExternalError> {
        self.ask("eth_getBlockByNumber", (at.to_owned(), false)).await
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

#[cfg(test)]
mod tests {
    use super::*;

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
