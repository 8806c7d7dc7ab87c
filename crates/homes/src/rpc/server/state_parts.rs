//! The methods by which a node gives its state to another, part by part.
//!
//! Whoever takes a part believes nothing of it: `docs/design/node.md`, section *State sync*.

use std::sync::Arc;

use alloy_primitives::{B256, U64};
use blockhouse_ledger::state::StatePlace;
use jsonrpsee::RpcModule;
use jsonrpsee::server::RegisterMethodError;
use serde_json::json as object;

use super::answerer::{Answerer, register};
use super::clients::Client;
use crate::rpc::{Answer, Backend, Fault, Params, data, json};
use crate::store::StatePart;

type Shared<B> = Arc<Answerer<B>>;

/// Registers them.
pub(super) fn register_parts<B: Backend>(module: &mut RpcModule<Answerer<B>>) -> Result<(), RegisterMethodError> {
    register(module, "blockhouse_getKeptState", kept)?;
    register(module, "blockhouse_getStatePart", part)
}

/// Of which block the state is kept for who begins to fetch it now.
async fn kept<B: Backend>(answerer: Shared<B>, params: Params, _: Client) -> Answer {
    params.finish()?;
    let store = answerer.backend.kept_state(None).ok_or_else(|| Fault::not_found("no state is given here"))?;
    json(&object!({ "height": U64::from(store.height()), "hash": store.head().hash() }))
}

/// The part of a kept state that begins at a place.
async fn part<B: Backend>(answerer: Shared<B>, mut params: Params, _: Client) -> Answer {
    let (hash, account, slot): (B256, B256, B256) = (params.next()?, params.next()?, params.next()?);
    params.finish()?;
    let gone = || Fault::not_found(format!("the state of block {hash} is not kept any more: begin anew"));
    let kept = answerer.backend.kept_state(Some(hash)).ok_or_else(gone)?;
    let part = answerer.read(move |_, _| Ok(StatePart::read(&kept, StatePlace { account, slot })?)).await?;
    data(part.encode())
}
