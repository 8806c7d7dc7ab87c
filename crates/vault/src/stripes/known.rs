//! What reads learned of shards: their verified prefixes, and that some are nowhere.
//!
//! A prefix was checked against the stripe id, so it is right for the shard wherever its payload is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockhouse_pipeline::shard::{ShardName, ShardPrefix};
use blockhouse_types::{Code, StripeId};
use tokio::sync::{Mutex as Queue, MutexGuard as Turn};

/// The bytes of hashes that are kept: prefixes of some 500 shards of 16 MiB packs.
const KNOWN_BYTES: usize = 8 * 1024 * 1024;
/// What an entry costs beside its hashes.
const ENTRY_BYTES: usize = 512;
/// Turns at reading prefixes: two shards that fall on one turn wait for each other, which costs time only.
const TURNS: usize = 64;

#[derive(Debug, Clone)]
pub(super) enum Fact {
    Prefix(Arc<ShardPrefix>),
    /// No readable site has it.
    Absent,
}

/// Facts by shard; those that were not used for longest go first.
#[derive(Debug)]
pub(super) struct Known {
    facts: Mutex<Facts>,
    turns: [Queue<()>; TURNS],
}

impl Default for Known {
    fn default() -> Self {
        Self { facts: Mutex::default(), turns: std::array::from_fn(|_| Queue::default()) }
    }
}

#[derive(Debug, Default)]
struct Facts {
    by_shard: HashMap<ShardName, (Fact, u64)>,
    by_use: BTreeMap<u64, ShardName>,
    clock: u64,
    bytes: usize,
}

impl Known {
    pub(super) fn get(&self, shard: ShardName) -> Option<Fact> {
        let mut facts = self.lock();
        let (fact, _) = facts.take(shard)?;
        facts.put(shard, fact.clone());
        Some(fact)
    }

    pub(super) fn prefix(&self, shard: ShardName) -> Option<Arc<ShardPrefix>> {
        match self.get(shard)? {
            Fact::Prefix(prefix) => Some(prefix),
            Fact::Absent => None,
        }
    }

    /// Waits until nobody else reads the prefix of this shard at this site. Turns of different sites differ, so a slow one holds up none beside
    /// it where there are few.
    pub(super) async fn turn(&self, shard: ShardName, member: usize) -> Turn<'_, ()> {
        let within = shard.stripe.as_bytes().first().copied().unwrap_or_default().wrapping_add(shard.index.0) % 8;
        let place = usize::from(within) + member * 8;
        self.turns.get(place % TURNS).expect("a remainder is below the number of turns").lock().await
    }

    pub(super) fn note(&self, shard: ShardName, fact: Fact) {
        let mut facts = self.lock();
        facts.take(shard);
        facts.put(shard, fact);
        while facts.bytes > KNOWN_BYTES {
            let Some(oldest) = facts.by_use.values().next().copied() else { break };
            facts.take(oldest);
        }
    }

    pub(super) fn forget(&self, shard: ShardName) {
        self.lock().take(shard);
    }

    /// Forgets what is known of the shards of a stripe.
    pub(super) fn forget_all(&self, stripe: StripeId, code: Code) {
        for index in code.indices() {
            self.forget(ShardName { stripe, index });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn take(&mut self, shard: ShardName) -> Option<(Fact, u64)> {
        let (fact, used) = self.by_shard.remove(&shard)?;
        self.by_use.remove(&used);
        self.bytes -= size(&fact);
        Some((fact, used))
    }

    fn put(&mut self, shard: ShardName, fact: Fact) {
        self.clock += 1;
        self.bytes += size(&fact);
        self.by_use.insert(self.clock, shard);
        self.by_shard.insert(shard, (fact, self.clock));
    }
}

fn size(fact: &Fact) -> usize {
    match fact {
        Fact::Prefix(prefix) => ENTRY_BYTES + 32 * (prefix.leaves().len() + prefix.header().roots.len()),
        Fact::Absent => ENTRY_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::ShardIndex;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let known = Known::default();
        let name = |n: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            ShardName { stripe: StripeId::new(id), index: ShardIndex(0) }
        };
        let fit = u32::try_from(KNOWN_BYTES / ENTRY_BYTES).unwrap();
        for n in 0..fit {
            known.note(name(n), Fact::Absent);
        }
        assert!(known.get(name(0)).is_some());
        known.note(name(fit), Fact::Absent);
        assert!(known.get(name(0)).is_some() && known.get(name(1)).is_none());
        known.forget(name(0));
        assert!(known.get(name(0)).is_none());
        let facts = known.lock();
        assert_eq!((facts.by_shard.len(), facts.by_use.len()), (fit as usize - 1, fit as usize - 1));
    }
}
