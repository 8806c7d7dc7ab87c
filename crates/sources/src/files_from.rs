//! Lists of paths to back up.
//!
//! Three forms, as other tools have them: patterns, one a line, with comments; paths, one a line, taken as they are; paths that end
//! in NUL, as `find -print0` writes them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// A glob a line, without the spaces around it; empty lines and lines that begin with `#` say nothing.
    Patterns,
    /// A path a line, taken as it is; only empty lines say nothing.
    Verbatim,
    /// Paths that end in NUL.
    Raw,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    #[error("line {line} of the list `{list}` is not a glob")]
    Glob {
        list: String,
        line: usize,
        #[source]
        source: globset::Error,
    },
    #[error("line {line} of the list `{list}` is not UTF-8: `--files-from-verbatim` takes any path")]
    Encoding { list: String, line: usize },
    #[error("the list `{list}` has a NUL in line {line}: `--files-from-raw` takes lists that are separated so")]
    Nul { list: String, line: usize },
    #[error("the list `{list}` does not end in NUL: its last path may be cut short")]
    Unfinished { list: String },
}

/// The paths of a list. A pattern that matches nothing is a path of its own, to be told as missing.
pub fn paths_of(list: &str, form: ListForm, text: &[u8]) -> Result<Vec<PathBuf>, ListError> {
    let taken = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if form == ListForm::Raw {
        let Some(text) = text.strip_suffix(b"\0") else {
            let none = || ListError::Unfinished { list: list.to_owned() };
            return if text.is_empty() { Ok(Vec::new()) } else { Err(none()) };
        };
        return Ok(text.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(taken).collect());
    }
    let mut paths = Vec::new();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = number + 1;
        if line.contains(&0) {
            return Err(ListError::Nul { list: list.to_owned(), line: number });
        }
        if form == ListForm::Verbatim {
            paths.extend((!line.is_empty()).then(|| taken(line)));
            continue;
        }
        let line =
            std::str::from_utf8(line).map_err(|_| ListError::Encoding { list: list.to_owned(), line: number })?;
        let pattern = line.trim();
        if !pattern.is_empty() && !pattern.starts_with('#') {
            let failed = |source| ListError::Glob { list: list.to_owned(), line: number, source };
            paths.extend(expand(pattern).map_err(failed)?);
        }
    }
    Ok(paths)
}

/// One part of a pattern.
enum Part<'a> {
    Plain(&'a OsStr),
    Glob(GlobMatcher),
}

/// What a pattern matches, in order; itself if that is nothing. `*` stands for no name that begins with a dot, as in a shell.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, globset::Error> {
    let is_glob = |part: &OsStr| part.as_bytes().iter().any(|byte| b"*?[{\\".contains(byte));
    let whole = Path::new(pattern);
    if !is_glob(whole.as_os_str()) {
        return Ok(vec![whole.to_owned()]);
    }
    let mut found = vec![PathBuf::new()];
    for part in whole.components() {
        let part = match part {
            Component::Normal(name) if is_glob(name) => {
                let text = name.to_str().unwrap_or_default();
                let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()?;
                Part::Glob(glob.compile_matcher())
            }
            other => Part::Plain(other.as_os_str()),
        };
        found = found.iter().flat_map(|folder| step(folder, &part)).collect();
    }
    Ok(if found.is_empty() { vec![whole.to_owned()] } else { found })
}

fn step(folder: &Path, part: &Part<'_>) -> Vec<PathBuf> {
    match part {
        Part::Plain(name) => {
            let path = folder.join(name);
            // One more name of what a pattern found has to be there; the beginning is asked for by its next part.
            let is_there = folder.as_os_str().is_empty() || path.symlink_metadata().is_ok();
            if is_there { vec![path] } else { Vec::new() }
        }
        Part::Glob(glob) => {
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let names = std::fs::read_dir(here).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
            let wants_dot = glob.glob().glob().starts_with('.');
            let is_wanted = |name: &OsString| wants_dot || !name.as_bytes().starts_with(b".");
            let mut names: Vec<_> = names.filter(|name| is_wanted(name) && glob.is_match(name)).collect();
            names.sort();
            names.into_iter().map(|name| folder.join(name)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_their_three_forms() {
        let read = |form, text: &[u8]| paths_of("list", form, text).unwrap();
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(read(ListForm::Patterns, b"# no\n\n  /a b \r\n/c"), paths(&["/a b", "/c"]));
        assert_eq!(read(ListForm::Verbatim, b"# yes\n\n  /a[ \n"), paths(&["# yes", "  /a[ "]));
        assert_eq!(read(ListForm::Raw, b"/a\nb\0/\xff\0").len(), 2);
        assert_eq!(read(ListForm::Raw, b""), paths(&[]));
    }

    #[test]
    fn what_is_wrong_with_a_list_is_named() {
        let refused = |form, text: &[u8]| paths_of("/the/list", form, text).unwrap_err().to_string();
        assert!(refused(ListForm::Raw, b"/a\0/b").contains("`/the/list` does not end in NUL"));
        assert!(refused(ListForm::Verbatim, b"/a\n/b\0/c").contains("line 2"));
        assert!(refused(ListForm::Patterns, b"\n/a[\n").contains("line 2"));
        assert!(refused(ListForm::Patterns, b"/\xff\n").contains("not UTF-8"));
    }

    #[test]
    fn patterns_are_expanded_as_by_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/x.txt", "a/x.txt", "a/.x.txt", "a/y.md", "c/other"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| {
            let found = expand(&format!("{}/{pattern}", folder.path().display())).unwrap();
            let below = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            found.into_iter().map(below).collect::<Vec<_>>()
        };
        assert_eq!(found("*/*.txt"), ["a/x.txt", "b/x.txt"]);
        assert_eq!(found("*/x.txt"), ["a/x.txt", "b/x.txt"]);
        assert_eq!(found("a/.x*"), ["a/.x.txt"]);
        assert_eq!(found("{a,c}"), ["a", "c"]);
        assert_eq!(found("none*"), ["none*"], "what matches nothing is told as missing");
    }
}
