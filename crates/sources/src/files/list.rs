//! The names in one folder, and what they stand for.

use blockhouse_types::EntryKind;
use rustix::{
    fs::{AtFlags, Dir, FileType, statat},
    io::Errno,
};

use super::{
    Accounts, Entry, LeftOut,
    found::{Listing, Place, Reason, describe, kind_of},
    selection::{Rules, Selection},
    trail::Open,
};

/// A name and what the folder says it is: a hint that saves a call, not the truth about the inode.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
}

/// All names in a folder by ascending bytes. A folder whose names can be read only in part is not read at all: what is
/// missing in it could not be told.
pub(crate) fn names(folder: &Open) -> Result<Vec<Named>, Errno> {
    let mut names = Vec::new();
    let mut entries = Dir::new(folder.to_list()?)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => kind_by_stat(folder, name),
            known => kind_of(known),
        };
        names.push(Named { name: name.to_vec(), kind });
    }
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    // A folder that changes while it is read may show a name twice.
    names.dedup_by(|one, other| one.name == other.name);
    Ok(names)
}

/// Some file systems do not say what a name stands for.
fn kind_by_stat(folder: &Open, name: &[u8]) -> EntryKind {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_or(EntryKind::Unreadable, |stat| kind_of(FileType::from_raw_mode(stat.st_mode)))
}

/// The folder that is being listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    pub(crate) folder: &'a Open,
    pub(crate) root: usize,
    pub(crate) root_path: &'a [u8],
    pub(crate) path: &'a [u8],
}

/// Everything in a folder that is not left out, with metadata; and the rules for what is below it.
pub(crate) fn list(
    listed: Listed<'_>,
    above: &Rules,
    selection: &Selection,
    accounts: &Accounts,
) -> Result<(Listing, Rules), Reason> {
    let mut listing = Listing::default();
    let names = names(listed.folder)?;
    let below = selection.below(above, listed, &names);
    for named in names {
        let path = join(listed.path, &named.name);
        if let Some(reason) = below.by_name(listed.root_path, &path, &named) {
            listing.left_out.push(LeftOut { root: listed.root, path, reason });
            continue;
        }
        let place = Place { root: listed.root, path, name: named.name };
        let handle = listed.folder.entry(&place.name);
        if let Some(reason) = handle.as_ref().ok().and_then(|handle| below.by_flag(handle)) {
            listing.left_out.push(LeftOut { root: listed.root, path: place.path, reason });
            continue;
        }
        listing.add(place.clone(), named.kind, handle.and_then(|handle| describe(&handle, place, accounts)));
        let is_unwanted = |entry: &Entry| match entry {
            Entry::Found(found) => below.by_entry(found),
            Entry::Unreadable(_) => None,
        };
        if let Some(reason) = listing.entries.last().and_then(is_unwanted) {
            listing.leave_out_last(reason);
        }
    }
    listing.ignore_problems = below.problems;
    Ok((listing, below.rules))
}

/// A path one part longer.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
