//! Which stripe holds which chunk: the host's index, a cache that can always be made anew from the stripes' tables.
//!
//! - **Owns** a folder of immutable segments, each sorted by chunk id; a backup adds one per stripe, compaction joins them.
//! - **Does not** hold keys, and is not believed about presence: the listing of the sites decides that.
//!
//! # Invariants
//! - **I1** A segment appears whole or not at all; a damaged one, or a damaged block of one, is ignored, never believed.
//! - **I2** Several processes may read and add at once; at worst one of them does not see what another added, and stores a chunk twice.
//! - **I3** Memory grows by a filter of 10 bits for each chunk, 8 bytes for 64 of them, and one entry for each stripe.
//! - **I4** At most `SEGMENTS_HELD` files are held open, however many a session adds or finds.
//! - **I5** What an index of an earlier layout left is removed, never read.
//!
//! Format: `docs/design/host-files.md`.

mod filter;
mod merge;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blockhouse_types::{Account, ChunkId, Code, StripeId};

pub use segment::SegmentError;
use segment::{EXTENSION, Entry, Segment, ShortId};

/// Where a chunk stands inside its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// How it is compressed.
    pub codec: u8,
    /// Where its sealed bytes begin in the pack.
    pub offset: u32,
    /// How many sealed bytes it has.
    pub sealed_len: u32,
    /// How many plain bytes it has.
    pub plain_len: u32,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The stripe.
    pub stripe: StripeId,
    /// The place in its pack.
    pub slot: Slot,
}

/// What the index knows of a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeEntry {
    /// The stripe.
    pub id: StripeId,
    /// Its code.
    pub code: Code,
    /// Its pack's length.
    pub pack_len: u64,
    /// Who signed it.
    pub writer: Account,
}

/// Why the index could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The folder cannot be used.
    #[error("could not use the index folder {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A segment cannot be read or written.
    #[error("could not use the index segment {}", path.display())]
    Segment {
        path: PathBuf,
        #[source]
        source: SegmentError,
    },
}

/// How many segments may stand side by side before some are joined: each costs a look-up a glance at its filter.
const SEGMENTS_MAX: usize = 12;
/// How many of the largest are left alone at a join, unless the others together outgrow them: so a chunk is written again only when its
/// segment has doubled, and a small backup beside a large vault does not copy the vault's index.
const SEGMENTS_KEPT: usize = 6;
/// How many are held open at most: each takes a file handle, and a process has some thousand.
const SEGMENTS_HELD: usize = 64;
/// How names ended in the first layout.
const EARLIER: &str = "segment";

/// The index of one vault on this host.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    segments: Vec<Segment>,
    stripes: BTreeMap<StripeId, StripeEntry>,
}

impl Index {
    /// Opens the index in `folder`, made if it is not there. Segments that are damaged are removed.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let failed = |source| IndexError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut index = Self { folder: folder.to_owned(), segments: Vec::new(), stripes: BTreeMap::new() };
        // All names first: what is joined on the way makes new ones.
        let names = fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>();
        for path in names.map_err(failed)? {
            let extension = path.extension().and_then(OsStr::to_str);
            if extension == Some(EXTENSION) {
                index.open_segment(&path)?;
                index.bound()?;
            } else if extension == Some(EARLIER) {
                // A cache: what it said is read again from the stripes' tables.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(index)
    }

    fn open_segment(&mut self, path: &Path) -> Result<(), IndexError> {
        match Segment::open(path) {
            Ok(segment) => {
                self.admit(segment);
                Ok(())
            }
            // Another process joined it into a larger one between our listing and now.
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(SegmentError::Damaged { .. }) => {
                fs::remove_file(path).map_err(|source| IndexError::Folder { folder: self.folder.clone(), source })
            }
            Err(source) => Err(IndexError::Segment { path: path.to_owned(), source }),
        }
    }

    fn admit(&mut self, segment: Segment) {
        self.stripes.extend(segment.stripes().iter().map(|stripe| (stripe.id, *stripe)));
        self.segments.push(segment);
    }

    /// Every place where a chunk is said to be; by the first 160 bits of its id. A block that does not check is as if it were not there.
    pub fn locate(&self, chunk: &ChunkId) -> Vec<Location> {
        let mut found = Vec::new();
        for segment in &self.segments {
            // A damaged block costs deduplication of its 64 chunks, never a wrong answer.
            let _ = segment.locate(chunk, &mut found);
        }
        found
    }

    /// What is known of a stripe.
    pub fn stripe(&self, id: &StripeId) -> Option<&StripeEntry> {
        self.stripes.get(id)
    }

    /// Every stripe that is known.
    pub fn stripes(&self) -> impl Iterator<Item = &StripeEntry> {
        self.stripes.values()
    }

    /// Adds the chunks of one stripe.
    pub fn add(&mut self, stripe: StripeEntry, mut chunks: Vec<(ChunkId, Slot)>) -> Result<(), IndexError> {
        chunks.sort_unstable_by_key(|(id, slot)| (*id, slot.offset));
        let path = self.folder.join(format!("{}.{EXTENSION}", stripe.id));
        let count = chunks.len() as u64;
        let entries = chunks.into_iter().map(|(id, slot)| Ok((ShortId::of(&id), 0, slot)));
        write(&path, &[stripe], count, entries)?;
        self.open_segment(&path)?;
        self.bound()
    }

    /// Joins once so many are held that file handles, or a glance at each filter, would be felt.
    fn bound(&mut self) -> Result<(), IndexError> {
        if self.segments.len() > SEGMENTS_HELD { self.compact() } else { Ok(()) }
    }

    /// Joins the smaller segments into one, if there are many.
    pub fn compact(&mut self) -> Result<(), IndexError> {
        if self.segments.len() <= SEGMENTS_MAX {
            return Ok(());
        }
        while let Some(unusable) = self.join()? {
            self.drop_segment(unusable)?;
        }
        Ok(())
    }

    /// The largest segments first, and how many of them a join leaves alone.
    fn order_by_size(&mut self) -> usize {
        self.segments.sort_by_key(|segment| std::cmp::Reverse(segment.entries()));
        let mut kept = SEGMENTS_KEPT.min(self.segments.len());
        let mut joined: u64 = self.segments.iter().skip(kept).map(Segment::entries).sum();
        while let Some(next) = kept.checked_sub(1).and_then(|at| self.segments.get(at))
            && next.entries() <= joined
        {
            joined += next.entries();
            kept -= 1;
        }
        kept
    }

    /// Joins the smaller segments; gives the place of one that cannot be, and then nothing was done.
    fn join(&mut self) -> Result<Option<usize>, IndexError> {
        let kept = self.order_by_size();
        let small: Vec<&Segment> = self.segments.iter().skip(kept).collect();
        let known: BTreeMap<StripeId, StripeEntry> =
            small.iter().flat_map(|segment| segment.stripes()).map(|stripe| (stripe.id, *stripe)).collect();
        let stripes: Vec<StripeEntry> = known.into_values().collect();
        let path = self.folder.join(format!("{}.{EXTENSION}", hex::encode(name_of(&stripes))));
        let ordinals: BTreeMap<StripeId, u32> = stripes.iter().map(|stripe| stripe.id).zip(0..).collect();
        let at_most = small.iter().map(|segment| segment.entries()).sum();
        let mut merged = merge::Merge::new(&small, &ordinals);
        let written = write(&path, &stripes, at_most, &mut merged);
        if let Some(unusable) = merged.unusable() {
            return Ok(Some(kept + unusable));
        }
        written?;
        let old: Vec<PathBuf> = self.segments.drain(kept..).map(|segment| segment.path().to_owned()).collect();
        self.open_segment(&path)?;
        for gone in old.iter().filter(|old| **old != path) {
            // What cannot be removed now is joined again next time.
            let _ = fs::remove_file(gone);
        }
        Ok(None)
    }

    /// Takes a segment away whose entries make no sense. Its stripes are unknown from here on, so a session reads their tables anew.
    fn drop_segment(&mut self, at: usize) -> Result<(), IndexError> {
        let gone = self.segments.remove(at);
        match fs::remove_file(gone.path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(IndexError::Folder { folder: self.folder.clone(), source });
            }
            _ => {}
        }
        let known = self.segments.iter().flat_map(Segment::stripes);
        self.stripes = known.map(|stripe| (stripe.id, *stripe)).collect();
        Ok(())
    }

    /// Takes stripes out that are gone from the sites. A kill leaves segments with them and others without: nobody believes them.
    pub fn remove(&mut self, gone: &BTreeSet<StripeId>) -> Result<(), IndexError> {
        let has_gone = |segment: &Segment| segment.stripes().iter().any(|stripe| gone.contains(&stripe.id));
        let (affected, kept): (Vec<Segment>, Vec<Segment>) = self.segments.drain(..).partition(has_gone);
        self.segments = kept;
        self.stripes = self.segments.iter().flat_map(Segment::stripes).map(|stripe| (stripe.id, *stripe)).collect();
        for segment in affected {
            self.rewrite_without(&segment, gone)?;
        }
        Ok(())
    }

    /// Writes what is left of a segment beside it, and removes it.
    fn rewrite_without(&mut self, segment: &Segment, gone: &BTreeSet<StripeId>) -> Result<(), IndexError> {
        let left: Vec<StripeEntry> =
            segment.stripes().iter().filter(|stripe| !gone.contains(&stripe.id)).copied().collect();
        if !left.is_empty() {
            let ordinals: BTreeMap<StripeId, u32> = left.iter().map(|stripe| stripe.id).zip(0..).collect();
            let entry = |(id, ordinal, slot)| {
                let stripe = segment.stripe_of(ordinal).ok()?;
                Some(Ok((id, *ordinals.get(&stripe.id)?, slot)))
            };
            // A block that does not check costs deduplication of its chunks.
            let entries = (0..segment.blocks()).flat_map(|block| segment.block(block).unwrap_or_default());
            let path = self.folder.join(format!("{}.{EXTENSION}", hex::encode(name_of(&left))));
            write(&path, &left, segment.entries(), entries.filter_map(entry))?;
            self.open_segment(&path)?;
        }
        match fs::remove_file(segment.path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IndexError::Folder { folder: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Removes every segment: the next session makes the index anew from the sites.
    pub fn clear(&mut self) -> Result<(), IndexError> {
        self.stripes.clear();
        for segment in self.segments.drain(..) {
            fs::remove_file(segment.path())
                .map_err(|source| IndexError::Folder { folder: self.folder.clone(), source })?;
        }
        Ok(())
    }
}

/// What a segment of several stripes, given in ascending order, is called.
fn name_of(stripes: &[StripeEntry]) -> [u8; 32] {
    blockhouse_crypto::hash::hash_parts(
        "blockhouse v1 index segment",
        stripes.iter().map(|stripe| &stripe.id.as_bytes()[..]),
    )
}

fn write(
    path: &Path,
    stripes: &[StripeEntry],
    at_most: u64,
    entries: impl Iterator<Item = Result<Entry, SegmentError>>,
) -> Result<(), IndexError> {
    segment::write(path, stripes, at_most, entries)
        .map_err(|source| IndexError::Segment { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
