//! The time of one set of validators, as far as a node takes part in it: where it begins, and that nothing of theirs stands above its end (C4).

use std::sync::PoisonError;

use alloy_consensus::Header;
use blockhouse_consensus::Network;
use blockhouse_ledger::validators::succession;

use super::{Chain, ChainError, lock};

/// The time of one set of validators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// Their key.
    pub(super) key: [u8; 32],
    /// The block that they begin above.
    pub(super) base: u64,
    /// The block with which their time ended, once that is final here.
    pub(super) closed: Option<u64>,
}

impl Chain {
    /// From now on this node takes part in that network: one that begins above the last final block, or began before it.
    pub fn begin(&self, network: &Network) {
        let term = Term { key: network.key(), base: network.base().height, closed: None };
        *self.term.write().unwrap_or_else(PoisonError::into_inner) = term;
    }

    /// Whether the tenure in which this node takes part is over: its closing block is final here.
    pub fn is_over(&self) -> bool {
        self.term().closed.is_some()
    }

    /// The last block of the tenure, once it is settled: by the last final block, or by one that may become final.
    pub fn last_block(&self) -> Option<u64> {
        let last = self.last();
        // With the handover what was settled before it ends (ledger T3): until it is final here, that is what the state says.
        if self.is_to_open(&last.store) {
            return None;
        }
        let pending = || lock(&self.executed).closing.filter(|closing| *closing > last.store.height());
        // After it is final the engine still helps others to that.
        self.term().closed.or(last.last_block).or_else(pending)
    }

    pub(super) fn term(&self) -> Term {
        *self.term.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// C4.
    pub(super) fn check_open(&self, parent: &Header) -> Result<(), ChainError> {
        let is_closed = succession(parent).is_some() && parent.number != self.term().base;
        if is_closed { Err(ChainError::Over { height: parent.number.saturating_add(1) }) } else { Ok(()) }
    }
}
