//! One file between its plan and its name: what of it is written, and what of its hash is known.
//!
//! - **Owns** the comparison of a file with its hash (R1), in whatever order its bytes come.
//! - **Does not** know where bytes come from.
//!
//! # Invariants
//! - **J1** Bytes that come in the order of the file are hashed as they are written. Those that come before their turn are read back and
//!   hashed once nothing is missing before them: as a rule the system still holds them then.
//! - **J2** Of a file that an earlier restore began, every byte is read back: nothing is known of its holes.

use std::collections::BTreeMap;

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
/// What a range that waits for its turn takes in memory, roughly.
const EARLY_BYTES: usize = 32;

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
    /// What is written beyond that, with the zeros before it: from where to where. None of them begins where another ends.
    early: BTreeMap<u64, u64>,
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
            early: BTreeMap::new(),
        }
    }

    /// What it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let attributes = self.metadata.attributes.iter().map(|one| 64 + one.name.len() + one.value.len());
        let names = self.metadata.user.len() + self.metadata.group.len();
        let early = self.early.len() * EARLY_BYTES;
        size_of::<Self>() + 2 * self.path.as_bytes().len() + names + attributes.sum::<usize>() + early
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
    pub(super) fn take(
        &mut self,
        at: u64,
        zeros_before: u64,
        bytes: &[u8],
        progress: &Progress,
    ) -> Result<(), RestoreError> {
        let (start, end) = (at.saturating_sub(zeros_before), at + bytes.len() as u64);
        // J2: else what is read back at the end is all of it.
        let is_new = !self.is_resumed();
        if is_new && start == self.hashed {
            let hasher = self.hasher.get_or_insert_default();
            self.counted += hash_hole(hasher, zeros_before, progress);
            hasher.update(bytes);
            self.hashed = end;
            self.catch_up(progress)?;
        } else if is_new && start > self.hashed {
            self.remember(start, end);
        }
        self.count(bytes.len() as u64, progress);
        Ok(())
    }

    /// Remembers what came before its turn.
    fn remember(&mut self, start: u64, end: u64) {
        let end = self.early.remove(&end).unwrap_or(end);
        let before = self.early.range_mut(..start).next_back().filter(|(_, before)| **before == start);
        if let Some((_, before)) = before {
            *before = end;
        } else {
            self.early.insert(start, end);
        }
    }

    /// Hashes what came before its turn and follows now.
    fn catch_up(&mut self, progress: &Progress) -> Result<(), RestoreError> {
        let (State::Open(writer), Some(end)) = (&self.state, self.early.remove(&self.hashed)) else { return Ok(()) };
        let hasher = self.hasher.get_or_insert_default();
        // Where it ends before that, it is not whole: that is told by the hash.
        read_back(writer, hasher, (&mut self.hashed, end), progress)
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
            read_back(writer, &mut hasher, (&mut self.hashed, self.size), progress)?;
            if self.hashed < self.size {
                return Ok(false);
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
        self.early.clear();
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

/// Hashes a file on from where that ended, as far as it goes.
fn read_back(
    writer: &FileWriter,
    hasher: &mut ContentHasher,
    (done, end): (&mut u64, u64),
    progress: &Progress,
) -> Result<(), RestoreError> {
    let left = usize::try_from(end.saturating_sub(*done)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; left.min(READ_BACK)];
    while *done < end && !progress.is_interrupted() {
        let step = usize::try_from(end - *done).unwrap_or(usize::MAX).min(buffer.len());
        let read = writer.read_at(*done, buffer.get_mut(..step).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        *done += read as u64;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use blockhouse_sources::files::{MetadataRules, RestoreTarget};

    use super::*;

    /// As columns bring them: pieces of four runs by turns. All that followed the first gap was read back when the file was whole.
    #[test]
    fn what_comes_before_its_turn_is_hashed_once_nothing_is_missing_before_it() {
        const PIECE: usize = 3000;
        const HOLE: usize = 1000;
        let folder = tempfile::tempdir().unwrap();
        let mut target = RestoreTarget::open(folder.path(), MetadataRules::default()).unwrap();
        let mut bytes: Vec<u8> = (0..12 * PIECE).map(|at| u8::try_from(at % 251).unwrap()).collect();
        bytes[4 * PIECE..4 * PIECE + HOLE].fill(0);
        let whole = (bytes.len() as u64, hash::content(&bytes));
        let path = RestorePath::parse(b"file").unwrap();
        let mut job = Job::new(path.clone(), Metadata::default(), whole, Placing::New, None);
        let writer = target.resume_file(&path, (job.size, Placing::New), job.mark()).unwrap();
        job.state = State::Open(writer);
        let progress = Progress::new();
        let mut hashed = Vec::new();
        for number in [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11] {
            let zeros = if number == 4 { HOLE } else { 0 };
            let (at, end) = (number * PIECE + zeros, (number + 1) * PIECE);
            let State::Open(writer) = &job.state else { panic!("it stays open") };
            writer.write_at(at as u64, &bytes[at..end]).unwrap();
            job.take(at as u64, zeros as u64, &bytes[at..end], &progress).unwrap();
            hashed.push(job.hashed / PIECE as u64);
        }
        assert_eq!(hashed, [1, 1, 1, 1, 2, 2, 2, 2, 5, 8, 11, 12]);
        assert!(job.early.is_empty());
        let State::Open(writer) = std::mem::replace(&mut job.state, State::Waiting) else { panic!("it stays open") };
        assert!(job.has_its_hash(&writer, &progress).unwrap());
    }
}
