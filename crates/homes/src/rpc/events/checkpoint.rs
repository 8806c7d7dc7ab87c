//! `blockhouse_getCheckpoint`: a block as witnesses sign it and as it is anchored, and what the ledger has of both.
//!
//! - **Owns** the answer.
//! - **Does not** judge anchors: who relies on one asks the other chain. Of cosignatures it gives those that are by the witness they name.
//!
//! Format: `docs/design/anchors.md`.

use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_rpc_types_eth::Log;
use blockhouse_ledger::anchor::{Cosignature, checkpoint, checkpoint_digest};
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;
use blockhouse_ledger::events::padded_text;
use blockhouse_ledger::{BlockPlace, Contract, Event};
use serde::Serialize;
use serde_json::Value;

use super::super::{Answer, Fault, Params, Terms, json};
use super::search::Search;
use super::words::module;
use crate::attest::place_at;
use crate::store::{EventKey, EventPlace, Order, Store};

/// The most records of one answer; more are not looked for.
const RECORDS_MAX: usize = 256;

/// A checkpoint, as it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointView {
    height: U64,
    hash: B256,
    time: U64,
    /// What witnesses sign, with their time behind it.
    checkpoint: Bytes,
    /// What OpenTimestamps proofs are of.
    digest: B256,
    certificate: Bytes,
    cosignatures: Vec<CosignatureView>,
    anchors: Vec<AnchorView>,
    /// False if there may be more of both.
    is_whole: bool,
}

/// A witness's word, checked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CosignatureView {
    witness: B256,
    time: U64,
    /// The bytes that the ledger has.
    data: Bytes,
    by: Address,
    recorded_in: U64,
}

/// What an enrolled account said of an anchor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnchorView {
    kind: String,
    chain_id: U64,
    target: Address,
    transaction: B256,
    data: Bytes,
    by: Address,
    recorded_in: U64,
}

/// The checkpoint of that height, or of the head. Block 0 is none.
pub(in crate::rpc) fn answer(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let height: Option<U64> = params.optional()?;
    params.finish()?;
    let height = height.map_or(store.height(), |height| height.to());
    let place = place_at(store, height)?.filter(|_| height > 0);
    let Some(place) = place else { return json(&Value::Null) };
    let genesis = store.genesis().hash();
    let (logs, is_whole) = said_of(store, terms, &place)?;
    let mut view = CheckpointView {
        height: U64::from(height),
        hash: B256::new(place.hash.to_bytes()),
        time: U64::from(store.header(height)?.timestamp),
        checkpoint: checkpoint(genesis, &place).into(),
        digest: B256::new(checkpoint_digest(genesis, &place)),
        certificate: store.certificate(height)?.encode().into(),
        cosignatures: Vec::new(),
        anchors: Vec::new(),
        is_whole,
    };
    for log in logs {
        view.take(&log, store, &place);
    }
    json(&view)
}

impl CheckpointView {
    fn take(&mut self, log: &Log, store: &Store, place: &BlockPlace) {
        let recorded_in = U64::from(log.block_number.unwrap_or_default());
        match Event::of(Contract::Anchors, &log.inner) {
            Ok(Event::Anchors(AnchorsEvents::Cosigned(said))) if said.height == place.height => {
                let found = Cosignature::decode(&said.signature);
                let Ok(found) = found else { return };
                if found.check(store.genesis().hash(), place).is_ok() {
                    let (witness, time) = (B256::new(found.key), U64::from(found.time));
                    let (data, by) = (said.signature, said.by);
                    self.cosignatures.push(CosignatureView { witness, time, data, by, recorded_in });
                }
            }
            Ok(Event::Anchors(AnchorsEvents::Anchored(said))) if said.height == place.height => {
                self.anchors.push(AnchorView {
                    kind: padded_text(&said.kind),
                    chain_id: U64::from(said.chainId),
                    target: said.target,
                    transaction: said.txHash,
                    data: said.data,
                    by: said.by,
                    recorded_in,
                });
            }
            _ => {}
        }
    }
}

/// What was said of that block in `Anchors`, in order, and whether that is all.
fn said_of(store: &Store, terms: &Terms, place: &BlockPlace) -> Result<(Vec<Log>, bool), Fault> {
    let Some(contract) = module(store, Contract::Anchors)? else { return Ok((Vec::new(), true)) };
    let keys = vec![EventKey::Emitter(contract), EventKey::Argument(B256::new(place.hash.to_bytes()))];
    // It can be said only above it.
    let start = EventPlace::first_of(place.height.saturating_add(1));
    let mut search = Search::new(store, terms, keys, (Some(start), Order::Oldest));
    let mut logs = Vec::new();
    while logs.len() < RECORDS_MAX {
        match search.next()? {
            Some(log) => logs.push(log),
            None => break,
        }
    }
    Ok((logs, search.place().is_none()))
}
