//! A files source: some roots, what is left out of them, and captures of them.
//!
//! Consistency is the file system's: a capture reads what stands there now, and [`super::FileReader`] tells which files
//! changed meanwhile. What is known to be inconsistent while it runs, a node's or a database's files, is refused.

use std::{
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
    sync::{Arc, OnceLock},
};

use blockhouse_types::{EntryKind, limits::NAME_MAX};
use rustix::io::Errno;

use super::{
    Accounts, ExcludeError, FileReader, Found, Reason, Unreadable, Walk,
    found::{Listing, Place, describe},
    live::{self, Candidate, LiveSource},
    root_name::encode_root_name,
    selection::Selection,
    trail::Open,
    walk::Folder,
};

/// How a source is captured.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Options {
    /// What is left out; the language is in `files/excludes.rs` and in `backup --help`.
    pub excludes: Vec<String>,
    /// The same, with letters of either case alike; they come after the others.
    pub iexcludes: Vec<String>,
    /// Whether the content of folders with a `CACHEDIR.TAG` is left out.
    pub exclude_caches: bool,
    /// The content of folders with such a file is left out: `NAME`, or `NAME:HEAD` if it must begin with `HEAD`.
    pub exclude_if_present: Vec<String>,
    /// Files longer than this are left out.
    pub exclude_larger_than: Option<u64>,
    /// Whether what has the attribute `nodump` is left out.
    pub exclude_nodump: bool,
    /// Whether folders on other file systems than their root's are taken without their content.
    pub one_file_system: bool,
    /// Whether files named `.blockhouseignore` are files like any other.
    pub no_ignore_files: bool,
    /// How the roots were named.
    pub roots: Roots,
    /// Whether the files of running nodes and databases are read all the same.
    pub allow_live: bool,
}

impl Options {
    /// All patterns as they are told of a snapshot: those that ignore case begin with `(?i)`.
    pub fn all_patterns(&self) -> Vec<String> {
        let ignoring_case = self.iexcludes.iter().map(|pattern| format!("(?i){pattern}"));
        self.excludes.iter().cloned().chain(ignoring_case).collect()
    }
}

/// How the roots of a source were named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Roots {
    /// One by one, by somebody who means each of them: one that is missing, given twice or in another is refused.
    #[default]
    Named,
    /// By a list that a program may have made: what is missing is recorded as unreadable, what is there twice counts once.
    Listed,
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
        source: io::Error,
    },
    #[error("none of the {count} paths to back up is there; the first is `{}`", first.display())]
    AllMissing { count: usize, first: PathBuf },
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
    selection: Selection,
    accounts: Accounts,
    allow_live: bool,
    /// What could be live, by the names that the first capture read.
    candidates: OnceLock<Vec<Candidate>>,
}

impl FilesSource {
    /// Resolves the roots and puts them in the order of their names.
    pub fn try_new(roots: &[PathBuf], options: &Options) -> Result<Self, OpenSourceError> {
        let (mut roots, devices) = match options.roots {
            Roots::Named => (named_roots(roots)?, Vec::new()),
            Roots::Listed => listed_roots(roots)?,
        };
        roots.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self {
            roots: roots.into(),
            selection: Selection::parse(options)?.with_devices(devices),
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

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
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
            if described.as_ref().is_err_and(|error| *error == Errno::NOENT) {
                listing.add_missing(place);
            } else {
                listing.add(place, EntryKind::Unreadable, described);
            }
        }
        listing
    }
}

/// Roots that are there, each once and none in another.
fn named_roots(paths: &[PathBuf]) -> Result<Vec<Root>, OpenSourceError> {
    let mut roots = Vec::with_capacity(paths.len());
    for path in paths {
        roots.push(root_at(
            path.canonicalize().map_err(|source| OpenSourceError::Missing { path: path.clone(), source })?,
        )?);
    }
    if roots.is_empty() {
        return Err(OpenSourceError::NoRoots);
    }
    refuse_overlap(&mut roots)?;
    Ok(roots)
}

/// The roots of a list: what is missing keeps the place that its path has as it is written, what lies in another root is part of that.
/// Also the file systems of what does: it was asked for, and may be mounted there.
fn listed_roots(paths: &[PathBuf]) -> Result<(Vec<Root>, Vec<u64>), OpenSourceError> {
    let (mut roots, mut missing) = (Vec::with_capacity(paths.len()), 0);
    for path in paths {
        let (path, device) = listed_path(path).map(|(path, device)| (path, Some(device))).or_else(|source| {
            missing += 1;
            std::path::absolute(path)
                .map(|path| (normal(&path), None))
                .map_err(|_| OpenSourceError::Missing { path: path.clone(), source })
        })?;
        roots.push((root_at(path)?, device));
    }
    match paths.first() {
        None => return Err(OpenSourceError::NoRoots),
        Some(first) if missing == paths.len() => {
            return Err(OpenSourceError::AllMissing { count: missing, first: first.clone() });
        }
        Some(_) => {}
    }
    roots.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    let mut devices = Vec::new();
    roots.dedup_by(|(later, device), (earlier, _)| {
        let is_inside = later.path.starts_with(&earlier.path);
        devices.extend(device.filter(|_| is_inside));
        is_inside
    });
    devices.sort_unstable();
    devices.dedup();
    Ok((roots.into_iter().map(|(root, _)| root).collect(), devices))
}

/// Where a listed path is, and on which file system. A list made by `find` names links too: each is backed up as the link that it is.
fn listed_path(path: &Path) -> io::Result<(PathBuf, u64)> {
    let path = std::path::absolute(path)?;
    let path = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize()?.join(name),
        _ => path.canonicalize()?,
    };
    let device = path.symlink_metadata()?.dev();
    Ok((path, device))
}

/// An absolute path without `..`, which nothing is asked for.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

fn root_at(path: PathBuf) -> Result<Root, OpenSourceError> {
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
