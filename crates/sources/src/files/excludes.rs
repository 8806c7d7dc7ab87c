//! What the user wants left out by pattern.
//!
//! A pattern without `/` matches the name of an entry at any depth. One with `/` matches the whole path, either from the
//! root it lies in (`cache/*.tmp`) or absolute (`/home/anna/cache`). One that ends in `/` matches folders only. `*` and
//! `?` do not cross a `/`, `**` does. One that begins with `!` takes back what a pattern before it left out: of all that match an
//! entry the last decides. A root itself is never excluded: it was asked for by name; and nothing is looked at below a folder that is
//! left out, so nothing there can be taken back.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExcludeError {
    #[error("the exclude pattern `{pattern}` is not a glob")]
    NotAGlob {
        pattern: String,
        #[source]
        source: globset::Error,
    },
    #[error("the exclude pattern `{pattern}` names nothing")]
    Empty { pattern: String },
    #[error("the exclude patterns are too many or too large together")]
    TooLarge(#[source] globset::Error),
    #[error("could not read the exclude file `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} of the exclude file `{}` cannot be used", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        source: Box<ExcludeError>,
    },
    #[error("`{name}` cannot be the name of a file whose presence excludes a folder: give one name, without `/`")]
    NotAName { name: String },
}

/// Reads the patterns of an exclude file: one a line, without the spaces around it; empty lines and lines that begin with `#` say
/// nothing.
pub fn read_exclude_file(path: &Path) -> Result<Vec<String>, ExcludeError> {
    let text = std::fs::read_to_string(path).map_err(|source| ExcludeError::File { path: path.to_owned(), source })?;
    let mut patterns = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let pattern = line.trim();
        if pattern.is_empty() || pattern.starts_with('#') {
            continue;
        }
        Rule::parse(pattern, false).map_err(|source| ExcludeError::Line {
            path: path.to_owned(),
            line: number + 1,
            source: Box::new(source),
        })?;
        patterns.push(pattern.to_owned());
    }
    Ok(patterns)
}

/// The patterns, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Excludes {
    names: Patterns,
    paths: Patterns,
}

/// One pattern as it was read.
struct Rule {
    glob: Glob,
    is_path: bool,
    meaning: Meaning,
}

/// What a match of a pattern means.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    /// Its place among all patterns.
    order: usize,
    folders_only: bool,
    takes_back: bool,
}

#[derive(Debug, Clone)]
struct Patterns {
    set: GlobSet,
    /// By the places of the globs in the set.
    meanings: Vec<Meaning>,
}

struct Building {
    set: GlobSetBuilder,
    meanings: Vec<Meaning>,
}

impl Rule {
    fn parse(pattern: &str, ignores_case: bool) -> Result<Self, ExcludeError> {
        let (text, takes_back) = pattern.strip_prefix('!').map_or((pattern, false), |rest| (rest, true));
        let stem = text.trim_end_matches('/');
        if stem.is_empty() {
            return Err(ExcludeError::Empty { pattern: pattern.to_owned() });
        }
        let glob = GlobBuilder::new(stem)
            .literal_separator(true)
            .backslash_escape(true)
            .case_insensitive(ignores_case)
            .build()
            .map_err(|source| ExcludeError::NotAGlob { pattern: pattern.to_owned(), source })?;
        let meaning = Meaning { order: 0, folders_only: stem.len() < text.len(), takes_back };
        Ok(Self { glob, is_path: stem.contains('/'), meaning })
    }
}

impl Excludes {
    /// The patterns in their order; those of `ignoring_case` come last.
    pub(crate) fn parse(patterns: &[String], ignoring_case: &[String]) -> Result<Self, ExcludeError> {
        let (mut names, mut paths) = (Building::new(), Building::new());
        let both = patterns.iter().map(|pattern| (pattern, false));
        for (order, (pattern, ignores_case)) in
            both.chain(ignoring_case.iter().map(|pattern| (pattern, true))).enumerate()
        {
            let Rule { glob, is_path, meaning } = Rule::parse(pattern, ignores_case)?;
            let building = if is_path { &mut paths } else { &mut names };
            building.set.add(glob);
            building.meanings.push(Meaning { order, ..meaning });
        }
        Ok(Self { names: names.build()?, paths: paths.build()? })
    }

    /// Whether an entry is left out. `path` is relative to the root at `root`, `name` its last part.
    pub(crate) fn matches(&self, root: &[u8], path: &[u8], name: &[u8], is_folder: bool) -> bool {
        let mut last = self.names.last(name, is_folder);
        if !self.paths.meanings.is_empty() {
            let separator: &[u8] = if root.ends_with(b"/") { b"" } else { b"/" };
            last = later(last, self.paths.last(path, is_folder));
            last = later(last, self.paths.last(&[root, separator, path].concat(), is_folder));
        }
        last.is_some_and(|meaning| !meaning.takes_back)
    }
}

fn later(one: Option<Meaning>, other: Option<Meaning>) -> Option<Meaning> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.order > other.order { one } else { other }),
        (one, other) => one.or(other),
    }
}

impl Building {
    fn new() -> Self {
        Self { set: GlobSetBuilder::new(), meanings: Vec::new() }
    }

    fn build(self) -> Result<Patterns, ExcludeError> {
        Ok(Patterns { set: self.set.build().map_err(ExcludeError::TooLarge)?, meanings: self.meanings })
    }
}

impl Patterns {
    /// The last of the patterns that match.
    fn last(&self, bytes: &[u8], is_folder: bool) -> Option<Meaning> {
        if self.meanings.is_empty() {
            return None;
        }
        let candidate = Candidate::new(OsStr::from_bytes(bytes));
        // Most entries match nothing: that is told without a list.
        if !self.set.is_match_candidate(&candidate) {
            return None;
        }
        let places = self.set.matches_candidate(&candidate);
        let matched = places.iter().filter_map(|place| self.meanings.get(*place));
        matched.filter(|meaning| is_folder || !meaning.folders_only).max_by_key(|meaning| meaning.order).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(all: &[&str]) -> Vec<String> {
        all.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    fn excluded_by(all: &[&str], path: &[u8], is_folder: bool) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap();
        Excludes::parse(&patterns(all), &[]).unwrap().matches(b"/home/anna", path, name, is_folder)
    }

    fn excluded(pattern: &str, path: &[u8], is_folder: bool) -> bool {
        excluded_by(&[pattern], path, is_folder)
    }

    #[test]
    fn a_pattern_without_slash_matches_a_name_at_any_depth() {
        assert!(excluded("*.tmp", b"a.tmp", false));
        assert!(excluded("*.tmp", b"deep/down/a.tmp", false));
        assert!(excluded("*.tmp", b"new\nline\xff.tmp", false));
        assert!(!excluded("*.tmp", b"a.tmp.keep", false));
        assert!(!excluded("deep", b"deep/down", false));
    }

    #[test]
    fn a_pattern_with_slash_matches_the_whole_path() {
        assert!(excluded("deep/*.tmp", b"deep/a.tmp", false));
        assert!(!excluded("deep/*.tmp", b"deep/down/a.tmp", false));
        assert!(excluded("deep/**/*.tmp", b"deep/down/a.tmp", false));
        assert!(excluded("/home/anna/deep", b"deep", true));
        assert!(!excluded("/deep", b"deep", true));
        assert!(excluded("**/down", b"deep/down", true));
    }

    #[test]
    fn a_pattern_that_ends_in_a_slash_matches_folders_only() {
        assert!(excluded("cache/", b"x/cache", true));
        assert!(!excluded("cache/", b"x/cache", false));
        assert!(excluded("x/cache/", b"x/cache", true));
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let all = ["*.log", "!keep.log", "/home/anna/deep/*"];
        assert!(excluded_by(&all, b"a.log", false));
        assert!(!excluded_by(&all, b"keep.log", false));
        assert!(excluded_by(&all, b"deep/keep.log", false), "a later path pattern outdoes a name");
        assert!(excluded_by(&["!keep.log", "*.log"], b"keep.log", false));
        assert!(!excluded_by(&["cache", "!cache/"], b"cache", true));
        assert!(excluded_by(&["cache", "!cache/"], b"cache", false), "one for folders takes no file back");
        assert!(excluded_by(&["\\!odd"], b"!odd", false));
    }

    #[test]
    fn patterns_may_ignore_case() {
        let excludes = Excludes::parse(&patterns(&["*.Tmp"]), &patterns(&["*.jpg", "!Keep.JPG"])).unwrap();
        let matches = |name: &[u8]| excludes.matches(b"/r", name, name, false);
        assert!(matches(b"A.JPG") && matches(b"a.Jpg") && matches(b"x.Tmp"));
        assert!(!matches(b"x.tmp") && !matches(b"keep.jpg"));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        for pattern in ["a[", "{a", "/", "", "!", "!/"] {
            let error = Excludes::parse(&[pattern.to_owned()], &[]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{pattern}`")), "{error}");
        }
    }

    #[test]
    fn an_exclude_file_has_comments_and_names_its_bad_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("excludes");
        std::fs::write(&path, "\u{feff}# all of these\n\n  *.tmp \r\n!keep.tmp\n\\#odd\n").unwrap();
        assert_eq!(read_exclude_file(&path).unwrap(), ["*.tmp", "!keep.tmp", "\\#odd"]);
        std::fs::write(&path, "good\n\nbad[\n").unwrap();
        let error = read_exclude_file(&path).unwrap_err();
        assert!(matches!(error, ExcludeError::Line { line: 3, .. }), "{error:?}");
        let error = read_exclude_file(&folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
