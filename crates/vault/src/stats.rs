//! What takes space: at each site, for each snapshot and source, and for the folders of one snapshot.
//!
//! - **Owns** the account of who needs which stripe, from the public lists and what the sites list. No key is needed for it.
//! - **Does not** remove anything.
//!
//! # Invariants
//! - **P1** Every byte of every listed shard is counted once: for the snapshots that need its stripe, or as needed by none.
//! - **P2** What is counted as a snapshot's alone is in no list of any other snapshot: it is what its removal frees.

mod folders;
mod needed;

use std::collections::{BTreeMap, HashMap};

use blockhouse_sites::{Listed, ObjectKey, Prefix, Site, SiteError, SiteName};
use blockhouse_types::{SnapshotId, SourceId, StripeId};
use futures::future::join_all;
use futures::stream::StreamExt;

pub use folders::{FolderUse, folders};

use crate::ledger::SnapshotRecord;
use crate::lists::ListError;
use crate::select::Known;
use crate::stripes::listing;
use crate::vault::Vault;

use needed::{Needs, Owner};

/// The folders of plain objects.
const PLAIN: [Prefix; 7] =
    [Prefix::Lists, Prefix::Snapshots, Prefix::Maps, Prefix::Wraps, Prefix::Bags, Prefix::Blocks, Prefix::Handovers];

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn plus(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// What lies at a site.
#[derive(Debug)]
pub struct SiteUse {
    /// Its name.
    pub site: SiteName,
    /// Its shards.
    pub shards: Amount,
    /// Everything else: lists, snapshots, wraps, maps, key bags, blocks.
    pub others: Amount,
    /// Why it could not be listed to the end; then the numbers say less than there is.
    pub error: Option<SiteError>,
}

/// What a snapshot or source needs at the sites, all shards of its stripes counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needed {
    /// All its stripes.
    pub all: Amount,
    /// Those that nothing else needs: what its removal frees.
    pub alone: Amount,
}

/// The account.
#[derive(Debug)]
pub struct Stats {
    /// In the order of the configuration; those that are up.
    pub sites: Vec<SiteUse>,
    /// All stripes that snapshots need.
    pub needed: Amount,
    /// Stripes that no snapshot needs: of interrupted backups, or of forgotten snapshots.
    pub unneeded: Amount,
    /// By snapshot.
    pub snapshots: HashMap<SnapshotId, Needed>,
    /// By source.
    pub sources: BTreeMap<SourceId, Needed>,
    /// Lists that no site gives: what they name is not counted for their snapshots.
    pub unread: Vec<ListError>,
}

/// Takes stock of the whole vault: what is shared can only be told from all snapshots.
pub async fn take_stock(vault: &Vault, all: &[Known]) -> Stats {
    let records: Vec<&SnapshotRecord> = all.iter().map(|known| &known.record).collect();
    let needs = needed::read(vault.sites(), &records).await;
    let (sites, stripes) = list_sites(vault).await;
    let mut stats = Stats {
        sites,
        needed: Amount::default(),
        unneeded: Amount::default(),
        snapshots: records.iter().map(|record| (record.id, Needed::default())).collect(),
        sources: records.iter().map(|record| (record.source, Needed::default())).collect(),
        unread: Vec::new(),
    };
    stats.account(&needs, &stripes, &records);
    stats.unread = needs.unread;
    stats
}

impl Stats {
    fn account(&mut self, needs: &Needs, stripes: &HashMap<StripeId, u64>, records: &[&SnapshotRecord]) {
        let size = |stripe: &StripeId| stripes.get(stripe).copied().unwrap_or_default();
        for (stripe, bytes) in stripes {
            if !needs.stripes.contains_key(stripe) {
                self.unneeded.add(*bytes);
            }
        }
        for (stripe, need) in &needs.stripes {
            let bytes = size(stripe);
            self.needed.add(bytes);
            if let Owner::One(snapshot) = need.snapshots
                && let Some(used) = records.get(snapshot).and_then(|record| self.snapshots.get_mut(&record.id))
            {
                used.alone.add(bytes);
            }
            for source in &need.sources {
                let used = self.sources.entry(*source).or_default();
                used.all.add(bytes);
                if need.sources.len() == 1 {
                    used.alone.add(bytes);
                }
            }
        }
        let totals = needs.totals(size);
        for record in records {
            if let Some(used) = self.snapshots.get_mut(&record.id) {
                used.all.plus(totals.get(&crate::lists::root_of(record)).copied().unwrap_or_default());
            }
        }
    }
}

/// What each site lists, and the bytes of all shards of each stripe.
async fn list_sites(vault: &Vault) -> (Vec<SiteUse>, HashMap<StripeId, u64>) {
    let listed = join_all(vault.sites().up().map(|(_, site)| list_site(site))).await;
    let mut stripes: HashMap<StripeId, u64> = HashMap::new();
    let sites = listed.into_iter().map(|(site, shards)| {
        for (stripe, bytes) in shards {
            *stripes.entry(stripe).or_default() += bytes;
        }
        site
    });
    let sites = sites.collect();
    (sites, stripes)
}

async fn list_site(site: &Site) -> (SiteUse, HashMap<StripeId, u64>) {
    let mut used =
        SiteUse { site: site.name().clone(), shards: Amount::default(), others: Amount::default(), error: None };
    let mut stripes: HashMap<StripeId, u64> = HashMap::new();
    if let Err(error) = count_all(site, &mut used, &mut stripes).await {
        used.error = Some(error);
    }
    (used, stripes)
}

/// Counts until something cannot be listed.
async fn count_all(site: &Site, used: &mut SiteUse, stripes: &mut HashMap<StripeId, u64>) -> Result<(), SiteError> {
    let wanted = listing::all();
    let mut folders = listing::folders(vec![(0, site.clone())], &wanted).await;
    while let Some(folder) = folders.next().await {
        for (_, listed) in folder {
            for Listed { key, length } in listed? {
                let ObjectKey::Shard { stripe, .. } = key else { continue };
                used.shards.add(length);
                *stripes.entry(stripe).or_default() += length;
            }
        }
    }
    for prefix in PLAIN {
        site.list_all(prefix).await?.iter().for_each(|listed| used.others.add(listed.length));
    }
    Ok(())
}
