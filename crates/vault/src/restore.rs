//! Restoring: from a snapshot to a folder, bit for bit.
//!
//! - **Owns** what goes where, what is left alone, what goes away, and the comparison of every file with its hash.
//! - **Does not** touch the file system itself: `blockhouse-sources` does, below the target only.
//!
//! # Invariants
//! - **R1** A file gets its name only after its bytes were checked against the hash in the snapshot.
//! - **R2** Names of one file in the snapshot become names of one file, whatever stood in the target and stays there. No name is
//!   linked to a file with other content.
//! - **R3** Whenever it ends, by a kill too, the same command goes on: what is right stays and is not fetched again.
//! - **R4** Memory is bounded by [`RestoreRequest::memory`] and what the process takes anyway, whatever the snapshot holds, but for
//!   files with several names: of each that was met one name is remembered to the end; where the names of several folders are
//!   stripped, for these folders and a hash of each name in them; and where data shards are missing, for what the page says of them.
//! - **R5** Deleting leaves what the patterns of the restore leave out, and what the backup left out as far as that can be known
//!   ([`Spared`]); and it is counted.
//!
//! Page: `docs/design/restoring.md`.

mod fetch;
mod guard;
mod include;
mod job;
mod links;
mod plan;
mod start;
mod unfinished;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{
    ExcludeError, LiveSource, MetadataRules, Overwrite, PathError, RestoreError, RestorePath, RestoreTarget, Spared,
    decode_root_name,
};
use blockhouse_types::SnapshotId;
use blockhouse_types::limits::MIB;

use self::fetch::Fetcher;
pub use self::guard::Guarded;
use self::include::Include;
pub use self::include::Selection;
pub use self::unfinished::{Portion, Standing, standing};
use self::writer::Writer;
use crate::progress::Progress;
use crate::reader::{self, OpenSnapshotError, OpenedSnapshot, ReadTreeError};
use crate::select::Known;
use crate::stripes::Damage;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// The bytes that a restore holds of packs and plans unless told otherwise: enough to read ahead over a line of 20 ms beside what listings
/// take, little enough that the whole process stays below 128 MiB.
pub const MEMORY_DEFAULT: usize = 32 * MIB;
/// With less, reading and writing would take turns.
pub const MEMORY_MIN: usize = 20 * MIB;
/// This part of the memory is for the plan, the rest for what is on its way.
const PLAN_PART: usize = 5;

/// Takes in what a restore does, or would do, as it comes by it.
pub type OnChange = Arc<dyn Fn(&Change) + Send + Sync>;

/// What to restore, and how.
#[derive(Clone)]
pub struct RestoreRequest {
    /// Where to.
    pub to: PathBuf,
    /// Only what stands at this path of the snapshot, as [`full_path`](crate::receipt::full_path) takes it: what is in a folder goes
    /// into the target, everything else under its own name.
    pub path: Option<Vec<u8>>,
    /// So many names are left out at the beginning of each path; what has no more names is left out itself.
    pub strip_components: usize,
    /// Which part of that.
    pub selection: Selection,
    /// What happens to what exists.
    pub overwrite: Overwrite,
    /// Removes from folders that are restored what the snapshot has not.
    pub delete: bool,
    /// What must not lie in the target if anything is deleted: other than vault and sites, which never may.
    pub guarded: Vec<PathBuf>,
    /// What of the metadata is restored.
    pub metadata: MetadataRules,
    /// Tells what would be done, and does nothing.
    pub dry_run: bool,
    /// Writes over the files of a running node or database.
    pub allow_live: bool,
    /// Bytes of packs and plans that are held.
    pub memory: usize,
    /// Is told every change.
    pub on_change: Option<OnChange>,
}

impl RestoreRequest {
    /// Restores everything into a folder with nothing in it.
    pub fn new(to: PathBuf) -> Self {
        Self {
            to,
            path: None,
            strip_components: 0,
            selection: Selection::default(),
            overwrite: Overwrite::Never,
            delete: false,
            guarded: Vec::new(),
            metadata: MetadataRules::default(),
            dry_run: false,
            allow_live: false,
            memory: MEMORY_DEFAULT,
            on_change: None,
        }
    }

    /// What of a snapshot this brings into the target.
    pub fn portion(&self, snapshot: SnapshotId) -> Portion {
        Portion { snapshot, path: self.path.clone(), strip_components: self.strip_components }
    }
}

impl std::fmt::Debug for RestoreRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { to, path, strip_components, selection, overwrite, delete, dry_run, .. } = self;
        f.debug_struct("RestoreRequest")
            .field("to", to)
            .field("path", path)
            .field("strip_components", strip_components)
            .field("selection", selection)
            .field("overwrite", overwrite)
            .field("delete", delete)
            .field("dry_run", dry_run)
            .finish_non_exhaustive()
    }
}

/// How the walk acts.
#[derive(Clone)]
struct Act {
    overwrite: Overwrite,
    deletes: bool,
    is_rehearsal: bool,
    /// Whether names may stand in the target that are neither replaced nor given their metadata.
    keeps: bool,
    plan_bytes: usize,
    on_change: Option<OnChange>,
}

/// What a restore does to one name of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// Where, below the target.
    pub path: Vec<u8>,
    /// Bytes of the file: written, or for [`ChangeKind::Deleted`] of all that goes.
    pub bytes: u64,
}

/// Kinds of changes. Metadata that is set anew is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Nothing was there.
    New,
    /// A file with other content, or a link or pipe, is written anew.
    Changed,
    /// Something of another kind gives way.
    Replaced,
    /// It is not in the snapshot, and goes.
    Deleted,
}

/// Changes, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that were not there.
    pub new: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Names whose content is another now.
    pub changed: u64,
    /// Their bytes.
    pub changed_bytes: u64,
    /// Names that went, each with all that was in it.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Files written, each of several names of one file counted.
    pub files: u64,
    /// Their bytes, holes too.
    pub bytes: u64,
    /// Entries that were there already.
    pub kept: u64,
    /// Names that are not in the snapshot and stay all the same, each with all that is in it, though what is not in it goes.
    pub spared: u64,
    /// Entries that are left out because their paths have no more names than are stripped; folders are not counted.
    pub stripped: u64,
    /// Files and folders that could not be read from the vault.
    pub unread: u64,
    /// What was done to names of the target, or would be.
    pub changes: Changes,
    /// Sealed bytes that were asked of the sites for files.
    pub fetched_bytes: u64,
    /// Bytes of files that were taken from what was there.
    pub reused_bytes: u64,
    /// Files that killed restores had left and nobody wants any more.
    pub cleared: u64,
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
    /// The patterns that the snapshot was made with.
    #[error("nothing is deleted: what the backup left out cannot be understood")]
    Spared(#[source] ExcludeError),
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
    Write(#[source] RestoreError),
    /// The target is full.
    #[error("the disk of the target is full{}", room(*missing, *free))]
    Full {
        missing: Option<u64>,
        free: Option<u64>,
        #[source]
        source: RestoreError,
    },
    /// The mark of an unfinished restore could not be written.
    #[error("could not mark the target `{}` as begun", path.display())]
    Mark {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A node or database runs in the target.
    #[error("the target holds files in use")]
    Live(#[source] LiveSource),
    /// Deleting there is never meant.
    #[error("nothing is deleted in `{}`: {what} `{}` is there", target.display(), path.display())]
    Guarded { target: PathBuf, what: Guarded, path: PathBuf },
    /// A name that cannot be one.
    #[error("the snapshot holds a name that cannot be restored")]
    Path(#[from] PathError),
    /// A file is not what the snapshot says.
    #[error("file `{}` does not have the bytes that the snapshot says", path.escape_ascii())]
    OtherContent { path: Vec<u8> },
    /// The path that was asked for is not there.
    #[error("the snapshot has no entry `{}`", path.escape_ascii())]
    NoEntry { path: Vec<u8> },
    /// Two entries would have one name.
    #[error("`{one}` and `{other}` of the snapshot would both be `{to}` in the target")]
    Collision { to: RestorePath, one: RestorePath, other: RestorePath },
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

impl From<RestoreError> for RestoreSnapshotError {
    fn from(source: RestoreError) -> Self {
        // How much is missing is known where the restore ends.
        if source.is_full() { Self::Full { missing: None, free: None, source } } else { Self::Write(source) }
    }
}

/// What a full disk lacks, and has, as far as that is known.
fn room(missing: Option<u64>, free: Option<u64>) -> String {
    match (missing, free) {
        (Some(missing), Some(free)) => format!(": {missing} more bytes are to be written, and {free} are free"),
        (Some(missing), None) => format!(": {missing} more bytes are to be written"),
        (None, Some(free)) => format!(": {free} bytes are free"),
        (None, None) => String::new(),
    }
}

/// Restores a snapshot, or tells what that would do.
pub async fn restore(
    vault: &Vault,
    unlocked: &Unlocked,
    known: Known,
    request: &RestoreRequest,
    progress: &Arc<Progress>,
) -> Result<RestoreReport, RestoreSnapshotError> {
    let include = Include::parse(&request.selection)?;
    if request.delete {
        guard::against_deleting(vault, request)?;
    }
    let opened = reader::open(vault, unlocked, known.record).await?;
    let (request, progress) = (request.clone(), Arc::clone(progress));
    let work = move || {
        let is_new = !request.to.exists();
        let written = write(opened, &request, include, &progress);
        if is_new && !request.dry_run && written.is_err() {
            // A folder with nothing in it is no use to anyone. One that holds something stays, and with it what was restored.
            let _ = std::fs::remove_dir(&request.to);
        }
        written
    };
    tokio::task::spawn_blocking(work).await.map_err(RestoreSnapshotError::Stopped)?
}

fn write(
    opened: OpenedSnapshot,
    request: &RestoreRequest,
    include: Include,
    progress: &Progress,
) -> Result<RestoreReport, RestoreSnapshotError> {
    let (portion, mut chunks) = (request.portion(opened.record.id), opened.chunks);
    let mut starts = start::find(&mut chunks, &opened.manifest.root, request, &include)?;
    let is_part = request.path.is_some() || starts.lack_folders(&include);
    let bytes = if is_part { starts.bytes(&include) } else { opened.manifest.facts.bytes() };
    // What is left out of that is taken off again when the restore comes by it.
    progress.set_total(bytes.unwrap_or_default());
    // The sum of the starts is without them.
    if !is_part {
        progress.take_off(starts.stripped_bytes);
    }
    let include = Arc::new(include);
    let is_empty = standing(&request.to, &portion) == Standing::Empty;
    // Many starts may lead to one place.
    let places: BTreeSet<RestorePath> = starts.places(&include).into_iter().collect();
    let mut target = open_target(request, &portion, (&places, is_empty))?;
    if request.delete
        && let Some(target) = target.as_mut()
    {
        let patterns = opened.manifest.facts.excludes().unwrap_or_default();
        let (selection, left_out) = (Arc::clone(&include), starts.left_out(Arc::clone(&include)));
        // Without a pattern no path is asked about: each would be compared with all starts, and those may be very many.
        let is_named = move |path: &RestorePath| selection.leaves_anything_out() && left_out(path);
        let spared = Spared::try_new(patterns, is_named);
        target.spare(spared.map_err(RestoreSnapshotError::Spared)?);
    }
    let plan_bytes = request.memory.max(MEMORY_MIN) / PLAN_PART;
    let act = Act {
        overwrite: request.overwrite,
        deletes: request.delete,
        is_rehearsal: request.dry_run,
        keeps: !is_empty && matches!(request.overwrite, Overwrite::Never | Overwrite::Resume),
        plan_bytes,
        on_change: request.on_change.clone(),
    };
    let budget = request.memory.max(MEMORY_MIN) - plan_bytes - reader::READER_BYTES;
    let (store, runtime) = (Arc::clone(chunks.store()), chunks.runtime().clone());
    let fetcher = Fetcher::new(store, chunks.id_subkey().clone(), runtime, budget);
    let mut writer = Writer::new(target, act, include, fetcher, progress);
    let mut walk = || {
        for (path, error) in &starts.lost {
            writer.lose_start(path, error);
        }
        let all = std::mem::take(&mut starts.all);
        writer.look_at_shared(&mut chunks, &all)?;
        for start in all {
            writer.start(&mut chunks, start)?;
        }
        writer.finish(&mut chunks)
    };
    let mut report = match walk() {
        Ok(report) => report,
        Err(error) => {
            let free = writer.abandon();
            return Err(match error {
                RestoreSnapshotError::Full { source, .. } => {
                    let missing = progress.total().map(|total| total.saturating_sub(progress.bytes()));
                    RestoreSnapshotError::Full { missing, free, source }
                }
                error => error,
            });
        }
    };
    report.stripped = starts.stripped;
    report.damage = chunks.take_damage();
    Ok(report)
}

/// Opens and locks the target, after everything that would refuse it. None in a rehearsal for a target that is not there.
fn open_target(
    request: &RestoreRequest,
    portion: &Portion,
    (places, is_empty): (&BTreeSet<RestorePath>, bool),
) -> Result<Option<RestoreTarget>, RestoreSnapshotError> {
    if !request.allow_live && !is_empty {
        guard::against_live(&request.to, places)?;
    }
    if request.dry_run {
        return Ok(RestoreTarget::find(&request.to, request.metadata.clone())?);
    }
    let mut target = RestoreTarget::open(&request.to, request.metadata.clone())?;
    target.lock()?;
    if is_empty {
        let path = target.path().to_owned();
        unfinished::begin(&path, portion).map_err(|source| RestoreSnapshotError::Mark { path, source })?;
    }
    Ok(Some(target))
}

/// Where a root stood when it was backed up, or its name where that tells no path.
fn origin(root: &Entry) -> Vec<u8> {
    decode_root_name(&root.name).unwrap_or_else(|_| root.name.clone())
}

/// Where each root goes: the contents of an only folder into the target itself, several roots each under its own name.
pub fn root_paths(roots: &[Entry]) -> Vec<RestorePath> {
    if let [Entry { body: Body::Directory(_), .. }] = roots {
        return vec![RestorePath::target()];
    }
    let last = |root: &Entry| origin(root).rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let short: Vec<Vec<u8>> = roots.iter().map(last).collect();
    let is_clear = |name: &Vec<u8>| !name.is_empty() && short.iter().filter(|other| *other == name).count() == 1;
    let path = |(root, name): (&Entry, &Vec<u8>)| {
        // Two roots with one last name keep the encoded form of their whole paths.
        let name = if is_clear(name) { name } else { &root.name };
        RestorePath::parse(name).unwrap_or_else(|_| RestorePath::target())
    };
    roots.iter().zip(&short).map(path).collect()
}
