//! What lies below a folder of a `file:` site, some of it at a time.
//!
//! - **Owns** the order and the bounds of reading folders of this host.
//! - **Does not** know which names are those of objects.
//!
//! Each step is one turn of a thread that may block. A call for each entry would cost more than all else that a command does: a vault of many
//! snapshots has a thousand blocks in a folder.

use std::fs::ReadDir;
use std::io;
use std::path::{Path, PathBuf};

/// A file that was met.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// Its path below the site's folder; none if it is no text.
    pub(super) path: Option<String>,
    /// Its length; none for what is no regular file.
    pub(super) length: Option<u64>,
}

/// A walk that goes on where it was left.
#[derive(Debug)]
pub(super) struct FolderWalk {
    root: PathBuf,
    /// The folders on the way, the deepest one last.
    open: Vec<ReadDir>,
}

impl FolderWalk {
    /// Begins below `path`, which ends in a slash. A folder that is not there is as an empty one.
    pub(super) fn begin(root: &Path, path: &str) -> io::Result<Self> {
        let mut walk = Self { root: root.to_owned(), open: Vec::new() };
        walk.enter(&root.join(path))?;
        Ok(walk)
    }

    /// The next files, at most so many; none at the end. What is removed meanwhile is passed by.
    pub(super) fn step(&mut self, most: usize) -> io::Result<Vec<Met>> {
        let mut found = Vec::new();
        while let Some(folder) = self.open.last_mut().filter(|_| found.len() < most) {
            let Some(entry) = folder.next().transpose()? else {
                self.open.pop();
                continue;
            };
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                self.enter(&entry.path())?;
                continue;
            }
            let below = entry.path().strip_prefix(&self.root).map(Path::to_owned).unwrap_or_default();
            found.push(Met {
                path: below.into_os_string().into_string().ok(),
                length: metadata.is_file().then_some(metadata.len()),
            });
        }
        Ok(found)
    }

    /// The names of the folders in `path`, none of what else is there.
    pub(super) fn folders(root: &Path, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let walk = Self::begin(root, path)?;
        for entry in walk.open.into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        match std::fs::read_dir(folder) {
            // A file in its place holds nothing either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            entries => {
                self.open.push(entries?);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn all_files_are_met_step_by_step_and_strangers_are_told() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/1", "a/b/2", "a/b/c/3", "other/4"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "five!").unwrap();
        }
        std::os::unix::fs::symlink("1", root.path().join("a/link")).unwrap();
        let mut walk = FolderWalk::begin(root.path(), "a/").unwrap();
        let mut met = Vec::new();
        loop {
            let step = walk.step(2).unwrap();
            assert!(step.len() <= 2);
            if step.is_empty() {
                break;
            }
            met.extend(step.into_iter().map(|met| (met.path.unwrap(), met.length)));
        }
        met.sort();
        let file = |path: &str| (path.to_owned(), Some(5));
        assert_eq!(met, [file("a/1"), file("a/b/2"), file("a/b/c/3"), ("a/link".to_owned(), None)]);
        assert_eq!(FolderWalk::folders(root.path(), "a/").unwrap(), ["b"]);
        assert_eq!(FolderWalk::begin(root.path(), "missing/").unwrap().step(2).unwrap(), []);
        assert!(FolderWalk::folders(root.path(), "missing/").unwrap().is_empty());
        assert!(FolderWalk::folders(root.path(), "a/1/").unwrap().is_empty());
    }
}
