//! Tests of the pool: its rules one by one, and all of it against a slow and obvious model.

mod bounds;
mod fairness;
mod model;
mod rules;

use std::convert::Infallible;
use std::time::Duration;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, Bytes, Signature, TxHash, TxKind, U256};
use alloy_rlp::Encodable;
use blockhouse_ledger::TransactionFault;

use super::limits::{EXPIRED_AT_ONCE, GOSSIP_BYTES_MAX, GOSSIP_COUNT_MAX, GOSSIP_PAUSE_MIN};
use super::{AddError, Added, Examined, Included, Limits, Origin, Pending, Pool, Reason, Refusal, Standing, Status};

/// What a transaction of these tests offers if nothing else is said.
const GAS: u64 = 100_000;
const PEER: Origin = Origin::Peer([7; 32]);

/// The account of a number.
fn account(number: usize) -> Address {
    Address::from_word(U256::from(number + 1).into())
}

/// A transaction that looks examined: nothing in the pool reads signatures.
fn tx(sender: usize, nonce: u64, salt: u8, size: usize, gas: u64) -> Examined {
    let mut input = vec![salt; size + 1];
    input.extend_from_slice(account(sender).as_slice());
    let inner = TxEip1559 {
        chain_id: 1,
        nonce,
        gas_limit: gas,
        to: TxKind::Call(Address::ZERO),
        input: Bytes::from(input),
        ..TxEip1559::default()
    };
    let tx: TxEnvelope = inner.into_signed(Signature::test_signature()).into();
    Examined { hash: *tx.tx_hash(), sender: account(sender), length: tx.length(), tx }
}

fn small(sender: usize, nonce: u64) -> Examined {
    tx(sender, nonce, 0, 0, GAS)
}

fn at(nonce: u64) -> impl Fn(&Address) -> Result<Standing, Infallible> {
    move |_| Ok(Standing { nonce, enrolled: true })
}

/// Adds a transaction of an account that has sent none yet.
fn add(pool: &mut Pool, tx: &Examined) -> Result<Added, Refusal> {
    add_from(pool, tx, Origin::Local, Duration::ZERO)
}

fn add_from(pool: &mut Pool, tx: &Examined, origin: Origin, now: Duration) -> Result<Added, Refusal> {
    pool.add(tx.clone(), origin, now, at(0)).map_err(|error| match error {
        AddError::Refused(refusal) => refusal,
        AddError::Standing { source, .. } => match source {},
    })
}

fn included(tx: &Examined) -> Included {
    Included { sender: tx.sender, nonce: tx.nonce(), hash: tx.hash }
}

fn taken(pool: &Pool, gas: u64) -> Vec<(Address, u64)> {
    let taken = pool.take(gas, usize::MAX, &Pending::new());
    taken.iter().map(|tx| (tx.sender(), tx.nonce())).collect()
}

fn status(pool: &Pool) -> (usize, usize) {
    let Status { pending, queued, .. } = pool.status();
    (pending, queued)
}

#[test]
fn nonces_are_held_in_order_and_gaps_wait() {
    let mut pool = Pool::new(Limits { gap: 2, ..Limits::default() });
    assert_eq!(add(&mut pool, &small(0, 0)), Ok(Added::Ready));
    assert_eq!(add(&mut pool, &small(0, 3)), Ok(Added::Queued));
    assert_eq!(add(&mut pool, &small(0, 4)), Err(Refusal::NonceTooHigh { found: 4, next: 1, gap: 2 }));
    assert_eq!((status(&pool), pool.pending_nonce(&account(0))), ((1, 1), Some(1)));
    assert_eq!(add(&mut pool, &small(0, 2)), Ok(Added::Queued));
    assert_eq!(add(&mut pool, &small(0, 1)), Ok(Added::Ready));
    assert_eq!((status(&pool), pool.pending_nonce(&account(0))), ((4, 0), Some(4)));
    assert_eq!(taken(&pool, 3 * GAS), [0, 1, 2].map(|nonce| (account(0), nonce)));
    pool.on_final(1, &[included(&small(0, 0)), included(&small(0, 1))]);
    let low = pool.add(small(0, 1), PEER, Duration::ZERO, at(2));
    assert_eq!(low, Err(Refusal::NonceTooLow { found: 1, next: 2 }.into()));
    assert_eq!(pool.dropped(&small(0, 1).hash), None, "what is on the ledger was not dropped");
    let text = Refusal::NonceTooLow { found: 1, next: 2 }.to_string();
    assert_eq!(text, "nonce too low: next nonce 2, tx nonce 1");
}

#[test]
fn the_later_one_of_a_nonce_wins_a_few_times_and_cannot_be_undone() {
    let mut pool = Pool::new(Limits { replacements: 2, ..Limits::default() });
    let [a, b, c, d] = [0, 1, 2, 3].map(|salt| tx(0, 0, salt, 0, GAS));
    assert_eq!(add(&mut pool, &a), Ok(Added::Ready));
    assert_eq!(add(&mut pool, &a), Err(Refusal::AlreadyKnown { hash: a.hash }));
    assert_eq!(add(&mut pool, &b), Ok(Added::Replaced(a.hash)));
    assert_eq!(add(&mut pool, &a), Err(Refusal::AlreadyReplaced { by: b.hash }));
    assert_eq!(pool.dropped(&a.hash), Some(&Reason::Replaced { by: b.hash }));
    assert_eq!(add(&mut pool, &c), Ok(Added::Replaced(b.hash)));
    assert_eq!(add(&mut pool, &d), Err(Refusal::Replacements { nonce: 0, limit: 2 }));
    assert_eq!((pool.get(&c.hash).map(|tx| tx.hash()), pool.status().pending), (Some(c.hash), 1));
    // The first one was in a proposed block, which is now final.
    pool.on_final(1, &[included(&a)]);
    assert_eq!(pool.dropped(&c.hash), Some(&Reason::NonceUsed { nonce: 0, next: 1 }));
    assert_eq!((pool.dropped(&a.hash), pool.status()), (None, Status::default()));
}

#[test]
fn a_transaction_of_a_peer_becomes_an_own_one_when_it_is_handed_in() {
    let mut pool = Pool::new(Limits::default());
    let known = Refusal::AlreadyKnown { hash: small(0, 0).hash };
    assert_eq!(add_from(&mut pool, &small(0, 0), PEER, Duration::ZERO), Ok(Added::Ready));
    assert_eq!(add_from(&mut pool, &small(0, 0), PEER, Duration::ZERO), Err(known.clone()));
    assert_eq!((pool.due_gossip(Duration::MAX).len(), pool.local().count()), (0, 0));
    assert_eq!(add(&mut pool, &small(0, 0)), Ok(Added::Adopted));
    assert_eq!((pool.due_gossip(Duration::ZERO).len(), pool.local().count()), (1, 1));
    assert_eq!(add(&mut pool, &small(0, 0)), Err(known));
}

#[test]
fn gossip_is_bounded_per_call_and_comes_again_later_and_later() {
    let mut pool = Pool::new(Limits::default());
    let count = GOSSIP_COUNT_MAX + 10;
    (0..count).for_each(|number| assert_eq!(add(&mut pool, &small(number, 0)), Ok(Added::Ready)));
    let now = Duration::from_secs(1);
    assert_eq!([now; 3].map(|now| pool.due_gossip(now).len()), [GOSSIP_COUNT_MAX, 10, 0]);
    assert_eq!(pool.next_gossip(), Some(now + GOSSIP_PAUSE_MIN));
    let again = now + GOSSIP_PAUSE_MIN;
    assert_eq!([again; 3].map(|now| pool.due_gossip(now).len()), [GOSSIP_COUNT_MAX, 10, 0]);
    assert_eq!(pool.next_gossip(), Some(again + 2 * GOSSIP_PAUSE_MIN));

    let mut pool = Pool::new(Limits::default());
    let large = 100 * 1024;
    (0..20).for_each(|number| assert_eq!(add(&mut pool, &tx(number, 0, 0, large, GAS)), Ok(Added::Ready)));
    let given = pool.due_gossip(now);
    assert_eq!(given.len(), GOSSIP_BYTES_MAX / given[0].length());
}

#[test]
fn what_is_never_in_a_block_expires() {
    let mut pool = Pool::new(Limits { expiry: Duration::from_secs(10), ..Limits::default() });
    let count = EXPIRED_AT_ONCE + 1;
    (0..count).for_each(|number| assert_eq!(add(&mut pool, &small(number, 0)), Ok(Added::Ready)));
    assert_eq!(pool.expire(Duration::from_secs(9)).len(), 0);
    assert_eq!([10; 3].map(|now| pool.expire(Duration::from_secs(now)).len()), [EXPIRED_AT_ONCE, 1, 0]);
    let reason = pool.dropped(&small(3, 0).hash).map(ToString::to_string);
    assert_eq!(reason.as_deref(), Some("dropped: it was not in a block 10 s after it came"));
    assert_eq!(add(&mut pool, &small(3, 0)), Ok(Added::Ready), "it may come again");
    assert_eq!(pool.dropped(&small(3, 0).hash), None);
}

#[test]
fn who_is_not_enrolled_cannot_send_and_who_was_loses_what_waits() {
    let mut pool = Pool::new(Limits::default());
    let stranger = |_: &Address| Ok::<_, Infallible>(Standing { nonce: 0, enrolled: false });
    let refused = Err(Refusal::NotEnrolled { sender: account(0) }.into());
    assert_eq!(pool.add(small(0, 0), PEER, Duration::ZERO, stranger), refused);
    // Remembered until the next head: it is not asked again.
    assert_eq!(pool.add(small(0, 0), PEER, Duration::ZERO, at(0)), refused);
    assert_eq!((pool.peer(&[7; 32]).strangers, pool.peer(&[7; 32]).invalid), (2, 0));
    pool.on_final(1, &[]);
    assert_eq!(add(&mut pool, &small(0, 0)), Ok(Added::Ready));
    assert_eq!(add(&mut pool, &small(0, 2)), Ok(Added::Queued));
    pool.on_revoked(&[account(0), account(1)]);
    assert_eq!((pool.status(), taken(&pool, u64::MAX)), (Status::default(), Vec::new()));
    assert_eq!(pool.dropped(&small(0, 2).hash), Some(&Reason::Revoked { sender: account(0) }));
    // Found when a transaction comes, not told.
    assert_eq!(add(&mut pool, &small(1, 0)), Ok(Added::Ready));
    pool.on_final(2, &[]);
    let refused = Err(Refusal::NotEnrolled { sender: account(1) }.into());
    assert_eq!(pool.add(small(1, 1), PEER, Duration::ZERO, stranger), refused);
    assert_eq!(pool.dropped(&small(1, 0).hash), Some(&Reason::Revoked { sender: account(1) }));
}

#[test]
fn a_state_that_cannot_be_read_decides_nothing() {
    let mut pool = Pool::new(Limits::default());
    let failed = pool.add(small(0, 0), PEER, Duration::ZERO, |_| Err(std::fmt::Error));
    assert_eq!(failed, Err(AddError::Standing { sender: account(0), source: std::fmt::Error }));
    assert_eq!(add(&mut pool, &small(0, 0)), Ok(Added::Ready));
}

#[test]
fn what_no_block_can_hold_is_dropped_and_said() {
    let mut pool = Pool::new(Limits::default());
    (0..3).for_each(|nonce| drop(add(&mut pool, &small(0, nonce))));
    let fault = TransactionFault::Invalid { reason: "it is a test".to_owned() };
    assert!(pool.reject(&small(0, 1).hash, fault.clone()));
    assert!(!pool.reject(&small(0, 1).hash, fault.clone()));
    assert_eq!(pool.dropped(&small(0, 1).hash), Some(&Reason::Fault(fault)));
    assert_eq!((status(&pool), taken(&pool, u64::MAX)), ((1, 1), vec![(account(0), 0)]));
}

#[test]
fn a_transaction_of_pending_blocks_is_not_taken_again() {
    let mut pool = Pool::new(Limits::default());
    (0..2).for_each(|sender| (0..3).for_each(|nonce| drop(add(&mut pool, &small(sender, nonce)))));
    let pending = Pending::from([(account(0), super::Ahead { nonce: 2, height: 5 })]);
    let taken = pool.take(u64::MAX, usize::MAX, &pending);
    let taken: Vec<_> = taken.iter().map(|tx| (tx.sender(), tx.nonce())).collect();
    // Who is in a pending block comes behind who is in none.
    assert_eq!(taken, [(1, 0), (0, 2), (1, 1), (1, 2)].map(|(sender, nonce)| (account(sender), nonce)));
    // A nonce that only the pending block has.
    pool.reject(&small(1, 1).hash, TransactionFault::Value);
    let pending = Pending::from([(account(1), super::Ahead { nonce: 2, height: 5 })]);
    let taken = pool.take(u64::MAX, usize::MAX, &pending);
    assert!(taken.iter().any(|tx| (tx.sender(), tx.nonce()) == (account(1), 2)));
}

#[test]
fn a_block_goes_on_without_the_account_that_does_not_fit() {
    let mut pool = Pool::new(Limits::default());
    for tx in [tx(0, 0, 0, 0, 9 * GAS), small(0, 1), small(1, 0), small(1, 1)] {
        assert!(add(&mut pool, &tx).is_ok());
    }
    assert_eq!(taken(&pool, 3 * GAS), [(account(1), 0), (account(1), 1)]);
    let pending = Pending::new();
    let mut turns = pool.turns(&pending);
    let first = turns.next(u64::MAX, usize::MAX).map(|tx| tx.sender());
    assert_eq!(first, Some(account(0)));
    turns.stop_last();
    let rest: Vec<_> = std::iter::from_fn(|| turns.next(u64::MAX, usize::MAX)).map(|tx| tx.sender()).collect();
    assert_eq!(rest, [account(1); 2]);
}

#[test]
fn a_hundred_thousand_transactions_wait_and_all_get_their_turn() {
    const ACCOUNTS: usize = 250;
    const EACH: u64 = 400;
    let mut pool = Pool::new(Limits::default());
    for nonce in 0..EACH {
        (0..ACCOUNTS).for_each(|sender| assert_eq!(add(&mut pool, &small(sender, nonce)), Ok(Added::Ready)));
    }
    assert_eq!(pool.status().pending, 100_000);
    let mut height = 0;
    let mut gone: Vec<TxHash> = Vec::new();
    while pool.status().accounts > 0 {
        height += 1;
        let taken = pool.take(1000 * GAS, usize::MAX, &Pending::new());
        pool.on_final(height, &taken.iter().map(|tx| included(tx)).collect::<Vec<_>>());
        gone.extend(taken.iter().map(|tx| tx.hash()));
    }
    assert_eq!((gone.len(), height, pool.status()), (100_000, 100, Status::default()));
}
