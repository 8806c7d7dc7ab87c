//! One storage site: opened by its marker, asked within deadlines.
//!
//! - **Owns** the operations on objects and what a failure means for the rest of the run.
//! - **Does not** know what objects hold, and does not choose among sites: `vault` and `sites` do.
//!
//! # Invariants
//! - **W1** Nothing is read from or written to a site whose marker is missing or another one's. Every write looks for
//!   the marker again, and so does every answer that something is absent: an unmounted disk is not an empty one.
//! - **S1** A call ends within its deadline. A site that exceeds one is down for the rest of the run.
//! - **S2** After a failed write or sync a site takes no more writes in this run; it can still be read.
//! - **S3** No more than [`SITE_CONCURRENCY`] calls are at one site at a time, also counting changes that hang. Reads that were given up while
//!   they hang do not count: nobody waits for them any more.
//!
//! Format: `docs/design/sites.md`.

mod create;
mod file_read;
mod folder_walk;
mod line;
mod listing;
mod probe;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use blockhouse_types::{SiteId, VaultId};
use bytes::Bytes;
use opendal::{Buffer, EntryMode, Operator};
use rustix::io::Errno;

pub use create::CreateError;
pub use line::SiteState;
pub use listing::{Listed, Listing};
pub use probe::ProbeReport;

use crate::backend::{Backend, Writer};
use crate::domains::SiteDomain;
use crate::error::{Cause, DownReason, Operation, SiteDown, SiteError, is};
use crate::file_layer::{FileLayer, Put, Swept, TEMPORARY_FOLDER, WriteError};
use crate::key::{ObjectKey, Prefix};
use crate::marker::{Expected, Marker};
use crate::name::SiteName;
use crate::patience::{Patience, Spare};
use crate::reads::{read_range, read_whole};
use crate::remote::Versions;
use crate::url::{Labels, SiteSpec, SiteUrl};
use line::{Line, Work};

/// Calls at one site at a time. A file system commits the syncs of several writers together, which eight use well;
/// more only fill the pool of blocking threads when a site hangs.
pub const SITE_CONCURRENCY: usize = 8;

/// How long the marker of a remote site that was seen counts as seen.
///
/// A bucket's prefix is not unmounted, so a second look at it finds what the first one found; a folder of a server may
/// be, and then its folders are missing too, and before one is made the marker is looked for again (`remote`).
const MARKER_SEEN: Duration = Duration::from_secs(20);

/// A site that is open. Copies are handles of the same site.
#[derive(Debug, Clone)]
pub struct Site {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: SiteSpec,
    marker: Marker,
    backend: Backend,
    line: Line,
    /// When the marker of a remote site was last seen.
    seen: Mutex<Option<Instant>>,
}

impl Site {
    /// Opens the site if its folder holds the expected marker.
    pub async fn open(spec: &SiteSpec, expected: Expected, patience: Patience) -> Result<Self, SiteDown> {
        Self::open_sparing(spec, expected, patience, Spare::default()).await
    }

    /// The same of one of sites of which some can be spared.
    pub(crate) async fn open_sparing(
        spec: &SiteSpec,
        expected: Expected,
        patience: Patience,
        spare: Spare,
    ) -> Result<Self, SiteDown> {
        let line = Line::sparing(spec, patience, spare);
        let backend = open_backend(spec, &line).await.map_err(|reason| line.down_with(reason))?;
        Self::open_by(line, backend, spec, expected).await
    }

    /// The same on a given backend.
    pub async fn open_on(
        backend: Backend,
        spec: &SiteSpec,
        expected: Expected,
        patience: Patience,
    ) -> Result<Self, SiteDown> {
        Self::open_by(Line::new(spec, patience), backend, spec, expected).await
    }

    async fn open_by(line: Line, backend: Backend, spec: &SiteSpec, expected: Expected) -> Result<Self, SiteDown> {
        let marker = read_marker(&backend, &line, spec).await.map_err(|reason| line.down_with(reason))?;
        expected.check(&marker).map_err(|reason| line.down_with(Arc::new(reason)))?;
        let seen = Mutex::new(Some(Instant::now()));
        Ok(Self { inner: Arc::new(Inner { spec: spec.clone(), marker, backend, line, seen }) })
    }

    /// Its id.
    pub fn id(&self) -> SiteId {
        self.inner.marker.site
    }

    /// The vault it belongs to.
    pub fn vault(&self) -> VaultId {
        self.inner.marker.vault
    }

    /// Its name, as the vault's configuration has it.
    pub fn name(&self) -> &SiteName {
        &self.inner.spec.name
    }

    /// Where it is and what it is called.
    pub fn spec(&self) -> &SiteSpec {
        &self.inner.spec
    }

    /// Where it is.
    pub fn url(&self) -> &SiteUrl {
        &self.inner.spec.url
    }

    /// Its region and provider.
    pub fn labels(&self) -> &Labels {
        &self.inner.spec.labels
    }

    /// The device of its folder, or the number that remote sites of one host have in common.
    pub fn device(&self) -> Option<u64> {
        self.inner.backend.device
    }

    /// What it shares with other sites.
    pub fn domain(&self) -> SiteDomain {
        let Labels { region, provider } = self.labels().clone();
        SiteDomain { device: self.device(), provider, region }
    }

    /// Whether it answers, by what it did so far.
    pub fn state(&self) -> SiteState {
        self.inner.line.state()
    }

    /// Writes an object, which may be in pieces, unless its name is taken. When this returns, the object survives a loss of power.
    pub async fn put(&self, key: &ObjectKey, bytes: impl Into<Buffer>) -> Result<Put, SiteError> {
        let (path, bytes) = (key.path(), bytes.into());
        let work = Work { operation: Operation::Put, object: &path, bytes: bytes.len() as u64 };
        let (length, limit) = (bytes.len() as u64, key.max_len());
        if length > limit {
            return Err(self.inner.line.error(work, Cause::TooLong { length, limit }));
        }
        match self.writer() {
            Writer::File(layer) => {
                let pieces: Vec<Bytes> = bytes.collect();
                let write = move |layer: &FileLayer, path: &str| {
                    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
                    layer.put_pieces(path, &pieces)
                };
                self.change(work, layer, write).await
            }
            Writer::Remote(layer) => {
                let bytes = bytes.to_bytes();
                self.change_remote(work, || layer.put(&path, &bytes)).await
            }
        }
    }

    /// Reads a whole object.
    pub async fn get(&self, key: &ObjectKey) -> Result<Bytes, SiteError> {
        if matches!(self.writer(), Writer::Remote(_)) {
            return self.get_at_once(key).await;
        }
        if let Some(length) = self.length(Operation::Get, key).await? {
            return self.get_range(key, 0..length).await;
        }
        let work = Work { operation: Operation::Get, object: &key.path(), bytes: 0 };
        Err(self.inner.line.error(work, Cause::NotFound))
    }

    /// The same in one round trip: what is no object ends at the limit of its kind, or before.
    async fn get_at_once(&self, key: &ObjectKey) -> Result<Bytes, SiteError> {
        let path = key.path();
        let work = Work { operation: Operation::Get, object: &path, bytes: 0 };
        // How many bytes these will be is known afterwards; those of before have had their time first.
        self.inner.line.wait_to_read().await;
        // The deadline is that of the longest object: how long this one is, is not known before.
        let (most, stall) = (key.max_len(), self.stall());
        let read = self.inner.line.run_for(work, most, |_turn| read_whole(self.operator(), &path, most, stall));
        let read = read.await;
        match &read {
            Ok(bytes) => self.inner.line.charge_read(bytes.len() as u64),
            Err(error) if error.is_not_found() => self.confirm_marker(work).await?,
            Err(_) => {}
        }
        read
    }

    /// Reads a part of an object, all of it or nothing.
    pub async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, SiteError> {
        let path = key.path();
        let length = range.end.saturating_sub(range.start);
        let work = Work { operation: Operation::Get, object: &path, bytes: length };
        if range.end > key.max_len() {
            return Err(self.inner.line.error(work, Cause::TooLong { length: range.end, limit: key.max_len() }));
        }
        let read = match self.writer() {
            Writer::File(layer) => self.read_file(work, layer, range).await,
            Writer::Remote(_) => {
                let stall = self.stall();
                self.inner.line.run(work, |_turn| read_range(self.operator(), &path, range.clone(), stall)).await
            }
        };
        if read.as_ref().is_err_and(SiteError::is_not_found) {
            self.confirm_marker(work).await?;
        }
        read
    }

    /// Reads a part of a file in one call on a blocking thread. A read that is given up gives its turn back, whether or not the thread hangs: its
    /// deadline is given up with it, so the turn would be lost for good, and with it in time the site, unsaid.
    async fn read_file(&self, work: Work<'_>, layer: &Arc<FileLayer>, range: Range<u64>) -> Result<Bytes, SiteError> {
        let read = |_turn| {
            let (layer, range, path) = (layer.clone(), range.clone(), work.object.to_owned());
            blocking(move || file_read::read_range(layer.disk(), &path, range))
        };
        self.inner.line.run(work, read).await
    }

    /// The length of an object, or that it is not there.
    pub async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, SiteError> {
        self.length(Operation::Stat, key).await
    }

    /// Begins to list the objects of a folder.
    pub fn list(&self, prefix: Prefix) -> Listing {
        Listing::begin(self.clone(), prefix)
    }

    /// Lists the objects of a folder, in no order.
    pub async fn list_all(&self, prefix: Prefix) -> Result<Vec<Listed>, SiteError> {
        Listing::collect(self, prefix).await
    }

    /// Which folders of shards there are, by the first byte of their stripes' ids.
    pub async fn shard_folders(&self) -> Result<BTreeSet<u8>, SiteError> {
        Listing::shard_folders(self).await
    }

    /// Removes an object; false if it was not there.
    pub async fn delete(&self, key: &ObjectKey) -> Result<bool, SiteError> {
        let path = key.path();
        let work = Work { operation: Operation::Delete, object: &path, bytes: 0 };
        match self.writer() {
            Writer::File(layer) => self.change(work, layer, FileLayer::delete).await,
            Writer::Remote(layer) => self.change_remote(work, async || layer.delete(&path).await.map(Some)).await,
        }
    }

    /// Whether what is removed there can still be read as an older version, so that nothing ends by it. Asked of an object that is there.
    pub async fn versions(&self, key: &ObjectKey) -> Result<Versions, SiteError> {
        let path = key.path();
        let work = Work { operation: Operation::Stat, object: &path, bytes: 0 };
        match self.writer() {
            Writer::File(_) => Ok(Versions::None),
            Writer::Remote(layer) => self.inner.line.run(work, |_turn| layer.versions(&path)).await,
        }
    }

    /// Makes an object durable that another run may have left behind before it synced it; false if it is not there.
    pub async fn settle(&self, key: &ObjectKey) -> Result<bool, SiteError> {
        let path = key.path();
        let work = Work { operation: Operation::Put, object: &path, bytes: 0 };
        match self.writer() {
            Writer::File(layer) => self.change(work, layer, FileLayer::settle).await,
            Writer::Remote(layer) => self.change_remote(work, async || layer.settle(&path).await.map(Some)).await,
        }
    }

    /// Removes temporary files that were last written to `age` or longer before `now`.
    pub async fn sweep(&self, now: SystemTime, age: Duration) -> Result<Swept, SiteError> {
        let work = Work { operation: Operation::Sweep, object: TEMPORARY_FOLDER, bytes: 0 };
        match self.writer() {
            Writer::File(layer) => self.change(work, layer, move |layer, _| layer.sweep(now, age)).await,
            Writer::Remote(layer) => self.change_remote(work, async || layer.sweep(now, age).await.map(Some)).await,
        }
    }

    /// True if listing all of a prefix takes no more calls than listing its folders one by one takes.
    pub fn lists_deep(&self) -> bool {
        self.inner.backend.lists_deep()
    }

    fn writer(&self) -> &Writer {
        &self.inner.backend.writer
    }

    fn operator(&self) -> &Operator {
        &self.inner.backend.operator
    }

    /// How long what is read from it may bring nothing.
    fn stall(&self) -> Duration {
        self.inner.backend.stall(self.inner.line.patience())
    }

    async fn length(&self, operation: Operation, key: &ObjectKey) -> Result<Option<u64>, SiteError> {
        let path = key.path();
        let work = Work { operation, object: &path, bytes: 0 };
        let found = self.inner.line.run(work, |_turn| length_of(self.operator(), &path, key.max_len())).await?;
        if found.is_none() {
            self.confirm_marker(work).await?;
        }
        Ok(found)
    }

    /// Runs a write on a blocking thread, once the marker is seen.
    async fn change<T: Send + 'static>(
        &self,
        work: Work<'_>,
        layer: &Arc<FileLayer>,
        write: impl Fn(&FileLayer, &str) -> Result<T, WriteError> + Clone + Send + 'static,
    ) -> Result<T, SiteError> {
        let changed = self
            .inner
            .line
            .run(work, |turn| {
                let (layer, write, path) = (layer.clone(), write.clone(), work.object.to_owned());
                // The turn goes along: a thread that hangs keeps its place at the site.
                blocking(move || {
                    let _turn = turn;
                    if !layer.disk().exists(&ObjectKey::Marker.path()).map_err(Cause::Read)? {
                        return Ok(None);
                    }
                    Ok(Some(write(&layer, &path)?))
                })
            })
            .await?;
        changed.ok_or_else(|| self.lost_marker(work))
    }

    /// Runs a write at a service, once the marker is seen; none of it means that the site is another one.
    async fn change_remote<T, F>(&self, work: Work<'_>, write: impl Fn() -> F) -> Result<T, SiteError>
    where
        F: Future<Output = Result<Option<T>, Cause>>,
    {
        self.confirm_marker(work).await?;
        let changed = self.inner.line.run(work, |_turn| write()).await?;
        changed.ok_or_else(|| self.lost_marker(work))
    }

    /// Tells an absent object from an absent site.
    async fn confirm_marker(&self, work: Work<'_>) -> Result<(), SiteError> {
        let is_remote = matches!(self.writer(), Writer::Remote(_));
        if is_remote && self.seen().is_some_and(|seen| seen.elapsed() < MARKER_SEEN) {
            return Ok(());
        }
        let marker = ObjectKey::Marker;
        let path = marker.path();
        let look = Work { object: &path, bytes: 0, ..work };
        match self.inner.line.run(look, |_turn| length_of(self.operator(), &path, marker.max_len())).await? {
            Some(_) => {
                *self.seen() = Some(Instant::now());
                Ok(())
            }
            None => Err(self.lost_marker(work)),
        }
    }

    /// A panic elsewhere cannot have left the time half-changed.
    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost_marker(&self, work: Work<'_>) -> SiteError {
        let reason = self.inner.line.mark_down(DownReason::NoMarker { place: self.url().place() });
        self.inner.line.error(work, Cause::Down(reason))
    }
}

/// Opens the folder of a site within a deadline; of a service nothing is asked yet.
async fn open_backend(spec: &SiteSpec, line: &Line) -> Result<Backend, Arc<DownReason>> {
    if !spec.url.is_built() {
        return Err(Arc::new(DownReason::NotBuilt { feature: spec.url.scheme() }));
    }
    let work = Work { operation: Operation::Open, object: "its folder", bytes: 0 };
    let Some(folder) = spec.url.folder() else {
        let remote = Backend::remote(spec, line.patience().stall());
        return remote.map_err(|cause| Arc::new(cause.to_reason(work.operation, "its service")));
    };
    let opened = line
        .run(work, |turn| {
            let path = folder.to_owned();
            blocking(move || {
                let _turn = turn;
                Backend::file(&path).map_err(Cause::Read)
            })
        })
        .await;
    opened.map_err(|error| {
        let place = || spec.url.place();
        match error.cause {
            Cause::Down(reason) => reason,
            Cause::Read(source) if is(&source, Errno::NOENT) => Arc::new(DownReason::Absent { place: place() }),
            Cause::Read(source) if is(&source, Errno::NOTDIR) => Arc::new(DownReason::NotAFolder { place: place() }),
            cause => Arc::new(cause.to_reason(work.operation, work.object)),
        }
    })
}

async fn read_marker(backend: &Backend, line: &Line, spec: &SiteSpec) -> Result<Marker, Arc<DownReason>> {
    let marker = ObjectKey::Marker;
    let path = marker.path();
    let work = Work { operation: Operation::Open, object: "its marker", bytes: 0 };
    let is_file = matches!(backend.writer, Writer::File(_));
    let stall = backend.stall(line.patience());
    let read = line
        .run(work, |_turn| async {
            // Services answer a request for the bytes with the reason why not, one for the length with a number.
            if !is_file {
                return read_whole(&backend.operator, &path, marker.max_len(), stall).await;
            }
            match length_of(&backend.operator, &path, marker.max_len()).await? {
                Some(length) => read_range(&backend.operator, &path, 0..length, stall).await,
                None => Err(Cause::NotFound),
            }
        })
        .await;
    match read.map_err(|error| error.cause) {
        Ok(bytes) => Marker::decode(&bytes).map_err(|error| Arc::new(DownReason::BadMarker(error))),
        Err(Cause::NotFound) => Err(Arc::new(DownReason::NoMarker { place: spec.url.place() })),
        Err(Cause::Down(reason)) => Err(reason),
        Err(cause) => Err(Arc::new(cause.to_reason(work.operation, work.object))),
    }
}

/// The length of a file, none if it is not there. What is no file or too long is refused before it is opened: a pipe
/// would never answer.
async fn length_of(operator: &Operator, path: &str, limit: u64) -> Result<Option<u64>, Cause> {
    let metadata = match operator.stat(path).await.map_err(Cause::from) {
        Err(Cause::NotFound) => return Ok(None),
        metadata => metadata?,
    };
    if metadata.mode() != EntryMode::FILE {
        return Err(Cause::NotAFile);
    }
    let length = metadata.content_length();
    if length > limit {
        return Err(Cause::TooLong { length, limit });
    }
    Ok(Some(length))
}

/// Runs blocking work on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| Err(Cause::Read(io::Error::other(ended))))
}

#[cfg(test)]
mod faults;
#[cfg(test)]
pub(crate) mod tests;
