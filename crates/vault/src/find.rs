//! Finding entries by name, kind, age and size in many snapshots.
//!
//! - **Owns** what a pattern matches, and that a listing is read once however many snapshots hold it.
//! - **Does not** choose snapshots or print: it tells each entry that it finds.
//!
//! # Invariants
//! - **Q1** A folder whose listing has the same references at the same place is the same folder: what was found in it stands for
//!   every snapshot that holds it, and nothing is fetched for it again.
//! - **Q2** A listing that cannot be read hides only what is in it, and is told.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use blockhouse_crypto::hash;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::decode_root_name;
use blockhouse_types::{Encoder, EntryFacts, EntryKind};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::chain::chain;
use crate::reader::{self, OpenedSnapshot, ReadTreeError};

/// What is looked for. Every part that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Any of these; a pattern with a slash matches the end of a path, from a slash on, or the whole path if it begins with one.
    pub globs: Vec<String>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Only of these kinds; of all if there are none.
    pub kinds: Vec<EntryKind>,
    /// Changed at this time or later, seconds since 1970.
    pub newer: Option<i64>,
    /// Changed at this time or before.
    pub older: Option<i64>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
}

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{glob}` is no pattern")]
pub struct GlobError {
    glob: String,
    #[source]
    source: globset::Error,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its name in its folder.
    name: Vec<u8>,
    /// What it is.
    pub facts: EntryFacts,
}

/// A folder that could not be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsearched {
    /// Where.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
}

/// What was found in a folder and below it.
#[derive(Debug, Default)]
struct Node {
    hits: Vec<Hit>,
    /// The folders in it below which something was found, by name and number.
    below: Vec<(Vec<u8>, usize)>,
    /// Whether all of it could be read.
    is_whole: bool,
}

impl Node {
    const fn is_empty(&self) -> bool {
        self.hits.is_empty() && self.below.is_empty()
    }
}

/// A folder's listing and, where patterns look at paths, its place.
type Key = (Vec<u8>, [u8; 32]);

/// Searches snapshots one after another.
#[derive(Debug)]
pub struct Finder {
    query: Query,
    names: GlobSet,
    paths: GlobSet,
    has_paths: bool,
    nodes: Vec<Node>,
    searched: HashMap<Key, usize>,
    listings: u64,
    shared: u64,
}

/// A folder while it is searched.
struct Frame {
    path: Vec<u8>,
    name: Vec<u8>,
    key: Key,
    entries: std::vec::IntoIter<Entry>,
    node: Node,
}

/// A folder that was come by.
enum Entered {
    /// It was searched before: its number.
    Known(usize),
    /// It is to be searched.
    New(Frame),
}

impl Finder {
    /// Nothing searched yet.
    pub fn try_new(query: Query) -> Result<Self, GlobError> {
        let (mut names, mut paths, mut has_paths) = (GlobSetBuilder::new(), GlobSetBuilder::new(), false);
        for glob in &query.globs {
            let failed = |source| GlobError { glob: glob.clone(), source };
            let stem = match glob.trim_end_matches('/') {
                "" => glob.as_str(),
                stem => stem,
            };
            let is_path = stem.contains('/');
            let whole = if is_path && !stem.starts_with('/') { format!("**/{stem}") } else { stem.to_owned() };
            let mut builder = GlobBuilder::new(&whole);
            let built = builder.literal_separator(true).case_insensitive(query.ignore_case).build().map_err(failed)?;
            has_paths |= is_path;
            if is_path {
                paths.add(built)
            } else {
                names.add(built)
            };
        }
        let build =
            |set: &GlobSetBuilder| set.build().map_err(|source| GlobError { glob: query.globs.join(" "), source });
        let (names, paths) = (build(&names)?, build(&paths)?);
        let (nodes, searched) = (Vec::new(), HashMap::new());
        Ok(Self { query, names, paths, has_paths, nodes, searched, listings: 0, shared: 0 })
    }

    /// How many listings were read, and how many more were known from a snapshot that was searched before.
    pub const fn listings(&self) -> (u64, u64) {
        (self.listings, self.shared)
    }

    /// Tells everything in the snapshot that matches, with its absolute path, and gives what could not be searched. Blocks.
    pub fn search<E>(
        &mut self,
        opened: &mut OpenedSnapshot,
        tell: &mut impl FnMut(&[u8], &EntryFacts) -> Result<(), E>,
    ) -> Result<Vec<Unsearched>, E> {
        let mut unsearched = Vec::new();
        let root = opened.manifest.root.clone();
        if let Some(found) = self.folder(opened, &root, &mut unsearched) {
            self.tell(found, tell)?;
        }
        Ok(unsearched)
    }

    /// Searches the whole tree below the listing of roots; the number of the node for it.
    fn folder(
        &mut self,
        opened: &mut OpenedSnapshot,
        root: &Content,
        unsearched: &mut Vec<Unsearched>,
    ) -> Option<usize> {
        let mut stack = match self.enter(opened, (Vec::new(), Vec::new()), root, unsearched)? {
            Entered::Known(known) => return Some(known),
            Entered::New(frame) => vec![frame],
        };
        loop {
            let frame = stack.last_mut()?;
            let Some(entry) = frame.entries.next() else {
                let done = stack.pop()?;
                let (name, is_whole) = (done.name.clone(), done.node.is_whole);
                let (number, is_empty) = self.leave(done);
                let Some(above) = stack.last_mut() else { return Some(number) };
                above.node.is_whole &= is_whole;
                if !is_empty {
                    above.node.below.push((name, number));
                }
                continue;
            };
            // Only the listing of roots has no path of its own.
            let shown = if frame.path.is_empty() { root_path(&entry.name) } else { entry.name.clone() };
            let path = join(&frame.path, &shown);
            if self.matches(&path, &entry) {
                frame.node.hits.push(Hit { name: shown.clone(), facts: entry.facts() });
            }
            let Body::Directory(listing) = &entry.body else { continue };
            match self.enter(opened, (path, shown.clone()), listing, unsearched) {
                Some(Entered::New(inner)) => stack.push(inner),
                Some(Entered::Known(known)) => {
                    if let (Some(frame), Some(node)) = (stack.last_mut(), self.nodes.get(known))
                        && !node.is_empty()
                    {
                        frame.node.below.push((shown, known));
                    }
                }
                None => {
                    if let Some(frame) = stack.last_mut() {
                        frame.node.is_whole = false;
                    }
                }
            }
        }
    }

    /// What is known of a folder already, or its entries; nothing if they cannot be read.
    fn enter(
        &mut self,
        opened: &mut OpenedSnapshot,
        (path, name): (Vec<u8>, Vec<u8>),
        listing: &Content,
        unsearched: &mut Vec<Unsearched>,
    ) -> Option<Entered> {
        let mut encoder = Encoder::new();
        listing.encode(&mut encoder);
        // The listing of roots is never taken for a folder's: the names in it are read in another way.
        let place = if self.has_paths || path.is_empty() { path.clone() } else { b"/".to_vec() };
        let key = (place, hash::content(encoder.as_slice()));
        if let Some(known) = self.searched.get(&key) {
            self.shared += 1;
            return Some(Entered::Known(*known));
        }
        match reader::list(&mut opened.chunks, &path, listing) {
            Ok(entries) => {
                self.listings += 1;
                let node = Node { is_whole: true, ..Node::default() };
                Some(Entered::New(Frame { path, name, key, entries: entries.into_iter(), node }))
            }
            Err(error) => {
                unsearched.push(Unsearched { path, why: chain(&error) });
                None
            }
        }
    }

    /// Keeps what a folder has, if all of it was read.
    fn leave(&mut self, frame: Frame) -> (usize, bool) {
        let (number, is_empty) = (self.nodes.len(), frame.node.is_empty());
        if frame.node.is_whole {
            self.searched.insert(frame.key, number);
        }
        self.nodes.push(frame.node);
        (number, is_empty)
    }

    fn tell<E>(&self, root: usize, tell: &mut impl FnMut(&[u8], &EntryFacts) -> Result<(), E>) -> Result<(), E> {
        let mut waiting = vec![(Vec::new(), root)];
        while let Some((path, number)) = waiting.pop() {
            let Some(node) = self.nodes.get(number) else { continue };
            for hit in &node.hits {
                tell(&join(&path, &hit.name), &hit.facts)?;
            }
            waiting.extend(node.below.iter().rev().map(|(name, number)| (join(&path, name), *number)));
        }
        Ok(())
    }

    fn matches(&self, path: &[u8], entry: &Entry) -> bool {
        let facts = entry.facts();
        let query = &self.query;
        let within = |limit: Option<i64>, fits: fn(&i64, &i64) -> bool| {
            limit.is_none_or(|limit| fits(&facts.mtime.seconds, &limit))
        };
        let has_size = |limit: Option<u64>, fits: fn(&u64, &u64) -> bool| {
            limit.is_none_or(|limit| facts.kind == EntryKind::File && fits(&facts.length, &limit))
        };
        (query.kinds.is_empty() || query.kinds.contains(&facts.kind))
            && within(query.newer, i64::ge)
            && within(query.older, i64::le)
            && has_size(query.larger, u64::ge)
            && has_size(query.smaller, u64::le)
            && (query.globs.is_empty() || self.is_named(path))
    }

    fn is_named(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.names.is_match(Path::new(OsStr::from_bytes(name)))
            || (self.has_paths && self.paths.is_match(Path::new(OsStr::from_bytes(path))))
    }
}

/// The path that a root stands for.
fn root_path(name: &[u8]) -> Vec<u8> {
    decode_root_name(name).unwrap_or_else(|_| name.to_vec())
}

/// A path with one more name.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        [] => name.to_vec(),
        [.., b'/'] => [folder, name].concat(),
        _ => [folder, b"/", name].concat(),
    }
}

/// An entry of a snapshot by its path in the tree: its listings are read along the path only.
pub fn entry_at(opened: &mut OpenedSnapshot, path: &[u8]) -> Result<Option<Entry>, ReadTreeError> {
    let mut listing = opened.manifest.root.clone();
    let (mut walked, mut parts) = (Vec::new(), path.split(|byte| *byte == b'/').peekable());
    while let Some(part) = parts.next() {
        let entries = reader::list(&mut opened.chunks, &walked, &listing)?;
        let Some(entry) = entries.into_iter().find(|entry| entry.name == part) else { return Ok(None) };
        if parts.peek().is_none() {
            return Ok(Some(entry));
        }
        let Body::Directory(below) = entry.body else { return Ok(None) };
        walked = join(&walked, part);
        listing = below;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::{Metadata, Timestamp};

    fn entry(name: &[u8], seconds: i64) -> Entry {
        let mtime = Timestamp { seconds, nanoseconds: 0 };
        let body = Body::File { content: Content::empty(), hash: [0; 32] };
        Entry { name: name.to_vec(), metadata: Metadata { mtime, ..Metadata::default() }, body }
    }

    fn finds(query: Query, path: &[u8]) -> bool {
        Finder::try_new(query).unwrap().matches(path, &entry(b"", 10))
    }

    fn glob(glob: &str) -> Query {
        Query { globs: vec![glob.to_owned()], ..Query::default() }
    }

    #[test]
    fn a_pattern_without_a_slash_is_a_name_and_one_with_a_slash_the_end_of_a_path() {
        assert!(finds(glob("*.txt"), b"/home/ann/a.txt") && !finds(glob("*.txt"), b"/home/a.txt/b"));
        assert!(finds(glob("ann/*.txt"), b"/home/ann/a.txt") && !finds(glob("nn/*.txt"), b"/home/ann/a.txt"));
        assert!(finds(glob("/home/**/a.txt"), b"/home/ann/x/a.txt") && !finds(glob("/ann/a.txt"), b"/home/ann/a.txt"));
        assert!(finds(glob("ann/"), b"/home/ann"));
        assert!(Finder::try_new(glob("a[")).is_err());
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched_by_their_bytes() {
        assert!(finds(glob("a*"), b"/home/a\xff") && finds(glob("a?"), b"/home/a\xff"));
    }

    #[test]
    fn case_counts_unless_told_otherwise() {
        assert!(!finds(glob("*.TXT"), b"/a.txt"));
        assert!(finds(Query { ignore_case: true, ..glob("*.TXT") }, b"/a.txt"));
    }

    #[test]
    fn ages_sizes_and_kinds_narrow() {
        let any = Query::default;
        assert!(finds(Query { newer: Some(10), older: Some(10), ..any() }, b"/a"));
        assert!(!finds(Query { newer: Some(11), ..any() }, b"/a") && !finds(Query { older: Some(9), ..any() }, b"/a"));
        assert!(!finds(Query { larger: Some(1), ..any() }, b"/a") && finds(Query { smaller: Some(0), ..any() }, b"/a"));
        assert!(!finds(Query { kinds: vec![EntryKind::Directory], ..any() }, b"/a"));
    }

    #[test]
    fn paths_are_joined_by_one_slash() {
        assert_eq!([join(b"", b"a"), join(b"/", b"a"), join(b"/a", b"b")], [&b"a"[..], b"/a", b"/a/b"]);
    }
}
