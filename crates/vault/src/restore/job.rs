//! One file between its plan and its name: what of it is written, and what of its hash is known.
//!
//! - **Owns** the comparison of a file with its hash (R1), in whatever order its bytes come.
//! - **Does not** know where bytes come from.
//!
//! # Invariants
//! - **J1** Bytes that came in the order of the file are hashed as they are written. From the first that did not, the file is read
//!   back and hashed from there when it is whole.
//! - **J2** Of a file that an earlier restore began, every byte is read back: nothing is known of its holes.

use blockhouse_crypto::hash::{self, ContentHasher};
use blockhouse_pipeline::content::Content;
use blockhouse_sources::files::{FileWriter, Mark, ParkedFile, Placing, RestoreError, RestorePath};
use blockhouse_types::Metadata;
use blockhouse_types::limits::MIB;

use super::links::Inode;
use crate::progress::Progress;

/// How many zeros of a hole are hashed at once.
const HOLE_STEP: u64 = 64 * MIB as u64;
/// How much is read back at once.
const READ_BACK: usize = MIB;

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) path: RestorePath,
    pub(super) metadata: Metadata,
    pub(super) size: u64,
    pub(super) hash: [u8; 32],
    pub(super) placing: Placing,
    pub(super) inode: Option<Inode>,
    /// What it is made of, kept where it may have to be planned again.
    pub(super) again: Option<Box<Content>>,
    pub(super) state: State,
    /// Pieces that are still to come, of those that are planned.
    pub(super) left: u64,
    /// True once all of it is planned.
    pub(super) is_planned: bool,
    /// Zeros of a hole at its end.
    pub(super) zeros_after: u64,
    /// Bytes that progress counts already.
    pub(super) counted: u64,
    hasher: Option<Box<ContentHasher>>,
    hashed: u64,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(super) enum State {
    /// Nowhere yet.
    Waiting,
    /// Under a temporary name, open.
    Open(FileWriter),
    /// Under a temporary name.
    Parked(ParkedFile),
}

impl Job {
    pub(super) fn new(
        path: RestorePath,
        metadata: Metadata,
        (size, hash): (u64, [u8; 32]),
        placing: Placing,
        inode: Option<Inode>,
    ) -> Self {
        Self {
            path,
            metadata,
            size,
            hash,
            placing,
            inode,
            again: None,
            state: State::Waiting,
            left: 0,
            is_planned: false,
            zeros_after: 0,
            counted: 0,
            hasher: None,
            hashed: 0,
        }
    }

    /// What it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let attributes = self.metadata.attributes.iter().map(|one| 64 + one.name.len() + one.value.len());
        let names = self.metadata.user.len() + self.metadata.group.len();
        size_of::<Self>() + 2 * self.path.as_bytes().len() + names + attributes.sum::<usize>()
    }

    /// True if nothing of it is to come.
    pub(super) const fn is_whole(&self) -> bool {
        self.left == 0 && self.is_planned
    }

    /// True if these bytes are all of it: then they can be compared before anything is written.
    pub(super) fn is_all(&self, at: u64, bytes: &[u8]) -> bool {
        matches!(self.state, State::Waiting)
            && self.is_planned
            && self.left == 1
            && at == 0
            && bytes.len() as u64 == self.size
    }

    /// Takes bytes that are written, with the zeros before them.
    pub(super) fn take(&mut self, at: u64, zeros_before: u64, bytes: &[u8], progress: &Progress) {
        let is_next = at.checked_sub(zeros_before) == Some(self.hashed) && !self.is_resumed();
        if is_next {
            let hasher = self.hasher.get_or_insert_default();
            self.counted += hash_hole(hasher, zeros_before, progress);
            hasher.update(bytes);
            self.hashed = at + bytes.len() as u64;
        }
        self.count(bytes.len() as u64, progress);
    }

    /// Counts bytes as done, none twice.
    pub(super) fn count(&mut self, bytes: u64, progress: &Progress) {
        let bytes = bytes.min(self.size.saturating_sub(self.counted));
        progress.add_bytes(bytes);
        self.counted += bytes;
    }

    fn is_resumed(&self) -> bool {
        matches!(&self.state, State::Open(writer) if writer.is_resumed())
    }

    /// R1: whether the whole file has its hash.
    pub(super) fn has_its_hash(&mut self, writer: &FileWriter, progress: &Progress) -> Result<bool, RestoreError> {
        let mut hasher = self.hasher.take().unwrap_or_default();
        if !writer.is_resumed() && self.hashed + self.zeros_after == self.size {
            self.counted += hash_hole(&mut hasher, self.zeros_after, progress);
        } else {
            let mut buffer = vec![0; READ_BACK];
            while self.hashed < self.size && !progress.is_interrupted() {
                let read = writer.read_at(self.hashed, &mut buffer)?;
                if read == 0 {
                    return Ok(false);
                }
                hasher.update(buffer.get(..read).unwrap_or_default());
                self.hashed += read as u64;
            }
        }
        Ok(hasher.finish() == self.hash)
    }

    /// True if these bytes alone have its hash.
    pub(super) fn is_hash_of(&self, bytes: &[u8]) -> bool {
        hash::content(bytes) == self.hash
    }

    /// Forgets what was hashed.
    pub(super) fn start_over(&mut self) {
        (self.hasher, self.hashed, self.left, self.is_planned, self.zeros_after) = (None, 0, 0, false, 0);
    }

    /// What its temporary name is told by: the same for every restore of this content to this name.
    pub(super) fn mark(&self) -> Mark {
        mark(self.path.names().last().unwrap_or_default(), &self.hash)
    }
}

/// What the temporary name of a file is told by.
pub(super) fn mark(name: &[u8], hash: &[u8; 32]) -> Mark {
    let digest = hash::hash_parts("blockhouse v1 restore temporary name", [name, &hash[..]]);
    Mark(*digest.first_chunk().expect("a hash of 32 bytes has a first 8"))
}

/// Hashes zeros in steps, so that progress is seen; gives how many were counted.
fn hash_hole(hasher: &mut ContentHasher, length: u64, progress: &Progress) -> u64 {
    let mut left = length;
    while left > 0 && !progress.is_interrupted() {
        let step = left.min(HOLE_STEP);
        hasher.update_zeros(step);
        progress.add_bytes(step);
        left -= step;
    }
    length - left
}
