//! What the user wants left out.
//!
//! A pattern without `/` matches the name of an entry at any depth. One with `/` matches the whole path, either from the
//! root it lies in (`cache/*.tmp`) or absolute (`/home/anna/cache`). One that ends in `/` matches folders only. `*` and
//! `?` do not cross a `/`, `**` does. A root itself is never excluded: it was asked for by name.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

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
}

/// The patterns, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Excludes {
    names: Patterns,
    paths: Patterns,
}

#[derive(Debug, Clone)]
struct Patterns {
    any: GlobSet,
    folders: GlobSet,
}

struct Building {
    any: GlobSetBuilder,
    folders: GlobSetBuilder,
}

impl Excludes {
    pub(crate) fn parse(patterns: &[String]) -> Result<Self, ExcludeError> {
        let (mut names, mut paths) = (Building::new(), Building::new());
        for pattern in patterns {
            let stem = pattern.trim_end_matches('/');
            if stem.is_empty() {
                return Err(ExcludeError::Empty { pattern: pattern.clone() });
            }
            let glob = GlobBuilder::new(stem)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|source| ExcludeError::NotAGlob { pattern: pattern.clone(), source })?;
            let building = if stem.contains('/') { &mut paths } else { &mut names };
            let set = if stem.len() < pattern.len() { &mut building.folders } else { &mut building.any };
            set.add(glob);
        }
        Ok(Self { names: names.build()?, paths: paths.build()? })
    }

    /// Whether an entry is left out. `path` is relative to the root at `root`, `name` its last part.
    pub(crate) fn matches(&self, root: &[u8], path: &[u8], name: &[u8], is_folder: bool) -> bool {
        if self.names.matches(name, is_folder) {
            return true;
        }
        if self.paths.is_empty() {
            return false;
        }
        let separator: &[u8] = if root.ends_with(b"/") { b"" } else { b"/" };
        self.paths.matches(path, is_folder) || self.paths.matches(&[root, separator, path].concat(), is_folder)
    }
}

impl Building {
    fn new() -> Self {
        Self { any: GlobSetBuilder::new(), folders: GlobSetBuilder::new() }
    }

    fn build(self) -> Result<Patterns, ExcludeError> {
        let any = self.any.build().map_err(ExcludeError::TooLarge)?;
        let folders = self.folders.build().map_err(ExcludeError::TooLarge)?;
        Ok(Patterns { any, folders })
    }
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.folders.is_empty()
    }

    fn matches(&self, bytes: &[u8], is_folder: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let candidate = Candidate::new(OsStr::from_bytes(bytes));
        self.any.is_match_candidate(&candidate) || (is_folder && self.folders.is_match_candidate(&candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(pattern: &str, path: &[u8], is_folder: bool) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap();
        Excludes::parse(&[pattern.to_owned()]).unwrap().matches(b"/home/anna", path, name, is_folder)
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
    fn a_bad_pattern_is_named() {
        for pattern in ["a[", "{a", "/", ""] {
            let error = Excludes::parse(&[pattern.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{pattern}`")), "{error}");
        }
    }
}
