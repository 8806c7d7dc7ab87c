//! Opening what snapshots hold: every listing, and of their files the share that is asked for.
//!
//! - **Owns** which snapshots are read side by side, and the drawing of files.
//! - **Does not** look at shards: what is read comes through `reader`, which goes round bad ones.
//!
//! The snapshots of one source are mostly the same. So several are walked at once ([`SIDES`]), name by name: what they share is opened once for
//! all of them, and the versions of a file that differ are read in step, so that the chunks they share are opened once too.

mod sides;

use std::sync::Arc;

use blockhouse_types::SnapshotId;

use self::sides::{Interrupted, Sides};
use super::{OpenedFiles, VerifyError};
use crate::chain::chain;
use crate::progress::Progress;
use crate::reader::{self, Beside, ChunkReader};
use crate::select::Known;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// How many snapshots are read side by side. In memory there may be, for each, a piece of a listing for every level of folders; and for all of them
/// together 36 bytes for each stripe that any of them lists, with what a table of them takes beside.
const SIDES: usize = 16;
/// All of the data, in hundredths of a percent.
const ALL: u128 = 10_000;

/// What opening found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: OpenedFiles,
    /// What is wrong with which snapshot.
    pub(super) broken: Vec<(SnapshotId, String)>,
}

/// Opens snapshots. What is wrong with one of them is told and stops no other.
pub(super) async fn open(
    (vault, unlocked): (&Vault, &Unlocked),
    mut snapshots: Vec<Known>,
    basis_points: u16,
    progress: &Arc<Progress>,
) -> Result<Found, VerifyError> {
    let mut opening = Opening { vault, unlocked, basis_points, progress, found: Found::default() };
    // Those of one source follow one another, each in the order of its commits.
    snapshots.sort_by_key(|known| known.record.source);
    let mut batch: Vec<Beside> = Vec::new();
    for known in snapshots {
        let id = known.record.id;
        match reader::beside(vault, unlocked, known.record).await {
            Err(error) => opening.found.broken.push((id, chain(&error))),
            Ok(next) => {
                if batch.len() == SIDES || batch.first().is_some_and(|first| !is_akin(first, &next)) {
                    opening.batch(std::mem::take(&mut batch)).await?;
                }
                batch.push(next);
            }
        }
    }
    opening.batch(batch).await?;
    Ok(opening.found)
}

/// True for snapshots of one source whose chunks have the same names.
fn is_akin(one: &Beside, other: &Beside) -> bool {
    let subkey = |snapshot: &Beside| snapshot.described.manifest.id_subkey.clone();
    one.record.source == other.record.source && subkey(one) == subkey(other)
}

struct Opening<'a> {
    vault: &'a Vault,
    unlocked: &'a Unlocked,
    basis_points: u16,
    progress: &'a Arc<Progress>,
    found: Found,
}

impl Opening<'_> {
    /// Reads snapshots side by side; one after the other if there is no way to read them together.
    async fn batch(&mut self, batch: Vec<Beside>) -> Result<(), VerifyError> {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let Some((first, others)) = part.split_first() else { continue };
            match reader::together(self.vault, self.unlocked, first, others).await {
                // All shards were read and compared a moment ago.
                Ok(chunks) if u128::from(self.basis_points) >= ALL => self.read(part, chunks.unchecked()).await?,
                Ok(chunks) => self.read(part, chunks).await?,
                Err(error) if others.is_empty() => self.found.broken.push((first.record.id, chain(&error))),
                Err(_) => parts.extend(part.into_iter().rev().map(|snapshot| vec![snapshot])),
            }
        }
        Ok(())
    }

    async fn read(&mut self, batch: Vec<Beside>, chunks: ChunkReader) -> Result<(), VerifyError> {
        let entries = |snapshot: &Beside| snapshot.described.manifest.entries;
        self.progress.expect_steps(batch.iter().map(entries).sum());
        let (progress, basis_points) = (Arc::clone(self.progress), self.basis_points);
        let work = move || Sides::new(batch, chunks, basis_points, &progress).read();
        let done = tokio::task::spawn_blocking(work).await.map_err(VerifyError::Stopped)?;
        let found = done.map_err(|Interrupted| VerifyError::Interrupted)?;
        self.found.files.opened += found.files.opened;
        self.found.files.of += found.files.of;
        self.found.broken.extend(found.broken);
        Ok(())
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
    use rand::RngExt;

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
