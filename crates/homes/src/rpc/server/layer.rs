//! What every call passes: the count of its client, the bytes owed to its connection, and a net under panics. Transactions that are handed in
//! as one batch pass together.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::join_all;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::BatchResponseBuilder;
use jsonrpsee::server::MethodResponse;
use jsonrpsee::types::{Id, Request};

use super::answerer::client_of;
use super::clients::{Client, Clients};
use super::connection::Owed;
use super::errors::error_of;
use crate::rpc::{Fault, SEND};

/// The layer around the service of one connection.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    pub(super) inner: S,
    pub(super) clients: Arc<Clients>,
    pub(super) owed: Arc<Owed>,
    /// How long the answer may be to transactions that are handed in together, where the home takes them so.
    pub(super) together: Option<usize>,
}

impl<S> Counted<S> {
    /// Counts calls, runs them, and turns a panic into an error: a fault in one answer must not end other answers.
    async fn run(
        (clients, owed): (Arc<Clients>, Arc<Owed>),
        (client, id, calls): (Client, Id<'static>, usize),
        work: impl Future<Output = MethodResponse>,
    ) -> MethodResponse {
        let response = match clients.begin(client, calls, Instant::now()) {
            Err(fault) => MethodResponse::error(id, error_of("a call", fault)),
            Ok(running) => {
                let panicked = |_| MethodResponse::error(id, error_of("a call", Fault::internal("the answer failed")));
                let response = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(panicked);
                running.answered(length(&response));
                response
            }
        };
        owed.add(length(&response));
        response
    }
}

fn length(response: &MethodResponse) -> usize {
    response.as_json().get().len()
}

/// Whether a batch hands in transactions and asks nothing.
fn sends_only(batch: &Batch<'_>) -> bool {
    let is_send = |entry: &_| matches!(entry, Ok(BatchEntry::Call(call)) if call.method == SEND);
    !batch.is_empty() && batch.iter().all(is_send)
}

/// Answers the calls of a batch, which begin in their order and wait for the disk together.
async fn answer_together<S>(service: &S, batch: Batch<'_>, longest: usize) -> MethodResponse
where
    S: RpcServiceT<MethodResponse = MethodResponse>,
{
    let calls = batch.into_iter().filter_map(|entry| match entry {
        Ok(BatchEntry::Call(call)) => Some(service.call(call)),
        _ => None,
    });
    let mut answers = BatchResponseBuilder::new_with_limit(longest);
    for answer in join_all(calls).await {
        if let Err(too_long) = answers.append(answer) {
            return too_long;
        }
    }
    MethodResponse::from_batch(answers.finish())
}

impl<S> RpcServiceT for Counted<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let (inner, counts) = (self.inner.clone(), (Arc::clone(&self.clients), Arc::clone(&self.owed)));
        let whose = (client_of(request.extensions()), request.id.clone().into_owned(), 1);
        async move { Self::run(counts, whose, async move { inner.call(request).await }).await }
    }

    fn batch<'a>(&self, mut batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let (inner, counts) = (self.inner.clone(), (Arc::clone(&self.clients), Arc::clone(&self.owed)));
        let whose = (client_of(batch.extensions()), Id::Null, batch.len());
        let together = self.together.filter(|_| sends_only(&batch));
        let work = async move {
            match together {
                Some(longest) => answer_together(&inner, batch, longest).await,
                None => inner.batch(batch).await,
            }
        };
        async move { Self::run(counts, whose, work).await }
    }

    /// Nothing is done for a request that wants no answer.
    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let inner = self.inner.clone();
        async move { inner.notification(notification).await }
    }
}
