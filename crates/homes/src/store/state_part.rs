//! Parts of a state, as one node gives them to another.
//!
//! - **Owns** how a state is cut into parts, their bytes, and the check of each against the state root.
//! - **Does not** send or keep them.
//!
//! A part is what [`check_from`] reads from a place on: the nodes of the tries on the way, and code. Who takes it walks the same way, with the
//! part in the place of a store: a node counts because the one above it names its hash, and that one because of its own parent, up to the
//! root in the header of a certified block. So a part is checked alone, when it arrives, in the memory that it takes.
//!
//! # Invariants
//! - **Q1** What is taken from a part was named, by its hash, from the state root down. Whatever else it holds is left out.
//! - **Q2** Parts that were taken one after the other, from the beginning until none is next, are the whole state.
//!
//! Format: `docs/design/node.md`, section *State sync*.

use std::cell::RefCell;
use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::Nibbles;
use blockhouse_ledger::state::{StateChanges, StateError, StateNodes, StatePlace, StateTrie, check_from};
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};

use super::node_key::{NODE_MAX, PATH_MAX, path_of};
use super::{Store, StoreError};
use crate::chain::chain;

const MAGIC: Magic = *b"BHSP";
const WHAT: &str = "a part of a state";
/// How many accounts and slots are read in a step. Both sides take the same steps: it belongs to the format.
const STEP: usize = 64;
/// After a step with which a part has so many bytes, it ends. A step adds some 100 KiB, or the code of [`STEP`] contracts.
const PART_BYTES: usize = 512 * 1024;
/// The most nodes of a part: each has some 30 bytes at least.
const NODES_MAX: usize = 64 * 1024;
/// The most code of a part.
const CODES_MAX: usize = 4096;
/// The greatest length of code: above what the EVM lets a contract have.
const CODE_MAX: usize = 64 * 1024;

/// A part of the state of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatePart {
    nodes: BTreeMap<(StateTrie, Nibbles), Bytes>,
    codes: BTreeMap<B256, Bytes>,
    next: Option<StatePlace>,
}

/// Why a part is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// Who gave it lied, or is damaged.
    #[error("it is not of the state: {why}")]
    Strange { why: String },
    /// The own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StatePart {
    /// Reads the part of a store's state that begins at that place.
    pub fn read(store: &Store, from: StatePlace) -> Result<Self, StoreError> {
        Self::read_some(store, from, PART_BYTES)
    }

    /// The same with another length.
    pub(crate) fn read_some(store: &Store, from: StatePlace, enough: usize) -> Result<Self, StoreError> {
        let reading = Reading { store, seen: RefCell::default(), bytes: RefCell::default() };
        let root = store.head().header().state_root;
        let mut next = Some(from);
        while let Some(place) = next {
            next = check_from(root, &reading, place, STEP).map_err(|error| store.of_state(error))?;
            if *reading.bytes.borrow() >= enough {
                break;
            }
        }
        Ok(Self { next, ..reading.seen.into_inner() })
    }

    /// Where the next part begins; none after the last one.
    pub const fn next(&self) -> Option<StatePlace> {
        self.next
    }

    /// Checks it against the state root, and gives what is to be kept of it (Q1). `before` holds the parts before it.
    pub(crate) fn take(&self, root: B256, from: StatePlace, before: &Store) -> Result<StateChanges, PartError> {
        let taking = Taking { part: self, before, taken: RefCell::default() };
        let strange = |why: String| PartError::Strange { why };
        let mut place = from;
        loop {
            let reached = check_from(root, &taking, place, STEP).map_err(|error| match error {
                StateError::View(error) => PartError::Store(error),
                other => strange(chain(&other)),
            })?;
            match (reached, self.next) {
                (reached, end) if reached == end => return Ok(taking.taken.into_inner()),
                (Some(reached), end) if end.is_none_or(|end| reached < end) => place = reached,
                _ => return Err(strange("it ends at a place where no part ends".to_owned())),
            }
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.list(self.nodes.iter(), |encoder, ((trie, path), node)| {
            let account = match trie {
                StateTrie::Accounts => None,
                StateTrie::Slots(account) => Some(account),
            };
            encoder.option(account, |encoder, account| {
                encoder.raw(account.as_slice());
            });
            encoder.bytes(&path.to_vec()).bytes(node);
        });
        encoder.list(self.codes.values(), |encoder, code| {
            encoder.bytes(code);
        });
        encoder.option(self.next, |encoder, next| {
            encoder.raw(next.account.as_slice()).raw(next.slot.as_slice());
        });
        encoder.finish()
    }

    /// Reads its bytes; what they hold is judged by whoever takes it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let mut nodes = BTreeMap::new();
        for (place, node) in decoder.list("nodes", NODES_MAX, node)? {
            if nodes.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return Err(decoder.not_canonical("its nodes are not in order"));
            }
            nodes.insert(place, node);
        }
        let codes = decoder.list("codes", CODES_MAX, |decoder| {
            let code = Bytes::copy_from_slice(decoder.bytes("code", CODE_MAX)?);
            Ok((keccak256(&code), code))
        })?;
        if !codes.is_sorted_by(|(one, _), (two, _)| one < two) {
            return Err(decoder.not_canonical("its codes are not in order"));
        }
        let next = decoder.option(|decoder| {
            Ok(StatePlace { account: B256::new(decoder.array()?), slot: B256::new(decoder.array()?) })
        })?;
        decoder.finish()?;
        Ok(Self { nodes, codes: codes.into_iter().collect(), next })
    }
}

fn node(decoder: &mut Decoder<'_>) -> Result<((StateTrie, Nibbles), Bytes), DecodeError> {
    let account = decoder.option(|decoder| Ok(B256::new(decoder.array()?)))?;
    let path = path_of(decoder.bytes("path", PATH_MAX)?);
    let path = path.ok_or_else(|| decoder.not_canonical("a path is not of nibbles"))?;
    let trie = account.map_or(StateTrie::Accounts, StateTrie::Slots);
    let place = (trie, path);
    Ok((place, Bytes::copy_from_slice(decoder.bytes("node", NODE_MAX)?)))
}

/// A store that is read, and what was read of it.
struct Reading<'a> {
    store: &'a Store,
    seen: RefCell<StatePart>,
    bytes: RefCell<usize>,
}

impl StateNodes for Reading<'_> {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        if let Some(node) = self.seen.borrow().nodes.get(&(*trie, *path)) {
            return Ok(Some(node.clone()));
        }
        let node = self.store.node(trie, path)?;
        if let Some(node) = &node {
            *self.bytes.borrow_mut() += node.len() + path.len();
            self.seen.borrow_mut().nodes.insert((*trie, *path), node.clone());
        }
        Ok(node)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        let code = self.store.code(hash)?;
        if let Some(code) = &code
            && self.seen.borrow_mut().codes.insert(*hash, code.clone()).is_none()
        {
            *self.bytes.borrow_mut() += code.len();
        }
        Ok(code)
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        self.store.hash_at(height)
    }
}

/// A part above what was taken before, and what is taken of it.
struct Taking<'a> {
    part: &'a StatePart,
    before: &'a Store,
    taken: RefCell<StateChanges>,
}

impl StateNodes for Taking<'_> {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        let place = (*trie, *path);
        let Some(node) = self.part.nodes.get(&place) else { return self.before.node(trie, path) };
        self.taken.borrow_mut().nodes.insert(place, Some(node.clone()));
        Ok(Some(node.clone()))
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        let Some(code) = self.part.codes.get(hash) else { return self.before.code(hash) };
        self.taken.borrow_mut().codes.insert(*hash, code.clone());
        Ok(Some(code.clone()))
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        self.before.hash_at(height)
    }
}
