//! Which ledger key vouches for which block, along one chain.
//!
//! - **Owns** the key in force, the count of handovers, and which of two chains `recover` takes.
//! - **Does not** execute blocks: an [`Executed`] is the proof that this was done.
//!
//! # Invariants
//! - **A1** The key in force changes by a block that [`Executed`] shows to be a handover, after one that it shows to be a closing block, and in no
//!   other way.
//! - **A2** An authority never moves past a block without a certificate by the key in force there.
//!
//! Format: `docs/design/ledger.md`, sections *Certificates* and *Handover*.

use std::cmp::Ordering;

use alloy_consensus::Transaction;
use alloy_primitives::B256;
use blockhouse_types::{BlockHash, Fingerprint};

use crate::block::{Block, block_hash};
use crate::certificate::{BlockPlace, Certificate, CertificateError};
use crate::execute::Executed;
use crate::fingerprint::TrustRoot;
use crate::genesis::Genesis;
use crate::handover::{Handover, leading};
use crate::validators::succession;

/// The authority over a chain up to its last verified block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    chain_id: u64,
    ledger_key: [u8; 32],
    handovers: u64,
    successions: u64,
    height: u64,
    hash: BlockHash,
}

/// Why a block does not continue a certified chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    #[error("block {found} ({hash}) does not follow block {height} of this chain")]
    NotNext { found: u64, hash: BlockHash, height: u64 },
    #[error("no certificate in force vouches for the block")]
    Certificate(#[from] CertificateError),
}

impl Authority {
    /// Begins at block 0, which its certificate must name.
    pub fn begin(genesis: &Genesis, certificate: &Certificate) -> Result<Self, AuthorityError> {
        let hash = genesis.hash();
        certificate.verify(&genesis.ledger_key, &BlockPlace { chain_id: genesis.chain_id, height: 0, hash })?;
        Ok(Self::at_genesis(genesis))
    }

    /// The authority before any certificate is seen, for the maker of block 0.
    pub fn at_genesis(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id,
            ledger_key: genesis.ledger_key,
            handovers: 0,
            successions: 0,
            height: 0,
            hash: genesis.hash(),
        }
    }

    /// The key that must certify this block: the one it hands over to, if it is a handover.
    pub fn key_at(&self, next: &Executed) -> [u8; 32] {
        next.handover.unwrap_or(self.ledger_key)
    }

    /// Refuses, without executing it, a block that nobody who could be in force has certified: its certificate must
    /// be by the key in force, or by the one that its only transaction says it hands over to.
    pub fn expects(&self, block: &Block, certificate: &Certificate) -> Result<(), AuthorityError> {
        let header = &block.header;
        let place = BlockPlace { chain_id: self.chain_id, height: header.number, hash: block_hash(header) };
        match (certificate.verify(&self.ledger_key, &place), named_key(block)) {
            (Err(CertificateError::OtherKey { .. }), Some(key)) => Ok(certificate.verify(&key, &place)?),
            (found, _) => Ok(found?),
        }
    }

    /// Moves past the next block of the chain if its certificate is by the key in force there.
    pub fn advance(&mut self, next: &Executed, certificate: &Certificate) -> Result<(), AuthorityError> {
        let header = &next.block.header;
        let follows = self.height.checked_add(1) == Some(header.number);
        if !follows || header.parent_hash != B256::new(self.hash.to_bytes()) {
            return Err(AuthorityError::NotNext { found: header.number, hash: next.hash, height: self.height });
        }
        let place = BlockPlace { chain_id: self.chain_id, height: header.number, hash: next.hash };
        let key = self.key_at(next);
        certificate.verify(&key, &place)?;
        let successor = succession(header);
        *self = Self {
            chain_id: self.chain_id,
            ledger_key: successor.unwrap_or(key),
            handovers: self.handovers + u64::from(next.handover.is_some()),
            successions: self.successions + u64::from(successor.is_some()),
            height: header.number,
            hash: next.hash,
        };
        Ok(())
    }

    /// Takes up an authority that was stored: the caller vouches that it was verified then.
    pub const fn resume(
        (chain_id, ledger_key): (u64, [u8; 32]),
        (handovers, successions): (u64, u64),
        (height, hash): (u64, BlockHash),
    ) -> Self {
        Self { chain_id, ledger_key, handovers, successions, height, hash }
    }

    /// The ledger key in force: it certifies the next block, unless that hands the ledger over.
    pub const fn ledger_key(&self) -> [u8; 32] {
        self.ledger_key
    }

    /// How many handovers there were.
    pub const fn handovers(&self) -> u64 {
        self.handovers
    }

    /// How many times other validators followed.
    pub const fn successions(&self) -> u64 {
        self.successions
    }

    /// The height of the last verified block.
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The hash of the last verified block.
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The last verified block.
    pub const fn place(&self) -> BlockPlace {
        BlockPlace { chain_id: self.chain_id, height: self.height, hash: self.hash }
    }

    /// The vault's fingerprint under the key in force.
    pub fn fingerprint(&self, genesis: &Genesis) -> Fingerprint {
        TrustRoot::new(genesis, self.ledger_key).fingerprint()
    }
}

/// The key that a block's leading transaction names, if its input is that of a handover. Nothing says that it succeeds.
fn named_key(block: &Block) -> Option<[u8; 32]> {
    let tx = leading(&block.body.transactions)?;
    Handover::read(tx.input()).map(|handover| handover.next_key)
}

/// Which of two certified chains of one genesis `recover` takes: the greater has more handovers, or was kept by more sets of validators one after
/// another, or is higher. So whoever has got the keys of a set that is not in force any more outdoes no chain that went on after it.
/// Equal ones with different hashes are a fork that the operator has to explain.
pub fn compare(a: &Authority, b: &Authority) -> Ordering {
    (a.handovers, a.successions, a.height).cmp(&(b.handovers, b.successions, b.height))
}
