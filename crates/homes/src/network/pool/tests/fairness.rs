//! T1 and T2: no account can keep another from its turn.

use super::{GAS, account, add, at, included, small, tx};
use crate::network::pool::{Ahead, Limits, Origin, Pending, Pool};
use alloy_primitives::Address;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// T1: with room for the next transaction of each account, a block holds one of each, whatever else waits.
    #[test]
    fn a_flood_delays_nobody_while_there_is_room_for_one_of_each(
        waiting in vec((1_u64..40, 1_u64..20), 1..12),
        more in 0_u64..30,
    ) {
        let mut pool = Pool::new(Limits::default());
        for (sender, (count, gas)) in waiting.iter().enumerate() {
            (0..*count).for_each(|nonce| drop(add(&mut pool, &tx(sender, nonce, 0, 0, gas * GAS))));
        }
        let heads: u64 = waiting.iter().map(|(_, gas)| gas * GAS).sum();
        let taken = pool.take(heads + more * GAS, usize::MAX, &Pending::new());
        let first: BTreeSet<_> = taken.iter().take(waiting.len()).map(|tx| tx.sender()).collect();
        prop_assert_eq!(first.len(), waiting.len());
        prop_assert!(taken.iter().map(|tx| tx.gas()).sum::<u64>() <= heads + more * GAS);
    }

    /// T2: with room for r of A accounts each one that waits is served within ⌈A/r⌉ blocks, also while others come and
    /// go, and while blocks are proposed that are never made.
    #[test]
    fn each_account_has_its_turn_within_a_round(
        flood in 50_u64..150,
        room in 1_usize..6,
        arrivals in vec(vec(0_usize..12, 0..4), 1..40),
        lost in vec(any::<bool>(), 40),
    ) {
        const ACCOUNTS: usize = 13;
        let mut pool = Pool::new(Limits::default());
        let (mut next, mut made) = ([0; ACCOUNTS], [0; ACCOUNTS]);
        (0..flood).for_each(|nonce| drop(add(&mut pool, &small(12, nonce))));
        let mut waits: BTreeMap<Address, usize> = BTreeMap::new();
        for (block, (height, arrived)) in (1_u64..).zip(&arrivals).enumerate() {
            for sender in arrived {
                let ask = at(made[*sender]);
                pool.add(small(*sender, next[*sender]), Origin::Local, Duration::ZERO, ask).unwrap();
                next[*sender] += 1;
            }
            if lost[block % lost.len()] {
                drop(pool.take(room as u64 * GAS, usize::MAX, &Pending::new()));
            }
            let waiting: Vec<_> = pool.accounts().copied().collect();
            let taken = pool.take(room as u64 * GAS, usize::MAX, &Pending::new());
            prop_assert!(taken.len() == room || pool.status().pending < room);
            let served: BTreeSet<_> = taken.iter().map(|tx| tx.sender()).collect();
            for sender in waiting {
                let wait = waits.entry(sender).or_default();
                *wait = if served.contains(&sender) { 0 } else { *wait + 1 };
                prop_assert!(*wait < ACCOUNTS.div_ceil(room), "{sender} waits for {wait} blocks");
            }
            pool.on_final(height, &taken.iter().map(|tx| included(tx)).collect::<Vec<_>>());
            for tx in &taken {
                made[(0..ACCOUNTS).find(|sender| account(*sender) == tx.sender()).unwrap()] += 1;
            }
        }
    }

    /// The same while blocks are proposed above others that are not final yet.
    #[test]
    fn turns_go_on_above_pending_blocks(counts in vec(1_u64..6, 1..10), room in 1_usize..4, depth in 1_usize..6) {
        let mut pool = Pool::new(Limits::default());
        for (sender, count) in counts.iter().enumerate() {
            (0..*count).for_each(|nonce| drop(add(&mut pool, &small(sender, nonce))));
        }
        let mut pending = Pending::new();
        let mut seen = BTreeMap::new();
        for height in 1..=depth as u64 {
            for tx in pool.take(room as u64 * GAS, usize::MAX, &pending) {
                let count = seen.entry(tx.sender()).or_insert(0);
                prop_assert_eq!(tx.nonce(), *count, "in order, and none twice");
                *count += 1;
                pending.insert(tx.sender(), Ahead { nonce: tx.nonce() + 1, height });
            }
        }
        let taken: u64 = seen.values().sum();
        prop_assert_eq!(taken, counts.iter().sum::<u64>().min((room * depth) as u64));
        let enough = (room * depth) >= counts.len();
        prop_assert!(!enough || (0..counts.len()).all(|sender| seen.contains_key(&account(sender))));
    }
}
