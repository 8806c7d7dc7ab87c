//! The mark of a restore that is not finished: a file in the target that names the snapshot, and what of it is restored.
//!
//! With it the same command goes on where a kill, a full disk or Ctrl-C stopped it, though the target is not empty any more. It is
//! written before anything else, into an empty target only, and removed when everything is in place.
//!
//! Format: `docs/design/restoring.md`, section *What a kill leaves*.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use blockhouse_sources::files::TEMPORARY_PREFIX;
use blockhouse_types::SnapshotId;

/// The longest mark that is read: a path as long as one argument may be, every byte of it written as an escape.
const LENGTH_MAX: u64 = 1 << 20;

/// What a restore brings into its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// What stands at this path; none means all of it.
    pub path: Option<Vec<u8>>,
    /// So many names are left out at the beginning of each path.
    pub strip_components: usize,
}

impl Portion {
    /// The mark: a line for the snapshot, and one for each way in which not all of it is meant.
    fn text(&self) -> String {
        let path = self.path.as_ref().map(|path| format!("path {}\n", path.escape_ascii())).unwrap_or_default();
        let strip = match self.strip_components {
            0 => String::new(),
            names => format!("strip {names}\n"),
        };
        format!("{}\n{path}{strip}", self.snapshot)
    }
}

/// What a target is before a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not there, or empty; or no folder, which the restore itself refuses.
    Empty,
    /// A restore of this very portion began in it when it was empty, and did not end.
    Unfinished,
    /// Something is in it.
    Filled,
}

/// The mark's name in the target.
pub(super) fn name() -> String {
    format!("{TEMPORARY_PREFIX}unfinished")
}

/// What a target is before a restore of that portion.
pub fn standing(target: &Path, portion: &Portion) -> Standing {
    let is_empty = fs::read_dir(target).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        return Standing::Empty;
    }
    let path = target.join(name());
    let is_mark = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LENGTH_MAX);
    let is_same = is_mark && fs::read_to_string(&path).is_ok_and(|text| text == portion.text());
    if is_same { Standing::Unfinished } else { Standing::Filled }
}

/// Marks a target as begun.
pub(super) fn begin(target: &Path, portion: &Portion) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(target.join(name()))?;
    file.write_all(portion.text().as_bytes())
}

/// Takes the mark away. One that stays is told by its name.
pub(super) fn end(target: &Path) {
    let _ = fs::remove_file(target.join(name()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(id: u8) -> Portion {
        Portion { snapshot: SnapshotId::new([id; 32]), path: None, strip_components: 0 }
    }

    #[test]
    fn a_target_is_unfinished_for_its_own_snapshot_only() {
        let base = tempfile::tempdir().unwrap();
        let (target, one, other) = (base.path().join("to"), &whole(1), &whole(2));
        assert_eq!(standing(&target, one), Standing::Empty);
        fs::create_dir(&target).unwrap();
        assert_eq!(standing(&target, one), Standing::Empty);
        begin(&target, one).unwrap();
        assert_eq!(fs::read_to_string(target.join(name())).unwrap(), format!("{}\n", one.snapshot));
        assert!(begin(&target, other).is_err(), "one that is there is not taken over");
        assert_eq!((standing(&target, one), standing(&target, other)), (Standing::Unfinished, Standing::Filled));
        end(&target);
        fs::write(target.join("mine"), "").unwrap();
        assert_eq!(standing(&target, one), Standing::Filled);
    }

    #[test]
    fn a_target_is_unfinished_for_its_own_part_of_a_snapshot_only() {
        let base = tempfile::tempdir().unwrap();
        let part = |path: &[u8], strip_components| Portion { path: Some(path.to_vec()), strip_components, ..whole(1) };
        let begun = part(b"a\nstrip 1", 0);
        begin(base.path(), &begun).unwrap();
        assert_eq!(standing(base.path(), &begun), Standing::Unfinished);
        for other in [whole(1), part(b"a", 1), part(b"a\nstrip 1", 1), part(b"b", 0)] {
            assert_eq!(standing(base.path(), &other), Standing::Filled, "{other:?}");
        }
    }

    #[test]
    fn a_link_is_no_mark() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("elsewhere"), whole(1).text()).unwrap();
        std::os::unix::fs::symlink("elsewhere", base.path().join(name())).unwrap();
        assert_eq!(standing(base.path(), &whole(1)), Standing::Filled);
    }
}
