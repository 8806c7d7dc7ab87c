//! What a backup would find: new, changed and gone files, told by the file cache of the last one.
//!
//! - **Owns** the comparison of a source with what this host recorded at its last backup.
//! - **Does not** read a file, and writes nothing anywhere.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use blockhouse_sources::files::{
    Event, FilesSource, Found, IgnoreProblem, LeftOutReason, LeftOutTally, Listing, decode_root_name,
};

use super::walker::{FRESH, Flaw, folder_key, regular_files};
use super::{BackupError, BackupRequest, Opened, source};
use crate::cache::{CacheReader, CachedFile, FolderKey, Scope};
use crate::vault::Vault;

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Their bytes, holes too.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What became of a file since the last backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    New,
    /// It is another one, or it was written to, or its mode, owner or number of names changed: that all moves one time, and a
    /// backup reads it again.
    Changed,
    /// It is not there any more, or it is left out now.
    Gone,
}

/// A file that is not as it was at the last backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What became of it.
    pub change: Change,
    /// Where it is, from the root folder of the system.
    pub path: Vec<u8>,
    /// Its length; what it was, if it is gone.
    pub bytes: u64,
}

/// What a backup would find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// Whether this host remembers the last backup of the source; else every file counts as new.
    pub is_known: bool,
    /// All regular files that would be in the snapshot.
    pub all: Tally,
    /// Those that are new.
    pub new: Tally,
    /// Those that changed.
    pub changed: Tally,
    /// Those that are not there any more.
    pub gone: Tally,
    /// What is left out, by reason.
    pub left_out: LeftOutTally,
    /// What of ignore files cannot be used.
    pub ignore_problems: Vec<IgnoreProblem>,
    /// What could not be looked at.
    pub flaws: Vec<Flaw>,
}

/// What a preview tells on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A file that is not as it was.
    Changed(Changed),
    /// An entry that is left out, by its path from the root folder of the system.
    LeftOut(Vec<u8>, LeftOutReason),
}

/// Looks at a source as a backup would, and tells each file that is not as it was. A stream is not begun: of it nothing is told.
pub fn preview(vault: &Vault, request: &BackupRequest, tell: &mut impl FnMut(Told)) -> Result<Preview, BackupError> {
    let opened = request.open()?;
    let source = source::find(vault.config(), request, &opened);
    let cache = source.zip(vault.secrets()).map_or_else(CacheReader::default, |(source, secrets)| {
        let scope = Scope::new(source, &secrets.write.domain(request.dedup, source));
        CacheReader::open(&vault.folder().cache(), &scope)
    });
    let Opened::Files(files) = opened else {
        return Ok(Preview { is_known: cache.is_there(), ..Preview::default() });
    };
    let preview = Preview { is_known: cache.is_there(), ..Preview::default() };
    let mut looking = Looking { files: &files, cache, preview, tell };
    for event in files.capture()?.walk() {
        looking.step(event);
    }
    Ok(looking.finish())
}

struct Looking<'a, F> {
    files: &'a FilesSource,
    cache: CacheReader,
    preview: Preview,
    tell: &'a mut F,
}

impl<F: FnMut(Told)> Looking<'_, F> {
    fn step(&mut self, event: Event) {
        match event {
            Event::Enter { entry, listing, .. } => {
                self.leave_out(&listing);
                self.folder(&folder_key(entry.as_ref().map(|(_, found)| &**found)), &listing);
            }
            Event::Unreadable { unreadable, .. } => {
                let path = path_of(self.files, unreadable.root, &unreadable.path);
                self.preview.flaws.push(Flaw { path, why: unreadable.reason.to_string() });
            }
            Event::Entry { .. } | Event::Leave => {}
        }
    }

    fn leave_out(&mut self, listing: &Listing) {
        self.preview.left_out.count(&listing.left_out);
        self.preview.ignore_problems.extend(listing.ignore_problems.iter().cloned());
        for left in &listing.left_out {
            (self.tell)(Told::LeftOut(path_of(self.files, left.root, &left.path), left.reason));
        }
    }

    fn folder(&mut self, key: &FolderKey, listing: &Listing) {
        let mut passed = Vec::new();
        let cached = self.cache.pass(key, &mut |key, files| passed.push((key, files)));
        for (key, files) in &passed {
            self.gone(key, files);
        }
        let mut known: HashMap<&[u8], &CachedFile> = cached.iter().map(|file| (&file.name[..], file)).collect();
        for (_, found) in regular_files(listing) {
            self.preview.all.add(found.size);
            match known.remove(&found.name[..]) {
                Some(cached) if is_unchanged(found, cached) => {}
                Some(_) => self.differs(Change::Changed, path_of(self.files, found.root, &found.path), found.size),
                None => self.differs(Change::New, path_of(self.files, found.root, &found.path), found.size),
            }
        }
        for file in cached.iter().filter(|file| known.contains_key(&file.name[..])) {
            self.gone(key, std::slice::from_ref(file));
        }
    }

    fn gone(&mut self, key: &FolderKey, files: &[CachedFile]) {
        for file in files {
            let path = match key.root.checked_sub(1) {
                None => decode_root_name(&file.name).unwrap_or_else(|_| file.name.clone()),
                Some(root) => {
                    let root = usize::try_from(root).unwrap_or(usize::MAX);
                    path_of(self.files, root, &join(&key.path, &file.name))
                }
            };
            self.differs(Change::Gone, path, file.identity.size);
        }
    }

    fn differs(&mut self, change: Change, path: Vec<u8>, bytes: u64) {
        match change {
            Change::New => self.preview.new.add(bytes),
            Change::Changed => self.preview.changed.add(bytes),
            Change::Gone => self.preview.gone.add(bytes),
        }
        (self.tell)(Told::Changed(Changed { change, path, bytes }));
    }

    fn finish(mut self) -> Preview {
        let mut passed = Vec::new();
        self.cache.pass_rest(&mut |key, files| passed.push((key, files)));
        for (key, files) in &passed {
            self.gone(key, files);
        }
        self.preview
    }
}

/// As far as can be told without reading. One that was recorded too soon after its last change is read again by a backup; here
/// its length and the time that programs see decide.
fn is_unchanged(found: &Found, cached: &CachedFile) -> bool {
    let mut now = found.identity;
    if cached.identity.ctime.seconds == FRESH {
        now.ctime = cached.identity.ctime;
    }
    now == cached.identity
}

fn path_of(files: &FilesSource, root: usize, below: &[u8]) -> Vec<u8> {
    let root = files.roots().get(root).map(|root| root.path.as_os_str().as_bytes()).unwrap_or_default();
    join(root, below)
}

fn join(folder: &[u8], below: &[u8]) -> Vec<u8> {
    match (folder, below) {
        (folder, []) => folder.to_vec(),
        ([], below) => below.to_vec(),
        (folder, below) => [folder.strip_suffix(b"/").unwrap_or(folder), b"/", below].concat(),
    }
}
