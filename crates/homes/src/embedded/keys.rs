//! Which ledger key was in force at which block, read from the checked state of the head.
//!
//! - **Owns** the list of handovers as `Access` records them, and of the keys of validators that followed each other.
//! - **Does not** verify handovers: each was when its block was executed.

use alloy_primitives::{Address, KECCAK256_EMPTY};
use alloy_sol_types::SolCall;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::chain::Authority;
use blockhouse_ledger::contracts::Access;
use blockhouse_ledger::validators::tenures;
use blockhouse_types::BlockHash;

use super::error::HomeError;
use crate::store::{Head, Store};

/// A change of the key: from this block on, it included, `key` is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// The height of its block.
    pub height: u64,
    /// The ledger key it names.
    pub key: [u8; 32],
}

/// The ledger keys of a chain, up to its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKeys {
    first: [u8; 32],
    handovers: Vec<Handover>,
    successions: Vec<Handover>,
}

impl LedgerKeys {
    /// Reads them from the state after the head.
    pub fn of(store: &Store) -> Result<Self, HomeError> {
        let head = store.head();
        let access = head.genesis().access_address();
        let first = head.genesis().ledger_key;
        let record = store.state().account(&access).map_err(|error| store.of_state(error))?;
        if record.is_none_or(|record| record.code_hash == KECCAK256_EMPTY) {
            return Ok(Self { first, handovers: Vec::new(), successions: Vec::new() });
        }
        let count = ask(store, access, &Access::handoversCall {})?;
        let handovers = (1..=count).map(|n| {
            let answer = ask(store, access, &Access::handoverAtCall { n })?;
            Ok(Handover { height: answer.height, key: answer.key.0 })
        });
        let handovers = handovers.collect::<Result<_, HomeError>>()?;
        let tenures = tenures(head.genesis(), head.header(), store, head.height().saturating_add(1));
        let tenures = tenures.map_err(|error| HomeError::of_handovers(store, error))?;
        let successions =
            tenures.into_iter().map(|tenure| Handover { height: tenure.first, key: tenure.key }).collect();
        Ok(Self { first, handovers, successions })
    }

    /// Takes up keys that were read before: the caller vouches that they are those of the head.
    pub const fn resume(first: [u8; 32], handovers: Vec<Handover>, successions: Vec<Handover>) -> Self {
        Self { first, handovers, successions }
    }

    /// The key of genesis.
    pub const fn first(&self) -> [u8; 32] {
        self.first
    }

    /// The key in force after the last block: it certifies the next one.
    pub fn in_force(&self) -> [u8; 32] {
        self.at(u64::MAX)
    }

    /// The key that was in force at that block.
    pub fn at(&self, height: u64) -> [u8; 32] {
        let until = |changes: &[Handover]| changes.iter().rev().find(|change| change.height <= height).copied();
        match (until(&self.handovers), until(&self.successions)) {
            (Some(handover), Some(succession)) if handover.height >= succession.height => handover.key,
            (_, Some(succession)) => succession.key,
            (Some(handover), None) => handover.key,
            (None, None) => self.first,
        }
    }

    /// All handovers, the first one first.
    pub fn handovers(&self) -> &[Handover] {
        &self.handovers
    }

    /// The keys of other validators that followed, each with the first block that they certify.
    pub fn successions(&self) -> &[Handover] {
        &self.successions
    }

    /// The heights of the blocks at which the key changes, ascending: handovers, and closing blocks.
    #[cfg(feature = "node")]
    pub(crate) fn changes(&self) -> Vec<u64> {
        let handovers = self.handovers.iter().map(|handover| handover.height);
        let closing = self.successions.iter().map(|succession| succession.height.saturating_sub(1));
        let mut heights: Vec<_> = handovers.chain(closing).collect();
        heights.sort_unstable();
        heights
    }

    /// The authority at the head.
    pub(super) fn authority(&self, head: &Head) -> Authority {
        let counts = (self.handovers.len() as u64, self.successions.len() as u64);
        Authority::resume((head.genesis().chain_id, self.in_force()), counts, (head.height(), place(head).hash))
    }
}

/// The head as certificates name it.
pub(super) fn place(head: &Head) -> BlockPlace {
    BlockPlace { chain_id: head.genesis().chain_id, height: head.height(), hash: BlockHash::new(head.hash().0) }
}

fn ask<C: SolCall>(store: &Store, access: Address, question: &C) -> Result<C::Return, HomeError> {
    let read = Call::read(Address::ZERO, access, question.abi_encode());
    let answer = call(store.genesis(), store.head().header(), store, &read)
        .map_err(|error| HomeError::of_handovers(store, error))?;
    match answer.outcome {
        CallOutcome::Returned(output) => C::abi_decode_returns(&output).map_err(|_| HomeError::HandoverForm),
        _ => Err(HomeError::HandoverForm),
    }
}
