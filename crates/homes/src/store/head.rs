//! The head of the ledger, and the hashes of the blocks below it as far as they were linked: what execution and answers stand on.
//!
//! - **Owns** the check that a store's blocks follow one another up to its head.
//! - **Does not** know the file: rows come in, hashes go out.
//!
//! A long chain is not read whole at its opening: what the EVM's `BLOCKHASH` sees is linked then, the rest when it is first asked for.
//!
//! # Invariants
//! - **H1** A hash is given only after every header from the head down to it was read, and each named the one below it.
//! - **H2** Block 0 is the one of the genesis object.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use alloy_consensus::Header;
use alloy_primitives::{B256, keccak256};
use alloy_rlp::Decodable as _;
use blockhouse_ledger::genesis::Genesis;

use super::error::Fault;
use super::tables::Rows;

/// How far back the EVM's `BLOCKHASH` sees.
pub(super) const BLOCK_HASHES: u64 = 256;

/// The last block, and the hashes below it. Clones share what was linked.
#[derive(Debug, Clone)]
pub struct Head {
    genesis: Arc<Genesis>,
    header: Header,
    hash: B256,
    links: Arc<RwLock<Links>>,
}

/// Hashes of one chain without a gap. It may reach above a head that has not moved with it.
#[derive(Debug)]
struct Links {
    /// The height of the first hash.
    lowest: u64,
    hashes: VecDeque<B256>,
    /// What the lowest block names as its parent.
    below: B256,
}

impl Links {
    fn at(&self, height: u64) -> Option<B256> {
        let index = usize::try_from(height.checked_sub(self.lowest)?).ok()?;
        self.hashes.get(index).copied()
    }
}

impl Head {
    /// Checks the rows of a store. `known` is an earlier head of the same store: what it linked is not read again.
    pub(super) fn check(rows: &Rows, known: Option<&Self>) -> Result<Self, Fault> {
        let genesis = Genesis::decode(&rows.genesis()?).map_err(|error| Fault::damaged(error.to_string()))?;
        let (height, hash) = rows.head()?;
        let header = read_header(rows, height, hash)?;
        let links = Links { lowest: height, hashes: VecDeque::from([hash]), below: header.parent_hash };
        let head = Self { genesis: Arc::new(genesis), header, hash, links: Arc::new(RwLock::new(links)) };
        read_header(rows, 0, head.genesis_hash())?;
        match known.filter(|known| known.genesis == head.genesis && known.height() <= height) {
            Some(known) => head.join(rows, known),
            None => head.link(rows, height.saturating_sub(BLOCK_HASHES)).map(|_| head),
        }
    }

    /// Height of the last block.
    pub const fn height(&self) -> u64 {
        self.header.number
    }

    /// Hash of the last block.
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The header of the last block.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the ledger began with.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The hash of the block at that height, if it was linked.
    pub(super) fn linked(&self, height: u64) -> Option<B256> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.at(height).filter(|_| height <= self.height())
    }

    /// Links down to that height, and gives the hash there.
    pub(super) fn link(&self, rows: &Rows, height: u64) -> Result<B256, Fault> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        while links.lowest > height {
            let (next, hash) = (links.lowest - 1, links.below);
            let header = read_header(rows, next, hash)?;
            if next == 0 && hash != self.genesis_hash() {
                return Err(Fault::damaged("its block 0 is not the one of its genesis object"));
            }
            links.hashes.push_front(hash);
            (links.lowest, links.below) = (next, header.parent_hash);
        }
        links.at(height).ok_or_else(|| Fault::damaged(format!("block {height} is above the head")))
    }

    /// Takes the next block, which the caller has stored.
    pub(super) fn advance(&mut self, header: Header, hash: B256) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.hashes.push_back(hash);
        drop(links);
        (self.header, self.hash) = (header, hash);
    }

    /// Links down to an earlier head, and takes over what that has linked.
    fn join(self, rows: &Rows, known: &Self) -> Result<Self, Fault> {
        if self.link(rows, known.height())? != known.hash {
            // Another process has made the store anew, from another chain.
            return self.link(rows, self.height().saturating_sub(BLOCK_HASHES)).map(|_| self);
        }
        {
            let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
            let earlier = known.links.read().unwrap_or_else(PoisonError::into_inner);
            let before = (earlier.lowest..known.height()).rev().filter_map(|height| earlier.at(height));
            before.for_each(|hash| links.hashes.push_front(hash));
            (links.lowest, links.below) = (earlier.lowest, earlier.below);
        }
        Ok(self)
    }

    fn genesis_hash(&self) -> B256 {
        B256::new(self.genesis.hash().to_bytes())
    }
}

/// The header of the block at that height, which must have that hash. The hash is that of the header's bytes as they are stored, so
/// they need not be encoded again.
pub(super) fn read_header(rows: &Rows, height: u64, hash: B256) -> Result<Header, Fault> {
    rows.block(height, |block| {
        let damaged = || Fault::damaged(format!("block {height} is another one"));
        let bytes = first_item(block).filter(|bytes| keccak256(bytes) == hash).ok_or_else(damaged)?;
        let header = Header::decode(&mut &*bytes)
            .map_err(|error| Fault::damaged(format!("the header of block {height}: {error}")))?;
        if header.number == height { Ok(header) } else { Err(damaged()) }
    })
}

/// The first item of a list in RLP, with its own prefix.
fn first_item(list: &[u8]) -> Option<&[u8]> {
    let mut rest = list;
    alloy_rlp::Header::decode(&mut rest).ok().filter(|outer| outer.list)?;
    let items = rest;
    let length = alloy_rlp::Header::decode(&mut rest).ok()?.payload_length;
    items.get(..(items.len() - rest.len()).checked_add(length)?)
}
