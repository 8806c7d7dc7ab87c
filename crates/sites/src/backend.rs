//! How a site is reached: an `opendal` operator to read and list, a layer of ours to write.
//!
//! - **Owns** the closed list of write sides: the durable layer of a folder, or that of a remote service.
//! - **Does not** know deadlines, retries or the marker: `site` does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opendal::{Operator, services::Fs};

use crate::disk::{Disk, RealDisk};
use crate::error::Cause;
use crate::file_layer::FileLayer;
use crate::patience::Patience;
use crate::remote::RemoteLayer;
use crate::url::SiteSpec;

/// The two sides of a site's storage.
#[derive(Debug, Clone)]
pub struct Backend {
    pub(crate) operator: Operator,
    pub(crate) writer: Writer,
    /// Where a folder of this host is listed.
    pub(crate) folder: Option<Arc<Path>>,
    pub(crate) device: Option<u64>,
}

/// The side that writes.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    /// A folder: blocking calls, every step synced.
    File(Arc<FileLayer>),
    /// A service: its answer is its word.
    Remote(Arc<RemoteLayer>),
}

impl Backend {
    /// The folder at `path`, which must exist. This blocks.
    pub fn file(path: &Path) -> io::Result<Self> {
        // The folder is opened before the operator is made, which would make a missing one.
        let disk = RealDisk::open(path)?;
        Self::with_disk(path, Arc::new(disk))
    }

    /// The same with another disk to write to; `path` is where its files can be read.
    pub fn with_disk(path: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let device = Some(disk.device("")?);
        let folder = Some(Arc::from(path));
        let path = path.to_str().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidFilename, "the path of a site's folder has to be UTF-8")
        })?;
        let operator = Operator::new(Fs::default().root(path)).map_err(io::Error::other)?;
        Ok(Self { operator, writer: Writer::File(Arc::new(FileLayer::new(disk))), folder, device })
    }

    /// A remote service, which has failed when it is silent for the stall. Nothing is asked of it yet.
    pub(crate) fn remote(spec: &SiteSpec, stall: Duration) -> Result<Self, Cause> {
        let layer = RemoteLayer::open(spec, stall)?;
        let device = spec.url.remote_device();
        Ok(Self { operator: layer.operator().clone(), writer: Writer::Remote(Arc::new(layer)), folder: None, device })
    }

    /// How long what is read from it may bring nothing.
    pub(crate) fn stall(&self, patience: Patience) -> Duration {
        match &self.writer {
            Writer::File(_) => patience.stall(),
            Writer::Remote(layer) => layer.stall(),
        }
    }

    /// True if a listing below a prefix costs no more than the objects listed, however many folders they are in.
    pub(crate) fn lists_deep(&self) -> bool {
        match &self.writer {
            Writer::File(_) => false,
            Writer::Remote(layer) => layer.lists_deep(),
        }
    }

    /// The same with a changed operator, to put a layer on top.
    #[must_use]
    pub fn map_operator(mut self, change: impl FnOnce(Operator) -> Operator) -> Self {
        self.operator = change(self.operator);
        self
    }
}
