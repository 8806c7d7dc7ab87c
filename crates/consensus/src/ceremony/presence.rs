//! Who is there: what the operator is told while a ceremony waits.

use std::collections::{BTreeMap, BTreeSet};

use commonware_cryptography::ed25519::PublicKey;

use crate::keys::public_bytes;

/// After how many ticks of silence a node counts as absent.
pub(super) const SILENCE: u32 = 20;

/// How a ceremony stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Who is not heard.
    pub absent: Vec<[u8; 32]>,
    /// Who speaks, and of another ceremony: its founding file is another.
    pub strange: Vec<[u8; 32]>,
    /// Whose part of the present attempt is not there yet, its log, its answer or its signature: one that is there and does not follow the
    /// protocol stays here.
    pub awaited: Vec<[u8; 32]>,
    /// Who has not said yet that it has the key.
    pub unfinished: Vec<[u8; 32]>,
    /// True once every participant signed: this node has the key.
    pub complete: bool,
}

/// The others, by when they were heard.
#[derive(Debug)]
pub(super) struct Presence {
    silent: BTreeMap<PublicKey, u32>,
    strange: BTreeSet<PublicKey>,
    finished: BTreeSet<PublicKey>,
}

impl Presence {
    pub(super) fn new(others: impl Iterator<Item = PublicKey>) -> Self {
        let silent = others.map(|key| (key, SILENCE)).collect();
        Self { silent, strange: BTreeSet::new(), finished: BTreeSet::new() }
    }

    pub(super) fn tick(&mut self) {
        self.silent.values_mut().for_each(|ticks| *ticks = ticks.saturating_add(1));
    }

    pub(super) fn hear(&mut self, from: &PublicKey) {
        self.strange.remove(from);
        self.silent.insert(from.clone(), 0);
    }

    pub(super) fn hear_strange(&mut self, from: &PublicKey) {
        self.strange.insert(from.clone());
    }

    pub(super) fn finish(&mut self, from: &PublicKey) {
        self.finished.insert(from.clone());
    }

    pub(super) fn has_finished(&self, key: &PublicKey) -> bool {
        self.finished.contains(key)
    }

    pub(super) fn progress(&self, complete: bool, awaited: Vec<[u8; 32]>) -> Progress {
        let of = |chosen: &dyn Fn(&PublicKey, u32) -> bool| {
            let chosen = self.silent.iter().filter(|(key, ticks)| chosen(key, **ticks));
            chosen.map(|(key, _)| public_bytes(key)).collect()
        };
        Progress {
            absent: of(&|key, ticks| ticks >= SILENCE && !self.strange.contains(key)),
            strange: of(&|key, _| self.strange.contains(key)),
            unfinished: of(&|key, _| !self.finished.contains(key)),
            complete,
            awaited,
        }
    }
}
