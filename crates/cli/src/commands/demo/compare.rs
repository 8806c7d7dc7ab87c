//! Whether two trees are the same: names, kinds, bytes, link targets, modes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};

/// What was found to be the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Regular files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Compares two trees; the first difference is an error.
pub(super) fn compare(original: &Path, copy: &Path) -> anyhow::Result<Compared> {
    let mut compared = Compared::default();
    let mut waiting = vec![(original.to_owned(), copy.to_owned())];
    while let Some((original, copy)) = waiting.pop() {
        let (one, other) = (look(&original)?, look(&copy)?);
        let is_same_kind = one.file_type() == other.file_type();
        ensure!(is_same_kind, "{} is of another kind than {}", copy.display(), original.display());
        if one.is_symlink() {
            let (one, other) = (fs::read_link(&original)?, fs::read_link(&copy)?);
            ensure!(one == other, "{} points elsewhere than {}", copy.display(), original.display());
            continue;
        }
        let is_same_mode = one.permissions().mode() == other.permissions().mode();
        ensure!(is_same_mode, "{} has another mode than {}", copy.display(), original.display());
        if one.is_dir() {
            let (one, other) = (names(&original)?, names(&copy)?);
            ensure!(one == other, "{} holds other names than {}", copy.display(), original.display());
            waiting.extend(one.into_iter().map(|name| (original.join(&name), copy.join(&name))));
        } else if one.is_file() {
            ensure!(same_bytes(&original, &copy)?, "{} differs from {}", copy.display(), original.display());
            compared.files += 1;
            compared.bytes += one.len();
        }
    }
    Ok(compared)
}

fn look(path: &Path) -> anyhow::Result<Metadata> {
    fs::symlink_metadata(path).with_context(|| format!("could not look at {}", path.display()))
}

/// The names in a folder. A socket is recorded and restored as nothing.
fn names(folder: &Path) -> anyhow::Result<BTreeSet<OsString>> {
    use std::os::unix::fs::FileTypeExt;
    let failed = || format!("could not list {}", folder.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if !entry.file_type().with_context(failed)?.is_socket() {
            names.insert(entry.file_name());
        }
    }
    Ok(names)
}

fn same_bytes(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let open = |path: &Path| File::open(path).with_context(|| format!("could not read {}", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(1 << 20).read_to_end(&mut left)?;
        other.by_ref().take(1 << 20).read_to_end(&mut right)?;
        match left == right {
            false => return Ok(false),
            true if left.is_empty() => return Ok(true),
            true => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        for tree in [&a, &b] {
            fs::create_dir_all(tree.join("d")).unwrap();
            fs::write(tree.join("d/f"), [7; 3]).unwrap();
            std::os::unix::fs::symlink("d/f", tree.join("l")).unwrap();
        }
        assert_eq!(compare(&a, &b).unwrap(), Compared { files: 1, bytes: 3 });
        fs::write(b.join("d/f"), [7, 7, 8]).unwrap();
        assert!(compare(&a, &b).is_err());
        fs::write(b.join("d/f"), [7; 4]).unwrap();
        assert!(compare(&a, &b).is_err());
        fs::write(b.join("d/f"), [7; 3]).unwrap();
        fs::write(b.join("more"), []).unwrap();
        assert!(compare(&a, &b).is_err());
        fs::remove_file(b.join("more")).unwrap();
        fs::remove_file(b.join("l")).unwrap();
        std::os::unix::fs::symlink("d", b.join("l")).unwrap();
        assert!(compare(&a, &b).is_err());
    }
}
