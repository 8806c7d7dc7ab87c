//! The ledger's block as the engine carries it: its RLP, named by the hash of its header.
//!
//! The engine counts heights from the base, the block that the network begins above.

use std::sync::Arc;

use blockhouse_ledger::{Block, block_hash, decode_block, encode_block};
use blockhouse_types::BlockHash;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, Write};
use commonware_consensus::types::Height;
use commonware_consensus::{Block as Ordered, BoundedBlock, Heightable};
use commonware_cryptography::{Digested, Digestible};

use crate::tuning::BLOCK_MAX;

/// What is voted on: the hash of a block.
pub type Digest = commonware_cryptography::keccak256::Digest;

/// The longest form of the length before a block's RLP.
const LENGTH_MAX: usize = 5;

/// A block and what the engine asks of it, computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireBlock {
    block: Arc<Block>,
    rlp: Bytes,
    hash: Digest,
    height: Height,
}

impl WireBlock {
    /// The block above that base; `None` below it, or if it is longer than [`BLOCK_MAX`].
    pub(crate) fn new(block: Arc<Block>, base: u64) -> Option<Self> {
        let rlp = Bytes::from(encode_block(&block));
        Self::with(block, rlp, base)
    }

    fn with(block: Arc<Block>, rlp: Bytes, base: u64) -> Option<Self> {
        let height = Height::new(block.header.number.checked_sub(base)?);
        let hash = digest(&block_hash(&block.header));
        (rlp.len() <= BLOCK_MAX).then_some(Self { block, rlp, hash, height })
    }

    /// The ledger's block.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// The block beside its digest.
    pub(crate) fn digested(self) -> Digested<Self> {
        let hash = self.hash;
        Digested::precomputed(self, hash)
    }
}

/// The engine's form of a block's hash.
pub(crate) fn digest(hash: &BlockHash) -> Digest {
    Digest::from(hash.to_bytes())
}

impl Write for WireBlock {
    fn write(&self, buf: &mut impl BufMut) {
        self.rlp.write(buf);
    }
}

impl EncodeSize for WireBlock {
    fn encode_size(&self) -> usize {
        self.rlp.encode_size()
    }
}

impl Read for WireBlock {
    /// The height of the base.
    type Cfg = u64;

    fn read_cfg(buf: &mut impl Buf, base: &u64) -> Result<Self, Error> {
        let rlp = Bytes::read_cfg(buf, &RangeCfg::from(..=BLOCK_MAX))?;
        let block = decode_block(&rlp).map_err(|source| Error::Wrapped("block", Box::new(source)))?;
        Self::with(Arc::new(block), rlp, *base).ok_or(Error::Invalid("block", "it is below the base of the network"))
    }
}

impl Digestible for WireBlock {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.hash
    }
}

impl Heightable for WireBlock {
    fn height(&self) -> Height {
        self.height
    }
}

impl Ordered for WireBlock {
    fn parent(&self) -> Digest {
        Digest::from(self.block.header.parent_hash.0)
    }
}

impl BoundedBlock for WireBlock {
    fn max_encode_size(_: &u64) -> usize {
        BLOCK_MAX + LENGTH_MAX
    }
}
