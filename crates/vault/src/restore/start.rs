//! Where in a snapshot a restore begins, and where in the target.
//!
//! ```text
//! whole snapshot          its roots             ──► the target, or each under its own name
//! SNAP:PATH               what stands at PATH   ──► the target, or a file of its own name
//! --strip-components N    what is N names down  ──► the target
//! ```
//!
//! - **Owns** which path of the target stands for which path of the snapshot.
//! - **Does not** write: the writer walks from each start.
//!
//! # Invariants
//! - **B1** No two starts lead to one name of the target: that is known before anything is written.
//! - **B2** The rules of a part ([`SparedBelow`]) are those that it has in the whole: patterns count from the root, and ignore files of the
//!   snapshot above the part rule it too.

use std::collections::HashMap;
use std::sync::Arc;

use blockhouse_crypto::hash;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{IGNORE_FILE, RestorePath, SparedBelow};
use blockhouse_types::limits::MIB;

use super::include::{Include, moved};
use super::{RestoreRequest, RestoreSnapshotError, origin, root_paths};
use crate::find::join;
use crate::reader::{self, ChunkReader, Entries, Piece, ReadTreeError};
use crate::receipt::full_path;

/// Nothing longer is read as an ignore file, as in a backup.
pub(super) const IGNORE_MAX: u64 = MIB as u64;

/// Something that is restored with all that is in it.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) entry: Entry,
    /// Its path as a restore of the whole snapshot writes it: patterns match this.
    pub(super) whole: RestorePath,
    /// Where it goes.
    pub(super) to: RestorePath,
    pub(super) itself: Itself,
    /// Where its root stood when it was backed up.
    origin: Arc<[u8]>,
    /// Its path from its root.
    part: Vec<u8>,
    /// The ignore files of folders above it: where from the root, and what they say.
    ignores: Vec<(Vec<u8>, Arc<[u8]>)>,
}

/// Whether a start is restored itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Itself {
    /// With its metadata.
    Restored,
    /// Its name is stripped: what is in it goes to the target, which is no folder of the snapshot then.
    Stripped {
        /// No other folder goes there.
        is_alone: bool,
    },
}

/// Everything that a restore begins with.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) all: Vec<Start>,
    /// Folders whose names are stripped and that cannot be read.
    pub(super) lost: Vec<(RestorePath, ReadTreeError)>,
    /// Whether folders are left out here already.
    are_fewer: bool,
    /// Entries that have too few names.
    pub(super) stripped: u64,
    /// Their bytes.
    pub(super) stripped_bytes: u64,
}

/// Finds what a restore begins with.
pub(super) fn find(
    chunks: &mut ChunkReader,
    root: &Content,
    request: &RestoreRequest,
    include: &Include,
) -> Result<Starts, RestoreSnapshotError> {
    let roots = reader::list(chunks, b"", root)?;
    let all = match &request.path {
        None => roots_of(roots),
        Some(path) => vec![at(chunks, roots, path, request.delete)?],
    };
    let mut starts = Starts { all, ..Starts::default() };
    for _ in 0..request.strip_components {
        if starts.all.is_empty() {
            break;
        }
        strip(chunks, &mut starts, include, request.delete)?;
    }
    if request.strip_components > 0 {
        let is_alone = starts.all.len() == 1;
        for start in &mut starts.all {
            start.itself = Itself::Stripped { is_alone };
        }
        refuse_collisions(chunks, &starts.all, include)?;
    }
    Ok(starts)
}

/// Each root where a restore of everything puts it.
fn roots_of(roots: Vec<Entry>) -> Vec<Start> {
    let paths = root_paths(&roots);
    roots.into_iter().zip(paths).map(|(root, path)| Start::root(root, path)).collect()
}

/// What stands at a path, as [`full_path`] takes it. Of the listings on the way only what is needed is kept.
fn at(chunks: &mut ChunkReader, roots: Vec<Entry>, path: &[u8], deletes: bool) -> Result<Start, RestoreSnapshotError> {
    let missing = || RestoreSnapshotError::NoEntry { path: path.to_vec() };
    let full = full_path(&roots, path);
    let mut names = full.split(|byte| *byte == b'/');
    let root = names.next().unwrap_or_default();
    let mut start = roots_of(roots).into_iter().find(|start| start.entry.name == root).ok_or_else(missing)?;
    for name in names {
        let Body::Directory(listing) = &start.entry.body else { return Err(missing()) };
        let ignore = if deletes { ignore_file(chunks, &start.whole, listing)? } else { None };
        let entry = named(chunks, &start.whole, listing, name)?.ok_or_else(missing)?;
        start = start.inner(entry, ignore.as_ref())?;
    }
    start.to = match &start.entry.body {
        Body::Directory(_) => RestorePath::target(),
        _ => start.own_name()?,
    };
    Ok(start)
}

/// Takes one more name away: of a folder that goes to the target what is in it goes on, of others they themselves.
fn strip(
    chunks: &mut ChunkReader,
    starts: &mut Starts,
    include: &Include,
    deletes: bool,
) -> Result<(), RestoreSnapshotError> {
    for start in std::mem::take(&mut starts.all) {
        if !start.to.is_target() {
            starts.keep(start, include);
            continue;
        }
        let Body::Directory(listing) = &start.entry.body else { continue };
        let opened = Entries::of(chunks, start.whole.as_bytes(), listing);
        let ignore = if deletes { ignore_file(chunks, &start.whole, listing) } else { Ok(None) };
        let (mut entries, ignore) = match opened.and_then(|entries| Ok((entries, ignore?))) {
            Ok(opened) => opened,
            Err(error) => {
                starts.lost.push((start.whole, error));
                continue;
            }
        };
        loop {
            match entries.next(chunks) {
                Ok(Some(entry)) => starts.keep(start.inner(entry, ignore.as_ref())?, include),
                Ok(None) => break,
                Err(error) => {
                    starts.lost.push((start.whole, error));
                    break;
                }
            }
        }
    }
    Ok(())
}

/// An entry of a folder by its name. Of the listing nothing else is kept.
fn named(
    chunks: &mut ChunkReader,
    folder: &RestorePath,
    listing: &Content,
    name: &[u8],
) -> Result<Option<Entry>, ReadTreeError> {
    let mut entries = Entries::of(chunks, folder.as_bytes(), listing)?;
    while let Some(entry) = entries.next(chunks)? {
        if entry.name == name {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// What the ignore file of a folder says.
fn ignore_file(
    chunks: &mut ChunkReader,
    folder: &RestorePath,
    listing: &Content,
) -> Result<Option<Arc<[u8]>>, ReadTreeError> {
    let found = named(chunks, folder, listing, IGNORE_FILE.as_bytes())?;
    found.map_or(Ok(None), |entry| text(chunks, &entry))
}

/// What an ignore file says; nothing if it is none.
fn text(chunks: &mut ChunkReader, entry: &Entry) -> Result<Option<Arc<[u8]>>, ReadTreeError> {
    let Body::File { content, .. } = &entry.body else { return Ok(None) };
    if content.length() > IGNORE_MAX {
        return Ok(None);
    }
    let mut text = Vec::new();
    reader::pieces(chunks, content, |piece| -> Result<(), ReadTreeError> {
        match piece {
            Piece::Bytes(bytes) => text.extend_from_slice(bytes),
            Piece::Hole(length) => text.resize(text.len() + usize::try_from(length).unwrap_or_default(), 0),
        }
        Ok(())
    })?;
    Ok(Some(text.into()))
}

/// B1: what is in several folders that go to the target must differ by name, folders too: none of two can give the folder its metadata.
fn refuse_collisions(
    chunks: &mut ChunkReader,
    starts: &[Start],
    include: &Include,
) -> Result<(), RestoreSnapshotError> {
    if starts.len() < 2 {
        return Ok(());
    }
    // A hash and a number for each name, however long the names are.
    let mut taken: HashMap<[u8; 32], usize> = HashMap::new();
    for (number, start) in starts.iter().enumerate() {
        let Body::Directory(listing) = &start.entry.body else { continue };
        // What cannot be read is told when it is to be written: it collides with nothing.
        let Ok(mut entries) = Entries::of(chunks, start.whole.as_bytes(), listing) else { continue };
        while let Ok(Some(entry)) = entries.next(chunks) {
            let whole = start.whole.join(&entry.name)?;
            let is_folder = matches!(entry.body, Body::Directory(_));
            if include.leaves_out_within(&whole) || !(is_folder || include.holds(&whole)) {
                continue;
            }
            let other = *taken.entry(hash::content(&entry.name)).or_insert(number);
            if let Some(other) = starts.get(other).filter(|_| other != number) {
                let (to, other) = (start.to.join(&entry.name)?, other.whole.join(&entry.name)?);
                return Err(RestoreSnapshotError::Collision { to, one: other, other: whole });
            }
        }
    }
    Ok(())
}

impl Starts {
    /// True if folders were left out with all that is in them, which nobody counts.
    pub(super) fn lack_folders(&self, include: &Include) -> bool {
        let is_left_out = |start: &Start| start.is_folder() && include.leaves_out_within(&start.whole);
        self.are_fewer || self.all.iter().any(is_left_out)
    }

    /// The bytes that there are to restore, where that is known before; files that are left out are taken off later.
    pub(super) fn bytes(&self, include: &Include) -> Option<u64> {
        let length = |start: &Start| match &start.entry.body {
            Body::Directory(_) => include.leaves_out_within(&start.whole).then_some(0),
            Body::File { content, .. } => Some(content.length()),
            _ => Some(0),
        };
        self.all.iter().map(length).sum()
    }

    /// The paths below the target that hold all that is asked for.
    pub(super) fn places(&self, include: &Include) -> Vec<RestorePath> {
        self.all.iter().flat_map(|start| include.places(&start.whole, &start.to)).collect()
    }

    /// Whether a path of the target is left out, whatever start leads there.
    pub(super) fn left_out(&self, include: Arc<Include>) -> impl Fn(&RestorePath) -> bool + Send + Sync + use<> {
        let ways: Vec<_> = self.all.iter().map(|start| (start.to.clone(), start.whole.clone())).collect();
        move |path: &RestorePath| {
            let whole = |(to, whole): &(RestorePath, RestorePath)| moved(path, to, whole);
            ways.iter().filter_map(whole).any(|whole| include.leaves_out_above(&whole))
        }
    }

    /// Something of which the name was taken away: a folder goes to the target, everything else has no name any more.
    fn keep(&mut self, start: Start, include: &Include) {
        if include.leaves_out_within(&start.whole) {
            self.are_fewer |= start.is_folder();
            if let Body::File { content, .. } = &start.entry.body {
                self.stripped_bytes += content.length();
            }
            return;
        }
        match &start.entry.body {
            Body::Directory(_) => self.all.push(Start { to: RestorePath::target(), ..start }),
            body => {
                if let Body::File { content, .. } = body {
                    self.stripped_bytes += content.length();
                }
                self.stripped += u64::from(include.holds(&start.whole));
            }
        }
    }
}

impl Start {
    fn root(entry: Entry, path: RestorePath) -> Self {
        let origin = origin(&entry).into();
        let (part, ignores) = (Vec::new(), Vec::new());
        Self { entry, whole: path.clone(), to: path, itself: Itself::Restored, origin, part, ignores }
    }

    const fn is_folder(&self) -> bool {
        matches!(self.entry.body, Body::Directory(_))
    }

    /// An entry of this folder; `ignore` is what the folder's ignore file says.
    fn inner(&self, entry: Entry, ignore: Option<&Arc<[u8]>>) -> Result<Self, RestoreSnapshotError> {
        let mut ignores = self.ignores.clone();
        ignores.extend(ignore.map(|text| (self.part.clone(), Arc::clone(text))));
        Ok(Self {
            whole: self.whole.join(&entry.name)?,
            part: join(&self.part, &entry.name),
            to: self.to.clone(),
            itself: self.itself,
            origin: Arc::clone(&self.origin),
            ignores,
            entry,
        })
    }

    /// The target's name for something that is no folder.
    fn own_name(&self) -> Result<RestorePath, RestoreSnapshotError> {
        let path = if self.part.is_empty() { &self.origin[..] } else { &self.part[..] };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Ok(RestorePath::target().join(name)?)
    }

    /// What deleting spares where it goes (B2). `there` is what an ignore file says that stands there, where that was read beforehand.
    pub(super) fn rules(&self, there: Option<&[u8]>) -> SparedBelow {
        let rules = SparedBelow::root(&self.to, &self.origin).only(&self.part);
        let rules = self.ignores.iter().fold(rules, |rules, (folder, text)| rules.ignoring(folder, text));
        there.into_iter().fold(rules, |rules, text| rules.ignoring(&self.part, text))
    }
}
