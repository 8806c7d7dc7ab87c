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
