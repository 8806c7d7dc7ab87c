//! What the contents of the last copied snapshots became, so that what did not change is not read again.
//!
//! - **Owns** the map from contents of one vault to contents of the other, and its bound.
//! - **Does not** outlive the run: it holds chunk keys.
//!
//! # Invariants
//! - **Y1** Contents are found again only in the domain they were copied for.
//! - **Y2** What is held is what the snapshot before needed and what the one that is copied now needs, each within a budget.

use std::collections::HashMap;

use blockhouse_crypto::{Secret, hash};
use blockhouse_pipeline::content::Content;
use blockhouse_types::limits::MIB;
use blockhouse_types::{ChunkId, Encoder};

/// How much one snapshot's contents may take; what is beyond is read again.
const BUDGET: usize = 64 * MIB;
/// What an extent takes in memory, about.
const EXTENT_WEIGHT: usize = 96;

/// What some contents became.
#[derive(Debug, Clone)]
pub(super) struct Became {
    /// The contents, in the same order.
    pub(super) contents: Vec<Content>,
    /// Every chunk that they need.
    pub(super) chunks: Vec<ChunkId>,
}

/// What was copied so far.
#[derive(Debug, Default)]
pub struct CopyMemory {
    domain: Option<Secret>,
    before: HashMap<[u8; 32], Became>,
    now: HashMap<[u8; 32], Became>,
    weight: usize,
}

impl CopyMemory {
    /// The next snapshot is copied, for this domain.
    pub(super) fn begin(&mut self, id_subkey: &Secret) {
        self.before = std::mem::take(&mut self.now);
        self.weight = 0;
        if self.domain.as_ref() != Some(id_subkey) {
            self.before.clear();
            self.domain = Some(id_subkey.clone());
        }
    }

    /// What these contents became, if that is known. Content says which bytes it is: its references are ids and keys of chunks.
    pub(super) fn find(&mut self, key: &[u8; 32]) -> Option<Became> {
        if let Some(became) = self.now.get(key) {
            return Some(became.clone());
        }
        let became = self.before.remove(key)?;
        self.keep(*key, became.clone());
        Some(became)
    }

    /// Remembers what contents became, while there is room.
    pub(super) fn keep(&mut self, key: [u8; 32], became: Became) {
        let extents = became.contents.iter().map(|content| 64 + content.inline_extents().len() * EXTENT_WEIGHT);
        let weight = 128 + extents.sum::<usize>() + became.chunks.len() * ChunkId::LEN;
        if self.weight + weight <= BUDGET {
            self.weight += weight;
            self.now.insert(key, became);
        }
    }
}

/// What contents are known by, together and in this order.
pub(super) fn key_of<'a>(contents: impl IntoIterator<Item = &'a Content>) -> [u8; 32] {
    let mut encoder = Encoder::new();
    for content in contents {
        content.encode(&mut encoder);
    }
    hash::content(encoder.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn became() -> Became {
        Became { contents: vec![Content::empty()], chunks: vec![ChunkId::new([1; 32])] }
    }

    #[test]
    fn what_two_snapshots_did_not_need_is_forgotten_and_another_domain_finds_nothing() {
        let (one, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let mut memory = CopyMemory::default();
        memory.begin(&one);
        memory.keep([1; 32], became());
        memory.keep([2; 32], became());
        memory.begin(&one);
        assert!(memory.find(&[1; 32]).is_some() && memory.find(&[1; 32]).is_some());
        memory.begin(&one);
        assert!(memory.find(&[1; 32]).is_some() && memory.find(&[2; 32]).is_none());
        memory.begin(&other);
        assert!(memory.find(&[1; 32]).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = CopyMemory::default();
        memory.begin(&Secret::new([1; 32]));
        for number in 0..100_u8 {
            memory.keep([number; 32], Became { contents: Vec::new(), chunks: vec![ChunkId::new([0; 32]); MIB / 32] });
        }
        assert!((50..64).contains(&memory.now.len()), "{}", memory.now.len());
    }
}
