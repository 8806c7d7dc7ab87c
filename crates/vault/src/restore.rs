//! Restoring: from a snapshot to a folder, bit for bit.
//!
//! - **Owns** what goes where, what is left alone, and the comparison of every file with its hash.
//! - **Does not** touch the file system itself: `blockhouse-sources` does, below the target only.
//!
//! # Invariants
//! - **R1** A file gets its name only after its bytes were checked against the hash in the snapshot.
//! - **R2** Names of one file in the snapshot become names of one file, whatever stood in the target and stays there. No name is
//!   linked to a file with other content.

mod include;
mod links;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::{
    Overwrite, Ownership, PathError, RestoreError, RestorePath, RestoreTarget, decode_root_name,
};

use self::include::Include;
use self::writer::Writer;
use crate::progress::Progress;
use crate::reader::{self, OpenSnapshotError, OpenedSnapshot, ReadTreeError};
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
    /// Files written, each of several names of one file counted.
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
    let include = Include::parse(&request.include)?;
    let opened = reader::open(vault, unlocked, known.record).await?;
    // What is left out is taken off again when the restore comes by it.
    progress.set_total(opened.manifest.facts.bytes().unwrap_or_default());
    let (request, progress) = (request.clone(), Arc::clone(progress));
    let work = move || {
        let is_new = !request.to.exists();
        let written = write(opened, &request, include, &progress);
        if is_new && written.is_err() {
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
    let mut chunks = opened.chunks;
    let roots = reader::list(&mut chunks, b"", &opened.manifest.root)?;
    let target = RestoreTarget::open(&request.to, request.ownership)?;
    let mut writer = Writer::new(target, request.overwrite, include, progress);
    for (root, name) in roots.iter().zip(root_paths(&roots)) {
        writer.root(&mut chunks, root, name)?;
    }
    let mut report = writer.finish()?;
    report.damage = chunks.take_damage();
    Ok(report)
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
