//! Opening what a snapshot holds: every listing, and of its files the share that is asked for.
//!
//! - **Owns** the drawing of files, the comparison of each with its hash, and of the tree with what the snapshot commits to.
//! - **Does not** look at shards: what is read comes through `reader`, which goes round bad ones.

use std::sync::Arc;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, EntryLeaves};
use rand::RngExt;

use super::{OpenedFiles, VerifyError};
use crate::chain::chain;
use crate::progress::Progress;
use crate::reader::{self, ChunkReader, OpenedSnapshot, ReadTreeError};
use crate::select::Known;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// All of the data, in hundredths of a percent.
const ALL: u128 = 10_000;

/// What is wrong inside a snapshot.
#[derive(Debug, thiserror::Error)]
enum BrokenError {
    #[error(transparent)]
    Read(#[from] ReadTreeError),
    #[error("file `{}` does not have the bytes that the snapshot says", path.escape_ascii())]
    File { path: Vec<u8> },
    #[error("the tree is not the one that the snapshot commits to")]
    Entries,
    #[error("it was interrupted")]
    Interrupted,
}

/// Opens a snapshot: the outer error stops everything, the inner one is what is wrong with the snapshot. What was opened is
/// added to `files`.
pub(super) async fn open(
    (vault, unlocked): (&Vault, &Unlocked),
    known: Known,
    basis_points: u16,
    files: &mut OpenedFiles,
    progress: &Arc<Progress>,
) -> Result<Result<(), String>, VerifyError> {
    let opened = match reader::open(vault, unlocked, known.record).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(chain(&error))),
    };
    let progress = Arc::clone(progress);
    progress.expect_steps(opened.manifest.entries);
    let work = move || {
        let mut reading = Reading::new(&opened, basis_points, &progress);
        (reading.tree(opened), reading.files)
    };
    let (done, met) = tokio::task::spawn_blocking(work).await.map_err(VerifyError::Stopped)?;
    files.opened += met.opened;
    files.of += met.of;
    match done {
        Err(BrokenError::Interrupted) => Err(VerifyError::Interrupted),
        done => Ok(done.map_err(|error| chain(&error))),
    }
}

struct Reading<'a> {
    drawing: Drawing,
    files: OpenedFiles,
    progress: &'a Progress,
}

impl<'a> Reading<'a> {
    fn new(opened: &OpenedSnapshot, basis_points: u16, progress: &'a Progress) -> Self {
        // Without a number to draw from, everything is opened.
        let drawing = Drawing::new(opened.manifest.facts.files().unwrap_or(0), basis_points);
        Self { drawing, files: OpenedFiles::default(), progress }
    }

    /// The whole tree, for its root is one hash; of the files those that are drawn.
    fn tree(&mut self, opened: OpenedSnapshot) -> Result<(), BrokenError> {
        let mut chunks = opened.chunks;
        let mut leaves = EntryLeaves::new(&opened.manifest_key);
        let mut random = rand::rng();
        reader::walk(&mut chunks, &opened.manifest.root, &mut |chunks, path, entry| {
            if self.progress.is_interrupted() {
                return Err(BrokenError::Interrupted);
            }
            self.progress.add_step();
            leaves.push(path, &entry.facts());
            if let Body::File { content, hash } = &entry.body {
                self.files.of += 1;
                if self.drawing.takes_next(|left| random.random_range(0..left)) {
                    self.file(chunks, path, (content, hash))?;
                }
            }
            Ok(true)
        })?;
        let entries = leaves.finish();
        let is_committed = entries.root == opened.manifest.entries_root && entries.entries == opened.manifest.entries;
        if is_committed { Ok(()) } else { Err(BrokenError::Entries) }
    }

    fn file(
        &mut self,
        chunks: &mut ChunkReader,
        path: &[u8],
        (content, hash): (&Content, &[u8; 32]),
    ) -> Result<(), BrokenError> {
        self.files.opened += 1;
        let mut hasher = ContentHasher::new();
        reader::pieces(chunks, content, |piece| -> Result<(), BrokenError> {
            if self.progress.is_interrupted() {
                return Err(BrokenError::Interrupted);
            }
            match piece {
                reader::Piece::Bytes(bytes) => hasher.update(bytes),
                reader::Piece::Hole(length) => hasher.update_zeros(length),
            }
            Ok(())
        })?;
        if hasher.finish() == *hash { Ok(()) } else { Err(BrokenError::File { path: path.to_vec() }) }
    }
}

/// Which files are opened: of so many a share, each with the same chance, rounded up. Takes no memory for them, for their
/// number is the word of whoever wrote the snapshot; what comes after that number is opened.
struct Drawing {
    left: u64,
    wanted: u64,
}

impl Drawing {
    fn new(files: u64, basis_points: u16) -> Self {
        let wanted = (u128::from(files) * u128::from(basis_points)).div_ceil(ALL);
        Self { left: files, wanted: u64::try_from(wanted).unwrap_or(files) }
    }

    /// Whether the next file is opened. `below` gives a number below the one it is given, all with the same chance.
    fn takes_next(&mut self, below: impl FnOnce(u64) -> u64) -> bool {
        if self.left == 0 {
            return true;
        }
        let is_drawn = below(self.left) < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(is_drawn);
        is_drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(files: u64, basis_points: u16) -> Vec<bool> {
        let (mut drawing, mut random) = (Drawing::new(files, basis_points), rand::rng());
        (0..files).map(|_| drawing.takes_next(|left| random.random_range(0..left))).collect()
    }

    #[test]
    fn a_share_of_the_files_is_drawn_and_rounded_up() {
        let count = |files, share| drawn(files, share).into_iter().filter(|is_drawn| *is_drawn).count();
        assert_eq!((count(1000, 10_000), count(1000, 100), count(1000, 1_234)), (1000, 10, 124));
        assert_eq!((count(3, 1), count(0, 1)), (1, 0));
        assert_ne!(drawn(1000, 5_000), drawn(1000, 5_000), "another part each time");
    }

    /// The number of files is the writer's word: none escapes by it, and none of its size is reserved.
    #[test]
    fn files_beyond_the_number_that_was_said_are_opened() {
        let mut drawing = Drawing::new(1, 1);
        assert!(drawing.takes_next(|_| 0) && drawing.takes_next(|_| 0) && drawing.takes_next(|_| 0));
        let mut drawing = Drawing::new(u64::MAX, 10_000);
        assert!(drawing.takes_next(|left| left - 1));
    }
}
