//! What nodes of a chain answer, as far as it is read here. Chains have blocks of their own kinds: no more is asked of them than is
//! needed.

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{B256, U64, U256};
use alloy_rpc_types_eth::TransactionReceipt;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A block of an outside chain, as far as every chain has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainBlock {
    /// Its height.
    pub number: U64,
    /// Its hash, as the node says.
    pub hash: B256,
    /// Its time in seconds.
    pub timestamp: U64,
    /// What a unit of gas costs at least; none on chains without EIP-1559.
    #[serde(default)]
    pub base_fee_per_gas: Option<U256>,
}

/// A block with its whole header, and the transactions by their hashes.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WholeBlock {
    #[serde(flatten)]
    pub(super) header: alloy_rpc_types_eth::Header,
    pub(super) transactions: Vec<B256>,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionPlace {
    pub(super) transaction_hash: B256,
    pub(super) transaction_index: U64,
    pub(super) block_number: U64,
    pub(super) block_hash: B256,
}

impl WholeBlock {
    /// The header, if it is of a form whose hash is known here: the block's own.
    pub(super) fn checked(self) -> Result<(Header, Vec<B256>), String> {
        let (header, named) = (self.header.inner, self.header.hash);
        match header.hash_slow() {
            found if found == named => Ok((header, self.transactions)),
            found => {
                Err(format!("its header has the hash {found} by Ethereum's rules, and {named} by the chain's own"))
            }
        }
    }
}

/// The receipts of a block in the form that its root is made of, if they give this root.
pub(super) fn checked_receipts(
    receipts: Vec<TransactionReceipt>,
    header: &Header,
) -> Result<Vec<ReceiptEnvelope>, String> {
    let receipts = receipts.into_iter().map(|receipt| receipt.into_primitives_receipt().inner);
    let receipts: Vec<ReceiptEnvelope> = receipts.collect();
    match alloy_consensus::proofs::calculate_receipt_root(&receipts) {
        found if found == header.receipts_root => Ok(receipts),
        found => Err(format!("its receipts give the root {found}, and its header says {}", header.receipts_root)),
    }
}

/// Which blocks' times are missing in an answer to `eth_getLogs`.
pub(super) fn untimed(logs: &[Map<String, Value>]) -> Vec<u64> {
    let heights = logs.iter().filter(|log| log.get("blockTimestamp").is_none_or(Value::is_null)).filter_map(height_of);
    let mut heights: Vec<u64> = heights.collect();
    heights.dedup();
    heights
}

/// The block of a log.
pub(super) fn height_of(log: &Map<String, Value>) -> Option<u64> {
    let number: U64 = serde_json::from_value(log.get("blockNumber")?.clone()).ok()?;
    Some(number.to())
}

/// True if a log is in these blocks, was not dropped from them, and is one that the filter asks for.
pub(super) fn is_asked_for(log: &Map<String, Value>, filter: &Map<String, Value>, (first, last): (u64, u64)) -> bool {
    let is_there = height_of(log).is_some_and(|height| (first..=last).contains(&height));
    let is_dropped = log.get("removed").is_some_and(|removed| *removed != Value::Bool(false));
    let none = Vec::new();
    let topics_of = |of: &Map<String, Value>| of.get("topics").and_then(Value::as_array).unwrap_or(&none).clone();
    let (topics, wanted) = (topics_of(log), topics_of(filter));
    let has_topics = wanted.iter().enumerate().all(|(place, wanted)| is_one_of(topics.get(place), Some(wanted)));
    is_there && !is_dropped && has_topics && is_one_of(log.get("address"), filter.get("address"))
}

/// True if nothing, or this, or one of these is wanted.
fn is_one_of(found: Option<&Value>, wanted: Option<&Value>) -> bool {
    let is_same = |wanted: &Value| match (found.and_then(Value::as_str), wanted.as_str()) {
        (Some(found), Some(wanted)) => found.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    match wanted {
        None | Some(Value::Null) => true,
        Some(Value::Array(several)) => several.is_empty() || several.iter().any(is_same),
        Some(one) => is_same(one),
    }
}

/// True if these bytes are an answer to `eth_getBlockByNumber` that is read here.
pub fn read_block(bytes: &[u8]) -> Option<ChainBlock> {
    serde_json::from_slice(bytes).ok()
}

/// The header and receipts in two answers, if they belong together.
pub fn read_evidence(block: &[u8], receipts: &[u8]) -> Option<(Header, Vec<ReceiptEnvelope>)> {
    let block: WholeBlock = serde_json::from_slice(block).ok()?;
    let (header, _) = block.checked().ok()?;
    let receipts = checked_receipts(serde_json::from_slice(receipts).ok()?, &header).ok()?;
    Some((header, receipts))
}

/// The blocks of an answer to `eth_getLogs` whose times have to be asked for.
pub fn read_logs(bytes: &[u8]) -> Option<Vec<u64>> {
    let logs: Vec<Map<String, Value>> = serde_json::from_slice(bytes).ok()?;
    Some(untimed(&logs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn logs_that_were_not_asked_for_are_told() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let log = json!({ "blockNumber": "0x5", "address": "0xAa", "topics": ["0x01", "0x02"], "removed": false });
        let filter = json!({ "address": ["0xaa", "0xbb"], "topics": [["0x01", "0x03"], null] });
        let is_one = |log: &Value, filter: &Value, range| is_asked_for(&map(log.clone()), &map(filter.clone()), range);
        assert!(is_one(&log, &filter, (5, 5)) && is_one(&log, &json!({}), (0, 9)));
        assert!(!is_one(&log, &filter, (6, 9)) && !is_one(&log, &filter, (0, 4)));
        for (field, value) in [
            ("removed", json!(true)),
            ("address", json!("0xcc")),
            ("topics", json!(["0x02", "0x01"])),
            ("topics", json!([])),
            ("blockNumber", Value::Null),
        ] {
            let mut other = log.clone();
            other[field] = value;
            assert!(!is_one(&other, &filter, (5, 5)), "{other}");
        }
    }
}
