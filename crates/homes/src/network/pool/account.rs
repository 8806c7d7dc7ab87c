//! What waits of one account, by nonce.
//!
//! # Invariants
//! - **A1** No nonce below the account's own is held.
//! - **A2** `next` is the first nonce from the account's own on that is not held: what is below it can run, one after
//!   another; what is above it is queued.
//! - **A3** `weight` is the sum of the weights of what is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::TxHash;

use super::examine::Examined;

/// A transaction that waits.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) tx: Arc<Examined>,
    /// True if it was handed in at this node, which then sends it to the others.
    pub(super) local: bool,
    /// The hashes that it and its predecessors of this nonce took the place of.
    pub(super) replaced: Vec<TxHash>,
    /// When it came.
    pub(super) since: Duration,
    /// When it is to be sent to peers next, and how often it was.
    pub(super) due: Duration,
    pub(super) sent: u32,
}

/// What waits of one account.
#[derive(Debug, Default)]
pub(super) struct Account {
    nonce: u64,
    next: u64,
    weight: usize,
    held: BTreeMap<u64, Held>,
}

impl Account {
    pub(super) fn at(nonce: u64) -> Self {
        Self { nonce, next: nonce, ..Self::default() }
    }

    /// How many transactions of it are final.
    pub(super) const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// See A2.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many can run, and how many wait for a nonce that is missing.
    pub(super) fn counts(&self) -> (usize, usize) {
        let ready = usize::try_from(self.next - self.nonce).unwrap_or(usize::MAX);
        (ready, self.held.len().saturating_sub(ready))
    }

    pub(super) fn get(&self, nonce: u64) -> Option<&Held> {
        self.held.get(&nonce)
    }

    pub(super) fn get_mut(&mut self, nonce: u64) -> Option<&mut Held> {
        self.held.get_mut(&nonce)
    }

    /// All of it, in the order of nonces.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Held)> {
        self.held.iter().map(|(nonce, held)| (*nonce, held))
    }

    /// Holds a transaction at a nonce that is free.
    pub(super) fn insert(&mut self, held: Held) {
        let nonce = held.tx.nonce();
        self.weight = self.weight.saturating_add(held.tx.weight());
        self.held.insert(nonce, held);
        if nonce == self.next {
            self.extend();
        }
    }

    pub(super) fn remove(&mut self, nonce: u64) -> Option<Held> {
        let held = self.held.remove(&nonce)?;
        self.weight = self.weight.saturating_sub(held.tx.weight());
        if nonce < self.next {
            self.next = nonce.max(self.nonce);
        }
        Some(held)
    }

    /// Sets the account's own nonce, which never falls, and gives what was below it. Costs by what it gives, but for
    /// an account whose next nonces came from elsewhere.
    pub(super) fn advance(&mut self, nonce: u64) -> Vec<Held> {
        let mut below = Vec::new();
        if nonce <= self.nonce {
            return below;
        }
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() < nonce) {
            let held = entry.remove();
            self.weight = self.weight.saturating_sub(held.tx.weight());
            below.push(held);
        }
        self.nonce = nonce;
        if self.next < nonce {
            self.next = nonce;
            self.extend();
        }
        below
    }

    fn extend(&mut self) {
        for nonce in self.held.range(self.next..).map(|(nonce, _)| *nonce) {
            if nonce != self.next {
                break;
            }
            self.next = nonce.saturating_add(1);
        }
    }
}
