//! The mark of a restore that is not finished: a file in the target that names the snapshot.
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

/// The longest mark that is read.
const LENGTH_MAX: u64 = 128;

/// What a target is before a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not there, or empty; or no folder, which the restore itself refuses.
    Empty,
    /// A restore of this very snapshot began in it when it was empty, and did not end.
    Unfinished,
    /// Something is in it.
    Filled,
}

/// The mark's name in the target.
pub(super) fn name() -> String {
    format!("{TEMPORARY_PREFIX}unfinished")
}

/// What a target is before a restore of that snapshot.
pub fn standing(target: &Path, snapshot: SnapshotId) -> Standing {
    let is_empty = fs::read_dir(target).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        return Standing::Empty;
    }
    let path = target.join(name());
    let is_mark = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LENGTH_MAX);
    let is_same = is_mark && fs::read_to_string(&path).is_ok_and(|text| text.trim_end() == snapshot.to_string());
    if is_same { Standing::Unfinished } else { Standing::Filled }
}

/// Marks a target as begun.
pub(super) fn begin(target: &Path, snapshot: SnapshotId) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(target.join(name()))?;
    writeln!(file, "{snapshot}")
}

/// Takes the mark away. One that stays is told by its name.
pub(super) fn end(target: &Path) {
    let _ = fs::remove_file(target.join(name()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_unfinished_for_its_own_snapshot_only() {
        let base = tempfile::tempdir().unwrap();
        let (target, one, other) = (base.path().join("to"), SnapshotId::new([1; 32]), SnapshotId::new([2; 32]));
        assert_eq!(standing(&target, one), Standing::Empty);
        fs::create_dir(&target).unwrap();
        assert_eq!(standing(&target, one), Standing::Empty);
        begin(&target, one).unwrap();
        assert!(begin(&target, other).is_err(), "one that is there is not taken over");
        assert_eq!((standing(&target, one), standing(&target, other)), (Standing::Unfinished, Standing::Filled));
        end(&target);
        fs::write(target.join("mine"), "").unwrap();
        assert_eq!(standing(&target, one), Standing::Filled);
    }

    #[test]
    fn a_link_is_no_mark() {
        let base = tempfile::tempdir().unwrap();
        let snapshot = SnapshotId::new([1; 32]);
        fs::write(base.path().join("elsewhere"), snapshot.to_string()).unwrap();
        std::os::unix::fs::symlink("elsewhere", base.path().join(name())).unwrap();
        assert_eq!(standing(base.path(), snapshot), Standing::Filled);
    }
}
