//! What a client asks first: which chain, which program, which accounts.

use alloy_primitives::{Bytes, keccak256};
use serde_json::Value;

use super::{Answer, Params, Terms, data, json, quantity};
use crate::store::Store;

pub(super) fn chain_id(store: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    quantity(store.genesis().chain_id)
}

pub(super) fn network(store: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    json(&store.genesis().chain_id.to_string())
}

/// No account is unlocked here: transactions come signed.
pub(super) fn accounts(_: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    json::<[Value]>(&[])
}

/// A store by itself is where it is. A server over a network answers for its node instead.
pub(super) fn not_syncing(_: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    json(&false)
}

pub(super) fn client_version(_: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    json(concat!("blockhouse/", env!("CARGO_PKG_VERSION")))
}

pub(super) fn sha3(_: &Store, _: &Terms, mut params: Params) -> Answer {
    let bytes: Bytes = params.next()?;
    params.finish()?;
    data(keccak256(bytes))
}
