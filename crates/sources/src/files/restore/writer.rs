//! One file on its way to its name.

use std::{os::fd::OwnedFd, sync::Arc};

use blockhouse_types::Metadata;
use rustix::{
    fs::{Mode, OFlags, ftruncate, openat},
    io::{Errno, pwrite},
};

use super::{NotRestored, Placing, RestoreError, RestorePath, Settings, Spot, failed, metadata};

/// A file that has no real name yet. Ranges may be written from any thread, in any order; dropped before
/// [`FileWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct FileWriter {
    file: OwnedFd,
    temporary: Spot,
    spot: Spot,
    size: u64,
    placing: Placing,
    is_placed: bool,
    settings: Arc<Settings>,
}

impl FileWriter {
    pub(super) fn begin(
        spot: Spot,
        size: u64,
        placing: Placing,
        settings: Arc<Settings>,
    ) -> Result<Self, RestoreError> {
        let file = std::cell::Cell::new(None);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = spot.temporary(|temporary| {
            let opened = openat(&temporary.folder, temporary.name.as_slice(), flags, Mode::RUSR | Mode::WUSR)?;
            file.set(Some(opened));
            Ok(())
        })?;
        let file = file.into_inner().expect("the temporary name was made by opening the file");
        let writer = Self { file, temporary, spot, size, placing, is_placed: false, settings };
        ftruncate(&writer.file, size).map_err(failed("give its length to", writer.path()))?;
        Ok(writer)
    }

    /// The path that the file will have.
    pub fn path(&self) -> &RestorePath {
        &self.spot.path
    }

    /// Writes a range, which must lie in the file.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(RestoreError::OutOfRange { path: self.path().clone(), offset, end, size: self.size });
        }
        let mut rest = bytes;
        let mut position = offset;
        while !rest.is_empty() {
            match pwrite(&self.file, rest, position) {
                Ok(0) => return Err(failed("write", self.path())(Errno::NOSPC)),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    position += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("write", self.path())(error)),
            }
        }
        Ok(())
    }

    /// Sets the metadata and gives the file its name.
    pub fn finish(mut self, metadata: &Metadata) -> Result<Vec<NotRestored>, RestoreError> {
        let not_restored = metadata::set(&self.file, self.path(), metadata, &self.settings);
        self.spot.place(&self.temporary, self.placing)?;
        self.is_placed = true;
        Ok(not_restored)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.is_placed {
            self.temporary.discard();
        }
    }
}
