//! Where a node of a trie stands in the file.
//!
//! `0 │ path` for nodes of the trie of accounts, `1 │ keccak256 of the address │ path` for those of an account's slots. A path is one byte a nibble,
//! so that nodes stand in the order of a walk.

use alloy_primitives::B256;
use alloy_trie::Nibbles;
use blockhouse_ledger::state::StateTrie;

/// The greatest length of a node: a branch has 532 bytes, a leaf some 110.
pub(super) const NODE_MAX: usize = 1024;
/// The nibbles of the longest path.
pub(super) const PATH_MAX: usize = 64;

const OF_ACCOUNTS: u8 = 0;
const OF_SLOTS: u8 = 1;

/// The key of the node of that trie at that path.
pub(super) fn node_key(trie: &StateTrie, path: &Nibbles) -> Vec<u8> {
    let mut key = match trie {
        StateTrie::Accounts => vec![OF_ACCOUNTS],
        StateTrie::Slots(account) => [&[OF_SLOTS], account.as_slice()].concat(),
    };
    key.extend(path.iter());
    key
}

/// Where a node stands that has this key, if one can.
pub(super) fn place_of(key: &[u8]) -> Option<(StateTrie, Nibbles)> {
    let (trie, path) = match key.split_first()? {
        (&OF_ACCOUNTS, path) => (StateTrie::Accounts, path),
        (&OF_SLOTS, rest) => {
            let (account, path) = rest.split_first_chunk::<32>()?;
            (StateTrie::Slots(B256::from(*account)), path)
        }
        _ => return None,
    };
    Some((trie, path_of(path)?))
}

/// A path that is written one byte a nibble.
pub(super) fn path_of(nibbles: &[u8]) -> Option<Nibbles> {
    let is_path = nibbles.len() <= PATH_MAX && nibbles.iter().all(|nibble| *nibble < 16);
    is_path.then(|| Nibbles::from_nibbles(nibbles))
}
