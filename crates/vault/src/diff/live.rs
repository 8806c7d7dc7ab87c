//! A snapshot beside the file system as it is now.
//!
//! A file of the same length and time of change counts as unchanged, unless all are to be read; one that has another time is read
//! and its bytes compared by their hash.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::hash::{self, ContentHasher};
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{
    self, Capture, CaptureError, Event, FileReader, FilesSource, Folder, Found, Listing, OpenSourceError, Options,
    ReadError, decode_root_name,
};
use blockhouse_types::limits::MIB;
use blockhouse_types::{EntryFacts, EntryKind};

use super::{Difference, Modifier, NotCompared, Summary, Telling, is_alike, listing};
use crate::chain::chain;
use crate::find::join;
use crate::reader::{self, OpenedSnapshot, ReadTreeError};
use crate::restore::root_paths;

/// How much of a file is read at a time.
const STEP: usize = MIB;

/// With what a snapshot is compared.
#[derive(Debug, Clone, Default)]
pub struct LiveRequest {
    /// The folder to compare with, as a restore would have filled it; else the paths that were backed up.
    pub path: Option<PathBuf>,
    /// What is left out on the live side, as for a backup.
    pub excludes: Vec<String>,
    /// Every file is read, whatever its length and time say.
    pub content: bool,
}

/// Why the comparison did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The live side.
    #[error(transparent)]
    Source(#[from] OpenSourceError),
    /// The live side is in use.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The snapshot.
    #[error("the tree of the snapshot could not be read")]
    Read(#[from] ReadTreeError),
}

/// Tells everything that differs between a snapshot and what is there now, in the order of the walk. Blocks.
pub fn compare_live<E>(
    opened: &mut OpenedSnapshot,
    request: &LiveRequest,
    tell: &mut impl FnMut(&Difference) -> Result<(), E>,
) -> Result<Summary, E>
where
    E: From<LiveError>,
{
    let roots = list(opened, b"", &opened.manifest.root.clone()).map_err(LiveError::from)?;
    let mut comparing = Comparing {
        opened,
        telling: Telling { summary: Summary::default(), tell },
        waiting: HashMap::new(),
        content: request.content,
    };
    let (mut paths, mut by_path) = (Vec::new(), HashMap::new());
    for (path, root) in live_roots(roots, request.path.as_ref()) {
        match path.canonicalize() {
            Ok(canonical) => {
                paths.push(canonical.clone());
                by_path.insert(canonical, root);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                comparing.one_side(path.as_os_str().as_bytes(), &root)?;
            }
            Err(source) => return Err(LiveError::from(OpenSourceError::Missing { path, source }).into()),
        }
    }
    if paths.is_empty() {
        return Ok(comparing.telling.summary);
    }
    let options = Options { excludes: request.excludes.clone(), allow_live: true, ..Options::default() };
    let files = FilesSource::try_new(&paths, &options).map_err(LiveError::from)?;
    let capture = files.capture().map_err(LiveError::from)?;
    let live = Live { files: &files, capture };
    for event in live.capture.walk() {
        comparing.step(&live, event, &mut by_path)?;
    }
    Ok(comparing.telling.summary)
}

/// The live place of each root of the snapshot.
fn live_roots(roots: Vec<Entry>, path: Option<&PathBuf>) -> Vec<(PathBuf, Entry)> {
    let restored = root_paths(&roots);
    let place = |(root, restored): (Entry, files::RestorePath)| match path {
        Some(path) if restored.is_target() => (path.clone(), root),
        Some(path) => (path.join(OsStr::from_bytes(restored.as_bytes())), root),
        None => {
            let decoded = decode_root_name(&root.name).unwrap_or_else(|_| root.name.clone());
            (PathBuf::from(OsStr::from_bytes(&decoded)), root)
        }
    };
    roots.into_iter().zip(restored).map(place).collect()
}

fn list(
    opened: &mut OpenedSnapshot,
    path: &[u8],
    listing: &blockhouse_pipeline::content::Content,
) -> Result<Vec<Entry>, ReadTreeError> {
    reader::list(&mut opened.chunks, path, listing)
}

/// One name in the snapshot and on the live side.
type Pair = (Option<Entry>, Option<files::Entry>);

/// The live side.
struct Live<'a> {
    files: &'a FilesSource,
    capture: Capture<'a>,
}

impl Live<'_> {
    fn path(&self, root: usize, below: &[u8]) -> Vec<u8> {
        let root = self.files.roots().get(root).map(|root| root.path.as_os_str().as_bytes()).unwrap_or_default();
        if below.is_empty() { root.to_vec() } else { join(root, below) }
    }
}

struct Comparing<'o, 't, F> {
    opened: &'o mut OpenedSnapshot,
    telling: Telling<'t, F>,
    /// What the snapshot says of folders that the walk has still to enter.
    waiting: HashMap<(usize, Vec<u8>), Option<Entry>>,
    content: bool,
}

impl<F, E> Comparing<'_, '_, F>
where
    F: FnMut(&Difference) -> Result<(), E>,
{
    fn step(&mut self, live: &Live<'_>, event: Event, by_path: &mut HashMap<PathBuf, Entry>) -> Result<(), E> {
        match event {
            Event::Enter { entry: None, folder, listing } => {
                let mut before = |found: &files::Entry| {
                    let root = match found {
                        files::Entry::Found(found) => found.root,
                        files::Entry::Unreadable(unreadable) => unreadable.root,
                    };
                    live.files.roots().get(root).and_then(|root| by_path.remove(&root.path))
                };
                let pairs = listing.entries.iter().map(|found| (before(found), Some(found.clone()))).collect();
                self.pairs(live, &folder, b"", pairs).map(drop)
            }
            Event::Enter { entry: Some((_, found)), folder, listing } => self.enter(live, &found, &folder, &listing),
            Event::Unreadable { unreadable, .. } => {
                let path = live.path(unreadable.root, &unreadable.path);
                self.waiting.remove(&(unreadable.root, unreadable.path.clone()));
                let why = unreadable.reason.to_string();
                self.telling.summary.not_compared.push(NotCompared { path, why, is_in_vault: false });
                Ok(())
            }
            Event::Entry { .. } | Event::Leave => Ok(()),
        }
    }

    /// Compares a folder's entries, and then the folder itself, which it is told before.
    fn enter(&mut self, live: &Live<'_>, found: &Found, folder: &Folder, inside: &Listing) -> Result<(), E> {
        let path = live.path(found.root, &found.path);
        let before = self.waiting.remove(&(found.root, found.path.clone())).flatten();
        let Some(before) = before.filter(|before| listing(before).is_some()) else {
            let pairs = inside.entries.iter().map(|entry| (None, Some(entry.clone()))).collect();
            return self.pairs(live, folder, &path, pairs).map(drop);
        };
        let read = listing(&before).map(|listing| list(self.opened, &path, listing));
        let entries = match read {
            Some(Ok(entries)) => entries,
            Some(Err(error)) => {
                self.telling.summary.unread(&path, &error);
                return Ok(());
            }
            None => Vec::new(),
        };
        let pairs = paired(entries, inside);
        let has_changed = self.pairs(live, folder, &path, pairs)?;
        let has_other_time = before.metadata.mtime != found.metadata.mtime && !has_changed;
        if has_other_time || !is_alike(&before.metadata, &found.metadata) {
            let (before, after) = (Some(before.facts()), Some(facts(found, [0; 32])));
            self.telling.differs(&Difference { path, modifier: Modifier::Metadata, before, after })?;
        }
        Ok(())
    }

    /// Compares what stands under the same names in one folder; true if any of it differs.
    fn pairs(&mut self, live: &Live<'_>, folder: &Folder, place: &[u8], pairs: Vec<Pair>) -> Result<bool, E> {
        let mut has_changed = false;
        for pair in pairs {
            has_changed |= match pair {
                // It is told when the walk comes by it; what the snapshot has of it is not compared (D2).
                (_, Some(files::Entry::Unreadable(_))) | (None, None) => false,
                (before, Some(files::Entry::Found(found))) => self.pair(live, folder, before, &found)?,
                (Some(before), None) => {
                    self.one_side(&join(place, &before.name), &before)?;
                    true
                }
            };
        }
        Ok(has_changed)
    }

    /// Compares one entry with what is there; true if it differs. Folders wait for the walk to enter them.
    fn pair(&mut self, live: &Live<'_>, folder: &Folder, before: Option<Entry>, found: &Arc<Found>) -> Result<bool, E> {
        let path = live.path(found.root, &found.path);
        let key = (found.root, found.path.clone());
        let Some(before) = before else {
            if found.kind == EntryKind::Directory {
                self.waiting.insert(key, None);
            }
            let after = Some(facts(found, [0; 32]));
            self.telling.differs(&Difference { path, modifier: Modifier::Added, before: None, after })?;
            return Ok(true);
        };
        if before.body.kind() != found.kind {
            let after = Some(facts(found, [0; 32]));
            let other = Some(before.facts());
            self.telling.differs(&Difference { path: path.clone(), modifier: Modifier::Kind, before: other, after })?;
            self.inside(&path, &before)?;
            return Ok(true);
        }
        if found.kind == EntryKind::Directory {
            self.waiting.insert(key, Some(before));
            return Ok(false);
        }
        let is_same = match &before.body {
            Body::File { hash, .. } => match self.file(live, folder, &before, found) {
                Ok(None) => (true, *hash),
                Ok(Some(other)) => (other == *hash, other),
                Err(why) => {
                    self.telling.summary.not_compared.push(NotCompared { path, why, is_in_vault: false });
                    return Ok(false);
                }
            },
            Body::Symlink { target } => (*target == found.target, hash::content(&found.target)),
            Body::CharDevice(device) | Body::BlockDevice(device) => {
                let number = found.device.map(|number| (u64::from(number.major), u64::from(number.minor)));
                (number == Some((device.major, device.minor)), [0; 32])
            }
            _ => (true, [0; 32]),
        };
        let (is_same, content_hash) = is_same;
        let is_unmoved = before.metadata.mtime == found.metadata.mtime;
        if is_same && is_unmoved && is_alike(&before.metadata, &found.metadata) {
            return Ok(false);
        }
        let modifier = if is_same { Modifier::Metadata } else { Modifier::Content };
        let after = Some(facts(found, content_hash));
        self.telling.differs(&Difference { path, modifier, before: Some(before.facts()), after })?;
        Ok(true)
    }

    /// The hash of a file's bytes; nothing if they count as those of the snapshot without being read. Zeros if the length alone
    /// says that they are others.
    fn file(
        &self,
        live: &Live<'_>,
        folder: &Folder,
        before: &Entry,
        found: &Found,
    ) -> Result<Option<[u8; 32]>, String> {
        let facts = before.facts();
        if facts.length != found.size {
            return Ok(Some([0; 32]));
        }
        if !self.content && before.metadata.mtime == found.metadata.mtime {
            return Ok(None);
        }
        let reader = live.capture.open(folder, found).map_err(|unreadable| unreadable.reason.to_string())?;
        hash_of(&reader).map(Some).map_err(|error| chain(&error))
    }

    /// Tells what was in a folder that is none any more.
    fn inside(&mut self, path: &[u8], folder: &Entry) -> Result<(), E> {
        let Some(below) = listing(folder) else { return Ok(()) };
        match list(self.opened, path, below) {
            Ok(entries) => entries.iter().try_for_each(|entry| self.one_side(&join(path, &entry.name), entry)),
            Err(error) => {
                self.telling.summary.unread(path, &error);
                Ok(())
            }
        }
    }

    /// Tells an entry that only the snapshot has, and all that is in it.
    fn one_side(&mut self, path: &[u8], entry: &Entry) -> Result<(), E> {
        let mut waiting = vec![(path.to_vec(), entry.clone())];
        while let Some((path, entry)) = waiting.pop() {
            if let Some(below) = listing(&entry) {
                match list(self.opened, &path, below) {
                    Ok(entries) => {
                        waiting.extend(entries.into_iter().rev().map(|entry| (join(&path, &entry.name), entry)));
                    }
                    Err(error) => self.telling.summary.unread(&path, &error),
                }
            }
            let before = Some(entry.facts());
            self.telling.differs(&Difference { path, modifier: Modifier::Removed, before, after: None })?;
        }
        Ok(())
    }
}

/// A folder's listing in the snapshot beside that of the walk, name by name.
fn paired(before: Vec<Entry>, live: &Listing) -> Vec<Pair> {
    let (mut before, mut after) = (before.into_iter().peekable(), live.entries.iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let (one, other) = match (before.peek(), after.peek()) {
            (None, None) => return pairs,
            (Some(one), Some(other)) => (&one.name[..] <= other.name(), other.name() <= &one.name[..]),
            (one, other) => (one.is_some(), other.is_some()),
        };
        pairs.push((before.next_if(|_| one), after.next_if(|_| other).cloned()));
    }
}

/// What is there, as a snapshot would say it.
fn facts(found: &Found, content_hash: [u8; 32]) -> EntryFacts {
    let Found { kind, metadata, size: length, .. } = found;
    let (kind, length) = (*kind, *length);
    EntryFacts {
        kind,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        length,
        content_hash,
    }
}

/// Plain BLAKE3 of a file's bytes, holes as zeros.
fn hash_of(reader: &FileReader) -> Result<[u8; 32], ReadError> {
    let (mut hasher, mut buffer, mut offset) = (ContentHasher::new(), vec![0; STEP], 0);
    while let Some(extent) = reader.extent_at(offset)? {
        offset = extent.offset + extent.length;
        if extent.is_hole {
            hasher.update_zeros(extent.length);
            continue;
        }
        let mut at = extent.offset;
        while at < offset {
            let length = usize::try_from(offset - at).unwrap_or(STEP).min(STEP);
            let part = buffer.get_mut(..length).unwrap_or_default();
            reader.read_at(at, part)?;
            hasher.update(part);
            at += length as u64;
        }
    }
    Ok(hasher.finish())
}
