//! An anchor on an outside chain: the header of a block there, and the proof that a transaction of it called `AnchorPoint`.
//!
//! Format: `docs/design/anchors.md`, section *On an outside chain*.

use alloy_consensus::{Eip658Value, ReceiptEnvelope, TxReceipt};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolEvent;
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder, Magic};

use crate::block::{BlockError, decode_header};
use crate::certificate::BlockPlace;
use crate::contracts::AnchorPoint;
use crate::proof::check_receipt;
use crate::trie::InclusionError;

const MAGIC: Magic = *b"BHAE";
const WHAT: &str = "an anchor on an outside chain";
/// The greatest length: what `Anchors` takes as data.
pub const EVM_ANCHOR_MAX: usize = 8_192;
/// More nodes than a block's transaction receipts can lie below.
const NODES_MAX: usize = 16;

/// That a transaction on an outside chain anchored a block: nothing in it is true before [`EvmAnchor::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvmAnchor {
    /// The outside chain's id.
    pub chain_id: u64,
    /// The outside chain's block 0.
    pub genesis: BlockHash,
    /// The contract `AnchorPoint` there.
    pub point: Address,
    /// RLP header of the block there that holds the transaction.
    pub header: Bytes,
    /// Which transaction of it.
    pub transaction_index: u64,
    /// Its receipt, in EIP-2718 bytes.
    pub transaction_receipt: Bytes,
    /// The nodes from the header's receipts root to it.
    pub proof: Vec<Bytes>,
    /// Which of its logs.
    pub log_index: u64,
}

/// Where on an outside chain a block was anchored. It is so if the chain has that block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChain {
    /// The chain's id.
    pub chain_id: u64,
    /// Its block 0.
    pub genesis: BlockHash,
    /// The height of the block there.
    pub height: u64,
    /// Its hash.
    pub block: BlockHash,
    /// Its time in seconds: the ledger's block is older.
    pub time: u64,
    /// The contract.
    pub point: Address,
    /// The account that sent it.
    pub sender: Address,
}

/// Why an anchor on an outside chain proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvmAnchorError {
    #[error("the header of the outside block cannot be read")]
    Header(#[source] BlockError),
    #[error("the transaction receipt is not under the receipts root of outside block {height}")]
    Inclusion {
        height: u64,
        #[source]
        source: InclusionError,
    },
    #[error("the transaction receipt cannot be read")]
    TransactionReceipt,
    #[error("the transaction failed, so it anchored nothing")]
    Failed,
    #[error("the transaction has {count} logs, the anchor names number {index}")]
    NoLog { index: u64, count: usize },
    #[error("the log is of contract {found}, not of {point}")]
    OtherContract { found: Address, point: Address },
    #[error("the log anchors nothing")]
    OtherEvent,
    #[error("the log anchors a block of the ledger called {found}, this one is called {name}")]
    OtherLedger { found: B256, name: B256 },
    #[error("the log anchors block {found} ({found_hash}), this one is block {height} ({hash})")]
    OtherBlock { found: u64, found_hash: B256, height: u64, hash: BlockHash },
}

impl EvmAnchor {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.u64(self.chain_id).raw(self.genesis.as_bytes()).raw(self.point.as_slice());
        encoder.bytes(&self.header).varint(self.transaction_index).bytes(&self.transaction_receipt);
        encoder.list(self.proof.iter(), |encoder, node| {
            encoder.bytes(node);
        });
        encoder.varint(self.log_index);
        encoder.finish()
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        decoder.limit("length", bytes.len() as u64, EVM_ANCHOR_MAX as u64)?;
        let (chain_id, genesis, point) = (decoder.u64()?, BlockHash::new(decoder.array()?), decoder.array::<20>()?);
        let header = Bytes::copy_from_slice(decoder.bytes("header", EVM_ANCHOR_MAX)?);
        let transaction_index = decoder.varint()?;
        let transaction_receipt = Bytes::copy_from_slice(decoder.bytes("transaction receipt", EVM_ANCHOR_MAX)?);
        let proof = decoder
            .list("proof", NODES_MAX, |decoder| Ok(Bytes::copy_from_slice(decoder.bytes("node", EVM_ANCHOR_MAX)?)))?;
        let log_index = decoder.varint()?;
        decoder.finish()?;
        Ok(Self {
            chain_id,
            genesis,
            point: Address::new(point),
            header,
            transaction_index,
            transaction_receipt,
            proof,
            log_index,
        })
    }

    /// Checks that the outside block, if it is on its chain, anchors that block of the ledger of that name.
    pub fn check(&self, name: B256, place: &BlockPlace) -> Result<OnChain, EvmAnchorError> {
        let header = decode_header(&self.header).map_err(EvmAnchorError::Header)?;
        check_receipt(header.receipts_root, self.transaction_index, &self.transaction_receipt, &self.proof)
            .map_err(|source| EvmAnchorError::Inclusion { height: header.number, source })?;
        let receipt = ReceiptEnvelope::decode_2718_exact(&self.transaction_receipt);
        let receipt = receipt.map_err(|_| EvmAnchorError::TransactionReceipt)?;
        if receipt.status_or_post_state() != Eip658Value::Eip658(true) {
            return Err(EvmAnchorError::Failed);
        }
        let sender = self.check_log(&receipt, name, place)?;
        Ok(OnChain {
            chain_id: self.chain_id,
            genesis: self.genesis,
            height: header.number,
            block: BlockHash::new(keccak256(&self.header).0),
            time: header.timestamp,
            point: self.point,
            sender,
        })
    }

    /// Who anchored the block by that log.
    fn check_log(&self, receipt: &ReceiptEnvelope, name: B256, place: &BlockPlace) -> Result<Address, EvmAnchorError> {
        let logs = receipt.logs();
        let log = usize::try_from(self.log_index).ok().and_then(|index| logs.get(index));
        let log = log.ok_or(EvmAnchorError::NoLog { index: self.log_index, count: logs.len() })?;
        if log.address != self.point {
            return Err(EvmAnchorError::OtherContract { found: log.address, point: self.point });
        }
        let event = AnchorPoint::Anchored::decode_log(log).map_err(|_| EvmAnchorError::OtherEvent)?.data;
        if event.ledger != name {
            return Err(EvmAnchorError::OtherLedger { found: event.ledger, name });
        }
        if (event.height, event.blockHash.0) != (place.height, place.hash.to_bytes()) {
            return Err(EvmAnchorError::OtherBlock {
                found: event.height,
                found_hash: event.blockHash,
                height: place.height,
                hash: place.hash,
            });
        }
        Ok(event.sender)
    }
}
