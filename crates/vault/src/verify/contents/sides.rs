//! Snapshots of one source, walked side by side.
//!
//! - **Owns** the comparison of each tree with what its snapshot commits to, of each opened file with its hash, and of every chunk with the
//!   stripe list of each snapshot that needs it (L1).
//! - **Does not** decide which files are opened, nor fetch anything by itself.
//!
//! # Invariants
//! - **D1** A snapshot is found right only if its own entries, in its own order, have the root that it commits to, and every chunk that was met on
//!   the way lies in a stripe of its own list.
//! - **D2** What is wrong with one snapshot ends the reading of that one alone.

use std::cell::RefCell;
use std::collections::HashSet;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent};
use blockhouse_pipeline::tree::{Body, Entry, EntryLeaves};
use blockhouse_types::{ChunkId, EntriesRoot, SnapshotId, StripeId};
use rand::RngExt;
use rand::rngs::ThreadRng;

use super::{Drawing, Found, Seen};
use crate::chain::chain;
use crate::progress::Progress;
use crate::reader::{Beside, ByteCache, ChunkError, ChunkReader, Entries, ReadTreeError};

/// Of how many chunks it is remembered which snapshots list them: neighbours share chunks.
const LISTED_MAX: usize = 1 << 12;

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

/// The stripe lists of the snapshots.
struct Lists {
    stripes: Vec<HashSet<StripeId>>,
    /// Who is known to list a stripe of a chunk.
    known: ByteCache<ChunkId, Who>,
}

impl Lists {
    /// Which of these list no stripe that has the chunk.
    fn lacking(&mut self, chunks: &mut ChunkReader, who: Who, chunk: ChunkId) -> Who {
        let known = self.known.get(&chunk).unwrap_or(Who::NOBODY);
        let asked = who.but(known);
        if asked.is_nobody() {
            return Who::NOBODY;
        }
        let lists = |number: &usize| self.stripes.get(*number).is_some_and(|stripes| chunks.is_in(&chunk, stripes));
        let having = asked.each().filter(lists).fold(known, |having, number| having.and(Who::one(number)));
        self.known.insert(chunk, having, 1);
        asked.but(having)
    }
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
    sides: Vec<Side>,
    roots: Met<Content>,
    /// Those with whom something is wrong.
    broken: Who,
    chunks: ChunkReader,
    lists: Lists,
    random: ThreadRng,
    seen: &'a mut Seen,
    found: Found,
    progress: &'a Progress,
}

impl<'a> Sides<'a> {
    /// Snapshots of one domain, no more than [`super::SIDES`], and the reader of their chunks.
    pub(super) fn new(
        snapshots: Vec<Beside>,
        chunks: ChunkReader,
        basis_points: u16,
        seen: &'a mut Seen,
        progress: &'a Progress,
    ) -> Self {
        let (mut roots, mut lists) = (Vec::new(), Vec::new());
        let side = |(number, snapshot): (usize, Beside)| {
            let Beside { record, described, stripes } = snapshot;
            roots.push((Who::one(number), described.manifest.root.clone()));
            lists.push(stripes.into_iter().collect());
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
        let sides = snapshots.into_iter().enumerate().map(side).collect();
        let lists = Lists { stripes: lists, known: ByteCache::new(LISTED_MAX) };
        let (random, found) = (rand::rng(), Found::default());
        Self { sides, roots, broken: Who::NOBODY, chunks, lists, random, seen, found, progress }
    }

    /// Reads the whole trees, for the root of each is one hash; of the files those that are drawn.
    pub(super) fn read(mut self) -> Result<Found, Interrupted> {
        let roots = std::mem::take(&mut self.roots);
        // The folders on the way, the deepest one last; a stack on the heap, for trees may be deep.
        let mut stack = vec![self.folder(Vec::new(), roots)];
        while let Some(folder) = stack.last_mut() {
            if self.progress.is_interrupted() {
                return Err(Interrupted);
            }
            match self.next(folder) {
                Some((path, met)) => stack.extend(self.entries(path, met)?),
                None => drop(stack.pop()),
            }
        }
        for (number, side) in std::mem::take(&mut self.sides).into_iter().enumerate() {
            let made = side.leaves.finish();
            let is_committed = made.root == side.entries_root && made.entries == side.entries;
            if !is_committed && !self.broken.has(number) {
                self.found.broken.push((side.id, chain(&BrokenError::Entries)));
            }
        }
        Ok(self.found)
    }

    /// Begins to read a folder; equal listings are read once.
    fn folder(&mut self, path: Vec<u8>, listings: Met<Content>) -> Folder {
        let mut readings = Vec::new();
        for (who, listing) in merged(listings) {
            self.check_lists(who, &listing);
            let begun = Entries::of(&mut self.chunks, &path, &listing).and_then(|mut entries| {
                let next = entries.next(&mut self.chunks)?;
                Ok(Reading { who, entries, next })
            });
            match begun {
                Ok(reading) => readings.push(reading),
                Err(error) => self.fail(who, &error.into()),
            }
        }
        Folder { path, readings }
    }

    /// The next path of a folder, with what it is for whom.
    fn next(&mut self, folder: &mut Folder) -> Option<(Vec<u8>, Met<Entry>)> {
        folder.readings.retain(|reading| !reading.who.but(self.broken).is_nobody());
        let name = folder.readings.iter().filter_map(|reading| Some(&reading.next.as_ref()?.name)).min()?.clone();
        let mut met = Vec::new();
        for reading in &mut folder.readings {
            let Some(entry) = reading.next.take_if(|next| next.name == name) else { continue };
            met.push((reading.who, entry));
            match reading.entries.next(&mut self.chunks) {
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
                let Some(side) = self.sides.get_mut(number) else { continue };
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
        Ok((!folders.is_empty()).then(|| self.folder(path, folders)))
    }

    /// Which of these open the file that they have met.
    fn drawn(&mut self, who: Who) -> Who {
        let mut drawn = Who::NOBODY;
        for number in who.each() {
            let Some(side) = self.sides.get_mut(number) else { continue };
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
        for (who, (content, _)) in &versions {
            self.check_lists(*who, content);
        }
        versions.retain(|(who, (content, hash))| !who.but(self.broken).is_nobody() && !self.seen.has(content, hash));
        let contents: Vec<&Content> = versions.iter().map(|(_, (content, _))| content).collect();
        let hashes = hashes(&mut self.chunks, &contents, self.progress)?;
        for ((who, (content, hash)), found) in versions.iter().zip(hashes) {
            match found {
                Ok(found) if found == *hash => self.seen.add(content, hash),
                Ok(_) => self.fail(*who, &BrokenError::File { path: path.to_vec() }),
                Err(error) => self.fail(*who, &error.into()),
            }
        }
        Ok(())
    }

    /// L1: every chunk of a content lies in a stripe that each of these lists.
    fn check_lists(&mut self, who: Who, content: &Content) {
        let lists = &mut self.lists;
        let chunks = RefCell::new(&mut self.chunks);
        let on_the_way = RefCell::new(Vec::new());
        let extents = content.extents(|reference: &ChunkRef| {
            on_the_way.borrow_mut().push(reference.id);
            chunks.borrow_mut().read(reference)
        });
        let mut flaws = Vec::new();
        for extent in extents {
            let data = match extent {
                Ok(extent) => extent.chunk().map(|chunk| chunk.id),
                Err(error) => {
                    flaws.push((who, ReadTreeError::from(Box::new(error))));
                    break;
                }
            };
            for chunk in on_the_way.take().into_iter().chain(data) {
                let lacking = lists.lacking(&mut chunks.borrow_mut(), who, chunk);
                flaws.extend((!lacking.is_nobody()).then(|| (lacking, ChunkError::Unknown { chunk }.into())));
            }
            if !flaws.is_empty() {
                break;
            }
        }
        for (who, error) in flaws {
            self.fail(who, &error.into());
        }
    }

    /// D2: what is wrong with these is told once, and they are read no further.
    fn fail(&mut self, who: Who, error: &BrokenError) {
        for number in who.but(self.broken).each() {
            self.found.broken.extend(self.sides.get(number).map(|side| (side.id, chain(error))));
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
    extents: I,
    hasher: ContentHasher,
    at: u64,
    done: Option<Result<[u8; 32], ReadTreeError>>,
}

/// The hashes of contents, read in step: the one that has come least far goes on. So a chunk that several have at about the same place is
/// opened once, for the reader keeps it until all are past it.
fn hashes(
    chunks: &mut ChunkReader,
    contents: &[&Content],
    progress: &Progress,
) -> Result<Vec<Result<[u8; 32], ReadTreeError>>, Interrupted> {
    // Lists and data are read through one reader, by turns.
    let chunks = RefCell::new(chunks);
    let begin = |content: &&Content| Version {
        extents: content.extents(|reference: &ChunkRef| chunks.borrow_mut().read(reference)),
        hasher: ContentHasher::new(),
        at: 0,
        done: None,
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
                    let plain = chunks.borrow_mut().read(reference)?;
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
