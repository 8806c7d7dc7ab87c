//! Refuses to copy the files of a running node or database: a copy made file by file is of no single moment and often
//! does not open again.
//!
//! What counts is the list in [`signs`]: lock files and main files of known engines, by exact name or ending, most of them
//! only beside other files of the same engine. An editor with a document open, a log that grows, a build that runs: none
//! of them refuses. A running browser does if its profile lies in the source, for it runs databases; exclude the profile,
//! stop the browser, or allow it.
//!
//! Such a file is live when one of these holds, each seen independently of the others:
//! - a process has it open with a lock, or open for writing where the engine never does so at rest (`/proc/*/fd`, which shows
//!   other users' processes to root alone);
//! - the system's list of locks has its inode (`/proc/locks`);
//! - a lock on it is refused, POSIX (only asked for, never taken) or `flock` (taken shared and given back at once; an
//!   engine that starts within that instant may see it as busy);
//! - it holds the number of a process that runs and bears the engine's name.
//!
//! Locks of this very process do not count: a vault may lie in what it backs up.
//!
//! # Invariants
//! - **L1** Excluded folders are not looked at, and nothing is changed.
//! - **L2** What cannot be looked at (another user's process and an unreadable lock file) is not guessed to be live.

mod process;
mod signs;

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use blockhouse_types::EntryKind;
use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, openat},
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk},
};

pub use self::process::Process;
use self::{
    process::{Locks, Use, own_files},
    signs::{Proof, Sign},
};
use super::{
    FilesSource, Root,
    list::{Listed, Named, join, names},
    selection::Rules,
    trail::{Node, Open, Trail},
};

/// A running node or database among the files to back up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is in use: {engine} is running{} ({seen})", path.display(), by(process.as_ref()))]
pub struct LiveSource {
    /// The file that shows it.
    pub path: PathBuf,
    /// What kind of software keeps such a file.
    pub engine: &'static str,
    /// Who uses it, if that can be told.
    pub process: Option<Process>,
    /// How it was seen.
    pub seen: Seen,
}

/// How a live file was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Seen {
    /// Another process holds a lock on it.
    #[error("it is locked")]
    Locked,
    /// Another process has it open for writing.
    #[error("it is open for writing")]
    OpenForWriting,
    /// It names a process that runs.
    #[error("it names a running process")]
    NamesProcess,
}

/// What lets the backup go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveRemedy {
    /// Stop this process, or exclude the folder, or pass `--allow-live` and take an inconsistent copy.
    StopExcludeOrAllow {
        /// What to stop, if known.
        process: Option<Process>,
        /// What to exclude.
        folder: PathBuf,
    },
}

impl LiveSource {
    /// What may help.
    pub fn remedy(&self) -> LiveRemedy {
        let folder = self.path.parent().unwrap_or(&self.path).to_owned();
        LiveRemedy::StopExcludeOrAllow { process: self.process.clone(), folder }
    }
}

fn by(process: Option<&Process>) -> String {
    process.map_or_else(String::new, |process| format!(" as process {} `{}`", process.id, process.name))
}

/// A file that would be locked or open if its engine ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    path: PathBuf,
    sign: &'static Sign,
}

/// Fails if a node or database runs in a folder that is to be written to, whatever an ignore file there says: that is about backups.
/// What cannot be looked at is not guessed to be live.
pub fn refuse_live(folder: &Path) -> Result<(), LiveSource> {
    let options = super::Options { no_ignore_files: true, ..super::Options::default() };
    match FilesSource::try_new(&[folder.to_owned()], &options) {
        Ok(source) => refuse(&candidates(&source)),
        Err(_) => Ok(()),
    }
}

/// All candidates of a source: one pass over the names of its folders.
pub(crate) fn candidates(source: &FilesSource) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (number, root) in source.roots().iter().enumerate() {
        if let Ok(open) = Open::absolute(&root.path) {
            let device = open.node().device;
            Search { source, root, number, device, candidates: &mut candidates }.run(open);
        } else if let Ok((folder, name)) = root.locate() {
            let named = names(&folder).unwrap_or_default();
            let parent = root.path.parent().unwrap_or(&root.path);
            candidates.extend(in_folder(parent, &named).filter(|found| is_for_file(found, name)));
        }
    }
    candidates
}

/// Of the candidates of a folder, those that speak for a single file of it: the file itself and what `SQLite` puts beside it.
fn is_for_file(candidate: &Candidate, name: &[u8]) -> bool {
    candidate.path.file_name().is_some_and(|found| found.as_bytes().strip_prefix(name).is_some_and(signs::is_companion))
}

fn in_folder<'a>(folder: &'a Path, named: &'a [Named]) -> impl Iterator<Item = Candidate> + 'a {
    signs::in_listing(named)
        .map(|(name, sign)| Candidate { path: folder.join(std::ffi::OsStr::from_bytes(name)), sign })
}

/// The names of sub-folders, and their paths from the root.
type SubFolders = Vec<(Vec<u8>, Vec<u8>)>;

/// A walk over names alone.
struct Search<'a> {
    source: &'a FilesSource,
    root: &'a Root,
    /// The place of the root in the source.
    number: usize,
    /// The device of the root.
    device: u64,
    candidates: &'a mut Vec<Candidate>,
}

impl Search<'_> {
    fn run(mut self, open: Open) {
        let mut pending = vec![self.look_into(&open, b"", &Rules::default())];
        let mut trail = Trail::new(open);
        while let Some((folders, rules)) = pending.last_mut() {
            let Some((name, path)) = folders.pop() else {
                pending.pop();
                trail.pop();
                continue;
            };
            // What cannot be opened here cannot be read by the walk either, which reports it.
            if let Ok(open) = trail.current().and_then(|current| current.child(&name)) {
                let rules = rules.clone();
                pending.push(self.look_into(&open, &path, &rules));
                trail.push(&name, open);
            }
        }
    }

    /// Collects the candidates of a folder; returns the names and paths of its sub-folders, and the rules in force there.
    fn look_into(&mut self, folder: &Open, path: &[u8], above: &Rules) -> (SubFolders, Rules) {
        let selection = self.source.selection();
        if selection.is_elsewhere(folder, self.device) {
            return (Vec::new(), Rules::default());
        }
        let root = self.root.path.as_os_str().as_bytes();
        let mut named = names(folder).unwrap_or_default();
        let listed = Listed { folder, root: self.number, root_path: root, path };
        let below = selection.below(above, listed, &named);
        named.retain(|named| {
            let is_left_out = below.by_name(root, &join(path, &named.name), named).is_some();
            !is_left_out && below.by_flag_of(folder, &named.name).is_none()
        });
        let here = self.root.path.join(std::ffi::OsStr::from_bytes(path));
        self.candidates.extend(in_folder(&here, &named));
        let folders = named.into_iter().filter(|named| named.kind == EntryKind::Directory);
        (folders.map(|Named { name, .. }| (name.clone(), join(path, &name))).collect(), below.rules)
    }
}

/// Fails if one of the candidates is live now.
pub(crate) fn refuse(candidates: &[Candidate]) -> Result<(), LiveSource> {
    if candidates.is_empty() {
        return Ok(());
    }
    let own = own_files();
    let locks = Locks::read();
    let mut nodes = HashMap::new();
    for candidate in candidates {
        let Some(opened) = Opened::try_open(candidate) else { continue };
        if own.contains(&opened.node) {
            continue;
        }
        if let Some((process, seen)) = opened.is_live(candidate, &locks) {
            let process = process.or_else(|| process::first_user(opened.node));
            return Err(candidate.live(process, seen));
        }
        nodes.insert(opened.node, candidate);
    }
    let choose = |node, usage| {
        let candidate: &Candidate = *nodes.get(&node)?;
        match usage {
            Use::Locked => Some((candidate, Seen::Locked)),
            Use::OpenForWriting if candidate.sign.proof == Proof::LockOrWriter => {
                Some((candidate, Seen::OpenForWriting))
            }
            Use::OpenForWriting | Use::OpenForReading => None,
        }
    };
    match process::find_user(|node| nodes.contains_key(&node), choose) {
        Some(((candidate, seen), process)) => Err(candidate.live(Some(process), seen)),
        None => Ok(()),
    }
}

impl Candidate {
    fn live(&self, process: Option<Process>, seen: Seen) -> LiveSource {
        LiveSource { path: self.path.clone(), engine: self.sign.engine, process, seen }
    }
}

/// A candidate as it is now.
struct Opened {
    folder: Open,
    node: Node,
    /// None if this user may not read it.
    file: Option<rustix::fd::OwnedFd>,
}

impl Opened {
    fn try_open(candidate: &Candidate) -> Option<Self> {
        let folder = Open::absolute(candidate.path.parent()?).ok()?;
        let name = candidate.path.file_name()?.as_bytes();
        let stat = fstat(folder.entry(name).ok()?).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&folder, name, flags, Mode::empty()).ok();
        Some(Self { folder, node: Node::of(&stat), file })
    }

    fn is_live(&self, candidate: &Candidate, locks: &Locks) -> Option<(Option<Process>, Seen)> {
        if let Proof::ProcessNamed(names) = candidate.sign.proof {
            let process = process::named_in(self.file.as_ref()?, names)
                .or_else(|| process::working_in(self.folder.node(), names))?;
            return Some((Some(process), Seen::NamesProcess));
        }
        if let Some(lock) = locks.on(self.node) {
            return Some((lock.holder(), Seen::Locked));
        }
        let file = self.file.as_ref()?;
        // Asks who would refuse an exclusive lock of the whole file; takes none.
        if let Ok(Some(held)) = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)) {
            return Some((held.pid.and_then(|pid| Process::running(pid.as_raw_nonzero().get())), Seen::Locked));
        }
        if flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
            return Some((None, Seen::Locked));
        }
        // Closing the file gives the shared lock back as well; this only makes the instant shorter.
        let _ = flock(file, FlockOperation::Unlock);
        None
    }
}
