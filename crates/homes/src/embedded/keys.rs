//! Which ledger key was in force at which block, read from the checked state of the head.
//!
//! - **Owns** the list of handovers as `Access` records them.
//! - **Does not** verify handovers: each was when its block was executed.

use alloy_primitives::{Address, KECCAK256_EMPTY};
use alloy_sol_types::SolCall;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::chain::Authority;
use blockhouse_ledger::contracts::Access;
use blockhouse_types::BlockHash;

use super::error::HomeError;
use crate::store::{Head, Store};

/// A handover: from this block on, it included, `key` is in force.
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
}

impl LedgerKeys {
    /// Reads them from the state after the head.
    pub fn of(store: &Store) -> Result<Self, HomeError> {
        let head = store.head();
        let access = head.genesis().access_address();
        let first = head.genesis().ledger_key;
        let record = store.state().account(&access).map_err(|error| store.of_state(error))?;
        if record.is_none_or(|record| record.code_hash == KECCAK256_EMPTY) {
            return Ok(Self { first, handovers: Vec::new() });
        }
        let count = ask(store, access, &Access::handoversCall {})?;
        let handovers = (1..=count).map(|n| {
            let answer = ask(store, access, &Access::handoverAtCall { n })?;
            Ok(Handover { height: answer.height, key: answer.key.0 })
        });
        Ok(Self { first, handovers: handovers.collect::<Result<_, HomeError>>()? })
    }

    /// Takes up keys that were read before: the caller vouches that they are those of the head.
    pub const fn resume(first: [u8; 32], handovers: Vec<Handover>) -> Self {
        Self { first, handovers }
    }

    /// The key of genesis.
    pub const fn first(&self) -> [u8; 32] {
        self.first
    }

    /// The key in force after the last block.
    pub fn in_force(&self) -> [u8; 32] {
        self.handovers.last().map_or(self.first, |last| last.key)
    }

    /// The key that was in force at that block.
    pub fn at(&self, height: u64) -> [u8; 32] {
        let until = self.handovers.iter().rev().find(|handover| handover.height <= height);
        until.map_or(self.first, |handover| handover.key)
    }

    /// All handovers, the first one first.
    pub fn handovers(&self) -> &[Handover] {
        &self.handovers
    }

    /// The authority at the head.
    pub(super) fn authority(&self, head: &Head) -> Authority {
        let count = self.handovers.len() as u64;
        Authority::resume(head.genesis().chain_id, self.in_force(), count, head.height(), place(head).hash)
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
