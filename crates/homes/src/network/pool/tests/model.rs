//! The whole pool against a model that is a list and looks through all of it each time.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::mem::discriminant;
use std::time::Duration;

use alloy_primitives::{Address, TxHash};
use blockhouse_ledger::TransactionFault;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{GAS, PEER, account, included, tx};
use crate::network::pool::limits::{GOSSIP_PAUSE_MAX, GOSSIP_PAUSE_MIN};
use crate::network::pool::{
    AddError, Added, Ahead, Examined, Limits, Origin, Pending, Pool, Reason, Refusal, Standing,
};

const ACCOUNTS: usize = 5;

#[derive(Debug, Clone)]
struct Entry {
    tx: Examined,
    local: bool,
    replaced: Vec<TxHash>,
    since: Duration,
    due: Duration,
    sent: u32,
}

/// The ledger as the test has it, and the pool as the pages describe it.
struct Model {
    limits: Limits,
    entries: Vec<Entry>,
    nonces: BTreeMap<Address, u64>,
    enrolled: BTreeSet<Address>,
    served: BTreeMap<Address, u64>,
    dropped: BTreeMap<TxHash, Reason>,
    height: u64,
    now: Duration,
}

impl Model {
    fn new(limits: Limits) -> Self {
        let all = (0..ACCOUNTS).map(account);
        Self {
            limits,
            entries: Vec::new(),
            nonces: all.clone().map(|account| (account, 0)).collect(),
            enrolled: all.collect(),
            served: BTreeMap::new(),
            dropped: BTreeMap::new(),
            height: 0,
            now: Duration::ZERO,
        }
    }

    fn find(&self, sender: Address, nonce: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tx.sender == sender && entry.tx.nonce() == nonce)
    }

    fn remove(&mut self, hash: TxHash, reason: Option<Reason>) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.tx.hash == hash)?;
        self.dropped.extend(reason.map(|reason| (hash, reason)));
        Some(self.entries.remove(at))
    }

    fn next(&self, sender: Address) -> u64 {
        (self.nonces[&sender]..u64::MAX).find(|nonce| self.find(sender, *nonce).is_none()).unwrap()
    }

    fn of(&self, sender: Address) -> Vec<&Entry> {
        let mut own: Vec<_> = self.entries.iter().filter(|entry| entry.tx.sender == sender).collect();
        own.sort_by_key(|entry| entry.tx.nonce());
        own
    }

    fn senders(&self) -> BTreeSet<Address> {
        self.entries.iter().map(|entry| entry.tx.sender).collect()
    }

    fn drop_all_of(&mut self, sender: Address) {
        let hashes: Vec<_> = self.of(sender).iter().map(|entry| entry.tx.hash).collect();
        for hash in hashes {
            self.remove(hash, Some(Reason::Revoked { sender }));
        }
    }

    fn add(&mut self, tx: &Examined, local: bool) -> Result<Added, Refusal> {
        let (sender, nonce, hash) = (tx.sender, tx.nonce(), tx.hash);
        let now = self.now;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.tx.hash == hash) {
            if entry.local || !local {
                return Err(Refusal::AlreadyKnown { hash });
            }
            (entry.local, entry.due) = (true, now);
            return Ok(Added::Adopted);
        }
        if !self.enrolled.contains(&sender) {
            self.drop_all_of(sender);
            return Err(Refusal::NotEnrolled { sender });
        }
        let (own, next, gap) = (self.nonces[&sender], self.next(sender), self.limits.gap);
        if nonce < own {
            return Err(Refusal::NonceTooLow { found: nonce, next: own });
        }
        if nonce > next + gap {
            return Err(Refusal::NonceTooHigh { found: nonce, next, gap });
        }
        let older = self.find(sender, nonce).cloned();
        if let Some(older) = &older {
            if older.replaced.contains(&hash) {
                return Err(Refusal::AlreadyReplaced { by: older.tx.hash });
            }
            if older.replaced.len() >= self.limits.replacements {
                return Err(Refusal::Replacements { nonce, limit: self.limits.replacements });
            }
        }
        let going = self.room(tx)?;
        let result = match &older {
            Some(older) => Added::Replaced(older.tx.hash),
            None if nonce <= next => Added::Ready,
            None => Added::Queued,
        };
        for hash in going {
            self.remove(hash, Some(Reason::Full));
        }
        let mut replaced = Vec::new();
        if let Some(older) = older {
            self.remove(older.tx.hash, Some(Reason::Replaced { by: hash }));
            replaced = [older.replaced, vec![older.tx.hash]].concat();
        }
        self.dropped.remove(&hash);
        self.entries.push(Entry { tx: tx.clone(), local, replaced, since: now, due: now, sent: 0 });
        Ok(result)
    }

    /// Who gives way: one after another the highest nonce of the account with most, the newcomer counted.
    fn room(&self, tx: &Examined) -> Result<Vec<TxHash>, Refusal> {
        let older = self.find(tx.sender, tx.nonce()).map(|older| older.tx.hash);
        let mut left: Vec<_> = self.entries.iter().map(|entry| &entry.tx).filter(|tx| Some(tx.hash) != older).collect();
        left.push(tx);
        let weight = |left: &[&Examined], of: Address| -> usize {
            left.iter().filter(|tx| tx.sender == of).map(|tx| tx.weight()).sum()
        };
        let mut going = Vec::new();
        loop {
            let total: usize = left.iter().map(|tx| tx.weight()).sum();
            let own = weight(&left, tx.sender);
            let (giver, refusal) = if own > self.limits.account {
                let limit = self.limits.account;
                (tx.sender, Refusal::AccountFull { sender: tx.sender, weight: own, limit })
            } else if total > self.limits.pool {
                // Of two that have as much, the newcomer gives.
                let most = |sender: &Address| (weight(&left, *sender), *sender == tx.sender, *sender);
                let giver = left.iter().map(|tx| tx.sender).max_by_key(most).unwrap();
                (giver, Refusal::Full { sender: tx.sender, weight: 0, limit: self.limits.pool })
            } else {
                return Ok(going);
            };
            let highest = left.iter().filter(|tx| tx.sender == giver).map(|tx| (tx.nonce(), tx.hash)).max().unwrap();
            if highest.1 == tx.hash {
                return Err(refusal);
            }
            left.retain(|tx| tx.hash != highest.1);
            going.push(highest.1);
        }
    }

    fn on_final(&mut self, block: &[Examined]) {
        self.height += 1;
        for tx in block {
            self.nonces.insert(tx.sender, tx.nonce() + 1);
            self.served.insert(tx.sender, self.height);
            self.dropped.remove(&tx.hash);
            self.remove(tx.hash, None);
        }
        for entry in self.entries.clone() {
            let (nonce, next) = (entry.tx.nonce(), self.nonces[&entry.tx.sender]);
            if nonce < next {
                self.remove(entry.tx.hash, Some(Reason::NonceUsed { nonce, next }));
            }
        }
    }

    fn take(&self, mut gas: u64, mut bytes: usize, pending: &Pending) -> Vec<TxHash> {
        let served = |sender: &Address| self.served.get(sender).copied().unwrap_or(0);
        let turn = |sender: &Address| match pending.get(sender) {
            None => (false, served(sender), *sender),
            Some(ahead) => (true, ahead.height.max(served(sender)), *sender),
        };
        let mut senders: Vec<_> = self.senders().into_iter().collect();
        senders.sort_by_key(turn);
        let nonce = |sender: &Address| self.nonces[sender].max(pending.get(sender).map_or(0, |ahead| ahead.nonce));
        let mut turns: Vec<_> = senders.iter().map(|sender| (*sender, nonce(sender))).collect();
        let mut taken = Vec::new();
        while !turns.is_empty() {
            let mut again = Vec::new();
            for (sender, nonce) in turns {
                let Some(entry) = self.find(sender, nonce) else { continue };
                if entry.tx.gas() <= gas && entry.tx.length <= bytes {
                    gas -= entry.tx.gas();
                    bytes -= entry.tx.length;
                    taken.push(entry.tx.hash);
                    again.push((sender, nonce + 1));
                }
            }
            turns = again;
        }
        taken
    }

    fn expire(&mut self) -> Vec<TxHash> {
        let mut old: Vec<_> =
            self.entries.iter().map(|entry| (entry.since, entry.tx.sender, entry.tx.nonce(), entry.tx.hash)).collect();
        old.sort_unstable();
        old.retain(|(since, ..)| *since + self.limits.expiry <= self.now);
        for (since, .., hash) in &old {
            self.remove(*hash, Some(Reason::Expired { after: self.now.saturating_sub(*since) }));
        }
        old.into_iter().map(|(.., hash)| hash).collect()
    }

    fn due_gossip(&mut self) -> Vec<TxHash> {
        let now = self.now;
        let mut due: Vec<_> = self.entries.iter_mut().filter(|entry| entry.local && entry.due <= now).collect();
        due.sort_by_key(|entry| (entry.due, entry.tx.sender, entry.tx.nonce()));
        let given = due.into_iter().map(|entry| {
            entry.due = now + (GOSSIP_PAUSE_MIN * 2_u32.pow(entry.sent.min(20))).min(GOSSIP_PAUSE_MAX);
            entry.sent += 1;
            entry.tx.hash
        });
        given.collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        sender: usize,
        ahead: u64,
        salt: u8,
        size: usize,
        gas: u64,
        local: bool,
    },
    /// A block of what the pool gives, or of what another node held.
    Final {
        room: u64,
        foreign: Option<usize>,
    },
    Revoke(usize),
    Enrol(usize),
    Reject(usize),
    Pass(u64),
    Take {
        gas: u64,
        bytes: usize,
        pending: Vec<(usize, u64, u64)>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![6 => Just(0_usize), 1 => Just(700), 2 => 0_usize..4000];
    let add = (0..ACCOUNTS, 0_u64..7, 0_u8..4, sizes, 1_u64..4, any::<bool>());
    let add = add.prop_map(|(sender, ahead, salt, size, gas, local)| Step::Add {
        sender,
        ahead,
        salt,
        size,
        gas: gas * GAS,
        local,
    });
    let pending = vec((0..ACCOUNTS, 0_u64..4, 1_u64..3), 0..3);
    let step = prop_oneof![
        20 => add,
        3 => (0_u64..6, proptest::option::of(0..ACCOUNTS)).prop_map(|(room, foreign)| Step::Final { room, foreign }),
        1 => (0..ACCOUNTS).prop_map(Step::Revoke),
        2 => (0..ACCOUNTS).prop_map(Step::Enrol),
        1 => any::<usize>().prop_map(Step::Reject),
        3 => (0_u64..20_000).prop_map(Step::Pass),
        3 => (0..12 * GAS, 0_usize..20_000, pending).prop_map(|(gas, bytes, pending)| Step::Take { gas, bytes, pending }),
    ];
    vec(step, 1..120)
}

/// Pool and model side by side.
struct Pair {
    pool: Pool,
    model: Model,
    seen: BTreeSet<TxHash>,
}

impl Pair {
    fn step(&mut self, step: Step) {
        match step {
            Step::Add { sender, ahead, salt, size, gas, local } => {
                let nonce = (self.model.next(account(sender)) + ahead).saturating_sub(3);
                self.add(&tx(sender, nonce, salt, size, gas), local);
            }
            Step::Final { room, foreign } => {
                let taken = self.pool.take(room * GAS, usize::MAX, &Pending::new());
                let mut block: Vec<_> = taken.iter().map(|tx| Examined::clone(tx)).collect();
                if let Some(sender) = foreign {
                    let last = block.iter().filter(|tx| tx.sender == account(sender)).map(|tx| tx.nonce() + 1).max();
                    block.push(tx(sender, last.unwrap_or(self.model.nonces[&account(sender)]), 99, 0, GAS));
                }
                self.model.on_final(&block);
                self.pool.on_final(self.model.height, &block.iter().map(included).collect::<Vec<_>>());
            }
            Step::Revoke(sender) => {
                self.model.enrolled.remove(&account(sender));
                self.model.drop_all_of(account(sender));
                self.pool.on_revoked(&[account(sender)]);
            }
            Step::Enrol(sender) => {
                self.model.enrolled.insert(account(sender));
                self.model.height += 1;
                self.pool.on_final(self.model.height, &[]);
            }
            Step::Reject(number) if !self.model.entries.is_empty() => {
                let hash = self.model.entries[number % self.model.entries.len()].tx.hash;
                self.model.remove(hash, Some(Reason::Fault(TransactionFault::Value)));
                assert!(self.pool.reject(&hash, TransactionFault::Value));
            }
            Step::Reject(_) => {}
            Step::Pass(milliseconds) => {
                self.model.now += Duration::from_millis(milliseconds);
                assert_eq!(self.pool.expire(self.model.now), self.model.expire());
                let given: Vec<_> = self.pool.due_gossip(self.model.now).iter().map(|tx| tx.hash()).collect();
                assert_eq!(given, self.model.due_gossip());
            }
            Step::Take { gas, bytes, pending } => {
                let ahead = |(sender, more, blocks): (usize, u64, u64)| {
                    let nonce = self.model.nonces[&account(sender)] + more;
                    (account(sender), Ahead { nonce, height: self.model.height + blocks })
                };
                let pending: Pending = pending.into_iter().map(ahead).collect();
                let taken: Vec<_> = self.pool.take(gas, bytes, &pending).iter().map(|tx| tx.hash()).collect();
                assert_eq!(taken, self.model.take(gas, bytes, &pending));
            }
        }
    }

    fn add(&mut self, tx: &Examined, local: bool) {
        self.seen.insert(tx.hash);
        let standing =
            Standing { nonce: self.model.nonces[&tx.sender], enrolled: self.model.enrolled.contains(&tx.sender) };
        let origin = if local { Origin::Local } else { PEER };
        let expected = self.model.add(tx, local);
        match self.pool.add(tx.clone(), origin, self.model.now, |_| Ok::<_, Infallible>(standing)) {
            Ok(added) => assert_eq!(Ok(added), expected),
            Err(AddError::Refused(found)) => {
                let expected = expected.expect_err("the pool refused what the model takes");
                assert_eq!(discriminant(&found), discriminant(&expected), "{found}, and not: {expected}");
            }
            Err(AddError::Standing { source, .. }) => match source {},
        }
    }

    fn compare(&self) {
        let (pool, model) = (&self.pool, &self.model);
        let senders = model.senders();
        assert!(pool.accounts().eq(&senders));
        let mut ready = 0;
        for sender in &senders {
            let content = pool.content(sender);
            let next = model.next(*sender);
            assert_eq!(pool.pending_nonce(sender), Some(next));
            let of = model.of(*sender);
            let (pending, queued): (Vec<_>, Vec<_>) =
                of.iter().map(|entry| &entry.tx).partition(|tx| tx.nonce() < next);
            assert!(content.pending.iter().map(|tx| &**tx).eq(pending.iter().copied()));
            assert!(content.queued.iter().map(|tx| &**tx).eq(queued));
            ready += pending.len();
        }
        let status = pool.status();
        assert_eq!((status.pending, status.queued), (ready, model.entries.len() - ready));
        assert_eq!(status.weight, model.entries.iter().map(|entry| entry.tx.weight()).sum::<usize>());
        for hash in &self.seen {
            assert_eq!(pool.dropped(hash), model.dropped.get(hash));
            assert_eq!(pool.get(hash).is_some(), model.entries.iter().any(|entry| entry.tx.hash == *hash));
        }
        let local: BTreeSet<_> = pool.local().map(|tx| tx.hash()).collect();
        let expected = model.entries.iter().filter(|entry| entry.local).map(|entry| entry.tx.hash);
        assert_eq!(local, expected.collect());
        self.compare_orders();
    }

    /// The orders that are kept say the same as what is held.
    fn compare_orders(&self) {
        let (pool, model) = (&self.pool, &self.model);
        let ages = model.entries.iter().map(|entry| (entry.since, entry.tx.sender, entry.tx.nonce()));
        assert_eq!(pool.by_age, ages.collect());
        let due = model.entries.iter().filter(|entry| entry.local);
        assert_eq!(pool.by_due, due.map(|entry| (entry.due, entry.tx.sender, entry.tx.nonce())).collect());
        let weight = |sender: &Address| model.of(*sender).iter().map(|entry| entry.tx.weight()).sum::<usize>();
        assert_eq!(pool.by_weight, model.senders().iter().map(|sender| (weight(sender), *sender)).collect());
        let waiting: BTreeSet<_> = pool.order.iter().copied().collect();
        let served = |sender: &Address| model.served.get(sender).copied().unwrap_or(0);
        assert_eq!(waiting, model.senders().iter().map(|sender| (served(sender), *sender)).collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_pool_does_what_the_model_does(steps in steps()) {
        let limits = Limits {
            gap: 3,
            replacements: 2,
            account: 9_000,
            pool: 22_000,
            expiry: Duration::from_secs(40),
        };
        let mut pair = Pair { pool: Pool::new(limits.clone()), model: Model::new(limits), seen: BTreeSet::new() };
        for step in steps {
            pair.step(step);
            pair.compare();
        }
    }
}
