//! Files with several names: which of them stand in the target already.
//!
//! - **Owns** the question whether a name of the target may serve as an original that others are linked to.
//! - **Does not** touch the target: the writer links, and tells what it made.
//!
//! # Invariants
//! - **L1** An original has the content that the snapshot gives to each name that is linked to it: it was written by this
//!   restore, or it stood there and was compared.
//! - **L2** One file of the target stands for one file of the snapshot. Where two of them share one, the second is written anew.
//!
//! Any later entry may be one more name of a file that was met, so one name of each stays in memory to the end; the others only where
//! they may have to be moved.

use std::collections::HashMap;

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{Existing, RestorePath};
use blockhouse_types::{EntryKind, Link};

/// A file of the snapshot with several names. The content belongs to it: a file that changed while it was backed up, or an inode
/// whose number was used again, has one link and two contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    link: Link,
    kind: EntryKind,
    content: Vec<u8>,
}

impl Inode {
    /// The file that an entry is a name of, if it has others.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let content = match &entry.body {
            Body::File { hash, .. } => hash.to_vec(),
            Body::Symlink { target } => target.clone(),
            _ => Vec::new(),
        };
        entry.metadata.link.map(|link| Self { link, kind: entry.body.kind(), content })
    }
}

/// A file with several names of which one stands in the target.
#[derive(Debug)]
struct Original {
    path: RestorePath,
    /// The names that this restore made, so that they can be moved to a file that has to stay; none where no file has to.
    made: Vec<RestorePath>,
    /// True if it stood there before, and stays as it is.
    is_kept: bool,
}

/// The files with several names that the restore has met.
#[derive(Debug)]
pub(super) struct Links {
    /// Whether a file of the target may have to stay as it is.
    keeps: bool,
    originals: HashMap<Inode, Original>,
    /// Files of the target with several names that were left in place, and what they stand for.
    taken: HashMap<Link, Inode>,
}

impl Links {
    /// None yet. With `keeps` files of the target may have to stay as they are ([`Links::add_kept`]).
    pub(super) fn new(keeps: bool) -> Self {
        Self { keeps, originals: HashMap::new(), taken: HashMap::new() }
    }

    /// A name to link to.
    pub(super) fn original(&self, inode: &Inode) -> Option<&RestorePath> {
        self.originals.get(inode).map(|original| &original.path)
    }

    /// A name was made; the first is the original.
    pub(super) fn add_made(&mut self, inode: Inode, path: &RestorePath) {
        let new = || Original { path: path.clone(), made: Vec::new(), is_kept: false };
        let original = self.originals.entry(inode).or_insert_with(new);
        if self.keeps {
            original.made.push(path.clone());
        }
    }

    /// A name could not be linked to the original and was written anew: those that follow are linked to it.
    pub(super) fn replace(&mut self, inode: Inode, path: &RestorePath) {
        self.originals.remove(&inode);
        self.add_made(inode, path);
    }

    /// A file that was to be written could not be: nothing can be linked to it.
    pub(super) fn forget(&mut self, inode: &Inode) {
        self.originals.remove(inode);
    }

    /// A name that stands in the target with the right content stays. Gives the names that were made before it and are to be
    /// linked to it.
    pub(super) fn add_kept(&mut self, inode: Inode, path: &RestorePath) -> Vec<RestorePath> {
        let new = || Original { path: path.clone(), made: Vec::new(), is_kept: true };
        let original = self.originals.entry(inode).or_insert_with(new);
        if original.is_kept {
            return Vec::new();
        }
        std::mem::replace(original, new()).made
    }

    /// Whether a file that stands in the target, with the right content, may be what `inode` becomes and get its metadata. One
    /// with several names may not if the snapshot's has one, or if it stands for another file already (L2).
    pub(super) fn may_stay(&mut self, inode: Option<&Inode>, existing: &Existing) -> bool {
        match inode {
            _ if !existing.has_other_names => true,
            None => false,
            Some(inode) => self.taken.entry(existing.inode).or_insert_with(|| inode.clone()) == inode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::Timestamp;

    fn inode(number: u64, content: &[u8]) -> Inode {
        Inode { link: Link { device: 1, inode: number }, kind: EntryKind::File, content: content.to_vec() }
    }

    fn path(text: &str) -> RestorePath {
        RestorePath::parse(text.as_bytes()).unwrap()
    }

    fn existing(inode: u64, has_other_names: bool) -> Existing {
        let mtime = Timestamp { seconds: 0, nanoseconds: 0 };
        Existing { kind: EntryKind::File, size: 1, mtime, inode: Link { device: 9, inode }, has_other_names }
    }

    #[test]
    fn one_number_with_two_contents_is_two_files() {
        let mut links = Links::new(true);
        links.add_made(inode(1, b"before"), &path("a"));
        assert_eq!(links.original(&inode(1, b"before")), Some(&path("a")));
        assert_eq!(links.original(&inode(1, b"after")), None);
    }

    #[test]
    fn the_first_name_that_stays_draws_those_that_were_made_to_it() {
        let mut links = Links::new(true);
        links.add_made(inode(1, b"x"), &path("a"));
        links.add_made(inode(1, b"x"), &path("b"));
        assert_eq!(links.add_kept(inode(1, b"x"), &path("c")), [path("a"), path("b")]);
        assert_eq!(links.original(&inode(1, b"x")), Some(&path("c")));
        assert_eq!(links.add_kept(inode(1, b"x"), &path("d")), []);
        assert_eq!(links.original(&inode(1, b"x")), Some(&path("c")));
    }

    /// Of a file with a million names each was remembered for the whole run.
    #[test]
    fn further_names_are_forgotten_where_nothing_has_to_stay() {
        let mut links = Links::new(false);
        for name in ["a", "b", "c"] {
            links.add_made(inode(1, b"x"), &path(name));
        }
        assert_eq!(links.original(&inode(1, b"x")), Some(&path("a")));
        assert!(links.originals.values().all(|original| original.made.is_empty()));
    }

    #[test]
    fn a_file_of_the_target_stands_for_one_file() {
        let mut links = Links::new(true);
        let (one, other) = (inode(1, b"x"), inode(2, b"x"));
        assert!(links.may_stay(None, &existing(5, false)));
        assert!(!links.may_stay(None, &existing(5, true)), "its other names are of another file, or of nobody");
        assert!(links.may_stay(Some(&one), &existing(5, true)) && links.may_stay(Some(&one), &existing(5, true)));
        assert!(!links.may_stay(Some(&other), &existing(5, true)));
        assert!(links.may_stay(Some(&other), &existing(6, true)));
    }
}
