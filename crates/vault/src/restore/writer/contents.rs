//! Makes one link, pipe or device, and compares what is there with what should be.

use std::io::Read;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::tree::{Body, Device, Entry};
use blockhouse_sources::files::{DeviceNumber, Placing, RestoreError, RestorePath, RestoreTarget, Special};

use super::Writer;

impl Writer<'_> {
    /// Links, pipes and devices; false if that did not succeed: what this user may not make is a flaw, not an end.
    pub(super) fn special(&mut self, path: &RestorePath, entry: &Entry, placing: Placing) -> bool {
        let number = |device: &Device| DeviceNumber {
            major: u32::try_from(device.major).unwrap_or(u32::MAX),
            minor: u32::try_from(device.minor).unwrap_or(u32::MAX),
        };
        let special = match &entry.body {
            Body::Symlink { target } => Special::Symlink(target),
            Body::Fifo => Special::Fifo,
            Body::CharDevice(device) => Special::CharDevice(number(device)),
            Body::BlockDevice(device) => Special::BlockDevice(number(device)),
            Body::Directory(_) | Body::File { .. } | Body::Socket | Body::Unreadable { .. } => return false,
        };
        match self.target().create_special(path, special, &entry.metadata, placing) {
            Ok(missing) => {
                self.note(missing);
                true
            }
            Err(error) => {
                self.flaw(path, crate::chain::chain(&error));
                false
            }
        }
    }

    /// Whether what stands there, of the right kind, has the entry's content. What cannot be read has not; devices are made anew
    /// sooner than compared.
    pub(super) fn has_content(&mut self, path: &RestorePath, entry: &Entry) -> Result<bool, RestoreError> {
        let Some(target) = self.target.as_mut() else { return Ok(false) };
        let compared = match &entry.body {
            Body::File { hash, .. } => has_hash(target, path, hash),
            Body::Symlink { target: wanted } => target.read_link(path).map(|found| found == *wanted),
            body => Ok(matches!(body, Body::Fifo)),
        };
        match compared {
            Err(RestoreError::System { .. }) => Ok(false),
            compared => compared,
        }
    }
}

fn has_hash(target: &mut RestoreTarget, path: &RestorePath, hash: &[u8; 32]) -> Result<bool, RestoreError> {
    let mut file = target.read_existing(path)?;
    let (mut hasher, mut buffer) = (ContentHasher::new(), vec![0; 256 << 10]);
    loop {
        // A file that cannot be read is not the same.
        let Ok(length) = file.read(&mut buffer) else { return Ok(false) };
        if length == 0 {
            return Ok(hasher.finish() == *hash);
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}
