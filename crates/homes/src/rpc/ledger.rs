//! What Ethereum has no methods for: block objects, certificates, the standing of the ledger, proofs of transactions.
//!
//! Nothing in these answers need be believed: `docs/design/ledger.md` says how each is checked against the fingerprint.

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U64};
use blockhouse_ledger::proof::prove_receipt;
use blockhouse_ledger::receipt::Link;
use serde::Serialize;

use super::{Answer, Fault, Params, Terms, data, json};
#[cfg(feature = "node")]
use crate::embedded::link_at;
use crate::embedded::{Evidence, Handover, LedgerKeys, block_object, standing_of};
#[cfg(feature = "node")]
use crate::store::Past;
use crate::store::Store;

/// The most block objects of one answer.
const OBJECTS_MAX: u64 = 1024;
/// How many bytes of them are enough for one answer. The first one is given whatever its size, so an answer has at most
/// this and one block object: as hexadecimal below the greatest response.
const OBJECTS_BYTES: usize = 2 * 1024 * 1024;
/// The most headers of one proof, of some 600 bytes each.
const DESCENDANTS_MAX: u64 = 4096;

/// The genesis object.
pub(super) fn genesis(store: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    data(store.genesis().encode())
}

/// The certificate of a height.
pub(super) fn certificate(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let height: U64 = params.next()?;
    params.finish()?;
    match height.to::<u64>() {
        height if height <= store.height() => data(store.certificate(height)?.encode()),
        _ => json(&serde_json::Value::Null),
    }
}

/// Block objects from a height on, as they lie at the sites; fewer than asked for if they are long.
pub(super) fn block_objects(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let (from, count): (U64, U64) = (params.next()?, params.next()?);
    params.finish()?;
    let (from, count) = (from.to::<u64>(), count.to::<u64>().min(OBJECTS_MAX));
    let keys = LedgerKeys::of(store)?;
    let (mut objects, mut length) = (Vec::new(), 0);
    for height in (from..=store.height()).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        terms.check_time()?;
        let object = block_object(store, &keys, height)?.encode();
        length += object.len();
        if length > OBJECTS_BYTES && !objects.is_empty() {
            break;
        }
        objects.push(Bytes::from(object));
    }
    json(&objects)
}

/// A block of the past, as it is answered.
#[cfg(feature = "node")]
#[derive(Serialize)]
struct PastView {
    block: Bytes,
    receipts: Bytes,
}

/// Block objects with their receipts from a height down, block 0 left out; fewer than asked for if they are long.
#[cfg(feature = "node")]
pub(super) fn past_blocks(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let (top, count): (U64, U64) = (params.next()?, params.next()?);
    params.finish()?;
    let (top, count) = (top.to::<u64>().min(store.height()), count.to::<u64>().min(OBJECTS_MAX));
    let keys = LedgerKeys::of(store)?;
    let (mut past, mut length) = (Vec::new(), 0);
    store.expect_here(top)?;
    // What is there is given; the next question is refused.
    for height in (store.bottom().max(1)..=top).rev().take(usize::try_from(count).unwrap_or(usize::MAX)) {
        terms.check_time()?;
        let object = block_object(store, &keys, height)?;
        let receipts = Past::receipt_bytes(&store.receipts(height)?);
        let view = PastView { block: object.encode().into(), receipts: receipts.into() };
        length += view.block.len() + view.receipts.len();
        if length > OBJECTS_BYTES && !past.is_empty() {
            break;
        }
        past.push(view);
    }
    json(&past)
}

/// The blocks above a height at which the key changes, the lowest first: closing blocks, and handovers. Fewer than asked for if they are long.
#[cfg(feature = "node")]
pub(super) fn links(store: &Store, terms: &Terms, mut params: Params) -> Answer {
    let (after, count): (U64, U64) = (params.next()?, params.next()?);
    params.finish()?;
    let (after, count) = (after.to::<u64>(), count.to::<u64>().min(OBJECTS_MAX));
    let keys = LedgerKeys::of(store)?;
    // A closing block above the head is settled and not there.
    let heights = keys.changes().into_iter().filter(|height| *height > after && *height <= store.height());
    let (mut links, mut length) = (Vec::new(), 0);
    for height in heights.take(usize::try_from(count).unwrap_or(usize::MAX)) {
        terms.check_time()?;
        let view = link(&link_at(store, &keys, height)?);
        length += view.header.len() + view.certificate.len();
        if length > OBJECTS_BYTES && !links.is_empty() {
            break;
        }
        links.push(view);
    }
    json(&links)
}

/// A change of the key, as it is answered.
#[derive(Serialize)]
struct HandoverView {
    height: U64,
    key: B256,
}

/// Where the ledger stands, as it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StandingView {
    height: U64,
    hash: B256,
    time: U64,
    ledger_key: B256,
    handovers: Vec<HandoverView>,
    successions: Vec<HandoverView>,
    fingerprint: B256,
}

/// Head, keys and fingerprint.
pub(super) fn standing(store: &Store, _: &Terms, params: Params) -> Answer {
    params.finish()?;
    let standing = standing_of(store)?;
    let views = |changes: &[Handover]| {
        changes.iter().map(|it| HandoverView { height: U64::from(it.height), key: B256::new(it.key) }).collect()
    };
    json(&StandingView {
        height: U64::from(standing.height),
        hash: standing.hash,
        time: U64::from(standing.time),
        ledger_key: B256::new(standing.keys.in_force()),
        handovers: views(standing.keys.handovers()),
        successions: views(standing.keys.successions()),
        fingerprint: B256::new(standing.fingerprint.to_bytes()),
    })
}

/// A closing block with its certificate, as it is answered.
#[derive(Serialize)]
struct LinkView {
    header: Bytes,
    certificate: Bytes,
}

/// A proof that a transaction ended as it did, as it is answered: the fields of a receipt that concern the ledger.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProofView {
    chain_id: U64,
    genesis: B256,
    vault: Address,
    ledger_key: B256,
    links: Vec<LinkView>,
    header: Bytes,
    descendants: Vec<Bytes>,
    certificate: Bytes,
    transaction_index: U64,
    transaction_receipt: Bytes,
    proof: Vec<Bytes>,
}

/// The proof of a transaction's receipt, under the key in force.
pub(super) fn receipt_proof(store: &Store, _: &Terms, mut params: Params) -> Answer {
    let hash: B256 = params.next()?;
    params.finish()?;
    let Some(place) = store.find_transaction(&hash)? else { return json(&serde_json::Value::Null) };
    let keys = LedgerKeys::of(store)?;
    if keys.handovers().last().is_some_and(|last| last.height.saturating_sub(place.height) > DESCENDANTS_MAX) {
        return Err(Fault::limited(format!("the proof would have more than {DESCENDANTS_MAX} headers")));
    }
    let evidence = Evidence::of(store, &keys, place, None)?;
    let index = evidence.transaction_index;
    let receipt = usize::try_from(index).ok().and_then(|index| evidence.receipts.get(index));
    let receipt = receipt.ok_or_else(|| Fault::internal("the block has fewer receipts than transactions"))?;
    json(&ProofView {
        chain_id: U64::from(evidence.root.chain_id),
        genesis: B256::new(evidence.root.genesis.to_bytes()),
        vault: evidence.root.vault,
        ledger_key: B256::new(evidence.root.ledger_key),
        links: evidence.links.iter().map(link).collect(),
        header: alloy_rlp::encode(&evidence.header).into(),
        descendants: evidence.descendants.iter().map(|header| alloy_rlp::encode(header).into()).collect(),
        certificate: evidence.certificate.encode().into(),
        transaction_index: U64::from(index),
        transaction_receipt: receipt.encoded_2718().into(),
        proof: prove_receipt(&evidence.receipts, index),
    })
}

fn link(link: &Link) -> LinkView {
    LinkView { header: alloy_rlp::encode(&link.header).into(), certificate: link.certificate.encode().into() }
}
