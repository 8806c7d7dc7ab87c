//! Why a transaction that was in the pool is there no more.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use alloy_primitives::{Address, TxHash};
use blockhouse_ledger::TransactionFault;

/// Why a transaction left the pool without being on the ledger. Printed, it is a whole sentence for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error("dropped: replaced by {by}, which has the same nonce")]
    Replaced { by: TxHash },
    #[error("dropped: the pool was full, and no account had more waiting than its sender")]
    Full,
    #[error("dropped: it was not in a block {} s after it came", after.as_secs())]
    Expired { after: Duration },
    #[error("dropped: its sender {sender} is no longer enrolled")]
    Revoked { sender: Address },
    #[error("dropped: another transaction with nonce {nonce} is on the ledger; the next nonce is {next}")]
    NonceUsed { nonce: u64, next: u64 },
    #[error("dropped: no block can hold it: {0}")]
    Fault(TransactionFault),
}

/// The reasons of the transactions that were dropped last.
#[derive(Debug)]
pub(super) struct Dropped {
    max: usize,
    /// Each reason with the number of its drop.
    reasons: HashMap<TxHash, (u64, Reason)>,
    order: VecDeque<(u64, TxHash)>,
    count: u64,
}

impl Dropped {
    pub(super) fn new(max: usize) -> Self {
        Self { max, reasons: HashMap::new(), order: VecDeque::new(), count: 0 }
    }

    pub(super) fn note(&mut self, hash: TxHash, reason: Reason) {
        self.count = self.count.saturating_add(1);
        self.reasons.insert(hash, (self.count, reason));
        self.order.push_back((self.count, hash));
        while self.order.len() > self.max {
            let Some((number, hash)) = self.order.pop_front() else { return };
            // Only if it was not dropped again since.
            if self.reasons.get(&hash).is_some_and(|(latest, _)| *latest == number) {
                self.reasons.remove(&hash);
            }
        }
    }

    /// It is back, or on the ledger.
    pub(super) fn forget(&mut self, hash: &TxHash) {
        self.reasons.remove(hash);
    }

    pub(super) fn reason(&self, hash: &TxHash) -> Option<&Reason> {
        self.reasons.get(hash).map(|(_, reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, Reason};
    use alloy_primitives::B256;

    #[test]
    fn the_latest_reasons_are_kept() {
        let mut dropped = Dropped::new(2);
        let [a, b, c] = [1, 2, 3].map(B256::repeat_byte);
        dropped.note(a, Reason::Full);
        dropped.note(b, Reason::Full);
        dropped.note(a, Reason::Replaced { by: c });
        assert_eq!(dropped.reason(&a), Some(&Reason::Replaced { by: c }), "dropped twice, and the first one forgotten");
        dropped.note(c, Reason::Full);
        assert_eq!((dropped.reason(&b), dropped.reason(&c)), (None, Some(&Reason::Full)));
        dropped.forget(&a);
        assert_eq!(dropped.reason(&a), None);
        assert!(dropped.reasons.len() <= dropped.order.len());
    }
}
