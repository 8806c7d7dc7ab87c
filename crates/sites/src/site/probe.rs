//! What a site promises, found out by trying.
//!
//! - **Owns** the questions; the answers are recorded by `init` and `repair`.
//! - **Does not** leave anything behind: its two objects live in `.tmp` and are removed; if that fails they look like
//!   temporary files and are swept. Where nothing can be deleted one of them stays.
//!
//! Format: `docs/design/sites.md`, Probe.

use std::time::Duration;

use blockhouse_types::limits::KIB;
use bytes::Bytes;
use futures::TryStreamExt;
use opendal::Operator;

use super::{Site, Work};
use crate::backend::Writer;
use crate::disk::{Disk, DiskCall, Space};
use crate::error::{Cause, Operation, SiteError};
use crate::file_layer::{FileLayer, Put, TEMPORARY_FOLDER, WriteError};
use crate::reads::read_range;
use crate::remote::{RemoteLayer, Word};

/// Longer than a block, so that a read back of a hole would show.
const PROBE_LEN: usize = 64 * KIB;

/// What a site keeps of its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one promise, kept or not, independent of the others")]
pub struct ProbeReport {
    /// A second create of a name failed and left the first object as it was.
    pub create_only: bool,
    /// The bytes that were written were read.
    pub read_back: bool,
    /// A listing showed the object after its write.
    pub list_after_write: bool,
    /// An object comes to its name in one step. In a folder: `.tmp` and the folders of objects are on one file system.
    pub durable_rename: bool,
    /// Of two that create a name at the same instant, one is refused; else it is only looked before it is written.
    pub atomic_create: bool,
    /// Every write is told to reach the disk; else the service's word is taken that what it has is kept.
    pub synced: bool,
    /// What is there can be removed with these credentials; else nobody who has them destroys anything, and nothing is tidied up.
    pub can_delete: bool,
    /// Bytes that can still be written, if the site tells.
    pub free_bytes: Option<u64>,
    /// Bytes in all, if the site tells.
    pub total_bytes: Option<u64>,
}

impl ProbeReport {
    /// True if objects are safe at this site.
    pub fn keeps_promises(&self) -> bool {
        self.create_only && self.read_back && self.list_after_write && self.durable_rename
    }

    /// What it cannot promise, in words; a site that keeps its promises can have some.
    pub fn caveats(&self) -> Vec<&'static str> {
        let caveats = [
            (!self.synced, "it does not tell when bytes reach its disks: that it keeps what it took is its word"),
            (!self.atomic_create, "two writers of one name at the same instant could both be let through"),
            (
                !self.can_delete,
                "these credentials cannot delete: leftovers stay there, and `repair`, `prune` and `key rotate` remove nothing there",
            ),
            (self.free_bytes.is_none(), "it does not tell how much room is left"),
        ];
        caveats.into_iter().filter_map(|(is_so, caveat)| is_so.then_some(caveat)).collect()
    }
}

/// What the write side found.
struct Written {
    create_only: bool,
    durable_rename: bool,
    word: Word,
    space: Option<Space>,
}

impl Site {
    /// Tests what the site promises.
    pub async fn probe(&self) -> Result<ProbeReport, SiteError> {
        let path = format!("{TEMPORARY_FOLDER}/{:032x}", rand::random::<u128>());
        let bytes = Bytes::from((0..=250_u8).cycle().take(PROBE_LEN).collect::<Vec<u8>>());
        let work = Work { operation: Operation::Probe, object: &path, bytes: 2 * PROBE_LEN as u64 };
        let to_write = bytes.clone();
        let written = match self.writer() {
            Writer::File(layer) => {
                self.change(work, layer, move |layer, path| write_probe(layer, path, &to_write)).await
            }
            Writer::Remote(layer) => self.change_remote(work, || write_remote_probe(layer, &path, &to_write)).await,
        }?;
        let stall = self.stall();
        let read = self.inner.line.run(work, |_turn| read_probe(self.operator(), &path, &bytes, stall)).await;
        // Removed also after a failure, which is the one to report.
        let removed = match self.writer() {
            Writer::File(layer) => self.change(work, layer, FileLayer::delete).await,
            Writer::Remote(layer) => self.change_remote(work, async || layer.delete(&path).await.map(Some)).await,
        };
        let (read_back, list_after_write) = read?;
        let can_delete = match removed {
            Ok(_) => true,
            Err(error) if error.is_permission() && self.state().can_write() => false,
            Err(error) => return Err(error),
        };
        Ok(ProbeReport {
            create_only: written.create_only,
            read_back,
            list_after_write,
            durable_rename: written.durable_rename,
            atomic_create: written.word.atomic_create,
            synced: written.word.synced,
            can_delete,
            free_bytes: written.space.map(|space| space.free),
            total_bytes: written.space.map(|space| space.total),
        })
    }
}

fn write_probe(layer: &FileLayer, path: &str, bytes: &[u8]) -> Result<Written, WriteError> {
    let is_new = layer.put(path, bytes)? == Put::Written;
    let create_only = is_new && layer.refuses_to_replace(path)?;
    let found = |source| WriteError::Disk { call: DiskCall::Examine, source };
    let durable_rename = is_one_file_system(layer.disk()).map_err(found)?;
    let space = Some(layer.disk().space().map_err(found)?);
    Ok(Written { create_only, durable_rename, word: Word { atomic_create: true, synced: true }, space })
}

async fn write_remote_probe(layer: &RemoteLayer, path: &str, bytes: &Bytes) -> Result<Option<Written>, Cause> {
    let Some(put) = layer.put(path, bytes).await? else { return Ok(None) };
    let create_only = put == Put::Written && layer.refuses_to_replace(path).await?;
    // How objects come to their names is the layer's doing, in one step with every service (R1).
    Ok(Some(Written { create_only, durable_rename: true, word: layer.word().await?, space: layer.space().await }))
}

/// Looks at every folder at the top: another file system may be mounted on any of them.
fn is_one_file_system(disk: &dyn Disk) -> std::io::Result<bool> {
    let device = disk.device("")?;
    for entry in disk.list_folder("")? {
        if disk.device(&entry.name).is_ok_and(|other| other != device) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the object reads as it was written, and whether it is listed.
async fn read_probe(operator: &Operator, path: &str, bytes: &Bytes, stall: Duration) -> Result<(bool, bool), Cause> {
    let read_back = read_range(operator, path, 0..bytes.len() as u64, stall).await? == *bytes;
    let mut lister = operator.lister(&format!("{TEMPORARY_FOLDER}/")).await?;
    while let Some(entry) = lister.try_next().await? {
        if entry.path() == path {
            return Ok((read_back, entry.metadata().content_length() == bytes.len() as u64));
        }
    }
    Ok((read_back, false))
}
