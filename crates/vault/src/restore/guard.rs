//! What a restore keeps away from: files in use, and deleting where that is never meant.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use blockhouse_sources::files::{RestorePath, refuse_live};

use super::{RestoreRequest, RestoreSnapshotError};
use crate::vault::Vault;

/// What lies in a target that nothing may be deleted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// The vault folder.
    Vault,
    /// A site.
    Site,
    /// What the caller guards: an identity, a home folder, the current folder.
    Other,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "the vault",
            Self::Site => "the site",
            Self::Other => "the home folder, the current folder or a key",
        })
    }
}

/// Refuses a target that holds what must not go: neither the whole, nor a part of it where the target lies in a vault or site.
pub(super) fn against_deleting(vault: &Vault, request: &RestoreRequest) -> Result<(), RestoreSnapshotError> {
    let target = real(&request.to);
    let refused = |what, path: &Path| {
        let (target, path) = (target.clone(), path.to_owned());
        Err(RestoreSnapshotError::Guarded { target, what, path })
    };
    let folder = real(vault.folder().root());
    if folder.starts_with(&target) || target.starts_with(&folder) {
        return refused(Guarded::Vault, &folder);
    }
    for member in vault.sites().members() {
        let url = member.spec().url.to_string();
        let Some(path) = url.strip_prefix("file:").map(|path| real(&decoded(path))) else { continue };
        if path.starts_with(&target) || target.starts_with(&path) {
            return refused(Guarded::Site, &path);
        }
    }
    match request.guarded.iter().map(|path| real(path)).find(|path| path.starts_with(&target)) {
        Some(path) => refused(Guarded::Other, &path),
        None => Ok(()),
    }
}

/// Refuses to write over the files of a running node or database, as far as they may be written over at all: `places` are the paths
/// below the target that hold all that is written.
pub(super) fn against_live(target: &Path, places: &BTreeSet<RestorePath>) -> Result<(), RestoreSnapshotError> {
    for place in places {
        let path = if place.is_target() { target.to_owned() } else { target.join(OsStr::from_bytes(place.as_bytes())) };
        refuse_live(&path).map_err(RestoreSnapshotError::Live)?;
    }
    Ok(())
}

/// The path of a URL of a folder.
fn decoded(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The path without links, of what is there of it.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_yet_is_real_as_far_as_it_is_there() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.path().join("link")).unwrap();
        let expected = base.path().canonicalize().unwrap().join("real/new/deep");
        assert_eq!(real(&base.path().join("link/new/deep")), expected);
        assert_eq!(decoded("/a%20b/%C3%A4%zz"), PathBuf::from("/a b/ä%zz"));
    }
}
