//! The copies of one object: which sites list it, and what their bytes are worth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_sites::{Cause, Listed, ObjectKey, Prefix, Site, SiteError, Sites};
use bytes::Bytes;
use futures::future::join_all;

use super::CopyState;
use super::needed::{Needed, Truth, Verdict, agreed};

/// How much of a long object is in memory for each site.
const PIECE: u64 = 4 << 20;

/// What the sites list of one folder.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The members that were listed to the end.
    pub(super) members: Vec<usize>,
    pub(super) failed: Vec<(usize, SiteError)>,
    held: HashMap<ObjectKey, Vec<(usize, u64)>>,
}

impl Shelf {
    /// Lists the folder at every site that is up; only the objects that are asked about are kept.
    pub(super) async fn list(sites: &Sites, prefix: Prefix, is_asked: impl Fn(&ObjectKey) -> bool) -> Self {
        let list = async |(member, site): (usize, &Site)| {
            let listed = site.list_all(prefix).await;
            let asked = |listed: Vec<Listed>| listed.into_iter().filter(|it| is_asked(&it.key)).collect::<Vec<_>>();
            (member, listed.map(asked))
        };
        let mut shelf = Self::default();
        for (member, listed) in join_all(sites.up().map(list)).await {
            match listed {
                Ok(listed) => {
                    shelf.members.push(member);
                    for Listed { key, length } in listed {
                        shelf.held.entry(key).or_default().push((member, length));
                    }
                }
                Err(error) => shelf.failed.push((member, error)),
            }
        }
        shelf
    }

    /// Every object that any site lists.
    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.held.keys().copied()
    }

    pub(super) fn holders(&self, key: &ObjectKey) -> &[(usize, u64)] {
        self.held.get(key).map_or(&[], Vec::as_slice)
    }
}

/// What was found of one object.
#[derive(Debug)]
pub(super) struct Looked {
    /// The object; by what it is judged may have been settled by reading.
    pub(super) needed: Needed,
    /// True if every copy was read.
    pub(super) is_read: bool,
    /// The members with a copy that is good, as far as was looked.
    pub(super) good: BTreeSet<usize>,
    /// The others.
    pub(super) flaws: BTreeMap<usize, CopyState>,
}

/// Looks at the copies of an object at the members that were listed. They are read if that is wanted, and if their lengths are
/// not what they should be, which alone proves nothing about either of two.
pub(super) async fn look(sites: &Sites, shelf: &Shelf, needed: Needed, read: bool) -> Looked {
    let holders = shelf.holders(&needed.key);
    let expected = needed.length.or_else(|| holders.first().map(|(_, length)| *length));
    let is_odd = holders.iter().any(|(_, length)| Some(*length) != expected);
    let (mut good, mut flaws) = (BTreeSet::new(), BTreeMap::new());
    good.extend(holders.iter().map(|(member, _)| *member));
    flaws.extend(shelf.members.iter().filter(|member| !good.contains(member)).map(|it| (*it, CopyState::Missing)));
    let looked = Looked { needed, is_read: false, good, flaws };
    if read || is_odd { read_all(sites, looked).await } else { looked }
}

/// Reads every copy that is there.
pub(super) async fn read_all(sites: &Sites, mut looked: Looked) -> Looked {
    let needed = &looked.needed;
    let copies = looked.good.iter().filter_map(|member| Some((*member, sites.members().get(*member)?.readable()?)));
    let copies = join_all(copies.map(async |(member, site)| (member, read_one(site, needed).await))).await;
    let (mut good, mut candidates) = (BTreeSet::new(), BTreeMap::new());
    for (member, copy) in copies {
        match copy {
            Ok(Verdict::Good) => drop(good.insert(member)),
            Ok(Verdict::Candidate(hash)) => drop(candidates.insert(member, hash)),
            Ok(Verdict::Wrong) => drop(looked.flaws.insert(member, CopyState::Wrong)),
            Err(error) if error.is_not_found() => drop(looked.flaws.insert(member, CopyState::Missing)),
            // A site that went down is not up: nothing is said of it.
            Err(_) if sites.members().get(member).is_none_or(|it| it.readable().is_none()) => {}
            Err(error) => drop(looked.flaws.insert(member, CopyState::Unreadable(Arc::new(error)))),
        }
    }
    let right = agreed(&candidates, sites.members().len());
    for (member, hash) in candidates {
        match right {
            Some(right) if right == hash => drop(good.insert(member)),
            Some(_) => drop(looked.flaws.insert(member, CopyState::Wrong)),
            None => drop(looked.flaws.insert(member, CopyState::Disputed)),
        }
    }
    if let Some(right) = right {
        looked.needed.truth = Truth::Agreed(right);
    }
    Looked { is_read: true, good, ..looked }
}

/// Reads a copy and judges it. What is longer than its format allows is wrong without being read.
pub(super) async fn read_one(site: &Site, needed: &Needed) -> Result<Verdict, SiteError> {
    let read = match needed.key {
        ObjectKey::Map { .. } => read_map(site, needed).await,
        _ => site.get(&needed.key).await.map(|bytes| needed.judge(&bytes)),
    };
    match read {
        Err(error) if matches!(error.cause, Cause::TooLong { .. } | Cause::Short { .. }) => Ok(Verdict::Wrong),
        read => read,
    }
}

/// A reader's map may be long: its beginning says whose it is, of the rest only the hash is kept.
async fn read_map(site: &Site, needed: &Needed) -> Result<Verdict, SiteError> {
    let Some(length) = site.stat(&needed.key).await? else {
        return site.get(&needed.key).await.map(|bytes| needed.judge(&bytes));
    };
    let (mut hasher, mut at, mut first) = (ContentHasher::new(), 0, Bytes::new());
    while at < length {
        let end = length.min(at + PIECE);
        let piece = site.get_range(&needed.key, at..end).await?;
        hasher.update(&piece);
        first = if at == 0 { piece } else { first };
        at = end;
    }
    let hash = hasher.finish();
    Ok(match needed.judge(&first) {
        Verdict::Candidate(_) => Verdict::Candidate(hash),
        _ if matches!(needed.truth, Truth::Agreed(right) if right == hash) => Verdict::Good,
        _ => Verdict::Wrong,
    })
}
