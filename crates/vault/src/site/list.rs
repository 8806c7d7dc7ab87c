//! What each site is and holds, by its listing.

use blockhouse_sites::{ObjectKey, Prefix, Site, SiteState, SiteUrl};
use futures::future::join_all;

use crate::folder::SiteEntry;
use crate::vault::Vault;

/// A site, and what it holds.
#[derive(Debug, Clone)]
pub struct SiteRow {
    /// Where it is and what is under way with it.
    pub entry: SiteEntry,
    /// Whether it answers; none for one that was not asked.
    pub state: Option<SiteState>,
    /// Shards that it lists; none if it was not asked, or could not tell.
    pub shards: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Bytes that can still be written, where that is known.
    pub free_bytes: Option<u64>,
}

/// All sites, those too that do not count; with `fast` nothing is listed.
pub async fn list(vault: &Vault, fast: bool) -> Vec<SiteRow> {
    let open = vault.config().sites.iter().zip(vault.sites().members());
    let open = open.map(async |(entry, member)| {
        let held = match member.readable().filter(|_| !fast) {
            Some(site) => held(site).await,
            None => None,
        };
        SiteRow {
            entry: entry.clone(),
            state: Some(member.state()),
            shards: held.map(|(shards, _)| shards),
            bytes: held.map(|(_, bytes)| bytes),
            free_bytes: member.readable().and_then(|site| free_bytes(site.url())),
        }
    });
    let mut rows = join_all(open).await;
    let apart =
        |entry: &SiteEntry| SiteRow { entry: entry.clone(), state: None, shards: None, bytes: None, free_bytes: None };
    rows.extend(vault.apart().iter().map(apart));
    rows
}

/// Counts shards page by page: the listing of a large site does not fit into memory.
async fn held(site: &Site) -> Option<(u64, u64)> {
    let mut listing = site.list(Prefix::Shards);
    let (mut shards, mut bytes) = (0, 0_u64);
    while let Some(page) = listing.next_page().await.ok()? {
        for listed in page.iter().filter(|listed| matches!(listed.key, ObjectKey::Shard { .. })) {
            shards += 1;
            bytes = bytes.saturating_add(listed.length);
        }
    }
    Some((shards, bytes))
}

/// What the file system of a folder has left for this user.
fn free_bytes(url: &SiteUrl) -> Option<u64> {
    match url {
        SiteUrl::File(path) => {
            let found = rustix::fs::statvfs(path).ok()?;
            Some(found.f_bavail.saturating_mul(found.f_frsize))
        }
        _ => None,
    }
}
