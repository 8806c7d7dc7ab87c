//! What a backup does on its host once the snapshot stands: from then on a failure is told and takes nothing back.
//!
//! - **Owns** what becomes of the old file cache, and the words for what failed.
//! - **Does not** decide when a snapshot stands: `commit` does.
//!
//! # Invariants
//! - **F2** When the backup is told, the cache of the run before is gone, whether or not a new one took its place; if it could not be
//!   removed, that is told.
//!
//! Format: `docs/design/host-files.md`, section *File cache*.

use std::io;
use std::path::{Path, PathBuf};

use blockhouse_sources::files::IgnoreProblem;
use blockhouse_types::SourceId;

use crate::cache::{self, CacheWriter};
use crate::folder::UpdateError;
use crate::ledger::LedgerError;

/// What failed on this host after the snapshot was recorded: it stands all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupWarning {
    /// The tags are on the ledger as commitments and in the manifest, not on this host.
    #[error(
        "the tags of the snapshot could not be noted in config.toml: without the identity it is not found by them, and --skip-if-unchanged does not know it"
    )]
    Tags(#[source] UpdateError),
    /// The ledger goes on saying that the source is overdue.
    #[error("the ledger could not be asked to end the alarm of the source; it ends it by itself at a later block")]
    Alarm(#[source] LedgerError),
    /// A line of an ignore file, or all of one, left nothing out.
    #[error("{}{}: {why}: it leaves nothing out", path.escape_ascii(), line_text(*line))]
    IgnoreFile { path: Vec<u8>, line: usize, why: String },
    /// There is no cache of the source now.
    #[error("the file cache in {} could not be written and is gone: the next backup reads all files of the source", folder.display())]
    Cache {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The cache of the run before may still be there.
    #[error(
        "the file cache {} could be neither replaced nor removed ({removal}): REMOVE IT BY HAND, for it holds keys of files that may be gone from this host",
        path.display()
    )]
    CacheStays {
        path: PathBuf,
        removal: io::Error,
        #[source]
        source: io::Error,
    },
}

impl BackupWarning {
    pub(super) fn of_ignore_file(problem: &IgnoreProblem) -> Self {
        Self::IgnoreFile { path: problem.path.clone(), line: problem.line, why: problem.why.clone() }
    }
}

fn line_text(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" line {line}") }
}

/// Puts the new cache in the place of the old one, or removes the old one.
pub(super) fn replace_cache(new: CacheWriter, folder: &Path, source_id: &SourceId) -> Option<BackupWarning> {
    let source = new.finish().err()?;
    Some(match cache::remove(folder, source_id) {
        Ok(()) => BackupWarning::Cache { folder: folder.to_owned(), source },
        Err(removal) => BackupWarning::CacheStays { path: cache::path_of(folder, source_id), removal, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Scope;
    use blockhouse_crypto::Secret;
    use blockhouse_pipeline::domain::{DomainKey, DomainKind};
    use blockhouse_types::SessionId;
    use std::fs;

    const SOURCE: SourceId = SourceId::new([1; 32]);

    fn scope() -> Scope {
        Scope::new(SOURCE, &DomainKey::new(DomainKind::Writer, &Secret::new([3; 32])))
    }

    /// A new cache that cannot take its place, as on a full disk: its file is not there to be renamed.
    fn failing(folder: &Path) -> CacheWriter {
        let session = SessionId::new([2; 32]);
        let writer = CacheWriter::create(folder, &scope(), &session).unwrap();
        fs::remove_file(folder.join(format!("{SOURCE}.{session}.new"))).unwrap();
        writer
    }

    /// What was seen: exit 1 without the id of a snapshot that stood, and the old keys still there.
    #[test]
    fn an_old_cache_goes_though_the_new_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = cache::path_of(folder.path(), &SOURCE);
        fs::write(&path, b"old keys").unwrap();
        let warned = replace_cache(failing(folder.path()), folder.path(), &SOURCE);
        assert!(matches!(warned, Some(BackupWarning::Cache { .. })), "{warned:?}");
        assert!(!path.exists());
        let warned = replace_cache(failing(folder.path()), folder.path(), &SOURCE);
        assert!(matches!(warned, Some(BackupWarning::Cache { .. })), "nothing to remove is no failure: {warned:?}");

        let writer = CacheWriter::create(folder.path(), &scope(), &SessionId::new([3; 32])).unwrap();
        assert!(replace_cache(writer, folder.path(), &SOURCE).is_none());
        assert!(path.exists());
    }

    #[test]
    fn a_cache_that_stays_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = cache::path_of(folder.path(), &SOURCE);
        fs::create_dir_all(path.join("in the way")).unwrap();
        let writer = CacheWriter::create(folder.path(), &scope(), &SessionId::new([2; 32])).unwrap();
        let warned = replace_cache(writer, folder.path(), &SOURCE).unwrap();
        assert!(matches!(warned, BackupWarning::CacheStays { .. }), "{warned:?}");
        assert!(warned.to_string().contains(path.to_str().unwrap()), "{warned}");
    }
}
