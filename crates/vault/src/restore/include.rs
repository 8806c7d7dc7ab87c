//! Which part of a snapshot is asked for.
//!
//! Patterns match paths in the snapshot, as `ls` shows them and a restore of all of it writes them, also where a part of it goes to the
//! target under other paths.

use std::path::Path;

use blockhouse_sources::files::RestorePath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::RestoreSnapshotError;

/// Patterns: each matches a path as a restore of the whole snapshot writes it, or any name if it has no slash.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what matches one of these; everything if there are none of either kind.
    pub include: Vec<String>,
    /// The same, whatever the case of letters.
    pub include_any_case: Vec<String>,
    /// What matches one of these is left out, with all that is in it.
    pub exclude: Vec<String>,
    /// The same, whatever the case of letters.
    pub exclude_any_case: Vec<String>,
}

/// A selection, compiled.
#[derive(Debug)]
pub(super) struct Include {
    wanted: Option<GlobSet>,
    unwanted: Option<GlobSet>,
    /// What each wanted pattern begins with before anything that stands for several names.
    beginnings: Vec<String>,
}

impl Include {
    /// Everything, if there are no patterns.
    pub(super) fn parse(selection: &Selection) -> Result<Self, RestoreSnapshotError> {
        let Selection { include, include_any_case, exclude, exclude_any_case } = selection;
        let beginnings = include.iter().map(|pattern| beginning(pattern));
        // Another case may begin in another folder.
        let beginnings = beginnings.chain(include_any_case.iter().map(|_| String::new())).collect();
        let (wanted, unwanted) = (compile(include, include_any_case)?, compile(exclude, exclude_any_case)?);
        Ok(Self { wanted, unwanted, beginnings })
    }

    /// True if not everything is asked for.
    pub(super) const fn is_partial(&self) -> bool {
        self.wanted.is_some()
    }

    /// True if this path is asked for by itself, whatever is said of the folder above it.
    pub(super) fn names(&self, path: &RestorePath) -> bool {
        self.wanted.as_ref().is_none_or(|set| matches(set, path))
    }

    /// True if this path is left out, with all that is in it.
    pub(super) fn leaves_out(&self, path: &RestorePath) -> bool {
        !path.is_target() && self.unwanted.as_ref().is_some_and(|set| matches(set, path))
    }

    /// True if nothing of what stands at this path is asked for: it is left out, by itself or with a folder that it is in, or no
    /// pattern leads there.
    pub(super) fn leaves_out_within(&self, path: &RestorePath) -> bool {
        !self.leads_to(path) || self.leaves_out_above(path)
    }

    /// True if it is left out, by itself or with a folder that it is in.
    pub(super) fn leaves_out_above(&self, path: &RestorePath) -> bool {
        self.leaves_anything_out() && upwards(path).any(|path| self.leaves_out(&path))
    }

    /// True if there are patterns for what is left out.
    pub(super) const fn leaves_anything_out(&self) -> bool {
        self.unwanted.is_some()
    }

    /// True if this path, or something in it, may be asked for, as far as the first names of the patterns tell.
    fn leads_to(&self, path: &RestorePath) -> bool {
        let leads = |beginning: &String| {
            let wanted = beginning.split('/').filter(|name| !name.is_empty());
            // One of the two lies in the other if they agree as far as both go. Patterns see names in the same form.
            path.names().map(String::from_utf8_lossy).zip(wanted).all(|(name, wanted)| name == wanted)
        };
        !self.is_partial() || self.beginnings.iter().any(leads)
    }

    /// True if this path is asked for, by itself or with a folder that it is in.
    pub(super) fn holds(&self, path: &RestorePath) -> bool {
        self.wanted.is_none() || upwards(path).any(|path| self.names(&path))
    }

    /// Paths below `to` that hold all that is asked for of what stands at `path` in the snapshot and goes there.
    pub(super) fn places(&self, path: &RestorePath, to: &RestorePath) -> Vec<RestorePath> {
        if !self.is_partial() {
            return vec![to.clone()];
        }
        let beginnings = self.beginnings.iter().filter_map(|text| RestorePath::parse(text.as_bytes()).ok());
        let place = |beginning: RestorePath| match moved(path, &beginning, &RestorePath::target()) {
            // It lies in what the pattern may match.
            Some(_) => Some(to.clone()),
            None => moved(&beginning, path, to),
        };
        beginnings.filter_map(place).collect()
    }
}

/// A path and those of the folders that it is in, up to the root of all.
fn upwards(path: &RestorePath) -> impl Iterator<Item = RestorePath> {
    std::iter::successors(Some(path.clone()), |path| path.split_last().map(|(folder, _)| folder))
}

/// The path of the same entry once `from` is `to`; none if it is not in `from`.
pub(super) fn moved(path: &RestorePath, from: &RestorePath, to: &RestorePath) -> Option<RestorePath> {
    let mut names = path.names();
    from.names().all(|name| names.next() == Some(name)).then_some(())?;
    names.try_fold(to.clone(), |path, name| path.join(name).ok())
}

fn matches(set: &GlobSet, path: &RestorePath) -> bool {
    let text = String::from_utf8_lossy(path.as_bytes());
    set.is_match(Path::new(&*text))
}

fn compile(patterns: &[String], any_case: &[String]) -> Result<Option<GlobSet>, RestoreSnapshotError> {
    if patterns.is_empty() && any_case.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for (pattern, is_any_case) in
        patterns.iter().map(|pattern| (pattern, false)).chain(any_case.iter().map(|pattern| (pattern, true)))
    {
        let failed = |source| RestoreSnapshotError::Glob { glob: pattern.clone(), source };
        let stem = stem(pattern);
        let deep = if is_path(pattern) { stem.to_owned() } else { format!("**/{stem}") };
        let glob = GlobBuilder::new(&deep).literal_separator(true).case_insensitive(is_any_case).build();
        set.add(glob.map_err(failed)?);
    }
    let failed = |source| RestoreSnapshotError::Glob { glob: patterns.join(" "), source };
    set.build().map(Some).map_err(failed)
}

fn stem(pattern: &str) -> &str {
    pattern.trim_start_matches("./").trim_matches('/')
}

/// True for a path from the root, false for a name at any depth.
fn is_path(pattern: &str) -> bool {
    // A dot alone begins a name, as in `.bashrc`.
    let is_anchored = pattern.starts_with('/') || pattern.starts_with("./");
    stem(pattern).contains('/') || is_anchored
}

fn beginning(pattern: &str) -> String {
    if !is_path(pattern) {
        return String::new();
    }
    let is_plain = |name: &&str| !name.contains(['*', '?', '[', '{', '\\']);
    stem(pattern).split('/').take_while(is_plain).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn including(patterns: &[&str]) -> Result<Include, RestoreSnapshotError> {
        let include = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Include::parse(&Selection { include, ..Selection::default() })
    }

    fn names(pattern: &str, path: &str) -> bool {
        including(&[pattern]).unwrap().names(&RestorePath::parse(path.as_bytes()).unwrap())
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
        assert!(!including(&[]).unwrap().is_partial());
        let refused = including(&["good", "["]).unwrap_err();
        assert!(matches!(refused, RestoreSnapshotError::Glob { glob, .. } if glob == "["));
    }

    #[test]
    fn what_is_left_out_is_told_by_the_same_patterns_in_any_case_where_asked() {
        let selection = Selection {
            include_any_case: vec!["*.TXT".to_owned()],
            exclude: vec!["old".to_owned()],
            exclude_any_case: vec!["/Deep/*.bak".to_owned()],
            ..Selection::default()
        };
        let include = Include::parse(&selection).unwrap();
        let path = |text: &str| RestorePath::parse(text.as_bytes()).unwrap();
        assert!(include.names(&path("a/b.txt")) && !include.names(&path("a/b.doc")));
        assert!(include.leaves_out(&path("x/old")) && !include.leaves_out(&path("x/Old")));
        assert!(include.leaves_out(&path("deep/a.BAK")) && !include.leaves_out(&path("deep/er/a.bak")));
        assert!(!include.leaves_out(&RestorePath::target()));
    }

    #[test]
    fn a_pattern_begins_where_it_names_folders() {
        let beginnings = |pattern| including(&[pattern]).unwrap().beginnings;
        assert_eq!(beginnings("/etc/host*/x"), ["etc"]);
        assert_eq!(beginnings("etc/hosts"), ["etc/hosts"]);
        assert_eq!(beginnings("hosts"), [""]);
        assert_eq!(beginnings("**/hosts"), [""]);
    }

    #[test]
    fn what_is_asked_for_lies_where_its_part_of_the_snapshot_goes() {
        let path = |text: &str| RestorePath::parse(text.as_bytes()).unwrap();
        let places = |patterns: &[&str], from: &str, to: &str| -> Vec<String> {
            let places = including(patterns).unwrap().places(&path(from), &path(to));
            places.iter().map(|place| String::from_utf8(place.as_bytes().to_vec()).unwrap()).collect()
        };
        assert_eq!(places(&[], "etc", ""), [""]);
        assert_eq!(places(&["/etc/nginx/*", "/var/log"], "etc", ""), ["nginx"]);
        assert_eq!(places(&["/etc/*"], "etc/nginx", "to"), ["to"]);
        assert_eq!(places(&["/etc/hosts"], "", ""), ["etc/hosts"]);
        assert_eq!(places(&["/etcetera"], "etc", ""), Vec::<String>::new());
    }

    #[test]
    fn what_is_said_of_a_folder_holds_for_what_is_in_it() {
        let path = |text: &str| RestorePath::parse(text.as_bytes()).unwrap();
        let exclude = vec!["/a/b".to_owned()];
        let include = Include::parse(&Selection { exclude, ..Selection::default() }).unwrap();
        assert!(include.leaves_out_within(&path("a/b/c/d")) && include.leaves_out_within(&path("a/b")));
        assert!(!include.leaves_out_within(&path("a")) && !include.leaves_out(&path("a/b/c")));
        let include = including(&["/a/b"]).unwrap();
        assert!(include.holds(&path("a/b/c")) && !include.holds(&path("a")) && !include.names(&path("a/b/c")));
    }

    /// Folders that no pattern leads to were taken for some that may hold what is asked for.
    #[test]
    fn where_no_pattern_leads_nothing_is_asked_for() {
        let path = |text: &str| RestorePath::parse(text.as_bytes()).unwrap();
        let include = including(&["/a/b/*.txt", "c/d"]).unwrap();
        for asked in ["", "a", "a/b", "a/b/one.txt", "c", "c/d", "c/d/deep/er"] {
            assert!(!include.leaves_out_within(&path(asked)), "{asked}");
        }
        for other in ["b", "a/c", "ab", "c/e", "d"] {
            assert!(include.leaves_out_within(&path(other)), "{other}");
        }
        for anywhere in ["*.txt", "**/b/c", "d"] {
            assert!(!including(&[anywhere]).unwrap().leaves_out_within(&path("x/y")), "{anywhere}");
        }
        let any_case = Selection { include_any_case: vec!["/A/b".to_owned()], ..Selection::default() };
        assert!(!Include::parse(&any_case).unwrap().leaves_out_within(&path("a/b")));
        // A name that is no text is seen as it is shown.
        let shown = including(&["/caf\u{fffd}/x"]).unwrap();
        assert!(!shown.leaves_out_within(&RestorePath::parse(b"caf\xff/x").unwrap()));
    }
}
