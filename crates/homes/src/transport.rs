//! The in-process transport: an Ethereum node's JSON-RPC over the embedded ledger.
//!
//! - **Owns** how requests of an `alloy` client reach the methods of [`crate::rpc`], and what is sealed together.
//! - **Does not** keep state: each request opens the store, answers, closes it.
//!
//! # Invariants
//! - **T1** A result was checked against the head as the store checks it; a state is that of the head or refused.
//! - **T2** What fails in the home itself (a busy or damaged store, a refused sealing) reaches the caller as a
//!   [`HomeError`](crate::HomeError) inside the transport error, never as text.
//! - **T3** Transactions that stand side by side in one batch are sealed in one block, all or none.

use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_primitives::{B256, Bytes};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use serde_json::value::RawValue;

use crate::embedded::Embedded;
use crate::rpc::{self, Answer, Fault, Params, SEND, Terms, json, of_sealing};

/// The logs of one answer: a bound on its memory. Narrower ranges give the rest.
const LOGS_MAX: usize = 10_000;
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
        match request.method() {
            SEND => self.send(transaction_of(request)?).await,
            method => {
                let (method, params) = (method.to_owned(), Params::read(request.params().map(RawValue::get))?);
                let (now, logs_max) = (self.home.now(), self.logs_max);
                self.home
                    .read(move |store| {
                        let next_time = now.max(store.head().header().timestamp.saturating_add(1));
                        let terms = Terms { next_time, logs_max, range_max: u64::MAX, deadline: None };
                        rpc::answer(store, &terms, &method, params)
                    })
                    .await?
            }
        }
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
