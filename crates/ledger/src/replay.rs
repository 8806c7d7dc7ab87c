//! Verifies a chain from its block objects alone, keeping the whole state in memory.
//!
//! - **Owns** the order of checks for bytes that came from a site: decode, signature, execute, key in force.
//! - **Does not** fetch objects or choose among chains.
//!
//! # Invariants
//! - **R1** After an error the replay stands where it stood before.

use std::convert::Infallible;

use alloy_consensus::Header;
use alloy_primitives::B256;

use crate::block::BlockObject;
use crate::chain::{Authority, AuthorityError};
use crate::execute::{Executed, ImportError, import};
use crate::genesis::Genesis;
use crate::state::{MemoryState, State};

/// A chain verified so far.
#[derive(Debug, Clone)]
pub struct Replay {
    genesis: Genesis,
    head: Header,
    state: MemoryState,
    authority: Authority,
}

/// Why a block object does not continue a replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    #[error("block {height} is no block 0 with its genesis")]
    NoGenesis { height: u64 },
    #[error("block {height} is for chain {found}, this is chain {expected}")]
    Chain { height: u64, found: u64, expected: u64 },
    #[error("block {height} breaks the rules of the ledger")]
    Import {
        height: u64,
        #[source]
        source: ImportError<Infallible>,
    },
    #[error("block {height} is not certified")]
    Authority {
        height: u64,
        #[source]
        source: AuthorityError,
    },
}

impl Replay {
    /// Begins with the object of block 0.
    pub fn begin(object: &BlockObject) -> Result<Self, ReplayError> {
        let height = object.block.header.number;
        let genesis = object.genesis.clone().filter(|genesis| height == 0 && genesis.block() == object.block);
        let genesis = genesis.ok_or(ReplayError::NoGenesis { height })?;
        let authority = Authority::begin(&genesis, &object.certificate)
            .map_err(|source| ReplayError::Authority { height, source })?;
        let head = object.block.header.clone();
        let mut state = MemoryState::new();
        state.set_block_hash(0, head.hash_slow());
        Ok(Self { genesis, head, state, authority })
    }

    /// Takes up a chain that was verified before, as a store keeps it: the caller vouches for it.
    pub const fn resume(genesis: Genesis, head: Header, state: MemoryState, authority: Authority) -> Self {
        Self { genesis, head, state, authority }
    }

    /// Verifies the next block and takes it.
    pub fn extend(&mut self, object: &BlockObject) -> Result<Executed, ReplayError> {
        let height = object.block.header.number;
        if object.chain_id != self.genesis.chain_id {
            return Err(ReplayError::Chain { height, found: object.chain_id, expected: self.genesis.chain_id });
        }
        let uncertified = |source| ReplayError::Authority { height, source };
        // First what is cheap: bytes from a site may hold any program.
        self.authority.expects(&object.block, &object.certificate).map_err(uncertified)?;
        let executed = import(&self.genesis, &self.head, &self.state, &object.block)
            .map_err(|source| ReplayError::Import { height, source })?;
        self.authority.advance(&executed, &object.certificate).map_err(uncertified)?;
        self.state.apply(&executed.changes);
        self.state.set_block_hash(height, B256::new(executed.hash.to_bytes()));
        self.head = executed.block.header.clone();
        Ok(executed)
    }

    /// What the chain began with.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The header of the last block.
    pub const fn head(&self) -> &Header {
        &self.head
    }

    /// The nodes of the state after the last block.
    pub const fn nodes(&self) -> &MemoryState {
        &self.state
    }

    /// The state after the last block.
    pub const fn state(&self) -> State<'_, MemoryState> {
        State::at(self.head.state_root, &self.state)
    }

    /// The key in force and the handovers so far.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }
}
