//! Folders and files of snapshots, found by their numbers.
//!
//! - **Owns** the listings in memory and the way from a number to an entry.
//! - **Does not** pin what it found: a listing that made room for others is read again.

use std::sync::Arc;

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry, ListingReader};
use blockhouse_types::limits::MIB;
use blockhouse_types::{DecodeError, SnapshotId};

use super::inodes::{Identity, Linked};
use super::snapshots::{Opened, Top};
use super::{Fault, MountedVault, attributes, lock};
use crate::reader::{Domain, ReadRangeError, Seeker};

/// What an entry takes in memory beside its variable parts.
const ENTRY_WEIGHT: usize = 300;
/// What an extent takes.
const EXTENT_WEIGHT: usize = 96;

/// The entries of a folder.
#[derive(Debug)]
pub(super) struct Listing {
    /// By ascending names.
    pub(super) entries: Vec<Entry>,
}

/// Why a listing cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListingError {
    #[error("its listing could not be read")]
    Read(#[from] ReadRangeError),
    #[error("its listing is none")]
    Form(#[from] DecodeError),
    #[error("it could not be read when it was backed up: {reason}")]
    Never { reason: String },
}

impl Listing {
    /// These entries, in whatever order.
    pub(super) fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Self { entries }
    }

    /// Where a name stands.
    fn place(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.name[..].cmp(name)).ok()
    }

    /// About how much memory it takes.
    fn weight(&self) -> usize {
        let of = |entry: &Entry| {
            let attributes = entry.metadata.attributes.iter().map(|it| it.name.len() + it.value.len() + 48);
            let extents = match &entry.body {
                Body::Directory(content) | Body::File { content, .. } => content.inline_extents().len(),
                _ => 0,
            };
            ENTRY_WEIGHT + entry.name.len() + attributes.sum::<usize>() + extents * EXTENT_WEIGHT
        };
        self.entries.iter().map(of).sum()
    }
}

/// An entry of an open snapshot.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) opened: Arc<Opened>,
    listing: Arc<Listing>,
    at: usize,
    /// Where it is, as `restore` writes it.
    pub(super) path: Vec<u8>,
}

impl Found {
    /// The entry.
    pub(super) fn entry(&self) -> &Entry {
        self.listing.entries.get(self.at).expect("the place was found in this listing, which does not change")
    }
}

/// What a number inside of snapshots stands for.
#[derive(Debug)]
pub(super) enum Node {
    /// A snapshot's folder.
    Top(Arc<Opened>),
    /// An entry.
    Entry(Found),
}

impl Node {
    fn opened(&self) -> &Arc<Opened> {
        match self {
            Self::Top(opened) | Self::Entry(Found { opened, .. }) => opened,
        }
    }

    /// The snapshot it is in.
    pub(super) fn snapshot(&self) -> SnapshotId {
        self.opened().id
    }

    fn path(&self) -> &[u8] {
        match self {
            Self::Top(_) => b"",
            Self::Entry(found) => &found.path,
        }
    }
}

impl MountedVault {
    /// What a number stands for. Folders on the way are read if they are not in memory.
    pub(super) fn node(&self, number: u64) -> Result<Node, Fault> {
        let (snapshot, way) = lock(&self.inodes).way(number).ok_or(Fault::Stale)?;
        let opened = self.opened(snapshot)?;
        let top = Identity::Snapshot(snapshot).number();
        let Some((_, above)) = way.split_last() else { return Ok(Node::Top(opened)) };
        // From the deepest folder on the way whose listing is in memory.
        let kept = (0..above.len()).rev().find_map(|at| {
            let (folder, _) = above.get(at)?;
            Some((at + 1, lock(&self.listings).get(folder)?))
        });
        let (mut from, mut listing) = match kept {
            Some((from, listing)) => (from, listing),
            None => (0, self.listing_of(top, &Node::Top(Arc::clone(&opened)))?),
        };
        loop {
            let (folder, name) = way.get(from).ok_or(Fault::Stale)?;
            let at = listing.place(name).ok_or(Fault::Stale)?;
            let path = way.iter().take(from + 1).map(|(_, name)| &name[..]).collect::<Vec<_>>().join(&b'/');
            let found = Found { opened: Arc::clone(&opened), listing, at, path };
            from += 1;
            if from == way.len() {
                return Ok(Node::Entry(found));
            }
            listing = self.listing_of(*folder, &Node::Entry(found))?;
        }
    }

    /// The listing of a folder. Why there is none is told once.
    pub(super) fn listing_of(&self, number: u64, node: &Node) -> Result<Arc<Listing>, Fault> {
        if let Some(listing) = lock(&self.listings).get(&number) {
            return Ok(listing);
        }
        let read = match node {
            Node::Top(opened) => match &opened.top {
                Top::Roots(listing) => return Ok(Arc::clone(listing)),
                Top::Folder { listing, .. } => self.read_listing(opened.domain, listing),
            },
            Node::Entry(found) => match &found.entry().body {
                Body::Directory(listing) => self.read_listing(found.opened.domain, listing),
                Body::Unreadable { reason, .. }
                    if attributes::kind_of(&found.entry().body) == blockhouse_types::EntryKind::Directory =>
                {
                    Err(ListingError::Never { reason: reason.clone() })
                }
                _ => return Err(Fault::NotAFolder),
            },
        };
        match read {
            Ok(listing) => {
                let weight = listing.weight();
                let listing = Arc::new(listing);
                lock(&self.listings).insert(number, Arc::clone(&listing), weight);
                Ok(listing)
            }
            Err(error) => {
                self.trouble(Some(node.snapshot()), node.path(), &error);
                Err(Fault::Unreadable)
            }
        }
    }

    /// Reads a listing.
    pub(super) fn read_listing(&self, domain: Domain, content: &Content) -> Result<Listing, ListingError> {
        let (seeker, mut reader) = (Seeker::new(content.clone()), ListingReader::new());
        let (mut entries, mut offset) = (Vec::new(), 0);
        while offset < content.length() {
            let bytes = seeker.read((offset, MIB), |chunk| self.chunks.read(domain, chunk))?;
            offset += bytes.len() as u64;
            reader.push(&bytes);
            while let Some(entry) = reader.next_entry()? {
                entries.push(entry);
            }
        }
        reader.finish()?;
        Ok(Listing { entries })
    }

    /// What an entry of a folder is known by.
    pub(super) fn identity_of(snapshot: SnapshotId, folder: u64, entry: &Entry) -> Identity {
        let Some(link) = entry.metadata.link else {
            return Identity::Entry { folder, name: entry.name.clone().into() };
        };
        let content = match &entry.body {
            Body::File { hash, .. } => hash.to_vec(),
            Body::Symlink { target } => target.clone(),
            _ => Vec::new(),
        };
        Identity::Linked(Box::new(Linked { snapshot, link, kind: entry.body.kind(), content }))
    }
}
