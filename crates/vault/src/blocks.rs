//! The ledger's blocks at the sites: copied there inside the write order, read back to heal or to follow.
//!
//! - **Owns** which blocks a site lacks, and the question whether the sites know a handover that this host does not.
//! - **Does not** judge blocks: importing them does.
//!
//! # Invariants
//! - **B1** A block counts as copied when the site holds every block up to it under its own name.
//! - **B2** A handover that this host does not know stops sealing only if it is genuine: anyone may leave a file at a site.
//!
//! Format: `docs/design/ledger.md`.

mod guard;

use std::collections::BTreeMap;

use blockhouse_homes::{Embedded, HomeError, Store};
use blockhouse_ledger::{BlockError, BlockObject};
use blockhouse_sites::{ObjectKey, Prefix, Site, SiteError, SiteName, Sites};
use blockhouse_types::BlockHash;
use bytes::Bytes;
use futures::future::join_all;

pub use guard::{GuardError, guard};

use crate::vault::Vault;

/// The blocks that share a folder at a site.
const FOLDER: u64 = 1024;
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
    /// The site lacks a block in the middle.
    #[error("site {site} lacks block {height}")]
    Gap { site: SiteName, height: u64 },
}

/// Copies the blocks of `home` that `site` lacks; true if it holds all of them up to `height` then.
async fn copy_to(site: &Site, home: &Embedded, height: u64) -> Result<(), BlocksError> {
    let ours = home.read(move |store| hashes(store, height)).await?;
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
fn hashes(store: &Store, height: u64) -> Vec<BlockHash> {
    (0..=height).map_while(|height| store.head().hash_at(height)).map(|hash| BlockHash::new(hash.0)).collect()
}

/// The lowest height at which the site lacks the block of this chain; another block of that height does not count.
async fn first_missing(site: &Site, ours: &[BlockHash]) -> Result<u64, SiteError> {
    let mut height = 0;
    for run in ours.chunks(usize::try_from(FOLDER).unwrap_or(usize::MAX)) {
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
    let height = vault.standing().await?.height;
    copy_everywhere(vault.sites(), vault.home(), height).await;
    Ok(())
}

/// The blocks that `site` holds from a height on, in order, up to its first gap.
pub async fn fetch_from(site: &Site, from: u64) -> Result<Vec<BlockObject>, BlocksError> {
    let mut objects = Vec::new();
    let mut folder = from / FOLDER;
    loop {
        let held = heights_near(site, folder * FOLDER).await?;
        if held.is_empty() {
            return Ok(objects);
        }
        for height in from.max(folder * FOLDER)..(folder + 1) * FOLDER {
            let Some(hashes) = held.get(&height) else { return Ok(objects) };
            let parent = objects.last().map(BlockObject::hash);
            match fetch_one(site, height, hashes, parent).await? {
                Some(object) => objects.push(object),
                None => return Ok(objects),
            }
        }
        folder += 1;
    }
}

/// The block of that height that continues what was read before it; strangers beside it are passed over.
async fn fetch_one(
    site: &Site,
    height: u64,
    hashes: &[BlockHash],
    parent: Option<BlockHash>,
) -> Result<Option<BlockObject>, BlocksError> {
    let mut failed = None;
    for hash in hashes {
        match read(site, height, *hash).await {
            Ok(object) if parent.is_none_or(|parent| object.block.header.parent_hash.0 == parent.to_bytes()) => {
                return Ok(Some(object));
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(None), Err)
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

/// True if the site holds blocks above `height`.
pub async fn is_ahead(site: &Site, height: u64) -> Result<bool, SiteError> {
    let above = |held: BTreeMap<u64, Vec<BlockHash>>| held.into_keys().any(|other| other > height);
    Ok(above(heights_near(site, height).await?) || above(heights_near(site, height + FOLDER).await?))
}
