//! The listing of shards, folder by folder: the first byte of a stripe's id names its folder.
//!
//! - **Owns** how a site is asked: all at once where it can, else only for the folders that it has, some at a time.
//! - **Does not** judge what is listed: whoever asks says what a failure means.
//!
//! # Invariants
//! - **L1** A site that could not be listed to the end gives an error, at the latest in the last folder that is asked for.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_sites::{Listed, ObjectKey, Prefix, Site, SiteError};
use futures::future::join_all;
use futures::stream::{self, Stream, StreamExt};

/// Folders of shards that are listed at a time: they hide the time that a site takes to answer, and bound the memory
/// to a small part of the whole.
const FOLDERS_IN_FLIGHT: usize = 4;
/// From more folders on than so many a site that can lists all of them in one go.
const DEEP_FROM: usize = 16;

/// What sites list of one folder, by their numbers. One that has nothing of it may be left out.
pub(crate) type Folder = Vec<(usize, Result<Vec<Listed>, SiteError>)>;

/// A site and the folders that it has.
type Having = (BTreeSet<u8>, (usize, Site));

/// All folders there may be.
pub(crate) fn all() -> BTreeSet<u8> {
    (0..=u8::MAX).collect()
}

/// Lists these folders at these sites, in order. Sites that could not even say which folders they have come before the first.
pub(crate) async fn folders(sites: Vec<(usize, Site)>, wanted: &BTreeSet<u8>) -> impl Stream<Item = Folder> + Unpin {
    let (deep, by_folder): (Vec<_>, Vec<_>) =
        sites.into_iter().partition(|(_, site)| site.lists_deep() && wanted.len() > DEEP_FROM);
    let mut whole = join_all(deep.into_iter().map(list_whole)).await;
    let (there, silent) = folders_there(by_folder).await;
    let holding = |first: u8| {
        let sites = there.iter().filter(|(folders, _)| folders.contains(&first));
        sites.map(|(_, site)| site.clone()).collect::<Vec<_>>()
    };
    let folders: Vec<_> = wanted.iter().map(|first| (*first, holding(*first))).collect();
    let list = |(first, sites)| async move { (first, list_folder(sites, first).await) };
    let listed = stream::iter(folders).map(list).buffered(FOLDERS_IN_FLIGHT);
    let listed = listed.map(move |(first, mut folder)| {
        folder.extend(whole.iter_mut().map(|whole| whole.take(first)));
        folder
    });
    stream::iter([silent]).chain(listed)
}

/// Asks each of these sites which folders it has; those that do not answer come second.
async fn folders_there(sites: Vec<(usize, Site)>) -> (Vec<Having>, Folder) {
    let found = join_all(sites.iter().map(|(_, site)| site.shard_folders())).await;
    let (mut there, mut silent) = (Vec::new(), Vec::new());
    for ((member, site), folders) in sites.into_iter().zip(found) {
        match folders {
            Ok(folders) => there.push((folders, (member, site))),
            Err(error) => silent.push((member, Err(error))),
        }
    }
    (there, silent)
}

async fn list_folder(sites: Vec<(usize, Site)>, first: u8) -> Folder {
    let list = |(member, site): (usize, Site)| async move { (member, site.list_all(Prefix::ShardsOf(first)).await) };
    join_all(sites.into_iter().map(list)).await
}

/// What a site lists of all its shards at once, where that is a page of a thousand for each call and not one of a
/// folder: the two hundred round trips of the folders would be most of the time.
struct Whole {
    member: usize,
    folders: BTreeMap<u8, Vec<Listed>>,
    error: Option<SiteError>,
}

impl Whole {
    fn take(&mut self, first: u8) -> (usize, Result<Vec<Listed>, SiteError>) {
        let listed = self.folders.remove(&first).unwrap_or_default();
        (self.member, self.error.take().map_or(Ok(listed), Err))
    }
}

async fn list_whole((member, site): (usize, Site)) -> Whole {
    let mut folders: BTreeMap<u8, Vec<Listed>> = BTreeMap::new();
    let error = match site.list_all(Prefix::Shards).await {
        Ok(listed) => {
            for listed in listed {
                if let ObjectKey::Shard { stripe, .. } = listed.key {
                    let [first, ..] = stripe.as_bytes();
                    folders.entry(*first).or_default().push(listed);
                }
            }
            None
        }
        Err(error) => Some(error),
    };
    Whole { member, folders, error }
}
