//! Who gives way when there is no room.
//!
//! # Invariants
//! - **R1** A transaction that is refused for lack of room changes nothing: the plan is made before anything is dropped.
//! - **R2** Whoever gives way has more than the pool's bound divided by the accounts that have something in it, the
//!   newcomer counted: an account at or below this *fair share* loses nothing, and is not refused, because of others.
//! - **R3** An account gives its highest nonces first.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use super::account::Account;
use super::refusal::Refusal;
use super::{Place, Pool};

/// A transaction that asks for room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    pub(super) sender: Address,
    pub(super) nonce: u64,
    pub(super) weight: usize,
    /// The weight of the one whose place it takes.
    pub(super) freed: usize,
}

/// Nonces and weights of an account, highest nonce first.
type Tail<'a> = Box<dyn Iterator<Item = (u64, usize)> + 'a>;

/// An account that gives way: what it would have left, and the nonces that are left of it.
struct Giver<'a> {
    weight: usize,
    tail: Tail<'a>,
}

impl Giver<'_> {
    fn give(&mut self) -> Option<(u64, usize)> {
        let (nonce, weight) = self.tail.next()?;
        self.weight = self.weight.saturating_sub(weight);
        Some((nonce, weight))
    }
}

impl Pool {
    /// What must go so that the newcomer fits, or why it does not. An account that gives way is looked at once for
    /// each transaction that goes, and these are at most as heavy as the newcomer and one more.
    pub(super) fn make_room(&self, newcomer: Newcomer) -> Result<Vec<Place>, Refusal> {
        let Newcomer { sender, nonce, weight, freed } = newcomer;
        let held = self.accounts.get(&sender).map_or(0, Account::weight);
        let mut own =
            Giver { weight: held.saturating_sub(freed).saturating_add(weight), tail: self.tail(&sender, Some(nonce)) };
        let mut total = self.weight.saturating_sub(freed).saturating_add(weight);
        let mut going = Vec::new();
        while own.weight > self.limits.account {
            let full = Refusal::AccountFull { sender, weight: own.weight, limit: self.limits.account };
            let (nonce, weight) = own.give().ok_or(full)?;
            total = total.saturating_sub(weight);
            going.push(Place { sender, nonce });
        }
        let mut others = BTreeMap::new();
        while total > self.limits.pool {
            let heaviest = self.heaviest_but(&sender, &mut others).filter(|(_, giver)| giver.weight > own.weight);
            let (sender, given) = match heaviest {
                Some((other, giver)) => (other, giver.give()),
                None => (sender, own.give()),
            };
            let full = || Refusal::Full { sender: newcomer.sender, weight: self.weight, limit: self.limits.pool };
            let (nonce, weight) = given.ok_or_else(full)?;
            total = total.saturating_sub(weight);
            going.push(Place { sender, nonce });
        }
        Ok(going)
    }

    /// What an account has above a nonce, or all of it.
    fn tail(&self, sender: &Address, above: Option<u64>) -> Tail<'_> {
        let held = self.accounts.get(sender).into_iter().flat_map(|account| account.iter().rev());
        let held = held.take_while(move |(nonce, _)| above.is_none_or(|above| *nonce > above));
        Box::new(held.map(|(nonce, held)| (nonce, held.tx.weight())))
    }

    /// The account beside `sender` that has most, after what `others` have given.
    fn heaviest_but<'p, 'o>(
        &'p self,
        sender: &Address,
        others: &'o mut BTreeMap<Address, Giver<'p>>,
    ) -> Option<(Address, &'o mut Giver<'p>)> {
        let mut untouched = self.by_weight.iter().rev();
        let next = untouched.find(|(_, account)| account != sender && !others.contains_key(account));
        if let Some((weight, account)) = next
            && others.values().all(|giver| giver.weight <= *weight)
        {
            others.insert(*account, Giver { weight: *weight, tail: self.tail(account, None) });
        }
        others.iter_mut().max_by_key(|(_, giver)| giver.weight).map(|(account, giver)| (*account, giver))
    }
}
