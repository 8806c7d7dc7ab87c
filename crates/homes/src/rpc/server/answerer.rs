//! How a call is answered: within its time, with its turn at the store, from one head.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use jsonrpsee::server::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Extensions, RpcModule};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Limits;
use super::clients::Client;
use super::errors::error_of;
use super::filters::Filters;
use crate::rpc::{Answer, Backend, Fault, METHODS, Params, Terms};
use crate::store::Store;

/// What all calls share.
#[derive(Debug)]
pub(super) struct Answerer<B> {
    pub(super) backend: B,
    pub(super) limits: Limits,
    pub(super) filters: Filters,
    turns: Arc<Semaphore>,
}

impl<B: Backend> Answerer<B> {
    pub(super) fn new(backend: B, limits: Limits) -> Self {
        let turns = Arc::new(Semaphore::new(limits.reads));
        Self { backend, limits, filters: Filters::new(limits), turns }
    }

    /// Reads the store when it is this call's turn. The turn ends with the work, also if nobody waits any more.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Store, &Terms) -> Result<T, Fault> + Send + 'static,
    {
        let Limits { logs, log_range, call_time, .. } = self.limits;
        let deadline = Instant::now() + call_time;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Fault::internal("the server is stopping"))?;
        let now = self.backend.now();
        self.backend
            .read(move |store| {
                let _turn = turn;
                let next_time = now.max(store.head().header().timestamp.saturating_add(1));
                work(store, &Terms { next_time, logs_max: logs, range_max: log_range, deadline: Some(deadline) })
            })
            .await?
    }
}

/// Registers every method that needs nothing but the store.
pub(super) fn register_table<B: Backend>(module: &mut RpcModule<Answerer<B>>) -> Result<(), RegisterMethodError> {
    for (name, method) in METHODS {
        register(module, name, move |answerer, params, _| async move {
            answerer.read(move |store, terms| method(store, terms, params)).await
        })?;
    }
    Ok(())
}

/// Registers a method, in the place of one of the same name.
pub(super) fn register<B, F, Work>(
    module: &mut RpcModule<Answerer<B>>,
    name: &'static str,
    method: F,
) -> Result<(), RegisterMethodError>
where
    B: Backend,
    F: Fn(Arc<Answerer<B>>, Params, Client) -> Work + Clone + Send + Sync + 'static,
    Work: Future<Output = Answer> + Send,
{
    module.remove_method(name);
    module.register_async_method(name, move |params, answerer, extensions| {
        let method = method.clone();
        async move {
            let limit = answerer.limits.call_time;
            let work = async {
                let params = Params::read(params.as_str())?;
                method(answerer, params, client_of(&extensions)).await
            };
            let answer = timeout(limit, work).await.unwrap_or_else(|_| Err(Fault::timed_out()));
            answer.map_err(|fault| error_of(name, fault)) as Result<Box<RawValue>, ErrorObjectOwned>
        }
    })?;
    Ok(())
}

/// Who makes a call; the connection has written it down.
pub(super) fn client_of(extensions: &Extensions) -> Client {
    extensions.get().copied().unwrap_or(Client::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}
