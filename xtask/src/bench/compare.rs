//! Whether a restored tree is the one that was backed up: kind, mode, time, link target and content of every entry.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::Serialize;

/// Everything a restore must bring back, by path.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Permissions of the entry; those of a symbolic link mean nothing on Linux.
    mode: u32,
    /// Nanoseconds since 1970 of a file; a folder's change as its entries are made.
    modified: Option<i128>,
    content: Content,
    /// Where data begins and ends in a file.
    data: Vec<(u64, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Folder,
    Link(PathBuf),
    File(blake3::Hash),
}

/// What is not the same in two trees.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Difference {
    /// Paths that are missing, additional, of another kind or with other bytes.
    pub(crate) content: Vec<String>,
    /// Paths with another mode or time.
    pub(crate) metadata: Vec<String>,
    /// Paths of equal files whose holes lie elsewhere.
    pub(crate) holes: Vec<String>,
}

impl Tree {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(folder, Path::new(""))?;
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, below: &Path) -> Result<()> {
        let folder = root.join(below);
        let entries = fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("could not list {}", folder.display()))?;
            let name = below.join(entry.file_name());
            let path = root.join(&name);
            let found = Entry::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            let is_folder = found.content == Content::Folder;
            self.0.insert(name.clone(), found);
            if is_folder {
                self.walk(root, &name)?;
            }
        }
        Ok(())
    }

    pub(crate) fn difference(&self, other: &Self) -> Difference {
        let mut difference = Difference::default();
        for (path, entry) in &self.0 {
            let name = || path.display().to_string();
            match other.0.get(path) {
                Some(found) if found == entry => {}
                Some(found) if found.content == entry.content && found.data != entry.data => {
                    difference.holes.push(name());
                }
                Some(found) if found.content == entry.content => difference.metadata.push(name()),
                _ => difference.content.push(name()),
            }
        }
        let additional = other.0.keys().filter(|path| !self.0.contains_key(*path));
        difference.content.extend(additional.map(|path| path.display().to_string()));
        difference
    }
}

impl Entry {
    fn read(path: &Path) -> std::io::Result<Self> {
        let facts = fs::symlink_metadata(path)?;
        let mode = facts.mode() & 0o7777;
        if facts.is_dir() {
            return Ok(Self { mode, modified: None, content: Content::Folder, data: Vec::new() });
        }
        if facts.is_symlink() {
            let content = Content::Link(fs::read_link(path)?);
            return Ok(Self { mode: 0, modified: None, content, data: Vec::new() });
        }
        let modified = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
        let file = fs::File::open(path)?;
        let data = data_of(&file)?;
        let hash = blake3::Hasher::new().update_reader(&file)?.finalize();
        Ok(Self { mode, modified: Some(modified), content: Content::File(hash), data })
    }
}

/// Where data begins and ends; leaves the file at its beginning.
fn data_of(file: &fs::File) -> std::io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begins) => {
                at = rustix::fs::seek(file, SeekFrom::Hole(begins))?;
                found.push((begins, at));
            }
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    Ok(found)
}

/// Bytes of all files below a folder, hard links counted once.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut waiting = vec![folder.to_owned()];
    let mut total = 0;
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("could not list {}", folder.display()))?.path();
            let facts = fs::symlink_metadata(&path).with_context(|| format!("could not read {}", path.display()))?;
            if facts.is_dir() {
                waiting.push(path);
            } else if facts.is_file() && seen.insert((facts.dev(), facts.ino())) {
                total += facts.len();
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::{Tree, bytes_below};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_kind_of_difference_is_found() {
        let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [left.path(), right.path()] {
            fs::create_dir(folder.join("sub")).unwrap();
            for name in ["same", "changed", "mode", "sub/gone"] {
                fs::write(folder.join(name), name).unwrap();
                let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
        }
        assert!(Tree::read(left.path()).unwrap().difference(&Tree::read(right.path()).unwrap()).content.is_empty());
        fs::write(right.path().join("changed"), "CHANGED").unwrap();
        fs::set_permissions(right.path().join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(right.path().join("sub/gone")).unwrap();
        fs::write(right.path().join("more"), "").unwrap();
        let difference = Tree::read(left.path()).unwrap().difference(&Tree::read(right.path()).unwrap());
        assert_eq!(difference.content, ["changed", "sub/gone", "more"]);
        assert_eq!(difference.metadata, ["mode"]);
    }

    #[test]
    fn hard_links_are_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0; 100]).unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_eq!(bytes_below(folder.path()).unwrap(), 100);
    }
}
