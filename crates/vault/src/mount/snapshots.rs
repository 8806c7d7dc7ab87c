//! Opening snapshots when they are looked at.
//!
//! - **Owns** what is known of a snapshot that is open: its domain, what its folder is, and the way to its chunks.
//! - **Does not** give a snapshot up for one part that is lost: what the index knows is read all the same.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::manifest::Manifest;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_types::{ListHash, Metadata, SnapshotId, StripeId};

use super::tree::{Listing, ListingError};
use super::{Fault, MountedVault, lock};
use crate::index::Index;
use crate::ledger::SnapshotRecord;
use crate::maps;
use crate::reader::{self, Described, Domain, OpenSnapshotError};
use crate::restore::root_paths;

/// Whose turn it is to open one snapshot, and when that failed last: it is not tried again at each call.
pub(super) type Turn = Arc<Mutex<Option<Instant>>>;

/// How long a snapshot that could not be opened is not tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A snapshot that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) id: SnapshotId,
    /// Whose ids its chunks have.
    pub(super) domain: Domain,
    /// What its folder is.
    pub(super) top: Top,
}

/// What a snapshot's folder is: as `restore` would write its target.
#[derive(Debug)]
pub(super) enum Top {
    /// The only folder that was backed up.
    Folder { metadata: Metadata, listing: Content },
    /// Each root under its own name.
    Roots(Arc<Listing>),
}

/// Why a snapshot cannot be looked into.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("it could not be opened")]
    Open(#[from] OpenSnapshotError),
    #[error("the listing of its roots could not be read")]
    Roots(#[from] ListingError),
}

impl MountedVault {
    /// A snapshot, opened if it is not open. Why it cannot be is told once.
    pub(super) fn opened(&self, id: SnapshotId) -> Result<Arc<Opened>, Fault> {
        if let Some(opened) = lock(&self.opened).get(&id) {
            return Ok(opened);
        }
        let record = self.catalog().record(&id).cloned().ok_or(Fault::Stale)?;
        let turn = Arc::clone(lock(&self.opening).entry(id).or_default());
        let mut failed = lock(&turn);
        // Somebody else may have had the turn before.
        if let Some(opened) = lock(&self.opened).get(&id) {
            return Ok(opened);
        }
        if failed.is_some_and(|when| when.elapsed() < RETRY) {
            return Err(Fault::Unreadable);
        }
        match self.look_into(&record) {
            Ok(opened) => {
                let opened = Arc::new(opened);
                lock(&self.opened).insert(id, Arc::clone(&opened), 1);
                // Whoever waits for this turn finds it open.
                lock(&self.opening).remove(&id);
                Ok(opened)
            }
            Err(error) => {
                *failed = Some(Instant::now());
                self.trouble(Some(id), b"", &error);
                Err(Fault::Unreadable)
            }
        }
    }

    fn look_into(&self, record: &SnapshotRecord) -> Result<Opened, LookError> {
        let manifest = self.runtime.block_on(self.prepare(record))?;
        let domain = self.chunks.domain(&manifest.id_subkey);
        let roots = self.read_listing(domain, &manifest.root)?.entries;
        let top = match <[Entry; 1]>::try_from(roots) {
            Ok([Entry { metadata, body: Body::Directory(listing), .. }]) => Top::Folder { metadata, listing },
            Ok([root]) => Top::Roots(Arc::new(as_restored(vec![root]))),
            Err(roots) => Top::Roots(Arc::new(as_restored(roots))),
        };
        Ok(Opened { id: record.id, domain, top })
    }

    /// Opens the manifest and makes sure that the index knows the snapshot's stripes, as far as they can be found.
    async fn prepare(&self, record: &SnapshotRecord) -> Result<Manifest, OpenSnapshotError> {
        let Described { manifest, manifest_key } = reader::describe(&self.vault, &self.unlocked, record).await?;
        let (sites, store) = (self.vault.sites(), self.chunks.store());
        let stripes: Vec<StripeId> = match crate::lists::read(sites, ListHash::new(record.commit.listRoot.0)).await {
            Ok(stripes) => stripes,
            Err(error) => {
                self.trouble(Some(record.id), b"", &error);
                Vec::new()
            }
        };
        let is_known = || {
            let known = self.chunks.index();
            self.keys.is_some() && stripes.iter().all(|stripe| known.stripe(stripe).is_some())
        };
        if is_known() {
            return Ok(manifest);
        }
        // One at a time: an index that was opened before another was put in place would take back what that one knows.
        let _alone = self.learning.lock().await;
        if is_known() {
            return Ok(manifest);
        }
        // With what other processes added meanwhile.
        let mut index = Index::open(&self.vault.folder().index())?;
        match &self.keys {
            Some(keys) => reader::learn(&mut index, store, keys, &stripes).await?,
            None => drop(maps::admit(&self.vault, store, &mut index, record.id, &manifest_key).await?),
        }
        self.chunks.set_index(index);
        Ok(manifest)
    }
}

/// Several roots, under the names that `restore` gives them.
fn as_restored(roots: Vec<Entry>) -> Listing {
    let names: Vec<Vec<u8>> = root_paths(&roots).iter().map(|path| path.as_bytes().to_vec()).collect();
    let entries = roots.into_iter().zip(names).map(|(root, name)| Entry { name, ..root });
    Listing::of(entries.collect())
}
