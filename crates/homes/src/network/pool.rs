//! Signed transactions that wait for a block.
//!
//! A state machine without clock, thread, socket or file: time comes in as an argument, and what is to be sent goes out
//! as values. [`journal`] keeps what was handed in at this node, apart from it.
//!
//! - **Owns** which transactions wait, which give way when there is no room, whose turn it is, and what to say of one
//!   that is gone.
//! - **Does not** execute, and decides nothing about a block: its validity is checked by the ledger alone.
//!
//! # Invariants
//! - **P1** Of each account and nonce one transaction at most is held, and none with a nonce that is final.
//! - **P2** The weights held are within the bounds of [`Limits`]: of each account and of the pool.
//! - **P3** A transaction that is refused changes nothing but counts and what is remembered of its sender.
//! - **P4** R2 of `room`, T1 to T4 of `turns`: no account can keep another out or away from its turn.
//! - **P5** What a call costs grows with what it adds, gives or drops, and with the logarithm of what is held.
//!
//! Format and promises: `docs/design/mempool.md`.

mod account;
mod dropped;
mod examine;
mod gossip;
pub mod journal;
pub mod limits;
mod memory;
mod order;
mod queries;
mod refusal;
mod room;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, TxHash};
use blockhouse_ledger::TransactionFault;

use account::{Account, Held};
use dropped::Dropped;
use memory::{Peers, Standings};
use order::Order;
use room::Newcomer;

pub use dropped::Reason;
pub use examine::{Examined, Rules};
pub use limits::Limits;
pub use memory::{PeerId, PeerRecord, Standing};
pub use queries::{Content, Status};
pub use refusal::{AddError, Refusal};
pub use turns::{Ahead, Pending, Turns};

/// Where a transaction came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was handed in here: this node sends it to the others until it is final.
    Local,
    /// Another node sent it.
    Peer(PeerId),
}

/// How a transaction was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is new, and every nonce before it is there.
    Ready,
    /// It is new, and waits for a nonce before it.
    Queued,
    /// It took the place of another with its nonce.
    Replaced(TxHash),
    /// A peer had sent it before; now it is also one of this node's own.
    Adopted,
}

/// A transaction in a final block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Included {
    /// Who signed it.
    pub sender: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its hash.
    pub hash: TxHash,
}

/// Which transaction it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    sender: Address,
    nonce: u64,
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    /// Accounts that have something in the pool.
    accounts: BTreeMap<Address, Account>,
    hashes: HashMap<TxHash, Place>,
    /// The same accounts, by weight.
    by_weight: BTreeSet<(usize, Address)>,
    /// All transactions, by age.
    by_age: BTreeSet<(Duration, Address, u64)>,
    /// This node's own ones, by the time at which they are to be sent.
    by_due: BTreeSet<(Duration, Address, u64)>,
    order: Order,
    standings: Standings,
    dropped: Dropped,
    peers: Peers,
    weight: usize,
    ready: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            hashes: HashMap::new(),
            by_weight: BTreeSet::new(),
            by_age: BTreeSet::new(),
            by_due: BTreeSet::new(),
            order: Order::new(limits::SERVED_MAX),
            standings: Standings::default(),
            dropped: Dropped::new(limits::DROPPED_MAX),
            peers: Peers::default(),
            weight: 0,
            ready: 0,
        }
    }

    /// Takes a transaction in. `ask` looks up its sender at the last final block that the pool was told of, or a later
    /// one; it is called once a sender and head. `now` is counted from any moment that stays the same.
    pub fn add<E: std::error::Error + 'static>(
        &mut self,
        tx: Examined,
        origin: Origin,
        now: Duration,
        ask: impl FnOnce(&Address) -> Result<Standing, E>,
    ) -> Result<Added, AddError<E>> {
        let result = self.judge_and_hold(tx, origin, now, ask);
        if let Origin::Peer(peer) = origin {
            match &result {
                Ok(_) => self.peers.added(peer),
                Err(AddError::Refused(refusal)) => self.peers.refused(peer, refusal),
                Err(AddError::Standing { .. }) => {}
            }
        }
        result
    }

    fn judge_and_hold<E: std::error::Error + 'static>(
        &mut self,
        tx: Examined,
        origin: Origin,
        now: Duration,
        ask: impl FnOnce(&Address) -> Result<Standing, E>,
    ) -> Result<Added, AddError<E>> {
        if let Some(place) = self.hashes.get(&tx.hash).copied() {
            return Ok(self.adopt(place, tx.hash, origin, now)?);
        }
        let (sender, nonce) = (tx.sender, tx.nonce());
        let standing = self.standings.get(&sender, ask).map_err(|source| AddError::Standing { sender, source })?;
        if !standing.enrolled {
            self.drop_account(&sender);
            return Err(Refusal::NotEnrolled { sender }.into());
        }
        self.advance(&sender, standing.nonce, &BTreeMap::new());
        let final_nonce = self.accounts.get(&sender).map_or(standing.nonce, Account::nonce);
        self.check_nonce(&sender, nonce, final_nonce)?;
        let older = self.check_replacement(&tx)?;
        let freed = older.as_ref().map_or(0, |older| older.tx.weight());
        for place in self.make_room(Newcomer { sender, nonce, weight: tx.weight(), freed })? {
            self.drop_one(place, Reason::Full);
        }
        let by = tx.hash;
        let mut replaced = Vec::new();
        let mut added = None;
        if let Some(older) = older {
            added = Some(Added::Replaced(older.tx.hash));
            self.drop_one(Place { sender, nonce }, Reason::Replaced { by });
            replaced = older.replaced;
            replaced.push(older.tx.hash);
        }
        let local = origin == Origin::Local;
        let held = Held { tx: Arc::new(tx), local, replaced, since: now, due: now, sent: 0 };
        let next = self.hold(held, final_nonce);
        Ok(added.unwrap_or(if nonce < next { Added::Ready } else { Added::Queued }))
    }

    /// A transaction that waits comes again: it is news only if a peer had sent it, and now it is handed in here.
    fn adopt(&mut self, place: Place, hash: TxHash, origin: Origin, now: Duration) -> Result<Added, Refusal> {
        let held = self.accounts.get_mut(&place.sender).and_then(|account| account.get_mut(place.nonce));
        let held = held.filter(|held| !held.local && origin == Origin::Local);
        let held = held.ok_or(Refusal::AlreadyKnown { hash })?;
        held.local = true;
        held.due = now;
        self.by_due.insert((now, place.sender, place.nonce));
        Ok(Added::Adopted)
    }

    fn check_nonce(&self, sender: &Address, found: u64, final_nonce: u64) -> Result<(), Refusal> {
        let account = self.accounts.get(sender);
        let own = account.map_or(final_nonce, Account::nonce);
        if found < own {
            return Err(Refusal::NonceTooLow { found, next: own });
        }
        let next = account.map_or(final_nonce, Account::next);
        let gap = self.limits.gap;
        if found > next.saturating_add(gap) {
            return Err(Refusal::NonceTooHigh { found, next, gap });
        }
        Ok(())
    }

    /// The transaction whose place this one would take.
    fn check_replacement(&self, tx: &Examined) -> Result<Option<Held>, Refusal> {
        let nonce = tx.nonce();
        let Some(older) = self.accounts.get(&tx.sender).and_then(|account| account.get(nonce)) else {
            return Ok(None);
        };
        // Else whoever saw the older one could undo the replacement.
        if older.replaced.contains(&tx.hash) {
            return Err(Refusal::AlreadyReplaced { by: older.tx.hash });
        }
        let limit = self.limits.replacements;
        if older.replaced.len() >= limit {
            return Err(Refusal::Replacements { nonce, limit });
        }
        Ok(Some(older.clone()))
    }

    /// A block is final. `included` are its transactions; whatever waits with one of their nonces, or a lower one, goes.
    pub fn on_final(&mut self, height: u64, included: &[Included]) {
        self.standings.forget();
        let mut by_sender: BTreeMap<Address, BTreeMap<u64, TxHash>> = BTreeMap::new();
        for Included { sender, nonce, hash } in included {
            by_sender.entry(*sender).or_default().insert(*nonce, *hash);
            self.dropped.forget(hash);
        }
        for (sender, hashes) in by_sender {
            let nonce = hashes.last_key_value().map_or(0, |(nonce, _)| nonce.saturating_add(1));
            self.order.serve(sender, height);
            self.advance(&sender, nonce, &hashes);
        }
    }

    /// These accounts may no longer send.
    pub fn on_revoked(&mut self, senders: &[Address]) {
        for sender in senders {
            self.drop_account(sender);
        }
        self.standings.forget();
    }

    /// No block can hold this transaction, found when one was made. False if it does not wait.
    pub fn reject(&mut self, hash: &TxHash, fault: TransactionFault) -> bool {
        let place = self.hashes.get(hash).copied();
        place.is_some_and(|place| self.drop_one(place, Reason::Fault(fault)))
    }

    /// Drops what waits for too long, at most [`limits::EXPIRED_AT_ONCE`], and says what it was.
    pub fn expire(&mut self, now: Duration) -> Vec<TxHash> {
        let mut expired = Vec::new();
        while let Some((since, sender, nonce)) = self.by_age.first().copied()
            && expired.len() < limits::EXPIRED_AT_ONCE
        {
            let after = now.saturating_sub(since);
            if after < self.limits.expiry {
                break;
            }
            let held = self.accounts.get(&sender).and_then(|account| account.get(nonce));
            expired.extend(held.map(|held| held.tx.hash));
            if !self.drop_one(Place { sender, nonce }, Reason::Expired { after }) {
                break;
            }
        }
        expired
    }

    /// Sets the nonce of an account. What was below it is on the ledger if it is in `included`, else it can never be.
    fn advance(&mut self, sender: &Address, next: u64, included: &BTreeMap<u64, TxHash>) {
        let Some(below) = self.change(sender, |account| account.advance(next)) else { return };
        for held in below {
            self.unlist(sender, &held);
            let (nonce, hash) = (held.tx.nonce(), held.tx.hash);
            if included.get(&nonce) != Some(&hash) {
                self.dropped.note(hash, Reason::NonceUsed { nonce, next });
            }
        }
    }

    /// Drops all of an account that may not send.
    fn drop_account(&mut self, sender: &Address) {
        let nonces = self.accounts.get(sender).into_iter().flat_map(Account::iter);
        let nonces: Vec<_> = nonces.map(|(nonce, _)| nonce).collect();
        for nonce in nonces.into_iter().rev() {
            self.drop_one(Place { sender: *sender, nonce }, Reason::Revoked { sender: *sender });
        }
    }

    fn drop_one(&mut self, place: Place, reason: Reason) -> bool {
        let held = self.change(&place.sender, |account| account.remove(place.nonce)).flatten();
        let Some(held) = held else { return false };
        self.unlist(&place.sender, &held);
        self.dropped.note(held.tx.hash, reason);
        true
    }

    /// Holds a transaction whose place is free; gives the account's next missing nonce.
    fn hold(&mut self, held: Held, final_nonce: u64) -> u64 {
        let (hash, sender, nonce) = (held.tx.hash, held.tx.sender, held.tx.nonce());
        self.dropped.forget(&hash);
        self.hashes.insert(hash, Place { sender, nonce });
        self.by_age.insert((held.since, sender, nonce));
        if held.local {
            self.by_due.insert((held.due, sender, nonce));
        }
        if let Entry::Vacant(vacant) = self.accounts.entry(sender) {
            vacant.insert(Account::at(final_nonce));
            self.by_weight.insert((0, sender));
            self.order.join(sender);
        }
        let next = self.change(&sender, |account| {
            account.insert(held);
            account.next()
        });
        next.unwrap_or(final_nonce)
    }

    fn unlist(&mut self, sender: &Address, held: &Held) {
        let nonce = held.tx.nonce();
        self.hashes.remove(&held.tx.hash);
        self.by_age.remove(&(held.since, *sender, nonce));
        if held.local {
            self.by_due.remove(&(held.due, *sender, nonce));
        }
    }

    /// Changes an account, and with it the sums and orders that follow from all accounts.
    fn change<T>(&mut self, sender: &Address, change: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let account = self.accounts.get_mut(sender)?;
        let (weight, (ready, _)) = (account.weight(), account.counts());
        let result = change(account);
        self.weight = self.weight.saturating_sub(weight).saturating_add(account.weight());
        self.ready = self.ready.saturating_sub(ready).saturating_add(account.counts().0);
        let (now, empty) = (account.weight(), account.is_empty());
        if now != weight || empty {
            self.by_weight.remove(&(weight, *sender));
        }
        if empty {
            self.accounts.remove(sender);
            self.order.leave(sender);
        } else if now != weight {
            self.by_weight.insert((now, *sender));
        }
        Some(result)
    }
}
