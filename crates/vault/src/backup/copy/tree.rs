//! The tree of a snapshot of one vault, made anew in another.
//!
//! Folder by folder as a backup walks them: a folder's files when it is entered, its listing when it is left, a leaf for each entry in
//! between. So a copy is cut as a backup of the same files would be.

use std::collections::HashMap;

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent};
use blockhouse_pipeline::cut::{Cutter, Grain};
use blockhouse_pipeline::tree::{Body, Entry, EntryLeaves, ListingWriter};
use blockhouse_types::SnapshotId;
use blockhouse_types::limits::CUT_TARGET;

use super::CopyError;
use super::memory::{Became, CopyMemory, key_of};
use crate::backup::sink::{ContentSink, SinkError};
use crate::backup::store::{ChunkStore, StoreError};
use crate::backup::stream::Stream;
use crate::backup::walker::{Findings, Tree, WalkError};
use crate::progress::Progress;
use crate::reader::{self, ChunkReader, Piece, ReadTreeError};

/// What a copy works with.
pub(super) struct Copier<'a> {
    chunks: ChunkReader,
    snapshot: SnapshotId,
    store: &'a mut ChunkStore,
    cutter: &'a Cutter,
    memory: &'a mut CopyMemory,
    progress: &'a Progress,
    leaves: EntryLeaves,
    findings: Findings,
    frames: Vec<Frame>,
}

/// A folder that was entered and not left.
struct Frame {
    /// Its own entry; none for the listing of roots.
    entry: Option<Entry>,
    /// What is still to be listed; files have their new contents.
    entries: std::vec::IntoIter<Entry>,
    writer: ListingWriter,
    stream: Stream<()>,
    sink: ContentSink,
}

/// A file of the folder, by its place in the listing.
type Place = usize;

/// Why a file's bytes did not arrive.
enum FileError {
    Read(ReadTreeError),
    Walk(WalkError),
}

impl From<ReadTreeError> for FileError {
    fn from(error: ReadTreeError) -> Self {
        Self::Read(error)
    }
}

impl From<StoreError> for FileError {
    fn from(error: StoreError) -> Self {
        Self::Walk(error.into())
    }
}

impl From<SinkError> for FileError {
    fn from(error: SinkError) -> Self {
        Self::Walk(error.into())
    }
}

impl<'a> Copier<'a> {
    /// Nothing is copied yet.
    pub(super) fn new(
        (chunks, snapshot): (ChunkReader, SnapshotId),
        (store, cutter): (&'a mut ChunkStore, &'a Cutter),
        memory: &'a mut CopyMemory,
        (manifest_key, progress): (&Secret, &'a Progress),
    ) -> Self {
        let (leaves, findings) = (EntryLeaves::new(manifest_key), Findings::default());
        Self { chunks, snapshot, store, cutter, memory, progress, leaves, findings, frames: Vec::new() }
    }

    /// Copies the tree below a listing of roots.
    pub(super) fn run(mut self, root: &Content) -> Result<Tree, CopyError> {
        self.enter(None, root)?;
        while let Some(frame) = self.frames.last_mut() {
            match frame.entries.next() {
                Some(entry) => {
                    let path = self.path_of(&entry.name);
                    self.leaves.push(&path, &entry.facts());
                    match entry.body.clone() {
                        Body::Directory(listing) => self.enter(Some(entry), &listing)?,
                        _ => self.list(&entry)?,
                    }
                }
                None => {
                    if let Some(root) = self.leave()? {
                        return Ok(Tree { root, entries: self.leaves.finish(), findings: self.findings });
                    }
                }
            }
        }
        // A walk ends with leaving the listing of roots.
        Err(WalkError::from(StoreError::Stopped).into())
    }

    fn enter(&mut self, entry: Option<Entry>, listing: &Content) -> Result<(), CopyError> {
        let folder = entry.as_ref().map(|entry| self.path_of(&entry.name)).unwrap_or_default();
        let entries =
            reader::list(&mut self.chunks, &folder, listing).map_err(|source| self.unread(&folder, source))?;
        let (writer, stream, sink) = (ListingWriter::new(), Stream::new(), ContentSink::default());
        self.frames.push(Frame { entry, entries: Vec::new().into_iter(), writer, stream, sink });
        let entries = self.files(entries)?;
        if let Some(frame) = self.frames.last_mut() {
            frame.entries = entries.into_iter();
        }
        Ok(())
    }

    /// The entries of a folder, its files with their new contents.
    fn files(&mut self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, CopyError> {
        let (small, large): (Vec<Place>, Vec<Place>) = files_of(&entries)
            .map(|(place, content)| (place, is_small(content)))
            .fold((Vec::new(), Vec::new()), |(mut small, mut large), (place, is_small)| {
                if is_small {
                    small.push(place);
                } else {
                    large.push(place);
                }
                (small, large)
            });
        // Small files are one stream: all of them became something together, or are read together.
        for group in std::iter::once(small).chain(large.into_iter().map(|place| vec![place])) {
            let became = self.group(&entries, &group)?;
            for (place, new) in group.into_iter().zip(became.contents) {
                if let Some(Entry { body: Body::File { content, .. }, .. }) = entries.get_mut(place) {
                    *content = new;
                }
            }
        }
        Ok(entries)
    }

    fn group(&mut self, entries: &[Entry], group: &[Place]) -> Result<Became, CopyError> {
        let contents = || group.iter().filter_map(|place| content_of(entries, *place));
        let key = key_of(contents().map(|(_, content, _)| content));
        for (_, content, _) in contents() {
            self.findings.files += 1;
            self.findings.bytes += content.length();
        }
        if let Some(became) = self.memory.find(&key).filter(|became| self.store.reuse(&became.chunks)) {
            for (_, content, _) in contents() {
                self.findings.unchanged += 1;
                self.progress.add_file(content.length());
            }
            return Ok(became);
        }
        let became = self.read(entries, group)?;
        self.memory.keep(key, became.clone());
        Ok(became)
    }

    /// Reads files into one stream.
    fn read(&mut self, entries: &[Entry], group: &[Place]) -> Result<Became, CopyError> {
        let mut stream: Stream<Place> = Stream::in_grain(self.grain_of(entries, group)?);
        let mut sinks: HashMap<Place, ContentSink> = HashMap::new();
        for place in group {
            let Some((name, content, hash)) = content_of(entries, *place) else { continue };
            sinks.insert(*place, ContentSink::default());
            match self.pour((*place, content), &mut stream, &mut sinks) {
                Ok(found) if found == *hash => self.progress.add_file(0),
                Ok(_) => return Err(CopyError::OtherContent { snapshot: self.snapshot, path: self.path_of(name) }),
                Err(FileError::Read(source)) => return Err(self.unread(&self.path_of(name), source)),
                Err(FileError::Walk(error)) => return Err(error.into()),
            }
        }
        stream.cut(self.cutter, self.store, true).map_err(WalkError::from)?;
        deal(&mut stream, &mut sinks, self.cutter, self.store).map_err(WalkError::from)?;
        let mut became = Became { contents: Vec::with_capacity(group.len()), chunks: Vec::new() };
        for place in group {
            let sink = sinks.remove(place).unwrap_or_default();
            let (content, needed) = sink.finish(self.cutter, self.store).map_err(WalkError::from)?;
            became.contents.push(content);
            became.chunks.extend(needed.cut.iter().map(|chunk| chunk.id).chain(needed.others));
        }
        Ok(became)
    }

    /// In which grain files are cut: as a backup of them does it.
    fn grain_of(&mut self, entries: &[Entry], group: &[Place]) -> Result<Grain, CopyError> {
        let [place] = group else { return Ok(Grain::Usual) };
        let Some((name, content, _)) = content_of(entries, *place) else { return Ok(Grain::Usual) };
        if is_small(content) {
            return Ok(Grain::Usual);
        }
        let chunks = &mut self.chunks;
        for extent in content.extents(|reference: &ChunkRef| chunks.read(reference)) {
            if self.progress.is_interrupted() {
                return Err(WalkError::Interrupted.into());
            }
            match extent {
                Ok(Extent::Hole { .. }) => return Ok(Grain::of_file(true)),
                Ok(_) => {}
                Err(error) => return Err(self.unread(&self.path_of(name), Box::new(error).into())),
            }
        }
        Ok(Grain::of_file(false))
    }

    /// The bytes of one file into the stream; gives their hash.
    fn pour(
        &mut self,
        (place, content): (Place, &Content),
        stream: &mut Stream<Place>,
        sinks: &mut HashMap<Place, ContentSink>,
    ) -> Result<[u8; 32], FileError> {
        let mut hasher = ContentHasher::new();
        let (store, cutter, progress) = (&mut *self.store, self.cutter, self.progress);
        reader::pieces(&mut self.chunks, content, |piece| -> Result<(), FileError> {
            match piece {
                Piece::Bytes(bytes) => {
                    hasher.update(bytes);
                    let copied: Result<(), StoreError> = stream.append(place, bytes.len(), |room| {
                        room.copy_from_slice(bytes);
                        Ok(())
                    });
                    copied?;
                    progress.add_bytes(bytes.len() as u64);
                }
                Piece::Hole(length) => {
                    hasher.update_zeros(length);
                    stream.hole(place, length);
                    progress.add_bytes(length);
                }
            }
            if progress.is_interrupted() {
                return Err(FileError::Walk(WalkError::Interrupted));
            }
            if stream.is_full() {
                stream.cut(cutter, store, false)?;
                deal(stream, sinks, cutter, store)?;
            }
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Adds an entry to the listing of the folder entered last.
    fn list(&mut self, entry: &Entry) -> Result<(), CopyError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let record = frame.writer.push(entry).map_err(WalkError::from)?;
        let copied: Result<(), StoreError> = frame.stream.append((), record.len(), |room| {
            room.copy_from_slice(&record);
            Ok(())
        });
        copied.map_err(WalkError::from)?;
        if frame.stream.is_full() {
            frame.stream.cut(self.cutter, self.store, false).map_err(WalkError::from)?;
            drain(frame, self.cutter, self.store).map_err(WalkError::from)?;
        }
        Ok(())
    }

    /// Ends a folder. Gives the content of the listing of roots.
    fn leave(&mut self) -> Result<Option<Content>, CopyError> {
        let Some(mut frame) = self.frames.pop() else { return Ok(None) };
        frame.stream.cut(self.cutter, self.store, true).map_err(WalkError::from)?;
        drain(&mut frame, self.cutter, self.store).map_err(WalkError::from)?;
        let (content, _) = frame.sink.finish(self.cutter, self.store).map_err(WalkError::from)?;
        match frame.entry {
            None => Ok(Some(content)),
            Some(entry) => {
                self.list(&Entry { body: Body::Directory(content), ..entry })?;
                Ok(None)
            }
        }
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let folders = self.frames.iter().filter_map(|frame| frame.entry.as_ref()).map(|entry| &entry.name[..]);
        folders.chain([name]).collect::<Vec<_>>().join(&b'/')
    }

    fn unread(&self, path: &[u8], source: ReadTreeError) -> CopyError {
        CopyError::Read { snapshot: self.snapshot, path: path.to_vec(), source }
    }
}

/// True for files that are cut in one stream with others of their folder.
const fn is_small(content: &Content) -> bool {
    content.length() < CUT_TARGET as u64
}

/// The regular files of a listing, each with its place.
fn files_of(entries: &[Entry]) -> impl Iterator<Item = (Place, &Content)> {
    entries.iter().enumerate().filter_map(|(place, entry)| match &entry.body {
        Body::File { content, .. } => Some((place, content)),
        _ => None,
    })
}

fn content_of(entries: &[Entry], place: Place) -> Option<(&[u8], &Content, &[u8; 32])> {
    match entries.get(place) {
        Some(Entry { name, body: Body::File { content, hash }, .. }) => Some((name, content, hash)),
        _ => None,
    }
}

fn deal(
    stream: &mut Stream<Place>,
    sinks: &mut HashMap<Place, ContentSink>,
    cutter: &Cutter,
    store: &mut ChunkStore,
) -> Result<(), SinkError> {
    for (place, extent) in stream.take_pieces() {
        if let Some(sink) = sinks.get_mut(&place) {
            sink.push(extent, cutter, store)?;
        }
    }
    Ok(())
}

fn drain(frame: &mut Frame, cutter: &Cutter, store: &mut ChunkStore) -> Result<(), SinkError> {
    for ((), extent) in frame.stream.take_pieces() {
        frame.sink.push(extent, cutter, store)?;
    }
    Ok(())
}
