//! What every call passes: the count of its client, the bytes owed to its connection, and a net under panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jsonrpsee::core::middleware::{Batch, Notification, RpcServiceT};
use jsonrpsee::server::MethodResponse;
use jsonrpsee::types::{Id, Request};

use super::answerer::client_of;
use super::clients::{Client, Clients};
use super::connection::Owed;
use super::errors::error_of;
use crate::rpc::Fault;

/// The layer around the service of one connection.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    pub(super) inner: S,
    pub(super) clients: Arc<Clients>,
    pub(super) owed: Arc<Owed>,
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
        async move { Self::run(counts, whose, async move { inner.batch(batch).await }).await }
    }

    /// Nothing is done for a request that wants no answer.
    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let inner = self.inner.clone();
        async move { inner.notification(notification).await }
    }
}
