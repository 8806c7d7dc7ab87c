//! Taking evidence of forks from hosts, who follow the ledger and have no other ear on it.
//!
//! - **Owns** what is taken at all: two sides, each no longer than one may be, that prove a fork of this very ledger.
//! - **Does not** keep it, nor say who is told: the home does.

use std::sync::Arc;

use alloy_primitives::{Bytes, U64};
use blockhouse_ledger::certificate::DESCENDANT_MAX;
use blockhouse_ledger::fork::ForkSide;
use blockhouse_types::limits::CERTIFICATE_MAX;
use serde_json::json as object;

use super::answerer::Answerer;
use super::clients::Client;
use crate::forks::evidence_between;
use crate::rpc::{Answer, Backend, Fault, Params, json};

/// The longest side: a header and a certificate, with their lengths.
const SIDE_MAX: usize = CERTIFICATE_MAX + DESCENDANT_MAX + 16;

/// Takes both sides of a fork. The links that lead to their key are made here, of this ledger's own blocks. Which key was in force above the head is not
/// known yet: of what stands there is not said that it proves nothing.
pub(super) async fn submit<B: Backend>(answerer: Arc<Answerer<B>>, mut params: Params, _: Client) -> Answer {
    let sides = [side(&params.next()?)?, side(&params.next()?)?];
    params.finish()?;
    let height = sides.each_ref().map(|side| side.header.number).into_iter().min().unwrap_or_default();
    let (found, head) = answerer.read(move |store, _| Ok((evidence_between(store, sides)?, store.height()))).await?;
    let Some((evidence, proved)) = found else {
        let none = "they are no two blocks of one height that the key in force there certified";
        return Err(if height > head { Fault::ahead(height, head) } else { Fault::parameters(none) });
    };
    let height = U64::from(proved.height);
    match answerer.backend.keep_fork(evidence, proved).await? {
        Some(is_new) => json(&object!({ "height": height, "isNew": is_new })),
        None => Err(Fault::not_found("this server keeps no evidence of forks: hand it to a node")),
    }
}

fn side(bytes: &Bytes) -> Result<ForkSide, Fault> {
    if bytes.len() > SIDE_MAX {
        return Err(Fault::parameters(format!("a side of a fork has at most {SIDE_MAX} bytes, not {}", bytes.len())));
    }
    ForkSide::decode(bytes).map_err(|error| Fault::parameters(error.to_string()))
}
