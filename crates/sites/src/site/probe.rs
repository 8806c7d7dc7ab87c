//! What a site promises, found out by trying.
//!
//! - **Owns** the questions; the answers are recorded by `init` and `repair`.
//! - **Does not** leave anything behind: its two objects live in `.tmp` and are removed; if that fails they look like
//!   temporary files and are swept.
//!
//! Format: `docs/design/sites.md`, Probe.

use blockhouse_types::limits::KIB;
use bytes::Bytes;
use futures::TryStreamExt;
use opendal::Operator;

use super::{Site, Work, read_range};
use crate::disk::{Disk, DiskCall, Space};
use crate::error::{Cause, Operation, SiteError};
use crate::file_layer::{FileLayer, Put, TEMPORARY_FOLDER, WriteError};

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
    /// `.tmp` and the folders of objects are on one file system, so a rename between them is one step.
    pub durable_rename: bool,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

impl ProbeReport {
    /// True if objects are safe at this site.
    pub fn keeps_promises(&self) -> bool {
        self.create_only && self.read_back && self.list_after_write && self.durable_rename
    }
}

/// What the write side found.
struct Written {
    create_only: bool,
    durable_rename: bool,
    space: Space,
}

impl Site {
    /// Tests what the site promises.
    pub async fn probe(&self) -> Result<ProbeReport, SiteError> {
        let path = format!("{TEMPORARY_FOLDER}/{:032x}", rand::random::<u128>());
        let bytes = Bytes::from((0..=250_u8).cycle().take(PROBE_LEN).collect::<Vec<u8>>());
        let work = Work { operation: Operation::Probe, object: &path, bytes: 2 * PROBE_LEN as u64 };
        let to_write = bytes.clone();
        let written = self.change(work, move |layer, path| write_probe(layer, path, &to_write)).await?;
        let read = self.inner.line.run(work, |_turn| read_probe(self.operator(), &path, &bytes)).await;
        // Removed also after a failure, which is the one to report.
        let removed = self.change(work, FileLayer::delete).await;
        let (read_back, list_after_write) = read?;
        removed?;
        Ok(ProbeReport {
            create_only: written.create_only,
            read_back,
            list_after_write,
            durable_rename: written.durable_rename,
            free_bytes: written.space.free,
            total_bytes: written.space.total,
        })
    }
}

fn write_probe(layer: &FileLayer, path: &str, bytes: &[u8]) -> Result<Written, WriteError> {
    let is_new = layer.put(path, bytes)? == Put::Written;
    let create_only = is_new && layer.refuses_to_replace(path)?;
    let found = |source| WriteError::Disk { call: DiskCall::Examine, source };
    let durable_rename = is_one_file_system(layer.disk()).map_err(found)?;
    let space = layer.disk().space().map_err(found)?;
    Ok(Written { create_only, durable_rename, space })
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
async fn read_probe(operator: &Operator, path: &str, bytes: &Bytes) -> Result<(bool, bool), Cause> {
    let read_back = read_range(operator, path, 0..bytes.len() as u64).await? == *bytes;
    let mut lister = operator.lister(&format!("{TEMPORARY_FOLDER}/")).await?;
    while let Some(entry) = lister.try_next().await? {
        if entry.path() == path {
            return Ok((read_back, entry.metadata().content_length() == bytes.len() as u64));
        }
    }
    Ok((read_back, false))
}
