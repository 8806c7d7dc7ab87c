//! Restoring: from a snapshot to a folder, bit for bit.
//!
//! - **Owns** what goes where, what is left alone, and the comparison of every file with its hash.
//! - **Does not** touch the file system itself: `blockhouse-sources` does, below the target only.
//!
//! # Invariants
//! - **R1** A file gets its name only after its bytes were checked against the hash in the snapshot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Device, Entry};
use blockhouse_sources::files::{
    Conflict, Decision, DeviceNumber, NotRestored, Overwrite, Ownership, PathError, Placing, RestoreError, RestorePath,
    RestoreTarget, Special, Wanted, decide, decode_root_name,
};
use blockhouse_types::{EntryKind, Link, Metadata};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::progress::Progress;
use crate::reader::{self, ChunkReader, OpenSnapshotError, ReadTreeError};
use crate::select::Known;
use crate::stripes::Damage;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What to restore, and how.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Where to.
    pub to: PathBuf,
    /// Only what matches one of these; everything if there are none.
    pub include: Vec<String>,
    /// What happens to what exists.
    pub overwrite: Overwrite,
    /// Whose entries become.
    pub ownership: Ownership,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Their bytes, holes too.
    pub bytes: u64,
    /// Entries that were there already.
    pub kept: u64,
    /// Files that could not be read from the vault.
    pub unread: u64,
    /// Entries or aspects that are not as in the snapshot.
    pub flaws: Vec<RestoreFlaw>,
    /// Shards that were not what they should be; other shards made up for them.
    pub damage: Vec<Damage>,
}

/// Something that is not as in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFlaw {
    /// Where, below the target.
    pub path: Vec<u8>,
    /// What is wrong.
    pub why: String,
}

/// Why a restore ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreSnapshotError {
    /// The snapshot.
    #[error(transparent)]
    Open(#[from] OpenSnapshotError),
    /// A glob.
    #[error("`{glob}` is no pattern")]
    Glob {
        glob: String,
        #[source]
        source: globset::Error,
    },
    /// The tree or a file.
    #[error("the snapshot could not be read")]
    Read(#[from] ReadTreeError),
    /// The target.
    #[error("the target could not be written")]
    Write(#[from] RestoreError),
    /// A name that cannot be one.
    #[error("the snapshot holds a name that cannot be restored")]
    Path(#[from] PathError),
    /// A file is not what the snapshot says.
    #[error("file `{}` does not have the bytes that the snapshot says", path.escape_ascii())]
    OtherContent { path: Vec<u8> },
    /// Nothing matched.
    #[error("nothing in the snapshot matches")]
    NothingMatches,
    /// The user asked to stop.
    #[error("the restore was interrupted")]
    Interrupted,
    /// A task ended early.
    #[error("a task of the restore was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// Restores a snapshot.
pub async fn restore(
    vault: &Vault,
    unlocked: &Unlocked,
    known: Known,
    request: &RestoreRequest,
    progress: &Arc<Progress>,
) -> Result<RestoreReport, RestoreSnapshotError> {
    let include = globs(&request.include)?;
    let opened = reader::open(vault, unlocked, known.record).await?;
    let (request, progress) = (request.clone(), Arc::clone(progress));
    let work = move || {
        let target = RestoreTarget::open(&request.to, request.ownership)?;
        let mut chunks = opened.chunks;
        let roots = reader::list(&mut chunks, b"", &opened.manifest.root)?;
        let names = root_paths(&roots);
        let mut writer = Writer {
            target,
            overwrite: request.overwrite,
            include,
            links: HashMap::new(),
            matched: false,
            report: RestoreReport::default(),
            progress: &progress,
        };
        for (root, name) in roots.iter().zip(names) {
            writer.root(&mut chunks, root, name)?;
        }
        writer.target.sync()?;
        if !writer.matched {
            return Err(RestoreSnapshotError::NothingMatches);
        }
        writer.report.damage = chunks.take_damage();
        Ok(writer.report)
    };
    tokio::task::spawn_blocking(work).await.map_err(RestoreSnapshotError::Stopped)?
}

/// Where each root goes: the contents of an only folder into the target itself, several roots each under its own name.
pub fn root_paths(roots: &[Entry]) -> Vec<RestorePath> {
    if let [Entry { body: Body::Directory(_), .. }] = roots {
        return vec![RestorePath::target()];
    }
    let full = |root: &Entry| decode_root_name(&root.name).unwrap_or_else(|_| root.name.clone());
    let short: Vec<Vec<u8>> =
        roots.iter().map(|root| full(root).rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()).collect();
    let is_clear = |name: &Vec<u8>| !name.is_empty() && short.iter().filter(|other| *other == name).count() == 1;
    let path = |(root, name): (&Entry, &Vec<u8>)| {
        // Two roots with one last name keep the encoded form of their whole paths.
        let name = if is_clear(name) { name } else { &root.name };
        RestorePath::parse(name).unwrap_or_else(|_| RestorePath::target())
    };
    roots.iter().zip(&short).map(path).collect()
}

/// Patterns match a path from the root of the snapshot's tree as it is restored, or any name if they have no slash.
fn globs(patterns: &[String]) -> Result<Option<GlobSet>, RestoreSnapshotError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let failed = |source| RestoreSnapshotError::Glob { glob: pattern.clone(), source };
        let trimmed = pattern.trim_start_matches('/');
        let deep = if pattern.contains('/') { trimmed.to_owned() } else { format!("**/{trimmed}") };
        set.add(GlobBuilder::new(&deep).literal_separator(true).build().map_err(failed)?);
    }
    set.build().map(Some).map_err(|source| RestoreSnapshotError::Glob { glob: patterns.join(" "), source })
}

/// Writes one snapshot into a target.
struct Writer<'a> {
    target: RestoreTarget,
    overwrite: Overwrite,
    include: Option<GlobSet>,
    /// The first name of each file with several.
    links: HashMap<Link, RestorePath>,
    matched: bool,
    report: RestoreReport,
    progress: &'a Progress,
}

/// A folder that was entered.
struct Open {
    path: RestorePath,
    metadata: Metadata,
    /// Whether everything in it is wanted.
    included: bool,
    /// Whether it was made or may get its metadata.
    is_made: bool,
    entries: std::vec::IntoIter<Entry>,
}

impl Writer<'_> {
    fn root(&mut self, chunks: &mut ChunkReader, root: &Entry, path: RestorePath) -> Result<(), RestoreSnapshotError> {
        let included = self.is_included(&path, false);
        let mut stack = Vec::new();
        match &root.body {
            Body::Directory(listing) => stack.push(self.enter(chunks, path, (root, listing), included)?),
            _ => self.entry(chunks, &path, root, included)?,
        }
        while let Some(open) = stack.last_mut() {
            if self.progress.is_interrupted() {
                return Err(RestoreSnapshotError::Interrupted);
            }
            let Some(entry) = open.entries.next() else {
                if let Some(done) = stack.pop() {
                    self.leave(&done)?;
                }
                continue;
            };
            let path = open.path.join(&entry.name)?;
            let included = self.is_included(&path, open.included);
            match &entry.body {
                Body::Directory(listing) => {
                    let below = self.enter(chunks, path, (&entry, listing), included)?;
                    stack.push(below);
                }
                _ => self.entry(chunks, &path, &entry, included)?,
            }
        }
        Ok(())
    }

    fn is_included(&self, path: &RestorePath, parent: bool) -> bool {
        let matches = |set: &GlobSet| set.is_match(Path::new(&*String::from_utf8_lossy(path.as_bytes())));
        parent || self.include.as_ref().is_none_or(matches)
    }

    /// Makes a folder and reads its listing.
    fn enter(
        &mut self,
        chunks: &mut ChunkReader,
        path: RestorePath,
        (entry, listing): (&Entry, &Content),
        included: bool,
    ) -> Result<Open, RestoreSnapshotError> {
        let entries = reader::list(chunks, path.as_bytes(), listing)?;
        let mut open =
            Open { path, metadata: entry.metadata.clone(), included, is_made: false, entries: entries.into_iter() };
        if included {
            self.matched = true;
            open.is_made = self.make_folder(&open.path, entry)?;
            if !open.is_made {
                open.entries = Vec::new().into_iter();
            }
        }
        Ok(open)
    }

    /// True if the folder is there and may get its metadata.
    fn make_folder(&mut self, path: &RestorePath, entry: &Entry) -> Result<bool, RestoreSnapshotError> {
        let decision = self.decide(path, entry, 0)?;
        match decision {
            Decision::Refuse(conflict) => {
                self.refuse(path, conflict);
                return Ok(false);
            }
            Decision::Replace => self.make_all(path, Placing::Replace)?,
            Decision::Create | Decision::SetMetadata | Decision::Keep => self.make_all(path, Placing::New)?,
        }
        Ok(true)
    }

    /// Makes a folder and those above it.
    fn make_all(&mut self, path: &RestorePath, placing: Placing) -> Result<(), RestoreSnapshotError> {
        let mut above = RestorePath::target();
        let names: Vec<Vec<u8>> = path.names().map(<[u8]>::to_vec).collect();
        for (place, name) in names.iter().enumerate() {
            above = above.join(name)?;
            let placing = if place + 1 == names.len() { placing } else { Placing::New };
            self.target.create_dir(&above, placing)?;
        }
        Ok(())
    }

    /// Gives a folder its metadata, once everything in it is done.
    fn leave(&mut self, open: &Open) -> Result<(), RestoreSnapshotError> {
        if open.included && open.is_made {
            let missing = self.target.set_metadata(&open.path, EntryKind::Directory, &open.metadata)?;
            self.note(missing);
        }
        Ok(())
    }

    /// Restores something that is no folder.
    fn entry(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        entry: &Entry,
        included: bool,
    ) -> Result<(), RestoreSnapshotError> {
        if !included {
            return Ok(());
        }
        self.matched = true;
        let size = match &entry.body {
            Body::File { content, .. } => content.length(),
            Body::Unreadable { reason, .. } => {
                self.flaw(path, format!("it could not be read when it was backed up: {reason}"));
                return Ok(());
            }
            Body::Socket => return Ok(()),
            _ => 0,
        };
        let parent = path.names().collect::<Vec<_>>();
        if let Some((_, folders)) = parent.split_last()
            && self.include.is_some()
        {
            let folder = RestorePath::parse(&folders.join(&b'/'))?;
            self.make_all(&folder, Placing::New)?;
        }
        let placing = match self.decide(path, entry, size)? {
            Decision::Create => Placing::New,
            Decision::Replace => Placing::Replace,
            Decision::SetMetadata => {
                self.report.kept += 1;
                let missing = self.target.set_metadata(path, entry.body.kind(), &entry.metadata)?;
                self.note(missing);
                return Ok(());
            }
            Decision::Keep => {
                self.report.kept += 1;
                return Ok(());
            }
            Decision::Refuse(conflict) => {
                self.refuse(path, conflict);
                return Ok(());
            }
        };
        if self.link(path, entry, placing)? {
            return Ok(());
        }
        match &entry.body {
            Body::File { content, hash } => {
                match self.file(chunks, path, &entry.metadata, (content, hash, placing)) {
                    // One file that cannot be read is no reason to give up the others.
                    Err(error @ (RestoreSnapshotError::Read(_) | RestoreSnapshotError::OtherContent { .. })) => {
                        self.report.unread += 1;
                        self.flaw(path, crate::chain::chain(&error));
                        return Ok(());
                    }
                    done => done?,
                }
            }
            body => self.special(path, entry, body, placing),
        }
        if let Some(link) = entry.metadata.link {
            self.links.entry(link).or_insert_with(|| path.clone());
        }
        Ok(())
    }

    /// Gives a file that was restored before its next name.
    fn link(&mut self, path: &RestorePath, entry: &Entry, placing: Placing) -> Result<bool, RestoreSnapshotError> {
        let Some(original) = entry.metadata.link.and_then(|link| self.links.get(&link)).cloned() else {
            return Ok(false);
        };
        self.target.hard_link(&original, path, placing)?;
        self.report.files += u64::from(entry.body.kind() == EntryKind::File);
        Ok(true)
    }

    fn file(
        &mut self,
        chunks: &mut ChunkReader,
        path: &RestorePath,
        metadata: &Metadata,
        (content, hash, placing): (&Content, &[u8; 32], Placing),
    ) -> Result<(), RestoreSnapshotError> {
        let writer = self.target.begin_file(path, content.length(), placing)?;
        let (mut hasher, mut offset) = (ContentHasher::new(), 0_u64);
        let progress = self.progress;
        reader::pieces(chunks, content, |piece| -> Result<(), RestoreSnapshotError> {
            match piece {
                reader::Piece::Bytes(bytes) => {
                    hasher.update(bytes);
                    writer.write_at(offset, bytes)?;
                    offset += bytes.len() as u64;
                    progress.add_bytes(bytes.len() as u64);
                }
                reader::Piece::Hole(length) => {
                    hasher.update_zeros(length);
                    offset += length;
                }
            }
            Ok(())
        })?;
        if hasher.finish() != *hash {
            return Err(RestoreSnapshotError::OtherContent { path: path.as_bytes().to_vec() });
        }
        let missing = writer.finish(metadata)?;
        self.note(missing);
        self.report.files += 1;
        self.report.bytes += content.length();
        self.progress.add_file(0);
        Ok(())
    }

    /// Links, pipes and devices: what this user may not make is a flaw, not an end.
    fn special(&mut self, path: &RestorePath, entry: &Entry, body: &Body, placing: Placing) {
        let number = |device: &Device| DeviceNumber {
            major: u32::try_from(device.major).unwrap_or(u32::MAX),
            minor: u32::try_from(device.minor).unwrap_or(u32::MAX),
        };
        let special = match body {
            Body::Symlink { target } => Special::Symlink(target),
            Body::Fifo => Special::Fifo,
            Body::CharDevice(device) => Special::CharDevice(number(device)),
            Body::BlockDevice(device) => Special::BlockDevice(number(device)),
            Body::Directory(_) | Body::File { .. } | Body::Socket | Body::Unreadable { .. } => return,
        };
        match self.target.create_special(path, special, &entry.metadata, placing) {
            Ok(missing) => self.note(missing),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.flaw(path, format!("{error}{cause}"));
            }
        }
    }

    fn decide(&mut self, path: &RestorePath, entry: &Entry, size: u64) -> Result<Decision, RestoreSnapshotError> {
        let wanted = Wanted { kind: entry.body.kind(), size, mtime: entry.metadata.mtime };
        let existing = self.target.existing(path)?;
        let hash = match &entry.body {
            Body::File { hash, .. } => Some(*hash),
            _ => None,
        };
        let target = &mut self.target;
        let compare = hash.map(|hash| move || same_content(target, path, &hash));
        Ok(decide(self.overwrite, &wanted, existing.as_ref(), compare)?)
    }

    fn refuse(&mut self, path: &RestorePath, conflict: Conflict) {
        self.flaw(path, conflict.to_string());
    }

    fn flaw(&mut self, path: &RestorePath, why: String) {
        self.report.flaws.push(RestoreFlaw { path: path.as_bytes().to_vec(), why });
    }

    fn note(&mut self, missing: Vec<NotRestored>) {
        for one in missing {
            let cause = std::error::Error::source(&one).map(|cause| format!(": {cause}")).unwrap_or_default();
            self.report.flaws.push(RestoreFlaw { path: one.path.as_bytes().to_vec(), why: format!("{one}{cause}") });
        }
    }
}

fn same_content(target: &mut RestoreTarget, path: &RestorePath, hash: &[u8; 32]) -> Result<bool, RestoreError> {
    use std::io::Read;
    let mut file = target.read_existing(path)?;
    let (mut hasher, mut buffer) = (ContentHasher::new(), vec![0; 1 << 20]);
    loop {
        // A file that cannot be read is not the same.
        let Ok(length) = file.read(&mut buffer) else { return Ok(false) };
        if length == 0 {
            return Ok(hasher.finish() == *hash);
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}
