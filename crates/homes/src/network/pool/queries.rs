//! What the pool says of itself.

use std::sync::Arc;

use alloy_primitives::{Address, TxHash};

use super::account::Account;
use super::dropped::Reason;
use super::examine::Examined;
use super::memory::{PeerId, PeerRecord};
use super::{Pool, Refusal};

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Transactions that can run.
    pub pending: usize,
    /// Transactions that wait for a nonce before them.
    pub queued: usize,
    /// Accounts with transactions.
    pub accounts: usize,
    /// The weight of all.
    pub weight: usize,
}

/// What waits of one account, by nonce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// What can run.
    pub pending: Vec<Arc<Examined>>,
    /// What waits for a nonce before it.
    pub queued: Vec<Arc<Examined>>,
}

impl Pool {
    /// The nonce for the account's next transaction, if something of it waits; else it is the one of the state.
    pub fn pending_nonce(&self, account: &Address) -> Option<u64> {
        self.accounts.get(account).map(Account::next)
    }

    /// A transaction that waits.
    pub fn get(&self, hash: &TxHash) -> Option<&Arc<Examined>> {
        let place = self.hashes.get(hash)?;
        self.accounts.get(&place.sender)?.get(place.nonce).map(|held| &held.tx)
    }

    /// Why a transaction is gone, if it was dropped and that is still known.
    pub fn dropped(&self, hash: &TxHash) -> Option<&Reason> {
        self.dropped.reason(hash)
    }

    /// How much waits.
    pub fn status(&self) -> Status {
        Status {
            pending: self.ready,
            queued: self.hashes.len().saturating_sub(self.ready),
            accounts: self.accounts.len(),
            weight: self.weight,
        }
    }

    /// The accounts with transactions in the pool, ascending.
    pub fn accounts(&self) -> impl Iterator<Item = &Address> {
        self.accounts.keys()
    }

    /// What waits of an account.
    pub fn content(&self, account: &Address) -> Content {
        let mut content = Content::default();
        let Some(account) = self.accounts.get(account) else { return content };
        for (nonce, held) in account.iter() {
            let list = if nonce < account.next() { &mut content.pending } else { &mut content.queued };
            list.push(Arc::clone(&held.tx));
        }
        content
    }

    /// This node's own transactions, of each account in the order of nonces: what its journal has to keep.
    pub fn local(&self) -> impl Iterator<Item = &Arc<Examined>> {
        let held = self.accounts.values().flat_map(Account::iter);
        held.filter(|(_, held)| held.local).map(|(_, held)| &held.tx)
    }

    /// What a peer sent so far.
    pub fn peer(&self, peer: &PeerId) -> PeerRecord {
        self.peers.record(peer)
    }

    /// The peers that sent something, with counts.
    pub fn peers(&self) -> impl Iterator<Item = (&PeerId, &PeerRecord)> {
        self.peers.all()
    }

    /// Counts what [`super::Rules`] refused of a peer; what [`Pool::add`] refuses is counted there.
    pub fn count_refused(&mut self, peer: PeerId, refusal: &Refusal) {
        self.peers.refused(peer, refusal);
    }
}
