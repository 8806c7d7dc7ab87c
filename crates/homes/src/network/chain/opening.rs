//! Under which key a block stands here (C3): that of this network, which a handover may have brought.
//!
//! Where the network took the ledger over, the block by which it did is the first that it makes, and its only handover.

use std::sync::Arc;

use alloy_consensus::{Transaction as _, TxEnvelope};
use blockhouse_ledger::block::Block;
use blockhouse_ledger::charter::{CHARTER_ADDRESS, making};
use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::handover::{Handover, is_call};
use blockhouse_ledger::{Genesis, Governance};

use super::{Chain, ChainError, Final};
use crate::network::network_file::NetworkFile;
use crate::store::Store;

/// The block by which this network takes the ledger over.
#[derive(Debug)]
pub(super) struct Opening {
    height: u64,
    handover: TxEnvelope,
    /// Who may change its validators, and how, if anybody may.
    charter: Option<Governance>,
}

impl Chain {
    /// The chain of the network of that file: if it takes the ledger over, nothing is made above the base before the handover.
    #[must_use]
    pub fn opened_by(self, file: &NetworkFile) -> Self {
        let opening = file.handover.clone().map(|handover| Opening {
            height: file.network.base().height.saturating_add(1),
            handover,
            charter: file.governance(),
        });
        Self { opening, ..self }
    }

    /// True while the block by which this network takes the ledger over is not final.
    pub(super) fn is_to_open(&self, store: &Store) -> bool {
        self.opening.as_ref().is_some_and(|opening| store.height() < opening.height)
    }

    /// The transactions of that block, while it is what comes above the last of `pending`. By C3 nothing but it comes first.
    pub fn opening(&self, pending: &[Arc<Block>]) -> Result<Option<Vec<TxEnvelope>>, ChainError> {
        let store = self.head();
        let is_under_way = pending.iter().any(|block| block.header.number > store.height());
        let Some(opening) = self.opening.as_ref().filter(|_| self.is_to_open(&store) && !is_under_way) else {
            return Ok(None);
        };
        let mut transactions = vec![opening.handover.clone()];
        if let Some(charter) = &opening.charter {
            let account = store.state().account(&CHARTER_ADDRESS).map_err(|error| store.of_state(error))?;
            transactions.push(making(store.genesis(), charter, account.map_or(0, |account| account.nonce)));
        }
        Ok(Some(transactions))
    }

    /// C3.
    pub(super) fn check_key(
        &self,
        last: &Final,
        above: &[Arc<Executed>],
        executed: &Executed,
    ) -> Result<(), ChainError> {
        let before = above.iter().rev().find_map(|executed| executed.handover).unwrap_or(last.in_force);
        let transactions = &executed.block.body.transactions;
        let opening = self.opening.as_ref().filter(|opening| transactions.first() == Some(&opening.handover));
        // Its key commits to the charter: what stands behind the handover is that one. It must not be left out.
        let is_whole = opening.is_none_or(|opening| transactions.len() == 1 + usize::from(opening.charter.is_some()));
        let ends_governance = self.is_governed() && executed.handover.is_some() && opening.is_none();
        if executed.handover.unwrap_or(before) == self.term().key && !ends_governance && is_whole {
            return Ok(());
        }
        Err(ChainError::Key { height: executed.block.header.number, hash: executed.hash })
    }

    /// Whether that is what hands the ledger over to this network.
    fn is_opening(&self, tx: &TxEnvelope) -> bool {
        self.opening.as_ref().is_some_and(|opening| opening.handover == *tx)
    }

    /// Whether governors have a say over who follows: a handover would end that.
    pub(in crate::network) fn is_governed(&self) -> bool {
        self.head().genesis().governance.is_some()
            || self.opening.as_ref().is_some_and(|opening| opening.charter.is_some())
    }

    pub(super) fn hands_over_elsewhere(&self, genesis: &Genesis, tx: &TxEnvelope) -> bool {
        tx.to() == Some(genesis.access_address())
            && is_call(tx.input())
            && !self.is_opening(tx)
            && (self.is_governed()
                || Handover::read(tx.input()).is_none_or(|handover| handover.next_key != self.term().key))
    }
}
