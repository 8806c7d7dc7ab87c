//! How a site is reached: an `opendal` operator to read and list, a layer of ours to write.
//!
//! Another kind of site is another operator with other promises for writes; today there is one kind, a folder.

use std::io;
use std::path::Path;
use std::sync::Arc;

use opendal::{Operator, services::Fs};

use crate::disk::{Disk, RealDisk};
use crate::file_layer::FileLayer;

/// The two sides of a site's storage.
#[derive(Debug, Clone)]
pub struct Backend {
    pub(crate) operator: Operator,
    pub(crate) layer: Arc<FileLayer>,
    pub(crate) device: Option<u64>,
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
        let path = path.to_str().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidFilename, "the path of a site's folder has to be UTF-8")
        })?;
        let operator = Operator::new(Fs::default().root(path)).map_err(io::Error::other)?;
        Ok(Self { operator, layer: Arc::new(FileLayer::new(disk)), device })
    }

    /// The same with a changed operator, to put a layer on top.
    #[must_use]
    pub fn map_operator(mut self, change: impl FnOnce(Operator) -> Operator) -> Self {
        self.operator = change(self.operator);
        self
    }
}
