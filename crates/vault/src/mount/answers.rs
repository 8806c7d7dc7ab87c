//! What is asked of a file system, answered.

use std::sync::Arc;

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_types::{EntryKind, SnapshotId};

use super::attributes::{of_entry, of_folder, of_shown};
use super::catalog::{Catalog, Shown};
use super::inodes::{Identity, Place, ROOT};
use super::snapshots::{Opened, Top};
use super::tree::{Found, Listing, Node};
use super::{Attributes, Fault, MountedVault, attributes, lock};
use crate::reader::{ReadRangeError, Seeker};

/// The longest name that a kernel takes in a folder.
const NAME_MAX: usize = 1024;
/// What the folder of a snapshot that cannot be opened is like: it is there, and nobody can look into it.
const CLOSED: u32 = 0o500;

/// An entry of a folder that is read.
#[derive(Debug)]
pub struct Visited<'a> {
    /// From where the folder is read on after it.
    pub next: u64,
    /// Its number.
    pub number: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Its name.
    pub name: &'a [u8],
    /// Its attributes, if they are asked for; those of a snapshot that is not open are made up. Who takes them was told the number.
    pub attributes: Option<Attributes>,
}

/// Why the bytes of a file cannot be read.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("bytes {from} to {to} could not be read")]
    Range {
        from: u64,
        to: u64,
        #[source]
        source: ReadRangeError,
    },
    #[error("it could not be read when it was backed up: {reason}")]
    Never { reason: String },
    #[error("its name has {length} bytes, more than can be shown")]
    Name { length: usize },
}

impl MountedVault {
    /// The entry of a name in a folder; its number is told once more.
    pub fn look_up(&self, folder: u64, name: &[u8]) -> Result<Attributes, Fault> {
        let identity = lock(&self.inodes).identity(folder).cloned().ok_or(Fault::Stale)?;
        let names = match identity {
            Identity::Root => vec![name.to_vec()],
            Identity::Shown(mut names) => {
                names.push(name.to_vec());
                names
            }
            _ => return self.look_up_entry(folder, name),
        };
        let catalog = self.catalog();
        let shown = catalog.find(&names).ok_or(Fault::NoEntry)?;
        if let Shown::Snapshot(id) = *shown {
            let number = lock(&self.inodes).tell(Identity::Snapshot(id), None);
            return Ok(self.of_snapshot(number, id, &catalog));
        }
        let number = lock(&self.inodes).tell(Identity::Shown(names), None);
        Ok(self.of_shown(number, &shown, &catalog))
    }

    fn look_up_entry(&self, folder: u64, name: &[u8]) -> Result<Attributes, Fault> {
        let node = self.node(folder)?;
        let listing = self.listing_of(folder, &node)?;
        let entry = listing.find(name).ok_or(Fault::NoEntry)?;
        let number = self.tell(node.snapshot(), folder, entry);
        Ok(of_entry(number, entry))
    }

    /// The number of an entry is told once more.
    fn tell(&self, snapshot: SnapshotId, folder: u64, entry: &Entry) -> u64 {
        let place = Place { folder, name: entry.name.clone().into() };
        lock(&self.inodes).tell(Self::identity_of(snapshot, folder, entry), Some(place))
    }

    /// A number that was told so many times is given back.
    pub fn forget(&self, number: u64, times: u64) {
        lock(&self.inodes).forget(number, times);
    }

    /// The attributes of a number.
    pub fn attributes(&self, number: u64) -> Result<Attributes, Fault> {
        let identity = lock(&self.inodes).identity(number).cloned().ok_or(Fault::Stale)?;
        match identity {
            Identity::Snapshot(id) => Ok(self.of_snapshot(number, id, &self.catalog())),
            Identity::Entry { .. } | Identity::Linked(_) => Ok(of_entry(number, self.found(number)?.entry())),
            Identity::Root | Identity::Shown(_) => {
                let (catalog, names) = (self.catalog(), names_of(identity));
                let shown = catalog.find(&names).ok_or(Fault::Stale)?;
                Ok(self.of_shown(number, &shown, &catalog))
            }
        }
    }

    fn of_shown(&self, number: u64, shown: &Shown, catalog: &Catalog) -> Attributes {
        let (kind, size) = match shown {
            Shown::Link(target) => (EntryKind::Symlink, target.len() as u64),
            Shown::Folder(_) | Shown::Snapshot(_) => (EntryKind::Directory, 0),
        };
        of_shown(number, kind, size, (self.settings.owner, catalog.newest()))
    }

    /// A snapshot's folder is what was backed up; one that cannot be opened is shown all the same.
    fn of_snapshot(&self, number: u64, id: SnapshotId, catalog: &Catalog) -> Attributes {
        let time = catalog.record(&id).map_or(0, |record| record.time);
        let plain = of_shown(number, EntryKind::Directory, 0, (self.settings.owner, time));
        match self.opened(id).as_deref() {
            Ok(Opened { top: Top::Folder { metadata, .. }, .. }) => of_folder(number, metadata),
            Ok(Opened { top: Top::Roots(_), .. }) => Attributes { is_lasting: true, ..plain },
            Err(_) => Attributes { mode: CLOSED, ..plain },
        }
    }

    fn found(&self, number: u64) -> Result<Found, Fault> {
        match self.node(number)? {
            Node::Entry(found) => Ok(found),
            Node::Top(_) => Err(Fault::Invalid),
        }
    }

    /// Where a symbolic link leads.
    pub fn link_target(&self, number: u64) -> Result<Vec<u8>, Fault> {
        let identity = lock(&self.inodes).identity(number).cloned().ok_or(Fault::Stale)?;
        if matches!(identity, Identity::Shown(_)) {
            let catalog = self.catalog();
            let shown = catalog.find(&names_of(identity)).ok_or(Fault::Stale)?.into_owned();
            return if let Shown::Link(target) = shown { Ok(target) } else { Err(Fault::Invalid) };
        }
        let found = self.found(number)?;
        match &found.entry().body {
            Body::Symlink { target } => Ok(target.clone()),
            Body::Unreadable { reason, .. } => Err(self.never(&found, reason)),
            _ => Err(Fault::Invalid),
        }
    }

    /// Begins to read a folder: what [`MountedVault::visit`] wants to know, until [`MountedVault::close_folder`].
    pub fn open_folder(&self, number: u64) -> Result<u64, Fault> {
        let identity = lock(&self.inodes).identity(number).cloned().ok_or(Fault::Stale)?;
        if !matches!(identity, Identity::Root | Identity::Shown(_)) {
            self.listing_of(number, &self.node(number)?)?;
            return Ok(0);
        }
        let catalog = self.catalog();
        let mut folders = lock(&self.folders);
        folders.next += 1;
        let handle = folders.next;
        folders.open.insert(handle, catalog);
        Ok(handle)
    }

    /// Ends the reading of a folder.
    pub fn close_folder(&self, handle: u64) {
        lock(&self.folders).open.remove(&handle);
    }

    /// Shows the entries of a folder from a place on, until `take` has enough and takes one not.
    pub fn visit(
        &self,
        (folder, handle): (u64, u64),
        (from, with_attributes): (u64, bool),
        take: &mut dyn FnMut(Visited<'_>) -> bool,
    ) -> Result<(), Fault> {
        let identity = lock(&self.inodes).identity(folder).cloned().ok_or(Fault::Stale)?;
        if matches!(identity, Identity::Root | Identity::Shown(_)) {
            let catalog = lock(&self.folders).open.get(&handle).cloned();
            let catalog = catalog.unwrap_or_else(|| self.catalog());
            return self.visit_shown((&catalog, names_of(identity)), (from, with_attributes), take);
        }
        let node = self.node(folder)?;
        let listing = self.listing_of(folder, &node)?;
        for (place, entry) in (0_u64..).zip(&listing.entries).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            if entry.name.len() > NAME_MAX {
                self.trouble(Some(node.snapshot()), &entry.name, &FileError::Name { length: entry.name.len() });
                continue;
            }
            // Told before it is shown: should two hashes collide, another number stands for it.
            let number = if with_attributes {
                self.tell(node.snapshot(), folder, entry)
            } else {
                Self::identity_of(node.snapshot(), folder, entry).number()
            };
            let attributes = with_attributes.then(|| of_entry(number, entry));
            let kind = attributes::kind_of(&entry.body);
            if !take(Visited { next: place + 1, number, kind, name: &entry.name, attributes }) {
                if with_attributes {
                    self.forget(number, 1);
                }
                break;
            }
        }
        Ok(())
    }

    fn visit_shown(
        &self,
        (catalog, names): (&Arc<Catalog>, Vec<Vec<u8>>),
        (from, with_attributes): (u64, bool),
        take: &mut dyn FnMut(Visited<'_>) -> bool,
    ) -> Result<(), Fault> {
        let shown = catalog.find(&names).ok_or(Fault::Stale)?;
        let Shown::Folder(inside) = &*shown else { return Err(Fault::NotAFolder) };
        for (place, (name, below)) in (0_u64..).zip(inside).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            let identity = match below {
                Shown::Snapshot(id) => Identity::Snapshot(*id),
                _ => Identity::Shown(names.iter().chain([name]).cloned().collect()),
            };
            let number = if with_attributes { lock(&self.inodes).tell(identity, None) } else { identity.number() };
            // A snapshot is not opened for being listed: who wants to know its attributes asks for them.
            let attributes = with_attributes.then(|| self.of_shown(number, below, catalog));
            let kind = if matches!(below, Shown::Link(_)) { EntryKind::Symlink } else { EntryKind::Directory };
            if !take(Visited { next: place + 1, number, kind, name, attributes }) {
                if with_attributes {
                    self.forget(number, 1);
                }
                break;
            }
        }
        Ok(())
    }

    /// At most `length` bytes of a file from `offset` on; fewer only at its end.
    pub fn read(&self, number: u64, (offset, length): (u64, usize)) -> Result<Vec<u8>, Fault> {
        let found = self.found(number)?;
        let seeker = self.seeker(number, &found)?;
        let domain = found.opened.domain;
        seeker.read((offset, length), |chunk| self.chunks.read(domain, chunk)).map_err(|source| {
            let to = offset.saturating_add(length as u64);
            self.trouble(Some(found.opened.id), &found.path, &FileError::Range { from: offset, to, source });
            Fault::Unreadable
        })
    }

    /// Where data (`wants_data`) or a hole begins at or after a place.
    pub fn seek(&self, number: u64, place: u64, wants_data: bool) -> Result<u64, Fault> {
        let seeker = self.seeker(number, &self.found(number)?)?;
        let next = if wants_data { seeker.data_at(place) } else { seeker.hole_at(place) };
        next.ok_or(Fault::Beyond)
    }

    /// What reads a file. Of a long one what was learnt about its list is kept.
    fn seeker(&self, number: u64, found: &Found) -> Result<Arc<Seeker>, Fault> {
        let content = match &found.entry().body {
            Body::File { content, .. } => content,
            Body::Unreadable { reason, .. } => return Err(self.never(found, reason)),
            Body::Directory(_) => return Err(Fault::IsAFolder),
            _ => return Err(Fault::Invalid),
        };
        if content.depth() == 0 {
            return Ok(Arc::new(Seeker::new(content.clone())));
        }
        let mut seekers = lock(&self.seekers);
        if let Some(seeker) = seekers.get(&number) {
            return Ok(seeker);
        }
        let seeker = Arc::new(Seeker::new(content.clone()));
        seekers.insert(number, Arc::clone(&seeker), 1);
        Ok(seeker)
    }

    /// The value of an extended attribute.
    pub fn attribute(&self, number: u64, name: &[u8]) -> Result<Vec<u8>, Fault> {
        let has = |attributes: &[blockhouse_types::Attribute]| {
            attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.clone())
        };
        self.with_attributes(number, has)?.flatten().ok_or(Fault::NoAttribute)
    }

    /// The names of all extended attributes, each with a zero behind it.
    pub fn attribute_names(&self, number: u64) -> Result<Vec<u8>, Fault> {
        let names = |attributes: &[blockhouse_types::Attribute]| {
            attributes.iter().flat_map(|attribute| attribute.name.iter().copied().chain([0])).collect()
        };
        Ok(self.with_attributes(number, names)?.unwrap_or_default())
    }

    fn with_attributes<T>(
        &self,
        number: u64,
        read: impl FnOnce(&[blockhouse_types::Attribute]) -> T,
    ) -> Result<Option<T>, Fault> {
        let identity = lock(&self.inodes).identity(number).cloned().ok_or(Fault::Stale)?;
        if matches!(identity, Identity::Root | Identity::Shown(_)) {
            return Ok(None);
        }
        Ok(match self.node(number)? {
            Node::Entry(found) => Some(read(&found.entry().metadata.attributes)),
            Node::Top(opened) => match &opened.top {
                Top::Folder { metadata, .. } => Some(read(&metadata.attributes)),
                Top::Roots(_) => None,
            },
        })
    }

    fn never(&self, found: &Found, reason: &str) -> Fault {
        self.trouble(Some(found.opened.id), &found.path, &FileError::Never { reason: reason.to_owned() });
        Fault::Unreadable
    }

    /// The number of the mount point.
    pub const fn root(&self) -> u64 {
        ROOT
    }
}

impl Listing {
    fn find(&self, name: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name[..].cmp(name)).ok()?;
        self.entries.get(at)
    }
}

/// The names from the mount point; none for the mount point itself.
fn names_of(identity: Identity) -> Vec<Vec<u8>> {
    match identity {
        Identity::Shown(names) => names,
        _ => Vec::new(),
    }
}
