//! The chains that the block files at a site form.
//!
//! - **Owns** which file continues which chain: all files of a height are tried; the ledger's rules and the key in force decide.
//! - **Does not** choose among sites, nor say what is done with a fork: [`strongest`] only compares.
//!
//! # Invariants
//! - **B3** A file that continues no chain hides none that does, whatever its name says.
//! - **B4** A chain is verified from block 0, or from a block that this host verified before.
//! - **B5** Files are read one at a time. A block that neither the key in force certified nor an account sent that may hand the
//!   ledger over is dropped before anything is copied or executed for it.
//!
//! Format: `docs/design/ledger.md`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{ReceiptEnvelope, Transaction as _};
use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::handover::leading;
use blockhouse_ledger::{
    Authority, BlockObject, BlockPlace, Call, CallOutcome, Executed, Genesis, Replay, ReplayError, TrustRoot, call,
    compare, succession,
};
use blockhouse_sites::{BLOCKS_PER_FOLDER, ObjectKey, Site};
use blockhouse_types::{BagHash, BlockHash, Fingerprint, SnapshotId};

use super::{BlocksError, heights_near};
use crate::folder::Config;
use crate::ledger::account;

/// How many chains of one site are followed, and how many blocks of one height may fit them. Only who holds a ledger key or a
/// recovery account can make more than one, and a fork has few.
const CHAINS_MAX: usize = 64;

/// A snapshot that a chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) snapshot: SnapshotId,
    /// The height of its block.
    pub(crate) block: u64,
}

/// A verified chain.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    replay: Replay,
    /// The ledger keys that were in force, the first one first.
    keys: Vec<[u8; 32]>,
    /// The blocks that were read, in order.
    blocks: Vec<Arc<BlockObject>>,
    /// The snapshots that they commit, in order.
    snapshots: Vec<Committed>,
}

impl Chain {
    /// Begins with block 0.
    fn begin(object: BlockObject) -> Result<Self, ReplayError> {
        let replay = Replay::begin(&object)?;
        Ok(Self { blocks: vec![Arc::new(object)], ..Self::above(replay) })
    }

    /// What follows a chain that is here already.
    pub(crate) fn above(replay: Replay) -> Self {
        Self { keys: vec![replay.authority().ledger_key()], replay, blocks: Vec::new(), snapshots: Vec::new() }
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

    /// The snapshots that these blocks commit.
    pub(crate) fn snapshots(&self) -> &[Committed] {
        &self.snapshots
    }

    /// The blocks, to be imported.
    pub(crate) fn into_objects(self) -> impl Iterator<Item = BlockObject> + Send + 'static {
        self.blocks.into_iter().map(Arc::unwrap_or_clone)
    }

    /// The key bag that the ledger names after the last block; none before the first.
    pub(crate) fn bag(&self) -> Option<(u32, BagHash)> {
        let vault = self.replay.genesis().vault_address();
        let version = self.ask(vault, &Vault::bagVersionCall {}).filter(|version| *version > 0)?;
        Some((version, BagHash::new(self.ask(vault, &Vault::bagHashCall {})?.0)))
    }

    fn ask<C: SolCall>(&self, contract: Address, question: &C) -> Option<C::Return> {
        let (genesis, head) = (self.replay.genesis(), self.replay.head());
        let read = Call::read(Address::ZERO, contract, question.abi_encode());
        let CallOutcome::Returned(output) = call(genesis, head, self.replay.nodes(), &read).ok()?.outcome else {
            return None;
        };
        C::abi_decode_returns(&output).ok()
    }

    /// What is cheap to see (B5): the block names the last one as its parent, and is certified by the key in force, or by the key
    /// that an account names which may hand the ledger over now.
    pub(super) fn fits(&self, object: &BlockObject) -> bool {
        let (header, authority) = (&object.block.header, self.authority());
        if header.parent_hash != B256::new(authority.hash().to_bytes())
            || authority.expects(&object.block, &object.certificate).is_err()
        {
            return false;
        }
        let place = BlockPlace { chain_id: self.replay.genesis().chain_id, height: header.number, hash: object.hash() };
        object.certificate.verify(&authority.ledger_key(), &place).is_ok() || self.is_sent_by_recovery(object)
    }

    /// True if the block's leading transaction calls `Access` in the name of a recovery account.
    fn is_sent_by_recovery(&self, object: &BlockObject) -> bool {
        let Some(transaction) = leading(&object.block.body.transactions) else { return false };
        let access = self.replay.genesis().access_address();
        if transaction.to() != Some(access) {
            return false;
        }
        let Ok(who) = transaction.recover_signer() else { return false };
        self.ask(access, &Access::isRecoveryCall(who)).unwrap_or(false)
    }

    /// Takes the block if it is valid here.
    fn take(&mut self, object: &Arc<BlockObject>) -> bool {
        let Ok(executed) = self.replay.extend(object) else { return false };
        self.snapshots.extend(committed(&executed, self.replay.genesis().vault_address()));
        self.keys.extend(executed.handover.into_iter().chain(succession(&executed.block.header)));
        self.blocks.push(Arc::clone(object));
        true
    }
}

/// The snapshots that a block commits.
fn committed(executed: &Executed, vault: Address) -> impl Iterator<Item = Committed> {
    let block = executed.block.header.number;
    let logs = executed.receipts.iter().flat_map(ReceiptEnvelope::logs).filter(move |log| log.address == vault);
    let events = logs.filter_map(|log| Vault::SnapshotCommitted::decode_log(log).ok());
    events.map(move |event| Committed { snapshot: SnapshotId::new(event.snapshot.0), block })
}

/// A chain while the files of the next height are tried.
struct Tip {
    chain: Chain,
    /// The last of them that fits. It is taken when all were seen, so that a chain that goes on in one way is never copied.
    next: Option<Arc<BlockObject>>,
    has_grown: bool,
}

impl Tip {
    /// Notes a block that fits. One that was noted before is tried on a copy.
    fn note(&mut self, object: &Arc<BlockObject>) -> Option<Chain> {
        let before = self.next.replace(Arc::clone(object))?;
        let mut twin = self.chain.clone();
        let grown = twin.take(&before).then_some(twin);
        self.has_grown |= grown.is_some();
        grown
    }

    /// Takes the block that was noted last. A chain that nothing continues has ended; one that only its copies go on from is gone.
    fn close(mut self, growing: &mut Vec<Chain>, ended: &mut Vec<Chain>) {
        let is_taken = self.next.take().is_some_and(|next| self.chain.take(&next));
        if is_taken {
            growing.push(self.chain);
        } else if !self.has_grown {
            ended.push(self.chain);
        }
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
        if folder != Some(height / BLOCKS_PER_FOLDER) {
            folder = Some(height / BLOCKS_PER_FOLDER);
            held = heights_near(site, height).await?;
        }
        let hashes = held.remove(&height).unwrap_or_default();
        growing = grow(site, (height, hashes), growing, &mut ended).await?;
    }
    Ok(ended)
}

/// What the chains grow into by the files of one height; those that nothing continues have ended.
async fn grow(
    site: &Site,
    (height, hashes): (u64, Vec<BlockHash>),
    chains: Vec<Chain>,
    ended: &mut Vec<Chain>,
) -> Result<Vec<Chain>, BlocksError> {
    let mut tips: Vec<Tip> = chains.into_iter().map(|chain| Tip { chain, next: None, has_grown: false }).collect();
    let (mut growing, mut fitting) = (Vec::new(), 0);
    for hash in hashes {
        // A file that cannot be read is none: it must not hide another.
        let Ok(object) = read(site, height, hash).await else { continue };
        let object = Arc::new(object);
        for tip in tips.iter_mut().filter(|tip| tip.chain.fits(&object)) {
            fitting += 1;
            if fitting + ended.len() > CHAINS_MAX {
                return Err(BlocksError::ManyChains { site: site.name().clone(), height });
            }
            growing.extend(tip.note(&object));
        }
    }
    for tip in tips {
        tip.close(&mut growing, ended);
    }
    Ok(growing)
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
