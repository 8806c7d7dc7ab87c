//! The slow and obvious copy: a whole capture in memory, and a restore from it.

use std::{collections::HashMap, path::Path, sync::Arc};

use blockhouse_sources::files::{
    Capture, Event, FilesSource, Folder, Found, LeftOut, NotRestored, Ownership, Placing, RestorePath, RestoreTarget,
    Special, Unreadable,
};
use blockhouse_types::{EntryKind, Link};

/// One entry with its content.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    pub(crate) found: Arc<Found>,
    /// The extents that are data.
    pub(crate) data: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// Folders before what is in them, in the order of the walk.
    pub(crate) entries: Vec<Copied>,
    /// The paths of folders, in the order in which they were left.
    pub(crate) left: Vec<Arc<Found>>,
    pub(crate) unreadable: Vec<Arc<Unreadable>>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl Copy {
    pub(crate) fn of(source: &FilesSource) -> Self {
        let capture = source.capture().unwrap();
        let mut copy = Self::default();
        let mut open: Vec<Option<Arc<Found>>> = Vec::new();
        for event in capture.walk() {
            match event {
                Event::Enter { entry, listing, .. } => {
                    let found = entry.map(|(_, found)| found);
                    copy.entries
                        .extend(found.iter().map(|found| Copied { found: Arc::clone(found), data: Vec::new() }));
                    copy.left_out.extend(listing.left_out.iter().cloned());
                    open.push(found);
                }
                Event::Entry { folder, found, .. } => copy.entries.push(read(&capture, &folder, found)),
                Event::Unreadable { unreadable, .. } => copy.unreadable.push(unreadable),
                Event::Leave => copy.left.extend(open.pop().unwrap()),
            }
        }
        assert!(open.is_empty());
        copy
    }

    pub(crate) fn paths(&self) -> Vec<&[u8]> {
        self.entries.iter().map(|copied| copied.found.path.as_slice()).collect()
    }

    pub(crate) fn entry(&self, path: &[u8]) -> &Copied {
        self.entries.iter().find(|copied| copied.found.path == path).unwrap()
    }

    /// Writes a copy of a single folder back as the content of `target`; returns what could not be set.
    pub(crate) fn restore(&self, target: &Path) -> Vec<NotRestored> {
        let mut target = RestoreTarget::open(target, Ownership::ByNumber).unwrap();
        let mut linked: HashMap<Link, RestorePath> = HashMap::new();
        let mut missing = Vec::new();
        for copied in &self.entries {
            let path = RestorePath::parse(&copied.found.path).unwrap();
            match copied.found.metadata.link.and_then(|link| linked.get(&link)) {
                Some(original) => target.hard_link(original, &path, Placing::New).unwrap(),
                None => missing.extend(copied.restore(&mut target, &path)),
            }
            if let Some(link) = copied.found.metadata.link {
                linked.entry(link).or_insert(path);
            }
        }
        for folder in &self.left {
            let path = RestorePath::parse(&folder.path).unwrap();
            missing.extend(target.set_metadata(&path, EntryKind::Directory, &folder.metadata).unwrap());
        }
        target.sync().unwrap();
        missing
    }

    /// What must be equal in a copy of a copy. Which files are one is told by the first path of each.
    pub(crate) fn facts(&self) -> Vec<(Found, Vec<u8>, Option<Vec<u8>>)> {
        let mut first: HashMap<Link, Vec<u8>> = HashMap::new();
        let facts = self.entries.iter().map(|copied| {
            let mut found = Found::clone(&copied.found);
            let link = found.metadata.link.take();
            let same_as = link.map(|link| first.entry(link).or_insert_with(|| found.path.clone()).clone());
            // Another inode, created at another time, in a folder of another name.
            found.identity.device = 0;
            found.identity.inode = 0;
            found.identity.ctime = found.identity.mtime;
            if found.kind != EntryKind::File {
                found.identity.size = 0;
            }
            if found.path.is_empty() {
                found.name.clear();
            }
            (found, copied.content(), same_as)
        });
        facts.collect()
    }
}

impl Copied {
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(self.found.size).unwrap()];
        for (offset, bytes) in &self.data {
            let offset = usize::try_from(*offset).unwrap();
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        content
    }

    fn restore(&self, target: &mut RestoreTarget, path: &RestorePath) -> Vec<NotRestored> {
        let Found { kind, metadata, size, device, target: link, .. } = &*self.found;
        let special = match kind {
            EntryKind::Directory => {
                target.create_dir(path, Placing::New).unwrap();
                return Vec::new();
            }
            EntryKind::File => {
                let writer = target.begin_file(path, *size, Placing::New).unwrap();
                for (offset, bytes) in &self.data {
                    writer.write_at(*offset, bytes).unwrap();
                }
                return writer.finish(metadata).unwrap();
            }
            EntryKind::Symlink => Special::Symlink(link),
            EntryKind::Fifo => Special::Fifo,
            EntryKind::CharDevice => Special::CharDevice(device.unwrap()),
            EntryKind::BlockDevice => Special::BlockDevice(device.unwrap()),
            EntryKind::Socket | EntryKind::Unreadable => return Vec::new(),
        };
        target.create_special(path, special, metadata, Placing::New).unwrap()
    }
}

fn read(capture: &Capture<'_>, folder: &Folder, found: Arc<Found>) -> Copied {
    let mut data = Vec::new();
    if found.kind == EntryKind::File {
        let reader = capture.open(folder, &found).unwrap();
        let mut offset = 0;
        while let Some(extent) = reader.extent_at(offset).unwrap() {
            if !extent.is_hole {
                let mut bytes = vec![0; usize::try_from(extent.length).unwrap()];
                reader.read_at(offset, &mut bytes).unwrap();
                data.push((offset, bytes));
            }
            offset += extent.length;
        }
        assert_eq!(offset, found.size);
        assert_eq!(reader.finish().unwrap(), None);
    }
    Copied { found, data }
}
