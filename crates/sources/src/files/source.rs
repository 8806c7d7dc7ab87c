//! A files source: some roots, what is left out of them, and captures of them.
//!
//! Consistency is the file system's: a capture reads what stands there now, and [`super::FileReader`] tells which files
//! changed meanwhile. What is known to be inconsistent while it runs, a node's or a database's files, is refused.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use blockhouse_types::{EntryKind, limits::NAME_MAX};
use rustix::io::Errno;

use super::{
    Accounts, ExcludeError, FileReader, Found, Reason, Unreadable, Walk,
    excludes::Excludes,
    found::{Listing, Place, describe},
    live::{self, Candidate, LiveSource},
    root_name::encode_root_name,
    trail::Open,
    walk::Folder,
};

/// How a source is captured.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is left out; the language is in `files/excludes.rs` and in `backup --help`.
    pub excludes: Vec<String>,
    /// Whether the files of running nodes and databases are read all the same.
    pub allow_live: bool,
}

/// One path that is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The canonical path.
    pub path: PathBuf,
    /// The name of its entry in the snapshot.
    pub name: Vec<u8>,
}

impl Root {
    /// The folder that holds this root, and its name there; the root folder of the system holds itself.
    pub(crate) fn locate(&self) -> Result<(Open, &[u8]), Errno> {
        match (self.path.parent(), self.path.file_name()) {
            (Some(parent), Some(name)) => Ok((Open::absolute(parent)?, name.as_bytes())),
            _ => Ok((Open::absolute(&self.path)?, b".")),
        }
    }
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenSourceError {
    #[error("no path to back up was given")]
    NoRoots,
    #[error("could not find `{}` to back it up", path.display())]
    Missing {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` was given twice", path.display())]
    Duplicate { path: PathBuf },
    #[error("`{}` lies in `{}`, which is backed up as well", inner.display(), outer.display())]
    Nested { outer: PathBuf, inner: PathBuf },
    #[error("the path `{}` is too long for the name of a root, which has at most {NAME_MAX} bytes", path.display())]
    NameTooLong { path: PathBuf },
    #[error("could not understand what to exclude")]
    Exclude(#[from] ExcludeError),
}

/// Folders and files that are backed up together.
#[derive(Debug)]
pub struct FilesSource {
    roots: Arc<[Root]>,
    excludes: Excludes,
    accounts: Accounts,
    allow_live: bool,
    /// What could be live, by the names that the first capture read.
    candidates: OnceLock<Vec<Candidate>>,
}

impl FilesSource {
    /// Resolves the roots and puts them in the order of their names.
    pub fn try_new(roots: &[PathBuf], options: &Options) -> Result<Self, OpenSourceError> {
        let mut roots = roots.iter().map(|path| canonical_root(path)).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() {
            return Err(OpenSourceError::NoRoots);
        }
        refuse_overlap(&mut roots)?;
        roots.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self {
            roots: roots.into(),
            excludes: Excludes::parse(&options.excludes)?,
            accounts: Accounts::of_this_host(),
            allow_live: options.allow_live,
            candidates: OnceLock::new(),
        })
    }

    /// The roots, in the order of their entries in the snapshot.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Begins a capture. Unless live data is allowed, the first one reads the names of all folders, to refuse before anything is stored;
    /// every one asks whether what they name is live now.
    pub fn capture(&self) -> Result<Capture<'_>, CaptureError> {
        let find = || if self.allow_live { Vec::new() } else { live::candidates(self) };
        let candidates = self.candidates.get_or_init(find);
        live::refuse(candidates)?;
        Ok(Capture { source: self, candidates })
    }

    pub(crate) fn excludes(&self) -> &Excludes {
        &self.excludes
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) fn shared_roots(&self) -> Arc<[Root]> {
        Arc::clone(&self.roots)
    }

    /// The listing of the roots themselves.
    pub(crate) fn list_roots(&self) -> Listing {
        let mut listing = Listing::default();
        for (index, root) in self.roots.iter().enumerate() {
            let place = Place { root: index, path: Vec::new(), name: root.name.clone() };
            let described = root
                .locate()
                .and_then(|(folder, name)| folder.entry(name))
                .and_then(|handle| describe(&handle, place.clone(), &self.accounts));
            listing.add(place, EntryKind::Unreadable, described);
        }
        listing
    }
}

fn canonical_root(path: &Path) -> Result<Root, OpenSourceError> {
    let path = path.canonicalize().map_err(|source| OpenSourceError::Missing { path: path.to_owned(), source })?;
    let name = encode_root_name(path.as_os_str().as_bytes());
    if name.len() > NAME_MAX {
        return Err(OpenSourceError::NameTooLong { path });
    }
    Ok(Root { path, name })
}

/// In the order of paths a folder is followed by what lies in it, so neighbours suffice.
fn refuse_overlap(roots: &mut [Root]) -> Result<(), OpenSourceError> {
    roots.sort_by(|one, other| one.path.cmp(&other.path));
    for pair in roots.windows(2) {
        let [outer, inner] = pair else { continue };
        if outer.path == inner.path {
            return Err(OpenSourceError::Duplicate { path: inner.path.clone() });
        }
        if inner.path.starts_with(&outer.path) {
            return Err(OpenSourceError::Nested { outer: outer.path.clone(), inner: inner.path.clone() });
        }
    }
    Ok(())
}

/// Why a capture was not begun, or does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    #[error(transparent)]
    Live(#[from] LiveSource),
}

/// One reading of a source.
#[derive(Debug)]
pub struct Capture<'a> {
    source: &'a FilesSource,
    candidates: &'a [Candidate],
}

impl<'a> Capture<'a> {
    /// Every entry, in the order of the snapshot.
    pub fn walk(&self) -> Walk<'a> {
        Walk::new(self.source)
    }

    /// Opens a file that a walk has found in `folder`.
    pub fn open(&self, folder: &Folder, found: &Found) -> Result<FileReader, Arc<Unreadable>> {
        folder
            .locate(found)
            .map_err(Reason::from)
            .and_then(|(parent, name)| FileReader::open(&parent, &name, found, &self.source.accounts))
            .map_err(|reason| Arc::new(Unreadable::of(found, reason)))
    }

    /// To be asked before the snapshot is committed: did a node or database start while its files were read?
    pub fn check_still_quiet(&self) -> Result<(), CaptureError> {
        Ok(live::refuse(self.candidates)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(roots: &[&Path]) -> Result<FilesSource, OpenSourceError> {
        let roots: Vec<_> = roots.iter().map(|path| path.to_path_buf()).collect();
        FilesSource::try_new(&roots, &Options::default())
    }

    #[test]
    fn roots_are_canonical_and_in_the_order_of_their_names() {
        let base = tempfile::tempdir().unwrap();
        for name in ["a", "a-b", "a%b"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        fs::create_dir(base.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", base.path().join("link")).unwrap();
        let at = |name: &str| base.path().join(name);
        let source = open(&[&at("link"), &at("a-b"), &at("a%b")]).unwrap();
        let names: Vec<_> = source.roots().iter().map(|root| root.name.clone()).collect();
        assert!(names.is_sorted());
        assert!(source.roots().iter().any(|root| root.path.ends_with("a/b")));
    }

    #[test]
    fn missing_double_and_nested_roots_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let inner = base.path().join("inner/deep");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(base.path().join("inner-other")).unwrap();
        let missing = base.path().join("missing");
        assert!(open(&[&missing]).unwrap_err().to_string().contains("missing"));
        assert!(matches!(open(&[]), Err(OpenSourceError::NoRoots)));
        assert!(matches!(open(&[&inner, &inner]), Err(OpenSourceError::Duplicate { .. })));
        assert!(matches!(open(&[&inner, base.path()]), Err(OpenSourceError::Nested { .. })));
        assert!(open(&[&base.path().join("inner"), &base.path().join("inner-other")]).is_ok());
    }
}
