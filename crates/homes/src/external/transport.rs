//! The transport of an `alloy` client over an outside chain: the same questions as everywhere, asked of its final blocks.
//!
//! - **Owns** at which block a question is asked, and what is sent together.
//! - **Does not** pass on what it does not know: a method that is new here has to be thought about (X1).

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_primitives::{Address, B256, U64};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use blockhouse_crypto::AccountSecret;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json as json_of};

use super::External;
use super::answers::{TransactionPlace, height_of, is_asked_for, untimed};
use super::ask::{AskError, is_too_much};
use super::error::ExternalError;
use super::send::{Wish, address_of, refused};
use crate::rpc::{Answer, Fault, Params, json, quantity};

/// The method that has the home sign.
const SEND: &str = "eth_sendTransaction";

/// A connection to an [`External`] home.
#[derive(Debug, Clone)]
pub(crate) struct ExternalTransport {
    chain: External,
    sender: Option<AccountSecret>,
}

impl From<ExternalError> for Fault {
    fn from(error: ExternalError) -> Self {
        Self::Home(error.into())
    }
}

impl From<AskError> for Fault {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Answered(error) => Self::Protocol(error),
            AskError::Failed(error) => error.into(),
        }
    }
}

impl ExternalTransport {
    pub(crate) const fn new(chain: External, sender: Option<AccountSecret>) -> Self {
        Self { chain, sender }
    }

    async fn serve(self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        match packet {
            RequestPacket::Single(request) => {
                let answer = self.answer(&request).await;
                Ok(ResponsePacket::Single(response(&request, answer)?))
            }
            RequestPacket::Batch(requests) => {
                let mut responses = Vec::with_capacity(requests.len());
                let is_sending = |request: &SerializedRequest| request.method() == SEND;
                for together in requests.chunk_by(|one, next| is_sending(one) && is_sending(next)) {
                    responses.extend(self.together(together).await?);
                }
                Ok(ResponsePacket::Batch(responses))
            }
        }
    }

    /// What stands side by side in a batch is sent side by side, and waited for together.
    async fn together(&self, requests: &[SerializedRequest]) -> TransportResult<Vec<Response>> {
        if let [one] = requests {
            return Ok(vec![response(one, self.answer(one).await)?]);
        }
        match self.send(requests).await {
            Ok(hashes) => requests.iter().zip(&hashes).map(|(request, hash)| response(request, json(hash))).collect(),
            Err(Fault::Home(error)) => Err(TransportErrorKind::custom(error)),
            Err(Fault::Protocol(error)) => {
                requests.iter().map(|request| response(request, Err(Fault::Protocol(error.clone())))).collect()
            }
        }
    }

    async fn send(&self, requests: &[SerializedRequest]) -> Result<Vec<B256>, Fault> {
        let sender = self.sender.as_ref().ok_or_else(|| refused("nothing is sent from here".to_owned()))?;
        let mut wishes = Vec::with_capacity(requests.len());
        for request in requests {
            let mut params = Params::read(request.params().map(RawValue::get))?;
            let wish: Wish = params.next()?;
            if let Some(from) = wish.from.filter(|from| *from != address_of(sender)) {
                return Err(ExternalError::NotSigner { from }.into());
            }
            wishes.push(wish);
        }
        self.chain.send(sender, wishes).await
    }

    async fn answer(&self, request: &SerializedRequest) -> Answer {
        // Who may send looks at a chain that holds all that was sent before.
        if let Some(sender) = &self.sender {
            self.chain.finish_waiting(sender).await?;
        }
        let mut params = Params::read(request.params().map(RawValue::get))?;
        let method = request.method();
        match method {
            SEND => {
                let sent = self.send(std::slice::from_ref(request)).await?;
                json(sent.first().ok_or_else(|| Fault::internal("nothing was sent"))?)
            }
            "eth_chainId" => quantity(self.chain.options().chain_id),
            "eth_blockNumber" => quantity(self.chain.final_block().await?.number.to()),
            "eth_getTransactionCount" => quantity(self.chain.nonce_of(params.next::<Address>()?).await?),
            "eth_call" => self.call(params.next()?).await,
            "eth_getCode" => self.code(params.next()?).await,
            "eth_estimateGas" => {
                let gas = self.chain.estimate(&params.next()?, "latest").await?;
                quantity(gas)
            }
            "eth_getLogs" => self.logs(params.next()?).await,
            "eth_getBlockByNumber" => {
                let at = self.at(params.next()?).await?;
                Ok(self.chain.asker().raw("eth_getBlockByNumber", (at, false)).await?)
            }
            "eth_getTransactionReceipt" => self.receipt(params.next()?).await,
            other => Err(Fault::unknown_method(other)),
        }
    }

    /// X1.
    async fn code(&self, address: Address) -> Answer {
        let last = self.chain.final_block().await?;
        Ok(self.chain.asker().raw_at(&last, "eth_getCode", (address, last.number)).await?)
    }

    /// X1: a block by its number, and for every tag the last final one.
    async fn at(&self, asked: Value) -> Result<Value, Fault> {
        let last = self.chain.final_block().await?.number;
        let asked: Option<U64> = serde_json::from_value(asked).ok();
        Ok(json_of!(asked.unwrap_or(last).min(last)))
    }

    /// X1: the receipt of a transaction in a final block; of others there is none yet.
    async fn receipt(&self, hash: B256) -> Answer {
        let last = self.chain.final_block().await?;
        let receipt = self.chain.asker().raw("eth_getTransactionReceipt", (hash,)).await?;
        let place: Option<TransactionPlace> = serde_json::from_str(receipt.get())
            .map_err(|error| Fault::internal(format!("a receipt of the chain cannot be read: {error}")))?;
        match place {
            Some(place) if self.chain.is_final(&place, &last).await? => Ok(receipt),
            _ => json(&()),
        }
    }

    async fn call(&self, call: Value) -> Answer {
        let last = self.chain.final_block().await?;
        Ok(self.chain.asker().raw_at(&last, "eth_call", (call, last.number)).await?)
    }

    /// Logs of final blocks, none of them below the vault's first; each with the time of its block, which not every node tells.
    async fn logs(&self, mut filter: Map<String, Value>) -> Answer {
        let newest = self.chain.final_block().await?;
        let bound = |name: &str| -> Option<u64> {
            let number: U64 = serde_json::from_value(filter.get(name)?.clone()).ok()?;
            Some(number.to())
        };
        let first = bound("fromBlock").unwrap_or(0).max(self.chain.options().terms.since);
        let last = bound("toBlock").unwrap_or(u64::MAX).min(newest.number.to());
        if first > last {
            return json::<[u8]>(&[]);
        }
        filter.insert("fromBlock".to_owned(), json_of!(U64::from(first)));
        filter.insert("toBlock".to_owned(), json_of!(U64::from(last)));
        // A node that has not come so far would leave out what it does not know, and say nothing of it.
        let asked = self.chain.asker().raw_at(&newest, "eth_getLogs", (&filter,)).await;
        let logs = match asked {
            Err(AskError::Answered(error)) if is_too_much(error.code, &error.message) => {
                return Err(Fault::limited(error.message));
            }
            asked => asked?,
        };
        let refuse = |why: String| ExternalError::Refused { method: "eth_getLogs", code: 0, message: why };
        let mut logs: Vec<Map<String, Value>> =
            serde_json::from_str(logs.get()).map_err(|error| refuse(format!("its answer cannot be read: {error}")))?;
        if !logs.iter().all(|log| is_asked_for(log, &filter, (first, last))) {
            return Err(refuse("its answer holds a log that was not asked for".to_owned()).into());
        }
        let mut times = BTreeMap::new();
        for height in untimed(&logs) {
            let block = self.chain.asker().block(&format!("0x{height:x}")).await?;
            times.insert(height, block.ok_or(ExternalError::NoBlock { height })?.timestamp);
        }
        for log in &mut logs {
            if let Some(time) = height_of(log).and_then(|height| times.get(&height)) {
                log.insert("blockTimestamp".to_owned(), json_of!(time));
            }
        }
        json(&logs)
    }
}

impl tower::Service<RequestPacket> for ExternalTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().serve(packet))
    }
}

/// The response to a request; what fails in the home itself reaches the caller as it is.
fn response(request: &SerializedRequest, answer: Answer) -> TransportResult<Response> {
    let payload = match answer {
        Ok(result) => ResponsePayload::Success(result),
        Err(Fault::Protocol(error)) => ResponsePayload::Failure(error),
        Err(Fault::Home(error)) => return Err(TransportErrorKind::custom(error)),
    };
    Ok(Response { id: request.id().clone(), payload })
}
