//! Snapshots of one source, walked side by side.
//!
//! - **Owns** the comparison of each tree with what its snapshot commits to, of each opened file with its hash, and of every chunk with the
//!   stripe list of each snapshot that needs it (L1).
//! - **Does not** decide which files are opened, nor fetch anything by itself.
//!
//! # Invariants
//! - **D1** A snapshot is found right only if its own entries, in its own order, have the root that it commits to, and every chunk that was met on
//!   the way was opened, by its own reference, out of a stripe of its own list.
//! - **D2** What is wrong with one snapshot ends the reading of that one alone.

use std::cell::RefCell;
use std::collections::HashMap;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent};
use blockhouse_pipeline::tree::{Body, Entry, EntryLeaves};
use blockhouse_types::{ChunkId, EntriesRoot, SnapshotId, StripeId};
use bytes::Bytes;
use rand::RngExt;
use rand::rngs::ThreadRng;

use super::{Drawing, Found};
use crate::chain::chain;
use crate::progress::Progress;
use crate::reader::{Beside, ByteCache, ChunkError, ChunkReader, Entries, ReadTreeError};

/// Of how many chunks it is remembered for whom they were opened: neighbours share chunks.
const KNOWN_MAX: usize = 1 << 12;

/// The user stopped it.
pub(super) struct Interrupted;

/// What is wrong inside a snapshot.
#[derive(Debug, thiserror::Error)]
enum BrokenError {
    #[error(transparent)]
    Read(#[from] ReadTreeError),
    #[error("file `{}` does not have the bytes that the snapshot says", path.escape_ascii())]
    File { path: Vec<u8> },
    #[error("the tree is not the one that the snapshot commits to")]
    Entries,
}

/// Some of the snapshots, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who(u32);

impl Who {
    const NOBODY: Self = Self(0);

    const fn one(number: usize) -> Self {
        Self(1 << number)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn has(self, number: usize) -> bool {
        self.0 & (1 << number) != 0
    }

    const fn is_nobody(self) -> bool {
        self.0 == 0
    }

    fn each(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |number| self.has(*number))
    }
}

/// One of the snapshots.
struct Side {
    id: SnapshotId,
    entries: u64,
    entries_root: EntriesRoot,
    leaves: EntryLeaves,
    drawing: Drawing,
}

/// Reads for several snapshots at once what each must be able to read by itself.
struct Covered {
    chunks: ChunkReader,
    /// Which snapshots list a stripe.
    lists: HashMap<StripeId, Who>,
    /// For whom a chunk was opened by which reference.
    known: ByteCache<ChunkId, (ChunkRef, Who)>,
    /// Those who could not read something: nothing more is read for them alone.
    failed: Who,
    /// What each of them could not read, since it was asked last; the first thing, for a file may have millions of chunks.
    lacking: Vec<(Who, ReadTreeError)>,
}

impl Covered {
    /// A chunk for all of these. For those who do not list the stripe that it comes from it is read again, out of one that they list (D1).
    fn read(&mut self, who: Who, reference: &ChunkRef) -> Result<Bytes, ChunkError> {
        let opened = self.chunks.read_somewhere(reference)?;
        let known = self.known.get(&reference.id).filter(|(known, _)| known == reference).map(|(_, who)| who);
        let mut having = known.unwrap_or(Who::NOBODY).and(listing(&self.lists, &opened.stripe));
        for number in who.but(having).but(self.failed).each() {
            let one = Who::one(number);
            let lists = &self.lists;
            match self.chunks.read_from(reference, |stripe| listing(lists, stripe).has(number)) {
                Ok(_) => having = having.and(one),
                Err(error) => {
                    self.failed = self.failed.and(one);
                    self.lacking.push((one, error.into()));
                }
            }
        }
        self.known.insert(reference.id, (reference.clone(), having), 1);
        Ok(opened.plain)
    }
}

fn listing(lists: &HashMap<StripeId, Who>, stripe: &StripeId) -> Who {
    lists.get(stripe).copied().unwrap_or(Who::NOBODY)
}

/// A listing that is being read, for everyone whose folder it is.
struct Reading {
    who: Who,
    entries: Entries,
    next: Option<Entry>,
}

/// A folder, in as many listings as there are different ones.
struct Folder {
    path: Vec<u8>,
    readings: Vec<Reading>,
}

/// What a path is, for whom.
type Met<T> = Vec<(Who, T)>;

/// Snapshots that are read side by side.
pub(super) struct Sides<'a> {
    all: Vec<Side>,
    roots: Met<Content>,
    /// Those with whom something is wrong.
    broken: Who,
    reader: Covered,
    random: ThreadRng,
    found: Found,
    progress: &'a Progress,
}

impl<'a> Sides<'a> {
    /// Snapshots of one domain, no more than [`super::SIDES`], and the reader of their chunks.
    pub(super) fn new(snapshots: Vec<Beside>, chunks: ChunkReader, basis_points: u16, progress: &'a Progress) -> Self {
        let (mut roots, mut lists) = (Vec::new(), HashMap::<StripeId, Who>::new());
        let side = |(number, snapshot): (usize, Beside)| {
            let Beside { record, described, stripes } = snapshot;
            roots.push((Who::one(number), described.manifest.root.clone()));
            for stripe in stripes {
                let listing = lists.entry(stripe).or_insert(Who::NOBODY);
                *listing = listing.and(Who::one(number));
            }
            // Without a number of files to draw from, all are opened.
            let files = described.manifest.facts.files().unwrap_or(0);
            Side {
                id: record.id,
                entries: described.manifest.entries,
                entries_root: described.manifest.entries_root,
                leaves: EntryLeaves::new(&described.manifest_key),
                drawing: Drawing::new(files, basis_points),
            }
        };
        let all = snapshots.into_iter().enumerate().map(side).collect();
        let reader =
            Covered { chunks, lists, known: ByteCache::new(KNOWN_MAX), failed: Who::NOBODY, lacking: Vec::new() };
        let (random, found) = (rand::rng(), Found::default());
        Self { all, roots, broken: Who::NOBODY, reader, random, found, progress }
    }

    /// Reads the whole trees, for the root of each is one hash; of the files those that are drawn.
    pub(super) fn read(mut self) -> Result<Found, Interrupted> {
        let roots = std::mem::take(&mut self.roots);
        // The folders on the way, the deepest one last; a stack on the heap, for trees may be deep.
        let mut stack = vec![self.folder(Vec::new(), roots)?];
        while let Some(folder) = stack.last_mut() {
            if self.progress.is_interrupted() {
                return Err(Interrupted);
            }
            match self.next(folder) {
                Some((path, met)) => stack.extend(self.entries(path, met)?),
                None => drop(stack.pop()),
            }
        }
        for (number, side) in std::mem::take(&mut self.all).into_iter().enumerate() {
            let made = side.leaves.finish();
            let is_committed = made.root == side.entries_root && made.entries == side.entries;
            if !is_committed && !self.broken.has(number) {
                self.found.broken.push((side.id, chain(&BrokenError::Entries)));
            }
        }
        Ok(self.found)
    }

    /// Begins to read a folder; equal listings are read once.
    fn folder(&mut self, path: Vec<u8>, listings: Met<Content>) -> Result<Folder, Interrupted> {
        let mut readings = Vec::new();
        for (who, listing) in merged(listings) {
            if let Err(error) = self.cover(who, &listing)? {
                self.fail(who, &error.into());
                continue;
            }
            let chunks = &mut self.reader.chunks;
            let begun = Entries::of(chunks, &path, &listing).and_then(|entries| {
                let mut entries = entries.sending_for_lists();
                let next = entries.next(chunks)?;
                Ok(Reading { who, entries, next })
            });
            match begun {
                Ok(reading) => readings.push(reading),
                Err(error) => self.fail(who, &error.into()),
            }
        }
        Ok(Folder { path, readings })
    }

    /// Reads a listing for all whose it is; what is read once more after that is the same.
    fn cover(&mut self, who: Who, listing: &Content) -> Result<Result<(), ReadTreeError>, Interrupted> {
        let reader = RefCell::new(&mut self.reader);
        for extent in listing.extents(|reference: &ChunkRef| reader.borrow_mut().read(who, reference)) {
            if self.progress.is_interrupted() {
                return Err(Interrupted);
            }
            let data = match extent {
                Ok(extent) => extent.chunk().map(|reference| reader.borrow_mut().read(who, reference)),
                Err(error) => return Ok(Err(Box::new(error).into())),
            };
            if let Some(Err(error)) = data {
                return Ok(Err(error.into()));
            }
        }
        self.fail_lacking();
        Ok(Ok(()))
    }

    /// The next path of a folder, with what it is for whom.
    fn next(&mut self, folder: &mut Folder) -> Option<(Vec<u8>, Met<Entry>)> {
        folder.readings.retain(|reading| !reading.who.but(self.broken).is_nobody());
        let name = folder.readings.iter().filter_map(|reading| Some(&reading.next.as_ref()?.name)).min()?.clone();
        let mut met = Vec::new();
        for reading in &mut folder.readings {
            let Some(entry) = reading.next.take_if(|next| next.name == name) else { continue };
            met.push((reading.who, entry));
            match reading.entries.next(&mut self.reader.chunks) {
                Ok(next) => reading.next = next,
                Err(error) => self.fail(reading.who, &error.into()),
            }
        }
        let path = if folder.path.is_empty() { name } else { [&folder.path[..], b"/", &name].concat() };
        Some((path, met))
    }

    /// Takes the entries of a path; gives the folder to go into.
    fn entries(&mut self, path: Vec<u8>, met: Met<Entry>) -> Result<Option<Folder>, Interrupted> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for (who, entry) in met {
            let who = who.but(self.broken);
            let facts = entry.facts();
            for number in who.each() {
                let Some(side) = self.all.get_mut(number) else { continue };
                side.leaves.push(&path, &facts);
                self.progress.add_step();
            }
            match entry.body {
                Body::Directory(listing) => folders.push((who, listing)),
                Body::File { content, hash } => files.push((self.drawn(who), (content, hash))),
                _ => {}
            }
        }
        self.files(&path, merged(files))?;
        if folders.is_empty() { Ok(None) } else { self.folder(path, folders).map(Some) }
    }

    /// Which of these open the file that they have met.
    fn drawn(&mut self, who: Who) -> Who {
        let mut drawn = Who::NOBODY;
        for number in who.each() {
            let Some(side) = self.all.get_mut(number) else { continue };
            self.found.files.of += 1;
            if side.drawing.takes_next(|left| self.random.random_range(0..left)) {
                self.found.files.opened += 1;
                drawn = drawn.and(Who::one(number));
            }
        }
        drawn
    }

    /// Compares the versions of a file with their hashes.
    fn files(&mut self, path: &[u8], mut versions: Met<(Content, [u8; 32])>) -> Result<(), Interrupted> {
        versions.retain(|(who, _)| !who.is_nobody());
        let contents: Met<&Content> = versions.iter().map(|(who, (content, _))| (*who, content)).collect();
        let hashes = hashes(&mut self.reader, &contents, self.progress)?;
        self.fail_lacking();
        for ((who, (_, hash)), found) in versions.iter().zip(hashes) {
            match found {
                Ok(found) if found == *hash => {}
                Ok(_) => self.fail(*who, &BrokenError::File { path: path.to_vec() }),
                Err(error) => self.fail(*who, &error.into()),
            }
        }
        Ok(())
    }

    fn fail_lacking(&mut self) {
        for (who, error) in std::mem::take(&mut self.reader.lacking) {
            self.fail(who, &error.into());
        }
    }

    /// D2: what is wrong with these is told once, and they are read no further.
    fn fail(&mut self, who: Who, error: &BrokenError) {
        for number in who.but(self.broken).each() {
            self.found.broken.extend(self.all.get(number).map(|side| (side.id, chain(error))));
        }
        self.broken = self.broken.and(who);
    }
}

/// What is equal is one, for all who have it.
fn merged<T: PartialEq>(met: Met<T>) -> Met<T> {
    let mut merged: Met<T> = Vec::new();
    for (who, what) in met {
        match merged.iter_mut().find(|(_, known)| *known == what) {
            Some((everyone, _)) => *everyone = everyone.and(who),
            None => merged.push((who, what)),
        }
    }
    merged
}

/// One of several contents that are hashed in step.
struct Version<I> {
    who: Who,
    extents: I,
    hasher: ContentHasher,
    at: u64,
    done: Option<Result<[u8; 32], ReadTreeError>>,
}

/// The hashes of contents, read in step: the one that has come least far goes on. So a chunk that several have at about the same place is
/// opened once, for the reader keeps it until all are past it.
fn hashes(
    reader: &mut Covered,
    contents: &Met<&Content>,
    progress: &Progress,
) -> Result<Vec<Result<[u8; 32], ReadTreeError>>, Interrupted> {
    // Lists and data are read through one reader, by turns.
    let reader = RefCell::new(reader);
    let begin = |(who, content): &(Who, &Content)| {
        let who = *who;
        Version {
            who,
            extents: content.extents({
                let reader = &reader;
                move |reference: &ChunkRef| reader.borrow_mut().read(who, reference)
            }),
            hasher: ContentHasher::new(),
            at: 0,
            done: None,
        }
    };
    let mut versions: Vec<_> = contents.iter().map(begin).collect();
    while let Some(version) =
        versions.iter_mut().filter(|version| version.done.is_none()).min_by_key(|version| version.at)
    {
        if progress.is_interrupted() {
            return Err(Interrupted);
        }
        let Some(extent) = version.extents.next() else {
            version.done = Some(Ok(version.hasher.finish()));
            continue;
        };
        let read = |extent: Extent| -> Result<(), ReadTreeError> {
            match extent.chunk() {
                None => version.hasher.update_zeros(extent.length()),
                Some(reference) => {
                    let plain = reader.borrow_mut().read(version.who, reference)?;
                    version.hasher.update(extent.slice(&plain).unwrap_or_default());
                }
            }
            version.at += extent.length();
            Ok(())
        };
        let done = extent.map_err(|error| ReadTreeError::from(Box::new(error))).and_then(read);
        version.done = done.err().map(Err);
    }
    // None is left that is not done.
    Ok(versions.into_iter().filter_map(|version| version.done).collect())
}

#[cfg(test)]
mod tests;
