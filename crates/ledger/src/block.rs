//! Blocks as bytes: the RLP of Ethereum and the object that lies at the sites.
//!
//! - **Owns** the two encodings and the refusal of every other byte string.
//! - **Does not** judge a block: see [`crate::execute`] for its rules and [`crate::chain`] for its certificate.
//!
//! Format: `docs/design/ledger.md`, sections *Blocks* and *Certificates*.

use alloy_consensus::{Header, TxEnvelope};
use alloy_rlp::{Decodable, Encodable};
use blockhouse_types::limits::{BLOCK_MAX, CERTIFICATE_MAX};
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder, Magic};

use crate::certificate::Certificate;
use crate::genesis::{GENESIS_MAX, Genesis};

const MAGIC: Magic = *b"BHBL";
const WHAT: &str = "a block object";

/// The greatest length of a block object.
pub const BLOCK_OBJECT_MAX: usize = BLOCK_MAX + CERTIFICATE_MAX + GENESIS_MAX + 64;

/// A block of the ledger: an Ethereum block.
pub type Block = alloy_consensus::Block<TxEnvelope>;

/// Why bytes are no block, header or block object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    #[error("the {what} is not RLP of its kind")]
    Rlp {
        what: &'static str,
        #[source]
        source: alloy_rlp::Error,
    },
    #[error("the {what} is not in its canonical encoding")]
    NotCanonical { what: &'static str },
    #[error("the block has {length} bytes, the limit is {BLOCK_MAX}")]
    TooLong { length: usize },
    #[error("the block object cannot be read")]
    Object(#[from] DecodeError),
    #[error("the block object says chain {object}, its genesis says {genesis}")]
    Chain { object: u64, genesis: u64 },
    #[error("block 0 is not the block of its genesis")]
    Genesis,
}

/// The RLP of a block.
pub fn encode_block(block: &Block) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block.length());
    block.encode(&mut bytes);
    bytes
}

/// Reads the RLP of a block; only its one encoding is taken.
pub fn decode_block(bytes: &[u8]) -> Result<Block, BlockError> {
    if bytes.len() > BLOCK_MAX {
        return Err(BlockError::TooLong { length: bytes.len() });
    }
    let block = Block::decode(&mut &*bytes).map_err(|source| BlockError::Rlp { what: "block", source })?;
    if encode_block(&block) != bytes {
        return Err(BlockError::NotCanonical { what: "block" });
    }
    Ok(block)
}

/// Reads the RLP of a header; only its one encoding is taken.
pub fn decode_header(bytes: &[u8]) -> Result<Header, BlockError> {
    let header = Header::decode(&mut &*bytes).map_err(|source| BlockError::Rlp { what: "header", source })?;
    if alloy_rlp::encode(&header) != bytes {
        return Err(BlockError::NotCanonical { what: "header" });
    }
    Ok(header)
}

/// The hash of a block.
pub fn block_hash(header: &Header) -> BlockHash {
    BlockHash::new(header.hash_slow().0)
}

/// A block with its certificate, as it lies at the sites. Nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockObject {
    /// The ledger that it says it belongs to.
    pub chain_id: u64,
    /// The block.
    pub block: Block,
    /// Who vouches for the block.
    pub certificate: Certificate,
    /// What block 0 commits to; present at height 0 and nowhere else.
    pub genesis: Option<Genesis>,
}

impl BlockObject {
    /// The bytes of the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.u64(self.chain_id).bytes(&encode_block(&self.block)).bytes(&self.certificate.encode());
        if let Some(genesis) = &self.genesis {
            encoder.bytes(&genesis.encode());
        }
        encoder.finish()
    }

    /// Reads an object; a genesis in it is the one that its block commits to.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let chain_id = decoder.u64()?;
        let block = decode_block(decoder.bytes("block", BLOCK_MAX)?)?;
        let certificate = Certificate::decode(decoder.bytes("certificate", CERTIFICATE_MAX)?)?;
        let genesis = match block.header.number {
            0 => Some(Genesis::decode(decoder.bytes("genesis", GENESIS_MAX)?)?),
            _ => None,
        };
        decoder.finish()?;
        let object = Self { chain_id, block, certificate, genesis };
        object.check_genesis()?;
        if object.encode() != bytes {
            return Err(BlockError::NotCanonical { what: "block object" });
        }
        Ok(object)
    }

    /// The hash of its block.
    pub fn hash(&self) -> BlockHash {
        block_hash(&self.block.header)
    }

    fn check_genesis(&self) -> Result<(), BlockError> {
        let Some(genesis) = &self.genesis else { return Ok(()) };
        if genesis.chain_id != self.chain_id {
            return Err(BlockError::Chain { object: self.chain_id, genesis: genesis.chain_id });
        }
        if genesis.block() != self.block {
            return Err(BlockError::Genesis);
        }
        Ok(())
    }
}
