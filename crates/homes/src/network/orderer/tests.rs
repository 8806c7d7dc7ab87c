//! What a node proposes and votes for, by a clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::TxKind;
use futures::future::BoxFuture;
use futures::poll;
use tokio::sync::Notify;

use super::*;
use crate::network::chain::tests::World;
use crate::network::pool::journal::Journal;

#[derive(Clone)]
struct TestClock {
    now: Arc<AtomicU64>,
    moved: Arc<Notify>,
}

impl TestClock {
    fn at(millis: u64) -> Self {
        Self { now: Arc::new(AtomicU64::new(millis)), moved: Arc::default() }
    }

    fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
        self.moved.notify_waiters();
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (clock, end) = (self.clone(), self.now() + millis(time));
        Box::pin(async move {
            loop {
                let moved = clock.moved.notified();
                if clock.now() >= end {
                    return;
                }
                moved.await;
            }
        })
    }
}

struct Node {
    world: World,
    clock: TestClock,
    waiting: Arc<Waiting>,
    orderer: Orderer,
}

impl Node {
    /// A node whose clock stands at the time of block 0.
    fn new() -> Self {
        let world = World::new();
        let chain = Arc::new(world.chain("node"));
        let (journal, recovered) = Journal::open(&world.folder.path().join("pool")).unwrap();
        let waiting = Arc::new(Waiting::open(Arc::clone(&chain), journal, &recovered));
        let clock = TestClock::at(world.genesis.time * 1000);
        let orderer = Orderer::new(chain, Arc::clone(&waiting), Arc::new(clock.clone()));
        Self { world, clock, waiting, orderer }
    }

    fn block_at(&self, millis: u64) -> Arc<Block> {
        let time = BlockTime::of_millis(self.world.genesis.time * 1000 + millis);
        Arc::new(self.orderer.chain.propose(&[], &[], time).unwrap().executed.block.clone())
    }
}

/// O2.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_proposes_when_the_last_block_is_a_heartbeat_old() {
    let node = Node::new();
    let mut proposal = Box::pin(node.orderer.propose(Vec::new()));
    assert!(poll!(&mut proposal).is_pending());
    node.clock.pass(millis(HEARTBEAT) - 1);
    assert!(poll!(&mut proposal).is_pending());
    node.clock.pass(1);
    let block = proposal.await.expect("a heartbeat is due");
    assert!(block.body.transactions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_in_is_proposed_at_once_and_leaves_the_pool_when_final() {
    let node = Node::new();
    node.clock.pass(millis(PACE));
    let mut proposal = Box::pin(node.orderer.propose(Vec::new()));
    assert!(poll!(&mut proposal).is_pending());
    let tx = node.world.sign(0, TxKind::Create, vec![0]);
    let hash = node.waiting.submit(&tx.encoded_2718()).await.unwrap();
    let block = Arc::new(proposal.await.unwrap());
    assert_eq!(block.body.transactions, [tx]);
    // It stands in a pending block: no second one is made of it.
    let mut next = Box::pin(node.orderer.propose(vec![Arc::clone(&block)]));
    assert!(poll!(&mut next).is_pending());
    drop(next);
    let heights = node.orderer.heights();
    node.orderer.finalize(block, node.world.certificate()).await.unwrap();
    assert_eq!((*heights.borrow(), node.orderer.standing().height), (1, 1));
    assert!(node.waiting.pool().get(&hash).is_none());
}

/// O5.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_soon_after_a_block_shares_the_next_one() {
    let node = Node::new();
    let txs = [0, 1].map(|nonce| node.world.sign(nonce, TxKind::Create, vec![0]));
    node.waiting.submit(&txs[0].encoded_2718()).await.unwrap();
    let mut proposal = Box::pin(node.orderer.propose(Vec::new()));
    assert!(poll!(&mut proposal).is_pending());
    node.clock.pass(millis(PACE) - 1);
    assert!(poll!(&mut proposal).is_pending());
    node.waiting.submit(&txs[1].encoded_2718()).await.unwrap();
    node.clock.pass(1);
    assert_eq!(proposal.await.unwrap().body.transactions, txs);
}

/// O1: a fast clock of the leader costs it its turn, and makes nothing invalid.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_future_is_waited_for() {
    let node = Node::new();
    let block = node.block_at(10_000);
    let mut vote = Box::pin(node.orderer.verify(Vec::new(), block));
    assert!(poll!(&mut vote).is_pending());
    node.clock.pass(10_000 - millis(AHEAD_MAX) - 1);
    assert!(poll!(&mut vote).is_pending());
    node.clock.pass(1);
    assert!(vote.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_block_is_refused_and_a_final_one_is_not() {
    let node = Node::new();
    let block = node.block_at(1);
    let mut wrong = (*block).clone();
    wrong.header.gas_used += 1;
    assert!(!node.orderer.verify(Vec::new(), Arc::new(wrong)).await);
    node.orderer.finalize(Arc::clone(&block), node.world.certificate()).await.unwrap();
    assert!(node.orderer.verify(Vec::new(), block).await, "it is final already");
}

/// O4: nothing comes of what it waited for, and nothing is written to what is to be healed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_while_it_waits_proposes_and_records_nothing() {
    let node = Node::new();
    let block = node.block_at(1);
    let mut proposal = Box::pin(node.orderer.propose(Vec::new()));
    assert!(poll!(&mut proposal).is_pending());
    node.orderer.fail("the disk".to_owned());
    node.clock.pass(millis(HEARTBEAT));
    assert!(proposal.await.is_none());
    let stop = node.orderer.finalize(block, node.world.certificate()).await.unwrap_err();
    assert_eq!((stop.reason.as_str(), node.orderer.standing().height), ("the disk", 0));
    assert!(!node.orderer.is_unrecorded());
}

/// Y2: what it would say stands on a store that is not sound.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_failed_says_nothing() {
    let node = Node::new();
    let block = node.block_at(1);
    node.orderer.fail("the disk".to_owned());
    node.orderer.fail("something later".to_owned());
    assert_eq!(node.orderer.failure().borrow().as_deref(), Some("the disk"));
    node.clock.pass(millis(HEARTBEAT));
    assert!(node.orderer.propose(Vec::new()).await.is_none());
    let mut vote = Box::pin(node.orderer.verify(Vec::new(), block));
    assert!(poll!(&mut vote).is_pending());
    node.clock.pass(millis(HEARTBEAT) * 3);
    assert!(poll!(&mut vote).is_pending());
}
