//! The head of the ledger, checked: what execution and answers stand on. Its header commits to the state.
//!
//! - **Owns** the check of a store's blocks against the head, and the step from one head to the next.
//! - **Does not** read the file again: rows come in, a checked value goes out.
//!
//! # Invariants
//! - **H1** A [`Head`] exists only if its blocks link back to genesis by their hashes.

use std::collections::HashMap;

use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_rlp::Decodable as _;
use blockhouse_ledger::genesis::Genesis;
use redb::ReadTransaction;

use super::error::Fault;
use super::tables;

/// The last block, and the hashes of all before it.
#[derive(Debug, Clone)]
pub struct Head {
    pub(super) genesis: Genesis,
    pub(super) header: Header,
    /// By height, genesis first, the head last.
    pub(super) hashes: Vec<B256>,
    pub(super) heights: HashMap<B256, u64>,
}

impl Head {
    /// The head of a new ledger.
    pub(super) fn of_genesis(genesis: Genesis) -> Self {
        let (header, hash) = (genesis.block().header, B256::new(genesis.hash().to_bytes()));
        Self { genesis, header, hashes: vec![hash], heights: HashMap::from([(hash, 0)]) }
    }

    /// Checks the rows of a store. `known` is an earlier head of the same store: what it links to is not read again.
    pub(super) fn check(rows: &ReadTransaction, known: Option<&Self>) -> Result<Self, Fault> {
        let genesis =
            Genesis::decode(&tables::read_genesis(rows)?).map_err(|error| Fault::damaged(error.to_string()))?;
        let (height, hash) = tables::read_head(rows)?;
        let mut head = match known.filter(|known| known.genesis == genesis) {
            Some(known) if known.height() <= height => known.clone(),
            _ => Self::of_genesis(genesis),
        };
        let header = read_header(rows, height)?;
        head.extend_hashes(rows, height, hash)?;
        head.header = header;
        Ok(head)
    }

    /// Height of the last block.
    pub fn height(&self) -> u64 {
        self.header.number
    }

    /// Hash of the last block.
    pub fn hash(&self) -> B256 {
        self.hashes.last().copied().expect("the hash of genesis is always there")
    }

    /// The header of the last block.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the ledger began with.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The hash of the block at that height of this chain.
    pub fn hash_at(&self, height: u64) -> Option<B256> {
        self.hashes.get(usize::try_from(height).ok()?).copied()
    }

    /// The height of that block of this chain.
    pub fn height_of(&self, hash: &B256) -> Option<u64> {
        self.heights.get(hash).copied()
    }

    /// Takes the next block, which the caller has stored.
    pub(super) fn advance(&mut self, header: Header, hash: B256) {
        self.heights.insert(hash, header.number);
        self.hashes.push(hash);
        self.header = header;
    }

    /// Reads the headers above the last known one, and checks that they link up to `hash` at `height`.
    fn extend_hashes(&mut self, rows: &ReadTransaction, height: u64, hash: B256) -> Result<(), Fault> {
        if self.hash_at(0) != Some(read_header(rows, 0)?.hash_slow()) {
            return Err(Fault::damaged("its block 0 is not the one of its genesis object"));
        }
        for next in self.height() + 1..=height {
            let header = read_header(rows, next)?;
            if header.parent_hash != self.hash() {
                return Err(Fault::damaged(format!("block {next} does not follow block {}", next - 1)));
            }
            let hash = header.hash_slow();
            self.heights.insert(hash, next);
            self.hashes.push(hash);
            self.header = header;
        }
        if self.hash_at(height) != Some(hash) {
            return Err(Fault::damaged(format!("block {height} is not the one that its head names")));
        }
        Ok(())
    }
}

/// The header of the block at that height, which must say so itself.
fn read_header(rows: &ReadTransaction, height: u64) -> Result<Header, Fault> {
    let block = tables::read_block(rows, height)?;
    let unreadable = |error: alloy_rlp::Error| Fault::damaged(format!("block {height} cannot be read: {error}"));
    let mut fields = alloy_rlp::Header::decode_bytes(&mut block.as_slice(), true).map_err(unreadable)?;
    let header = Header::decode(&mut fields).map_err(unreadable)?;
    if header.number != height {
        return Err(Fault::damaged(format!("the block at height {height} has the number {}", header.number)));
    }
    Ok(header)
}
