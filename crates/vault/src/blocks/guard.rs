//! Asked before each sealing: do the sites know a handover, or a block of this host's own key, that this host does not?
//!
//! - **Owns** what counts as genuine among the files of strangers, and which of it stops sealing.
//! - **Does not** follow what it finds: opening does, and `recover` decides a fork.
//!
//! # Invariants
//! - **G1** A handover is durable at S−W sites before the new host seals; W+1 sites are read here. The two sets meet, so an old
//!   host that comes back finds it and stops, and of two hosts that recover at the same time at least one finds the other's.
//! - **G2** A handover that this host's chain has outdone by another one stops nothing: that is how a fork ends.
//! - **G3** A handover counts from the moment its block is at a site, its marker in `handovers/` or not.
//! - **G4** A file that might matter and cannot be read is not absent: its site counts as one that was not asked.
//!
//! Format: `docs/design/ledger.md`, section *Handover*.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_primitives::{Address, B256};
use blockhouse_homes::{BeforeSeal, Embedded, HomeError, LedgerKeys};
use blockhouse_ledger::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::handover::{Handover, leading};
use blockhouse_sites::{BLOCKS_PER_FOLDER, Listed, ObjectKey, Prefix, Site, SiteName, Sites};
use blockhouse_types::BlockHash;
use futures::future::join_all;
use tokio::sync::OnceCell;

use crate::ledger::{Ledger, LedgerError, Recovery, RecoveryChange, RecoveryStep, account};

/// Why nothing may be sealed now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Too few sites answered to be sure.
    #[error(
        "only {read} sites could be asked whether another host has taken the ledger over, {needed} are needed to be sure"
    )]
    TooFewSites { read: usize, needed: usize },
    /// A site holds a certified block that this host could not take.
    #[error(
        "site {site} holds block {height}, certified by the key of this ledger, which this host does not have: its ledger was set back, or it is forked"
    )]
    Ahead { site: SiteName, height: u64 },
    /// The key of this host certified two blocks of one height.
    #[error("site {site} holds another block {height}, certified by the key of this ledger: the ledger is forked")]
    Forked { site: SiteName, height: u64 },
    /// Another host has the ledger now.
    #[error(
        "site {site} holds handover {number}, which this host does not know: another host has taken the ledger over"
    )]
    HandedOver { site: SiteName, number: u64 },
    /// Two hosts made the same handover.
    #[error(
        "site {site} holds another handover {number} than the one of this host: the vault was recovered twice at the same time"
    )]
    Rival { site: SiteName, number: u64 },
    /// This host's own ledger could not be read.
    #[error("the ledger of this host could not be compared with the sites")]
    Own(#[source] HomeError),
    /// This host's own ledger could not be asked.
    #[error("the ledger of this host could not be asked for its recovery accounts")]
    Ledger(#[source] Box<LedgerError>),
}

/// What is about to be sealed: a handover outdoes others of its chain's standing, and so ends a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A block like any other.
    Block,
    /// A handover of the best chain that the sites serve.
    Handover,
    /// A handover of the chain that the owner named by its fingerprint.
    Chosen,
}

/// Who asks the sites, and about which ledger.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The sites.
    pub(crate) sites: Arc<Sites>,
    /// How many of them must answer.
    pub(crate) needed: usize,
    /// This host's ledger, to be read.
    pub(crate) home: Embedded,
    /// The same, as Ethereum shows it.
    pub(crate) ledger: Ledger,
    /// The contract that handovers call.
    pub(crate) access: Address,
    /// What for.
    pub(crate) purpose: Purpose,
}

/// What a site says it holds.
struct Answer<'s> {
    site: &'s Site,
    handovers: Vec<Listed>,
    blocks: Vec<Listed>,
}

/// What the handovers at a site say.
struct Handovers {
    /// Whether all that might matter could be read.
    all_read: bool,
    /// One that stands against this chain's own.
    rival: Option<GuardError>,
}

/// This host's chain.
struct Own {
    chain_id: u64,
    height: u64,
    /// Those of the heights that the sites are asked about: the handovers', and from the folder of the head on.
    hashes: BTreeMap<u64, B256>,
    keys: LedgerKeys,
    /// Who could hand it over when: read from the whole history, so once, and only if a handover asks for it.
    recovery: OnceCell<Vec<RecoveryChange>>,
}

impl Own {
    fn has(&self, height: u64, hash: BlockHash) -> bool {
        self.hashes.get(&height).is_some_and(|own| own.0 == hash.to_bytes())
    }

    fn handovers_until(&self, height: u64) -> u64 {
        self.keys.handovers().iter().filter(|handover| handover.height <= height).count() as u64
    }
}

impl Guard {
    /// As the embedded ledger asks it.
    pub(crate) fn before_seal(self) -> BeforeSeal {
        Arc::new(move |standing| {
            let guard = self.clone();
            Box::pin(async move { guard.check(standing.height).await.map_err(Into::into) })
        })
    }

    /// Fails unless enough sites answer and none holds what stops sealing above block `height`.
    pub(crate) async fn check(&self, height: u64) -> Result<(), GuardError> {
        let answers: Vec<_> = join_all(self.sites.up().map(|(_, site)| ask(site, height))).await;
        // Read after the sites were asked: what another process of this host sealed meanwhile is in it.
        let own = self.own(height).await.map_err(GuardError::Own)?;
        let answers: Vec<Answer<'_>> = answers.into_iter().flatten().collect();
        let (mut are_read, mut rival) = (Vec::new(), None);
        for answer in &answers {
            let found = self.check_handovers(answer, &own).await?;
            are_read.push(found.all_read);
            rival = rival.or(found.rival);
        }
        if let Some(rival) = rival {
            return Err(rival);
        }
        if self.purpose == Purpose::Block {
            for (answer, is_read) in answers.iter().zip(&mut are_read) {
                *is_read &= self.check_blocks(answer, &own).await?;
            }
        }
        let read = are_read.into_iter().filter(|is_read| *is_read).count();
        if read < self.needed { Err(GuardError::TooFewSites { read, needed: self.needed }) } else { Ok(()) }
    }

    /// This chain, from the folder of `height` on.
    async fn own(&self, height: u64) -> Result<Own, HomeError> {
        self.home
            .read(move |store| {
                let keys = LedgerKeys::of(store)?;
                let handovers = keys.handovers().iter().map(|handover| handover.height);
                let mut hashes = BTreeMap::new();
                for height in handovers.chain(height - height % BLOCKS_PER_FOLDER..=store.height()) {
                    hashes.extend(store.hash_at(height)?.map(|hash| (height, hash)));
                }
                let chain_id = store.genesis().chain_id;
                Ok(Own { chain_id, height: store.height(), hashes, keys, recovery: OnceCell::new() })
            })
            .await?
    }

    /// The height of the parent, if it is on this chain.
    async fn parent_of(&self, object: &BlockObject, own: &Own) -> Result<Option<u64>, GuardError> {
        let Some(height) = object.block.header.number.checked_sub(1) else { return Ok(None) };
        let hash = if let Some(hash) = own.hashes.get(&height) {
            Some(*hash)
        } else {
            let read = self.home.read(move |store| store.hash_at(height)).await;
            read.and_then(|found| Ok(found?)).map_err(GuardError::Own)?
        };
        Ok((hash == Some(object.block.header.parent_hash)).then_some(height))
    }

    /// Fails at a genuine handover beyond this chain's. One that stands against this chain's own is told apart: where another
    /// host has gone further since, that is what its operator needs to hear.
    async fn check_handovers(&self, answer: &Answer<'_>, own: &Own) -> Result<Handovers, GuardError> {
        let mut found = Handovers { all_read: true, rival: None };
        for listed in &answer.handovers {
            let ObjectKey::Handover { number, hash } = listed.key else { continue };
            let is_own = || own.keys.handovers().iter().any(|handover| own.has(handover.height, hash));
            // A longer file than the format allows is a stranger's. A lower number than the true one hides nothing: the
            // host that made the handover has left it under its own.
            if number < self.first(own) || listed.length > listed.key.max_len() || is_own() {
                continue;
            }
            let Ok(bytes) = answer.site.get(&listed.key).await else {
                found.all_read = false;
                continue;
            };
            let Ok(object) = BlockObject::decode(&bytes) else { continue };
            if object.hash() == hash {
                let rival = self.judge((&object, Some(number)), own, answer.site.name()).await?;
                found.rival = rival.or(found.rival);
            }
        }
        Ok(found)
    }

    /// The first number of a handover that is not outdone.
    fn first(&self, own: &Own) -> u64 {
        let known = own.keys.handovers().len() as u64;
        match self.purpose {
            Purpose::Block => known,
            Purpose::Handover => known + 1,
            Purpose::Chosen => u64::MAX,
        }
    }

    /// Fails at a genuine handover beyond this chain's; gives one that stands against this chain's own. One on a parent that is not
    /// known here, and without a number in its name, is left to its marker.
    async fn judge(
        &self,
        (object, named): (&BlockObject, Option<u64>),
        own: &Own,
        site: &SiteName,
    ) -> Result<Option<GuardError>, GuardError> {
        let parent = self.parent_of(object, own).await?;
        // The number in the name is anybody's word; on a parent that is known here it can be counted.
        let Some(number) = parent.map(|height| own.handovers_until(height) + 1).or(named) else { return Ok(None) };
        if number < self.first(own) || !self.is_genuine(object, own, parent).await? {
            return Ok(None);
        }
        let site = site.clone();
        if number == own.keys.handovers().len() as u64 {
            Ok(Some(GuardError::Rival { site, number }))
        } else {
            Err(GuardError::HandedOver { site, number })
        }
    }

    /// Fails at a block that the key in force has certified and that is not on this chain, and at a genuine handover that is not:
    /// the host that makes one may not have left its marker yet. What lies below the last handover was decided by it. False if not
    /// all that might matter could be read.
    async fn check_blocks(&self, answer: &Answer<'_>, own: &Own) -> Result<bool, GuardError> {
        let decided = own.keys.handovers().last().map_or(0, |last| last.height);
        let mut all_read = true;
        for listed in &answer.blocks {
            let ObjectKey::Block { height, hash } = listed.key else { continue };
            if height < decided || own.has(height, hash) || listed.length > listed.key.max_len() {
                continue;
            }
            let Ok(bytes) = answer.site.get(&listed.key).await else {
                all_read = false;
                continue;
            };
            let Ok(object) = BlockObject::decode(&bytes) else { continue };
            if object.hash() != hash {
                continue;
            }
            let (place, site) = (BlockPlace { chain_id: own.chain_id, height, hash }, answer.site.name());
            if object.certificate.verify(&own.keys.in_force(), &place).is_ok() {
                let (site, is_ahead) = (site.clone(), height > own.height);
                return Err(if is_ahead {
                    GuardError::Ahead { site, height }
                } else {
                    GuardError::Forked { site, height }
                });
            }
            if let Some(rival) = self.judge((&object, None), own, site).await? {
                return Err(rival);
            }
        }
        Ok(all_read)
    }

    /// A handover stands alone in its block, is bound to its parent, certified by the key that it names, and sent by a recovery
    /// account. So a copy of its transaction in another block fails at the parent or at the certificate.
    async fn is_genuine(&self, object: &BlockObject, own: &Own, parent: Option<u64>) -> Result<bool, GuardError> {
        let Some(transaction) = leading(&object.block.body.transactions) else { return Ok(false) };
        let Some(handover) = Handover::read(transaction.input()) else { return Ok(false) };
        let header = &object.block.header;
        let place = BlockPlace { chain_id: own.chain_id, height: header.number, hash: object.hash() };
        let is_bound = transaction.to() == Some(self.access)
            && transaction.chain_id() == Some(own.chain_id)
            && handover.parent == header.parent_hash
            && object.certificate.verify(&handover.next_key, &place).is_ok();
        if !is_bound {
            return Ok(false);
        }
        let Ok(sender) = transaction.recover_signer() else { return Ok(false) };
        self.was_enough(own, (&handover, sender), parent).await
    }

    /// True if the account could hand the ledger over so at that parent, with whoever agreed; at a parent that is not on this chain, and at
    /// which nobody here knows how many it took, whether the account ever could.
    async fn was_enough(
        &self,
        own: &Own,
        (handover, sender): (&Handover, Address),
        parent: Option<u64>,
    ) -> Result<bool, GuardError> {
        let changes = own.recovery.get_or_try_init(|| self.ledger.recovery_changes()).await;
        let changes = changes.map_err(|error| GuardError::Ledger(Box::new(error)))?;
        let Some(height) = parent else {
            return Ok(changes.iter().any(|change| change.step == RecoveryStep::Added(account(sender))));
        };
        let then = Recovery::after(changes.iter().take_while(|change| change.block <= height));
        let may = |who: &Address| then.accounts.contains(&account(*who));
        Ok(may(&sender) && handover.count((own.chain_id, self.access), sender, may) >= then.threshold)
    }
}

/// Lists handovers, and the blocks near the head; none if the site does not answer.
async fn ask(site: &Site, height: u64) -> Option<Answer<'_>> {
    let handovers = site.list_all(Prefix::Handovers).await.ok()?;
    let mut blocks = site.list_all(Prefix::BlocksNear(height)).await.ok()?;
    blocks.extend(site.list_all(Prefix::BlocksNear(height + BLOCKS_PER_FOLDER)).await.ok()?);
    Some(Answer { site, handovers, blocks })
}
