//! Follows a walk, reads what changed, and builds the tree of the snapshot.
//!
//! - **Owns** the order of things: a folder's files when it is entered, its listing when it is left, a leaf for each entry in between.
//! - **Does not** store chunks or talk to the ledger.

mod files;
mod stream_file;

pub(super) use files::{FRESH, regular_files};
pub(super) use stream_file::store_stream;

use std::sync::Arc;

use blockhouse_crypto::Secret;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::cut::Cutter;
use blockhouse_pipeline::tree::{Body, Device, EntriesCommitment, Entry, EntryError, EntryLeaves, ListingWriter};
use blockhouse_sources::files::{Capture, Event, Found, IgnoreProblem, LeftOutTally, Listing, Reason, Unreadable};
use blockhouse_sources::stream::StreamError;
use blockhouse_types::{EntryFacts, EntryKind, Metadata, Timestamp};

use super::sink::{ContentSink, SinkError};
use super::store::{ChunkStore, StoreError};
use super::stream::Stream;
use crate::cache::{CacheReader, CacheWriter, FolderKey};
use crate::progress::Progress;

/// Why a walk did not become a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// Chunks could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A content could not be built.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// An entry cannot be recorded.
    #[error("an entry cannot be recorded")]
    Entry(#[from] EntryError),
    /// The cache could not be written.
    #[error("could not write the file cache")]
    Cache(#[source] std::io::Error),
    /// A stream did not come to a good end.
    #[error(transparent)]
    Stream(StreamError),
    /// The user asked to stop.
    #[error("the backup was interrupted")]
    Interrupted,
}

/// Something that is in the snapshot only as a name, or not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where, as in the tree.
    pub path: Vec<u8>,
    /// What is wrong.
    pub why: String,
}

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Regular files in the tree.
    pub files: u64,
    /// Their bytes, holes too.
    pub bytes: u64,
    /// What was left out, by reason.
    pub left_out: LeftOutTally,
    /// What of ignore files could not be used.
    pub ignore_problems: Vec<IgnoreProblem>,
    /// Files that were recognised without reading.
    pub unchanged: u64,
    /// What could not be read, or changed while it was read.
    pub flaws: Vec<Flaw>,
}

/// The tree of a snapshot.
#[derive(Debug)]
pub(super) struct Tree {
    /// The listing of roots.
    pub(super) root: Content,
    /// The commitment to all entries.
    pub(super) entries: EntriesCommitment,
    /// What was found on the way.
    pub(super) findings: Findings,
}

/// What a walker works with.
pub(super) struct Walker<'a> {
    pub(super) capture: &'a Capture<'a>,
    pub(super) store: &'a mut ChunkStore,
    pub(super) cutter: &'a Cutter,
    pub(super) cache: CacheReader,
    pub(super) next_cache: &'a mut CacheWriter,
    pub(super) leaves: EntryLeaves,
    pub(super) findings: Findings,
    pub(super) progress: &'a Progress,
    pub(super) started: Timestamp,
    frames: Vec<Frame>,
}

/// A folder that was entered and not left.
struct Frame {
    /// The folder's own entry; none for the listing of roots.
    entry: Option<Arc<Found>>,
    /// What its regular files became, by their place in the listing.
    files: Vec<Option<FileEntry>>,
    writer: ListingWriter,
    stream: Stream<()>,
    sink: ContentSink,
}

/// A regular file that was read or recognised.
pub(super) struct FileEntry {
    /// What it was like when it was read.
    pub(super) metadata: Metadata,
    /// Its content, or why there is none.
    pub(super) body: Body,
}

impl<'a> Walker<'a> {
    /// A walker that has seen nothing yet.
    pub(super) fn new(
        capture: &'a Capture<'a>,
        store: &'a mut ChunkStore,
        cutter: &'a Cutter,
        caches: (CacheReader, &'a mut CacheWriter),
        context: (&Secret, &'a Progress, Timestamp),
    ) -> Self {
        let (cache, next_cache) = caches;
        let (manifest_key, progress, started) = context;
        Self {
            capture,
            store,
            cutter,
            cache,
            next_cache,
            leaves: EntryLeaves::new(manifest_key),
            findings: Findings::default(),
            progress,
            started,
            frames: Vec::new(),
        }
    }

    /// Walks the whole source.
    pub(super) fn run(mut self) -> Result<Tree, WalkError> {
        for event in self.capture.walk() {
            if self.progress.is_interrupted() {
                return Err(WalkError::Interrupted);
            }
            if let Some(root) = self.step(event)? {
                return Ok(Tree { root, entries: self.leaves.finish(), findings: self.findings });
            }
        }
        // A walk ends with leaving the listing of roots.
        Err(StoreError::Stopped.into())
    }

    fn step(&mut self, event: Event) -> Result<Option<Content>, WalkError> {
        match event {
            Event::Enter { entry, folder, listing } => {
                let entry = entry.map(|(_, found)| found);
                self.note_listing(&listing);
                if let Some(found) = &entry {
                    self.leaf(&tree_path(self.names(), &found.name), &directory_entry(found, Content::empty()));
                }
                self.frames.push(Frame {
                    entry: entry.clone(),
                    files: Vec::new(),
                    writer: ListingWriter::new(),
                    stream: Stream::new(),
                    sink: ContentSink::default(),
                });
                let key = folder_key(entry.as_deref());
                let files = self.read_files(&folder, &listing, &key)?;
                if let Some(frame) = self.frames.last_mut() {
                    frame.files = files;
                }
            }
            Event::Entry { index, found, .. } => {
                let file = self.frames.last_mut().and_then(|frame| frame.files.get_mut(index)).and_then(Option::take);
                let entry = match file {
                    Some(FileEntry { metadata, body }) => Entry { name: found.name.clone(), metadata, body },
                    None => entry_of(&found, special_body(&found)),
                };
                self.add(&entry)?;
            }
            Event::Unreadable { unreadable, .. } => {
                let path = tree_path(self.names(), &unreadable.name);
                self.flaw(path, &unreadable.reason);
                self.add(&unreadable_entry(&unreadable))?;
            }
            Event::Leave => return self.leave(),
        }
        Ok(None)
    }

    /// Adds an entry to the folder entered last, with its leaf.
    fn add(&mut self, entry: &Entry) -> Result<(), WalkError> {
        let path = tree_path(self.names(), &entry.name);
        self.leaf(&path, entry);
        self.list(entry)
    }

    fn list(&mut self, entry: &Entry) -> Result<(), WalkError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let record = frame.writer.push(entry)?;
        let copied: Result<(), StoreError> = frame.stream.append((), record.len(), |room| {
            room.copy_from_slice(&record);
            Ok(())
        });
        copied?;
        if frame.stream.is_full() {
            frame.stream.cut(self.cutter, self.store, false)?;
            drain(frame, self.cutter, self.store)?;
        }
        Ok(())
    }

    /// Ends a folder: its listing becomes content, which its own entry carries. Gives the content of the listing of roots.
    fn leave(&mut self) -> Result<Option<Content>, WalkError> {
        let Some(mut frame) = self.frames.pop() else { return Ok(None) };
        frame.stream.cut(self.cutter, self.store, true)?;
        drain(&mut frame, self.cutter, self.store)?;
        let (content, _) = frame.sink.finish(self.cutter, self.store)?;
        match frame.entry {
            None => Ok(Some(content)),
            Some(found) => {
                self.list(&directory_entry(&found, content))?;
                Ok(None)
            }
        }
    }

    fn leaf(&mut self, path: &[u8], entry: &Entry) {
        let facts: EntryFacts = entry.facts();
        self.leaves.push(path, &facts);
    }

    /// The names of the folders that were entered and not left.
    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().filter_map(|frame| frame.entry.as_ref()).map(|found| &found.name[..])
    }

    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        tree_path(self.names(), name)
    }

    pub(super) fn flaw(&mut self, path: Vec<u8>, why: &impl ToString) {
        self.findings.flaws.push(Flaw { path, why: why.to_string() });
    }

    fn note_listing(&mut self, listing: &Listing) {
        self.findings.left_out.count(&listing.left_out);
        self.findings.ignore_problems.extend(listing.ignore_problems.iter().cloned());
        for unread in &listing.attributes_unread {
            let attribute = String::from_utf8_lossy(&unread.attribute);
            let why = format!("attribute {attribute} could not be read: {}", unread.reason);
            self.findings.flaws.push(Flaw { path: unread.path.clone(), why });
        }
    }
}

fn drain(frame: &mut Frame, cutter: &Cutter, store: &mut ChunkStore) -> Result<(), SinkError> {
    for ((), extent) in frame.stream.take_pieces() {
        frame.sink.push(extent, cutter, store)?;
    }
    Ok(())
}

fn tree_path<'n>(names: impl Iterator<Item = &'n [u8]>, name: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    for folder in names {
        path.extend_from_slice(folder);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The listing of roots is number 0, the roots follow.
pub(super) fn folder_key(entry: Option<&Found>) -> FolderKey {
    let Some(found) = entry else { return FolderKey { root: 0, path: Vec::new() } };
    let root = u32::try_from(found.root).unwrap_or(u32::MAX).saturating_add(1);
    FolderKey { root, path: found.path.clone() }
}

fn entry_of(found: &Found, body: Body) -> Entry {
    Entry { name: found.name.clone(), metadata: found.metadata.clone(), body }
}

fn directory_entry(found: &Found, listing: Content) -> Entry {
    entry_of(found, Body::Directory(listing))
}

fn special_body(found: &Found) -> Body {
    let device = || {
        let (major, minor) = found.device.as_ref().map_or((0, 0), |device| (device.major, device.minor));
        Device { major: major.into(), minor: minor.into() }
    };
    match found.kind {
        EntryKind::Symlink => Body::Symlink { target: found.target.clone() },
        EntryKind::Fifo => Body::Fifo,
        EntryKind::CharDevice => Body::CharDevice(device()),
        EntryKind::BlockDevice => Body::BlockDevice(device()),
        EntryKind::Socket => Body::Socket,
        // A file whose reading failed was given a body; folders are entered.
        EntryKind::File | EntryKind::Directory | EntryKind::Unreadable => {
            Body::Unreadable { was: found.kind, reason: Reason::Vanished.to_string() }
        }
    }
}

fn unreadable_entry(unreadable: &Unreadable) -> Entry {
    let body = Body::Unreadable { was: unreadable.kind, reason: unreadable.reason.to_string() };
    Entry { name: unreadable.name.clone(), metadata: unreadable.metadata.clone(), body }
}
