//! From key bags to the chain: which bag is believed, and what it leads to.
//!
//! - **Owns** the search among the key bags at the sites, and the configuration that follows from the one in force.
//! - **Does not** judge chains: `chains` does.
//!
//! # Invariants
//! - **K1** A bag is only a way to a chain. The configuration comes from the bag that this chain's ledger names: anyone who knows
//!   the recipients can seal a bag to them and leave it at a site.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockhouse_pipeline::key_bag::{KeyBag, SealedBag};
use blockhouse_sites::{ObjectKey, Patience, Prefix, Site, Sites};
use blockhouse_types::{BagHash, VaultId};

use super::RecoverError;
use super::chains::{Chosen, Trust, choose};
use crate::bag::entry_of;
use crate::folder::{Config, HomeKind, LedgerEntry};
use crate::recipients;
use crate::unlock::{BagError, Unlocked, open_bag};
use crate::vault::enrolled;

/// How often a ledger may name a newer bag than the one that led to it: each leads to sites that may know a newer one.
pub(super) const STEPS: usize = 4;

/// What is recovered from.
pub(super) struct Found {
    pub(super) sites: Arc<Sites>,
    pub(super) config: Config,
    /// The bag that the ledger names.
    pub(super) bag: KeyBag,
    pub(super) chosen: Chosen,
}

/// The chain that the newest key bag leads to; a bag that leads to none is passed over for the one before it.
pub(super) async fn find(
    given: &Sites,
    id: VaultId,
    unlocked: &Unlocked,
    trust: &Trust,
) -> Result<Found, RecoverError> {
    let mut refused: Option<RecoverError> = None;
    for opened in open_all(given, id, unlocked).await? {
        match follow(opened, given, unlocked, trust).await {
            Ok(found) => return Ok(found),
            // Evidence of forgery is told rather than what came before it.
            Err(error) if error.is_evidence() => refused = refused.filter(RecoverError::is_evidence).or(Some(error)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(RecoverError::NoBag { tried: 0, source: None }))
}

/// Follows a bag to its chain, and that chain's own bag until it is the one that was followed.
async fn follow(
    Opened { mut hash, mut bag }: Opened,
    given: &Sites,
    unlocked: &Unlocked,
    trust: &Trust,
) -> Result<Found, RecoverError> {
    for _ in 0..STEPS {
        let (sites, config) = open_sites(&bag, given).await?;
        let chosen = choose(&sites, &config, trust).await?;
        let named = chosen.chain.bag().ok_or(RecoverError::BagNotNamed)?;
        if named.1 == hash {
            return Ok(Found { sites, config, bag, chosen });
        }
        let opened = open_bag(&sites, named, unlocked).await;
        bag = opened.map_err(|source| RecoverError::OldBag { version: named.0, source })?;
        hash = named.1;
    }
    Err(RecoverError::NoBag { tried: STEPS, source: None })
}

/// The sites that the bag names, open, and the configuration that it describes.
pub(super) async fn open_sites(bag: &KeyBag, given: &Sites) -> Result<(Arc<Sites>, Config), RecoverError> {
    let vault = super::vault_of(given)?;
    let mut config = config_of(bag, vault, given)?;
    let sites = Arc::new(Sites::open_all(&enrolled(&config), Patience::default()).await);
    for (entry, member) in config.sites.iter_mut().zip(sites.members()) {
        entry.device = member.readable().and_then(Site::device);
    }
    Ok((sites, config))
}

/// A key bag, and the name it has at the sites.
pub(super) struct Opened {
    pub(super) hash: BagHash,
    pub(super) bag: KeyBag,
}

/// The key bags that open, the newest first. With the owner's identity only those that hold the owner's account count: nobody
/// else can make one.
pub(super) async fn open_all(sites: &Sites, vault: VaultId, unlocked: &Unlocked) -> Result<Vec<Opened>, RecoverError> {
    let mut named = BTreeSet::new();
    for (_, site) in sites.up() {
        for listed in site.list_all(Prefix::Bags).await.unwrap_or_default() {
            if let ObjectKey::Bag { version, hash } = listed.key {
                named.insert((version, hash));
            }
        }
    }
    let (tried, mut refused, mut opened) = (named.len(), None, Vec::new());
    let is_owners = |bag: &KeyBag| match unlocked {
        Unlocked::Owner(identity) => identity.owner().account() == bag.owner.account(),
        Unlocked::Paper(_) | Unlocked::Reader(_) => true,
    };
    for (version, hash) in named.into_iter().rev() {
        let key = ObjectKey::Bag { version, hash };
        let Ok(fetched) = sites.get_any(&key, |bytes| SealedBag::hash(bytes) == hash).await else { continue };
        let Ok(sealed) = SealedBag::from_bytes(&fetched.bytes) else { continue };
        match sealed.open(&unlocked.age()) {
            Ok(bag) if sealed.vault() == vault && is_owners(&bag) => opened.push(Opened { hash, bag }),
            Ok(_) => {}
            Err(error) => refused = Some(BagError::Open(error)),
        }
    }
    if opened.is_empty() { Err(RecoverError::NoBag { tried, source: refused }) } else { Ok(opened) }
}

/// The configuration that the bag describes; a site that was given at another place is used there.
fn config_of(bag: &KeyBag, vault: VaultId, given: &Sites) -> Result<Config, RecoverError> {
    let mut sites = Vec::new();
    for site in &bag.sites {
        let mut entry = entry_of(site).ok_or_else(|| RecoverError::BagSite { url: site.url.clone() })?;
        let here = given.up().find(|(_, open)| open.id() == site.id);
        if let Some((_, open)) = here {
            entry.spec.url = open.url().clone();
            entry.device = open.device();
        }
        sites.push(entry);
    }
    Ok(Config {
        version: 1,
        vault,
        code: bag.code,
        ledger: LedgerEntry {
            home: HomeKind::Embedded,
            urls: Vec::new(),
            chain_id: bag.chain_id,
            genesis: bag.genesis,
            vault: bag.vault_contract,
            access: bag.access_contract,
            chain: None,
            growth: None,
        },
        recipients: recipients::to_entries(&bag.recipients),
        sites,
        finished_markings: None,
        sources: BTreeMap::new(),
        hosts: BTreeMap::new(),
        hooks: crate::folder::UserTable::default(),
        source_hooks: crate::folder::UserTable::default(),
        profiles: crate::folder::UserTable::default(),
    })
}
