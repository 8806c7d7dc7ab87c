//! Values kept within a budget, the one used last for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Keeps values whose weights sum to no more than a budget. One that is heavier than the budget is kept alone: whoever needs it once
/// needs it again at once.
#[derive(Debug)]
pub(crate) struct ByteCache<K, V> {
    budget: usize,
    held: usize,
    values: HashMap<K, Held<V>>,
    /// The keys by when they were used last.
    order: BTreeMap<u64, K>,
    clock: u64,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> ByteCache<K, V> {
    /// Nothing, and room for `budget`.
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, held: 0, values: HashMap::new(), order: BTreeMap::new(), clock: 0 }
    }

    /// The value of a key, which counts as used now.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.clock += 1;
        let held = self.values.get_mut(key)?;
        self.order.remove(&held.used);
        held.used = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(held.value.clone())
    }

    /// Keeps a value; what was used longest ago makes room.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        while self.held + weight > self.budget {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(gone) = self.values.remove(&oldest) {
                self.held -= gone.weight;
            }
        }
        self.clock += 1;
        self.held += weight;
        self.order.insert(self.clock, key.clone());
        self.values.insert(key, Held { value, weight, used: self.clock });
    }

    fn remove(&mut self, key: &K) {
        if let Some(gone) = self.values.remove(key) {
            self.order.remove(&gone.used);
            self.held -= gone.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut cache = ByteCache::new(10);
        cache.insert('a', 1, 4);
        cache.insert('b', 2, 4);
        assert_eq!(cache.get(&'a'), Some(1));
        cache.insert('c', 3, 4);
        assert_eq!([cache.get(&'a'), cache.get(&'b'), cache.get(&'c')], [Some(1), None, Some(3)]);
        cache.insert('a', 4, 6);
        assert_eq!((cache.get(&'a'), cache.held), (Some(4), 10));
        cache.insert('d', 5, 100);
        assert_eq!((cache.get(&'d'), cache.held, cache.values.len()), (Some(5), 100, 1));
        cache.insert('e', 6, 1);
        assert_eq!((cache.get(&'d'), cache.held, cache.order.len()), (None, 1, 1));
    }
}
