//! Whose turn it is: the account that waits longest since a block held one of its transactions comes first.
//!
//! The order follows from the final blocks alone, so all honest nodes that hold the same transactions give the same
//! turns, whoever proposes. Nothing changes when a block is proposed and not made.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

/// The accounts with transactions in the pool, those served longest ago first.
#[derive(Debug)]
pub(super) struct Order {
    max: usize,
    /// The height of the last final block that held a transaction of the account.
    served: BTreeMap<Address, u64>,
    /// The same, by height.
    by_height: BTreeSet<(u64, Address)>,
    /// Of these those that wait. Who is not in `served` has 0.
    waiting: BTreeSet<(u64, Address)>,
}

impl Order {
    pub(super) fn new(max: usize) -> Self {
        Self { max, served: BTreeMap::new(), by_height: BTreeSet::new(), waiting: BTreeSet::new() }
    }

    /// The height at which the account was served, 0 if it is not known.
    pub(super) fn served(&self, account: &Address) -> u64 {
        self.served.get(account).copied().unwrap_or(0)
    }

    /// The account has something in the pool.
    pub(super) fn join(&mut self, account: Address) {
        self.waiting.insert((self.served(&account), account));
    }

    /// The account has nothing in the pool any more. When it was served stays known.
    pub(super) fn leave(&mut self, account: &Address) {
        self.waiting.remove(&(self.served(account), *account));
    }

    /// A final block held a transaction of the account.
    pub(super) fn serve(&mut self, account: Address, height: u64) {
        let before = self.served(&account);
        if height <= before {
            return;
        }
        self.move_to(account, before, height);
        self.served.insert(account, height);
        self.by_height.remove(&(before, account));
        self.by_height.insert((height, account));
        while self.by_height.len() > self.max {
            let Some((height, account)) = self.by_height.pop_first() else { return };
            self.served.remove(&account);
            self.move_to(account, height, 0);
        }
    }

    /// Those that wait, in turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Address)> {
        self.waiting.iter()
    }

    fn move_to(&mut self, account: Address, before: u64, height: u64) {
        if self.waiting.remove(&(before, account)) {
            self.waiting.insert((height, account));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use alloy_primitives::Address;

    #[test]
    fn who_was_served_longest_ago_comes_first_also_when_it_was_away() {
        let [a, b, c] = [1, 2, 3].map(Address::repeat_byte);
        let mut order = Order::new(2);
        let turns = |order: &Order| order.iter().map(|(_, account)| *account).collect::<Vec<_>>();
        for account in [a, b, c] {
            order.join(account);
        }
        assert_eq!(turns(&order), [a, b, c]);
        order.serve(a, 5);
        order.leave(&a);
        order.serve(b, 6);
        assert_eq!(turns(&order), [c, b]);
        order.join(a);
        order.serve(b, 3);
        assert_eq!(turns(&order), [c, a, b], "a came back to its place, and an older block changes nothing");
        order.serve(c, 7);
        assert_eq!(turns(&order), [a, b, c], "a is forgotten, and stands where it stood");
        assert_eq!((order.served(&a), order.served.len(), order.by_height.len()), (0, 2, 2));
    }
}
