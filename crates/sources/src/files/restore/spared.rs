//! What deleting leaves where it is, though the snapshot has not got it: what a backup of the same folder leaves out.
//!
//! - **Owns** which wishes count: the patterns that the snapshot was made with, ignore files, cache tags, the attribute `nodump`, and
//!   what the caller names.
//! - **Does not** remove ([`super::clear`] does), nor know the size limit of a backup or the tags of its `--exclude-if-present`: no
//!   snapshot records them.
//!
//! # Invariants
//! - **S1** What is spared is not looked into, and what says so (an ignore file, a tag) stays beside it: a second restore spares it too.

use std::{fmt, sync::Arc};

use super::RestorePath;
use crate::files::{
    ExcludeError, IGNORE_FILE, Options,
    list::{Listed, Named, join},
    selection::{Below, Rules, Selection},
    trail::Open,
};

/// Files that say of their folder what is left out.
const SAYING: [&str; 2] = [IGNORE_FILE, "CACHEDIR.TAG"];
/// How [`Options::all_patterns`] tells patterns that take letters of either case.
const ANY_CASE: &str = "(?i)";

/// What the caller wants spared, by its path.
type IsNamed = dyn Fn(&RestorePath) -> bool + Send + Sync;

/// What deleting leaves where it is.
pub struct Spared {
    selection: Selection,
    is_named: Box<IsNamed>,
}

impl Spared {
    /// Spares what a backup with these patterns leaves out, and what `is_named` names. The patterns are as
    /// [`Options::all_patterns`] tells them.
    pub fn try_new(
        patterns: Vec<String>,
        is_named: impl Fn(&RestorePath) -> bool + Send + Sync + 'static,
    ) -> Result<Self, ExcludeError> {
        let (any_case, excludes): (Vec<_>, Vec<_>) =
            patterns.into_iter().partition(|pattern| pattern.starts_with(ANY_CASE));
        let iexcludes =
            any_case.iter().filter_map(|pattern| pattern.strip_prefix(ANY_CASE)).map(str::to_owned).collect();
        let options = Options { excludes, iexcludes, exclude_caches: true, exclude_nodump: true, ..Options::default() };
        Ok(Self { selection: Selection::parse(&options)?, is_named: Box::new(is_named) })
    }
}

impl fmt::Debug for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spared").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// The ignore files that rule a folder and what is below it.
#[derive(Debug, Clone)]
pub struct SparedBelow {
    /// Where the root of the snapshot stood when it was backed up: absolute patterns begin there.
    origin: Arc<[u8]>,
    /// What of the root is restored: patterns see paths from the root, whatever part of it goes to the target.
    part: Arc<[u8]>,
    /// How many bytes of a path of the target lie above that part.
    above: usize,
    rules: Rules,
}

impl SparedBelow {
    /// At a root of the snapshot, which is restored to `path` and stood at `origin`.
    pub fn root(path: &RestorePath, origin: &[u8]) -> Self {
        let above = if path.is_target() { 0 } else { path.as_bytes().len() + 1 };
        Self { origin: origin.into(), part: Arc::default(), above, rules: Rules::default() }
    }

    /// The same where only what stands at this path from the root is restored.
    #[must_use]
    pub fn only(self, part: &[u8]) -> Self {
        Self { part: part.into(), ..self }
    }

    /// The same where a folder above, at this path from the root, has an ignore file with this text.
    #[must_use]
    pub fn ignoring(self, folder: &[u8], text: &[u8]) -> Self {
        // A line that cannot be used left nothing out of the backup either.
        let (rules, _) = self.rules.with_text(folder, text);
        Self { rules, ..self }
    }

    fn below_root(&self, path: &RestorePath) -> Vec<u8> {
        match path.as_bytes().get(self.above..) {
            None | Some([]) => self.part.to_vec(),
            Some(rest) => join(&self.part, rest),
        }
    }
}

/// What is spared in one folder.
#[derive(Debug)]
pub(super) struct SparedIn<'s> {
    spared: &'s Spared,
    below: Below<'s>,
    outer: SparedBelow,
}

impl Spared {
    /// Whether the caller names it.
    pub(super) fn is_named(&self, path: &RestorePath) -> bool {
        (self.is_named)(path)
    }

    /// In a folder with these names. `outer` rules the folder that holds it.
    pub(super) fn within(
        &self,
        outer: &SparedBelow,
        folder: &Open,
        path: &RestorePath,
        names: &[Named],
    ) -> SparedIn<'_> {
        let below_root = outer.below_root(path);
        let listed = Listed { folder, root: 0, root_path: &outer.origin, path: &below_root };
        let below = self.selection.below(&outer.rules, listed, names);
        SparedIn { spared: self, below, outer: outer.clone() }
    }
}

impl SparedIn<'_> {
    /// What rules the folders in this one.
    pub(super) fn rules(&self) -> SparedBelow {
        SparedBelow { rules: self.below.rules.clone(), ..self.outer.clone() }
    }

    /// Whether an entry is spared, as far as its name tells.
    pub(super) fn by_name(&self, path: &RestorePath, named: &Named) -> bool {
        let is_left_out = || self.below.by_name(&self.outer.origin, &self.outer.below_root(path), named).is_some();
        self.spared.is_named(path) || is_left_out()
    }

    /// Whether an entry is spared for a flag of its own.
    pub(super) fn by_flag(&self, folder: &Open, name: &[u8]) -> bool {
        self.below.by_flag_of(folder, name).is_some()
    }
}

/// Whether a file says what of its folder is left out: it stays while anything is spared there.
pub(super) fn says_what_is_spared(name: &[u8]) -> bool {
    SAYING.iter().any(|saying| saying.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use blockhouse_types::EntryKind;

    use super::*;

    #[test]
    fn patterns_count_from_the_root_and_from_where_it_stood() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join(IGNORE_FILE), "/ignored\n").unwrap();
        let folder = Open::absolute(&base.path().canonicalize().unwrap()).unwrap();
        let patterns = ["deep/*.tmp", "/home/anna/cache", "(?i)*.BAK"].map(str::to_owned).to_vec();
        let spared = Spared::try_new(patterns, |path| path.as_bytes() == b"to/named").unwrap();
        let path = |text: &str| RestorePath::parse(text.as_bytes()).unwrap();
        let named = |name: &str| Named { name: name.into(), kind: EntryKind::File };
        let root = path("to");
        let within = spared.within(&SparedBelow::root(&root, b"/home/anna"), &folder, &root, &[named(IGNORE_FILE)]);
        for (at, is_spared) in [
            ("to/named", true),
            ("to/cache", true),
            ("to/ignored", true),
            ("to/x.bak", true),
            ("to/deep/a.tmp", true),
            ("to/a.tmp", false),
            ("to/.blockhouseignore", false),
            ("to/deep/ignored", false),
        ] {
            let name = at.rsplit('/').next().unwrap();
            assert_eq!(within.by_name(&path(at), &named(name)), is_spared, "{at}");
        }
        assert!(Spared::try_new(vec!["a[".to_owned()], |_| false).is_err());
    }

    /// Only `docs` of a root is restored: a pattern of the backup still counts from the root, and so does the ignore file above.
    #[test]
    fn patterns_count_from_the_root_where_a_part_of_it_is_restored() {
        let base = tempfile::tempdir().unwrap();
        let folder = Open::absolute(&base.path().canonicalize().unwrap()).unwrap();
        let patterns = ["docs/*.tmp", "/home/anna/docs/cache", "own/*.tmp"].map(str::to_owned).to_vec();
        let spared = Spared::try_new(patterns, |_| false).unwrap();
        let target = RestorePath::target();
        let outer = SparedBelow::root(&target, b"/home/anna").only(b"docs").ignoring(b"", b"/docs/*.log\n/*.txt\n");
        let within = spared.within(&outer, &folder, &target, &[]);
        for (name, is_spared) in [("a.tmp", true), ("cache", true), ("a.log", true), ("a.txt", false), ("a", false)] {
            let named = Named { name: name.into(), kind: EntryKind::File };
            assert_eq!(within.by_name(&RestorePath::parse(name.as_bytes()).unwrap(), &named), is_spared, "{name}");
        }
        let inner = RestorePath::parse(b"own").unwrap();
        let within = spared.within(&within.rules(), &folder, &inner, &[]);
        let path = RestorePath::parse(b"own/a.tmp").unwrap();
        assert!(!within.by_name(&path, &Named { name: b"a.tmp".to_vec(), kind: EntryKind::File }));
    }
}
