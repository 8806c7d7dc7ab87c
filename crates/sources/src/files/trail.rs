//! Open folders, and the way from one to the next.
//!
//! - **Owns** handles of folders and the bound on how many are open at once, however deep a tree is.
//! - **Does not** list, stat or create: [`super::walk`], [`super::live`] and [`super::restore`] do, relative to a handle.
//!
//! # Invariants
//! - **T1** A folder is opened by one name relative to the handle of its parent, never through a symbolic link.
//! - **T2** A folder that is opened again is the same inode as before, or the result is an error.
//! - **T3** A trail keeps at most `2 * KEPT` folders open.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags, Stat, fstat, openat},
    io::Errno,
};

/// How many of the first and of the last folders of a trail stay open: enough that ordinary trees never open one twice,
/// few enough for the usual limit of 1024 files of a process.
const KEPT: usize = 32;

/// Opens a name for what it is: works without permission to read, never blocks, never follows.
const AS_PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What tells one inode from all others that exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Node {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A folder, opened as a path (`O_PATH`).
#[derive(Debug, Clone)]
pub(crate) struct Open {
    handle: Arc<OwnedFd>,
    node: Node,
}

impl Open {
    /// Opens an absolute path that has no `..`, part by part, so that its length has no limit.
    pub(crate) fn absolute(path: &Path) -> Result<Self, Errno> {
        let mut open = Self::take(openat(rustix::fs::CWD, "/", AS_PATH.union(OFlags::DIRECTORY), Mode::empty())?)?;
        for part in path.components() {
            match part {
                Component::RootDir => {}
                Component::Normal(name) => open = open.child(name.as_bytes())?,
                _ => return Err(Errno::INVAL),
            }
        }
        Ok(open)
    }

    /// The sub-folder of that name.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Self, Errno> {
        Self::take(openat(self, name, AS_PATH.union(OFlags::DIRECTORY), Mode::empty())?)
    }

    /// The entry of that name, whatever it is.
    pub(crate) fn entry(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        openat(self, name, AS_PATH, Mode::empty())
    }

    /// A handle that can list this folder. Access times are left alone where the system allows it.
    pub(crate) fn to_list(&self) -> Result<OwnedFd, Errno> {
        open_quietly(self.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    pub(crate) fn node(&self) -> Node {
        self.node
    }

    fn take(handle: OwnedFd) -> Result<Self, Errno> {
        let node = Node::of(&fstat(&handle)?);
        Ok(Self { handle: Arc::new(handle), node })
    }
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Opens without touching the access time, which only the owner of the entry and root may ask for.
pub(crate) fn open_quietly(folder: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(folder, name, flags, Mode::empty()),
        result => result,
    }
}

/// The way from a base folder down to the current one.
#[derive(Debug)]
pub(crate) struct Trail {
    base: Open,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: Vec<u8>,
    node: Node,
    open: Option<Open>,
}

impl Trail {
    pub(crate) fn new(base: Open) -> Self {
        Self { base, steps: Vec::new() }
    }

    /// The device of the base folder.
    pub(crate) fn device(&self) -> u64 {
        self.base.node().device
    }

    /// The names from the base to the current folder.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().map(|step| step.name.as_slice())
    }

    pub(crate) fn depth(&self) -> usize {
        self.steps.len()
    }

    /// The folder at the end of the trail.
    pub(crate) fn current(&mut self) -> Result<Open, Errno> {
        match self.steps.last() {
            None => Ok(self.base.clone()),
            Some(Step { open: Some(open), .. }) => Ok(open.clone()),
            Some(_) => self.reopen(),
        }
    }

    /// Goes down into a sub-folder of the current folder, which the caller has opened.
    pub(crate) fn push(&mut self, name: &[u8], open: Open) {
        self.steps.push(Step { name: name.to_vec(), node: open.node(), open: Some(open) });
        if let Some(leaving) = self.steps.len().checked_sub(KEPT + 1).filter(|&index| index >= KEPT)
            && let Some(step) = self.steps.get_mut(leaving)
        {
            step.open = None;
        }
    }

    /// Goes up one folder; at the base, stays.
    pub(crate) fn pop(&mut self) {
        let Some(left) = self.steps.pop() else { return };
        let Some(parent) = self.steps.last_mut().filter(|step| step.open.is_none()) else { return };
        // The short way back. It counts only if it leads to the folder we came from: the one we leave may have been moved.
        parent.open = left.open.and_then(|open| open.child(b"..").ok()).filter(|open| open.node() == parent.node);
    }

    /// Opens the last folder again, from the nearest one above it that is open.
    fn reopen(&mut self) -> Result<Open, Errno> {
        let from = self.steps.iter().rposition(|step| step.open.is_some());
        let mut open = from.and_then(|index| self.steps.get(index)?.open.clone()).unwrap_or_else(|| self.base.clone());
        for step in self.steps.iter().skip(from.map_or(0, |index| index + 1)) {
            open = open.child(&step.name)?;
            if open.node() != step.node {
                return Err(Errno::STALE);
            }
        }
        if let Some(last) = self.steps.last_mut() {
            last.open = Some(open.clone());
        }
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn deep(base: &Path, levels: usize) -> Trail {
        let mut trail = Trail::new(Open::absolute(base).unwrap());
        for _ in 0..levels {
            let current = trail.current().unwrap();
            rustix::fs::mkdirat(&current, "d", Mode::from_raw_mode(0o700)).unwrap();
            trail.push(b"d", current.child(b"d").unwrap());
        }
        trail
    }

    #[test]
    fn few_folders_stay_open_however_deep() {
        let base = tempfile::tempdir().unwrap();
        let mut trail = deep(&base.path().canonicalize().unwrap(), 300);
        let open = |trail: &Trail| trail.steps.iter().filter(|step| step.open.is_some()).count();
        assert!(open(&trail) <= 2 * KEPT);
        while trail.depth() > 0 {
            let node = trail.steps.last().unwrap().node;
            assert_eq!(trail.current().unwrap().node(), node);
            assert!(open(&trail) <= 2 * KEPT);
            trail.pop();
        }
    }

    #[test]
    fn the_way_up_out_of_a_moved_folder_is_not_taken() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let mut trail = deep(&base, 80);
        let mut lowest = base.clone();
        lowest.extend(std::iter::repeat_n("d", 80));
        fs::create_dir(base.join("elsewhere")).unwrap();
        for _ in 0..32 {
            trail.pop();
        }
        let here = lowest.ancestors().nth(32).unwrap();
        fs::rename(here, base.join("elsewhere/moved")).unwrap();
        trail.pop();
        assert_eq!(trail.current().unwrap().node(), trail.steps.last().unwrap().node);
    }

    #[test]
    fn a_folder_that_was_swapped_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let mut trail = deep(&base, 80);
        let mut swapped = base.clone();
        swapped.extend(std::iter::repeat_n("d", 40));
        fs::rename(&swapped, base.join("aside")).unwrap();
        fs::create_dir_all(swapped.join("d/d/d/d/d/d")).unwrap();
        trail.steps.truncate(45);
        assert_eq!(trail.current().unwrap_err(), Errno::STALE);
    }

    #[test]
    fn a_symbolic_link_is_never_a_folder() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(Open::absolute(&base).unwrap().child(b"link").unwrap_err(), Errno::NOTDIR);
        assert_eq!(Open::absolute(&base.join("link")).unwrap_err(), Errno::NOTDIR);
    }
}
