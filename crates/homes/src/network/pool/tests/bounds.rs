//! P2, R1 and R2: whatever floods in, the bounds hold, and nobody loses his share to another.

use super::{GAS, account, add, small, tx};
use crate::network::pool::limits::OVERHEAD;
use crate::network::pool::{Added, Limits, Pool, Reason, Refusal};
use alloy_primitives::Address;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn weights(pool: &Pool) -> BTreeMap<Address, usize> {
    let weight = |account: &Address| {
        let content = pool.content(account);
        content.pending.iter().chain(&content.queued).map(|tx| tx.weight()).sum()
    };
    pool.accounts().map(|account| (*account, weight(account))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn floods_stay_within_bounds_and_shares_are_kept(
        adds in vec((0_usize..5, 0_u64..6, 0_u8..3, prop_oneof![Just(0), 0_usize..6000]), 1..200),
    ) {
        let limits = Limits { gap: 6, replacements: 2, account: 20_000, pool: 50_000, ..Limits::default() };
        let mut pool = Pool::new(limits.clone());
        for (sender, ahead, salt, size) in adds {
            let nonce = (pool.pending_nonce(&account(sender)).unwrap_or(0) + ahead).saturating_sub(2);
            let tx = tx(sender, nonce, salt, size, GAS);
            let before = weights(&pool);
            let result = add(&mut pool, &tx);
            let after = weights(&pool);
            prop_assert_eq!(pool.status().weight, after.values().sum::<usize>());
            prop_assert!(pool.status().weight <= limits.pool);
            prop_assert!(after.values().all(|weight| *weight <= limits.account));
            let own = before.get(&tx.sender()).copied().unwrap_or(0);
            let accounts = before.len() + usize::from(!before.contains_key(&tx.sender()));
            match result {
                Err(Refusal::Full { .. }) => prop_assert!((own + tx.weight()) * accounts > limits.pool),
                Err(Refusal::AccountFull { .. }) => prop_assert!(own + tx.weight() > limits.account),
                _ => {}
            }
            if result.is_err() {
                prop_assert_eq!(before, after);
                continue;
            }
            for (other, weight) in before.iter().filter(|(other, _)| **other != tx.sender()) {
                let left = after.get(other).copied().unwrap_or(0);
                prop_assert!(left == *weight || weight * accounts > limits.pool, "{other} lost of its share");
            }
        }
    }
}

#[test]
fn the_one_who_floods_gives_way_and_gives_its_highest_nonces() {
    let weight = small(0, 0).weight();
    let mut pool = Pool::new(Limits { pool: 10 * weight, ..Limits::default() });
    (0..10).for_each(|nonce| assert_eq!(add(&mut pool, &small(0, nonce)), Ok(Added::Ready)));
    let full = add(&mut pool, &small(0, 10)).unwrap_err();
    assert_eq!(full, Refusal::Full { sender: account(0), weight: 10 * weight, limit: 10 * weight });
    assert!(full.to_string().starts_with("txpool is full"));
    for nonce in 0..5 {
        assert_eq!(add(&mut pool, &small(1, nonce)), Ok(Added::Ready));
    }
    assert_eq!(pool.pending_nonce(&account(0)), Some(5));
    assert_eq!(pool.dropped(&small(0, 9).hash), Some(&Reason::Full));
    assert!(matches!(add(&mut pool, &small(1, 5)), Err(Refusal::Full { .. })), "both have their half");
    assert_eq!(add(&mut pool, &small(2, 0)), Ok(Added::Ready));
}

#[test]
fn of_two_that_would_have_as_much_the_newcomer_gives() {
    let weight = small(0, 0).weight();
    let mut pool = Pool::new(Limits { pool: 9 * weight, ..Limits::default() });
    (0..5).for_each(|nonce| assert_eq!(add(&mut pool, &small(0, nonce)), Ok(Added::Ready)));
    (0..4).for_each(|nonce| assert_eq!(add(&mut pool, &small(1, nonce)), Ok(Added::Ready)));
    assert!(matches!(add(&mut pool, &small(1, 4)), Err(Refusal::Full { .. })));
    assert_eq!(pool.pending_nonce(&account(0)), Some(5));
}

#[test]
fn a_gap_is_filled_in_a_full_account_from_its_other_end() {
    let weight = small(0, 1).weight();
    let mut pool = Pool::new(Limits { account: 4 * weight, ..Limits::default() });
    (1..5).for_each(|nonce| assert_eq!(add(&mut pool, &small(0, nonce)), Ok(Added::Queued)));
    assert!(matches!(add(&mut pool, &small(0, 5)), Err(Refusal::AccountFull { .. })));
    assert_eq!(add(&mut pool, &small(0, 0)), Ok(Added::Ready));
    assert_eq!((pool.pending_nonce(&account(0)), pool.dropped(&small(0, 4).hash)), (Some(4), Some(&Reason::Full)));
    assert!(weight > OVERHEAD);
}
