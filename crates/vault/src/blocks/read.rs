//! The chains that the block files at a site form.
//!
//! - **Owns** which file continues which chain: all files of a height are tried; the ledger's rules and the key in force decide.
//! - **Does not** choose among sites, nor say what is done with a fork: [`strongest`] only compares.
//!
//! # Invariants
//! - **B3** A file that continues no chain hides none that does, whatever its name says.
//! - **B4** A chain is verified from block 0, or from a block that this host verified before.
//!
//! Format: `docs/design/ledger.md`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::{
    Authority, BlockObject, Call, CallOutcome, Genesis, Replay, ReplayError, TrustRoot, call, compare,
};
use blockhouse_sites::{ObjectKey, Site};
use blockhouse_types::{BagHash, BlockHash, Fingerprint};

use super::{BlocksError, FOLDER, heights_near};
use crate::folder::Config;
use crate::ledger::account;

/// How many chains of one site are followed. Only who holds a ledger key can make more than one, and a fork has few.
const CHAINS_MAX: usize = 64;

/// A verified chain.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    replay: Replay,
    /// The ledger keys that were in force, the first one first.
    keys: Vec<[u8; 32]>,
    /// The blocks that were read, in order.
    blocks: Vec<Arc<BlockObject>>,
}

impl Chain {
    /// Begins with block 0.
    fn begin(object: BlockObject) -> Result<Self, ReplayError> {
        let replay = Replay::begin(&object)?;
        Ok(Self { blocks: vec![Arc::new(object)], ..Self::above(replay) })
    }

    /// What follows a chain that is here already.
    pub(crate) fn above(replay: Replay) -> Self {
        Self { keys: vec![replay.authority().ledger_key()], replay, blocks: Vec::new() }
    }

    /// The key in force, the handovers so far and the last block.
    pub(crate) const fn authority(&self) -> &Authority {
        self.replay.authority()
    }

    /// The vault's fingerprint after the last block.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.authority().fingerprint(self.replay.genesis())
    }

    /// True if the vault had that fingerprint after some block of the chain.
    pub(crate) fn has_had(&self, fingerprint: Fingerprint) -> bool {
        self.keys.iter().any(|key| TrustRoot::new(self.replay.genesis(), *key).fingerprint() == fingerprint)
    }

    /// The blocks that were read.
    pub(crate) fn blocks(&self) -> &[Arc<BlockObject>] {
        &self.blocks
    }

    /// The same, to be imported.
    pub(crate) fn into_objects(self) -> impl Iterator<Item = BlockObject> + Send + 'static {
        self.blocks.into_iter().map(Arc::unwrap_or_clone)
    }

    /// The key bag that the ledger names after the last block; none before the first.
    pub(crate) fn bag(&self) -> Option<(u32, BagHash)> {
        let version = self.ask(&Vault::bagVersionCall {}).filter(|version| *version > 0)?;
        Some((version, BagHash::new(self.ask(&Vault::bagHashCall {})?.0)))
    }

    fn ask<C: SolCall>(&self, question: &C) -> Option<C::Return> {
        let (genesis, head) = (self.replay.genesis(), self.replay.head());
        let read = Call::read(Address::ZERO, genesis.vault_address(), question.abi_encode());
        let CallOutcome::Returned(output) = call(genesis, head, self.replay.state(), &read).ok()?.outcome else {
            return None;
        };
        C::abi_decode_returns(&output).ok()
    }

    /// What is cheap to see: the block names the last one as its parent, and somebody who may be in force certified it.
    fn fits(&self, object: &BlockObject) -> bool {
        let parent = B256::new(self.authority().hash().to_bytes());
        object.block.header.parent_hash == parent
            && self.authority().expects(&object.block, &object.certificate).is_ok()
    }

    /// Takes the block if it is valid here.
    fn take(&mut self, object: &Arc<BlockObject>) -> bool {
        let Ok(executed) = self.replay.extend(object) else { return false };
        self.keys.extend(executed.handover);
        self.blocks.push(Arc::clone(object));
        true
    }

    /// The chains that this one grows into; itself, as an error, if no candidate continues it.
    fn grow(mut self, candidates: &[Arc<BlockObject>]) -> Result<Vec<Self>, Box<Self>> {
        let fitting: Vec<_> = candidates.iter().filter(|object| self.fits(object)).collect();
        let Some((last, others)) = fitting.split_last() else { return Err(Box::new(self)) };
        let twin = |object: &&Arc<BlockObject>| {
            let mut twin = self.clone();
            twin.take(object).then_some(twin)
        };
        let mut grown: Vec<Self> = others.iter().filter_map(twin).collect();
        match self.take(last) {
            true => grown.push(self),
            false if grown.is_empty() => return Err(Box::new(self)),
            false => {}
        }
        Ok(grown)
    }
}

/// The chains of this vault's ledger that a site serves, each as far as it goes.
pub(crate) async fn chains_of(site: &Site, config: &Config) -> Result<Vec<Chain>, BlocksError> {
    let first = read(site, 0, config.ledger.genesis).await?;
    if !first.genesis.as_ref().is_some_and(|genesis| is_of(genesis, config)) {
        return Err(BlocksError::OtherLedger { site: site.name().clone() });
    }
    let begun = Chain::begin(first);
    let begun = begun.map_err(|source| BlocksError::Beginning { site: site.name().clone(), source })?;
    continuations(site, begun).await
}

/// True if the ledger is the one that the configuration describes.
fn is_of(genesis: &Genesis, config: &Config) -> bool {
    let entry = &config.ledger;
    (genesis.vault_id, genesis.chain_id, genesis.hash()) == (config.vault, entry.chain_id, entry.genesis)
        && account(genesis.vault_address()) == entry.vault
        && account(genesis.access_address()) == entry.access
}

/// The chains that `start` grows into by the blocks at the site: at least one, which may be `start` itself.
pub(crate) async fn continuations(site: &Site, start: Chain) -> Result<Vec<Chain>, BlocksError> {
    let mut height = start.authority().height();
    let (mut growing, mut ended) = (vec![start], Vec::new());
    let (mut folder, mut held) = (None, BTreeMap::new());
    while !growing.is_empty() {
        height += 1;
        if folder != Some(height / FOLDER) {
            folder = Some(height / FOLDER);
            held = heights_near(site, height).await?;
        }
        let candidates = candidates(site, height, held.remove(&height).unwrap_or_default(), &growing).await;
        for chain in std::mem::take(&mut growing) {
            match chain.grow(&candidates) {
                Ok(grown) => growing.extend(grown),
                Err(chain) => ended.push(*chain),
            }
        }
        if growing.len() + ended.len() > CHAINS_MAX {
            return Err(BlocksError::ManyChains { site: site.name().clone(), height });
        }
    }
    Ok(ended)
}

/// The blocks of that height that may continue a chain. A file that cannot be read is none: it must not hide another.
async fn candidates(site: &Site, height: u64, hashes: Vec<BlockHash>, chains: &[Chain]) -> Vec<Arc<BlockObject>> {
    let mut fitting = Vec::new();
    for hash in hashes {
        let Ok(object) = read(site, height, hash).await else { continue };
        if chains.iter().any(|chain| chain.fits(&object)) {
            fitting.push(Arc::new(object));
        }
    }
    fitting
}

async fn read(site: &Site, height: u64, hash: BlockHash) -> Result<BlockObject, BlocksError> {
    let bytes = site.get(&ObjectKey::Block { height, hash }).await?;
    let object = BlockObject::decode(&bytes).map_err(|source| BlocksError::Form {
        site: site.name().clone(),
        height,
        source,
    })?;
    if object.hash() != hash || object.block.header.number != height {
        return Err(BlocksError::Misnamed { site: site.name().clone(), height, hash });
    }
    Ok(object)
}

/// The chains of greatest standing, each once: more than one are a fork that the rule (more handovers, then higher) leaves open.
pub(crate) fn strongest<'c>(chains: impl IntoIterator<Item = &'c Chain>) -> Vec<&'c Chain> {
    let mut strongest: Vec<&Chain> = Vec::new();
    for chain in chains {
        let standing = strongest.first().map(|best| compare(chain.authority(), best.authority()));
        match standing {
            Some(Ordering::Less) => {}
            Some(Ordering::Equal) if strongest.iter().any(|it| it.authority().hash() == chain.authority().hash()) => {}
            Some(Ordering::Equal) => strongest.push(chain),
            None | Some(Ordering::Greater) => strongest = vec![chain],
        }
    }
    strongest
}

/// The height of the first block that two chains do not share.
pub(crate) fn first_difference(one: &[Arc<BlockObject>], other: &[Arc<BlockObject>]) -> u64 {
    let first = one.first().map_or(0, |object| object.block.header.number);
    first + one.iter().zip(other).take_while(|(one, other)| one.hash() == other.hash()).count() as u64
}
