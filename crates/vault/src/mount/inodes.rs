//! The numbers that the kernel knows files by.
//!
//! - **Owns** which number stands for what, and how often the kernel was told it.
//! - **Does not** know what a file is: an entry is its folder's number and its name.
//!
//! # Invariants
//! - **N1** A number stands for one thing as long as the kernel may use it, and for as long as anything below it is known.
//! - **N2** What the kernel forgot takes no memory.
//! - **N3** The same entry gets the same number after it was forgotten, and after the next mount by the same program: but where two
//!   hashes collide.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use blockhouse_types::{EntryKind, Link, SnapshotId};

/// The number of the mount point.
pub(super) const ROOT: u64 = 1;

/// What a number stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The mount point.
    Root,
    /// A folder, or a link, of those that show snapshots: its names from the mount point.
    Shown(Vec<Vec<u8>>),
    /// A snapshot.
    Snapshot(SnapshotId),
    /// An entry, by its folder and name.
    Entry { folder: u64, name: Box<[u8]> },
    /// A file with several names.
    Linked(Box<Linked>),
}

/// A file with several names in one snapshot. The content belongs to it: a file that changed while it was backed up has one link and
/// two contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Linked {
    pub(super) snapshot: SnapshotId,
    pub(super) link: Link,
    pub(super) kind: EntryKind,
    pub(super) content: Vec<u8>,
}

impl Identity {
    /// The number that it has unless another thing with the same hash has it.
    pub(super) fn number(&self) -> u64 {
        if *self == Self::Root {
            return ROOT;
        }
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        // Some programs take numbers for signed ones.
        (hasher.finish() >> 1).max(ROOT + 1)
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its folder.
    pub(super) folder: u64,
    /// Its name.
    pub(super) name: Box<[u8]>,
}

/// From a snapshot's folder to an entry: the number and the name of each step.
pub(super) type Way = Vec<(u64, Box<[u8]>)>;

#[derive(Debug)]
struct Node {
    identity: Identity,
    /// Of a file with several names the first that was seen.
    place: Option<Place>,
    /// How often the kernel was told the number and has not given it back.
    told: u64,
    /// How many known nodes have their place in this one.
    below: u64,
}

/// The numbers that are in use.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    nodes: HashMap<u64, Node>,
}

impl Inodes {
    /// Only the mount point, which is never forgotten.
    pub(super) fn new() -> Self {
        let mut inodes = Self::default();
        inodes.tell(Identity::Root, None);
        inodes
    }

    /// The kernel is told the number of something once more.
    pub(super) fn tell(&mut self, identity: Identity, place: Option<Place>) -> u64 {
        let mut number = identity.number();
        while self.nodes.get(&number).is_some_and(|node| node.identity != identity) {
            number = number.wrapping_add(1).max(ROOT + 1);
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            node.told += 1;
            return number;
        }
        if let Some(folder) = place.as_ref().and_then(|place| self.nodes.get_mut(&place.folder)) {
            folder.below += 1;
        }
        self.nodes.insert(number, Node { identity, place, told: 1, below: 0 });
        number
    }

    /// The kernel gives a number back so many times.
    pub(super) fn forget(&mut self, number: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&number).filter(|_| number != ROOT) {
            node.told = node.told.saturating_sub(times);
        }
        let mut next = Some(number).filter(|number| *number != ROOT);
        while let Some(number) = next.take() {
            if self.nodes.get(&number).is_none_or(|node| node.told > 0 || node.below > 0) {
                break;
            }
            let folder = self.nodes.remove(&number).and_then(|gone| gone.place).map(|place| place.folder);
            if let Some(above) = folder.and_then(|folder| self.nodes.get_mut(&folder)) {
                above.below = above.below.saturating_sub(1);
            }
            next = folder.filter(|number| *number != ROOT);
        }
    }

    /// What a number stands for.
    pub(super) fn identity(&self, number: u64) -> Option<&Identity> {
        self.nodes.get(&number).map(|node| &node.identity)
    }

    /// The snapshot that an entry is in, and the way from it: each step with the number of what it leads to.
    pub(super) fn way(&self, number: u64) -> Option<(SnapshotId, Way)> {
        let (mut way, mut at) = (Way::new(), number);
        loop {
            let node = self.nodes.get(&at)?;
            if let Identity::Snapshot(id) = node.identity {
                way.reverse();
                return Some((id, way));
            }
            let place = node.place.as_ref()?;
            way.push((at, place.name.clone()));
            at = place.folder;
        }
    }

    /// How many are known.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(folder: u64, name: &[u8]) -> (Identity, Option<Place>) {
        let name: Box<[u8]> = name.into();
        (Identity::Entry { folder, name: name.clone() }, Some(Place { folder, name }))
    }

    fn tell(inodes: &mut Inodes, folder: u64, name: &[u8]) -> u64 {
        let (identity, place) = entry(folder, name);
        inodes.tell(identity, place)
    }

    #[test]
    fn what_is_forgotten_is_gone_once_nothing_below_it_is_known() {
        let mut inodes = Inodes::new();
        let id = SnapshotId::new([1; 32]);
        let snapshot = inodes.tell(Identity::Snapshot(id), None);
        let folder = tell(&mut inodes, snapshot, b"folder");
        let file = tell(&mut inodes, folder, b"file");
        assert_eq!(tell(&mut inodes, folder, b"file"), file);
        inodes.forget(snapshot, 1);
        inodes.forget(folder, 1);
        let names: Vec<_> = inodes.way(file).unwrap().1.into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, [Box::from(&b"folder"[..]), Box::from(&b"file"[..])]);
        inodes.forget(file, 1);
        assert_eq!(inodes.count(), 4);
        inodes.forget(file, 1);
        assert_eq!(inodes.count(), 1, "the mount point alone");
        inodes.forget(ROOT, 100);
        assert_eq!(inodes.count(), 1);
        let again = inodes.tell(Identity::Snapshot(id), None);
        assert_eq!(again, snapshot);
        assert_eq!(tell(&mut inodes, again, b"folder"), folder);
    }

    #[test]
    fn a_file_with_several_names_has_one_number() {
        let mut inodes = Inodes::new();
        let snapshot = SnapshotId::new([1; 32]);
        let root = inodes.tell(Identity::Snapshot(snapshot), None);
        let linked = |content: &[u8]| {
            let link = Link { device: 1, inode: 2 };
            Identity::Linked(Box::new(Linked { snapshot, link, kind: EntryKind::File, content: content.to_vec() }))
        };
        let one = inodes.tell(linked(b"x"), entry(root, b"a").1);
        assert_eq!(inodes.tell(linked(b"x"), entry(root, b"b").1), one);
        assert_ne!(inodes.tell(linked(b"y"), entry(root, b"c").1), one);
        inodes.forget(one, 1);
        assert!(inodes.identity(one).is_some());
        inodes.forget(one, 1);
        assert!(inodes.identity(one).is_none());
    }
}
