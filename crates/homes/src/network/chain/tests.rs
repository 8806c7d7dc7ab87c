//! Chains of nodes that share one genesis: what one makes the others take, and nothing else.

use alloy_consensus::TxEnvelope;
use alloy_primitives::{Bytes, TxKind};
use blockhouse_consensus::Keys;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::execute::build;
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::handover::Handover;
use blockhouse_ledger::{Genesis, Request};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::memory::EXECUTED_MAX;
use super::*;
use crate::network::{Founding, Signing};
use crate::store::Access;

/// A ledger that nobody has written to, and its owner.
pub(in crate::network) struct World {
    pub(in crate::network) folder: tempfile::TempDir,
    pub(in crate::network) genesis: Genesis,
    pub(in crate::network) owner: AccountSecret,
    key: [u8; 32],
}

impl World {
    pub(in crate::network) fn new() -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let owner = AccountSecret::try_new(&Secret::new([1; 32])).unwrap();
        let validators = vec![Keys::generate(&mut random)];
        let founding = Founding {
            owner: owner.account(),
            time: 1_700_000_000,
            signing: Signing::Committee,
            validators,
            governed: None,
        };
        let file = founding.found(&mut random).unwrap().file;
        let folder = tempfile::tempdir().unwrap();
        Self { folder, key: file.network.key(), genesis: file.genesis, owner }
    }

    /// A node's chain, as it was left.
    pub(in crate::network) fn chain(&self, name: &str) -> Chain {
        let path = self.folder.path().join(name);
        if !path.exists() {
            Store::create(&path, &self.genesis, &self.certificate()).unwrap();
        }
        let store = Store::open(&path, Access::Write, std::time::Duration::ZERO, None).unwrap();
        Chain::open(store, self.key).unwrap()
    }

    /// Who vouches for a block is not the chain's question.
    pub(in crate::network) fn certificate(&self) -> Certificate {
        Certificate::Genesis { key: self.key }
    }

    pub(in crate::network) fn sign(&self, nonce: u64, to: TxKind, input: impl Into<Bytes>) -> TxEnvelope {
        let (chain_id, input) = (self.genesis.chain_id, input.into());
        Request { chain_id, nonce, to, input, gas: DEPLOYMENT_GAS }.sign(&self.owner)
    }

    fn deployments(&self) -> Vec<TxEnvelope> {
        let inputs = self.genesis.deployments(0);
        (0..).zip(inputs).map(|(nonce, input)| self.sign(nonce, TxKind::Create, input)).collect()
    }

    fn time(&self, seconds: u64) -> BlockTime {
        BlockTime::of_seconds(self.genesis.time + seconds)
    }

    fn propose(&self, chain: &Chain, pending: &[Arc<Block>], txs: &[TxEnvelope], seconds: u64) -> Arc<Block> {
        let proposal = chain.propose(pending, txs, self.time(seconds)).unwrap();
        assert!(proposal.refused.is_empty(), "{:?}", proposal.refused);
        Arc::new(proposal.executed.block.clone())
    }
}

#[test]
fn what_one_node_makes_the_others_take_before_any_of_it_is_final() {
    let world = World::new();
    let (leader, other) = (world.chain("leader"), world.chain("other"));
    let first = world.propose(&leader, &[], &world.deployments(), 1);
    let second = world.propose(&leader, &[Arc::clone(&first)], &[], 2);
    let third = world.propose(&leader, &[Arc::clone(&first), Arc::clone(&second)], &[], 3);
    // Nothing that the other has executed helps it: only what is pending is given.
    other.execute(&[Arc::clone(&first), Arc::clone(&second)], &third).unwrap();
    for chain in [&leader, &other] {
        for block in [&first, &second, &third] {
            assert!(chain.finalize(block, &world.certificate()).unwrap().is_some());
        }
    }
    let heads = [&leader, &other].map(|chain| (chain.head().height(), chain.head().head().hash()));
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[0].0, 3);
    // What became final meanwhile may still be given as pending.
    let fourth = world.propose(&leader, &[second, third], &[], 4);
    other.execute(&[], &fourth).unwrap();
}

/// C1: a kill loses what was not final, and nothing else.
#[test]
fn what_is_not_final_is_lost_with_the_process() {
    let world = World::new();
    let chain = world.chain("node");
    let first = world.propose(&chain, &[], &world.deployments(), 1);
    chain.finalize(&first, &world.certificate()).unwrap();
    world.propose(&chain, &[], &[], 2);
    let before = chain.head().head().hash();
    drop(chain);
    let chain = world.chain("node");
    assert_eq!((chain.head().height(), chain.head().head().hash()), (1, before));
    world.propose(&chain, &[], &[], 9);
}

/// C1: what the engine brought is on the disk after the next sync; what came another way at once, with all before it.
#[test]
fn a_kill_takes_back_what_was_not_synced() {
    let world = World::new();
    let chain = world.chain("node");
    let killed = |name: &str| {
        // Closing the file itself would make all of it durable.
        std::fs::copy(world.folder.path().join("node"), world.folder.path().join(name)).unwrap();
        world.chain(name).head().height()
    };
    let first = world.propose(&chain, &[], &world.deployments(), 1);
    chain.finalize(&first, &world.certificate()).unwrap();
    assert_eq!((chain.head().height(), killed("before")), (1, 0));
    chain.sync().unwrap();
    assert_eq!((chain.head().height(), killed("after")), (1, 1));
    let second = world.propose(&chain, &[], &[], 2);
    chain.finalize(&second, &world.certificate()).unwrap();
    let third = world.propose(&chain, &[], &[], 3);
    chain.record(&third, &world.certificate(), Store::append).unwrap();
    assert_eq!((chain.head().height(), killed("at once")), (3, 3));
}

/// C2.
#[test]
fn a_final_block_is_taken_once_and_stands() {
    let world = World::new();
    let (chain, other) = (world.chain("node"), world.chain("other"));
    let first = world.propose(&chain, &[], &[], 1);
    let second = world.propose(&chain, &[Arc::clone(&first)], &[], 2);
    let early = chain.finalize(&second, &world.certificate());
    assert!(matches!(early, Err(ChainError::Unknown { height: 2 })), "{early:?}");
    assert!(chain.finalize(&first, &world.certificate()).unwrap().is_some());
    assert!(chain.finalize(&first, &world.certificate()).unwrap().is_none(), "it was given again after a kill");
    let rival = world.propose(&other, &[], &[], 7);
    let fork = chain.finalize(&rival, &world.certificate());
    assert!(matches!(fork, Err(ChainError::Fork { height: 1, .. })), "{fork:?}");
    assert_eq!(chain.head().height(), 1);
}

/// C3: a recovery account alone does not take the ledger from the network.
#[test]
fn a_handover_to_another_key_is_no_block_of_this_network() {
    let world = World::new();
    let chain = world.chain("node");
    let first = world.propose(&chain, &[], &world.deployments(), 1);
    chain.finalize(&first, &world.certificate()).unwrap();
    let call = Handover { next_key: [9; 32], parent: chain.head().head().hash(), approvals: Vec::new() };
    let handover = world.sign(3, TxKind::Call(world.genesis.access_address()), call.input());
    let proposal = chain.propose(&[], std::slice::from_ref(&handover), world.time(2)).unwrap();
    assert_eq!(proposal.refused, [(*handover.tx_hash(), TransactionFault::Handover)]);
    let store = chain.head();
    let made = build(&world.genesis, store.head().header(), &store, vec![handover], world.time(2)).unwrap();
    assert!(made.handover.is_some(), "by the ledger's own rules it is one");
    let error = chain.execute(&[], &made.block).unwrap_err();
    assert!(matches!(error, ChainError::Key { height: 2, .. }) && error.is_verdict(), "{error:?}");
}

#[test]
fn an_altered_block_is_refused_by_its_own_fault() {
    let world = World::new();
    let (leader, other) = (world.chain("leader"), world.chain("other"));
    let mut block = (*world.propose(&leader, &[], &world.deployments(), 1)).clone();
    block.header.state_root = B256::repeat_byte(1);
    let error = other.execute(&[], &block).unwrap_err();
    assert!(error.is_verdict(), "{error:?}");
    block.header.number = 5;
    let error = other.execute(&[], &block).unwrap_err();
    assert!(matches!(error, ChainError::Unknown { height: 5 }) && !error.is_verdict(), "{error:?}");
}

/// What is dropped is executed again.
#[test]
fn many_proposals_that_never_become_final_take_no_memory() {
    let world = World::new();
    let chain = world.chain("node");
    let blocks: Vec<_> = (1..=2 * EXECUTED_MAX as u64).map(|at| world.propose(&chain, &[], &[], at)).collect();
    assert_eq!(lock(&chain.executed).blocks.len(), EXECUTED_MAX);
    assert!(chain.finalize(&blocks[0], &world.certificate()).unwrap().is_some());
    assert!(lock(&chain.executed).blocks.is_empty(), "none of them is above the head any more");
}
