//! Which shards the sites list, by names and sizes.
//!
//! - **Owns** the listing of all sites and what follows from it: holders, what is missing, durability.
//! - **Does not** read a byte of any shard: a file of the right name and size counts here. [`super::Depth::Data`] does.
//!
//! # Sizes
//! The code and the pack's length give the length of a shard file; another length is another file. Where only the id
//! of a stripe is known, the length is the one that most of its listed shards have among those that the vault's code
//! can give, and among equals the shortest. Sites that lie may win that vote, and then gain what they gain by
//! withholding: the right shards do not count. Nothing is removed on that word (V3).
//!
//! # Cost
//! 8 bytes for each listed shard and 36 for each stripe: 11 MB for 100,000 stripes of 9 shards.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use blockhouse_pipeline::shard::StripeShape;
use blockhouse_sites::{Listed, ObjectKey, Site, SiteError};
use blockhouse_types::limits::{PACK_MAX, PACK_MIN, SHARD_LEAF};
use blockhouse_types::{Code, Durability, ShardIndex, StripeId};
use futures::stream::StreamExt;

use super::layout::{Layout, Places};
use super::listing::{self, Folder};
use super::{Holder, Repaired, StripeStore, Written};
use crate::index::StripeEntry;

/// A stripe that is asked for: by its id alone, or with its lengths.
#[derive(Debug, Clone, Copy)]
pub struct Sought {
    /// The stripe.
    pub id: StripeId,
    /// Its code and lengths, where they are known.
    pub shape: Option<StripeShape>,
}

impl From<StripeId> for Sought {
    fn from(id: StripeId) -> Self {
        Self { id, shape: None }
    }
}

impl From<&StripeId> for Sought {
    fn from(id: &StripeId) -> Self {
        Self::from(*id)
    }
}

impl From<&StripeEntry> for Sought {
    fn from(entry: &StripeEntry) -> Self {
        Self { id: entry.id, shape: StripeShape::try_new(entry.code, entry.pack_len).ok() }
    }
}

/// A listed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    member: u16,
    index: ShardIndex,
    length: u32,
}

impl Holding {
    fn holder(self) -> Holder {
        Holder { index: self.index, member: self.member.into() }
    }
}

/// What was listed, and what was written since.
#[derive(Debug)]
pub struct Presence {
    code: Code,
    planned: Durability,
    places: Arc<Places>,
    listed: Vec<usize>,
    failed: Vec<(usize, SiteError)>,
    /// Ascending; the holdings of a stripe end where those of the next begin.
    stripes: Vec<(StripeId, u32)>,
    holdings: Vec<Holding>,
    /// The holdings of stripes that changed since.
    changed: BTreeMap<StripeId, Vec<Holding>>,
}

/// What a set of stripes survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Least {
    /// The least over them in each respect; none for no stripes.
    pub durability: Option<Durability>,
    /// Those that have fewer than k shards.
    pub unreadable: Vec<StripeId>,
    /// Those that can be read and survive the loss of fewer sites than planned.
    pub degraded: Vec<StripeId>,
}

impl StripeStore {
    /// Lists the shards of all sites that can be read, at the same time.
    pub async fn presence(&self) -> Presence {
        self.list_folders(&listing::all()).await
    }

    /// Lists what the sites have of these stripes, and of those whose ids begin alike; says nothing of others.
    pub async fn presence_of(&self, stripes: &[StripeId]) -> Presence {
        self.list_folders(&stripes.iter().filter_map(|id| id.as_bytes().first().copied()).collect()).await
    }

    async fn list_folders(&self, wanted: &BTreeSet<u8>) -> Presence {
        let sites: Vec<(usize, Site)> = self.sites.up().map(|(member, site)| (member, site.clone())).collect();
        let mut presence = Presence::none(self);
        presence.listed = sites.iter().map(|(member, _)| *member).collect();
        let mut folders = listing::folders(sites, wanted).await;
        while let Some(folder) = folders.next().await {
            presence.take_folder(folder);
        }
        presence.drop_failed();
        presence.stripes.shrink_to_fit();
        presence.holdings.shrink_to_fit();
        presence
    }
}

impl Presence {
    fn none(store: &StripeStore) -> Self {
        Self {
            code: store.code,
            planned: store.planned,
            places: store.places.clone(),
            listed: Vec::new(),
            failed: Vec::new(),
            stripes: Vec::new(),
            holdings: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    /// Takes in what the sites list of the stripes whose ids share a first byte; folders come in that byte's order.
    fn take_folder(&mut self, folder: Folder) {
        let mut found: Vec<(StripeId, Holding)> = Vec::new();
        for (member, listed) in folder {
            match listed {
                Ok(listed) => found.extend(listed.into_iter().filter_map(|listed| holding(member, listed))),
                Err(error) if self.failed.iter().all(|(other, _)| *other != member) => {
                    self.failed.push((member, error));
                }
                Err(_) => {}
            }
        }
        found.sort_unstable_by_key(|(id, holding)| (*id, holding.holder()));
        for (id, holding) in found {
            if self.stripes.last().is_none_or(|(last, _)| *last != id) {
                let start = u32::try_from(self.holdings.len()).expect("four billion shards are not listed in memory");
                self.stripes.push((id, start));
            }
            self.holdings.push(holding);
        }
    }

    /// A listing that ended early says nothing of what it did not reach: such a site counts as not listed.
    fn drop_failed(&mut self) {
        let failed: Vec<usize> = self.failed.iter().map(|(member, _)| *member).collect();
        self.listed.retain(|member| !failed.contains(member));
        if failed.is_empty() {
            return;
        }
        let (stripes, holdings) = (std::mem::take(&mut self.stripes), std::mem::take(&mut self.holdings));
        let ends = stripes.iter().skip(1).map(|(_, start)| *start as usize).chain([holdings.len()]);
        for ((id, start), end) in stripes.iter().zip(ends) {
            let kept = holdings.get(*start as usize..end).unwrap_or_default().iter();
            let first = u32::try_from(self.holdings.len()).unwrap_or(u32::MAX);
            self.holdings.extend(kept.filter(|holding| !failed.contains(&holding.member.into())));
            if self.holdings.len() > first as usize {
                self.stripes.push((*id, first));
            }
        }
    }

    /// The members that were listed to the end.
    pub fn listed(&self) -> &[usize] {
        &self.listed
    }

    /// The members that were up and could not be listed, and why.
    pub fn failed(&self) -> &[(usize, SiteError)] {
        &self.failed
    }

    /// Every stripe of which any site lists a shard.
    pub fn stripes(&self) -> impl Iterator<Item = StripeId> {
        let new = self.changed.keys().filter(|id| self.range(id).is_none());
        self.stripes.iter().map(|(id, _)| *id).chain(new.copied())
    }

    /// The shards that are there in the right size, by index.
    pub fn holders(&self, sought: impl Into<Sought>) -> Vec<Holder> {
        self.sort(sought.into()).0
    }

    /// The files that are there in another size than they should be, with the length found.
    pub fn wrong_sizes(&self, sought: impl Into<Sought>) -> Vec<(Holder, u64)> {
        self.sort(sought.into()).1
    }

    /// The shards that no listed site has.
    pub fn missing(&self, sought: impl Into<Sought>) -> Vec<ShardIndex> {
        self.layout(sought.into()).missing()
    }

    /// True if there are enough shards to read it.
    pub fn is_usable(&self, sought: impl Into<Sought>) -> bool {
        let sought = sought.into();
        self.layout(sought).distinct() >= self.code_of(sought).data()
    }

    /// What it survives, by the shards that are there; an index that is there twice counts once. None if there are too
    /// few to read it.
    pub fn durability(&self, sought: impl Into<Sought>) -> Option<Durability> {
        let sought = sought.into();
        let layout = self.layout(sought);
        (layout.distinct() >= self.code_of(sought).data()).then(|| layout.durability())
    }

    /// What all of these survive together.
    pub fn least<S: Into<Sought>>(&self, stripes: impl IntoIterator<Item = S>) -> Least {
        let mut least = Least { durability: None, unreadable: Vec::new(), degraded: Vec::new() };
        for sought in stripes.into_iter().map(Into::into) {
            let durability = self.layout(sought).durability();
            least.durability = Some(least.durability.map_or(durability, |least| least.least(durability)));
            if usize::from(durability.d) < self.code_of(sought).data() {
                least.unreadable.push(sought.id);
            } else if durability.w < self.planned.w {
                least.degraded.push(sought.id);
            }
        }
        least
    }

    /// How long a shard file of this stripe is, by what is listed; none if nothing of it is.
    pub fn file_len(&self, sought: impl Into<Sought>) -> Option<u64> {
        let sought = sought.into();
        let by_shape = sought.shape.map(StripeShape::file_len);
        by_shape.or_else(|| common_length(self.code, self.holdings(&sought.id).iter())).map(|length| length as u64)
    }

    /// Takes a stripe in that was written after the listing.
    pub fn note_written(&mut self, written: &Written) {
        self.change(Sought::from(&written.entry), &written.holders, &[]);
    }

    /// Takes in what a repair changed.
    pub fn note_repaired(&mut self, repaired: &Repaired) {
        let sought = Sought { id: repaired.stripe, shape: Some(repaired.shape) };
        self.change(sought, &repaired.written, &repaired.removed);
    }

    fn change(&mut self, sought: Sought, added: &[Holder], removed: &[Holder]) {
        let length = sought.shape.map_or(0, |shape| u32::try_from(shape.file_len()).unwrap_or(u32::MAX));
        let mut holdings = self.holdings(&sought.id).to_vec();
        holdings.retain(|holding| !removed.contains(&holding.holder()) && !added.contains(&holding.holder()));
        let holding =
            |holder: &Holder| Some(Holding { member: u16::try_from(holder.member).ok()?, index: holder.index, length });
        holdings.extend(added.iter().filter_map(holding));
        holdings.sort_unstable_by_key(|holding| holding.holder());
        self.changed.insert(sought.id, holdings);
    }

    pub(super) fn code_of(&self, sought: Sought) -> Code {
        sought.shape.map_or(self.code, StripeShape::code)
    }

    fn layout(&self, sought: Sought) -> Layout<'_> {
        Layout::of(sought.id, self.code_of(sought), &self.places, self.sort(sought).0)
    }

    /// Tells the files of the right size from the others.
    fn sort(&self, sought: Sought) -> (Vec<Holder>, Vec<(Holder, u64)>) {
        let code = self.code_of(sought);
        let holdings = self.holdings(&sought.id).iter().filter(|holding| usize::from(holding.index.0) < code.shards());
        let length = match sought.shape {
            Some(shape) => Some(shape.file_len()),
            None => common_length(code, holdings.clone()),
        };
        let (right, wrong): (Vec<&Holding>, Vec<&Holding>) =
            holdings.partition(|holding| Some(holding.length as usize) == length);
        let wrong = wrong.into_iter().map(|holding| (holding.holder(), holding.length.into())).collect();
        (right.into_iter().map(|holding| holding.holder()).collect(), wrong)
    }

    fn holdings(&self, id: &StripeId) -> &[Holding] {
        match self.changed.get(id) {
            Some(changed) => changed,
            None => self.range(id).and_then(|range| self.holdings.get(range)).unwrap_or_default(),
        }
    }

    fn range(&self, id: &StripeId) -> Option<Range<usize>> {
        let at = self.stripes.binary_search_by_key(id, |(id, _)| *id).ok()?;
        let (_, start) = self.stripes.get(at)?;
        let end = self.stripes.get(at + 1).map_or(self.holdings.len(), |(_, next)| *next as usize);
        Some(*start as usize..end)
    }
}

fn holding(member: usize, listed: Listed) -> Option<(StripeId, Holding)> {
    let ObjectKey::Shard { stripe, index } = listed.key else { return None };
    // No shard is as long as the greatest length, so what does not fit is as wrong as it is.
    let length = u32::try_from(listed.length).unwrap_or(u32::MAX);
    Some((stripe, Holding { member: u16::try_from(member).ok()?, index, length }))
}

/// The length that most have among those that the code can give.
fn common_length<'a>(code: Code, holdings: impl Iterator<Item = &'a Holding>) -> Option<usize> {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for holding in holdings.filter(|holding| is_possible(code, holding.length as usize)) {
        *votes.entry(holding.length).or_default() += 1;
    }
    let most = votes.values().max().copied()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(length, _)| length as usize)
}

/// True if some pack under this code has shards of that length.
fn is_possible(code: Code, file_len: usize) -> bool {
    let Ok(least) = StripeShape::try_new(code, PACK_MIN as u64) else { return false };
    let Some(body) = file_len.checked_sub(least.header_len()) else { return false };
    let leaves = body.div_ceil(SHARD_LEAF + 32);
    let payload = body.saturating_sub(32 * leaves);
    let (shortest, longest) = (least.payload_len(), PACK_MAX.div_ceil(code.data()));
    (shortest..=longest).contains(&payload) && payload.div_ceil(SHARD_LEAF) == leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possible_lengths_are_those_of_some_pack() {
        for code in ["4+2", "1+0", "6+3", "200+55"].map(|code| code.parse::<Code>().unwrap()) {
            let lengths = |pack: usize| StripeShape::try_new(code, pack as u64).unwrap().file_len();
            let (shortest, longest) = (lengths(PACK_MIN), lengths(PACK_MAX));
            assert!(is_possible(code, shortest) && is_possible(code, longest));
            for wrong in [0, 1, shortest - 1, longest + 1, longest + 20_000] {
                assert!(!is_possible(code, wrong), "{code} {wrong}");
            }
            // Around the places where a leaf more is needed.
            for pack in (PACK_MIN..PACK_MAX).step_by(1_000_003).flat_map(|at| {
                let whole = at.next_multiple_of(SHARD_LEAF * code.data()).min(PACK_MAX - 1);
                [at, whole, whole + 1]
            }) {
                assert!(is_possible(code, lengths(pack)), "{code} {pack}");
            }
            let whole = (PACK_MIN * 2).next_multiple_of(SHARD_LEAF * code.data());
            assert!(!is_possible(code, lengths(whole) + 1), "a leaf of no bytes");
        }
    }

    /// The bound that the size of a large vault rests on.
    #[test]
    fn a_listed_shard_costs_8_bytes_and_a_stripe_36() {
        assert_eq!((size_of::<Holding>(), size_of::<(StripeId, u32)>()), (8, 36));
    }
}
