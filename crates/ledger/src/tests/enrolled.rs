//! Who may send, asked again and again: what was kept of an answer is what `Access` would say.

use alloy_primitives::{Address, B256, Bytes};
use alloy_trie::Nibbles;

use super::world::{World, address, secret};
use crate::contracts::Access;
use crate::recall::Recall;
use crate::rules::{ACCESS_CODES, is_enrolled};
use crate::state::{MemoryState, StateNodes, StateTrie};

/// A state, and what was found right before.
struct Recalled<'a>(&'a MemoryState, &'a Recall);

impl StateNodes for Recalled<'_> {
    type Error = std::convert::Infallible;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, Self::Error> {
        self.0.node(trie, path)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, Self::Error> {
        self.0.code(hash)
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, Self::Error> {
        self.0.block_hash(height)
    }

    fn recall(&self) -> Option<&Recall> {
        Some(self.1)
    }
}

/// What is said with what was kept, which must be what is said without it, the first time and again.
fn says(world: &World, recall: &Recall, who: &Address) -> bool {
    let (genesis, head, nodes) = (world.genesis(), world.replay.head(), world.replay.nodes());
    let asked = is_enrolled(genesis, head, nodes, who).unwrap();
    for _ in 0..2 {
        assert_eq!(is_enrolled(genesis, head, &Recalled(nodes, recall), who).unwrap(), asked);
    }
    asked
}

#[test]
fn answers_are_kept_of_the_code_that_is_deployed() {
    let world = World::new();
    let record = world.replay.state().account(&world.genesis().access_address()).unwrap().unwrap();
    assert_eq!(Some(&record.code_hash), ACCESS_CODES.last());
}

#[test]
fn an_answer_ends_with_what_decided_it() {
    let mut world = World::begin(0x1_2345_6789);
    let recall = Recall::default();
    let (owner, writer) = (address(world.owner.account()), address(world.writer.account()));
    assert!(says(&world, &recall, &owner));
    assert!(!says(&world, &recall, &writer));
    world.deploy();
    assert!(says(&world, &recall, &owner));
    assert!(!says(&world, &recall, &writer));
    let enrol =
        Access::enrolWriterCall { who: writer, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
    let enrol = world.to_access(&secret(1), enrol);
    world.seal(enrol);
    assert!(says(&world, &recall, &writer));
    world.commit(B256::repeat_byte(1), B256::repeat_byte(2));
    assert!(says(&world, &recall, &writer));
    let revoke = world.to_access(&secret(1), Access::revokeWriterCall { who: writer });
    world.seal(revoke);
    assert!(!says(&world, &recall, &writer));
    assert!(says(&world, &recall, &owner));
}
