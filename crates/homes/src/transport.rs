//! The in-process transport: an Ethereum node's JSON-RPC over the embedded ledger.
//!
//! - **Owns** the methods, their parameters and errors, as any Ethereum client knows them.
//! - **Does not** keep state: each request opens the store, answers, closes it.
//!
//! # Invariants
//! - **T1** A result was checked against the head as the store checks it; a state is that of the head or refused.
//! - **T2** What fails in the home itself (a busy or damaged store, a refused sealing) reaches the caller as a
//!   [`HomeError`](crate::HomeError) inside the transport error, never as text.

mod fault;
mod logs;
mod params;
mod reads;
mod state;
mod views;

use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_primitives::{Bytes, hex};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::embedded::Embedded;
use fault::Fault;
use params::Params;

/// What a method gives: its result as JSON.
type Answer = Result<Box<RawValue>, Fault>;

/// A connection to an [`Embedded`] home.
#[derive(Debug, Clone)]
pub struct EmbeddedTransport {
    home: Embedded,
}

impl EmbeddedTransport {
    /// A connection to that home.
    pub const fn new(home: Embedded) -> Self {
        Self { home }
    }

    async fn serve(self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        match packet {
            RequestPacket::Single(request) => Ok(ResponsePacket::Single(self.respond(&request).await?)),
            RequestPacket::Batch(requests) => {
                let mut responses = Vec::with_capacity(requests.len());
                for request in &requests {
                    responses.push(self.respond(request).await?);
                }
                Ok(ResponsePacket::Batch(responses))
            }
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
        let mut params = Params::read(request.params())?;
        match request.method() {
            "eth_sendRawTransaction" => {
                let raw: Bytes = params.next()?;
                params.finish()?;
                self.send(raw).await
            }
            method => {
                let method = method.to_owned();
                let now = self.home.now();
                self.home
                    .read(move |store| {
                        let next_time = now.max(store.head().header().timestamp.saturating_add(1));
                        reads::answer(store, next_time, &method, params)
                    })
                    .await?
            }
        }
    }

    /// Seals a block of that one transaction. What it does inside the EVM, a revert too, is in its receipt.
    async fn send(&self, raw: Bytes) -> Answer {
        let sealed = self.home.seal(vec![raw]).await.map_err(fault::of_sealing)?;
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

/// A result as JSON.
fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    to_raw_value(value).map_err(|error| Fault::internal(error.to_string()))
}

/// A number as Ethereum writes it: hexadecimal without leading zeros.
fn quantity(value: u64) -> Answer {
    json(&format!("0x{value:x}"))
}

/// Bytes as Ethereum writes them.
fn data(value: impl AsRef<[u8]>) -> Answer {
    json(&hex::encode_prefixed(value))
}
