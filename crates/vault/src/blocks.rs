//! The ledger's blocks at the sites: copied there inside the write order, read back to heal or to follow.
//!
//! - **Owns** which blocks a site lacks, which chains its files form, and whether the sites know what this host does not.
//! - **Does not** judge a block: the ledger's replay does.
//!
//! # Invariants
//! - **B1** A block counts as copied when the site holds every block up to it under its own name.
//! - **B2** What a site holds stops sealing only if it is genuine: anyone may leave a file at a site.
//!
//! Format: `docs/design/ledger.md`.

mod guard;
mod read;

use std::collections::BTreeMap;

use blockhouse_homes::{Embedded, HomeError, Store, StoreError};
use blockhouse_ledger::{BlockError, ReplayError};
use blockhouse_sites::{BLOCKS_PER_FOLDER, ObjectKey, Prefix, Site, SiteError, SiteName, Sites};
use blockhouse_types::BlockHash;
use bytes::Bytes;
use futures::future::{join_all, try_join};

pub use guard::GuardError;
pub(crate) use guard::{Guard, Purpose};
pub(crate) use read::{Chain, Committed, chains_of, continuations, first_difference, strongest};

use crate::vault::Vault;

/// How many blocks are in memory while they are copied.
const COPY_RUN: usize = 256;

/// Why blocks could not be copied or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlocksError {
    /// The site failed.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The host's own ledger failed.
    #[error("could not read the host's ledger")]
    Home(#[from] HomeError),
    /// A block at a site is not what its name says.
    #[error("block {height} at site {site} is not the block {hash} that its name says")]
    Misnamed { site: SiteName, height: u64, hash: BlockHash },
    /// A block at a site does not decode.
    #[error("block {height} at site {site} cannot be read")]
    Form {
        site: SiteName,
        height: u64,
        #[source]
        source: BlockError,
    },
    /// The site holds the beginning of another ledger.
    #[error("site {site} holds the ledger of another vault")]
    OtherLedger { site: SiteName },
    /// Block 0 at a site is not certified.
    #[error("block 0 at site {site} begins no ledger")]
    Beginning {
        site: SiteName,
        #[source]
        source: ReplayError,
    },
    /// A site serves more chains than are followed.
    #[error("site {site} serves too many chains that differ at or below block {height}")]
    ManyChains { site: SiteName, height: u64 },
    /// A site holds blocks above the head that do not follow it.
    #[error("site {site} holds blocks above block {height}, none of which follows it on this ledger")]
    NoneFollows { site: SiteName, height: u64 },
    /// A site serves several continuations.
    #[error("site {site} serves several chains of equal standing above block {height}: the ledger is forked")]
    Forked { site: SiteName, height: u64 },
}

/// Copies the blocks of `home` that `site` lacks, so that it holds all of them up to `height`.
async fn copy_to(site: &Site, home: &Embedded, height: u64) -> Result<(), BlocksError> {
    let ours = home.read(move |store| hashes(store, height)).await?.map_err(HomeError::from)?;
    let mut from = first_missing(site, &ours).await?;
    while from <= height {
        let run = home.block_objects(from, COPY_RUN).await?;
        let Some(last) = run.last() else { break };
        let next = last.block.header.number + 1;
        for object in run.iter().filter(|object| object.block.header.number <= height) {
            let key = ObjectKey::Block { height: object.block.header.number, hash: object.hash() };
            site.put(&key, Bytes::from(object.encode())).await?;
        }
        from = next;
    }
    Ok(())
}

/// The hashes of this host's chain, by height.
fn hashes(store: &Store, height: u64) -> Result<Vec<BlockHash>, StoreError> {
    let hashes = (0..=height).map(|height| store.hash_at(height)).map_while(Result::transpose);
    hashes.map(|hash| Ok(BlockHash::new(hash?.0))).collect()
}

/// The lowest height at which the site lacks the block of this chain; another block of that height does not count.
async fn first_missing(site: &Site, ours: &[BlockHash]) -> Result<u64, SiteError> {
    let mut height = 0;
    for run in ours.chunks(usize::try_from(BLOCKS_PER_FOLDER).unwrap_or(usize::MAX)) {
        let held = heights_near(site, height).await?;
        for wanted in run {
            if !held.get(&height).is_some_and(|hashes| hashes.contains(wanted)) {
                return Ok(height);
            }
            height += 1;
        }
    }
    Ok(height)
}

async fn heights_near(site: &Site, height: u64) -> Result<BTreeMap<u64, Vec<BlockHash>>, SiteError> {
    let mut held: BTreeMap<u64, Vec<BlockHash>> = BTreeMap::new();
    for listed in site.list_all(Prefix::BlocksNear(height)).await? {
        if let ObjectKey::Block { height, hash } = listed.key {
            held.entry(height).or_default().push(hash);
        }
    }
    Ok(held)
}

/// How copying went at one site.
#[derive(Debug)]
pub struct Copied {
    /// The member's number.
    pub member: usize,
    /// The site's name.
    pub site: SiteName,
    /// Durable there up to the height asked for, or why not.
    pub result: Result<(), BlocksError>,
}

/// Copies the blocks up to `height` to every site that takes writes, all at the same time.
pub async fn copy_everywhere(sites: &Sites, home: &Embedded, height: u64) -> Vec<Copied> {
    let writable = sites.members().iter().enumerate().filter_map(|(member, it)| Some((member, it.writable()?)));
    join_all(writable.map(async |(member, site)| Copied {
        member,
        site: site.name().clone(),
        result: copy_to(site, home, height).await,
    }))
    .await
}

/// Copies all blocks to every site that takes writes. A site that fails lacks them until the next time; nothing that was
/// acknowledged waits for it.
pub async fn copy_all(vault: &Vault) -> Result<(), HomeError> {
    let Ok(home) = vault.home().own_copy() else { return Ok(()) };
    let height = vault.standing().await?.height;
    copy_everywhere(vault.sites(), home, height).await;
    Ok(())
}

/// Whether the site holds a block above that height, whatever it is.
pub(crate) async fn has_above(site: &Site, height: u64) -> Result<bool, SiteError> {
    let above = |held: BTreeMap<u64, Vec<BlockHash>>| held.into_keys().any(|other| other > height);
    let (near, next) = try_join(heights_near(site, height), heights_near(site, height + BLOCKS_PER_FOLDER)).await?;
    Ok(above(near) || above(next))
}

/// What the site holds above the head of `home`, in order; empty if nothing is there.
pub(crate) async fn ahead(site: &Site, home: &Embedded, height: u64) -> Result<Option<Chain>, BlocksError> {
    if !has_above(site, height).await? {
        return Ok(None);
    }
    let chains = continuations(site, Chain::above(home.replay().await?)).await?;
    match strongest(&chains).as_slice() {
        [one] if !one.blocks().is_empty() => Ok(Some((*one).clone())),
        [_, _, ..] => Err(BlocksError::Forked { site: site.name().clone(), height }),
        _ => Err(BlocksError::NoneFollows { site: site.name().clone(), height }),
    }
}
