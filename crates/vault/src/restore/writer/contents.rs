//! Makes one file, link, pipe or device, and compares what is there with what should be.

use std::io::Read;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Device, Entry};
use blockhouse_sources::files::{DeviceNumber, Placing, RestoreError, RestorePath, RestoreTarget, Special};
use blockhouse_types::Metadata;
use blockhouse_types::limits::MIB;

use super::Writer;
use crate::progress::Progress;
use crate::reader::{self, ChunkReader};
use crate::restore::RestoreSnapshotError;

/// How many zeros of a hole are hashed at once.
const HOLE_STEP: u64 = 64 * MIB as u64;

impl Writer<'_> {
    /// Makes an entry that is no folder; false if that did not succeed, which is told.
    pub(super) fn make(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
        placing: Placing,
    ) -> Result<bool, RestoreSnapshotError> {
        let Body::File { content, hash } = &entry.body else { return Ok(self.special(path, entry, placing)) };
        match self.file(chunks, path, &entry.metadata, (content, hash, placing)) {
            // One file that cannot be read is no reason to give up the others.
            Err(error @ (RestoreSnapshotError::Read(_) | RestoreSnapshotError::OtherContent { .. })) => {
                self.report.unread += 1;
                self.flaw(path, crate::chain::chain(&error));
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    fn file(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        metadata: &Metadata,
        (content, hash, placing): (&Content, &[u8; 32], Placing),
    ) -> Result<(), RestoreSnapshotError> {
        let writer = self.target.begin_file(path, content.length(), placing)?;
        let (mut hasher, mut offset) = (ContentHasher::new(), 0_u64);
        let progress = self.progress;
        reader::pieces(chunks, content, |piece| -> Result<(), RestoreSnapshotError> {
            match piece {
                reader::Piece::Bytes(bytes) => {
                    hasher.update(bytes);
                    writer.write_at(offset, bytes)?;
                    offset += bytes.len() as u64;
                    progress.add_bytes(bytes.len() as u64);
                }
                reader::Piece::Hole(length) => {
                    hash_hole(&mut hasher, length, progress);
                    offset += length;
                }
            }
            // A file may be long: whoever asks to stop does not wait for its end, and it leaves nothing behind.
            if progress.is_interrupted() { Err(RestoreSnapshotError::Interrupted) } else { Ok(()) }
        })?;
        if hasher.finish() != *hash {
            return Err(RestoreSnapshotError::OtherContent { path: path.as_bytes().to_vec() });
        }
        let missing = writer.finish(metadata)?;
        self.note(missing);
        self.report.files += 1;
        self.report.bytes += content.length();
        Ok(())
    }

    /// Links, pipes and devices: what this user may not make is a flaw, not an end.
    fn special(&mut self, path: &RestorePath, entry: &Entry, placing: Placing) -> bool {
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
        match self.target.create_special(path, special, &entry.metadata, placing) {
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
        let compared = match &entry.body {
            Body::File { hash, .. } => has_hash(&mut self.target, path, hash),
            Body::Symlink { target } => self.target.read_link(path).map(|found| found == *target),
            body => Ok(matches!(body, Body::Fifo)),
        };
        match compared {
            Err(RestoreError::System { .. }) => Ok(false),
            compared => compared,
        }
    }
}

/// Hashes zeros in steps, so that progress is seen.
fn hash_hole(hasher: &mut ContentHasher, length: u64, progress: &Progress) {
    let mut left = length;
    while left > 0 && !progress.is_interrupted() {
        let step = left.min(HOLE_STEP);
        hasher.update_zeros(step);
        progress.add_bytes(step);
        left -= step;
    }
}

fn has_hash(target: &mut RestoreTarget, path: &RestorePath, hash: &[u8; 32]) -> Result<bool, RestoreError> {
    let mut file = target.read_existing(path)?;
    let (mut hasher, mut buffer) = (ContentHasher::new(), vec![0; 1 << 20]);
    loop {
        // A file that cannot be read is not the same.
        let Ok(length) = file.read(&mut buffer) else { return Ok(false) };
        if length == 0 {
            return Ok(hasher.finish() == *hash);
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}
