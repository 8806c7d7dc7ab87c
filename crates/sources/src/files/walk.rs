//! Walks a source depth first, folder by folder.
//!
//! For each folder the walk first hands out the whole listing ([`Event::Enter`]), then each entry in order: a sub-folder as
//! its own `Enter … Leave`, everything else as [`Event::Entry`] or [`Event::Unreadable`], then [`Event::Leave`]. So the
//! order of events is the order of leaves in a snapshot, and at `Leave` all sub-folders are done. The first `Enter` is the
//! listing of roots and the last `Leave` ends it.
//!
//! - **Owns** the order and the stack, on the heap: depth is bounded by memory alone.
//! - **Does not** open files: [`super::Capture::open`] does, with the [`Folder`] of an event.
//!
//! # Invariants
//! - **W1** Every entry of every listing that was handed out is the subject of exactly one later event.
//! - **W2** An entry that a listing gave as a folder and that cannot be listed comes as [`Event::Unreadable`].

use std::sync::Arc;

use blockhouse_types::EntryKind;
use rustix::io::Errno;

use super::{
    Entry, FilesSource, Found, LeftOut, LeftOutReason, Listing, Reason, Root, Unreadable,
    list::{Listed, list},
    selection::Rules,
    trail::{Open, Trail},
};

/// A folder whose entries can be opened. It holds a file descriptor: keep listings, not folders, for the way back up.
#[derive(Debug, Clone)]
pub struct Folder(Handle);

#[derive(Debug, Clone)]
enum Handle {
    Roots(Arc<[Root]>),
    Open(Open),
}

impl Folder {
    /// The open folder of an entry, and the entry's name in it.
    pub(crate) fn locate(&self, found: &Found) -> Result<(Open, Vec<u8>), Errno> {
        match &self.0 {
            Handle::Open(open) => Ok((open.clone(), found.name.clone())),
            Handle::Roots(roots) => {
                let (open, name) = roots.get(found.root).ok_or(Errno::NOENT)?.locate()?;
                Ok((open, name.to_vec()))
            }
        }
    }
}

/// One step of a walk. `index` is the place in the listing of the folder entered last and not yet left.
#[derive(Debug, Clone)]
pub enum Event {
    /// A folder begins.
    Enter {
        /// Its own place and entry; none for the listing of roots.
        entry: Option<(usize, Arc<Found>)>,
        /// To open the files of the listing.
        folder: Folder,
        /// Everything in it.
        listing: Arc<Listing>,
    },
    /// Something that is no folder.
    Entry {
        /// Its place.
        index: usize,
        /// To open it.
        folder: Folder,
        /// The entry.
        found: Arc<Found>,
    },
    /// Something that was named and cannot be read.
    Unreadable {
        /// Its place.
        index: usize,
        /// What is known of it.
        unreadable: Arc<Unreadable>,
    },
    /// The folder entered last ends.
    Leave,
}

/// The events of one walk.
#[derive(Debug)]
pub struct Walk<'a> {
    source: &'a FilesSource,
    has_begun: bool,
    frames: Vec<Frame>,
    /// The way inside the current root; none at the listing of roots.
    trail: Option<Trail>,
}

#[derive(Debug)]
struct Frame {
    listing: Arc<Listing>,
    next: usize,
    /// The ignore files in force in this folder and below.
    rules: Rules,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a FilesSource) -> Self {
        Self { source, has_begun: false, frames: Vec::new(), trail: None }
    }

    fn begin(&mut self) -> Event {
        self.has_begun = true;
        let listing = Arc::new(self.source.list_roots());
        self.frames.push(Frame { listing: Arc::clone(&listing), next: 0, rules: Rules::default() });
        Event::Enter { entry: None, folder: self.roots(), listing }
    }

    fn roots(&self) -> Folder {
        Folder(Handle::Roots(self.source.shared_roots()))
    }

    fn current(&mut self) -> Result<Folder, Errno> {
        match &mut self.trail {
            None => Ok(self.roots()),
            Some(trail) => Ok(Folder(Handle::Open(trail.current()?))),
        }
    }

    fn visit(&mut self, index: usize, entry: Entry) -> Event {
        let found = match entry {
            Entry::Unreadable(unreadable) => return Event::Unreadable { index, unreadable },
            Entry::Found(found) => found,
        };
        let event = if found.kind == EntryKind::Directory {
            self.enter(index, &found)
        } else {
            self.current().map(|folder| Event::Entry { index, folder, found: Arc::clone(&found) }).map_err(Reason::from)
        };
        event.unwrap_or_else(|reason| Event::Unreadable { index, unreadable: Arc::new(Unreadable::of(&found, reason)) })
    }

    /// Opens, lists and only then steps into a folder, so that a failure leaves the walk where it was.
    fn enter(&mut self, index: usize, found: &Arc<Found>) -> Result<Event, Reason> {
        let (parent, name) = self.current()?.locate(found)?;
        let open = parent.child(&name)?;
        if open.node() != found.identity.node() {
            return Err(Reason::Replaced);
        }
        let root_path =
            self.source.roots().get(found.root).map_or(&b""[..], |root| root.path.as_os_str().as_encoded_bytes());
        let listed = Listed { folder: &open, root: found.root, root_path, path: &found.path };
        let (listing, rules) = self.list(listed)?;
        let listing = Arc::new(listing);
        match &mut self.trail {
            Some(trail) => trail.push(&name, open.clone()),
            None => self.trail = Some(Trail::new(open.clone())),
        }
        self.frames.push(Frame { listing: Arc::clone(&listing), next: 0, rules });
        Ok(Event::Enter { entry: Some((index, Arc::clone(found))), folder: Folder(Handle::Open(open)), listing })
    }

    fn list(&self, listed: Listed<'_>) -> Result<(Listing, Rules), Reason> {
        let selection = self.source.selection();
        // The root itself is on its own file system.
        let root_device = self.trail.as_ref().map_or(listed.folder.node().device, Trail::device);
        if selection.is_elsewhere(listed.folder, root_device) {
            let mut listing = Listing::default();
            let reason = LeftOutReason::OtherFileSystem;
            listing.left_out.push(LeftOut { root: listed.root, path: listed.path.to_vec(), reason });
            return Ok((listing, Rules::default()));
        }
        let none = Rules::default();
        let above = self.frames.last().map_or(&none, |frame| &frame.rules);
        list(listed, above, selection, self.source.accounts())
    }

    fn leave(&mut self) -> Event {
        self.frames.pop();
        match &mut self.trail {
            Some(trail) if trail.depth() > 0 => trail.pop(),
            _ => self.trail = None,
        }
        Event::Leave
    }
}

impl Iterator for Walk<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if !self.has_begun {
            return Some(self.begin());
        }
        let frame = self.frames.last_mut()?;
        let index = frame.next;
        frame.next += 1;
        Some(match frame.listing.entries.get(index).cloned() {
            Some(entry) => self.visit(index, entry),
            None => self.leave(),
        })
    }
}
