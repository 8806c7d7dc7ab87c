//! What to do with what already stands in the target: a pure decision.

use blockhouse_types::{EntryKind, Link, Timestamp};

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// What exists stays as it is.
    Never,
    /// A file is replaced if it differs; something of another kind stays.
    IfChanged,
    /// Everything but a folder that is not empty is replaced. A file with the right content is as good as written anew.
    Always,
    /// Goes on with a restore that began in an empty folder: what it wrote stays if its content is right, what a loss of power tore
    /// is written again, what was changed since stays.
    Resume,
}

/// What stands in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: EntryKind,
    /// Its length.
    pub size: u64,
    /// When its content changed last.
    pub mtime: Timestamp,
    /// Which file of the file system it is a name of.
    pub inode: Link,
    /// Whether that file has other names.
    pub has_other_names: bool,
}

/// What the snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub kind: EntryKind,
    /// Its length, if it is a file.
    pub size: u64,
    /// When its content changed last.
    pub mtime: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is there: write it, with [`Placing::New`].
    Create,
    /// Write it in place of what is there, with [`Placing::Replace`].
    Replace,
    /// The content is there already: set the metadata only.
    SetMetadata,
    /// Leave what is there alone.
    Keep,
    /// It cannot be written, and nothing in it either.
    Refuse(Conflict),
}

/// Why something cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Something of another kind is there and may not be replaced.
    #[error("something of another kind is there")]
    OtherKind(EntryKind),
    /// Somebody changed it since this restore wrote it.
    #[error("it was changed since this restore began; --overwrite if-changed replaces it")]
    ChangedSince,
}

/// Whether something may be replaced when it gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// Nothing may be there.
    New,
    /// What is there is replaced, in one step where the system can; of folders only empty ones.
    Replace,
}

/// Decides. `has_same_content` compares what exists with the wanted content and is asked only if that matters: for what may be
/// replaced, files only where the sizes are equal. Without it equal sizes and times count as equal content of files, and anything else
/// as different.
pub fn decide<E>(
    overwrite: Overwrite,
    wanted: &Wanted,
    existing: Option<&Existing>,
    has_same_content: Option<impl FnOnce() -> Result<bool, E>>,
) -> Result<Decision, E> {
    let Some(existing) = existing else { return Ok(Decision::Create) };
    if existing.kind != wanted.kind {
        return Ok(match overwrite {
            Overwrite::Always => Decision::Replace,
            Overwrite::Never | Overwrite::IfChanged | Overwrite::Resume => {
                Decision::Refuse(Conflict::OtherKind(existing.kind))
            }
        });
    }
    match (wanted.kind, overwrite) {
        (_, Overwrite::Never) => Ok(Decision::Keep),
        (EntryKind::Directory, _) => Ok(Decision::SetMetadata),
        (EntryKind::File, _) => {
            let is_same = existing.size == wanted.size
                && match has_same_content {
                    Some(compare) => compare()?,
                    None => existing.mtime == wanted.mtime,
                };
            // A file gets its times before its name: other times are another hand's.
            let is_torn = overwrite != Overwrite::Resume || existing.mtime == wanted.mtime;
            Ok(match (is_same, is_torn) {
                (true, _) => Decision::SetMetadata,
                (false, true) => Decision::Replace,
                (false, false) => Decision::Refuse(Conflict::ChangedSince),
            })
        }
        // The others get their name when they are complete, so what is there is either right or somebody's own.
        (_, Overwrite::Resume) => Ok(Decision::Keep),
        (_, _) => {
            let is_same = has_same_content.map_or(Ok(false), |compare| compare())?;
            Ok(if is_same { Decision::SetMetadata } else { Decision::Replace })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const INODE: Link = Link { device: 1, inode: 2 };
    const THEN: Timestamp = Timestamp { seconds: 5, nanoseconds: 7 };
    const LATER: Timestamp = Timestamp { seconds: 6, nanoseconds: 7 };

    type Compare = fn() -> Result<bool, Infallible>;

    fn decided(overwrite: Overwrite, wanted: Wanted, existing: Option<Existing>, compare: Option<Compare>) -> Decision {
        decide(overwrite, &wanted, existing.as_ref(), compare).unwrap()
    }

    fn file(size: u64, mtime: Timestamp) -> (Wanted, Existing) {
        (
            Wanted { kind: EntryKind::File, size, mtime },
            Existing { kind: EntryKind::File, size, mtime, inode: INODE, has_other_names: false },
        )
    }

    #[test]
    fn never_touches_nothing_that_exists() {
        let (wanted, _) = file(1, THEN);
        let (_, existing) = file(2, LATER);
        assert_eq!(decided(Overwrite::Never, wanted, Some(existing), None), Decision::Keep);
        assert_eq!(decided(Overwrite::Never, wanted, None, None), Decision::Create);
    }

    #[test]
    fn if_changed_believes_the_content_before_the_times() {
        let (wanted, same) = file(1, THEN);
        let (_, later) = file(1, LATER);
        let (_, longer) = file(2, THEN);
        let decided = |existing, compare| decided(Overwrite::IfChanged, wanted, Some(existing), compare);
        assert_eq!(decided(same, None), Decision::SetMetadata);
        assert_eq!(decided(later, None), Decision::Replace);
        assert_eq!(decided(later, Some(|| Ok(true))), Decision::SetMetadata);
        assert_eq!(decided(same, Some(|| Ok(false))), Decision::Replace);
        assert_eq!(decided(longer, Some(|| panic!("sizes differ"))), Decision::Replace);
    }

    #[test]
    fn a_restore_that_goes_on_replaces_what_is_torn_and_leaves_what_was_changed() {
        let (wanted, torn) = file(3, THEN);
        let (_, edited) = file(3, LATER);
        let decided = |existing, compare: Compare| decided(Overwrite::Resume, wanted, Some(existing), Some(compare));
        assert_eq!(decided(torn, || Ok(true)), Decision::SetMetadata);
        assert_eq!(decided(torn, || Ok(false)), Decision::Replace);
        assert_eq!(decided(edited, || Ok(false)), Decision::Refuse(Conflict::ChangedSince));
        assert_eq!(decided(edited, || Ok(true)), Decision::SetMetadata);
        assert_eq!(decided(Existing { size: 0, ..torn }, || Ok(true)), Decision::Replace);
    }

    #[test]
    fn another_kind_gives_way_to_always_only() {
        let (wanted, _) = file(1, THEN);
        let folder =
            Existing { kind: EntryKind::Directory, size: 0, mtime: THEN, inode: INODE, has_other_names: false };
        let refused = Decision::Refuse(Conflict::OtherKind(EntryKind::Directory));
        assert_eq!(decided(Overwrite::Never, wanted, Some(folder), None), refused);
        assert_eq!(decided(Overwrite::IfChanged, wanted, Some(folder), None), refused);
        assert_eq!(decided(Overwrite::Always, wanted, Some(folder), None), Decision::Replace);
    }

    /// Each run wrote every link and pipe anew, and a rehearsal told them as changed: only files were compared.
    #[test]
    fn a_link_or_pipe_that_is_right_stays() {
        for kind in [EntryKind::Symlink, EntryKind::Fifo] {
            let wanted = Wanted { kind, size: 0, mtime: THEN };
            let existing = Existing { kind, size: 4, mtime: LATER, inode: INODE, has_other_names: false };
            for overwrite in [Overwrite::IfChanged, Overwrite::Always] {
                let decided = |compare: Option<Compare>| decided(overwrite, wanted, Some(existing), compare);
                assert_eq!(decided(Some(|| Ok(true))), Decision::SetMetadata);
                assert_eq!(decided(Some(|| Ok(false))), Decision::Replace);
                assert_eq!(decided(None), Decision::Replace);
            }
            assert_eq!(decided(Overwrite::Never, wanted, Some(existing), Some(|| Ok(false))), Decision::Keep);
        }
    }

    #[test]
    fn folders_are_merged() {
        let wanted = Wanted { kind: EntryKind::Directory, size: 0, mtime: THEN };
        let existing =
            Existing { kind: EntryKind::Directory, size: 4096, mtime: LATER, inode: INODE, has_other_names: false };
        assert_eq!(decided(Overwrite::Always, wanted, Some(existing), None), Decision::SetMetadata);
        assert_eq!(decided(Overwrite::Never, wanted, Some(existing), None), Decision::Keep);
    }
}
