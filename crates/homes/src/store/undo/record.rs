//! The bytes of an undo record: what the nodes that a block changed were before it.
//!
//! - **Owns** the bytes and their bounds.
//! - **Does not** know where records are kept, or what they are laid over.

use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::state::StateTrie;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};

use super::super::node_key::{NODE_MAX, PATH_MAX, path_of};
use super::BYTES_MAX;

const MAGIC: Magic = *b"BHUR";
const WHAT: &str = "an undo record";

/// A node of the trie of accounts.
const OF_ACCOUNTS: u8 = 0;
/// A node of the slots of the account whose hash follows.
const OF_SLOTS: u8 = 1;
/// A node of the same slots as the one before.
const OF_SAME: u8 = 2;

/// The most nodes of a record: each has three bytes at least.
const NODES_MAX: usize = BYTES_MAX / 3;

/// A node that a block changed: where it stands, and what stood there before, if anything did.
pub(in crate::store) type Before = ((StateTrie, Nibbles), Option<Bytes>);

/// What a block changed, as it was before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoRecord {
    pub(in crate::store) nodes: Vec<Before>,
}

impl UndoRecord {
    /// Reads a row of the store.
    pub(super) fn read(row: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(&Bytes::copy_from_slice(row))
    }

    /// Reads its bytes, which its nodes go on to share; what they hold is judged by whoever reads a state with it.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        decoder.limit("bytes", bytes.len() as u64, BYTES_MAX as u64)?;
        let mut above = None;
        let nodes = decoder.list("nodes", NODES_MAX, |decoder| {
            let place = place(decoder, above)?;
            above = Some(place);
            let node = decoder.bytes("node", NODE_MAX)?;
            Ok((place, (!node.is_empty()).then(|| bytes.slice_ref(node))))
        })?;
        decoder.finish()?;
        Ok(Self { nodes })
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut undoing = Undoing::of(self.nodes.len());
        for ((trie, path), node) in &self.nodes {
            undoing.note(trie, path, node.as_ref().map(AsRef::as_ref));
        }
        undoing.encoder.finish()
    }
}

/// Where the next node stands: behind the one above it.
fn place(decoder: &mut Decoder<'_>, above: Option<(StateTrie, Nibbles)>) -> Result<(StateTrie, Nibbles), DecodeError> {
    let trie = match (decoder.u8()?, above) {
        (OF_ACCOUNTS, _) => StateTrie::Accounts,
        (OF_SLOTS, above) => {
            let trie = StateTrie::Slots(B256::new(decoder.array()?));
            if above.is_some_and(|(last, _)| last == trie) {
                return Err(decoder.not_canonical("an account is named twice"));
            }
            trie
        }
        (OF_SAME, Some((trie @ StateTrie::Slots(_), _))) => trie,
        (kind, _) => return Err(decoder.unknown("kind of node", kind.into())),
    };
    let path = path_of(decoder.bytes("path", PATH_MAX)?);
    let path = path.ok_or_else(|| decoder.not_canonical("a path is not of nibbles"))?;
    if above.is_some_and(|above| above >= (trie, path)) {
        return Err(decoder.not_canonical("its nodes are not in order"));
    }
    Ok((trie, path))
}

/// A record that is made while the nodes are written over, in the order of [`StateChanges`](blockhouse_ledger::state::StateChanges).
pub(in crate::store) struct Undoing {
    encoder: Encoder,
    trie: StateTrie,
}

impl Undoing {
    /// Of so many nodes.
    pub(in crate::store) fn of(nodes: usize) -> Self {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.count(nodes);
        Self { encoder, trie: StateTrie::Accounts }
    }

    /// The next node, and what it was.
    pub(in crate::store) fn note(&mut self, trie: &StateTrie, path: &Nibbles, before: Option<&[u8]>) {
        if self.is_too_long() {
            // A contract with a million slots may be destroyed: that is not undone.
            return;
        }
        match trie {
            StateTrie::Accounts => self.encoder.u8(OF_ACCOUNTS),
            StateTrie::Slots(_) if self.trie == *trie => self.encoder.u8(OF_SAME),
            StateTrie::Slots(account) => self.encoder.u8(OF_SLOTS).raw(account.as_slice()),
        };
        self.trie = *trie;
        self.encoder.count(path.len());
        for nibble in path.iter() {
            self.encoder.u8(nibble);
        }
        // No node is empty.
        self.encoder.bytes(before.unwrap_or_default());
    }

    /// The bytes of the record; none if it is longer than all that are kept.
    pub(in crate::store) fn finish(self) -> Option<Vec<u8>> {
        (!self.is_too_long()).then(|| self.encoder.finish())
    }

    fn is_too_long(&self) -> bool {
        self.encoder.len() > BYTES_MAX
    }
}
