//! Which part of a snapshot is asked for.

use std::path::Path;

use blockhouse_sources::files::RestorePath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::RestoreSnapshotError;

/// Patterns: each matches a path from the root of the snapshot's tree as it is restored, or any name if it has no slash.
#[derive(Debug)]
pub(super) struct Include(Option<GlobSet>);

impl Include {
    /// Everything, if there are no patterns.
    pub(super) fn parse(patterns: &[String]) -> Result<Self, RestoreSnapshotError> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let failed = |source| RestoreSnapshotError::Glob { glob: pattern.clone(), source };
            let stem = pattern.trim_start_matches("./").trim_matches('/');
            // A dot alone begins a name, as in `.bashrc`.
            let is_anchored = pattern.starts_with('/') || pattern.starts_with("./");
            let deep = if stem.contains('/') || is_anchored { stem.to_owned() } else { format!("**/{stem}") };
            set.add(GlobBuilder::new(&deep).literal_separator(true).build().map_err(failed)?);
        }
        let failed = |source| RestoreSnapshotError::Glob { glob: patterns.join(" "), source };
        set.build().map(|set| Self(Some(set))).map_err(failed)
    }

    /// True if not everything is asked for.
    pub(super) const fn is_partial(&self) -> bool {
        self.0.is_some()
    }

    /// True if this path is asked for by itself, whatever is said of the folder above it.
    pub(super) fn names(&self, path: &RestorePath) -> bool {
        let text = String::from_utf8_lossy(path.as_bytes());
        self.0.as_ref().is_none_or(|set| set.is_match(Path::new(&*text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str, path: &str) -> bool {
        Include::parse(&[pattern.to_owned()]).unwrap().names(&RestorePath::parse(path.as_bytes()).unwrap())
    }

    #[test]
    fn a_pattern_without_a_slash_is_a_name_at_any_depth() {
        assert!(names("*.txt", "a.txt") && names("*.txt", "deep/er/a.txt") && names("letters/", "old/letters"));
        assert!(!names("*.txt", "a.txt/b") && !names("er", "deep/er/a"));
    }

    /// `--include .bashrc` left `deep/.bashrc` out without a word: a dot was taken for the beginning of a path.
    #[test]
    fn a_name_that_begins_with_a_dot_is_a_name_at_any_depth() {
        assert!(names(".bashrc", ".bashrc") && names(".bashrc", "deep/er/.bashrc"));
        assert!(names(".*", ".ssh") && names(".*", "home/me/.profile") && !names(".*", "home/me"));
        assert!(names(".ssh", "home/me/.ssh") && names(".ssh/", "home/me/.ssh") && names("..data", "deep/..data"));
        assert!(names("./.ssh", ".ssh") && !names("./.ssh", "home/.ssh") && !names("/.ssh", "home/.ssh"));
        assert!(names(".ssh/config", ".ssh/config") && !names(".ssh/config", "home/.ssh/config"));
    }

    #[test]
    fn a_pattern_with_a_slash_is_a_path_from_the_root() {
        assert!(names("deep/*.txt", "deep/a.txt") && names("/a.txt", "a.txt") && names("./a.txt", "a.txt"));
        assert!(!names("deep/*.txt", "deep/er/a.txt") && names("deep/**/*.txt", "deep/er/a.txt"));
        assert!(!names("/a.txt", "deep/a.txt") && !names("./a.txt", "deep/a.txt"));
    }

    #[test]
    fn no_pattern_is_everything_and_a_broken_one_is_named() {
        assert!(!Include::parse(&[]).unwrap().is_partial());
        let refused = Include::parse(&["good".to_owned(), "[".to_owned()]).unwrap_err();
        assert!(matches!(refused, RestoreSnapshotError::Glob { glob, .. } if glob == "["));
    }
}
