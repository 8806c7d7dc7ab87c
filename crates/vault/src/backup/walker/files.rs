//! The regular files of one folder: recognised, joined and read, or read alone.
//!
//! # Invariants
//! - **R1** A file is recognised only if its identity is the recorded one, the record was settled, and every chunk is there.
//! - **R2** The joined files of a folder are reused unread only if they are the very files of the last backup, each unchanged;
//!   otherwise all of them are read and cut again. So no chunk with bytes of a file that is gone stays in the next cache.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent};
use blockhouse_pipeline::cut::Grain;
use blockhouse_pipeline::tree::Body;
use blockhouse_sources::files::{Entry as Listed, FileReader, Folder, Found, Identity, Listing, ReadError, Unreadable};
use blockhouse_types::limits::{CUT_TARGET, MIB};
use blockhouse_types::{ChunkId, Decoder, Encoder, EntryKind};

use super::{FileEntry, WalkError, Walker};
use crate::backup::sink::{ContentSink, Needed};
use crate::backup::stream::Stream;
use crate::cache::{CachedFile, FolderKey};

/// How much of a file is read at once.
const READ: usize = MIB;
/// How many zeros of a hole are hashed at once: progress is seen, and whoever asks to stop is heard.
const HOLE_STEP: u64 = 64 * MIB as u64;

/// The second of the last change of a file that was recorded too soon after it: no file has it.
pub(in crate::backup) const FRESH: i64 = i64::MIN;

/// A file of the folder, by its place in the listing.
pub(in crate::backup) type Place = usize;

/// What reading a file gave, before its content is known.
struct Read {
    found: Found,
    hash: [u8; 32],
    sink: ContentSink,
}

impl Walker<'_> {
    /// What the regular files of a folder become, by their places in the listing.
    pub(super) fn read_files(
        &mut self,
        folder: &Folder,
        listing: &Listing,
        key: &FolderKey,
    ) -> Result<Vec<Option<FileEntry>>, WalkError> {
        let mut entries: Vec<Option<FileEntry>> = listing.entries.iter().map(|_| None).collect();
        let mut cache = Vec::new();
        let mut recognised = Recognised::of(self.cache.folder(key), listing);
        let joined: Vec<ChunkId> = recognised.joined_chunks();
        // Of the joined files all are reused, or none.
        let reuses_joined = recognised.has_all_joined && self.store.reuse(&joined);
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (place, found) in regular_files(listing) {
            let known = recognised.files.remove(&found.name);
            let is_reused = known.as_ref().is_some_and(|known| {
                if is_joined(found.size) {
                    reuses_joined
                } else {
                    known.is_unchanged && self.store.reuse(&known.chunks)
                }
            });
            match known {
                Some(Known { file, content, .. }) if is_reused => {
                    self.count(found, true);
                    let body = Body::File { content, hash: file.content_hash };
                    cache.push(file);
                    set(&mut entries, place, FileEntry { metadata: found.metadata.clone(), body });
                }
                _ if is_joined(found.size) => small.push((place, found)),
                known => large.push((place, found, known.map(Known::into_cut).unwrap_or_default())),
            }
        }
        let outgrown = self.read_joined(folder, &small, &mut entries, &mut cache)?;
        large.extend(outgrown.into_iter().map(|(place, found)| (place, found, VecDeque::new())));
        for file in large {
            self.read_alone(folder, file, &mut entries, &mut cache)?;
        }
        cache.sort_by(|one, other| one.name.cmp(&other.name));
        self.next_cache.folder(key, &cache).map_err(WalkError::Cache)?;
        Ok(entries)
    }

    /// Reads small files into one stream; gives those back that are not small any more.
    fn read_joined<'f>(
        &mut self,
        folder: &Folder,
        files: &[(Place, &'f Found)],
        entries: &mut [Option<FileEntry>],
        cache: &mut Vec<CachedFile>,
    ) -> Result<Vec<(Place, &'f Found)>, WalkError> {
        let mut stream: Stream<Place> = Stream::new();
        let mut reads: HashMap<Place, Read> = HashMap::new();
        let mut outgrown = Vec::new();
        for (place, found) in files {
            match self.slurp(folder, found) {
                Ok(None) => outgrown.push((*place, *found)),
                Ok(Some(slurped)) => {
                    let read = slurped.into_stream(*place, &mut stream)?;
                    reads.insert(*place, read);
                }
                Err(unreadable) => self.fail(*place, &unreadable, entries),
            }
            if stream.is_full() {
                stream.cut(self.cutter, self.store, false)?;
                self.deal(&mut stream, &mut reads)?;
            }
        }
        stream.cut(self.cutter, self.store, true)?;
        self.deal(&mut stream, &mut reads)?;
        for (place, _) in files {
            if let Some(read) = reads.remove(place) {
                self.complete(*place, read, entries, cache)?;
            }
        }
        Ok(outgrown)
    }

    fn deal(&mut self, stream: &mut Stream<Place>, reads: &mut HashMap<Place, Read>) -> Result<(), WalkError> {
        for (place, extent) in stream.take_pieces() {
            if let Some(read) = reads.get_mut(&place) {
                read.sink.push(extent, self.cutter, self.store)?;
            }
        }
        Ok(())
    }

    /// Reads a whole small file. One that changes meanwhile is read once more; if it changes again, that is a flaw. None if it has grown so
    /// that memory is no place for it, nor the stream of the small ones (R2).
    fn slurp(&mut self, folder: &Folder, found: &Found) -> Result<Option<Slurped>, Arc<Unreadable>> {
        let read = |reader: FileReader| is_joined(reader.found().size).then(|| Slurped::read(reader)).transpose();
        match read(self.capture.open(folder, found)?)? {
            None => return Ok(None),
            Some((first, false)) => return Ok(Some(first)),
            Some((_, true)) => {}
        }
        let Some((second, changed)) = read(self.capture.open(folder, found)?)? else { return Ok(None) };
        if changed {
            self.flaw(self.path_of(&found.name), &CHANGED);
        }
        Ok(Some(second))
    }

    /// Reads one big file as a stream of its own.
    fn read_alone(
        &mut self,
        folder: &Folder,
        (place, found, earlier): (Place, &Found, VecDeque<ChunkRef>),
        entries: &mut [Option<FileEntry>],
        cache: &mut Vec<CachedFile>,
    ) -> Result<(), WalkError> {
        let reader = match self.capture.open(folder, found) {
            Ok(reader) => reader,
            Err(unreadable) => {
                self.fail(place, &unreadable, entries);
                return Ok(());
            }
        };
        let opened = reader.found().clone();
        match self.stream_file(&reader, earlier)? {
            Ok((hash, sink)) => {
                match reader.finish() {
                    Ok(None) => {}
                    Ok(Some(_)) => self.flaw(self.path_of(&found.name), &CHANGED),
                    Err(error) => self.flaw(self.path_of(&found.name), &error),
                }
                self.complete(place, Read { found: opened, hash, sink }, entries, cache)
            }
            Err(error) => {
                self.fail(place, &Unreadable::of(found, error.reason()), entries);
                Ok(())
            }
        }
    }

    /// Cuts and stores the bytes of a file, of which the last backup had these chunks; the inner error is the file's own.
    fn stream_file(
        &mut self,
        reader: &FileReader,
        earlier: VecDeque<ChunkRef>,
    ) -> Result<Result<([u8; 32], ContentSink), ReadError>, WalkError> {
        let grain = match reader.has_holes() {
            Ok(has_holes) => Grain::of_file(has_holes),
            Err(error) => return Ok(Err(error)),
        };
        let mut stream: Stream<()> = Stream::in_grain(grain);
        stream.expect(earlier);
        let (mut hasher, mut sink, mut offset) = (ContentHasher::new(), ContentSink::default(), 0);
        loop {
            let extent = match reader.extent_at(offset) {
                Ok(Some(extent)) => extent,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            if extent.is_hole {
                let length = extent.length.min(HOLE_STEP);
                hasher.update_zeros(length);
                stream.hole((), length);
                offset += length;
                self.progress.add_bytes(length);
            } else {
                let length = usize::try_from(extent.length).unwrap_or(READ).min(READ);
                if let Err(error) = stream.append((), length, |room| reader.read_at(offset, room)) {
                    return Ok(Err(error));
                }
                hasher.update(stream.last(length));
                offset += length as u64;
                self.progress.add_bytes(length as u64);
            }
            if self.progress.is_interrupted() {
                return Err(WalkError::Interrupted);
            }
            if stream.is_full() {
                stream.cut(self.cutter, self.store, false)?;
                self.pour(&mut stream, &mut sink)?;
            }
        }
        stream.cut(self.cutter, self.store, true)?;
        self.pour(&mut stream, &mut sink)?;
        Ok(Ok((hasher.finish(), sink)))
    }

    fn pour(&mut self, stream: &mut Stream<()>, sink: &mut ContentSink) -> Result<(), WalkError> {
        for ((), extent) in stream.take_pieces() {
            sink.push(extent, self.cutter, self.store)?;
        }
        Ok(())
    }

    /// A file is read: its content and its record in the next cache.
    fn complete(
        &mut self,
        place: Place,
        read: Read,
        entries: &mut [Option<FileEntry>],
        cache: &mut Vec<CachedFile>,
    ) -> Result<(), WalkError> {
        let Read { found, hash, sink } = read;
        let (content, needed) = sink.finish(self.cutter, self.store)?;
        // Those of an inline list stand in it.
        let needed = if content.depth() > 0 { needed } else { Needed::default() };
        self.count(&found, false);
        let mut encoder = Encoder::new();
        content.encode(&mut encoder);
        cache.push(CachedFile {
            name: found.name.clone(),
            identity: self.recorded(&found),
            content: encoder.finish(),
            cut: needed.cut,
            deep_chunks: needed.others,
            content_hash: hash,
        });
        set(entries, place, FileEntry { metadata: found.metadata, body: Body::File { content, hash } });
        Ok(())
    }

    /// The identity to recognise a file by. One that changed a moment ago can change again unseen: it gets an identity that no
    /// file has, and is read again next time. It is recorded all the same, for its neighbours share its chunks (R2).
    fn recorded(&self, found: &Found) -> Identity {
        let mut identity = found.identity;
        if !identity.is_settled(self.started) {
            identity.ctime.seconds = FRESH;
        }
        identity
    }

    fn fail(&mut self, place: Place, unreadable: &Unreadable, entries: &mut [Option<FileEntry>]) {
        self.flaw(self.path_of(&unreadable.name), &unreadable.reason);
        let body = Body::Unreadable { was: unreadable.kind, reason: unreadable.reason.to_string() };
        set(entries, place, FileEntry { metadata: unreadable.metadata.clone(), body });
    }

    fn count(&mut self, found: &Found, is_recognised: bool) {
        self.findings.files += 1;
        self.findings.bytes += found.size;
        self.findings.unchanged += u64::from(is_recognised);
        self.progress.add_file(if is_recognised || found.size < CUT_TARGET as u64 { found.size } else { 0 });
    }
}

const CHANGED: &str = "it changed while it was read";

/// A small file in memory: its bytes without holes, and where holes and bytes stand.
struct Slurped {
    found: Found,
    bytes: Vec<u8>,
    runs: Vec<(u64, bool)>,
}

impl Slurped {
    fn read(reader: FileReader) -> Result<(Self, bool), Arc<Unreadable>> {
        let found = reader.found().clone();
        let failed = |error: &ReadError| Arc::new(Unreadable::of(&found, error.reason()));
        let (mut bytes, mut runs, mut offset) = (Vec::new(), Vec::new(), 0);
        while let Some(extent) = reader.extent_at(offset).map_err(|error| failed(&error))? {
            runs.push((extent.length, extent.is_hole));
            if !extent.is_hole {
                let at = bytes.len();
                bytes.resize(at + usize::try_from(extent.length).unwrap_or(0), 0);
                let room = bytes.get_mut(at..).unwrap_or_default();
                reader.read_at(offset, room).map_err(|error| failed(&error))?;
            }
            offset += extent.length;
        }
        let changed = reader.finish().map_err(|error| failed(&error))?.is_some();
        Ok((Self { found, bytes, runs }, changed))
    }

    fn into_stream(self, place: Place, stream: &mut Stream<Place>) -> Result<Read, WalkError> {
        let mut hasher = ContentHasher::new();
        let mut rest = &self.bytes[..];
        for (length, is_hole) in self.runs {
            if is_hole {
                hasher.update_zeros(length);
                stream.hole(place, length);
                continue;
            }
            let (run, after) = rest.split_at_checked(usize::try_from(length).unwrap_or(0)).unwrap_or((rest, &[]));
            rest = after;
            hasher.update(run);
            let copied: Result<(), WalkError> = stream.append(place, run.len(), |room| {
                room.copy_from_slice(run);
                Ok(())
            });
            copied?;
        }
        Ok(Read { found: self.found, hash: hasher.finish(), sink: ContentSink::default() })
    }
}

/// The files of the last backup that are still there, by name.
struct Recognised {
    files: HashMap<Vec<u8>, Known>,
    /// Whether the joined files are the very ones of the last backup, each unchanged (R2).
    has_all_joined: bool,
}

struct Known {
    file: CachedFile,
    content: Content,
    chunks: Vec<ChunkId>,
    is_unchanged: bool,
}

impl Recognised {
    fn of(cached: Vec<CachedFile>, listing: &Listing) -> Self {
        let present: HashMap<&[u8], &Found> =
            regular_files(listing).map(|(_, found)| (&found.name[..], found)).collect();
        let mut files = HashMap::with_capacity(cached.len());
        let mut has_all_joined = true;
        for file in cached {
            let found = present.get(&file.name[..]);
            let is_unchanged = found.is_some_and(|found| found.identity == file.identity);
            match decode(&file).filter(|_| is_unchanged || (found.is_some() && !is_joined(file.identity.size))) {
                Some((content, chunks)) => {
                    has_all_joined &= is_unchanged || !is_joined(file.identity.size);
                    files.insert(file.name.clone(), Known { file, content, chunks, is_unchanged });
                }
                None => has_all_joined &= !is_joined(file.identity.size),
            }
        }
        // One that was not recorded, for it is new or was too fresh, stands in the same stream.
        let is_known = |found: &Found| files.get(&found.name).is_some_and(|known: &Known| known.is_unchanged);
        has_all_joined &= regular_files(listing).all(|(_, found)| !is_joined(found.size) || is_known(found));
        Self { files, has_all_joined }
    }

    /// Every chunk of the joined files.
    fn joined_chunks(&self) -> Vec<ChunkId> {
        let joined = self.files.values().filter(|known| is_joined(known.file.identity.size));
        joined.flat_map(|known| known.chunks.iter().copied()).collect()
    }
}

impl Known {
    /// The chunks that a file was cut into which was read alone, and still is.
    fn into_cut(self) -> VecDeque<ChunkRef> {
        if !self.file.cut.is_empty() {
            return self.file.cut.into();
        }
        let begins = |extent: &&Extent| !matches!(extent, Extent::Part { offset, .. } if *offset > 0);
        self.content.inline_extents().iter().filter(begins).filter_map(|extent| extent.chunk().cloned()).collect()
    }
}

/// True for files that are cut in one stream with others of their folder.
const fn is_joined(size: u64) -> bool {
    size < CUT_TARGET as u64
}

/// The content of a record and the chunks it needs.
fn decode(file: &CachedFile) -> Option<(Content, Vec<ChunkId>)> {
    let mut decoder = Decoder::new("a cached content", &file.content);
    let content = Content::decode(&mut decoder).ok()?;
    decoder.finish().ok()?;
    let inline = content.inline_extents().iter().filter_map(|extent| extent.chunk()).map(|chunk| chunk.id);
    let deep = file.cut.iter().map(|chunk| chunk.id).chain(file.deep_chunks.iter().copied());
    let chunks = inline.chain(deep).collect();
    Some((content, chunks))
}

/// The regular files of a listing, each with its place.
pub(in crate::backup) fn regular_files(listing: &Listing) -> impl Iterator<Item = (Place, &Found)> {
    listing.entries.iter().enumerate().filter_map(|(place, entry)| match entry {
        Listed::Found(found) if found.kind == EntryKind::File => Some((place, &**found)),
        _ => None,
    })
}

fn set(entries: &mut [Option<FileEntry>], place: Place, entry: FileEntry) {
    if let Some(slot) = entries.get_mut(place) {
        *slot = Some(entry);
    }
}
