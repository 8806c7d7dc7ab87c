//! The in-process transport: an Ethereum node's JSON-RPC over the embedded ledger.
//!
//! - **Owns** how requests of an `alloy` client reach the methods of [`crate::rpc`], and what is sealed together.
//! - **Does not** keep state: each request opens the store, answers, closes it.
//!
//! # Invariants
//! - **T1** A result was checked against the head as the store checks it; a state is that of the head or refused.
//! - **T2** What fails in the home itself (a busy or damaged store, a refused sealing) reaches the caller as a
//!   [`HomeError`] inside the transport error, never as text.
//! - **T3** Transactions that stand side by side in one batch are sealed by this host in one block, all or none. A network
//!   gets them in their order, and may put them in several blocks.
//! - **T4** Where a network seals, its nodes are asked for two things only: to take transactions, and for the next nonce of an
//!   account. All else is read from the blocks that this host has checked.

use std::task::{Context, Poll};

use alloy_eips::BlockId;
use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use serde_json::value::RawValue;

use crate::embedded::{Embedded, HomeError};
use crate::remote::Remote;
use crate::rpc::{self, Answer, Fault, Params, SEND, Terms, json, of_sealing, quantity};

/// The logs of one answer: a bound on its memory. Narrower ranges give the rest.
const LOGS_MAX: usize = 10_000;
/// The method that a network knows more about than its final blocks.
const NONCE: &str = "eth_getTransactionCount";
/// The one whose answer must hold in a later block than it is asked in.
const ESTIMATE: &str = "eth_estimateGas";
/// Gas for ten sessions of others, and half as much again as the estimate.
const GAS_ROOM: u64 = 100_000;

/// A connection to an [`Embedded`] home.
#[derive(Debug, Clone)]
pub struct EmbeddedTransport {
    home: Embedded,
    logs_max: usize,
}

impl EmbeddedTransport {
    /// A connection to that home.
    pub const fn new(home: Embedded) -> Self {
        Self { home, logs_max: LOGS_MAX }
    }

    /// The same, with at most that many logs in one answer.
    #[must_use]
    pub fn with_logs_max(self, logs_max: usize) -> Self {
        Self { logs_max, ..self }
    }

    async fn serve(self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        match packet {
            RequestPacket::Single(request) => Ok(ResponsePacket::Single(self.respond(&request).await?)),
            RequestPacket::Batch(requests) => {
                let mut responses = Vec::with_capacity(requests.len());
                for together in requests.chunk_by(|one, next| is_sending(one) && is_sending(next)) {
                    responses.extend(self.respond_to_all(together).await?);
                }
                Ok(ResponsePacket::Batch(responses))
            }
        }
    }

    /// T3: transactions that stand side by side in a batch are sealed side by side in one block, all of them or none.
    async fn respond_to_all(&self, requests: &[SerializedRequest]) -> TransportResult<Vec<Response>> {
        let raw: Result<Vec<Bytes>, Fault> = match requests {
            [one] => return Ok(vec![self.respond(one).await?]),
            several => several.iter().map(transaction_of).collect(),
        };
        let sealed = match raw {
            Ok(raw) => self.home.seal(raw).await.map_err(of_sealing),
            Err(fault) => Err(fault),
        };
        match sealed {
            Ok(sealed) => {
                let answers = requests.iter().zip(&sealed.transactions);
                Ok(answers.map(|(request, hash)| response(request, Ok(hash))).collect())
            }
            Err(Fault::Home(error)) => Err(TransportErrorKind::custom(error)),
            Err(fault) => Ok(requests.iter().map(|request| response(request, Err(&fault))).collect()),
        }
    }

    async fn respond(&self, request: &SerializedRequest) -> TransportResult<Response> {
        let payload = match self.answer(request).await {
            Ok(result) => ResponsePayload::Success(result),
            Err(Fault::Protocol(error)) => ResponsePayload::Failure(error),
            Err(Fault::Home(error)) => return Err(TransportErrorKind::custom(error)),
        };
        Ok(Response { id: request.id().clone(), payload })
    }

    async fn answer(&self, request: &SerializedRequest) -> Answer {
        match (request.method(), self.home.network()) {
            (SEND, _) => self.send(transaction_of(request)?).await,
            (NONCE, Some(nodes)) => self.next_nonce(request, nodes).await,
            (ESTIMATE, Some(_)) => self.roomy_estimate(request).await,
            _ => self.read(request).await,
        }
    }

    async fn read(&self, request: &SerializedRequest) -> Answer {
        let (method, params) = (request.method().to_owned(), Params::read(request.params().map(RawValue::get))?);
        let (now, logs_max) = (self.home.now(), self.logs_max);
        self.home
            .read(move |store| {
                let next_time = now.max(store.head().header().timestamp.saturating_add(1));
                let terms = Terms { next_time, logs_max, range_max: u64::MAX, deadline: None };
                rpc::answer(store, &terms, &method, params)
            })
            .await?
    }

    /// What an account sends next, with what waits at the nodes: other processes of this host use the same account, and what they
    /// sent is in no block yet. No lock keeps two of them from being given the same number, for none would help between two
    /// nodes that have not told each other yet: a nonce is the lock. The ledger takes one transaction for it; who sent the other
    /// is told so, by the node at once or by the block that holds the first, and sends anew. A node that lies about the number
    /// can make a transaction wait for its deadline, which it can by silence too.
    async fn next_nonce(&self, request: &SerializedRequest, nodes: &Remote) -> Answer {
        let here = self.read(request).await?;
        let mut params = Params::read(request.params().map(RawValue::get))?;
        let (account, at): (Address, Option<BlockId>) = (params.next()?, params.optional()?);
        if at != Some(BlockId::pending()) {
            return Ok(here);
        }
        let here: U64 = serde_json::from_str(here.get()).map_err(|error| Fault::internal(error.to_string()))?;
        let there = nodes.pending_nonce(account).await.map_err(HomeError::from)?;
        quantity(here.to::<u64>().max(there))
    }

    /// Gas for a transaction that is sealed after others, which this host does not know yet: a session costs more for each other one
    /// that is open. Gas costs nothing here, and too little of it is a failed transaction.
    async fn roomy_estimate(&self, request: &SerializedRequest) -> Answer {
        let estimate = self.read(request).await?;
        let gas: U64 = serde_json::from_str(estimate.get()).map_err(|error| Fault::internal(error.to_string()))?;
        let limit = self.home.read(|store| store.genesis().gas_limit).await?;
        let gas = gas.to::<u64>();
        quantity(gas.saturating_add(gas / 2).saturating_add(GAS_ROOM).min(limit))
    }

    /// Seals a block of that one transaction. What it does inside the EVM, a revert too, is in its receipt.
    async fn send(&self, raw: Bytes) -> Answer {
        let sealed = self.home.seal(vec![raw]).await.map_err(of_sealing)?;
        let hash = sealed.transactions.first().ok_or_else(|| Fault::internal("the sealed block is empty"))?;
        json(hash)
    }
}

impl tower::Service<RequestPacket> for EmbeddedTransport {
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

fn is_sending(request: &SerializedRequest) -> bool {
    request.method() == SEND
}

/// The transaction that a sending request carries.
fn transaction_of(request: &SerializedRequest) -> Result<Bytes, Fault> {
    let mut params = Params::read(request.params().map(RawValue::get))?;
    let raw = params.next()?;
    params.finish()?;
    Ok(raw)
}

/// One of the responses to requests that were answered together.
fn response(request: &SerializedRequest, answer: Result<&B256, &Fault>) -> Response {
    let payload = match answer.map(json) {
        Ok(Ok(hash)) => ResponsePayload::Success(hash),
        Ok(Err(Fault::Protocol(error))) => ResponsePayload::Failure(error),
        Err(Fault::Protocol(error)) => ResponsePayload::Failure(error.clone()),
        Ok(Err(Fault::Home(_))) | Err(Fault::Home(_)) => ResponsePayload::internal_error(),
    };
    Response { id: request.id().clone(), payload }
}
