//! Which folders of a snapshot hold its bytes, and which of those are new since the snapshot before.

use std::collections::{BTreeMap, HashMap};

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::decode_root_name;

use super::Amount;
use crate::find::join;
use crate::reader::{self, OpenedSnapshot, ReadTreeError};

/// What is in a folder and below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderUse {
    /// Its files.
    pub all: Amount,
    /// Those that the snapshot before had not, or with other bytes.
    pub new: Amount,
}

/// A folder that is still to be looked at.
struct Waiting {
    path: Vec<u8>,
    /// The folders that it counts for, itself included as far as it is shown.
    shown: Vec<Vec<u8>>,
    listing: Content,
    before: Before,
}

/// What the snapshot before has at its place.
enum Before {
    Nothing,
    Same,
    Other(Content),
}

/// The folders of a snapshot down to a depth below its roots, by their absolute paths. Blocks.
pub fn folders(
    opened: &mut OpenedSnapshot,
    mut parent: Option<&mut OpenedSnapshot>,
    depth: usize,
) -> Result<BTreeMap<Vec<u8>, FolderUse>, ReadTreeError> {
    let mut found: BTreeMap<Vec<u8>, FolderUse> = BTreeMap::new();
    let before =
        parent.as_ref().map_or(Before::Nothing, |parent| before_of(Some(&parent.manifest.root), &opened.manifest.root));
    let mut waiting =
        vec![Waiting { path: Vec::new(), shown: Vec::new(), listing: opened.manifest.root.clone(), before }];
    while let Some(folder) = waiting.pop() {
        let entries = reader::list(&mut opened.chunks, &folder.path, &folder.listing)?;
        let known = match (&folder.before, &mut parent) {
            (Before::Other(listing), Some(parent)) => by_name(reader::list(&mut parent.chunks, &folder.path, listing)?),
            _ => HashMap::new(),
        };
        let is_same = matches!(folder.before, Before::Same);
        for entry in entries {
            let known = known.get(&entry.name);
            match &entry.body {
                Body::Directory(listing) => {
                    let path = match folder.path.as_slice() {
                        [] => decode_root_name(&entry.name).unwrap_or_else(|_| entry.name.clone()),
                        above => join(above, &entry.name),
                    };
                    let mut shown = folder.shown.clone();
                    if shown.len() <= depth {
                        shown.push(path.clone());
                        found.entry(path.clone()).or_default();
                    }
                    let before = match known.map(|known| &known.body) {
                        _ if is_same => Before::Same,
                        Some(Body::Directory(other)) => before_of(Some(other), listing),
                        _ => Before::Nothing,
                    };
                    waiting.push(Waiting { path, shown, listing: listing.clone(), before });
                }
                Body::File { content, hash } => {
                    let has = |known: &Entry| matches!(&known.body, Body::File { hash: other, .. } if other == hash);
                    let is_new = !is_same && known.is_none_or(|known| !has(known));
                    for path in &folder.shown {
                        let used = found.entry(path.clone()).or_default();
                        used.all.add(content.length());
                        if is_new {
                            used.new.add(content.length());
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn before_of(before: Option<&Content>, now: &Content) -> Before {
    match before {
        None => Before::Nothing,
        Some(before) if before == now => Before::Same,
        Some(before) => Before::Other(before.clone()),
    }
}

fn by_name(entries: Vec<Entry>) -> HashMap<Vec<u8>, Entry> {
    entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect()
}
