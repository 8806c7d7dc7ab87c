//! Transactions for a block, fairly: one of each account, then a second one of each, and so on.
//!
//! # Invariants
//! - **T1** If a block has room for the next transaction of every account, it gets the next one of every account, so a
//!   flood by one delays another by no block.
//! - **T2** If it has room for r of A accounts (all of one size), every account has its turn within ⌈A/r⌉ blocks that
//!   are taken so: who was served goes behind all that were not.
//! - **T3** The transactions of an account come in the order of nonces without a gap.
//! - **T4** What does not fit into what is left ends the turns of its own account alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::Address;

use super::Pool;
use super::examine::Examined;

/// What blocks that are not final yet hold of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// The account's nonce after them.
    pub nonce: u64,
    /// The height of the last of them that holds one of its transactions.
    pub height: u64,
}

/// By account, what the ancestors of the next block hold that are not final.
pub type Pending = BTreeMap<Address, Ahead>;

/// No transaction needs less gas.
const GAS_MIN: u64 = 21_000;
/// No transaction is shorter: its signature alone has 65 bytes.
const LENGTH_MIN: usize = 65;

/// The turns of one block.
pub struct Turns<'a> {
    pool: &'a Pool,
    pending: &'a Pending,
    /// Accounts without a transaction in the pending blocks, served longest ago first.
    first: Box<dyn Iterator<Item = Address> + 'a>,
    /// Then those with one.
    later: std::vec::IntoIter<Address>,
    /// Then all that had a turn, each with its next nonce.
    again: VecDeque<(Address, u64)>,
}

impl std::fmt::Debug for Turns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("later", &self.later).field("again", &self.again).finish_non_exhaustive()
    }
}

impl Pool {
    /// The turns of the block that follows these pending ones. Who knows how much gas was really used asks it one by
    /// one; all others [`Pool::take`].
    pub fn turns<'a>(&'a self, pending: &'a Pending) -> Turns<'a> {
        let mut later: Vec<_> = pending
            .iter()
            .filter(|(account, _)| self.accounts.contains_key(*account))
            .map(|(account, ahead)| (ahead.height.max(self.order.served(account)), *account))
            .collect();
        later.sort_unstable();
        let later: Vec<_> = later.into_iter().map(|(_, account)| account).collect();
        let first = self.order.iter().map(|(_, account)| *account).filter(|account| !pending.contains_key(account));
        Turns { pool: self, pending, first: Box::new(first), later: later.into_iter(), again: VecDeque::new() }
    }

    /// The transactions of a block: their gas limits and lengths add up to at most these.
    pub fn take(&self, gas: u64, bytes: usize, pending: &Pending) -> Vec<Arc<Examined>> {
        let (mut gas, mut bytes) = (gas, bytes);
        let mut turns = self.turns(pending);
        let mut taken = Vec::new();
        while let Some(tx) = turns.next(gas, bytes) {
            gas = gas.saturating_sub(tx.gas());
            bytes = bytes.saturating_sub(tx.length());
            taken.push(Arc::clone(tx));
        }
        taken
    }
}

impl<'a> Turns<'a> {
    /// The next transaction that fits into what is left.
    pub fn next(&mut self, gas_left: u64, bytes_left: usize) -> Option<&'a Arc<Examined>> {
        if gas_left < GAS_MIN || bytes_left < LENGTH_MIN {
            return None;
        }
        loop {
            let (sender, nonce) = self.turn()?;
            let held = self.pool.accounts.get(&sender).and_then(|account| account.get(nonce));
            let fits = held.filter(|held| held.tx.gas() <= gas_left && held.tx.length() <= bytes_left);
            if let Some(held) = fits {
                self.again.push_back((sender, nonce.saturating_add(1)));
                return Some(&held.tx);
            }
        }
    }

    /// Ends the turns of the account whose transaction was given last: the block does not hold it.
    pub fn stop_last(&mut self) {
        self.again.pop_back();
    }

    fn turn(&mut self) -> Option<(Address, u64)> {
        match self.first.next().or_else(|| self.later.next()) {
            Some(sender) => {
                let own = self.pool.accounts.get(&sender)?.nonce();
                let ahead = self.pending.get(&sender).map_or(0, |ahead| ahead.nonce);
                Some((sender, own.max(ahead)))
            }
            None => self.again.pop_front(),
        }
    }
}
