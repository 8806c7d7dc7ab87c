//! Listing the objects of a site, page by page.
//!
//! A listing of millions of shards neither fits one deadline nor has to fit into memory: each page has its own.

use std::collections::BTreeSet;
use std::mem;

use futures::TryStreamExt;
use opendal::Lister;

use super::folder_walk::{FolderWalk, Met};
use super::{Site, Work, blocking};
use crate::error::{Cause, Operation, SiteError};
use crate::key::{ObjectKey, Prefix};

/// Objects of a page: enough that a round trip does not count, few enough for a minute on a slow disk.
const PAGE: usize = 1000;

/// An object that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Which one.
    pub key: ObjectKey,
    /// How long it is.
    pub length: u64,
}

/// A listing in progress.
pub struct Listing {
    site: Site,
    prefix: Prefix,
    path: String,
    progress: Progress,
    strangers: u64,
}

enum Progress {
    Begin,
    /// Of a service.
    Within(Box<Lister>),
    /// Of a folder of this host.
    Below(FolderWalk),
    End,
}

/// The folder of the folders of shards.
const SHARDS: &str = "shards/";

/// The first byte of the ids whose shards are in a folder of that name.
fn first_byte(name: &str) -> Option<u8> {
    Some(name).filter(|name| name.len() == 2).and_then(|name| u8::from_str_radix(name, 16).ok())
}

async fn read_shard_folders(site: &Site) -> Result<BTreeSet<u8>, Cause> {
    if let Some(folder) = site.inner.backend.folder.clone() {
        let names = blocking(move || FolderWalk::folders(&folder, SHARDS).map_err(Cause::Read)).await?;
        return Ok(names.iter().filter_map(|name| first_byte(name)).collect());
    }
    let mut lister = site.operator().lister_with(SHARDS).await?;
    let mut found = BTreeSet::new();
    while let Some(entry) = lister.try_next().await? {
        let name = entry.path().strip_prefix(SHARDS).and_then(|name| name.strip_suffix('/'));
        found.extend(name.and_then(first_byte));
    }
    Ok(found)
}

impl Listing {
    pub(super) fn begin(site: Site, prefix: Prefix) -> Self {
        Self { site, prefix, path: prefix.path(), progress: Progress::Begin, strangers: 0 }
    }

    /// What is listed.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// How many files were met whose names are not those of objects; they are left alone.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// The next objects, in no order; none at the end. After an error the listing has ended, incomplete.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Listed>>, SiteError> {
        let (site, path) = (self.site.clone(), self.path.clone());
        let work = Work { operation: Operation::List, object: &path, bytes: 0 };
        let line = &site.inner.line;
        let page = match line.turn(work).await {
            Ok(_turn) => line.within_deadline(work, Box::pin(self.read_page())).await,
            Err(cause) => Err(cause),
        };
        let page = page.map_err(|cause| {
            if !cause.is_passing() {
                line.judge(work, &cause);
            }
            line.error(work, cause)
        })?;
        if page.is_none() {
            // A folder that is not there lists as empty.
            site.confirm_marker(work).await?;
        }
        Ok(page)
    }

    async fn read_page(&mut self) -> Result<Option<Vec<Listed>>, Cause> {
        // Taken out for the time of the call: an error or a cancel in between ends the listing.
        match (mem::replace(&mut self.progress, Progress::End), self.site.inner.backend.folder.clone()) {
            (Progress::Begin, Some(folder)) => {
                let path = self.path.clone();
                let walk = blocking(move || FolderWalk::begin(&folder, &path).map_err(Cause::Read)).await?;
                self.walk_page(walk).await
            }
            (Progress::Begin, None) => {
                let lister = self.site.operator().lister_with(&self.path).recursive(true).await?;
                self.ask_page(Box::new(lister)).await
            }
            (Progress::Within(lister), _) => self.ask_page(lister).await,
            (Progress::Below(walk), _) => self.walk_page(walk).await,
            (Progress::End, _) => Ok(None),
        }
    }

    /// A page of a folder of this host.
    async fn walk_page(&mut self, mut walk: FolderWalk) -> Result<Option<Vec<Listed>>, Cause> {
        let step = move || walk.step(PAGE).map(|met| (met, walk)).map_err(Cause::Read);
        let (met, walk) = blocking(step).await?;
        if met.is_empty() {
            return Ok(None);
        }
        let listed = |met: &Met| {
            let key = ObjectKey::parse(met.path.as_deref()?).ok()?;
            Some(Listed { key, length: met.length? })
        };
        let page: Vec<Listed> = met.iter().filter_map(listed).collect();
        self.strangers += (met.len() - page.len()) as u64;
        self.progress = Progress::Below(walk);
        Ok(Some(page))
    }

    /// A page of a service.
    async fn ask_page(&mut self, mut lister: Box<Lister>) -> Result<Option<Vec<Listed>>, Cause> {
        let mut page = Vec::new();
        while page.len() < PAGE {
            let Some(entry) = lister.try_next().await? else {
                return Ok(Some(page).filter(|page| !page.is_empty()));
            };
            if entry.metadata().is_dir() {
                continue;
            }
            match ObjectKey::parse(entry.path()) {
                Ok(key) if entry.metadata().is_file() && entry.path().starts_with(&self.path) => {
                    page.push(Listed { key, length: entry.metadata().content_length() });
                }
                _ => self.strangers += 1,
            }
        }
        self.progress = Progress::Within(lister);
        Ok(Some(page))
    }

    /// The first bytes of stripe ids that have a folder of shards here, in one round trip: a small vault has few of the 256, and asking for
    /// each of them costs more than all the rest of a backup that finds nothing new.
    pub(super) async fn shard_folders(site: &Site) -> Result<BTreeSet<u8>, SiteError> {
        let work = Work { operation: Operation::List, object: SHARDS, bytes: 0 };
        let found = site.inner.line.run(work, |_turn| read_shard_folders(site)).await?;
        if found.is_empty() {
            // A folder that is not there lists as empty.
            site.confirm_marker(work).await?;
        }
        Ok(found)
    }

    /// All of it, begun again after a passing error.
    pub(super) async fn collect(site: &Site, prefix: Prefix) -> Result<Vec<Listed>, SiteError> {
        let patience = site.inner.line.patience();
        let mut retry = 0;
        loop {
            match Self::begin(site.clone(), prefix).rest().await {
                Err(error) if error.is_passing() && retry < patience.retries => {
                    tokio::time::sleep(patience.pause(retry)).await;
                    retry += 1;
                }
                Err(error) => {
                    let work = Work { operation: Operation::List, object: &error.object, bytes: 0 };
                    site.inner.line.judge(work, &error.cause);
                    return Err(error);
                }
                listed => return listed,
            }
        }
    }

    async fn rest(mut self) -> Result<Vec<Listed>, SiteError> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
